//! The sources: live instruments, whose samples come when they come, and files, which can be read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wavekeep_agent::outbox::NewChunk;
use wavekeep_proto::chunk::{ChunkKind, ColumnContent, ColumnHeader, Marker, MarkerFormat, Reason};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::hash;
use wavekeep_proto::id::{Epoch, Hash, StreamId};
use wavekeep_proto::limits::CHUNK_SAMPLES_MAX;
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};

use crate::random::Random;
use crate::tape;

/// Samples of a file, and where the file says that some are missing.
const FILE_SAMPLES: u64 = 3_000;
const FILE_GAP: std::ops::Range<u64> = 700..760;
const RATE_HZ: f64 = 1_000.0;

/// What an agent reads.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) definition: Arc<StreamDefinition>,
    pub(crate) next_sample: u64,
    /// A file is cut at multiples of this many samples.
    pub(crate) cut_samples: u64,
    /// Nothing more will come of it.
    pub(crate) done: bool,
    /// Its labels change at the next chance: the stream ends, the next one opens.
    pub(crate) relabel: bool,
    large: bool,
}

/// What a source has.
pub(crate) enum Portion {
    Chunk(NewChunk),
    End,
}

fn signals(large: bool) -> Vec<Signal> {
    let signal = |number, name: &str, sample_type| Signal {
        number,
        name: name.into(),
        sample_type,
        unit: "A".into(),
        finite_only: false,
    };
    if large {
        vec![signal(0, "wide", SampleType::I128)]
    } else {
        vec![
            signal(0, "current", SampleType::U8),
            signal(3, "voltage", SampleType::I16),
        ]
    }
}

impl Source {
    /// A device is opened: a new epoch, a new stream.
    pub(crate) fn live(random: &mut Random, large: bool) -> Self {
        let first_sample = if random.once_in(2) { 0 } else { random.below(1 << 40) };
        Self::stream_of(random, large, Epoch::default(), first_sample).renewed(random)
    }

    fn renewed(mut self, random: &mut Random) -> Self {
        let definition = Arc::make_mut(&mut self.definition);
        definition.epoch = Epoch(random.id());
        self
    }

    fn stream_of(random: &mut Random, large: bool, epoch: Epoch, first_sample: u64) -> Self {
        let definition = StreamDefinition {
            id: StreamId(random.id()),
            device: "bench".into(),
            epoch,
            file_identity: Vec::new(),
            predecessor: None,
            rate_hz: RATE_HZ,
            first_sample,
            signals: signals(large),
            attributes: BTreeMap::from([("model".into(), "simulated".into())]),
        };
        Self {
            definition: Arc::new(definition),
            next_sample: first_sample,
            cut_samples: CHUNK_SAMPLES_MAX,
            done: false,
            relabel: false,
            large,
        }
    }

    /// The next stream of the same epoch: it goes on where this one ended.
    pub(crate) fn next_stream(&self, random: &mut Random) -> Self {
        Self::stream_of(random, self.large, self.definition.epoch, self.next_sample)
    }

    /// The same for every agent that replays it, but for where it is cut.
    pub(crate) fn file(number: usize, cut_samples: u64) -> Self {
        let content = Hash([number as u8 + 1; 16]);
        let signals = signals(false);
        let definition = StreamDefinition {
            id: hash::file_stream_id(content, "bench", 0, RATE_HZ, &signals),
            device: "bench".into(),
            epoch: hash::file_epoch(content, "bench", 0),
            file_identity: content.to_vec(),
            predecessor: None,
            rate_hz: RATE_HZ,
            first_sample: 0,
            signals,
            attributes: BTreeMap::new(),
        };
        let definition = Arc::new(definition);
        Self {
            definition,
            next_sample: 0,
            cut_samples,
            done: false,
            relabel: false,
            large: false,
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        self.definition.is_file()
    }

    /// What comes next. Of a file, what stands at `next_sample`; of an instrument, something by chance.
    pub(crate) fn take(&self, random: &mut Random) -> Portion {
        let first = self.next_sample;
        if self.is_file() {
            if first >= FILE_SAMPLES {
                return Portion::End;
            }
            if FILE_GAP.contains(&first) {
                return Portion::Chunk(self.gap(FILE_GAP.end - first, Reason::FileGap));
            }
            let cut = (first / self.cut_samples + 1) * self.cut_samples;
            let end = if first < FILE_GAP.start {
                cut.min(FILE_GAP.start)
            } else {
                cut.min(FILE_SAMPLES)
            };
            return Portion::Chunk(self.samples(end - first, None, Vec::new()));
        }
        if random.once_in(20) {
            let reason = *random.pick(&[Reason::SourceLoss, Reason::UsbOverrun, Reason::Unplugged]);
            return Portion::Chunk(self.gap(random.between(1, 200_000), reason));
        }
        let room = CHUNK_SAMPLES_MAX - first % CHUNK_SAMPLES_MAX;
        let count = if self.large {
            room
        } else {
            random.between(1, 40).min(room)
        };
        let absent = (!self.large && random.once_in(30)).then_some(3);
        let sample = first + random.below(count);
        let markers = if random.once_in(10) {
            vec![marker(random, sample)]
        } else {
            Vec::new()
        };
        Portion::Chunk(self.samples(count, absent, markers))
    }

    fn utc_ns(&self) -> i64 {
        (self.next_sample as i64).wrapping_mul(1_000_000)
    }

    fn gap(&self, count: u64, reason: Reason) -> NewChunk {
        NewChunk {
            kind: ChunkKind::Gap,
            reason,
            first_sample: self.next_sample,
            count,
            utc_ns: self.utc_ns(),
            markers: Vec::new(),
            columns: Vec::new(),
            data: Vec::new(),
        }
    }

    fn samples(&self, count: u64, absent: Option<u16>, markers: Vec<Marker>) -> NewChunk {
        let mut columns = Vec::new();
        let mut data: Vec<Bytes> = Vec::new();
        for signal in &self.definition.signals {
            let content = if absent == Some(signal.number) {
                ColumnContent::Absent(Reason::SignalOff)
            } else {
                let width = u64::from(signal.sample_type.bits() / 8);
                let bytes = tape::samples(self.definition.epoch, signal.number, width, self.next_sample, count);
                let hash = hash::column_hash(signal.number, signal.sample_type, count as u32, &bytes);
                data.push(bytes);
                ColumnContent::Present {
                    encoding: Encoding::Plain,
                    hash,
                }
            };
            columns.push(ColumnHeader {
                signal: signal.number,
                content,
            });
        }
        NewChunk {
            kind: ChunkKind::Samples,
            reason: Reason::None,
            first_sample: self.next_sample,
            count,
            utc_ns: self.utc_ns(),
            markers,
            columns,
            data,
        }
    }
}

fn marker(random: &mut Random, sample: u64) -> Marker {
    let content = format!("note {}", random.below(1_000_000)).into_bytes();
    Marker {
        sample,
        kind: 0,
        group: 1,
        y: f64::NAN,
        format: MarkerFormat::Text,
        content,
    }
}
