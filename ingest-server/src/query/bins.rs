//! A histogram: samples counted in bins of one width. Pure.
//!
//! Bin i of n starts at from + i × ((to − from) ÷ n) and holds what is not below its start and below the next one's; the last one holds `to`
//! too. That is numpy's definition.
//!
//! # Invariants
//! - Every finite sample is counted once: in a bin, below them, or above.

use super::quantiles::Need;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bins {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) counts: Vec<u64>,
    pub(super) below: u64,
    pub(super) above: u64,
    /// Of a bin.
    width: f64,
}

impl Bins {
    /// Of from ≤ x ≤ to. Where the two are the same, the bins lie around them.
    pub(super) fn new((from, to): (f64, f64), bins: usize) -> Self {
        let (from, to) = if from == to {
            let room = if from == 0.0 { 0.5 } else { from.abs() * 0.5 };
            (from - room, to + room)
        } else {
            (from, to)
        };
        Self {
            from,
            to,
            counts: vec![0; bins],
            below: 0,
            above: 0,
            width: if (to - from).is_finite() {
                (to - from) / bins as f64
            } else {
                to / bins as f64 - from / bins as f64
            },
        }
    }

    fn start(&self, bin: usize) -> f64 {
        let bins = self.counts.len();
        if bin == bins {
            return self.to;
        }
        self.from + bin as f64 * self.width
    }

    fn bin(&self, sample: f64) -> usize {
        let last = self.counts.len() - 1;
        let mut bin = ((sample / self.width - self.from / self.width) as usize).min(last);
        // What rounding put beside its bin.
        while bin > 0 && sample < self.start(bin) {
            bin -= 1;
        }
        while bin < last && sample >= self.start(bin + 1) {
            bin += 1;
        }
        bin
    }

    fn place(&mut self, sample: f64) -> &mut u64 {
        if sample < self.from {
            &mut self.below
        } else if sample > self.to {
            &mut self.above
        } else {
            let bin = self.bin(sample);
            &mut self.counts[bin]
        }
    }

    /// Samples; those that are not finite are left out.
    pub(super) fn take(&mut self, samples: &[f64]) {
        for sample in samples.iter().filter(|sample| sample.is_finite()) {
            *self.place(*sample) += 1;
        }
    }

    /// So many samples that lie in one place with this one.
    pub(super) fn take_count(&mut self, sample: f64, count: u64) {
        *self.place(sample) += count;
    }

    /// What is needed of samples of which the smallest and the largest are known.
    pub(super) fn need(&self, (min, max): (f64, f64)) -> Need {
        let is_outside = max < self.from || min > self.to;
        let is_inside = self.from <= min && max <= self.to;
        if is_outside || (is_inside && self.bin(min) == self.bin(max)) {
            Need::Count
        } else {
            Need::Samples
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_are_those_of_numpy() {
        // numpy.histogram([0, .1, .2, .3, .35, .7, .9999, 1, 1.5, -1], bins=10, range=(0, 1))[0], numpy 2.4.
        let mut bins = Bins::new((0.0, 1.0), 10);
        bins.take(&[0.0, 0.1, 0.2, 0.3, 0.35, 0.7, 0.9999, 1.0, 1.5, -1.0, f64::NAN]);
        assert_eq!(bins.counts, [1, 1, 2, 1, 0, 0, 1, 0, 0, 2]);
        assert_eq!((bins.below, bins.above), (1, 1));
        let mut one = Bins::new((3.0, 3.0), 4);
        one.take(&[3.0; 5]);
        assert_eq!((one.counts.as_slice(), one.from, one.to), (&[0, 0, 5, 0][..], 1.5, 4.5));
        let mut wide = Bins::new((-f64::MAX, f64::MAX), 2);
        wide.take(&[-f64::MAX, -1.0, 0.0, f64::MAX]);
        assert_eq!(wide.counts, [2, 2]);
    }

    proptest! {
        #[test]
        fn every_sample_is_in_its_bin(
            samples in prop::collection::vec(-1e3..1e3f64, 1..200), from in -500.0..500f64, width in 1e-3..800f64, count in 1usize..100,
        ) {
            let to = from + width;
            let mut bins = Bins::new((from, to), count);
            bins.take(&samples);
            let within = |low: f64, high: f64, is_last: bool| {
                samples.iter().filter(|x| low <= **x && (**x < high || (is_last && **x <= high))).count() as u64
            };
            for bin in 0..count {
                prop_assert_eq!(bins.counts[bin], within(bins.start(bin), bins.start(bin + 1), bin + 1 == count));
            }
            prop_assert_eq!(bins.counts.iter().sum::<u64>() + bins.below + bins.above, samples.len() as u64);
            // Counted whole where all lie in one place, they are the same.
            let mut whole = Bins::new((from, to), count);
            for pair in samples.chunks(2) {
                let bounds = (pair[0].min(pair[pair.len() - 1]), pair[0].max(pair[pair.len() - 1]));
                match whole.need(bounds) {
                    Need::Count => whole.take_count(bounds.0, pair.len() as u64),
                    _ => whole.take(pair),
                }
            }
            prop_assert_eq!(whole, bins);
        }
    }
}
