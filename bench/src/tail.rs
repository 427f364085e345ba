//! `make bench BENCH=tail`: how long a chunk takes from its commit to those who follow it, of the server that committed it and of another
//! one, while instruments record in real time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use wavekeep::{Client, Selection, TailFrom};
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;

/// Recorded time. WAVEKEEP_BENCH_SECONDS changes it.
const SECONDS: u64 = 60;
const PATIENCE: Duration = Duration::from_secs(60);
/// Device, what it is, and its chunk period.
const DEVICES: [(&str, &str, &str); 4] = [
    ("fast-1s", "js220,rate=1000000,seed=1", "1s"),
    ("slow-1s", "js220,rate=1000,seed=2", "1s"),
    ("slow-250ms", "js220,rate=1000,seed=3", "250ms"),
    ("slow-50ms", "js220,rate=1000,seed=4", "50ms"),
];
/// Followers of each server.
const FOLLOWERS: usize = 4;

/// Records, follows and prints.
pub(crate) fn run() -> Result<()> {
    let seconds = std::env::var("WAVEKEEP_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SECONDS);
    let mut lab = Lab::start()?;
    wait_for("the database's URL", PATIENCE, || Ok(lab.database_url().is_ok()))?;
    let mut other = Lab::on(&lab.database_url()?)?;
    other.start_server()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut followers = Vec::new();
    for (server, url) in [("that committed it", lab.url()), ("another one", other.url())] {
        for _ in 0..FOLLOWERS {
            followers.push((server, runtime.spawn(follow(url.clone()))));
        }
    }
    let duration = format!("{seconds}s");
    let start = |(device, spec, period): &(&str, &str, &str)| {
        let options = ["--device", device, "--simulate", spec, "--duration", &duration];
        lab.agent(device, &["run", "--chunk-period", period], &options)
    };
    let mut agents: Vec<Process> = DEVICES.iter().map(start).collect::<Result<_>>()?;
    for agent in &mut agents {
        agent.wait_success(Duration::from_secs(seconds) + PATIENCE)?;
    }
    println!("{DEVICES:?}\n{FOLLOWERS} followers of each server, {seconds} s\n");
    println!("| the server | chunks | p50 ms | p99 ms | most ms |\n|---|---|---|---|---|");
    let mut late: Vec<(&str, Vec<i64>)> = Vec::new();
    for (server, follower) in followers {
        let came = runtime.block_on(async { tokio::time::timeout(PATIENCE, follower).await })???;
        match late.last_mut() {
            Some((last, all)) if *last == server => all.extend(came),
            _ => late.push((server, came)),
        }
    }
    for (server, mut late_ns) in late {
        late_ns.sort_unstable();
        let at = |share: f64| late_ns[((late_ns.len() - 1) as f64 * share) as usize] as f64 / 1e6;
        println!(
            "| {server} | {} | {:.0} | {:.0} | {:.0} |",
            late_ns.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    other.stop_server()?;
    lab.stop_server()
}

/// From the start of the transaction that commits a chunk to its verified samples here, in nanoseconds, up to the end of every stream.
async fn follow(url: String) -> Result<Vec<i64>> {
    let client = Client::connect(&url, "main").await?;
    let mut tail = client.tail(&Selection::everything(), TailFrom::Start).await?;
    let (mut late_ns, mut ended) = (Vec::new(), 0);
    while ended < DEVICES.len() {
        let committed = tail.next().await?;
        let now_ns = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        ensure!(committed.expired.is_none(), "a follower is told that it is too late");
        late_ns.push(now_ns.checked_sub(committed.loaded_at_ns).context("a time")?);
        ended += usize::from(committed.header.reason.is_end());
    }
    Ok(late_ns)
}
