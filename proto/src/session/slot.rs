//! One stream in one session, as the server sees it.

use std::sync::Arc;

use crate::chunk::Position;
use crate::stream::StreamDefinition;

#[derive(Debug)]
pub(super) enum State {
    /// The ledger is being asked.
    Opening,
    /// Owned; `accepted` is where the next chunk must continue.
    Open { accepted: Position, committed: u64 },
}

/// A slot that was refused or fenced is forgotten: its number is at or under the session's last, and frames for it that
/// were already on their way are dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) definition: Arc<StreamDefinition>,
    pub(super) state: State,
    /// Accepted and not yet landed.
    pub(super) in_flight_bytes: u64,
}
