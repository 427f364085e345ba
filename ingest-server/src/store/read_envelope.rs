//! Reads of what is folded: the points of chunks, complete buckets and their children.
//!
//! Every statement is bounded by the times between which the stream's chunks start, as in `read_chunk`.
//!
//! # Invariants
//! - I12: the caller bounds seqs and buckets, and with them the rows of an answer.

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::envelope::unpacked;
use super::error::StoreError;
use super::read_chunk::{Place, placed};
use super::timestamp::Timestamp;
use super::transaction::within_limit;
use super::{bigint, points, prepared, unsigned};
use crate::rollup::bucket_samples;
use crate::rollup::envelope::{Bucket, Envelope};

/// One signal of a samples chunk, folded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PointRow {
    pub(crate) seq: u64,
    pub(crate) signal: u32,
    pub(crate) first_sample: u64,
    /// UTC of the first sample.
    pub(crate) utc_ns: i64,
    pub(crate) whole: Bucket,
    /// At the stream's point level.
    pub(crate) points: Vec<Envelope>,
}

impl PointRow {
    /// Each point with its first sample: cut at multiples of the level's bucket, and by the chunk. None where points are lost.
    pub(crate) fn buckets(&self, level: u32) -> Option<impl Iterator<Item = (u64, Bucket)> + '_> {
        let size = bucket_samples(level);
        let (first, end) = (self.first_sample, self.first_sample + self.whole.sample_count);
        let cells = first / size..end.div_ceil(size);
        let bucket = move |(cell, envelope): (u64, &Envelope)| {
            let (from, to) = ((cell * size).max(first), ((cell + 1) * size).min(end));
            let bucket = Bucket {
                sample_count: to - from,
                envelope: *envelope,
                exact: None,
            };
            (from, bucket)
        };
        let is_whole = self.points.len() as u64 == cells.end - cells.start;
        is_whole.then(|| cells.zip(&self.points).map(bucket))
    }
}

/// A complete bucket, without its children.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BucketRow {
    pub(crate) signal: u32,
    pub(crate) level: u32,
    pub(crate) bucket: u64,
    pub(crate) utc_ns: i64,
    pub(crate) whole: Bucket,
}

/// The children of a complete bucket, without their sums of squares; those without samples are empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChildrenRow {
    pub(crate) signal: u32,
    pub(crate) bucket: u64,
    pub(crate) utc_ns: i64,
    pub(crate) children: Vec<Bucket>,
}

/// Buckets of one level, from ≤ b < to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketRange {
    pub(crate) level: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

fn numbers(signals: &[u32]) -> Vec<i32> {
    signals.iter().map(|signal| *signal as i32).collect()
}

fn signal(row: &PgRow) -> Result<u32, StoreError> {
    u32::try_from(row.try_get::<i32, _>("signal")?).map_err(|_| StoreError::Unexpected("signal"))
}

/// From columns `sample_count, finite_count, min, max, sum, sumsq, min_exact, max_exact`; None where it is not folded.
pub(super) fn whole(row: &PgRow) -> Result<Option<Bucket>, StoreError> {
    let Some(finite) = row.try_get::<Option<i64>, _>("finite_count")? else {
        return Ok(None);
    };
    let number = |column| row.try_get::<Option<f64>, _>(column);
    let exact = |column: &'static str| {
        let text: Option<String> = row.try_get(column)?;
        let parsed = text.map(|text| text.parse::<i128>()).transpose();
        parsed.map_err(|_| StoreError::Unexpected(column))
    };
    Ok(Some(Bucket {
        sample_count: unsigned(row.try_get("sample_count")?, "sample_count")?,
        envelope: Envelope {
            count: unsigned(finite, "finite_count")?,
            min: number("min")?.unwrap_or(f64::INFINITY),
            max: number("max")?.unwrap_or(f64::NEG_INFINITY),
            sum: number("sum")?.unwrap_or(0.0),
            sumsq: number("sumsq")?.unwrap_or(0.0),
        },
        exact: exact("min_exact")?.zip(exact("max_exact")?),
    }))
}

const SEQS: &str = "
SELECT (SELECT seq FROM chunk WHERE stream_id = $1 AND first_sample <= $4 AND start_time BETWEEN $2 AND $3
         ORDER BY first_sample DESC, seq DESC LIMIT 1),
       (SELECT seq FROM chunk WHERE stream_id = $1 AND first_sample < $5 AND start_time BETWEEN $2 AND $3
         ORDER BY first_sample DESC, seq DESC LIMIT 1)";

/// The seqs of the chunks that hold samples from ≤ s < to: the first one, and the last.
pub(crate) async fn seqs(
    connection: &mut PgConnection,
    place: Place,
    (from_sample, to_sample): (u64, u64),
) -> Result<Option<(u64, u64)>, StoreError> {
    let (from, to) = Timestamp::bounds(place.times_ns);
    let query = prepared(SEQS)
        .bind(place.stream.to_vec())
        .bind(from)
        .bind(to)
        .bind(bigint(from_sample, "the sample id")?)
        .bind(bigint(to_sample, "the sample id")?);
    let row = within_limit(query.fetch_one(connection)).await?;
    let (first, last): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let seq = |seq| unsigned(seq, "chunk.seq");
    let Some(last) = last else { return Ok(None) };
    // Before the first chunk there is none: then all up to the last.
    Ok(Some((first.map_or(Ok(1), seq)?, seq(last)?)))
}

const POINTS: &str = "
SELECT seq, signal, first_sample, utc_ns, sample_count, finite_count, min, max, sum, sumsq, min_exact::text, max_exact::text,
       point_level, points
  FROM chunk_signal
 WHERE stream_id = $1 AND signal = ANY($4) AND seq BETWEEN $5 AND $6 AND finite_count IS NOT NULL
   AND start_time BETWEEN $2 AND $3
 ORDER BY seq, signal";

/// What is folded of these signals in chunks whose seqs lie in this range, in order of seq and signal.
pub(crate) async fn points(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u32],
    (first, last): (u64, u64),
) -> Result<Vec<PointRow>, StoreError> {
    let (from, to) = Timestamp::bounds(place.times_ns);
    let query = prepared(POINTS)
        .bind(place.stream.to_vec())
        .bind(from)
        .bind(to)
        .bind(numbers(signals))
        .bind(bigint(first, "the seq")?)
        .bind(bigint(last, "the seq")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(point_row).collect()
}

fn point_row(row: &PgRow) -> Result<PointRow, StoreError> {
    let level = u32::try_from(row.try_get::<i16, _>("point_level")?);
    let level = level.map_err(|_| StoreError::Unexpected("chunk_signal.point_level"))?;
    Ok(PointRow {
        seq: unsigned(row.try_get("seq")?, "chunk_signal.seq")?,
        signal: signal(row)?,
        first_sample: unsigned(row.try_get("first_sample")?, "chunk_signal.first_sample")?,
        utc_ns: row.try_get("utc_ns")?,
        whole: whole(row)?.ok_or(StoreError::Unexpected("chunk_signal.finite_count"))?,
        points: points::unpacked(level, row.try_get("points")?)?,
    })
}

/// What one signal of a samples chunk lies between; both infinite where nothing is finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extremes {
    pub(crate) seq: u64,
    pub(crate) signal: u32,
    pub(crate) finite_count: u64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

const EXTREMES: &str = "
SELECT seq, signal, finite_count, min, max FROM chunk_signal
 WHERE stream_id = $1 AND signal = ANY($4) AND seq BETWEEN $5 AND $6 AND finite_count IS NOT NULL
   AND start_time BETWEEN $2 AND $3";

/// Of these signals in chunks whose seqs lie in this range, as far as they are folded; in any order.
pub(crate) async fn extremes(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u32],
    (first, last): (u64, u64),
) -> Result<Vec<Extremes>, StoreError> {
    let query = placed(EXTREMES, place)
        .bind(numbers(signals))
        .bind(bigint(first, "the seq")?)
        .bind(bigint(last, "the seq")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let of = |row: &PgRow| {
        Ok(Extremes {
            seq: unsigned(row.try_get("seq")?, "chunk_signal.seq")?,
            signal: signal(row)?,
            finite_count: unsigned(row.try_get("finite_count")?, "chunk_signal.finite_count")?,
            min: row.try_get::<Option<f64>, _>("min")?.unwrap_or(f64::INFINITY),
            max: row.try_get::<Option<f64>, _>("max")?.unwrap_or(f64::NEG_INFINITY),
        })
    };
    rows.iter().map(of).collect()
}

/// Rows of `envelope` of some ranges, in order of level, bucket and signal; with more columns than the fold. OFFSET 0: range by range. A
/// planner without statistics would read all that the stream has, and join that with the ranges.
macro_rules! bucket_rows {
    ($more:literal) => {
        concat!(
            "SELECT e.signal, e.level::integer AS level, e.bucket, e.utc_ns, e.sample_count, e.finite_count, e.min, e.max, e.sum, e.sumsq,
                    e.min_exact::text, e.max_exact::text",
            $more,
            " FROM unnest($5::integer[], $6::bigint[], $7::bigint[]) AS r(level, from_bucket, to_bucket)
             CROSS JOIN unnest($4::integer[]) AS g(signal)
             CROSS JOIN LATERAL (SELECT * FROM envelope e
                                  WHERE e.stream_id = $1 AND e.signal = g.signal AND e.level = r.level AND e.bucket >= r.from_bucket
                                    AND e.bucket < r.to_bucket AND e.start_time BETWEEN $2 AND $3
                                 OFFSET 0) AS e
             ORDER BY e.level, e.bucket, e.signal"
        )
    };
}
pub(super) use bucket_rows;

/// A statement of `bucket_rows!` with its arguments.
pub(super) fn of_ranges(
    sql: &'static str,
    place: Place,
    signals: &[u32],
    ranges: &[BucketRange],
) -> Result<Query<'static, Postgres, PgArguments>, StoreError> {
    let bounds = |bound: fn(&BucketRange) -> u64| {
        let bounds = ranges.iter().map(|range| bigint(bound(range), "the bucket"));
        bounds.collect::<Result<Vec<_>, _>>()
    };
    Ok(placed(sql, place)
        .bind(numbers(signals))
        .bind(ranges.iter().map(|range| range.level as i32).collect::<Vec<_>>())
        .bind(bounds(|range| range.from)?)
        .bind(bounds(|range| range.to)?))
}

/// The complete buckets of these ranges that have samples, in order of level, bucket and signal.
pub(crate) async fn buckets(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u32],
    ranges: &[BucketRange],
) -> Result<Vec<BucketRow>, StoreError> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let query = of_ranges(bucket_rows!(""), place, signals, ranges)?;
    let rows = within_limit(query.fetch_all(connection)).await?;
    let bucket = |row: &PgRow| {
        let level = u32::try_from(row.try_get::<i32, _>("level")?);
        Ok(BucketRow {
            signal: signal(row)?,
            level: level.map_err(|_| StoreError::Unexpected("envelope.level"))?,
            bucket: unsigned(row.try_get("bucket")?, "envelope.bucket")?,
            utc_ns: row.try_get("utc_ns")?,
            whole: whole(row)?.ok_or(StoreError::Unexpected("envelope.finite_count"))?,
        })
    };
    rows.iter().map(bucket).collect()
}

const CHILDREN: &str = "
SELECT signal, bucket, utc_ns, children
  FROM envelope
 WHERE stream_id = $1 AND signal = ANY($4) AND level = $5::smallint AND bucket >= $6 AND bucket < $7
   AND start_time BETWEEN $2 AND $3";

/// The children of the complete buckets of a range that have samples, in any order.
pub(crate) async fn children(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u32],
    range: BucketRange,
) -> Result<Vec<ChildrenRow>, StoreError> {
    let (from, to) = Timestamp::bounds(place.times_ns);
    let query = prepared(CHILDREN)
        .bind(place.stream.to_vec())
        .bind(from)
        .bind(to)
        .bind(numbers(signals))
        .bind(range.level as i16)
        .bind(bigint(range.from, "the bucket")?)
        .bind(bigint(range.to, "the bucket")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(|row| children_row(row, range.level)).collect()
}

fn children_row(row: &PgRow, level: u32) -> Result<ChildrenRow, StoreError> {
    // By place: there are thousands of these rows, and names are looked up.
    let children = unpacked(level, row.try_get(3)?);
    let signal = u32::try_from(row.try_get::<i32, _>(0)?);
    Ok(ChildrenRow {
        signal: signal.map_err(|_| StoreError::Unexpected("envelope.signal"))?,
        bucket: unsigned(row.try_get(1)?, "envelope.bucket")?,
        utc_ns: row.try_get(2)?,
        children: children.ok_or(StoreError::Unexpected("envelope.children"))?,
    })
}

#[cfg(test)]
mod tests {
    use wavekeep_proto::id::StreamId;

    use super::*;
    use crate::devdb::TestServer;
    use crate::store::partition::Partitions;
    use crate::store::{Database, statement};

    const FROM_NS: i64 = 315_576_000_000_000_000;

    /// Of a stream of hours, a few buckets are a few pages, also before the database has statistics.
    #[tokio::test]
    async fn buckets_are_found_by_index_in_a_partition_without_statistics() {
        let postgres = TestServer::start().await.expect("Postgres is installed");
        let database = Database::connect(&postgres.url(), 2).await.expect("it answers");
        let main = database.workspace("main").await.expect("it was created");
        let made = Partitions::default()
            .ensure(&database, &main, [FROM_NS].into_iter())
            .await;
        made.expect("a partition");
        let mut tx = database.begin(&main).await.expect("it begins");
        let rows = "INSERT INTO envelope (stream_id, signal, level, bucket, start_time, utc_ns, sample_count, finite_count)
                    SELECT '\\x01010101010101010101010101010101', signal, 4, n, to_timestamp(315576000 + n / 10), 0, 1, 0
                      FROM generate_series(1::bigint, 10000) AS n, generate_series(0, 1) AS signal";
        statement(rows).execute(tx.connection()).await.expect("it is stored");
        tx.commit().await.expect("it commits");
        let mut tx = database.begin_read(&main).await.expect("it begins");
        let place = Place {
            stream: StreamId([1; 16]),
            times_ns: (FROM_NS, FROM_NS + 1_000_000_000_000),
        };
        let ranges = [(10, 13), (5_000, 5_002), (9_000, 9_004)];
        let ranges = ranges.map(|(from, to)| BucketRange { level: 4, from, to });
        let sql = concat!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ", bucket_rows!(""));
        let read = of_ranges(sql, place, &[0, 1], &ranges).expect("they fit");
        let plan = read.fetch_one(tx.connection()).await.expect("it reads");
        let plan: String = plan.try_get_unchecked(0).expect("it is JSON");
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("it is JSON");
        let plan = &plan[0]["Plan"];
        assert_eq!(plan["Actual Rows"], 18, "{plan:#}");
        let pages = ["Shared Hit Blocks", "Shared Read Blocks"].map(|of| plan[of].as_i64().expect("a number"));
        assert!(pages[0] + pages[1] < 60, "{pages:?} pages: {plan:#}");
        tx.rollback().await;
    }
}
