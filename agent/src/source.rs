//! A source reads one kind of device. Implement [`Source`] and the rest of the agent (cutting into chunks, encoding, hashing,
//! the outbox, the uplink) is yours; `examples/sine.rs` is a whole one.
//!
//! A value of a type that implements [`Source`] is *one opening* of a device: one uninterrupted life of its sample counter.
//! The agent mints an epoch for it; a device that is opened again is a new value and gets a new epoch.
//!
//! # Invariants
//! - I11: an epoch is minted once per opening ([`Description::definitions`] is called once for each) and never reused.
//! - I4: a source says which samples it delivers; what lies between is a gap. A jump ahead without a word becomes a gap
//!   `source_loss`, a step back is refused: absence is never silent.

pub mod csv;
pub mod energyrunner;
pub mod file;
mod file_error;
pub mod foreign;
mod frames;
pub mod jls;
pub mod joulescope;
pub mod npy;
mod pace;
pub mod pipe;
pub mod raw;
#[cfg(test)]
pub(crate) mod recording_sink;
pub mod simulated;
pub mod simulator;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use wavekeep_proto::chunk::{Marker, Reason};
use wavekeep_proto::hash;
use wavekeep_proto::id::{Epoch, Hash, StreamId};
use wavekeep_proto::stream::{BadDefinition, Signal, StreamDefinition};

pub use self::file_error::FileError;
use crate::controls::Controls;
use crate::limits;
use crate::stop::StopToken;

/// Reads one device, on a thread of its own: everything here may block.
pub trait Source: Send {
    /// What the device is and which streams it delivers. Called once, before [`Self::run`].
    fn describe(&self) -> Description;

    /// Delivers until the device ends or `stop` is set; both are `Ok`. Look at `stop` at least ten times a second. Of a file it is
    /// called again when its stream turns out to stand elsewhere: deliver from [`Sink::next_sample`] on.
    ///
    /// Give every error of the sink back (`?`): it decides what happens next.
    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError>;

    /// After [`Self::run`] has ended with [`SourceError::Away`]: waits until the device is there again, or until `stop`, tells the sink how
    /// much is missing by then, and gives the next opening; `None` if there is none. Its streams end then, and those of the next
    /// opening begin.
    fn reopen(&mut self, _sink: &mut dyn Sink, _stop: &StopToken) -> Result<Option<Box<dyn Source>>, SourceError> {
        Ok(None)
    }

    /// Settings of the device that can be changed while it is captured, if it has any. The agent asks once; the next opening of the
    /// device goes on with the same.
    fn controls(&self) -> Option<Arc<Controls>> {
        None
    }
}

/// What a source says of its device.
#[derive(Debug, Clone)]
pub struct Description {
    /// The instrument's name, as people call it. The agent may be told another one.
    pub device: String,
    /// Facts about the capture: model, serial, firmware. Of a file: none, since they would make it another stream elsewhere.
    pub attributes: BTreeMap<String, String>,
    /// Of a recorded file, which can be read again.
    pub file: Option<FileIdentity>,
    /// Each is one sample axis. Their place in this list is how the source names them to the sink.
    pub streams: Vec<StreamShape>,
}

/// What makes a file the same file wherever it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// XXH3-128 of its samples.
    pub content: Hash,
    /// UTC of its first sample, in nanoseconds since 1970.
    pub start_ns: i64,
}

/// Signals that are sampled together.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamShape {
    /// In order of number.
    pub signals: Vec<Signal>,
    /// Samples per second of each signal.
    pub rate_hz: f64,
    /// The sample id of the first one; the device's own counter where it has one.
    pub first_sample: u64,
}

impl Description {
    /// The definitions of its streams, for one opening of the device (I11).
    pub fn definitions(&self) -> Result<Vec<StreamDefinition>, DescriptionError> {
        if self.streams.is_empty() || self.streams.len() > limits::SOURCE_STREAMS_MAX {
            return Err(DescriptionError::StreamCount(self.streams.len()));
        }
        let epoch = match self.file {
            Some(file) => hash::file_epoch(file.content, &self.device, file.start_ns),
            None => Epoch(random_128()?),
        };
        self.streams.iter().map(|shape| self.definition(shape, epoch)).collect()
    }

    fn definition(&self, shape: &StreamShape, epoch: Epoch) -> Result<StreamDefinition, DescriptionError> {
        let (id, file_identity) = match self.file {
            Some(file) => (
                hash::file_stream_id(file.content, &self.device, file.start_ns, shape.rate_hz, &shape.signals),
                file.content.to_vec(),
            ),
            None => (StreamId(random_128()?), Vec::new()),
        };
        let definition = StreamDefinition {
            id,
            device: self.device.clone(),
            epoch,
            file_identity,
            predecessor: None,
            rate_hz: shape.rate_hz,
            first_sample: shape.first_sample,
            signals: shape.signals.clone(),
            attributes: self.attributes.clone(),
        };
        definition.validate()?;
        Ok(definition)
    }
}

/// 128 bits of the system's randomness.
pub(crate) fn random_128() -> Result<[u8; 16], DescriptionError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| DescriptionError::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// Why a device as described cannot be captured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DescriptionError {
    /// None, or too many.
    #[error("a source has 1 to {max} streams, this one {0}", max = limits::SOURCE_STREAMS_MAX)]
    StreamCount(usize),
    /// A stream's definition breaks a rule.
    #[error(transparent)]
    Definition(#[from] BadDefinition),
    /// The system has no randomness to name an epoch with.
    #[error("the system gives no random numbers ({0}), without which an epoch has no name: look at getrandom(2)")]
    Randomness(String),
}

/// Samples of one signal: in the type that the stream's definition has, or as raw bytes.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Column<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    /// Samples of any type, raw little-endian; packed types least significant bit first.
    Raw(&'a [u8]),
    /// This signal alone was lost, and why.
    Absent(Reason),
}

/// Samples of all signals of a stream, taken together.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The sample id of the first one.
    pub first_sample: u64,
    /// How many there are of each signal.
    pub count: u64,
    /// One per signal, in the definition's order.
    pub columns: &'a [Column<'a>],
}

/// Where a source delivers to. Streams are named by their place in [`Description::streams`].
///
/// Calls return when what was delivered is cut and stored, or waits for the rest of its chunk; they block while the outbox is
/// full, if it is told to block.
pub trait Sink {
    /// Where the stream goes on: its first sample, or for a file the first sample that is not stored yet.
    fn next_sample(&self, stream: usize) -> u64;
    /// `sample` was taken at `utc_ns` (nanoseconds since 1970). Call it before the samples that it is about; from there on the
    /// axis goes on at the nominal rate. Without any, the time of the call that brings the first sample counts.
    fn anchor(&mut self, stream: usize, sample: u64, utc_ns: i64) -> Result<(), SinkError>;
    /// The next samples.
    fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError>;
    /// These samples are missing, of all signals, and why.
    fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError>;
    /// A note at a sample that is not cut into a chunk yet, or still to come.
    fn marker(&mut self, stream: usize, marker: Marker) -> Result<(), SinkError>;
}

/// Why the sink takes no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The capture is over: its duration has passed, or it was stopped while it waited for room.
    #[error("the capture is over")]
    Stopped,
    /// Of a file only: what is stored now ends elsewhere, deliver from [`Sink::next_sample`] on.
    #[error("the server's position was adopted; the file is read again from sample {next_sample}")]
    Moved {
        /// The stream.
        stream: usize,
        /// Where it goes on.
        next_sample: u64,
    },
    /// The source broke a rule of the sink.
    #[error("the source is wrong: {0}")]
    Source(#[from] BadInput),
    /// The outbox cannot store.
    #[error("{0}")]
    Outbox(String),
}

/// What a source must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadInput {
    #[error("it has no stream {0}")]
    Stream(usize),
    #[error("sample ids may not step back, and {given} comes after {expected}")]
    Backwards { expected: u64, given: u64 },
    #[error("sample ids end at 2^62")]
    SampleId,
    #[error("the columns are not those of the stream's signals")]
    Columns,
    #[error("column {column} has {given} bytes and {expected} are needed")]
    ColumnBytes { column: usize, given: u64, expected: u64 },
    #[error("{0:?} is not a source's reason for missing samples")]
    Reason(Reason),
    #[error("a marker at sample {0} comes after its chunk was stored")]
    LateMarker(u64),
    #[error("there are too many or too long markers at once")]
    Markers,
}

/// Why a source ended before it was stopped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The sink takes no more.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The device, or the file, in one sentence that says what to do.
    #[error("{0}")]
    Device(String),
    /// The device is there no more; it may come back, as another opening.
    #[error(transparent)]
    Gone(Box<joulescope::source::Gone>),
    /// The device is not there at the moment, in one sentence; [`Source::reopen`] waits for it.
    #[error("{0}")]
    Away(String),
}

impl From<BadInput> for SourceError {
    fn from(error: BadInput) -> Self {
        Self::Sink(SinkError::Source(error))
    }
}

#[cfg(test)]
mod tests {
    use wavekeep_proto::stream::SampleType;

    use super::*;

    fn description(file: Option<FileIdentity>) -> Description {
        let signal = Signal {
            number: 0,
            name: "current".into(),
            sample_type: SampleType::F32,
            unit: "A".into(),
            finite_only: false,
        };
        Description {
            device: "bench".into(),
            attributes: BTreeMap::new(),
            file,
            streams: vec![StreamShape {
                signals: vec![signal],
                rate_hz: 1e6,
                first_sample: 5,
            }],
        }
    }

    #[test]
    fn i11_each_opening_has_its_own_epoch() {
        let first = description(None).definitions().expect("the description is good");
        let again = description(None).definitions().expect("the description is good");
        assert_ne!(first[0].epoch, again[0].epoch);
        assert_ne!(first[0].id, again[0].id);
        assert!(!first[0].is_file());
    }

    #[test]
    fn i11_a_file_is_the_same_stream_wherever_it_is_read() {
        let file = FileIdentity {
            content: Hash([3; 16]),
            start_ns: 17,
        };
        let first = description(Some(file)).definitions().expect("the description is good");
        assert_eq!(
            first,
            description(Some(file)).definitions().expect("the description is good")
        );
        assert!(first[0].is_file());
        let later = description(Some(FileIdentity { start_ns: 18, ..file }))
            .definitions()
            .expect("the description is good");
        assert_ne!(first[0].id, later[0].id);
    }

    #[test]
    fn absurd_descriptions_are_refused() {
        let mut none = description(None);
        none.streams.clear();
        assert_eq!(none.definitions(), Err(DescriptionError::StreamCount(0)));
        let mut rate = description(None);
        rate.streams[0].rate_hz = 0.0;
        assert_eq!(
            rate.definitions(),
            Err(DescriptionError::Definition(BadDefinition::Rate(0.0)))
        );
    }
}
