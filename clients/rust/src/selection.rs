//! What to read.

use wavekeep_proto::id::StreamId;
use wavekeep_proto::v1;

use crate::StreamInfo;

/// A range of UTC time: `from_ns` ≤ t < `to_ns`, in nanoseconds since 1970. What is unset is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment that belongs to it.
    pub from_ns: Option<i64>,
    /// The first that no longer does.
    pub to_ns: Option<i64>,
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

    /// Only streams that match: terms `key=value` joined by commas, where a key is a label, or `device` or `run`. A value
    /// with a comma or quotes in it stands in double quotes, with `\` before a quote or a `\` inside.
    #[must_use]
    pub fn filter(mut self, expression: impl Into<String>) -> Self {
        self.filter = expression.into();
        self
    }

    /// Only streams whose `key` (a label, or `device` or `run`) has this value.
    #[must_use]
    pub fn matching(mut self, key: &str, value: &str) -> Self {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        let joint = if self.filter.is_empty() { "" } else { "," };
        self.filter = format!("{}{joint}{key}=\"{value}\"", self.filter);
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
            What::Run(name) => stream.run == *name,
        }
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
            range: Some(v1::TimeRange {
                from_ns: self.range.from_ns,
                to_ns: self.range.to_ns,
            }),
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
