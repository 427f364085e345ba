//! The ledger on Postgres: open and commit exactly as docs/PROTOCOL.md has them.
//!
//! # Invariants
//! - I1, I7: rows are copied only for entries whose stream the compare-and-set has moved, in the same transaction.
//! - I4: an entry tiles from where its stream stood to where it will stand.
//! - I8: the buckets that an entry completes are written in its transaction.
//! - I6: `Ok` only after COMMIT has answered; see `error` for what every other end means.

use std::collections::HashSet;

use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::LedgerId;

use super::database::Database;
use super::error::StoreError;
use super::partition::Partitions;
use super::towers::{Left, Towers};
use super::transaction::{Transaction, within_limit};
use super::workspace_row::Workspace;
use super::{agent_report, chunk, chunk_signal, device, envelope, marker, quarantine, run, stream};
use crate::ledger::{CommitError, Entry, Ledger, OpenError, OpenRequest, OpenedRow, Report};

/// See the module's documentation.
#[derive(Debug)]
pub struct PostgresLedger {
    database: Database,
    pub(super) partitions: Partitions,
    towers: Towers,
}

impl PostgresLedger {
    /// On these connections.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            database,
            partitions: Partitions::default(),
            towers: Towers::default(),
        }
    }

    /// The connections, for readers.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Makes the partitions of today and of the next days, so that no batch has to wait for them at midnight. To be called at
    /// start and every hour or so; a batch that finds none makes them itself.
    pub async fn make_partitions_ahead(&self, workspace: &str) -> Result<(), StoreError> {
        let workspace = self.database.workspace(workspace).await?;
        self.partitions.ensure_ahead(&self.database, &workspace).await
    }

    async fn try_open(&self, workspace: &Workspace, request: &OpenRequest) -> Result<Option<OpenedRow>, StoreError> {
        let mut tx = self.database.begin(workspace).await?;
        let opened = within_limit(opened(&mut tx, request)).await?;
        match opened {
            Some(_) => tx.commit().await?,
            None => tx.rollback().await,
        }
        Ok(opened)
    }

    async fn try_report(&self, workspace: &Workspace, agent: &str, reports: &[Report]) -> Result<(), StoreError> {
        let mut tx = self.database.begin(workspace).await?;
        match within_limit(agent_report::write(tx.connection(), agent, reports)).await {
            Ok(()) => Ok(tx.commit().await?),
            Err(error) => {
                tx.fail(&error).await;
                Err(error)
            }
        }
    }

    async fn try_commit(&self, workspace: &Workspace, entries: &[Entry]) -> Result<Vec<bool>, StoreError> {
        let times_ns = entries
            .iter()
            .flat_map(|entry| &entry.rows)
            .map(|row| row.chunk.header.utc_ns);
        self.partitions.ensure(&self.database, workspace, times_ns).await?;
        let mut tx = self.database.begin(workspace).await?;
        match within_limit(self.stored(&mut tx, &workspace.schema, entries)).await {
            Ok((moved, left)) if moved.contains(&true) => {
                tx.commit().await?;
                self.towers.keep(&workspace.schema, left);
                Ok(moved)
            }
            Ok((moved, _)) => {
                tx.rollback().await;
                Ok(moved)
            }
            Err(error) => {
                tx.fail(&error).await;
                Err(error)
            }
        }
    }

    async fn stored(
        &self,
        tx: &mut Transaction,
        schema: &str,
        entries: &[Entry],
    ) -> Result<(Vec<bool>, Vec<Left>), StoreError> {
        let connection = tx.connection();
        let facts = stream::lock(connection, entries).await?;
        // The answer decides: a fenced entry stands beside good ones, and none of its rows may be copied.
        let moved = stream::advance(connection, entries, &facts).await?;
        let rows = chunk::moved_rows(entries, &moved);
        if rows.is_empty() {
            return Ok((moved, Vec::new()));
        }
        let (mut envelopes, mut all_left) = (Vec::new(), Vec::new());
        for (entry, _) in entries.iter().zip(&moved).filter(|(_, moved)| **moved) {
            let facts = facts
                .get(&entry.stream)
                .ok_or(StoreError::Unexpected("a stream that moved"))?;
            if let Some((completed, left)) = self.towers.grow(connection, schema, entry, facts).await? {
                envelopes.extend(completed);
                all_left.push(left);
            }
        }
        chunk::copy(connection, &rows).await?;
        chunk_signal::copy(connection, &rows, &facts).await?;
        envelope::copy(connection, &envelopes).await?;
        marker::copy(connection, &rows, &facts).await?;
        quarantine::copy(connection, &rows).await?;
        Ok((moved, all_left))
    }
}

async fn opened(tx: &mut Transaction, request: &OpenRequest) -> Result<Option<OpenedRow>, StoreError> {
    let connection = tx.connection();
    device::insert(connection, &request.definition.device).await?;
    if !request.run.is_empty() {
        run::insert(connection, &request.run).await?;
    }
    let Some(opened) = stream::open(connection, request).await? else {
        return Ok(None);
    };
    let row = match opened.times_ns {
        Some(times_ns) if opened.at.seq > request.stored_seq => {
            chunk::row_at(connection, request.definition.id, request.stored_seq, times_ns).await?
        }
        _ => None,
    };
    Ok(Some(OpenedRow { at: opened.at, row }))
}

/// Our own mistakes: the session and the writer that made this entry are to blame, not the agent.
fn check(entry: &Entry) {
    assert!(
        !entry.rows.is_empty() && !entry.before.ended,
        "I1: an entry has rows, and none follow an end"
    );
    let mut at = entry.before;
    for row in &entry.rows {
        let header = &row.chunk.header;
        assert_eq!(header.first_seq, at.seq + 1, "I1: seqs have no hole");
        assert_eq!(header.first_sample, at.next_sample, "I4: chunks tile");
        assert!(!at.ended, "I1: nothing follows an end");
        at = Position::after(header, row.chunk.digest);
    }
    assert_eq!(at, entry.after, "I14: an entry ends where its last row does");
}

impl Ledger for PostgresLedger {
    async fn ledger_id(&self, workspace: &str) -> Result<LedgerId, OpenError> {
        Ok(self.database.workspace_now(workspace).await?.ledger_id)
    }

    fn generation(&self) -> u64 {
        u64::from(self.database.timeline())
    }

    async fn open(&self, workspace: &str, request: OpenRequest) -> Result<OpenedRow, OpenError> {
        let workspace = self.database.workspace(workspace).await?;
        let opened = self.try_open(&workspace, &request).await?;
        opened.ok_or(OpenError::DefinitionMismatch(request.definition.id))
    }

    async fn commit(&self, workspace: &str, entries: &[Entry]) -> Result<Vec<bool>, CommitError> {
        entries.iter().for_each(check);
        let claims: HashSet<_> = entries.iter().map(|entry| (entry.stream, entry.owner)).collect();
        assert_eq!(claims.len(), entries.len(), "I7: one entry for each stream and owner");
        let workspace = self.database.workspace(workspace).await?;
        match self.try_commit(&workspace, entries).await {
            Err(error) if error.is_no_partition() => {
                self.partitions.forget(&workspace);
                Ok(self.try_commit(&workspace, entries).await?)
            }
            answer => Ok(answer?),
        }
    }

    async fn report(&self, workspace: &str, agent: &str, reports: &[Report]) -> Result<(), OpenError> {
        let workspace = self.database.workspace(workspace).await?;
        Ok(self.try_report(&workspace, agent, reports).await?)
    }
}
