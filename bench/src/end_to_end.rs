//! `make bench BENCH=end-to-end`: a simulated JS220 as fast as it can through outbox, uplink, server and Postgres, all on this
//! machine; beside it, in the same Postgres and run, a bare binary COPY of the same payload bytes and a row per sample.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::postgres::PgPoolCopyExt;
use sqlx::{Connection, PgConnection, Row};
use wavekeep_system_tests::lab::{Lab, fast_simulation};
use wavekeep_system_tests::stored;

use crate::processes;

const DEVICE: &str = "js220-bench";
/// Of the instrument's time, about a minute at the budgeted speed. WAVEKEEP_BENCH_SECONDS changes it.
const SECONDS: u64 = 600;

struct EndToEnd {
    values_per_s: f64,
    bytes_per_value: f64,
    disk_bytes_per_value: f64,
    agent_cpu_s: f64,
    agent_resident_mb: f64,
    server_cpu_s: f64,
    values: f64,
}

/// Runs all three and prints the ratios.
pub(crate) fn run() -> Result<()> {
    let seconds = crate::size("WAVEKEEP_BENCH_SECONDS", SECONDS);
    let mut lab = Lab::start()?;
    let ours = end_to_end(&lab, seconds)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = lab.database_url()?;
    let copy_bytes_per_s = runtime.block_on(bare_copy(&url))?;
    let (row_values_per_s, row_disk_bytes) = runtime.block_on(row_per_sample(&url))?;
    let copy_values_per_s = copy_bytes_per_s / ours.bytes_per_value;
    println!(
        "end to end, {:.0} s, JS220-like, durable, default fsync, everything on this machine\n",
        ours.values / ours.values_per_s
    );
    println!("| path | M f32/s | of bare COPY | × row per sample | bytes an f32, encoded | on disk |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| agent → server → Postgres | {:.1} | {:.2} | {:.0} | {:.2} | {:.2} |",
        ours.values_per_s / 1e6,
        ours.values_per_s / copy_values_per_s,
        ours.values_per_s / row_values_per_s,
        ours.bytes_per_value,
        ours.disk_bytes_per_value
    );
    println!(
        "| bare binary COPY of the same payloads | {:.1} ({:.0} MB/s) | 1 | {:.0} | | |",
        copy_values_per_s / 1e6,
        copy_bytes_per_s / 1e6,
        copy_values_per_s / row_values_per_s
    );
    println!(
        "| COPY of a row per sample | {:.2} | | 1 | | {row_disk_bytes:.1} |",
        row_values_per_s / 1e6
    );
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    println!(
        "\nbudgets: ≥ 40 M f32/s {}, ≥ 0.4 of a bare COPY {}, ≥ 20 × a row per sample {}, ≤ 1/10 of its bytes on disk {}, ≤ 2.3 bytes an f32 {}",
        verdict(ours.values_per_s >= 40e6),
        verdict(ours.values_per_s >= 0.4 * copy_values_per_s),
        verdict(ours.values_per_s >= 20.0 * row_values_per_s),
        verdict(ours.disk_bytes_per_value <= 0.1 * row_disk_bytes),
        verdict(ours.disk_bytes_per_value <= 2.3)
    );
    println!(
        "CPU-s per 10^9 f32: agent {:.1}, server and Postgres {:.1}; agent's peak memory {:.0} MB",
        ours.agent_cpu_s / ours.values * 1e9,
        ours.server_cpu_s / ours.values * 1e9,
        ours.agent_resident_mb
    );
    lab.stop_server()
}

fn end_to_end(lab: &Lab, seconds: u64) -> Result<EndToEnd> {
    let server = lab.server.as_ref().context("the server runs")?.id();
    let before = processes::cpu_seconds_of_tree(server)?;
    let duration = format!("{seconds}s");
    let options = fast_simulation(DEVICE, "js220,rate=2000000,seed=7,speed=max", &duration);
    let since = Instant::now();
    let mut agent = lab.agent("bench", &["run"], &options)?;
    let (mut cpu, mut resident) = (0.0f64, 0u64);
    while !agent.has_ended()? {
        cpu = processes::cpu_seconds(agent.id()).map_or(cpu, |now| now.max(cpu));
        resident = agent.resident_bytes_max().unwrap_or(resident).max(resident);
        std::thread::sleep(Duration::from_millis(50));
    }
    let elapsed = since.elapsed().as_secs_f64();
    agent.wait_success(Duration::from_secs(1))?;
    let server_cpu_s = processes::cpu_seconds_of_tree(server)? - before;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (values, encoded, disk) = runtime.block_on(totals(&lab.database_url()?))?;
    Ok(EndToEnd {
        values_per_s: values / elapsed,
        bytes_per_value: encoded / values,
        disk_bytes_per_value: disk / values,
        agent_cpu_s: cpu,
        agent_resident_mb: resident as f64 / 1e6,
        server_cpu_s,
        values,
    })
}

/// Values stored, their encoded bytes, and the bytes of all relations of the workspace.
async fn totals(url: &str) -> Result<(f64, f64, f64)> {
    let mut connection = stored::sql(url).await?;
    let row = sqlx::query(
        "SELECT (SELECT sum(sample_count * cardinality(signal_numbers))::float8 FROM stream WHERE device = $1) AS values,
                (SELECT sum(stored_bytes)::float8 FROM stream WHERE device = $1) AS encoded,
                (SELECT sum(pg_table_size(c.oid) + pg_indexes_size(c.oid))::float8 FROM pg_class c
                  WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r') AS disk",
    )
    .bind(DEVICE)
    .fetch_one(&mut connection)
    .await?;
    Ok((row.get("values"), row.get("encoded"), row.get("disk")))
}

const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Bytes a second of the workspace's own payloads, copied as (bigint, bytea) rows in durable groups of about 4 MiB.
async fn bare_copy(url: &str) -> Result<f64> {
    let mut connection = stored::sql(url).await?;
    let payloads: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT payload FROM chunk_signal WHERE payload IS NOT NULL LIMIT 512")
            .fetch_all(&mut connection)
            .await?;
    sqlx::raw_sql(
        "CREATE SCHEMA bench; CREATE TABLE bench.payload (id bigint, payload bytea);
                   ALTER TABLE bench.payload ALTER COLUMN payload SET STORAGE EXTERNAL",
    )
    .execute(&mut connection)
    .await?;
    let pool = sqlx::PgPool::connect(url).await?;
    let (mut copied, mut id, since) = (0u64, 0i64, Instant::now());
    while since.elapsed() < Duration::from_secs(15) {
        let mut sink = pool
            .copy_in_raw("COPY bench.payload FROM STDIN (FORMAT binary)")
            .await?;
        sink.send(COPY_HEADER).await?;
        let mut group = 0;
        while group < 4 * 1024 * 1024 {
            let payload = &payloads[id as usize % payloads.len()];
            let mut row = Vec::with_capacity(payload.len() + 18);
            row.extend(2i16.to_be_bytes());
            row.extend(8i32.to_be_bytes());
            row.extend(id.to_be_bytes());
            row.extend((payload.len() as i32).to_be_bytes());
            row.extend(payload);
            sink.send(row).await?;
            group += payload.len();
            id += 1;
        }
        sink.send(&(-1i16).to_be_bytes()[..]).await?;
        sink.finish().await?;
        copied += group as u64;
    }
    let rate = copied as f64 / since.elapsed().as_secs_f64();
    sqlx::raw_sql("DROP TABLE bench.payload")
        .execute(&mut connection)
        .await?;
    Ok(rate)
}

/// f32 values a second, and bytes on disk per value, of (time, device, current, voltage) rows through binary COPY into a table
/// that can be asked for a device and a time, as a connector would fill it.
async fn row_per_sample(url: &str) -> Result<(f64, f64)> {
    const GROUP: i64 = 100_000;
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(
        "CREATE TABLE bench.sample (time timestamptz NOT NULL, device text NOT NULL, current float4, voltage float4);
         CREATE INDEX ON bench.sample (device, time DESC)",
    )
    .execute(&mut connection)
    .await?;
    let (mut rows, since) = (0i64, Instant::now());
    while since.elapsed() < Duration::from_secs(15) {
        let mut bytes = COPY_HEADER.to_vec();
        for row in rows..rows + GROUP {
            bytes.extend(4i16.to_be_bytes());
            bytes.extend(8i32.to_be_bytes());
            bytes.extend(row.to_be_bytes());
            bytes.extend((DEVICE.len() as i32).to_be_bytes());
            bytes.extend(DEVICE.as_bytes());
            for value in [row as f32 * 1e-9, 3.3f32] {
                bytes.extend(4i32.to_be_bytes());
                bytes.extend(value.to_be_bytes());
            }
        }
        bytes.extend((-1i16).to_be_bytes());
        let mut sink = connection
            .copy_in_raw("COPY bench.sample FROM STDIN (FORMAT binary)")
            .await?;
        sink.send(bytes).await?;
        sink.finish().await?;
        rows += GROUP;
    }
    let rate = 2.0 * rows as f64 / since.elapsed().as_secs_f64();
    let disk: i64 = sqlx::query_scalar("SELECT pg_total_relation_size('bench.sample')")
        .fetch_one(&mut connection)
        .await?;
    sqlx::raw_sql("DROP SCHEMA bench CASCADE")
        .execute(&mut connection)
        .await?;
    Ok((rate, disk as f64 / (2 * rows) as f64))
}
