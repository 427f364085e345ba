//! The instrument's time: which sample was taken when, and the answer to its question what time it is. Pure.
//!
//! # Invariants
//! - A [`TimeMap`] has a rate near the nominal one and a counter within the sample axis, so that no arithmetic on it overflows.
//! - An instrument whose UTC is far from the host's has not been told the time yet, and one whose rate is no crystal's (an emulated one whose
//!   clock is slowed) cannot tell it: such a map places samples, but tells no time, and the host's clock counts.

use wavekeep_proto::limits::SAMPLE_ID_MAX;

use super::limits;

/// Ticks of a sample id per second.
pub(super) const TICK_HZ: u64 = 2_000_000;
/// 2018-01-01, in nanoseconds since 1970: where the instrument's time starts.
const EPOCH_NS: i64 = 1_514_764_800_000_000_000;
const NS: i128 = 1_000_000_000;
/// Parts per million that a clock may be off. Crystals are off by 50.
const RATE_OFF_PPM: u64 = 1_000;
const NOMINAL_Q32: u64 = TICK_HZ << 32;
const MAP_BYTES: usize = 32;
/// Of a time question: reserved, when it was sent, and three fields for the answer.
const QUESTION_BYTES: usize = 16;

/// Nanoseconds since 1970 of the instrument's time, which counts 2^-30 s; `None` beyond the year 2262.
fn ns_from_q30(time: i64) -> Option<i64> {
    let ns = (i128::from(time) * NS + (1 << 29)) >> 30;
    i64::try_from(ns + i128::from(EPOCH_NS)).ok()
}

/// The instrument's time, to the nearest; saturating.
fn q30_from_ns(utc_ns: i64) -> i64 {
    let since = (i128::from(utc_ns) - i128::from(EPOCH_NS)) << 30;
    i64::try_from((since + NS / 2).div_euclid(NS)).unwrap_or(if utc_ns < 0 { i64::MIN } else { i64::MAX })
}

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeMap {
    utc_ns: i64,
    counter: u64,
    /// Ticks per second, times 2^32.
    rate_q32: u64,
    tells_time: bool,
}

impl TimeMap {
    /// From the instrument's message, at `host_utc_ns`. `None`: it makes no sense.
    pub(super) fn parse(bytes: &[u8], host_utc_ns: i64) -> Option<Self> {
        let [_, utc, counter, rate_q32] = words(bytes.get(..MAP_BYTES)?)?;
        let off = rate_q32.abs_diff(NOMINAL_Q32);
        if counter > SAMPLE_ID_MAX {
            return None;
        }
        let has_rate = off <= NOMINAL_Q32 / 1_000_000 * RATE_OFF_PPM;
        let utc_ns = ns_from_q30(utc as i64);
        let off_ns = utc_ns.map_or(u64::MAX, |utc_ns| utc_ns.abs_diff(host_utc_ns));
        Some(Self {
            utc_ns: utc_ns.unwrap_or(0),
            counter,
            rate_q32: if has_rate { rate_q32 } else { NOMINAL_Q32 },
            tells_time: has_rate && u128::from(off_ns) <= limits::TIME_MAP_OFF.as_nanos(),
        })
    }

    /// When the sample of this id was taken, in nanoseconds since 1970, if the instrument knows.
    pub(super) fn utc_ns(&self, id: u64) -> Option<i64> {
        if !self.tells_time {
            return None;
        }
        // Both below 2^62, so this is below 2^125.
        let ticks = i128::from(id.min(SAMPLE_ID_MAX)) - i128::from(self.counter);
        let rate = i128::from(self.rate_q32);
        let ns = (((ticks * NS) << 32) + rate / 2).div_euclid(rate);
        i64::try_from(i128::from(self.utc_ns) + ns).ok()
    }

    /// About which id the counter stands at, at `host_utc_ns`.
    pub(super) fn counter_at(&self, host_utc_ns: i64) -> u64 {
        if !self.tells_time {
            return self.counter;
        }
        let ns = i128::from(host_utc_ns) - i128::from(self.utc_ns);
        let ticks = (ns * i128::from(self.rate_q32) / NS) >> 32;
        let counter = (i128::from(self.counter) + ticks).clamp(0, i128::from(SAMPLE_ID_MAX));
        counter as u64
    }
}

/// The payload that answers the instrument's question (its bytes after the port's header), which came at `received_ns` and is
/// answered at `sent_ns`. `None`: it was no such question.
pub(super) fn answer_time(question: &[u8], received_ns: i64, sent_ns: i64) -> Option<Vec<u8>> {
    let asked = question.get(..QUESTION_BYTES)?;
    let mut answer = vec![super::js220::OP_TIMESYNC, 0, 0, 0];
    answer.extend_from_slice(asked);
    answer.extend(q30_from_ns(received_ns).to_le_bytes());
    answer.extend(q30_from_ns(sent_ns).to_le_bytes());
    answer.extend([0; 8]);
    Some(answer)
}

fn words<const COUNT: usize>(bytes: &[u8]) -> Option<[u64; COUNT]> {
    let words: Vec<_> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    words.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_NS: i64 = 1_790_000_000_000_000_000;

    fn map(utc: i64, counter: u64, rate_q32: u64) -> Option<TimeMap> {
        let words = [0, utc as u64, counter, rate_q32];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        TimeMap::parse(&bytes, NOW_NS)
    }

    #[test]
    fn the_instruments_time_starts_in_2018() {
        assert_eq!(ns_from_q30(0), Some(EPOCH_NS));
        assert_eq!(ns_from_q30(1 << 29), Some(EPOCH_NS + 500_000_000));
        assert_eq!(q30_from_ns(EPOCH_NS - 250_000_000), -(1 << 28));
        assert_eq!(ns_from_q30(i64::MIN), Some(EPOCH_NS - (1 << 33) * 1_000_000_000));
    }

    #[test]
    fn a_sample_has_its_time_to_the_nanosecond() {
        let map = map(q30_from_ns(NOW_NS), 10_000_000, NOMINAL_Q32).expect("it is a map");
        assert_eq!(map.utc_ns(10_000_000), Some(NOW_NS));
        assert_eq!(map.utc_ns(10_000_003), Some(NOW_NS + 1_500));
        assert_eq!(map.utc_ns(0), Some(NOW_NS - 5_000_000_000));
        // Three weeks on.
        let later = 21 * 86_400;
        assert_eq!(
            map.utc_ns(10_000_001 + later * TICK_HZ),
            Some(NOW_NS + later as i64 * 1_000_000_000 + 500)
        );
        assert_eq!(map.counter_at(NOW_NS + 2_000_000_000), 14_000_000);
        let fast = self::map(q30_from_ns(NOW_NS), 0, NOMINAL_Q32 + NOMINAL_Q32 / 10_000).expect("it is a map");
        assert_eq!(fast.utc_ns(TICK_HZ), Some(NOW_NS + 999_900_010));
    }

    #[test]
    fn garbage_is_refused_and_a_foreign_time_tells_none() {
        assert_eq!(map(q30_from_ns(NOW_NS), u64::MAX, NOMINAL_Q32), None);
        assert_eq!(TimeMap::parse(&[0; 31], 0), None);
        for utc in [0, i64::MIN, i64::MAX, q30_from_ns(NOW_NS + 3_601_000_000_000)] {
            let map = map(utc, 5_000, NOMINAL_Q32).expect("its counter is good");
            assert_eq!((map.utc_ns(5_000), map.counter_at(NOW_NS)), (None, 5_000));
        }
        for rate in [0, u64::MAX, NOMINAL_Q32 / 2] {
            let map = map(q30_from_ns(NOW_NS), 5_000, rate).expect("its counter is good");
            assert_eq!((map.utc_ns(5_000), map.counter_at(NOW_NS)), (None, 5_000));
        }
    }

    #[test]
    fn the_question_comes_back_with_the_hosts_time() {
        let question: Vec<u8> = (0..40).collect();
        let answer =
            answer_time(&question, EPOCH_NS + 1_000_000_000, EPOCH_NS + 1_500_000_000).expect("it is a question");
        let mut expected = vec![3, 0, 0, 0];
        expected.extend(0..16);
        expected.extend((1u64 << 30).to_le_bytes());
        expected.extend((3u64 << 29).to_le_bytes());
        expected.extend([0; 8]);
        assert_eq!(answer, expected);
        assert_eq!(answer.len(), 44);
        assert_eq!(answer_time(&question[..15], 0, 0), None);
    }

    proptest! {
        #[test]
        fn i12_arbitrary_maps_never_panic(words: [u64; 4], near in -2_000_000_000_000i64..2_000_000_000_000, id: u64, utc: i64) {
            let rates = [words[3], NOMINAL_Q32 + words[3] % 1_000_000_000_000];
            for rate in rates {
                for time in [words[1] as i64, q30_from_ns(NOW_NS.saturating_add(near))] {
                    if let Some(map) = map(time, words[2] >> 2, rate) {
                        let _ = (map.utc_ns(id), map.counter_at(utc));
                    }
                }
            }
            let _ = (q30_from_ns(utc), ns_from_q30(utc));
        }
    }
}
