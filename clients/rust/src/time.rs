//! Times as people write them: RFC 3339, or `-10s` for ten seconds before the end of what is stored.

use jiff::{SignedDuration, Timestamp};

/// A moment, or a distance from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// UTC, in nanoseconds since 1970.
    At(i64),
    /// So many nanoseconds before the end of what is stored.
    BeforeEnd(i64),
}

/// Text that cannot be parsed as a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: give one like 2026-03-01T12:00:00Z (RFC 3339), or -10s for ten seconds before the end")]
pub struct BadTime(String);

impl std::str::FromStr for Moment {
    type Err = BadTime;
    fn from_str(text: &str) -> Result<Self, BadTime> {
        let bad = || BadTime(text.into());
        if let Some(distance) = text.strip_prefix('-') {
            let starts = distance.starts_with(|first: char| first.is_ascii_digit());
            let distance: Option<SignedDuration> = distance.parse().ok().filter(|_| starts);
            // `10s ago` is a duration too: after the end, with this sign.
            let distance = distance.filter(|distance| !distance.is_negative()).ok_or_else(bad)?;
            return i64::try_from(distance.as_nanos())
                .map(Self::BeforeEnd)
                .map_err(|_| bad());
        }
        let timestamp: Timestamp = text.parse().map_err(|_| bad())?;
        i64::try_from(timestamp.as_nanosecond())
            .map(Self::At)
            .map_err(|_| bad())
    }
}

impl Moment {
    /// UTC in nanoseconds, given the end of what is stored.
    #[must_use]
    pub fn resolve(self, end_ns: i64) -> i64 {
        match self {
            Self::At(ns) => ns,
            Self::BeforeEnd(ns) => end_ns.saturating_sub(ns),
        }
    }
}

/// RFC 3339 in UTC, with as many decimals as the nanoseconds need.
#[must_use]
pub fn rfc3339(ns: i64) -> String {
    // Every i64 of nanoseconds lies in the years that a Timestamp has.
    Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |timestamp| timestamp.to_string())
}

/// The same to the millisecond, rounded down: for tables.
#[must_use]
pub fn rfc3339_ms(ns: i64) -> String {
    let ms = ns.div_euclid(1_000_000).saturating_mul(1_000_000);
    Timestamp::from_nanosecond(i128::from(ms)).map_or_else(|_| ns.to_string(), |timestamp| format!("{timestamp:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_written() {
        let ns = 1_700_000_000_123_456_789;
        assert_eq!(
            (rfc3339_ms(ns).as_str(), rfc3339_ms(0).as_str()),
            ("2023-11-14T22:13:20.123Z", "1970-01-01T00:00:00.000Z")
        );
        assert_eq!(rfc3339(ns).parse(), Ok(Moment::At(ns)));
        assert_eq!(
            "2023-11-14T23:13:20+01:00".parse(),
            Ok(Moment::At(1_700_000_000_000_000_000))
        );
        assert_eq!("-10s".parse(), Ok(Moment::BeforeEnd(10_000_000_000)));
        assert_eq!("-250ms".parse(), Ok(Moment::BeforeEnd(250_000_000)));
        assert_eq!(
            "-1h".parse::<Moment>().map(|moment| moment.resolve(5)),
            Ok(5 - 3_600_000_000_000)
        );
    }

    #[test]
    fn what_cannot_be_parsed_is_refused_in_words() {
        for bad in [
            "",
            "-",
            "yesterday",
            "10s",
            "--10s",
            "-10s ago",
            "2023-11-14",
            "2023-11-14T23:13:20",
            "-9999999999h",
            "9999-12-31T00:00:00Z",
        ] {
            let error = bad.parse::<Moment>().expect_err(bad).to_string();
            assert!(error.contains("is not a time: give one like"), "{error}");
        }
    }
}
