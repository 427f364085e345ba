//! Reading what is held, verified: bytes that do not fit their hashes are never handed out. Reading takes no lock; only where
//! it meets damage, or a change under way that looks like it, it goes on under the writer's lock and heals.

use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::Held;

use super::kv::{Kv, KvError};
use super::record::State;
use super::{Outbox, OutboxError, find, keys};

impl<K: Kv> Outbox<K> {
    pub(super) fn state_of(&self, stream: StreamId) -> Option<State> {
        self.table().streams.get(&stream).map(|stream| stream.state.clone())
    }

    /// See [`wavekeep_proto::uplink::Outbox::next`].
    pub(super) fn read_next(&self, stream: StreamId, seq: u64) -> Result<Option<Held>, OutboxError> {
        let Some(state) = self.state_of(stream) else {
            return Ok(None);
        };
        let from = seq.max(state.base.at.seq);
        if from >= state.tail.at.seq {
            return Ok(None);
        }
        match self.try_read(stream, from, state.tail.at.seq)? {
            Some(held) => Ok(Some(held)),
            None => self.heal(stream, seq),
        }
    }

    /// The record that covers the seq after `from`; `None` where it is missing or damaged.
    pub(super) fn try_read(&self, stream: StreamId, from: u64, tail_seq: u64) -> Result<Option<Held>, OutboxError> {
        let Some(found) = find::first(&*self.kv, stream, from + 1, tail_seq)? else {
            return Ok(None);
        };
        let record = found.record;
        if record.header.first_seq > from + 1 {
            return Ok(None);
        }
        let data = if record.column_bytes.is_empty() {
            Vec::new()
        } else {
            match self.kv.get(&keys::data(stream, record.header.seq)) {
                Ok(Some(data)) => data,
                Ok(None) | Err(KvError::Damaged(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        Ok(record
            .with_data(data)
            .map(|(chunk, digest_before)| Held { chunk, digest_before }))
    }

    /// See [`wavekeep_proto::uplink::Outbox::position_at`].
    pub(super) fn read_position(&self, stream: StreamId, seq: u64) -> Result<Option<Position>, OutboxError> {
        let Some((definition, state)) =
            self.with_stream(stream, |stream| (stream.definition.clone(), stream.state.clone()))
        else {
            return Ok(None);
        };
        if seq == state.tail.at.seq {
            return Ok(Some(state.tail.at));
        }
        if seq == state.base.at.seq {
            return Ok(Some(state.base.at));
        }
        if seq == 0 {
            return Ok(Some(Position::start(&definition)));
        }
        if seq < state.base.at.seq || seq > state.tail.at.seq {
            return Ok(None);
        }
        let Some(found) = find::first(&*self.kv, stream, seq, state.tail.at.seq)? else {
            return Ok(None);
        };
        let record = found.record;
        Ok(if record.header.seq == seq {
            Some(Position::after(&record.header, record.digest))
        } else if record.header.first_seq == seq + 1 {
            Some(record.start().at)
        } else {
            None
        })
    }
}
