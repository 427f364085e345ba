//! Checks every stored sample of a simulated device against the simulator's truth, through `Query` and through SQL.
//!
//!     check-truth DATABASE_URL SERVER_URL DEVICE CAPTURED
//!
//! CAPTURED is how many samples of the axis were captured, by the agents' own word.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sqlx::Row;
use wavekeep_system_tests::truth::{Report, check_device};
use wavekeep_system_tests::{latency, stored};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [database_url, server_url, device, captured] = &args[..] else {
        eprintln!("usage: check-truth DATABASE_URL SERVER_URL DEVICE CAPTURED");
        std::process::exit(2);
    };
    let captured = captured.parse().context("CAPTURED is a number")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(database_url, server_url, device, captured))
}

async fn check(database_url: &str, server_url: &str, device: &str, captured: u64) -> Result<()> {
    let since = Instant::now();
    let (streams, total) = check_device(database_url, server_url, device).await?;
    let seconds = since.elapsed().as_secs_f64();
    print(
        &mut stored::sql(database_url).await?,
        device,
        streams,
        captured,
        &total,
        seconds,
    )
    .await?;
    let found = total.samples + total.gap_samples();
    ensure!(
        found == captured,
        "{captured} samples were captured, {found} are stored or in gaps"
    );
    Ok(())
}

async fn print(
    connection: &mut sqlx::PgConnection,
    device: &str,
    streams: usize,
    captured: u64,
    total: &Report,
    seconds: f64,
) -> Result<()> {
    let row = sqlx::query(
        "SELECT sum(c.stored_bytes)::float8 AS bytes,
                extract(epoch FROM max(c.loaded_at))::float8 - min(c.utc_ns) / 1e9 AS seconds
           FROM chunk c JOIN stream s ON s.id = c.stream_id WHERE s.device = $1 AND c.kind = 1",
    )
    .bind(device)
    .fetch_one(&mut *connection)
    .await?;
    let (bytes, recorded_s): (f64, f64) = (row.try_get("bytes")?, row.try_get("seconds")?);
    let latency = latency::of_device(connection, device).await?;
    let mut gaps = String::new();
    for (reason, count) in &total.gaps {
        let _ = write!(gaps, "  {} {count}", reason.name());
    }
    println!("streams (epochs)      {streams:>14}");
    println!("captured, samples     {captured:>14}   by the agents' own word");
    println!(
        "stored and true       {:>14}   each value bit for bit, by SQL and by Query",
        total.samples
    );
    println!("in named gaps         {:>14}  {gaps}", total.gap_samples());
    let lost = captured.abs_diff(total.samples + total.gap_samples());
    println!("lost, repeated, wrong {lost:>14}");
    println!(
        "rate                  {:>14.2}   M f32/s, from the first sample to the last commit",
        total.values as f64 / recorded_s / 1e6
    );
    println!(
        "bytes a sample        {:>14.2}   of one signal, encoded",
        bytes / total.values as f64
    );
    println!(
        "capture to commit     {:>11.0} ms   median; p99 {:.0} ms, with the kills",
        latency.p50_ms, latency.p99_ms
    );
    println!(
        "checked at            {:>14.1}   M f32/s",
        2.0 * total.values as f64 / seconds / 1e6
    );
    Ok(())
}
