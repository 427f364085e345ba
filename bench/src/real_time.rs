//! `make bench BENCH=real-time`: what one instrument in real time costs its PC (2 MSPS × 2 signals), and how long a sample of a
//! 1 MSPS instrument takes from capture to commit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::{latency, stored};

use crate::histogram::Histogram;
use crate::processes;

/// Runs both and prints them.
pub(crate) fn run() -> Result<()> {
    let mut lab = Lab::start()?;
    let (share, resident_mb, _) = cost(&lab, "js220,rate=2000000,seed=7", "fast")?;
    println!(
        "agent, 2 MSPS × 2 signals in real time: {:.1} % of a core, {resident_mb:.0} MB resident at most",
        share * 100.0
    );
    let (share, resident_mb, acked) = cost(&lab, "js220,rate=1000000,seed=8", "usual")?;
    println!(
        "agent, 1 MSPS × 2 signals in real time: {:.1} % of a core, {resident_mb:.0} MB resident at most",
        share * 100.0
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let committed = runtime.block_on(async {
        let mut connection = stored::sql(&lab.database_url()?).await?;
        latency::of_device(&mut connection, "usual").await
    })?;
    println!(
        "last sample of a chunk → committed, 1 MSPS: p50 {:.0} ms, p99 {:.0} ms",
        committed.p50_ms, committed.p99_ms
    );
    println!(
        "last sample of a chunk → its ack at the agent, 1 MSPS: p50 ≤ {:.0} ms, p99 ≤ {:.0} ms",
        1e3 * acked.quantile(0.5)?,
        1e3 * acked.quantile(0.99)?
    );
    lab.stop_server()
}

/// The agent's share of a core over 30 s of steady work, its peak memory, and what it measured from capture to ack.
fn cost(lab: &Lab, spec: &str, device: &str) -> Result<(f64, f64, Histogram)> {
    let agent = lab.agent(
        device,
        &["run"],
        &["--device", device, "--simulate", spec, "--duration", "36s"],
    )?;
    std::thread::sleep(Duration::from_secs(3));
    let (before, since) = (processes::cpu_seconds(agent.id())?, Instant::now());
    std::thread::sleep(Duration::from_secs(30));
    let share = (processes::cpu_seconds(agent.id())? - before) / since.elapsed().as_secs_f64();
    let resident = agent.resident_bytes_max()?;
    let acked = Histogram::of_agent(&lab.outbox(device), "wavekeep_agent_ack_latency_seconds")?;
    let mut agent = agent;
    agent
        .wait_success(Duration::from_secs(60))
        .context("the agent ends once all is acked")?;
    Ok((share, resident as f64 / 1e6, acked))
}
