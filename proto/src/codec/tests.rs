//! Round trips at every width, the format pinned down byte by byte, and bytes that were never a column.

use proptest::prelude::*;
use zstd::zstd_safe::{CCtx, CParameter};

use super::*;

const COUNTS: [usize; 16] = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1_000, 65_535, 65_536];

/// Deterministic bytes (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// The raw form of `count` samples: random, or slowly rising, with clean padding.
fn raw(sample_type: SampleType, count: usize, smooth: bool, seed: u64) -> Vec<u8> {
    let width_bits = sample_type.bits();
    let bytes = encoded_samples_bytes(width_bits, count);
    let mut raw = if smooth {
        let width = width_bytes(width_bits);
        (0..bytes)
            .map(|at| ((at / width / 50 + 7) >> (8 * (at % width).min(3))) as u8)
            .collect()
    } else {
        Random(seed).bytes(bytes)
    };
    let used_bits = count * width_bits as usize % 8;
    if used_bits != 0
        && let Some(last) = raw.last_mut()
    {
        *last &= (1 << used_bits) - 1;
    }
    raw
}

fn decode(encoding: Encoding, sample_type: SampleType, count: usize, encoded: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![0xEE; 3];
    let result = Decoder::new().decode_into(encoding, sample_type, count, encoded, &mut out);
    assert!(
        result.is_ok() || out.is_empty(),
        "a failed decode leaves nothing behind"
    );
    result.map(|()| out)
}

/// Encodes and decodes; the encoding that was used.
fn round_trip(
    encoder: &mut Encoder,
    decoder: &mut Decoder,
    sample_type: SampleType,
    count: usize,
    raw: &[u8],
) -> Encoding {
    let mut out = Vec::new();
    for choice in [Encoding::Plain, Encoding::Pco, Encoding::ShuffleZstd] {
        let (encoding, encoded) = encoder.encode(choice, sample_type, raw);
        assert!(encoding == choice || encoding == Encoding::Plain);
        assert!(
            encoded.len() < raw.len() || encoding == Encoding::Plain && encoded == raw,
            "an encoding never grows"
        );
        decoder
            .decode_into(encoding, sample_type, count, &encoded, &mut out)
            .expect("what was just encoded");
        assert_eq!(out, raw, "{count} samples of {} as {encoding}", sample_type.name());
        if choice == Encoding::ShuffleZstd {
            return encoding;
        }
    }
    unreachable!("the last choice returns")
}

/// A frame of other makers: any content, any parameters.
fn frame(content: &[u8], parameters: &[CParameter]) -> Vec<u8> {
    let mut context = CCtx::create();
    for parameter in parameters {
        context.set_parameter(*parameter).expect("a parameter that zstd has");
    }
    let mut frame = vec![0; zstd::zstd_safe::compress_bound(content.len())];
    let bytes = context
        .compress2(&mut frame[..], content)
        .expect("a buffer of the bound");
    frame.truncate(bytes);
    frame
}

#[test]
fn wire_numbers_and_names_are_those_of_the_protocol() {
    let all = [
        (1, Encoding::Plain, "plain"),
        (2, Encoding::ShuffleZstd, "shuffle+zstd"),
        (3, Encoding::Pco, "pco"),
    ];
    for (number, encoding, name) in all {
        assert_eq!(Encoding::from_wire(number), Some(encoding));
        assert_eq!(encoding.to_wire(), number);
        assert_eq!(encoding.to_string(), name);
    }
    for unknown in [0, 4, 257, u32::MAX] {
        assert_eq!(Encoding::from_wire(unknown), None);
    }
}

#[test]
fn sizes_round_packed_samples_up_and_never_overflow() {
    assert_eq!(encoded_samples_bytes(1, 9), 2);
    assert_eq!(encoded_samples_bytes(4, 3), 2);
    assert_eq!(encoded_samples_bytes(32, 65_536), 262_144);
    assert_eq!(encoded_samples_bytes(128, 65_536), 1_048_576);
    assert_eq!(encoded_samples_bytes(64, 0), 0);
    assert_eq!(encoded_samples_bytes(128, usize::MAX), usize::MAX);
}

#[test]
fn every_type_and_count_comes_back_bit_for_bit() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for sample_type in SampleType::ALL {
        for count in COUNTS {
            for smooth in [false, true] {
                let raw = raw(
                    sample_type,
                    count,
                    smooth,
                    u64::from(sample_type.bits()) << 32 | count as u64,
                );
                let encoding = round_trip(&mut encoder, &mut decoder, sample_type, count, &raw);
                if smooth && raw.len() >= 1_000 {
                    assert_eq!(
                        encoding,
                        Encoding::ShuffleZstd,
                        "{count} rising samples of {} shrink",
                        sample_type.name()
                    );
                }
            }
        }
    }
}

#[test]
fn random_bits_fall_back_to_plain() {
    for sample_type in SampleType::ALL {
        let raw = raw(sample_type, 65_536, false, 1);
        for choice in Encoding::SUPPORTED {
            let (encoding, encoded) = Encoder::new().encode(choice, sample_type, &raw);
            assert_eq!(encoding, Encoding::Plain, "{choice} of random {}", sample_type.name());
            assert!(encoded == raw);
        }
    }
}

#[test]
fn nan_payloads_negative_zero_and_infinities_survive() {
    let special = [
        0x7FC0_0000,
        0x7F80_0001,
        0xFFFF_FFFF,
        0x8000_0000,
        0x0000_0000,
        0x7F80_0000,
        0xFF80_0000,
        1_u32,
    ];
    let raw: Vec<u8> = special
        .iter()
        .cycle()
        .take(4_000)
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    let encoding = round_trip(&mut Encoder::new(), &mut Decoder::new(), SampleType::F32, 4_000, &raw);
    assert_eq!(encoding, Encoding::ShuffleZstd);
}

#[test]
fn planes_stand_where_the_format_says() {
    let mut random = Random(5);
    for width in [2, 4, 8, 16] {
        for count in COUNTS {
            let raw = random.bytes(width * count);
            let mut planes = vec![0; raw.len()];
            shuffle::shuffle(width, &raw, &mut planes);
            for sample in 0..count {
                for byte in 0..width {
                    assert_eq!(planes[byte * count + sample], raw[sample * width + byte]);
                }
            }
            let mut back = vec![0; raw.len()];
            shuffle::unshuffle(width, &planes, &mut back);
            assert_eq!(back, raw);
        }
    }
}

#[test]
fn a_frame_that_another_zstd_wrote_stays_readable() {
    // What `zstd -19 --no-check` (1.5.4) makes of the planes of the f32 samples 1.0, 1.5, 2.0, … 16.5.
    const FRAME: &str = include_str!("frame.hex");
    let digits: Vec<u32> = FRAME
        .trim()
        .chars()
        .map(|digit| digit.to_digit(16).expect("hexadecimal"))
        .collect();
    let frame: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    let expected: Vec<u8> = (2..34).flat_map(|half| (half as f32 / 2.0).to_le_bytes()).collect();
    assert_eq!(decode(Encoding::ShuffleZstd, SampleType::F32, 32, &frame), Ok(expected));
}

#[test]
fn frames_of_any_level_window_and_checksum_decode() {
    let raw = raw(SampleType::F32, 65_536, true, 0);
    let mut planes = vec![0; raw.len()];
    shuffle::shuffle(4, &raw, &mut planes);
    for parameters in [
        vec![CParameter::CompressionLevel(19)],
        vec![CParameter::CompressionLevel(-5), CParameter::ChecksumFlag(true)],
        vec![CParameter::WindowLog(10)],
        vec![CParameter::WindowLog(27)],
    ] {
        assert_eq!(
            decode(
                Encoding::ShuffleZstd,
                SampleType::F32,
                65_536,
                &frame(&planes, &parameters)
            ),
            Ok(raw.clone())
        );
    }
}

#[test]
fn packed_padding_must_be_zero() {
    for (sample_type, count, bits) in [
        (SampleType::U1, 3, 0b0000_0101),
        (SampleType::U1, 9, 1),
        (SampleType::U4, 1, 0b0000_1111),
    ] {
        let width_bits = sample_type.bits();
        let mut raw = vec![0; encoded_samples_bytes(width_bits, count)];
        *raw.last_mut().expect("one byte at least") = bits;
        assert_eq!(decode(Encoding::Plain, sample_type, count, &raw), Ok(raw.clone()));
        for padding_bit in (count * width_bits as usize % 8)..8 {
            let mut dirty = raw.clone();
            *dirty.last_mut().expect("one byte at least") |= 1 << padding_bit;
            assert_eq!(
                decode(Encoding::Plain, sample_type, count, &dirty),
                Err(CodecError::Padding)
            );
        }
    }
    let mut dirty = vec![0; 1_000];
    dirty[999] = 0b1000_0000;
    assert_eq!(
        decode(Encoding::ShuffleZstd, SampleType::U1, 7_999, &frame(&dirty, &[])),
        Err(CodecError::Padding)
    );
}

#[test]
fn impossible_columns_are_refused_by_name() {
    for sample_type in SampleType::ALL {
        let answer = decode(Encoding::Pco, sample_type, 0, &[]);
        let none = matches!(answer, Err(CodecError::NotANumber(of)) if of == sample_type);
        assert_eq!(none, !Encoding::Pco.has(sample_type), "{}", sample_type.name());
    }
    for encoding in Encoding::SUPPORTED {
        assert_eq!(
            decode(encoding, SampleType::F32, 65_537, &[]),
            Err(CodecError::Count(65_537))
        );
        assert_eq!(
            decode(encoding, SampleType::I128, usize::MAX, &[]),
            Err(CodecError::Count(usize::MAX))
        );
    }
    assert_eq!(
        decode(Encoding::Plain, SampleType::F32, 2, &[0; 7]),
        Err(CodecError::Size { expected: 8, found: 7 })
    );
    assert_eq!(
        decode(Encoding::Plain, SampleType::F32, 2, &[0; 9]),
        Err(CodecError::Size { expected: 8, found: 9 })
    );
}

#[test]
fn a_cut_or_extended_frame_is_refused_at_every_byte() {
    for (sample_type, count) in [
        (SampleType::U1, 5_000),
        (SampleType::U8, 700),
        (SampleType::I16, 300),
        (SampleType::F32, 200),
        (SampleType::F64, 100),
        (SampleType::I128, 60),
    ] {
        let raw = raw(sample_type, count, true, 0);
        let (encoding, encoded) = Encoder::new().encode(Encoding::ShuffleZstd, sample_type, &raw);
        assert_eq!(encoding, Encoding::ShuffleZstd);
        for length in 0..encoded.len() {
            assert_eq!(
                decode(encoding, sample_type, count, &encoded[..length]),
                Err(CodecError::Frame)
            );
        }
        let extended = [&encoded[..], &[0]].concat();
        assert_eq!(decode(encoding, sample_type, count, &extended), Err(CodecError::Frame));
        for other in [count - 8, count + 8, 0] {
            assert!(
                decode(encoding, sample_type, other, &encoded).is_err(),
                "{count} samples are not {other}"
            );
        }
    }
}

#[test]
fn only_one_plain_frame_with_its_size_is_a_column() {
    let content = vec![0; 4_000];
    let good = frame(&content, &[]);
    assert_eq!(
        decode(Encoding::ShuffleZstd, SampleType::F32, 1_000, &good),
        Ok(content.clone())
    );
    let unsized_frame = frame(&content, &[CParameter::ContentSizeFlag(false)]);
    assert_eq!(
        decode(Encoding::ShuffleZstd, SampleType::F32, 1_000, &unsized_frame),
        Err(CodecError::Frame)
    );
    let skippable = [0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 9, 9];
    assert_eq!(
        decode(Encoding::ShuffleZstd, SampleType::F32, 1_000, &skippable),
        Err(CodecError::Frame)
    );
    let two = [&frame(&content[..2_000], &[])[..], &frame(&content[2_000..], &[])[..]].concat();
    let declared = CodecError::Size {
        expected: 4_000,
        found: 2_000,
    };
    assert_eq!(
        decode(Encoding::ShuffleZstd, SampleType::F32, 1_000, &two),
        Err(declared)
    );
    assert_eq!(
        decode(
            Encoding::ShuffleZstd,
            SampleType::F32,
            1_000,
            &[&good[..], &skippable].concat()
        ),
        Err(CodecError::Frame)
    );
    assert_eq!(
        decode(
            Encoding::ShuffleZstd,
            SampleType::F32,
            1_000,
            &[&skippable[..], &good].concat()
        ),
        Err(CodecError::Frame)
    );
    // An empty column is plain: even the smallest frame has grown.
    let empty = frame(&[], &[]);
    let grown = CodecError::Grown {
        encoded: empty.len(),
        raw: 0,
    };
    assert_eq!(decode(Encoding::ShuffleZstd, SampleType::F32, 0, &empty), Err(grown));
    assert_eq!(decode(Encoding::Plain, SampleType::F32, 0, &[]), Ok(vec![]));
}

#[test]
fn i12_bombs_take_no_more_memory_than_the_count_they_claim() {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let bomb = frame(&vec![0; 64 << 20], &[]);
    let declared = CodecError::Size {
        expected: 32_000,
        found: 64 << 20,
    };
    assert_eq!(
        decoder.decode_into(Encoding::ShuffleZstd, SampleType::F32, 8_000, &bomb, &mut out),
        Err(declared)
    );
    assert_eq!(out.capacity(), 0, "a header that disagrees allocates nothing");

    // The same with a header that lies: 32 bytes declared, 262,144 inside.
    let mut liar = frame(&vec![0; 262_144], &[CParameter::WindowLog(17)]);
    assert_eq!(
        liar[6..10],
        262_144_u32.to_le_bytes(),
        "the size stands after magic, descriptor and window"
    );
    liar[6..10].copy_from_slice(&32_u32.to_le_bytes());
    let result = decoder.decode_into(Encoding::ShuffleZstd, SampleType::F32, 8, &liar, &mut out);
    assert!(matches!(result, Err(CodecError::Damaged(_))), "{result:?}");
    assert!(out.capacity() <= 32);

    // And one that promises more than it holds.
    let mut liar = frame(&vec![0; 4_096], &[CParameter::WindowLog(10)]);
    assert_eq!(liar[6..8], (4_096_u16 - 256).to_le_bytes());
    liar[6..8].copy_from_slice(&(8_192_u16 - 256).to_le_bytes());
    let result = decoder.decode_into(Encoding::ShuffleZstd, SampleType::F32, 2_048, &liar, &mut out);
    assert!(
        matches!(result, Err(CodecError::Damaged(_) | CodecError::Size { .. })),
        "{result:?}"
    );
    assert!(out.capacity() <= 8_192);
}

#[test]
fn a_decoder_works_on_after_a_bad_column() {
    let mut decoder = Decoder::new();
    let raw = raw(SampleType::F32, 1_000, true, 0);
    let (encoding, encoded) = Encoder::new().encode(Encoding::ShuffleZstd, SampleType::F32, &raw);
    let mut out = Vec::new();
    let mut refused = 0;
    for at in 0..encoded.len() {
        let mut flipped = encoded.clone();
        flipped[at] ^= 0x10;
        refused += usize::from(
            decoder
                .decode_into(encoding, SampleType::F32, 1_000, &flipped, &mut out)
                .is_err(),
        );
        assert_eq!(
            decoder.decode_into(encoding, SampleType::F32, 1_000, &encoded, &mut out),
            Ok(())
        );
        assert_eq!(out, raw);
    }
    assert!(
        refused > 0,
        "some flips must break the frame; the column's hash catches the others"
    );
}

#[test]
#[should_panic(expected = "I12")]
fn i12_more_samples_than_a_chunk_are_our_own_mistake() {
    let _ = Encoder::new().encode(Encoding::Plain, SampleType::U8, &[0; 65_537]);
}

#[test]
#[should_panic(expected = "cut a 32-bit sample")]
fn half_a_sample_is_our_own_mistake() {
    let _ = Encoder::new().encode(Encoding::ShuffleZstd, SampleType::F32, &[0; 6]);
}

fn any_type() -> impl Strategy<Value = SampleType> {
    prop::sample::select(SampleType::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_column_comes_back(sample_type in any_type(), count in 0usize..3_000, smooth: bool, seed: u64) {
        let raw = raw(sample_type, count, smooth, seed);
        round_trip(&mut Encoder::new(), &mut Decoder::new(), sample_type, count, &raw);
    }

    #[test]
    fn any_bytes_are_answered(sample_type in any_type(), count in 0usize..5_000, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in Encoding::SUPPORTED {
            if let Ok(out) = decode(encoding, sample_type, count, &bytes) {
                prop_assert_eq!(out.len(), encoded_samples_bytes(sample_type.bits(), count));
            }
        }
    }

    #[test]
    fn a_damaged_frame_gives_an_error_or_as_many_bytes(
        choice in prop::sample::select(vec![Encoding::ShuffleZstd, Encoding::Pco]),
        sample_type in any_type(), count in 200usize..3_000, flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..8),
    ) {
        let (encoding, mut encoded) = Encoder::new().encode(choice, sample_type, &raw(sample_type, count, true, 0));
        for (at, flip) in flips {
            let at = at.index(encoded.len());
            encoded[at] ^= flip;
        }
        if let Ok(out) = decode(encoding, sample_type, count, &encoded) {
            prop_assert_eq!(out.len(), encoded_samples_bytes(sample_type.bits(), count));
        }
    }
}
