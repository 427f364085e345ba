//! `plain`: the raw form itself. Its rules are those of the raw form, so every other encoding checks them here too.

use super::{CodecError, set_len};

/// Copies a column that has the right size.
pub(super) fn decode(raw_bytes: usize, encoded: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    if encoded.len() != raw_bytes {
        return Err(CodecError::Size {
            expected: raw_bytes,
            found: encoded.len() as u64,
        });
    }
    set_len(out, raw_bytes)?;
    out.copy_from_slice(encoded);
    Ok(())
}

/// Refuses bits after the last packed sample: two raw forms of the same samples would have two hashes.
pub(super) fn check_padding(width_bits: u32, count: usize, raw: &[u8]) -> Result<(), CodecError> {
    let used_bits = count * width_bits as usize % 8;
    match raw.last() {
        Some(last) if used_bits != 0 && last >> used_bits != 0 => Err(CodecError::Padding),
        _ => Ok(()),
    }
}
