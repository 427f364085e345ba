//! `make bench BENCH=compare`: how long a comparison of two groups of recordings takes, with and without their columns.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wavekeep::{Client, Groups};
use wavekeep_system_tests::lab::Lab;

/// Of each group. WAVEKEEP_BENCH_RUNS changes it.
const RUNS: u32 = 20;
/// Columns of the common axis.
const POINTS: u32 = 400;
const ROUNDS: usize = 20;

/// Records both groups, asks and prints.
pub(crate) fn run() -> Result<()> {
    let runs = crate::size("WAVEKEEP_BENCH_RUNS", RUNS);
    let lab = &mut Lab::start()?;
    for (group, algorithm) in ["A", "B"].into_iter().enumerate() {
        for number in 0..runs {
            record(lab, algorithm, number, group as u32 * runs + number)?;
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::connect(&lab.url(), "main").await?;
        println!("2 × {runs} runs of 10 s at 1 MSPS, by power, over gRPC, {ROUNDS} times\n");
        println!("| columns | p50 ms | most ms |\n|---|---|---|");
        let mut sentence = String::new();
        for points in [0, POINTS] {
            let groups = Groups::new("algorithm=A", "algorithm=B").points(points);
            let mut times_ms = Vec::new();
            for _ in 0..ROUNDS {
                let since = Instant::now();
                let found = client.compare(&groups).await?;
                times_ms.push(since.elapsed().as_secs_f64() * 1e3);
                ensure!(
                    found.first.runs.len() == runs as usize,
                    "{} runs",
                    found.first.runs.len()
                );
                sentence = found.sentence;
            }
            times_ms.sort_by(f64::total_cmp);
            println!(
                "| {points} | {:.0} | {:.0} |",
                times_ms[ROUNDS / 2],
                times_ms[ROUNDS - 1]
            );
        }
        println!("\n{sentence}");
        anyhow::Ok(())
    })?;
    lab.stop_server()
}

fn record(lab: &Lab, algorithm: &str, number: u32, seed: u32) -> Result<()> {
    let name = format!("{algorithm}-{number}");
    let spec = format!("js220,rate=1000000,seed={},speed=max", seed + 1);
    let label = format!("algorithm={algorithm}");
    let options = [
        "--device",
        "js220-001",
        "--simulate",
        &spec,
        "--duration",
        "10s",
        "--run",
        &name,
        "--label",
        &label,
    ];
    let mut agent = lab.agent(&name, &["run"], &options)?;
    agent.wait_success(Duration::from_secs(120))
}
