//! `pco`: the samples as one standalone file of the Pco format, with one chunk.
//!
//! docs/PROTOCOL.md specifies what of the format may occur. It is what `pcodec.standalone` writes and reads in Python.
//! Samples of 1, 4 and 128 bits are no numbers to it.
//!
//! # Invariants
//! - What was compressed is decompressed again and compared before it is kept: lossless is our promise, not only that of
//!   an encoder that fits models to floats. It takes a tenth of the time.
//! - Bytes from elsewhere: whatever sizes them is looked at before anything of that size is made. The header is ours, a
//!   dictionary is refused by its first bits, and how far back a chunk refers is held against the samples that it was
//!   told to have. What is left is bounded by the format: bins, under 2 MiB.

use pco::data_types::{Number, NumberType};
use pco::metadata::DeltaEncoding;
use pco::wrapped::FileDecompressor;
use pco::{ChunkConfig, DecompressorScratch, FULL_BATCH_N};

use super::{CodecError, set_len};
use crate::stream::SampleType;

/// On real recordings and on what instruments' codes look like, the smallest, and often the fastest: docs/adr/0014.
const LEVEL: usize = 8;
/// Decoded at once, into a block that stays in the first-level cache; whole batches of pco's.
const BLOCK_SAMPLES: usize = 4 * FULL_BATCH_N;

const MAGIC: &[u8] = b"pco!";
/// Of the standalone file; what it wraps has its own.
const STANDALONE_VERSION: u8 = 3;
const FORMAT_MAJOR: u8 = 4;
/// In place of a type: none is said for the whole file. And after the last chunk.
const NO_TYPE: u8 = 0;
/// In the lowest bits of a chunk: its numbers are indices into a list of its own.
const MODE_BITS: u8 = 0b1111;
const MODE_DICTIONARY: u8 = 4;
/// References go back this far at least, in the smallest chunk.
const WINDOW_MIN: usize = 16;

/// A sample type that is a number to pco.
trait Sample: Number + Default {
    fn from_raw(raw: &[u8]) -> Vec<Self>;
    fn to_raw(samples: &[Self], raw: &mut [u8]);
}

macro_rules! samples {
    ($($of:ty),*) => {$(
        impl Sample for $of {
            fn from_raw(raw: &[u8]) -> Vec<Self> {
                raw.as_chunks().0.iter().map(|bytes| Self::from_le_bytes(*bytes)).collect()
            }
            fn to_raw(samples: &[Self], raw: &mut [u8]) {
                for (bytes, sample) in raw.as_chunks_mut().0.iter_mut().zip(samples) {
                    *bytes = sample.to_le_bytes();
                }
            }
        }
    )*};
}

samples!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64);

/// Calls a generic function for a sample type; `$none` where it is no number.
macro_rules! for_type {
    ($sample_type:expr, $function:ident($($argument:expr),*), $none:expr) => {
        match $sample_type {
            SampleType::F32 => $function::<f32>($($argument),*),
            SampleType::F64 => $function::<f64>($($argument),*),
            SampleType::I8 => $function::<i8>($($argument),*),
            SampleType::I16 => $function::<i16>($($argument),*),
            SampleType::I32 => $function::<i32>($($argument),*),
            SampleType::I64 => $function::<i64>($($argument),*),
            SampleType::U8 => $function::<u8>($($argument),*),
            SampleType::U16 => $function::<u16>($($argument),*),
            SampleType::U32 => $function::<u32>($($argument),*),
            SampleType::U64 => $function::<u64>($($argument),*),
            SampleType::U4 | SampleType::U1 | SampleType::I128 => $none,
        }
    };
}

/// Is it a number?
pub(super) const fn has(sample_type: SampleType) -> bool {
    !matches!(sample_type, SampleType::U4 | SampleType::U1 | SampleType::I128)
}

/// The writing half: pco keeps no tables between chunks, so only the file is a buffer.
pub(super) struct Compressor {
    config: ChunkConfig,
    file: Vec<u8>,
    checker: Decompressor,
    checked: Vec<u8>,
}

impl Compressor {
    pub(super) fn new() -> Self {
        Self {
            config: ChunkConfig::default()
                .with_compression_level(LEVEL)
                .with_enable_8_bit(true),
            file: Vec::new(),
            checker: Decompressor::default(),
            checked: Vec::new(),
        }
    }

    /// The file, if it is smaller than the raw form, and if it gives that back.
    pub(super) fn compress(&mut self, sample_type: SampleType, raw: &[u8]) -> Option<Vec<u8>> {
        self.file.clear();
        for_type!(sample_type, write(raw, &self.config, &mut self.file), None)?;
        if self.file.len() >= raw.len() {
            return None;
        }
        let count = raw.len() / (sample_type.bits() as usize / 8);
        self.checker
            .decompress(sample_type, count, &self.file, &mut self.checked)
            .ok()?;
        (self.checked == raw).then(|| self.file.clone())
    }
}

/// None if there are no samples, the one thing that pco refuses.
fn write<T: Sample>(raw: &[u8], config: &ChunkConfig, file: &mut Vec<u8>) -> Option<()> {
    let samples = T::from_raw(raw);
    pco::standalone::simple_compress_into(&samples, config, file).ok()?;
    Some(())
}

/// The reading half, with pco's scratch.
#[derive(Default)]
pub(super) struct Decompressor {
    scratch: DecompressorScratch,
}

impl Decompressor {
    /// Fills `out` with the raw form of `count` samples.
    pub(super) fn decompress(
        &mut self,
        sample_type: SampleType,
        count: usize,
        encoded: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let none = Err(CodecError::NotANumber(sample_type));
        for_type!(sample_type, read(&mut self.scratch, count, encoded, out), none)
    }
}

fn read<T: Sample>(
    scratch: &mut DecompressorScratch,
    count: usize,
    encoded: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let raw_bytes = count * size_of::<T>();
    if encoded.len() > raw_bytes {
        return Err(CodecError::Grown {
            encoded: encoded.len(),
            raw: raw_bytes,
        });
    }
    let damaged = |_| CodecError::Pco("it is damaged");
    let number_type = NumberType::new::<T>() as u8;
    let wrapped = standalone_header(number_type, encoded)?;
    // pco knows older formats too; no column has one.
    let (file, chunk) = FileDecompressor::new(wrapped).map_err(damaged)?;
    if file.format_version().major != FORMAT_MAJOR || file.format_version().can_be_decompressed() != Some(true) {
        return Err(CodecError::Pco("its format is newer or older"));
    }
    let meta = chunk_header(number_type, count, chunk)?;
    let (chunk, page) = file.chunk_decompressor::<T, _>(meta).map_err(damaged)?;
    check_references(&chunk.meta().delta_encoding, count)?;
    let mut page = chunk
        .page_decompressor_with_scratch(page, count, scratch)
        .map_err(damaged)?;
    set_len(out, raw_bytes)?;
    let mut block = [T::default(); BLOCK_SAMPLES];
    for raw in out.chunks_mut(BLOCK_SAMPLES * size_of::<T>()) {
        let samples = &mut block[..raw.len() / size_of::<T>()];
        let progress = page.read(samples).map_err(damaged)?;
        if progress.n_processed != samples.len() {
            return Err(CodecError::Pco("it ends before its last sample"));
        }
        T::to_raw(samples, raw);
    }
    match page.into_src() {
        [NO_TYPE] => Ok(()),
        _ => Err(CodecError::Pco("it has no end, or goes on after it")),
    }
}

/// What follows the header of the file: its magic number, version, the type that all chunks have, if it says, and a hint
/// of a few bytes at how many numbers there are.
fn standalone_header(number_type: u8, file: &[u8]) -> Result<&[u8], CodecError> {
    let Some([STANDALONE_VERSION, of, hint @ ..]) = file.strip_prefix(MAGIC) else {
        return Err(CodecError::Pco("it does not begin as one"));
    };
    if *of != NO_TYPE && *of != number_type {
        return Err(CodecError::Pco("its samples are of another type"));
    }
    // Six bits say how many bits less one follow, and the last byte is filled up.
    let bits = hint.first().map(|first| 6 + 1 + usize::from(first & 0b11_1111));
    bits.and_then(|bits| hint.get(bits.div_ceil(8)..))
        .ok_or(CodecError::Pco("it is cut"))
}

/// What follows the header of the chunk: its type, and its count less one. Its first bits say what its numbers are.
fn chunk_header(number_type: u8, count: usize, chunk: &[u8]) -> Result<&[u8], CodecError> {
    let [of, low, middle, high, meta @ ..] = chunk else {
        return Err(CodecError::Pco("it is cut"));
    };
    if *of != number_type {
        return Err(CodecError::Pco("its samples are of another type"));
    }
    let numbers = u32::from_le_bytes([*low, *middle, *high, 0]) as usize + 1;
    if numbers != count {
        return Err(CodecError::Pco("it has more samples, or fewer"));
    }
    match meta.first() {
        Some(first) if first & MODE_BITS == MODE_DICTIONARY => Err(CodecError::Pco("it has a dictionary")),
        _ => Ok(meta),
    }
}

/// A window is a buffer of pco's. No encoder takes one that is larger than the chunk.
fn check_references(delta: &DeltaEncoding, count: usize) -> Result<(), CodecError> {
    match delta {
        DeltaEncoding::NoOp | DeltaEncoding::Consecutive { .. } => Ok(()),
        DeltaEncoding::Lookback { config, .. }
            if 1_usize << config.window_n_log <= count.next_power_of_two().max(WINDOW_MIN) =>
        {
            Ok(())
        }
        DeltaEncoding::Lookback { .. } => Err(CodecError::Pco("it refers back further than it has samples")),
        _ => Err(CodecError::Pco("it predicts in a way that is not used here")),
    }
}
