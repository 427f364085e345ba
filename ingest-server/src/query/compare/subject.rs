//! What of the runs is compared: which signal, in which unit, by which metric; or why they cannot be. Pure.
//!
//! # Invariants
//! - Only what has one unit is compared, and no run with itself or with a part of it.
//! - No sample counts twice: the interval would be narrower than it says.
//! - A run's signal is that of one device: whose energy a sum over devices would be, nobody has said.

use std::collections::BTreeMap;

use wavekeep_proto::id::StreamId;
use wavekeep_proto::nearest::nearest;
use wavekeep_proto::power::POWER_NAME;
use wavekeep_proto::v1::Metric;

use super::super::error::QueryError;
use super::super::filter::Filter;
use super::super::limits;
use super::super::plan::{Asked, Range, Source, signal_names};
use super::super::want::Want;
use super::groups::RunMembers;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) signal: String,
    pub(super) unit: String,
    pub(super) metric: Metric,
}

/// What is asked of a member of a run.
pub(super) fn asked(run: &RunMembers, signal: &str) -> Asked {
    Asked {
        source: Source::Run(run.name.clone()),
        range: Range::default(),
        signals: vec![signal.to_owned()],
        filter: Filter::default(),
    }
}

fn names(run: &RunMembers) -> impl Iterator<Item = String> + '_ {
    run.members
        .iter()
        .flat_map(|member| signal_names(&member.row.definition))
}

fn has(run: &RunMembers, signal: &str) -> bool {
    names(run).any(|name| name == signal)
}

/// Keeps of each run the members that have the signal.
pub(super) fn subject(groups: [&mut Vec<RunMembers>; 2], signal: &str, metric: Metric) -> Result<Subject, QueryError> {
    let [first, second] = groups;
    if let Some(both) = first
        .iter()
        .find(|run| second.iter().any(|other| other.name == run.name))
    {
        return Err(QueryError::Invalid(format!(
            "run {:?} is in both groups, and cannot differ from itself: choose groups that have no run in common",
            both.name
        )));
    }
    for group in [&*first, &*second] {
        if group.len() > limits::RUNS_COMPARED_MAX {
            return Err(QueryError::TooMuch(format!(
                "that would be {} runs in a group, of at most {}: choose fewer",
                group.len(),
                limits::RUNS_COMPARED_MAX
            )));
        }
    }
    let signal = {
        let all: Vec<&RunMembers> = first.iter().chain(&*second).collect();
        choose(&all, signal)?
    };
    let mut unit: Option<(String, String)> = None;
    for run in first.iter_mut().chain(second.iter_mut()) {
        run.members
            .retain(|member| signal_names(&member.row.definition).any(|name| name == signal));
        let own = of_one_device(run, &signal)?;
        match &unit {
            None => unit = Some((run.name.clone(), own)),
            Some((_, known)) if *known == own => (),
            Some((other, known)) => {
                return Err(QueryError::Invalid(format!(
                    "{signal:?} of run {other:?} is in {}, and of run {:?} in {}: only one unit can be compared",
                    told(known),
                    run.name,
                    told(&own)
                )));
            }
        }
    }
    require_apart(first.iter().chain(&*second))?;
    let unit = unit.map(|(_, unit)| unit).unwrap_or_default();
    let metric = metric_of(&signal, &unit, metric)?;
    Ok(Subject { signal, unit, metric })
}

/// No two runs have a time of a stream in common.
fn require_apart<'a>(runs: impl Iterator<Item = &'a RunMembers>) -> Result<(), QueryError> {
    let mut streams: BTreeMap<StreamId, Vec<(i64, i64, &str)>> = BTreeMap::new();
    for run in runs {
        for member in &run.members {
            let times = member
                .times_ns()
                .map(|(from_ns, to_ns)| (from_ns, to_ns, run.name.as_str()));
            streams.entry(member.row.id()).or_default().extend(times);
        }
    }
    for (stream, times) in &mut streams {
        times.sort_unstable();
        // Those of one run are apart, so whatever overlaps at all does so with the next one.
        if let Some(pair) = times.windows(2).find(|pair| pair[1].0 < pair[0].1) {
            let mut names = [pair[0].2, pair[1].2];
            names.sort_unstable();
            return Err(QueryError::Invalid(format!(
                "runs {:?} and {:?} have samples of stream {stream} in common, which would count twice: choose runs that have none, by their names (run~night-*) or by a label that only those have",
                names[0], names[1]
            )));
        }
    }
    Ok(())
}

fn told(unit: &str) -> String {
    if unit.is_empty() { "no unit".into() } else { unit.into() }
}

/// The signal that is named, or the first of power and current that every run has.
fn choose(runs: &[&RunMembers], signal: &str) -> Result<String, QueryError> {
    if signal.is_empty() {
        let of_all = [POWER_NAME, "current"]
            .into_iter()
            .find(|name| runs.iter().all(|run| has(run, name)));
        return of_all.map(str::to_owned).ok_or_else(|| {
            QueryError::Invalid("not every run has power, nor has every one current: name the signal (--signal)".into())
        });
    }
    let Some(without) = runs.iter().find(|run| !has(run, signal)) else {
        return Ok(signal.to_owned());
    };
    let known: Vec<String> = runs.iter().flat_map(|run| names(run)).collect();
    if known.iter().any(|name| name == signal) {
        return Err(QueryError::Invalid(format!(
            "run {:?} has no signal {signal:?}: leave the run out, or name a signal that all have",
            without.name
        )));
    }
    Err(QueryError::Unknown {
        kind: "signal",
        name: signal.to_owned(),
        nearest: nearest(signal, known),
    })
}

/// The unit that the signal has in all of a run.
fn of_one_device(run: &RunMembers, signal: &str) -> Result<String, QueryError> {
    let mut found: Option<(String, String)> = None;
    for member in &run.members {
        let definition = &member.row.definition;
        for want in Want::all(&asked(run, signal), definition, true) {
            let unit = want.name_and_unit(definition).1.to_owned();
            let own = (definition.device.clone(), unit);
            match &found {
                None => found = Some(own),
                Some(known) if *known == own => (),
                Some((device, _)) if *device != own.0 => {
                    return Err(QueryError::Invalid(format!(
                        "run {:?} has {signal:?} of devices {device:?} and {:?}: choose one (run={},device={device})",
                        run.name, own.0, run.name
                    )));
                }
                Some((_, unit)) => {
                    return Err(QueryError::Invalid(format!(
                        "{signal:?} of run {:?} is in {} and in {}: only one unit can be compared",
                        run.name,
                        told(unit),
                        told(&own.1)
                    )));
                }
            }
        }
    }
    Ok(found.map(|(_, unit)| unit).unwrap_or_default())
}

fn metric_of(signal: &str, unit: &str, metric: Metric) -> Result<Metric, QueryError> {
    let needs = |needed: &str, what: &str| {
        if unit == needed {
            return Ok(());
        }
        Err(QueryError::Invalid(format!(
            "{what} is of a signal in {needed}, and {signal:?} is in {}: choose another signal, or another metric",
            told(unit)
        )))
    };
    match metric {
        Metric::Unspecified => Ok(match unit {
            "W" => Metric::Energy,
            "A" => Metric::Charge,
            _ => Metric::Mean,
        }),
        Metric::Energy => needs("W", "energy").map(|()| metric),
        Metric::Charge => needs("A", "charge").map(|()| metric),
        Metric::Mean | Metric::Peak | Metric::Duration => Ok(metric),
    }
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
