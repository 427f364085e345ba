//! What the server's position does to a stream: acked moves, or the tail is taken over.
//!
//! *Acked* is noted with whatever is stored next; only where it moves back is that noted at once, and synced: a hint that claims too
//! much would let the next process release the only copy.
//!
//! *Adopt*: a power cut took the outbox's unsynced tail, and the server has it. What is held stays (it may have to heal the
//! server one day), and the range that only the server has becomes a record too, a gap `lost_by_server`, acked from the start:
//! it is sent only if the server loses that range. So the records still tile. Synced: an `end` may follow.
//!
//! *Discard*: the stream of a file that disagrees with the server is read again; what is held of it goes.

use std::time::Duration;

use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits;
use wavekeep_proto::stream::StreamDefinition;

use super::heal::gap_between;
use super::kv::{Batch, Kv};
use super::record::{Acked, Mark, State};
use super::table::Stream;
use super::{Outbox, OutboxError, find, keys};

/// The mark of `at`, by the time axis as it was at `known`.
fn mark_at(definition: &StreamDefinition, known: &Mark, at: Position) -> Mark {
    let ahead = at.next_sample.saturating_sub(known.at.next_sample);
    let behind = known.at.next_sample.saturating_sub(at.next_sample);
    let next_utc_ns = known
        .next_utc_ns
        .saturating_add(definition.duration_ns(ahead))
        .saturating_sub(definition.duration_ns(behind));
    Mark { at, next_utc_ns }
}

impl<K: Kv> Outbox<K> {
    /// See [`wavekeep_proto::uplink::Outbox::set_acked`].
    pub(super) fn move_acked(&self, stream: StreamId, seq: u64, now: Duration) -> Result<(), OutboxError> {
        let Some(state) = self.state_of(stream) else {
            return Ok(());
        };
        let seq = seq.min(state.tail.at.seq);
        let total_bytes = self.total_bytes_at(stream, seq, &state)?;
        self.note_rewind(stream, Acked { seq, total_bytes })?;
        {
            let mut table = self.table();
            table.now = table.now.max(now);
            let Some(known) = table.streams.get_mut(&stream) else {
                return Ok(());
            };
            known.opened = true;
            if seq < known.acked.seq {
                known.acks.rewind(seq);
            }
            known.acked = Acked { seq, total_bytes };
            known.acks.acked(now, seq);
        }
        self.end_again(stream)?;
        self.notify();
        Ok(())
    }

    fn note_rewind(&self, stream: StreamId, acked: Acked) -> Result<(), OutboxError> {
        if self.with_stream(stream, |known| known.acked.seq <= acked.seq) != Some(false) {
            return Ok(());
        }
        let _writer = self.writer();
        let Some(state) = self.state_of(stream) else {
            return Ok(());
        };
        let key = keys::state(stream);
        let mut batch = Batch::default();
        batch.put(key, state.to_value(&key, acked));
        Ok(self.kv.write(batch, true)?)
    }

    /// Bytes stored in the stream up to `seq`; of a seq inside of a gap, up to the gap's end.
    fn total_bytes_at(&self, stream: StreamId, seq: u64, state: &State) -> Result<u64, OutboxError> {
        if seq >= state.tail.at.seq {
            return Ok(state.stored_total_bytes);
        }
        let first_held = find::first(&*self.kv, stream, seq.max(state.base.at.seq + 1), state.tail.at.seq)?;
        Ok(match first_held {
            Some(found) if found.record.header.first_seq <= seq => found.record.total_bytes,
            Some(found) => found.record.total_bytes.saturating_sub(found.cost_bytes),
            None => 0,
        })
    }

    /// The server went back behind an `end` that only it had (it was adopted): then another one is due.
    fn end_again(&self, stream: StreamId) -> Result<(), OutboxError> {
        let lost =
            |known: &Stream| known.tail().at.ended && known.is_visible() && known.acked.seq < known.tail().at.seq;
        if !self.with_stream(stream, lost).unwrap_or(false) {
            return Ok(());
        }
        let _writer = self.writer();
        let Some(mut state) = self.state_of(stream) else {
            return Ok(());
        };
        let last = find::last(&*self.kv, stream, state.base.at.seq + 1, state.tail.at.seq)?;
        let gap_at_tail = last
            .is_some_and(|found| found.record.header.seq == state.tail.at.seq && found.record.header.is_replacing());
        let is_file = self
            .with_stream(stream, |known| known.definition.is_file())
            .unwrap_or(false);
        if !gap_at_tail || is_file || !state.tail.at.ended {
            return Ok(());
        }
        state.tail.at.ended = false;
        state.to_end.get_or_insert(Reason::Crashed);
        self.commit(Batch::default(), &[(stream, &state)], false)
    }

    /// See [`wavekeep_proto::uplink::Outbox::adopt`].
    pub(super) fn take_over(&self, stream: StreamId, at: Position, discard: bool) -> Result<(), OutboxError> {
        let take_over = || {
            let Some(known) = self.with_stream(stream, Stream::clone) else {
                return Ok(());
            };
            let anew = discard && known.definition.is_file();
            let beyond = at.seq >= limits::SEQ_MAX || at.next_sample > limits::SAMPLE_ID_MAX;
            let behind = at.seq < known.tail().at.seq || at.next_sample < known.tail().at.next_sample;
            if beyond || behind && !anew {
                return Err(OutboxError::Adopt { stream, seq: at.seq });
            }
            if anew {
                return self.take_over_anew(stream, &known, at);
            }
            self.take_over_ahead(stream, &known, at)
        };
        self.keep_from_reclaim(stream, |_writer| take_over())?;
        self.notify();
        Ok(())
    }

    fn take_over_ahead(&self, stream: StreamId, known: &Stream, at: Position) -> Result<(), OutboxError> {
        let mut state = known.state.clone();
        let mut batch = Batch::default();
        let to = mark_at(&known.definition, &state.tail, at);
        if at.seq > state.tail.at.seq {
            let mut gap = gap_between(Reason::LostByServer, &state.tail, &to, state.ordinal, u64::MAX);
            let key = keys::chunk(stream, at.seq);
            let cost_bytes = gap.cost_bytes(gap.to_value(&key).len());
            state.stored_total_bytes += cost_bytes;
            state.held_bytes += cost_bytes;
            gap.total_bytes = state.stored_total_bytes;
            batch.put(key, gap.to_value(&key));
        }
        state.tail = to;
        if at.ended {
            state.to_end = None;
        } else if !known.definition.is_file() {
            state.to_end.get_or_insert(Reason::Crashed);
        }
        self.commit(batch, &[(stream, &state)], true)?;
        self.adopted(
            stream,
            Acked {
                seq: at.seq,
                total_bytes: state.stored_total_bytes,
            },
        );
        Ok(())
    }

    fn take_over_anew(&self, stream: StreamId, known: &Stream, at: Position) -> Result<(), OutboxError> {
        let mut state = known.state.clone();
        let mut batch = Batch::default();
        batch.delete_range(keys::chunk(stream, 0), keys::chunk(stream, u64::MAX));
        batch.delete_range(keys::data(stream, 0), keys::data(stream, u64::MAX));
        state.tail = mark_at(&known.definition, &state.tail, at);
        state.base = state.tail;
        state.held_bytes = 0;
        self.commit(batch, &[(stream, &state)], true)?;
        self.adopted(
            stream,
            Acked {
                seq: at.seq,
                total_bytes: state.stored_total_bytes,
            },
        );
        Ok(())
    }

    fn adopted(&self, stream: StreamId, acked: Acked) {
        if let Some(known) = self.table().streams.get_mut(&stream) {
            known.opened = true;
            known.moved = true;
            known.acks.rewind(acked.seq);
            known.acked = acked;
        }
    }
}
