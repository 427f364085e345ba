//! Arrays: of each type and shape that is a recording, and of those that are none.

use std::io::Write;

use proptest::prelude::*;
use tempfile::NamedTempFile;
use wavekeep_proto::stream::SampleType;

use super::super::file::RecordedFile;
use super::super::recording_sink::RecordingSink;
use super::super::simulator::Speed;
use super::super::{Source, raw};
use super::*;

fn npy(version: u8, descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut dictionary = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while !(dictionary.len() + 11).is_multiple_of(64) {
        dictionary.push(' ');
    }
    dictionary.push('\n');
    let mut bytes = [&b"\x93NUMPY"[..], &[version, 0]].concat();
    if version == 1 {
        bytes.extend((dictionary.len() as u16).to_le_bytes());
    } else {
        bytes.extend((dictionary.len() as u32).to_le_bytes());
    }
    bytes.extend(dictionary.as_bytes());
    bytes.extend(data);
    bytes
}

fn given(names: &[&str]) -> Given {
    Given {
        device: "bench".into(),
        signals: names.iter().map(|name| ((*name).to_owned(), "V".to_owned())).collect(),
        sample_type: None,
        rate_hz: Some(1_000.0),
        start_ns: Some(1_700_000_000_000_000_000),
        speed: Speed::Max,
        join_rows: false,
    }
}

fn open_bytes(bytes: &[u8], given: &Given) -> Result<FileSource, FileError> {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it takes bytes");
    let mut source = open(file.path(), given, &StopToken::new(), &mut |_| ());
    if let Ok(source) = &mut source {
        // Read while the file is there.
        let mut sink = RecordingSink::default();
        source.run(&mut sink, &StopToken::new()).expect("it is delivered");
        assert_eq!(sink.next_sample, source.ranges()[0].end);
    }
    source
}

fn delivered(bytes: &[u8], given: &Given) -> RecordingSink {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it takes bytes");
    let mut source = open(file.path(), given, &StopToken::new(), &mut |_| ()).expect("it is a recording");
    let mut sink = RecordingSink::default();
    source.run(&mut sink, &StopToken::new()).expect("it is delivered");
    sink
}

fn refusal(bytes: &[u8], given: &Given) -> String {
    open_bytes(bytes, given).expect_err("it is refused").to_string()
}

#[test]
fn i13_arrays_of_every_type_are_delivered_bit_for_bit() {
    let data: Vec<u8> = (0..960u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for (version, descr, width) in [
        (1, "'<f4'", 4),
        (2, "'<f8'", 8),
        (3, "\"<i2\"", 2),
        (1, "'|i1'", 1),
        (1, "'|u1'", 1),
        (1, "'<i4'", 4),
        (1, "'<i8'", 8),
        (1, "'<u2'", 2),
        (1, "'<u4'", 4),
        (1, "'<u8'", 8),
    ] {
        let one = npy(version, descr, "False", &format!("({},)", 960 / width), &data);
        assert!(delivered(&one, &given(&["x"])).columns[0] == data, "{descr}");
        let two = npy(version, descr, "False", &format!("({}, 2)", 480 / width), &data);
        let sink = delivered(&two, &given(&[]));
        let woven: Vec<u8> = (sink.columns[0].chunks(width).zip(sink.columns[1].chunks(width)))
            .flat_map(|(a, b)| [a, b].concat())
            .collect();
        assert!(woven == data, "{descr}");
    }
}

#[test]
fn an_array_is_the_same_stream_as_the_raw_file_of_its_elements() {
    let data = [1.0f32, -0.0, f32::NAN].map(f32::to_le_bytes).concat();
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(&data).expect("it takes bytes");
    let raw = raw::open(file.path(), &given(&["x"]), &StopToken::new(), &mut |_| ()).expect("good");
    let array = open_bytes(&npy(1, "'<f4'", "False", "(3,)", &data), &given(&["x"])).expect("good");
    assert_eq!(raw.stream_ids(), array.stream_ids());
}

#[test]
fn rows_of_traces_are_joined_where_asked_and_each_has_a_marker() {
    let data: Vec<u8> = (0..3 * 200u16).flat_map(u16::to_le_bytes).collect();
    let traces = npy(1, "'<i2'", "False", "(3, 200)", &data);
    let refused = refusal(&traces, &given(&[]));
    assert!(
        refused.contains("(3, 200)") && refused.contains("--join-rows"),
        "{refused}"
    );
    let joined = Given {
        join_rows: true,
        ..given(&["voltage"])
    };
    let sink = delivered(&traces, &joined);
    assert!(sink.columns[0] == data);
    let markers: Vec<_> = sink
        .markers
        .iter()
        .map(|marker| (marker.sample, &marker.content[..]))
        .collect();
    assert_eq!(markers, [(0, &b"row 0"[..]), (200, b"row 1"), (400, b"row 2")]);
}

#[test]
fn unusable_arrays_are_refused_with_how_to_convert_them() {
    let one = given(&["x"]);
    for (bytes, expected) in [
        (b"raw samples".to_vec(), "is no npy file"),
        (npy(9, "'<f4'", "False", "(1,)", &[0; 4]), "version 9"),
        (npy(1, "'>f4'", "False", "(1,)", &[0; 4]), "newbyteorder('<')"),
        (npy(1, "'<f2'", "False", "(2,)", &[0; 4]), "astype('<f4')"),
        (npy(1, "'<c8'", "False", "(1,)", &[0; 8]), "which no signal is"),
        (npy(1, "[('a', '<f4')]", "False", "(1,)", &[0; 4]), "each field"),
        (npy(1, "'<f4'", "True", "(2, 2)", &[0; 16]), "ascontiguousarray"),
        (npy(1, "'<f4'", "False", "()", &[0; 4]), "reshape it"),
        (npy(1, "'<f4'", "False", "(0,)", &[]), "no samples"),
        (
            npy(1, "'<f4'", "False", "(2, 2)", &[0; 16]),
            "2 signals where --signal names 1",
        ),
        (npy(1, "'<f4'", "False", "(2,)", &[0; 7]), "copy it again"),
        (
            npy(1, "'<f4'", "False", "(18446744073709551615,)", &[0; 4]),
            "copy it again",
        ),
        (npy(1, "'<f4'", "Perhaps", "(1,)", &[0; 4]), "header cannot be read"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "header cannot be read"),
    ] {
        let refused = refusal(&bytes, &one);
        assert!(refused.contains(expected), "{refused}");
    }
    let good = npy(1, "'<f4'", "False", "(1,)", &[0; 4]);
    let typed = Given {
        sample_type: Some(SampleType::F64),
        ..given(&["x"])
    };
    assert!(refusal(&good, &typed).contains("leave --dtype out"));
    let late = Given {
        start_ns: None,
        ..given(&["x"])
    };
    assert!(open_bytes(&good, &late).expect_err("when?").is_usage());
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(text in "[ -~]{0,120}", version in 1u8..5, cut in 0usize..140) {
        let mut bytes = [&b"\x93NUMPY"[..], &[version, 0, text.len() as u8, 0, 0, 0][..]].concat();
        bytes.extend(text.as_bytes());
        bytes.truncate(cut.max(6));
        let _ = Header::parse(&bytes);
    }
}
