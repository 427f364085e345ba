//! `--schedule`: the hours of the day in which the uplink may have a session. Pure: the time and the time zone are arguments.
//!
//! Hours are those of a clock on the wall. In the night in which an hour comes twice, it counts twice; in the one in which an hour
//! does not come, what would begin or end in it begins or ends when the clock jumps.
//!
//! # Invariants
//! - Whether it is open depends on the time of day alone: a clock that steps needs no more than to be asked again.
//! - I12: a schedule has at most [`limits::SCHEDULE_WINDOWS_MAX`] windows.

use std::fmt::{self, Display, Formatter};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::limits;

const DAY_MINUTES: u16 = 24 * 60;
/// A change of hours lies within a day of any moment, whatever the zone does meanwhile.
const LOOK_AHEAD_DAYS: i64 = 3;

/// Why this is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ScheduleError {
    #[error("write hours like 22:00-06:00 or 12:00-13:00,22:00-06:00, in local time, or with ` UTC` at the end")]
    Format,
    #[error("{0} is no time at all: write 00:00-24:00 for a whole day")]
    Empty(String),
    #[error("a schedule has at most {max} windows", max = limits::SCHEDULE_WINDOWS_MAX)]
    TooMany,
    #[error("the system's time zone is not known ({0}): set TZ, or write the hours in UTC with ` UTC` at the end")]
    NoZone(String),
}

/// From one minute of the day until before another; over midnight if that is the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: u16,
    to: u16,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Schedule {
    windows: Vec<Window>,
    zone: TimeZone,
    text: String,
}

impl Window {
    fn contains(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl Schedule {
    /// `HH:MM-HH:MM[,…]` in the system's time zone, or in UTC where ` UTC` is at the end.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        Self::parse_in(text, || {
            TimeZone::try_system().map_err(|error| ScheduleError::NoZone(error.to_string()))
        })
    }

    fn parse_in(text: &str, local: impl FnOnce() -> Result<TimeZone, ScheduleError>) -> Result<Self, ScheduleError> {
        let (hours, zone) = match text.trim().strip_suffix("UTC") {
            Some(hours) if hours.ends_with(' ') => (hours.trim(), TimeZone::UTC),
            Some(_) => return Err(ScheduleError::Format),
            None => (text.trim(), local()?),
        };
        let windows = hours.split(',').map(window).collect::<Result<Vec<_>, _>>()?;
        if windows.len() > limits::SCHEDULE_WINDOWS_MAX {
            return Err(ScheduleError::TooMany);
        }
        Ok(Self {
            windows,
            zone,
            text: text.trim().into(),
        })
    }

    /// May there be a session at this time (nanoseconds since 1970)?
    #[must_use]
    pub fn is_open(&self, utc_ns: i64) -> bool {
        self.is_open_at(timestamp(utc_ns))
    }

    fn is_open_at(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let minute = local.hour().unsigned_abs() as u16 * 60 + local.minute().unsigned_abs() as u16;
        self.windows.iter().any(|window| window.contains(minute))
    }

    /// When it is next the other way round, if ever.
    #[must_use]
    pub fn next_change_ns(&self, utc_ns: i64) -> Option<i64> {
        let now = timestamp(utc_ns);
        let is_open = self.is_open_at(now);
        let until = now
            .saturating_add(SignedDuration::from_hours(24 * LOOK_AHEAD_DAYS))
            .ok()?;
        let mut moments: Vec<Timestamp> = self.edges(now);
        moments.extend(
            self.zone
                .following(now)
                .map(|jump| jump.timestamp())
                .take_while(|at| *at <= until),
        );
        moments.sort_unstable();
        let change = moments
            .into_iter()
            .find(|at| *at > now && self.is_open_at(*at) != is_open)?;
        i64::try_from(change.as_nanosecond()).ok()
    }

    /// Where windows begin and end, from yesterday on. Those of an hour that comes twice, twice.
    fn edges(&self, now: Timestamp) -> Vec<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        let mut edges = Vec::new();
        for day in -1..=LOOK_AHEAD_DAYS {
            let Ok(date) = today.checked_add(day.days()) else {
                continue;
            };
            for minute in self.windows.iter().flat_map(|window| [window.from, window.to]) {
                let midnight: DateTime = date.at(0, 0, 0, 0);
                let Ok(edge) = midnight.checked_add(i64::from(minute).minutes()) else {
                    continue;
                };
                let both = self.zone.to_ambiguous_timestamp(edge);
                edges.extend(both.earlier().ok());
                edges.extend(both.later().ok());
            }
        }
        edges
    }

    /// A time as a clock on the wall shows it, with its distance from UTC (RFC 3339).
    #[must_use]
    pub fn on_the_wall(&self, utc_ns: i64) -> String {
        let zoned = timestamp(utc_ns).to_zoned(self.zone.clone());
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn window(text: &str) -> Result<Window, ScheduleError> {
    let (from, to) = text.trim().split_once('-').ok_or(ScheduleError::Format)?;
    let window = Window {
        from: minute_of_day(from)?,
        to: minute_of_day(to)?,
    };
    if window.from == window.to || window.from == DAY_MINUTES {
        return Err(ScheduleError::Empty(text.trim().into()));
    }
    Ok(window)
}

fn minute_of_day(text: &str) -> Result<u16, ScheduleError> {
    let number = |digits: &str| match digits.as_bytes() {
        [b'0'..=b'9', b'0'..=b'9'] => digits.parse::<u16>().map_err(|_| ScheduleError::Format),
        _ => Err(ScheduleError::Format),
    };
    let (hour, minute) = text.trim().split_once(':').ok_or(ScheduleError::Format)?;
    let (hour, minute) = (number(hour)?, number(minute)?);
    let of_day = hour * 60 + minute;
    if minute >= 60 || of_day > DAY_MINUTES {
        return Err(ScheduleError::Format);
    }
    Ok(of_day)
}

fn timestamp(utc_ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(utc_ns)).expect("64 bits of nanoseconds are far fewer years than jiff knows")
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
