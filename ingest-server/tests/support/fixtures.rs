//! Streams and chunks as an agent captures them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Position, Reason};
use wavekeep_proto::codec::{Encoder, Encoding};
use wavekeep_proto::hash;
use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};

/// Current and voltage at 1 MHz; each number is another stream.
pub fn definition(number: u8) -> StreamDefinition {
    let signal = |number, name: &str, unit: &str| Signal {
        number,
        name: name.into(),
        sample_type: SampleType::F32,
        unit: unit.into(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([number; 16]),
        device: format!("js220-{number:03}"),
        epoch: Epoch([9; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 0,
        signals: vec![signal(0, "current", "A"), signal(1, "voltage", "V")],
        attributes: BTreeMap::from([("model".into(), "JS220".into())]),
    }
}

/// A stream that is being captured: chunk after chunk, tiled and chained.
#[derive(Debug, Clone)]
pub struct Capture {
    pub definition: Arc<StreamDefinition>,
    pub at: Position,
}

impl Capture {
    pub fn new(definition: &StreamDefinition) -> Self {
        Self {
            definition: Arc::new(definition.clone()),
            at: Position::start(definition),
        }
    }

    /// Both signals have the same samples.
    pub fn samples(&mut self, samples: &[f32]) -> Chunk {
        self.samples_encoded(Encoding::Plain, samples)
    }

    pub fn samples_encoded(&mut self, encoding: Encoding, samples: &[f32]) -> Chunk {
        let raw: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let count = u32::try_from(samples.len()).expect("few samples");
        let (encoding, encoded) = Encoder::new().encode(encoding, SampleType::F32, &raw);
        let column = |signal| ColumnHeader {
            signal,
            content: ColumnContent::Present {
                encoding,
                hash: hash::column_hash(signal, SampleType::F32, count, &raw),
            },
        };
        let header = Header {
            count: u64::from(count),
            columns: vec![column(0), column(1)],
            ..self.header(ChunkKind::Samples, Reason::None)
        };
        self.chunk(header, vec![encoded.clone().into(), encoded.into()])
    }

    /// Chunks of so many samples that count up.
    pub fn run(&mut self, chunks: usize, samples: u64) -> Vec<Chunk> {
        let chunk = |_| {
            let first = self.at.next_sample;
            let values: Vec<f32> = (first..first + samples).map(|sample| sample as f32).collect();
            self.samples(&values)
        };
        (0..chunks).map(chunk).collect()
    }

    /// Its bytes do not decode to what its header says.
    pub fn poison(&mut self) -> Chunk {
        let mut chunk = self.samples(&[1.0, 2.0]);
        chunk.columns[0] = vec![0xff; 8].into();
        chunk
    }

    pub fn end(&mut self) -> Chunk {
        let header = self.header(ChunkKind::End, Reason::Closed);
        self.chunk(header, Vec::new())
    }

    fn header(&self, kind: ChunkKind, reason: Reason) -> Header {
        Header {
            kind,
            reason,
            first_seq: self.at.seq + 1,
            seq: self.at.seq + 1,
            first_sample: self.at.next_sample,
            count: 0,
            utc_ns: 1_795_392_000_000_000_000 + self.at.next_sample as i64 * 1000,
            markers: Vec::new(),
            columns: Vec::new(),
        }
    }

    fn chunk(&mut self, header: Header, columns: Vec<bytes::Bytes>) -> Chunk {
        let digest = hash::next_digest(self.at.digest, hash::chunk_hash(&header));
        self.at = Position::after(&header, digest);
        Chunk {
            header,
            digest,
            columns,
        }
    }
}
