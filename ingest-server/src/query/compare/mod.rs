//! `CompareRuns`: two groups of runs, each measured, laid over each other, and what can be said of their difference.
//!
//! | file | what |
//! |---|---|
//! | `groups` | which runs a text means: the only place that knows what a run is |
//! | `subject` | which signal, unit and metric; or why the runs cannot be compared. Pure |
//! | `align` | the moment of each run that is laid over that of the others |
//! | `measure`, `axis` | a run's energy, mean, peak, gaps; its columns on the common axis (pure) |
//! | `student`, `bootstrap`, `random` | Welch's test, the interval. Pure |
//! | `verdict` | the sentence, and what limits it. Pure |
//! | `reference` | what SciPy says of the same data, for tests |
//!
//! # Invariants
//! - I12: [`limits::RUNS_COMPARED_MAX`] runs of a group; [`limits::RUNS_MEASURED`] are measured at a time. A run's columns are gone once its
//!   group has them.

mod align;
mod axis;
mod bootstrap;
mod groups;
mod measure;
mod random;
#[cfg(test)]
mod reference;
mod student;
mod subject;
mod verdict;

use std::collections::{BTreeMap, VecDeque};

use tokio::task::{JoinSet, spawn_blocking};
use wavekeep_proto::v1;

use self::align::Aligned;
use self::axis::{Axis, Overlay};
use self::measure::{Measured, Question, measure};
use self::student::Sample;
use self::subject::Subject;
use self::verdict::{Compared, Difference, Group};
use super::error::QueryError;
use super::limits;
use super::read::Reader;

/// See the module's documentation.
pub(super) async fn compare(
    reader: &Reader,
    request: v1::CompareRunsRequest,
) -> Result<v1::CompareRunsResponse, QueryError> {
    let metric = v1::Metric::try_from(request.metric).map_err(|_| {
        QueryError::Invalid(format!(
            "this version knows no metric {}: choose energy, charge, mean, peak or duration",
            request.metric
        ))
    })?;
    if request.points_max > limits::COMPARED_POINTS_MAX {
        let sentence = format!(
            "at most {} points can be asked for: ask for fewer",
            limits::COMPARED_POINTS_MAX
        );
        return Err(QueryError::Invalid(sentence));
    }
    let mut first = groups::runs_of(reader, &request.first).await?;
    let mut second = groups::runs_of(reader, &request.second).await?;
    let subject = subject::subject([&mut first, &mut second], &request.signal, metric)?;
    let first = align::aligned(reader, first, &request.align_marker).await?;
    let second = align::aligned(reader, second, &request.align_marker).await?;
    let spans = first.iter().chain(&second).map(Aligned::span_ns);
    let question = Question {
        signal: subject.signal.clone(),
        axis: (request.points_max > 0).then(|| Axis::over(spans, request.points_max)),
    };
    let (first, second) = (
        measured(reader, first, &question).await?,
        measured(reader, second, &question).await?,
    );
    let names = (request.first, request.second);
    // Thousands of resamples of each group.
    let answer = spawn_blocking(move || answer(names, &subject, question.axis, (first, second)));
    Ok(answer.await.expect("statistics do not panic"))
}

/// A group, measured: in the order in which it was given, and what its runs have in each column.
struct MeasuredGroup {
    runs: Vec<Measured>,
    overlay: Option<Overlay>,
}

async fn measured(reader: &Reader, runs: Vec<Aligned>, question: &Question) -> Result<MeasuredGroup, QueryError> {
    let mut overlay = question.axis.as_ref().map(Overlay::new);
    let mut waiting: VecDeque<(usize, Aligned)> = runs.into_iter().enumerate().collect();
    let mut found = Vec::with_capacity(waiting.len());
    let mut early = BTreeMap::new();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() + early.len() < limits::RUNS_MEASURED
            && let Some((at, Aligned { run, align_ns, .. })) = waiting.pop_front()
        {
            let (reader, question) = (reader.clone(), question.clone());
            under_way.spawn(async move {
                measure(reader, run, align_ns, question)
                    .await
                    .map(|measured| (at, measured))
            });
        }
        let Some(done) = under_way.join_next().await else {
            break;
        };
        // Dropping the others stops them.
        let (at, measured): (usize, Measured) = done.expect("measuring does not panic")?;
        early.insert(at, measured);
        // A sum depends on its order, and the same question has the same answer: each in its turn.
        while let Some(mut measured) = early.remove(&found.len()) {
            if let (Some(overlay), Some(lane)) = (&mut overlay, measured.lane.take()) {
                overlay.add(&lane);
            }
            found.push(measured);
        }
    }
    Ok(MeasuredGroup { runs: found, overlay })
}

fn answer(
    (first_name, second_name): (String, String),
    subject: &Subject,
    axis: Option<Axis>,
    (first, second): (MeasuredGroup, MeasuredGroup),
) -> v1::CompareRunsResponse {
    let metric = subject.metric;
    let values = |group: &MeasuredGroup| -> Vec<f64> { group.runs.iter().map(|run| run.value(metric)).collect() };
    let means = |group: &MeasuredGroup| -> Vec<f64> { group.runs.iter().map(Measured::mean).collect() };
    let is_sum = matches!(metric, v1::Metric::Energy | v1::Metric::Charge);
    let of_means = is_sum.then(|| verdict::difference(&means(&first), &means(&second)));
    let compared = Compared {
        first: group(first_name.clone(), &first),
        second: group(second_name.clone(), &second),
        signal: subject.signal.clone(),
        signal_unit: subject.unit.clone(),
        unit: metric_unit(metric, &subject.unit),
        metric,
    };
    let found = compared.weighed(verdict::difference(&values(&first), &values(&second)));
    let duration_s = |group: &Group| group.duration_s / group.runs as f64;
    let durations_s = (duration_s(&compared.first), duration_s(&compared.second));
    let to_wire = |name: String, group: &MeasuredGroup| {
        let of = Sample::of(&values(group));
        v1::RunGroup {
            name,
            runs: group
                .runs
                .iter()
                .map(|run| run.to_wire(&subject.unit, metric))
                .collect(),
            mean: of.mean,
            std: (of.count > 1).then(|| of.variance.sqrt()),
        }
    };
    v1::CompareRunsResponse {
        sentence: compared.sentence(&found),
        notes: compared.notes(&found, of_means.as_ref(), durations_s),
        signal: subject.signal.clone(),
        unit: subject.unit.clone(),
        metric: metric.into(),
        metric_unit: compared.unit,
        first: Some(to_wire(first_name, &first)),
        second: Some(to_wire(second_name, &second)),
        difference: Some(difference(&found)),
        mean_difference: of_means.as_ref().map(difference),
        columns: axis
            .zip(first.overlay.zip(second.overlay))
            .map(|(axis, overlays)| columns(axis, overlays)),
    }
}

fn group(name: String, measured: &MeasuredGroup) -> Group {
    let runs = || measured.runs.iter();
    Group {
        name,
        runs: measured.runs.len(),
        duration_s: runs().map(Measured::duration_s).sum(),
        gap_s: runs().map(Measured::gap_s).sum(),
        not_finite: runs().map(Measured::not_finite).sum(),
        not_finite_s: runs().map(Measured::not_finite_s).sum(),
    }
}

fn metric_unit(metric: v1::Metric, unit: &str) -> String {
    match metric {
        v1::Metric::Energy => "J".into(),
        v1::Metric::Charge => "C".into(),
        v1::Metric::Duration => "s".into(),
        v1::Metric::Mean | v1::Metric::Peak | v1::Metric::Unspecified => unit.into(),
    }
}

fn difference(found: &Difference) -> v1::Difference {
    v1::Difference {
        absolute: found.absolute,
        relative: found.relative,
        interval: found.interval.map(|interval| v1::Interval {
            low: interval.low,
            high: interval.high,
            level: bootstrap::LEVEL,
        }),
        welch: found.welch.map(|welch| v1::Welch {
            t: welch.t,
            degrees_of_freedom: welch.degrees_of_freedom,
            p: welch.p,
        }),
        verdict: found.verdict.into(),
    }
}

fn columns(axis: Axis, (first, second): (Overlay, Overlay)) -> v1::ComparedColumns {
    let difference = second.minus(&first);
    let to_wire = |overlay: Overlay| v1::GroupColumns {
        min: overlay.min,
        max: overlay.max,
        mean: overlay.mean,
        runs: overlay.runs,
    };
    v1::ComparedColumns {
        from_ns: axis.from_ns,
        column_ns: axis.column_ns,
        first: Some(to_wire(first)),
        second: Some(to_wire(second)),
        difference,
    }
}
