//! The 64-bit sample ids of one signal, from the lower halves that its frames carry. Pure.
//!
//! A lower half wraps every 2,147 s, so it tells where a frame stands only next to something that is known: the frame before it, or,
//! at the start and after a long silence, the id that is expected by the clock.
//!
//! # Invariants
//! - What is placed never overlaps what was placed before, and never lies before it.
//! - I4: a frame that continues after a hole says how long the hole is.

use wavekeep_proto::limits::SAMPLE_ID_MAX;

/// A difference of at least this many ticks is none: 8.9 minutes.
const NEAR_TICKS: u32 = 1 << 30;

/// Where the samples of a frame stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    Samples {
        /// The id of the first sample that is new.
        first: u64,
        /// Samples at the frame's start that were there before.
        known: u64,
        /// Ticks that are missing before it.
        missing: u64,
    },
    /// All of it was there before.
    Old,
    /// Nobody knows where it stands.
    Unplaced,
}

/// Follows one signal.
#[derive(Debug, Clone)]
pub(super) struct SampleIds {
    /// Ticks of a sample.
    decimate: u64,
    next: Option<u64>,
}

impl SampleIds {
    pub(super) fn new(decimate: u64) -> Self {
        Self { decimate, next: None }
    }

    /// Places `count` samples (one at least), of which the first has the lower half `id`. `expected`: the id by the clock, if that is
    /// known; `in_doubt`: so much time passed that the frame before tells nothing.
    pub(super) fn place(&mut self, id: u32, count: u64, expected: Option<u64>, in_doubt: bool) -> Placed {
        let Some(next) = self.next else {
            return self.place_by(id, count, expected, 0);
        };
        // The lower halves: differences wrap as they do.
        let skip = id.wrapping_sub(next as u32);
        let back = (next as u32).wrapping_sub(id);
        if skip == 0 {
            // Also in doubt: a silence of a multiple of 2,147 s, to the tick, is less likely than a clock that was set.
            self.accept(next, count, 0, 0)
        } else if in_doubt || (skip >= NEAR_TICKS && back >= NEAR_TICKS) {
            self.place_by(id, count, expected, next)
        } else if skip < NEAR_TICKS {
            self.accept(next.saturating_add(skip.into()), count, 0, skip.into())
        } else {
            let known = u64::from(back).div_ceil(self.decimate);
            if known >= count {
                return Placed::Old;
            }
            let first = next.saturating_sub(back.into()).saturating_add(known * self.decimate);
            self.accept(first, count - known, known, 0)
        }
    }

    /// The id with this lower half that is nearest to the expected one; not before `not_before`.
    fn place_by(&mut self, id: u32, count: u64, expected: Option<u64>, not_before: u64) -> Placed {
        let Some(expected) = expected else {
            return Placed::Unplaced;
        };
        let (ahead, behind) = (id.wrapping_sub(expected as u32), (expected as u32).wrapping_sub(id));
        let first = if ahead < NEAR_TICKS {
            expected.checked_add(ahead.into())
        } else if behind < NEAR_TICKS {
            expected.checked_sub(behind.into())
        } else {
            None
        };
        match first.filter(|first| *first >= not_before) {
            Some(first) => {
                let missing = self.next.map_or(0, |next| first - next);
                self.accept(first, count, 0, missing)
            }
            None => Placed::Unplaced,
        }
    }

    fn accept(&mut self, first: u64, count: u64, known: u64, missing: u64) -> Placed {
        let end = count
            .checked_mul(self.decimate)
            .and_then(|ticks| first.checked_add(ticks));
        let Some(end) = end.filter(|end| *end <= SAMPLE_ID_MAX) else {
            return Placed::Unplaced;
        };
        self.next = Some(end);
        Placed::Samples { first, known, missing }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 0x5_ffff_ff00;

    fn started() -> SampleIds {
        let mut ids = SampleIds::new(2);
        let first = ids.place(START as u32, 10, Some(START + 1_000), false);
        assert_eq!(first, samples(START, 0, 0));
        ids
    }

    fn samples(first: u64, known: u64, missing: u64) -> Placed {
        Placed::Samples { first, known, missing }
    }

    #[test]
    fn a_frame_continues_skips_repeats_or_overlaps() {
        let mut ids = started();
        let at = |offset: u64| (START + offset) as u32;
        assert_eq!(ids.place(at(20), 10, None, false), samples(START + 20, 0, 0));
        assert_eq!(ids.place(at(20), 10, None, false), Placed::Old);
        assert_eq!(ids.place(at(34), 10, None, false), samples(START + 40, 3, 0));
        assert_eq!(ids.place(at(154), 10, None, false), samples(START + 154, 0, 100));
    }

    #[test]
    fn without_a_time_nothing_has_a_place_and_the_next_one_tries_again() {
        let mut ids = SampleIds::new(1);
        assert_eq!(ids.place(7, 1, None, false), Placed::Unplaced);
        assert_eq!(
            ids.place(7, 1, Some(1 << 31), false),
            Placed::Unplaced,
            "too far from the time"
        );
        assert_eq!(ids.place(7, 1, Some(1 << 32), false), samples((1 << 32) + 7, 0, 0));
        let mut before = SampleIds::new(1);
        assert_eq!(
            before.place(0xffff_fff0, 1, Some(3 << 32), false),
            samples((3 << 32) - 16, 0, 0)
        );
        let mut end = SampleIds::new(1);
        assert_eq!(
            end.place(0xffff_ffff, 2, Some(SAMPLE_ID_MAX - 1), false),
            Placed::Unplaced
        );
    }

    #[test]
    fn a_silence_of_hours_is_placed_by_the_clock() {
        let (mut ids, later) = (started(), START + 3 * 3_600 * 2_000_000);
        let near = later - 40_000_000;
        assert_eq!(
            ids.place(later as u32, 10, Some(near), true),
            samples(later, 0, later - START - 20)
        );
        let mut ids = started();
        assert_eq!(
            ids.place((START + 20) as u32, 5, Some(near), true),
            samples(START + 20, 0, 0)
        );
        assert_eq!(
            ids.place((START + 40) as u32, 5, Some(START - 5_000), true),
            samples(START + 40, 0, 10)
        );
        assert_eq!(
            ids.place((START + 10) as u32, 5, Some(START - 5_000), true),
            Placed::Unplaced,
            "not back"
        );
    }

    #[test]
    fn weeks_pass_without_a_hole() {
        let (mut ids, mut id) = (started(), START + 20);
        let frame = 1 << 28;
        // Four weeks.
        while id < START + 28 * 86_400 * 2_000_000 {
            assert_eq!(ids.place(id as u32, frame, None, false), samples(id, 0, 0));
            id += frame * 2;
        }
    }

    proptest! {
        #[test]
        fn i4_places_never_overlap(frames in proptest::collection::vec((any::<u32>(), 1u64..2_000, any::<Option<u64>>(), any::<bool>()), 1..50)) {
            let (mut ids, mut end) = (SampleIds::new(2), 0);
            for (id, count, expected, in_doubt) in frames {
                let before = ids.next;
                if let Placed::Samples { first, known, missing } = ids.place(id, count, expected, in_doubt) {
                    prop_assert!(first >= end && known < count);
                    prop_assert_eq!((first + 2 * SAMPLE_ID_MAX - known * 2) as u32, id);
                    prop_assert_eq!(before.map_or(0, |before| first - before.min(first)), if known > 0 { before.map_or(0, |b| first - b) } else { missing });
                    end = first + (count - known) * 2;
                }
            }
        }
    }
}
