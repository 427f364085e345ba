//! The rows of `envelope` that cover a chunk which is put in its place later: deleted, and written anew.
//!
//! The lowest are folded again from the samples of all chunks in them, by the code that ingest uses; each one above from the rows of the
//! level below. Where retention has dropped some of these, a bucket covers what is left. A bucket that is not complete has no row, and
//! its tower is built again from rows: see `towers`.
//!
//! # Invariants
//! - I8: after it, every row is what it would be had the chunk never been missing.
//! - It runs under the lock of the stream's row, in the transaction that puts the chunk in its place.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::Header;
use wavekeep_proto::power::POWER_NUMBER;

use super::envelope::EnvelopeRow;
use super::error::StoreError;
use super::read_chunk::{self, Place};
use super::read_envelope::{self, BucketRange};
use super::read_stream::StreamRow;
use super::stream::Facts;
use super::timestamp::Timestamp;
use super::{backfill, bigint, envelope, limits, statement, towers};
use crate::rollup::ancestors::{Ancestors, Known};
use crate::rollup::bucket_samples;
use crate::rollup::tower::Tower;

/// A chunk of the same bucket, of this seq, cannot be read as it was captured: nothing can be made of both.
pub(super) struct Damaged(pub(super) u64);

/// Of a samples chunk that has its rows already.
pub(super) async fn rebuild(
    connection: &mut PgConnection,
    place: Place,
    stream: &StreamRow,
    facts: &Facts,
    header: &Header,
) -> Result<Result<(), Damaged>, StoreError> {
    if facts.folded_seq < header.seq {
        // Whoever folds the rest of the stream comes by here.
        return Ok(Ok(()));
    }
    let above = Ancestors {
        levels: facts.levels(),
        first_sample: header.first_sample,
        end_sample: header.end_sample(),
        folded_to: folded_to(connection, place, stream, facts).await?,
    };
    if above.levels().next().is_none() {
        return Ok(Ok(()));
    }
    let (mut rows, mut known) = match lowest(connection, place, stream, facts, above).await? {
        Ok(rows) => (rows, siblings(connection, place, facts, above).await?),
        Err(damaged) => return Ok(Err(damaged)),
    };
    for row in &rows {
        let of = &row.completed;
        known.insert((of.signal, of.level, of.bucket), (of.utc_ns, of.whole));
    }
    let risen = above.rise(&mut known, |known, sample| facts.time_at(known, sample));
    let starts = starts(connection, place, above).await?;
    rows.extend(risen.into_iter().filter_map(|completed| {
        Some(EnvelopeRow {
            stream: place.stream,
            start_ns: *starts.get(&(completed.level, completed.bucket))?,
            completed,
        })
    }));
    delete(connection, place, above).await?;
    envelope::copy(connection, &rows).await?;
    Ok(Ok(()))
}

/// Buckets that end by here have their rows.
async fn folded_to(
    connection: &mut PgConnection,
    place: Place,
    stream: &StreamRow,
    facts: &Facts,
) -> Result<u64, StoreError> {
    let folded = facts.folded_seq;
    if folded == stream.at.seq {
        return Ok(stream.at.next_sample);
    }
    let last = read_chunk::page(connection, place, (folded - 1, folded), 1)
        .await?
        .pop();
    last.map(|row| row.header.end_sample())
        .ok_or(StoreError::Unexpected("the chunk at stream.folded_seq"))
}

/// The rows of the lowest level, from the samples.
async fn lowest(
    connection: &mut PgConnection,
    place: Place,
    stream: &StreamRow,
    facts: &Facts,
    above: Ancestors,
) -> Result<Result<Vec<EnvelopeRow>, Damaged>, StoreError> {
    let level = above.levels.first;
    let (buckets, size) = (above.buckets(level), bucket_samples(level));
    let range = (buckets.start * size, buckets.end * size);
    let Some((first, last)) = read_envelope::seqs(connection, place, range).await? else {
        return Ok(Ok(Vec::new()));
    };
    let (mut tower, mut rows, mut after) = (Tower::new(above.levels), Vec::new(), first - 1);
    loop {
        let headers = read_chunk::page(connection, place, (after, last), limits::BACKFILL_CHUNKS).await?;
        let Some(page_last) = headers.last() else {
            return Ok(Ok(rows));
        };
        after = page_last.header.seq;
        let chunks = match backfill::rows(connection, place, stream, headers).await? {
            Ok(chunks) => chunks,
            Err(seq) => return Ok(Err(Damaged(seq))),
        };
        let completed = towers::rows(&mut tower, place.stream, facts, &chunks);
        // The buckets beside them, and those above, are not all in these chunks.
        let is_one = |row: &EnvelopeRow| row.completed.level == level && buckets.contains(&row.completed.bucket);
        rows.extend(completed.into_iter().filter(is_one));
    }
}

/// Of each level, the rows that stay as they are and have a parent that does not.
async fn siblings(
    connection: &mut PgConnection,
    place: Place,
    facts: &Facts,
    above: Ancestors,
) -> Result<Known, StoreError> {
    let signals: Vec<u32> = facts.signals().map(u32::from).chain([POWER_NUMBER]).collect();
    let ranges = above.levels().skip(1).map(|parent| {
        let parents = above.buckets(parent);
        BucketRange {
            level: parent - 1,
            from: parents.start * 16,
            to: parents.end * 16,
        }
    });
    let rows = read_envelope::buckets(connection, place, &signals, &ranges.collect::<Vec<_>>()).await?;
    let stays = rows
        .into_iter()
        .filter(|row| !above.buckets(row.level).contains(&row.bucket));
    Ok(stays
        .map(|row| ((row.signal, row.level, row.bucket), (row.utc_ns, row.whole)))
        .collect())
}

const STARTS: &str = "
SELECT (SELECT utc_ns FROM chunk WHERE stream_id = $1 AND first_sample < e.end_sample AND start_time BETWEEN $2 AND $3
         ORDER BY first_sample DESC, seq DESC LIMIT 1)
  FROM unnest($4::bigint[]) WITH ORDINALITY AS e(end_sample, place)
 ORDER BY e.place";

/// When the chunks start that completed the buckets above the lowest.
async fn starts(
    connection: &mut PgConnection,
    place: Place,
    above: Ancestors,
) -> Result<HashMap<(u32, u64), i64>, StoreError> {
    let buckets = above.levels().skip(1);
    let buckets: Vec<(u32, u64)> = buckets
        .flat_map(|level| above.buckets(level).map(move |bucket| (level, bucket)))
        .collect();
    let ends = buckets
        .iter()
        .map(|(level, bucket)| bigint((bucket + 1) * bucket_samples(*level), "the sample id"));
    let (from, to) = Timestamp::bounds(place.times_ns);
    let query = statement(STARTS).bind(place.stream.to_vec()).bind(from).bind(to);
    let answers = query
        .bind(ends.collect::<Result<Vec<_>, _>>()?)
        .fetch_all(connection)
        .await?;
    let mut starts = HashMap::new();
    for (bucket, answer) in buckets.into_iter().zip(&answers) {
        if let Some(start_ns) = answer.try_get(0)? {
            starts.insert(bucket, start_ns);
        }
    }
    Ok(starts)
}

const DELETE: &str = "
DELETE FROM envelope e
 USING unnest($4::integer[], $5::bigint[], $6::bigint[]) AS r(level, from_bucket, to_bucket)
 WHERE e.stream_id = $1 AND e.level = r.level AND e.bucket >= r.from_bucket AND e.bucket < r.to_bucket
   AND e.start_time BETWEEN $2 AND $3";

async fn delete(connection: &mut PgConnection, place: Place, above: Ancestors) -> Result<(), StoreError> {
    let levels: Vec<u32> = above.levels().collect();
    let bounds = |bound: fn(std::ops::Range<u64>) -> u64| {
        let bounds = levels
            .iter()
            .map(|level| bigint(bound(above.buckets(*level)), "the bucket"));
        bounds.collect::<Result<Vec<_>, _>>()
    };
    let (from, to) = Timestamp::bounds(place.times_ns);
    statement(DELETE)
        .bind(place.stream.to_vec())
        .bind(from)
        .bind(to)
        .bind(levels.iter().map(|level| *level as i32).collect::<Vec<_>>())
        .bind(bounds(|range| range.start)?)
        .bind(bounds(|range| range.end)?)
        .execute(connection)
        .await?;
    Ok(())
}
