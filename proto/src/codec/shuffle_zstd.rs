//! `shuffle+zstd`: the raw form, byte-shuffled, as one zstd frame.
//!
//! docs/PROTOCOL.md specifies it, with an example: one frame of RFC 8878 with its content size in its header, whose content is
//! the planes of the raw form (samples of 2, 4, 8 and 16 bytes) or the raw form itself (8 bits and packed).
//!
//! A frame longer than the raw form is refused, so an empty column is always `plain`. How hard the frame was
//! compressed is the encoder's business, not the format's: level and window below may change with no new number.
//!
//! # Why a small window
//! A frame's blocks are never larger than its window, and each block brings its own Huffman table. So a window of at
//! most a plane keeps the table of noise apart from the table of exponents, and a small one follows the signal's
//! level. Matches further away than that are rare in noise. docs/adr/0003 has the figures.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, ResetDirective};

use super::{CodecError, set_len, shuffle};

/// Cheap enough for a capture thread: about a nanosecond a byte.
const LEVEL: i32 = 1;
/// Log2 of the window of shuffled samples: the smallest that zstd knows, and where smaller blocks cost more than they gain.
const WINDOW_LOG_MIN: u32 = 10;
/// See [`WINDOW_LOG_MIN`].
const WINDOW_LOG_MAX: u32 = 14;
/// Shorter matches inside a plane of noise are chance: their sequences cost more than the literals they replace.
const MATCH_BYTES_MIN: u32 = 7;
/// What stands for "as the level says" in zstd's parameters.
const BY_LEVEL: u32 = 0;
/// The first bytes of a frame; a skippable frame, which also has a size, starts with others.
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// The writing half: zstd's tables, and two buffers.
pub(super) struct Compressor {
    zstd: CCtx<'static>,
    planes: Vec<u8>,
    frame: Vec<u8>,
}

impl Compressor {
    pub(super) fn new() -> Self {
        Self {
            zstd: CCtx::create(),
            planes: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// The frame, if it is smaller than the raw form. No memory is a reason too: then the samples stay `plain`.
    pub(super) fn compress(&mut self, width: usize, raw: &[u8]) -> Option<Vec<u8>> {
        set_len(&mut self.frame, zstd_safe::compress_bound(raw.len())).ok()?;
        let content = if width > 1 {
            set_len(&mut self.planes, raw.len()).ok()?;
            shuffle::shuffle(width, raw, &mut self.planes);
            &self.planes
        } else {
            raw
        };
        match write_frame(&mut self.zstd, width, content, &mut self.frame) {
            Ok(bytes) if bytes < raw.len() => Some(self.frame[..bytes].to_vec()),
            // With a frame buffer of the bound, only memory can fail; the next column resets the session.
            Ok(_) | Err(_) => None,
        }
    }
}

fn write_frame(zstd: &mut CCtx<'static>, width: usize, content: &[u8], frame: &mut [u8]) -> zstd_safe::SafeResult {
    let (window_log, match_bytes_min) = if width > 1 {
        (window_log(content.len() / width), MATCH_BYTES_MIN)
    } else {
        (BY_LEVEL, BY_LEVEL)
    };
    zstd.reset(ResetDirective::SessionOnly)?;
    zstd.set_parameter(CParameter::CompressionLevel(LEVEL))?;
    zstd.set_parameter(CParameter::WindowLog(window_log))?;
    zstd.set_parameter(CParameter::MinMatch(match_bytes_min))?;
    zstd.compress2(frame, content)
}

/// The largest power of two that is at most a plane, within the limits above.
fn window_log(plane_bytes: usize) -> u32 {
    plane_bytes.max(1).ilog2().clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX)
}

/// The reading half: zstd's tables, and a buffer for the planes.
pub(super) struct Decompressor {
    zstd: DCtx<'static>,
    planes: Vec<u8>,
}

impl Decompressor {
    pub(super) fn new() -> Self {
        Self {
            zstd: DCtx::create(),
            planes: Vec::new(),
        }
    }

    /// Fills `out` with the raw form of `raw_bytes` bytes. Nothing is allocated before the frame's header agrees, and
    /// zstd writes into the buffers given to it, whatever window the frame asks for.
    pub(super) fn decompress(
        &mut self,
        width: usize,
        raw_bytes: usize,
        encoded: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        check_frame(raw_bytes, encoded)?;
        set_len(out, raw_bytes)?;
        if width == 1 {
            return read_frame(&mut self.zstd, encoded, out);
        }
        set_len(&mut self.planes, raw_bytes)?;
        read_frame(&mut self.zstd, encoded, &mut self.planes)?;
        shuffle::unshuffle(width, &self.planes, out);
        Ok(())
    }
}

fn check_frame(raw_bytes: usize, encoded: &[u8]) -> Result<(), CodecError> {
    if encoded.len() > raw_bytes {
        return Err(CodecError::Grown {
            encoded: encoded.len(),
            raw: raw_bytes,
        });
    }
    if !encoded.starts_with(&MAGIC) {
        return Err(CodecError::Frame);
    }
    let declared = zstd_safe::get_frame_content_size(encoded).map_err(|_| CodecError::Frame)?;
    let declared = declared.ok_or(CodecError::Frame)?;
    if declared != raw_bytes as u64 {
        return Err(CodecError::Size {
            expected: raw_bytes,
            found: declared,
        });
    }
    match zstd_safe::find_frame_compressed_size(encoded) {
        Ok(bytes) if bytes == encoded.len() => Ok(()),
        _ => Err(CodecError::Frame),
    }
}

fn read_frame(zstd: &mut DCtx<'static>, encoded: &[u8], content: &mut [u8]) -> Result<(), CodecError> {
    let bytes = zstd
        .decompress(content, encoded)
        .map_err(|code| CodecError::Damaged(zstd_safe::get_error_name(code)))?;
    // zstd compares with the declared size itself. Without it, bytes of the column before would pass for samples.
    if bytes != content.len() {
        return Err(CodecError::Size {
            expected: content.len(),
            found: bytes as u64,
        });
    }
    Ok(())
}
