//! `make bench BENCH=codecs`: the encodings as they ship (`shipped.rs`), and byte shuffle against bit shuffle before zstd, on bytes a sample and on speed.
//!
//! The source of the tables in docs/adr/0003-byte-shuffle.md. Every candidate is one thread, encodes the same blocks
//! and must give them back bit for bit; a block's time is its best of several passes, since the machine is shared.
//! The signals are the real recordings of the shared data folder and four synthetic ones: a quantised load that
//! steps, with a JS220's noise (1e-4 of full scale) or a JS110's (2 codes of 14 bits, a gain for each range).

mod shipped;

use std::fs;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use wavekeep_proto::codec::{Decoder, Encoder, Encoding, shuffle};
use wavekeep_proto::stream::SampleType;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

/// A chunk of a fast stream, and one of a 1 kHz stream.
const BLOCK_SAMPLES: [usize; 2] = [65_536, 1_000];
const PASSES: usize = 25;
const WIDTH: usize = 4;

/// One recording of f32 samples, as raw bytes.
struct Recording {
    name: String,
    raw: Vec<u8>,
}

/// One way to encode.
#[derive(Clone, Copy)]
enum Candidate {
    /// The codec as it ships.
    Kept,
    /// A peer: a shuffle and zstd at a level, with a window log and a shortest match if not the level's own.
    Peer {
        shuffle: Shuffle,
        level: i32,
        window_log: u32,
        match_bytes_min: u32,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Shuffle {
    None,
    Byte,
    Bit,
}

/// What one candidate does to one recording.
struct Outcome {
    bytes_per_sample: f64,
    encode_mb_per_second: f64,
    decode_mb_per_second: f64,
}

/// Prints the tables. `shared` is the folder with the recordings (`data/SOURCES.md` describes them).
///
/// # Errors
/// If a recording cannot be read, or a candidate does not give back what it was given.
pub(crate) fn run(shared: &Path) -> anyhow::Result<()> {
    let mut recordings = synthetic_recordings();
    let synthetic = |recording: &Recording| shipped::Recording::f32(&recording.name, 1e6, recording.raw.clone());
    shipped::run(&shared.join("data"), recordings.iter().map(synthetic).collect())?;
    recordings.extend(real_recordings(&shared.join("data"))?);
    let candidates = candidates();
    for block_samples in BLOCK_SAMPLES {
        let mut rows = Vec::new();
        for recording in &recordings {
            let measure = |(_, candidate): &(&str, Candidate)| measure(*candidate, &recording.raw, block_samples);
            let outcomes = candidates.iter().map(measure).collect::<anyhow::Result<Vec<_>>>()?;
            rows.push((recording.name.as_str(), outcomes));
            eprintln!("{} in blocks of {block_samples}: done", recording.name);
        }
        let title = |what: &str| format!("{what}, blocks of {block_samples} samples");
        print_table(&title("bytes a sample"), &candidates, &rows, |outcome| {
            format!("{:.2}", outcome.bytes_per_sample)
        });
        print_table(&title("encode MB/s"), &candidates, &rows, |outcome| {
            format!("{:.0}", outcome.encode_mb_per_second)
        });
        print_table(&title("decode MB/s"), &candidates, &rows, |outcome| {
            format!("{:.0}", outcome.decode_mb_per_second)
        });
    }
    print_shuffle_speeds();
    Ok(())
}

/// The transposition alone, on a block of the largest size.
fn print_shuffle_speeds() {
    println!("\n| width in bytes | shuffle MB/s | unshuffle MB/s |\n|---|---:|---:|");
    for width in [2, 4, 8, 16] {
        let raw: Vec<u8> = (0..BLOCK_SAMPLES[0] * width).map(|at| (at % 251) as u8).collect();
        let (mut planes, mut back) = (vec![0; raw.len()], vec![0; raw.len()]);
        let (mut shuffle_seconds, mut unshuffle_seconds) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..20 * PASSES {
            let start = Instant::now();
            shuffle::shuffle(width, black_box(&raw), &mut planes);
            shuffle_seconds = shuffle_seconds.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            shuffle::unshuffle(width, black_box(&planes), &mut back);
            unshuffle_seconds = unshuffle_seconds.min(start.elapsed().as_secs_f64());
        }
        assert_eq!(black_box(&back), &raw, "a shuffle must come back");
        let speed = |seconds: f64| raw.len() as f64 / seconds / 1e6;
        println!(
            "| {width} | {:.0} | {:.0} |",
            speed(shuffle_seconds),
            speed(unshuffle_seconds)
        );
    }
}

fn candidates() -> Vec<(&'static str, Candidate)> {
    let peer = |shuffle, level| Candidate::Peer {
        shuffle,
        level,
        window_log: 0,
        match_bytes_min: 0,
    };
    let small = |shuffle, window_log| Candidate::Peer {
        shuffle,
        level: 1,
        window_log,
        match_bytes_min: 7,
    };
    vec![
        ("none, 1", peer(Shuffle::None, 1)),
        ("byte, −1", peer(Shuffle::Byte, -1)),
        ("byte, 1", peer(Shuffle::Byte, 1)),
        ("byte, 1, 64 KiB", small(Shuffle::Byte, 16)),
        ("byte, 1, 8 KiB", small(Shuffle::Byte, 13)),
        ("byte, 3", peer(Shuffle::Byte, 3)),
        ("bit, −1", peer(Shuffle::Bit, -1)),
        ("bit, 1", peer(Shuffle::Bit, 1)),
        ("bit, 1, 16 KiB", small(Shuffle::Bit, 14)),
        ("**kept**", Candidate::Kept),
    ]
}

type Rows<'a> = [(&'a str, Vec<Outcome>)];

fn print_table(title: &str, candidates: &[(&str, Candidate)], rows: &Rows<'_>, cell: impl Fn(&Outcome) -> String) {
    let names: Vec<&str> = candidates.iter().map(|(name, _)| *name).collect();
    println!("\n| {title} | {} |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(names.len()));
    for (recording, outcomes) in rows {
        let cells: Vec<String> = outcomes.iter().map(&cell).collect();
        println!("| {recording} | {} |", cells.join(" | "));
    }
}

fn measure(candidate: Candidate, raw: &[u8], block_samples: usize) -> anyhow::Result<Outcome> {
    let blocks: Vec<&[u8]> = raw.chunks(block_samples * WIDTH).collect();
    let mut coder = Coder::new(candidate)?;
    let mut best_seconds = vec![(f64::INFINITY, f64::INFINITY); blocks.len()];
    let mut encoded_bytes = 0;
    let mut out = Vec::new();
    for pass in 0..PASSES {
        for (block, (encode_seconds, decode_seconds)) in blocks.iter().zip(&mut best_seconds) {
            let start = Instant::now();
            let (encoding, encoded) = coder.encode(block)?;
            *encode_seconds = encode_seconds.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            coder.decode(encoding, block.len(), &encoded, &mut out)?;
            *decode_seconds = decode_seconds.min(start.elapsed().as_secs_f64());
            if pass == 0 {
                ensure!(out == *block, "a block did not come back bit for bit");
                encoded_bytes += encoded.len();
            }
        }
    }
    let (encode_seconds, decode_seconds) = best_seconds
        .iter()
        .fold((0.0, 0.0), |sum, best| (sum.0 + best.0, sum.1 + best.1));
    Ok(Outcome {
        bytes_per_sample: encoded_bytes as f64 / (raw.len() / WIDTH) as f64,
        encode_mb_per_second: raw.len() as f64 / encode_seconds / 1e6,
        decode_mb_per_second: raw.len() as f64 / decode_seconds / 1e6,
    })
}

/// A candidate with its buffers and contexts.
enum Coder {
    Kept(Encoder, Decoder),
    Peer {
        shuffle: Shuffle,
        compressor: CCtx<'static>,
        decompressor: DCtx<'static>,
        scratch: Vec<u8>,
        content: Vec<u8>,
    },
}

impl Coder {
    fn new(candidate: Candidate) -> anyhow::Result<Self> {
        Ok(match candidate {
            Candidate::Kept => Self::Kept(Encoder::new(), Decoder::new()),
            Candidate::Peer {
                shuffle,
                level,
                window_log,
                match_bytes_min,
            } => {
                let mut compressor = CCtx::create();
                let parameters = [
                    CParameter::CompressionLevel(level),
                    CParameter::WindowLog(window_log),
                    CParameter::MinMatch(match_bytes_min),
                ];
                for parameter in parameters {
                    compressor.set_parameter(parameter).map_err(zstd_error)?;
                }
                let decompressor = DCtx::create();
                Self::Peer {
                    shuffle,
                    compressor,
                    decompressor,
                    scratch: Vec::new(),
                    content: Vec::new(),
                }
            }
        })
    }

    fn encode(&mut self, raw: &[u8]) -> anyhow::Result<(Encoding, Vec<u8>)> {
        let (shuffle, compressor, scratch, content) = match self {
            Self::Kept(encoder, _) => return Ok(encoder.encode(Encoding::ShuffleZstd, SampleType::F32, raw)),
            Self::Peer {
                shuffle,
                compressor,
                scratch,
                content,
                ..
            } => (shuffle, compressor, scratch, content),
        };
        content.resize(raw.len(), 0);
        scratch.resize(compress_bound(raw.len()).max(raw.len()), 0);
        let source = match shuffle {
            Shuffle::None => raw,
            Shuffle::Byte => {
                shuffle::shuffle(WIDTH, raw, content);
                content
            }
            Shuffle::Bit => {
                bit_shuffle(raw, &mut scratch[..raw.len()], content);
                content
            }
        };
        let bytes = compressor.compress2(&mut scratch[..], source).map_err(zstd_error)?;
        Ok((Encoding::ShuffleZstd, scratch[..bytes].to_vec()))
    }

    fn decode(&mut self, encoding: Encoding, raw_bytes: usize, bytes: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        let (shuffle, decompressor, scratch, content) = match self {
            Self::Kept(_, decoder) => {
                return Ok(decoder.decode_into(encoding, SampleType::F32, raw_bytes / WIDTH, bytes, out)?);
            }
            Self::Peer {
                shuffle,
                decompressor,
                scratch,
                content,
                ..
            } => (shuffle, decompressor, scratch, content),
        };
        out.resize(raw_bytes, 0);
        content.resize(raw_bytes, 0);
        scratch.resize(raw_bytes.max(scratch.len()), 0);
        let target = if *shuffle == Shuffle::None {
            &mut *out
        } else {
            &mut *content
        };
        decompressor.decompress(&mut target[..], bytes).map_err(zstd_error)?;
        match shuffle {
            Shuffle::None => {}
            Shuffle::Byte => shuffle::unshuffle(WIDTH, content, out),
            Shuffle::Bit => bit_unshuffle(content, &mut scratch[..raw_bytes], out),
        }
        Ok(())
    }
}

fn zstd_error(code: usize) -> anyhow::Error {
    anyhow::anyhow!("zstd: {}", get_error_name(code))
}

/// All first bits of the samples, then all second bits, …: a byte shuffle, then each eight bytes of a plane as an
/// 8 × 8 bit matrix, then its rows apart. Samples after the last multiple of eight follow as they are.
fn bit_shuffle(raw: &[u8], scratch: &mut [u8], to: &mut [u8]) {
    let whole = raw.len() / (8 * WIDTH) * 8 * WIDTH;
    to[whole..].copy_from_slice(&raw[whole..]);
    shuffle::shuffle(WIDTH, &raw[..whole], &mut scratch[..whole]);
    for word in scratch[..whole].as_chunks_mut::<8>().0 {
        *word = transpose_bits(u64::from_le_bytes(*word)).to_le_bytes();
    }
    let plane_bytes = (whole / WIDTH).max(1);
    for (plane, bits) in scratch[..whole]
        .chunks(plane_bytes)
        .zip(to[..whole].chunks_mut(plane_bytes))
    {
        shuffle::shuffle(8, plane, bits);
    }
}

fn bit_unshuffle(from: &[u8], scratch: &mut [u8], raw: &mut [u8]) {
    let whole = raw.len() / (8 * WIDTH) * 8 * WIDTH;
    raw[whole..].copy_from_slice(&from[whole..]);
    let plane_bytes = (whole / WIDTH).max(1);
    for (bits, plane) in from[..whole]
        .chunks(plane_bytes)
        .zip(scratch[..whole].chunks_mut(plane_bytes))
    {
        shuffle::unshuffle(8, bits, plane);
    }
    for word in scratch[..whole].as_chunks_mut::<8>().0 {
        *word = transpose_bits(u64::from_le_bytes(*word)).to_le_bytes();
    }
    shuffle::unshuffle(WIDTH, &scratch[..whole], &mut raw[..whole]);
}

/// Hacker's Delight, 7-3: swaps bits, then pairs, then nibbles across the diagonal. Its own inverse.
fn transpose_bits(matrix: u64) -> u64 {
    let swap = |matrix: u64, mask: u64, distance: u32| {
        let moved = (matrix ^ (matrix >> distance)) & mask;
        matrix ^ moved ^ (moved << distance)
    };
    let bits = swap(matrix, 0x00AA_00AA_00AA_00AA, 7);
    let pairs = swap(bits, 0x0000_CCCC_0000_CCCC, 14);
    swap(pairs, 0x0000_0000_F0F0_F0F0, 28)
}

fn real_recordings(data: &Path) -> anyhow::Result<Vec<Recording>> {
    let mut recordings = Vec::new();
    for name in ["52-p", "in-p"] {
        let path = data.join("ppk2").join(format!("{name}.zip"));
        let read = || -> anyhow::Result<Vec<u8>> {
            let mut archive = zip::ZipArchive::new(fs::File::open(&path)?)?;
            let mut raw = Vec::new();
            archive
                .by_name(&format!("{name}/current.f32.bin"))?
                .read_to_end(&mut raw)?;
            Ok(raw)
        };
        let raw = read().with_context(|| format!("cannot read {}: set WAVEKEEP_SHARED", path.display()))?;
        recordings.push(Recording {
            name: format!("PPK2 {name}"),
            raw,
        });
    }
    for name in ["ad_AD08", "ic_CNV-W1A1", "ic_RN07", "kws_KWS-W3A3"] {
        let folder = data.join("mlperf_tiny_js110").join(format!("arty-a7-100t_{name}"));
        let path = folder.join("trace1-energy.bin");
        let file = fs::read(&path).with_context(|| format!("cannot read {}: set WAVEKEEP_SHARED", path.display()))?;
        // A version byte and the rate come before the samples.
        let raw = file
            .get(5..)
            .context("an energy trace has a header of 5 bytes")?
            .to_vec();
        recordings.push(Recording {
            name: format!("JS110 energy {name}"),
            raw,
        });
    }
    Ok(recordings)
}

const SYNTHETIC_SAMPLES: usize = 16 * 65_536;

fn synthetic_recordings() -> Vec<Recording> {
    let mut random = Random(7);
    let quantum = 2f64.powi(-23);
    let quantised = |of_full_scale: f64| (of_full_scale / quantum).round() * quantum;
    let (mut load, mut code, mut gain) = (0.0, 0.0, 0.0);
    let js220_current = synthetic("JS220-like current", |sample| {
        if sample % 20_000 == 0 {
            load = 0.5 * random.unit();
        }
        quantised(load + 1e-4 * random.normal()) as f32
    });
    let js220_voltage = synthetic("JS220-like voltage", |sample| {
        let sag = 3e-4 * ((sample / 5_000) % 7) as f64;
        (15.0 * quantised(0.22 - sag + 1e-4 * random.normal())) as f32
    });
    let js110_current = synthetic("JS110-like current", |sample| {
        if sample % 20_000 == 0 {
            gain = [3.7e-8, 1.9e-7, 2.1e-6, 1.87e-5, 1.6e-4][(random.next() % 5) as usize];
            code = 1_000.0 + 12_000.0 * random.unit();
        }
        (code + 2.0 * random.normal()).round() as f32 * gain as f32
    });
    let js110_voltage = synthetic("JS110-like voltage", |sample| {
        let sag = 20.0 * ((sample / 5_000) % 7) as f64;
        (8_000.0 - sag + 2.0 * random.normal()).round() as f32 * 3.3e-4
    });
    vec![js220_current, js220_voltage, js110_current, js110_voltage]
}

fn synthetic(name: &str, sample: impl FnMut(usize) -> f32) -> Recording {
    let raw = (0..SYNTHETIC_SAMPLES).map(sample).flat_map(f32::to_le_bytes).collect();
    Recording {
        name: name.to_owned(),
        raw,
    }
}

/// Deterministic noise (splitmix64; Box and Muller).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
