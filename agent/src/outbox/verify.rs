//! Looking an outbox over: [`Outbox::status`] from what every start reads, [`Outbox::verify`] from every byte that is held.
//! Both change nothing: they work on an outbox that was opened by [`Outbox::inspect`], and on one in use (where `verify` may
//! then call damaged what was changing just then).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wavekeep_proto::chunk::ChunkKind;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::uplink::Outbox as _;

use super::find::{self, Found};
use super::kv::{Kv, KvError};
use super::record::{self, Described, Identity, Mark, State};
use super::table::Stream;
use super::{Outbox, OutboxError, keys, start};

/// Is this what was written under this key?
type IsGood<'a> = &'a dyn Fn(&[u8], &[u8]) -> bool;
/// Sees a readable record, and its columns if those are intact.
type SeeRecord<'a, E> = dyn FnMut(&Found, Option<&[u8]>) -> Result<(), E> + 'a;

/// Damaged ranges that a report lists one by one; more are only counted.
const RANGES_MAX: usize = 100;

/// What is known without looking at any chunk but the oldest un-acked one of each stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxReport {
    /// The identity of this outbox, 32 hexadecimal digits.
    pub agent_id: String,
    /// The ledger that it is bound to.
    pub ledger_id: Option<String>,
    /// Bytes of all records held.
    pub held_bytes: u64,
    /// Of these, bytes that no ack covers.
    pub unacked_bytes: u64,
    /// Bytes on the disk, roughly: with what is deleted and not given back yet.
    pub disk_bytes: u64,
    /// Per stream.
    pub streams: Vec<StreamReport>,
}

/// One stream, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// 32 hexadecimal digits.
    pub stream: String,
    /// The instrument.
    pub device: String,
    /// The run it belongs to; empty for none.
    pub run: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Of a file, which can be read again.
    pub file: bool,
    /// Samples per second of each signal.
    pub rate_hz: f64,
    /// The first sample of its axis: all from here to `next_sample` was captured.
    #[serde(default)]
    pub first_sample: u64,
    /// All up to this seq was released.
    pub released_seq: u64,
    /// All before this sample was released.
    #[serde(default)]
    pub released_sample: u64,
    /// All up to this seq was acked, as last noted.
    pub acked_seq: u64,
    /// All before this sample was acked, as last noted.
    #[serde(default)]
    pub acked_sample: u64,
    /// The last seq stored.
    pub stored_seq: u64,
    /// Where the next chunk starts.
    pub next_sample: u64,
    /// Its `end` is stored.
    pub ended: bool,
    /// Its `end` is due: its source is gone.
    pub to_end: bool,
    /// It moves to a successor, or is one that is still being filled.
    #[serde(default)]
    pub moves: bool,
    /// Bytes held.
    pub held_bytes: u64,
    /// Of these, bytes that no ack covers.
    pub unacked_bytes: u64,
    /// UTC of the oldest sample that no ack covers, in nanoseconds.
    pub oldest_unacked_utc_ns: Option<i64>,
}

/// What reading every byte says.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Nothing is damaged.
    pub intact: bool,
    /// Bytes read.
    pub read_bytes: u64,
    /// Streams of whose definition a copy is damaged; the other one counts.
    pub lost_definitions: Vec<String>,
    /// Streams of which nothing tells what they are: their chunks cannot be sent.
    pub unknown_streams: Vec<String>,
    /// Streams whose state is damaged: the next start puts it together again.
    pub lost_states: Vec<String>,
    /// Per stream.
    pub streams: Vec<StreamVerified>,
}

/// One stream, read whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StreamVerified {
    /// 32 hexadecimal digits.
    pub stream: String,
    /// The instrument.
    pub device: String,
    /// Samples per second of each signal.
    pub rate_hz: f64,
    /// All up to this seq was released: the server has it.
    pub released_seq: u64,
    /// All up to this seq was acked, as last noted: the server has it, whatever is damaged here.
    pub acked_seq: u64,
    /// The last seq stored, as far as that is known.
    pub stored_seq: u64,
    /// Its `end` is stored.
    pub ended: bool,
    /// UTC of the first sample held, in nanoseconds.
    pub from_utc_ns: Option<i64>,
    /// UTC after the last one.
    pub to_utc_ns: Option<i64>,
    /// Intact records of samples.
    pub samples_chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Intact records of gaps.
    pub gap_chunks: u64,
    /// Samples missing in them.
    pub gap_samples: u64,
    /// The same, by reason.
    pub gap_samples_by_reason: BTreeMap<String, u64>,
    /// Bytes of intact columns.
    pub column_bytes: u64,
    /// Damaged or missing records, as far as that can be counted: seqs.
    pub damaged_chunks: u64,
    /// Samples in them.
    pub damaged_samples: u64,
    /// Of these, samples that no ack covers: they are lost, unless the server has more than was noted.
    pub lost_samples: u64,
    /// The first of the damaged ranges.
    pub damaged: Vec<DamagedRange>,
}

/// What cannot be read any more. The uplink sends it as a gap `corrupt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DamagedRange {
    /// The first seq.
    pub first_seq: u64,
    /// The last seq.
    pub seq: u64,
    /// The first sample.
    pub first_sample: u64,
    /// Samples.
    pub count: u64,
    /// UTC of the first sample, in nanoseconds: since when it is damaged. As well as the neighbours tell.
    pub from_utc_ns: i64,
    /// UTC after the last one.
    pub to_utc_ns: i64,
    /// An ack covers it: the server has it.
    pub acked: bool,
}

impl StreamVerified {
    fn new(id: StreamId, stream: &Stream) -> Self {
        Self {
            stream: id.to_string(),
            device: stream.definition.device.clone(),
            rate_hz: stream.definition.rate_hz,
            released_seq: stream.state.base.at.seq,
            acked_seq: stream.acked.seq,
            stored_seq: stream.state.tail.at.seq,
            ended: stream.state.tail.at.ended,
            ..Self::default()
        }
    }

    fn damage(&mut self, from: &Mark, to: &Mark, definition: &StreamDefinition) {
        let count = to.at.next_sample.saturating_sub(from.at.next_sample);
        let length_ns = definition.duration_ns(count);
        // Of a stream that was put together again, the time of its start is not known.
        let (from_utc_ns, to_utc_ns) = match (from.next_utc_ns, to.next_utc_ns) {
            (0, 0) => (0, 0),
            (0, to) => (to.saturating_sub(length_ns), to),
            (from, 0) => (from, from.saturating_add(length_ns)),
            times => times,
        };
        let range = DamagedRange {
            first_seq: from.at.seq + 1,
            seq: to.at.seq,
            first_sample: from.at.next_sample,
            count,
            from_utc_ns,
            to_utc_ns,
            acked: to.at.seq <= self.acked_seq,
        };
        self.damaged_chunks += range.seq.saturating_sub(from.at.seq);
        self.damaged_samples += range.count;
        self.lost_samples += if range.acked { 0 } else { range.count };
        self.covers(from_utc_ns, to_utc_ns);
        if self.damaged.len() < RANGES_MAX {
            self.damaged.push(range);
        }
    }

    fn covers(&mut self, from_utc_ns: i64, to_utc_ns: i64) {
        self.from_utc_ns = self.from_utc_ns.or(Some(from_utc_ns));
        self.to_utc_ns = Some(to_utc_ns);
    }

    fn intact(&mut self, found: &Found, definition: &StreamDefinition) {
        let header = &found.record.header;
        self.covers(header.utc_ns, found.record.end(definition).next_utc_ns);
        self.column_bytes += found.record.data_bytes();
        match header.kind {
            ChunkKind::Samples => {
                self.samples_chunks += 1;
                self.samples += header.count;
            }
            ChunkKind::Gap => {
                self.gap_chunks += 1;
                self.gap_samples += header.count;
                *self
                    .gap_samples_by_reason
                    .entry(header.reason.name().into())
                    .or_default() += header.count;
            }
            ChunkKind::End => {}
        }
    }
}

impl<K: Kv> Outbox<K> {
    /// What is held, without reading it.
    pub fn status(&self) -> Result<OutboxReport, OutboxError> {
        let streams: Vec<(StreamId, Stream)> = self
            .table()
            .streams
            .iter()
            .map(|(id, stream)| (*id, stream.clone()))
            .collect();
        let mut reports = Vec::new();
        for (id, stream) in &streams {
            let tail = stream.tail().at.seq;
            let from = stream.acked.seq.max(stream.state.base.at.seq) + 1;
            let oldest = if from <= tail {
                find::first(&*self.kv, *id, from, tail)?
            } else {
                None
            };
            reports.push(StreamReport {
                stream: id.to_string(),
                device: stream.definition.device.clone(),
                run: stream.run.clone(),
                labels: stream.labels.clone(),
                file: stream.definition.is_file(),
                rate_hz: stream.definition.rate_hz,
                first_sample: stream.definition.first_sample,
                released_seq: stream.state.base.at.seq,
                released_sample: stream.state.base.at.next_sample,
                acked_seq: stream.acked.seq,
                acked_sample: oldest.as_ref().map_or_else(
                    || stream.tail().at.next_sample,
                    |found| found.record.header.first_sample,
                ),
                stored_seq: tail,
                next_sample: stream.tail().at.next_sample,
                ended: stream.tail().at.ended,
                to_end: stream.state.to_end.is_some(),
                moves: !stream.is_visible(),
                held_bytes: stream.state.held_bytes,
                unacked_bytes: stream.unacked_bytes(),
                oldest_unacked_utc_ns: oldest.map(|found| found.record.header.utc_ns),
            });
        }
        Ok(OutboxReport {
            agent_id: self.agent_id().to_string(),
            ledger_id: self.ledger_id().map(|ledger| ledger.to_string()),
            held_bytes: self.held_bytes(),
            unacked_bytes: reports.iter().map(|report| report.unacked_bytes).sum(),
            disk_bytes: self.kv.used_bytes(),
            streams: reports,
        })
    }

    /// Reads everything that is held and checks every hash, and that it tiles.
    pub fn verify(&self) -> Result<VerifyReport, OutboxError> {
        let streams: Vec<(StreamId, Stream)> = self
            .table()
            .streams
            .iter()
            .map(|(id, stream)| (*id, stream.clone()))
            .collect();
        let (lost_definitions, all_read) = self.lost_definitions()?;
        let mut report = VerifyReport {
            intact: all_read && self.knows_itself()?,
            lost_definitions: lost_definitions.iter().map(ToString::to_string).collect(),
            unknown_streams: self.unknown_streams()?.iter().map(ToString::to_string).collect(),
            ..VerifyReport::default()
        };
        for (id, stream) in &streams {
            let key = keys::state(*id);
            let state = probed(self.kv.get(&key))?.and_then(|value| State::from_value(&key, &value));
            if state.is_none() {
                report.lost_states.push(id.to_string());
            }
            let verified =
                self.verify_stream::<OutboxError>(*id, stream, &mut report.read_bytes, &mut |_, _| Ok(()))?;
            report.intact &= verified.damaged_chunks == 0;
            report.streams.push(verified);
        }
        let lost = [&report.lost_definitions, &report.unknown_streams, &report.lost_states];
        report.intact &= lost.iter().all(|lost| lost.is_empty());
        Ok(report)
    }

    /// Streams of which nothing tells what they are.
    pub fn unknown_streams(&self) -> Result<Vec<StreamId>, OutboxError> {
        let described = start::load_described(&*self.kv)?.into_iter();
        Ok(described
            .filter_map(|(id, described)| described.is_none().then_some(id))
            .collect())
    }

    /// Is every copy of its version and its identity as it was written? One good copy of each was found already.
    fn knows_itself(&self) -> Result<bool, OutboxError> {
        if self.table().identity == Identity::lost() {
            return Ok(false);
        }
        let version = |key: &[u8], value: &[u8]| record::version_from_value(key, value).is_some();
        let identity = |key: &[u8], value: &[u8]| Identity::from_value(key, value).is_some();
        let copies: [(&[u8], IsGood<'_>); 4] = [
            (&keys::VERSION, &version),
            (&keys::VERSION_COPY, &version),
            (&keys::IDENTITY, &identity),
            (&keys::IDENTITY_COPY, &identity),
        ];
        for (key, is_good) in copies {
            match self.kv.get(key) {
                Ok(value) if value.as_ref().is_none_or(|value| is_good(key, value)) => {}
                Ok(_) | Err(KvError::Damaged(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Those of which one copy is bad, and whether all could be looked at.
    fn lost_definitions(&self) -> Result<(BTreeSet<StreamId>, bool), OutboxError> {
        let (mut lost, mut all_read) = (BTreeSet::new(), true);
        let of_copy: fn(&[u8]) -> Option<StreamId> = keys::stream_of_definition_copy;
        for (from, end, id_of) in [
            (
                keys::DEFINITIONS_FROM,
                keys::DEFINITIONS_END,
                keys::stream_of_definition as fn(&[u8]) -> _,
            ),
            (keys::DEFINITION_COPIES_FROM, keys::DEFINITION_COPIES_END, of_copy),
        ] {
            let scanned = self.kv.scan(&from, &end, &mut |key, value| {
                lost.extend(id_of(key).filter(|_| Described::from_value(key, value).is_none()));
                true
            });
            match scanned {
                Ok(()) => {}
                Err(KvError::Damaged(_)) => all_read = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok((lost, all_read))
    }

    /// `visit` sees every record that is readable, with its columns if those are intact.
    pub(super) fn verify_stream<E: From<OutboxError>>(
        &self,
        id: StreamId,
        stream: &Stream,
        read_bytes: &mut u64,
        visit: &mut SeeRecord<'_, E>,
    ) -> Result<StreamVerified, E> {
        let mut verified = StreamVerified::new(id, stream);
        let definition = &*stream.definition;
        let (mut at, tail) = (stream.state.base, stream.state.tail);
        while at.at.seq < tail.at.seq {
            let some = find::some(&*self.kv, id, at.at.seq + 1, tail.at.seq).map_err(OutboxError::from)?;
            if some.is_empty() {
                break;
            }
            for found in some {
                let (start, end) = (found.record.start(), found.record.end(&stream.definition));
                // Of a gap that was merged while this reads, what is left of it counts.
                if start.at.seq > at.at.seq || start.at.next_sample > at.at.next_sample {
                    verified.damage(&at, &start, definition);
                }
                let chained = start.at.seq != at.at.seq || start.at.digest == at.at.digest;
                *read_bytes += found.cost_bytes;
                let data = self.intact_data(id, &found)?.filter(|_| chained);
                if data.is_some() {
                    verified.intact(&found, definition);
                } else {
                    verified.damage(&start, &end, definition);
                }
                // One that fits nowhere is none: its range is a hole.
                if chained && start.at.seq >= at.at.seq && start.at.next_sample >= at.at.next_sample {
                    visit(&found, data.as_deref())?;
                }
                at = end;
            }
        }
        if at.at.seq < tail.at.seq {
            verified.damage(&at, &tail, definition);
        }
        Ok(verified)
    }

    /// Its columns' bytes, if they are those that were stored.
    pub(super) fn intact_data(&self, id: StreamId, found: &Found) -> Result<Option<Vec<u8>>, OutboxError> {
        if found.record.column_bytes.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let data = probed(self.kv.get(&keys::data(id, found.record.header.seq)))?;
        Ok(data.filter(|data| found.record.has_data(data)))
    }
}

/// Damage is no failure here: it is what is looked for.
pub(super) fn probed<T>(result: Result<Option<T>, KvError>) -> Result<Option<T>, KvError> {
    match result {
        Err(KvError::Damaged(_)) => Ok(None),
        other => other,
    }
}
