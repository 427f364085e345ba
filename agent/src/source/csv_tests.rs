//! Tables: as people and instruments write them, resumed, with gaps, and broken.

use std::fmt::Write as _;
use std::io::Write as _;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::super::file::RecordedFile;
use super::super::recording_sink::RecordingSink;
use super::super::simulator::Speed;
use super::super::{Source, raw};
use super::*;

fn given() -> Given {
    Given {
        device: "bench".into(),
        signals: Vec::new(),
        sample_type: None,
        rate_hz: None,
        start_ns: None,
        speed: Speed::Max,
        join_rows: false,
    }
}

fn named(names: &[&str]) -> Given {
    Given {
        signals: names.iter().map(|name| ((*name).to_owned(), "A".to_owned())).collect(),
        ..given()
    }
}

fn file(text: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text).expect("it takes bytes");
    file
}

fn open_file(file: &NamedTempFile, given: &Given) -> Result<FileSource, FileError> {
    open(file.path(), given, &StopToken::new(), &mut |_| ())
}

fn deliver(source: &mut FileSource, next_sample: u64) -> RecordingSink {
    let mut sink = RecordingSink {
        next_sample,
        ..RecordingSink::default()
    };
    source.run(&mut sink, &StopToken::new()).expect("it is delivered");
    sink
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|sample| f64::from_le_bytes(*sample))
        .collect()
}

fn refusal(text: &str, given: &Given) -> String {
    open_file(&file(text.as_bytes()), given).expect_err(text).to_string()
}

#[test]
fn tables_are_read_as_people_and_instruments_write_them() {
    let start = 1_700_000_000_000_000_000;
    let at = |start_ns| Given {
        start_ns: Some(start_ns),
        ..given()
    };
    let shaped = |rate_hz| Given {
        rate_hz: Some(rate_hz),
        ..at(start)
    };
    let headless = Given {
        start_ns: Some(start),
        ..named(&["a", "b"])
    };
    for (text, given) in [
        (
            "time,a [A],b [V]\n1700000000.000,1,2\n1700000000.001,3,\n1700000000.002,-0,inf\n",
            given(),
        ),
        (
            "\u{feff}a (A);timestamp;b (V)\r\n1;2023-11-14T22:13:20Z;2\r\n3;2023-11-14T22:13:20.001Z;\r\n-0;2023-11-14T22:13:20.002Z;inf\r\n",
            given(),
        ),
        (
            "# a comment\n\"time_ms\"\t\"a [A]\"\tb [V]\n0\t1\t2\n1\t3\t\n2\t-0\tinf",
            at(start),
        ),
        (
            "t,a [A],b [V]\n1700000000000000000,1,2\n1700000000001000000,3, \n1700000000002000000,-0,Inf\n",
            given(),
        ),
        ("a [A],b [V]\n1,2\n3,\n-0,inf\n", shaped(1e3)),
        ("0.5,1,2\n0.501,3,\n0.502,-0,inf\n", headless),
    ] {
        let mut source = open_file(&file(text.as_bytes()), &given).unwrap_or_else(|error| panic!("{text}: {error}"));
        let description = source.describe();
        let shape = &description.streams[0];
        assert_eq!(shape.rate_hz, 1_000.0, "{text}");
        assert_eq!(description.file.map(|file| file.start_ns), Some(start), "{text}");
        let signals: Vec<_> = shape
            .signals
            .iter()
            .map(|signal| (&signal.name[..], signal.sample_type))
            .collect();
        assert_eq!(signals, [("a", SampleType::F64), ("b", SampleType::F64)]);
        let kept = file(text.as_bytes());
        source = open_file(&kept, &given).expect("again");
        let sink = deliver(&mut source, 0);
        assert_eq!(f64s(&sink.columns[0])[..2], [1.0, 3.0], "{text}");
        assert!(f64s(&sink.columns[0])[2].is_sign_negative(), "−0 is data");
        let b = f64s(&sink.columns[1]);
        assert!(b[0] == 2.0 && b[1].is_nan() && b[2] == f64::INFINITY, "{text}");
    }
}

#[test]
fn i4_whole_samples_that_are_missing_become_a_gap_and_a_replay_goes_on_in_it() {
    let mut text = "time,x\n".to_owned();
    let times = (0..40_000u32).filter(|at| !(20_000..20_700).contains(at) && *at != 30_001);
    for at in times.clone() {
        writeln!(text, "2026-01-31T12:00:{:02}.{:03}Z,{at}", at / 1_000, at % 1_000).expect("a string takes all");
    }
    let kept = file(text.as_bytes());
    let mut source = open_file(&kept, &given()).expect("regular, with gaps");
    let ranges = source.ranges();
    assert_eq!((ranges.len(), ranges[0].clone()), (1, 0..40_000));
    let whole = deliver(&mut source, 0);
    let gaps = |sink: &RecordingSink| -> Vec<_> { sink.gaps.iter().map(|(range, _)| range.clone()).collect() };
    assert_eq!(gaps(&whole), [20_000..20_700, 30_001..30_002]);
    assert_eq!(
        f64s(&whole.columns[0]),
        times.clone().map(f64::from).collect::<Vec<_>>()
    );
    for from in [
        0, 1, 16_383, 16_384, 19_999, 20_000, 20_300, 20_700, 30_001, 30_002, 39_999,
    ] {
        let sink = deliver(&mut source, from);
        assert_eq!(sink.next_sample, 40_000, "from {from}");
        let expected: Vec<_> = times.clone().map(f64::from).filter(|at| *at >= from as f64).collect();
        assert!(f64s(&sink.columns[0]) == expected, "from {from}");
        assert_eq!(
            gaps(&sink).first().map(|gap| gap.end),
            if from < 20_700 {
                Some(20_700)
            } else if from < 30_002 {
                Some(30_002)
            } else {
                None
            }
        );
    }
    let mut moved = RecordingSink {
        next_sample: 0,
        move_at: Some((25_000, 20_000)),
        ..RecordingSink::default()
    };
    source.run(&mut moved, &StopToken::new()).expect("it reads again");
    assert_eq!(moved.next_sample, 40_000);
}

#[test]
fn a_table_is_the_same_stream_as_the_raw_file_of_its_numbers() {
    let numbers = [1.5f32, -0.0, 3.402_823_5e38, 1e-45];
    let raw_file = file(&numbers.map(f32::to_le_bytes).concat());
    let known = Given {
        rate_hz: Some(1e3),
        start_ns: Some(1_700_000_000_000_000_000),
        sample_type: Some(SampleType::F32),
        ..named(&["x"])
    };
    let raw = raw::open(raw_file.path(), &known, &StopToken::new(), &mut |_| ()).expect("good");
    let mut text = "time,x [A]\n".to_owned();
    for (at, number) in numbers.iter().enumerate() {
        writeln!(text, "1700000000.{at:03},{number:?}").expect("a string takes all");
    }
    let typed = Given {
        sample_type: Some(SampleType::F32),
        ..given()
    };
    let table = open_file(&file(text.as_bytes()), &typed).expect("good");
    assert_eq!(table.stream_ids(), raw.stream_ids());
    let with_gap = text.replace("000.003", "000.004");
    let table = open_file(&file(with_gap.as_bytes()), &typed).expect("good");
    assert_ne!(table.stream_ids(), raw.stream_ids(), "a gap is content");
}

#[test]
fn broken_tables_are_refused_with_their_line() {
    let regular = "time,x\n0.0,1\n0.1,2\n0.2,3\n0.3,4\n";
    let started = Given {
        start_ns: Some(0),
        ..given()
    };
    for (text, given, expected) in [
        ("", &started, "is empty"),
        ("time,x\n", &started, "no rows"),
        ("# only\n# comments\n", &started, "no rows"),
        (regular, &given(), "give --start"),
        ("time,x\n0.0,1\n", &started, "give --rate"),
        ("x,y\n1,2\n", &started, "none of its columns is named time"),
        ("1,2\n3,4\n", &started, "name its 2 columns"),
        (
            "time,x\n0,1\n1,2\n2,3,4\n",
            &started,
            "line 4 has 3 fields and 2 are needed",
        ),
        (
            "# a\r\ntime,x\r\n0,1\r\n# b\r\n1,2\r\n\r\n2,three\r\n",
            &started,
            "line 7: \"three\" is no number",
        ),
        (
            "time,x\n0,1\n1,2\n\n2,three\n",
            &started,
            "line 5: \"three\" is no number",
        ),
        ("time;x\n0;1,5\n1;2,5\n", &started, "line 2: \"1,5\" is no number"),
        (
            "time,x\n0,1\n1,1e999\n",
            &started,
            "line 3: \"1e999\" does not fit into f64",
        ),
        ("time,x\n0,1\nsoon,2\n", &started, "line 3: \"soon\" is no time"),
        (
            "time,x\n0.0,1\n0.1,2\n0.2,3\n0.2,4\n",
            &started,
            "line 5: the time 0.200000000 s does not come after 0.200000000 s",
        ),
        ("time,x\n0.0,1\n0.1,2\n0.2,3\n0.1,4\n", &started, "line 5: the time"),
        (
            "time,x\n0.0,1\n0.1,2\n0.2,3\n0.3,3\n0.4,3\n0.5,3\n0.6,3\n0.95,4\n",
            &started,
            "line 9: from 0.600000000 s to 0.950000000 s are 3.500 samples at 10 per second",
        ),
        (
            "time_ns,x\n0,1\n1,2\n2,3\n",
            &started,
            "closer together than its times can say",
        ),
        ("time,x\n2,1\n1,2\n0,3\n", &started, "they say no rate"),
        ("time\n0\n1\n", &started, "0 columns of samples"),
        ("a,b,c,d,e,f,g,h,i\n1,2,3,4,5,6,7,8,9\n", &started, "--dtype f32"),
        (regular, &named(&["x", "y"]), "--signal names 2"),
    ] {
        let refused = refusal(text, given);
        assert!(refused.contains(expected), "{text}: {refused}");
    }
}

#[test]
fn tables_that_do_not_fit_end_or_stay_are_refused() {
    let started = Given {
        start_ns: Some(0),
        ..given()
    };
    let regular = "time,x\n0.0,1\n0.1,2\n0.2,3\n0.3,4\n";
    let integers = Given {
        sample_type: Some(SampleType::I16),
        ..started.clone()
    };
    assert!(refusal("time,x\n0,1\n1,40000\n", &integers).contains("line 3: \"40000\" does not fit into i16"));
    assert!(refusal("time,x\n0,1\n1,\n", &integers).contains("line 3: a value is missing"));
    // A quote that is never closed, and a line without an end: neither is read into memory.
    for endless in [
        format!("time,x\n0,\"{}", "1\n".repeat(2_000_000)),
        format!("time,x\n0,{}", "1".repeat(3_000_000)),
    ] {
        let refused = refusal(&endless, &started);
        assert!(refused.contains("this is no CSV file"), "{refused}");
    }
    let mut changed = file(regular.as_bytes());
    let mut source = open_file(&changed, &started).expect("good");
    changed.write_all(b"0.4,5\n").expect("it takes bytes");
    let ended = source.run(&mut RecordingSink::default(), &StopToken::new());
    assert!(ended.expect_err("it changed").to_string().contains("changed"));
}

proptest! {
    #[test]
    fn i13_numbers_come_back_as_they_were_written(bits in proptest::collection::vec(any::<u64>(), 1..40)) {
        let numbers: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
        let lines: Vec<_> = numbers.iter().map(|number| format!("{number:?}")).collect();
        let given = Given { rate_hz: Some(1.0), start_ns: Some(0), ..named(&["x"]) };
        let kept = file(lines.join("\n").as_bytes());
        let mut source = open_file(&kept, &given).expect("numbers");
        for (found, number) in f64s(&deliver(&mut source, 0).columns[0]).iter().zip(&numbers) {
            prop_assert!(found.to_bits() == number.to_bits() || found.is_nan() && number.is_nan());
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[0-9a-z.,;:\"\n\r#eE+-]{0,200}") {
        let given = Given { rate_hz: Some(1.0), start_ns: Some(0), ..named(&["x"]) };
        let kept = file(text.as_bytes());
        if let Ok(mut source) = open_file(&kept, &given) {
            let _ = source.run(&mut RecordingSink::default(), &StopToken::new());
        }
    }
}
