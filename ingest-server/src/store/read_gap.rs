//! Reads what is missing of a stream: gaps, quarantined chunks and absent columns, by indexes that hold nothing else.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::chunk::Reason;

use super::error::StoreError;
use super::read_chunk::Place;
use super::read_stream::reason;
use super::timestamp::Timestamp;
use super::transaction::within_limit;
use super::{bigint, prepared, unsigned};

/// Samples that are missing in one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapRow {
    pub(crate) seq: u64,
    pub(crate) first_sample: u64,
    pub(crate) count: u64,
    /// UTC of the chunk's first sample.
    pub(crate) utc_ns: i64,
    pub(crate) reason: Reason,
    /// The numbers of the signals that are missing; None for all.
    pub(crate) signals: Option<Vec<u16>>,
}

const PAGE: &str = "
SELECT seq, first_sample, sample_count, utc_ns, CASE WHEN quarantined THEN 48 ELSE reason END AS reason,
       NULL::integer[] AS signals
  FROM chunk
 WHERE stream_id = $1 AND (kind = 2 OR quarantined) AND seq > $5 AND seq <= $6 AND start_time BETWEEN $2 AND $3
UNION ALL
SELECT s.seq, s.first_sample, s.sample_count, c.utc_ns, s.absent_reason, array_agg(s.signal ORDER BY s.signal)
  FROM chunk_signal s
  JOIN chunk c ON c.stream_id = s.stream_id AND c.seq = s.seq AND c.start_time = s.start_time
 WHERE s.stream_id = $1 AND s.absent_reason IS NOT NULL AND s.signal = ANY($4) AND s.seq > $5 AND s.seq <= $6
   AND NOT c.quarantined AND s.start_time BETWEEN $2 AND $3 AND c.start_time BETWEEN $2 AND $3
 GROUP BY s.seq, s.first_sample, s.sample_count, c.utc_ns, s.absent_reason
 ORDER BY seq, reason
 LIMIT $7";

/// What is missing of these signals in chunks with `after < seq ≤ last`, in order, at most `limit` rows. A chunk may have a
/// row for each reason.
pub(crate) async fn page(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u16],
    (after, last): (u64, u64),
    limit: usize,
) -> Result<Vec<GapRow>, StoreError> {
    let (from, to) = Timestamp::bounds(place.times_ns);
    let query = prepared(PAGE)
        .bind(place.stream.to_vec())
        .bind(from)
        .bind(to)
        .bind(signals.iter().copied().map(i32::from).collect::<Vec<_>>())
        .bind(bigint(after, "the seq")?)
        .bind(bigint(last, "the seq")?)
        .bind(bigint(limit as u64, "the number of gaps")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &PgRow) -> Result<GapRow, StoreError> {
    let count = |column| unsigned(row.try_get(column)?, column);
    let signals: Option<Vec<i32>> = row.try_get("signals")?;
    let signals = signals.map(|signals| signals.into_iter().map(u16::try_from).collect::<Result<_, _>>());
    let number: i32 = row.try_get("reason")?;
    let known = i16::try_from(number).ok().and_then(reason);
    Ok(GapRow {
        seq: count("seq")?,
        first_sample: count("first_sample")?,
        count: count("sample_count")?,
        utc_ns: row.try_get("utc_ns")?,
        reason: known.ok_or(StoreError::Unexpected("chunk.reason"))?,
        signals: signals
            .transpose()
            .map_err(|_| StoreError::Unexpected("chunk_signal.signal"))?,
    })
}
