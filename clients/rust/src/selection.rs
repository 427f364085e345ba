//! What to read.

use wavekeep_proto::id::StreamId;
use wavekeep_proto::v1;

use crate::{Error, Run, StreamInfo};

/// A range of UTC time: `from_ns` ≤ t < `to_ns`, in nanoseconds since 1970. What is unset is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment that belongs to it.
    pub from_ns: Option<i64>,
    /// The first that no longer does.
    pub to_ns: Option<i64>,
}

impl TimeRange {
    pub(crate) fn from_wire(wire: v1::TimeRange) -> Self {
        let v1::TimeRange { from_ns, to_ns } = wire;
        Self { from_ns, to_ns }
    }

    pub(crate) fn to_wire(self) -> v1::TimeRange {
        let Self { from_ns, to_ns } = self;
        v1::TimeRange { from_ns, to_ns }
    }
}

/// A stream, and what is selected of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectedStream {
    /// The stream.
    pub info: StreamInfo,
    /// At least one, in order and apart from each other: of a selection that names runs, what lies in their times.
    pub ranges: Vec<TimeRange>,
}

impl SelectedStream {
    /// From when to when something of it may be stored, in each of its ranges; in nanoseconds.
    pub fn times_ns(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let stored = self.info.first_time_ns.zip(self.info.last_time_ns);
        let within = move |range: &TimeRange| {
            let (first, last) = stored?;
            let from = range.from_ns.map_or(first, |from| from.max(first));
            Some((from, range.to_ns.map_or(last, |to| to.min(last))))
        };
        self.ranges.iter().filter_map(within)
    }
}

/// What a selection consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// In order of time. Those that have no sample in its range are not among them.
    pub streams: Vec<SelectedStream>,
    /// The runs that it names, if they were wanted; also those of which nothing lies in its range.
    pub runs: Vec<Run>,
}

impl Selected {
    pub(crate) fn from_wire(wire: v1::ListStreamsResponse) -> Result<Self, Error> {
        let stream = |mut wire: v1::StreamInfo| {
            let ranges = std::mem::take(&mut wire.ranges).into_iter();
            let ranges: Vec<TimeRange> = ranges.map(TimeRange::from_wire).collect();
            // One that does not say what is selected must not pass for one of which all is.
            if ranges.is_empty() {
                return Err(Error::Malformed(
                    "a listed stream has no range: the server is an older one",
                ));
            }
            let info = StreamInfo::from_wire(wire)?;
            Ok(SelectedStream { info, ranges })
        };
        Ok(Self {
            streams: wire.streams.into_iter().map(stream).collect::<Result<_, _>>()?,
            runs: wire.runs.into_iter().map(Run::from_wire).collect::<Result<_, _>>()?,
        })
    }
}

/// Whose samples.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Everything,
    Device(String),
    Stream(StreamId),
    Run(String),
}

/// Which streams, which of their signals, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    what: What,
    range: TimeRange,
    signals: Vec<String>,
    filter: String,
}

impl Selection {
    fn new(what: What) -> Self {
        Self {
            what,
            range: TimeRange::default(),
            signals: Vec::new(),
            filter: String::new(),
        }
    }

    /// Every stream of the workspace: for listings.
    #[must_use]
    pub fn everything() -> Self {
        Self::new(What::Everything)
    }

    /// All streams of a device. Where a stream diverged, its successor is read from there on.
    #[must_use]
    pub fn device(name: impl Into<String>) -> Self {
        Self::new(What::Device(name.into()))
    }

    /// One stream, whole.
    #[must_use]
    pub fn stream(id: StreamId) -> Self {
        Self::new(What::Stream(id))
    }

    /// All streams of a run.
    #[must_use]
    pub fn run(name: impl Into<String>) -> Self {
        Self::new(What::Run(name.into()))
    }

    /// Only these signals; without any, all.
    #[must_use]
    pub fn signals<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.signals = names.into_iter().map(Into::into).collect();
        self
    }

    /// Only this time.
    #[must_use]
    pub fn range(mut self, range: TimeRange) -> Self {
        self.range = range;
        self
    }

    /// Only streams that match: terms that must all hold, separated by blanks or commas. `key=value`, `key!=value`, `key~glob`,
    /// `key!~glob`, where a key is a label, or `device` or `run`, and `*` and `?` of a glob are any text and any character. What has a
    /// blank, a comma or an operator in it stands in double quotes, with `\` before a quote or a `\` inside. docs/RUNS.md has the rest.
    #[must_use]
    pub fn filter(mut self, expression: impl Into<String>) -> Self {
        self.filter = expression.into();
        self
    }

    /// Only streams whose `key` (a label, or `device` or `run`) has this value.
    #[must_use]
    pub fn matching(mut self, key: &str, value: &str) -> Self {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let plain = !key.is_empty()
            && !key
                .chars()
                .any(|letter| letter.is_whitespace() || ",=!~\"".contains(letter));
        let key = if plain {
            key.to_owned()
        } else {
            format!("\"{}\"", escaped(key))
        };
        let joint = if self.filter.is_empty() { "" } else { "," };
        self.filter = format!("{}{joint}{key}=\"{}\"", self.filter, escaped(value));
        self
    }

    pub(crate) fn signal_names(&self) -> &[String] {
        &self.signals
    }

    /// Is such a stream part of the answer?
    pub(crate) fn admits(&self, stream: &StreamInfo) -> bool {
        match &self.what {
            What::Everything => true,
            What::Device(name) => stream.definition.device == *name,
            What::Stream(id) => stream.id() == *id,
            // The server knows what was made part of it.
            What::Run(_) => true,
        }
    }

    /// What of a stream is asked for, by the server's word. Only a run has other ranges of its own: they lie within the one asked for.
    pub(crate) fn part(&self, stated: Option<v1::TimeRange>) -> Option<TimeRange> {
        let Some(stated) = stated else {
            return Some(self.range);
        };
        let stated = TimeRange::from_wire(stated);
        let begins = self
            .range
            .from_ns
            .is_none_or(|from| stated.from_ns.is_some_and(|stated| stated >= from));
        let ends = self
            .range
            .to_ns
            .is_none_or(|to| stated.to_ns.is_some_and(|stated| stated <= to));
        let is_part = self.is_of_runs() && begins && ends;
        (stated == self.range || is_part).then_some(stated)
    }

    pub(crate) fn is_of_runs(&self) -> bool {
        matches!(self.what, What::Run(_)) || self.filter.contains("run")
    }

    /// Are streams read to their own end, whether a successor continues them or not?
    pub(crate) fn is_one_stream(&self) -> bool {
        matches!(self.what, What::Stream(_))
    }

    /// The time that is asked for.
    #[must_use]
    pub fn time_range(&self) -> TimeRange {
        self.range
    }

    pub(crate) fn to_wire(&self) -> v1::Selection {
        use v1::selection::What as Wire;
        v1::Selection {
            what: match &self.what {
                What::Everything => None,
                What::Device(name) => Some(Wire::Device(name.clone())),
                What::Stream(id) => Some(Wire::StreamId(id.to_vec().into())),
                What::Run(name) => Some(Wire::Run(name.clone())),
            },
            range: Some(self.range.to_wire()),
            signals: self.signals.clone(),
            filter: self.filter.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_filter_are_quoted() {
        let selection = Selection::device("a")
            .matching("run", "night, 2\"")
            .matching("firmware", "1.4");
        assert_eq!(selection.to_wire().filter, r#"run="night, 2\"",firmware="1.4""#);
    }
}
