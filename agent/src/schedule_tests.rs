//! Hours against a clock that is asked each minute, in zones whose clocks jump.

use proptest::prelude::*;

use super::*;

const MINUTE_NS: i64 = 60_000_000_000;

/// Half the year an hour, or half of one, ahead: New York, Lord Howe, and one that jumps over midnight.
const ZONES: [&str; 4] = [
    "UTC0",
    "EST5EDT,M3.2.0,M11.1.0",
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    "<-03>3<-02>,M10.1.0/0,M3.1.0/0",
];

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::parse_in(text, || Ok(TimeZone::posix(zone).expect("it is a zone"))).expect("they are hours")
}

fn at(text: &str) -> i64 {
    let time: Timestamp = text.parse().expect("it is a time");
    i64::try_from(time.as_nanosecond()).expect("it is of this century")
}

#[test]
fn hours_over_midnight_are_open_on_both_sides_of_it() {
    let nights = schedule("22:00-06:00", "UTC0");
    for (time, is_open) in [
        ("2026-01-31T21:59:59.999999999Z", false),
        ("2026-01-31T22:00:00Z", true),
        ("2026-02-01T00:00:00Z", true),
        ("2026-02-01T05:59:59.999999999Z", true),
        ("2026-02-01T06:00:00Z", false),
    ] {
        assert_eq!(nights.is_open(at(time)), is_open, "{time}");
    }
    assert_eq!(
        nights.next_change_ns(at("2026-01-31T23:00:00Z")),
        Some(at("2026-02-01T06:00:00Z"))
    );
    assert_eq!(
        nights.next_change_ns(at("2026-02-01T06:00:00Z")),
        Some(at("2026-02-01T22:00:00Z"))
    );
    let new_york = schedule("22:00-06:00", ZONES[1]);
    assert_eq!(
        new_york.next_change_ns(at("2026-01-31T12:00:00Z")),
        Some(at("2026-02-01T03:00:00Z"))
    );
    assert_eq!(
        new_york.on_the_wall(at("2026-02-01T03:00:00Z")),
        "2026-01-31T22:00:00-05:00"
    );
}

#[test]
fn windows_that_meet_are_one_and_a_whole_day_never_changes() {
    let all = schedule("00:00-24:00", "UTC0");
    assert!(all.is_open(at("2026-01-31T00:00:00Z")));
    assert_eq!(all.next_change_ns(at("2026-01-31T00:00:00Z")), None);
    let two = schedule("08:00-12:00, 12:00-24:00", "UTC0");
    assert_eq!(
        two.next_change_ns(at("2026-01-31T09:00:00Z")),
        Some(at("2026-02-01T00:00:00Z"))
    );
    let evening = schedule("23:00-00:00", "UTC0");
    assert_eq!(
        evening.next_change_ns(at("2026-01-31T23:30:00Z")),
        Some(at("2026-02-01T00:00:00Z"))
    );
}

#[test]
fn an_hour_that_comes_twice_counts_twice_and_one_that_does_not_come_begins_at_the_jump() {
    // On 1 November 2026, 01:00-02:00 comes twice in New York: 05:00 to 07:00 UTC.
    let twice = schedule("01:00-01:30", ZONES[1]);
    assert_eq!(
        twice.next_change_ns(at("2026-11-01T05:10:00Z")),
        Some(at("2026-11-01T05:30:00Z"))
    );
    assert_eq!(
        twice.next_change_ns(at("2026-11-01T05:30:00Z")),
        Some(at("2026-11-01T06:00:00Z"))
    );
    assert_eq!(
        twice.next_change_ns(at("2026-11-01T06:00:00Z")),
        Some(at("2026-11-01T06:30:00Z"))
    );
    // On 8 March 2026, 02:00-03:00 does not come: 07:00 UTC is 03:00.
    let never = schedule("02:30-04:00", ZONES[1]);
    assert_eq!(
        never.next_change_ns(at("2026-03-08T06:00:00Z")),
        Some(at("2026-03-08T07:00:00Z"))
    );
}

#[test]
fn what_are_no_hours_is_refused_with_an_example() {
    for text in [
        "",
        "22-06",
        "22:00",
        "22:00-",
        "22:00-6:00",
        "24:01-01:00",
        "22:60-23:00",
        "22:00-06:00,",
        "a-b",
        "+1:00-02:00",
        "22:00-06:00UTC",
        "UTC",
    ] {
        let error = Schedule::parse(text).expect_err(text);
        assert!(error.to_string().contains("22:00-06:00"), "{text}: {error}");
    }
    assert!(matches!(
        Schedule::parse("06:00-06:00 UTC"),
        Err(ScheduleError::Empty(_))
    ));
    assert!(matches!(
        Schedule::parse("24:00-06:00 UTC"),
        Err(ScheduleError::Empty(_))
    ));
    let many = vec!["01:00-02:00"; limits::SCHEDULE_WINDOWS_MAX + 1].join(",");
    assert_eq!(Schedule::parse(&many).map(drop), Err(ScheduleError::TooMany));
    let utc = Schedule::parse(" 22:00-06:00 UTC ").expect("they are hours");
    assert_eq!(utc.to_string(), "22:00-06:00 UTC");
    assert!(utc.is_open(at("2026-07-01T23:00:00Z")) && !utc.is_open(at("2026-07-01T21:00:00Z")));
}

fn hours() -> impl Strategy<Value = String> {
    let window = (0..24u16, 0..60u16, 1..1_439u16).prop_map(|(hour, minute, length)| {
        let end = (hour * 60 + minute + length) % DAY_MINUTES;
        format!("{hour:02}:{minute:02}-{:02}:{:02}", end / 60, end % 60)
    });
    prop::collection::vec(window, 1..4).prop_map(|windows| windows.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_change_is_the_first_minute_that_is_otherwise(
        text in hours(),
        zone in prop::sample::select(ZONES.to_vec()),
        day in 0..365i64,
        second in 0..86_400i64,
        nanosecond in 0..1_000_000_000i64,
    ) {
        let schedule = schedule(&text, zone);
        let now = at("2026-01-01T00:00:00Z") + (day * 86_400 + second) * 1_000_000_000 + nanosecond;
        let is_open = schedule.is_open(now);
        let next_minute = now - now % MINUTE_NS + MINUTE_NS;
        let asked = (0..2_880).map(|minute| next_minute + minute * MINUTE_NS).find(|at| schedule.is_open(*at) != is_open);
        prop_assert_eq!(schedule.next_change_ns(now), asked, "{} in {}", text, zone);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", utc_ns in any::<i64>()) {
        if let Ok(schedule) = Schedule::parse_in(&text, || Ok(TimeZone::UTC)) {
            let _ = (schedule.is_open(utc_ns), schedule.next_change_ns(utc_ns));
        }
        let schedule = schedule("22:00-06:00", ZONES[1]);
        let _ = (schedule.is_open(utc_ns), schedule.next_change_ns(utc_ns), schedule.on_the_wall(utc_ns));
    }
}
