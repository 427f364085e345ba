//! The columns that a range is drawn in. Pure.
//!
//! Columns are cut at multiples of their width, so that they stay where they are while the range moves; the first and the last are
//! cut by the range. The width is a multiple of the coarsest bucket of which the range has at least half as many as columns are allowed:
//! a column is one bucket then, or a few. (A finer level would give no more than that half either in the worst case, for up to twice
//! the rows: docs/adr/0012.)
//!
//! # Invariants
//! - I9: a column's count, min, max and sum are those of its samples, and of no other's. A column without samples is empty: nothing
//!   is drawn across a gap.
//! - I12: there are at most `points_max` columns.

use wavekeep_proto::stream::StreamDefinition;

use crate::rollup::envelope::{Bucket, Envelope};
use crate::rollup::{LEVEL_MAX, Levels, bucket_samples};

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    from: u64,
    to: u64,
    /// The level whose buckets are folded into columns; None: samples are.
    pub(super) level: Option<u32>,
    /// Samples of a column.
    pub(super) width: u64,
}

impl Grid {
    /// Of from ≤ s < to, not empty, in at most `points_max` columns, at least one.
    pub(super) fn new(levels: Levels, (from, to): (u64, u64), points_max: u64) -> Self {
        let (length, points_max) = (to - from, points_max.max(1));
        let enough = |level: &u32| length / bucket_samples(*level) >= points_max.div_ceil(2);
        let level = (levels.point..=LEVEL_MAX).rev().find(enough);
        let size = level.map_or(1, bucket_samples);
        let width_of = |columns: u64| length.div_ceil(columns).div_ceil(size) * size;
        let mut grid = Self {
            from,
            to,
            level,
            width: width_of(points_max),
        };
        if points_max == 1 {
            // One column holds every multiple in the range only if it begins at 0.
            grid.width = to.div_ceil(size) * size;
        }
        // The range's edges may cut off a column more.
        while grid.columns() as u64 > points_max {
            grid.width += size;
        }
        grid
    }

    /// How many there are.
    pub(super) fn columns(&self) -> usize {
        ((self.to - 1) / self.width - self.from / self.width + 1) as usize
    }

    /// The column that holds a sample of the range.
    pub(super) fn column_of(&self, sample: u64) -> usize {
        (sample / self.width - self.from / self.width) as usize
    }

    /// The first sample of a column.
    pub(super) fn start(&self, column: usize) -> u64 {
        ((self.from / self.width + column as u64) * self.width).max(self.from)
    }
}

/// A sample and its UTC.
pub(super) type Dated = (u64, i64);

/// What the columns of one signal hold so far.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    grid: Grid,
    pub(super) envelopes: Vec<Envelope>,
    /// Of each column the lowest sample that came, and a sample whose UTC is known, by which it is dated.
    known: Vec<Option<(u64, Dated)>>,
    /// Samples that came, finite or not.
    pub(super) sample_count: u64,
}

impl Columns {
    /// Empty ones.
    pub(super) fn new(grid: Grid) -> Self {
        Self {
            grid,
            envelopes: vec![Envelope::EMPTY; grid.columns()],
            known: vec![None; grid.columns()],
            sample_count: 0,
        }
    }

    fn know(&mut self, column: usize, sample: u64, dated: Dated) {
        let known = &mut self.known[column];
        if known.is_none_or(|known| sample < known.0) {
            *known = Some((sample, dated));
        }
    }

    /// What is folded of samples of one column, from `sample` on; at the stream's rate from that which is dated.
    pub(super) fn take(&mut self, sample: u64, dated: Dated, bucket: &Bucket) {
        let column = self.grid.column_of(sample);
        self.know(column, sample, dated);
        self.envelopes[column].merge(&bucket.envelope);
        self.sample_count += bucket.sample_count;
    }

    /// Samples, the first of which was taken at this UTC.
    pub(super) fn take_samples(&mut self, at: Dated, samples: &[f64]) {
        let mut rest = samples;
        let mut sample = at.0;
        while !rest.is_empty() {
            let column = self.grid.column_of(sample);
            let here = (self.grid.start(column + 1) - sample).min(rest.len() as u64) as usize;
            self.know(column, sample, at);
            self.envelopes[column].merge(&Envelope::of(&rest[..here]));
            (sample, rest) = (sample + here as u64, &rest[here..]);
        }
        self.sample_count += samples.len() as u64;
    }

    /// Samples of a column's time, of a range that ends at `end`.
    pub(super) fn length(&self, column: usize, end: u64) -> u64 {
        self.grid.start(column + 1).min(end) - self.grid.start(column)
    }

    /// UTC of each column's first sample: by the dated sample of the column, or else of the nearest column before it, at the stream's
    /// rate.
    pub(super) fn times_ns(&self, definition: &StreamDefinition, range_ns: i64) -> Vec<i64> {
        let mut nearest = Some((self.grid.from, range_ns));
        let time = |column: usize| {
            nearest = self.known[column].map(|(_, dated)| dated).or(nearest);
            let (sample, utc_ns) = nearest.unwrap_or((self.grid.from, range_ns));
            let start = self.grid.start(column);
            if start >= sample {
                utc_ns.saturating_add(definition.duration_ns(start - sample))
            } else {
                utc_ns.saturating_sub(definition.duration_ns(sample - start))
            }
        };
        (0..self.known.len()).map(time).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn i12_columns_are_few_and_tile_the_range(
            rate_hz in prop::sample::select(vec![1.0, 1e3, 1e5, 1e6, 2e6]),
            from in 0u64..1 << 34, length in 1u64..1 << 34, points_max in 1u64..5_000,
        ) {
            let levels = Levels::of_rate(rate_hz);
            let grid = Grid::new(levels, (from, from + length), points_max);
            let columns = grid.columns();
            prop_assert!(columns as u64 <= points_max);
            prop_assert_eq!(grid.start(0), from);
            prop_assert_eq!(grid.column_of(from + length - 1), columns - 1);
            prop_assert!(grid.start(columns) >= from + length);
            for column in 1..columns.min(50) {
                prop_assert_eq!(grid.start(column) % grid.width, 0);
                prop_assert_eq!(grid.column_of(grid.start(column)), column);
                prop_assert_eq!(grid.column_of(grid.start(column) - 1), column - 1);
            }
            let half = points_max.div_ceil(2);
            match grid.level {
                Some(level) => {
                    let size = bucket_samples(level);
                    prop_assert_eq!(grid.width % size, 0);
                    prop_assert!(length / size >= half, "at least half as many buckets as columns are allowed");
                    prop_assert!(level == LEVEL_MAX || length / bucket_samples(level + 1) < half, "the coarsest");
                    prop_assert!(level >= levels.point);
                }
                None => prop_assert!(length / bucket_samples(levels.point) < half),
            }
            // Not needlessly few: a picture of 2,000 points has more than 900.
            if length >= 2 * points_max && points_max > 20 {
                prop_assert!(columns as u64 * 2 >= points_max - 2, "{} of {}", columns, points_max);
            }
        }
    }

    #[test]
    fn i12_one_column_of_a_range_across_a_large_multiple_is_found_at_once() {
        let middle = 1u64 << 60;
        let grid = Grid::new(Levels::of_rate(1e6), (middle - 5, middle + 5), 1);
        assert_eq!((grid.columns(), grid.start(0)), (1, middle - 5));
        assert_eq!(grid.column_of(middle + 4), 0);
    }

    #[test]
    fn columns_know_their_times_across_a_gap() {
        let definition = StreamDefinition {
            rate_hz: 1e3,
            ..crate::ingest::fixtures::definition(1)
        };
        let grid = Grid::new(Levels::of(&definition), (100, 1_100), 10);
        let mut columns = Columns::new(grid);
        columns.take_samples((100, 5_000_000_000), &vec![1.0; 100]);
        // After a gap the clock was stepped by a second.
        columns.take_samples((900, 6_800_000_000), &[f64::NAN, 2.0, 3.0]);
        let times = columns.times_ns(&definition, 5_000_000_000);
        assert_eq!(times[0], 5_000_000_000);
        assert_eq!(times[1], 5_000_000_000 + (grid.start(1) - 100) as i64 * 1_000_000);
        let last = grid.column_of(900);
        let start = grid.start(last) as i64;
        assert_eq!(times[last], 6_800_000_000 + (start - 900) * 1_000_000);
        assert_eq!(columns.sample_count, 103);
        assert_eq!(columns.envelopes[last].count, 2);
        assert!(
            columns.envelopes[grid.column_of(500)].is_empty(),
            "nothing is drawn in the gap"
        );
    }
}
