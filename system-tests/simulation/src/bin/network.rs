//! Runs one seed of the world on the simulated network, in this process alone, and prints what became of it:
//! `network SEED [--log]`. A line for each counter; exit 1 where the oracle found something, with the reason on the last line.
//!
//! # Invariants
//! - Everything that comes from outside the program is made from the seed: the operating system's random bytes (the keys of hash maps,
//!   `select!`, identifiers) and its clocks (HTTP's dates). So this program answers for the C library's `getrandom` and
//!   `clock_gettime`, which all of its libraries call.

use std::process::ExitCode;
use std::sync::Mutex;

use wavekeep_simulation::network::{self, Outcome};

/// What the operating system would give.
mod outside {
    #![allow(unsafe_code)]

    use std::sync::atomic::{AtomicU64, Ordering};

    static RANDOM: AtomicU64 = AtomicU64::new(0);
    static NANOSECONDS: AtomicU64 = AtomicU64::new(0);

    /// From here on the same for the same seed.
    pub(super) fn seed(seed: u64) {
        RANDOM.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::Relaxed);
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next() -> u64 {
        let state = RANDOM.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In the place of the C library's.
    #[unsafe(no_mangle)]
    extern "C" fn getrandom(to: *mut u8, length: usize, _flags: u32) -> isize {
        for place in 0..length {
            // SAFETY: whoever calls getrandom(2) hands over `length` bytes at `to` to be written.
            unsafe { to.add(place).write(next() as u8) };
        }
        isize::try_from(length).unwrap_or(isize::MAX)
    }

    /// As the C library has it on the systems that this is built for.
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }

    /// In the place of the C library's: every clock goes on by a microsecond when it is asked.
    #[unsafe(no_mangle)]
    extern "C" fn clock_gettime(_clock: i32, to: *mut Time) -> i32 {
        let now = NANOSECONDS.fetch_add(1_000, Ordering::Relaxed);
        let time = Time {
            seconds: 1_767_225_600 + (now / 1_000_000_000) as i64,
            nanoseconds: (now % 1_000_000_000) as i64,
        };
        // SAFETY: whoever calls clock_gettime(2) hands over a place for the time.
        unsafe { to.write(time) };
        0
    }
}

/// A panic in any task is a finding, also where the product would catch it.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(seed) = arguments.first().and_then(|text| text.parse().ok()) else {
        eprintln!("which seed? network SEED [--log]");
        return ExitCode::from(2);
    };
    outside::seed(seed);
    let with_log = arguments.iter().any(|argument| argument == "--log");
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        if let Ok(mut first) = PANIC.lock() {
            first.get_or_insert_with(|| info.to_string().replace('\n', " "));
        }
    }));
    let outcome = std::panic::catch_unwind(|| network::run(seed, with_log));
    let panic = PANIC.lock().ok().and_then(|mut first| first.take());
    let broken = match outcome {
        Ok(outcome) => {
            print(&outcome);
            panic.or(outcome.broken)
        }
        Err(_) => panic.or_else(|| Some("it panics".into())),
    };
    match broken {
        Some(what) => {
            println!("broken {what}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn print(outcome: &Outcome) {
    outcome.lines.iter().for_each(|line| println!("log {line}"));
    for (fault, count) in &outcome.faults {
        println!("count fault_{fault:?} {count}");
    }
    for (name, count) in outcome.counters.named() {
        println!("count {name} {count}");
    }
    println!("count simulated_ms {}", outcome.lasted.as_millis());
    println!("count memory_bytes_max {}", outcome.memory_bytes_max);
}
