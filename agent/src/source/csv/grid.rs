//! The regular axis that a table's times lie on: its rate, and which sample a time is. Pure.
//!
//! # Invariants
//! - I4: a row's sample comes after that of the row before: either it is the next one, and the time is within half a sample of it, or
//!   whole samples are missing, and the time is within a quarter of one.

use super::CsvError;

/// A time after missing samples must be this close to a sample of the axis.
const JUMP_SAMPLES: f64 = 0.25;
/// Times are whole nanoseconds: samples must be further apart than their rounding.
const STEP_NS_MIN: f64 = 2.0;
/// Digits that a rate, or the time between two samples, may need.
const DIGITS_MAX: i32 = 12;

/// The axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    rate_hz: f64,
    /// The time of sample 0; none if there are no times.
    first_ns: Option<i64>,
}

impl Grid {
    pub(super) fn without_times(rate_hz: f64) -> Self {
        Self {
            rate_hz,
            first_ns: None,
        }
    }

    pub(super) fn with_times(rate_hz: f64, first_ns: i64) -> Result<Self, CsvError> {
        if rate_hz * STEP_NS_MIN > 1e9 {
            return Err(CsvError::TooFast(rate_hz));
        }
        let first_ns = Some(first_ns);
        Ok(Self { rate_hz, first_ns })
    }

    pub(super) fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    /// How many samples are missing before the one of this time, where `next` was expected.
    pub(super) fn missing(&self, next: u64, time_ns: i64) -> Result<u64, Misfit> {
        let Some(first_ns) = self.first_ns else {
            return Ok(0);
        };
        let at = (i128::from(time_ns) - i128::from(first_ns)) as f64 * self.rate_hz / 1e9;
        // The conversion saturates.
        let sample = at.round() as u64;
        match sample.checked_sub(next) {
            None => Err(Misfit::Backwards),
            _ if at < -0.5 => Err(Misfit::Backwards),
            Some(0) => Ok(0),
            Some(missing) if (at - at.round()).abs() <= JUMP_SAMPLES => Ok(missing),
            Some(_) => Err(Misfit::Irregular),
        }
    }

    /// Samples between two times.
    pub(super) fn samples(&self, from_ns: i64, to_ns: i64) -> f64 {
        (i128::from(to_ns) - i128::from(from_ns)) as f64 * self.rate_hz / 1e9
    }
}

/// A time that is not on the axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    Backwards,
    Irregular,
}

/// The roundest rate that fits the first times as well as the best one does.
pub(super) fn rate_of(times: &[i64]) -> Result<f64, CsvError> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err(CsvError::NoStep);
    };
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    steps.sort_unstable();
    let median = steps.get(steps.len() / 2).copied().unwrap_or(0);
    if median <= 0 || last <= first {
        return Err(CsvError::NoStep);
    }
    // Which sample each time is, steps over missing ones counted.
    let mut sample = 0.0;
    let mut samples = vec![(0.0, 0.0)];
    for pair in times.windows(2) {
        sample += (pair[1].saturating_sub(pair[0]) as f64 / median as f64)
            .round()
            .max(1.0);
        samples.push((sample, (i128::from(pair[1]) - i128::from(*first)) as f64));
    }
    let misfit_ns = |step_ns: f64| {
        let misfits = samples.iter().map(|(sample, ns)| (ns - sample * step_ns).abs());
        misfits.fold(0.0, f64::max)
    };
    let best_ns = samples.last().map_or(median as f64, |(sample, ns)| ns / sample);
    // Twice: the best one goes through the first time and the last, and both may be off.
    let allowed_ns = 2.0 * misfit_ns(best_ns) + 1.0;
    let rounder = (1..=DIGITS_MAX).flat_map(|digits| {
        let (rate_hz, step_ns) = (round(1e9 / best_ns, digits), round(best_ns, digits));
        [rate_hz, 1e9 / step_ns]
    });
    let rounder = rounder
        .into_iter()
        .find(|rate_hz| misfit_ns(1e9 / rate_hz) <= allowed_ns);
    Ok(rounder.unwrap_or(1e9 / best_ns))
}

/// To so many significant digits, as decimals are: `format!` does it exactly.
fn round(number: f64, digits: i32) -> f64 {
    let places = usize::try_from(digits - 1).unwrap_or(0);
    format!("{number:.places$e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(rate_hz: f64, count: u32, noise: impl Fn(u32) -> f64) -> Vec<i64> {
        (0..count)
            .map(|sample| {
                1_700_000_000_000_000_000 + ((f64::from(sample) + noise(sample)) * 1e9 / rate_hz).round() as i64
            })
            .collect()
    }

    #[test]
    fn rates_are_found_exactly_through_rounding_jitter_and_gaps() {
        for rate_hz in [
            1.0,
            0.1,
            50.0,
            1e3,
            44_100.0,
            48_000.0,
            1e5,
            2e6,
            1_000.0 / 3.0,
            1e9 / 3_000.0,
            20e6,
            125e6,
        ] {
            let clean = rate_of(&times(rate_hz, 2_000, |_| 0.0)).expect("regular");
            assert!((clean / rate_hz - 1.0).abs() < 1e-11, "{clean} is not {rate_hz}");
        }
        let jitter = |sample: u32| f64::from(sample.wrapping_mul(2_654_435_761) >> 24) / 1_000.0 - 0.128;
        assert_eq!(rate_of(&times(1_000.0, 5_000, jitter)).expect("nearly"), 1_000.0);
        let mut gaps = times(48_000.0, 3_000, |_| 0.0);
        gaps.drain(1_000..1_500);
        gaps.drain(20..21);
        assert_eq!(rate_of(&gaps).expect("with gaps"), 48_000.0);
        assert!(matches!(rate_of(&[5, 5, 5]), Err(CsvError::NoStep)));
        assert!(matches!(rate_of(&[5, 4, 3]), Err(CsvError::NoStep)));
        assert!(matches!(rate_of(&[i64::MIN, i64::MAX]), Ok(rate_hz) if rate_hz > 0.0));
    }

    #[test]
    fn i4_times_are_the_next_samples_or_whole_samples_later() {
        let grid = Grid::with_times(1_000.0, 7).expect("slow enough");
        let ms = |ms: f64| 7 + (ms * 1e6) as i64;
        assert_eq!(grid.missing(3, ms(3.0)), Ok(0));
        assert_eq!(grid.missing(3, ms(3.49)), Ok(0));
        assert_eq!(grid.missing(3, ms(2.51)), Ok(0));
        assert_eq!(grid.missing(3, ms(2.49)), Err(Misfit::Backwards));
        assert_eq!(grid.missing(3, ms(8.2)), Ok(5));
        assert_eq!(grid.missing(3, ms(8.3)), Err(Misfit::Irregular));
        assert_eq!(grid.missing(3, ms(3.51)), Err(Misfit::Irregular));
        assert_eq!(grid.missing(0, ms(-5.0)), Err(Misfit::Backwards));
        assert!(matches!(Grid::with_times(1e9, 0), Err(CsvError::TooFast(_))));
    }

    proptest! {
        #[test]
        fn any_times_have_a_rate_or_none(times in proptest::collection::vec(any::<i64>(), 0..50)) {
            if let Ok(rate_hz) = rate_of(&times) {
                prop_assert!(rate_hz > 0.0 && rate_hz.is_finite());
            }
        }
    }
}
