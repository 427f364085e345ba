//! Long files are replayed and exported in memory that does not grow with them.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use wavekeep_proto::limits::{CHUNK_COLUMN_BYTES_MAX, SAMPLE_BITS_MAX};
use wavekeep_proto::stream::SampleType;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;

const PATIENCE: Duration = Duration::from_secs(120);
const SAMPLES: u64 = 100_000_000;
const FILE_BYTES: u64 = 4 * SAMPLES;
/// Of four blocks of the widest chunks' size one is noise, which no encoding makes smaller, so that what is stored is large, too; the
/// rest is zero, and costs nothing.
const BLOCK_BYTES: u64 = CHUNK_COLUMN_BYTES_MAX as u64;

/// Bytes that docs/FILES.md promises.
struct Promised {
    replay: u64,
    export: u64,
}

const ONE_SIGNAL: Promised = Promised {
    replay: 100_000_000,
    export: 50_000_000,
};
/// With the largest chunks that there are.
const WIDEST: Promised = Promised {
    replay: 160_000_000,
    export: 80_000_000,
};

/// A long recording that costs little to make.
fn long_file(folder: &Path) -> PathBuf {
    let path = folder.join("long.bin");
    let file = File::create_new(&path).unwrap();
    file.set_len(FILE_BYTES).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (0..FILE_BYTES - BLOCK_BYTES).step_by(4 * BLOCK_BYTES as usize) {
        let noise = (0..BLOCK_BYTES / 4).flat_map(|_| {
            // xorshift64; finite: the exponent is not all ones.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state as u32 & 0xbfff_ffff).to_le_bytes()
        });
        file.write_all_at(&noise.collect::<Vec<u8>>(), at).unwrap();
    }
    path
}

fn export(lab: &Lab, device: &str, format: &str, output: &Path, more: &[&str]) -> u64 {
    let (url, output, label) = (lab.url(), output.to_str().unwrap(), format!("{device}-{format}"));
    let mut args = vec!["export", "--server", &url, "--device", device, "--format", format];
    args.extend(["--output", output]);
    args.extend(more);
    let mut export = Process::start("wavekeep", &label, lab.folder(), &args).unwrap();
    export.wait_success_peak(PATIENCE).unwrap()
}

fn assert_same(one: &Path, other: &Path) {
    let mut files = [one, other].map(|path| File::open(path).unwrap());
    assert_eq!(files[1].metadata().unwrap().len(), FILE_BYTES);
    let mut blocks = [(); 2].map(|()| vec![0; 4_000_000]);
    for block in 0..FILE_BYTES / 4_000_000 {
        for (file, bytes) in files.iter_mut().zip(&mut blocks) {
            file.read_exact(bytes).unwrap();
        }
        assert!(blocks[0] == blocks[1], "they differ in block {block}");
    }
}

/// The file as so many signals; a quarter of it as text, too, which goes nowhere.
fn there_and_back(lab: &Lab, file: &Path, device: &str, (signals, promised): (u64, &Promised)) {
    let names: Vec<String> = (0..signals).map(|number| format!("s{number}:V")).collect();
    let rate_hz = (1_600_000 / signals).to_string();
    let mut options = vec![
        "--device",
        device,
        "--rate",
        &rate_hz,
        "--start",
        "2025-07-26T14:12:17Z",
    ];
    options.extend(names.iter().flat_map(|name| ["--signal", name.as_str()]));
    let verb = ["replay", file.to_str().unwrap()];
    let since = Instant::now();
    let before = lab.metric("wavekeep_committed_chunks_total").unwrap_or(0.0);
    let mut agent = lab.agent(device, &verb, &options).unwrap();
    // The file is in the outbox long before the database goes on.
    let committed = || {
        Ok(lab
            .metric("wavekeep_committed_chunks_total")
            .is_ok_and(|chunks| chunks > before))
    };
    wait_for("the first chunks", PATIENCE, committed).unwrap();
    lab.signal_postgres(Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    lab.signal_postgres(Signal::SIGCONT).unwrap();
    let replay = agent.wait_success_peak(PATIENCE).unwrap();
    let out = lab.folder().join("out.bin");
    let raw = export(lab, device, "raw", &out, &[]);
    assert_same(file, &out);
    std::fs::remove_file(out).unwrap();
    // 62.5 s in all.
    let csv = export(
        lab,
        device,
        "csv",
        Path::new("/dev/null"),
        &["--to", "2025-07-26T14:12:33Z"],
    );
    let [replayed, raw_mb, csv_mb] = [replay, raw, csv].map(|bytes| bytes / 1_000_000);
    println!(
        "{device}: {replayed} MB for the replay, {raw_mb} for raw, {csv_mb} for CSV, {:?} in all",
        since.elapsed()
    );
    assert!(
        replay < promised.replay,
        "{replay} bytes for the replay of {FILE_BYTES}"
    );
    assert!(raw.max(csv) < promised.export, "{raw} and {csv} bytes for exports");
}

#[test]
fn i12_a_long_file_is_replayed_and_exported_in_bounded_memory() {
    let lab = Lab::start().unwrap();
    let file = long_file(lab.folder());
    there_and_back(&lab, &file, "one-signal", (1, &ONE_SIGNAL));
    let signals = u64::from(SAMPLE_BITS_MAX / SampleType::F32.bits());
    there_and_back(&lab, &file, "sixteen-signals", (signals, &WIDEST));
}
