//! What a scrub reads: rows as they are, whatever is in them, so that what is wrong with one is told and hides no other.
//!
//! # Invariants
//! - A page is read in one transaction that only reads, with the row of its stream.
//! - I12: a page has [`limits::SCRUB_CHUNKS`] chunks and, by what their rows say, [`limits::SCRUB_BYTES`], or one chunk.

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::id::StreamId;

use super::error::StoreError;
use super::read_chunk::{Place, placed};
use super::read_envelope::{BucketRange, bucket_rows, of_ranges, whole};
use super::read_stream::{self, StreamRow};
use super::transaction::within_limit;
use super::workspace_row::Workspace;
use super::{Database, Transaction, limits, prepared};
use crate::rollup::envelope::Bucket;

/// A row of `chunk`.
#[derive(Debug, Clone)]
pub(crate) struct StoredChunk {
    pub(crate) first_seq: i64,
    pub(crate) seq: i64,
    pub(crate) kind: i16,
    pub(crate) reason: i16,
    pub(crate) quarantined: bool,
    pub(crate) first_sample: i64,
    pub(crate) sample_count: i64,
    /// Unix microseconds.
    pub(crate) start_us: i64,
    pub(crate) utc_ns: i64,
    pub(crate) stored_bytes: i64,
    pub(crate) hash: Vec<u8>,
    pub(crate) digest: Vec<u8>,
    pub(crate) header: Bytes,
    /// Header and digest of its row in `quarantine` that is not resolved, where there is one.
    pub(crate) kept: Option<(Vec<u8>, Vec<u8>)>,
}

/// A row of `chunk_signal`.
#[derive(Debug, Clone)]
pub(crate) struct StoredColumn {
    pub(crate) seq: i64,
    pub(crate) signal: i32,
    pub(crate) start_us: i64,
    pub(crate) first_sample: i64,
    pub(crate) sample_count: i64,
    pub(crate) sample_type: i16,
    pub(crate) encoding: Option<i16>,
    pub(crate) absent_reason: Option<i16>,
    pub(crate) hash: Option<Vec<u8>>,
    pub(crate) payload: Option<Bytes>,
    /// None where it is not folded; or what cannot be read of it.
    pub(crate) fold: Result<Option<StoredFold>, String>,
}

/// What is folded of a column.
#[derive(Debug, Clone)]
pub(crate) struct StoredFold {
    pub(crate) whole: Bucket,
    pub(crate) utc_ns: i64,
    pub(crate) level: i16,
    /// As [`super::points`] packs them.
    pub(crate) points: Vec<u8>,
}

/// A row of `envelope`.
#[derive(Debug, Clone)]
pub(crate) struct StoredBucket {
    pub(crate) signal: u32,
    pub(crate) level: u32,
    pub(crate) bucket: u64,
    /// All of it, and its children as [`super::envelope`] packs them; or what cannot be read.
    pub(crate) content: Result<(Bucket, Vec<u8>), String>,
}

/// Chunks that follow each other, and all that is stored with them.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) stream: StreamRow,
    /// Of the chunks up to where the page begins, so many are in quarantine now.
    pub(crate) quarantined_before: u64,
    /// And of those up to where it ends.
    pub(crate) quarantined_after: u64,
    /// The lowest seq that is stored of the stream, where the page does not begin with the seq that follows.
    pub(crate) lowest_seq: Option<i64>,
    pub(crate) chunks: Vec<StoredChunk>,
    pub(crate) columns: Vec<StoredColumn>,
    /// A chunk above the watermark.
    pub(crate) beyond: Option<i64>,
}

const IDS: &str = "
SELECT id FROM stream
 WHERE id >= $1 AND ($2::text IS NULL OR device = $2) AND ($3::text IS NULL OR starts_with(encode(id, 'hex'), $3))
 ORDER BY id LIMIT $4";

/// Streams from this id on, in order of id, at most `limit`.
pub(crate) async fn streams(
    database: &Database,
    workspace: &Workspace,
    from: StreamId,
    (device, prefix): (Option<&str>, Option<&str>),
    limit: usize,
) -> Result<Vec<StreamId>, StoreError> {
    let mut tx = database.begin_read(workspace).await?;
    let query = prepared(IDS).bind(from.to_vec()).bind(device).bind(prefix);
    let rows = within_limit(query.bind(limit as i64).fetch_all(tx.connection())).await?;
    tx.rollback().await;
    let id = |row: &PgRow| StreamId::from_slice(row.try_get(0)?).map_err(|_| StoreError::Unexpected("stream.id"));
    rows.iter().map(id).collect()
}

const CHUNKS: &str = "
SELECT first_seq, seq, kind, reason, quarantined, first_sample, sample_count,
       (extract(epoch FROM start_time) * 1000000)::bigint AS start_us, utc_ns, stored_bytes, hash, digest, header,
       (SELECT array[q.header, q.digest] FROM quarantine q
         WHERE c.quarantined AND q.stream_id = c.stream_id AND q.seq = c.seq AND q.resolved_at IS NULL LIMIT 1) AS kept
  FROM chunk c
 WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3 AND seq > $4
 ORDER BY seq LIMIT $5";

const COLUMNS: &str = "
SELECT seq, signal, (extract(epoch FROM start_time) * 1000000)::bigint AS start_us, first_sample, sample_count, sample_type, encoding,
       absent_reason, hash, payload, utc_ns, finite_count, min, max, sum, sumsq, min_exact::text, max_exact::text, point_level, points
  FROM chunk_signal
 WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3 AND seq BETWEEN $4 AND $5
 ORDER BY seq, signal";

const LOWEST: &str = "SELECT seq FROM chunk WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3 ORDER BY seq LIMIT 1";

const QUARANTINED: &str = "
SELECT count(*) FILTER (WHERE seq <= $4), count(*) FROM chunk
 WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3 AND seq <= $5 AND quarantined";

/// The chunks after a seq; None where there is no such stream any more.
pub(crate) async fn page(
    database: &Database,
    workspace: &Workspace,
    (stream, after): (StreamId, i64),
) -> Result<Option<(Page, Transaction)>, StoreError> {
    let mut tx = database.begin_read(workspace).await?;
    let connection = tx.connection();
    let Some(stream) = read_stream::by_id(connection, stream).await? else {
        tx.rollback().await;
        return Ok(None);
    };
    let watermark = i64::try_from(stream.at.seq).map_err(|_| StoreError::TooLarge("the watermark"))?;
    let mut page = Page {
        quarantined_before: 0,
        quarantined_after: 0,
        lowest_seq: None,
        chunks: Vec::new(),
        columns: Vec::new(),
        beyond: None,
        stream,
    };
    let Some(times_ns) = page.stream.times_ns else {
        return Ok(Some((page, tx)));
    };
    let stream = page.stream.id();
    let place = Place { stream, times_ns };
    let query = placed(CHUNKS, place).bind(after).bind(limits::SCRUB_CHUNKS as i64 + 1);
    let rows = within_limit(query.fetch_all(&mut *connection)).await?;
    let mut bytes = 0i64;
    for row in &rows {
        let chunk = chunk(row)?;
        // A seq that is stored twice is no end of a page: what is read next is above it.
        let is_again = page
            .chunks
            .last()
            .is_some_and(|last: &StoredChunk| last.seq == chunk.seq);
        if page.chunks.len() >= limits::SCRUB_CHUNKS && !is_again {
            break;
        }
        bytes = bytes.saturating_add(chunk.stored_bytes);
        if chunk.seq > watermark {
            page.beyond = Some(chunk.seq);
            break;
        }
        if !page.chunks.is_empty() && !is_again && bytes > limits::SCRUB_BYTES {
            break;
        }
        page.chunks.push(chunk);
    }
    let first = page.chunks.first().map(|chunk| chunk.first_seq);
    if first.is_none_or(|first| first != after + 1) {
        let lowest = within_limit(placed(LOWEST, place).fetch_optional(&mut *connection)).await?;
        page.lowest_seq = lowest.map(|row| row.try_get(0)).transpose()?;
    }
    let last = page.chunks.last().map_or(after, |last| last.seq);
    let counts = placed(QUARANTINED, place).bind(after).bind(last);
    let counts = within_limit(counts.fetch_one(&mut *connection)).await?;
    page.quarantined_before = super::unsigned(counts.try_get(0)?, "count")?;
    page.quarantined_after = super::unsigned(counts.try_get(1)?, "count")?;
    if let (Some(first), Some(last)) = (page.chunks.first(), page.chunks.last()) {
        let query = placed(COLUMNS, place).bind(first.seq).bind(last.seq);
        let rows = within_limit(query.fetch_all(&mut *connection)).await?;
        page.columns = rows.iter().map(column).collect::<Result<_, _>>()?;
    }
    Ok(Some((page, tx)))
}

fn chunk(row: &PgRow) -> Result<StoredChunk, StoreError> {
    let kept: Option<Vec<Vec<u8>>> = row.try_get("kept")?;
    Ok(StoredChunk {
        first_seq: row.try_get("first_seq")?,
        seq: row.try_get("seq")?,
        kind: row.try_get("kind")?,
        reason: row.try_get("reason")?,
        quarantined: row.try_get("quarantined")?,
        first_sample: row.try_get("first_sample")?,
        sample_count: row.try_get("sample_count")?,
        start_us: row.try_get("start_us")?,
        utc_ns: row.try_get("utc_ns")?,
        stored_bytes: row.try_get("stored_bytes")?,
        hash: row.try_get("hash")?,
        digest: row.try_get("digest")?,
        header: Bytes::from(row.try_get::<Vec<u8>, _>("header")?),
        kept: kept.and_then(|kept| {
            <[Vec<u8>; 2]>::try_from(kept)
                .ok()
                .map(|[header, digest]| (header, digest))
        }),
    })
}

fn column(row: &PgRow) -> Result<StoredColumn, StoreError> {
    let fold = || {
        let Some(whole) = whole(row)? else { return Ok(None) };
        Ok(Some(StoredFold {
            whole,
            utc_ns: row.try_get("utc_ns")?,
            level: row.try_get("point_level")?,
            points: row.try_get("points")?,
        }))
    };
    Ok(StoredColumn {
        seq: row.try_get("seq")?,
        signal: row.try_get("signal")?,
        start_us: row.try_get("start_us")?,
        first_sample: row.try_get("first_sample")?,
        sample_count: row.try_get("sample_count")?,
        sample_type: row.try_get("sample_type")?,
        encoding: row.try_get("encoding")?,
        absent_reason: row.try_get("absent_reason")?,
        hash: row.try_get("hash")?,
        payload: row.try_get::<Option<Vec<u8>>, _>("payload")?.map(Bytes::from),
        fold: fold().map_err(|error: StoreError| error.to_string()),
    })
}

/// Buckets of these ranges, in order of level, bucket and signal.
pub(crate) async fn buckets(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u32],
    ranges: &[BucketRange],
) -> Result<Vec<StoredBucket>, StoreError> {
    let query = of_ranges(bucket_rows!(", e.children"), place, signals, ranges)?;
    let rows = within_limit(query.fetch_all(connection)).await?;
    let bucket = |row: &PgRow| {
        let number = |column| row.try_get::<i32, _>(column).map(i32::cast_unsigned);
        let level = number("level")?;
        let content = || {
            let whole = whole(row)?.ok_or(StoreError::Unexpected("envelope.finite_count"))?;
            Ok((whole, row.try_get("children")?))
        };
        Ok(StoredBucket {
            signal: number("signal")?,
            level,
            bucket: super::unsigned(row.try_get("bucket")?, "envelope.bucket")?,
            content: content().map_err(|error: StoreError| error.to_string()),
        })
    };
    rows.iter().map(bucket).collect()
}
