//! `compare`: two groups of runs, and which takes less.

use clap::{Args, ValueEnum};
use serde::Serialize;
use wavekeep::time::rfc3339;
use wavekeep::{
    Align, Client, ComparedColumns, Comparison, Difference, GroupColumns, Groups, MeasuredRun, Metric, RunGroup,
};

use super::failure::Failure;
use super::limits::{COMPARED_POINTS_MAX, POINTS_JSON};
use super::overlay::{mean_and_std, overlay};
use super::table::{Output, number, text};
use super::waveform::look;
use super::words::{duration, si, thousands};
use super::{height, within};

/// Smaller probabilities are said to be smaller than this.
const P_SHOWN_MIN: f64 = 0.0001;

pub(super) const EXAMPLES: &str = "Examples:
  wavekeep compare night-1 night-2
  wavekeep compare --first algorithm=A --second algorithm=B
  wavekeep compare --first algorithm=A,firmware=1.4 --second algorithm=B,firmware=1.4 --metric peak
  wavekeep compare night-1 night-2 --signal current --align marker:start

B is held against A. A group is a run's name, or an expression that chooses runs by the labels of their streams. Of at least 5 runs of each
group the difference has an interval, which covers the true one in 95 % of experiments; docs/COMPARE.md says how, and when it is not given.";

/// Which takes less.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The first group: a run's name, or an expression.
    #[arg(value_name = "A", conflicts_with = "first", requires = "second_name")]
    first_name: Option<String>,
    /// The second group, which is held against the first.
    #[arg(value_name = "B", conflicts_with = "second")]
    second_name: Option<String>,
    /// The first group, as an option.
    #[arg(long, value_name = "EXPRESSION", env = "WAVEKEEP_FIRST", requires = "second")]
    first: Option<String>,
    /// The second group, as an option.
    #[arg(long, value_name = "EXPRESSION", env = "WAVEKEEP_SECOND", requires = "first")]
    second: Option<String>,
    /// Compare this signal [default: power where every run has it, else current]
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_COMPARED_SIGNAL")]
    signal: Option<String>,
    /// By what [default: energy of a signal in W, charge of one in A, else the mean]
    #[arg(long, value_enum, env = "WAVEKEEP_METRIC")]
    metric: Option<By>,
    /// Lay runs over each other at their start, or at the marker of that text: marker:TEXT.
    #[arg(long, value_name = "WHERE", env = "WAVEKEEP_ALIGN", default_value = "start", value_parser = align)]
    align: Align,
    /// At most N columns of the common axis [default: two for each character across; 1000 with --json]
    #[arg(long, value_name = "N", env = "WAVEKEEP_POINTS", value_parser = points)]
    points: Option<u32>,
    /// Characters that each picture is high.
    #[arg(long, value_name = "N", env = "WAVEKEEP_HEIGHT", default_value_t = 8, value_parser = height)]
    height: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// In J; of a signal in W
    Energy,
    /// In C; of a signal in A
    Charge,
    /// Of the samples
    Mean,
    /// The largest sample
    Peak,
    /// From the first sample to the last
    Duration,
}

impl By {
    fn metric(self) -> Metric {
        match self {
            Self::Energy => Metric::Energy,
            Self::Charge => Metric::Charge,
            Self::Mean => Metric::Mean,
            Self::Peak => Metric::Peak,
            Self::Duration => Metric::Duration,
        }
    }
}

fn align(text: &str) -> Result<Align, String> {
    match text.strip_prefix("marker:") {
        Some(name) if !name.is_empty() => Ok(Align::Marker(name.to_owned())),
        None if text == "start" => Ok(Align::Start),
        _ => Err("give start, or marker: and the marker's text".into()),
    }
}

fn points(text: &str) -> Result<u32, String> {
    within(text, (1, COMPARED_POINTS_MAX))
}

impl Compare {
    fn groups(&self) -> Result<Groups, Failure> {
        let first = self.first.as_ref().or(self.first_name.as_ref());
        let second = self.second.as_ref().or(self.second_name.as_ref());
        match (first, second) {
            (Some(first), Some(second)) => Ok(Groups::new(first, second)),
            _ => Err(Failure::Usage(
                "say which runs: two names, or --first and --second with an expression each".into(),
            )),
        }
    }
}

pub(super) async fn compare(client: &Client, asked: &Compare, output: &mut Output) -> Result<(), Failure> {
    let look = look(asked.height);
    let points = match asked.points {
        Some(points) => points,
        None if output.json => POINTS_JSON,
        // Two dots in each character.
        None => 2 * u32::try_from(look.width).unwrap_or(COMPARED_POINTS_MAX / 2),
    };
    let groups = asked
        .groups()?
        .signal(asked.signal.clone().unwrap_or_default())
        .metric(asked.metric.map(By::metric).unwrap_or_default())
        .align(asked.align.clone())
        .points(points);
    let comparison = client.compare(&groups).await?;
    if output.json {
        return output.json_line(&ComparisonLine::from(&comparison));
    }
    output.prose(&sentence(&comparison.sentence), 0)?;
    for note in &comparison.notes {
        output.prose(&format!("  {note}"), 4)?;
    }
    output.line("")?;
    for line in lines(&comparison) {
        output.prose(&line, 4)?;
    }
    output.line("")?;
    table(&comparison, output)?;
    output.flush()?;
    if let Some(columns) = &comparison.columns {
        output.line("")?;
        for line in overlay(&comparison, columns, &look) {
            output.line(&line)?;
        }
    }
    Ok(())
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    // A run's name stays as it is written.
    if text.starts_with("no ") {
        format!("{}{}.", first.unwrap_or_default(), letters.as_str())
    } else {
        format!("{text}.")
    }
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let unit = comparison.metric_unit.as_str();
    let group = |group: &RunGroup| {
        format!(
            "  {}: {} {} in {} {}",
            group.name,
            comparison.metric.name(),
            mean_and_std(group.mean, group.std, unit),
            thousands(group.runs.len() as u64),
            if group.runs.len() == 1 { "run" } else { "runs" }
        )
    };
    let mut lines = vec![group(&comparison.first), group(&comparison.second)];
    if let Some(welch) = comparison.difference.welch {
        lines.push(format!(
            "  Welch's t = {:.4}, {:.4} degrees of freedom, p {}",
            welch.t,
            welch.degrees_of_freedom,
            probability(welch.p)
        ));
    }
    lines
}

/// No p is zero.
fn probability(p: f64) -> String {
    if p < P_SHOWN_MIN {
        format!("< {P_SHOWN_MIN}")
    } else {
        format!("= {p:.4}")
    }
}

fn table(comparison: &Comparison, output: &mut Output) -> Result<(), Failure> {
    let value = match comparison.unit.as_str() {
        "W" => "ENERGY",
        "A" => "CHARGE",
        _ => "VALUE",
    };
    output.table([
        text("GROUP"),
        text("RUN"),
        text("DEVICE").spare(3),
        number("DURATION"),
        number("MISSING").spare(1),
        number("SAMPLES").spare(4),
        number(value),
        number("MEAN"),
        number("PEAK").spare(2),
    ]);
    let unit = comparison.unit.as_str();
    for group in [&comparison.first, &comparison.second] {
        for run in &group.runs {
            let seconds = |seconds: f64| duration((seconds * 1e9) as i64);
            let integral = run.energy_joule.map(|energy| si(energy, "J"));
            let integral = integral.or_else(|| run.charge_coulomb.map(|charge| si(charge, "C")));
            output.row([
                group.name.clone(),
                run.run.clone(),
                run.device.clone(),
                seconds(run.duration_s),
                if run.gap_s > 0.0 {
                    seconds(run.gap_s)
                } else {
                    "0".into()
                },
                thousands(run.sample_count),
                integral.unwrap_or_else(|| si(run.value, &comparison.metric_unit)),
                si(run.mean, unit),
                si(run.peak, unit),
            ])?;
        }
    }
    Ok(())
}

/// Numbers that are not finite print as null.
#[derive(Serialize)]
struct ComparisonLine {
    sentence: String,
    notes: Vec<String>,
    verdict: &'static str,
    signal: String,
    unit: String,
    metric: &'static str,
    metric_unit: String,
    first: GroupObject,
    second: GroupObject,
    difference: DifferenceObject,
    mean_difference: Option<DifferenceObject>,
    columns: Option<ColumnsObject>,
}

#[derive(Serialize)]
struct GroupObject {
    name: String,
    mean: f64,
    std: Option<f64>,
    n: usize,
    runs: Vec<RunObject>,
}

#[derive(Serialize)]
struct RunObject {
    run: String,
    device: String,
    from: String,
    to: String,
    align: String,
    duration_s: f64,
    gap_s: f64,
    sample_count: u64,
    gap_sample_count: u64,
    finite_count: u64,
    mean: f64,
    min: f64,
    peak: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    energy_joule: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    charge_coulomb: Option<f64>,
    value: f64,
}

#[derive(Serialize)]
struct DifferenceObject {
    verdict: &'static str,
    absolute: f64,
    relative: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    level: Option<f64>,
    welch_t: Option<f64>,
    welch_degrees_of_freedom: Option<f64>,
    welch_p: Option<f64>,
}

#[derive(Serialize)]
struct ColumnsObject {
    /// From the moment that is laid over each other, in nanoseconds.
    from_ns: i64,
    column_ns: u64,
    first: GroupColumnsObject,
    second: GroupColumnsObject,
    difference: Vec<f64>,
}

#[derive(Serialize)]
struct GroupColumnsObject {
    min: Vec<f64>,
    max: Vec<f64>,
    mean: Vec<f64>,
    runs: Vec<u32>,
}

impl From<&Comparison> for ComparisonLine {
    fn from(comparison: &Comparison) -> Self {
        Self {
            sentence: comparison.sentence.clone(),
            notes: comparison.notes.clone(),
            verdict: comparison.difference.verdict.name(),
            signal: comparison.signal.clone(),
            unit: comparison.unit.clone(),
            metric: comparison.metric.name(),
            metric_unit: comparison.metric_unit.clone(),
            first: (&comparison.first).into(),
            second: (&comparison.second).into(),
            difference: (&comparison.difference).into(),
            mean_difference: comparison.mean_difference.as_ref().map(Into::into),
            columns: comparison.columns.as_ref().map(Into::into),
        }
    }
}

impl From<&RunGroup> for GroupObject {
    fn from(group: &RunGroup) -> Self {
        Self {
            name: group.name.clone(),
            mean: group.mean,
            std: group.std,
            n: group.runs.len(),
            runs: group.runs.iter().map(Into::into).collect(),
        }
    }
}

impl From<&MeasuredRun> for RunObject {
    fn from(run: &MeasuredRun) -> Self {
        Self {
            run: run.run.clone(),
            device: run.device.clone(),
            from: rfc3339(run.from_ns),
            to: rfc3339(run.to_ns),
            align: rfc3339(run.align_ns),
            duration_s: run.duration_s,
            gap_s: run.gap_s,
            sample_count: run.sample_count,
            gap_sample_count: run.gap_sample_count,
            finite_count: run.finite_count,
            mean: run.mean,
            min: run.min,
            peak: run.peak,
            energy_joule: run.energy_joule,
            charge_coulomb: run.charge_coulomb,
            value: run.value,
        }
    }
}

impl From<&Difference> for DifferenceObject {
    fn from(difference: &Difference) -> Self {
        let (interval, welch) = (difference.interval, difference.welch);
        Self {
            verdict: difference.verdict.name(),
            absolute: difference.absolute,
            relative: difference.relative,
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            level: interval.map(|interval| interval.level),
            welch_t: welch.map(|welch| welch.t),
            welch_degrees_of_freedom: welch.map(|welch| welch.degrees_of_freedom),
            welch_p: welch.map(|welch| welch.p),
        }
    }
}

impl From<&ComparedColumns> for ColumnsObject {
    fn from(columns: &ComparedColumns) -> Self {
        Self {
            from_ns: columns.from_ns,
            column_ns: columns.column_ns,
            first: (&columns.first).into(),
            second: (&columns.second).into(),
            difference: columns.difference.clone(),
        }
    }
}

impl From<&GroupColumns> for GroupColumnsObject {
    fn from(columns: &GroupColumns) -> Self {
        Self {
            min: columns.min.clone(),
            max: columns.max.clone(),
            mean: columns.mean.clone(),
            runs: columns.runs.clone(),
        }
    }
}
