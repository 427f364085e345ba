//! What the ledger folds: every bucket, whatever the chunks, the groups, the owners and the servers, against the samples.

mod common;

use std::collections::BTreeSet;

use common::{Fixture, Stream, entry, owner, random};
use sqlx::Row as _;
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_server::ledger::Row;
use wavekeep_server::rollup::Levels;
use wavekeep_server::rollup::envelope::Envelope;
use wavekeep_server::store::PostgresLedger;

/// A seeded sequence (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }
}

/// A stream whose samples are small integers, so that sums are exact in any order, and the samples that it captured.
struct Captured {
    stream: Stream,
    axis: Vec<Option<f64>>,
}

impl Captured {
    fn new(rate_hz: f64) -> Self {
        let definition = StreamDefinition {
            rate_hz,
            ..common::definition()
        };
        Self {
            stream: Stream::of(definition),
            axis: Vec::new(),
        }
    }

    fn chunk(&mut self, dice: &mut Dice, longest: u64) -> Row {
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
                self.axis.extend(values.iter().copied().map(Some));
                let bits: Vec<u32> = values.iter().map(|value| (*value as f32).to_bits()).collect();
                self.stream.samples(&bits)
            }
        }
    }

    fn gap(&mut self, count: u64) -> Row {
        self.axis.extend(vec![None; count as usize]);
        self.stream.gap(count, Reason::DeviceOverflow)
    }

    /// Samples that are stored, and the fold of the finite ones; of power where `squared`.
    fn truth(&self, from: u64, to: u64, squared: bool) -> (u64, Envelope) {
        let range = (from as usize).min(self.axis.len())..(to as usize).min(self.axis.len());
        let stored = self.axis[range].iter().flatten();
        let values: Vec<f64> = stored
            .map(|value| if squared { value * value } else { *value })
            .collect();
        (values.len() as u64, Envelope::of(&values))
    }
}

const POWER: i32 = 65_536;

/// Every row of `envelope`: there if and only if its bucket is complete and has samples, and true.
async fn assert_envelopes(fixture: &Fixture, captured: &Captured, what: &str) {
    let stream = captured.stream.definition.id.to_vec();
    let sql =
        "SELECT signal, level::integer AS level, bucket, utc_ns, sample_count, finite_count, min, max, sum, sumsq,
                      child_sample_count, child_finite_count, child_min, child_max, child_sum, child_sumsq
                 FROM envelope WHERE stream_id = $1";
    let rows = sqlx::query(sql)
        .bind(stream)
        .fetch_all(&mut common::connect(&fixture.url, &fixture.workspace).await)
        .await
        .expect("it reads");
    let levels = Levels::of(&captured.stream.definition);
    let end = captured.axis.len() as u64;
    let mut expected = BTreeSet::new();
    for level in levels.first..8 {
        let size = 16u64.pow(level);
        let with_samples =
            (0..end / size).filter(|bucket| captured.truth(bucket * size, (bucket + 1) * size, false).0 > 0);
        for bucket in with_samples {
            [0, 40_000, POWER]
                .into_iter()
                .for_each(|signal| assert!(expected.insert((signal, level, bucket))));
        }
    }
    for row in &rows {
        let (signal, level, bucket) = (
            row.get::<i32, _>(0),
            row.get::<i32, _>(1) as u32,
            row.get::<i64, _>(2) as u64,
        );
        assert!(
            expected.remove(&(signal, level, bucket)),
            "{what}: {signal} {level} {bucket}: not twice, not too early"
        );
        let size = 16u64.pow(level);
        let start = bucket * size;
        let (stored, fold) = captured.truth(start, start + size, signal == POWER);
        assert_eq!(row.get::<i64, _>("sample_count") as u64, stored, "{what}");
        assert_eq!(row.get::<i64, _>("finite_count") as u64, fold.count, "{what}");
        let some = |value: f64| (fold.count > 0).then_some(value);
        assert_eq!(row.get::<Option<f64>, _>("min"), some(fold.min), "{what}");
        assert_eq!(row.get::<Option<f64>, _>("max"), some(fold.max), "{what}");
        assert_eq!(
            (row.get::<f64, _>("sum"), row.get::<f64, _>("sumsq")),
            (fold.sum, fold.sumsq),
            "{what}"
        );
        let ns = common::NOVEMBER_2026_NS + captured.stream.definition.duration_ns(start);
        assert!(
            (row.get::<i64, _>("utc_ns") - ns).abs() < 1_000,
            "{what}: {} is not {ns}",
            row.get::<i64, _>("utc_ns")
        );
        let child_min: Vec<Option<f64>> = row.get("child_min");
        let child_sums: Vec<Option<f64>> = row.get("child_sumsq");
        let child_counts: Vec<i64> = row.get("child_sample_count");
        for child in 0..16 {
            let from = start + child as u64 * (size / 16);
            let (stored, fold) = captured.truth(from, from + size / 16, signal == POWER);
            assert_eq!(child_counts[child] as u64, stored, "{what}");
            assert_eq!(child_min[child], (fold.count > 0).then_some(fold.min), "{what}");
            assert_eq!(child_sums[child], Some(fold.sumsq), "{what}");
        }
    }
    assert!(expected.is_empty(), "{what}: missing {:?}", expected.first());
}

/// Random chunks in random groups; now and then another owner (the same server, or one that has just started) goes on, and a group
/// of one who lost the stream is refused in between.
async fn grow(rate_hz: f64, longest: u64, until: u64, seed: u64) {
    let fixture = Fixture::new().await;
    let (mut captured, mut dice) = (Captured::new(rate_hz), Dice(seed));
    let mut other = PostgresLedger::new(fixture.ledger.database().clone());
    let mut owner_now = owner();
    fixture.open(&captured.stream, owner_now).await;
    while (captured.axis.len() as u64) < until {
        let before = captured.stream.at;
        let rows: Vec<Row> = (0..1 + dice.below(4))
            .map(|_| captured.chunk(&mut dice, longest))
            .collect();
        let group = entry(&captured.stream, owner_now, before, rows);
        match dice.below(6) {
            0 => {
                let fenced = entry(&captured.stream, owner(), before, group.rows.clone());
                assert_eq!(fixture.commit(&[fenced]).await, [false]);
                assert_eq!(fixture.commit(&[group]).await, [true]);
            }
            1 => {
                // Through a server that knows nothing of the stream, and back.
                other = PostgresLedger::new(fixture.ledger.database().clone());
                assert_eq!(fixture.commit_by(&other, &[group]).await, [true]);
            }
            2 => assert_eq!(fixture.commit_by(&other, &[group]).await, [true]),
            _ => assert_eq!(fixture.commit(&[group]).await, [true]),
        }
        if dice.below(4) == 0 {
            owner_now = owner();
            fixture.open(&captured.stream, owner_now).await;
        }
    }
    assert_envelopes(&fixture, &captured, &format!("{rate_hz} Hz, seed {seed}")).await;
}

#[tokio::test]
async fn i8_envelopes_of_slow_streams_are_the_folds_of_their_samples() {
    for seed in 0..4 {
        grow(1.0, 9, 1_500, seed).await;
        grow(1_000.0, 700, 20_000, seed + u64::from(random::<1>()[0]) * 1_000).await;
    }
}

#[tokio::test]
async fn i8_envelopes_of_fast_streams_are_the_folds_of_their_samples() {
    grow(1e5, 50_000, 2_500_000, 7).await;
    grow(1e6, 65_536, 3_000_000, 8).await;
    grow(2e6, 65_536, 3_000_000, 9).await;
}
