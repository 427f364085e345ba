//! Diverged: another outbox has written to the stream, so what is held moves, renumbered, to a successor of the same epoch that
//! says what it follows. The source, if there is one, hears `Ended` and opens a stream of its own.
//!
//! One batch, synced, announces the successor in the predecessor's state; each further one moves some records from the predecessor's
//! front to the successor's tail, the columns verified on the way; the last one, synced, drops the predecessor. Until then both
//! are hidden from the uplink. Killed anywhere in between, the next start goes on where it stopped.
//!
//! Seqs collapse to consecutive numbers, and digests are chained anew from the successor's definition, the replacing gaps'
//! own hashes too: nobody has acknowledged any of it yet.

use std::sync::Arc;

use wavekeep_proto::chunk::{ChunkKind, Position, Reason};
use wavekeep_proto::hash;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::{Predecessor, StreamDefinition};

use super::find::{self, Found};
use super::heal::{corrupt, gap_between};
use super::kv::{Batch, Kv, KvError};
use super::record::{Acked, Described, Mark, Record, State};
use super::store::{delete_described, put_described};
use super::table::Stream;
use super::{Outbox, OutboxError, STEP_BYTES_MAX, keys};

/// Some records on their way.
struct Move {
    from: StreamId,
    to: StreamId,
    from_state: State,
    to_state: State,
    from_definition: Arc<StreamDefinition>,
    batch: Batch,
    bytes: u64,
}

impl<K: Kv> Outbox<K> {
    /// See [`wavekeep_proto::uplink::Outbox::succeed`].
    pub(super) fn move_to_successor(&self, stream: StreamId) -> Result<StreamId, OutboxError> {
        let successor = {
            let _writer = self.writer();
            match self.with_stream(stream, |known| known.state.successor) {
                Some(Some(successor)) => successor,
                Some(None) => self.announce_successor(stream)?,
                // It is done already.
                None => return self.successor_of(stream).ok_or(OutboxError::UnknownStream(stream)),
            }
        };
        while !self.move_some(stream, successor)? {}
        self.streams_changed();
        self.notify();
        Ok(successor)
    }

    /// Goes on with every succession that was interrupted.
    pub(super) fn finish_successions(&self) -> Result<(), OutboxError> {
        let open: Vec<StreamId> = {
            let table = self.table();
            table
                .streams
                .iter()
                .filter(|(_, stream)| stream.state.successor.is_some())
                .map(|(id, _)| *id)
                .collect()
        };
        // One that cannot go on holds up no other.
        let mut result = Ok(());
        for stream in open {
            result = self.move_to_successor(stream).map(drop).and(result);
        }
        result
    }

    fn successor_of(&self, stream: StreamId) -> Option<StreamId> {
        let table = self.table();
        let follows = |known: &Stream| {
            known
                .definition
                .predecessor
                .is_some_and(|predecessor| predecessor.stream_id == stream)
        };
        table
            .streams
            .iter()
            .find(|(_, known)| follows(known))
            .map(|(id, _)| *id)
    }

    fn announce_successor(&self, stream: StreamId) -> Result<StreamId, OutboxError> {
        let known = self
            .with_stream(stream, Stream::clone)
            .ok_or(OutboxError::UnknownStream(stream))?;
        assert!(
            !known.definition.is_file(),
            "a file that diverged is read again, it has no successor"
        );
        let successor = StreamId((self.options.random)()?);
        let base = known.state.base;
        let definition = StreamDefinition {
            id: successor,
            predecessor: Some(Predecessor {
                stream_id: stream,
                seq: base.at.seq,
            }),
            first_sample: base.at.next_sample,
            ..(*known.definition).clone()
        };
        let start = Mark {
            at: Position::start(&definition),
            next_utc_ns: base.next_utc_ns,
        };
        let to_state = State::new(start, known.state.ordinal);
        let from_state = State {
            successor: Some(successor),
            ..known.state
        };
        let described = Described {
            definition,
            labels: known.labels,
            run: known.run,
        };
        let mut batch = Batch::default();
        let state_key = keys::state(successor);
        put_described(&mut batch, &described);
        batch.put(state_key, to_state.to_value(&state_key, Acked::default()));
        // Synced: a log that lost this batch and kept a later one would leave records of a stream that nobody knows.
        self.commit(batch, &[(stream, &from_state)], true)?;
        let Described {
            definition,
            labels,
            run,
        } = described;
        let mut hidden = Stream::new(Arc::new(definition), labels, run, to_state, Acked::default());
        hidden.hidden = true;
        hidden.stores = known.stores;
        self.table().streams.insert(successor, hidden);
        self.streams_changed();
        Ok(successor)
    }

    /// Moves some records; true once all are moved.
    fn move_some(&self, from: StreamId, to: StreamId) -> Result<bool, OutboxError> {
        let _writer = self.writer();
        let Some(old) = self.with_stream(from, Stream::clone) else {
            return Ok(true);
        };
        let to_state = self.state_of(to).ok_or(OutboxError::UnknownStream(to))?;
        let mut step = Move {
            from,
            to,
            from_state: old.state,
            to_state,
            from_definition: old.definition,
            batch: Batch::default(),
            bytes: 0,
        };
        let (base, tail) = (step.from_state.base, step.from_state.tail);
        if base.at.seq == tail.at.seq {
            self.drop_predecessor(step)?;
            return Ok(true);
        }
        let found = find::some(&*self.kv, from, base.at.seq + 1, tail.at.seq)?;
        if found.is_empty() {
            self.move_hole(&mut step, &tail);
        }
        for Found { record, .. } in found {
            if record.header.first_seq > step.from_state.base.at.seq + 1 {
                self.move_hole(&mut step, &record.start());
            }
            let data = self.data_of(from, &record)?;
            self.move_record(&mut step, record, data);
            if step.bytes >= STEP_BYTES_MAX {
                break;
            }
        }
        self.commit(step.batch, &[(from, &step.from_state), (to, &step.to_state)], false)?;
        Ok(false)
    }

    /// A record's columns; `None` if they are bad.
    fn data_of(&self, stream: StreamId, record: &Record) -> Result<Option<Vec<u8>>, OutboxError> {
        if record.column_bytes.is_empty() {
            return Ok(Some(Vec::new()));
        }
        match self.kv.get(&keys::data(stream, record.header.seq)) {
            Ok(data) => Ok(data.filter(|data| record.clone().with_data(data.clone()).is_some())),
            Err(KvError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Nothing readable lies before `until`: a gap `corrupt` goes over in its place.
    fn move_hole(&self, step: &mut Move, until: &Mark) {
        let base = step.from_state.base;
        let gap = gap_between(Reason::Corrupt, &base, until, step.from_state.ordinal, 0);
        step.batch.delete_range(
            keys::chunk(step.from, base.at.seq + 1),
            keys::chunk(step.from, until.at.seq + 1),
        );
        step.batch.delete_range(
            keys::data(step.from, base.at.seq + 1),
            keys::data(step.from, until.at.seq + 1),
        );
        self.tell_corrupt(step.to, &gap.header);
        self.move_record(step, gap, Some(Vec::new()));
    }

    fn move_record(&self, step: &mut Move, record: Record, data: Option<Vec<u8>>) {
        let seq = record.header.seq;
        step.batch.delete(keys::chunk(step.from, seq));
        if !record.column_bytes.is_empty() {
            step.batch.delete(keys::data(step.from, seq));
        }
        step.from_state.base = record.end(&step.from_definition);
        let (mut record, data) = match data {
            Some(data) => (record, data),
            None => {
                self.tell_corrupt(step.to, &record.header);
                (corrupt(&record), Vec::new())
            }
        };
        record.header.seq = step.to_state.tail.at.seq + 1;
        record.header.first_seq = record.header.seq;
        record.digest_before = step.to_state.tail.at.digest;
        record.digest = hash::next_digest(record.digest_before, hash::chunk_hash(&record.header));
        record.total_bytes = u64::MAX;
        let key = keys::chunk(step.to, record.header.seq);
        let cost_bytes = record.cost_bytes(record.to_value(&key).len());
        step.to_state.stored_total_bytes += cost_bytes;
        step.to_state.held_bytes += cost_bytes;
        step.from_state.held_bytes = step.from_state.held_bytes.saturating_sub(cost_bytes);
        record.total_bytes = step.to_state.stored_total_bytes;
        step.to_state.tail = record.end(&step.from_definition);
        assert_eq!(
            step.to_state.tail.at.ended,
            record.header.kind == ChunkKind::End,
            "I4: only an end ends a stream"
        );
        step.batch.put(key, record.to_value(&key));
        if !data.is_empty() {
            step.bytes += data.len() as u64;
            step.batch.put(keys::data(step.to, record.header.seq), data);
        }
    }

    fn drop_predecessor(&self, step: Move) -> Result<(), OutboxError> {
        let Move {
            from,
            to,
            from_state,
            mut to_state,
            mut batch,
            ..
        } = step;
        batch.delete(keys::state(from));
        delete_described(&mut batch, from);
        if !to_state.tail.at.ended {
            to_state.to_end = Some(from_state.to_end.unwrap_or(Reason::Crashed));
        }
        self.commit(batch, &[(to, &to_state)], true)?;
        let mut table = self.table();
        table.streams.remove(&from);
        if let Some(successor) = table.streams.get_mut(&to) {
            successor.hidden = false;
        }
        Ok(())
    }
}
