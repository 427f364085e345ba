//! Which seq was reached when, in bounded memory (I12): marks at a coarse resolution that doubles when they become too many.
//! Both questions are answered late rather than early: an ack looks younger than it is, a stored chunk older.

use std::collections::VecDeque;
use std::time::Duration;

/// Marks of one stream.
const MARKS_MAX: usize = 128;
/// Between two marks, at first.
const RESOLUTION: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    /// Rising in both.
    marks: VecDeque<(Duration, u64)>,
    resolution: Duration,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            marks: VecDeque::new(),
            resolution: RESOLUTION,
        }
    }
}

impl Timeline {
    /// At `now`, everything up to `seq` was acked. Within the resolution, the last mark moves along, and stays young.
    pub(super) fn acked(&mut self, now: Duration, seq: u64) {
        self.push(now, seq, true);
    }

    /// At `now`, `seq` was stored. Within the resolution, the last mark stays, and gets old.
    pub(super) fn stored(&mut self, now: Duration, seq: u64) {
        self.push(now, seq, false);
    }

    fn push(&mut self, now: Duration, seq: u64, move_along: bool) {
        // A clock that steps back would break the order; nothing is lost by holding it.
        let now = self.marks.back().map_or(now, |(last, _)| now.max(*last));
        if self.marks.back().is_some_and(|(_, last)| *last >= seq) {
            return;
        }
        let compared_with = if move_along {
            self.marks.iter().rev().nth(1)
        } else {
            self.marks.back()
        };
        let too_soon = compared_with.is_some_and(|(time, _)| now - *time < self.resolution);
        match (too_soon, move_along) {
            (false, _) => self.marks.push_back((now, seq)),
            (true, true) => {
                let last = self.marks.back_mut();
                *last.expect("the mark compared with is not the last one") = (now, seq);
            }
            (true, false) => {}
        }
        if self.marks.len() > MARKS_MAX {
            self.resolution *= 2;
            self.thin();
        }
    }

    /// Drops every other mark, but neither the first nor the last.
    fn thin(&mut self) {
        let last = self.marks.len() - 1;
        let mut at = 0..;
        self.marks
            .retain(|_| at.next().is_some_and(|at| at % 2 == 0 || at == last));
    }

    /// The last seq that was acked at `time` or before, as far as is known.
    pub(super) fn acked_by(&self, time: Duration) -> Option<u64> {
        self.marks.iter().rev().find(|(at, _)| *at <= time).map(|(_, seq)| *seq)
    }

    /// When `seq` was stored, or earlier.
    pub(super) fn stored_at(&self, seq: u64) -> Option<Duration> {
        self.marks
            .iter()
            .rev()
            .find(|(_, first)| *first <= seq)
            .or_else(|| self.marks.front())
            .map(|(at, _)| *at)
    }

    /// Forgets what was before `seq`, but for the mark that `seq` itself belongs to.
    pub(super) fn forget_before(&mut self, seq: u64) {
        while self.marks.get(1).is_some_and(|(_, next)| *next <= seq) {
            self.marks.pop_front();
        }
    }

    /// The acks went back to `seq`.
    pub(super) fn rewind(&mut self, seq: u64) {
        while self.marks.back().is_some_and(|(_, last)| *last > seq) {
            self.marks.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    proptest! {
        #[test]
        fn i12_marks_are_bounded_and_err_on_the_late_side(steps in proptest::collection::vec((0..5_000u64, 0..9u64), 1..1_000)) {
            let (mut acks, mut stores) = (Timeline::default(), Timeline::default());
            let (mut now, mut seq) = (ms(0), 0);
            let mut truth = Vec::new();
            for (wait, more) in steps {
                now += ms(wait);
                seq += more;
                acks.acked(now, seq);
                if more > 0 {
                    stores.stored(now, seq);
                }
                truth.push((now, seq));
            }
            prop_assert!(acks.marks.len() <= MARKS_MAX && stores.marks.len() <= MARKS_MAX);
            for (time, _) in &truth {
                let really = truth.iter().rev().find(|(at, _)| at <= time).map_or(0, |(_, seq)| *seq);
                prop_assert!(acks.acked_by(*time).unwrap_or(0) <= really, "an ack must not look older than it is");
            }
            for seq in 1..=seq {
                let really = truth.iter().find(|(_, stored)| *stored >= seq).expect("it was stored").0;
                prop_assert!(stores.stored_at(seq).expect("something was stored") <= really);
            }
            prop_assert_eq!(acks.acked_by(now), Some(seq));
        }
    }

    #[test]
    fn a_steady_stream_of_acks_ages() {
        let mut acks = Timeline::default();
        for step in 0..100_000u64 {
            acks.acked(ms(step * 10), step + 1);
        }
        let hour_ago = acks
            .acked_by(ms(1_000_000 - 300_000))
            .expect("there are marks from before");
        assert!((60_000..=70_000).contains(&hour_ago), "{hour_ago}");
    }

    #[test]
    fn rewinding_forgets_later_acks() {
        let mut acks = Timeline::default();
        acks.acked(ms(0), 5);
        acks.acked(ms(1_000), 9);
        acks.rewind(7);
        assert_eq!(acks.acked_by(ms(9_000)), Some(5));
        acks.acked(ms(2_000), 8);
        assert_eq!((acks.acked_by(ms(1_999)), acks.acked_by(ms(2_000))), (Some(5), Some(8)));
    }
}
