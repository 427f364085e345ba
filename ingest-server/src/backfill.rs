//! Folds what an older version stored, beside everything else, one page after the other.
//!
//! # Invariants
//! - A stream that cannot be folded holds up no other, and is told once.
//! - Several servers may do it at a time: each page is folded under the lock of its stream's row.

use std::time::Duration;

use tracing::{error, info, warn};
use wavekeep_proto::id::StreamId;

use crate::store::backfill::{Folded, fold_page, next_behind};
use crate::store::{Database, StoreError, Workspace};
use crate::workspace;

/// Between two rounds: a stream falls behind only when an older version still writes it.
const ROUND: Duration = Duration::from_secs(600);
/// Between two pages, so that ingest has the database to itself most of the time.
const REST: Duration = Duration::from_millis(20);

/// Until it is aborted.
pub async fn run(database: Database) {
    loop {
        match workspace::check(&database).await {
            Ok(workspaces) => {
                for workspace in workspaces {
                    if let Err(error) = round(&database, &workspace).await {
                        warn!(workspace = workspace.name, %error, "older chunks were not folded; the next attempt is in ten minutes");
                    }
                }
            }
            Err(error) => warn!(%error, "older chunks were not folded; the next attempt is in ten minutes"),
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// All streams of a workspace that are behind, once.
pub async fn round(database: &Database, workspace: &Workspace) -> Result<(), StoreError> {
    let mut after = StreamId([0; 16]);
    while let Some(stream) = next_behind(database, workspace, after).await? {
        fold(database, workspace, stream).await?;
        after = stream;
    }
    Ok(())
}

async fn fold(database: &Database, workspace: &Workspace, stream: StreamId) -> Result<(), StoreError> {
    let mut chunks = 0;
    loop {
        match fold_page(database, workspace, stream).await? {
            Folded::More(more) => chunks += more,
            Folded::All(more) => {
                chunks += more;
                if chunks > 0 {
                    info!(workspace = workspace.name, %stream, chunks, "chunks of an older version are folded");
                }
                return Ok(());
            }
            Folded::Damaged(seq) => {
                error!(workspace = workspace.name, %stream, seq, "a chunk is not as it was captured: its stream is not folded, and is read from its samples");
                return Ok(());
            }
        }
        tokio::time::sleep(REST).await;
    }
}
