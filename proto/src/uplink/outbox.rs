//! What the sending half needs of the agent's durable store: the seam behind which RocksDB, or a simulated disk with a
//! page cache, stands. Every method is one atomic step; what is read back has been verified against its hashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::chunk::{Chunk, Position};
use crate::id::{AgentId, Hash, LedgerId, StreamId};
use crate::stream::StreamDefinition;

/// A held record, as it would be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The chunk, or the gap that replaced a run of them.
    pub chunk: Chunk,
    /// The digest before its first seq.
    pub digest_before: Hash,
}

/// A stream as the outbox sees it.
#[derive(Debug, Clone)]
pub struct StreamView {
    /// What it is.
    pub definition: Arc<StreamDefinition>,
    /// Its labels, for `Open`.
    pub labels: BTreeMap<String, String>,
    /// The run it belongs to; empty for none.
    pub run: String,
    /// After the last chunk stored.
    pub tail: Position,
    /// UTC of the tail's next sample, in nanoseconds, by the stream's time axis.
    pub next_utc_ns: i64,
    /// A hint: all up to here was acked.
    pub acked: u64,
    /// The source is gone (or moved on): an `end` is due once the server's position is known.
    pub to_end: bool,
    /// Un-acked bytes.
    pub unacked_bytes: u64,
    /// When the oldest un-acked chunk was stored, on the agent's monotonic clock.
    pub oldest_unacked: Option<Duration>,
}

/// See the module's documentation. Methods take `&self`: sources store while the uplink reads.
pub trait Outbox {
    /// The world's failures: a disk that fails, a full file system.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The identity minted with it.
    fn agent_id(&self) -> AgentId;
    /// The ledger it is bound to.
    fn ledger_id(&self) -> Option<LedgerId>;
    /// Binds it, once, before anything is sent.
    fn bind(&self, ledger: LedgerId) -> Result<(), Self::Error>;
    /// The highest generation of that ledger that it has met; 0 before the first.
    fn generation(&self) -> u64;
    /// It has met a higher one: never again will it trust a lower one.
    fn meet_generation(&self, generation: u64) -> Result<(), Self::Error>;

    /// Changes whenever the set of streams does.
    fn revision(&self) -> u64;
    /// Every stream of which it holds anything: rule 7 opens all of them in every session.
    fn streams(&self) -> Vec<StreamId>;
    /// One of them.
    fn view(&self, stream: StreamId) -> Option<StreamView>;
    /// Where its capture stands: asked for each slot at each turn, so worth answering without the rest of the view.
    fn tail(&self, stream: StreamId) -> Option<Position> {
        self.view(stream).map(|view| view.tail)
    }
    /// Where the capture stood after `seq`, where that can be known: at 0, at the tail, and at both ends of each held record.
    fn position_at(&self, stream: StreamId, seq: u64) -> Result<Option<Position>, Self::Error>;
    /// The first held record that ends after `seq` (a replacing gap may start at or before it). A record whose bytes are bad
    /// becomes a gap `corrupt` in the same step.
    fn next(&self, stream: StreamId, seq: u64) -> Result<Option<Held>, Self::Error>;

    /// The server stands at `seq`, digest checked: acked := `seq`, forwards after an ack, either way after `Opened`.
    fn set_acked(&self, stream: StreamId, seq: u64, now: Duration) -> Result<(), Self::Error>;
    /// The server is ahead and agrees (a power cut took our tail): tail := `at`. A live stream is then to be ended. For the
    /// stream of a file, `discard` drops what is held first: the file is read again from there.
    fn adopt(&self, stream: StreamId, at: Position, discard: bool) -> Result<(), Self::Error>;
    /// Writes the `end` that is due, if one is.
    fn end(&self, stream: StreamId) -> Result<(), Self::Error>;
    /// Diverged: moves what is held, renumbered, to a successor of the same epoch. Names it. Repeating it continues.
    fn succeed(&self, stream: StreamId) -> Result<StreamId, Self::Error>;
}
