//! `make bench BENCH=exports`: how fast a long recording becomes a file of each format, how large the file is, and the memory that takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use wavekeep_system_tests::lab::{Lab, fast_simulation};
use wavekeep_system_tests::process::Process;

const DEVICE: &str = "js220-export";
/// Of the instrument's time at 1 MSPS, current and voltage. WAVEKEEP_BENCH_SECONDS changes it: 1300 are 10.4 GB of samples, and as large is
/// the largest file.
const SECONDS: u64 = 120;
const SIGNALS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(3_600);
/// Where a file of text goes, whose bytes nobody needs.
const NOWHERE: &str = "/dev/null";

/// Runs all and prints it.
pub(crate) fn run() -> Result<()> {
    let seconds = crate::size("WAVEKEEP_BENCH_SECONDS", SECONDS);
    let mut lab = Lab::start()?;
    let duration = format!("{seconds}s");
    let options = fast_simulation(DEVICE, "js220,rate=1000000,seed=7,speed=max", &duration);
    lab.agent("export", &["run"], &options)?.wait_success(PATIENCE)?;
    let values = (seconds * 1_000_000 * SIGNALS) as f64;
    println!(
        "{seconds} s of current and voltage at 1 MSPS, {:.1} GB of samples\n\n| format | M f32/s | bytes a sample | peak memory, MB |\n|---|---|---|---|",
        values * 4.0 / 1e9
    );
    let folder = lab.folder().to_owned();
    let file = |name: &str| folder.join(name);
    for (format, to) in [
        ("raw", file("export.raw")),
        ("npy", file("export.npy")),
        ("csv", PathBuf::from(NOWHERE)),
        ("parquet", file("export.parquet")),
        ("parquet", file("lake/")),
        ("jls", file("export.jls")),
    ] {
        export(&lab, format, &to, values)?;
    }
    lab.stop_server()
}

fn export(lab: &Lab, format: &str, to: &Path, values: f64) -> Result<()> {
    let (url, output) = (lab.url(), to.display().to_string());
    let is_directory = output.ends_with('/');
    let label = if is_directory {
        format!("{format}, a directory")
    } else {
        format.to_owned()
    };
    let signals = ["--signal", "current", "--signal", "voltage"];
    let mut args = vec!["export", "--server", &url, "--device", DEVICE, "--format", format];
    args.extend(signals);
    args.extend(["--output", &output]);
    let since = Instant::now();
    let mut process = Process::start("wavekeep", &label, lab.folder(), &args)?;
    let peak = process.wait_success_peak(PATIENCE)?;
    let speed = values / since.elapsed().as_secs_f64() / 1e6;
    let size = match bytes(to)? {
        0 => "not kept".to_owned(),
        bytes => format!("{:.2}", bytes as f64 / values),
    };
    println!("| {label} | {speed:.1} | {size} | {:.0} |", peak as f64 / 1e6);
    if is_directory {
        std::fs::remove_dir_all(to)?;
    } else if output != NOWHERE {
        std::fs::remove_file(to)?;
    }
    Ok(())
}

/// Of a file, or of all files in a directory.
fn bytes(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        sum += bytes(&entry?.path())?;
    }
    Ok(sum)
}
