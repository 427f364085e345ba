//! Samples of any width in bytes, the first in the least significant bits. Pure.

use std::ops::Range;

/// Appends the bits `range` of `from` to `out`, of which the first `held` bits are used; the last byte's rest becomes zero.
///
/// # Panics
/// If `out` does not end with the byte of its last bit, or `from` is shorter than the range.
pub(super) fn append(out: &mut Vec<u8>, held: usize, from: &[u8], range: Range<usize>) {
    assert!(out.len() == held.div_ceil(8), "what is appended follows what is held");
    let count = range.end.saturating_sub(range.start);
    if held.is_multiple_of(8) && range.start.is_multiple_of(8) {
        out.extend_from_slice(&from[range.start / 8..(range.start + count).div_ceil(8)]);
    } else {
        append_shifted(out, held, from, &range);
    }
    let used = (held + count) % 8;
    if let Some(last) = out.last_mut().filter(|_| used != 0) {
        *last &= (1 << used) - 1;
    }
}

/// A byte at a time.
fn append_shifted(out: &mut Vec<u8>, held: usize, from: &[u8], range: &Range<usize>) {
    let (place, shift) = (held % 8, range.start % 8);
    if let Some(last) = out.last_mut().filter(|_| place != 0) {
        *last &= (1 << place) - 1;
    }
    let end = range.end.div_ceil(8);
    let mut done = 0;
    while done < range.end - range.start {
        let at = range.start / 8 + done / 8;
        let next = if at + 1 < end { from[at + 1] } else { 0 };
        // Eight bits of the source, then of the destination, over the border of two bytes each.
        let byte = (u16::from(from[at]) | u16::from(next) << 8) >> shift;
        if place == 0 {
            out.push(byte as u8);
        } else {
            let spread = (byte & 0xff) << place;
            if let Some(last) = out.last_mut() {
                *last |= spread as u8;
            }
            out.push((spread >> 8) as u8);
        }
        done += 8;
    }
    out.truncate((held + range.end - range.start).div_ceil(8));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes[at / 8] >> (at % 8) & 1 == 1
    }

    proptest! {
        #[test]
        fn i13_every_bit_comes_to_its_place(
            held in 0usize..40,
            from in proptest::collection::vec(any::<u8>(), 1..12),
            cut in (0usize..96, 0usize..96),
        ) {
            let bits = from.len() * 8;
            let (start, end) = (cut.0.min(cut.1).min(bits), cut.0.max(cut.1).min(bits));
            // What is held has odd bits beyond its end, on purpose.
            let mut out: Vec<u8> = (0..held.div_ceil(8)).map(|byte| byte as u8 ^ 0xa5).collect();
            let before = out.clone();
            append(&mut out, held, &from, start..end);
            prop_assert_eq!(out.len(), (held + end - start).div_ceil(8));
            for at in 0..out.len() * 8 {
                let expected = if at < held {
                    bit(&before, at)
                } else {
                    at < held + end - start && bit(&from, start + at - held)
                };
                prop_assert_eq!(bit(&out, at), expected, "bit {}", at);
            }
        }
    }
}
