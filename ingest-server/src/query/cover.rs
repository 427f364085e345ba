//! Which stored folds make up a range of samples. Pure.
//!
//! A range is covered from both ends: points up to the first multiple of the lowest bucket, then ever larger buckets, at most 15 of
//! a level, and down again.
//!
//! # Invariants
//! - I8: the parts tile the range.
//! - Only buckets that end within the range are named: those are complete, whatever is still being captured.

use crate::rollup::{LEVEL_MAX, Levels, bucket_samples};
use crate::store::read_envelope::BucketRange;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cover {
    /// Ranges of samples, from ≤ s < to, to be folded from points.
    pub(super) points: Vec<(u64, u64)>,
    /// Complete buckets.
    pub(super) buckets: Vec<BucketRange>,
}

impl Cover {
    /// Covers another range too, of from ≤ s < to.
    pub(super) fn add(&mut self, levels: Levels, from: u64, to: u64) {
        let size = bucket_samples(levels.first);
        let (low, high) = (from.div_ceil(size) * size, to / size * size);
        if low >= high {
            self.point(from, to);
            return;
        }
        self.point(from, low);
        self.climb(levels.first, low / size, high / size);
        self.point(high, to);
    }

    /// Points of from ≤ s < to.
    pub(super) fn point(&mut self, from: u64, to: u64) {
        if from < to {
            self.points.push((from, to));
        }
    }

    /// Complete buckets of one level, from ≤ b < to.
    pub(super) fn bucket(&mut self, level: u32, from: u64, to: u64) {
        if from < to {
            self.buckets.push(BucketRange { level, from, to });
        }
    }

    fn climb(&mut self, mut level: u32, mut from: u64, mut to: u64) {
        loop {
            let (low, high) = (from.div_ceil(16) * 16, to / 16 * 16);
            if low >= high || level == LEVEL_MAX {
                self.bucket(level, from, to);
                return;
            }
            self.bucket(level, from, low);
            self.bucket(level, high, to);
            (level, from, to) = (level + 1, low / 16, high / 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn i8_the_parts_tile_the_range(rate_hz in prop::sample::select(vec![1.0, 1e3, 1e5, 1e6, 2e6]), from in 0u64..1 << 40, length in 1u64..1 << 40) {
            let levels = Levels::of_rate(rate_hz);
            let mut cover = Cover::default();
            cover.add(levels, from, from + length);
            let mut parts = cover.points.clone();
            for range in &cover.buckets {
                let size = bucket_samples(range.level);
                prop_assert!(range.to - range.from <= 30, "few rows of each level");
                prop_assert!(range.level >= levels.first);
                parts.push((range.from * size, range.to * size));
            }
            parts.sort_unstable();
            prop_assert_eq!(parts.first().map(|part| part.0), Some(from));
            prop_assert_eq!(parts.last().map(|part| part.1), Some(from + length));
            prop_assert!(parts.windows(2).all(|pair| pair[0].1 == pair[1].0));
            let points: u64 = cover.points.iter().map(|(from, to)| to - from).sum();
            prop_assert!(points < 2 * bucket_samples(levels.first));
        }
    }
}
