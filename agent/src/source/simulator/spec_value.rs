//! The values of a specification: numbers within limits, and what to suggest instead of what was written.
//!
//! # Invariants
//! - What is refused is refused with the nearest valid value, or with an example where there is none.

use super::burst::{WAKE_MS_MAX, WAKE_MS_MIN};
use super::spec::{SimulatorModel, SpecError};

/// A whole number in digits.
pub(super) fn whole(key: &'static str, value: &str, minimum: u64, maximum: u64) -> Result<u64, SpecError> {
    let digits_only = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if let Ok(number) = value.parse::<u64>()
        && digits_only
        && (minimum..=maximum).contains(&number)
    {
        return Ok(number);
    }
    // Not what is wanted, so all that is left to find out is what to suggest. The conversion to u64 saturates.
    let number = value.parse::<f64>().ok().filter(|number| !number.is_nan());
    let Some(number) = number else {
        let example = if key == "rate" {
            "rate=1000000"
        } else if key == "seed" {
            "seed=7"
        } else {
            "loss_length=100"
        };
        return Err(SpecError::NotANumber {
            key,
            value: value.to_owned(),
            kind: "whole number",
            example,
        });
    };
    let nearest = (number.round() as u64).clamp(minimum, maximum);
    let allowed = format!("a whole number from {minimum} to {maximum} in digits");
    Err(SpecError::NotAllowed {
        key,
        value: value.to_owned(),
        allowed,
        nearest: nearest.to_string(),
    })
}

/// Any finite number.
pub(super) fn real(
    key: &'static str,
    value: &str,
    minimum: f64,
    maximum: f64,
    example: &'static str,
) -> Result<f64, SpecError> {
    let number = value.parse::<f64>().ok().filter(|number| !number.is_nan());
    let Some(number) = number else {
        return Err(SpecError::NotANumber {
            key,
            value: value.to_owned(),
            kind: "number",
            example,
        });
    };
    if (minimum..=maximum).contains(&number) {
        return Ok(number);
    }
    let allowed = format!("from {minimum} to {maximum}");
    Err(SpecError::NotAllowed {
        key,
        value: value.to_owned(),
        allowed,
        nearest: number.clamp(minimum, maximum).to_string(),
    })
}

/// A duration of whole milliseconds or seconds.
pub(super) fn wake_ms(value: &str) -> Result<u64, SpecError> {
    let (digits, ms_per_unit) = match value.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (value.strip_suffix('s').unwrap_or_default(), 1000),
    };
    // No sign: u64 would take a plus.
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    let Some(number) = number else {
        let (kind, example) = ("whole number of milliseconds or seconds", "wake=400ms");
        return Err(SpecError::NotANumber {
            key: "wake",
            value: value.to_owned(),
            kind,
            example,
        });
    };
    let ms = number.saturating_mul(ms_per_unit);
    if (WAKE_MS_MIN..=WAKE_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    let allowed = format!("from {WAKE_MS_MIN}ms to {WAKE_MS_MAX}ms");
    let nearest = format!("{}ms", ms.clamp(WAKE_MS_MIN, WAKE_MS_MAX));
    Err(SpecError::NotAllowed {
        key: "wake",
        value: value.to_owned(),
        allowed,
        nearest,
    })
}

/// Whether there are digital signals, which a JS220 has.
pub(super) fn logic(value: &str, model: SimulatorModel) -> Result<bool, SpecError> {
    match (value, model) {
        ("false", _) => Ok(false),
        ("true", SimulatorModel::Js220) => Ok(true),
        ("true", SimulatorModel::Js110) => Err(SpecError::NotAllowed {
            key: "logic",
            value: value.to_owned(),
            allowed: "there for js110, which has no streams of digital signals".into(),
            nearest: "false".into(),
        }),
        _ => Err(SpecError::NotANumber {
            key: "logic",
            value: value.to_owned(),
            kind: "word of true and false",
            example: "logic=true",
        }),
    }
}

/// The candidate that takes the fewest edits to reach from `given`, whatever its case.
pub(super) fn nearest<const COUNT: usize>(given: &str, candidates: [&'static str; COUNT]) -> &'static str {
    const { assert!(COUNT > 0, "there is something to suggest") };
    let given = given.to_ascii_lowercase();
    candidates
        .into_iter()
        .min_by_key(|candidate| edits(&given, candidate))
        .expect("there is something to suggest")
}

/// The Levenshtein distance: characters inserted, deleted or replaced. One row of the table at a time.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, from_char) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to_char) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(from_char != to_char);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.chars().count()]
}
