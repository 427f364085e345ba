//! `make bench BENCH=reading`: how long a picture of 2,000 points takes from ranges of any length, alone and beside ingest; how fast
//! samples are read; and, in the same run, the same picture from a row per sample, and from a local file by the official library.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wavekeep::{Client, Distribution, Part, Selection, TimeRange};
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::stored;

use crate::peers;

const DEVICE: &str = "js220-read";
/// Of the instrument's time at 1 MSPS. WAVEKEEP_BENCH_SECONDS changes it.
const SECONDS: u64 = 600;
const POINTS: u32 = 2_000;
const ROUNDS: usize = 100;
/// Half of the budgeted speed of ingest, in encoded bytes.
const HALF_SPEED: &str = "40MB";

/// Runs all and prints it.
pub(crate) fn run() -> Result<()> {
    let seconds = crate::size("WAVEKEEP_BENCH_SECONDS", SECONDS);
    let mut lab = Lab::start()?;
    let mut agent = lab.agent("read", &["run"], &simulated(DEVICE, &format!("{seconds}s"), &[]))?;
    agent.wait_success(Duration::from_secs(600))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        println!("{POINTS} points of one signal, from {seconds} s at 1 MSPS, over gRPC\n");
        println!("| range | p50 ms | p99 ms | p50 beside ingest | p99 beside ingest |");
        println!("|---|---|---|---|---|");
        let lengths = lengths(seconds);
        let mut alone = Vec::new();
        for length in &lengths {
            alone.push(pictures(&lab, *length).await?);
        }
        // Before the ingest, of which the database has work for a while after it.
        let mut folded = Vec::new();
        for length in &lengths {
            folded.push((*length, statistics(&lab, *length).await?));
        }
        let options = simulated(
            "js220-ingest",
            "1h",
            &["--upload-limit", HALF_SPEED, "--quota", "1GiB", "--when-full", "block"],
        );
        let mut ingest = lab.agent("ingest", &["run"], &options)?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = stored_values(&lab, "js220-ingest").await?;
        let since = Instant::now();
        for (length, alone) in lengths.iter().zip(&alone) {
            let beside = pictures(&lab, *length).await?;
            let name = if *length >= seconds as f64 {
                "the whole".to_owned()
            } else {
                format!("{length} s")
            };
            println!(
                "| {name} | {:.1} | {:.1} | {:.1} | {:.1} |",
                alone.0, alone.1, beside.0, beside.1
            );
        }
        let ingested = (stored_values(&lab, "js220-ingest").await? - before) / since.elapsed().as_secs_f64();
        ingest.kill9()?;
        let (second, whole) = (alone[0].0, alone[alone.len() - 1].0);
        println!(
            "\nbeside an ingest of {:.0} M f32/s; the whole takes {:.2} of a second's time",
            ingested / 1e6,
            whole / second
        );
        all_statistics(&lab, &folded, seconds).await?;
        println!(
            "samples to a Rust client, verified: {:.0} M f32/s",
            samples(&lab, 60.min(seconds)).await?
        );
        let (bucketed_ms, bucketed_s) = peers::time_bucket(&lab.database_url()?, POINTS).await?;
        println!("the same from a row per sample by time: {bucketed_ms:.0} ms for {bucketed_s} s");
        match peers::pyjls(lab.folder(), seconds, POINTS) {
            Ok(ms) => println!("the same by pyjls from a local file of {seconds} s, the whole: {ms:.1} ms"),
            Err(error) => println!("pyjls could not be asked: {error:#}"),
        }
        anyhow::Ok(())
    })?;
    lab.stop_server()
}

async fn all_statistics(lab: &Lab, folded: &[(f64, (f64, f64))], seconds: u64) -> Result<()> {
    println!("\n| range | statistics of current and power, p50 ms | p99 ms |\n|---|---|---|");
    for (length, (p50, p99)) in folded {
        println!("| {length} s | {p50:.1} | {p99:.1} |");
    }
    let looked_at = 60.min(seconds);
    for signal in ["current", "power"] {
        let speed = distribution(lab, looked_at, signal).await?;
        println!("percentiles 1, 50 and 99 and 40 bins of {looked_at} s of {signal}: {speed:.0} M samples/s");
    }
    Ok(())
}

fn lengths(seconds: u64) -> Vec<f64> {
    let all = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0].into_iter();
    all.filter(|length| *length < seconds as f64)
        .chain([seconds as f64])
        .collect()
}

fn simulated<'a>(device: &'a str, duration: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut options = vec![
        "--device",
        device,
        "--simulate",
        "js220,rate=1000000,seed=7,speed=max",
        "--duration",
        duration,
    ];
    options.extend(more);
    options
}

async fn stored_values(lab: &Lab, device: &str) -> Result<f64> {
    let mut connection = stored::sql(&lab.database_url()?).await?;
    let sql =
        "SELECT coalesce(sum(sample_count * cardinality(signal_numbers)), 0)::float8 FROM stream WHERE device = $1";
    Ok(sqlx::query_scalar(sql).bind(device).fetch_one(&mut connection).await?)
}

/// The stream's start and end.
async fn times_ns(lab: &Lab) -> Result<(i64, i64)> {
    let mut connection = stored::sql(&lab.database_url()?).await?;
    let sql = "SELECT min(first_time_ns), max(last_time_ns) FROM stream WHERE device = $1";
    Ok(sqlx::query_as(sql).bind(DEVICE).fetch_one(&mut connection).await?)
}

/// Where so many ranges begin: anywhere within the slack, the same each time.
fn beginnings(first: i64, slack: i64) -> impl Iterator<Item = i64> {
    let places = std::iter::successors(Some(0x5eed_u64), |place| {
        let next = place.wrapping_mul(6_364_136_223_846_793_005);
        Some(next.wrapping_add(1_442_695_040_888_963_407))
    });
    let places = places.skip(1).take(ROUNDS);
    places.map(move |place| first + (place % slack.max(1) as u64) as i64)
}

/// p50 and p99 in ms, of ranges of this length that begin anywhere.
async fn pictures(lab: &Lab, length_s: f64) -> Result<(f64, f64)> {
    let (first, last) = times_ns(lab).await?;
    let client = Client::connect(&lab.url(), "main").await?;
    let length = ((length_s * 1e9) as i64).min(last - first);
    let mut times_ms = Vec::new();
    for from in beginnings(first, last - first - length) {
        let since = Instant::now();
        let columns = picture(&client, from, from + length).await?;
        times_ms.push(since.elapsed().as_secs_f64() * 1e3);
        ensure!(
            columns > POINTS as usize / 3 && columns <= POINTS as usize,
            "{columns} columns"
        );
    }
    times_ms.sort_by(f64::total_cmp);
    Ok((times_ms[ROUNDS / 2], times_ms[ROUNDS * 99 / 100]))
}

/// p50 and p99 in ms of the statistics of ranges of this length that begin anywhere.
async fn statistics(lab: &Lab, length_s: f64) -> Result<(f64, f64)> {
    let (first, last) = times_ns(lab).await?;
    let client = Client::connect(&lab.url(), "main").await?;
    let length = ((length_s * 1e9) as i64).min(last - first);
    let mut times_ms = Vec::new();
    for from in beginnings(first, last - first - length) {
        let range = TimeRange {
            from_ns: Some(from),
            to_ns: Some(from + length),
        };
        let selection = Selection::device(DEVICE).range(range).signals(["current", "power"]);
        let since = Instant::now();
        let found = client.statistics(&selection).await?;
        times_ms.push(since.elapsed().as_secs_f64() * 1e3);
        ensure!(found.len() == 2, "{} statistics", found.len());
    }
    times_ms.sort_by(f64::total_cmp);
    Ok((times_ms[ROUNDS / 2], times_ms[ROUNDS * 99 / 100]))
}

/// M samples/s of the percentiles and the histogram of the first seconds.
async fn distribution(lab: &Lab, seconds: u64, signal: &str) -> Result<f64> {
    let (first, _) = times_ns(lab).await?;
    let client = Client::connect(&lab.url(), "main").await?;
    let range = TimeRange {
        from_ns: None,
        to_ns: Some(first + seconds as i64 * 1_000_000_000),
    };
    let asked = Distribution {
        percentiles: vec![1.0, 50.0, 99.0],
        bins: 40,
        ..Distribution::default()
    };
    let selection = Selection::device(DEVICE).range(range).signals([signal]);
    let since = Instant::now();
    let found = client.distribution(&selection, &asked).await?;
    ensure!(
        found[0].finite_count == seconds * 1_000_000,
        "{}",
        found[0].finite_count
    );
    Ok(found[0].finite_count as f64 / since.elapsed().as_secs_f64() / 1e6)
}

async fn picture(client: &Client, from_ns: i64, to_ns: i64) -> Result<usize> {
    let range = TimeRange {
        from_ns: Some(from_ns),
        to_ns: Some(to_ns),
    };
    let selection = Selection::device(DEVICE).range(range).signals(["current"]);
    let (mut answer, mut columns) = (client.columns(&selection, POINTS).await?, 0);
    while let Some(part) = answer.next().await? {
        if let Part::Columns(part) = part {
            columns += part.count.len();
        }
    }
    Ok(columns)
}

/// M f32/s of the first seconds of both signals, each chunk verified.
async fn samples(lab: &Lab, seconds: u64) -> Result<f64> {
    let (first, _) = times_ns(lab).await?;
    let client = Client::connect(&lab.url(), "main").await?;
    let range = TimeRange {
        from_ns: None,
        to_ns: Some(first + seconds as i64 * 1_000_000_000),
    };
    let selection = Selection::device(DEVICE).range(range);
    let since = Instant::now();
    let (mut waveform, mut values) = (client.waveform(&selection).await?, 0);
    while let Some(part) = waveform.next().await? {
        if let Part::Samples(block) = part {
            values += block.count * block.columns.len() as u64;
        }
    }
    ensure!(values == 2 * seconds * 1_000_000, "{values} values");
    Ok(values as f64 / since.elapsed().as_secs_f64() / 1e6)
}
