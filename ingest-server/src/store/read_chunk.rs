//! Reads of tables `chunk` and `chunk_signal`: where a time lies, and chunks page by page as they are stored.
//!
//! Every statement is bounded by the times between which the stream's chunks start, so that the database opens only the
//! partitions that hold them.
//!
//! # Invariants
//! - I12: a page has at most so many rows, or so many bytes of payload, as its caller says.

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use wavekeep_proto::chunk::Header;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::wire;

use super::error::StoreError;
use super::timestamp::Timestamp;
use super::transaction::within_limit;
use super::{bigint, prepared, unsigned};

/// A chunk without its samples.
#[derive(Debug, Clone)]
pub(crate) struct ChunkRow {
    /// As it was hashed and sent.
    pub(crate) header_bytes: Bytes,
    pub(crate) header: Header,
    pub(crate) digest: Hash,
    pub(crate) quarantined: bool,
    /// Encoded bytes of all its columns.
    pub(crate) stored_bytes: u64,
    pub(crate) loaded_at_ns: i64,
}

/// A column's encoded samples.
#[derive(Debug, Clone)]
pub(crate) struct PayloadRow {
    pub(crate) seq: u64,
    pub(crate) signal: u16,
    pub(crate) payload: Bytes,
}

/// A stream, and the times between which its chunks start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) stream: StreamId,
    pub(crate) times_ns: (i64, i64),
}

macro_rules! columns {
    ($rest:literal) => {
        concat!(
            "SELECT seq, header, digest, quarantined, stored_bytes,
                    (extract(epoch FROM loaded_at) * 1000000)::bigint * 1000 AS loaded_at_ns
               FROM chunk
              WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3",
            $rest
        )
    };
}

pub(super) fn placed(sql: &'static str, place: Place) -> Query<'static, sqlx::Postgres, PgArguments> {
    let (from, to) = Timestamp::bounds(place.times_ns);
    prepared(sql).bind(place.stream.to_vec()).bind(from).bind(to)
}

fn from_row(row: &PgRow) -> Result<ChunkRow, StoreError> {
    let header_bytes = Bytes::from(row.try_get::<Vec<u8>, _>("header")?);
    let header = wire::header_from_bytes(&header_bytes).map_err(|_| StoreError::Unexpected("chunk.header"))?;
    if unsigned(row.try_get("seq")?, "chunk.seq")? != header.seq {
        return Err(StoreError::Unexpected("chunk.seq"));
    }
    Ok(ChunkRow {
        header,
        header_bytes,
        digest: Hash::from_slice(row.try_get("digest")?).map_err(|_| StoreError::Unexpected("chunk.digest"))?,
        quarantined: row.try_get("quarantined")?,
        stored_bytes: unsigned(row.try_get("stored_bytes")?, "chunk.stored_bytes")?,
        loaded_at_ns: row.try_get("loaded_at_ns")?,
    })
}

async fn one(
    connection: &mut PgConnection,
    query: Query<'static, sqlx::Postgres, PgArguments>,
) -> Result<Option<ChunkRow>, StoreError> {
    let row = within_limit(query.fetch_optional(connection)).await?;
    row.as_ref().map(from_row).transpose()
}

/// Chunks with `after < seq ≤ last`, in order, at most `limit`.
pub(crate) async fn page(
    connection: &mut PgConnection,
    place: Place,
    (after, last): (u64, u64),
    limit: usize,
) -> Result<Vec<ChunkRow>, StoreError> {
    let query = placed(columns!(" AND seq > $4 AND seq <= $5 ORDER BY seq LIMIT $6"), place);
    rows(connection, query, (after, last), limit).await
}

/// Chunks with `first ≤ seq < before`, the last one first, at most `limit`.
pub(crate) async fn page_backwards(
    connection: &mut PgConnection,
    place: Place,
    (first, before): (u64, u64),
    limit: usize,
) -> Result<Vec<ChunkRow>, StoreError> {
    let query = placed(
        columns!(" AND seq >= $4 AND seq < $5 ORDER BY seq DESC LIMIT $6"),
        place,
    );
    rows(connection, query, (first, before), limit).await
}

async fn rows(
    connection: &mut PgConnection,
    query: Query<'static, sqlx::Postgres, PgArguments>,
    (low, high): (u64, u64),
    limit: usize,
) -> Result<Vec<ChunkRow>, StoreError> {
    let query = query
        .bind(bigint(low, "the seq")?)
        .bind(bigint(high, "the seq")?)
        .bind(bigint(limit as u64, "the number of chunks")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(from_row).collect()
}

/// The chunk before `seq`, where there is one.
pub(crate) async fn before(
    connection: &mut PgConnection,
    place: Place,
    seq: u64,
) -> Result<Option<ChunkRow>, StoreError> {
    let query = placed(columns!(" AND seq < $4 ORDER BY seq DESC LIMIT 1"), place);
    one(connection, query.bind(bigint(seq, "the seq")?)).await
}

/// The first chunk from `seq` on, up to `last`.
pub(crate) async fn first(
    connection: &mut PgConnection,
    place: Place,
    (seq, last): (u64, u64),
) -> Result<Option<ChunkRow>, StoreError> {
    Ok(page(connection, place, (seq.saturating_sub(1), last), 1).await?.pop())
}

/// Of the chunks up to `last`, that which starts latest at or before this time.
pub(crate) async fn started_at(
    connection: &mut PgConnection,
    place: Place,
    last: u64,
    time_ns: i64,
) -> Result<Option<ChunkRow>, StoreError> {
    let sql = columns!(
        " AND seq <= $4 AND start_time <= $5
          ORDER BY start_time DESC, seq DESC LIMIT 1"
    );
    let query = placed(sql, place)
        .bind(bigint(last, "the seq")?)
        .bind(Timestamp::of_ns(time_ns));
    one(connection, query).await
}

/// Around both ends of a range of time, where chunks are in order of time as of seq.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// The last two that start before the range, to the microsecond; in order.
    pub(crate) start: Vec<ChunkRow>,
    /// The last two that do not start after it; the last one first.
    pub(crate) end: Vec<ChunkRow>,
}

macro_rules! around {
    () => {
        "
(SELECT true AS of_start, seq, header, digest, quarantined, stored_bytes,
        (extract(epoch FROM loaded_at) * 1000000)::bigint * 1000 AS loaded_at_ns
   FROM chunk
  WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3 AND seq <= $4 AND start_time < $5
  ORDER BY start_time DESC, seq DESC LIMIT 2)
UNION ALL
(SELECT false, seq, header, digest, quarantined, stored_bytes,
        (extract(epoch FROM loaded_at) * 1000000)::bigint * 1000
   FROM chunk
  WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3 AND seq <= $4 AND start_time <= $6
  ORDER BY start_time DESC, seq DESC LIMIT 2)"
    };
}

/// Of the chunks up to `last`, those around both ends of a range of time; none for an end that is open.
pub(crate) async fn around(
    connection: &mut PgConnection,
    place: Place,
    last: u64,
    (from_ns, to_ns): (Option<i64>, Option<i64>),
) -> Result<Around, StoreError> {
    let query = placed(around!(), place)
        .bind(bigint(last, "the seq")?)
        .bind(from_ns.map(Timestamp::of_ns))
        .bind(to_ns.map(Timestamp::of_ns));
    let rows = within_limit(query.fetch_all(connection)).await?;
    let mut around = Around::default();
    for row in &rows {
        let side = if row.try_get("of_start")? {
            &mut around.start
        } else {
            &mut around.end
        };
        side.push(from_row(row)?);
    }
    // Each side came in its order; nothing promises that it stayed so.
    around.start.sort_by_key(|chunk| chunk.header.seq);
    around.end.sort_by_key(|chunk| std::cmp::Reverse(chunk.header.seq));
    Ok(around)
}

// `seq + 0`: the smallest of the few that an index on time finds, not the first of an index on seq that happens to fit.
const STARTED_WITHIN: &str = "
SELECT min(seq + 0), max(seq + 0) FROM chunk
 WHERE stream_id = $1
   AND start_time BETWEEN $2 AND $3
   AND seq <= $4
   AND ($5::timestamptz IS NULL OR start_time >= $5)
   AND ($6::timestamptz IS NULL OR start_time < $6)";

/// Of the chunks up to `last` that start in this time, the lowest and the highest seq. Microseconds decide: at the edges a
/// chunk more may be among them.
pub(crate) async fn started_within(
    connection: &mut PgConnection,
    place: Place,
    last: u64,
    from_ns: Option<i64>,
    to_ns: Option<i64>,
) -> Result<Option<(u64, u64)>, StoreError> {
    let query = placed(STARTED_WITHIN, place)
        .bind(bigint(last, "the seq")?)
        .bind(from_ns.map(Timestamp::of_ns))
        .bind(to_ns.map(|ns| Timestamp::of_us(ns.div_euclid(1_000) + 1)));
    let row = within_limit(query.fetch_one(connection)).await?;
    let seqs: (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let seq = |seq| unsigned(seq, "chunk.seq");
    seqs.0
        .zip(seqs.1)
        .map(|(low, high)| Ok((seq(low)?, seq(high)?)))
        .transpose()
}

const PAYLOADS: &str = "
SELECT seq, signal, payload FROM chunk_signal
 WHERE stream_id = $1 AND signal = ANY($4) AND seq BETWEEN $5 AND $6 AND payload IS NOT NULL
   AND start_time BETWEEN $2 AND $3
 ORDER BY seq, signal";

const PAYLOADS_OF: &str = "
SELECT seq, signal, payload FROM chunk_signal
 WHERE stream_id = $1 AND signal = ANY($4) AND seq = ANY($5) AND payload IS NOT NULL
   AND start_time BETWEEN $2 AND $3
 ORDER BY seq, signal";

/// The same, of chunks with these seqs.
pub(crate) async fn payloads_of(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u16],
    seqs: &[u64],
) -> Result<Vec<PayloadRow>, StoreError> {
    let seqs = seqs
        .iter()
        .map(|seq| bigint(*seq, "the seq"))
        .collect::<Result<Vec<_>, _>>()?;
    let query = placed(PAYLOADS_OF, place)
        .bind(signals.iter().copied().map(i32::from).collect::<Vec<_>>())
        .bind(seqs);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(payload_row).collect()
}

const PAYLOAD_SIZES: &str = "
SELECT seq, signal, octet_length(payload)::bigint AS size FROM chunk_signal
 WHERE stream_id = $1 AND seq BETWEEN $4 AND $5 AND payload IS NOT NULL
   AND start_time BETWEEN $2 AND $3
 ORDER BY seq, signal";

fn payload_place(row: &PgRow) -> Result<(u64, u16), StoreError> {
    let signal = u16::try_from(row.try_get::<i32, _>("signal")?);
    let signal = signal.map_err(|_| StoreError::Unexpected("chunk_signal.signal"))?;
    Ok((unsigned(row.try_get("seq")?, "chunk_signal.seq")?, signal))
}

/// The present columns of these signals, of chunks whose seqs lie in this range, in order of seq and signal.
pub(crate) async fn payloads(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u16],
    (first, last): (u64, u64),
) -> Result<Vec<PayloadRow>, StoreError> {
    let query = placed(PAYLOADS, place)
        .bind(signals.iter().copied().map(i32::from).collect::<Vec<_>>())
        .bind(bigint(first, "the seq")?)
        .bind(bigint(last, "the seq")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(payload_row).collect()
}

fn payload_row(row: &PgRow) -> Result<PayloadRow, StoreError> {
    let (seq, signal) = payload_place(row)?;
    let payload = Bytes::from(row.try_get::<Vec<u8>, _>("payload")?);
    Ok(PayloadRow { seq, signal, payload })
}

/// The sizes of the present columns: seq, bytes; in order of seq and signal.
pub(crate) async fn payload_sizes(
    connection: &mut PgConnection,
    place: Place,
    (first, last): (u64, u64),
) -> Result<Vec<(u64, u64)>, StoreError> {
    let query = placed(PAYLOAD_SIZES, place)
        .bind(bigint(first, "the seq")?)
        .bind(bigint(last, "the seq")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let size = |row: &PgRow| {
        let bytes = unsigned(row.try_get("size")?, "chunk_signal.payload")?;
        Ok((payload_place(row)?.0, bytes))
    };
    rows.iter().map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devdb::TestServer;
    use crate::store::partition::Partitions;
    use crate::store::{Database, chunk, read_gap, statement};

    const DECADE_NS: i64 = 315_576_000_000_000_000;

    /// Every read of the big tables, of a stream that was captured on one day, whatever else there is.
    #[tokio::test]
    async fn a_read_locks_only_the_partitions_of_its_stream() {
        let postgres = TestServer::start().await.expect("Postgres is installed");
        let database = Database::connect(&postgres.url(), 2).await.expect("it answers");
        let main = database.workspace("main").await.expect("it was created");
        let decades = (-28..29).map(|decade| decade * DECADE_NS);
        let made = Partitions::default().ensure(&database, &main, decades).await;
        made.expect("a partition for each decade");
        let day_ns = 86_400_000_000_000;
        let place = Place {
            stream: StreamId([1; 16]),
            times_ns: (DECADE_NS, DECADE_NS + day_ns),
        };
        let mut tx = database.begin_read(&main).await.expect("it begins");
        // A plan that serves all values would come with the sixth time.
        for _ in 0..7 {
            let sql = tx.connection();
            page(sql, place, (0, 9), 5).await.expect("it reads");
            page_backwards(sql, place, (0, 9), 5).await.expect("it reads");
            before(sql, place, 9).await.expect("it reads");
            started_at(sql, place, 9, DECADE_NS).await.expect("it reads");
            let range = (Some(DECADE_NS), Some(DECADE_NS + 1));
            started_within(sql, place, 9, range.0, range.1).await.expect("it reads");
            payloads(sql, place, &[1], (0, 9)).await.expect("it reads");
            payloads_of(sql, place, &[1], &[0, 9]).await.expect("it reads");
            around(sql, place, 9, range).await.expect("it reads");
            payload_sizes(sql, place, (0, 9)).await.expect("it reads");
            read_gap::page(sql, place, &[1], (0, 9), 5).await.expect("it reads");
            chunk::row_at(sql, place.stream, 9, place.times_ns)
                .await
                .expect("it reads");
        }
        let locked = "SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 'chunk'::regclass),
                             (SELECT count(DISTINCT relation) FROM pg_locks JOIN pg_class c ON c.oid = relation
                               WHERE pid = pg_backend_pid() AND relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relation))";
        let row = statement(locked).fetch_one(tx.connection()).await.expect("it answers");
        let (all, locked): (i64, i64) = (row.get(0), row.get(1));
        assert!(all > 50, "{all}");
        assert_eq!(locked, 2, "of `chunk` and of `chunk_signal`, of {all} each");
        tx.rollback().await;
    }

    /// A partition that was just filled has no statistics: the planner must not believe that it is empty.
    #[tokio::test]
    async fn a_time_is_found_by_index_in_a_partition_without_statistics() {
        let postgres = TestServer::start().await.expect("Postgres is installed");
        let database = Database::connect(&postgres.url(), 2).await.expect("it answers");
        let main = database.workspace("main").await.expect("it was created");
        let made = Partitions::default()
            .ensure(&database, &main, [DECADE_NS].into_iter())
            .await;
        made.expect("a partition");
        let mut tx = database.begin(&main).await.expect("it begins");
        let chunks = "INSERT INTO chunk (stream_id, first_seq, seq, kind, reason, quarantined, first_sample, sample_count, start_time, utc_ns,
                                         stored_bytes, hash, digest, header)
                      SELECT '\\x01010101010101010101010101010101', n, n, 1, 0, false, n * 1000, 1000,
                             to_timestamp(315576000 + n), (315576000 + n) * 1000000000, 1, '', '', ''
                        FROM generate_series(1::bigint, 5000) AS n";
        statement(chunks).execute(tx.connection()).await.expect("it is stored");
        tx.commit().await.expect("it commits");
        let mut tx = database.begin_read(&main).await.expect("it begins");
        let times_ns = (DECADE_NS, DECADE_NS + 6_000_000_000_000);
        let (from, to) = Timestamp::bounds(times_ns);
        let read = statement(concat!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ", around!()))
            .bind(vec![1u8; 16])
            .bind(from)
            .bind(to)
            .bind(5_000i64)
            .bind(Timestamp::of_ns(DECADE_NS + 2_000_000_000_000))
            .bind(Timestamp::of_ns(DECADE_NS + 3_000_000_000_000));
        let plan = read.fetch_one(tx.connection()).await.expect("it reads");
        let plan: String = plan.try_get_unchecked(0).expect("it is JSON");
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("it is JSON");
        let plan = &plan[0]["Plan"];
        assert_eq!(plan["Actual Rows"], 4, "{plan:#}");
        let pages = plan["Shared Hit Blocks"].as_i64().expect("a number")
            + plan["Shared Read Blocks"].as_i64().expect("a number");
        assert!(pages < 30, "{pages} pages: {plan:#}");
        tx.rollback().await;
    }
}
