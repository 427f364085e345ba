//! From a request to what has to be read. Pure: no clock, no database.
//!
//! A stream's samples lie on an axis of ids; a chunk says at which time its first one was taken, and the next follow at the
//! stream's rate. A range of time is therefore a range of samples from the first sample at or after `from` to the last one
//! before `to`. Where the clock stepped back in between, everything between the two is part of it.
//!
//! # Invariants
//! - I4: the cuts of the chunks of a range tile it.
//! - Successors are preferred: of a device or a run, a stream is read up to the seq at which one continues it.

use wavekeep_proto::chunk::{Header, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::nearest::nearest;
use wavekeep_proto::power::{POWER_NAME, power_of};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{limits as proto_limits, v1};

use super::error::QueryError;
use super::filter::{self, Filter, Key, Term, Test};
use crate::store::read_stream::{StreamFilter, StreamRow};

/// Whose samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Everything,
    Device(String),
    Stream(StreamId),
    Run(String),
}

/// From ≤ t < to, in nanoseconds since 1970; None is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from_ns: Option<i64>,
    pub(super) to_ns: Option<i64>,
}

impl Range {
    pub(super) fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// What lies in both; None where nothing does.
    pub(super) fn within(self, other: Self) -> Option<Self> {
        let latest = |one: Option<i64>, other: Option<i64>| one.max(other);
        let earliest = |one: Option<i64>, other: Option<i64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let range = Self {
            from_ns: latest(self.from_ns, other.from_ns),
            to_ns: earliest(self.to_ns, other.to_ns),
        };
        let is_empty = matches!((range.from_ns, range.to_ns), (Some(from), Some(to)) if from >= to);
        (!is_empty).then_some(range)
    }

    /// Do any of these times belong to it? From ≤ t < to; a moment where both are the same.
    pub(super) fn touches(self, (from_ns, to_ns): (i64, i64)) -> bool {
        let last_ns = (to_ns - 1).max(from_ns);
        self.to_ns.is_none_or(|end| from_ns < end) && self.from_ns.is_none_or(|start| last_ns >= start)
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) source: Source,
    pub(super) range: Range,
    /// None: all.
    pub(super) signals: Vec<String>,
    pub(super) filter: Filter,
}

fn name(kind: &str, name: String) -> Result<String, QueryError> {
    if name.is_empty() || name.len() > proto_limits::NAME_BYTES_MAX || name.contains('\0') {
        let sentence = format!(
            "a {kind} has a name of 1 to {} bytes, without NUL: give one that is listed",
            proto_limits::NAME_BYTES_MAX
        );
        return Err(QueryError::Invalid(sentence));
    }
    Ok(name)
}

/// Understands a selection.
pub(super) fn asked(selection: Option<v1::Selection>) -> Result<Asked, QueryError> {
    use v1::selection::What;
    let selection = selection.unwrap_or_default();
    let source = match selection.what {
        None => Source::Everything,
        Some(What::Device(device)) => Source::Device(name("device", device)?),
        Some(What::Run(run)) => Source::Run(name("run", run)?),
        Some(What::StreamId(id)) => {
            let id = StreamId::from_slice(&id);
            Source::Stream(
                id.map_err(|_| QueryError::Invalid("a stream's id is 16 bytes: give one that is listed".into()))?,
            )
        }
    };
    let range = selection.range.unwrap_or_default();
    let range = Range {
        from_ns: range.from_ns,
        to_ns: range.to_ns,
    };
    if let (Some(from), Some(to)) = (range.from_ns, range.to_ns)
        && from >= to
    {
        return Err(QueryError::Invalid(
            "the time range is empty, because `to` is not after `from`: exchange them".into(),
        ));
    }
    if selection.signals.len() > proto_limits::SIGNALS_MAX {
        let sentence = format!(
            "at most {} signals can be asked for at a time",
            proto_limits::SIGNALS_MAX
        );
        return Err(QueryError::Invalid(sentence));
    }
    let signals = selection.signals.into_iter().map(|signal| name("signal", signal));
    Ok(Asked {
        source,
        range,
        signals: signals.collect::<Result<_, _>>()?,
        filter: filter::parse(&selection.filter)?,
    })
}

impl Asked {
    /// All streams, at any time.
    pub(super) fn everything() -> Self {
        Self {
            source: Source::Everything,
            range: Range::default(),
            signals: Vec::new(),
            filter: Filter::default(),
        }
    }

    /// Reading samples of everything at once is never meant.
    pub(super) fn require_source(&self) -> Result<(), QueryError> {
        if self.source == Source::Everything && self.filter.is_empty() {
            return Err(QueryError::Invalid(
                "say what to read: a device, a stream, a run or a filter".into(),
            ));
        }
        Ok(())
    }

    /// Which rows of `stream` it is about, whatever runs they are part of; None where its terms contradict each other.
    pub(super) fn streams(&self) -> Option<StreamFilter> {
        let mut rows = StreamFilter {
            ids: None,
            device: self.filter.exact(&Key::Device).map(str::to_owned),
            labels: self.filter.labels(),
            patterns: self.filter.patterns(),
            to_ns: self.range.to_ns,
            from_ns: self.range.from_ns,
        };
        if self.runs().is_none() {
            // A stream that is part of no run is not part of a certain one.
            let runs = self.filter.about(&Key::Run);
            rows.patterns
                .extend(runs.map(|term| ("run".to_owned(), term.test.like(), term.wanted)));
        }
        match &self.source {
            Source::Everything | Source::Run(_) => Some(rows),
            Source::Stream(id) => {
                rows.ids = Some(vec![*id]);
                Some(rows)
            }
            Source::Device(name) => {
                let before = rows.device.replace(name.clone());
                before.is_none_or(|before| before == *name).then_some(rows)
            }
        }
    }

    /// What the name of a run must be, where it is about runs: then what is read is their ranges. Not where runs are only excluded.
    pub(super) fn runs(&self) -> Option<Vec<Term>> {
        let of_source = match &self.source {
            Source::Run(name) => Some(Term {
                key: Key::Run,
                test: Test::Is(name.clone()),
                wanted: true,
            }),
            _ => None,
        };
        let of_filter = self.filter.about(&Key::Run).cloned();
        let terms: Vec<Term> = of_source.into_iter().chain(of_filter).collect();
        terms.iter().any(|term| term.wanted).then_some(terms)
    }

    /// The devices and runs that it names: kind, name.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let of_source = match &self.source {
            Source::Device(name) => Some(("device", name.as_str())),
            Source::Run(name) => Some(("run", name.as_str())),
            Source::Everything | Source::Stream(_) => None,
        };
        let device = self.filter.exact(&Key::Device).map(|name| ("device", name));
        let run = self.filter.exact(&Key::Run).map(|name| ("run", name));
        of_source.into_iter().chain(device).chain(run)
    }

    /// The streams that have any of the signals asked for.
    pub(super) fn with_signals(&self, rows: Vec<StreamRow>) -> Result<Vec<StreamRow>, QueryError> {
        if self.signals.is_empty() || rows.is_empty() {
            return Ok(rows);
        }
        let known: Vec<String> = rows.iter().flat_map(|row| signal_names(&row.definition)).collect();
        if let Some(missing) = self.signals.iter().find(|signal| !known.contains(signal)) {
            return Err(QueryError::Unknown {
                kind: "signal",
                name: missing.clone(),
                nearest: nearest(missing, known),
            });
        }
        let has_any = |row: &StreamRow| signal_names(&row.definition).any(|name| self.signals.contains(&name));
        Ok(rows.into_iter().filter(has_any).collect())
    }

    /// Which of a stream's signals are meant, as places in its definition.
    pub(super) fn places(&self, definition: &StreamDefinition) -> Vec<usize> {
        let signals = definition.signals.iter().enumerate();
        let meant = signals.filter(|(_, signal)| self.signals.is_empty() || self.signals.contains(&signal.name));
        meant.map(|(place, _)| place).collect()
    }

    /// The last seq to be read of a stream.
    pub(super) fn last_seq(&self, row: &StreamRow) -> u64 {
        match (&self.source, row.succeeded_at) {
            (Source::Stream(_), _) | (_, None) => row.at.seq,
            (_, Some(seq)) => row.at.seq.min(seq),
        }
    }
}

/// The names by which a stream's samples can be asked for: its signals, and `power` where it is derived.
pub(super) fn signal_names(definition: &StreamDefinition) -> impl Iterator<Item = String> + '_ {
    let derived = power_of(definition).map(|_| POWER_NAME.to_owned());
    definition
        .signals
        .iter()
        .map(|signal| signal.name.clone())
        .chain(derived)
}

/// UTC of a sample of a chunk, in nanoseconds, at the stream's nominal rate.
pub(super) fn time_ns(definition: &StreamDefinition, header: &Header, sample: u64) -> i64 {
    let after = sample.saturating_sub(header.first_sample);
    header.utc_ns.saturating_add(definition.duration_ns(after))
}

/// The first sample of a chunk that was taken at or after a time; the chunk's end where none was.
pub(super) fn sample_at(definition: &StreamDefinition, header: &Header, time_ns_wanted: i64) -> u64 {
    let at = |sample| time_ns(definition, header, sample);
    // A search, so that it agrees with `time_ns` to the nanosecond.
    let (mut low, mut high) = (header.first_sample, header.end_sample());
    while low < high {
        let middle = low + (high - low) / 2;
        if at(middle) < time_ns_wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// A range of a stream: chunks, and the samples that they are cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first seq that the first chunk stands for.
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) from_sample: u64,
    pub(super) to_sample: u64,
}

/// The range between two chunks, both included; None where it holds no sample and is no whole stream.
pub(super) fn span(definition: &StreamDefinition, range: Range, first: &Header, last: &Header) -> Option<Span> {
    let span = Span {
        first_seq: first.first_seq,
        last_seq: last.seq,
        from_sample: range
            .from_ns
            .map_or(first.first_sample, |ns| sample_at(definition, first, ns)),
        to_sample: range
            .to_ns
            .map_or_else(|| last.end_sample(), |ns| sample_at(definition, last, ns)),
    };
    (span.from_sample < span.to_sample || range.is_open()).then_some(span)
}

/// What of a chunk lies in a range of samples.
pub(super) fn cut(header: &Header, span: &Span) -> (u64, u64) {
    let from = header.first_sample.max(span.from_sample).min(header.end_sample());
    (from, header.end_sample().min(span.to_sample).max(from))
}

/// All of a chunk.
pub(super) fn whole(header: &Header) -> (u64, u64) {
    (header.first_sample, header.end_sample())
}

/// The time between a crash and the next epoch of the device: from, to. It has no sample ids.
pub(super) fn outage(row: &StreamRow, streams: &[StreamRow]) -> Option<(i64, i64)> {
    let (_, crashed_ns) = row.times_ns.filter(|_| row.end_reason == Some(Reason::Crashed))?;
    let next = streams.iter().filter(|next| {
        next.definition.device == row.definition.device && next.definition.epoch != row.definition.epoch
    });
    let starts = next.filter_map(|next| next.times_ns).map(|(start, _)| start);
    let start_ns = starts.filter(|start| *start > crashed_ns).min()?;
    Some((crashed_ns, start_ns))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
