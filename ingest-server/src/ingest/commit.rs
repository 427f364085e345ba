//! One group into the ledger, and an answer for every ticket of it, whatever happens.
//!
//! | the ledger says | what becomes of the group |
//! |---|---|
//! | stored, or fenced, for each entry | `Committed`, or `Fenced` |
//! | ambiguous, or not available | `Lost`, all of it: every session in it ends and asks again by `Open`; never retried |
//! | the data is bad | entry by entry; the entry that fails alone, row by row; the row that fails alone is quarantined |
//!
//! # Invariants
//! - I6: a ticket is answered `Committed` only after the ledger has answered `Ok` to a commit with its rows.
//! - I1: rows of an entry are committed in order; after one that failed none of the same entry is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};
use wavekeep_proto::chunk::{ChunkKind, Position};

use super::group::{Facts, Group};
use super::ticket::Ticket;
use crate::ledger::{CommitError, Entry, Ledger, Quarantine, Row};
use crate::telemetry::{counter, histogram};

/// After which a commit counts as not answered. Ledgers have limits of their own, and shorter ones: this is the last resort.
pub const COMMIT_LIMIT: Duration = Duration::from_secs(120);

/// The ledger does not work, or does not say: all that is left of the group is given back.
struct Broken(Arc<str>);

/// Commits and answers. Does not fail: a group that cannot be committed is answered for as lost.
pub async fn commit_group<L: Ledger>(ledger: &L, workspace: &str, group: Group) {
    histogram::GROUP_BYTES.record(group.bytes() as f64);
    histogram::GROUP_CHUNKS.record(group.chunks() as f64);
    let (entries, facts) = group.into_parts();
    let attempt = Attempt { ledger, workspace };
    match attempt.commit(&entries).await {
        Ok(stored) => {
            for ((entry, facts), stored) in entries.into_iter().zip(facts).zip(stored) {
                answer(&entry, facts, stored);
            }
        }
        Err(CommitError::BadData(what)) => attempt.apart(entries, facts, &what).await,
        Err(other) => {
            let Broken(message) = broken(workspace, &other);
            facts.into_iter().for_each(|facts| lost(facts.ticket, &message));
        }
    }
}

/// Logged here, where it is handled: the sessions say no more than that they end.
fn broken(workspace: &str, error: &CommitError) -> Broken {
    let kind = match error {
        CommitError::Ambiguous(_) => "ambiguous",
        CommitError::BadData(_) => "bad_data",
        CommitError::Unavailable(_) => "unavailable",
    };
    counter::LEDGER_ERRORS.add_of("kind", kind, 1);
    error!(workspace, kind, %error, "a commit failed; its sessions end, and their agents ask where their streams stand");
    Broken(error.to_string().into())
}

fn lost(ticket: Ticket, message: &Arc<str>) {
    counter::LOST_CHUNKS.add(ticket.chunks() as u64);
    ticket.lost(message);
}

fn samples(row: &Row) -> u64 {
    match row.chunk.header.kind {
        ChunkKind::Samples if row.quarantine.is_none() => {
            row.chunk.header.count * row.chunk.header.present_columns() as u64
        }
        _ => 0,
    }
}

fn count_stored(entry: &Entry, facts: &Facts) {
    counter::COMMITTED_CHUNKS.add(entry.rows.len() as u64);
    counter::COMMITTED_BYTES.add(entry.rows.iter().map(|row| row.chunk.flow_bytes()).sum());
    counter::COMMITTED_SAMPLES.add(entry.rows.iter().map(samples).sum());
    for row in &entry.rows {
        if let Some(Quarantine { why }) = &row.quarantine {
            counter::QUARANTINED_CHUNKS.add(1);
            let (stream, device, seq) = (entry.stream, &facts.device, row.chunk.header.seq);
            error!(%stream, device, seq, why, "a chunk is quarantined: it is kept and acknowledged, and readers see a gap");
        }
    }
    let waited = facts.ticket.accepted_at().elapsed();
    histogram::ACCEPTED_TO_COMMITTED_SECONDS.record(waited.as_secs_f64());
}

fn answer(entry: &Entry, facts: Facts, stored: bool) {
    if stored {
        count_stored(entry, &facts);
        facts.ticket.committed(&entry.after);
    } else {
        fenced(entry, facts);
    }
}

fn fenced(entry: &Entry, facts: Facts) {
    counter::FENCED_CHUNKS.add(facts.ticket.chunks() as u64);
    let (stream, device) = (entry.stream, &facts.device);
    warn!(%stream, device, "fenced: another session has taken this stream, these chunks are not stored");
    facts.ticket.fenced();
}

struct Attempt<'a, L> {
    ledger: &'a L,
    workspace: &'a str,
}

impl<L: Ledger> Attempt<'_, L> {
    /// One transaction.
    async fn commit(&self, entries: &[Entry]) -> Result<Vec<bool>, CommitError> {
        let since = Instant::now();
        let answer = tokio::time::timeout(COMMIT_LIMIT, self.ledger.commit(self.workspace, entries)).await;
        histogram::COMMIT_SECONDS.record(since.elapsed().as_secs_f64());
        let stored = answer.map_err(|_| CommitError::Ambiguous(format!("no answer within {COMMIT_LIMIT:?}")))??;
        assert_eq!(stored.len(), entries.len(), "I7: the ledger answers for each entry");
        Ok(stored)
    }

    /// Some entry has bad data: each alone.
    async fn apart(&self, entries: Vec<Entry>, facts: Vec<Facts>, what: &str) {
        warn!(
            workspace = self.workspace,
            entries = entries.len(),
            what,
            "the database refused data: committing apart"
        );
        let mut gave_up = None;
        let alone = entries.len() == 1;
        for (entry, facts) in entries.into_iter().zip(facts) {
            if let Some(Broken(message)) = &gave_up {
                lost(facts.ticket, message);
                continue;
            }
            // Of a group of one it is known already.
            let answered = if alone {
                Err(CommitError::BadData(what.to_owned()))
            } else {
                self.commit(std::slice::from_ref(&entry)).await
            };
            let ended = match answered {
                Ok(stored) => {
                    answer(&entry, facts, stored == [true]);
                    Ok(())
                }
                Err(CommitError::BadData(_)) => self.rows_apart(entry, facts).await,
                Err(other) => {
                    let Broken(message) = broken(self.workspace, &other);
                    lost(facts.ticket, &message);
                    Err(Broken(message))
                }
            };
            gave_up = ended.err();
        }
    }

    /// Some row of this entry is bad: each alone, and the bad ones into quarantine.
    async fn rows_apart(&self, entry: Entry, mut facts: Facts) -> Result<(), Broken> {
        let mut before = entry.before;
        for row in entry.rows {
            let after = Position::after(&row.chunk.header, row.chunk.digest);
            let bytes = row.chunk.flow_bytes();
            let one = Entry {
                before,
                after,
                rows: vec![row],
                ..entry
            };
            match self.row(one).await {
                Ok((one, true)) => {
                    count_stored(&one, &facts);
                    facts.ticket.first_committed(&after, bytes, 1);
                }
                Ok((one, false)) => {
                    fenced(&one, facts);
                    return Ok(());
                }
                Err(error) => {
                    let Broken(message) = broken(self.workspace, &error);
                    lost(facts.ticket, &message);
                    // What is bad even in quarantine says nothing about the other streams.
                    return match error {
                        CommitError::BadData(_) => Ok(()),
                        _ => Err(Broken(message)),
                    };
                }
            }
            before = after;
        }
        Ok(())
    }

    /// One row, if need be in quarantine.
    async fn row(&self, mut one: Entry) -> Result<(Entry, bool), CommitError> {
        let mut answered = self.commit(std::slice::from_ref(&one)).await;
        if let (Err(CommitError::BadData(why)), [row]) = (&answered, &mut one.rows[..])
            && row.quarantine.is_none()
        {
            let why = format!("the database refuses it: {why}");
            row.quarantine = Some(Quarantine { why });
            answered = self.commit(std::slice::from_ref(&one)).await;
        }
        answered.map(|stored| (one, stored == [true]))
    }
}
