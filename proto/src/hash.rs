//! Every hash of the protocol, byte by byte as docs/PROTOCOL.md specifies them (test vectors stand there and here).
//!
//! XXH3-128, written as 16 bytes big-endian. Integers are little-endian; strings, byte strings and lists are preceded
//! by their length as u32; hashes and 128-bit ids are 16 raw bytes. Each input starts with a domain byte.

use xxhash_rust::xxh3::Xxh3Default;

use crate::chunk::{ColumnContent, Header, Reason};
use crate::id::{Epoch, Hash, StreamId};
use crate::stream::{SampleType, Signal, StreamDefinition};

const COLUMN: u8 = 0x01;
const ABSENT_COLUMN: u8 = 0x02;
const CHUNK: u8 = 0x03;
const DEFINITION: u8 = 0x04;
const DIGEST: u8 = 0x05;
const FRAME: u8 = 0x06;
const FILE_STREAM: u8 = 0x07;
const FILE_EPOCH: u8 = 0x08;
const CONTROL: u8 = 0x09;

/// Feeds the canonical encoding to XXH3-128.
struct Input(Xxh3Default);

impl Input {
    fn new(domain: u8) -> Self {
        let mut state = Xxh3Default::new();
        state.update(&[domain]);
        Self(state)
    }
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }
    fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }
    fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }
    fn f64(&mut self, value: f64) -> &mut Self {
        self.u64(value.to_bits())
    }
    fn length(&mut self, length: usize) -> &mut Self {
        self.u32(u32::try_from(length).expect("limits.rs keeps every hashed length far below 4 GiB"))
    }
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len()).raw(bytes)
    }
    fn signals(&mut self, signals: &[Signal]) -> &mut Self {
        self.length(signals.len());
        for signal in signals {
            self.u16(signal.number)
                .bytes(signal.name.as_bytes())
                .u8(signal.sample_type as u8);
            self.bytes(signal.unit.as_bytes()).u8(u8::from(signal.finite_only));
        }
        self
    }
    fn finish(&self) -> Hash {
        Hash(self.0.digest128().to_be_bytes())
    }
}

/// Of a present column: its samples, decoded, raw little-endian.
#[must_use]
pub fn column_hash(signal: u16, sample_type: SampleType, count: u32, samples: &[u8]) -> Hash {
    assert_eq!(
        samples.len() as u64,
        sample_type.bytes(u64::from(count)),
        "I13: a column is hashed whole"
    );
    Input::new(COLUMN)
        .u16(signal)
        .u8(sample_type as u8)
        .u32(count)
        .raw(samples)
        .finish()
}

/// Of an absent column.
#[must_use]
pub fn absent_column_hash(signal: u16, reason: Reason) -> Hash {
    Input::new(ABSENT_COLUMN).u16(signal).u16(reason as u16).finish()
}

/// Of a chunk: its header, with its markers and its columns' hashes.
#[must_use]
pub fn chunk_hash(header: &Header) -> Hash {
    let mut input = Input::new(CHUNK);
    input
        .u8(header.kind as u8)
        .u16(header.reason as u16)
        .u64(header.first_seq)
        .u64(header.seq);
    input
        .u64(header.first_sample)
        .u64(header.count)
        .u64(header.utc_ns.cast_unsigned());
    input.length(header.markers.len());
    for marker in &header.markers {
        input
            .u64(marker.sample)
            .u16(marker.kind)
            .u8(marker.group)
            .f64(marker.y)
            .u8(marker.format as u8);
        input.bytes(&marker.content);
    }
    input.u16(u16::try_from(header.columns.len()).expect("limits::SIGNALS_MAX is far below 65,536"));
    for column in &header.columns {
        let hash = match column.content {
            ColumnContent::Present { hash, .. } => hash,
            ColumnContent::Absent(reason) => absent_column_hash(column.signal, reason),
        };
        input.raw(hash.as_bytes());
    }
    input.finish()
}

/// Of a stream's definition: digest 0.
#[must_use]
pub fn definition_hash(definition: &StreamDefinition) -> Hash {
    let mut input = Input::new(DEFINITION);
    input
        .raw(definition.id.as_bytes())
        .bytes(definition.device.as_bytes())
        .raw(definition.epoch.as_bytes());
    input.bytes(&definition.file_identity);
    match definition.predecessor {
        None => input.u8(0),
        Some(predecessor) => input.u8(1).raw(predecessor.stream_id.as_bytes()).u64(predecessor.seq),
    };
    input
        .f64(definition.rate_hz)
        .u64(definition.first_sample)
        .signals(&definition.signals);
    input.length(definition.attributes.len());
    for (name, value) in &definition.attributes {
        input.bytes(name.as_bytes()).bytes(value.as_bytes());
    }
    input.finish()
}

/// The digest after a chunk: chained, so that it stands for all before it too.
#[must_use]
pub fn next_digest(before: Hash, chunk: Hash) -> Hash {
    Input::new(DIGEST).raw(before.as_bytes()).raw(chunk.as_bytes()).finish()
}

/// Of a frame as it travels. It alone decides "damaged on the way" against "intact but unacceptable".
#[must_use]
pub fn frame_hash<'a>(header: &[u8], digest: &[u8], columns: impl ExactSizeIterator<Item = &'a [u8]>) -> Hash {
    let mut input = Input::new(FRAME);
    input.bytes(header).raw(digest).length(columns.len());
    for column in columns {
        input.bytes(column);
    }
    input.finish()
}

/// Of a frame that is no chunk's, as it travels: its message without the check itself.
#[must_use]
pub fn control_hash(message: &[u8]) -> Hash {
    Input::new(CONTROL).raw(message).finish()
}

/// The stream that a file is, wherever and however often it is replayed. `content` is the XXH3-128 of its samples.
#[must_use]
pub fn file_stream_id(content: Hash, device: &str, start_ns: i64, rate_hz: f64, signals: &[Signal]) -> StreamId {
    let mut input = Input::new(FILE_STREAM);
    input
        .raw(content.as_bytes())
        .bytes(device.as_bytes())
        .u64(start_ns.cast_unsigned())
        .f64(rate_hz)
        .signals(signals);
    StreamId(input.finish().0)
}

/// The epoch of a file's streams: one life of the counter, the same for every replay.
#[must_use]
pub fn file_epoch(content: Hash, device: &str, start_ns: i64) -> Epoch {
    let mut input = Input::new(FILE_EPOCH);
    input
        .raw(content.as_bytes())
        .bytes(device.as_bytes())
        .u64(start_ns.cast_unsigned());
    Epoch(input.finish().0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::tests::{definition, gap};

    /// The canonical bytes written out by hand, as another language would.
    fn by_hand(parts: &[&[u8]]) -> Hash {
        Hash(xxhash_rust::xxh3::xxh3_128(&parts.concat()).to_be_bytes())
    }

    #[test]
    fn column_is_specified_byte_by_byte() {
        let samples = [1.0f32.to_le_bytes(), (-0.0f32).to_le_bytes()].concat();
        let expected = by_hand(&[&[1], &[5, 0], &[1], &[2, 0, 0, 0], &samples]);
        assert_eq!(column_hash(5, SampleType::F32, 2, &samples), expected);
        assert_eq!(
            absent_column_hash(5, Reason::SignalOff),
            by_hand(&[&[2], &[5, 0], &[21, 0]])
        );
    }

    #[test]
    fn chunk_and_digest_are_specified_byte_by_byte() {
        let header = gap(3, 3, 100, 7, Reason::SourceLoss);
        let seq = 3u64.to_le_bytes();
        let expected = by_hand(&[
            &[3, 2, 20, 0],
            &seq,
            &seq,
            &100u64.to_le_bytes(),
            &7u64.to_le_bytes(),
            &0i64.to_le_bytes(),
            &[0; 4],
            &[0; 2],
        ]);
        assert_eq!(chunk_hash(&header), expected);
        assert_eq!(
            next_digest(Hash([1; 16]), Hash([2; 16])),
            by_hand(&[&[5], &[1; 16], &[2; 16]])
        );
    }

    #[test]
    fn definition_is_specified_byte_by_byte() {
        let text = |text: &str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        let signal =
            |number: u8, name: &str, unit: &str| [&[number, 0][..], &text(name), &[1], &text(unit), &[0]].concat();
        let expected = by_hand(&[
            &[4],
            &[7; 16],
            &text("js220-001"),
            &[9; 16],
            &[0; 4],
            &[0],
            &1e6f64.to_le_bytes(),
            &[0; 8],
            &[2, 0, 0, 0],
            &signal(0, "current", "A"),
            &signal(1, "voltage", "V"),
            &[1, 0, 0, 0],
            &text("model"),
            &text("JS220"),
        ]);
        assert_eq!(definition_hash(&definition()), expected);
    }
}
