//! Statistics of samples, in f64. Pure.
//!
//! Finite samples are folded; others are counted. With n finite samples x: mean = Σx ÷ n; std = √(Σ(x − mean)² ÷ n), of the
//! population; rms = √(Σx² ÷ n); integral = Σx ÷ rate. Sums over chunks are compensated (Neumaier), and the squares about the
//! mean are joined pair by pair (Chan, Golub and LeVeque, 1979), so that a small deviation on a large mean is not lost. Of a stored fold
//! the squares are a difference of two sums, of which rounding may leave nothing: they are held within what least and most allow
//! (Bhatia and Davis, 2000), and the fold says when they are in doubt.

use crate::rollup::envelope::{Bucket, Envelope};

/// Sums that stay apart until the end, so that the compiler may use vector registers.
const LANES: usize = 8;

/// A sum that remembers what rounding took away (Neumaier, 1974).
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let total = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() {
            (self.sum - total) + value
        } else {
            (value - total) + self.sum
        };
        self.sum = total;
    }

    fn value(self) -> f64 {
        // Past the largest f64 nothing was lost that could be added.
        if self.sum.is_finite() {
            self.sum + self.lost
        } else {
            self.sum
        }
    }
}

/// Everything that is kept of the samples seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fold {
    pub(super) sample_count: u64,
    pub(super) finite_count: u64,
    pub(super) min: f64,
    pub(super) max: f64,
    sum: Sum,
    sumsq: Sum,
    integral: Sum,
    mean: f64,
    squares: f64,
    /// By so much the squares may be wrong.
    doubt: f64,
}

impl Fold {
    pub(super) fn new() -> Self {
        Self {
            sample_count: 0,
            finite_count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: Sum::default(),
            sumsq: Sum::default(),
            integral: Sum::default(),
            mean: 0.0,
            squares: 0.0,
            doubt: 0.0,
        }
    }

    /// Takes samples in that were taken at `rate_hz`.
    pub(super) fn add(&mut self, samples: &[f64], rate_hz: f64) {
        let envelope = Envelope::of(samples);
        let mean = envelope.sum / envelope.count as f64;
        self.join(samples.len() as u64, &envelope, squares_about(samples, mean), rate_hz);
    }

    /// Takes a stored fold of samples in that were taken at `rate_hz`.
    pub(super) fn add_bucket(&mut self, bucket: &Bucket, rate_hz: f64) {
        let envelope = &bucket.envelope;
        let count = envelope.count as f64;
        let mean = envelope.sum / count;
        let at_most = count * ((envelope.max - mean) * (mean - envelope.min)).max(0.0);
        let squares = (envelope.sumsq - envelope.sum * mean).max(0.0).min(at_most);
        // As much as each of its additions may lose; nothing was added where there is nothing.
        if !envelope.is_empty() {
            self.doubt += at_most.min(envelope.sumsq * f64::EPSILON * 4.0);
        }
        self.join(bucket.sample_count, envelope, squares, rate_hz);
    }

    /// `squares`: about the envelope's mean.
    fn join(&mut self, sample_count: u64, block: &Envelope, squares: f64, rate_hz: f64) {
        self.sample_count += sample_count;
        if block.is_empty() {
            return;
        }
        let (before, here) = (self.finite_count as f64, block.count as f64);
        let apart = block.sum / here - self.mean;
        self.finite_count += block.count;
        let all = before + here;
        self.mean += apart * (here / all);
        self.squares += squares + apart * apart * (before / all * here);
        self.min = self.min.min(block.min);
        self.max = self.max.max(block.max);
        self.sum.add(block.sum);
        self.sumsq.add(block.sumsq);
        self.integral.add(block.sum / rate_hz);
    }

    /// NaN where nothing was folded.
    fn per_sample(&self, value: f64) -> f64 {
        if self.finite_count == 0 {
            f64::NAN
        } else {
            value / self.finite_count as f64
        }
    }

    pub(super) fn mean(&self) -> f64 {
        self.per_sample(self.sum.value())
    }

    /// May the deviation be wrong in its first four digits? Then the samples themselves tell.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubt > self.squares * 1e-4
    }

    pub(super) fn std(&self) -> f64 {
        self.per_sample(self.squares).sqrt()
    }

    pub(super) fn rms(&self) -> f64 {
        self.per_sample(self.sumsq.value()).sqrt()
    }

    /// In unit × seconds; 0 where nothing was folded.
    pub(super) fn integral(&self) -> f64 {
        self.integral.value()
    }

    /// NaN where nothing was folded.
    pub(super) fn min_max(&self) -> (f64, f64) {
        if self.finite_count == 0 {
            (f64::NAN, f64::NAN)
        } else {
            (self.min, self.max)
        }
    }
}

fn squares_about(samples: &[f64], mean: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let square = |sample: f64| {
        let apart = if sample.is_finite() { sample - mean } else { 0.0 };
        apart * apart
    };
    let (rows, rest) = samples.as_chunks::<LANES>();
    for row in rows {
        for (lane, sample) in lanes.iter_mut().zip(row) {
            *lane += square(*sample);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().copied().map(square).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(blocks: &[&[f64]], rate_hz: f64) -> Fold {
        let mut fold = Fold::new();
        blocks.iter().for_each(|block| fold.add(block, rate_hz));
        fold
    }

    #[test]
    fn definitions_are_those_documented() {
        let fold = fold(&[&[1.0, 2.0, f64::NAN], &[], &[f64::INFINITY], &[3.0, 6.0]], 2.0);
        assert_eq!(
            (fold.sample_count, fold.finite_count, fold.min_max()),
            (6, 4, (1.0, 6.0))
        );
        assert_eq!((fold.mean(), fold.integral()), (3.0, 6.0));
        assert!((fold.std() - 3.5f64.sqrt()).abs() < 1e-15, "√((4 + 1 + 0 + 9) ÷ 4)");
        assert!((fold.rms() - 12.5f64.sqrt()).abs() < 1e-15, "√((1 + 4 + 9 + 36) ÷ 4)");
    }

    #[test]
    fn nothing_is_not_zero() {
        let fold = fold(&[&[f64::NAN]], 1.0);
        assert!(fold.mean().is_nan() && fold.std().is_nan() && fold.rms().is_nan() && fold.min_max().0.is_nan());
        assert_eq!((fold.sample_count, fold.finite_count, fold.integral()), (1, 0, 0.0));
    }

    #[test]
    fn a_small_deviation_on_a_large_mean_is_kept() {
        let samples: Vec<f64> = (0..100_000).map(|at| 1e9 + f64::from(at % 2)).collect();
        let whole = fold(&[&samples], 1.0);
        let blocks: Vec<&[f64]> = samples.chunks(777).collect();
        let pieces = fold(&blocks, 1.0);
        for fold in [whole, pieces] {
            assert!((fold.std() - 0.5).abs() < 1e-9, "{}", fold.std());
            assert!((fold.mean() - (1e9 + 0.5)).abs() < 1e-6, "{}", fold.mean());
        }
    }

    #[test]
    fn of_stored_folds_the_deviation_is_within_least_and_most_or_in_doubt() {
        let stored = |samples: &[f64]| {
            let mut fold = Fold::new();
            for samples in samples.chunks(256) {
                let bucket = Bucket {
                    sample_count: samples.len() as u64,
                    envelope: Envelope::of(samples),
                    exact: None,
                };
                fold.add_bucket(&bucket, 1.0);
            }
            fold
        };
        let constant = stored(&[3.3; 100_000]);
        assert!(constant.std() < 1e-15 && !constant.is_doubtful(), "{}", constant.std());
        let alternating: Vec<f64> = (0..100_000).map(|at| 2e9 + f64::from(at % 2)).collect();
        assert!(stored(&alternating).std() < 0.501, "most it can be");
        assert!(stored(&alternating).is_doubtful());
        let ordinary: Vec<f64> = (0..100_000).map(|at| 3.3 + f64::from(at % 7) * 1e-3).collect();
        let (found, told) = (stored(&ordinary), fold(&[&ordinary], 1.0).std());
        assert!(
            (found.std() - told).abs() < told * 1e-6 && !found.is_doubtful(),
            "{}",
            found.std()
        );
    }

    #[test]
    fn sums_over_many_chunks_are_compensated() {
        let blocks: Vec<&[f64]> = [&[1e16][..], &[1.0][..], &[1.0][..], &[-1e16][..]].to_vec();
        assert_eq!(fold(&blocks, 1.0).integral(), 2.0);
    }
}
