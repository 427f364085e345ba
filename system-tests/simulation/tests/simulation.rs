//! The pair test: agents and servers in a seeded, hostile world.
//!
//! - `WAVEKEEP_SEEDS=n` runs so many seeds, from `WAVEKEEP_SEED_FROM` (1) on.
//! - `WAVEKEEP_SEED=n` runs one, and tells what happened in it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wavekeep_simulation::counters::Counters;
use wavekeep_simulation::run;

/// What `make test` runs.
const SEEDS_DEFAULT: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}

/// What is wrong with a seed's world: the oracle's finding, or an assertion of the product's own.
fn broken(seed: u64, with_log: bool, counters: &mut Counters) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, with_log))) {
        Ok(outcome) => {
            counters.add(&outcome.counters);
            outcome.lines.iter().for_each(|line| println!("{line}"));
            outcome.broken
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Some(
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()))
                    .unwrap_or_default(),
            )
        }
    }
}

#[test]
fn every_sample_is_stored_once_or_named_whatever_happens() {
    let mut counters = Counters::default();
    if let Some(seed) = number("WAVEKEEP_SEED") {
        if let Some(what) = broken(seed, true, &mut counters) {
            panic!("seed {seed}: {what}");
        }
        return println!("{counters}");
    }
    let from = number("WAVEKEEP_SEED_FROM").unwrap_or(1);
    let seeds = number("WAVEKEEP_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let keep_going = number("WAVEKEEP_KEEP_GOING").is_some();
    let mut failed = 0;
    for seed in from..from + seeds {
        if let Some(what) = broken(seed, false, &mut counters) {
            failed += 1;
            println!("seed {seed}: {what}");
            println!(
                "  WAVEKEEP_SEED={seed} cargo test --release -p wavekeep-simulation --test simulation -- --nocapture"
            );
            assert!(keep_going, "seed {seed}: {what}");
        }
    }
    println!("{seeds} seeds from {from}, {failed} failed\n{counters}");
    assert_eq!(failed, 0, "of {seeds} seeds");
}
