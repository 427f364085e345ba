//! `wavekeep waveform` against a scripted server.

mod support;

use std::sync::atomic::Ordering;

use serde_json::Value;
use support::command::{command_at, finished, run, run_at};
use support::{Capture, START_NS, Script, definition, drawn, script, serve};
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::stream::StreamDefinition;

fn derived(number: u8) -> StreamDefinition {
    let mut definition = definition(number);
    definition.signals[0].unit = "A".into();
    definition.signals[1].unit = "V".into();
    definition
}

/// A millisecond of samples, a gap of half of one, samples.
fn long() -> Capture {
    let mut capture = Capture::new(derived(1));
    capture.samples(Encoding::Plain, &[0x3f80_0000; 1_000]);
    capture.gap(500, Reason::SourceLoss);
    capture.samples(Encoding::Plain, &[0x3f80_0000; 500]);
    capture
}

/// 1.5, NaN and 2.0 A, two missing, 4.0 A; voltage is negative.
fn short() -> Capture {
    let mut capture = Capture::new(derived(1));
    capture.samples(Encoding::Plain, &[0x3fc0_0000, 0x7fc0_0000, 0x4000_0000]);
    capture.gap(2, Reason::SourceLoss);
    capture.samples(Encoding::Plain, &[0x4080_0000]);
    capture
}

const ASKED: [&str; 3] = ["waveform", "--device", "js220-001"];

async fn lines(script: Script, more: &[&str]) -> Vec<Value> {
    let ran = run(script, &[&ASKED[..], &["--json"], more].concat()).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    ran.out
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect()
}

#[tokio::test]
async fn columns_are_one_object_for_each_signal() {
    let answer = drawn(&[&long()], 10);
    let asked = answer.points_max.clone();
    let lines = lines(answer, &[]).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1_000);
    let names: Vec<_> = lines
        .iter()
        .map(|line| (line["signal"].as_str(), line["unit"].as_str()))
        .collect();
    let expected = [("current", "A"), ("voltage", "V"), ("power", "W")].map(|(name, unit)| (Some(name), Some(unit)));
    assert_eq!(names, expected);
    let line = &lines[0];
    for name in ["time", "min", "max", "mean", "count"] {
        assert_eq!(line[name].as_array().map(Vec::len), Some(200), "{name}");
    }
    assert_eq!(
        (line.get("samples"), line["device"].as_str()),
        (None, Some("js220-001"))
    );
    assert_eq!(line["time"][1].as_i64(), Some(START_NS + 10_000));
    assert_eq!(
        (line["max"][0].as_f64(), line["mean"][0].as_f64()),
        (Some(1.0), Some(0.25))
    );
    assert!(
        line["mean"][120].is_null() && line["count"][120].as_u64() == Some(0),
        "in the gap"
    );
    assert_eq!(line["gaps"][0]["reason"].as_str(), Some("source_loss"));
    assert_eq!(
        (line["sample_count"].as_u64(), line["gap_sample_count"].as_u64()),
        (Some(1_500), Some(500))
    );
}

#[tokio::test]
async fn samples_come_where_points_allow() {
    let current = lines(script(&[&short()]), &["--points", "10"]).await;
    let samples: Vec<_> = current[0]["samples"]
        .as_array()
        .expect("samples")
        .iter()
        .map(Value::as_f64)
        .collect();
    assert_eq!(samples, [Some(1.5), None, Some(2.0), Some(4.0)]);
    let times: Vec<_> = current[0]["time"]
        .as_array()
        .expect("times")
        .iter()
        .map(Value::as_i64)
        .collect();
    assert_eq!(times, [0, 1, 2, 5].map(|us| Some(START_NS + us * 1_000)));
    assert!(current[0].get("min").is_none() && current[0].get("count").is_none());
    assert_eq!((current[0]["gaps"][0]["count"].as_u64(), current.len()), (Some(2), 3));
    assert_eq!(current[2]["samples"][3].as_f64(), Some(-16.0), "power is the product");
    // Of power alone: the rest is left out.
    let power = lines(script(&[&short()]), &["--points", "10", "--signal", "power"]).await;
    assert_eq!((power.len(), power[0]["unit"].as_str()), (1, Some("W")));
    assert_eq!(power[0]["samples"][0].as_f64(), Some(-2.25));
}

#[tokio::test]
async fn streams_of_a_device_are_joined() {
    let mut second = derived(2);
    second.first_sample = 0;
    let mut second = Capture::new(second);
    second.samples(Encoding::Plain, &[0x3f80_0000; 2]);
    // The first is drawn, the second has few samples.
    let mut both = drawn(&[&long()], 10);
    let last = both.parts.pop().expect("a manifest");
    both.parts.extend(second.parts());
    let Some(wavekeep::proto::v1::waveform_part::Part::Manifest(mut manifest)) = last.part else {
        panic!("the last part is the manifest");
    };
    manifest.streams.push(second.manifest());
    both.parts.push(support::manifest_part(manifest.streams));
    let lines = lines(both, &["--points", "200"]).await;
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["count"].as_array().map(Vec::len), Some(202));
    assert_eq!(
        (lines[0]["min"][201].as_f64(), lines[0]["count"][201].as_u64()),
        (Some(1.0), Some(1))
    );
}

#[tokio::test]
async fn a_picture_is_plain_where_nobody_looks() {
    let answer = drawn(&[&long()], 20);
    let asked = answer.points_max.clone();
    let ran = run(answer, &[&ASKED[..], &["--height", "4"]].concat()).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(asked.load(Ordering::SeqCst), 160, "two dots in each of 80 characters");
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    for part in [
        "js220-001 current",
        "js220-001 power",
        "1.0 A ┤",
        "-1.0 V ┤",
        "a = source_loss: 500 µs, 500 samples, at 2026-11-23T00:00:00.001Z",
        "1,500 samples, 500 missing, min -1 A, max 1 A, mean 250 mA",
    ] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    // The third quarter is the gap: blank above, letters below.
    let row = ran.out.lines().find(|line| line.contains("1.0 A ┤")).expect("the top");
    let cells: Vec<char> = row.chars().skip_while(|cell| *cell != '┤').skip(1).collect();
    assert!(
        cells[..30].iter().all(|cell| *cell == '⣿') && cells[40..50].iter().all(|cell| *cell == ' '),
        "{row}"
    );
    let letters = ran
        .out
        .lines()
        .find(|line| line.trim_start().starts_with("aaa"))
        .expect("the gap");
    assert!(letters.trim().chars().all(|cell| cell == 'a'), "{letters}");
}

#[tokio::test]
async fn a_picture_is_as_wide_as_the_terminal() {
    let server = serve(drawn(&[&long()], 40)).await;
    for (columns, width) in [("120", 120), ("9", 40), ("0", 40)] {
        let ran = finished(command_at(&server, &ASKED).env("COLUMNS", columns)).await;
        let axis = ran.out.lines().find(|line| line.contains('└'));
        let axis = axis.map(|line| line.chars().count());
        assert_eq!((ran.code, axis), (Some(0), Some(width)), "{}", ran.err);
    }
}

#[tokio::test]
async fn usage_errors_of_a_waveform_exit_with_2() {
    let cases: [(&[&str], &str); 7] = [
        (&["waveform"], "say what to read"),
        (
            &["waveform", "--device", "a", "--points", "0"],
            "give a number from 1 to 100000",
        ),
        (
            &["waveform", "--device", "a", "--points", "1000000000"],
            "give a number from 1 to 100000",
        ),
        (
            &["waveform", "--device", "a", "--points", "many"],
            "give a number from 1 to 100000",
        ),
        (
            &["waveform", "--device", "a", "--height", "1"],
            "give a number from 2 to 200",
        ),
        (
            &[
                "waveform",
                "--device",
                "a",
                "--from",
                "2026-01-02T00:00:00Z",
                "--to",
                "2026-01-01T00:00:00Z",
            ],
            "--to is not after --from",
        ),
        (&["waveform", "--device", "a", "--to", "later"], "is not a time"),
    ];
    for (arguments, part) in cases {
        let ran = run(script(&[&short()]), arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.err.contains(part), "{arguments:?}: {}", ran.err);
    }
}

#[tokio::test]
async fn i9_an_answer_that_is_refuted_is_not_drawn() {
    let mut lies = drawn(&[&long()], 20);
    lies.parts.pop();
    let ran = run(lies, &ASKED).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("without its manifest"), "{}", ran.err);
    let mut refused = script(&[&short()]);
    refused.parts.clear();
    refused.failure = Some(tonic::Status::not_found(
        "there is no device \"js22\"; did you mean \"js220-001\"?",
    ));
    let ran = run_at(&serve(refused).await, &ASKED).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (
            Some(1),
            "error: there is no device \"js22\"; did you mean \"js220-001\"?\n"
        )
    );
}
