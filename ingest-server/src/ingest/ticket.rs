//! What goes from a session to a writer, and the answer that must come back.
//!
//! # Invariants
//! - Every accepted chunk is answered for exactly once: a ticket that is dropped unanswered (a task that panicked, a chunk that
//!   no longer fits its stream) says `Lost`.
//! - I12: a session has at most `limits::ACCEPTED_CHUNKS_MAX` chunks un-answered, each answer stands for at least one, and so
//!   the channel of that capacity never blocks a writer. No session can wedge it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use wavekeep_proto::chunk::{Chunk, ColumnContent, Position};
use wavekeep_proto::id::{Hash, Owner};
use wavekeep_proto::stream::StreamDefinition;

use super::registry::Charge;

/// What became of some chunks of one session. `bytes` are flow bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reply {
    /// COMMIT has answered.
    Committed {
        slot: u32,
        watermark: u64,
        digest: Hash,
        bytes: u64,
        chunks: usize,
    },
    /// Another session owns the stream.
    Fenced { slot: u32, bytes: u64, chunks: usize },
    /// Nobody knows: the session ends.
    Lost {
        bytes: u64,
        chunks: usize,
        message: Arc<str>,
    },
}

/// The duty to answer for chunks of one slot.
#[derive(Debug)]
pub struct Ticket {
    replies: mpsc::Sender<Reply>,
    slot: u32,
    bytes: u64,
    chunks: usize,
    /// Of the oldest chunk.
    accepted_at: Instant,
    charge: Charge,
}

impl Ticket {
    /// For one chunk.
    #[must_use]
    pub fn new(replies: mpsc::Sender<Reply>, slot: u32, bytes: u64, charge: Charge) -> Self {
        Self {
            replies,
            slot,
            bytes,
            chunks: 1,
            accepted_at: Instant::now(),
            charge,
        }
    }

    /// When the oldest of its chunks was accepted.
    #[must_use]
    pub const fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    /// Flow bytes of its chunks.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many chunks it stands for.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.chunks
    }

    /// Answers for a later chunk of the same slot too.
    pub fn merge(&mut self, mut other: Self) {
        assert!(
            self.slot == other.slot && self.replies.same_channel(&other.replies),
            "I7: one owner is one slot of one session"
        );
        self.bytes += other.bytes;
        self.chunks += std::mem::take(&mut other.chunks);
        self.charge.merge(&mut other.charge);
    }

    fn answer(&mut self, reply: Reply) {
        // A session that is gone needs no answer.
        let full = matches!(self.replies.try_send(reply), Err(mpsc::error::TrySendError::Full(_)));
        assert!(
            !full,
            "I12: a session has fewer chunks in flight than its channel has room"
        );
    }

    /// All of them are committed.
    pub fn committed(mut self, at: &Position) {
        let (bytes, chunks) = (self.bytes, self.chunks);
        self.first_committed(at, bytes, chunks);
    }

    /// The first `chunks` of them, with `bytes` flow bytes, are committed.
    pub fn first_committed(&mut self, at: &Position, bytes: u64, chunks: usize) {
        assert!(
            bytes <= self.bytes && chunks <= self.chunks,
            "I2: what is committed was accepted"
        );
        self.bytes -= bytes;
        self.chunks -= chunks;
        self.answer(Reply::Committed {
            slot: self.slot,
            watermark: at.seq,
            digest: at.digest,
            bytes,
            chunks,
        });
    }

    /// All that are left are fenced.
    pub fn fenced(mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        self.answer(Reply::Fenced {
            slot: self.slot,
            bytes: self.bytes,
            chunks,
        });
    }

    /// What became of all that are left is not known.
    pub fn lost(mut self, message: &Arc<str>) {
        let chunks = std::mem::take(&mut self.chunks);
        self.answer(Reply::Lost {
            bytes: self.bytes,
            chunks,
            message: message.clone(),
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.chunks > 0 {
            // Cannot be full, and nobody is there to hear of it.
            let _ = self.replies.try_send(Reply::Lost {
                bytes: self.bytes,
                chunks: self.chunks,
                message: "the server gave up a chunk that it had accepted; it will be sent again".into(),
            });
        }
    }
}

/// A chunk that a session accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Of its stream.
    pub definition: Arc<StreamDefinition>,
    /// Who sent it.
    pub owner: Owner,
    /// Where the stream stood before it.
    pub before: Position,
    /// It.
    pub chunk: Chunk,
    /// Must be answered.
    pub ticket: Ticket,
}

impl Accepted {
    /// What its present columns decode to, at most.
    #[must_use]
    pub fn decoded_bytes(&self) -> u64 {
        let header = &self.chunk.header;
        let columns = header.columns.iter().zip(&self.definition.signals);
        let present = columns.filter(|(column, _)| matches!(column.content, ColumnContent::Present { .. }));
        let bits: u64 = present.map(|(_, signal)| u64::from(signal.sample_type.bits())).sum();
        header.count.saturating_mul(bits) / 8
    }
}

/// What a chunk takes in memory, at least: what flow control counts, and our structures around it.
#[must_use]
pub fn footprint_bytes(chunk: &Chunk) -> u64 {
    // Of a column: its header, its `Bytes` and what an allocation costs. Of a marker: itself, and its content's allocation.
    const COLUMN_BYTES: u64 = 128;
    const MARKER_BYTES: u64 = 96;
    chunk.flow_bytes()
        + size_of::<Accepted>() as u64
        + COLUMN_BYTES * chunk.header.columns.len() as u64
        + MARKER_BYTES * chunk.header.markers.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::ingest::registry::Registry;

    #[test]
    fn a_ticket_is_answered_exactly_once() {
        let registry = Registry::new(Budget::new(8 << 20).expect("it fits"));
        let (sender, mut replies) = mpsc::channel(8);
        let ticket = |bytes| Ticket::new(sender.clone(), 3, bytes, registry.charge(bytes));
        let at = Position {
            seq: 5,
            next_sample: 0,
            digest: Hash([1; 16]),
            ended: false,
        };

        let mut merged = ticket(10);
        merged.merge(ticket(20));
        assert_eq!(registry.in_use_bytes(), 30);
        merged.first_committed(&at, 10, 1);
        merged.fenced();
        ticket(40).committed(&at);
        drop(ticket(50));
        drop(sender);

        let committed = |bytes| Reply::Committed {
            slot: 3,
            watermark: 5,
            digest: Hash([1; 16]),
            bytes,
            chunks: 1,
        };
        assert_eq!(replies.try_recv(), Ok(committed(10)));
        let fenced = Reply::Fenced {
            slot: 3,
            bytes: 20,
            chunks: 1,
        };
        assert_eq!(replies.try_recv(), Ok(fenced));
        assert_eq!(replies.try_recv(), Ok(committed(40)));
        assert!(matches!(
            replies.try_recv(),
            Ok(Reply::Lost {
                bytes: 50,
                chunks: 1,
                ..
            })
        ));
        assert_eq!(replies.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(registry.in_use_bytes(), 0);
    }
}
