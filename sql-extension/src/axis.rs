//! When samples of a chunk were taken. Pure.
//!
//! A chunk says when its first sample was taken, and the next ones follow at the stream's rate, as for every reader: see
//! [`duration_ns`].

use std::ops::Range;

use wavekeep_proto::limits::CHUNK_SAMPLES_MAX;
use wavekeep_proto::stream::duration_ns;

use crate::error::Error;

/// 2000-01-01T00:00:00Z, from which Postgres counts, in Unix microseconds.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The samples of a chunk, by place: the first has place 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    utc_ns: i64,
    rate_hz: f64,
}

impl Axis {
    pub(crate) fn new(utc_ns: i64, rate_hz: f64) -> Result<Self, Error> {
        if !(rate_hz.is_finite() && rate_hz > 0.0) {
            return Err(Error::Rate(rate_hz.to_string()));
        }
        Ok(Self { utc_ns, rate_hz })
    }

    /// UTC of a sample, in nanoseconds.
    pub(crate) fn time_ns(&self, place: u32) -> i64 {
        self.utc_ns.saturating_add(duration_ns(self.rate_hz, u64::from(place)))
    }

    /// The same as Postgres has it: microseconds since 2000, rounded down.
    pub(crate) fn time_us(&self, place: u32) -> i64 {
        self.time_ns(place).div_euclid(1_000) - POSTGRES_EPOCH_US
    }

    /// The first place that was taken at or after a time; `count` where none was.
    pub(crate) fn place_at(&self, count: u32, time_ns: i64) -> u32 {
        // A search, so that it agrees with `time_ns` to the nanosecond.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.time_ns(middle) < time_ns {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Samples of one chunk, at most (I12).
pub(crate) fn count(count: i64) -> Result<u32, Error> {
    let count = u32::try_from(count).map_err(|_| Error::Column)?;
    if u64::from(count) > CHUNK_SAMPLES_MAX {
        return Err(Error::Column);
    }
    Ok(count)
}

/// A place of a chunk, or its end (I12).
pub(crate) fn place(place: i32) -> Result<u32, Error> {
    let found = u32::try_from(place).ok();
    let found = found.filter(|place| u64::from(*place) <= CHUNK_SAMPLES_MAX);
    found.ok_or(Error::Place(place))
}

/// Places of one chunk, from and to; none where they are the wrong way round.
pub(crate) fn places(from: i32, to: i32) -> Result<Range<u32>, Error> {
    let (first, end) = (place(from)?, place(to)?);
    Ok(first..end.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_first_at_or_after_a_time() {
        let axis = Axis::new(1_000, 1e6 / 3.0).expect("a rate");
        let times: Vec<i64> = (0..4).map(|place| axis.time_ns(place)).collect();
        assert_eq!(times, [1_000, 4_000, 7_000, 10_000]);
        let places: Vec<u32> = [0, 1_000, 1_001, 4_000, 4_001, 7_000, 7_001, i64::MAX]
            .iter()
            .map(|ns| axis.place_at(3, *ns))
            .collect();
        assert_eq!(places, [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn microseconds_are_rounded_down_before_1970_too() {
        let us = |utc_ns| Axis::new(utc_ns, 1.0).expect("a rate").time_us(0) + POSTGRES_EPOCH_US;
        assert_eq!([us(1_999), us(1_000), us(-1), us(-1_000)], [1, 1, -1, -1]);
    }

    #[test]
    fn i12_places_and_counts_are_those_of_a_chunk() {
        assert_eq!(places(0, 65_536), Ok(0..65_536));
        assert_eq!(places(7, 3), Ok(7..7));
        for bad in [-1, 65_537, i32::MAX, i32::MIN] {
            assert_eq!(
                (places(0, bad), places(bad, 3)),
                (Err(Error::Place(bad)), Err(Error::Place(bad)))
            );
        }
        assert_eq!(count(65_536), Ok(65_536));
        for bad in [-1, 65_537, i64::MAX, i64::MIN] {
            assert_eq!(count(bad), Err(Error::Column));
        }
        for rate_hz in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Axis::new(0, rate_hz).is_err(), "{rate_hz}");
        }
    }
}
