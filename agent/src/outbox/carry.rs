//! Carries streams from one outbox to another by chunk files: out of one that is looked at, damaged or not; into one in use.
//!
//! # Invariants
//! - I4, I14: what is carried keeps its seqs, its samples and its digests; what is missing in between is a hole there, which becomes a
//!   gap `corrupt` when it is read.
//! - A stream is there whole or not at all: what it is and where it stands is written last, synced, after the file was found whole.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::Serialize;
use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::id::StreamId;

use super::chunk_file::{ChunkFile, ChunkFileError, Writer};
use super::kv::{Batch, Kv, KvError};
use super::record::{Acked, Described, Mark};
use super::store::put_described;
use super::table::Stream;
use super::verify::StreamVerified;
use super::{Outbox, OutboxError, STEP_BYTES_MAX, find, keys};

/// Gaps that are listed one by one, of each stream; more are only counted.
const GAPS_MAX: usize = 1_000;

/// Why a stream cannot be carried.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CarryError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    File(#[from] ChunkFileError),
    #[error("it cannot be written ({0}): make room, or choose another disk")]
    Write(io::Error),
    #[error(
        "the outbox holds another part of stream {0} already: replay the file into an outbox of its own, a directory that is not there yet"
    )]
    OtherPart(StreamId),
    #[error("the outbox would hold {bytes} bytes of {quota_bytes}: give it a larger --quota")]
    Quota { bytes: u64, quota_bytes: u64 },
}

impl From<KvError> for CarryError {
    fn from(error: KvError) -> Self {
        Self::Outbox(error.into())
    }
}

/// A gap that the outbox holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedGap {
    /// Its first sample.
    pub first_sample: u64,
    /// Samples.
    pub count: u64,
    /// Why they are missing.
    pub reason: &'static str,
    /// UTC of the first one, in nanoseconds.
    pub from_utc_ns: i64,
}

/// What was carried out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CarriedOut {
    /// What is intact, and what is damaged.
    #[serde(flatten)]
    pub verified: StreamVerified,
    /// Its gaps, the first of them.
    pub gaps: Vec<NamedGap>,
}

/// What was carried in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CarriedIn {
    /// The outbox held all of it already.
    pub known: bool,
    /// Where its stream goes on.
    pub next_sample: u64,
    /// Records.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
}

impl<K: Kv> Outbox<K> {
    /// The streams of which anything is held.
    #[must_use]
    pub fn held_streams(&self) -> Vec<(StreamId, String)> {
        let table = self.table();
        let streams = table.streams.iter();
        streams
            .map(|(id, stream)| (*id, stream.definition.device.clone()))
            .collect()
    }

    /// Writes what is intact of a stream; with `unacked`, from the first chunk on that no ack covers.
    pub fn carry_out(&self, id: StreamId, unacked: bool, to: impl Write) -> Result<CarriedOut, CarryError> {
        let mut stream = self
            .with_stream(id, Stream::clone)
            .ok_or(OutboxError::UnknownStream(id))?;
        if unacked {
            stream.state.base = self.mark_of_acked(id, &stream)?;
        }
        stream.state.successor = None;
        let described = Described {
            definition: (*stream.definition).clone(),
            labels: stream.labels.clone(),
            run: stream.run.clone(),
        };
        let state = stream.state.to_value(&keys::state(id), stream.acked);
        let mut writer = Writer::start(to, id, &described, &state).map_err(CarryError::Write)?;
        let mut gaps = Vec::new();
        let mut read_bytes = 0;
        let verified = self.verify_stream(id, &stream, &mut read_bytes, &mut |found, data| {
            let header = &found.record.header;
            if header.kind == ChunkKind::Gap && gaps.len() < GAPS_MAX {
                gaps.push(NamedGap {
                    first_sample: header.first_sample,
                    count: header.count,
                    reason: header.reason.name(),
                    from_utc_ns: header.utc_ns,
                });
            }
            writer
                .chunk(id, &found.record, data.unwrap_or_default())
                .map_err(CarryError::Write)
        })?;
        writer.finish().map_err(CarryError::Write)?;
        Ok(CarriedOut { verified, gaps })
    }

    /// Where the first record starts that no ack covers.
    fn mark_of_acked(&self, id: StreamId, stream: &Stream) -> Result<Mark, OutboxError> {
        let (base, tail) = (stream.state.base, stream.state.tail);
        if stream.acked.seq <= base.at.seq {
            return Ok(base);
        }
        // The last record stays, so that there is a file to tell that all is acked.
        let first = find::first(&*self.kv, id, stream.acked.seq.min(tail.at.seq - 1) + 1, tail.at.seq)?;
        Ok(first.map_or(base, |found| found.record.start()))
    }

    /// Takes in a stream, for a server that may have any part of it.
    pub fn carry_in<R: Read>(&self, mut file: ChunkFile<R>) -> Result<CarriedIn, CarryError> {
        let id = file.stream();
        if let Some(held) = self.state_of(id) {
            let known = held.tail.at.seq >= file.state.tail.at.seq && held.base.at.seq <= file.state.base.at.seq;
            return if known {
                Ok(CarriedIn {
                    known,
                    next_sample: file.state.tail.at.next_sample,
                    ..CarriedIn::default()
                })
            } else {
                Err(CarryError::OtherPart(id))
            };
        }
        let carried = self.keep_from_reclaim(id, |_writer| self.carry_in_chunks(&mut file));
        match carried {
            Ok(carried) => {
                self.streams_changed();
                self.notify();
                Ok(carried)
            }
            Err(error) => {
                let mut batch = Batch::default();
                batch.delete_range(keys::chunk(id, 0), keys::chunk(id, u64::MAX));
                batch.delete_range(keys::data(id, 0), keys::data(id, u64::MAX));
                // The error that is told is the first one.
                let _ = self.kv.write(batch, false);
                Err(error)
            }
        }
    }

    fn carry_in_chunks<R: Read>(&self, file: &mut ChunkFile<R>) -> Result<CarriedIn, CarryError> {
        let id = file.stream();
        let quota_bytes = self.options.quota_bytes;
        let held_before = self.held_bytes();
        let mut state = file.state.clone();
        (state.held_bytes, state.successor) = (0, None);
        let mut carried = CarriedIn {
            next_sample: state.tail.at.next_sample,
            ..CarriedIn::default()
        };
        let mut batch = Batch::default();
        while let Some(chunk) = file.next()? {
            let record = chunk.record;
            let key = keys::chunk(id, record.header.seq);
            let value = record.to_value(&key);
            state.held_bytes += record.cost_bytes(value.len());
            state.ordinal = state.ordinal.max(record.ordinal);
            let bytes = held_before + state.held_bytes;
            if bytes > quota_bytes {
                return Err(CarryError::Quota { bytes, quota_bytes });
            }
            batch.put(key, value);
            if let Some(data) = chunk.data {
                batch.put(keys::data(id, record.header.seq), data);
            }
            carried.records += 1;
            carried.samples += if record.header.kind == ChunkKind::Samples {
                record.header.count
            } else {
                0
            };
            if batch.put_bytes() >= STEP_BYTES_MAX {
                self.kv.write(std::mem::take(&mut batch), false)?;
            }
        }
        // Its source is gone.
        if !file.described.definition.is_file() && !state.tail.at.ended {
            state.to_end.get_or_insert(Reason::Crashed);
        }
        // What was stored in all, as far as this outbox is concerned.
        state.stored_total_bytes = state.stored_total_bytes.max(state.held_bytes);
        put_described(&mut batch, &file.described);
        let key = keys::state(id);
        batch.put(key, state.to_value(&key, Acked::default()));
        self.kv.write(batch, true)?;
        let described = file.described.clone();
        let ordinal = state.ordinal;
        let mut stream = Stream::new(
            Arc::new(described.definition),
            described.labels,
            described.run,
            state,
            Acked::default(),
        );
        let mut table = self.table();
        stream.stores.stored(table.now, stream.state.base.at.seq + 1);
        table.ordinal = table.ordinal.max(ordinal);
        table.streams.insert(id, stream);
        Ok(carried)
    }
}
