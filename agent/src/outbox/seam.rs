//! The outbox as the uplink sees it: the seam of `proto`, in terms of the steps that the other files make.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::{AgentId, LedgerId, StreamId};
use wavekeep_proto::uplink::{self, Held, StreamView};

use super::kv::{Batch, Kv};
use super::record::Identity;
use super::table::Stream;
use super::{Outbox, OutboxError, keys};

fn view(stream: &Stream) -> StreamView {
    StreamView {
        definition: stream.definition.clone(),
        labels: stream.labels.clone(),
        run: stream.run.clone(),
        tail: stream.tail().at,
        next_utc_ns: stream.tail().next_utc_ns,
        acked: stream.acked.seq,
        to_end: stream.state.to_end.is_some() && !stream.tail().at.ended,
        unacked_bytes: stream.unacked_bytes(),
        oldest_unacked: stream.oldest_unacked(),
    }
}

impl<K: Kv> Outbox<K> {
    pub(super) fn set_identity(&self, identity: Identity) -> Result<(), OutboxError> {
        let mut batch = Batch::default();
        batch.put(keys::IDENTITY, identity.to_value(&keys::IDENTITY));
        batch.put(keys::IDENTITY_COPY, identity.to_value(&keys::IDENTITY_COPY));
        self.kv.write(batch, true)?;
        self.table().identity = identity;
        Ok(())
    }

    /// Forgets which ledger it is bound to: the next session binds it again. For a person who wants its data elsewhere.
    pub fn rebind(&self) -> Result<(), OutboxError> {
        let _writer = self.writer();
        let identity = self.table().identity;
        self.set_identity(Identity {
            ledger_id: None,
            generation: 0,
            ..identity
        })
    }
}

impl<K: Kv> uplink::Outbox for Outbox<K> {
    type Error = OutboxError;

    fn agent_id(&self) -> AgentId {
        self.table().identity.agent_id
    }

    fn ledger_id(&self) -> Option<LedgerId> {
        self.table().identity.ledger_id
    }

    fn bind(&self, ledger: LedgerId) -> Result<(), OutboxError> {
        let _writer = self.writer();
        let identity = self.table().identity;
        match identity.ledger_id {
            Some(bound) if bound == ledger => Ok(()),
            Some(_) => Err(OutboxError::Bound),
            None => self.set_identity(Identity {
                ledger_id: Some(ledger),
                ..identity
            }),
        }
    }

    fn generation(&self) -> u64 {
        self.table().identity.generation
    }

    fn meet_generation(&self, generation: u64) -> Result<(), OutboxError> {
        let _writer = self.writer();
        let identity = self.table().identity;
        self.set_identity(Identity { generation, ..identity })
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn streams(&self) -> Vec<StreamId> {
        self.table()
            .streams
            .iter()
            .filter(|(_, stream)| stream.is_visible())
            .map(|(id, _)| *id)
            .collect()
    }

    fn view(&self, stream: StreamId) -> Option<StreamView> {
        self.with_stream(stream, |stream| stream.is_visible().then(|| view(stream)))
            .flatten()
    }

    fn tail(&self, stream: StreamId) -> Option<Position> {
        self.with_stream(stream, |stream| stream.is_visible().then(|| stream.tail().at))
            .flatten()
    }

    fn position_at(&self, stream: StreamId, seq: u64) -> Result<Option<Position>, OutboxError> {
        self.read_position(stream, seq)
    }

    fn next(&self, stream: StreamId, seq: u64) -> Result<Option<Held>, OutboxError> {
        self.read_next(stream, seq)
    }

    fn set_acked(&self, stream: StreamId, seq: u64, now: Duration) -> Result<(), OutboxError> {
        self.move_acked(stream, seq, now)
    }

    fn adopt(&self, stream: StreamId, at: Position, discard: bool) -> Result<(), OutboxError> {
        self.take_over(stream, at, discard)
    }

    fn end(&self, stream: StreamId) -> Result<(), OutboxError> {
        self.write_due_end(stream)
    }

    fn succeed(&self, stream: StreamId) -> Result<StreamId, OutboxError> {
        self.move_to_successor(stream)
    }
}
