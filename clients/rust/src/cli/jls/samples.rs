//! The samples of one signal of a JLS file, and their summaries: an entry for so many samples, an entry for so many of these, and so on.
//!
//! # Invariants
//! - Samples come out as they went in, bit for bit; summaries are of the finite ones, and NaN where there is none.
//! - Everything that was written can be found from its level's first chunk: an index is written also where too few samples came for an
//!   entry of its summary.
//! - I12: one chunk of samples and one of each level are held.

use std::io::{self, Seek, Write};

use wavekeep::proto::stream::SampleType;

use super::chunks::{Chunks, List, meta, payload, tag};

/// Levels of a track, samples among them.
pub(super) const LEVELS: usize = 16;
/// Entries of a level that are one of the next.
const ENTRIES_PER_ENTRY: usize = 20;

/// How a signal of one type lies in the file: as the official writer chooses where nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) data_type: u32,
    pub(super) samples_per_chunk: u32,
    pub(super) samples_per_entry: u32,
    pub(super) entries_per_chunk: u32,
    /// Of a number in a summary.
    summary_bits: u16,
}

impl Shape {
    /// `None`: JLS has no such samples.
    pub(super) fn of(sample_type: SampleType) -> Option<Self> {
        let (signed, unsigned, float) = (1, 3, 4);
        let kind = match sample_type {
            SampleType::F32 | SampleType::F64 => float,
            SampleType::I8 | SampleType::I16 | SampleType::I32 | SampleType::I64 => signed,
            SampleType::U1 | SampleType::U4 | SampleType::U8 => unsigned,
            SampleType::U16 | SampleType::U32 | SampleType::U64 => unsigned,
            SampleType::I128 => return None,
        };
        let bits = sample_type.bits();
        let (samples_per_chunk, samples_per_entry, entries_per_chunk) = match bits {
            1 | 4 => (65_536, 1024, 1280),
            8 => (32_768, 1024, 640),
            16 => (16_384, 256, 1280),
            _ => (8_192, 128, 640),
        };
        let is_wide = bits == 64 || matches!(sample_type, SampleType::I32 | SampleType::U32);
        Some(Self {
            data_type: kind | bits << 8,
            samples_per_chunk,
            samples_per_entry,
            entries_per_chunk,
            summary_bits: if is_wide { 64 } else { 32 },
        })
    }

    /// As it is stored.
    fn rounded(self, value: f64) -> f64 {
        if self.summary_bits == 32 {
            f64::from(value as f32)
        } else {
            value
        }
    }
}

/// Of finite samples; the deviation is that of the population.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    mean: f64,
    std: f64,
    min: f64,
    max: f64,
}

impl Entry {
    fn of_samples(samples: &[f64]) -> Self {
        let finite = || samples.iter().copied().filter(|value| value.is_finite());
        let count = finite().count() as f64;
        let mean = finite().sum::<f64>() / count;
        let square = finite().map(|value| (value - mean) * (value - mean)).sum::<f64>();
        Self {
            mean,
            std: (square / count).sqrt(),
            min: finite().fold(f64::NAN, f64::min),
            max: finite().fold(f64::NAN, f64::max),
        }
    }

    /// Of entries that count alike.
    fn of_entries(entries: &[Self]) -> Self {
        let finite = || entries.iter().filter(|entry| entry.mean.is_finite());
        let count = finite().count() as f64;
        let mean = finite().map(|entry| entry.mean).sum::<f64>() / count;
        let square = |entry: &Self| entry.std * entry.std + (entry.mean - mean) * (entry.mean - mean);
        Self {
            mean,
            std: (finite().map(square).sum::<f64>() / count).sqrt(),
            min: finite().fold(f64::NAN, |min, entry| min.min(entry.min)),
            max: finite().fold(f64::NAN, |max, entry| max.max(entry.max)),
        }
    }
}

/// What waits of one level above the samples.
#[derive(Debug, Default)]
struct Level {
    first_sample: i64,
    offsets: Vec<u64>,
    entries: Vec<Entry>,
    indices: List,
    summaries: List,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Samples {
    signal: u16,
    sample_type: SampleType,
    shape: Shape,
    /// The first sample that waits, how many do, and their bytes.
    first: u64,
    count: u32,
    bytes: Vec<u8>,
    data: List,
    levels: Vec<Level>,
    /// The first chunk of each level.
    pub(super) heads: [u64; LEVELS],
}

impl Samples {
    pub(super) fn new(signal: u16, sample_type: SampleType, shape: Shape) -> Self {
        Self {
            signal,
            sample_type,
            shape,
            first: 0,
            count: 0,
            bytes: Vec::new(),
            data: List::default(),
            levels: Vec::new(),
            heads: [0; LEVELS],
        }
    }

    /// Appends `count` samples of a column's own bytes.
    pub(super) fn add(
        &mut self,
        chunks: &mut Chunks,
        out: &mut (impl Write + Seek),
        bytes: &[u8],
        count: u64,
    ) -> io::Result<()> {
        let mut from = 0;
        while from < count {
            let now = (count - from).min(u64::from(self.shape.samples_per_chunk - self.count));
            self.take(bytes, from as usize, now as usize);
            from += now;
            if self.count == self.shape.samples_per_chunk {
                self.end_chunk(chunks, out)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], from: usize, count: usize) {
        let bits = self.sample_type.bits() as usize;
        if bits >= 8 {
            self.bytes
                .extend_from_slice(&bytes[from * bits / 8..(from + count) * bits / 8]);
        } else {
            let held = self.count as usize;
            self.bytes.resize(((held + count) * bits).div_ceil(8), 0);
            for at in 0..count {
                let value = bytes[(from + at) * bits / 8] >> ((from + at) * bits % 8) & ((1 << bits) - 1);
                self.bytes[(held + at) * bits / 8] |= value << ((held + at) * bits % 8);
            }
        }
        self.count += count as u32;
    }

    fn end_chunk(&mut self, chunks: &mut Chunks, out: &mut (impl Write + Seek)) -> io::Result<()> {
        let first = self.first.cast_signed();
        let bits = self.sample_type.bits() as u16;
        let mut data = payload(first, self.count as usize, bits, self.bytes.len());
        data.extend_from_slice(&self.bytes);
        let offset = chunks.append(
            out,
            &mut self.data,
            tag::FIXED_RATE | tag::DATA,
            meta(self.signal, 0),
            &data,
        )?;
        if self.heads[0] == 0 {
            self.heads[0] = offset;
        }
        let values = values(self.sample_type, &self.bytes, self.count as usize);
        let shape = self.shape;
        let level = self.level(1, first);
        level.offsets.push(offset);
        let entries = values
            .chunks_exact(shape.samples_per_entry as usize)
            .map(Entry::of_samples);
        level.entries.extend(entries.map(|entry| rounded(shape, entry)));
        let is_full = level.entries.len() >= shape.entries_per_chunk as usize;
        self.first += u64::from(self.count);
        self.count = 0;
        self.bytes.clear();
        if is_full {
            self.end_level(1, chunks, out)?;
        }
        Ok(())
    }

    /// What waits of a level; where nothing does, it begins with this sample.
    fn level(&mut self, level: usize, first_sample: i64) -> &mut Level {
        while self.levels.len() < level {
            self.levels.push(Level::default());
        }
        let level = &mut self.levels[level - 1];
        if level.offsets.is_empty() {
            level.first_sample = first_sample;
        }
        level
    }

    /// Writes what waits of a level, and tells the one above.
    fn end_level(&mut self, at: usize, chunks: &mut Chunks, out: &mut (impl Write + Seek)) -> io::Result<()> {
        let (shape, signal) = (self.shape, self.signal);
        let level = &mut self.levels[at - 1];
        let mut index = payload(level.first_sample, level.offsets.len(), 64, 8 * level.offsets.len());
        index.extend(level.offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        let entry_bits = 4 * shape.summary_bits;
        let bytes = level.entries.len() * usize::from(entry_bits / 8);
        let mut summary = payload(level.first_sample, level.entries.len(), entry_bits, bytes);
        for entry in &level.entries {
            for value in [entry.mean, entry.std, entry.min, entry.max] {
                if shape.summary_bits == 32 {
                    summary.extend((value as f32).to_le_bytes());
                } else {
                    summary.extend(value.to_le_bytes());
                }
            }
        }
        let meta = meta(signal, at);
        let offset = chunks.append(out, &mut level.indices, tag::FIXED_RATE | tag::INDEX, meta, &index)?;
        chunks.append(
            out,
            &mut level.summaries,
            tag::FIXED_RATE | tag::SUMMARY,
            meta,
            &summary,
        )?;
        level.offsets.clear();
        let (first_sample, entries) = (level.first_sample, std::mem::take(&mut level.entries));
        if self.heads[at] == 0 {
            self.heads[at] = offset;
        }
        if at + 1 == LEVELS {
            return Ok(());
        }
        let above = self.level(at + 1, first_sample);
        above.offsets.push(offset);
        let folded = entries.chunks_exact(ENTRIES_PER_ENTRY).map(Entry::of_entries);
        above.entries.extend(folded.map(|entry| rounded(shape, entry)));
        if above.entries.len() >= shape.entries_per_chunk as usize {
            self.end_level(at + 1, chunks, out)?;
        }
        Ok(())
    }

    /// Writes what waits of all levels.
    pub(super) fn finish(&mut self, chunks: &mut Chunks, out: &mut (impl Write + Seek)) -> io::Result<()> {
        if self.count > 0 {
            self.end_chunk(chunks, out)?;
        }
        let mut at = 1;
        while let Some(level) = self.levels.get(at - 1) {
            let is_needless = self.heads[at] == 0 && level.entries.is_empty();
            if !level.offsets.is_empty() && !is_needless {
                self.end_level(at, chunks, out)?;
            }
            at += 1;
        }
        Ok(())
    }
}

fn rounded(shape: Shape, entry: Entry) -> Entry {
    Entry {
        mean: shape.rounded(entry.mean),
        std: shape.rounded(entry.std),
        min: shape.rounded(entry.min),
        max: shape.rounded(entry.max),
    }
}

fn values(sample_type: SampleType, bytes: &[u8], count: usize) -> Vec<f64> {
    macro_rules! numbers {
        ($number:ty) => {
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| <$number>::from_le_bytes(*bytes) as f64)
                .collect()
        };
    }
    match sample_type {
        SampleType::F32 => numbers!(f32),
        SampleType::F64 => numbers!(f64),
        SampleType::I8 => numbers!(i8),
        SampleType::I16 => numbers!(i16),
        SampleType::I32 => numbers!(i32),
        SampleType::I64 => numbers!(i64),
        SampleType::U8 => numbers!(u8),
        SampleType::U16 => numbers!(u16),
        SampleType::U32 => numbers!(u32),
        SampleType::U64 => numbers!(u64),
        SampleType::I128 => numbers!(i128),
        SampleType::U4 | SampleType::U1 => {
            let bits = sample_type.bits() as usize;
            let at = |sample: usize| bytes[sample * bits / 8] >> (sample * bits % 8) & ((1 << bits) - 1);
            (0..count).map(|sample| f64::from(at(sample))).collect()
        }
    }
}
