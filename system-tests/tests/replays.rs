//! Real recordings are replayed, killed in the middle, resumed, repeated and read back byte for byte.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::path::PathBuf;
use std::time::Duration;

use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;
use wavekeep_system_tests::recordings;

const PATIENCE: Duration = Duration::from_secs(90);
const START: &str = "2025-07-26T14:12:17.788Z";

struct Replay<'a> {
    lab: &'a Lab,
    file: PathBuf,
    device: &'a str,
    options: Vec<&'a str>,
}

impl<'a> Replay<'a> {
    fn new(lab: &'a Lab, device: &'a str, samples: &[u8], options: &[&'a str]) -> Self {
        let file = lab.folder().join(format!("{device}.bin"));
        std::fs::write(&file, samples).unwrap();
        Self {
            lab,
            file,
            device,
            options: options.to_vec(),
        }
    }

    fn start(&self, outbox: &str, more: &[&str]) -> Process {
        let verb = ["replay", self.file.to_str().unwrap()];
        let mut options = vec!["--device", self.device, "--format", "raw", "--start", START];
        options.extend(&self.options);
        options.extend(more);
        self.lab.agent(outbox, &verb, &options).unwrap()
    }

    /// Starts it at this many times real time, and kills it when a quarter of its samples are captured.
    fn kill_in_the_middle(&self, outbox: &str, speed: &str, samples: u64) {
        let mut slow = self.start(outbox, &["--speed", speed]);
        let captured = || self.lab.tails(outbox).ok()?.into_values().next();
        wait_for("a quarter is captured", PATIENCE, || {
            Ok(captured().is_some_and(|tail| tail > samples / 4))
        })
        .unwrap();
        slow.kill9().unwrap();
        let at = captured().unwrap();
        assert!(at < samples, "it was killed in the middle: at {at} of {samples}");
    }

    fn export(&self) -> Vec<u8> {
        let out = self.lab.folder().join(format!("{}.out", self.device));
        let _ = std::fs::remove_file(&out);
        self.lab
            .reader(&[
                "export",
                "--device",
                self.device,
                "--format",
                "raw",
                "--output",
                out.to_str().unwrap(),
            ])
            .unwrap();
        std::fs::read(out).unwrap()
    }

    fn streams(&self) -> usize {
        let lines = self
            .lab
            .reader(&["--json", "streams", "--device", self.device])
            .unwrap();
        lines.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

fn statistics(lab: &Lab, device: &str, signal: &str) -> serde_json::Value {
    let text = lab
        .reader(&["--json", "stats", "--device", device, "--signal", signal])
        .unwrap();
    serde_json::from_str(text.trim()).unwrap()
}

fn close(found: &serde_json::Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!(
        (found - expected).abs() <= expected.abs() * 5e-6,
        "{found} is not {expected}"
    );
}

#[test]
fn i1_ppk2_killed_in_the_middle_resumed_and_exported_byte_for_byte() {
    let lab = Lab::start().unwrap();
    let samples = recordings::ppk2("52-p").unwrap();
    let options = ["--dtype", "f32", "--signal", "current:A", "--rate", "100000"];
    let replay = Replay::new(&lab, "ppk2-52", &samples, &options);
    replay.kill_in_the_middle("ppk2", "4", 1_200_000);
    replay.start("ppk2", &[]).wait_success(PATIENCE).unwrap();
    assert_eq!(replay.streams(), 1, "a file replayed again is the same stream");
    assert!(replay.export() == samples, "the export differs from the file");
    let found = statistics(&lab, "ppk2-52", "current");
    assert_eq!(found["sample_count"], 1_200_000);
    assert_eq!(found["gap_sample_count"], 0);
    // shared data, SOURCES.md
    close(&found["min"], -1.13866e-06);
    close(&found["max"], 0.010_271_1);
    close(&found["mean"], 1.02801e-05);
    close(&found["charge_coulomb"], 0.000_123_360_636);
}

#[test]
fn upload_repeated_and_from_two_machines_at_once_stores_nothing_twice() {
    let lab = Lab::start().unwrap();
    let samples = recordings::ppk2("in-p").unwrap();
    let options = ["--dtype", "f32", "--signal", "current:A", "--rate", "100000"];
    let replay = Replay::new(&lab, "ppk2-in", &samples, &options);
    let first = replay.start("machine-a", &["--speed", "6"]);
    let second = replay.start("machine-b", &["--speed", "5", "--chunk-period", "300ms"]);
    let mut done = 0;
    for mut machine in [first, second] {
        // Chunks are cut differently on the two. Which of them brings the end is chance, and one that does not must say so.
        let is_done = machine.wait(PATIENCE).unwrap().success();
        done += u32::from(is_done);
        assert!(
            is_done || machine.log().contains("replay it again"),
            "{}",
            machine.log_tail()
        );
    }
    assert!(done > 0, "the one that brought the end has all of it");
    replay.start("machine-c", &[]).wait_success(PATIENCE).unwrap();
    assert_eq!(replay.streams(), 1);
    assert!(replay.export() == samples, "the export differs from the file");
    let found = statistics(&lab, "ppk2-in", "current");
    assert_eq!(found["sample_count"], 1_200_000);
    close(&found["min"], 4.35059e-08);
    close(&found["max"], 0.012_671_7);
    close(&found["mean"], 1.19499e-05);
}

#[test]
fn nan_payloads_and_minus_zero_survive_in_both_encodings() {
    let lab = Lab::start().unwrap();
    let samples = recordings::awkward_f32(300_001);
    for encoding in ["plain", "shuffle-zstd"] {
        let device = format!("awkward-{encoding}");
        let options = [
            "--dtype",
            "f32",
            "--signal",
            "x:V",
            "--rate",
            "48000",
            "--encoding",
            encoding,
        ];
        let replay = Replay::new(&lab, &device, &samples, &options);
        replay.kill_in_the_middle(&device, "2", 300_001);
        replay.start(&device, &[]).wait_success(PATIENCE).unwrap();
        assert!(
            replay.export() == samples,
            "{encoding}: the export differs from the file"
        );
    }
}

#[test]
fn oscilloscope_and_interleaved_f64_round_trip() {
    let lab = Lab::start().unwrap();
    let scope = recordings::agilent().unwrap();
    let options = ["--dtype", "f32", "--signal", "voltage:V", "--rate", "20000000"];
    let replay = Replay::new(&lab, "scope", &scope, &options);
    replay.start("scope", &[]).wait_success(PATIENCE).unwrap();
    assert!(replay.export() == scope);
    let found = statistics(&lab, "scope", "voltage");
    assert_eq!(found["sample_count"], 999_999);
    close(&found["max"], 3.37214);
    close(&found["mean"], 2.43923);

    let pairs: Vec<u8> = (0..200_002u32)
        .flat_map(|at| (f64::from(at) * 0.1).to_le_bytes())
        .collect();
    let options = ["--dtype", "f64", "--signal", "a:V", "--signal", "b:A", "--rate", "1000"];
    let replay = Replay::new(&lab, "pairs", &pairs, &options);
    replay.start("pairs", &[]).wait_success(PATIENCE).unwrap();
    assert!(replay.export() == pairs, "interleaved signals come back interleaved");
}
