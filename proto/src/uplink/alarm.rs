//! What the uplink tells people: each is counted and logged once, by the shell.

use crate::chunk::Reason;
use crate::code::Code;
use crate::id::{LedgerId, StreamId};

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Alarm {
    /// The server lost commits that it had acknowledged; it is being healed from the outbox.
    #[error(
        "stream {stream}: the server is back at seq {to} after it had acknowledged {from}; sending again from there"
    )]
    Rewound { stream: StreamId, from: u64, to: u64 },
    /// Data is lost: neither the server nor the outbox holds these.
    #[error("stream {stream}: {count} samples from {first_sample} are lost ({reason:?}); the loss is stored as a gap")]
    Lost {
        stream: StreamId,
        first_sample: u64,
        count: u64,
        reason: Reason,
    },
    /// A power cut took the outbox's unsynced tail, which the server has.
    #[error("stream {stream}: the server has seq {to}, the outbox only {from}; continuing from the server's")]
    Adopted { stream: StreamId, from: u64, to: u64 },
    /// The server's stream is not this outbox's.
    #[error("stream {stream} diverged: another outbox has written to it; what is held continues as {successor}")]
    Diverged { stream: StreamId, successor: StreamId },
    /// Another agent owns a stream of this outbox.
    #[error("stream {stream} is refused ({code:?}): {message}")]
    StreamRefused {
        stream: StreamId,
        code: Code,
        message: String,
    },
    /// Somebody must change something.
    #[error("the server refuses this agent ({code:?}): {message}")]
    SessionRefused { code: Code, message: String },
    /// Nothing is sent to another ledger than the one that this outbox is bound to.
    #[error(
        "this outbox belongs to ledger {bound}, the server has {found}: give that server an outbox of its own, or connect to the one that this outbox belongs to"
    )]
    WrongLedger { bound: LedgerId, found: LedgerId },
    /// A database that was left for a promoted copy of it: what it commits, the copy does not have.
    #[error(
        "the server's database is generation {found} of the ledger, and generation {newest} has been promoted since: nothing is sent to it; stop that database and its servers, or rebind this outbox if it was restored to be the one again"
    )]
    OldPrimary { newest: u64, found: u64 },
    /// An ack named a digest that is not the capture's: nothing is released on it.
    #[error("stream {stream}: the ack of seq {seq} carries a wrong digest; asking again")]
    AckMismatch { stream: StreamId, seq: u64 },
}
