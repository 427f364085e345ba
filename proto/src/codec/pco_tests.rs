//! Numbers of every type there and back, bit for bit; files that Python's `pcodec` wrote; and files that no column is.

use ::pco::metadata::{DeltaEncoding, Mode};
use ::pco::standalone::{FileCompressor, simple_compress};
use ::pco::wrapped::FileDecompressor;
use ::pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};
use proptest::prelude::*;

use super::*;

/// What `pcodec.standalone.simple_compress` (1.1.0, level 8) made of the f32 samples 1.0, 1.5, 2.0, … 16.5.
const BY_PYTHON: &str = "70636f21030005080401051f00003311320200f0ffffff0906000000044a00e00100000000000040000000f017000008000000c18f10da2103f80000";

fn decode(sample_type: SampleType, count: usize, encoded: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![0xEE; 3];
    let result = Decoder::new().decode_into(Encoding::Pco, sample_type, count, encoded, &mut out);
    assert!(
        result.is_ok() || out.is_empty(),
        "a failed decode leaves nothing behind"
    );
    result.map(|()| out)
}

fn floats(count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| (8_000 + at * 2_654_435_761 % 2_003 % 7) as f32 * 3.3e-4)
        .collect()
}

fn raw(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn by(config: &ChunkConfig, samples: &[f32]) -> Vec<u8> {
    simple_compress(samples, config).expect("these can be compressed")
}

/// Where a file's chunk has its metadata, which begin with mode and delta encoding, and what they are.
fn metadata(file: &[u8]) -> (usize, Mode, DeltaEncoding) {
    let hint_bytes = (7 + usize::from(file[6] & 63)).div_ceil(8);
    let at = 6 + hint_bytes + 2 + 4;
    let (wrapped, _) = FileDecompressor::new(&file[6 + hint_bytes..]).expect("a version");
    let (chunk, _) = wrapped.chunk_decompressor::<f32, _>(&file[at..]).expect("metadata");
    (at, chunk.meta().mode.clone(), chunk.meta().delta_encoding.clone())
}

#[test]
fn numbers_of_every_type_shrink_and_come_back() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for sample_type in SampleType::ALL.into_iter().filter(|of| Encoding::Pco.has(*of)) {
        let width = sample_type.bits() as usize / 8;
        for count in [100, 1_000, 65_536] {
            let samples =
                (0..count).flat_map(|at: u64| (40 + at * 2_654_435_761 % 2_003 % 5).to_le_bytes()[..width].to_vec());
            let raw: Vec<u8> = samples.collect();
            let (encoding, encoded) = encoder.encode(Encoding::Pco, sample_type, &raw);
            assert_eq!(encoding, Encoding::Pco, "{count} of {}", sample_type.name());
            assert!(encoded.len() < raw.len());
            let mut out = Vec::new();
            decoder
                .decode_into(encoding, sample_type, count as usize, &encoded, &mut out)
                .expect("what was just encoded");
            assert!(out == raw);
            for other in SampleType::ALL.into_iter().filter(|of| *of != sample_type) {
                assert!(
                    decode(other, count as usize, &encoded).is_err(),
                    "{} is not {}",
                    sample_type.name(),
                    other.name()
                );
            }
        }
    }
}

#[test]
fn codes_of_an_instrument_take_less_than_a_byte() {
    let raw = raw(&floats(65_536));
    let (encoding, encoded) = Encoder::new().encode(Encoding::Pco, SampleType::F32, &raw);
    assert_eq!(encoding, Encoding::Pco);
    assert!(encoded.len() < 65_536 / 2, "{} bytes", encoded.len());
}

#[test]
fn a_file_that_python_wrote_is_read_and_any_level_and_delta_is() {
    let digits: Vec<u32> = BY_PYTHON.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let file: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    let expected = raw(&(2..34).map(|half| half as f32 / 2.0).collect::<Vec<_>>());
    assert_eq!(decode(SampleType::F32, 32, &file), Ok(expected.clone()));
    let (encoding, ours) = Encoder::new().encode(Encoding::Pco, SampleType::F32, &expected);
    assert_eq!(encoding, Encoding::Pco);
    assert_eq!(decode(SampleType::F32, 32, &ours), Ok(expected));

    let samples = floats(5_000);
    for config in [
        ChunkConfig::default().with_compression_level(0),
        ChunkConfig::default().with_compression_level(12),
        ChunkConfig::default().with_delta_spec(DeltaSpec::TryConsecutive(3)),
        ChunkConfig::default()
            .with_mode_spec(ModeSpec::Classic)
            .with_delta_spec(DeltaSpec::TryLookback),
        ChunkConfig::default().with_mode_spec(ModeSpec::TryFloatQuant(5)),
        ChunkConfig::default().with_mode_spec(ModeSpec::TryFloatMult(3.3e-4)),
    ] {
        assert_eq!(
            decode(SampleType::F32, 5_000, &by(&config, &samples)),
            Ok(raw(&samples)),
            "{config:?}"
        );
    }
    let typed = FileCompressor::default().with_uniform_type(Some(::pco::data_types::NumberType::F32));
    let mut file = typed.write_header(Vec::new()).expect("a header");
    let chunk = typed.chunk_compressor(&samples, &ChunkConfig::default());
    file = chunk.expect("a chunk").write(file).expect("it is written");
    assert_eq!(
        decode(SampleType::F32, 5_000, &typed.write_footer(file).expect("an end")),
        Ok(raw(&samples))
    );
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    let samples = floats(700);
    let file = by(&ChunkConfig::default(), &samples);
    assert_eq!(decode(SampleType::F32, 700, &file), Ok(raw(&samples)));
    for length in 0..file.len() {
        assert!(decode(SampleType::F32, 700, &file[..length]).is_err(), "{length} bytes");
    }
    assert!(decode(SampleType::F32, 700, &[&file[..], &[0]].concat()).is_err());
    for count in [0, 1, 699, 701, 65_536] {
        assert!(decode(SampleType::F32, count, &file).is_err(), "{count} samples");
    }
    let half = PagingSpec::Exact(vec![350, 350]);
    let two = by(&ChunkConfig::default().with_paging_spec(half), &samples);
    assert_eq!(
        decode(SampleType::F32, 700, &two),
        Err(CodecError::Pco("it has more samples, or fewer"))
    );
    let one = by(&ChunkConfig::default(), &samples[..350]);
    let mut longer = two.clone();
    let at = two.len() - (one.len() - metadata(&one).0 + 4);
    longer.truncate(at);
    assert!(decode(SampleType::F32, 350, &two).is_err(), "a second chunk");
    assert!(decode(SampleType::F32, 350, &longer).is_err(), "no end");
    let older = [&file[..4], &[2], &file[6..]].concat();
    assert!(decode(SampleType::F32, 700, &older).is_err(), "an older file");
    let grown = CodecError::Grown {
        encoded: file.len(),
        raw: 4,
    };
    assert_eq!(decode(SampleType::F32, 1, &file), Err(grown));
}

#[test]
fn i12_what_would_size_a_buffer_beyond_the_samples_is_refused_before_it_is_made() {
    let samples = floats(1_000);
    let dictionary = by(&ChunkConfig::default().with_mode_spec(ModeSpec::TryDict), &samples);
    assert!(matches!(metadata(&dictionary).1, Mode::Dict(_)));
    assert_eq!(
        decode(SampleType::F32, 1_000, &dictionary),
        Err(CodecError::Pco("it has a dictionary"))
    );
    let classic = ChunkConfig::default().with_mode_spec(ModeSpec::Classic);
    let predicting = by(&classic.clone().with_delta_spec(DeltaSpec::TryConv1(3)), &samples);
    assert!(matches!(metadata(&predicting).2, DeltaEncoding::Conv1(_)));
    assert_eq!(
        decode(SampleType::F32, 1_000, &predicting),
        Err(CodecError::Pco("it predicts in a way that is not used here"))
    );
    // The window's log less one stands after four bits each of mode and delta encoding.
    let mut far = by(&classic.with_delta_spec(DeltaSpec::TryLookback), &samples);
    let (at, _, delta) = metadata(&far);
    assert!(
        matches!(delta, DeltaEncoding::Lookback { config, .. } if config.window_n_log == 10),
        "{delta:?}"
    );
    assert!(decode(SampleType::F32, 1_000, &far).is_ok());
    for log in 11..=24 {
        far[at + 1] = far[at + 1] & !0b1_1111 | (log - 1);
        assert_eq!(
            decode(SampleType::F32, 1_000, &far),
            Err(CodecError::Pco("it refers back further than it has samples"))
        );
    }
}

#[test]
fn a_decoder_works_on_after_a_bad_file() {
    let mut decoder = Decoder::new();
    let samples = floats(600);
    let (good, raw) = (by(&ChunkConfig::default(), &samples), raw(&samples));
    let (mut out, mut refused) = (Vec::new(), 0);
    for at in 0..good.len() {
        for flip in [1, 0x10, 0x80, 0xff] {
            let mut flipped = good.clone();
            flipped[at] ^= flip;
            let answer = decoder.decode_into(Encoding::Pco, SampleType::F32, 600, &flipped, &mut out);
            refused += usize::from(answer.is_err());
        }
        let answer = decoder.decode_into(Encoding::Pco, SampleType::F32, 600, &good, &mut out);
        assert_eq!(answer, Ok(()));
        assert!(out == raw);
    }
    assert!(refused > 0, "the column's hash catches the others");
}

/// Floats as they come: codes, noise, a few constants; and among them any bits at all.
fn float_bits() -> impl Strategy<Value = Vec<u32>> {
    let code = (0u32..40).prop_map(|code| (code as f32 * 1.9e-7).to_bits());
    let noise = any::<u16>().prop_map(|noise| 0x3f80_0000 | u32::from(noise));
    let special = prop::sample::select(vec![
        0x7fc0_1234,
        0x7f80_0001,
        0xffff_ffff,
        0x8000_0000,
        0x7f80_0000,
        0xff80_0000,
        1,
    ]);
    let one = prop_oneof![8 => code, 4 => noise, 1 => special, 1 => any::<u32>()];
    prop::collection::vec(one, 0..1_500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_floats_come_back_bit_for_bit(bits in float_bits(), wide: bool) {
        let (sample_type, raw): (_, Vec<u8>) = if wide {
            let f64_bits = |bits: &u32| (u64::from(*bits) << 32 | u64::from(bits.rotate_left(7) & 0xff)).to_le_bytes();
            (SampleType::F64, bits.iter().flat_map(f64_bits).collect())
        } else {
            (SampleType::F32, bits.iter().flat_map(|bits| bits.to_le_bytes()).collect())
        };
        let (encoding, encoded) = Encoder::new().encode(Encoding::Pco, sample_type, &raw);
        let mut out = Vec::new();
        prop_assert_eq!(Decoder::new().decode_into(encoding, sample_type, bits.len(), &encoded, &mut out), Ok(()));
        prop_assert!(out == raw);
        prop_assert!(encoded.len() < raw.len() || encoding == Encoding::Plain);
    }

    #[test]
    fn mutated_files_of_every_kind_are_answered(
        kind in 0usize..6, count in 1usize..3_000,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..3), 1..6),
    ) {
        let config = ChunkConfig::default();
        let config = match kind {
            0 => config.with_mode_spec(ModeSpec::Classic),
            1 => config.with_mode_spec(ModeSpec::TryFloatMult(3.3e-4)),
            2 => config.with_mode_spec(ModeSpec::TryFloatQuant(7)),
            3 => config.with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::TryLookback),
            4 => config.with_delta_spec(DeltaSpec::TryConsecutive(7)),
            _ => config.with_mode_spec(ModeSpec::TryDict),
        };
        let mut file = by(&config, &floats(count));
        for (at, byte, what) in changes {
            // Most of them where the sizes stand.
            let reach = if what == 0 { file.len() } else { file.len().min(64) };
            let at = at.index(reach);
            match what {
                0 | 1 => file[at] ^= byte,
                _ => file[at] = byte,
            }
        }
        if let Ok(out) = decode(SampleType::F32, count, &file) {
            prop_assert_eq!(out.len(), 4 * count);
        }
    }
}
