//! Labels that change while an instrument is captured in real time: three streams, one recording, every sample of it.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use wavekeep_agent::source::simulator::{SimulatedSignal, Simulator, SimulatorSpec};
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::binary;
use wavekeep_system_tests::truth::check_lab;

const PATIENCE: Duration = Duration::from_secs(90);
const SPEC: &str = "js220,rate=100000,seed=11";

fn label(lab: &Lab, labels: &[&str]) {
    let output = Command::new(binary("wavekeep-agent").unwrap())
        .arg("label")
        .args(labels)
        .arg("--outbox")
        .arg(lab.outbox("bench"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn captured_by(lab: &Lab, sample: u64) {
    wait_for("it captures on", PATIENCE, || {
        // At first there is no outbox to ask.
        Ok(lab
            .tails("bench")
            .is_ok_and(|tails| tails.into_values().any(|tail| tail > sample)))
    })
    .unwrap();
}

#[test]
fn i4_i13_labels_change_twice_and_no_sample_is_lost() {
    let lab = Lab::start().unwrap();
    let options = [
        "--device",
        "bench",
        "--simulate",
        SPEC,
        "--duration",
        "5s",
        "--label",
        "algorithm=A",
    ];
    let mut agent = lab.agent("bench", &["run"], &options).unwrap();
    captured_by(&lab, 0);
    label(&lab, &["algorithm=B", "operator=eve"]);
    captured_by(&lab, 200_000);
    label(&lab, &["algorithm=C", "operator="]);
    agent.wait_success(PATIENCE).unwrap();

    let (streams, report) = check_lab(&lab, "bench").unwrap();
    assert_eq!((streams, report.samples, report.gap_samples()), (3, 500_000, 0));
    let lines = lab.reader(&["--json", "streams", "--device", "bench"]).unwrap();
    let mut found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    found.sort_by_key(|stream| stream["first_sample"].as_u64());
    let labels: Vec<_> = found.iter().map(|stream| stream["labels"].clone()).collect();
    assert_eq!(
        labels,
        [
            json!({"algorithm": "A"}),
            json!({"algorithm": "B", "operator": "eve"}),
            json!({"algorithm": "C"})
        ]
    );
    let mut at = 0;
    for stream in &found {
        assert_eq!(stream["first_sample"].as_u64(), Some(at), "sample ids go on: {stream}");
        assert_eq!(stream["epoch"], found[0]["epoch"], "{stream}");
        assert_eq!(stream["end_reason"], "closed", "{stream}");
        at = stream["next_sample"].as_u64().unwrap();
    }
    assert_eq!(at, 500_000);

    // Whoever reads the device reads one recording.
    let out = lab.folder().join("bench.out");
    let export = [
        "export", "--device", "bench", "--signal", "current", "--format", "raw", "--output",
    ];
    lab.reader(&[export.as_slice(), &[out.to_str().unwrap()]].concat())
        .unwrap();
    let spec: SimulatorSpec = SPEC.parse().unwrap();
    let mut truth = vec![0.0; 500_000];
    Simulator::new(&spec).fill(SimulatedSignal::Current, 0, &mut truth);
    let truth: Vec<u8> = truth.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(
        std::fs::read(out).unwrap() == truth,
        "the export differs from what the instrument delivered"
    );
    let stats = lab
        .reader(&["--json", "stats", "--device", "bench", "--signal", "current"])
        .unwrap();
    let stats: Value = serde_json::from_str(stats.trim()).unwrap();
    assert_eq!(
        (&stats["sample_count"], &stats["gap_sample_count"]),
        (&json!(500_000), &json!(0))
    );
}
