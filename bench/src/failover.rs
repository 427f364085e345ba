//! `make bench BENCH=failover`: how long nothing is committed when one of two servers dies, and how fast a database that was restored
//! from an empty backup is filled again from an outbox, against the first ingest of the same data in the same run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wavekeep_system_tests::cluster::Instance;
use wavekeep_system_tests::lab::{Lab, fast_simulation, wait_for};
use wavekeep_system_tests::proxy::Proxy;

const KILLS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(120);
/// Of the instrument's time, at 2 MSPS × 2 signals.
const HEALED_SECONDS: &str = "60s";

/// Runs both and prints them.
pub(crate) fn run() -> Result<()> {
    let mut silences = silences()?;
    silences.sort();
    let ms = |silence: Option<&Duration>| silence.map_or(f64::NAN, |silence| silence.as_secs_f64() * 1e3);
    println!(
        "{KILLS} kills of one of two servers, an instrument of 1 MSPS: death → next commit p50 {:.0} ms, at most {:.0} ms",
        ms(silences.get(KILLS / 2)),
        ms(silences.last())
    );
    let (first, healed) = healing()?;
    println!(
        "first ingest {:.1} M f32/s, healing {:.1} M f32/s: {:.0} % of it",
        first / 1e6,
        healed / 1e6,
        100.0 * healed / first
    );
    Ok(())
}

/// From SIGKILL to the first commit through the other server.
fn silences() -> Result<Vec<Duration>> {
    let database = Instance::start()?;
    let mut labs = [(); 2].map(|()| Lab::on(&database.postgres.tcp_url()));
    for lab in &mut labs {
        lab.as_mut()
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .start_server()?;
    }
    let [one, other] = labs;
    let (mut leading, mut waiting) = (one?, other?);
    let home = Lab::stopped(&[])?;
    let front = Proxy::start(leading.address())?;
    let options = [
        "--device",
        "bench",
        "--simulate",
        "js220,rate=1000000,seed=4",
        "--duration",
        "10m",
    ];
    let mut agent = home.agent_at(&front.url(), "bench", &["run"], &options)?;
    database.wait_for_watermark("bench", 20)?;
    let mut silences = Vec::new();
    for _ in 0..KILLS {
        front.lead_to(waiting.address());
        leading.kill_server()?;
        let since = Instant::now();
        // What the dead one had sent to the database may still be committed.
        let opened = "SELECT (extract(epoch FROM opened_at) * 1e6)::bigint FROM stream";
        let before = database.number(opened)?;
        let mut at_open = None;
        loop {
            ensure!(since.elapsed() < PATIENCE, "nothing is committed any more");
            if database.number(opened)? != before {
                let now = database.watermark("bench")?;
                if now > *at_open.get_or_insert(now) {
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        silences.push(since.elapsed());
        leading.start_server()?;
        std::mem::swap(&mut leading, &mut waiting);
        // So that the next one dies in the middle of its work.
        let now = database.watermark("bench")?;
        database.wait_for_watermark("bench", now + 15)?;
    }
    agent.kill9()?;
    leading.stop_server()?;
    waiting.stop_server()?;
    Ok(silences)
}

/// f32 a second that are committed, at first and again.
fn healing() -> Result<(f64, f64)> {
    let mut database = Instance::start()?;
    let mut lab = Lab::on(&database.postgres.tcp_url())?;
    lab.start_server()?;
    let backup = database.postgres.back_up()?;
    let options = fast_simulation("first", "js220,rate=2000000,seed=7,speed=max", HEALED_SECONDS);
    // Held back is a quarter of the quota.
    let options = options.map(|option| if option == "1GiB" { "16GiB" } else { option });
    let mut agent = lab.agent("bench", &["run"], &options)?;
    agent.wait_success(PATIENCE)?;
    let first = rate(&database)?;
    database.postgres.restore(backup)?;
    wait_for("the server is ready", PATIENCE, || Ok(lab.is_ready()))?;
    let next = [
        "--device",
        "next",
        "--simulate",
        "js220,rate=1000,seed=1",
        "--duration",
        "1s",
    ];
    let mut agent = lab.agent("bench", &["run"], &next)?;
    let all = i64::try_from(first.1).context("it is a count")?;
    wait_for("all is there again", PATIENCE, || {
        let sql = "SELECT coalesce(sum(sample_count), 0)::bigint FROM stream WHERE device = 'first'";
        Ok(database.number(sql)? == Some(all))
    })?;
    agent.wait_success(PATIENCE)?;
    let healed = rate(&database)?;
    ensure!(healed.1 == first.1, "as many samples as before");
    lab.stop_server()?;
    Ok((first.0, healed.0))
}

/// f32 a second between the first and the last commit, by Postgres' own timestamps, and the samples.
fn rate(database: &Instance) -> Result<(f64, u64)> {
    let of = "FROM chunk c JOIN stream s ON s.id = c.stream_id WHERE s.device = 'first'";
    let us = database.number(&format!(
        "SELECT (extract(epoch FROM max(pg_xact_commit_timestamp(c.xmin)) - min(pg_xact_commit_timestamp(c.xmin))) * 1e6)::bigint {of}"
    ))?;
    let samples = database.number(&format!("SELECT sum(c.sample_count)::bigint {of} AND c.kind = 1"))?;
    let (us, samples) = us.zip(samples).context("chunks are committed")?;
    Ok((2.0 * samples as f64 / (us as f64 / 1e6), samples.cast_unsigned()))
}
