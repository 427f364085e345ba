//! Real processes are killed, stopped, cut off and starved; every sample is stored once and true, or in a named gap.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use wavekeep_proto::chunk::Reason;
use wavekeep_system_tests::cluster::Instance;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;
use wavekeep_system_tests::proxy::Proxy;
use wavekeep_system_tests::truth::{Report, check_lab};

const SPEC: &str = "js220,rate=200000,seed=11,loss=1e-5";
const PATIENCE: Duration = Duration::from_secs(90);

fn record(lab: &Lab, device: &str, seconds: u32, more: &[&str]) -> Process {
    record_at(lab, &lab.url(), device, seconds, more)
}

fn record_at(lab: &Lab, url: &str, device: &str, seconds: u32, more: &[&str]) -> Process {
    let duration = format!("{seconds}s");
    let mut options = vec!["--device", device, "--simulate", SPEC, "--duration", &duration];
    options.extend(more);
    lab.agent_at(url, device, &["run"], &options).expect("the agent starts")
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Different on every run, and printed.
fn random_ms(from: u64, to: u64) -> u64 {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").expect("Linux"), &mut bytes).expect("Linux");
    let ms = from + u64::from_le_bytes(bytes) % (to - from);
    eprintln!("waits {ms} ms");
    ms
}

/// So many seconds of the instrument, which are captured whatever the link does: no sample less, and none more.
#[track_caller]
fn all_of(report: &Report, seconds: u64) {
    only_source_losses(report);
    assert_eq!(report.samples + report.gap_samples(), seconds * 200_000, "{report:?}");
}

#[track_caller]
fn only_source_losses(report: &Report) {
    assert!(report.samples > 0, "nothing was recorded");
    let reasons: Vec<Reason> = report.gaps.keys().copied().collect();
    assert!(
        reasons.iter().all(|reason| *reason == Reason::SourceLoss),
        "gaps of other causes: {:?}",
        report.gaps
    );
}

#[test]
fn i1_i13_server_and_agent_killed_at_random_moments() {
    let mut lab = Lab::start().unwrap();
    let mut captured = BTreeMap::new();
    let mut first = record(&lab, "crash-1", 600, &[]);
    for _ in 0..3 {
        pause(random_ms(300, 1_500));
        lab.kill_server().unwrap();
        pause(random_ms(0, 700));
        lab.start_server().unwrap();
    }
    pause(random_ms(200, 1_000));
    lab.signal_postgres(Signal::SIGKILL).unwrap();
    pause(random_ms(200, 1_500));
    first.kill9().unwrap();
    captured.extend(lab.tails("crash-1").unwrap());
    let mut second = record(&lab, "crash-1", 3, &[]);
    wait_for("the second agent records", PATIENCE, || {
        Ok(lab
            .tails("crash-1")
            .is_ok_and(|tails| tails.keys().any(|stream| !captured.contains_key(stream))))
    })
    .unwrap();
    pause(random_ms(0, 1_500));
    second.kill9().unwrap();
    captured.extend(lab.tails("crash-1").unwrap());
    record(&lab, "crash-1", 3, &[]).wait_success(PATIENCE).unwrap();
    captured.extend(lab.tails("crash-1").unwrap());
    let (streams, report) = check_lab(&lab, "crash-1").unwrap();
    assert_eq!(streams, 3, "each opening of the device is an epoch of its own (I11)");
    assert_eq!(captured.len(), 3);
    // By the outboxes' own word, asked while nothing ran.
    assert_eq!(
        report.samples + report.gap_samples(),
        captured.values().sum::<u64>(),
        "I13: {captured:?}"
    );
    only_source_losses(&report);
    assert!(report.gap_samples() > 0, "the simulated instrument did lose samples");
}

#[test]
fn i1_link_cut_refused_and_held() {
    let lab = Lab::start().unwrap();
    let proxy = Proxy::start(lab.address()).unwrap();
    let mut agent = record_at(&lab, &proxy.url(), "cut-1", 8, &[]);
    for _ in 0..5 {
        pause(random_ms(200, 900));
        proxy.cut();
    }
    proxy.refuse(true);
    proxy.cut();
    pause(1_000);
    proxy.refuse(false);
    proxy.hold(true);
    pause(800);
    proxy.hold(false);
    agent.wait_success(PATIENCE).unwrap();
    assert!(proxy.accepted() >= 6, "the agent connected again and again");
    all_of(&check_lab(&lab, "cut-1").unwrap().1, 8);
}

#[test]
fn i14_bits_that_flip_on_the_way_are_noticed_and_sent_again() {
    let lab = Lab::start().unwrap();
    let proxy = Proxy::start(lab.address()).unwrap();
    let mut agent = record_at(&lab, &proxy.url(), "noise-1", 6, &[]);
    for _ in 0..3 {
        pause(random_ms(200, 900));
        proxy.corrupt(2);
    }
    wait_for("bits have flipped", PATIENCE, || Ok(proxy.to_corrupt() == 0)).unwrap();
    agent.wait_success(PATIENCE).unwrap();
    all_of(&check_lab(&lab, "noise-1").unwrap().1, 6);
}

#[test]
fn drain_on_sigterm_commits_what_was_accepted_and_ends_with_0() {
    let mut lab = Lab::start().unwrap();
    let mut agent = record(&lab, "drain-1", 5, &[]);
    pause(1_500);
    lab.stop_server().unwrap();
    lab.start_server().unwrap();
    agent.wait_success(PATIENCE).unwrap();
    all_of(&check_lab(&lab, "drain-1").unwrap().1, 5);
}

#[test]
fn capture_goes_on_without_a_server_and_is_sent_later() {
    let mut lab = Lab::start().unwrap();
    lab.kill_server().unwrap();
    let mut agent = record(&lab, "offline-1", 3, &[]);
    pause(5_000);
    assert!(!agent.has_ended().unwrap(), "it waits until all is acked");
    lab.start_server().unwrap();
    agent.wait_success(PATIENCE).unwrap();
    let (_, report) = check_lab(&lab, "offline-1").unwrap();
    all_of(&report, 3);
}

#[test]
fn database_that_hangs_then_dies_loses_nothing() {
    let lab = Lab::start().unwrap();
    let postmaster = lab.postmaster().unwrap();
    let mut agent = record(&lab, "database-1", 8, &[]);
    pause(1_000);
    let signal_all = |signal| lab.signal_postgres(signal).unwrap();
    signal_all(Signal::SIGSTOP);
    pause(1_500);
    signal_all(Signal::SIGCONT);
    // Slow: for two seconds it works a quarter of the time.
    for _ in 0..10 {
        signal_all(Signal::SIGSTOP);
        pause(150);
        signal_all(Signal::SIGCONT);
        pause(50);
    }
    nix::sys::signal::kill(postmaster, Signal::SIGKILL).unwrap();
    // The server starts its Postgres again.
    agent.wait_success(PATIENCE).unwrap();
    all_of(&check_lab(&lab, "database-1").unwrap().1, 8);
}

#[test]
fn a_server_waits_for_a_database_whose_connections_break_while_it_starts() {
    let database = Instance::start().unwrap();
    let way = Proxy::start(database.postgres.address()).unwrap();
    let (own, broken) = (database.postgres.address().to_string(), way.address().to_string());
    let mut lab = Lab::on(&database.postgres.tcp_url().replace(&own, &broken)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let since = Instant::now();
            let mut seen = 0;
            // The first connection asks whether somebody answers. The second one looks whether the database can be used.
            for turn in 0..12 {
                while way.accepted() < seen + 2 && since.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_micros(200));
                }
                pause(turn % 4);
                way.cut();
                seen = way.accepted();
            }
        });
        lab.start_server().unwrap();
    });
}

#[test]
fn i7_second_agent_on_one_outbox_is_refused_with_one_sentence() {
    let lab = Lab::start().unwrap();
    let mut first = record(&lab, "twin-1", 4, &[]);
    pause(1_000);
    let mut second = record(&lab, "twin-1", 4, &[]);
    let status = second.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(status.code(), Some(1));
    let log = second.log();
    assert!(log.contains("outbox") && !log.contains("panicked"), "{log}");
    first.wait_success(PATIENCE).unwrap();
    all_of(&check_lab(&lab, "twin-1").unwrap().1, 4);
}

#[test]
fn i14_evicted_samples_are_a_named_gap() {
    let mut lab = Lab::start().unwrap();
    lab.kill_server().unwrap();
    // About 30 MB a second, 120 MB in all, into the smallest quota.
    let options = [
        "--device",
        "evict-1",
        "--simulate",
        "js220,rate=2000000,seed=5,speed=4",
        "--duration",
        "16s",
        "--quota",
        "64MiB",
        "--when-full",
        "evict",
    ];
    let mut agent = lab.agent("evict-1", &["run"], &options).unwrap();
    wait_for("samples are evicted", PATIENCE, || {
        Ok(agent.log().contains("were evicted"))
    })
    .unwrap();
    lab.start_server().unwrap();
    agent.wait_success(PATIENCE).unwrap();
    let (_, report) = check_lab(&lab, "evict-1").unwrap();
    let evicted = report.gaps.get(&Reason::Evicted).copied().unwrap_or_default();
    assert!(evicted > 0, "it does not fit: {report:?}");
    assert!(report.samples > 0, "the newest samples are kept: {report:?}");
    let others = report
        .gaps
        .keys()
        .filter(|reason| !matches!(reason, Reason::Evicted | Reason::SourceLoss));
    assert_eq!(others.count(), 0, "{report:?}");
    assert_eq!(
        report.samples + report.gap_samples(),
        32_000_000,
        "16 s at 2 MSPS: {report:?}"
    );
}

#[test]
fn i11_power_cut_of_the_agent_adopts_what_the_server_has() {
    let lab = Lab::start().unwrap();
    let mut agent = record(&lab, "power-1", 600, &["--fsync", "never"]);
    pause(3_000);
    agent.kill9().unwrap();
    // What a power cut takes: the end of the write-ahead log that was never synced.
    let cut = lab.cut_outbox_log("power-1", 0.5).unwrap();
    assert!(cut > 0, "the log held something");
    let mut next = record(&lab, "power-1", 2, &[]);
    next.wait_success(PATIENCE).unwrap();
    assert!(
        next.log().contains("continuing from the server's"),
        "it adopts: {}",
        next.log()
    );
    let (streams, report) = check_lab(&lab, "power-1").unwrap();
    assert_eq!(streams, 2);
    only_source_losses(&report);
}
