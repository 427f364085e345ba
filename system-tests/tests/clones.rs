//! A disk is cloned, outbox and all, and both agents run: what they hold of one stream is never merged. Each stream that is stored is
//! one chain; of an epoch every sample is read once, in one order, whichever of them came first; and both agents say what happened.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use wavekeep_agent::source::simulator::{SimulatedSignal, Simulator, SimulatorSpec};
use wavekeep_system_tests::damage;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;
use wavekeep_system_tests::truth::check_lab;

const PATIENCE: Duration = Duration::from_secs(90);
const RATE: u64 = 100_000;

/// An agent with its outbox at `disk`; its capture is a device of this name.
fn capture(lab: &Lab, disk: &str, device: &str, seconds: u64) -> Process {
    let duration = format!("{seconds}s");
    let spec = spec_of(device);
    let options = ["--device", device, "--simulate", &spec, "--duration", &duration];
    lab.agent(disk, &["run"], &options).unwrap()
}

/// Each device is another one.
fn spec_of(device: &str) -> String {
    format!("js220,rate={RATE},seed={}", device.len())
}

/// What is on it, and nothing that runs.
fn clone_disk(lab: &Lab, from: &str, to: &str) {
    damage::clone_disk(&lab.outbox(from), &lab.outbox(to)).unwrap();
}

fn captured(lab: &Lab, disk: &str) -> u64 {
    // At first there is no outbox to ask.
    lab.tails(disk)
        .ok()
        .and_then(|tails| tails.into_values().max())
        .unwrap_or(0)
}

fn captured_by(lab: &Lab, disk: &str, sample: u64) {
    wait_for("it captures on", PATIENCE, || Ok(captured(lab, disk) > sample)).unwrap();
}

/// The streams of a device, oldest first: those of one epoch in the order of their samples.
fn streams(lab: &Lab, device: &str) -> Vec<Value> {
    let lines = lab.reader(&["--json", "streams", "--device", device]).unwrap();
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_one_epoch(streams: &[Value]) -> bool {
    let epochs: BTreeSet<_> = streams.iter().filter_map(|stream| stream["epoch"].as_str()).collect();
    epochs.len() == 1
}

/// Whoever reads the device gets these samples of it, each once.
fn reads_once(lab: &Lab, device: &str, samples: u64) {
    let out = lab.folder().join(format!("{device}.out"));
    let path = out.to_str().unwrap();
    let what = ["--device", device, "--signal", "current", "--format", "raw"];
    lab.reader(&[&["export"], what.as_slice(), &["--output", path]].concat())
        .unwrap();
    let spec: SimulatorSpec = spec_of(device).parse().unwrap();
    let mut truth = vec![0.0; samples as usize];
    Simulator::new(&spec).fill(SimulatedSignal::Current, 0, &mut truth);
    let truth: Vec<u8> = truth.iter().flat_map(|value| value.to_le_bytes()).collect();
    let found = std::fs::read(out).unwrap();
    assert_eq!(found.len(), truth.len(), "samples are missing, or there twice");
    assert!(found == truth, "the export differs from what the instrument delivered");
    let what = ["--device", device, "--signal", "current"];
    let sums = lab.reader(&[&["--json", "stats"], what.as_slice()].concat()).unwrap();
    let sums: Value = serde_json::from_str(sums.trim()).unwrap();
    assert_eq!(
        (&sums["sample_count"], &sums["gap_sample_count"]),
        (&samples.into(), &0.into())
    );
}

#[test]
fn i7_i13_a_cloned_disk_of_an_agent_that_was_killed_stores_what_both_hold_once() {
    let mut lab = Lab::stopped(&[]).unwrap();
    let mut first = capture(&lab, "disk", "bench", 600);
    captured_by(&lab, "disk", 3 * RATE);
    first.kill9().unwrap();
    let held = captured(&lab, "disk");
    clone_disk(&lab, "disk", "clone");
    // Both hold the same samples, which no server has seen, and capture more.
    let (mut original, mut clone) = (capture(&lab, "disk", "original", 3), capture(&lab, "clone", "copy", 3));
    lab.start_server().unwrap();
    original.wait_success(PATIENCE).unwrap();
    clone.wait_success(PATIENCE).unwrap();

    for (device, samples) in [("bench", held), ("original", 3 * RATE), ("copy", 3 * RATE)] {
        let (count, report) = check_lab(&lab, device).unwrap();
        assert_eq!(
            (count, report.samples, report.gap_samples()),
            (1, samples, 0),
            "{device}"
        );
        reads_once(&lab, device, samples);
    }
    let [bench] = streams(&lab, "bench").try_into().unwrap();
    assert_eq!(bench["end_reason"], "crashed", "{bench}");
    for process in [&original, &clone] {
        assert!(!process.log().contains("diverged"), "they agree: {}", process.log());
    }
}

#[test]
fn i7_i13_a_clone_that_comes_first_ends_the_stream_and_the_original_goes_on_in_a_successor() {
    let lab = Lab::start().unwrap();
    let mut original = capture(&lab, "disk", "bench", 8);
    captured_by(&lab, "disk", 2 * RATE);
    // As a machine is suspended, and its disk restored elsewhere.
    original.signal(Signal::SIGSTOP).unwrap();
    clone_disk(&lab, "disk", "clone");
    let cloned = captured(&lab, "clone");
    let mut clone = capture(&lab, "clone", "copy", 2);
    clone.wait_success(PATIENCE).unwrap();
    let [first] = streams(&lab, "bench").try_into().unwrap();
    assert_eq!(
        (&first["next_sample"], &first["end_reason"]),
        (&cloned.into(), &"crashed".into())
    );
    original.signal(Signal::SIGCONT).unwrap();
    original.wait_success(PATIENCE).unwrap();

    both_are_told_and_nothing_is_merged(&lab, &original, &first);
    assert!(!clone.log().contains("diverged"), "{}", clone.log());
}

#[test]
fn i7_i13_a_clone_of_a_running_agent_ends_its_stream_and_the_original_goes_on_in_a_successor() {
    let lab = Lab::start().unwrap();
    let mut original = capture(&lab, "disk", "bench", 8);
    captured_by(&lab, "disk", RATE);
    // As a snapshot is taken of a machine that runs on.
    original.signal(Signal::SIGSTOP).unwrap();
    clone_disk(&lab, "disk", "clone");
    original.signal(Signal::SIGCONT).unwrap();
    let cloned = captured(&lab, "clone");
    wait_for("the server has more than the clone", PATIENCE, || {
        Ok(streams(&lab, "bench")
            .iter()
            .any(|stream| stream["next_sample"].as_u64() > Some(cloned)))
    })
    .unwrap();
    let mut clone = capture(&lab, "clone", "copy", 2);
    clone.wait_success(PATIENCE).unwrap();
    original.wait_success(PATIENCE).unwrap();

    let first = streams(&lab, "bench")
        .into_iter()
        .find(|stream| stream["predecessor"].is_null());
    let first = first.unwrap();
    assert!(first["next_sample"].as_u64() > Some(cloned), "{first}");
    both_are_told_and_nothing_is_merged(&lab, &original, &first);
    let log = clone.log();
    assert!(log.contains("continuing from the server's"), "the clone adopts: {log}");
    assert!(!log.contains("diverged"), "{log}");
}

/// Each stream adds up, and together they count each sample once.
fn counted_once(lab: &Lab, device: &str, samples: u64) {
    let lines = lab.reader(&["--json", "reconcile", "--device", device]).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stored: u64 = lines.iter().filter_map(|line| line["stored"].as_u64()).sum();
    assert!(
        lines.len() >= 2 && lines.iter().all(|line| line["adds_up"] == true),
        "{lines:?}"
    );
    assert_eq!(stored, samples, "{lines:?}");
}

/// `first`: the stream that both outboxes had.
fn both_are_told_and_nothing_is_merged(lab: &Lab, original: &Process, first: &Value) {
    let log = original.log();
    assert_eq!(
        log.matches("diverged: another outbox has written to it").count(),
        1,
        "{log}"
    );
    let (count, report) = check_lab(lab, "bench").unwrap();
    assert_eq!(report.gap_samples(), 0, "{report:?}");
    let all = streams(lab, "bench");
    assert!(count == all.len() && count >= 2, "{all:?}");
    assert!(is_one_epoch(&all), "{all:?}");
    let successors = all.iter().filter(|stream| stream["predecessor"] == first["stream"]);
    assert_eq!(successors.count(), 1, "{all:?}");
    reads_once(lab, "bench", 8 * RATE);
    counted_once(lab, "bench", 8 * RATE);
    // The clone's own capture is another recording.
    let (count, report) = check_lab(lab, "copy").unwrap();
    assert_eq!((count, report.samples, report.gap_samples()), (1, 2 * RATE, 0));
    reads_once(lab, "copy", 2 * RATE);
}
