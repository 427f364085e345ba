//! Checks every stored sample of a simulated device against the simulator's truth, through `Query` and through SQL.
//!
//!     check-truth DATABASE_URL SERVER_URL DEVICE

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::Result;
use sqlx::Row;
use wavekeep_system_tests::stored;
use wavekeep_system_tests::truth::{Report, check_device};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [database_url, server_url, device] = &args[..] else {
        eprintln!("usage: check-truth DATABASE_URL SERVER_URL DEVICE");
        std::process::exit(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(database_url, server_url, device))
}

async fn check(database_url: &str, server_url: &str, device: &str) -> Result<()> {
    let since = Instant::now();
    let (streams, total) = check_device(database_url, server_url, device).await?;
    let seconds = since.elapsed().as_secs_f64();
    print(&mut stored::sql(database_url).await?, device, streams, &total, seconds).await
}

async fn print(
    connection: &mut sqlx::PgConnection,
    device: &str,
    streams: usize,
    total: &Report,
    seconds: f64,
) -> Result<()> {
    let row = sqlx::query(
        "SELECT sum(c.stored_bytes)::float8 AS bytes,
                percentile_cont(0.5) WITHIN GROUP (ORDER BY latency) AS p50,
                percentile_cont(0.99) WITHIN GROUP (ORDER BY latency) AS p99
           FROM (SELECT c.stored_bytes, extract(epoch FROM c.loaded_at) * 1e3
                        - (c.utc_ns / 1e6 + c.sample_count / s.rate_hz * 1e3) AS latency
                   FROM chunk c JOIN stream s ON s.id = c.stream_id WHERE s.device = $1 AND c.kind = 1) c",
    )
    .bind(device)
    .fetch_one(connection)
    .await?;
    let bytes = row.get::<Option<f64>, _>("bytes").unwrap_or_default();
    let latency = |name: &str| row.get::<Option<f64>, _>(name).unwrap_or_default();
    let mut gaps = String::new();
    for (reason, count) in &total.gaps {
        let _ = write!(gaps, "  {} {count}", reason.name());
    }
    println!("streams (epochs)      {streams:>14}");
    println!("captured, samples     {:>14}", total.samples + total.gap_samples());
    println!(
        "stored and true       {:>14}   each value bit for bit, by SQL and by Query",
        total.samples
    );
    println!("in named gaps         {:>14}  {gaps}", total.gap_samples());
    println!("lost, repeated, wrong {:>14}", 0);
    println!(
        "bytes a sample        {:>14.2}   of one signal, encoded",
        bytes / total.values as f64
    );
    println!(
        "capture to commit     {:>11.0} ms   median; p99 {:.0} ms, with the kills",
        latency("p50"),
        latency("p99")
    );
    println!(
        "checked at            {:>14.1}   M f32/s",
        2.0 * total.values as f64 / seconds / 1e6
    );
    Ok(())
}
