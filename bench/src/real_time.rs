//! `make bench BENCH=real-time`: what one instrument in real time costs its PC (2 MSPS × 2 signals), and how long a sample of a
//! 1 MSPS instrument takes from capture to commit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::Row;
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::stored;

use crate::processes;

/// Runs both and prints them.
pub(crate) fn run() -> Result<()> {
    let mut lab = Lab::start()?;
    let (share, resident_mb) = cost(&lab, "js220,rate=2000000,seed=7", "fast")?;
    println!(
        "agent, 2 MSPS × 2 signals in real time: {:.1} % of a core, {resident_mb:.0} MB resident at most",
        share * 100.0
    );
    let (share, resident_mb) = cost(&lab, "js220,rate=1000000,seed=8", "usual")?;
    println!(
        "agent, 1 MSPS × 2 signals in real time: {:.1} % of a core, {resident_mb:.0} MB resident at most",
        share * 100.0
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (p50, p99) = runtime.block_on(latency(&lab.database_url()?, "usual"))?;
    println!("last sample of a chunk → committed, 1 MSPS: p50 {p50:.0} ms, p99 {p99:.0} ms");
    lab.stop_server()
}

/// The agent's share of a core over 30 s of steady work, and its peak memory.
fn cost(lab: &Lab, spec: &str, device: &str) -> Result<(f64, f64)> {
    let agent = lab.agent(
        device,
        &["run"],
        &["--device", device, "--simulate", spec, "--duration", "36s"],
    )?;
    std::thread::sleep(Duration::from_secs(3));
    let (before, since) = (processes::cpu_seconds(agent.id())?, Instant::now());
    std::thread::sleep(Duration::from_secs(30));
    let share = (processes::cpu_seconds(agent.id())? - before) / since.elapsed().as_secs_f64();
    let resident = processes::resident_bytes_max(agent.id())?;
    let mut agent = agent;
    agent
        .wait_success(Duration::from_secs(60))
        .context("the agent ends once all is acked")?;
    Ok((share, resident as f64 / 1e6))
}

async fn latency(url: &str, device: &str) -> Result<(f64, f64)> {
    let mut connection = stored::sql(url).await?;
    let row = sqlx::query(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY latency) AS p50,
                percentile_cont(0.99) WITHIN GROUP (ORDER BY latency) AS p99
           FROM (SELECT extract(epoch FROM c.loaded_at)::float8 * 1e3
                        - (c.utc_ns / 1e6 + c.sample_count / s.rate_hz * 1e3) AS latency
                   FROM chunk c JOIN stream s ON s.id = c.stream_id WHERE s.device = $1 AND c.kind = 1) c",
    )
    .bind(device)
    .fetch_one(&mut connection)
    .await?;
    Ok((row.get("p50"), row.get("p99")))
}
