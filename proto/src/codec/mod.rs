//! How a column's samples are encoded: raw little-endian bytes in, a self-describing encoding and its bytes out.
//!
//! The *raw* form, which is also what the column hash covers, is the samples one after the other, little-endian;
//! samples of 1 and 4 bits are packed, the first in the least significant bits of the first byte, and the bits after
//! the last sample are zero. [`encoded_samples_bytes`] is its size. Each column says which [`Encoding`] it has:
//!
//! | wire number | name | bytes |
//! |---|---|---|
//! | 1 | `plain` | the raw form itself |
//! | 2 | `shuffle+zstd` | one zstd frame of the shuffled raw form; docs/PROTOCOL.md specifies it, docs/adr/0003 says why |
//! | 3 | `pco` | one standalone Pco file of one chunk; for samples of 8 to 64 bits, which are numbers to it. docs/adr/0014 says when it is used |
//!
//! # Invariants
//! - Lossless, bit for bit, NaN payloads and −0.0 included: samples are bytes here, and where they are numbers, to `pco`, what
//!   was encoded is decoded and compared.
//! - The encoded bytes are never more than the raw bytes (I12): what would grow is stored `plain`, and what has grown
//!   is refused. So [`crate::limits::CHUNK_COLUMN_BYTES_MAX`] holds for every encoding.
//! - Encoded bytes come from a socket, a disk or a database: [`Decoder`] answers every byte string with the samples or
//!   with a [`CodecError`]; it never panics, and its memory follows the count that it was told, never what the bytes say.

mod pco;
#[cfg(test)]
mod pco_tests;
mod plain;
pub mod shuffle;
mod shuffle_zstd;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::limits::CHUNK_SAMPLES_MAX;
use crate::stream::SampleType;

/// How a column's bytes are encoded. The numbers are stored: never renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Encoding {
    /// The raw form.
    Plain = 1,
    /// Byte planes, then zstd.
    ShuffleZstd = 2,
    /// A Pco file of one chunk.
    Pco = 3,
}

impl Encoding {
    /// What this version writes and reads: what an agent offers in `Hello`.
    pub const SUPPORTED: [Self; 3] = [Self::Plain, Self::ShuffleZstd, Self::Pco];

    /// From its wire number; unknown numbers are refused, never guessed.
    #[must_use]
    pub const fn from_wire(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Plain),
            2 => Some(Self::ShuffleZstd),
            3 => Some(Self::Pco),
            _ => None,
        }
    }

    /// Its wire number.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        self as u32
    }

    /// As people and SQL write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::ShuffleZstd => "shuffle+zstd",
            Self::Pco => "pco",
        }
    }

    /// Can samples of this type be encoded so? Where not, [`Encoder::encode`] stores them `plain`.
    #[must_use]
    pub const fn has(self, sample_type: SampleType) -> bool {
        match self {
            Self::Plain | Self::ShuffleZstd => true,
            Self::Pco => pco::has(sample_type),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Why encoded bytes are not a column of so many samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// What `pco` cannot encode.
    #[error("{} samples are no numbers to pco: encode them as plain or shuffle+zstd", .0.name())]
    NotANumber(SampleType),
    /// More than a chunk holds.
    #[error("{0} samples are more than the {CHUNK_SAMPLES_MAX} of a chunk: split the column")]
    Count(usize),
    /// The column's size, as its length or as its frame declares it, is not that of its samples.
    #[error(
        "the column holds {found} bytes and its samples take {expected}: count or sample type are not this column's"
    )]
    Size {
        /// Bytes of the raw form.
        expected: usize,
        /// Bytes found or declared.
        found: u64,
    },
    /// An encoding that grows its samples must not be used.
    #[error("the encoded column has {encoded} bytes and its samples only {raw}: encode it as plain")]
    Grown {
        /// Bytes of the encoded form.
        encoded: usize,
        /// Bytes of the raw form.
        raw: usize,
    },
    /// Bits after the last packed sample.
    #[error("the bits after the last packed sample are not zero: clear them before the column is hashed")]
    Padding,
    /// Not exactly one frame.
    #[error("the column is not one whole zstd frame that declares its size: it was cut, extended or never encoded")]
    Frame,
    /// Not one whole Pco file of the column's samples.
    #[error("the column is no pco file of its samples ({0}): fetch or send it again")]
    Pco(&'static str),
    /// A frame that does not decompress; the text is zstd's.
    #[error("the column's zstd frame is damaged ({0}): fetch or send it again")]
    Damaged(&'static str),
    /// No memory for the samples or for zstd.
    #[error("no memory for the {0} bytes of the column")]
    Memory(usize),
}

/// Bytes of `count` samples of `width_bits` bits in the raw form. Saturates instead of overflowing.
#[must_use]
pub const fn encoded_samples_bytes(width_bits: u32, count: usize) -> usize {
    let bytes = (count as u128 * width_bits as u128).div_ceil(8);
    if bytes > usize::MAX as u128 {
        usize::MAX
    } else {
        bytes as usize
    }
}

/// Encodes columns, reusing its buffers and zstd's tables: one for each source thread.
pub struct Encoder {
    shuffle_zstd: shuffle_zstd::Compressor,
    pco: pco::Compressor,
}

impl Encoder {
    /// With no buffers yet; they grow to the largest column.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shuffle_zstd: shuffle_zstd::Compressor::new(),
            pco: pco::Compressor::new(),
        }
    }

    /// Encodes a column's raw form, and says how: as chosen if that makes it smaller, else `plain`. Cannot fail, so
    /// that no capture stops for it.
    ///
    /// # Panics
    /// If `raw` is not whole samples of the type, or more than a chunk may hold (I12).
    #[must_use]
    pub fn encode(&mut self, choice: Encoding, sample_type: SampleType, raw: &[u8]) -> (Encoding, Vec<u8>) {
        let width_bits = sample_type.bits();
        let raw_bytes_max = encoded_samples_bytes(width_bits, CHUNK_SAMPLES_MAX as usize);
        assert!(
            raw.len() <= raw_bytes_max,
            "I12: {} bytes of {width_bits}-bit samples do not fit a chunk",
            raw.len()
        );
        assert!(
            raw.len().is_multiple_of(width_bytes(width_bits)),
            "{} bytes cut a {width_bits}-bit sample",
            raw.len()
        );
        let smaller = match choice {
            Encoding::Plain => None,
            Encoding::ShuffleZstd => self.shuffle_zstd.compress(width_bytes(width_bits), raw),
            Encoding::Pco => self.pco.compress(sample_type, raw),
        };
        match smaller {
            Some(encoded) => (choice, encoded),
            None => (Encoding::Plain, raw.to_vec()),
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Decodes columns from anywhere, reusing its buffers and zstd's tables.
pub struct Decoder {
    shuffle_zstd: shuffle_zstd::Decompressor,
    pco: pco::Decompressor,
}

impl Decoder {
    /// With no buffers yet; they grow to the largest column.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shuffle_zstd: shuffle_zstd::Decompressor::new(),
            pco: pco::Decompressor::default(),
        }
    }

    /// Replaces `out` by the raw form of `count` samples, or empties it. Takes no more memory than
    /// [`encoded_samples_bytes`] in `out`, and a few times that in buffers of its own for samples wider than a byte; `pco` has
    /// up to 2 MiB of tables besides.
    ///
    /// # Errors
    /// If the bytes are not exactly this encoding of exactly that many samples.
    pub fn decode_into(
        &mut self,
        encoding: Encoding,
        sample_type: SampleType,
        count: usize,
        encoded: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let result = self.decode(encoding, sample_type, count, encoded, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn decode(
        &mut self,
        encoding: Encoding,
        sample_type: SampleType,
        count: usize,
        encoded: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        if count as u64 > CHUNK_SAMPLES_MAX {
            return Err(CodecError::Count(count));
        }
        let width_bits = sample_type.bits();
        let raw_bytes = encoded_samples_bytes(width_bits, count);
        match encoding {
            Encoding::Plain => plain::decode(raw_bytes, encoded, out)?,
            Encoding::ShuffleZstd => {
                self.shuffle_zstd
                    .decompress(width_bytes(width_bits), raw_bytes, encoded, out)?;
            }
            Encoding::Pco => self.pco.decompress(sample_type, count, encoded, out)?,
        }
        plain::check_padding(width_bits, count, out)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of one sample; packed samples count as bytes, since nothing looks inside them.
const fn width_bytes(width_bits: u32) -> usize {
    width_bits.div_ceil(8) as usize
}

/// Sets the length of a buffer that is about to be overwritten, without giving up on the process when memory is short.
fn set_len(buffer: &mut Vec<u8>, bytes: usize) -> Result<(), CodecError> {
    let more = bytes.saturating_sub(buffer.len());
    buffer.try_reserve_exact(more).map_err(|_| CodecError::Memory(bytes))?;
    buffer.resize(bytes, 0);
    Ok(())
}
