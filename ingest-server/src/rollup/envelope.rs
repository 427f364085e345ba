//! The monoid of finite samples: count, min, max, sum, sum of squares. Pure.
//!
//! # Invariants
//! - I8: `of` and `merge` agree whatever the pieces: counts and extremes exactly, sums within f64 rounding.
//! - Samples that are not finite are left out; a bucket counts them among its samples.

/// Accumulators that stay apart until the end, so that the compiler uses vector registers.
const LANES: usize = 8;
/// Samples that fit into the first cache: each of the four folds goes over them alone, since together they need more registers than
/// there are.
const BLOCK: usize = 1_024;

fn lanes(samples: &[f64], start: f64, step: impl Fn(f64, f64) -> f64) -> [f64; LANES] {
    let mut lanes = [start; LANES];
    let (rows, rest) = samples.as_chunks::<LANES>();
    for row in rows {
        for (lane, sample) in lanes.iter_mut().zip(row) {
            *lane = step(*lane, *sample);
        }
    }
    for (lane, sample) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *sample);
    }
    lanes
}

/// Of some samples, as f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Envelope {
    /// Finite samples.
    pub count: u64,
    /// Infinity where there are none.
    pub min: f64,
    /// Negative infinity where there are none.
    pub max: f64,
    /// Of the samples.
    pub sum: f64,
    /// Of their squares.
    pub sumsq: f64,
}

impl Envelope {
    /// Of no samples.
    pub const EMPTY: Self = Self {
        count: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        sum: 0.0,
        sumsq: 0.0,
    };

    /// Of one sample.
    #[must_use]
    pub fn of_one(sample: f64) -> Self {
        if sample.is_finite() {
            Self {
                count: 1,
                min: sample,
                max: sample,
                sum: sample,
                sumsq: sample * sample,
            }
        } else {
            Self::EMPTY
        }
    }

    /// Of samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Self {
        let mut all = Self::EMPTY;
        samples
            .chunks(BLOCK)
            .for_each(|block| all.merge(&Self::of_block(block)));
        all
    }

    fn of_block(samples: &[f64]) -> Self {
        let lesser = |one, other| if other < one { other } else { one };
        let greater = |one, other| if other > one { other } else { one };
        let all = Self {
            count: samples.len() as u64,
            min: lanes(samples, f64::INFINITY, lesser)
                .into_iter()
                .fold(f64::INFINITY, lesser),
            max: lanes(samples, f64::NEG_INFINITY, greater)
                .into_iter()
                .fold(f64::NEG_INFINITY, greater),
            sum: lanes(samples, 0.0, |sum, sample| sum + sample).iter().sum(),
            sumsq: lanes(samples, 0.0, |sum, sample| sum + sample * sample).iter().sum(),
        };
        // A sample that is not finite makes the sum of squares so, as does one whose square is not.
        if all.sumsq.is_finite() {
            return all;
        }
        let mut each = Self::EMPTY;
        samples.iter().for_each(|sample| each.merge(&Self::of_one(*sample)));
        each
    }

    /// Of the samples of both.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.sumsq += other.sumsq;
    }

    /// Of the samples of all.
    #[must_use]
    pub fn of_all<'a>(envelopes: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::EMPTY;
        envelopes.into_iter().for_each(|envelope| all.merge(envelope));
        all
    }

    /// Has it any finite sample?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// NaN where there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.is_empty() {
            f64::NAN
        } else {
            // Rounding must not carry it outside of what it is the mean of.
            (self.sum / self.count as f64).clamp(self.min, self.max)
        }
    }
}

/// The smallest and the largest sample of a type that f64 does not hold exactly.
pub type Exact = (i128, i128);

/// What is stored of a range of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Samples that are stored, finite or not.
    pub sample_count: u64,
    /// Of the finite ones.
    pub envelope: Envelope,
    /// Of i64, u64 and i128; None for other types, and where it is not known any more.
    pub exact: Option<Exact>,
}

impl Bucket {
    /// Of no samples.
    pub const EMPTY: Self = Self {
        sample_count: 0,
        envelope: Envelope::EMPTY,
        exact: None,
    };

    /// Of the samples of both.
    pub fn merge(&mut self, other: &Self) {
        self.exact = match (self.sample_count, other.sample_count) {
            (0, _) => other.exact,
            (_, 0) => self.exact,
            _ => self
                .exact
                .zip(other.exact)
                .map(|(one, other)| (one.0.min(other.0), one.1.max(other.1))),
        };
        self.sample_count += other.sample_count;
        self.envelope.merge(&other.envelope);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(samples: &[f64]) -> Envelope {
        Envelope::of_all(
            &samples
                .iter()
                .map(|sample| Envelope::of_one(*sample))
                .collect::<Vec<_>>(),
        )
    }

    fn close(one: f64, other: f64, scale: f64) -> bool {
        (one - other).abs() <= 1e-12 * scale.max(1.0)
    }

    proptest! {
        #[test]
        fn i8_pieces_fold_to_the_whole(
            samples in prop::collection::vec(prop_oneof![8 => -1e3..1e3f64, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)], 0..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(samples.len());
            let whole = Envelope::of(&samples);
            let mut pieces = Envelope::of(&samples[..cut]);
            pieces.merge(&Envelope::of(&samples[cut..]));
            for fold in [pieces, naive(&samples)] {
                prop_assert_eq!((fold.count, fold.min, fold.max), (whole.count, whole.min, whole.max));
                prop_assert!(close(fold.sum, whole.sum, 1e3 * 200.0) && close(fold.sumsq, whole.sumsq, 1e6 * 200.0));
            }
        }
    }

    #[test]
    fn nothing_is_no_sample() {
        assert!(Envelope::of(&[f64::NAN, f64::NEG_INFINITY]).is_empty());
        assert!(Envelope::EMPTY.mean().is_nan());
        assert_eq!(Envelope::of(&[3.0, f64::NAN, 1.0]).mean(), 2.0);
    }

    #[test]
    fn exact_extremes_are_forgotten_where_one_is_not_known() {
        let bucket = |exact| Bucket {
            sample_count: 1,
            exact,
            ..Bucket::EMPTY
        };
        let mut both = Bucket::EMPTY;
        both.merge(&bucket(Some((3, 3))));
        both.merge(&bucket(Some((-1, -1))));
        assert_eq!(both.exact, Some((-1, 3)));
        both.merge(&bucket(None));
        assert_eq!((both.exact, both.sample_count), (None, 3));
    }
}
