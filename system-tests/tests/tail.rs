//! Who follows what is committed: nothing is missed and nothing comes twice, whichever server it is asked of, and whatever ends them.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wavekeep::proto::id::{Hash, StreamId};
use wavekeep::{Client, Selection, TailFrom};
use wavekeep_system_tests::lab::{Lab, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
const KILLS: usize = 4;

/// What came of each stream: seqs and digests, in the order in which they came.
#[derive(Default)]
struct Came {
    chunks: BTreeMap<StreamId, Vec<(u64, Hash)>>,
    /// From the commit to here.
    late_ns: Vec<i64>,
    connections: usize,
}

fn utc_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

/// Asks one server after the other for a few chunks each, up to the end of so many streams.
async fn follow(urls: &[String], selection: &Selection, ends: usize) -> Came {
    let (mut came, mut from, mut ended) = (Came::default(), TailFrom::Start, 0);
    while ended < ends {
        came.connections += 1;
        let url = &urls[came.connections % urls.len()];
        let connected = Client::connect(url, "main").await;
        let answer = match &connected {
            Ok(client) => client.tail(selection, from.clone()).await,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let mut tail = match answer {
            Ok(tail) => tail,
            Err(error) if error.is_passing() => continue,
            Err(error) => panic!("{error}"),
        };
        for _ in 0..(came.connections * 7) % 31 + 1 {
            let next = tokio::time::timeout(PATIENCE, tail.next()).await.unwrap();
            let committed = match next {
                Ok(committed) => committed,
                Err(error) if error.is_passing() => break,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(committed.expired, None);
            let id = committed.stream.id();
            came.late_ns.push(utc_ns() - committed.loaded_at_ns);
            ended += usize::from(committed.header.reason.is_end());
            let seq = committed.header.seq;
            let digest = tail.cursors()[&id].digest.unwrap();
            came.chunks.entry(id).or_default().push((seq, digest));
            if ended == ends {
                break;
            }
        }
        from = TailFrom::After(tail.cursors().clone());
    }
    came
}

fn simulated(lab: &Lab, device: &str, duration: &str) -> wavekeep_system_tests::process::Process {
    let options = [
        "--device",
        device,
        "--simulate",
        "js220,rate=100000,seed=7",
        "--duration",
        duration,
    ];
    lab.agent(device, &["run", "--chunk-period", "50ms"], &options).unwrap()
}

/// Seqs and digests of each stream, as they are stored.
fn stored(lab: &Lab, device: &str) -> BTreeMap<StreamId, Vec<(u64, Hash)>> {
    let listed = lab
        .reader(&[
            "--json",
            "chunks",
            "--limit",
            "0",
            "--first-samples",
            "0",
            "--device",
            device,
        ])
        .unwrap();
    let mut chunks: BTreeMap<StreamId, Vec<(u64, Hash)>> = BTreeMap::new();
    for line in listed.lines() {
        let chunk: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = chunk["stream"].as_str().unwrap().parse().unwrap();
        let digest = chunk["digest"].as_str().unwrap().parse().unwrap();
        chunks
            .entry(id)
            .or_default()
            .push((chunk["seq"].as_u64().unwrap(), digest));
    }
    chunks
}

#[test]
fn i1_who_comes_back_misses_nothing_and_gets_nothing_twice() {
    let lab = Lab::start().unwrap();
    // It is printed when all is ready.
    wait_for("the database's URL", PATIENCE, || Ok(lab.database_url().is_ok())).unwrap();
    let mut other = Lab::on(&lab.database_url().unwrap()).unwrap();
    other.start_server().unwrap();
    let urls = [lab.url(), other.url()];
    let mut agents = [simulated(&lab, "first", "6s"), simulated(&lab, "second", "4s")];
    let follower = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(follow(&urls, &Selection::everything(), 2))
    });
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(700));
        if kill % 2 == 0 {
            other.kill_server().unwrap();
        } else {
            other.stop_server().unwrap();
        }
        other.start_server().unwrap();
    }
    for agent in &mut agents {
        agent.wait_success(PATIENCE).unwrap();
    }
    let came = follower.join().unwrap();
    let mut expected = stored(&lab, "first");
    expected.extend(stored(&lab, "second"));
    assert_eq!(came.chunks, expected);
    assert!(came.connections > 10, "{}", came.connections);
    let mut late_ns = came.late_ns;
    late_ns.sort_unstable();
    let at = |share: f64| late_ns[((late_ns.len() - 1) as f64 * share) as usize] / 1_000_000;
    println!(
        "{} chunks over {} connections; committed to here, ms: p50 {}, p99 {}",
        late_ns.len(),
        came.connections,
        at(0.5),
        at(0.99)
    );
}

#[test]
fn i1_from_now_on_is_what_comes_and_a_server_that_stops_says_so_at_once() {
    let mut lab = Lab::start().unwrap();
    simulated(&lab, "old", "1s").wait_success(PATIENCE).unwrap();
    let url = lab.url();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut tail = runtime.block_on(async {
        let client = Client::connect(&url, "main").await.unwrap();
        let mut tail = client.tail(&Selection::everything(), TailFrom::Now).await.unwrap();
        tail.begin().await.unwrap();
        assert_eq!(tail.cursors().len(), 1, "the one that there is");
        tail
    });
    simulated(&lab, "new", "1s").wait_success(PATIENCE).unwrap();
    let mut seqs = Vec::new();
    runtime.block_on(async {
        loop {
            let committed = tokio::time::timeout(PATIENCE, tail.next()).await.unwrap().unwrap();
            assert_eq!(committed.stream.definition.device, "new");
            seqs.push(committed.header.seq);
            if committed.header.reason.is_end() {
                break;
            }
        }
    });
    let (_, new) = stored(&lab, "new").pop_first().unwrap();
    assert_eq!(seqs, new.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
    lab.stop_server().unwrap();
    let error = runtime.block_on(tail.next()).unwrap_err();
    assert!(
        error.is_passing() && error.to_string().contains("ask another one"),
        "{error}"
    );
    let cut_off = std::fs::read_dir(lab.folder()).unwrap().any(|entry| {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        text.contains("are cut off")
    });
    assert!(!cut_off, "nobody was waited for");
}

/// `wavekeep tail` with a state: each line once, over many runs.
#[test]
fn i1_the_command_goes_on_where_its_state_says() {
    let lab = Lab::start().unwrap();
    let mut agent = simulated(&lab, "bench", "3s");
    let known = || Ok(lab.reader(&["--json", "devices"])?.contains("bench"));
    wait_for("the device is known", PATIENCE, known).unwrap();
    let state = lab.folder().join("state.json");
    let state = state.to_str().unwrap();
    let mut seqs = Vec::new();
    let mut is_over = false;
    while !is_over {
        // One at a time: the end comes in any case, and nothing after it.
        let arguments = [
            "--json",
            "tail",
            "--device",
            "bench",
            "--from-start",
            "--limit",
            "1",
            "--state",
            state,
        ];
        let line = lab.reader(&arguments).unwrap();
        let chunk: serde_json::Value = serde_json::from_str(&line).unwrap();
        seqs.push(chunk["seq"].as_u64().unwrap());
        let current = &chunk["signals"]["current"];
        is_over = chunk["kind"] == "end";
        assert!(is_over || current["min"].as_f64() <= current["max"].as_f64(), "{line}");
    }
    agent.wait_success(PATIENCE).unwrap();
    let last = *seqs.last().unwrap();
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>());
    assert!(last > 50, "{last}");
}

/// A name of the selection need not be a signal of every stream, and what is derived is not followed.
#[test]
fn streams_with_some_of_the_signals_are_followed() {
    let lab = Lab::start().unwrap();
    let file = lab.folder().join("ticks.raw");
    std::fs::write(&file, [0; 40]).unwrap();
    let verb = ["replay", file.to_str().unwrap()];
    let of = "--device counter --format raw --dtype i32 --rate 10 --start 2026-03-01T00:00:00Z --signal ticks:s";
    let mut counter = lab.agent("counter", &verb, &of.split(' ').collect::<Vec<_>>()).unwrap();
    counter.wait_success(PATIENCE).unwrap();
    let mut agent = simulated(&lab, "live", "3s");
    // A name that no stream has yet is refused.
    let chunks = ["--json", "chunks", "--device", "live", "--limit", "1"];
    let stored = || Ok(lab.reader(&chunks).is_ok_and(|listed| listed.contains("live")));
    wait_for("something of it is stored", PATIENCE, stored).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::connect(&lab.url(), "main").await.unwrap();
        let both = Selection::everything().signals(["current", "ticks"]);
        let mut tail = client.tail(&both, TailFrom::Start).await.unwrap();
        let (mut ends, mut of_device) = (0, BTreeMap::<String, usize>::new());
        while ends < 2 {
            let committed = tokio::time::timeout(PATIENCE, tail.next()).await.unwrap().unwrap();
            ends += usize::from(committed.header.reason.is_end());
            let columns = committed.block.map_or(0, |block| block.columns.len());
            assert!(columns <= 1, "of its own signal alone");
            *of_device.entry(committed.stream.definition.device.clone()).or_default() += columns;
        }
        assert_eq!(of_device["counter"], 1);
        assert!(of_device["live"] > 50, "{of_device:?}");
        let power = Selection::device("live").signals(["power"]);
        let mut tail = client.tail(&power, TailFrom::Start).await.unwrap();
        let error = tail.begin().await.unwrap_err();
        assert!(error.to_string().contains("follow current and voltage"), "{error}");
    });
    agent.wait_success(PATIENCE).unwrap();
}
