//! What can go wrong in the outbox, and what a person is told.

use std::path::PathBuf;

use wavekeep_proto::id::StreamId;

use super::kv::KvError;

/// The world's failures. Our own mistakes are asserted instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// The disk.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// Written by a later version of this program.
    #[error(
        "this outbox has format {found} and this program knows up to {known}: use the newer program, or another outbox"
    )]
    Newer {
        /// Its format version.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// Not an outbox, or its first bytes are bad.
    #[error(
        "this outbox cannot be read ({0}): `wavekeep-agent outbox repair` sets it aside and brings back what it can"
    )]
    Broken(&'static str),
    /// No outbox.
    #[error("there is no outbox in this directory: an agent makes one when it starts")]
    Missing,
    /// Two processes would store into it.
    #[error("another agent uses this outbox: stop it, or give this one an outbox of its own")]
    InUse,
    /// The server's position cannot be taken over.
    #[error(
        "stream {stream}: the server's position, seq {seq}, lies before what is stored, or where no stream can be; nothing was changed"
    )]
    Adopt {
        /// The stream.
        stream: StreamId,
        /// The server's seq.
        seq: u64,
    },
    /// The id of a file's stream stands for another definition.
    #[error(
        "stream {0} is held with another definition: replay the file with the device, rate and signals it had before"
    )]
    OtherDefinition(StreamId),
    /// There is no such stream.
    #[error("the outbox holds nothing of stream {0}")]
    UnknownStream(StreamId),
    /// An outbox feeds one ledger.
    #[error(
        "this outbox is bound to another ledger: give this server an outbox of its own, or send to the server that this one belongs to"
    )]
    Bound,
    /// No identifiers can be minted.
    #[error("the system gives no random numbers ({0}): look at getrandom(2)")]
    Randomness(String),
}

/// Why a chunk was not stored. Nothing of it was, except where it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The quota, or the disk, has no room, and nothing may be evicted for it: wait for acks.
    #[error("the outbox is full: {held_bytes} bytes are held of {quota_bytes}; waiting for the server to acknowledge")]
    Full {
        /// What is held.
        held_bytes: u64,
        /// What may be held now.
        quota_bytes: u64,
    },
    /// The stream takes no more: it ended, or moved on to a successor. A live source opens its next one.
    #[error("the stream has ended: the source goes on in a new stream")]
    Ended,
    /// Of a file: the server's position was taken over. Read the file again from there.
    #[error("the stream goes on at sample {next_sample}")]
    Moved {
        /// Where.
        next_sample: u64,
    },
    /// It is stored, and would not survive a power cut: not to be stored again, only synced ([`super::Outbox::sync`]).
    #[error("what is stored cannot be brought to the disk for good: {0}")]
    NotSynced(OutboxError),
    /// The disk.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl From<KvError> for StoreError {
    fn from(error: KvError) -> Self {
        Self::Outbox(error.into())
    }
}

/// What the outbox tells people. Each happens once; the shell logs and counts it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxAlarm {
    /// Un-acked samples made room for later ones.
    #[error("the outbox is full: {samples} samples of stream {stream} from {first_sample} on were evicted")]
    Evicted {
        /// The stream.
        stream: StreamId,
        /// Where it starts.
        first_sample: u64,
        /// How many.
        samples: u64,
    },
    /// Stored bytes were bad.
    #[error(
        "stored bytes were damaged: {samples} samples of stream {stream} from {first_sample} on are lost; check the disk"
    )]
    Corrupt {
        /// The stream.
        stream: StreamId,
        /// Where it starts.
        first_sample: u64,
        /// How many.
        samples: u64,
    },
    /// A definition was bad: what is held of its stream cannot be sent.
    #[error(
        "the definition of stream {0} is damaged: its chunks stay in the outbox and cannot be sent; check the disk"
    )]
    DefinitionLost(StreamId),
    /// A stream's state was bad, and was put together again from its chunks.
    #[error("the state of stream {0} was damaged and was put together again from its chunks; check the disk")]
    StateRebuilt(StreamId),
    /// The store did not open: another one was started.
    #[error(
        "the outbox could not be opened ({why}); it was set aside as {path}, and a new one was started: check the disk, and with the \
         agent stopped, `wavekeep-agent outbox repair {outbox}` brings back what can be read of it",
        path = path.display(), outbox = outbox.display()
    )]
    SetAside {
        /// Where it is now.
        path: PathBuf,
        /// What was wrong with it.
        why: String,
        /// Its directory.
        outbox: PathBuf,
    },
    /// The store's log is not there.
    #[error(
        "the outbox's write-ahead log was gone, and with it what was stored last before this start; check the disk"
    )]
    LogLost,
    /// The disk does not sync.
    #[error("the outbox cannot be synced to its disk: {0}")]
    SyncFailed(KvError),
}
