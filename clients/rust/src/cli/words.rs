//! Numbers as people read them.

use std::fmt::Write as _;

/// `1,200,000`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2.4 MB`; MB = 10^6.
pub(super) fn size(bytes: u64) -> String {
    let steps = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    match steps.into_iter().find(|(step, _)| bytes >= *step) {
        Some((step, unit)) => format!("{:.1} {unit}", bytes as f64 / step as f64),
        None => format!("{bytes} B"),
    }
}

const PREFIXES: [(f64, &str); 9] = [
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
    (1e-15, "f"),
];

/// Six significant digits with an SI prefix: `10.2801 µA`.
pub(super) fn si(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return "none".into();
    }
    let (scale, prefix) = match unit {
        "" => (1.0, ""),
        _ if value == 0.0 => (1.0, ""),
        _ => PREFIXES
            .into_iter()
            .find(|(scale, _)| value.abs() >= *scale)
            .unwrap_or((1e-15, "f")),
    };
    let scaled = value / scale;
    if scaled != 0.0 && !(1e-3..1e9).contains(&scaled.abs()) {
        return format!("{scaled:.5e} {prefix}{unit}").trim_end().into();
    }
    let whole_digits = if scaled.abs() < 1.0 {
        1
    } else {
        scaled.abs().log10() as usize + 1
    };
    let mut text = format!("{scaled:.*}", 6usize.saturating_sub(whole_digits));
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    let joint = if unit.is_empty() { "" } else { " " };
    // Writing to a String cannot fail.
    let _ = write!(text, "{joint}{prefix}{unit}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1_000, 1_200_000].map(thousands),
            ["0", "999", "1,000", "1,200,000"]
        );
        assert_eq!([12, 2_400_000].map(size), ["12 B", "2.4 MB"]);
        assert_eq!(si(1.028_01e-5, "A"), "10.2801 µA");
        assert_eq!(si(-1.138_66e-6, "A"), "-1.13866 µA");
        assert_eq!(si(3.3, "V"), "3.3 V");
        assert_eq!(
            (si(0.0, "A"), si(f64::NAN, "A"), si(12_345.0, "")),
            ("0 A".into(), "none".into(), "12345".into())
        );
        assert_eq!(
            (si(2e12, "Hz"), si(1e-20, "A"), si(1e12, "")),
            ("2000 GHz".into(), "1.00000e-5 fA".into(), "1.00000e12".into())
        );
    }
}
