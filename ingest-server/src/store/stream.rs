//! Table `stream`: what exactly-once rests on.
//!
//! # Invariants
//! - I7: [`open`] replaces the owner, and [`advance`] moves only rows of the owner that the entry names.
//! - I1: [`advance`] moves a row only from the very position (seq, next sample, digest, not ended) that the entry follows.
//! - A chunk is replayed from quarantine under the lock of this row, and moves neither watermark nor digest.
//! - I14: the digest of a row is the one that the entry brings; it is compared before it is replaced.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::chunk::{ChunkKind, Position};
use wavekeep_proto::hash::definition_hash;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::wire;

use prost::Message;

use super::error::StoreError;
use super::text::{clean, json_object};
use super::{bigint, statement, unsigned};
use crate::ledger::{Entry, OpenRequest, Row as LedgerRow};
use crate::rollup::Levels;

const OPEN: &str = "
INSERT INTO stream (id, definition, definition_hash, device, epoch, file_identity, predecessor_id, predecessor_seq, rate_hz,
                    first_sample, signals, signal_numbers, sample_types, attributes, labels, run,
                    watermark, next_sample, digest, ended, owner)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $13, $14::text::jsonb, $15::text::jsonb, $16,
        0, $10, $3, false, $17)
ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, labels = excluded.labels, run = excluded.run, opened_at = now()
 WHERE stream.definition_hash = excluded.definition_hash
RETURNING watermark, next_sample, digest, ended, first_time_ns, last_time_ns";

const LOCK: &str = "SELECT id, rate_hz, signal_numbers, sample_types, folded_seq, quarantined, first_time_ns, last_time_ns FROM stream WHERE id = ANY($1) ORDER BY id FOR UPDATE";

const ADVANCE: &str = "
UPDATE stream s
   SET watermark = e.seq, next_sample = e.next_sample, digest = e.digest, ended = e.ended, end_reason = e.end_reason,
       first_time_ns = least(s.first_time_ns, e.first_time_ns), last_time_ns = greatest(s.last_time_ns, e.last_time_ns),
       sample_count = s.sample_count + e.sample_count, chunk_count = s.chunk_count + e.chunk_count,
       stored_bytes = s.stored_bytes + e.stored_bytes, quarantined = s.quarantined + e.quarantined, committed_at = now(),
       folded_seq = CASE WHEN e.folded AND s.folded_seq = s.watermark THEN e.seq ELSE s.folded_seq END,
       last_start_ns = e.last_start_ns,
       time_stepped = s.time_stepped OR e.time_stepped OR coalesce(e.first_start_ns < s.last_start_ns, false)
  FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bytea[],
              $9::boolean[], $10::smallint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
              $16::bigint[], $17::boolean[], $18::bigint[], $19::bigint[],
              $20::boolean[])
       WITH ORDINALITY
    AS e(id, owner, watermark_before, first_sample, digest_before, seq, next_sample, digest, ended, end_reason,
         first_time_ns, last_time_ns, sample_count, chunk_count, stored_bytes, quarantined, folded, first_start_ns, last_start_ns,
         time_stepped, place)
 WHERE s.id = e.id AND s.owner = e.owner AND s.watermark = e.watermark_before AND s.next_sample = e.first_sample
   AND s.digest = e.digest_before AND NOT s.ended
RETURNING e.place";

/// A row, as [`open`] found or made it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    /// Where it stands.
    pub(super) at: Position,
    /// Earliest start and latest end of its chunks; None before the first.
    pub(super) times_ns: Option<(i64, i64)>,
}

/// What the writer needs of a definition.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    rate_hz: f64,
    sample_types: HashMap<u16, i16>,
    /// Up to here all envelopes are written.
    pub(super) folded_seq: u64,
    /// Chunks in quarantine.
    pub(super) quarantined: u64,
    /// Earliest start and latest end of its chunks; None before the first.
    pub(super) times_ns: Option<(i64, i64)>,
}

impl Facts {
    /// So many samples after `utc_ns`, at the stream's nominal rate; within what 64 bits hold.
    pub(super) fn time_after(&self, utc_ns: i64, samples: u64) -> i64 {
        let whole_s = (samples as f64 / self.rate_hz).floor();
        let rest = (samples as f64 - whole_s * self.rate_hz) / self.rate_hz;
        utc_ns
            .saturating_add((whole_s * 1e9) as i64)
            .saturating_add((rest * 1e9).round() as i64)
    }

    /// UTC of a sample by one whose time is known, at the stream's nominal rate, before it or after.
    pub(super) fn time_at(&self, known: (u64, i64), sample: u64) -> i64 {
        let (known_sample, utc_ns) = known;
        if sample >= known_sample {
            self.time_after(utc_ns, sample - known_sample)
        } else {
            utc_ns.saturating_sub(self.time_after(0, known_sample - sample))
        }
    }

    /// The levels of its envelopes.
    pub(super) fn levels(&self) -> Levels {
        Levels::of_rate(self.rate_hz)
    }

    /// The numbers of its signals.
    pub(super) fn signals(&self) -> impl Iterator<Item = u16> + '_ {
        self.sample_types.keys().copied()
    }

    /// The number of a signal's sample type.
    pub(super) fn sample_type(&self, signal: u16) -> Result<i16, StoreError> {
        self.sample_types
            .get(&signal)
            .copied()
            .ok_or(StoreError::Unexpected("stream.signal_numbers"))
    }
}

fn signals_json(definition: &StreamDefinition) -> String {
    let signal = |signal: &wavekeep_proto::stream::Signal| {
        serde_json::json!({
            "number": signal.number, "name": clean(&signal.name), "type": signal.sample_type.name(),
            "unit": clean(&signal.unit), "finite_only": signal.finite_only,
        })
    };
    definition
        .signals
        .iter()
        .map(signal)
        .collect::<serde_json::Value>()
        .to_string()
}

fn position(row: &PgRow) -> Result<Position, StoreError> {
    let digest = Hash::from_slice(row.try_get("digest")?);
    Ok(Position {
        seq: unsigned(row.try_get("watermark")?, "stream.watermark")?,
        next_sample: unsigned(row.try_get("next_sample")?, "stream.next_sample")?,
        digest: digest.map_err(|_| StoreError::Unexpected("stream.digest"))?,
        ended: row.try_get("ended")?,
    })
}

/// Takes the row for the request's owner, making it if it is new. None: the id has another definition.
pub(super) async fn open(connection: &mut PgConnection, request: &OpenRequest) -> Result<Option<Opened>, StoreError> {
    let definition = &request.definition;
    let predecessor = definition.predecessor.as_ref();
    let predecessor_seq = predecessor
        .map(|predecessor| bigint(predecessor.seq, "the predecessor's seq"))
        .transpose()?;
    let numbers: Vec<i32> = definition
        .signals
        .iter()
        .map(|signal| i32::from(signal.number))
        .collect();
    let sample_types: Vec<i16> = definition
        .signals
        .iter()
        .map(|signal| signal.sample_type as i16)
        .collect();
    let row = statement(OPEN)
        .bind(definition.id.as_bytes().as_slice())
        .bind(wire::definition_to_wire(definition).encode_to_vec())
        .bind(definition_hash(definition).to_vec())
        .bind(clean(&definition.device).into_owned())
        .bind(definition.epoch.to_vec())
        .bind(definition.is_file().then(|| definition.file_identity.clone()))
        .bind(predecessor.map(|predecessor| predecessor.stream_id.to_vec()))
        .bind(predecessor_seq)
        .bind(definition.rate_hz)
        .bind(bigint(definition.first_sample, "the first sample id")?)
        .bind(signals_json(definition))
        .bind(numbers)
        .bind(sample_types)
        .bind(json_object(&definition.attributes))
        .bind(json_object(&request.labels))
        .bind((!request.run.is_empty()).then(|| clean(&request.run).into_owned()))
        .bind(request.owner.to_vec())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let times_ns: (Option<i64>, Option<i64>) = (row.try_get("first_time_ns")?, row.try_get("last_time_ns")?);
    Ok(Some(Opened {
        at: position(&row)?,
        times_ns: times_ns.0.zip(times_ns.1),
    }))
}

/// Locks the rows in order of id, so that two servers never wait for each other. A row that is gone is not in the answer.
pub(super) async fn lock(
    connection: &mut PgConnection,
    entries: &[Entry],
) -> Result<HashMap<StreamId, Facts>, StoreError> {
    let ids: Vec<StreamId> = entries.iter().map(|entry| entry.stream).collect();
    lock_rows(connection, &ids).await
}

/// The same, of these streams.
pub(super) async fn lock_rows(
    connection: &mut PgConnection,
    ids: &[StreamId],
) -> Result<HashMap<StreamId, Facts>, StoreError> {
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let rows = statement(LOCK).bind(ids).fetch_all(connection).await?;
    let facts = |row: &PgRow| {
        let id = StreamId::from_slice(row.try_get("id")?).map_err(|_| StoreError::Unexpected("stream.id"))?;
        let numbers: Vec<i32> = row.try_get("signal_numbers")?;
        let sample_types: Vec<i16> = row.try_get("sample_types")?;
        let numbers = numbers.into_iter().map(u16::try_from).collect::<Result<Vec<_>, _>>();
        let numbers = numbers.map_err(|_| StoreError::Unexpected("stream.signal_numbers"))?;
        let times_ns: (Option<i64>, Option<i64>) = (row.try_get("first_time_ns")?, row.try_get("last_time_ns")?);
        Ok((
            id,
            Facts {
                rate_hz: row.try_get("rate_hz")?,
                sample_types: numbers.into_iter().zip(sample_types).collect(),
                folded_seq: unsigned(row.try_get("folded_seq")?, "stream.folded_seq")?,
                quarantined: unsigned(row.try_get("quarantined")?, "stream.quarantined")?,
                times_ns: times_ns.0.zip(times_ns.1),
            },
        ))
    };
    rows.iter().map(facts).collect()
}

/// What the rows of an entry add to the stream's counts.
#[derive(Debug, Default)]
struct Added {
    times_ns: Option<(i64, i64)>,
    /// Of the first row, and of the last.
    starts_ns: Option<(i64, i64)>,
    /// Does a row start before the one that it follows?
    time_stepped: bool,
    samples: u64,
    bytes: u64,
    quarantined: i64,
}

impl Added {
    fn of(rows: &[LedgerRow], facts: Option<&Facts>) -> Self {
        let mut added = Self::default();
        for row in rows {
            let header = &row.chunk.header;
            let end_ns = facts.map_or(header.utc_ns, |facts| facts.time_after(header.utc_ns, header.count));
            let (first, last) = added.times_ns.unwrap_or((header.utc_ns, end_ns));
            added.times_ns = Some((first.min(header.utc_ns), last.max(end_ns)));
            let (first_start, last_start) = added.starts_ns.unwrap_or((header.utc_ns, header.utc_ns));
            added.time_stepped |= header.utc_ns < last_start;
            added.starts_ns = Some((first_start, header.utc_ns));
            if row.quarantine.is_some() {
                added.quarantined += 1;
            } else if header.kind == ChunkKind::Samples {
                added.samples += header.count;
            }
            added.bytes += row.chunk.columns.iter().map(|column| column.len() as u64).sum::<u64>();
        }
        added
    }
}

/// Can its envelopes be written with it?
pub(super) fn is_folded(entry: &Entry) -> bool {
    !entry.rows.iter().any(LedgerRow::is_unfolded)
}

/// Why a stream ends with an entry; None where it does not.
fn end_reason(entry: &Entry) -> Option<i16> {
    let last = entry.rows.last().filter(|_| entry.after.ended)?;
    Some(last.chunk.header.reason as i16)
}

/// The compare-and-set. Answers, in the order of `entries`, whose rows moved: the others are fenced.
pub(super) async fn advance(
    connection: &mut PgConnection,
    entries: &[Entry],
    facts: &HashMap<StreamId, Facts>,
) -> Result<Vec<bool>, StoreError> {
    let added: Vec<Added> = entries
        .iter()
        .map(|entry| Added::of(&entry.rows, facts.get(&entry.stream)))
        .collect();
    let bytes =
        |field: fn(&Entry) -> &[u8; 16]| entries.iter().map(|entry| field(entry).as_slice()).collect::<Vec<_>>();
    let numbers = |field: fn(&Entry) -> u64, what| {
        entries
            .iter()
            .map(|entry| bigint(field(entry), what))
            .collect::<Result<Vec<_>, _>>()
    };
    let counts = |field: fn(&Added) -> u64, what| {
        added
            .iter()
            .map(|added| bigint(field(added), what))
            .collect::<Result<Vec<_>, _>>()
    };
    let some = |field: fn(&Added) -> Option<i64>| added.iter().map(field).collect::<Vec<_>>();
    let query = statement(ADVANCE)
        .bind(bytes(|entry| entry.stream.as_bytes()))
        .bind(bytes(|entry| entry.owner.as_bytes()))
        .bind(numbers(|entry| entry.before.seq, "the watermark")?)
        .bind(numbers(|entry| entry.before.next_sample, "the next sample id")?)
        .bind(bytes(|entry| entry.before.digest.as_bytes()))
        .bind(numbers(|entry| entry.after.seq, "the watermark")?)
        .bind(numbers(|entry| entry.after.next_sample, "the next sample id")?)
        .bind(bytes(|entry| entry.after.digest.as_bytes()))
        .bind(entries.iter().map(|entry| entry.after.ended).collect::<Vec<_>>())
        .bind(entries.iter().map(end_reason).collect::<Vec<_>>())
        .bind(some(|added| added.times_ns.map(|times| times.0)))
        .bind(some(|added| added.times_ns.map(|times| times.1)))
        .bind(counts(|added| added.samples, "the number of samples")?)
        .bind(entries.iter().map(|entry| entry.rows.len() as i64).collect::<Vec<_>>())
        .bind(counts(|added| added.bytes, "the number of bytes")?)
        .bind(added.iter().map(|added| added.quarantined).collect::<Vec<_>>())
        .bind(entries.iter().map(is_folded).collect::<Vec<_>>())
        .bind(some(|added| added.starts_ns.map(|starts| starts.0)))
        .bind(some(|added| added.starts_ns.map(|starts| starts.1)))
        .bind(added.iter().map(|added| added.time_stepped).collect::<Vec<_>>());
    let mut moved = vec![false; entries.len()];
    for row in query.fetch_all(connection).await? {
        let place: i64 = row.try_get("place")?;
        let entry = usize::try_from(place - 1).ok().and_then(|place| moved.get_mut(place));
        *entry.ok_or(StoreError::Unexpected("the answer to UPDATE stream"))? = true;
    }
    Ok(moved)
}

/// A chunk has left quarantine, and so many of its samples are stored now.
pub(super) async fn replayed(connection: &mut PgConnection, id: StreamId, samples: u64) -> Result<(), StoreError> {
    statement("UPDATE stream SET sample_count = sample_count + $2, quarantined = quarantined - 1 WHERE id = $1")
        .bind(id.to_vec())
        .bind(bigint(samples, "the number of samples")?)
        .execute(connection)
        .await?;
    Ok(())
}
