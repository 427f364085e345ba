//! Table `quarantine`: chunks that were intact but unacceptable, as they were sent. Poison never blocks a stream.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::chunk::Header;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::wire;

use super::chunk::StreamRows;
use super::copy::BinaryCopy;
use super::error::StoreError;
use super::read_stream;
use super::text::clean;
use super::transaction::within_limit;
use super::workspace_row::Workspace;
use super::{Database, bigint, statement, unsigned};

const COPY: &str =
    "COPY quarantine (stream_id, seq, start_time, header, digest, columns, why) FROM STDIN (FORMAT binary)";

/// Stores the bytes of the rows that validation refused.
pub(super) async fn copy(connection: &mut PgConnection, streams: &[StreamRows<'_>]) -> Result<(), StoreError> {
    if streams
        .iter()
        .all(|stream| stream.rows.iter().all(|row| row.quarantine.is_none()))
    {
        return Ok(());
    }
    let mut copy = BinaryCopy::begin(connection, COPY).await?;
    let mut rows = 0;
    for stream in streams {
        for row in stream.rows {
            let Some(quarantine) = &row.quarantine else { continue };
            let header = &row.chunk.header;
            copy.row(7).await?;
            copy.bytes(stream.stream.as_bytes());
            copy.i64(bigint(header.seq, "seq")?);
            copy.time(header.utc_ns);
            copy.payload(&wire::header_to_bytes(header)).await?;
            copy.bytes(row.chunk.digest.as_bytes());
            copy.payloads(row.chunk.columns.iter().map(|column| column.as_ref()))
                .await?;
            copy.bytes(clean(&quarantine.why).as_bytes());
            rows += 1;
        }
    }
    copy.finish(rows).await
}

/// A chunk in quarantine, without its columns' bytes.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Of its row.
    pub id: i64,
    /// Its stream.
    pub stream: StreamId,
    /// Of its stream.
    pub device: String,
    /// As it was sent.
    pub header: Header,
    /// Of the capture, after it.
    pub digest: Hash,
    /// Encoded, of all its columns.
    pub bytes: u64,
    /// For people: what is wrong with it.
    pub why: String,
    /// When it was put there, in UTC.
    pub quarantined_at_ns: i64,
}

/// Which chunks. What is unset does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptFilter {
    /// Of a row.
    pub id: Option<i64>,
    /// All of it.
    pub device: Option<String>,
    /// The id of a stream in hexadecimal digits, or its beginning.
    pub stream: Option<String>,
    /// Of a chunk.
    pub seq: Option<u64>,
}

macro_rules! kept {
    ($rest:literal) => {
        concat!(
            "SELECT q.id, q.stream_id, s.device, q.header, q.digest, q.why,
                    (extract(epoch FROM q.quarantined_at) * 1000000)::bigint * 1000 AS quarantined_at_ns,
                    (SELECT coalesce(sum(octet_length(c)), 0)::bigint FROM unnest(q.columns) AS c) AS bytes
               FROM quarantine q JOIN stream s ON s.id = q.stream_id
              WHERE q.resolved_at IS NULL AND ($1::bigint IS NULL OR q.id = $1) AND ($2::text IS NULL OR s.device = $2)
                AND ($3::text IS NULL OR starts_with(encode(q.stream_id, 'hex'), $3)) AND ($4::bigint IS NULL OR q.seq = $4)",
            $rest
        )
    };
}

const NEWEST: &str = kept!(" AND ($5::bigint IS NULL OR q.id < $5) ORDER BY q.id DESC LIMIT $6");
const OLDEST: &str = kept!(" AND ($5::bigint IS NULL OR q.id > $5) ORDER BY q.id LIMIT $6");

/// The newest first, those before the row `before`, at most `limit`.
pub async fn newest(
    database: &Database,
    workspace: &Workspace,
    filter: &KeptFilter,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Kept>, StoreError> {
    page(database, workspace, NEWEST, (filter, before, limit)).await
}

/// In the order in which they came, those after the row `after`, at most `limit`.
pub async fn oldest(
    database: &Database,
    workspace: &Workspace,
    filter: &KeptFilter,
    after: Option<i64>,
    limit: usize,
) -> Result<Vec<Kept>, StoreError> {
    page(database, workspace, OLDEST, (filter, after, limit)).await
}

async fn page(
    database: &Database,
    workspace: &Workspace,
    sql: &'static str,
    (filter, beside, limit): (&KeptFilter, Option<i64>, usize),
) -> Result<Vec<Kept>, StoreError> {
    let query = statement(sql)
        .bind(filter.id)
        .bind(filter.device.as_deref())
        .bind(filter.stream.as_deref())
        .bind(filter.seq.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX)))
        .bind(beside)
        .bind(bigint(limit as u64, "the number of chunks")?);
    let mut tx = database.begin_read(workspace).await?;
    let rows = within_limit(query.fetch_all(tx.connection())).await?;
    tx.rollback().await;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &PgRow) -> Result<Kept, StoreError> {
    let unexpected = StoreError::Unexpected;
    Ok(Kept {
        id: row.try_get("id")?,
        stream: StreamId::from_slice(row.try_get("stream_id")?).map_err(|_| unexpected("quarantine.stream_id"))?,
        device: row.try_get("device")?,
        header: wire::header_from_bytes(row.try_get("header")?).map_err(|_| unexpected("quarantine.header"))?,
        digest: Hash::from_slice(row.try_get("digest")?).map_err(|_| unexpected("quarantine.digest"))?,
        bytes: unsigned(row.try_get("bytes")?, "quarantine.columns")?,
        why: row.try_get("why")?,
        quarantined_at_ns: row.try_get("quarantined_at_ns")?,
    })
}

/// The definition of a chunk's stream, and its columns as they were sent: those that the header has present. None where it has
/// left quarantine.
pub async fn content(
    database: &Database,
    workspace: &Workspace,
    kept: &Kept,
) -> Result<Option<(Arc<StreamDefinition>, Vec<Bytes>)>, StoreError> {
    let mut tx = database.begin_read(workspace).await?;
    let stream = read_stream::by_id(tx.connection(), kept.stream).await?;
    let sent = within_limit(sent(tx.connection(), kept.id)).await?;
    tx.rollback().await;
    Ok(stream
        .map(|stream| stream.definition)
        .zip(sent.map(|(_, columns)| columns)))
}

/// Seq and columns; None where there is no such row, or its chunk has left quarantine.
pub(super) async fn sent(connection: &mut PgConnection, id: i64) -> Result<Option<(u64, Vec<Bytes>)>, StoreError> {
    let query = statement("SELECT seq, columns FROM quarantine WHERE id = $1 AND resolved_at IS NULL");
    let Some(row) = query.bind(id).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let columns: Vec<Vec<u8>> = row.try_get("columns")?;
    let seq = unsigned(row.try_get("seq")?, "quarantine.seq")?;
    Ok(Some((seq, columns.into_iter().map(Bytes::from).collect())))
}

/// The stream of a chunk that is in quarantine.
pub(super) async fn stream_of(connection: &mut PgConnection, id: i64) -> Result<Option<StreamId>, StoreError> {
    let query = statement("SELECT stream_id FROM quarantine WHERE id = $1 AND resolved_at IS NULL");
    let row = query.bind(id).fetch_optional(connection).await?;
    let stream = row
        .map(|row| StreamId::from_slice(row.try_get(0)?).map_err(|_| StoreError::Unexpected("quarantine.stream_id")));
    stream.transpose()
}

/// Its bytes are in `chunk_signal` now: the row stays, to tell that it was here.
pub(super) async fn resolve(connection: &mut PgConnection, id: i64) -> Result<(), StoreError> {
    let sql = "UPDATE quarantine SET resolved_at = now(), columns = '{}' WHERE id = $1";
    statement(sql).bind(id).execute(connection).await?;
    Ok(())
}

/// Its chunk is no longer stored.
pub(super) async fn forget(connection: &mut PgConnection, id: i64) -> Result<(), StoreError> {
    statement("DELETE FROM quarantine WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// It was looked at again.
pub(super) async fn refuse(connection: &mut PgConnection, id: i64, why: &str) -> Result<(), StoreError> {
    let sql = "UPDATE quarantine SET why = $2 WHERE id = $1 AND why <> $2";
    statement(sql).bind(id).bind(&*clean(why)).execute(connection).await?;
    Ok(())
}
