//! Student's t and Welch's test. Pure.
//!
//! The distribution is I, the regularized incomplete beta function: P(|T| > t) = I(ν ÷ (ν + t²); ν/2, 1/2) (NIST Digital Library of
//! Mathematical Functions, 8.17), by its continued fraction 8.17.22, which Lentz's algorithm evaluates (Thompson and Barnett, 1986).
//! Welch's test is that of B. L. Welch, "The generalization of Student's problem when several different population variances are involved",
//! 1947, with the degrees of freedom of Satterthwaite, 1946. `reference/` holds what SciPy says of the same.

/// Steps of the continued fraction; it takes about √(ν), and is done by then.
const STEPS_MAX: u32 = 10_000;
/// Halvings until a quantile is found to the last bit.
const HALVINGS: u32 = 200;

/// Mean and variance (÷ (n − 1)) of a sample of two or more; the variance of one is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) count: usize,
    pub(super) mean: f64,
    pub(super) variance: f64,
}

impl Sample {
    pub(super) fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        Self {
            count: values.len(),
            mean,
            variance: squares / (count - 1.0),
        }
    }

    /// Of its mean.
    pub(super) fn squared_error(&self) -> f64 {
        self.variance / self.count as f64
    }
}

/// t, its degrees of freedom, and p of both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Welch {
    pub(super) t: f64,
    pub(super) degrees_of_freedom: f64,
    pub(super) p: f64,
}

/// Degrees of freedom of the sum of two independent means with these squared errors (Welch and Satterthwaite).
pub(super) fn degrees_of_freedom((first, first_count): (f64, usize), (second, second_count): (f64, usize)) -> f64 {
    let sum = first + second;
    sum * sum / (first * first / (first_count as f64 - 1.0) + second * second / (second_count as f64 - 1.0))
}

/// Of equal means, t of second minus first. None where a sample has fewer than two values, or nothing varies.
pub(super) fn welch(first: &Sample, second: &Sample) -> Option<Welch> {
    let errors = (first.squared_error(), second.squared_error());
    let squared = errors.0 + errors.1;
    // Also where it is NaN.
    if first.count < 2 || second.count < 2 || !squared.is_normal() {
        return None;
    }
    let t = (second.mean - first.mean) / squared.sqrt();
    let degrees_of_freedom = degrees_of_freedom((errors.0, first.count), (errors.1, second.count));
    Some(Welch {
        t,
        degrees_of_freedom,
        p: two_sided(t, degrees_of_freedom),
    })
}

/// P(|T| > |t|).
pub(super) fn two_sided(t: f64, degrees_of_freedom: f64) -> f64 {
    let squared = t * t;
    let near = degrees_of_freedom / (degrees_of_freedom + squared);
    // 1 − near without its rounding, where t is small.
    incomplete_beta(
        degrees_of_freedom / 2.0,
        0.5,
        near,
        squared / (degrees_of_freedom + squared),
    )
}

/// The t which |T| exceeds with this probability.
pub(super) fn two_sided_quantile(p: f64, degrees_of_freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided(high, degrees_of_freedom) > p && high < f64::MAX / 4.0 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..HALVINGS {
        let middle = low + (high - low) / 2.0;
        if two_sided(middle, degrees_of_freedom) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    low + (high - low) / 2.0
}

/// P(Z ≤ z) of a normal Z.
pub(super) fn normal(z: f64) -> f64 {
    libm::erfc(-z / std::f64::consts::SQRT_2) / 2.0
}

/// I(x; a, b), where `rest` is 1 − x.
fn incomplete_beta(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    if x <= 0.0 || rest <= 0.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    let logarithm = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * rest.ln();
    // The fraction converges at once on this side of the mean, and I(x; a, b) = 1 − I(1 − x; b, a) on the other.
    if x < (a + 1.0) / (a + b + 2.0) {
        logarithm.exp() * fraction(a, b, x) / a
    } else {
        1.0 - logarithm.exp() * fraction(b, a, rest) / b
    }
}

/// 1/(1 + d₁/(1 + d₂/(1 + …))).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let apart = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut denominator = 1.0 / apart(1.0 - (a + b) * x / (a + 1.0));
    let (mut numerator, mut value) = (1.0, denominator);
    for step in 1..=STEPS_MAX {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut factor = 1.0;
        for term in [even, odd] {
            denominator = 1.0 / apart(1.0 + term * denominator);
            numerator = apart(1.0 + term / numerator);
            factor = denominator * numerator;
            value *= factor;
        }
        if (factor - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!(
            (found - expected).abs() <= expected.abs() * relative,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn probabilities_and_quantiles_are_those_of_scipy() {
        let rows = reference::rows("t");
        assert!(rows.len() > 60, "{}", rows.len());
        for row in rows {
            let [t, degrees, p] = row[..] else { panic!("{row:?}") };
            // The gamma function of half a million loses digits.
            let relative = if degrees < 1e5 { 1e-10 } else { 1e-9 };
            close(two_sided(t, degrees), p, relative);
            close(two_sided(-t, degrees), p, relative);
            if p < 0.9 {
                close(two_sided_quantile(p, degrees), t, 10.0 * relative);
            }
        }
        for row in reference::rows("normal") {
            let [z, p] = row[..] else { panic!("{row:?}") };
            close(normal(z), p, 1e-12);
        }
    }

    #[test]
    fn welch_is_that_of_scipy() {
        let rows = reference::rows("welch");
        assert!(rows.len() >= 6, "{}", rows.len());
        for row in rows {
            let (t, degrees, p) = (row[0], row[1], row[2]);
            let count = row[3] as usize;
            let (first, second) = row[4..].split_at(count);
            let found = welch(&Sample::of(first), &Sample::of(second)).expect("both vary");
            close(found.t, t, 1e-10);
            close(found.degrees_of_freedom, degrees, 1e-10);
            close(found.p, p, 1e-9);
        }
    }

    #[test]
    fn there_is_no_test_of_one_value_or_of_what_never_varies() {
        let test = |first: &[f64], second: &[f64]| welch(&Sample::of(first), &Sample::of(second));
        assert_eq!(test(&[1.0], &[2.0, 3.0]), None);
        assert_eq!(test(&[1.0, 1.0], &[2.0, 2.0]), None);
        assert_eq!(test(&[], &[2.0, 3.0]), None);
        assert!(test(&[1.0, 1.0], &[2.0, 3.0]).is_some());
    }
}
