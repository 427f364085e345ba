//! The real shells of agents and servers in a seeded, hostile world on a simulated network: one process a seed.
//!
//! - `WAVEKEEP_SEEDS=n` runs so many seeds, from `WAVEKEEP_SEED_FROM` (1) on.
//! - `WAVEKEEP_SEED=n` runs one, and tells what happened in it.
//! - `WAVEKEEP_KEEP_GOING=1` counts the seeds that fail instead of stopping at the first.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What `make test` runs.
const SEEDS_DEFAULT: u64 = 200;
/// From so many seeds on, enough must have happened in them.
const SEEDS_TO_COUNT: u64 = 200;
/// What must happen at least, per thousand seeds: about a third of what does.
const LEAST_PER_THOUSAND: [(&str, u64); 42] = [
    ("adoptions", 550),
    ("ambiguous_commits", 500),
    ("batches_lost", 240),
    ("bits_flipped", 400),
    ("chunks_captured", 42_000),
    ("chunks_sent", 55_000),
    ("commits", 23_000),
    ("database_losses", 1_600),
    ("divergences", 120),
    ("fault_Ambiguous", 600),
    ("fault_BreakDatabase", 270),
    ("fault_CloneAgent", 110),
    ("fault_DrainServer", 250),
    ("fault_FailOver", 200),
    ("fault_FlipDisk", 400),
    ("fault_FlipDown", 470),
    ("fault_FlipUp", 430),
    ("fault_Hold", 170),
    ("fault_KillAgent", 190),
    ("fault_KillServer", 340),
    ("fault_Latency", 230),
    ("fault_LoseStream", 140),
    ("fault_OneWay", 190),
    ("fault_Partition", 250),
    ("fault_PowerCut", 200),
    ("fault_Relabel", 350),
    ("fault_ResetDown", 530),
    ("fault_ResetUp", 560),
    ("fault_RestartDatabase", 150),
    ("fault_RollBack", 400),
    ("fault_SlowDatabase", 210),
    ("fault_StepClock", 330),
    ("fault_Throttle", 270),
    ("fenced", 2_000),
    ("late_commits", 130),
    ("rewinds", 690),
    ("rows_corrupt", 140),
    ("rows_lost_by_server", 130),
    ("rows_samples", 33_000),
    ("rows_source_gap", 1_600),
    ("sessions", 6_500),
    ("successors", 110),
];
/// What comes in one seed of two hundred, and then often: looked for where so many seeds would all but always have it.
const RARE: [&str; 1] = ["blocked_stores"];
const SEEDS_TO_SEE_RARE: u64 = 2_000;
/// What is explained, and yet a loss, stays rare: about three times what happens.
const MOST_PER_THOUSAND: [(&str, u64); 2] = [("forgotten", 2_600), ("known_limit", 300)];

type Counts = BTreeMap<String, u64>;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// What the process of a seed prints.
fn output(seed: u64, with_log: bool) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_network"));
    command.arg(seed.to_string()).env("RUST_BACKTRACE", "0");
    if with_log {
        command.arg("--log");
    }
    let output = command.output().expect("the program is built beside this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = output.status.success() || text.lines().any(|line| line.starts_with("broken "));
    assert!(told, "seed {seed} ended with {}: {text}", output.status);
    text
}

/// Adds what was counted; what is wrong, if anything?
fn read(text: &str, counts: &mut Counts) -> Option<String> {
    let mut broken = None;
    for line in text.lines() {
        if let Some(what) = line.strip_prefix("broken ") {
            broken = Some(what.to_owned());
        } else if let Some((name, count)) = line.strip_prefix("count ").and_then(|rest| rest.split_once(' ')) {
            *counts.entry(name.to_owned()).or_insert(0) += count.parse::<u64>().expect("a count");
        }
    }
    broken
}

/// Runs seeds on every core; how many failed?
fn run(from: u64, seeds: u64, keep_going: bool) -> (Counts, u64) {
    let (next, failed) = (AtomicU64::new(from), AtomicU64::new(0));
    let (stop, counts) = (AtomicBool::new(false), Mutex::new(Counts::new()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return;
            }
            let text = output(seed, false);
            if let Some(what) = read(&text, &mut counts.lock().expect("nobody panics while counting")) {
                failed.fetch_add(1, Ordering::Relaxed);
                stop.store(!keep_going, Ordering::Relaxed);
                println!("seed {seed}: {what}\n  WAVEKEEP_SEED={seed} make simulate");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    (counts.into_inner().expect("nobody panicked"), failed.into_inner())
}

fn assert_enough_happened(seeds: u64, counts: &Counts) {
    let found = |name: &str| counts.get(name).copied().unwrap_or(0);
    for (name, least) in LEAST_PER_THOUSAND {
        let least = least * seeds / 1_000;
        assert!(
            found(name) >= least,
            "{name}: {} in {seeds} seeds is too little",
            found(name)
        );
    }
    for name in RARE.iter().filter(|_| seeds >= SEEDS_TO_SEE_RARE) {
        assert!(found(name) > 0, "{name}: none in {seeds} seeds");
    }
    for (name, most) in MOST_PER_THOUSAND {
        let most = most * seeds / 1_000;
        assert!(
            found(name) <= most,
            "{name}: {} in {seeds} seeds is too much",
            found(name)
        );
    }
}

#[test]
fn every_sample_is_stored_once_or_named_on_a_real_protocol_stack() {
    if let Some(seed) = number("WAVEKEEP_SEED") {
        let text = output(seed, true);
        println!("{text}");
        return assert_eq!(read(&text, &mut Counts::new()), None, "seed {seed}");
    }
    let from = number("WAVEKEEP_SEED_FROM").unwrap_or(1);
    let seeds = number("WAVEKEEP_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let (counts, failed) = run(from, seeds, number("WAVEKEEP_KEEP_GOING").is_some());
    println!("{seeds} seeds from {from} on the simulated network, {failed} failed");
    for (name, count) in &counts {
        println!("{count:>12}  {name}");
    }
    assert_eq!(failed, 0, "of {seeds} seeds");
    if seeds >= SEEDS_TO_COUNT {
        assert_enough_happened(seeds, &counts);
    }
}

#[test]
fn two_processes_of_a_seed_go_the_same_way() {
    let mut lines = 0;
    for seed in 1..=20 {
        let (one, other) = (output(seed, true), output(seed, true));
        let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed} went another way the second time");
        assert_eq!(one.len(), other.len(), "seed {seed}");
        lines += one.lines().count();
    }
    assert!(lines > 10_000, "the log tells what happened: {lines} lines");
}
