//! Rows of `envelope`: a bucket of the first level is the fold of its samples, as their chunks' columns decode; one above is the fold of
//! the sixteen rows below it. Pure.
//!
//! # Invariants
//! - I8: every bucket that has samples and is complete has one row, and no other has.
//! - I12: what is kept between pages is one unfinished bucket of the first level of each signal.

use std::collections::{BTreeMap, BTreeSet};

use wavekeep_proto::stream::StreamDefinition;

use super::content::{same, signal_name};
use crate::rollup::envelope::Bucket;
use crate::rollup::fold::SignalFold;
use crate::rollup::tower::Completed;
use crate::rollup::{LEVEL_MAX, Levels, bucket_samples};
use crate::store::envelope::packed;
use crate::store::read_envelope::BucketRange;
use crate::store::scrub::StoredBucket;

type Key = (u32, u64, u32);

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    levels: Levels,
    /// From here on all samples that are stored are in `pieces`.
    known_from: u64,
    /// Of the piece level, of buckets of the first level that are not complete: signal, bucket.
    pieces: BTreeMap<(u32, u64), Bucket>,
}

/// What is stored of the buckets that a page completes.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) own: Vec<StoredBucket>,
    pub(super) below: Vec<StoredBucket>,
}

impl Buckets {
    pub(super) const fn new(levels: Levels, from_sample: u64) -> Self {
        Self {
            levels,
            known_from: from_sample,
            pieces: BTreeMap::new(),
        }
    }

    /// Where the unfinished bucket of the first level begins.
    pub(super) const fn unfinished_from(&self, at: u64) -> u64 {
        let size = bucket_samples(self.levels.first);
        at / size * size
    }

    pub(super) fn add(&mut self, folds: &[SignalFold]) {
        for fold in folds {
            for (bucket, piece) in &fold.pieces {
                let all = self.pieces.entry((fold.signal, *bucket)).or_insert(Bucket::EMPTY);
                all.merge(piece);
            }
        }
    }

    /// Nothing is known of the samples before this one.
    pub(super) fn forget(&mut self, before: u64) {
        self.known_from = before;
        self.pieces.clear();
    }

    /// The buckets that end within a page: its own, and those below that they are made of.
    pub(super) fn ranges(&self, (from, to): (u64, u64)) -> (Vec<BucketRange>, Vec<BucketRange>) {
        let own = (self.levels.first..=LEVEL_MAX).map(|level| BucketRange {
            level,
            from: from / bucket_samples(level),
            to: to / bucket_samples(level),
        });
        let own: Vec<BucketRange> = own.filter(|range| range.from < range.to).collect();
        let above = own.iter().filter(|range| range.level > self.levels.first);
        let below = above.map(|range| BucketRange {
            level: range.level - 1,
            from: range.from * 16,
            to: range.to * 16,
        });
        let below = below.collect();
        (own, below)
    }

    /// Holds the rows of a page against its samples. `kept_from`: what is before is not stored any more.
    pub(super) fn check(
        &mut self,
        definition: &StreamDefinition,
        (to, kept_from): (u64, u64),
        stored: &Stored,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expected = self.of_samples(to);
        expected.extend(of_rows(&stored.below));
        let is_known = |(level, bucket, _): &Key| {
            let from = if *level == self.levels.first {
                self.known_from.max(kept_from)
            } else {
                kept_from
            };
            bucket * bucket_samples(*level) >= from
        };
        let mut seen = BTreeSet::new();
        for row in &stored.own {
            let key = (row.level, row.bucket, row.signal);
            let what = match (&row.content, expected.remove(&key)) {
                _ if !seen.insert(key) => "is stored twice".to_owned(),
                (Err(what), _) => format!("cannot be read ({what})"),
                _ if !is_known(&key) => continue,
                (Ok(_), None) => "has a row and no samples".into(),
                (Ok(content), Some(completed)) if is_same(&completed, content) => continue,
                (Ok(_), Some(_)) => "is not the fold of its samples".into(),
            };
            wrong.push(sentence(definition, key, &what));
        }
        let missing = expected.keys().filter(|key| is_known(key) && !seen.contains(key));
        wrong.extend(missing.map(|key| sentence(definition, *key, "is missing")));
        wrong
    }

    /// The buckets of the first level that end at or before `to`.
    fn of_samples(&mut self, to: u64) -> BTreeMap<Key, Completed> {
        let level = self.levels.first;
        let complete = to / bucket_samples(level);
        let unfinished = self.pieces.extract_if(.., |(_, piece), _| *piece / 16 < complete);
        let mut children: BTreeMap<(u32, u64), [Option<Bucket>; 16]> = BTreeMap::new();
        for ((signal, piece), content) in unfinished {
            children.entry((signal, piece / 16)).or_insert([None; 16])[(piece % 16) as usize] = Some(content);
        }
        let completed = |((signal, bucket), children)| {
            let completed = Completed::of((signal, level, bucket), 0, children);
            ((level, bucket, signal), completed)
        };
        children.into_iter().map(completed).collect()
    }
}

/// What rows make of the level above theirs.
fn of_rows(below: &[StoredBucket]) -> BTreeMap<Key, Completed> {
    let mut children: BTreeMap<Key, [Option<Bucket>; 16]> = BTreeMap::new();
    for row in below {
        let Ok((whole, _)) = &row.content else { continue };
        let key = (row.level + 1, row.bucket / 16, row.signal);
        children.entry(key).or_insert([None; 16])[(row.bucket % 16) as usize] = Some(*whole);
    }
    let completed = |((level, bucket, signal), children)| {
        let completed = Completed::of((signal, level, bucket), 0, children);
        ((level, bucket, signal), completed)
    };
    children.into_iter().map(completed).collect()
}

fn is_same(completed: &Completed, (whole, children): &(Bucket, Vec<u8>)) -> bool {
    same(&completed.whole, whole) && packed(completed.level, &completed.children) == *children
}

fn sentence(definition: &StreamDefinition, (level, bucket, signal): Key, what: &str) -> String {
    let name = signal_name(definition, signal);
    let from = bucket * bucket_samples(level);
    format!(
        "the envelope of signal {name:?} over samples {from} to {} (level {level}) {what}",
        from.saturating_add(bucket_samples(level))
    )
}
