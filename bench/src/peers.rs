//! What others do for a picture: buckets over a row per sample, and the official library on a local file.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

/// Samples of the table, at 1 MSPS: more take minutes to load.
const ROWS: i64 = 10_000_000;

/// Milliseconds of min, max and mean in so many buckets over (time, device, current) rows, indexed by device and time; and the
/// seconds that the rows cover.
pub(crate) async fn time_bucket(url: &str, points: u32) -> Result<(f64, i64)> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(
        "CREATE SCHEMA peer; CREATE TABLE peer.sample (time timestamptz NOT NULL, device text NOT NULL, current float4);",
    )
    .execute(&mut connection)
    .await?;
    let load = "INSERT INTO peer.sample SELECT to_timestamp(1795392000 + sample * 1e-6), 'js220', random() FROM generate_series(0, $1 - 1) AS sample";
    sqlx::query(load).bind(ROWS).execute(&mut connection).await?;
    sqlx::raw_sql("CREATE INDEX ON peer.sample (device, time DESC); ANALYZE peer.sample")
        .execute(&mut connection)
        .await?;
    let mut times_ms = Vec::new();
    for _ in 0..3 {
        times_ms.push(bucketed(&mut connection, points).await?);
    }
    sqlx::raw_sql("DROP SCHEMA peer CASCADE")
        .execute(&mut connection)
        .await?;
    times_ms.sort_by(f64::total_cmp);
    Ok((times_ms[1], ROWS / 1_000_000))
}

/// `date_bin` is Postgres' own `time_bucket`.
async fn bucketed(connection: &mut PgConnection, points: u32) -> Result<f64> {
    let sql =
        "SELECT date_bin(make_interval(secs => $1), time, 'epoch') AS bucket, min(current), max(current), avg(current)
                 FROM peer.sample WHERE device = 'js220' GROUP BY bucket ORDER BY bucket";
    let since = Instant::now();
    let width_s = ROWS as f64 * 1e-6 / f64::from(points);
    let rows = sqlx::query(sql).bind(width_s).fetch_all(connection).await?;
    let elapsed_ms = since.elapsed().as_secs_f64() * 1e3;
    ensure!((rows.len() as u32).abs_diff(points) <= 1, "{} buckets", rows.len());
    Ok(elapsed_ms)
}

/// Writes one signal at 1 MSPS to a file and reads its picture: the median of ten, in ms.
const PYJLS: &str = r"
import sys, time, numpy as np
from pyjls import Writer, Reader
path, seconds, points = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
noise = np.random.default_rng(7).normal(1e-3, 1e-5, 1_000_000).astype(np.float32)
with Writer(path) as w:
    w.source_def(source_id=1, name='js220', vendor='v', model='m', version='1', serial_number='1')
    w.signal_def(signal_id=1, source_id=1, sample_rate=1_000_000, name='current', units='A')
    for second in range(seconds):
        w.fsr_f32(1, second * 1_000_000, noise)
with Reader(path) as r:
    length, times = r.signals[1].length, []
    for _ in range(10):
        since = time.perf_counter()
        assert len(r.fsr_statistics(1, 0, length // points, points)) == points
        times.append(time.perf_counter() - since)
print(sorted(times)[5] * 1e3)
";

/// Needs a Python that has pyjls and numpy: WAVEKEEP_PYJLS_PYTHON names it.
pub(crate) fn pyjls(folder: &Path, seconds: u64, points: u32) -> Result<f64> {
    let python =
        std::env::var("WAVEKEEP_PYJLS_PYTHON").context("WAVEKEEP_PYJLS_PYTHON names no Python that has pyjls")?;
    let file = folder.join("peer.jls");
    let answer = Command::new(python)
        .args(["-c", PYJLS])
        .arg(&file)
        .args([seconds.to_string(), points.to_string()])
        .output()?;
    let _ = std::fs::remove_file(&file);
    ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    Ok(String::from_utf8_lossy(&answer.stdout).trim().parse()?)
}
