//! The kit finds what each of these sources does wrong, and nothing wrong with a good one.

use std::sync::Arc;

use wavekeep_proto::stream::{SampleType, Signal};

use super::*;
use crate::clock::SystemClock;
use crate::source::simulated::SimulatedSource;
use crate::source::{Column, Description, StreamShape};

const RATE_HZ: f64 = 1_000.0;
const BLOCK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Well,
    /// It counts what it delivers, not what its instrument takes.
    CountsItself,
    /// It looks for a stop too rarely.
    Deaf,
    /// It passes over what the sink says.
    Stubborn,
    StepsBack,
    HalfAColumn,
    /// Its instrument is twice as fast as it says.
    Fast,
    EndsByItself,
    ChangesItsName,
}

struct Odd(How, u32);

impl Source for Odd {
    fn describe(&self) -> Description {
        let signal = Signal {
            number: 0,
            name: "voltage".into(),
            sample_type: SampleType::F32,
            unit: "V".into(),
            finite_only: false,
        };
        let renamed = if self.0 == How::ChangesItsName { self.1 } else { 0 };
        Description {
            device: format!("odd-{renamed}"),
            attributes: BTreeMap::new(),
            file: None,
            streams: vec![StreamShape {
                signals: vec![signal],
                rate_hz: RATE_HZ,
                first_sample: 0,
            }],
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let Self(how, _) = *self;
        let since = Instant::now();
        let mut next = 0;
        loop {
            if stop.wait(BLOCK) {
                if how == How::Deaf {
                    std::thread::sleep(Duration::from_millis(400));
                }
                return Ok(());
            }
            let count = match how {
                How::CountsItself => 10,
                How::Fast => 20,
                _ => (since.elapsed().as_secs_f64() * RATE_HZ) as u64 - next,
            };
            let samples = vec![1.0; count as usize / if how == How::HalfAColumn { 2 } else { 1 }];
            let first_sample = if how == How::StepsBack && next > 50 {
                next - 1
            } else {
                next
            };
            let delivered = sink.samples(
                0,
                &Block {
                    first_sample,
                    count,
                    columns: &[Column::F32(&samples)],
                },
            );
            if how != How::Stubborn {
                delivered?;
            }
            if how == How::EndsByItself && next > 50 {
                return Err(SourceError::Device("it had enough".into()));
            }
            next += count;
        }
    }
}

fn options() -> Options {
    Options {
        time: Duration::from_millis(400),
        // Other tests run beside this one.
        rate_tolerance: 0.4,
        stop_within: Duration::from_millis(200),
        stall: Duration::from_millis(1_000),
        ..Options::default()
    }
}

/// What is wrong, in the kit's words.
fn wrong(how: How) -> Vec<String> {
    let mut opened = 0;
    let report = check(
        &mut || {
            opened += 1;
            Box::new(Odd(how, opened))
        },
        &options(),
    );
    report
        .checks
        .into_iter()
        .filter_map(|(_, outcome)| outcome.err())
        .collect()
}

#[test]
fn each_rule_that_is_broken_is_found_and_nothing_else() {
    // Most of the time they wait.
    let mut checks = Vec::new();
    for (how, words) in [
        (How::CountsItself, "stands at the wrong sample"),
        (How::Deaf, "ms after the stop"),
        (How::Stubborn, "did not come back"),
        (How::StepsBack, "step back"),
        (How::HalfAColumn, "are needed"),
        (How::Fast, "were to"),
        (How::EndsByItself, "it had enough"),
        (How::ChangesItsName, "another device"),
    ] {
        checks.push((how, words, std::thread::spawn(move || wrong(how))));
    }
    for (how, words, check) in checks {
        let found = check.join().expect("the kit does not panic");
        assert!(found.iter().any(|found| found.contains(words)), "{how:?}: {found:?}");
    }
    assert_eq!(wrong(How::Well), [""; 0]);
}

#[test]
fn a_simulated_instrument_conforms() {
    let mut open = || -> Box<dyn Source> {
        let spec = "js220,rate=10000,seed=7,loss=2e-4"
            .parse()
            .expect("it is a specification");
        Box::new(SimulatedSource::new("bench", spec, Arc::new(SystemClock::new())))
    };
    let report = check(&mut open, &options());
    assert!(report.is_conforming(), "{report}");
}
