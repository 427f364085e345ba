//! The bytes of a JLS v2 file: its header, its chunks' headers, and the payloads that a replay needs. Pure.
//!
//! # Invariants
//! - Arbitrary bytes never panic, and nothing is allocated by what they say: every parser works on the bytes that it is given.

use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::stream::SampleType;

/// Where the first chunk stands.
pub(super) const FILE_HEADER_BYTES: u64 = 32;
/// Of every chunk.
pub(super) const CHUNK_HEADER_BYTES: u64 = 32;
/// Of the payloads that hold samples, indices, summaries, times and annotations.
pub(super) const PAYLOAD_HEADER_BYTES: usize = 16;
/// Before an annotation's own bytes.
pub(super) const ANNOTATION_HEADER_BYTES: usize = PAYLOAD_HEADER_BYTES + 12;
/// Chunks stand at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;

const IDENTIFICATION: [u8; 16] = *b"jlsfmt\r\n \n \x1a  \xb2\x1c";
/// The end of a string: a zero and the unit separator.
const SEPARATOR: u8 = 0x1f;
const NS_PER_SECOND: i128 = 1_000_000_000;
/// 2018-01-01T00:00:00Z, where JLS time starts, in seconds since 1970.
const EPOCH_S: i128 = 1_514_764_800;

/// What a chunk is, of those that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    SourceDefinition,
    SignalDefinition,
    Samples,
    SampleIndex,
    SampleSummary,
    VariableRateSamples,
    Annotation,
    Time,
    TimeSummary,
    UserData,
    End,
    /// A known one that a replay has no use for.
    Other,
}

impl Tag {
    const fn new(tag: u8) -> Option<Self> {
        Some(match tag {
            0x01 => Self::SourceDefinition,
            0x02 => Self::SignalDefinition,
            0x22 => Self::Samples,
            0x23 => Self::SampleIndex,
            0x24 => Self::SampleSummary,
            0x2a => Self::VariableRateSamples,
            0x32 => Self::Annotation,
            0x3a => Self::Time,
            0x3c => Self::TimeSummary,
            0x40 => Self::UserData,
            0xff => Self::End,
            // The other chunks of tracks.
            0x20..=0x3f if tag & 7 <= 4 => Self::Other,
            _ => return None,
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    array(bytes, at).map(i64::from_le_bytes)
}

/// The start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// 0 until the file is closed.
    pub(super) bytes: u64,
    pub(super) version_major: u8,
}

impl FileHeader {
    /// `None`: it is no JLS v2 file.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let identification: [u8; 16] = array(bytes, 0)?;
        let version = u32_at(bytes, 24)?;
        (identification == IDENTIFICATION).then_some(Self {
            bytes: u64_at(bytes, 16)?,
            version_major: (version >> 24) as u8,
        })
    }
}

/// Before every payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) tag: Tag,
    meta: u16,
    pub(super) payload_bytes: u32,
}

impl ChunkHeader {
    /// `None`: no chunk starts here, or its header is damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let tag = Tag::new(*bytes.get(16)?)?;
        let (checked, crc) = (bytes.get(..28)?, u32_at(bytes, 28)?);
        (crc32c::crc32c(checked) == crc).then_some(Self {
            tag,
            meta: u16_at(bytes, 18)?,
            payload_bytes: u32_at(bytes, 20)?,
        })
    }

    /// Header, payload, padding and the payload's checksum.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        let payload = match self.payload_bytes {
            0 => 0,
            bytes => (u64::from(bytes) + 4).next_multiple_of(ALIGNMENT),
        };
        CHUNK_HEADER_BYTES + payload
    }

    /// Of a track's chunk.
    pub(super) const fn signal(&self) -> u8 {
        (self.meta & 0xff) as u8
    }

    /// Of an index or a summary: 1 is right above the samples.
    pub(super) const fn level(&self) -> u8 {
        (self.meta >> 12) as u8
    }

    /// Of a source or a signal definition.
    pub(super) const fn number(&self) -> u16 {
        self.meta
    }

    /// Of user data: what its writer calls it.
    pub(super) const fn user_number(&self) -> u16 {
        self.meta & 0xfff
    }

    /// Of user data. `None`: nothing is stored.
    pub(super) const fn user_format(&self) -> Option<MarkerFormat> {
        storage(self.level())
    }
}

/// What stored bytes are: bytes, a string, JSON.
const fn storage(number: u8) -> Option<MarkerFormat> {
    match number {
        1 => Some(MarkerFormat::Bytes),
        2 => Some(MarkerFormat::Text),
        3 => Some(MarkerFormat::Json),
        _ => None,
    }
}

/// The payload of these bytes as they are on disk (payload, padding, checksum), if it is intact.
pub(super) fn intact_payload(on_disk: &[u8], payload_bytes: u32) -> Option<&[u8]> {
    let payload = on_disk.get(..usize::try_from(payload_bytes).ok()?)?;
    if payload.is_empty() {
        return Some(payload);
    }
    let crc = u32_at(on_disk, on_disk.len().checked_sub(4)?)?;
    (crc32c::crc32c(payload) == crc).then_some(payload)
}

/// Of a payload with entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PayloadHeader {
    /// The first entry's sample id.
    pub(super) first: i64,
    pub(super) count: u32,
    pub(super) entry_bits: u16,
}

impl PayloadHeader {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        Some(Self {
            first: i64_at(payload, 0)?,
            count: u32_at(payload, 8)?,
            entry_bits: u16_at(payload, 12)?,
        })
    }
}

/// The strings of a definition, each ended by a zero and the separator.
struct Strings<'a>(&'a [u8]);

impl Strings<'_> {
    fn next(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == SEPARATOR);
        let (text, rest) = match end {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        String::from_utf8_lossy(without_zeros(text)).into_owned()
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// A device that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceDefinition {
    pub(super) name: String,
    pub(super) vendor: String,
    pub(super) model: String,
    pub(super) version: String,
    pub(super) serial_number: String,
}

impl SourceDefinition {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut strings = Strings(payload.get(64..)?);
        Some(Self {
            name: strings.next(),
            vendor: strings.next(),
            model: strings.next(),
            version: strings.next(),
            serial_number: strings.next(),
        })
    }
}

/// How samples lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DataType {
    kind: u8,
    pub(super) bits: u8,
    /// Samples are this many binary places too large.
    pub(super) fixed_point: i8,
}

impl DataType {
    const fn new(number: u32) -> Self {
        Self {
            kind: (number & 0xf) as u8,
            bits: (number >> 8) as u8,
            fixed_point: (number >> 16) as u8 as i8,
        }
    }

    /// What the samples become; `i4`, which no stream has, becomes `i8`.
    pub(super) const fn sample_type(self) -> Option<SampleType> {
        Some(match (self.kind, self.bits) {
            (4, 32) => SampleType::F32,
            (4, 64) => SampleType::F64,
            (1, 4 | 8) => SampleType::I8,
            (1, 16) => SampleType::I16,
            (1, 32) => SampleType::I32,
            (1, 64) => SampleType::I64,
            (3, 1) => SampleType::U1,
            (3, 4) => SampleType::U4,
            (3, 8) => SampleType::U8,
            (3, 16) => SampleType::U16,
            (3, 32) => SampleType::U32,
            (3, 64) => SampleType::U64,
            _ => return None,
        })
    }

    /// As JLS writes it.
    pub(super) fn name(self) -> String {
        let kind = match self.kind {
            1 => "i",
            3 => "u",
            4 => "f",
            _ => "?",
        };
        format!("{kind}{}", self.bits)
    }

    /// Is it `i4`, which is widened?
    pub(super) const fn is_widened(self) -> bool {
        self.bits == 4 && self.kind == 1
    }

    /// Bytes of `count` samples in the file.
    pub(super) const fn bytes(self, count: u64) -> u64 {
        count.saturating_mul(self.bits as u64).div_ceil(8)
    }
}

/// A signal that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignalDefinition {
    pub(super) source: u16,
    /// Has it a fixed rate? Those of others are not samples.
    pub(super) has_fixed_rate: bool,
    pub(super) data_type: DataType,
    pub(super) rate_hz: u32,
    pub(super) samples_per_chunk: u32,
    /// Samples of an entry of the first summary.
    pub(super) samples_per_entry: u32,
    pub(super) name: String,
    pub(super) unit: String,
}

impl SignalDefinition {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut strings = Strings(payload.get(128..)?);
        Some(Self {
            source: u16_at(payload, 0)?,
            has_fixed_rate: *payload.get(2)? == 0,
            data_type: DataType::new(u32_at(payload, 4)?),
            rate_hz: u32_at(payload, 8)?,
            samples_per_chunk: u32_at(payload, 12)?,
            samples_per_entry: u32_at(payload, 16)?,
            name: strings.next(),
            unit: strings.next(),
        })
    }
}

/// Where the data chunks lie that an index is about; 0 of one that was left out.
pub(super) fn index_offsets(payload: &[u8], header: &PayloadHeader) -> Option<impl Iterator<Item = u64>> {
    let count = usize::try_from(header.count).ok()?;
    let offsets = payload.get(PAYLOAD_HEADER_BYTES..)?.as_chunks::<8>().0.get(..count)?;
    Some(offsets.iter().map(|offset| u64::from_le_bytes(*offset)))
}

/// The smallest and the largest sample of one entry of a summary.
pub(super) fn summary_range(payload: &[u8], header: &PayloadHeader, entry: u64) -> Option<(f64, f64)> {
    let bytes = usize::from(header.entry_bits / 8);
    let entry = usize::try_from(entry)
        .ok()
        .filter(|entry| *entry < header.count as usize)?;
    let at = PAYLOAD_HEADER_BYTES.checked_add(entry.checked_mul(bytes)?)?;
    match bytes {
        16 => {
            let value = |place: usize| array(payload, at + 4 * place).map(f32::from_le_bytes);
            value(2).zip(value(3)).map(|(min, max)| (min.into(), max.into()))
        }
        32 => {
            let value = |place: usize| array(payload, at + 8 * place).map(f64::from_le_bytes);
            value(2).zip(value(3))
        }
        _ => None,
    }
}

/// The time of one sample: the sample id, and nanoseconds since 1970.
pub(super) fn time(payload: &[u8]) -> Option<(i64, i64)> {
    Some((i64_at(payload, 0)?, utc_ns(i64_at(payload, PAYLOAD_HEADER_BYTES)?)))
}

/// All pairs of a summary of times.
pub(super) fn summary_times(payload: &[u8]) -> impl Iterator<Item = (i64, i64)> {
    let count = PayloadHeader::parse(payload).map_or(0, |header| header.count as usize);
    let entries = payload
        .get(PAYLOAD_HEADER_BYTES..)
        .unwrap_or_default()
        .as_chunks::<16>()
        .0;
    let pair = |entry: &[u8; 16]| Some((i64_at(entry, 0)?, utc_ns(i64_at(entry, 8)?)));
    entries.iter().take(count).filter_map(pair)
}

/// JLS time, in 2^-30 s since 2018, in nanoseconds since 1970: rounded, and saturating.
pub(super) fn utc_ns(time: i64) -> i64 {
    let ns = ((i128::from(time) * NS_PER_SECOND + (1 << 29)) >> 30) + EPOCH_S * NS_PER_SECOND;
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

/// A note at a sample; of the file as a whole, at a time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Annotation {
    /// 0 the application's own, 1 text, 2 vertical, 3 horizontal.
    pub(super) kind: u8,
    pub(super) group: u8,
    pub(super) y: f32,
    pub(super) format: MarkerFormat,
    pub(super) content: Vec<u8>,
}

impl Annotation {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let own = payload.get(PAYLOAD_HEADER_BYTES..)?;
        let bytes = usize::try_from(u32_at(own, 8)?).ok()?;
        let content = payload.get(ANNOTATION_HEADER_BYTES..)?.get(..bytes)?;
        let (format, content) = text(storage(*own.get(1)?)?, content);
        Some(Self {
            kind: *own.first()?,
            group: *own.get(2)?,
            y: array(own, 4).map(f32::from_le_bytes)?,
            format,
            content: content.to_vec(),
        })
    }
}

/// A string without its end. What calls itself one and is not UTF-8 is bytes.
pub(super) fn text(format: MarkerFormat, content: &[u8]) -> (MarkerFormat, &[u8]) {
    if format == MarkerFormat::Bytes {
        return (format, content);
    }
    let content = without_zeros(content);
    match std::str::from_utf8(content) {
        Ok(_) => (format, content),
        Err(_) => (MarkerFormat::Bytes, content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_of_2018_in_parts_of_a_second() {
        assert_eq!(utc_ns(0), 1_514_764_800_000_000_000);
        assert_eq!(utc_ns(3 << 29), 1_514_764_801_500_000_000);
        // 2^-30 s are 0.93 ns.
        assert_eq!([utc_ns(1), utc_ns(-1)].map(|ns| ns - utc_ns(0)), [1, -1]);
        assert_eq!((utc_ns(i64::MAX), utc_ns(i64::MIN) < 0), (i64::MAX, true));
    }

    #[test]
    fn types_are_those_of_streams_and_i4_is_widened() {
        let of = |number| DataType::new(number).sample_type();
        assert_eq!(of(0x2004), Some(SampleType::F32));
        assert_eq!(of(0x4004), Some(SampleType::F64));
        assert_eq!([of(0x0103), of(0x0403)], [Some(SampleType::U1), Some(SampleType::U4)]);
        assert_eq!(
            (of(0x0401), DataType::new(0x0401).is_widened()),
            (Some(SampleType::I8), true)
        );
        assert!(!DataType::new(0x0403).is_widened());
        assert_eq!((of(0x1801), DataType::new(0x1803).name()), (None, "u24".into()));
        assert_eq!(DataType::new(0x00fd_1001).fixed_point, -3);
    }
}
