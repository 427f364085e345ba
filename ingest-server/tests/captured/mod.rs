//! Streams of which every captured sample is known.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use wavekeep_proto::chunk::Reason;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_server::ledger::Row;
use wavekeep_server::rollup::envelope::Envelope;

use crate::common::{self, Fixture, Stream};

/// A seeded sequence (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }
}

/// A stream whose samples are small integers, so that sums are exact in any order, and the samples that it captured.
pub struct Captured {
    pub stream: Stream,
    pub axis: Vec<Option<f64>>,
}

impl Captured {
    pub fn new(rate_hz: f64) -> Self {
        let definition = StreamDefinition {
            rate_hz,
            ..common::definition()
        };
        Self {
            stream: Stream::of(definition),
            axis: Vec::new(),
        }
    }

    pub fn chunk(&mut self, dice: &mut Dice, longest: u64) -> Row {
        let count = 1 + dice.below(longest);
        match dice.below(10) {
            0 => self.gap(count),
            1 => self.gap(count * 5),
            _ => {
                let longest = 65_536 - self.stream.at.next_sample % 65_536;
                let values: Vec<f64> = (0..count.min(longest))
                    .map(|_| {
                        if dice.below(50) == 0 {
                            f64::NAN
                        } else {
                            dice.below(100) as f64 - 50.0
                        }
                    })
                    .collect();
                self.samples(&values)
            }
        }
    }

    pub fn samples(&mut self, values: &[f64]) -> Row {
        self.axis.extend(values.iter().copied().map(Some));
        let bits: Vec<u32> = values.iter().map(|value| (*value as f32).to_bits()).collect();
        self.stream.samples(&bits)
    }

    pub fn gap(&mut self, count: u64) -> Row {
        self.axis.extend(vec![None; count as usize]);
        self.stream.gap(count, Reason::DeviceOverflow)
    }

    /// Samples that are stored, and the fold of the finite ones; of power where `squared`.
    pub fn truth(&self, from: u64, to: u64, squared: bool) -> (u64, Envelope) {
        let range = (from as usize).min(self.axis.len())..(to as usize).min(self.axis.len());
        let stored = self.axis[range].iter().flatten();
        let values: Vec<f64> = stored
            .map(|value| if squared { value * value } else { *value })
            .collect();
        (values.len() as u64, Envelope::of(&values))
    }
}

/// A workspace with a stream of at least `until` samples, in chunks of at most `longest`.
pub async fn stored(rate_hz: f64, longest: u64, until: u64, seed: u64) -> (Fixture, Captured) {
    let (fixture, mut captured, mut dice) = (Fixture::new().await, Captured::new(rate_hz), Dice(seed));
    let owner = common::owner();
    fixture.open(&captured.stream, owner).await;
    while (captured.axis.len() as u64) < until {
        let before = captured.stream.at;
        let rows: Vec<Row> = (0..5).map(|_| captured.chunk(&mut dice, longest)).collect();
        assert_eq!(
            fixture
                .commit(&[common::entry(&captured.stream, owner, before, rows)])
                .await,
            [true]
        );
    }
    (fixture, captured)
}
