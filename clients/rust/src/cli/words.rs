//! Numbers as people read them.

use std::fmt::Write as _;

use wavekeep::time::rfc3339_ms;
pub(super) use wavekeep_proto::cli::thousands;

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

/// Units that take a prefix: symbols without one.
const UNITS: [&str; 37] = [
    "A", "Ah", "B", "Bq", "C", "F", "Gy", "H", "Hz", "J", "K", "N", "Ohm", "Pa", "S", "Sv", "T", "V", "VA", "W", "Wb",
    "Wh", "bit", "cd", "eV", "g", "kat", "lm", "lx", "m", "mol", "ohm", "rad", "s", "var", "\u{3a9}", "\u{2126}",
];

/// Not `mA`, which has one; nor `°C`, `%` or `m²`, of which a thousand are not one with a `k`. A product takes that of its first factor.
fn takes_prefix(unit: &str) -> bool {
    let first = unit.split(['·', '*', '/', ' ']).next().unwrap_or_default();
    UNITS.contains(&first)
}

/// Six significant digits with an SI prefix: `10.2801 µA`.
pub(super) fn si(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return "none".into();
    }
    let (scale, prefix) = match unit {
        _ if value == 0.0 || !takes_prefix(unit) => (1.0, ""),
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

/// Numbers that are read together: with one prefix, and as many decimals as tell them apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    scale: f64,
    prefix: &'static str,
    decimals: usize,
    /// What numbers that shall look different are apart.
    step: f64,
}

/// That tell numbers so far apart from each other.
fn decimals(step: f64, max: f64) -> usize {
    if step > 0.0 && step.is_finite() {
        (-step.log10()).ceil().clamp(0.0, max) as usize
    } else {
        3
    }
}

impl Scale {
    /// For four digits of the largest.
    pub(super) fn of_four_digits(values: &[f64]) -> Self {
        let finite = values.iter().filter(|value| value.is_finite());
        let largest = finite.fold(0.0f64, |largest, value| largest.max(value.abs()));
        let step = if largest > 0.0 {
            10f64.powf(largest.log10().floor() - 3.0)
        } else {
            1.0
        };
        Self::new(values, step)
    }

    /// For numbers as large as these, of which those so far apart shall look different.
    pub(super) fn new(values: &[f64], step: f64) -> Self {
        let finite = values.iter().filter(|value| value.is_finite());
        let largest = finite.fold(0.0f64, |largest, value| largest.max(value.abs()));
        let fits = PREFIXES.into_iter().find(|(scale, _)| largest >= *scale);
        let (scale, prefix) = fits.unwrap_or(if largest == 0.0 { (1.0, "") } else { (1e-15, "f") });
        Self {
            scale,
            prefix,
            decimals: decimals(step / scale, 9.0),
            step,
        }
    }

    /// Without a prefix, where the unit takes none.
    fn bare(self, unit: &str) -> Self {
        if takes_prefix(unit) || self.prefix.is_empty() {
            return self;
        }
        Self {
            scale: 1.0,
            prefix: "",
            decimals: decimals(self.step, 18.0),
            ..self
        }
    }

    fn number(self, value: f64) -> String {
        if value.is_finite() {
            let text = format!("{:.*}", self.decimals, value / self.scale);
            // Minus zero is zero.
            let is_zero = text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
            if is_zero { text.replace('-', "") } else { text }
        } else {
            value.to_string()
        }
    }

    /// `10.28 mA`.
    pub(super) fn with_unit(self, value: f64, unit: &str) -> String {
        let own = self.bare(unit);
        format!("{} {}{unit}", own.number(value), own.prefix).trim_end().into()
    }

    /// `1.250 2.500 mA`.
    pub(super) fn all_with_unit(self, values: &[f64], unit: &str) -> String {
        let own = self.bare(unit);
        let numbers: Vec<String> = values.iter().map(|value| own.number(*value)).collect();
        format!("{} {}{unit}", numbers.join(" "), own.prefix).trim().into()
    }
}

/// A length of time: `3.2 ms`, `2 min 5 s`, `3 d 4 h`.
pub(super) fn duration(ns: i64) -> String {
    let seconds = ns / 1_000_000_000;
    let two = |large: i64, small: i64, names: (&str, &str)| match small {
        0 => format!("{large} {}", names.0),
        _ => format!("{large} {} {small} {}", names.0, names.1),
    };
    match seconds {
        ..60 => si(ns as f64 / 1e9, "s"),
        60..3_600 => two(seconds / 60, seconds % 60, ("min", "s")),
        3_600..86_400 => two(seconds / 3_600, seconds / 60 % 60, ("h", "min")),
        _ => two(seconds / 86_400, seconds / 3_600 % 24, ("d", "h")),
    }
}

/// A time on an axis of this length, with as many digits as tell it from others this far apart; in nanoseconds.
pub(super) fn clock(ns: i64, length_ns: i128, step_ns: i128) -> String {
    const DAY_S: i64 = 86_400;
    if length_ns > 2 * i128::from(DAY_S) * 1_000_000_000 {
        let minute = rfc3339_ms(ns).replace('T', " ");
        return minute.get(5..16).unwrap_or(&minute).to_owned();
    }
    let (second, rest) = (
        ns.div_euclid(1_000_000_000).rem_euclid(DAY_S),
        ns.rem_euclid(1_000_000_000),
    );
    let mut text = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    let (mut decimals, mut unit_ns) = (0, 1_000_000_000);
    while unit_ns > step_ns && decimals < 9 {
        (decimals, unit_ns) = (decimals + 1, unit_ns / 10);
    }
    if decimals > 0 {
        let digits = format!("{rest:09}");
        // Writing to a String cannot fail.
        let _ = write!(text, ".{}", &digits[..decimals]);
    }
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

    #[test]
    fn numbers_of_one_axis_have_one_prefix() {
        let scale = Scale::new(&[0.0102711, -1.13866e-6], 0.001);
        assert_eq!(scale.with_unit(0.0102711, "A"), "10.3 mA".replace("10.3", "10"));
        let scale = Scale::new(&[3.300_1, 3.300_2], 1e-5);
        assert_eq!(scale.with_unit(3.300_12, "V"), "3.30012 V");
        assert_eq!(scale.with_unit(-1e-9, "V"), "0.00000 V");
        let scale = Scale::new(&[0.0025], 1e-4);
        assert_eq!(scale.all_with_unit(&[0.0025, f64::NAN], "A"), "2.5 NaN mA");
        assert_eq!(scale.all_with_unit(&[0.0025], ""), "0.0025");
        assert_eq!(Scale::new(&[12_000.0], 1_000.0).with_unit(12_000.0, ""), "12000");
        assert_eq!(Scale::new(&[], 0.0).with_unit(0.0, "A"), "0.000 A");
    }

    #[test]
    fn a_unit_that_has_a_prefix_gets_no_other() {
        assert_eq!(
            [
                si(0.5, "mA"),
                si(998.393, "uA"),
                si(1_723.93, "uJ·s"),
                si(1_500.0, "°C")
            ],
            ["0.5 mA", "998.393 uA", "1723.93 uJ·s", "1500 °C"]
        );
        assert_eq!(
            (si(0.5, "A·s"), si(1_500.0, "m/s"), si(1_500.0, "m²")),
            ("500 mA·s".into(), "1.5 km/s".into(), "1500 m²".into())
        );
        assert_eq!(
            (si(0.5, "%"), si(2e-6, "kWh")),
            ("0.5 %".into(), "2.00000e-6 kWh".into())
        );
        let scale = Scale::new(&[0.5, 0.25], 0.01);
        assert_eq!(
            (scale.with_unit(0.5, "mA"), scale.with_unit(0.5, "A")),
            ("0.50 mA".into(), "500 mA".into())
        );
        let scale = Scale::of_four_digits(&[1_234.5, 1.0]);
        assert_eq!(scale.all_with_unit(&[1_234.5, 1.0], "uA"), "1234 1 uA");
    }

    #[test]
    fn times_read_well() {
        let second = 1_000_000_000;
        let told = [3_200_000, second, 125 * second, 3_600 * second, 90_061 * second].map(duration);
        assert_eq!(told, ["3.2 ms", "1 s", "2 min 5 s", "1 h", "1 d 1 h"]);
        let ns = 1_700_000_000_123_456_789;
        let clock = |length_s: i128, step_ns| clock(ns, length_s * 1_000_000_000, step_ns);
        assert_eq!(clock(10, 2_000_000_000), "22:13:20");
        assert_eq!(clock(10, 250_000_000), "22:13:20.1");
        assert_eq!(clock(1, 1), "22:13:20.123456789");
        assert_eq!(clock(300_000, 1), "11-14 22:13");
    }
}
