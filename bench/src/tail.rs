//! `make bench BENCH=tail`: how long a chunk takes from its commit to those who follow it, of the server that committed it and of another
//! one, while instruments record in real time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use wavekeep::{Client, Selection, TailFrom};
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;

/// Recorded time for each number of followers. WAVEKEEP_BENCH_SECONDS changes it.
const SECONDS: u64 = 30;
const PATIENCE: Duration = Duration::from_secs(60);
/// Device, what it is, and its chunk period.
const DEVICES: [(&str, &str, &str); 4] = [
    ("fast-1s", "js220,rate=1000000,seed=1", "1s"),
    ("slow-1s", "js220,rate=1000,seed=2", "1s"),
    ("slow-250ms", "js220,rate=1000,seed=3", "250ms"),
    ("slow-50ms", "js220,rate=1000,seed=4", "50ms"),
];
/// Of each server.
const FOLLOWERS: [usize; 2] = [1, 4];

/// Records, follows and prints.
pub(crate) fn run() -> Result<()> {
    let seconds = crate::size("WAVEKEEP_BENCH_SECONDS", SECONDS);
    println!("{DEVICES:?}, {seconds} s; ms from the commit to verified samples at the follower\n");
    println!(
        "| followers of each server | of the server that | chunks | p50 | p99 | most |\n|---|---|---|---|---|---|"
    );
    for followers in FOLLOWERS {
        for (server, mut late_ns) in followed(followers, seconds)? {
            late_ns.sort_unstable();
            let at = |share: f64| late_ns[((late_ns.len() - 1) as f64 * share) as usize] as f64 / 1e6;
            let chunks = late_ns.len();
            println!(
                "| {followers} | {server} | {chunks} | {:.0} | {:.0} | {:.0} |",
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
    }
    Ok(())
}

/// How late each chunk came, by the server that was asked.
fn followed(followers: usize, seconds: u64) -> Result<[(&'static str, Vec<i64>); 2]> {
    let mut lab = Lab::start()?;
    wait_for("the database's URL", PATIENCE, || Ok(lab.database_url().is_ok()))?;
    let mut other = Lab::on(&lab.database_url()?)?;
    other.start_server()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let start = |url: String| -> Vec<_> {
        let follow = |_| runtime.spawn(follow(url.clone()));
        (0..followers).map(follow).collect()
    };
    let servers = [start(lab.url()), start(other.url())];
    let duration = format!("{seconds}s");
    let record = |(device, spec, period): &(&str, &str, &str)| {
        let options = ["--device", device, "--simulate", spec, "--duration", &duration];
        lab.agent(device, &["run", "--chunk-period", period], &options)
    };
    let mut agents: Vec<Process> = DEVICES.iter().map(record).collect::<Result<_>>()?;
    for agent in &mut agents {
        agent.wait_success(Duration::from_secs(seconds) + PATIENCE)?;
    }
    let mut late = [("commits", Vec::new()), ("does not", Vec::new())];
    for (followers, (_, late_ns)) in servers.into_iter().zip(&mut late) {
        for follower in followers {
            late_ns.extend(runtime.block_on(async { tokio::time::timeout(PATIENCE, follower).await })???);
        }
    }
    other.stop_server()?;
    lab.stop_server()?;
    Ok(late)
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
