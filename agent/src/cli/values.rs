//! How options are written: sizes, durations, labels, signals, names, rates, times. Every refusal says what to write.

use std::time::Duration;

use clap::ValueEnum;
use wavekeep_agent::{labels, limits as agent_limits};
use wavekeep_proto::limits;
use wavekeep_proto::stream::SampleType;

/// Types of samples that can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Dtype {
    F32,
    F64,
    I16,
    I32,
}

impl Dtype {
    pub(super) const fn sample_type(self) -> SampleType {
        match self {
            Self::F32 => SampleType::F32,
            Self::F64 => SampleType::F64,
            Self::I16 => SampleType::I16,
            Self::I32 => SampleType::I32,
        }
    }
}

/// `250ms`, `10s`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error}: write a duration like 250ms, 10s or 1h"))?;
    if duration.is_zero() {
        return Err("it is no time at all: write a duration like 250ms, 10s or 1h".into());
    }
    Ok(duration)
}

/// A duration that may be zero.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if text == "0" {
        Ok(Duration::ZERO)
    } else {
        humantime::parse_duration(text).map_err(|error| error.to_string())
    }
}

/// A chunk period, within its limits.
pub(crate) fn chunk_period(text: &str) -> Result<Duration, String> {
    let (min, max) = (agent_limits::CHUNK_PERIOD_MIN, agent_limits::CHUNK_PERIOD_MAX);
    let period = duration(text)?;
    if (min..=max).contains(&period) {
        Ok(period)
    } else {
        Err(format!(
            "a chunk period is from {min:?} to {}",
            humantime::format_duration(max)
        ))
    }
}

/// `8MiB`, `500kB`, `10GB`; a bare number is bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write a size like 8MiB, 500kB or 10GB".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" | "KB" | "k" => 1_000,
        "KiB" | "K" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" | "M" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" | "G" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" | "T" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.trim_end().parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    if !bytes.is_finite() || bytes < 1.0 || bytes > i64::MAX as f64 {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

/// A size, or a size per second.
pub(crate) fn bytes_per_s(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text)).map_err(|_| "write bytes per second like 500kB or 8MiB/s".into())
}

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write a label as key=value, for example algorithm=A")?;
    labels::check(key, value).map_err(|error| error.to_string())?;
    Ok((key.into(), value.into()))
}

/// `key=value` of an instrument, which says itself what it has.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .ok_or("write a setting as KEY=VALUE, for example power=off")?;
    Ok((key.into(), value.into()))
}

/// The name of a device, a run or a workspace.
pub(crate) fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > limits::NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "a name has 1 to {} bytes and no control characters",
            limits::NAME_BYTES_MAX
        ));
    }
    Ok(text.into())
}

/// `NAME:UNIT`, or a name alone.
pub(crate) fn signal(text: &str) -> Result<(String, String), String> {
    let (signal, unit) = text.split_once(':').unwrap_or((text, ""));
    let long = unit.len() > limits::NAME_BYTES_MAX || unit.chars().any(char::is_control);
    match name(signal) {
        Ok(signal) if !long => Ok((signal, unit.into())),
        _ => Err("write a signal as NAME:UNIT, for example current:A".into()),
    }
}

/// Samples per second.
pub(crate) fn rate_hz(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= limits::RATE_HZ_MAX => Ok(rate),
        Ok(_) => Err(format!(
            "a rate is above 0 and at most {:e} samples per second",
            limits::RATE_HZ_MAX
        )),
        Err(_) => Err("write the samples per second as a number, for example 100000".into()),
    }
}

/// RFC 3339, as nanoseconds since 1970.
pub(crate) fn time_ns(text: &str) -> Result<i64, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "write the time as RFC 3339 has it, for example 2026-01-31T12:00:00Z")?;
    i64::try_from(time.as_nanosecond()).map_err(|_| "times are from 1678 to 2262".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_as_written() {
        assert_eq!(size("8MiB"), Ok(8 << 20));
        assert_eq!(size("500kB"), Ok(500_000));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        assert_eq!(size("123"), Ok(123));
        assert_eq!(bytes_per_s("2MB/s"), Ok(2_000_000));
        for text in ["", "MiB", "-1MiB", "0", "8 apples", "1e30TiB", "nan"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(rate_hz("100000"), Ok(1e5));
        for text in ["0", "-1", "nan", "inf", "1e13", "fast"] {
            assert!(rate_hz(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_labels_and_signals_are_read_as_written() {
        assert_eq!(time_ns("1970-01-01T00:00:01.5Z"), Ok(1_500_000_000));
        assert_eq!(time_ns("1970-01-01T01:00:00+01:00"), Ok(0));
        assert!(time_ns("yesterday").is_err() && time_ns("9999-01-01T00:00:00Z").is_err());
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("a").is_err() && label("=b").is_err() && label("a=\n").is_err());
        assert!(label("run=zz").is_err() && label("device=").is_err() && label("runs=zz").is_ok());
        assert_eq!(signal("current:A"), Ok(("current".into(), "A".into())));
        assert_eq!(signal("count"), Ok(("count".into(), String::new())));
        assert!(signal(":A").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("0s").is_err() && duration("soon").is_err() && duration("5").is_err());
        for text in ["50ms", "1s", "60m", "1h"] {
            assert!(chunk_period(text).is_ok(), "{text}");
        }
        for text in ["1ms", "49ms", "49999us", "3601s", "1h 1ns", "1d"] {
            let refusal = chunk_period(text).expect_err(text);
            assert_eq!(refusal, "a chunk period is from 50ms to 1h");
        }
        assert!(name("").is_err() && name("a\tb").is_err() && name("bench 3").is_ok());
    }
}
