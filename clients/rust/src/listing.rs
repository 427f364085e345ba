//! The answers that list: devices, chunks, gaps, statistics.

use std::collections::BTreeMap;

use wavekeep_proto::chunk::{Header, Reason};
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::{v1, wire};

use crate::Error;
use crate::stream_info::reason_from_wire;

/// A device of the workspace, with what is stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// As people call it.
    pub name: String,
    /// How many streams it has.
    pub streams: u64,
    /// UTC of its earliest sample, in nanoseconds; None while it has none.
    pub first_time_ns: Option<i64>,
    /// UTC after its latest.
    pub last_time_ns: Option<i64>,
    /// Samples stored, over the axes of all its streams.
    pub sample_count: u64,
    /// Samples in gaps.
    pub gap_sample_count: u64,
    /// Encoded bytes.
    pub stored_bytes: u64,
    /// Does it have a stream that has not ended?
    pub live: bool,
}

impl Device {
    pub(crate) fn from_wire(wire: v1::Device) -> Self {
        let seen = wire.sample_count > 0 || wire.gap_sample_count > 0;
        Self {
            name: wire.name,
            streams: wire.streams,
            first_time_ns: seen.then_some(wire.first_time_ns),
            last_time_ns: seen.then_some(wire.last_time_ns),
            sample_count: wire.sample_count,
            gap_sample_count: wire.gap_sample_count,
            stored_bytes: wire.stored_bytes,
            live: wire.live,
        }
    }
}

/// Samples that are missing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Of this stream.
    pub stream: StreamId,
    /// Of this device.
    pub device: String,
    /// Where it starts on the sample axis.
    pub first_sample: u64,
    /// Samples missing. 0 for an outage: the time between a crash and the device's next epoch, which has no sample ids.
    pub count: u64,
    /// Why.
    pub reason: Reason,
    /// UTC of its start, in nanoseconds.
    pub from_ns: i64,
    /// UTC after its end.
    pub to_ns: i64,
    /// The signals that are missing; empty for all.
    pub signals: Vec<String>,
}

impl Gap {
    pub(crate) fn from_wire(wire: v1::Gap) -> Result<Self, Error> {
        Ok(Self {
            stream: StreamId::from_slice(&wire.stream_id).map_err(|_| Error::Malformed("a gap has no stream"))?,
            device: wire.device,
            first_sample: wire.first_sample,
            count: wire.count,
            reason: reason_from_wire(wire.reason)?,
            from_ns: wire.from_ns,
            to_ns: wire.to_ns,
            signals: wire.signals,
        })
    }
}

/// A stored chunk without its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkInfo {
    /// Of this stream.
    pub stream: StreamId,
    /// Of this device.
    pub device: String,
    /// What it is.
    pub header: Header,
    /// The digest of the capture after it.
    pub digest: Hash,
    /// Encoded bytes of each present column.
    pub column_bytes: Vec<u64>,
    /// When it was committed, UTC in nanoseconds.
    pub loaded_at_ns: i64,
    /// Readers see a gap.
    pub quarantined: bool,
    /// What its columns start with, of the signals asked for, if that was asked for. One that is present in the header and
    /// missing here is damaged, or the server does not know the question yet.
    pub first_samples: Vec<FirstSamples>,
}

/// What a column of a chunk starts with.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstSamples {
    /// The number of the signal in the stream's definition.
    pub signal: u16,
    /// As f64, whatever the signal's type.
    pub values: Vec<f64>,
}

/// Which chunks of a selection, in which order, and what of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkOrder {
    /// At most so many chunks; 0 is all.
    pub limit: u32,
    /// The newest first: the stream that ends last, from its end on.
    pub newest_first: bool,
    /// So many samples of each column are decoded: at most 16.
    pub first_samples: u32,
    /// The last seq that is known of each stream: chunks up to it are left out.
    pub after: BTreeMap<StreamId, u64>,
}

impl ChunkOrder {
    pub(crate) fn cursors(&self) -> Vec<v1::ChunkCursor> {
        let cursor = |(stream, seq): (&StreamId, &u64)| v1::ChunkCursor {
            stream_id: stream.to_vec().into(),
            seq: *seq,
            digest: Vec::new().into(),
        };
        self.after.iter().map(cursor).collect()
    }
}

impl ChunkInfo {
    fn from_wire(wire: v1::ChunkInfo) -> Result<Self, Error> {
        Ok(Self {
            stream: StreamId::from_slice(&wire.stream_id).map_err(|_| Error::Malformed("a chunk has no stream"))?,
            device: wire.device,
            header: wire::header_from_bytes(&wire.header).map_err(|_| Error::Malformed("a chunk's header"))?,
            digest: Hash::from_slice(&wire.digest).map_err(|_| Error::Malformed("a digest is not 16 bytes"))?,
            column_bytes: wire.column_bytes,
            loaded_at_ns: wire.loaded_at_ns,
            quarantined: wire.quarantined,
            first_samples: wire
                .first_samples
                .into_iter()
                .map(FirstSamples::from_wire)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl FirstSamples {
    fn from_wire(wire: v1::FirstSamples) -> Result<Self, Error> {
        let signal = u16::try_from(wire.signal).map_err(|_| Error::Malformed("a signal has no such number"))?;
        let values = wire.values;
        Ok(Self { signal, values })
    }
}

/// Chunks as they come, one at a time.
#[derive(Debug)]
pub struct Chunks(pub(crate) tonic::Streaming<v1::ChunkInfo>);

impl Chunks {
    /// The next one; None after the last.
    pub async fn next(&mut self) -> Result<Option<ChunkInfo>, Error> {
        match self.0.message().await.map_err(|status| Error::interrupted(&status))? {
            Some(wire) => ChunkInfo::from_wire(wire).map(Some),
            None => Ok(None),
        }
    }
}

/// Gaps as they come, one at a time.
#[derive(Debug)]
pub struct Gaps(pub(crate) tonic::Streaming<v1::Gap>);

impl Gaps {
    /// The next one; None after the last.
    pub async fn next(&mut self) -> Result<Option<Gap>, Error> {
        match self.0.message().await.map_err(|status| Error::interrupted(&status))? {
            Some(wire) => Gap::from_wire(wire).map(Some),
            None => Ok(None),
        }
    }
}
