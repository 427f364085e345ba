//! What is damaged becomes a gap `corrupt`, in place: the same seqs, the same samples, the digests of the capture (I4, I13, I14).
//!
//! A chunk whose columns are bad keeps its range, its digests and its markers. Where a record itself is lost, its neighbours
//! say what it covered: the gap goes from where the last readable record ends to where the next one, or the tail, begins. A lost
//! `end` alone is written again: all that it said is known, and its digest proves it.

use wavekeep_proto::chunk::{ChunkKind, Header, Reason};
use wavekeep_proto::hash;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::Held;

use super::find::{self, Found};
use super::kv::{Batch, Kv, KvError};
use super::record::{Mark, Record, State, data_hash};
use super::{Outbox, OutboxAlarm, OutboxError, keys};

/// The record becomes a gap of its own range.
pub(super) fn corrupt(record: &Record) -> Record {
    let header = Header {
        kind: ChunkKind::Gap,
        reason: Reason::Corrupt,
        columns: Vec::new(),
        ..record.header.clone()
    };
    Record {
        header,
        column_bytes: Vec::new(),
        data_hash: data_hash(&[]),
        ..record.clone()
    }
}

/// A gap from one mark to the other.
pub(super) fn gap_between(reason: Reason, from: &Mark, to: &Mark, ordinal: u64, total_bytes: u64) -> Record {
    let header = Header {
        kind: ChunkKind::Gap,
        reason,
        first_seq: from.at.seq + 1,
        seq: to.at.seq,
        first_sample: from.at.next_sample,
        // Damage may leave neighbours that do not fit; then nothing is known to lie between.
        count: to.at.next_sample.saturating_sub(from.at.next_sample),
        utc_ns: from.next_utc_ns,
        markers: Vec::new(),
        columns: Vec::new(),
    };
    Record {
        header,
        digest_before: from.at.digest,
        digest: to.at.digest,
        column_bytes: Vec::new(),
        data_hash: data_hash(&[]),
        total_bytes,
        ordinal,
    }
}

impl<K: Kv> Outbox<K> {
    /// Reads the record after `seq` under the writer's lock, after replacing what is damaged there.
    pub(super) fn heal(&self, stream: StreamId, seq: u64) -> Result<Option<Held>, OutboxError> {
        let _writer = self.writer();
        for attempt in 0..2 {
            let Some(state) = self.state_of(stream) else {
                return Ok(None);
            };
            let from = seq.max(state.base.at.seq);
            if from >= state.tail.at.seq {
                return Ok(None);
            }
            if let Some(held) = self.try_read(stream, from, state.tail.at.seq)? {
                return Ok(Some(held));
            }
            if attempt == 0 {
                self.replace_damaged(stream, from, state)?;
            }
        }
        Err(KvError::Damaged(format!(
            "stream {stream} after seq {seq}, where even a gap cannot be read back"
        ))
        .into())
    }

    /// Reads everything that is held, as the uplink would: what is damaged becomes a gap on the way.
    pub fn mend(&self) -> Result<(), OutboxError> {
        let streams: Vec<StreamId> = self.table().streams.keys().copied().collect();
        for stream in streams {
            let mut seq = 0;
            while let Some(held) = self.read_next(stream, seq)? {
                seq = held.chunk.header.seq;
            }
        }
        Ok(())
    }

    fn replace_damaged(&self, stream: StreamId, from: u64, mut state: State) -> Result<(), OutboxError> {
        let mut batch = Batch::default();
        let next = find::first(&*self.kv, stream, from + 1, state.tail.at.seq)?;
        let (record, delta_bytes) = match next {
            Some(found) if found.record.header.first_seq <= from + 1 => {
                batch.delete(keys::data(stream, found.record.header.seq));
                (corrupt(&found.record), found.cost_bytes)
            }
            next => self.fill_hole(stream, from, &mut state, next.as_ref(), &mut batch)?,
        };
        let key = keys::chunk(stream, record.header.seq);
        let value = record.to_value(&key);
        let cost_bytes = record.cost_bytes(value.len());
        state.held_bytes = state.held_bytes.saturating_sub(delta_bytes) + cost_bytes;
        batch.put(key, value);
        self.commit(batch, &[(stream, &state)], false)?;
        if record.header.kind == ChunkKind::Gap {
            self.tell_corrupt(stream, &record.header);
        }
        Ok(())
    }

    /// The record for a hole after `from`, and the bytes of what was lost there, as far as they are known.
    fn fill_hole(
        &self,
        stream: StreamId,
        from: u64,
        state: &mut State,
        next: Option<&Found>,
        batch: &mut Batch,
    ) -> Result<(Record, u64), OutboxError> {
        let definition = self
            .with_stream(stream, |stream| stream.definition.clone())
            .ok_or(OutboxError::UnknownStream(stream))?;
        let previous = match from {
            at_base if at_base == state.base.at.seq => None,
            _ => find::last(&*self.kv, stream, state.base.at.seq + 1, from)?,
        };
        let before = previous
            .as_ref()
            .map_or(state.base, |found| found.record.end(&definition));
        let after = next.map_or(state.tail, |found| found.record.start());
        let total_before = previous.as_ref().map_or(0, |found| found.record.total_bytes);
        let total_after = next.map_or(state.stored_total_bytes, |found| {
            found.record.total_bytes - found.cost_bytes.min(found.record.total_bytes)
        });
        let lost_bytes = if previous.is_some() {
            total_after.saturating_sub(total_before)
        } else {
            0
        };
        let ordinal = next.map_or(state.ordinal, |found| found.record.ordinal);
        // Whatever lies there unreadable is gone for good, or it could come back as something else.
        batch.delete_range(
            keys::chunk(stream, before.at.seq + 1),
            keys::chunk(stream, after.at.seq + 1),
        );
        batch.delete_range(
            keys::data(stream, before.at.seq + 1),
            keys::data(stream, after.at.seq + 1),
        );
        let lost_end = next.is_none() && state.tail.at.ended;
        if lost_end && let Some(end) = rewritten_end(&before, state, total_after) {
            return Ok((end, lost_bytes));
        }
        if lost_end {
            // The gap takes the end's seq; another `end` is due after it.
            state.tail.at.ended = false;
            state.to_end.get_or_insert(Reason::Crashed);
        }
        Ok((
            gap_between(Reason::Corrupt, &before, &after, ordinal, total_after),
            lost_bytes,
        ))
    }

    pub(super) fn tell_corrupt(&self, stream: StreamId, header: &Header) {
        self.table().counters.corrupt_samples += header.count;
        self.alarm(OutboxAlarm::Corrupt {
            stream,
            first_sample: header.first_sample,
            samples: header.count,
        });
    }
}

/// The stream's `end`, if that is all that was lost after `before`.
fn rewritten_end(before: &Mark, state: &State, total_bytes: u64) -> Option<Record> {
    let tail = state.tail.at;
    if before.at.seq + 1 != tail.seq || before.at.next_sample != tail.next_sample {
        return None;
    }
    Reason::ALL.iter().filter(|reason| reason.is_end()).find_map(|reason| {
        let gap = gap_between(*reason, before, &state.tail, state.ordinal, total_bytes);
        let header = Header {
            kind: ChunkKind::End,
            ..gap.header
        };
        let digest = hash::next_digest(before.at.digest, hash::chunk_hash(&header));
        (digest == tail.digest).then_some(Record { header, ..gap })
    })
}
