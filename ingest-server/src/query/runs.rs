//! What a selection consists of: streams, and the ranges of time that are read of each. From a run's name to its members.
//!
//! A run is the streams that were recorded for it, and ranges of time of devices or streams that were made part of it afterwards. The
//! view `run_range` merges them, so that no time of a stream is part of a run twice; a question that is about several runs merges theirs
//! here.
//!
//! # Invariants
//! - What is read of a member lies within its ranges and within the range asked for.
//! - No two ranges of a member overlap or meet, and they are in order.
//! - I12: [`limits::RUNS_MAX`] runs and [`limits::RUN_RANGES_MAX`] ranges of one question.

use std::collections::{BTreeMap, BTreeSet};

use wavekeep_proto::id::StreamId;

use super::error::QueryError;
use super::filter::{Filter, Key, Term, Test};
use super::known;
use super::limits;
use super::plan::{Asked, Range};
use super::read::Reader;
use super::reading::Reading;
use crate::store::read_run::{self, RangeRow, RunRow};
use crate::store::read_stream::StreamRow;

/// A stream, and what is read of it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) row: StreamRow,
    pub(super) ranges: Vec<Range>,
    /// The last seq to be read.
    pub(super) last_seq: u64,
}

impl Member {
    /// When something of it is stored: by its row and its ranges, without a look at its chunks.
    pub(super) fn times_ns(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let times = self.row.times_ns;
        self.ranges.iter().filter_map(move |range| {
            let (first, last) = times?;
            let own = Range {
                from_ns: Some(first),
                to_ns: Some(last.max(first.saturating_add(1))),
            };
            let common = own.within(*range)?;
            Some((common.from_ns?, common.to_ns?.min(last).max(common.from_ns?)))
        })
    }
}

/// What the runs of a question have of one stream.
#[derive(Debug, Default)]
struct Share {
    ranges: Vec<Range>,
    /// Nobody but its own id makes it part of them.
    by_id: bool,
}

/// A run with what it consists of.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) row: RunRow,
    /// In order of time.
    pub(super) members: Vec<Member>,
    /// Its own labels, and those that all of its streams share.
    pub(super) labels: BTreeMap<String, String>,
}

impl Run {
    fn new(row: RunRow, members: Vec<Member>) -> Self {
        let streams = members.iter().map(|member| &member.row.labels);
        let labels = labels(&row.labels, streams);
        Self { row, members, labels }
    }

    /// The devices of its streams.
    pub(super) fn devices(&self) -> BTreeSet<&str> {
        self.members
            .iter()
            .map(|member| member.row.definition.device.as_str())
            .collect()
    }

    /// First and last time, and the length of time in which any of its streams has something; in nanoseconds.
    pub(super) fn times_ns(&self) -> Option<(i64, i64, u64)> {
        let mut times: Vec<(i64, i64)> = self.members.iter().flat_map(Member::times_ns).collect();
        times.sort_unstable();
        let (first, _) = *times.first()?;
        let (mut end, mut length) = (first, 0u64);
        for (from, to) in times {
            length = length.saturating_add(to.saturating_sub(from.max(end)).max(0).cast_unsigned());
            end = end.max(to);
        }
        Some((first, end, length))
    }

    fn holds(&self, term: &Term) -> bool {
        match &term.key {
            Key::Run => term.holds(Some(&self.row.name)),
            Key::Label(key) => term.holds(self.labels.get(key).map(String::as_str)),
            // Of any of its devices; `!=` of none.
            Key::Device => self.devices().iter().any(|device| term.test.holds(device)) == term.wanted,
        }
    }
}

/// A run's labels: its own, and besides those that all of its streams have with one value.
fn labels<'a>(
    own: &BTreeMap<String, String>,
    mut streams: impl Iterator<Item = &'a BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let mut shared = streams.next().cloned().unwrap_or_default();
    for other in streams {
        shared.retain(|key, value| other.get(key) == Some(value));
    }
    shared.extend(own.clone());
    shared
}

/// Ranges in order; those that overlap or meet become one.
pub(super) fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|range| range.from_ns);
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last)
                if last
                    .to_ns
                    .is_none_or(|end| range.from_ns.is_none_or(|start| start <= end)) =>
            {
                last.to_ns = last.to_ns.zip(range.to_ns).map(|(one, other)| one.max(other));
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The streams of these runs, each once, with what all of the runs together have of it.
fn shares<'a>(rows: impl Iterator<Item = &'a RangeRow>) -> BTreeMap<StreamId, Share> {
    let mut shares: BTreeMap<StreamId, Share> = BTreeMap::new();
    for row in rows {
        let share = shares.entry(row.stream).or_insert_with(|| Share {
            ranges: Vec::new(),
            by_id: true,
        });
        share.ranges.push(Range {
            from_ns: row.from_ns,
            to_ns: row.to_ns,
        });
        share.by_id &= row.by_id;
    }
    for share in shares.values_mut() {
        share.ranges = merged(std::mem::take(&mut share.ranges));
    }
    shares
}

/// What of a stream lies in the range asked for; None where nothing does.
fn member(row: StreamRow, share: &Share, asked: Range) -> Option<Member> {
    let ranges: Vec<Range> = share.ranges.iter().filter_map(|range| range.within(asked)).collect();
    let touches = |range: &Range| row.times_ns.is_none_or(|times| range.touches(times));
    let ranges: Vec<Range> = ranges.into_iter().filter(touches).collect();
    let last_seq = match row.succeeded_at {
        Some(seq) if !share.by_id => row.at.seq.min(seq),
        _ => row.at.seq,
    };
    (!ranges.is_empty()).then_some(Member { row, ranges, last_seq })
}

impl Reader {
    /// What a selection consists of, in order of time, as one transaction sees it. A name that is not there is an error; a time without
    /// streams is none.
    pub(super) async fn members_in(&self, reading: &mut Reading, asked: &Asked) -> Result<Vec<Member>, QueryError> {
        let Some(mut filter) = asked.streams() else {
            return Ok(Vec::new());
        };
        let shares = match asked.runs() {
            None => None,
            Some(terms) => {
                let names = run_names(reading, &terms).await?;
                Some(shares(ranges(reading, &names).await?.iter()))
            }
        };
        if let Some(shares) = &shares {
            let ids = match filter.ids.take() {
                Some(ids) => ids.into_iter().filter(|id| shares.contains_key(id)).collect(),
                None => shares.keys().copied().collect(),
            };
            filter.ids = Some(ids);
        }
        let rows = self.streams_of(reading, &filter, asked).await?;
        let whole = |row: StreamRow| Member {
            last_seq: asked.last_seq(&row),
            ranges: vec![asked.range],
            row,
        };
        Ok(match shares {
            None => rows.into_iter().map(whole).collect(),
            Some(shares) => rows
                .into_iter()
                .filter_map(|row| {
                    let share = shares.get(&row.id())?;
                    member(row, share, asked.range)
                })
                .collect(),
        })
    }

    /// The runs that a filter lets through, by name, each with its members, as one transaction sees them. An index finds those that have a
    /// label which the filter demands; the rest is decided here, since a run's labels are also those of its streams.
    pub(super) async fn runs_in(&self, reading: &mut Reading, filter: &Filter) -> Result<Vec<Run>, QueryError> {
        let terms: Vec<Term> = filter.about(&Key::Run).cloned().collect();
        let rows = select(reading, &terms, filter.labels().into_iter().next()).await?;
        if rows.is_empty()
            && let Some(name) = filter.exact(&Key::Run)
        {
            known::require_run(reading, name).await?;
        }
        let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
        let ranges = ranges(reading, &names).await?;
        let everything = Asked::everything();
        let mut of_streams = everything.streams().unwrap_or_default();
        of_streams.ids = Some(shares(ranges.iter()).into_keys().collect());
        let streams = self.streams_of(reading, &of_streams, &everything).await?;
        let places: BTreeMap<StreamId, usize> = streams.iter().enumerate().map(|(at, row)| (row.id(), at)).collect();
        let mut of_runs: BTreeMap<&str, Vec<&RangeRow>> = BTreeMap::new();
        for range in &ranges {
            of_runs.entry(&range.run).or_default().push(range);
        }
        let runs = rows.into_iter().map(|row| {
            let shares = shares(of_runs.remove(row.name.as_str()).unwrap_or_default().into_iter());
            let found = shares.iter().filter_map(|(id, share)| Some((*places.get(id)?, share)));
            let found: BTreeMap<usize, &Share> = found.collect();
            let members = found
                .into_iter()
                .filter_map(|(at, share)| member(streams[at].clone(), share, Range::default()));
            let members = members.collect();
            Run::new(row, members)
        });
        let runs: Vec<Run> = runs
            .filter(|run| filter.terms.iter().all(|term| run.holds(term)))
            .collect();
        if runs.is_empty() {
            if let Some(device) = filter.exact(&Key::Device) {
                known::require_device(reading, device).await?;
            }
            known::require_keys(reading, filter).await?;
        }
        Ok(runs)
    }
}

async fn run_names(reading: &mut Reading, terms: &[Term]) -> Result<Vec<String>, QueryError> {
    let rows = select(reading, terms, None).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// The runs whose names these terms let through and that may have this label.
async fn select(
    reading: &mut Reading,
    terms: &[Term],
    label: Option<(String, String)>,
) -> Result<Vec<RunRow>, QueryError> {
    let exact = terms.iter().find_map(|term| match &term.test {
        Test::Is(name) if term.wanted => Some(name.as_str()),
        _ => None,
    });
    let patterns: Vec<(String, bool)> = terms.iter().map(|term| (term.test.like(), term.wanted)).collect();
    let rows = read_run::select(reading.tx.connection(), exact, &patterns, label, limits::RUNS_MAX + 1).await?;
    if rows.len() > limits::RUNS_MAX {
        let sentence = format!("that would be more than {} runs: give a filter", limits::RUNS_MAX);
        return Err(QueryError::TooMuch(sentence));
    }
    Ok(rows)
}

async fn ranges(reading: &mut Reading, names: &[String]) -> Result<Vec<RangeRow>, QueryError> {
    let rows = read_run::ranges(reading.tx.connection(), names, limits::RUN_RANGES_MAX + 1).await?;
    if rows.len() > limits::RUN_RANGES_MAX {
        let sentence = format!(
            "these runs consist of more than {} ranges: choose fewer runs",
            limits::RUN_RANGES_MAX
        );
        return Err(QueryError::TooMuch(sentence));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range((from_ns, to_ns): (Option<i64>, Option<i64>)) -> Range {
        Range { from_ns, to_ns }
    }

    #[test]
    fn own_labels_win_and_streams_give_what_they_share() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        let streams = [
            of(&[("a", "1"), ("b", "2"), ("c", "3")]),
            of(&[("a", "1"), ("b", "x"), ("c", "3")]),
        ];
        let all = labels(&of(&[("c", "own"), ("d", "4")]), streams.iter());
        assert_eq!(all, of(&[("a", "1"), ("c", "own"), ("d", "4")]));
        assert_eq!(labels(&of(&[("d", "4")]), [].into_iter()), of(&[("d", "4")]));
    }

    #[test]
    fn ranges_that_overlap_or_meet_are_one() {
        let all = [
            (Some(5), Some(7)),
            (Some(1), Some(3)),
            (Some(3), Some(4)),
            (Some(6), Some(6 + 3)),
        ];
        let merged_all = [(Some(1), Some(4)), (Some(5), Some(9))];
        assert_eq!(merged(all.map(range).to_vec()), merged_all.map(range));
        let open = [(None, Some(2)), (Some(1), None), (Some(8), Some(9))];
        assert_eq!(merged(open.map(range).to_vec()), [(None, None)].map(range));
    }

    proptest! {
        #[test]
        fn what_is_merged_holds_the_same_times_each_once(
            all in proptest::collection::vec((proptest::option::of(0i64..20), proptest::option::of(0i64..20)), 0..8)
        ) {
            let valid = all.into_iter().filter(|(from, to)| from.zip(*to).is_none_or(|(from, to)| from < to));
            let ranges: Vec<Range> = valid.map(range).collect();
            let merged = merged(ranges.clone());
            for time in -1..22i64 {
                let holding = |ranges: &[Range]| ranges.iter().filter(|range| range.touches((time, time))).count();
                prop_assert_eq!(holding(&merged), holding(&ranges).min(1));
            }
        }
    }
}
