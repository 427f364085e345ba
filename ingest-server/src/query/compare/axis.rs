//! Both groups on one axis: columns of time from the moment that is laid over each other. Pure.
//!
//! Every run is read in columns of its own stream, a quarter as wide at most, which are cut at multiples of their width and so start
//! anywhere in those of the axis. One that lies in two is counted in both: their min and max hold it whole, their mean by its share.
//!
//! # Invariants
//! - I9: a column's min is not above, and its max not below, any sample of its time; both are of samples at most a quarter of a column away.
//! - I9: a column that a gap covers has nothing: gaps are never bridged.
//! - I12: there are at most as many columns as were asked for.

use crate::rollup::envelope::Envelope;

/// Columns of a stream for each of the axis: it has half as many at worst (see `grid`).
pub(super) const FINER: u64 = 8;

/// Times are relative to the moment that is laid over each other, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) from_ns: i64,
    pub(super) column_ns: u64,
    pub(super) columns: usize,
}

impl Axis {
    /// Over all of these times, of from ≤ t < to, in at most `points_max` columns, one at least.
    pub(super) fn over(spans: impl IntoIterator<Item = (i64, i64)>, points_max: u32) -> Self {
        let all = spans.into_iter();
        let (from_ns, to_ns) = all.fold((i64::MAX, i64::MIN), |(from, to), span| {
            (from.min(span.0), to.max(span.1))
        });
        let length = to_ns.saturating_sub(from_ns).max(1) as u64;
        let column_ns = length.div_ceil(u64::from(points_max.max(1)));
        Self {
            from_ns,
            column_ns,
            columns: length.div_ceil(column_ns) as usize,
        }
    }

    /// How many columns a stream of this length is read in.
    pub(super) fn points_of(&self, length_ns: u64) -> u64 {
        length_ns.div_ceil(self.column_ns).saturating_mul(FINER)
    }

    fn column(&self, ns: i64) -> usize {
        let after = ns.saturating_sub(self.from_ns).max(0) as u64;
        ((after / self.column_ns) as usize).min(self.columns - 1)
    }

    fn start_ns(&self, column: usize) -> i64 {
        self.from_ns.saturating_add((column as u64 * self.column_ns) as i64)
    }
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    min: f64,
    max: f64,
    sum: f64,
    weight: f64,
}

const EMPTY: Cell = Cell {
    min: f64::INFINITY,
    max: f64::NEG_INFINITY,
    sum: 0.0,
    weight: 0.0,
};

/// What one run has in each column.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    axis: Axis,
    cells: Vec<Cell>,
}

impl Lane {
    pub(super) fn new(axis: Axis) -> Self {
        Self {
            axis,
            cells: vec![EMPTY; axis.columns],
        }
    }

    /// Takes out the columns that lie wholly in from ≤ t < to: what lies in them is of a wider column at the gap's edge.
    fn blank(&mut self, (from_ns, to_ns): (i64, i64)) {
        let axis = self.axis;
        let (first, last) = (axis.column(from_ns), axis.column(to_ns.saturating_sub(1)));
        for column in first..=last {
            if from_ns <= axis.start_ns(column) && axis.start_ns(column + 1) <= to_ns {
                self.cells[column] = EMPTY;
            }
        }
    }

    /// Takes what is folded of from ≤ t < to.
    pub(super) fn take(&mut self, (from_ns, to_ns): (i64, i64), envelope: &Envelope) {
        if envelope.is_empty() {
            return;
        }
        let to_ns = to_ns.max(from_ns.saturating_add(1));
        let length = to_ns.saturating_sub(from_ns) as f64;
        let (first, last) = (self.axis.column(from_ns), self.axis.column(to_ns - 1));
        for column in first..=last {
            let from = self.axis.start_ns(column).max(from_ns);
            let to = self.axis.start_ns(column + 1).min(to_ns);
            // Past the axis' ends, where times are rounded, the outermost columns take it.
            let weight = envelope.count as f64 * (to.saturating_sub(from).max(1) as f64 / length);
            let cell = &mut self.cells[column];
            cell.min = cell.min.min(envelope.min);
            cell.max = cell.max.max(envelope.max);
            cell.sum += envelope.mean() * weight;
            cell.weight += weight;
        }
    }
}

/// Joins the gaps of a stream as they come, and takes what they cover out of a lane.
#[derive(Debug, Default)]
pub(super) struct Blanks {
    /// Relative to the moment that is laid over each other.
    covered: Option<(i64, i64)>,
}

impl Blanks {
    /// A gap of from ≤ t < to.
    pub(super) fn take(&mut self, (from_ns, to_ns): (i64, i64), lane: &mut Lane) {
        match &mut self.covered {
            Some(covered) if covered.0 <= from_ns && from_ns <= covered.1 => covered.1 = covered.1.max(to_ns),
            covered => *covered = Some((from_ns, to_ns)),
        }
        if let Some(covered) = self.covered {
            lane.blank(covered);
        }
    }
}

/// What the runs of a group have in each column; NaN where they have nothing.
#[derive(Debug, Clone)]
pub(super) struct Overlay {
    pub(super) min: Vec<f64>,
    pub(super) max: Vec<f64>,
    /// Of the runs' means: each counts the same.
    pub(super) mean: Vec<f64>,
    pub(super) runs: Vec<u32>,
}

impl Overlay {
    pub(super) fn new(axis: &Axis) -> Self {
        Self {
            min: vec![f64::NAN; axis.columns],
            max: vec![f64::NAN; axis.columns],
            mean: vec![f64::NAN; axis.columns],
            runs: vec![0; axis.columns],
        }
    }

    pub(super) fn add(&mut self, lane: &Lane) {
        for (column, cell) in lane.cells.iter().enumerate().filter(|(_, cell)| cell.weight > 0.0) {
            let mean = (cell.sum / cell.weight).clamp(cell.min, cell.max);
            self.runs[column] += 1;
            if self.runs[column] == 1 {
                (self.min[column], self.max[column], self.mean[column]) = (cell.min, cell.max, mean);
                continue;
            }
            self.min[column] = self.min[column].min(cell.min);
            self.max[column] = self.max[column].max(cell.max);
            self.mean[column] += (mean - self.mean[column]) / f64::from(self.runs[column]);
        }
    }

    /// Means of this one minus those of the other; NaN where either has nothing.
    pub(super) fn minus(&self, other: &Self) -> Vec<f64> {
        let pairs = self.mean.iter().zip(&other.mean);
        pairs.map(|(one, other)| one - other).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lane(axis: Axis, parts: &[((i64, i64), &[f64])]) -> Overlay {
        let mut lane = Lane::new(axis);
        parts
            .iter()
            .for_each(|(span, samples)| lane.take(*span, &Envelope::of(samples)));
        let mut overlay = Overlay::new(&axis);
        overlay.add(&lane);
        overlay
    }

    #[test]
    fn an_axis_covers_all_runs_in_few_columns() {
        let axis = Axis::over([(-1_000, 9_000), (0, 10_500)], 10);
        assert_eq!((axis.from_ns, axis.column_ns, axis.columns), (-1_000, 1_150, 10));
        assert_eq!(axis.points_of(10_000), 9 * FINER);
        assert_eq!(Axis::over([(5, 5)], 0).columns, 1);
    }

    #[test]
    fn i9_a_gap_is_not_bridged_and_a_part_counts_where_it_lies() {
        let axis = Axis::over([(0, 400)], 4);
        let found = lane(
            axis,
            &[((0, 50), &[1.0, 3.0]), ((50, 150), &[5.0; 4]), ((350, 400), &[7.0])],
        );
        assert_eq!(found.min[..2], [1.0, 5.0]);
        assert_eq!(found.max[..2], [5.0, 5.0]);
        assert_eq!(found.mean[0], (2.0 * 2.0 + 5.0 * 2.0) / 4.0, "half of the four");
        assert!(found.mean[2].is_nan() && found.runs == [1, 1, 0, 1]);
        let other = lane(axis, &[((0, 400), &[1.0])]);
        let difference = found.minus(&other);
        assert_eq!(difference[1], 4.0);
        assert!(difference[2].is_nan());
    }

    #[test]
    fn i9_what_a_gap_covers_has_nothing_of_the_column_at_its_edge() {
        let axis = Axis::over([(0, 1_000)], 10);
        let (mut lane, mut blanks) = (Lane::new(axis), Blanks::default());
        // Samples until 290, and the column that holds the last ones goes on to 330.
        lane.take((0, 250), &Envelope::of(&[1.0; 250]));
        lane.take((250, 330), &Envelope::of(&[1.0; 40]));
        lane.take((600, 1_000), &Envelope::of(&[2.0; 400]));
        for gap in [(290, 340), (340, 450), (450, 600), (700, 790)] {
            blanks.take(gap, &mut lane);
        }
        let mut overlay = Overlay::new(&axis);
        overlay.add(&lane);
        assert_eq!(overlay.runs, [1, 1, 1, 0, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn each_run_counts_the_same() {
        let axis = Axis::over([(0, 100)], 1);
        let mut overlay = Overlay::new(&axis);
        for samples in [&[1.0; 100][..], &[4.0][..]] {
            let mut lane = Lane::new(axis);
            lane.take((0, 100), &Envelope::of(samples));
            overlay.add(&lane);
        }
        assert_eq!(
            (overlay.min[0], overlay.max[0], overlay.mean[0], overlay.runs[0]),
            (1.0, 4.0, 2.5, 2)
        );
    }

    proptest! {
        #[test]
        fn i9_columns_hold_every_sample_of_their_time(
            columns in 1u32..50, starts in prop::collection::vec(0i64..10_000, 1..50), width in 1i64..500,
        ) {
            let axis = Axis::over([(0, 10_500)], columns);
            prop_assert!(axis.columns <= columns as usize);
            let mut lane = Lane::new(axis);
            for (value, start) in starts.iter().enumerate() {
                lane.take((*start, start + width), &Envelope::of(&[value as f64]));
            }
            for (value, start) in starts.iter().enumerate() {
                for at in [*start, start + width - 1] {
                    let cell = &lane.cells[axis.column(at)];
                    prop_assert!(cell.min <= value as f64 && value as f64 <= cell.max);
                }
            }
            let weight: f64 = lane.cells.iter().map(|cell| cell.weight).sum();
            prop_assert!((weight - starts.len() as f64).abs() < 1e-9 * weight, "nothing counts twice: {}", weight);
        }
    }
}
