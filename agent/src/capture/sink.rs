//! The sink that a captured source delivers to: limit, chunker, encoder, outbox.

use std::ops::Range;
use std::sync::Arc;

use tracing::{info, warn};
use wavekeep_proto::chunk::{Marker, Position, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::{SampleType, StreamDefinition};
use wavekeep_proto::uplink::Outbox as _;

use super::counters::{CaptureCounters, CaptureState};
use super::{CaptureOptions, samples_of};
use crate::chunker::{Chunker, Cut};
use crate::clock::Clock;
use crate::encode::ColumnEncoder;
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
}

/// What all streams share.
struct Writer<K: Kv> {
    outbox: Arc<Outbox<K>>,
    clock: Arc<dyn Clock>,
    options: CaptureOptions,
    encoder: ColumnEncoder,
    stop: StopToken,
    counters: Arc<CaptureCounters>,
}

pub(super) struct CaptureSink<K: Kv> {
    lanes: Vec<Lane>,
    writer: Writer<K>,
}

impl<K: Kv> CaptureSink<K> {
    /// Registers every stream in the outbox.
    pub(super) fn new(
        definitions: Vec<StreamDefinition>,
        outbox: Arc<Outbox<K>>,
        clock: Arc<dyn Clock>,
        options: CaptureOptions,
        stop: StopToken,
        counters: Arc<CaptureCounters>,
    ) -> Result<Self, SinkError> {
        let encoder = ColumnEncoder::new(options.encoding);
        let writer = Writer {
            outbox,
            clock,
            options,
            encoder,
            stop,
            counters,
        };
        let lane = |definition: StreamDefinition| {
            writer.register(&definition)?;
            let period = writer.options.chunk_period;
            let chunker = Chunker::new(&definition, period, definition.first_sample);
            let samples = writer
                .options
                .duration
                .map_or(u64::MAX, |duration| samples_of(&definition, duration));
            let limit = definition.first_sample.saturating_add(samples);
            Ok(Lane {
                definition,
                chunker,
                limit,
            })
        };
        let lanes = definitions.into_iter().map(lane).collect::<Result<_, SinkError>>()?;
        Ok(Self { lanes, writer })
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
                if self.writer.stop.is_stopped() {
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

    /// Stores what is open, and the ends.
    pub(super) fn finish(&mut self, reason: Reason) -> Result<(), SinkError> {
        let mut result = Ok(());
        for Lane {
            definition, chunker, ..
        } in &mut self.lanes
        {
            // A stream that could not take its last samples still gets its end.
            match chunker.finish(&mut |cut| self.writer.store(definition, &cut)) {
                Ok(0) => {}
                Ok(lost) => warn!(
                    "{}: {lost} markers lie beyond the end of the stream and are lost",
                    definition.device
                ),
                Err(error) => result = Err(error),
            }
            match self
                .writer
                .outbox
                .end_stream(definition.id, reason, self.writer.clock.now())
            {
                Ok(_) | Err(StoreError::Ended) => {}
                Err(error) => result = Err(SinkError::Outbox(error.to_string())),
            }
        }
        result
    }

    fn lane(&mut self, stream: usize) -> Result<(&mut Lane, &mut Writer<K>), SinkError> {
        let lane = self.lanes.get_mut(stream).ok_or(BadInput::Stream(stream))?;
        Ok((lane, &mut self.writer))
    }

    /// After a delivery: is it time to stop, or to read again from elsewhere?
    fn settle(&mut self, stream: usize, result: Result<(), SinkError>) -> Result<(), SinkError> {
        match result {
            Err(SinkError::Moved { next_sample, .. }) => {
                self.lanes[stream].chunker.restart(next_sample);
                Err(SinkError::Moved { stream, next_sample })
            }
            Ok(()) if self.is_complete() => Err(SinkError::Stopped),
            other => other,
        }
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
        let (lane, writer) = self.lane(stream)?;
        lane.know_time(block.first_sample, writer);
        let Lane {
            definition,
            chunker,
            limit,
        } = lane;
        let end = block.first_sample.saturating_add(block.count).min(*limit);
        let count = end.saturating_sub(block.first_sample);
        let types: Vec<_> = definition.signals.iter().map(|signal| signal.sample_type).collect();
        let mut store = |cut: Cut<'_>| writer.store(definition, &cut);
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
        self.settle(stream, result)
    }

    fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
        let (lane, writer) = self.lane(stream)?;
        lane.know_time(range.start, writer);
        let Lane {
            definition,
            chunker,
            limit,
        } = lane;
        let range = range.start.min(*limit)..range.end.min(*limit);
        let result = chunker.gap(range, reason, &mut |cut| writer.store(definition, &cut));
        self.settle(stream, result)
    }

    fn marker(&mut self, stream: usize, marker: Marker) -> Result<(), SinkError> {
        Ok(self.lane(stream)?.0.chunker.marker(marker)?)
    }
}

impl Lane {
    fn is_complete(&self) -> bool {
        self.chunker.next_sample() >= self.limit
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
    fn register(&self, definition: &StreamDefinition) -> Result<(), SinkError> {
        let (labels, run) = (self.options.labels.clone(), self.options.run.clone());
        match self
            .outbox
            .open_stream(definition.clone(), labels, run, self.clock.utc_ns())
        {
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
    fn store(&mut self, definition: &mut StreamDefinition, cut: &Cut<'_>) -> Result<(), SinkError> {
        let (columns, encoded) = self.encoder.encode(definition, cut);
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
                Ok(_) => {
                    self.counters.stored(cut.kind, cut.count);
                    return Ok(());
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

    fn wait_for_room(&self, definition: &StreamDefinition) -> Result<(), SinkError> {
        if self.stop.is_stopped() {
            warn!(
                "{}: stopped while the outbox was full; its last samples were not captured",
                definition.device
            );
            return Err(SinkError::Stopped);
        }
        self.counters.set_state(CaptureState::Blocked, None);
        self.outbox.wait_for_room(limits::BLOCKED_POLL);
        self.counters.set_state(CaptureState::Capturing, None);
        Ok(())
    }

    /// The next stream of the same epoch, from `first_sample` on.
    fn roll(&self, definition: &mut StreamDefinition, first_sample: u64) -> Result<(), SinkError> {
        let id = StreamId(random_128().map_err(|error| SinkError::Outbox(error.to_string()))?);
        let next = StreamDefinition {
            id,
            first_sample,
            predecessor: None,
            ..definition.clone()
        };
        self.register(&next)?;
        info!(
            "{}: stream {} takes no more; the capture goes on in stream {id}",
            next.device, definition.id
        );
        *definition = next;
        Ok(())
    }
}
