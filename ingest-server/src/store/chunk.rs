//! Table `chunk`: a row for every chunk, also for gaps, ends and what is in quarantine.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use wavekeep_proto::hash::chunk_hash;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::wire;

use super::copy::BinaryCopy;
use super::error::StoreError;
use super::read_chunk::Place;
use super::timestamp::Timestamp;
use super::{bigint, statement, unsigned};
use crate::ledger::{Entry, Row};

const COPY: &str =
    "COPY chunk (stream_id, first_seq, seq, kind, reason, quarantined, first_sample, sample_count, start_time,
                                utc_ns, stored_bytes, hash, digest, header) FROM STDIN (FORMAT binary)";

/// The chunk's start is between the stream's earliest start and latest end.
const ROW_AT: &str = "
SELECT seq, digest FROM chunk
 WHERE stream_id = $1 AND seq <= $2
   AND start_time BETWEEN $3 AND $4
 ORDER BY seq DESC LIMIT 1";

/// The rows of one stream, on their way into the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamRows<'a> {
    /// Their stream.
    pub(super) stream: StreamId,
    /// In order.
    pub(super) rows: &'a [Row],
}

/// The entries that the compare-and-set let through.
pub(super) fn moved_rows<'a>(entries: &'a [Entry], moved: &[bool]) -> Vec<StreamRows<'a>> {
    let kept = entries.iter().zip(moved).filter(|(_, moved)| **moved);
    kept.map(|(entry, _)| StreamRows {
        stream: entry.stream,
        rows: &entry.rows,
    })
    .collect()
}

/// Stores the rows.
pub(super) async fn copy(connection: &mut PgConnection, streams: &[StreamRows<'_>]) -> Result<(), StoreError> {
    let mut copy = BinaryCopy::begin(connection, COPY).await?;
    let mut rows = 0;
    for stream in streams {
        for row in stream.rows {
            write(&mut copy, stream.stream, row).await?;
            rows += 1;
        }
    }
    copy.finish(rows).await
}

async fn write(copy: &mut BinaryCopy<'_>, stream: StreamId, row: &Row) -> Result<(), StoreError> {
    let header = &row.chunk.header;
    copy.row(14).await?;
    copy.bytes(stream.as_bytes());
    copy.i64(bigint(header.first_seq, "first_seq")?);
    copy.i64(bigint(header.seq, "seq")?);
    copy.i16(header.kind as i16);
    copy.i16(header.reason as i16);
    copy.bool(row.quarantine.is_some());
    copy.i64(bigint(header.first_sample, "the first sample id")?);
    copy.i64(bigint(header.count, "the number of samples")?);
    copy.time(header.utc_ns);
    copy.i64(header.utc_ns);
    copy.i64(bigint(
        row.chunk.columns.iter().map(|column| column.len() as u64).sum(),
        "the number of bytes",
    )?);
    copy.bytes(chunk_hash(header).as_bytes());
    copy.bytes(row.chunk.digest.as_bytes());
    copy.payload(&wire::header_to_bytes(header)).await?;
    Ok(())
}

/// The last row at or under `seq`, of a stream whose chunks lie between these times.
pub(super) async fn row_at(
    connection: &mut PgConnection,
    stream: StreamId,
    seq: u64,
    times_ns: (i64, i64),
) -> Result<Option<(u64, Hash)>, StoreError> {
    let (from, to) = Timestamp::bounds(times_ns);
    let query = statement(ROW_AT)
        .bind(stream.to_vec())
        .bind(i64::try_from(seq).unwrap_or(i64::MAX))
        .bind(from)
        .bind(to);
    let Some(row) = query.fetch_optional(connection).await? else {
        return Ok(None);
    };
    let digest = Hash::from_slice(row.try_get("digest")?).map_err(|_| StoreError::Unexpected("chunk.digest"))?;
    Ok(Some((unsigned(row.try_get("seq")?, "chunk.seq")?, digest)))
}

/// `loaded_at` moves too: whoever asks for what is new finds it.
const REPLAYED: &str = "
UPDATE chunk SET quarantined = false, loaded_at = now()
 WHERE stream_id = $1 AND seq = $4 AND quarantined AND start_time BETWEEN $2 AND $3";

/// A chunk has left quarantine: the one update of a row of the big tables.
pub(super) async fn replayed(connection: &mut PgConnection, place: Place, seq: u64) -> Result<(), StoreError> {
    let (from, to) = Timestamp::bounds(place.times_ns);
    let update = statement(REPLAYED).bind(place.stream.to_vec()).bind(from).bind(to);
    let updated = update.bind(bigint(seq, "the seq")?).execute(connection).await?;
    match updated.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Unexpected("the chunk that is replayed")),
    }
}
