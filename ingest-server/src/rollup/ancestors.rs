//! A chunk that is put in its place later: which complete buckets cover its samples, and what they become. Pure.
//!
//! # Invariants
//! - I8: a bucket is made again from all of the level below, in order, as its tower made it: with the same bits.
//! - What is not complete is in no row, and is left to towers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::tower::Completed;
use super::{LEVEL_MAX, Levels, bucket_samples};
use crate::rollup::envelope::Bucket;

/// Buckets by signal, level and number: each with the UTC of its start.
pub type Known = BTreeMap<(u32, u32, u64), (i64, Bucket)>;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestors {
    /// Of the stream.
    pub levels: Levels,
    /// The chunk's first sample.
    pub first_sample: u64,
    /// Where it ends.
    pub end_sample: u64,
    /// Buckets that end by here are complete.
    pub folded_to: u64,
}

impl Ancestors {
    /// The complete buckets of a level that cover samples of the chunk.
    #[must_use]
    pub fn buckets(&self, level: u32) -> Range<u64> {
        let size = bucket_samples(level);
        let from = self.first_sample / size;
        from..self.end_sample.div_ceil(size).min(self.folded_to / size).max(from)
    }

    /// The levels that have such buckets.
    pub fn levels(&self) -> impl Iterator<Item = u32> + '_ {
        (self.levels.first..=LEVEL_MAX).take_while(|level| !self.buckets(*level).is_empty())
    }

    /// All above the first level, in order of level. `known` has those of the first level that changed, and of each level all
    /// others under the same parents. `utc` tells the time of a sample by one whose time is known.
    pub fn rise(&self, known: &mut Known, utc: impl Fn((u64, i64), u64) -> i64) -> Vec<Completed> {
        let signals: BTreeSet<u32> = known.keys().map(|(signal, ..)| *signal).collect();
        let mut out = Vec::new();
        for level in self.levels().skip(1) {
            for bucket in self.buckets(level) {
                for signal in &signals {
                    let Some(completed) = made(known, (*signal, level, bucket), &utc) else {
                        continue;
                    };
                    known.insert((*signal, level, bucket), (completed.utc_ns, completed.whole));
                    out.push(completed);
                }
            }
        }
        out
    }
}

/// A bucket from its children; None where they have no samples.
fn made(
    known: &Known,
    (signal, level, bucket): (u32, u32, u64),
    utc: &impl Fn((u64, i64), u64) -> i64,
) -> Option<Completed> {
    let below = |place: u64| known.get(&(signal, level - 1, bucket * 16 + place));
    // As the tower does: its start is told by the first bucket that it gets.
    let (place, (utc_ns, _)) = (0..16).find_map(|place| Some((place, below(place)?)))?;
    let first = (bucket * 16 + place) * bucket_samples(level - 1);
    let utc_ns = utc((first, *utc_ns), bucket * bucket_samples(level));
    let children = std::array::from_fn(|place| below(place as u64).map(|(_, whole)| *whole));
    Some(Completed::of((signal, level, bucket), utc_ns, children))
}
