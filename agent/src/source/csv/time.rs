//! Times as tables have them: RFC 3339, or numbers. Pure.
//!
//! # Invariants
//! - Decimals are read as decimals: a time in seconds since 1970 keeps its nanoseconds, which a float would not hold.

use jiff::Timestamp;

/// Later than this since 1970 (September 2001), a number is a date; before, it counts from the start of the recording.
pub(in crate::source) const ABSOLUTE_NS: i64 = 1_000_000_000_000_000_000;
/// A whole number of at least this much, without a unit, is nanoseconds: in seconds it would lie beyond all dates.
const NANOSECONDS_MIN: i128 = 100_000_000_000_000_000;

/// How a column's times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum TimeFormat {
    Rfc3339,
    /// A decimal number of so many nanoseconds.
    Number {
        scale_ns: i64,
    },
}

impl TimeFormat {
    /// Nanoseconds of a unit.
    pub(in crate::source) fn of_unit(unit: &str) -> Option<Self> {
        let scale_ns = match unit {
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        Some(Self::Number { scale_ns })
    }

    /// Where no unit is written, as the first time looks.
    pub(in crate::source) fn of_text(text: &str) -> Self {
        let is_date = text.contains(':');
        let whole: Option<i128> = text.parse().ok();
        match whole {
            _ if is_date => Self::Rfc3339,
            Some(whole) if whole >= NANOSECONDS_MIN => Self::Number { scale_ns: 1 },
            _ => Self::Number {
                scale_ns: 1_000_000_000,
            },
        }
    }

    /// Nanoseconds, since 1970 or since the start of the recording.
    pub(in crate::source) fn parse(self, text: &str) -> Option<i64> {
        match self {
            Self::Rfc3339 => {
                let time: Timestamp = text.parse().ok()?;
                i64::try_from(time.as_nanosecond()).ok()
            }
            Self::Number { scale_ns } => decimal(text, scale_ns),
        }
    }
}

/// A decimal number times `scale`, rounded to a whole one.
fn decimal(text: &str, scale: i64) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut number: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    number = number.checked_mul(i128::from(scale))?;
    let places = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    if places >= 0 {
        number = number.checked_mul(10i128.checked_pow(places.unsigned_abs())?)?;
    } else {
        // What is divided by more than it can be is nothing.
        number = match 10i128.checked_pow(places.unsigned_abs()) {
            Some(divisor) => (number + divisor / 2) / divisor,
            None => 0,
        };
    }
    i64::try_from(if is_negative { -number } else { number }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        let seconds = TimeFormat::of_text("1700000000.123456789");
        assert_eq!(seconds.parse("1700000000.123456789"), Some(1_700_000_000_123_456_789));
        assert_eq!(seconds.parse("-0.5"), Some(-500_000_000));
        assert_eq!(seconds.parse("1.5e-3"), Some(1_500_000));
        assert_eq!(seconds.parse("+2E3"), Some(2_000_000_000_000));
        assert_eq!(seconds.parse(".25"), Some(250_000_000));
        assert_eq!(seconds.parse("1e-40"), Some(0));
        for text in [
            "",
            ".",
            "-",
            "e3",
            "1,5",
            "nan",
            "1e",
            "1e99",
            "0x10",
            "9999999999999999999999999999999999999999",
        ] {
            assert_eq!(seconds.parse(text), None, "{text}");
        }
        let whole = TimeFormat::of_text("1700000000123456789");
        assert_eq!(whole.parse("1700000000123456789"), Some(1_700_000_000_123_456_789));
        let date = TimeFormat::of_text("2023-11-14T22:13:20.000000001Z");
        assert_eq!(
            date.parse("2023-11-14T23:13:20.000000001+01:00"),
            Some(1_700_000_000_000_000_001)
        );
        assert_eq!(date.parse("2023-11-14T22:13:20"), None, "no zone, no time");
        assert_eq!(
            TimeFormat::of_unit("ms").and_then(|unit| unit.parse("1.5")),
            Some(1_500_000)
        );
        assert_eq!(TimeFormat::of_unit("h"), None);
    }
}
