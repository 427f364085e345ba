//! Reads one signal of a JLS file from any sample on: which samples are there, which are missing, and their bytes.
//!
//! # Invariants
//! - I13: samples come out bit for bit, whether their chunk was written or left out for being constant.
//! - I4: what is not there is said to be missing: between two chunks, in a damaged one, and where the writer filled a skipped run.
//! - I12: one chunk is held.

use std::ops::Range;

use wavekeep_proto::chunk::Reason;
use wavekeep_proto::stream::SampleType;

use super::format::{CHUNK_HEADER_BYTES, ChunkHeader, DataType, PAYLOAD_HEADER_BYTES, PayloadHeader, Tag};
use super::scan::{Entry, Place, read_payload};
use super::{ReadAt, ScanError};

/// What the writer fills a skipped run of `f32` with: the quiet NaN without a payload. Every other NaN is data.
const FILLER_F32: u32 = 0x7fc0_0000;
/// The same of `f64`.
const FILLER_F64: u64 = 0x7ff8_0000_0000_0000;

/// Samples from one on that are alike: all there, or all missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: Range<u64>,
    /// Why they are missing, if they are.
    pub(super) missing: Option<Reason>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SignalReader<'a> {
    entries: &'a [Entry],
    data_type: DataType,
    sample_type: SampleType,
    /// The chunk that is held, by its place among the entries.
    held: Option<usize>,
    /// Its payload; empty if it is damaged.
    payload: Vec<u8>,
    run: Run,
    /// Samples of damaged chunks that were met.
    pub(super) damaged_samples: u64,
}

impl<'a> SignalReader<'a> {
    pub(super) fn new(entries: &'a [Entry], data_type: DataType, sample_type: SampleType) -> Self {
        Self {
            entries,
            data_type,
            sample_type,
            held: None,
            payload: Vec::new(),
            run: Run {
                range: 0..0,
                missing: None,
            },
            damaged_samples: 0,
        }
    }

    /// The run that `sample` is in. Beyond the signal's last sample it has no end.
    pub(super) fn run(&mut self, file: &dyn ReadAt, sample: u64) -> Result<Run, ScanError> {
        if !self.run.range.contains(&sample) {
            self.run = self.find_run(file, sample)?;
        }
        Ok(self.run.clone())
    }

    fn find_run(&mut self, file: &dyn ReadAt, sample: u64) -> Result<Run, ScanError> {
        let after = self.entries.partition_point(|entry| entry.first <= sample);
        let inside = after.checked_sub(1).filter(|at| self.entries[*at].end() > sample);
        let Some(at) = inside else {
            let next = self.entries.get(after);
            let is_between = after > 0 && next.is_some();
            return Ok(Run {
                range: sample..next.map_or(u64::MAX, |next| next.first),
                missing: Some(if is_between { Reason::FileGap } else { Reason::SignalOff }),
            });
        };
        let entry = self.entries[at];
        let present = Run {
            range: sample..entry.end(),
            missing: None,
        };
        let Place::Chunk(offset) = entry.place else {
            return Ok(present);
        };
        if self.held != Some(at) {
            self.hold(file, offset, &entry)?;
            self.held = Some(at);
        }
        let damaged = self.payload.is_empty();
        let missing = Some(Reason::FileGap);
        Ok(match self.sample_type {
            _ if damaged => Run { missing, ..present },
            SampleType::F32 => self.filler_run(&entry, sample, |sample: &[u8; 4]| {
                u32::from_le_bytes(*sample) == FILLER_F32
            }),
            SampleType::F64 => self.filler_run(&entry, sample, |sample: &[u8; 8]| {
                u64::from_le_bytes(*sample) == FILLER_F64
            }),
            _ => present,
        })
    }

    fn hold(&mut self, file: &dyn ReadAt, offset: u64, entry: &Entry) -> Result<(), ScanError> {
        let mut header = [0; CHUNK_HEADER_BYTES as usize];
        file.read_exact_at(&mut header, offset)?;
        let header = ChunkHeader::parse(&header).filter(|header| header.tag == Tag::Samples);
        let payload = match header {
            // Let go of the last one first: two need not be held.
            Some(header) => {
                self.payload = Vec::new();
                read_payload(file, offset, &header)?
            }
            None => None,
        };
        let as_scanned = |payload: &Vec<u8>| {
            let found = PayloadHeader::parse(payload);
            let bytes = self.data_type.bytes(entry.count) + PAYLOAD_HEADER_BYTES as u64;
            found.is_some_and(|found| {
                found.first.cast_unsigned() == entry.first && u64::from(found.count) == entry.count
            }) && payload.len() as u64 >= bytes
        };
        self.payload = payload.filter(as_scanned).unwrap_or_default();
        if self.payload.is_empty() {
            self.damaged_samples += entry.count;
        }
        Ok(())
    }

    fn samples(&self) -> &[u8] {
        self.payload.get(PAYLOAD_HEADER_BYTES..).unwrap_or_default()
    }

    fn filler_run<const N: usize>(&self, entry: &Entry, sample: u64, is_filler: impl Fn(&[u8; N]) -> bool) -> Run {
        let from = (sample - entry.first) as usize;
        let samples = &self.samples().as_chunks::<N>().0[from..entry.count as usize];
        let missing = is_filler(&samples[0]);
        let differs = samples.iter().position(|sample| is_filler(sample) != missing);
        let count = differs.unwrap_or(samples.len()) as u64;
        Run {
            range: sample..sample + count,
            missing: missing.then_some(Reason::FileGap),
        }
    }

    /// The samples of `range`, which lies within the run that was asked for last and is there: as a column has them.
    pub(super) fn copy(&self, range: Range<u64>, out: &mut Vec<u8>) {
        assert!(
            self.run.missing.is_none() && self.run.range.contains(&range.start) && range.end <= self.run.range.end,
            "I4: only samples that are there are copied"
        );
        let after = self.entries.partition_point(|entry| entry.first <= range.start);
        let entry = self.entries[after - 1];
        let count = range.end - range.start;
        out.clear();
        match entry.place {
            Place::Constant(value) => {
                out.resize(
                    self.sample_type.bytes(count) as usize,
                    constant_byte(self.sample_type, value),
                );
                clear_padding(out, self.sample_type, count);
            }
            Place::Chunk(_) if self.data_type.is_widened() => {
                let from = range.start - entry.first;
                let nibble = |at: u64| self.samples()[(at / 2) as usize] >> (4 * (at % 2)) & 0xf;
                // Shifted up and, with its sign, down again.
                out.extend((from..from + count).map(|at| ((nibble(at) << 4).cast_signed() >> 4).cast_unsigned()));
            }
            Place::Chunk(_) => {
                copy_bits(
                    self.samples(),
                    u64::from(self.sample_type.bits()),
                    range.start - entry.first,
                    count,
                    out,
                );
                clear_padding(out, self.sample_type, count);
            }
        }
    }
}

/// A byte full of samples of this value.
fn constant_byte(sample_type: SampleType, value: i16) -> u8 {
    let byte = value as u8;
    match sample_type {
        SampleType::U1 if byte == 0 => 0,
        SampleType::U1 => 0xff,
        SampleType::U4 => byte << 4 | byte & 0xf,
        _ => byte,
    }
}

/// `count` samples of `bits` bits, from the one at `from` on, moved to the start of a byte.
fn copy_bits(samples: &[u8], bits: u64, from: u64, count: u64, out: &mut Vec<u8>) {
    let (start, end) = (from * bits, (from + count) * bits);
    let bytes = &samples[(start / 8) as usize..end.div_ceil(8) as usize];
    let shift = (start % 8) as u32;
    if shift == 0 {
        out.extend_from_slice(bytes);
        return;
    }
    let length = (end - start).div_ceil(8) as usize;
    let next = |at: usize| bytes.get(at + 1).map_or(0, |byte| byte << (8 - shift));
    out.extend((0..length).map(|at| bytes[at] >> shift | next(at)));
}

/// What the last byte holds beyond the samples is zero.
fn clear_padding(out: &mut [u8], sample_type: SampleType, count: u64) {
    let used = count * u64::from(sample_type.bits()) % 8;
    if let Some(last) = out.last_mut().filter(|_| used != 0) {
        *last &= (1 << used) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_are_moved_to_the_start_of_a_byte() {
        let samples: Vec<u8> = (0..40u8).map(|at| at.wrapping_mul(73) ^ 0x5a).collect();
        let bit = |samples: &[u8], at: u64| samples[(at / 8) as usize] >> (at % 8) & 1;
        for (sample_type, from, count) in [
            (SampleType::U1, 0, 320),
            (SampleType::U1, 3, 7),
            (SampleType::U1, 13, 200),
            (SampleType::U4, 5, 12),
            (SampleType::U4, 1, 79),
            (SampleType::U1, 319, 1),
        ] {
            let bits = u64::from(sample_type.bits());
            let mut out = Vec::new();
            copy_bits(&samples, bits, from, count, &mut out);
            clear_padding(&mut out, sample_type, count);
            assert_eq!(out.len() as u64, sample_type.bytes(count));
            for at in 0..out.len() as u64 * 8 {
                let expected = if at < count * bits {
                    bit(&samples, from * bits + at)
                } else {
                    0
                };
                assert_eq!(bit(&out, at), expected, "{sample_type:?} {from} {count} {at}");
            }
        }
    }

    #[test]
    fn constants_fill_a_byte() {
        let filled = [
            (SampleType::U1, 1),
            (SampleType::U4, 5),
            (SampleType::U8, 200),
            (SampleType::I8, -3),
        ];
        assert_eq!(
            filled.map(|(of, value)| constant_byte(of, value)),
            [0xff, 0x55, 200, 0xfd]
        );
    }
}
