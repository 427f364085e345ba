//! Envelopes: how the samples of a stream are summed up, at every zoom. Pure: no clock, no database.
//!
//! | file | what |
//! |---|---|
//! | [`envelope`] | the monoid: count, min, max, sum, sum of squares |
//! | [`fold`] | a chunk's decoded columns into points and pieces |
//! | [`tower`] | pieces into buckets, level by level, as a stream grows |
//! | [`ancestors`] | the buckets over a chunk that is put in its place later |
//!
//! A bucket of level k covers 16^k samples, aligned to 0. Three levels of a stream matter, and follow from its rate alone:
//!
//! | level | meaning |
//! |---|---|
//! | [`Levels::point`] | the finest that is kept, in the rows of `chunk_signal`: at most 4,000 buckets a second |
//! | [`Levels::piece`] | the finest that is kept as children of a bucket |
//! | [`Levels::first`] | `piece` + 1: the finest with rows of its own in `envelope` |
//!
//! # Invariants
//! - I8: an envelope is the fold of the finite samples that it covers, each once; sums within f64 rounding.
//! - A bucket is written once, by the chunk at whose end it is complete, and only where it has samples: a gap of any length costs
//!   a row a level at most.

pub mod ancestors;
pub mod envelope;
pub mod fold;
pub mod tower;

use wavekeep_proto::limits;
use wavekeep_proto::stream::{StreamDefinition, base_level};

/// The highest level: sample ids stay below 2^62, and 16^16 is no u64.
pub const LEVEL_MAX: u32 = 15;
/// Points a second that are kept, at most, unless the base level has more.
pub const POINTS_HZ_MAX: f64 = 4_000.0;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// Of the points.
    pub point: u32,
    /// The lowest of `envelope`.
    pub first: u32,
}

impl Levels {
    /// Of a stream.
    #[must_use]
    pub fn of(definition: &StreamDefinition) -> Self {
        Self::of_rate(definition.rate_hz)
    }

    /// Of a rate.
    #[must_use]
    pub fn of_rate(rate_hz: f64) -> Self {
        let base = base_level(rate_hz);
        let few = |level: &u32| rate_hz / 16f64.powi(*level as i32) <= POINTS_HZ_MAX;
        let point = (0..base).find(few).unwrap_or(base);
        // Points are never more than two levels below the base: with three, the one between would not be kept.
        Self {
            point,
            first: (base + 1).min(point + 2),
        }
    }

    /// Of the children of the first rows.
    #[must_use]
    pub const fn piece(self) -> u32 {
        self.first - 1
    }
}

/// Samples of a bucket.
///
/// # Panics
/// Above [`LEVEL_MAX`].
#[must_use]
pub const fn bucket_samples(level: u32) -> u64 {
    assert!(level <= LEVEL_MAX, "no bucket is that large");
    1 << (4 * level)
}

const _: () = assert!(limits::BASE_LEVEL_MAX < LEVEL_MAX && limits::SAMPLE_ID_MAX >> (4 * LEVEL_MAX) <= 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(rate_hz: f64) -> (u32, u32, u32) {
        let levels = Levels::of_rate(rate_hz);
        (levels.point, levels.piece(), levels.first)
    }

    #[test]
    fn levels_follow_the_rate() {
        assert_eq!(levels(0.001), (0, 0, 1));
        assert_eq!(levels(1.0), (0, 0, 1));
        assert_eq!(levels(1e3), (0, 1, 2));
        assert_eq!(levels(4e3), (0, 1, 2));
        assert_eq!(levels(1e4), (1, 2, 3));
        assert_eq!(levels(5e4), (1, 2, 3), "the base level is 3: its rows carry level 2");
        assert_eq!(levels(1e5), (2, 3, 4));
        assert_eq!(levels(1e6), (2, 3, 4), "a point is 256 µs");
        assert_eq!(levels(2e6), (3, 4, 5));
        assert_eq!(
            levels(1e12),
            (4, 4, 5),
            "an oscilloscope's file: no point is longer than a chunk"
        );
    }

    #[test]
    fn no_level_between_is_left_out() {
        let mut rate_hz = 1e-3;
        while rate_hz < 1e12 {
            let (point, piece, first) = levels(rate_hz);
            assert!(piece == point || piece == point + 1, "{rate_hz}");
            assert_eq!(first, piece + 1);
            rate_hz *= 1.07;
        }
    }
}
