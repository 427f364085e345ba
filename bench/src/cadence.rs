//! `make bench BENCH=cadence`: what a chunk period costs and what it gains, in real time through the real programs: how long samples take
//! until they are committed, and how many bytes each is on the wire and in the database's rows.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::{PgConnection, Row};
use wavekeep_agent::admin;
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::process::Process;
use wavekeep_system_tests::proxy::Proxy;
use wavekeep_system_tests::stored;

/// How long the agent's lag is asked before its end.
const BEFORE_END: Duration = Duration::from_secs(1);

struct Case {
    device: &'static str,
    spec: &'static str,
    period: &'static str,
    seconds: u64,
}

const fn case(device: &'static str, spec: &'static str, period: &'static str, seconds: u64) -> Case {
    Case {
        device,
        spec,
        period,
        seconds,
    }
}

const SLOW: &str = "js220,rate=1000,seed=7";
const FAST: &str = "js220,rate=1000000,seed=7";
/// All of a slow instrument at once: they cost next to nothing.
const SLOW_CASES: [Case; 4] = [
    case("slow-50ms", SLOW, "50ms", 41),
    case("slow-250ms", SLOW, "250ms", 41),
    case("slow-1s", SLOW, "1s", 41),
    case("slow-10s", SLOW, "10s", 41),
];
/// One after the other.
const FAST_CASES: [Case; 2] = [case("fast-50ms", FAST, "50ms", 15), case("fast-10s", FAST, "10s", 15)];

struct Run<'a> {
    case: &'a Case,
    agent: Process,
    proxy: Proxy,
}

/// Runs all of them and prints one row each.
pub(crate) fn run() -> Result<()> {
    let mut lab = Lab::start()?;
    println!(
        "| samples a second × 2 signals | `--chunk-period` | samples a chunk | any sample → committed, p50, p99 | last sample of a chunk → ack, p50, p99 | bytes an f32 on the wire | in the database's rows |"
    );
    println!("|---|---|---|---|---|---|---|");
    finish_all(&lab, start_all(&lab, &SLOW_CASES)?)?;
    for case in &FAST_CASES {
        finish_all(&lab, start_all(&lab, std::slice::from_ref(case))?)?;
    }
    lab.stop_server()
}

fn start_all<'a>(lab: &Lab, cases: &'a [Case]) -> Result<Vec<Run<'a>>> {
    let start = |case: &'a Case| {
        let proxy = Proxy::start(lab.address())?;
        let duration = format!("{}s", case.seconds);
        let options = [
            "--device",
            case.device,
            "--simulate",
            case.spec,
            "--duration",
            &duration,
        ];
        let period = ["--chunk-period", case.period];
        let agent = lab.agent_at(
            &proxy.url(),
            case.device,
            &["run"],
            &[options.as_slice(), &period].concat(),
        )?;
        Ok(Run { case, agent, proxy })
    };
    cases.iter().map(start).collect()
}

fn finish_all(lab: &Lab, runs: Vec<Run<'_>>) -> Result<()> {
    let seconds = runs.first().map_or(0, |run| run.case.seconds);
    std::thread::sleep(Duration::from_secs(seconds) - BEFORE_END);
    let lags = runs.iter().map(|run| {
        let status = admin::ask_status(&admin::socket_of(&lab.outbox(run.case.device), None))?;
        let of = |name: &str| status["lag"][name].as_f64().context("nothing is acked yet");
        Ok((of("p50_ms")?, of("p99_ms")?))
    });
    let lags = lags.collect::<Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (mut run, lag) in runs.into_iter().zip(lags) {
        run.agent.wait_success(Duration::from_secs(60))?;
        let wire_bytes = run.proxy.sent_bytes();
        let stored = runtime.block_on(async {
            let mut connection = stored::sql(&lab.database_url()?).await?;
            Stored::of_device(&mut connection, run.case.device).await
        })?;
        println!(
            "| {} | {} | {:.0} | {:.0} ms, {:.0} ms | {:.0} ms, {:.0} ms | {:.2} | {:.2} |",
            run.case.spec,
            run.case.period,
            stored.samples / stored.chunks,
            stored.p50_ms,
            stored.p99_ms,
            lag.0,
            lag.1,
            wire_bytes as f64 / (2.0 * stored.samples),
            stored.row_bytes / (2.0 * stored.samples),
        );
    }
    Ok(())
}

struct Stored {
    samples: f64,
    chunks: f64,
    /// Of samples all over the chunks.
    p50_ms: f64,
    p99_ms: f64,
    row_bytes: f64,
}

impl Stored {
    async fn of_device(connection: &mut PgConnection, device: &str) -> Result<Self> {
        let of_samples = sqlx::query(
            "SELECT sum(sample_count) FILTER (WHERE k = 0)::float8 AS samples, (count(*) FILTER (WHERE k = 0))::float8 AS chunks,
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50,
                    percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS p99
               FROM (SELECT c.sample_count, k, extract(epoch FROM pg_xact_commit_timestamp(c.xmin))::float8 * 1e3
                            - (c.utc_ns / 1e6 + c.sample_count * (k + 0.5) / 20 / s.rate_hz * 1e3) AS latency_ms
                       FROM chunk c JOIN stream s ON s.id = c.stream_id, generate_series(0, 19) k
                      WHERE s.device = $1 AND c.kind = 1) c",
        )
        .bind(device)
        .fetch_one(&mut *connection)
        .await?;
        let rows = sqlx::query(
            // A row as a whole has what lies elsewhere in it.
            "SELECT sum(bytes)::float8 AS bytes FROM (
                SELECT pg_column_size(c.*) AS bytes, stream_id FROM chunk c UNION ALL
                SELECT pg_column_size(c.*), stream_id FROM chunk_signal c UNION ALL
                SELECT pg_column_size(e.*), stream_id FROM envelope e) r
             JOIN stream s ON s.id = r.stream_id WHERE s.device = $1",
        )
        .bind(device)
        .fetch_one(&mut *connection)
        .await?;
        Ok(Self {
            samples: of_samples.try_get("samples")?,
            chunks: of_samples.try_get("chunks")?,
            p50_ms: of_samples.try_get("p50")?,
            p99_ms: of_samples.try_get("p99")?,
            row_bytes: rows.try_get("bytes")?,
        })
    }
}
