//! An agent's outbox under the oracle's eyes: what it is told to let go of, to take over, or to move.

use std::sync::Arc;
use std::time::Duration;

use wavekeep_agent::outbox::memory::MemoryKv;
use wavekeep_agent::outbox::{Outbox, OutboxError};
use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::{AgentId, LedgerId, StreamId};
use wavekeep_proto::uplink::{Alarm, Held, Outbox as Seam, StreamView};

use super::stage::{Shared, lock};

/// See the module's documentation.
pub(super) struct Watched {
    pub(super) outbox: Arc<Outbox<MemoryKv>>,
    pub(super) shared: Shared,
    pub(super) agent: usize,
}

impl Seam for Watched {
    type Error = OutboxError;

    fn agent_id(&self) -> AgentId {
        self.outbox.agent_id()
    }
    fn ledger_id(&self) -> Option<LedgerId> {
        self.outbox.ledger_id()
    }
    fn bind(&self, ledger: LedgerId) -> Result<(), OutboxError> {
        self.outbox.bind(ledger)
    }
    fn generation(&self) -> u64 {
        self.outbox.generation()
    }
    fn meet_generation(&self, generation: u64) -> Result<(), OutboxError> {
        self.outbox.meet_generation(generation)
    }
    fn revision(&self) -> u64 {
        self.outbox.revision()
    }
    fn streams(&self) -> Vec<StreamId> {
        self.outbox.streams()
    }
    fn view(&self, stream: StreamId) -> Option<StreamView> {
        self.outbox.view(stream)
    }
    fn tail(&self, stream: StreamId) -> Option<Position> {
        self.outbox.tail(stream)
    }
    fn position_at(&self, stream: StreamId, seq: u64) -> Result<Option<Position>, OutboxError> {
        self.outbox.position_at(stream, seq)
    }
    fn next(&self, stream: StreamId, seq: u64) -> Result<Option<Held>, OutboxError> {
        self.outbox.next(stream, seq)
    }
    fn end(&self, stream: StreamId) -> Result<(), OutboxError> {
        self.outbox.end(stream)
    }

    fn set_acked(&self, stream: StreamId, seq: u64, now: Duration) -> Result<(), OutboxError> {
        self.outbox.set_acked(stream, seq, now)?;
        let mut stage = lock(&self.shared);
        let hold_back = stage.world.plan.hold_back;
        stage.world.watch_outbox(self.agent, Some(hold_back));
        Ok(())
    }

    fn adopt(&self, stream: StreamId, at: Position, discard: bool) -> Result<(), OutboxError> {
        let from = self.outbox.tail(stream).map_or(0, |tail| tail.seq);
        self.outbox.adopt(stream, at, discard)?;
        let to = at.seq;
        lock(&self.shared)
            .world
            .oracle
            .alarm(&Alarm::Adopted { stream, from, to }, false);
        Ok(())
    }

    fn succeed(&self, stream: StreamId) -> Result<StreamId, OutboxError> {
        let successor = self.outbox.succeed(stream)?;
        let mut stage = lock(&self.shared);
        if stage.successions.insert((stream, successor)) {
            if let Some(view) = self.outbox.view(successor) {
                let released_seq = view.definition.predecessor.map_or(0, |predecessor| predecessor.seq);
                stage.world.oracle.succeeded(stream, successor, released_seq);
            }
            stage.world.oracle.alarm(&Alarm::Diverged { stream, successor }, false);
        }
        Ok(successor)
    }
}
