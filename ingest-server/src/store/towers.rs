//! The unfinished buckets of the streams that this server writes, kept between commits; built from rows where they are not.
//!
//! # Invariants
//! - I8: a tower is used only by the owner that left it and at the very position where it was left: whoever took the row since,
//!   or brought the database back from a copy, has another owner. A commit that did not certainly happen leaves none. Nor is it used
//!   after a chunk was replayed from quarantine: `stream.quarantined` tells, which nothing else lowers, and raises only with the position.
//! - I12: all of them take at most [`limits::TOWER_BYTES_MAX`]; the one that was used longest ago goes first, and is built again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::{ChunkKind, Position};
use wavekeep_proto::id::{Owner, StreamId};
use wavekeep_proto::power::POWER_NUMBER;

use super::envelope::EnvelopeRow;
use super::error::StoreError;
use super::limits;
use super::read_chunk::Place;
use super::read_envelope::{self, BucketRange, PointRow};
use super::stream::Facts;
use crate::ledger::{Entry, Row};
use crate::rollup::envelope::Bucket;
use crate::rollup::tower::{Completed, Tower};
use crate::rollup::{LEVEL_MAX, Levels, bucket_samples};

/// A tower as a commit leaves it.
#[derive(Debug)]
pub(super) struct Left {
    stream: StreamId,
    owner: Owner,
    at: Position,
    /// Chunks of the stream in quarantine.
    quarantined: u64,
    tower: Tower,
}

#[derive(Debug)]
struct Kept {
    left: Left,
    bytes: usize,
    /// Rises with every use.
    used: u64,
}

#[derive(Debug, Default)]
struct Inner {
    kept: HashMap<(String, StreamId), Kept>,
    bytes: usize,
    uses: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Towers(Mutex<Inner>);

impl Inner {
    fn remove(&mut self, key: &(String, StreamId)) -> Option<Left> {
        let kept = self.kept.remove(key)?;
        self.bytes -= kept.bytes;
        Some(kept.left)
    }
}

impl Towers {
    /// What the last commit of this entry's owner left, if it left off where the entry begins. It is here no more.
    fn take(&self, schema: &str, entry: &Entry, facts: &Facts) -> Option<Tower> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = inner.remove(&(schema.to_owned(), entry.stream))?;
        let is_current = left.owner == entry.owner && left.at == entry.before && left.quarantined == facts.quarantined;
        is_current.then_some(left.tower)
    }

    /// After COMMIT has answered.
    pub(super) fn keep(&self, schema: &str, all: Vec<Left>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for left in all.into_iter().filter(|left| !left.at.ended) {
            let key = (schema.to_owned(), left.stream);
            inner.remove(&key);
            let bytes = left.tower.bytes();
            inner.uses += 1;
            inner.bytes += bytes;
            let used = inner.uses;
            inner.kept.insert(key, Kept { left, bytes, used });
        }
        while inner.bytes > limits::TOWER_BYTES_MAX {
            let oldest = inner.kept.iter().min_by_key(|(_, kept)| kept.used);
            let oldest = oldest.map(|(key, _)| key.clone()).expect("bytes are of something");
            inner.remove(&oldest);
        }
    }

    /// The buckets that the rows of an entry complete, and the tower that they leave; None where the stream's envelopes stop before.
    pub(super) async fn grow(
        &self,
        connection: &mut PgConnection,
        schema: &str,
        entry: &Entry,
        facts: &Facts,
    ) -> Result<Option<(Vec<EnvelopeRow>, Left)>, StoreError> {
        let kept = self.take(schema, entry, facts);
        if facts.folded_seq != entry.before.seq || !super::stream::is_folded(entry) {
            return Ok(None);
        }
        let mut tower = match kept {
            Some(tower) => tower,
            None => load(connection, entry.stream, facts, &entry.before).await?,
        };
        let rows = rows(&mut tower, entry.stream, facts, &entry.rows);
        let left = Left {
            stream: entry.stream,
            owner: entry.owner,
            at: entry.after,
            quarantined: facts.quarantined + entry.rows.iter().filter(|row| row.quarantine.is_some()).count() as u64,
            tower,
        };
        Ok(Some((rows, left)))
    }
}

/// Takes chunks in, in order, and gives out what they complete.
pub(super) fn rows(tower: &mut Tower, stream: StreamId, facts: &Facts, chunks: &[Row]) -> Vec<EnvelopeRow> {
    let (mut rows, mut out) = (Vec::new(), Vec::new());
    for row in chunks {
        let header = &row.chunk.header;
        let utc = |sample| facts.time_at((header.first_sample, header.utc_ns), sample);
        if row.quarantine.is_none() && header.kind == ChunkKind::Samples {
            for fold in &row.folds {
                for (bucket, piece) in &fold.pieces {
                    tower.piece(fold.signal, *bucket, piece, &utc, &mut out);
                }
            }
        }
        tower.close(header.end_sample(), &utc, &mut out);
        rows.extend(out.drain(..).map(|completed: Completed| EnvelopeRow {
            stream,
            start_ns: header.utc_ns,
            completed,
        }));
    }
    rows
}

/// The unfinished buckets at a position, from rows.
pub(super) async fn load(
    connection: &mut PgConnection,
    stream: StreamId,
    facts: &Facts,
    at: &Position,
) -> Result<Tower, StoreError> {
    let levels = facts.levels();
    let mut tower = Tower::new(levels);
    let Some(times_ns) = facts.times_ns else {
        return Ok(tower);
    };
    let place = Place { stream, times_ns };
    let signals: Vec<u32> = facts.signals().map(u32::from).chain([POWER_NUMBER]).collect();
    let end = at.next_sample;
    let below = |level| end / bucket_samples(level);
    let unfinished = (levels.first..LEVEL_MAX).map(|level| BucketRange {
        level,
        from: below(level + 1) * 16,
        to: below(level),
    });
    let unfinished: Vec<_> = unfinished.filter(|range| range.from < range.to).collect();
    for row in read_envelope::buckets(connection, place, &signals, &unfinished).await? {
        let start = row.bucket * bucket_samples(row.level);
        let utc = |sample| facts.time_at((start, row.utc_ns), sample);
        tower.child(row.signal, row.level, row.bucket, row.whole, &utc);
    }
    load_pieces(connection, place, &signals, facts, at, &mut tower).await?;
    Ok(tower)
}

/// The chunks since the start of the lowest unfinished bucket.
async fn load_pieces(
    connection: &mut PgConnection,
    place: Place,
    signals: &[u32],
    facts: &Facts,
    at: &Position,
    tower: &mut Tower,
) -> Result<(), StoreError> {
    let levels = facts.levels();
    let from = at.next_sample / bucket_samples(levels.first) * bucket_samples(levels.first);
    if from == at.next_sample {
        return Ok(());
    }
    let Some((first, last)) = read_envelope::seqs(connection, place, (from, at.next_sample)).await? else {
        return Ok(());
    };
    let (mut out, mut page, mut known) = (Vec::new(), first, None);
    while page <= last.min(at.seq) {
        let to = last.min(page + limits::LOAD_CHUNKS - 1);
        for row in read_envelope::points(connection, place, signals, (page, to)).await? {
            known = Some((row.first_sample, row.utc_ns));
            let utc = |sample| facts.time_at((row.first_sample, row.utc_ns), sample);
            for (bucket, piece) in pieces(levels, &row)? {
                if bucket * bucket_samples(levels.piece()) >= from {
                    tower.piece(row.signal, bucket, &piece, &utc, &mut out);
                }
            }
        }
        page = to + 1;
    }
    if let Some(known) = known {
        tower.close(at.next_sample, &|sample| facts.time_at(known, sample), &mut out);
    }
    assert!(out.is_empty(), "I8: nothing is completed twice");
    Ok(())
}

/// Points of a chunk by the bucket of the piece level that they lie in.
fn pieces(levels: Levels, row: &PointRow) -> Result<BTreeMap<u64, Bucket>, StoreError> {
    let points = row.buckets(levels.point);
    let points = points.ok_or(StoreError::Unexpected("chunk_signal.points"))?;
    let mut pieces: BTreeMap<u64, Bucket> = BTreeMap::new();
    for (from, point) in points {
        let piece = pieces.entry(from / bucket_samples(levels.piece()));
        piece.or_insert(Bucket::EMPTY).merge(&point);
    }
    // Extremes that f64 does not hold are known of the chunk alone.
    let only = pieces.first_entry();
    if let Some(mut only) = only.filter(|only| only.get().sample_count == row.whole.sample_count) {
        only.get_mut().exact = row.whole.exact;
    }
    Ok(pieces)
}
