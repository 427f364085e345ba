//! What another program prints is stored while it prints it.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::io::Write;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use wavekeep_system_tests::lab::{Lab, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

fn agent(lab: &Lab, device: &str, options: &[&str]) -> Child {
    let options = [&["--device", device][..], options].concat();
    let mut command = lab.agent_command(&lab.url(), device, &["run"], &options).unwrap();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn finish(mut child: Child) -> Output {
    drop(child.stdin.take());
    child.wait_with_output().unwrap()
}

fn sum(lab: &Lab, device: &str, signal: &str) -> serde_json::Value {
    let text = lab
        .reader(&["--json", "stats", "--device", device, "--signal", signal])
        .unwrap();
    serde_json::from_str(text.trim()).unwrap()
}

#[test]
fn i4_a_programs_lines_are_stored_and_those_that_are_none_are_gaps() {
    let lab = Lab::start().unwrap();
    let mut child = agent(
        &lab,
        "meter",
        &["--stdin", "csv", "--rate", "10", "--chunk-period", "100ms"],
    );
    let input = child.stdin.as_mut().unwrap();
    writeln!(input, "time,current [A],temperature [Cel]").unwrap();
    for line in [
        "1767225600.0,1,20",
        "1767225600.1,2,21",
        "Traceback (most recent call last):",
        "1767225600.5,3,22",
    ] {
        writeln!(input, "{line}").unwrap();
    }
    input.flush().unwrap();
    // Before it ends.
    let is_there = || Ok(lab.reader(&["devices"])?.contains("meter"));
    wait_for("it is stored", PATIENCE, is_there).unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{output:?}");
    let current = sum(&lab, "meter", "current");
    assert_eq!(
        (current["sample_count"].as_u64(), current["gap_sample_count"].as_u64()),
        (Some(3), Some(3))
    );
    assert_eq!(
        (current["max"].as_f64(), current["unit"].as_str()),
        (Some(3.0), Some("A"))
    );
    assert_eq!(sum(&lab, "meter", "temperature")["mean"].as_f64(), Some(21.0));
}

#[test]
fn i13_raw_samples_come_back_byte_for_byte() {
    let lab = Lab::start().unwrap();
    let options = [
        "--stdin", "raw", "--dtype", "i16", "--signal", "a:V", "--signal", "b:V", "--rate", "1e5",
    ];
    let mut child = agent(&lab, "scope", &options);
    let samples: Vec<u8> = (0..200_000u32)
        .flat_map(|sample| (sample as u16).to_le_bytes())
        .collect();
    child.stdin.as_mut().unwrap().write_all(&samples).unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{output:?}");
    let file = lab.folder().join("scope.raw");
    lab.reader(&[
        "export",
        "--device",
        "scope",
        "--format",
        "raw",
        "--output",
        file.to_str().unwrap(),
    ])
    .unwrap();
    assert!(std::fs::read(file).unwrap() == samples);
}
