//! Which times of a stream a directory gets. Pure.
//!
//! Of a run these are its members' times, in whichever way the run is named: `--run`, or a term of `--filter`.
//!
//! # Invariants
//! - I1: no two of the ranges of a stream overlap or meet, and they are in order.

use wavekeep::{MemberOf, Run, StreamInfo, TimeRange};

use crate::cli::Select;
use crate::cli::select::run_filter;

/// The expression that lets through the runs whose members are wanted; None where all of each stream is.
pub(super) fn runs_asked(select: &Select) -> Option<String> {
    let filter = select.filter.as_deref().unwrap_or_default();
    let about_runs: Vec<Term> = terms(filter).into_iter().filter(Term::is_about_runs).collect();
    // Where runs are only left out, the others are streams and not runs.
    if select.run.is_none() && about_runs.iter().all(|term| !term.is_wanted) {
        return None;
    }
    let named = select.run.as_deref().map(run_filter).into_iter();
    let others = about_runs.into_iter().map(|term| term.text.to_owned());
    Some(named.chain(others).collect::<Vec<_>>().join(","))
}

/// What is wanted of a stream, given these runs; without any, what is asked for.
pub(super) fn ranges(runs: Option<&[Run]>, info: &StreamInfo, asked: TimeRange) -> Vec<TimeRange> {
    let Some(runs) = runs else { return vec![asked] };
    let recorded = runs.iter().filter(|run| run.name == info.run);
    let recorded = recorded.map(|_| TimeRange::default());
    let is_of_it = |of: &MemberOf| match of {
        MemberOf::Device(name) => *name == info.definition.device,
        MemberOf::Stream(id) => *id == info.id(),
    };
    let added = runs.iter().flat_map(|run| &run.members);
    let added = added.filter(|member| is_of_it(&member.of)).map(|member| member.range);
    merged(recorded.chain(added).filter_map(|range| within(range, asked)).collect())
}

/// What lies in both; None where nothing does.
fn within(one: TimeRange, other: TimeRange) -> Option<TimeRange> {
    let to_ns = match (one.to_ns, other.to_ns) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    // None is the earliest.
    let from_ns = one.from_ns.max(other.from_ns);
    let is_empty = from_ns.zip(to_ns).is_some_and(|(from, to)| from >= to);
    (!is_empty).then_some(TimeRange { from_ns, to_ns })
}

/// In order; those that overlap or meet become one.
fn merged(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    ranges.sort_by_key(|range| range.from_ns);
    let mut merged: Vec<TimeRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last)
                if last
                    .to_ns
                    .is_none_or(|end| range.from_ns.is_none_or(|from| from <= end)) =>
            {
                last.to_ns = last.to_ns.zip(range.to_ns).map(|(one, other)| one.max(other));
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// A term of a filter, as it is written.
#[derive(Debug, PartialEq, Eq)]
struct Term<'a> {
    key: &'a str,
    is_wanted: bool,
    text: &'a str,
}

impl Term<'_> {
    fn is_about_runs(&self) -> bool {
        match self.key.strip_prefix('"') {
            None => self.key == "run",
            Some(quoted) => {
                let mut letters = quoted.chars();
                // In quotes, `\` takes the next letter as it is.
                let plain = std::iter::from_fn(|| match letters.next()? {
                    '"' => None,
                    '\\' => letters.next(),
                    letter => Some(letter),
                });
                plain.eq("run".chars())
            }
        }
    }
}

fn is_separator(letter: char) -> bool {
    letter == ',' || letter.is_whitespace()
}

/// The terms of a filter that the server has understood: of another one, those before its fault.
fn terms(filter: &str) -> Vec<Term<'_>> {
    let mut terms = Vec::new();
    let mut rest = filter.trim_start_matches(is_separator);
    while !rest.is_empty() {
        let (key, after) = rest.split_at(word(rest, "=!~"));
        let after = after.trim_start();
        let (is_wanted, after) = after.strip_prefix('!').map_or((true, after), |after| (false, after));
        let Some(value) = after.strip_prefix(['=', '~']) else {
            break;
        };
        let value = value.trim_start();
        let next = &value[word(value, "")..];
        let text = &rest[..rest.len() - next.len()];
        terms.push(Term { key, is_wanted, text });
        rest = next.trim_start_matches(is_separator);
    }
    terms
}

/// Bytes of the key or value that a text begins with.
fn word(text: &str, ends: &str) -> usize {
    if !text.starts_with('"') {
        let is_end = |letter: char| is_separator(letter) || letter == '"' || ends.contains(letter);
        return text.find(is_end).unwrap_or(text.len());
    }
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return at + 1,
            '\\' => {
                letters.next();
            }
            _ => (),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(run: Option<&str>, filter: Option<&str>) -> Select {
        Select {
            device: None,
            stream: None,
            run: run.map(str::to_owned),
            filter: filter.map(str::to_owned),
            signals: Vec::new(),
            from: None,
            to: None,
        }
    }

    #[test]
    fn runs_are_asked_for_in_whichever_way_they_are_named() {
        let asked = |run, filter| runs_asked(&select(run, Some(filter)));
        for (filter, terms) in [
            ("", None),
            ("algorithm=A device~js*", None),
            ("run!=night-1, run!~x*", None),
            ("run=night-1", Some("run=night-1")),
            ("a=run=b, run~night-* device=x", Some("run~night-*")),
            ("run = \"night, 1\" b=1", Some("run = \"night, 1\"")),
            (
                "\"run\"~\"a \\\" run=c\" run!=b runs=1",
                Some("\"run\"~\"a \\\" run=c\",run!=b"),
            ),
            ("note=\"run=x\"", None),
            ("\"r\\un\"=x", Some("\"r\\un\"=x")),
            ("run=~x", Some("run=~x")),
            ("run=ä,note~ö", Some("run=ä")),
        ] {
            assert_eq!(asked(None, filter).as_deref(), terms, "{filter}");
        }
        assert_eq!(
            asked(Some("a\"b"), "run!~c*").as_deref(),
            Some("run=\"a\\\"b\",run!~c*")
        );
        assert_eq!(runs_asked(&select(None, None)), None);
    }

    #[test]
    fn a_filter_that_is_not_understood_ends_somewhere() {
        for filter in [
            "run",
            "run=",
            "\"run",
            "run=\"x",
            "=",
            "!",
            "run!x",
            "\"",
            "a=\"b\"run=c",
            "\\",
        ] {
            runs_asked(&select(None, Some(filter)));
        }
    }

    fn range((from_ns, to_ns): (Option<i64>, Option<i64>)) -> TimeRange {
        TimeRange { from_ns, to_ns }
    }

    #[test]
    fn times_that_overlap_or_meet_are_one() {
        let all = [(5, 7), (1, 3), (3, 4), (6, 9)].map(|(from, to)| range((Some(from), Some(to))));
        assert_eq!(
            merged(all.to_vec()),
            [(1, 4), (5, 9)].map(|(from, to)| range((Some(from), Some(to))))
        );
        let open = [(None, Some(2)), (Some(1), None), (Some(8), Some(9))].map(range);
        assert_eq!(merged(open.to_vec()), [TimeRange::default()]);
    }

    #[test]
    fn what_is_asked_for_cuts_a_time() {
        let asked = range((Some(3), Some(8)));
        assert_eq!(within(TimeRange::default(), asked), Some(asked));
        assert_eq!(within(range((Some(5), None)), asked), Some(range((Some(5), Some(8)))));
        assert_eq!(within(range((None, Some(3))), asked), None);
        assert_eq!(within(range((Some(8), None)), asked), None);
    }
}
