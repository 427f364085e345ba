//! The frames of a session, in the words of the domain. [`crate::wire`] maps them to protobuf and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chunk::{Chunk, Position};
use crate::code::Code;
use crate::codec::Encoding;
use crate::id::{AgentId, Hash, LedgerId, SessionId};
use crate::stream::StreamDefinition;

/// What an agent sends.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum AgentFrame {
    Hello(Hello),
    Open(Open),
    Chunk { slot: u32, chunk: Chunk },
    Heartbeat(Vec<SlotStatus>),
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum ServerFrame {
    Welcome(Welcome),
    Opened(Opened),
    Refused(Refused),
    Ack(Ack),
    Goaway { deadline_ms: u64, reason: String },
    Heartbeat { window_bytes: u64 },
}

/// The first frame of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version it speaks.
    pub version_min: u32,
    /// Newest.
    pub version_max: u32,
    /// A name for people.
    pub agent: String,
    /// The outbox's identity.
    pub agent_id: AgentId,
    /// Where its streams belong.
    pub workspace: String,
    /// What it may send.
    pub encodings: Vec<Encoding>,
    /// The ledger that its outbox is bound to, if it ever had a session.
    pub ledger_id: Option<LedgerId>,
}

/// The first frame of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version of this session.
    pub version: u32,
    /// Bytes that may be in flight.
    pub window_bytes: u64,
    /// Which ledger this is.
    pub ledger_id: LedgerId,
    /// Largest chunk.
    pub chunk_bytes_max: u64,
    /// Most slots.
    pub slots_max: u32,
    /// Between two heartbeats.
    pub heartbeat_ms: u64,
    /// For logs on both sides.
    pub session_id: SessionId,
    /// Rises with each promotion of a copy of the database; 0: not known.
    pub generation: u64,
}

/// Takes a stream for this session.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// New for every `Open` of a session, rising.
    pub slot: u32,
    /// What the stream is.
    pub definition: Arc<StreamDefinition>,
    /// The last seq that the outbox stored.
    pub stored_seq: u64,
    /// Of the stream, as of now.
    pub labels: BTreeMap<String, String>,
    /// The run it belongs to; empty for none.
    pub run: String,
}

/// Where the committed stream stands. It is an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Answers this `Open`.
    pub slot: u32,
    /// Watermark, next sample, digest and whether it ended.
    pub at: Position,
    /// The last row at or under the agent's stored seq, where the watermark is above it.
    pub row: Option<(u64, Hash)>,
}

/// Closes a slot, or (slot 0) the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// 0: the session.
    pub slot: u32,
    /// Why; decides the agent's reaction.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// All up to `watermark` is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Of this slot.
    pub slot: u32,
    /// The last committed seq.
    pub watermark: u64,
    /// The digest there.
    pub digest: Hash,
    /// Bytes that may be in flight from now on.
    pub window_bytes: u64,
}

/// What an agent still holds of a slot's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotStatus {
    /// Of this slot.
    pub slot: u32,
    /// The last seq stored.
    pub stored_seq: u64,
    /// Where the next chunk will start.
    pub next_sample: u64,
    /// Un-acked bytes in the outbox.
    pub outbox_bytes: u64,
    /// Age of the oldest un-acked chunk.
    pub oldest_unacked_ms: u64,
}
