//! What can be said of two groups, in one sentence, and what limits it. Pure.
//!
//! # Invariants
//! - Less or more is said only where the interval leaves out zero, and of sums only where it also would if what has no samples were like
//!   the rest. Where it is not said, the sentence says why.

use wavekeep_proto::v1::{Metric, Verdict};

use super::bootstrap::{self, Interval, LEVEL, RUNS_MIN};
use super::student::{Sample, Welch, welch};

/// Groups whose durations differ by less are alike.
const ALIKE: f64 = 0.01;

/// Second minus first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) absolute: f64,
    pub(super) relative: Option<f64>,
    pub(super) interval: Option<Interval>,
    pub(super) welch: Option<Welch>,
    pub(super) verdict: Verdict,
}

/// Of the values of each run. CPU work.
pub(super) fn difference(first: &[f64], second: &[f64]) -> Difference {
    let samples = (Sample::of(first), Sample::of(second));
    let interval = bootstrap::interval(first, second);
    let verdict = match interval {
        None => Verdict::CannotSay,
        Some(interval) if interval.high < 0.0 => Verdict::Less,
        Some(interval) if interval.low > 0.0 => Verdict::More,
        Some(_) => Verdict::NoDifferenceShown,
    };
    Difference {
        absolute: samples.1.mean - samples.0.mean,
        relative: bootstrap::relative(first, second),
        interval,
        welch: welch(&samples.0, &samples.1),
        verdict,
    }
}

/// A group as sentences need it.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) runs: usize,
    /// Of all runs together.
    pub(super) duration_s: f64,
    pub(super) gap_s: f64,
    pub(super) not_finite: u64,
    pub(super) not_finite_s: f64,
}

impl Group {
    /// The share of its time that adds nothing to a sum.
    fn share_without(&self) -> f64 {
        let share = (self.gap_s + self.not_finite_s) / self.duration_s;
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// What is compared.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    pub(super) first: Group,
    pub(super) second: Group,
    pub(super) signal: String,
    /// Of the signal, and of the metric.
    pub(super) signal_unit: String,
    pub(super) unit: String,
    pub(super) metric: Metric,
}

/// `12.4 %`: three digits, one decimal at least.
fn percent(share: f64) -> String {
    let value = share.abs() * 100.0;
    // What is rounded to 10.0 has one decimal as that has.
    let decimals = if value >= 9.995 || value == 0.0 {
        1
    } else {
        (2.0 - value.log10().floor()).clamp(1.0, 6.0) as usize
    };
    format!("{value:.decimals$}")
}

/// Its ends, in percent: of what is less, if both are.
fn ends(interval: Interval) -> String {
    let Interval { low, high } = interval;
    let signed = |share: f64| match share {
        _ if share < 0.0 => format!("{} % less", percent(share)),
        _ => format!("{} % more", percent(share)),
    };
    if high < 0.0 {
        format!("{} to {} %", percent(high), percent(low))
    } else if low > 0.0 {
        format!("{} to {} %", percent(low), percent(high))
    } else {
        format!("{} to {}", signed(low), signed(high))
    }
}

fn runs(first: usize, second: usize) -> String {
    match (first, second) {
        (1, 1) => "one run each".into(),
        (first, second) if first == second => format!("{first} runs each"),
        (first, second) => format!("{first} and {second} runs"),
    }
}

/// A number with four digits.
fn amount(value: f64) -> String {
    let magnitude = value.abs().log10().floor();
    if value == 0.0 || (-3.0..6.0).contains(&magnitude) {
        let decimals = if value == 0.0 { 0.0 } else { (3.0 - magnitude).max(0.0) };
        return format!("{value:.*}", decimals as usize);
    }
    format!("{value:.3e}")
}

impl Compared {
    fn is_sum(&self) -> bool {
        matches!(self.metric, Metric::Energy | Metric::Charge)
    }

    /// What is claimed of a difference: nothing, where it is of sums, and what has no samples could be all of it.
    pub(super) fn weighed(&self, found: Difference) -> Difference {
        let Some(interval) = found.interval.filter(|_| self.is_sum()) else {
            return found;
        };
        let scale = (1.0 - self.first.share_without()) / (1.0 - self.second.share_without());
        let as_the_rest = |share: f64| (1.0 + share) * scale - 1.0;
        let (low, high) = (as_the_rest(interval.low), as_the_rest(interval.high));
        let holds = match found.verdict {
            Verdict::Less => high < 0.0,
            Verdict::More => low > 0.0,
            _ => true,
        };
        let verdict = if holds { found.verdict } else { Verdict::CannotSay };
        Difference { verdict, ..found }
    }

    /// `uses 12.4 % less energy than`.
    fn phrase(&self, how_much: &str, is_less: bool) -> String {
        let than = if is_less { "less" } else { "more" };
        let comparative = if is_less { "lower" } else { "higher" };
        let signal = &self.signal;
        match self.metric {
            Metric::Energy => format!("uses {how_much} {than} energy than"),
            Metric::Charge => format!("uses {how_much} {than} charge than"),
            Metric::Duration => format!("takes {how_much} {than} time than"),
            Metric::Peak => format!("has a {how_much} {comparative} peak of {signal} than"),
            Metric::Mean | Metric::Unspecified => format!("has a {how_much} {comparative} mean of {signal} than"),
        }
    }

    fn noun(&self) -> String {
        match self.metric {
            Metric::Energy => "energy".into(),
            Metric::Charge => "charge".into(),
            Metric::Duration => "duration".into(),
            Metric::Peak => format!("the peak of {}", self.signal),
            Metric::Mean | Metric::Unspecified => format!("the mean of {}", self.signal),
        }
    }

    /// The one sentence.
    pub(super) fn sentence(&self, found: &Difference) -> String {
        let (first, second) = (&self.first.name, &self.second.name);
        let how_many = runs(self.first.runs, self.second.runs);
        let how_much = match found.relative {
            Some(relative) => format!("{} %", percent(relative)),
            None => format!("{} {}", amount(found.absolute.abs()), self.unit)
                .trim_end()
                .to_owned(),
        };
        if found.absolute == 0.0 && found.interval.is_none() {
            let why = self.why_no_interval(found);
            return format!(
                "{second} and {first} have the same {}, as measured; {how_many}: {why}",
                self.noun()
            );
        }
        let claim = format!("{second} {} {first}", self.phrase(&how_much, found.absolute < 0.0));
        let level = LEVEL * 100.0;
        match (found.verdict, found.interval) {
            (Verdict::Less | Verdict::More, Some(interval)) if interval.low == interval.high => {
                format!("{claim}; in each group all runs gave the same; {how_many}")
            }
            (Verdict::Less | Verdict::More, Some(interval)) => {
                format!("{claim}; {level} % interval {}; {how_many}", ends(interval))
            }
            (Verdict::CannotSay, Some(_)) => format!(
                "{claim}, as measured; {how_many}: whether that is so cannot be said, because {}, which could be all of the difference",
                self.without_samples()
            ),
            (_, Some(interval)) if interval.low == interval.high => {
                format!(
                    "{second} and {first} do not differ in {}: all runs gave the same; {how_many}",
                    self.noun()
                )
            }
            (_, Some(interval)) => format!(
                "no difference in {} is shown between {second} and {first}; {level} % interval {}; {how_many}",
                self.noun(),
                ends(interval)
            ),
            (_, None) => format!("{claim}, as measured; {how_many}: {}", self.why_no_interval(found)),
        }
    }

    /// `50.0 % of B have no samples`.
    fn without_samples(&self) -> String {
        let groups = [&self.first, &self.second].into_iter();
        let told = groups.filter(|group| group.share_without() > 0.0).map(|group| {
            let share = percent(group.share_without());
            format!("{share} % of the time of {} have no finite samples", group.name)
        });
        told.collect::<Vec<_>>().join(" and ")
    }

    fn why_no_interval(&self, found: &Difference) -> String {
        let fewest = self.first.runs.min(self.second.runs);
        if self.first.runs == 1 && self.second.runs == 1 {
            return format!("how sure that is cannot be said of one run; record at least {RUNS_MIN} of each");
        }
        if fewest < RUNS_MIN {
            return format!("too few for an interval; record at least {RUNS_MIN} of each");
        }
        match found.relative {
            None => {
                "there is no interval, because a mean is not above zero, so that no percentage has a meaning".into()
            }
            Some(_) => "there is no interval, because the means lie too near to zero".into(),
        }
    }

    /// What must be known beside it.
    pub(super) fn notes(
        &self,
        found: &Difference,
        of_means: Option<&Difference>,
        durations_s: (f64, f64),
    ) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        let duration = durations_s.1 / durations_s.0 - 1.0;
        if duration.abs() > ALIKE && self.metric != Metric::Duration {
            notes.push(self.of_durations(duration, durations_s, of_means.filter(|_| self.is_sum())));
        }
        notes.extend(
            [&self.first, &self.second]
                .into_iter()
                .filter_map(|group| self.of_gaps(group)),
        );
        for group in [&self.first, &self.second]
            .into_iter()
            .filter(|group| group.not_finite > 0)
        {
            notes.push(self.of_not_finite(group));
        }
        let disagrees = |welch: Welch| {
            let is_shown = matches!(found.verdict, Verdict::Less | Verdict::More);
            let is_judged = found.interval.is_some() && found.verdict != Verdict::CannotSay;
            is_judged && is_shown != (welch.p < 1.0 - LEVEL)
        };
        if let Some(welch) = found.welch.filter(|welch| disagrees(*welch)) {
            notes.push(format!(
                "Welch's test says otherwise (p = {:.3}): the difference is at the edge of what these runs can show",
                welch.p
            ));
        }
        notes
    }

    fn of_durations(&self, relative: f64, durations_s: (f64, f64), of_means: Option<&Difference>) -> String {
        let than = if relative < 0.0 { "shorter" } else { "longer" };
        let mut note = format!(
            "the runs of {} are {} % {than} than those of {}: {:.4} s against {:.4} s on average",
            self.second.name,
            percent(relative),
            self.first.name,
            durations_s.1,
            durations_s.0
        );
        if let Some(found) = of_means {
            let means = Self {
                metric: Metric::Mean,
                unit: self.signal_unit.clone(),
                ..self.clone()
            };
            note = format!("{note}; per time, {}", means.sentence(found));
        }
        note
    }

    /// What is missing adds nothing to a sum: it can only have been more, where the signal is positive.
    fn of_gaps(&self, group: &Group) -> Option<String> {
        let share = group.gap_s / group.duration_s;
        if share.is_nan() || share <= 0.0 {
            return None;
        }
        let Group {
            name,
            gap_s,
            duration_s,
            ..
        } = group;
        let missing = format!(
            "{gap_s:.4} s of {duration_s:.4} s of {name} are missing ({} %)",
            percent(share)
        );
        let bias = match self.metric {
            Metric::Energy | Metric::Charge => self.bias(group, share),
            Metric::Peak => "and its peak may have been higher".into(),
            Metric::Duration => "and count as its time".into(),
            Metric::Mean | Metric::Unspecified => "and its mean is that of the rest".into(),
        };
        Some(format!("{missing} {bias}"))
    }

    /// Which way a sum leans to which a share of the time added nothing.
    fn bias(&self, group: &Group, share: f64) -> String {
        let towards = if std::ptr::eq(group, &self.first) {
            "smaller"
        } else {
            "larger"
        };
        format!(
            "and add nothing to its {}: if they are like the rest, it was about {} % more, and {} compared with {} is {towards} than said",
            self.noun(),
            percent(share / (1.0 - share)),
            self.second.name,
            self.first.name,
        )
    }

    fn of_not_finite(&self, group: &Group) -> String {
        let share = group.not_finite_s / group.duration_s;
        let told = format!("{} samples of {} are not finite", group.not_finite, group.name);
        if self.is_sum() && share > 0.0 {
            return format!("{told} ({} % of its time) {}", percent(share), self.bias(group, share));
        }
        format!("{told}, and were left out")
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
