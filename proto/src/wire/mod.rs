//! Protobuf ↔ domain. Bytes from a socket never panic: whatever cannot be understood is a [`WireError`].
//!
//! | file | what |
//! |---|---|
//! | [`stream`](self) | definitions, headers, chunks: also what the outbox and the ledger store |
//! | [`session`](self) | the frames of a session |

mod session;
mod stream;

pub use session::{agent_frame, agent_frame_to_wire, server_frame, server_frame_to_wire};
pub use stream::{
    chunk_from_wire, chunk_to_wire, definition_from_wire, definition_to_wire, header_from_bytes, header_to_bytes,
};

/// What a chunk that arrived is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// The frame hash fails: damaged on the way, to be resent.
    #[error("the frame was damaged on the way: its hash does not match")]
    Damaged,
    /// Intact, but it names an encoding, kind or reason that this build does not know.
    #[error("this version does not know {0}")]
    Unsupported(String),
    /// Intact, but no chunk.
    #[error("the chunk is malformed: {0}")]
    Malformed(&'static str),
}

/// Why a frame cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Damaged on the way. Ends the session, and the next one says it again.
    #[error("the frame was damaged on the way: its check does not match")]
    Damaged,
    /// Ends the session.
    #[error("the frame is malformed: {0}")]
    Frame(&'static str),
    /// Closes the slot alone.
    #[error("slot {slot}: {fault}")]
    Chunk {
        /// The slot that the frame names.
        slot: u32,
        /// What is wrong.
        fault: ChunkFault,
    },
    /// Refuses the slot alone.
    #[error("slot {slot}: the stream's definition is malformed: {what}")]
    Definition {
        /// The slot that the frame names.
        slot: u32,
        /// What is wrong.
        what: &'static str,
    },
}
