//! Folds what was stored before envelopes were: page by page, each in a transaction, until `stream.folded_seq` is the watermark.
//!
//! A page's rows of `chunk_signal` are deleted and copied again, folded, by the very code that ingest uses. Whoever reads meanwhile
//! sees one or the other; whoever captures meanwhile waits for a page at most, and its chunks join when all before them are folded.
//!
//! # Invariants
//! - I8: `folded_seq` moves in the transaction that writes the folds it counts, under the lock of the stream's row.
//! - I12: a page has `limits::BACKFILL_CHUNKS` chunks.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::hash::definition_hash;
use wavekeep_proto::id::StreamId;

use super::chunk::StreamRows;
use super::error::StoreError;
use super::read_chunk::{self, ChunkRow, Place};
use super::read_stream::{self, StreamRow};
use super::stream::Facts;
use super::timestamp::Timestamp;
use super::transaction::{Transaction, within_limit};
use super::workspace_row::Workspace;
use super::{Database, bigint, chunk_signal, envelope, limits, statement, stream, towers};
use crate::ledger::{Quarantine, Row};
use crate::validate::{Validator, Verdict};

/// What a page came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// So many chunks were folded, and more are left.
    More(u64),
    /// The stream is folded up to its watermark.
    All(u64),
    /// A chunk cannot be read as it was captured: the stream stays as it is, and is read from its samples.
    Damaged(u64),
}

const BEHIND: &str = "SELECT id FROM stream WHERE folded_seq < watermark AND id > $1 ORDER BY id LIMIT 1";

/// The next stream after `after`, by id, that is not folded up to its watermark.
pub async fn next_behind(
    database: &Database,
    workspace: &Workspace,
    after: StreamId,
) -> Result<Option<StreamId>, StoreError> {
    let mut tx = database.begin_read(workspace).await?;
    let row = within_limit(statement(BEHIND).bind(after.to_vec()).fetch_optional(tx.connection())).await?;
    let id = row.map(|row| StreamId::from_slice(row.try_get(0)?).map_err(|_| StoreError::Unexpected("stream.id")));
    tx.rollback().await;
    id.transpose()
}

/// Folds a page of a stream.
pub async fn fold_page(database: &Database, workspace: &Workspace, id: StreamId) -> Result<Folded, StoreError> {
    let mut tx = database.begin(workspace).await?;
    match within_limit(page(&mut tx, id)).await {
        Ok(folded) => {
            tx.commit().await?;
            Ok(folded)
        }
        Err(error) => {
            tx.fail(&error).await;
            Err(error)
        }
    }
}

async fn page(tx: &mut Transaction, id: StreamId) -> Result<Folded, StoreError> {
    let connection = tx.connection();
    let facts = stream::lock_rows(connection, &[id]).await?;
    let row = read_stream::by_id(connection, id).await?;
    let Some((row, of_stream)) = row.zip(facts.get(&id)) else {
        return Ok(Folded::All(0));
    };
    let (folded, watermark) = (of_stream.folded_seq, row.at.seq);
    let Some(times_ns) = row.times_ns.filter(|_| folded < watermark) else {
        return Ok(Folded::All(0));
    };
    let place = Place { stream: id, times_ns };
    let headers = read_chunk::page(connection, place, (folded, watermark), limits::BACKFILL_CHUNKS).await?;
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        // Retention has dropped them: there is nothing to fold.
        moved(connection, id, watermark).await?;
        return Ok(Folded::All(0));
    };
    let (start, seqs) = (before(&row, first), (first.header.seq, last.header.seq));
    let rows = match rows(connection, place, &row, headers).await? {
        Ok(rows) => rows,
        Err(seq) => return Ok(Folded::Damaged(seq)),
    };
    store(connection, place, (&start, seqs), of_stream, &facts, &rows).await?;
    let count = rows.len() as u64;
    Ok(if seqs.1 == watermark {
        Folded::All(count)
    } else {
        Folded::More(count)
    })
}

/// Where the stream stood before a chunk.
fn before(row: &StreamRow, first: &ChunkRow) -> Position {
    Position {
        seq: first.header.first_seq - 1,
        next_sample: first.header.first_sample,
        digest: definition_hash(&row.definition),
        ended: false,
    }
}

/// The chunks, folded; or the seq of the first that cannot be.
pub(super) async fn rows(
    connection: &mut PgConnection,
    place: Place,
    stream: &StreamRow,
    headers: Vec<ChunkRow>,
) -> Result<Result<Vec<Row>, u64>, StoreError> {
    let seqs = (headers[0].header.seq, headers[headers.len() - 1].header.seq);
    let signals: Vec<u16> = stream.definition.signals.iter().map(|signal| signal.number).collect();
    let mut payloads = read_chunk::payloads(connection, place, &signals, seqs)
        .await?
        .into_iter()
        .peekable();
    let mut chunks = Vec::with_capacity(headers.len());
    for row in headers {
        let seq = row.header.seq;
        let own = std::iter::from_fn(|| payloads.next_if(|payload| payload.seq == seq));
        let columns = own.map(|payload| payload.payload).collect();
        let chunk = Chunk {
            header: row.header,
            digest: row.digest,
            columns,
        };
        chunks.push((chunk, row.quarantined));
    }
    let definition = stream.definition.clone();
    let fold = move || {
        let mut validator = Validator::default();
        let fold = |(chunk, quarantined): (Chunk, bool)| {
            let seq = chunk.header.seq;
            if quarantined {
                let quarantine = Some(Quarantine { why: String::new() });
                let folds = Vec::new();
                return Ok(Row {
                    chunk,
                    quarantine,
                    folds,
                });
            }
            match validator.check(&definition, &chunk) {
                Ok(Verdict::Good(folds)) if chunk.columns.len() == chunk.header.present_columns() => Ok(Row {
                    chunk,
                    quarantine: None,
                    folds,
                }),
                _ => Err(seq),
            }
        };
        chunks.into_iter().map(fold).collect()
    };
    Ok(tokio::task::spawn_blocking(fold).await.expect("folding does not panic"))
}

const DELETE: &str = "
DELETE FROM chunk_signal WHERE stream_id = $1 AND seq BETWEEN $4 AND $5 AND start_time BETWEEN $2 AND $3";

async fn store(
    connection: &mut PgConnection,
    place: Place,
    (start, seqs): (&Position, (u64, u64)),
    of_stream: &Facts,
    facts: &HashMap<StreamId, Facts>,
    rows: &[Row],
) -> Result<(), StoreError> {
    let mut tower = towers::load(connection, place.stream, of_stream, start).await?;
    let envelopes = towers::rows(&mut tower, place.stream, of_stream, rows);
    let (from, to) = Timestamp::bounds(place.times_ns);
    statement(DELETE)
        .bind(place.stream.to_vec())
        .bind(from)
        .bind(to)
        .bind(bigint(seqs.0, "the seq")?)
        .bind(bigint(seqs.1, "the seq")?)
        .execute(&mut *connection)
        .await?;
    let stream = StreamRows {
        stream: place.stream,
        rows,
    };
    chunk_signal::copy(connection, &[stream], facts).await?;
    envelope::copy(connection, &envelopes).await?;
    moved(connection, place.stream, seqs.1).await
}

async fn moved(connection: &mut PgConnection, stream: StreamId, folded_seq: u64) -> Result<(), StoreError> {
    statement("UPDATE stream SET folded_seq = $2 WHERE id = $1")
        .bind(stream.to_vec())
        .bind(bigint(folded_seq, "the seq")?)
        .execute(connection)
        .await?;
    Ok(())
}
