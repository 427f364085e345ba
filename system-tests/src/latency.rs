//! How late samples are: from the end of a chunk's last sample, by the stream's time axis, to its commit, by Postgres' own
//! commit timestamps (which the private Postgres of `wavekeep-server dev` keeps).

use anyhow::Result;
use sqlx::{PgConnection, Row};

/// Of the chunks of samples of a device.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Half of them are not later.
    pub p50_ms: f64,
    /// All but one in a hundred are not later.
    pub p99_ms: f64,
}

/// By SQL, in a workspace that was entered.
pub async fn of_device(connection: &mut PgConnection, device: &str) -> Result<Latency> {
    let row = sqlx::query(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50,
                percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS p99
           FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(c.xmin))::float8 * 1e3
                        - (c.utc_ns / 1e6 + c.sample_count / s.rate_hz * 1e3) AS latency_ms
                   FROM chunk c JOIN stream s ON s.id = c.stream_id WHERE s.device = $1 AND c.kind = 1) c",
    )
    .bind(device)
    .fetch_one(connection)
    .await?;
    Ok(Latency {
        p50_ms: row.try_get("p50")?,
        p99_ms: row.try_get("p99")?,
    })
}
