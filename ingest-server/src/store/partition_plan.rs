//! Which days a new partition covers. Pure: days since 1970-01-01 UTC, half-open ranges.
//!
//! Recent days, and those just ahead, get a partition each, because retention drops whole partitions. Other days within ten
//! years get one for their calendar month, and all that is further off one for its decade: a replay of any date has its
//! place, while a clock that is years wrong, or that jumps about, makes some hundred partitions at most and never thousands.
//! A range is cut where others are already; so whatever exists stays, and what an odd clock made early is used when its time
//! comes.

use jiff::civil::{Date, date};

/// This many days back get a partition for each day.
const DAILY_DAYS: i64 = 35;
/// This many days back and ahead get one for each month.
const MONTHLY_DAYS: i64 = 3_653;

const DAY_NS: i64 = 86_400_000_000_000;

/// From `from` to the day before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Days {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Days {
    pub(super) const fn contains(self, day: i64) -> bool {
        self.from <= day && day < self.to
    }
}

/// The day of a time.
pub(super) const fn day_of(utc_ns: i64) -> i64 {
    utc_ns.div_euclid(DAY_NS)
}

/// The first day of partition, as `yyyymmdd` for its name.
pub(super) fn name_of(day: i64) -> String {
    civil(day).strftime("%Y%m%d").to_string()
}

const EPOCH: Date = date(1970, 1, 1);

fn civil(day: i64) -> Date {
    let days = jiff::Span::new().days(day);
    EPOCH
        .checked_add(days)
        .expect("nanoseconds in 64 bits reach from 1677 to 2262")
}

fn day_number(date: Date) -> i64 {
    let span = EPOCH.until(date).expect("days are the default unit between dates");
    i64::from(span.get_days())
}

/// Is it a day that normal operation has a partition for?
fn is_recent(today: i64, day: i64) -> bool {
    (today - DAILY_DAYS..=today + super::limits::PARTITION_DAYS_AHEAD).contains(&day)
}

fn whole(today: i64, day: i64) -> Days {
    if is_recent(today, day) {
        return Days { from: day, to: day + 1 };
    }
    let date = civil(day);
    if (day - today).abs() <= MONTHLY_DAYS {
        let next = date
            .last_of_month()
            .tomorrow()
            .expect("far from the end of the calendar");
        let month = Days {
            from: day_number(date.first_of_month()),
            to: day_number(next),
        };
        return outside(
            month,
            day,
            today - DAILY_DAYS,
            today + super::limits::PARTITION_DAYS_AHEAD + 1,
        );
    }
    let decade = date.year() - date.year().rem_euclid(10);
    let start = |year| day_number(Date::new(year, 1, 1).expect("a year between 1670 and 2270"));
    let decade = Days {
        from: start(decade),
        to: start(decade + 10),
    };
    outside(decade, day, today - MONTHLY_DAYS, today + MONTHLY_DAYS + 1)
}

/// Leaves out what lies from `from` to `to`, where partitions are smaller: `day` does not.
fn outside(days: Days, day: i64, from: i64, to: i64) -> Days {
    if day < from {
        Days {
            to: days.to.min(from),
            ..days
        }
    } else {
        Days {
            from: days.from.max(to),
            ..days
        }
    }
}

/// What to make for `day`; None where `existing` has it.
pub(super) fn plan(today: i64, day: i64, existing: &[Days]) -> Option<Days> {
    if existing.iter().any(|days| days.contains(day)) {
        return None;
    }
    let whole = whole(today, day);
    let from = existing.iter().map(|days| days.to).filter(|to| *to <= day).max();
    let to = existing.iter().map(|days| days.from).filter(|from| *from > day).min();
    Some(Days {
        from: from.map_or(whole.from, |from| from.max(whole.from)),
        to: to.map_or(whole.to, |to| to.min(whole.to)),
    })
}

/// TimescaleDB makes partitions that begin at a multiple of their width, counted from 1970, and cuts them where others are. How wide
/// one for `day` is to be: a day, or about a month or ten years, but never so that it reaches to where they are smaller.
pub(super) fn width_of_aligned(today: i64, day: i64) -> i64 {
    if is_recent(today, day) {
        return 1;
    }
    let is_far = (day - today).abs() > MONTHLY_DAYS;
    let (most, before, after) = if is_far {
        (3_652, today - MONTHLY_DAYS, today + MONTHLY_DAYS + 1)
    } else {
        (30, today - DAILY_DAYS, today + super::limits::PARTITION_DAYS_AHEAD + 1)
    };
    let fits = |width: &i64| {
        let from = day - day.rem_euclid(*width);
        if day < today {
            from + width <= before
        } else {
            from >= after
        }
    };
    (1..=most).rev().find(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: i64 = 20_780; // 2026-11-23

    fn text(days: Days) -> (String, String) {
        (name_of(days.from), name_of(days.to))
    }

    #[test]
    fn recent_days_stand_alone_others_share_a_month_or_a_decade() {
        let made = |day| text(plan(TODAY, day, &[]).expect("nothing exists"));
        assert_eq!(made(TODAY), ("20261123".into(), "20261124".into()));
        assert_eq!(made(TODAY + 2), ("20261125".into(), "20261126".into()));
        assert_eq!(
            made(TODAY + 3),
            ("20261126".into(), "20261201".into()),
            "leaves out the days that are next"
        );
        assert_eq!(made(TODAY - 36), ("20261001".into(), "20261019".into()));
        assert_eq!(made(TODAY - 66), ("20260901".into(), "20261001".into()));
        assert_eq!(made(TODAY + 3_654), ("20361124".into(), "20400101".into()));
        assert_eq!(made(0), ("19700101".into(), "19800101".into()));
        assert_eq!(made(day_of(i64::MIN)), ("16700101".into(), "16800101".into()));
        assert_eq!(made(day_of(i64::MAX)), ("22600101".into(), "22700101".into()));
        assert_eq!(day_of(-1), -1);
    }

    #[test]
    fn a_range_is_cut_where_others_are() {
        let one_day = |from| Days { from, to: from + 1 };
        let existing = [one_day(TODAY + 3), one_day(TODAY + 6)];
        assert_eq!(plan(TODAY, TODAY + 3, &existing), None);
        let between = Days {
            from: TODAY + 4,
            to: TODAY + 6,
        };
        assert_eq!(plan(TODAY, TODAY + 4, &existing), Some(between));
        let month = plan(TODAY, TODAY + 3, &[]).expect("nothing exists");
        let later = TODAY + 5;
        assert_eq!(
            plan(later, later, &[month]),
            None,
            "made early by an odd clock, used when its time comes"
        );
    }

    #[test]
    fn aligned_partitions_are_wide_far_from_today_and_leave_out_what_is_near() {
        let made = |day: i64| {
            let width = width_of_aligned(TODAY, day);
            let from = day - day.rem_euclid(width);
            (from, from + width)
        };
        assert_eq!(made(TODAY), (TODAY, TODAY + 1));
        assert_eq!(made(0), (0, 3_652));
        assert_eq!(made(-1), (-3_652, 0));
        for day in (-106_752..106_752).filter(|day| !is_recent(TODAY, *day)) {
            let (from, to) = made(day);
            assert!((from..to).contains(&day), "{day}");
            let is_far = (day - TODAY).abs() > MONTHLY_DAYS;
            let border = if is_far { MONTHLY_DAYS } else { DAILY_DAYS };
            let ahead = if is_far {
                MONTHLY_DAYS
            } else {
                super::super::limits::PARTITION_DAYS_AHEAD
            };
            let near = if day < TODAY {
                to > TODAY - border
            } else {
                from <= TODAY + ahead
            };
            assert!(!near, "{day}: {from} to {to}");
        }
    }

    /// As TimescaleDB does it.
    fn cut(day: i64, width: i64, existing: &[Days]) -> Days {
        let from = day - day.rem_euclid(width);
        let before = existing.iter().map(|days| days.to).filter(|to| *to <= day).max();
        let after = existing.iter().map(|days| days.from).filter(|from| *from > day).min();
        Days {
            from: before.map_or(from, |before| before.max(from)),
            to: after.map_or(from + width, |after| after.min(from + width)),
        }
    }

    #[test]
    fn a_clock_that_jumps_about_makes_some_hundred_aligned_partitions() {
        let mut existing: Vec<Days> = Vec::new();
        for step in 0..200_000i64 {
            // A prime number of days apart; the second half near today.
            let day = if step % 2 == 0 {
                (step * 7_919).rem_euclid(213_000) - 106_500
            } else {
                TODAY + (step * 7_919).rem_euclid(2 * MONTHLY_DAYS) - MONTHLY_DAYS
            };
            if plan(TODAY, day, &existing).is_some() {
                existing.push(cut(day, width_of_aligned(TODAY, day), &existing));
            }
        }
        assert!((280..450).contains(&existing.len()), "{} partitions", existing.len());
    }

    #[test]
    fn a_clock_that_jumps_about_makes_some_hundred_partitions() {
        let mut existing: Vec<Days> = Vec::new();
        let mut state = 1u64;
        for round in 0..200_000u32 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Half of them anywhere in 585 years, half within the ten years around today.
            let utc_ns = if round % 2 == 0 {
                state.cast_signed()
            } else {
                TODAY * DAY_NS + state.cast_signed() / 20
            };
            let day = day_of(utc_ns);
            if let Some(made) = plan(TODAY, day, &existing) {
                assert!(made.contains(day), "{made:?} is for {day}");
                assert!(
                    existing
                        .iter()
                        .all(|other| other.to <= made.from || made.to <= other.from),
                    "{made:?} overlaps"
                );
                existing.push(made);
            }
        }
        assert!(existing.len() > 280, "the test reaches its range: {}", existing.len());
        assert!(existing.len() < 400, "{} partitions", existing.len());
    }
}
