//! Raw files: whole, odd, resumed, changed.

use std::io::Write;

use tempfile::NamedTempFile;

use super::super::recording_sink::RecordingSink;
use super::super::simulator::Speed;
use super::super::{SinkError, Source, SourceError};
use super::*;

fn shape(sample_type: SampleType, names: &[&str]) -> Given {
    Given {
        device: "bench".into(),
        signals: names.iter().map(|name| ((*name).to_owned(), "A".to_owned())).collect(),
        sample_type: Some(sample_type),
        rate_hz: Some(1_000.0),
        start_ns: Some(1_700_000_000_000_000_000),
        speed: Speed::Max,
        join_rows: false,
    }
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it takes bytes");
    file
}

fn open(file: &NamedTempFile, given: Given) -> Result<FileSource, FileError> {
    super::open(file.path(), &given, &StopToken::new(), &mut |_| ())
}

#[test]
fn i13_every_byte_of_the_file_is_delivered() {
    let bytes: Vec<u8> = (0..4 * 2 * 50_000u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let file = file(&bytes);
    let mut one = RecordingSink::default();
    open(&file, shape(SampleType::F32, &["current"]))
        .expect("good")
        .run(&mut one, &StopToken::new())
        .expect("good");
    assert!(one.columns[0] == bytes);
    assert_eq!(one.anchors, [(0, 1_700_000_000_000_000_000)]);
    for (sample_type, width) in [(SampleType::I16, 2), (SampleType::F32, 4), (SampleType::F64, 8)] {
        let mut two = RecordingSink::default();
        let source = open(&file, shape(sample_type, &["current", "voltage"]));
        source.expect("good").run(&mut two, &StopToken::new()).expect("good");
        let mut woven = Vec::new();
        for (current, voltage) in two.columns[0].chunks(width).zip(two.columns[1].chunks(width)) {
            woven.extend_from_slice(current);
            woven.extend_from_slice(voltage);
        }
        assert!(woven == bytes, "{sample_type:?}");
    }
}

#[test]
fn i13_a_replay_goes_on_where_the_sink_stands() {
    let bytes: Vec<u8> = (0..400_000u32).map(|at| (at / 7) as u8).collect();
    let file = file(&bytes);
    let mut source = open(&file, shape(SampleType::F32, &["current"])).expect("good");
    let mut sink = RecordingSink {
        next_sample: 60_000,
        ..RecordingSink::default()
    };
    source.run(&mut sink, &StopToken::new()).expect("good");
    assert!(sink.columns[0] == bytes[240_000..]);

    let mut moved = RecordingSink {
        move_at: Some((50_000, 20_000)),
        ..RecordingSink::default()
    };
    source
        .run(&mut moved, &StopToken::new())
        .expect("it reads again from where it was moved to");
    assert!(moved.columns[0] == bytes);

    let stop = StopToken::new();
    let mut stopped = RecordingSink {
        stop_at: Some((30_000, stop.clone())),
        ..RecordingSink::default()
    };
    let ended = source.run(&mut stopped, &stop);
    assert!(
        matches!(ended, Err(SourceError::Sink(SinkError::Stopped))),
        "a file that was not read whole has no end"
    );

    let mut beyond = RecordingSink {
        next_sample: 100_001,
        ..RecordingSink::default()
    };
    assert!(matches!(
        source.run(&mut beyond, &StopToken::new()),
        Err(SourceError::Device(_))
    ));
}

#[test]
fn unusable_files_are_refused_with_one_sentence() {
    let current = || shape(SampleType::F32, &["current"]);
    assert!(matches!(open(&file(&[]), current()), Err(FileError::Empty { .. })));
    let odd = open(&file(&[0; 11]), current())
        .expect_err("11 bytes are not whole f32")
        .to_string();
    assert!(odd.contains("cut the last 3 bytes off"), "{odd}");
    let open_path = |path: &Path| super::open(path, &current(), &StopToken::new(), &mut |_| ());
    let directory = tempfile::tempdir().expect("a directory");
    assert!(matches!(open_path(directory.path()), Err(FileError::NotAFile { .. })));
    // Nobody writes into it: opening it would wait for ever.
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("coreutils are there").success());
    assert!(matches!(open_path(&pipe), Err(FileError::NotAFile { .. })));
    assert!(matches!(
        open_path(&directory.path().join("none")),
        Err(FileError::Unreadable { .. })
    ));
    let stop = StopToken::new();
    stop.stop();
    let stopped = super::open(file(&[0; 8]).path(), &current(), &stop, &mut |_| ());
    assert!(matches!(stopped, Err(FileError::Stopped { .. })));
}

#[test]
fn a_file_that_changes_while_it_is_read_never_ends_as_if_it_had_not() {
    let mut file = file(&[1; 8_000]);
    let mut source = open(&file, shape(SampleType::F32, &["current"])).expect("good");
    file.write_all(&[2; 4]).expect("it takes bytes");
    let ended = source.run(&mut RecordingSink::default(), &StopToken::new());
    assert!(matches!(ended, Err(SourceError::Device(why)) if why.contains("changed")));
    file.as_file().set_len(4_000).expect("it is cut");
    let ended = source.run(&mut RecordingSink::default(), &StopToken::new());
    assert!(matches!(ended, Err(SourceError::Device(why)) if why.contains("changed")));
}
