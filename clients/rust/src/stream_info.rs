//! A stream as the server lists it.

use std::collections::BTreeMap;
use std::sync::Arc;

use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{v1, wire};

use crate::Error;

/// What a stream is, and where it stood when it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Never changes.
    pub definition: Arc<StreamDefinition>,
    /// key=value of people.
    pub labels: BTreeMap<String, String>,
    /// The run it was recorded for; empty for none.
    pub run: String,
    /// Watermark, next sample, digest, ended.
    pub at: Position,
    /// Why it ended; None while it has not.
    pub end_reason: Option<Reason>,
    /// UTC of its earliest sample, in nanoseconds; None while it has none.
    pub first_time_ns: Option<i64>,
    /// UTC after its latest.
    pub last_time_ns: Option<i64>,
    /// Samples of its axis that are stored.
    pub sample_count: u64,
    /// Samples of its axis in gaps.
    pub gap_sample_count: u64,
    /// Encoded bytes.
    pub stored_bytes: u64,
    /// Chunks in quarantine.
    pub quarantined: u64,
}

impl StreamInfo {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.definition.id
    }

    pub(crate) fn from_wire(wire: v1::StreamInfo) -> Result<Self, Error> {
        let definition = wire.definition.ok_or(Error::Malformed("a stream has no definition"))?;
        let definition = wire::definition_from_wire(definition).map_err(Error::Malformed)?;
        definition
            .validate()
            .map_err(|_| Error::Malformed("a stream's definition breaks a rule"))?;
        let digest = Hash::from_slice(&wire.digest).map_err(|_| Error::Malformed("a digest is not 16 bytes"))?;
        let seen = wire.watermark > 0;
        Ok(Self {
            definition: Arc::new(definition),
            labels: wire.labels,
            run: wire.run,
            at: Position {
                seq: wire.watermark,
                next_sample: wire.next_sample,
                digest,
                ended: wire.ended,
            },
            end_reason: wire.ended.then(|| reason_from_wire(wire.end_reason)).transpose()?,
            first_time_ns: seen.then_some(wire.first_time_ns),
            last_time_ns: seen.then_some(wire.last_time_ns),
            sample_count: wire.sample_count,
            gap_sample_count: wire.gap_sample_count,
            stored_bytes: wire.stored_bytes,
            quarantined: wire.quarantined,
        })
    }

    /// Which of its signals are meant by `names`, in its own order; without names, all.
    pub(crate) fn asked(&self, names: &[String]) -> Vec<usize> {
        let signals = self.definition.signals.iter().enumerate();
        signals
            .filter(|(_, signal)| names.is_empty() || names.contains(&signal.name))
            .map(|(at, _)| at)
            .collect()
    }
}

/// Unknown numbers are refused, never guessed.
pub(crate) fn reason_from_wire(number: i32) -> Result<Reason, Error> {
    Reason::from_number(number.cast_unsigned()).ok_or(Error::Malformed("a reason has an unknown number"))
}
