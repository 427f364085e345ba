//! The time axis of a stream: sample id → UTC, piecewise linear. Pure.
//!
//! A source gives *anchors* (this sample was taken at this time) whenever it learns something about time. From an anchor the
//! axis goes on at the nominal rate, until the next anchor: so drift and clock steps are visible where they were noticed, and
//! what was said of earlier samples is never rewritten.
//!
//! # Invariants
//! - The UTC of a sample depends on the anchors at or before it alone: whatever comes later does not change it.
//! - Sample ids of anchors rise; UTC may step back.
//! - At a whole rate the arithmetic is exact (rounded to the nanosecond once, never accumulated).

use std::collections::VecDeque;

use crate::limits;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// This sample was taken at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The sample id.
    pub sample: u64,
    /// Its time, in nanoseconds since 1970.
    pub utc_ns: i64,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct TimeAxis {
    rate_hz: f64,
    anchors: VecDeque<Anchor>,
}

impl TimeAxis {
    /// An axis of `rate_hz` samples a second, above zero, that starts at `first`.
    ///
    /// # Panics
    /// If the rate is not above zero: definitions are validated before.
    #[must_use]
    pub fn new(rate_hz: f64, first: Anchor) -> Self {
        assert!(
            rate_hz.is_finite() && rate_hz > 0.0,
            "a validated definition has a rate above zero"
        );
        Self {
            rate_hz,
            anchors: VecDeque::from([first]),
        }
    }

    /// From `anchor.sample` on, `anchor` holds. One that does not come after the last one replaces nothing: it is ignored, and
    /// `false` returned.
    pub fn add(&mut self, anchor: Anchor) -> bool {
        let last = self.last();
        if anchor.sample <= last.sample {
            return anchor == last;
        }
        if self.anchors.len() == limits::ANCHORS_MAX {
            self.anchors.pop_front();
        }
        self.anchors.push_back(anchor);
        true
    }

    /// The UTC of `sample`, in nanoseconds since 1970, saturating. Before the first anchor it extrapolates backwards.
    #[must_use]
    pub fn utc_ns(&self, sample: u64) -> i64 {
        let after = self.anchors.partition_point(|anchor| anchor.sample <= sample);
        let anchor = self.anchors[after.saturating_sub(1)];
        if sample >= anchor.sample {
            anchor.utc_ns.saturating_add(self.duration_ns(sample - anchor.sample))
        } else {
            anchor.utc_ns.saturating_sub(self.duration_ns(anchor.sample - sample))
        }
    }

    /// The newest anchor.
    #[must_use]
    pub fn last(&self) -> Anchor {
        *self
            .anchors
            .back()
            .expect("an axis is made with its first anchor and keeps the newest")
    }

    /// How long `samples` take at the nominal rate, in nanoseconds, to the nearest.
    fn duration_ns(&self, samples: u64) -> i64 {
        if self.rate_hz.fract() == 0.0 && self.rate_hz < 2f64.powi(53) {
            let rate_hz = u128::from(self.rate_hz as u64);
            let ns = (u128::from(samples) * u128::from(NS_PER_SECOND) + rate_hz / 2) / rate_hz;
            return i64::try_from(ns).unwrap_or(i64::MAX);
        }
        let whole_s = (samples as f64 / self.rate_hz).floor();
        let rest_samples = samples as f64 - whole_s * self.rate_hz;
        // Saturating conversions: an absurdly slow axis ends at the end of time.
        let whole_ns = (whole_s as i64).saturating_mul(NS_PER_SECOND as i64);
        whole_ns.saturating_add((rest_samples / self.rate_hz * NS_PER_SECOND as f64).round() as i64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Anchor = Anchor {
        sample: 100,
        utc_ns: 1_700_000_000_000_000_000,
    };

    #[test]
    fn a_year_at_an_odd_rate_is_exact() {
        let axis = TimeAxis::new(3.0, START);
        assert_eq!(axis.utc_ns(101), START.utc_ns + 333_333_333);
        assert_eq!(
            axis.utc_ns(100 + 3 * 31_536_000),
            START.utc_ns + 31_536_000 * 1_000_000_000
        );
        assert_eq!(axis.utc_ns(97), START.utc_ns - 1_000_000_000);
        let slow = TimeAxis::new(0.1, START);
        assert_eq!(slow.utc_ns(101), START.utc_ns + 10_000_000_000);
        assert_eq!(slow.utc_ns(u64::MAX), i64::MAX);
    }

    #[test]
    fn a_clock_that_steps_back_is_shown_from_its_anchor_on() {
        let mut axis = TimeAxis::new(1000.0, START);
        let before = axis.utc_ns(1_099);
        assert!(axis.add(Anchor {
            sample: 1_100,
            utc_ns: START.utc_ns - 3_600_000_000_000
        }));
        assert_eq!(axis.utc_ns(1_099), before);
        assert_eq!(axis.utc_ns(1_101), START.utc_ns - 3_600_000_000_000 + 1_000_000);
        assert!(!axis.add(START), "an anchor in the past is ignored");
        assert_eq!(axis.utc_ns(1_099), before);
    }

    proptest! {
        #[test]
        fn later_anchors_never_rewrite_history(rate_hz in 0.01f64..1e7, steps in prop::collection::vec((1u64..100_000, any::<i32>()), 1..20)) {
            let mut axis = TimeAxis::new(rate_hz, START);
            let mut said = vec![];
            for (samples, step_ns) in steps {
                let sample = axis.last().sample + samples;
                said.push((sample - 1, axis.utc_ns(sample - 1)));
                axis.add(Anchor { sample, utc_ns: axis.utc_ns(sample) + i64::from(step_ns) });
                for (sample, utc_ns) in &said {
                    prop_assert_eq!(axis.utc_ns(*sample), *utc_ns);
                }
            }
        }
    }
}
