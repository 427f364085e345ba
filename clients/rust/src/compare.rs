//! Two groups of runs, compared.

use wavekeep_proto::v1;

use crate::Error;

/// By what runs are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Metric {
    /// Energy of a signal in W, charge of one in A, else the mean.
    #[default]
    Natural,
    /// In J; of a signal in W.
    Energy,
    /// In C; of a signal in A.
    Charge,
    /// Of the samples.
    Mean,
    /// The largest sample.
    Peak,
    /// From the first sample to the last, in s.
    Duration,
}

impl Metric {
    fn to_wire(self) -> v1::Metric {
        match self {
            Self::Natural => v1::Metric::Unspecified,
            Self::Energy => v1::Metric::Energy,
            Self::Charge => v1::Metric::Charge,
            Self::Mean => v1::Metric::Mean,
            Self::Peak => v1::Metric::Peak,
            Self::Duration => v1::Metric::Duration,
        }
    }

    fn from_wire(wire: i32) -> Result<Self, Error> {
        match v1::Metric::try_from(wire) {
            Ok(v1::Metric::Unspecified) => Ok(Self::Natural),
            Ok(v1::Metric::Energy) => Ok(Self::Energy),
            Ok(v1::Metric::Charge) => Ok(Self::Charge),
            Ok(v1::Metric::Mean) => Ok(Self::Mean),
            Ok(v1::Metric::Peak) => Ok(Self::Peak),
            Ok(v1::Metric::Duration) => Ok(Self::Duration),
            Err(_) => Err(Error::Malformed("a metric that this version does not know")),
        }
    }

    /// As it is written: `energy`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Natural => "natural",
            Self::Energy => "energy",
            Self::Charge => "charge",
            Self::Mean => "mean",
            Self::Peak => "peak",
            Self::Duration => "duration",
        }
    }
}

/// Which moments of the runs are laid over each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Align {
    /// Their starts.
    #[default]
    Start,
    /// The marker with this text, or of the kind with this number, of which each must have one.
    Marker(String),
}

/// What is compared: each group is a run's name, or an expression that chooses runs, such as `algorithm=A`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    first: String,
    second: String,
    signal: String,
    metric: Metric,
    align: Align,
    points_max: u32,
}

impl Groups {
    /// The second against the first.
    #[must_use]
    pub fn new(first: impl Into<String>, second: impl Into<String>) -> Self {
        Self {
            first: first.into(),
            second: second.into(),
            ..Self::default()
        }
    }

    /// Of this signal; power where every run has it, else current, where nothing is said.
    #[must_use]
    pub fn signal(mut self, name: impl Into<String>) -> Self {
        self.signal = name.into();
        self
    }

    /// By this.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = metric;
        self
    }

    /// Which moments are laid over each other: it moves the columns, and nothing else.
    #[must_use]
    pub fn align(mut self, align: Align) -> Self {
        self.align = align;
        self
    }

    /// With so many columns of both on one axis, at most; without any it is answered sooner.
    #[must_use]
    pub fn points(mut self, points_max: u32) -> Self {
        self.points_max = points_max;
        self
    }

    pub(crate) fn to_wire(&self, workspace: String) -> v1::CompareRunsRequest {
        v1::CompareRunsRequest {
            workspace,
            first: self.first.clone(),
            second: self.second.clone(),
            signal: self.signal.clone(),
            metric: self.metric.to_wire().into(),
            align_marker: match &self.align {
                Align::Start => String::new(),
                Align::Marker(name) => name.clone(),
            },
            points_max: self.points_max,
        }
    }
}

/// What can be said of the second group against the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes less: all of the interval lies below zero.
    Less,
    /// It takes more.
    More,
    /// The interval includes zero.
    NoDifferenceShown,
    /// There is no interval: the sentence says why.
    CannotSay,
}

impl Verdict {
    fn from_wire(wire: i32) -> Result<Self, Error> {
        match v1::Verdict::try_from(wire) {
            Ok(v1::Verdict::Less) => Ok(Self::Less),
            Ok(v1::Verdict::More) => Ok(Self::More),
            Ok(v1::Verdict::NoDifferenceShown) => Ok(Self::NoDifferenceShown),
            Ok(v1::Verdict::CannotSay) => Ok(Self::CannotSay),
            Ok(v1::Verdict::Unspecified) | Err(_) => Err(Error::Malformed("a verdict that this version does not know")),
        }
    }

    /// As programs read it: `less`, `more`, `no_difference_shown`, `cannot_say`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Less => "less",
            Self::More => "more",
            Self::NoDifferenceShown => "no_difference_shown",
            Self::CannotSay => "cannot_say",
        }
    }
}

/// A relative difference lies in it, in `level` of all experiments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end; −0.1 is 10 % less.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// 0.95.
    pub level: f64,
}

/// Welch's test of equal means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Welch {
    /// Of second minus first.
    pub t: f64,
    /// Of Student's distribution.
    pub degrees_of_freedom: f64,
    /// Of both sides.
    pub p: f64,
}

/// Of the second group against the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Second minus first, of the means.
    pub absolute: f64,
    /// The same, to the first's mean; None where that is not above zero.
    pub relative: Option<f64>,
    /// Of `relative`; None with too few runs.
    pub interval: Option<Interval>,
    /// None where a group has one run, or nothing varies.
    pub welch: Option<Welch>,
    /// What can be said.
    pub verdict: Verdict,
}

impl Difference {
    fn from_wire(wire: v1::Difference) -> Result<Self, Error> {
        Ok(Self {
            absolute: wire.absolute,
            relative: wire.relative,
            interval: wire.interval.map(|interval| Interval {
                low: interval.low,
                high: interval.high,
                level: interval.level,
            }),
            welch: wire.welch.map(|welch| Welch {
                t: welch.t,
                degrees_of_freedom: welch.degrees_of_freedom,
                p: welch.p,
            }),
            verdict: Verdict::from_wire(wire.verdict)?,
        })
    }
}

/// One run of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredRun {
    /// Its name.
    pub run: String,
    /// Whose signal it is.
    pub device: String,
    /// UTC of its first sample, in nanoseconds.
    pub from_ns: i64,
    /// UTC after its last.
    pub to_ns: i64,
    /// UTC of the moment that is laid over that of the others.
    pub align_ns: i64,
    /// From its first sample to its last.
    pub duration_s: f64,
    /// Of that, without a stored sample.
    pub gap_s: f64,
    /// Samples stored, finite or not.
    pub sample_count: u64,
    /// Samples missing.
    pub gap_sample_count: u64,
    /// Samples that are finite, and folded.
    pub finite_count: u64,
    /// Of the samples.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub peak: f64,
    /// Of a signal in watt.
    pub energy_joule: Option<f64>,
    /// Of a signal in ampere.
    pub charge_coulomb: Option<f64>,
    /// Of the metric.
    pub value: f64,
}

impl MeasuredRun {
    fn from_wire(wire: v1::MeasuredRun) -> Self {
        Self {
            run: wire.run,
            device: wire.device,
            from_ns: wire.from_ns,
            to_ns: wire.to_ns,
            align_ns: wire.align_ns,
            duration_s: wire.duration_s,
            gap_s: wire.gap_s,
            sample_count: wire.sample_count,
            gap_sample_count: wire.gap_sample_count,
            finite_count: wire.finite_count,
            mean: wire.mean,
            min: wire.min,
            peak: wire.peak,
            energy_joule: wire.energy_joule,
            charge_coulomb: wire.charge_coulomb,
            value: wire.value,
        }
    }
}

/// One of the groups.
#[derive(Debug, Clone, PartialEq)]
pub struct RunGroup {
    /// As it was asked for.
    pub name: String,
    /// By name.
    pub runs: Vec<MeasuredRun>,
    /// Of the runs' values.
    pub mean: f64,
    /// Of a sample (÷ (n − 1)); None of one run.
    pub std: Option<f64>,
}

impl RunGroup {
    fn from_wire(wire: Option<v1::RunGroup>) -> Result<Self, Error> {
        let wire = wire.ok_or(Error::Malformed("a comparison lacks a group"))?;
        Ok(Self {
            name: wire.name,
            runs: wire.runs.into_iter().map(MeasuredRun::from_wire).collect(),
            mean: wire.mean,
            std: wire.std,
        })
    }
}

/// What the runs of a group have in each column; NaN where none has a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupColumns {
    /// The smallest sample of all runs.
    pub min: Vec<f64>,
    /// The largest.
    pub max: Vec<f64>,
    /// Of the runs' means.
    pub mean: Vec<f64>,
    /// Runs that have samples there.
    pub runs: Vec<u32>,
}

/// Both groups on one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedColumns {
    /// Start of the first column, from the moment that is laid over each other, in nanoseconds.
    pub from_ns: i64,
    /// Time of a column, in nanoseconds.
    pub column_ns: u64,
    /// The first group.
    pub first: GroupColumns,
    /// The second one.
    pub second: GroupColumns,
    /// Of the means, second minus first; NaN where a group has none.
    pub difference: Vec<f64>,
}

impl ComparedColumns {
    fn from_wire(wire: v1::ComparedColumns) -> Result<Self, Error> {
        let length = wire.difference.len();
        let group = |group: Option<v1::GroupColumns>| {
            let group = group.ok_or(Error::Malformed("a comparison lacks the columns of a group"))?;
            let lengths = [group.min.len(), group.max.len(), group.mean.len(), group.runs.len()];
            if lengths.iter().any(|other| *other != length) {
                return Err(Error::Malformed(
                    "columns of a comparison that are not as many as the others",
                ));
            }
            Ok(GroupColumns {
                min: group.min,
                max: group.max,
                mean: group.mean,
                runs: group.runs,
            })
        };
        Ok(Self {
            from_ns: wire.from_ns,
            column_ns: wire.column_ns,
            first: group(wire.first)?,
            second: group(wire.second)?,
            difference: wire.difference,
        })
    }
}

/// Two groups of runs, measured, and what can be said of their difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// `B uses 12.4 % less energy than A; 95 % interval 11.9 to 12.9 %; 20 runs each`.
    pub sentence: String,
    /// What limits it: other durations, what is missing.
    pub notes: Vec<String>,
    /// That was compared.
    pub signal: String,
    /// Of the signal.
    pub unit: String,
    /// By which it was compared.
    pub metric: Metric,
    /// Of the metric.
    pub metric_unit: String,
    /// The first group.
    pub first: RunGroup,
    /// The second one.
    pub second: RunGroup,
    /// Of the metric.
    pub difference: Difference,
    /// Of the signal's mean, beside energy and charge.
    pub mean_difference: Option<Difference>,
    /// Where points were asked for.
    pub columns: Option<ComparedColumns>,
}

impl Comparison {
    pub(crate) fn from_wire(wire: v1::CompareRunsResponse) -> Result<Self, Error> {
        let difference = wire
            .difference
            .ok_or(Error::Malformed("a comparison without a difference"))?;
        Ok(Self {
            sentence: wire.sentence,
            notes: wire.notes,
            signal: wire.signal,
            unit: wire.unit,
            metric: Metric::from_wire(wire.metric)?,
            metric_unit: wire.metric_unit,
            first: RunGroup::from_wire(wire.first)?,
            second: RunGroup::from_wire(wire.second)?,
            difference: Difference::from_wire(difference)?,
            mean_difference: wire.mean_difference.map(Difference::from_wire).transpose()?,
            columns: wire.columns.map(ComparedColumns::from_wire).transpose()?,
        })
    }
}
