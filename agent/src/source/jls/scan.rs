//! Finds out what a JLS file holds, in one pass over its chunks from the first to the last: no list, index or length in the file
//! is needed for it, so a file that was never closed reads as well as any. Of data chunks only the headers are read here.
//!
//! # Invariants
//! - I12: what is kept is bounded by `limits::JLS_*`, whatever the file says.
//! - The entries of a signal rise and do not overlap. A chunk that does not follow the one before it is checked before it is believed.

use std::collections::BTreeMap;
use std::io;

use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::limits::{LABEL_BYTES_MAX, LABELS_MAX, MARKER_BYTES_MAX, SAMPLE_ID_MAX};
use wavekeep_proto::stream::SampleType;

use super::format::{
    self, ALIGNMENT, ANNOTATION_HEADER_BYTES, CHUNK_HEADER_BYTES, ChunkHeader, FILE_HEADER_BYTES, FileHeader,
    PAYLOAD_HEADER_BYTES, PayloadHeader, SignalDefinition, SourceDefinition, Tag,
};
use super::{ReadAt, ScanError};
use crate::limits;
use crate::stop::StopToken;

/// Bytes that are searched at once for the next chunk, after damage.
const SEARCH_BYTES: u64 = 64 * 1024;
/// How often a scan looks for a stop and tells how far it is.
const CHUNKS_PER_LOOK: u32 = 1_000;

/// Samples of one signal that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) place: Place,
}

/// Where samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the data chunk at this offset.
    Chunk(u64),
    /// Nowhere: all have this value, and only their summary was written.
    Constant(i16),
}

impl Entry {
    pub(super) const fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// One signal.
#[derive(Debug)]
pub(super) struct ScannedSignal {
    pub(super) definition: SignalDefinition,
    pub(super) entries: Vec<Entry>,
    /// Sample id and nanoseconds since 1970, in the file's order.
    pub(super) times: Vec<(i64, i64)>,
    /// The longest payload of its data chunks.
    pub(super) chunk_bytes: u32,
    /// Of chunks that were left out; merged at the end.
    constants: Vec<Entry>,
}

/// An annotation, by where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundAnnotation {
    pub(super) signal: u8,
    /// A sample id; of signal 0, a JLS time.
    pub(super) at: i64,
    pub(super) offset: u64,
}

/// What the user or the recorder wrote beside the samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserData {
    pub(super) number: u16,
    pub(super) text: String,
}

/// What was not taken, for the person who replays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) damaged_chunks: u64,
    pub(super) user_data: u64,
    pub(super) annotations: u64,
    pub(super) times: u64,
    pub(super) variable_rate_chunks: u64,
    /// Bytes at the end that are no whole chunk.
    pub(super) torn_bytes: u64,
}

/// All of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Was it closed as it should be?
    pub(super) is_closed: bool,
    pub(super) sources: BTreeMap<u16, SourceDefinition>,
    pub(super) signals: BTreeMap<u8, ScannedSignal>,
    pub(super) annotations: Vec<FoundAnnotation>,
    pub(super) user_data: Vec<UserData>,
    pub(super) left: Left,
}

/// Reads the file's chunks one after the other. `progress` is told how many bytes are done.
pub(super) fn scan(
    file: &dyn ReadAt,
    bytes: u64,
    stop: &StopToken,
    progress: &mut dyn FnMut(u64),
) -> Result<Contents, ScanError> {
    let mut start = [0; FILE_HEADER_BYTES as usize];
    if bytes < FILE_HEADER_BYTES {
        return Err(ScanError::NotJls);
    }
    file.read_exact_at(&mut start, 0)?;
    let header = FileHeader::parse(&start).ok_or(ScanError::NotJls)?;
    if header.version_major != 1 {
        return Err(ScanError::Version(header.version_major));
    }
    let mut scan = Scan {
        file,
        bytes,
        contents: Contents::default(),
        chunk_count: 0,
        time_count: 0,
    };
    let (mut at, mut ended, mut looks) = (FILE_HEADER_BYTES, false, 0);
    while !ended && at < bytes {
        if looks == 0 {
            if stop.is_stopped() {
                return Err(ScanError::Stopped);
            }
            progress(at);
        }
        looks = (looks + 1) % CHUNKS_PER_LOOK;
        let Some(header) = scan.header(at)? else {
            let Some(next) = scan.search(at + ALIGNMENT, stop)? else {
                break;
            };
            scan.contents.left.damaged_chunks += 1;
            at = next;
            continue;
        };
        scan.take(at, &header)?;
        ended = header.tag == Tag::End;
        at += header.bytes_on_disk();
    }
    let mut contents = scan.contents;
    contents.is_closed = ended && header.bytes != 0;
    if !ended {
        contents.left.torn_bytes = bytes - at;
    }
    for signal in contents.signals.values_mut() {
        contents.left.damaged_chunks += signal.merge_constants();
    }
    Ok(contents)
}

struct Scan<'a> {
    file: &'a dyn ReadAt,
    bytes: u64,
    contents: Contents,
    chunk_count: usize,
    time_count: usize,
}

impl Scan<'_> {
    /// The header of the chunk at `at`. `None`: there is no whole chunk.
    fn header(&self, at: u64) -> io::Result<Option<ChunkHeader>> {
        let mut header = [0; CHUNK_HEADER_BYTES as usize];
        if self.bytes - at < CHUNK_HEADER_BYTES {
            return Ok(None);
        }
        self.file.read_exact_at(&mut header, at)?;
        let header = ChunkHeader::parse(&header);
        Ok(header.filter(|header| header.bytes_on_disk() <= self.bytes - at))
    }

    /// The next place from `at` on where a whole chunk starts.
    fn search(&self, mut at: u64, stop: &StopToken) -> Result<Option<u64>, ScanError> {
        let mut window = Vec::new();
        while at + CHUNK_HEADER_BYTES <= self.bytes {
            if stop.is_stopped() {
                return Err(ScanError::Stopped);
            }
            let read = (self.bytes - at).min(SEARCH_BYTES);
            window.resize(read as usize, 0);
            self.file.read_exact_at(&mut window, at)?;
            let places = (0..=read - CHUNK_HEADER_BYTES).step_by(ALIGNMENT as usize);
            let starts = |place: &u64| {
                let header = ChunkHeader::parse(&window[*place as usize..]);
                header.is_some_and(|header| header.bytes_on_disk() <= self.bytes - at - place)
            };
            if let Some(place) = places.clone().find(starts) {
                return Ok(Some(at + place));
            }
            // The last place that was looked at, and one further.
            at += (read - CHUNK_HEADER_BYTES) / ALIGNMENT * ALIGNMENT + ALIGNMENT;
        }
        Ok(None)
    }

    fn take(&mut self, at: u64, header: &ChunkHeader) -> Result<(), ScanError> {
        match header.tag {
            Tag::SourceDefinition => self.source(at, header)?,
            Tag::SignalDefinition => self.signal(at, header)?,
            Tag::Samples => self.samples(at, header)?,
            Tag::SampleIndex if header.level() == 1 => self.index(at, header)?,
            Tag::Time => {
                let pair = self.payload(at, header)?.as_deref().and_then(format::time);
                self.times(header.signal(), pair.into_iter());
            }
            Tag::TimeSummary if header.level() == 1 => {
                let payload = self.payload(at, header)?.unwrap_or_default();
                self.times(header.signal(), format::summary_times(&payload));
            }
            Tag::Annotation => self.annotation(at, header)?,
            Tag::UserData => self.user_data(at, header)?,
            Tag::VariableRateSamples => self.contents.left.variable_rate_chunks += 1,
            Tag::SampleIndex | Tag::SampleSummary | Tag::TimeSummary | Tag::End | Tag::Other => {}
        }
        Ok(())
    }

    /// The payload, if it is intact; one that is not counts as damaged.
    fn payload(&mut self, at: u64, header: &ChunkHeader) -> Result<Option<Vec<u8>>, ScanError> {
        let payload = read_payload(self.file, at, header)?;
        self.contents.left.damaged_chunks += u64::from(payload.is_none());
        Ok(payload)
    }

    fn source(&mut self, at: u64, header: &ChunkHeader) -> Result<(), ScanError> {
        let definition = self.payload(at, header)?.as_deref().and_then(SourceDefinition::parse);
        if let Some(definition) = definition {
            self.contents.sources.entry(header.number()).or_insert(definition);
        }
        Ok(())
    }

    fn signal(&mut self, at: u64, header: &ChunkHeader) -> Result<(), ScanError> {
        let definition = self.payload(at, header)?.as_deref().and_then(SignalDefinition::parse);
        if let Some(definition) = definition {
            self.contents.signals.entry(header.signal()).or_insert(ScannedSignal {
                definition,
                entries: Vec::new(),
                times: Vec::new(),
                chunk_bytes: 0,
                constants: Vec::new(),
            });
        }
        Ok(())
    }

    fn samples(&mut self, at: u64, header: &ChunkHeader) -> Result<(), ScanError> {
        let mut start = [0; PAYLOAD_HEADER_BYTES];
        let whole = header.payload_bytes as usize >= PAYLOAD_HEADER_BYTES;
        if whole {
            self.file.read_exact_at(&mut start, at + CHUNK_HEADER_BYTES)?;
        }
        let signal = self.contents.signals.get_mut(&header.signal());
        let (Some(payload), Some(signal), true) = (PayloadHeader::parse(&start), signal, whole) else {
            self.contents.left.damaged_chunks += 1;
            return Ok(());
        };
        let (data_type, samples_bytes) = (signal.definition.data_type, u64::from(header.payload_bytes) - 16);
        let fits = payload.count > 0
            && payload.entry_bits == u16::from(data_type.bits)
            && data_type.bytes(payload.count.into()) <= samples_bytes;
        let follows = signal.entries.last().map(Entry::end) == u64::try_from(payload.first).ok();
        if !fits || !follows && !is_intact(self.file, at)? {
            self.contents.left.damaged_chunks += 1;
            return Ok(());
        }
        let (first, count) = sample_range(payload.first, payload.count.into()).ok_or(ScanError::SampleIds)?;
        // It is intact: if it does not come after what was believed so far, that was damaged.
        while let Some(last) = signal.entries.last().filter(|last| last.end() > first).copied() {
            self.contents.left.damaged_chunks += 1;
            match last.place {
                Place::Chunk(offset) if !is_intact(self.file, offset)? => signal.entries.pop(),
                _ => return Ok(()),
            };
            self.chunk_count -= 1;
        }
        signal.chunk_bytes = signal.chunk_bytes.max(header.payload_bytes);
        let place = Place::Chunk(at);
        signal.entries.push(Entry { first, count, place });
        self.count_chunk()
    }

    fn count_chunk(&mut self) -> Result<(), ScanError> {
        self.chunk_count += 1;
        if self.chunk_count > limits::JLS_CHUNKS_MAX {
            Err(ScanError::TooManyChunks)
        } else {
            Ok(())
        }
    }

    /// Finds the data chunks that were left out, in an index and the summary right after it.
    fn index(&mut self, at: u64, header: &ChunkHeader) -> Result<(), ScanError> {
        let Some(index) = self.payload(at, header)? else {
            return Ok(());
        };
        let Some(index_header) = PayloadHeader::parse(&index) else {
            return Ok(());
        };
        let omitted =
            format::index_offsets(&index, &index_header).is_some_and(|mut offsets| offsets.any(|offset| offset == 0));
        if !omitted {
            return Ok(());
        }
        let summary_at = at + header.bytes_on_disk();
        let summary = match self.header(summary_at)? {
            Some(next) if next.tag == Tag::SampleSummary && (next.signal(), next.level()) == (header.signal(), 1) => {
                read_payload(self.file, summary_at, &next)?
            }
            _ => None,
        };
        let (Some(summary), Some(signal)) = (summary, self.contents.signals.get_mut(&header.signal())) else {
            return Ok(());
        };
        let offsets = format::index_offsets(&index, &index_header).into_iter().flatten();
        let before = signal.constants.len();
        for (_, place) in offsets.zip(0..).filter(|(offset, _)| *offset == 0) {
            if let Some(entry) = signal.definition.constant_entry(place, &index_header, &summary) {
                signal.push_constant(entry);
            }
        }
        for _ in before
            ..self
                .contents
                .signals
                .get(&header.signal())
                .map_or(0, |signal| signal.constants.len())
        {
            self.count_chunk()?;
        }
        Ok(())
    }

    fn times(&mut self, signal: u8, pairs: impl Iterator<Item = (i64, i64)>) {
        let Some(signal) = self.contents.signals.get_mut(&signal) else {
            return;
        };
        for pair in pairs {
            if self.time_count == limits::JLS_TIMES_MAX {
                self.contents.left.times += 1;
                continue;
            }
            self.time_count += 1;
            signal.times.push(pair);
        }
    }

    fn annotation(&mut self, at: u64, header: &ChunkHeader) -> Result<(), ScanError> {
        let is_short = header.payload_bytes as usize <= MARKER_BYTES_MAX + ANNOTATION_HEADER_BYTES;
        if !is_short || self.contents.annotations.len() == limits::JLS_ANNOTATIONS_MAX {
            self.contents.left.annotations += 1;
            return Ok(());
        }
        let payload = self.payload(at, header)?;
        if let Some(start) = payload.as_deref().and_then(PayloadHeader::parse) {
            self.contents.annotations.push(FoundAnnotation {
                signal: header.signal(),
                at: start.first,
                offset: at,
            });
        }
        Ok(())
    }

    fn user_data(&mut self, at: u64, header: &ChunkHeader) -> Result<(), ScanError> {
        // Every file starts with an empty one.
        let Some(stored) = header.user_format() else {
            return Ok(());
        };
        let is_short = header.payload_bytes as usize <= LABEL_BYTES_MAX + 2;
        let payload = if is_short && self.contents.user_data.len() < LABELS_MAX {
            self.payload(at, header)?
        } else {
            None
        };
        let text = payload.as_deref().map(|payload| format::text(stored, payload));
        let text = text.filter(|(format, _)| *format != MarkerFormat::Bytes);
        match text.and_then(|(_, text)| String::from_utf8(text.to_vec()).ok()) {
            Some(text) => self.contents.user_data.push(UserData {
                number: header.user_number(),
                text,
            }),
            None => self.contents.left.user_data += 1,
        }
        Ok(())
    }
}

/// A payload, if it is intact.
pub(super) fn read_payload(file: &dyn ReadAt, at: u64, header: &ChunkHeader) -> Result<Option<Vec<u8>>, ScanError> {
    if header.payload_bytes > limits::JLS_CHUNK_BYTES_MAX {
        return Err(ScanError::LongChunk(header.payload_bytes));
    }
    // The chunk lies within the file: no more is allocated than is there.
    let mut payload = vec![0; (header.bytes_on_disk() - CHUNK_HEADER_BYTES) as usize];
    file.read_exact_at(&mut payload, at + CHUNK_HEADER_BYTES)?;
    let is_intact = format::intact_payload(&payload, header.payload_bytes).is_some();
    payload.truncate(header.payload_bytes as usize);
    Ok(is_intact.then_some(payload))
}

fn is_intact(file: &dyn ReadAt, at: u64) -> Result<bool, ScanError> {
    let mut header = [0; CHUNK_HEADER_BYTES as usize];
    file.read_exact_at(&mut header, at)?;
    match ChunkHeader::parse(&header) {
        Some(header) => Ok(read_payload(file, at, &header)?.is_some()),
        None => Ok(false),
    }
}

/// First sample and count, if they are sample ids.
fn sample_range(first: i64, count: u64) -> Option<(u64, u64)> {
    let first = u64::try_from(first).ok()?;
    (first.checked_add(count)? <= SAMPLE_ID_MAX).then_some((first, count))
}

impl SignalDefinition {
    /// The data chunk at this place of an index, which was left out because all its samples are the same.
    fn constant_entry(&self, place: u64, index: &PayloadHeader, summary: &[u8]) -> Option<Entry> {
        let (samples, step) = (u64::from(self.samples_per_chunk), u64::from(self.samples_per_entry));
        let summary_header = PayloadHeader::parse(summary)?;
        let first = index.first.checked_add_unsigned(place.checked_mul(samples)?)?;
        let from = u64::try_from(first.checked_sub(summary_header.first)?)
            .ok()?
            .checked_div(step)?;
        let entries = samples.checked_div(step).filter(|entries| *entries > 0)?;
        let range = |entry| format::summary_range(summary, &summary_header, entry);
        let (value, _) = range(from)?;
        // Bounded: `range` is `None` beyond what the summary holds.
        for entry in from..from.checked_add(entries)? {
            if range(entry)? != (value, value) {
                return None;
            }
        }
        // Longer samples are never left out: their summary would not say them exactly. Nor is a chunk that nobody could have written.
        let bits = u32::from(self.data_type.bits);
        if bits > 8 || self.data_type.bytes(samples) > u64::from(limits::JLS_CHUNK_BYTES_MAX) {
            return None;
        }
        let smallest = match self.data_type.sample_type()? {
            SampleType::I8 => -f64::from(1 << (bits - 1)),
            _ => 0.0,
        };
        let is_sample = value.fract() == 0.0 && value >= smallest && value < smallest + f64::from(1 << bits);
        let (first, count) = sample_range(first, samples)?;
        is_sample.then_some(Entry {
            first,
            count,
            place: Place::Constant(value as i16),
        })
    }
}

impl ScannedSignal {
    fn push_constant(&mut self, entry: Entry) {
        match self.constants.last_mut() {
            Some(last) if last.end() == entry.first && last.place == entry.place => last.count += entry.count,
            _ => self.constants.push(entry),
        }
    }

    /// Brings the entries in order; what overlaps what comes before it is dropped, and counted.
    fn merge_constants(&mut self) -> u64 {
        self.entries.append(&mut self.constants);
        self.entries.sort_by_key(|entry| entry.first);
        let (mut end, before) = (0, self.entries.len());
        self.entries.retain(|entry| {
            let follows = entry.first >= end;
            if follows {
                end = entry.end();
            }
            follows
        });
        (before - self.entries.len()) as u64
    }

    /// Where its samples start and end.
    pub(super) fn range(&self) -> Option<std::ops::Range<u64>> {
        Some(self.entries.first()?.first..self.entries.last()?.end())
    }
}
