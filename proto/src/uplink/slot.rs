//! One stream in one session. A slot that closes is forgotten: its number, never used again, is at or under the session's
//! last one, and late frames for it are ignored.

use std::collections::VecDeque;

use crate::chunk::{Chunk, Position};
use crate::id::{Hash, StreamId};

/// A chunk that was sent and is not acked.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) seq: u64,
    pub(super) digest: Hash,
    pub(super) bytes: u64,
    pub(super) end_utc_ns: Option<i64>,
}

#[derive(Debug)]
pub(super) enum State {
    /// `Open` was sent; `stored_seq` is what it said.
    Opening { stored_seq: u64 },
    /// The server said where it stands.
    Open {
        sent: Position,
        acked: u64,
        in_flight: VecDeque<InFlight>,
    },
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) stream: StreamId,
    pub(super) state: State,
}

/// A chunk on its way out, and where the slot stands once it is sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) slot: u32,
    pub(super) chunk: Chunk,
    /// When its last sample was taken; None for a chunk of a file, and for a gap.
    pub(super) end_utc_ns: Option<i64>,
}

impl Slot {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }
}
