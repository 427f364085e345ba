//! Replaying a chunk from quarantine: it is validated again, by this version, and what passes is put in its place as its commit would
//! have done, in one transaction under the lock of its stream's row. So it waits for a commit of the same stream or for a page of
//! backfill, and they for it; and what a server remembers of the stream's unfinished buckets is not used again (see `towers`).
//!
//! # Invariants
//! - I8: `chunk_signal` and `envelope` are afterwards what they would be had the chunk passed when it came.
//! - I13: its samples are counted with the stored ones by the transaction that stores them.
//! - I14: header, hash and digest are those of the capture, before and after: only what table `chunk` says of them is used.
//! - A chunk that does not pass changes nothing but what is said about it.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::{Chunk, ChunkKind, Header};
use wavekeep_proto::id::StreamId;

use super::ancestors::{self, Damaged};
use super::chunk::StreamRows;
use super::error::StoreError;
use super::read_chunk::{self, ChunkRow, Place};
use super::read_stream::{self, StreamRow};
use super::stream::Facts;
use super::transaction::within_limit;
use super::workspace_row::Workspace;
use super::{Database, chunk, chunk_signal, quarantine, statement, stream};
use crate::ledger::{Quarantine, Row};
use crate::validate::{Validator, Verdict};

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// It is in its place: readers see its samples.
    InPlace,
    /// It stays in quarantine, and why.
    Refused(String),
    /// Its row was dropped, by retention: its bytes are too.
    Gone,
    /// It is not in quarantine: somebody else has replayed it.
    NotThere,
}

/// Validates the chunk of a row of `quarantine` again. A dry run does all the rest too, and takes it back.
pub async fn replay(
    database: &Database,
    workspace: &Workspace,
    id: i64,
    (actor, dry_run): (&str, bool),
) -> Result<Replayed, StoreError> {
    let mut tx = database.begin(workspace).await?;
    match within_limit(replayed(tx.connection(), workspace, (id, actor))).await {
        Ok(Replayed::Refused(why)) => {
            tx.rollback().await;
            refused(database, workspace, id, (why, dry_run)).await
        }
        Ok(done) if dry_run => {
            tx.rollback().await;
            Ok(done)
        }
        Ok(done) => {
            tx.commit().await?;
            Ok(done)
        }
        Err(error) => {
            tx.fail(&error).await;
            if !error.is_bad_data() {
                return Err(error);
            }
            let why = format!("the database refuses it: {error}");
            refused(database, workspace, id, (why, dry_run)).await
        }
    }
}

async fn refused(
    database: &Database,
    workspace: &Workspace,
    id: i64,
    (why, dry_run): (String, bool),
) -> Result<Replayed, StoreError> {
    if !dry_run {
        let mut tx = database.begin(workspace).await?;
        within_limit(quarantine::refuse(tx.connection(), id, &why)).await?;
        tx.commit().await?;
    }
    Ok(Replayed::Refused(why))
}

async fn replayed(
    connection: &mut PgConnection,
    workspace: &Workspace,
    (id, actor): (i64, &str),
) -> Result<Replayed, StoreError> {
    let Some(stream) = quarantine::stream_of(connection, id).await? else {
        return Ok(Replayed::NotThere);
    };
    let facts = stream::lock_rows(connection, &[stream]).await?;
    // Again, now that nobody else can replay it.
    let Some((seq, columns)) = quarantine::sent(connection, id).await? else {
        return Ok(Replayed::NotThere);
    };
    let of_stream = read_stream::by_id(connection, stream).await?;
    let of_stream = of_stream.ok_or(StoreError::Unexpected("quarantine.stream_id"))?;
    let Some((place, found)) = found(connection, &of_stream, seq).await? else {
        quarantine::forget(connection, id).await?;
        stream::replayed(connection, stream, 0).await?;
        return Ok(Replayed::Gone);
    };
    if !found.quarantined {
        return Err(StoreError::Unexpected("chunk.quarantined"));
    }
    let chunk = Chunk {
        header: found.header,
        digest: found.digest,
        columns,
    };
    let row = match checked(&of_stream, chunk).await? {
        Ok(row) => row,
        Err(why) => return Ok(Replayed::Refused(why)),
    };
    if let Err(Damaged(seq)) = put(connection, place, &of_stream, &facts, &row).await? {
        return Ok(Replayed::Refused(format!(
            "chunk {seq} beside it cannot be read as it was captured, so their envelopes cannot be made"
        )));
    }
    quarantine::resolve(connection, id).await?;
    audit(connection, workspace, actor, (stream, &row.chunk.header)).await?;
    Ok(Replayed::InPlace)
}

/// The chunk's row, where there still is one.
async fn found(
    connection: &mut PgConnection,
    stream: &StreamRow,
    seq: u64,
) -> Result<Option<(Place, ChunkRow)>, StoreError> {
    let Some(times_ns) = stream.times_ns else {
        return Ok(None);
    };
    let place = Place {
        stream: stream.id(),
        times_ns,
    };
    let row = read_chunk::page(connection, place, (seq.saturating_sub(1), seq), 1)
        .await?
        .pop();
    Ok(row.map(|row| (place, row)))
}

/// Folded, or why it stays where it is.
async fn checked(stream: &StreamRow, chunk: Chunk) -> Result<Result<Row, String>, StoreError> {
    let (came, present) = (chunk.columns.len(), chunk.header.present_columns());
    if came > present {
        return Ok(Err(format!("it holds {came} columns, and its header names {present}")));
    }
    let definition = stream.definition.clone();
    let check = move || {
        let verdict = Validator::default().check(&definition, &chunk);
        (chunk, verdict)
    };
    let (chunk, verdict) = tokio::task::spawn_blocking(check)
        .await
        .expect("validating does not panic");
    Ok(
        match verdict.map_err(|_| StoreError::Unexpected("a column: there is no memory to decode it"))? {
            Verdict::Good(folds) => Ok(Row {
                chunk,
                quarantine: None,
                folds,
            }),
            Verdict::Quarantine(Quarantine { why }) => Err(why),
        },
    )
}

async fn put(
    connection: &mut PgConnection,
    place: Place,
    stream: &StreamRow,
    facts: &HashMap<StreamId, Facts>,
    row: &Row,
) -> Result<Result<(), Damaged>, StoreError> {
    let header = &row.chunk.header;
    chunk::replayed(connection, place, header.seq).await?;
    if header.kind != ChunkKind::Samples {
        // A gap or an end that the database refused: it has no rows but this.
        stream::replayed(connection, place.stream, 0).await?;
        return Ok(Ok(()));
    }
    let rows = StreamRows {
        stream: place.stream,
        rows: std::slice::from_ref(row),
    };
    chunk_signal::copy(connection, &[rows], facts).await?;
    stream::replayed(connection, place.stream, header.count).await?;
    let facts = facts
        .get(&place.stream)
        .ok_or(StoreError::Unexpected("a stream that is locked"))?;
    ancestors::rebuild(connection, place, stream, facts, header).await
}

const AUDIT: &str = "
INSERT INTO wavekeep.audit (actor, action, workspace, detail)
VALUES ($1, 'quarantine replayed', $2, jsonb_build_object('stream', encode($3, 'hex'), 'seq', $4::bigint))";

async fn audit(
    connection: &mut PgConnection,
    workspace: &Workspace,
    actor: &str,
    (stream, header): (StreamId, &Header),
) -> Result<(), StoreError> {
    let query = statement(AUDIT).bind(actor).bind(&workspace.name).bind(stream.to_vec());
    query
        .bind(super::bigint(header.seq, "the seq")?)
        .execute(connection)
        .await?;
    Ok(())
}
