//! The byte shuffle: all first bytes of the samples, then all second bytes, and so on; and back.
//!
//! A transposition of count × width bytes into width planes. It is written as whole-word shifts over blocks that stay
//! in the first-level cache, because that is what compilers turn into vector code on every target without unsafe;
//! indexing the bytes one by one is four times slower. Samples wider than four bytes are taken as lanes of four.
//! Public for the benchmark alone, whose peers use it.

/// Samples moved at a time: one lane and its four planes take 2 KiB.
const BLOCK_SAMPLES: usize = 256;

/// Writes the planes of `raw`, samples of `width` bytes (2, 4, 8 or 16), into `planes` of the same length.
///
/// # Panics
/// If the lengths differ, or are not whole samples of such a width.
pub fn shuffle(width: usize, raw: &[u8], planes: &mut [u8]) {
    check(width, raw, planes);
    match width {
        2 => shuffle_pairs(raw, planes),
        4 => shuffle_lanes::<1>(raw, planes),
        8 => shuffle_lanes::<2>(raw, planes),
        16 => shuffle_lanes::<4>(raw, planes),
        other => unreachable!("no sample type has {other} bytes and a shuffle"),
    }
}

/// The inverse of [`shuffle()`].
///
/// # Panics
/// As [`shuffle()`] does.
pub fn unshuffle(width: usize, planes: &[u8], raw: &mut [u8]) {
    check(width, planes, raw);
    match width {
        2 => unshuffle_pairs(planes, raw),
        4 => unshuffle_lanes::<1>(planes, raw),
        8 => unshuffle_lanes::<2>(planes, raw),
        16 => unshuffle_lanes::<4>(planes, raw),
        other => unreachable!("no sample type has {other} bytes and a shuffle"),
    }
}

fn check(width: usize, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "a shuffle keeps the length");
    assert!(from.len().is_multiple_of(width), "a shuffle moves whole samples");
}

fn shuffle_pairs(raw: &[u8], planes: &mut [u8]) {
    let (low, high) = planes.split_at_mut(raw.len() / 2);
    let (samples, _) = raw.as_chunks::<2>();
    let blocks = samples.chunks(BLOCK_SAMPLES);
    for ((block, low), high) in blocks
        .zip(low.chunks_mut(BLOCK_SAMPLES))
        .zip(high.chunks_mut(BLOCK_SAMPLES))
    {
        for (byte, sample) in low.iter_mut().zip(block) {
            *byte = u16::from_le_bytes(*sample) as u8;
        }
        for (byte, sample) in high.iter_mut().zip(block) {
            *byte = (u16::from_le_bytes(*sample) >> 8) as u8;
        }
    }
}

fn unshuffle_pairs(planes: &[u8], raw: &mut [u8]) {
    let (low, high) = planes.split_at(raw.len() / 2);
    let (samples, _) = raw.as_chunks_mut::<2>();
    for ((sample, low), high) in samples.iter_mut().zip(low).zip(high) {
        *sample = (u16::from(*low) | u16::from(*high) << 8).to_le_bytes();
    }
}

fn shuffle_lanes<const LANES: usize>(raw: &[u8], planes: &mut [u8]) {
    let samples = raw.as_chunks::<4>().0.as_chunks::<LANES>().0;
    let count = samples.len();
    let mut words = [0u32; BLOCK_SAMPLES];
    for (number, block) in samples.chunks(BLOCK_SAMPLES).enumerate() {
        let first = number * BLOCK_SAMPLES;
        let words = &mut words[..block.len()];
        for lane in 0..LANES {
            for (word, sample) in words.iter_mut().zip(block) {
                *word = u32::from_le_bytes(sample[lane]);
            }
            for byte in 0..4 {
                let plane = &mut planes[(lane * 4 + byte) * count + first..][..block.len()];
                for (to, word) in plane.iter_mut().zip(&*words) {
                    *to = (*word >> (8 * byte)) as u8;
                }
            }
        }
    }
}

fn unshuffle_lanes<const LANES: usize>(planes: &[u8], raw: &mut [u8]) {
    let samples = raw.as_chunks_mut::<4>().0.as_chunks_mut::<LANES>().0;
    let count = samples.len();
    let mut words = [[0u32; BLOCK_SAMPLES]; LANES];
    for (number, block) in samples.chunks_mut(BLOCK_SAMPLES).enumerate() {
        let first = number * BLOCK_SAMPLES;
        for (lane, words) in words.iter_mut().enumerate() {
            let planes = &planes[lane * 4 * count..][..4 * count];
            join_planes(planes, count, first, &mut words[..block.len()]);
        }
        for (index, sample) in block.iter_mut().enumerate() {
            *sample = std::array::from_fn(|lane| words[lane][index].to_le_bytes());
        }
    }
}

/// The words whose four bytes stand in four planes of `count`, from sample `first`.
fn join_planes(planes: &[u8], count: usize, first: usize, words: &mut [u32]) {
    let plane = |byte: usize| &planes[byte * count + first..][..words.len()];
    let (plane_0, plane_1, plane_2, plane_3) = (plane(0), plane(1), plane(2), plane(3));
    let bytes = plane_0.iter().zip(plane_1).zip(plane_2).zip(plane_3);
    for (word, (((byte_0, byte_1), byte_2), byte_3)) in words.iter_mut().zip(bytes) {
        *word = u32::from(*byte_0) | u32::from(*byte_1) << 8 | u32::from(*byte_2) << 16 | u32::from(*byte_3) << 24;
    }
}
