//! The sink that a captured source delivers to: limit, chunker, encoder, outbox.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wavekeep_proto::chunk::{ChunkKind, Marker, Position, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::{SampleType, StreamDefinition};
use wavekeep_proto::uplink::Outbox as _;

use super::counters::{CaptureCounters, CaptureState};
use super::{CaptureOptions, samples_of};
use crate::chunker::{Chunker, Cut};
use crate::clock::Clock;
use crate::encode::ColumnEncoder;
use crate::labels::LiveLabels;
use crate::limits;
use crate::outbox::kv::{Kv, KvError};
use crate::outbox::{NewChunk, Outbox, OutboxError, StoreError};
use crate::source::{BadInput, Block, Column, Sink, SinkError, random_128};
use crate::stop::StopToken;
use crate::time_axis::Anchor;

/// One stream of the source.
struct Lane {
    definition: StreamDefinition,
    chunker: Chunker,
    /// Captured up to here (exclusive).
    limit: u64,
    /// The source has delivered up to here (exclusive), also what could not be stored.
    delivered: u64,
    /// Stored up to here (exclusive).
    stored: u64,
}

/// What all streams share.
struct Writer<K: Kv> {
    outbox: Arc<Outbox<K>>,
    clock: Arc<dyn Clock>,
    options: CaptureOptions,
    /// When a file's first sample was taken.
    file_start_ns: Option<i64>,
    encoder: ColumnEncoder,
    shared: Shared,
}

/// What others of the capture look at, too.
pub(super) struct Shared {
    pub(super) stop: StopToken,
    pub(super) counters: Arc<CaptureCounters>,
    pub(super) labels: Arc<LiveLabels>,
}

pub(super) struct CaptureSink<K: Kv> {
    lanes: Vec<Lane>,
    writer: Writer<K>,
}

impl<K: Kv> CaptureSink<K> {
    /// Registers every stream in the outbox. `file_start_ns`: when the first sample of a file was taken.
    pub(super) fn new(
        definitions: Vec<StreamDefinition>,
        file_start_ns: Option<i64>,
        outbox: Arc<Outbox<K>>,
        clock: Arc<dyn Clock>,
        options: CaptureOptions,
        shared: Shared,
    ) -> Result<Self, SinkError> {
        let encoder = ColumnEncoder::new(options.encoding);
        let writer = Writer {
            outbox,
            clock,
            options,
            file_start_ns,
            encoder,
            shared,
        };
        let duration = writer.options.duration;
        let lanes = definitions
            .into_iter()
            .map(|definition| writer.lane(definition, duration));
        let lanes = lanes.collect::<Result<_, SinkError>>()?;
        Ok(Self { lanes, writer })
    }

    /// The device was opened again: its streams end, and others begin, for what is left of the duration. Answers as
    /// [`Self::finish_live`] does.
    pub(super) fn begin_again(&mut self, definitions: Vec<StreamDefinition>) -> Result<u64, SinkError> {
        let lost = self.finish_live(Reason::Closed)?;
        let options = &mut self.writer.options;
        let left = self.lanes.iter().map(Lane::left).max().unwrap_or_default();
        options.duration = options.duration.map(|_| left);
        let duration = options.duration;
        let lanes = definitions
            .into_iter()
            .map(|definition| self.writer.lane(definition, duration));
        self.lanes = lanes.collect::<Result<_, SinkError>>()?;
        Ok(lost)
    }

    pub(super) fn is_file(&self) -> bool {
        self.lanes.iter().any(|lane| lane.definition.is_file())
    }

    /// Has everything been captured that was asked for?
    pub(super) fn is_complete(&self) -> bool {
        self.lanes.iter().all(Lane::is_complete)
    }

    /// Waits until the server said where the streams stand, and goes on there.
    pub(super) fn wait_until_opened(&mut self) -> Result<(), SinkError> {
        for lane in &mut self.lanes {
            while !self.writer.outbox.wait_opened(lane.definition.id, limits::BLOCKED_POLL) {
                if self.writer.shared.stop.is_stopped() {
                    return Err(SinkError::Stopped);
                }
            }
            lane.chunker.restart(self.writer.tail(lane.definition.id)?.next_sample);
        }
        Ok(())
    }

    /// Have all streams their end?
    pub(super) fn has_ended(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| self.writer.tail(lane.definition.id).is_ok_and(|tail| tail.ended))
    }

    /// Of a file that was read whole: stores what is open, then the ends. A stream that could not take its last samples gets no
    /// end, or the server would take it for the whole file.
    pub(super) fn finish_file(&mut self) -> Result<(), SinkError> {
        for stream in 0..self.lanes.len() {
            let (lane, writer) = self.lane(stream)?;
            let result = lane.flush(writer).and_then(|()| {
                let next_sample = lane.chunker.next_sample();
                writer
                    .end_stream(&mut lane.definition, next_sample, next_sample, Reason::Closed)
                    .map(drop)
            });
            self.settle_moved(stream, result)?;
        }
        Ok(())
    }

    /// Of a live source, which has nobody else to write its ends: stores what is open, then the ends. What was delivered and cannot
    /// be stored becomes a gap before the end; answers how many samples that are.
    pub(super) fn finish_live(&mut self, reason: Reason) -> Result<u64, SinkError> {
        let mut result = Ok(0);
        for lane in &mut self.lanes {
            if let Err(error) = lane.flush(&mut self.writer) {
                warn!("{}: its last samples cannot be stored: {error}", lane.definition.device);
            }
            let ended = self
                .writer
                .end_stream(&mut lane.definition, lane.stored, lane.delivered, reason);
            result = match (result, ended) {
                (Ok(lost), Ok(more)) => Ok(lost + more),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        result
    }

    /// Does what was asked for since the last delivery: every stream ends where it stands, and the next one begins there.
    fn relabel(&mut self) -> Result<(), SinkError> {
        let Some(labels) = self.writer.shared.labels.wanted() else {
            return Ok(());
        };
        // All that was delivered is stored before any label changes: storing may open a stream, too.
        for lane in &mut self.lanes {
            lane.store_open(&mut self.writer)?;
        }
        self.writer.options.labels.clone_from(&labels);
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_complete()) {
            lane.go_on_in_another(&mut self.writer)?;
        }
        info!("{}: labelled {labels:?}", self.writer.shared.counters.device());
        self.writer.shared.labels.done(labels);
        Ok(())
    }

    fn lane(&mut self, stream: usize) -> Result<(&mut Lane, &mut Writer<K>), SinkError> {
        let lane = self.lanes.get_mut(stream).ok_or(BadInput::Stream(stream))?;
        Ok((lane, &mut self.writer))
    }

    /// After a delivery up to `end`: is it time to stop, or to read again from elsewhere?
    fn settle(&mut self, stream: usize, end: u64, result: Result<(), SinkError>) -> Result<(), SinkError> {
        if !matches!(result, Err(SinkError::Source(_))) {
            let lane = &mut self.lanes[stream];
            lane.delivered = lane.delivered.max(end);
        }
        match self.settle_moved(stream, result) {
            Ok(()) if self.is_complete() => Err(SinkError::Stopped),
            other => other,
        }
    }

    fn settle_moved(&mut self, stream: usize, result: Result<(), SinkError>) -> Result<(), SinkError> {
        let Err(SinkError::Moved { next_sample, .. }) = result else {
            return result;
        };
        self.lanes[stream].chunker.restart(next_sample);
        Err(SinkError::Moved { stream, next_sample })
    }
}

impl<K: Kv> Sink for CaptureSink<K> {
    fn next_sample(&self, stream: usize) -> u64 {
        self.lanes[stream].chunker.next_sample()
    }

    fn anchor(&mut self, stream: usize, sample: u64, utc_ns: i64) -> Result<(), SinkError> {
        self.lane(stream)?.0.chunker.anchor(Anchor { sample, utc_ns });
        Ok(())
    }

    fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError> {
        self.relabel()?;
        let (lane, writer) = self.lane(stream)?;
        lane.know_time(block.first_sample, writer);
        let Lane {
            definition,
            chunker,
            limit,
            stored,
            ..
        } = lane;
        let end = block.first_sample.saturating_add(block.count).min(*limit);
        let count = end.saturating_sub(block.first_sample);
        let types: Vec<_> = definition.signals.iter().map(|signal| signal.sample_type).collect();
        let mut store = |cut: Cut<'_>| writer.store(definition, stored, &cut);
        let result = if count == block.count {
            chunker.samples(block, &mut store)
        } else if count > 0 {
            let columns: Vec<_> = block
                .columns
                .iter()
                .zip(types)
                .map(|(column, of)| column.first(count, of))
                .collect();
            chunker.samples(
                &Block {
                    count,
                    columns: &columns,
                    ..*block
                },
                &mut store,
            )
        } else {
            // All of it lies beyond the limit: what is missing before that is a gap, as always.
            chunker.gap(chunker.next_sample()..*limit, Reason::SourceLoss, &mut store)
        };
        self.settle(stream, end, result)
    }

    fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
        self.relabel()?;
        let (lane, writer) = self.lane(stream)?;
        lane.know_time(range.start, writer);
        let Lane {
            definition,
            chunker,
            limit,
            stored,
            ..
        } = lane;
        let range = range.start.min(*limit)..range.end.min(*limit);
        let end = range.end;
        let result = chunker.gap(range, reason, &mut |cut| writer.store(definition, stored, &cut));
        self.settle(stream, end, result)
    }

    fn marker(&mut self, stream: usize, marker: Marker) -> Result<(), SinkError> {
        Ok(self.lane(stream)?.0.chunker.marker(marker)?)
    }
}

impl Lane {
    fn is_complete(&self) -> bool {
        self.chunker.next_sample() >= self.limit
    }

    /// Of the duration that was asked for.
    fn left(&self) -> Duration {
        let samples = self.limit.saturating_sub(self.delivered);
        Duration::try_from_secs_f64(samples as f64 / self.definition.rate_hz).unwrap_or(Duration::MAX)
    }

    /// Stores what is open, whether its chunk is complete or not.
    fn flush<K: Kv>(&mut self, writer: &mut Writer<K>) -> Result<(), SinkError> {
        let Self {
            definition,
            chunker,
            stored,
            ..
        } = self;
        let lost = chunker.finish(&mut |cut| writer.store(definition, stored, &cut))?;
        if lost > 0 {
            warn!(
                "{}: {lost} markers lie beyond the end of the stream and are lost",
                definition.device
            );
        }
        Ok(())
    }

    /// Stores what is open. Markers that lie beyond wait on: they belong to what comes next.
    fn store_open<K: Kv>(&mut self, writer: &mut Writer<K>) -> Result<(), SinkError> {
        let Self {
            definition,
            chunker,
            stored,
            ..
        } = self;
        chunker.flush(&mut |cut| writer.store(definition, stored, &cut))
    }

    /// Ends the stream where it stands and goes on in one with the labels that the writer has now. One that holds nothing yet is
    /// ended like any other: the server may know it already.
    fn go_on_in_another<K: Kv>(&mut self, writer: &mut Writer<K>) -> Result<(), SinkError> {
        let at = self.stored;
        writer.end_stream(&mut self.definition, at, at, Reason::Closed)?;
        writer.open_next(&mut self.definition, at)
    }

    /// A source that says nothing of time delivers now.
    fn know_time<K: Kv>(&mut self, sample: u64, writer: &Writer<K>) {
        if !self.chunker.has_time() {
            self.chunker.anchor(Anchor {
                sample,
                utc_ns: writer.clock.utc_ns(),
            });
        }
    }
}

impl<'a> Column<'a> {
    /// The first `count` samples, which must be there if the column is well-formed; the chunker refuses it otherwise.
    fn first(&self, count: u64, sample_type: SampleType) -> Self {
        let samples = usize::try_from(count).unwrap_or(usize::MAX);
        match *self {
            Self::F32(all) => Self::F32(&all[..samples.min(all.len())]),
            Self::F64(all) => Self::F64(&all[..samples.min(all.len())]),
            Self::I16(all) => Self::I16(&all[..samples.min(all.len())]),
            Self::I32(all) => Self::I32(&all[..samples.min(all.len())]),
            Self::Raw(all) => {
                let bytes = usize::try_from(sample_type.bytes(count)).unwrap_or(usize::MAX);
                Self::Raw(&all[..bytes.min(all.len())])
            }
            Self::Absent(reason) => Self::Absent(reason),
        }
    }
}

impl<K: Kv> Writer<K> {
    /// Registers a stream of which so much is to be captured.
    fn lane(&self, definition: StreamDefinition, duration: Option<Duration>) -> Result<Lane, SinkError> {
        self.register(&definition)?;
        let first_sample = definition.first_sample;
        let samples = duration.map_or(u64::MAX, |duration| samples_of(&definition, duration));
        Ok(Lane {
            chunker: Chunker::new(&definition, self.options.chunk_period, first_sample),
            definition,
            limit: first_sample.saturating_add(samples),
            delivered: first_sample,
            stored: first_sample,
        })
    }

    fn register(&self, definition: &StreamDefinition) -> Result<(), SinkError> {
        let start_ns = self.file_start_ns.unwrap_or_else(|| self.clock.utc_ns());
        let (labels, run) = (self.options.labels.clone(), self.options.run.clone());
        match self.outbox.open_stream(definition.clone(), labels, run, start_ns) {
            Ok(_) => Ok(()),
            Err(error) => Err(SinkError::Outbox(error.to_string())),
        }
    }

    fn tail(&self, stream: StreamId) -> Result<Position, SinkError> {
        let view = self.outbox.view(stream);
        view.map(|view| view.tail)
            .ok_or_else(|| SinkError::Outbox(OutboxError::UnknownStream(stream).to_string()))
    }

    /// Encodes and stores; waits while the outbox is full; goes on in a new stream when this one takes no more.
    fn store(&mut self, definition: &mut StreamDefinition, stored: &mut u64, cut: &Cut<'_>) -> Result<(), SinkError> {
        let (columns, encoded) = self.encoder.encode(definition, cut, &*self.clock);
        if self.encoder.has_news() {
            self.shared.counters.explain(self.encoder.explain(definition));
        }
        loop {
            let chunk = NewChunk {
                kind: cut.kind,
                reason: cut.reason,
                first_sample: cut.first_sample,
                count: cut.count,
                utc_ns: cut.utc_ns,
                markers: cut.markers.clone(),
                columns: columns.clone(),
                data: encoded.clone(),
            };
            match self.outbox.store(definition.id, chunk, self.clock.now()) {
                result @ (Ok(_) | Err(StoreError::NotSynced(_))) => {
                    self.shared
                        .counters
                        .stored(cut.kind, cut.reason, cut.count, self.clock.now());
                    *stored = cut.first_sample + cut.count;
                    return match result {
                        Err(StoreError::NotSynced(error)) => self.sync(definition, error),
                        _ => Ok(()),
                    };
                }
                Err(StoreError::Full { .. } | StoreError::Outbox(OutboxError::Kv(KvError::Full(_)))) => {
                    self.wait_for_room(definition)?;
                }
                Err(StoreError::Ended) if !definition.is_file() => self.roll(definition, cut.first_sample)?,
                Err(StoreError::Ended) => return Err(SinkError::Stopped),
                Err(StoreError::Moved { next_sample }) => return Err(SinkError::Moved { stream: 0, next_sample }),
                Err(StoreError::Outbox(error)) => return Err(SinkError::Outbox(error.to_string())),
            }
        }
    }

    /// Syncs what is stored, as long as the disk is only full.
    fn sync(&self, definition: &StreamDefinition, mut error: OutboxError) -> Result<(), SinkError> {
        while let OutboxError::Kv(KvError::Full(_)) = error {
            self.wait_for_room(definition)?;
            match self.outbox.sync() {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
        Err(SinkError::Outbox(error.to_string()))
    }

    /// Writes the `end` of a stream that its source brought to `next_sample`; of a live one, after a gap over what could not be
    /// stored. Answers how many samples that are.
    fn end_stream(
        &self,
        definition: &mut StreamDefinition,
        stored: u64,
        next_sample: u64,
        reason: Reason,
    ) -> Result<u64, SinkError> {
        let lost = next_sample.saturating_sub(stored);
        loop {
            match self
                .outbox
                .end_stream_at(definition.id, next_sample, reason, self.clock.now())
            {
                Ok(_) => break,
                Err(StoreError::Ended) if lost == 0 || definition.is_file() => return Ok(0),
                Err(StoreError::Ended) => self.roll(definition, stored)?,
                Err(StoreError::Moved { next_sample }) => return Err(SinkError::Moved { stream: 0, next_sample }),
                Err(error) => return Err(SinkError::Outbox(error.to_string())),
            }
        }
        if lost > 0 {
            self.shared
                .counters
                .stored(ChunkKind::Gap, Reason::SourceLoss, lost, self.clock.now());
        }
        Ok(lost)
    }

    fn wait_for_room(&self, definition: &StreamDefinition) -> Result<(), SinkError> {
        if self.shared.stop.is_stopped() {
            warn!(
                "{}: stopped while the outbox was full: its last samples are not stored",
                definition.device
            );
            return Err(SinkError::Stopped);
        }
        self.shared.counters.set_state(CaptureState::Blocked, None);
        self.outbox.wait_for_room(limits::BLOCKED_POLL);
        self.shared.counters.set_state(CaptureState::Capturing, None);
        Ok(())
    }

    /// The next stream of the same epoch, from `first_sample` on.
    fn roll(&self, definition: &mut StreamDefinition, first_sample: u64) -> Result<(), SinkError> {
        let before = definition.id;
        self.open_next(definition, first_sample)?;
        info!(
            "{}: stream {before} takes no more; the capture goes on in stream {}",
            definition.device, definition.id
        );
        Ok(())
    }

    fn open_next(&self, definition: &mut StreamDefinition, first_sample: u64) -> Result<(), SinkError> {
        let id = StreamId(random_128().map_err(|error| SinkError::Outbox(error.to_string()))?);
        let next = StreamDefinition {
            id,
            first_sample,
            predecessor: None,
            ..definition.clone()
        };
        self.register(&next)?;
        *definition = next;
        Ok(())
    }
}
