//! Eviction: the oldest un-acked samples of live streams become gaps `evicted`, in place. Neighbours are merged into one record
//! that carries the digest after the last of them (I14), and the markers of all.
//!
//! A gap that its source reported keeps its reason and is not merged, unless nothing is left but gaps and even they fill the
//! quota. An `end` is never merged. Undone by a power cut, an eviction is as if it had not happened: not synced.

use wavekeep_proto::chunk::{ChunkKind, Header, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits::MARKER_BYTES_MAX;

use super::find::{self, Found};
use super::kv::{Batch, Kv};
use super::record::{Record, State, data_hash};
use super::{Outbox, OutboxAlarm, OutboxError, Writer, keys};

/// A stream's turn goes on past the oldest samples of the next stream by this many chunks, so that streams that were stored
/// in turn are evicted in runs.
const TURN_CHUNKS: u64 = 64;
/// What a marker takes in a header besides its content, at most.
const MARKER_OVERHEAD_BYTES: usize = 64;

/// Whose turn it is.
struct Turn {
    stream: StreamId,
    /// Its oldest samples, or where merging starts.
    from_seq: u64,
    /// Samples stored later than this wait for another turn.
    ordinal_max: u64,
    /// Gaps of any reason are merged too.
    merge_all: bool,
}

/// Records that become one gap.
struct Run {
    first: Record,
    seqs: Vec<(u64, bool)>,
    end_sample: u64,
    marker_bytes: usize,
    cost_bytes: u64,
    samples: u64,
    last: Record,
}

fn marker_bytes(header: &Header) -> usize {
    header
        .markers
        .iter()
        .map(|marker| marker.content.len() + MARKER_OVERHEAD_BYTES)
        .sum()
}

impl Run {
    fn new(found: Found) -> Self {
        let Found { record, cost_bytes } = found;
        Self {
            seqs: vec![(record.header.seq, !record.column_bytes.is_empty())],
            end_sample: record.header.end_sample(),
            marker_bytes: marker_bytes(&record.header),
            cost_bytes,
            samples: if record.header.kind == ChunkKind::Samples {
                record.header.count
            } else {
                0
            },
            last: record.clone(),
            first: record,
        }
    }

    /// Takes the next record in, unless its markers do not fit any more.
    fn push(&mut self, found: Found) -> Result<(), Found> {
        let bytes = marker_bytes(&found.record.header);
        if bytes > 0 && self.marker_bytes + bytes > MARKER_BYTES_MAX {
            return Err(found);
        }
        let other = Self::new(found);
        self.marker_bytes += bytes;
        self.seqs.extend(other.seqs);
        self.end_sample = other.end_sample;
        self.cost_bytes += other.cost_bytes;
        self.samples += other.samples;
        self.first.header.markers.extend(other.first.header.markers);
        self.last = other.last;
        Ok(())
    }

    /// Is it what is stored already?
    fn is_unchanged(&self) -> bool {
        self.seqs.len() == 1 && self.samples == 0
    }

    fn into_gap(self) -> Record {
        let first = self.first.header;
        let header = Header {
            kind: ChunkKind::Gap,
            reason: Reason::Evicted,
            seq: self.last.header.seq,
            count: self.end_sample - first.first_sample,
            columns: Vec::new(),
            ..first
        };
        Record {
            header,
            digest_before: self.first.digest_before,
            digest: self.last.digest,
            column_bytes: Vec::new(),
            data_hash: data_hash(&[]),
            total_bytes: self.last.total_bytes,
            ordinal: self.last.ordinal,
        }
    }
}

/// One batch in the making.
struct Step {
    stream: StreamId,
    state: State,
    batch: Batch,
    freed_bytes: u64,
    data_bytes: u64,
    samples: u64,
    first_sample: Option<u64>,
}

impl Step {
    fn finish_run(&mut self, run: Option<Run>) {
        let Some(run) = run.filter(|run| !run.is_unchanged()) else {
            return;
        };
        for (seq, has_data) in &run.seqs {
            self.batch.delete(keys::chunk(self.stream, *seq));
            if *has_data {
                self.batch.delete(keys::data(self.stream, *seq));
            }
        }
        let before_bytes = run.cost_bytes;
        self.samples += run.samples;
        self.first_sample.get_or_insert(run.first.header.first_sample);
        let gap = run.into_gap();
        let key = keys::chunk(self.stream, gap.header.seq);
        let value = gap.to_value(&key);
        let after_bytes = gap.cost_bytes(value.len());
        self.batch.put(key, value);
        self.state.held_bytes = (self.state.held_bytes + after_bytes).saturating_sub(before_bytes);
        self.freed_bytes += before_bytes.saturating_sub(after_bytes);
    }
}

impl<K: Kv> Outbox<K> {
    /// Frees about `wanted_bytes` by eviction; answers how many it were.
    pub(super) fn evict(&self, writer: &mut Writer, wanted_bytes: u64) -> Result<u64, OutboxError> {
        let mut freed = 0;
        while freed < wanted_bytes {
            let Some(turn) = self.next_turn()? else { break };
            freed += self.take_turn_of(writer, &turn, wanted_bytes - freed)?;
        }
        if freed < wanted_bytes {
            freed += self.merge_gaps(writer, wanted_bytes - freed)?;
        }
        Ok(freed)
    }

    fn live_streams(&self) -> Vec<StreamId> {
        let table = self.table();
        table
            .streams
            .iter()
            .filter(|(_, stream)| stream.is_visible() && !stream.definition.is_file())
            .map(|(id, _)| *id)
            .collect()
    }

    /// The stream with the oldest un-acked samples.
    fn next_turn(&self) -> Result<Option<Turn>, OutboxError> {
        let mut oldest = Vec::new();
        for stream in self.live_streams() {
            if let Some((ordinal, seq)) = self.oldest_samples(stream)? {
                oldest.push((ordinal, stream, seq));
            }
        }
        oldest.sort_unstable();
        let ordinal_max = oldest
            .get(1)
            .map_or(u64::MAX, |(ordinal, ..)| ordinal.saturating_add(TURN_CHUNKS));
        let turn = |(_, stream, from_seq): &(u64, StreamId, u64)| Turn {
            stream: *stream,
            from_seq: *from_seq,
            ordinal_max,
            merge_all: false,
        };
        Ok(oldest.first().map(turn))
    }

    fn unacked_from(&self, stream: StreamId) -> Option<(u64, u64, u64)> {
        self.with_stream(stream, |known| {
            let acked = known.acked.seq.max(known.state.base.at.seq);
            (acked, known.evicted_through.max(acked), known.tail().at.seq)
        })
    }

    fn set_evicted_through(&self, stream: StreamId, seq: u64) {
        if let Some(stream) = self.table().streams.get_mut(&stream) {
            stream.evicted_through = seq;
        }
    }

    /// Ordinal and seq of a stream's oldest un-acked samples.
    fn oldest_samples(&self, stream: StreamId) -> Result<Option<(u64, u64)>, OutboxError> {
        let Some((_, mut through, tail)) = self.unacked_from(stream) else {
            return Ok(None);
        };
        while through < tail {
            let Some(found) = find::first(&*self.kv, stream, through + 1, tail)? else {
                break;
            };
            let header = &found.record.header;
            if header.kind == ChunkKind::Samples {
                self.set_evicted_through(stream, through);
                return Ok(Some((found.record.ordinal, header.seq)));
            }
            through = header.seq;
        }
        self.set_evicted_through(stream, through);
        Ok(None)
    }

    fn take_turn_of(&self, writer: &mut Writer, turn: &Turn, wanted_bytes: u64) -> Result<u64, OutboxError> {
        let stream = turn.stream;
        let known = self.with_stream(stream, |known| (known.state.clone(), known.acked.seq));
        let Some((state, acked)) = known else { return Ok(0) };
        let tail = state.tail.at.seq;
        let held_from = acked.max(state.base.at.seq) + 1;
        let mut step = Step {
            stream,
            state,
            batch: Batch::default(),
            freed_bytes: 0,
            data_bytes: 0,
            samples: 0,
            first_sample: None,
        };
        let evicted =
            |found: &Found| found.record.header.kind == ChunkKind::Gap && found.record.header.reason == Reason::Evicted;
        let mut run: Option<Run> = match turn.from_seq - 1 {
            before if before >= held_from => find::last(&*self.kv, stream, held_from, before)?
                .filter(|found| found.record.header.seq == before && evicted(found))
                .map(Run::new),
            _ => None,
        };
        let mut through = turn.from_seq - 1;
        let mut pending_bytes = 0;
        for found in find::some(&*self.kv, stream, turn.from_seq, tail)? {
            let header = &found.record.header;
            let is_samples = header.kind == ChunkKind::Samples;
            let enough = pending_bytes >= wanted_bytes || found.record.ordinal > turn.ordinal_max;
            if header.first_seq != through + 1 && header.first_seq > turn.from_seq || is_samples && enough {
                break;
            }
            through = header.seq;
            pending_bytes += if is_samples { found.cost_bytes } else { 0 };
            step.data_bytes += if is_samples { found.record.data_bytes() } else { 0 };
            let joins = is_samples || evicted(&found) || turn.merge_all && header.kind == ChunkKind::Gap;
            if !joins {
                step.finish_run(run.take());
                continue;
            }
            run = match run.take() {
                None => Some(Run::new(found)),
                Some(mut open) => match open.push(found) {
                    Ok(()) => Some(open),
                    Err(found) => {
                        step.finish_run(Some(open));
                        Some(Run::new(found))
                    }
                },
            };
        }
        step.finish_run(run);
        self.write_step(writer, step, turn.from_seq, through)
    }

    fn write_step(&self, writer: &mut Writer, step: Step, from_seq: u64, through: u64) -> Result<u64, OutboxError> {
        if !step.batch.is_empty() {
            self.commit(step.batch, &[(step.stream, &step.state)], false)?;
        }
        self.set_evicted_through(step.stream, through);
        if step.data_bytes > 0 {
            writer.evicted(step.stream, from_seq, through, step.data_bytes);
        }
        if step.samples > 0 {
            self.table().counters.evicted_samples += step.samples;
            let first_sample = step.first_sample.unwrap_or(0);
            self.alarm(OutboxAlarm::Evicted {
                stream: step.stream,
                first_sample,
                samples: step.samples,
            });
        }
        Ok(step.freed_bytes)
    }

    /// Nothing is left but gaps, and even they are too many: their reasons go.
    fn merge_gaps(&self, writer: &mut Writer, wanted_bytes: u64) -> Result<u64, OutboxError> {
        let mut freed = 0;
        for stream in self.live_streams() {
            let Some((acked, evicted_through, tail)) = self.unacked_from(stream) else {
                continue;
            };
            let mut from_seq = acked + 1;
            while freed < wanted_bytes && from_seq <= tail {
                let turn = Turn {
                    stream,
                    from_seq,
                    ordinal_max: u64::MAX,
                    merge_all: true,
                };
                freed += self.take_turn_of(writer, &turn, wanted_bytes - freed)?;
                let Some((_, through, _)) = self.unacked_from(stream) else {
                    break;
                };
                if through < from_seq {
                    break;
                }
                from_seq = through + 1;
            }
            self.set_evicted_through(stream, evicted_through);
        }
        Ok(freed)
    }
}
