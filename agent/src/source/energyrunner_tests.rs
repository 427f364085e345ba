//! Traces with and without edges, and broken ones.

use super::super::recording_sink::RecordingSink;
use super::super::simulator::Speed;
use super::super::{Source, file::RecordedFile};
use super::*;

fn given() -> Given {
    Given {
        device: "dut".into(),
        signals: Vec::new(),
        sample_type: None,
        rate_hz: None,
        start_ns: Some(0),
        speed: Speed::Max,
        join_rows: false,
    }
}

fn trace(samples: &[f32]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(1_000f32.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    bytes
}

fn open_in(folder: &Path, given: &Given) -> Result<FileSource, FileError> {
    open(&folder.join("trace1-energy.bin"), given, &StopToken::new(), &mut |_| ())
}

#[test]
fn i13_a_trace_is_delivered_with_its_edges_also_when_it_goes_on_in_the_middle() {
    let folder = tempfile::tempdir().expect("a directory");
    let samples: Vec<f32> = (0..50_000u16).map(f32::from).collect();
    let bytes = trace(&samples);
    std::fs::write(folder.path().join("trace1-energy.bin"), &bytes).expect("written");
    let without = open_in(folder.path(), &given()).expect("good").stream_ids();
    std::fs::write(folder.path().join("trace1-timestamps.json"), "[0.004, 17.3, 49.999]").expect("written");
    let mut source = open_in(folder.path(), &given()).expect("good");
    assert_ne!(source.stream_ids(), without, "the edges are content");
    let shape = &source.describe().streams[0];
    assert_eq!(
        (shape.rate_hz, &shape.signals[0].name[..], &shape.signals[0].unit[..]),
        (1_000.0, "energy", "uJ")
    );
    let mut whole = RecordingSink::default();
    source.run(&mut whole, &StopToken::new()).expect("delivered");
    assert!(whole.columns[0] == bytes[5..]);
    let edges = |sink: &RecordingSink| -> Vec<_> {
        sink.markers
            .iter()
            .map(|marker| (marker.sample, String::from_utf8_lossy(&marker.content).into_owned()))
            .collect()
    };
    let all = [(4, "edge 1"), (17_300, "edge 2"), (49_999, "edge 3")].map(|(at, name)| (at, name.to_owned()));
    assert_eq!(edges(&whole), all);
    let mut rest = RecordingSink {
        next_sample: 17_300,
        ..RecordingSink::default()
    };
    source.run(&mut rest, &StopToken::new()).expect("delivered");
    assert_eq!(edges(&rest), all[1..]);
}

#[test]
fn broken_traces_and_edges_are_refused_with_one_sentence() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut slow = trace(&[1.0]);
    slow[1..5].copy_from_slice(&f32::NAN.to_le_bytes());
    for (bytes, expected) in [
        (vec![0; 100], "does not start with 0xf1"),
        (trace(&[]), "cut inside"),
        (trace(&[1.0, 2.0])[..12].to_vec(), "3 bytes after"),
        (slow, "which no trace has"),
    ] {
        std::fs::write(folder.path().join("trace1-energy.bin"), bytes).expect("written");
        let refused = open_in(folder.path(), &given()).expect_err("refused").to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    std::fs::write(folder.path().join("trace1-energy.bin"), trace(&[1.0; 100])).expect("written");
    for (edges, expected) in [
        ("[0.1]", "outside of the trace"),
        ("[-1]", "outside of the trace"),
        ("[0.05, 0.01]", "step back"),
        ("{", "cannot be read"),
    ] {
        std::fs::write(folder.path().join("trace1-timestamps.json"), edges).expect("written");
        let refused = open_in(folder.path(), &given()).expect_err("refused").to_string();
        assert!(
            refused.contains(expected) && refused.contains("move it away"),
            "{refused}"
        );
    }
    std::fs::write(folder.path().join("trace1-timestamps.json"), "[]").expect("written");
    assert!(open_in(folder.path(), &given()).is_ok());
    let unknown = Given {
        start_ns: None,
        ..given()
    };
    assert!(open_in(folder.path(), &unknown).expect_err("when?").is_usage());
}
