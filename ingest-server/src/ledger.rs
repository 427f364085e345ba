//! The seam to the durable log: what opening a stream and committing chunks mean, apart from Postgres.
//!
//! # Invariants
//! - I1, I7: `commit` moves a stream only by the compare-and-set of docs/PROTOCOL.md, in the transaction that stores its rows.
//! - I6: `Ok` from `commit` means that COMMIT has answered; anything else never means "committed".

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::id::{Hash, LedgerId, Owner, StreamId};
use wavekeep_proto::stream::StreamDefinition;

use crate::rollup::fold::SignalFold;

/// Takes a stream's row for `owner`.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// What the stream is; inserted where it is new.
    pub definition: Arc<StreamDefinition>,
    /// Replace the stored ones where they differ.
    pub labels: BTreeMap<String, String>,
    /// Empty for none.
    pub run: String,
    /// The last seq the agent stored.
    pub stored_seq: u64,
    /// New for every `Open`.
    pub owner: Owner,
}

/// Which ledger answers, and which copy of it.
pub use wavekeep_proto::session::LedgerState;

/// Where the committed stream stands; `row` as [`wavekeep_proto::frame::Opened`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedRow {
    /// Watermark, next sample, digest, ended.
    pub at: Position,
    /// The last row at or under the agent's stored seq, where the watermark is above it.
    pub row: Option<(u64, Hash)>,
}

/// An intact but unacceptable chunk: it is chained as sent and kept, and readers see a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// For people: what was wrong with which column.
    pub why: String,
}

/// One chunk on its way into the tables.
#[derive(Debug, Clone)]
pub struct Row {
    /// As it was sent.
    pub chunk: Chunk,
    /// Set when validation refused its content.
    pub quarantine: Option<Quarantine>,
    /// Of a samples chunk that is not in quarantine: its present columns, and derived power. Empty where it was not folded: its
    /// stream's envelopes then stop before it, and are made later.
    pub folds: Vec<SignalFold>,
}

impl Row {
    /// Has it samples that were not folded?
    #[must_use]
    pub fn is_unfolded(&self) -> bool {
        self.quarantine.is_none() && self.chunk.header.present_columns() > 0 && self.folds.is_empty()
    }
}

/// All that one transaction stores of one stream for one owner.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The stream.
    pub stream: StreamId,
    /// Who took its row.
    pub owner: Owner,
    /// Where it must stand.
    pub before: Position,
    /// Where it stands after.
    pub after: Position,
    /// The chunks, in order, tiling from `before` to `after`. Never empty.
    pub rows: Vec<Row>,
}

/// What an agent says of a stream that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The stream.
    pub stream: StreamId,
    /// Whose session says so.
    pub owner: Owner,
    /// The last seq stored.
    pub stored_seq: u64,
    /// Where the next chunk will start.
    pub next_sample: u64,
    /// Un-acked bytes in the outbox.
    pub outbox_bytes: u64,
    /// Age of the oldest un-acked chunk.
    pub oldest_unacked_ms: u64,
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The id is taken by another definition.
    #[error("stream {0} exists with another definition")]
    DefinitionMismatch(StreamId),
    /// There is no such workspace.
    #[error("there is no workspace {0:?}")]
    UnknownWorkspace(String),
    /// Certainly not taken, because of what it is: the same definition would be refused again.
    #[error("the database refused the stream: {0}")]
    BadData(String),
    /// Certainly not taken: somebody else holds its row, and did not let go in time.
    #[error("another transaction holds the stream's row: {0}")]
    Locked(String),
    /// The database did not answer, or not as it should. The stream may or may not be taken: ask again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
}

/// Why a batch is not known to be committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// COMMIT was sent and not answered: it may have happened. Never retried: every session in the batch ends.
    #[error("COMMIT was not answered: {0}")]
    Ambiguous(String),
    /// Certainly rolled back, because of the data (SQLSTATE class 22 or 23): entries are retried one by one, and the one that
    /// fails alone is quarantined.
    #[error("the database refused the data: {0}")]
    BadData(String),
    /// Certainly rolled back, for any other reason (disk full, connection lost before COMMIT): the sessions end.
    #[error("the database is not available: {0}")]
    Unavailable(String),
}

/// The durable log. Postgres implements it; simulations model it.
pub trait Ledger: Send + Sync + 'static {
    /// The id minted with the workspace's schema.
    fn ledger_id(&self, workspace: &str) -> impl Future<Output = Result<LedgerId, OpenError>> + Send;

    /// Rises with each promotion of a copy of the database, and is never that of a database that was left for one that has answered;
    /// 0: not known.
    fn generation(&self) -> u64 {
        0
    }

    /// Takes the stream's row and says where it stands: a write, committed before it returns, because `Opened` is an ack.
    fn open(&self, workspace: &str, request: OpenRequest) -> impl Future<Output = Result<OpenedRow, OpenError>> + Send;

    /// One transaction. Answers, in the order of `entries`, whether each was stored (`false`: fenced, none of its rows are).
    fn commit(&self, workspace: &str, entries: &[Entry])
    -> impl Future<Output = Result<Vec<bool>, CommitError>> + Send;

    /// Writes down what an agent says of streams that its session owns. Nothing rests on it, so it may be left out.
    fn report(
        &self,
        _workspace: &str,
        _agent: &str,
        _reports: &[Report],
    ) -> impl Future<Output = Result<(), OpenError>> + Send {
        std::future::ready(Ok(()))
    }
}
