//! What sources do: open a stream, store chunks into it, end it. `store` numbers the chunk, chains its digest, makes room and
//! writes header, columns and tail as one batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use wavekeep_proto::chunk::{ChunkKind, ColumnHeader, Header, Marker, Position, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{hash, limits};

use super::kv::{Batch, Kv};
use super::record::{Acked, Described, Mark, Record, State, data_hash};
use super::table::Stream;
use super::{Durability, Outbox, OutboxError, StoreError, Writer, keys};

/// What a source has cut: samples with their encoded columns, or a gap with its reason.
#[derive(Debug, Clone)]
pub struct NewChunk {
    /// Samples or a gap; an `end` is written by [`Outbox::end_stream`].
    pub kind: ChunkKind,
    /// Of a gap.
    pub reason: Reason,
    /// Where it starts: where the one before it ended (I4).
    pub first_sample: u64,
    /// Samples it covers, at least one.
    pub count: u64,
    /// UTC of the first sample, in nanoseconds.
    pub utc_ns: i64,
    /// Notes on the samples it covers.
    pub markers: Vec<Marker>,
    /// Of samples: one per signal of the definition, in its order.
    pub columns: Vec<ColumnHeader>,
    /// The present columns' encoded bytes, in the same order.
    pub data: Vec<Bytes>,
}

/// A record about to be stored.
struct Cut {
    header: Header,
    column_bytes: Vec<u32>,
    data: Vec<u8>,
    data_hash: u64,
}

impl Cut {
    fn new(chunk: NewChunk) -> Self {
        let length = |column: &Bytes| u32::try_from(column.len()).expect("I12: a column is far smaller than 4 GiB");
        let data = chunk.data.concat();
        assert!(
            data.len() <= limits::CHUNK_COLUMN_BYTES_MAX,
            "I12: a chunk's columns have a limit"
        );
        Self {
            header: Header {
                kind: chunk.kind,
                reason: chunk.reason,
                first_seq: 0,
                seq: 0,
                first_sample: chunk.first_sample,
                count: chunk.count,
                utc_ns: chunk.utc_ns,
                markers: chunk.markers,
                columns: chunk.columns,
            },
            column_bytes: chunk.data.iter().map(length).collect(),
            data_hash: data_hash(&data),
            data,
        }
    }

    fn end(reason: Reason, at: &Mark) -> Self {
        assert!(reason.is_end(), "an end says why: {reason:?} is no reason to end");
        Self::new(NewChunk {
            kind: ChunkKind::End,
            reason,
            first_sample: at.at.next_sample,
            count: 0,
            utc_ns: at.next_utc_ns,
            markers: Vec::new(),
            columns: Vec::new(),
            data: Vec::new(),
        })
    }

    /// The next `count` samples, which were taken and could not be stored.
    fn source_loss(count: u64, at: &Mark) -> Self {
        Self::new(NewChunk {
            kind: ChunkKind::Gap,
            reason: Reason::SourceLoss,
            first_sample: at.at.next_sample,
            count,
            utc_ns: at.next_utc_ns,
            markers: Vec::new(),
            columns: Vec::new(),
            data: Vec::new(),
        })
    }
}

/// Writes what a stream is, twice.
pub(super) fn put_described(batch: &mut Batch, described: &Described) {
    let stream = described.definition.id;
    for key in [keys::definition(stream), keys::definition_copy(stream)] {
        batch.put(key, described.to_value(&key));
    }
}

/// Both go.
pub(super) fn delete_described(batch: &mut Batch, stream: StreamId) {
    batch.delete(keys::definition(stream));
    batch.delete(keys::definition_copy(stream));
}

impl<K: Kv> Outbox<K> {
    pub(super) fn with_stream<T>(&self, stream: StreamId, look: impl FnOnce(&Stream) -> T) -> Option<T> {
        self.table().streams.get(&stream).map(look)
    }

    /// Opens a stream and says where it stands. A live stream is new (I11). The stream of a file may be here already, or at the
    /// server: wait for [`Self::wait_opened`] before storing into it, and go on at the position that is then its tail.
    /// `utc_ns` is about when its first sample was, or will be, taken.
    pub fn open_stream(
        &self,
        definition: StreamDefinition,
        labels: BTreeMap<String, String>,
        run: String,
        utc_ns: i64,
    ) -> Result<Position, StoreError> {
        let stream = definition.id;
        let described = Described {
            definition,
            labels,
            run,
        };
        let tail = self.keep_from_reclaim(stream, |_writer| self.open_described(described, utc_ns))?;
        self.streams_changed();
        self.notify();
        Ok(tail)
    }

    fn open_described(&self, described: Described, utc_ns: i64) -> Result<Position, OutboxError> {
        let stream = described.definition.id;
        let mut batch = Batch::default();
        put_described(&mut batch, &described);
        let known = self.with_stream(stream, |known| (Arc::clone(&known.definition), known.tail().at));
        let Some((known, tail)) = known else {
            return self.insert_stream(described, batch, utc_ns);
        };
        assert!(known.is_file(), "I11: a live stream's id is minted once");
        if *known != described.definition {
            return Err(OutboxError::OtherDefinition(stream));
        }
        self.kv.write(batch, false)?;
        self.dirty.store(true, Ordering::Release);
        self.relabel(stream, described);
        Ok(tail)
    }

    /// Labels travel in `Open`: the server has to be asked again before it has them.
    fn relabel(&self, stream: StreamId, described: Described) {
        if let Some(stream) = self.table().streams.get_mut(&stream) {
            stream.moved = false;
            if (&stream.labels, &stream.run) != (&described.labels, &described.run) {
                stream.opened = false;
                self.relabelled.fetch_add(1, Ordering::AcqRel);
            }
            stream.labels = described.labels;
            stream.run = described.run;
        }
    }

    /// How often a stream that was held already got other labels: a session that is up does not know of it.
    #[must_use]
    pub fn relabelled(&self) -> u64 {
        self.relabelled.load(Ordering::Acquire)
    }

    fn insert_stream(&self, described: Described, mut batch: Batch, utc_ns: i64) -> Result<Position, OutboxError> {
        let stream = described.definition.id;
        let at = Position::start(&described.definition);
        let start = Mark {
            at,
            next_utc_ns: utc_ns,
        };
        let state = State::new(start, self.table().ordinal);
        let key = keys::state(stream);
        batch.put(key, state.to_value(&key, Acked::default()));
        // Synced, so that a power cut may take a stream's chunks but never all memory of a stream that the server has.
        self.kv.write(batch, true)?;
        let Described {
            definition,
            labels,
            run,
        } = described;
        let opened = Stream::new(Arc::new(definition), labels, run, state, Acked::default());
        self.table().streams.insert(stream, opened);
        Ok(at)
    }

    /// Stores the next chunk of a stream, and says where the stream stands after it. When this returns, the chunk survives the
    /// process, and a power cut as the durability says. `now` is the agent's monotonic time.
    ///
    /// # Panics
    /// If the source broke the rules of chunks: a hole in the axis, columns of other signals, an absurd size.
    pub fn store(&self, stream: StreamId, chunk: NewChunk, now: Duration) -> Result<Position, StoreError> {
        assert!(chunk.kind != ChunkKind::End, "an end is written by end_stream");
        assert!(
            !(chunk.kind == ChunkKind::Gap && chunk.reason.is_replacing()),
            "a source replaces nothing"
        );
        let cut = Cut::new(chunk);
        let mut writer = self.writer();
        let definition = self.take_turn(stream, &cut)?;
        // The header's own size is not known yet; it is bounded, and mostly its markers.
        let markers: usize = cut.header.markers.iter().map(|marker| marker.content.len() + 64).sum();
        let bytes = (cut.data.len() + markers + 1_024 + 64 * cut.header.columns.len()) as u64;
        self.make_room(&mut writer, bytes, definition.is_file())?;
        let position = self.append(&writer, stream, &definition, cut, now)?;
        drop(writer);
        self.sync_stored()?;
        self.notify();
        Ok(position)
    }

    /// Of what is stored already: a failure here is none to store it again.
    fn sync_stored(&self) -> Result<(), StoreError> {
        if self.options.durability != Durability::EachChunk {
            return Ok(());
        }
        self.sync().map_err(|error| {
            self.notify();
            StoreError::NotSynced(error)
        })
    }

    /// May this chunk be stored now?
    fn take_turn(&self, stream: StreamId, cut: &Cut) -> Result<Arc<StreamDefinition>, StoreError> {
        let mut table = self.table();
        let Some(known) = table.streams.get_mut(&stream).filter(|known| known.takes_more()) else {
            return Err(StoreError::Ended);
        };
        let next_sample = known.tail().at.next_sample;
        if cut.header.first_sample == next_sample {
            known.moved = false;
        } else if known.moved {
            return Err(StoreError::Moved { next_sample });
        }
        assert_eq!(
            cut.header.first_sample, next_sample,
            "I4: a chunk starts where the one before it ended"
        );
        Ok(Arc::clone(&known.definition))
    }

    fn append(
        &self,
        _writer: &Writer,
        stream: StreamId,
        definition: &StreamDefinition,
        cut: Cut,
        now: Duration,
    ) -> Result<Position, OutboxError> {
        let mut state = self.state_of(stream).ok_or(OutboxError::UnknownStream(stream))?;
        let mut header = cut.header;
        header.seq = state.tail.at.seq + 1;
        header.first_seq = header.seq;
        if let Err(error) = header.validate(definition) {
            panic!("I4: a source built a chunk that no stream can have: {error}");
        }
        assert_eq!(
            header.present_columns(),
            cut.column_bytes.len(),
            "I13: a chunk is stored with all of its columns"
        );
        let digest = hash::next_digest(state.tail.at.digest, hash::chunk_hash(&header));
        let mut record = Record {
            header,
            digest_before: state.tail.at.digest,
            digest,
            column_bytes: cut.column_bytes,
            data_hash: cut.data_hash,
            // Of fixed length, so that the record's cost can be known before it is written into it.
            total_bytes: u64::MAX,
            ordinal: self.table().ordinal + 1,
        };
        let seq = record.header.seq;
        let key = keys::chunk(stream, seq);
        let cost_bytes = record.cost_bytes(record.to_value(&key).len());
        record.total_bytes = state.stored_total_bytes + cost_bytes;
        let value = record.to_value(&key);
        assert_eq!(
            record.cost_bytes(value.len()),
            cost_bytes,
            "I12: what a record costs is known before it is stored"
        );
        state.stored_total_bytes += cost_bytes;
        state.held_bytes += cost_bytes;
        state.tail = record.end(definition);
        state.ordinal = record.ordinal;
        state.to_end = None;
        let mut batch = Batch::default();
        batch.put(key, value);
        let data_bytes = cut.data.len() as u64;
        if data_bytes > 0 {
            batch.put(keys::data(stream, seq), cut.data);
        }
        self.commit(batch, &[(stream, &state)], false)?;
        let mut table = self.table();
        table.now = table.now.max(now);
        table.counters.stored_chunks += 1;
        table.counters.stored_bytes += data_bytes;
        if let Some(stored) = table.streams.get_mut(&stream) {
            stored.stores.stored(now, seq);
        }
        Ok(state.tail.at)
    }

    /// The source is done with the stream: writes its `end`, which always fits.
    pub fn end_stream(&self, stream: StreamId, reason: Reason, now: Duration) -> Result<Position, StoreError> {
        self.end(stream, None, reason, now)
    }

    /// The same of a source that brought the stream to `next_sample`. What of a live one lies before that and could not be stored
    /// becomes a gap first; of a file it is `Moved`, to be read again.
    pub fn end_stream_at(
        &self,
        stream: StreamId,
        next_sample: u64,
        reason: Reason,
        now: Duration,
    ) -> Result<Position, StoreError> {
        self.end(stream, Some(next_sample), reason, now)
    }

    fn end(
        &self,
        stream: StreamId,
        next_sample: Option<u64>,
        reason: Reason,
        now: Duration,
    ) -> Result<Position, StoreError> {
        let writer = self.writer();
        let known = self.with_stream(stream, |known| {
            known
                .takes_more()
                .then(|| (Arc::clone(&known.definition), *known.tail()))
        });
        let (definition, mut tail) = known.flatten().ok_or(StoreError::Ended)?;
        let missing = next_sample.map_or(0, |next_sample| next_sample.saturating_sub(tail.at.next_sample));
        if definition.is_file() && next_sample.is_some_and(|next_sample| next_sample != tail.at.next_sample) {
            return Err(StoreError::Moved {
                next_sample: tail.at.next_sample,
            });
        }
        if missing > 0 {
            self.append(&writer, stream, &definition, Cut::source_loss(missing, &tail), now)?;
            tail = self
                .with_stream(stream, |known| *known.tail())
                .ok_or(StoreError::Ended)?;
        }
        let position = self.append(&writer, stream, &definition, Cut::end(reason, &tail), now)?;
        drop(writer);
        self.sync_stored()?;
        self.notify();
        Ok(position)
    }

    /// The source is gone, or moved on, and did not get to write the `end`: the uplink does once it knows the server's position.
    pub fn mark_to_end(&self, stream: StreamId, reason: Reason) -> Result<(), OutboxError> {
        assert!(reason.is_end(), "an end says why: {reason:?} is no reason to end");
        let writer = self.writer();
        let Some(mut state) = self
            .with_stream(stream, |known| known.takes_more().then(|| known.state.clone()))
            .flatten()
        else {
            return Ok(());
        };
        state.to_end = Some(reason);
        self.commit(Batch::default(), &[(stream, &state)], false)?;
        drop(writer);
        self.notify();
        Ok(())
    }

    /// Writes the `end` that is due, if one is. See [`wavekeep_proto::uplink::Outbox::end`].
    pub(super) fn write_due_end(&self, stream: StreamId) -> Result<(), OutboxError> {
        let writer = self.writer();
        let due = self.with_stream(stream, |known| {
            let reason = known
                .state
                .to_end
                .filter(|_| known.is_visible() && !known.tail().at.ended)?;
            Some((Arc::clone(&known.definition), *known.tail(), reason))
        });
        let Some((definition, tail, reason)) = due.flatten() else {
            return Ok(());
        };
        // The tail may be a server's claim, taken over by an earlier version of this program.
        if tail.at.seq >= limits::SEQ_MAX || tail.at.next_sample > limits::SAMPLE_ID_MAX {
            return Err(OutboxError::Adopt {
                stream,
                seq: tail.at.seq,
            });
        }
        let now = self.table().now;
        self.append(&writer, stream, &definition, Cut::end(reason, &tail), now)?;
        drop(writer);
        self.notify();
        Ok(())
    }

    /// Waits until a server has said where the stream stands, since this outbox was opened; at most `timeout`. False if none has.
    #[must_use]
    pub fn wait_opened(&self, stream: StreamId, timeout: Duration) -> bool {
        let opened =
            |stream: &StreamId, table: &super::Table| table.streams.get(stream).is_none_or(|known| known.opened);
        let waited = self
            .changed
            .wait_timeout_while(self.table(), timeout, |table| !opened(&stream, table));
        waited.is_ok_and(|(table, _)| opened(&stream, &table))
    }

    /// Waits until something may have made room, at most `timeout`. Then try to store again.
    pub fn wait_for_room(&self, timeout: Duration) {
        // Whoever wakes it early only makes it look again.
        drop(self.changed.wait_timeout(self.table(), timeout));
    }
}
