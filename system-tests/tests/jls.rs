//! JLS files of the official writer are replayed into a server and read back bit for bit, with gaps, times and notes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::process::Process;
use wavekeep_system_tests::recordings;

const PATIENCE: Duration = Duration::from_secs(90);
/// What a skipped run is filled with, by JLS writers and by `export --gaps fill`.
const FILLER: [u8; 4] = 0x7fc0_0000u32.to_le_bytes();

/// One of the committed files: agent/tests/jls/make.py wrote it.
fn fixture(name: &str) -> PathBuf {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    package.join(format!("../agent/tests/jls/{name}.jls"))
}

fn replay(lab: &Lab, file: &Path, device: &str, more: &[&str]) -> Process {
    let verb = ["replay", file.to_str().unwrap()];
    let options = [&["--device", device], more].concat();
    lab.agent(device, &verb, &options).unwrap()
}

fn export(lab: &Lab, device: &str, signal: &str) -> Vec<u8> {
    let out = lab.folder().join("export.bin");
    let _ = std::fs::remove_file(&out);
    let path = out.to_str().unwrap();
    let what = [
        "--device", device, "--signal", signal, "--gaps", "fill", "--output", path,
    ];
    lab.reader(&[&["export", "--format", "raw"][..], &what].concat())
        .unwrap();
    std::fs::read(out).unwrap()
}

fn lines(lab: &Lab, verb: &str, device: &str) -> Vec<Value> {
    let text = lab.reader(&["--json", verb, "--device", device]).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// make.py: words(), and the filler where there are none.
fn words(whole: Range<u64>, there: &[Range<u64>], factor: u64) -> Vec<u8> {
    let word = |at: u64| match at.wrapping_mul(factor) as u32 {
        0x7fc0_0000 => 0x7fc0_0001u32,
        bits => bits,
    };
    whole
        .flat_map(|at| {
            let is_there = there.iter().any(|range| range.contains(&at));
            if is_there { word(at).to_le_bytes() } else { FILLER }
        })
        .collect()
}

#[test]
fn i13_a_jls_file_comes_back_bit_for_bit_with_gaps_times_and_notes() {
    let lab = Lab::start().unwrap();
    for _ in 0..2 {
        let options = ["--label", "notes=mine"];
        replay(&lab, &fixture("pair"), "js220", &options)
            .wait_success(PATIENCE)
            .unwrap();
    }
    let streams = lines(&lab, "streams", "js220");
    assert_eq!(streams.len(), 1, "the same file is the same stream");
    let labels = &streams[0]["labels"];
    assert_eq!(labels["notes"], "mine", "a label that was given counts more");
    assert_eq!(labels["source.serial_number"], "000415");
    let current = [100..3000, 3400..5000, 5100..5200, 5201..6600];
    assert!(export(&lab, "js220", "current") == words(100..6600, &current, 2_654_435_761));
    let voltage = export(&lab, "js220", "voltage");
    assert!(voltage == words(100..6600, &[150..3000, 3400..6500], 2_246_822_519));

    let gaps = lines(&lab, "gaps", "js220");
    let at = |first: u64| gaps.iter().find(|gap| gap["first_sample"] == first);
    let both = at(3000).unwrap();
    assert_eq!((&both["count"], &both["reason"]), (&400.into(), &"file_gap".into()));
    assert_eq!(both["from"], "2026-01-31T12:00:02.9Z");
    assert_eq!(at(5200).unwrap()["count"], 1);
    let chunks = lines(&lab, "chunks", "js220");
    let markers: u64 = chunks.iter().filter_map(|chunk| chunk["markers"].as_u64()).sum();
    assert_eq!(markers, 5);
}

#[test]
fn i13_a_jls_file_whose_writer_was_killed_is_read_up_to_its_last_whole_chunk() {
    let lab = Lab::start().unwrap();
    let mut no_start = replay(&lab, &fixture("unclean"), "unclean", &[]);
    assert_eq!(no_start.wait(PATIENCE).unwrap().code(), Some(2));
    assert!(no_start.log().contains("give --start"), "{}", no_start.log());
    let start = ["--start", "2026-01-31T12:00:00Z"];
    let mut whole = replay(&lab, &fixture("unclean"), "unclean", &start);
    whole.wait_success(PATIENCE).unwrap();
    assert!(whole.log().contains("6144 samples of all signals"), "{}", whole.log());
    let current = export(&lab, "unclean", "current");
    assert!(current == words(0..3072, std::slice::from_ref(&(0..3072)), 2_654_435_761));

    let notes = recordings::shared().join("data/jls/anno1.anno.jls");
    let mut none = replay(&lab, &notes, "notes", &[]);
    assert_eq!(none.wait(PATIENCE).unwrap().code(), Some(1));
    assert!(none.log().contains("holds no samples"), "{}", none.log());
}

/// Two signals at 1 MSPS for three seconds, with two skipped runs; and what the official reader says of them.
const PYJLS: &str = r"
import sys, numpy as np
from pyjls import Writer, Reader
path, folder = sys.argv[1:]
noise = np.random.default_rng(7).normal(1e-3, 1e-5, 3_000_000).astype(np.float32)
with Writer(path) as w:
    w.source_def(source_id=1, name='js220', vendor='v', model='m', version='1', serial_number='1')
    for signal, name, units in [(1, 'current', 'A'), (2, 'voltage', 'V')]:
        w.signal_def(signal_id=signal, source_id=1, sample_rate=1_000_000, name=name, units=units)
    for at in range(0, 3_000_000, 100_000):
        first = at + (12_345 if at in (700_000, 2_100_000) else 0)
        for signal in (1, 2):
            w.fsr_f32(signal, first, noise[first:at + 100_000] * signal)
        if at % 1_000_000 == 0:
            w.utc(1, at, (255_096_000 << 30) + (at // 1_000_000 << 30))
    w.annotation(1, 1_500_000, float('nan'), 'text', 0, 'half')
with Reader(path) as r:
    for signal, name in [(1, 'current'), (2, 'voltage')]:
        r.fsr(signal, 0, r.signals[signal].length).tofile(f'{folder}/{name}.f32')
";

/// Needs a Python that has pyjls and numpy, which WAVEKEEP_PYJLS_PYTHON names: `make test-official` makes one.
#[test]
fn i13_official_a_file_at_full_rate_is_what_the_official_reader_says() {
    let Some(python) = std::env::var_os("WAVEKEEP_PYJLS_PYTHON") else {
        eprintln!("not compared with pyjls: WAVEKEEP_PYJLS_PYTHON names no Python (make test-official)");
        return;
    };
    let lab = Lab::start().unwrap();
    let file = lab.folder().join("full.jls");
    let made = Command::new(python)
        .args(["-c", PYJLS])
        .args([&file, lab.folder()])
        .status();
    assert!(made.unwrap().success());
    replay(&lab, &file, "full", &[]).wait_success(PATIENCE).unwrap();
    for signal in ["current", "voltage"] {
        let official = std::fs::read(lab.folder().join(format!("{signal}.f32"))).unwrap();
        assert_eq!(official.len(), 12_000_000);
        assert!(export(&lab, "full", signal) == official, "{signal}");
    }
    let gaps = lines(&lab, "gaps", "full");
    let found: Vec<_> = gaps.iter().map(|gap| (&gap["first_sample"], &gap["count"])).collect();
    let count = Value::from(12_345);
    assert_eq!(found, [(&700_000.into(), &count), (&2_100_000.into(), &count)]);
}
