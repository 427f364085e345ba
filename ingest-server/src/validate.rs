//! Is the content of an intact chunk what its header says? Pure, and CPU work: it runs on blocking threads, before the
//! transaction.
//!
//! The frame hash has shown that nothing was damaged on the way, and the session that the header tiles and its digest chains.
//! What is left is the encoder: each present column is decoded, counted, and hashed. What fails is quarantined: kept, counted,
//! shown as a gap, acked. What passes is folded at once, while its samples are here.
//!
//! # Invariants
//! - Poison never blocks a stream: every byte string gives a verdict, and none panics.
//! - Only the chunk is judged: our own lack of memory is no verdict, and quarantines nothing.
//! - I8, I13: samples that a reader is told of are the samples that were hashed at capture.

use std::ops::Range;

use wavekeep_proto::chunk::{Chunk, ColumnContent};
use wavekeep_proto::codec::{CodecError, Decoder, Encoding};
use wavekeep_proto::hash;
use wavekeep_proto::id::Hash;
use wavekeep_proto::power::{POWER_NUMBER, power_of};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};

use crate::ledger::Quarantine;
use crate::rollup::Levels;
use crate::rollup::fold::{SignalFold, exact, fold, is_wide, multiply};
use crate::samples::to_f64;

/// Validates chunk after chunk, reusing its buffers: one for each thread that validates.
#[derive(Default)]
pub struct Validator {
    decoder: Decoder,
    /// Of the signal at hand, as its type has them.
    samples: Vec<u8>,
    /// Of current and voltage, until power is folded.
    current: Vec<u8>,
    voltage: Vec<u8>,
    /// Of voltage, block by block.
    factor: Vec<f64>,
    without_folds: bool,
}

/// What becomes of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Its content is as its header says. Its present columns, folded, and power where it is derived.
    Good(Vec<SignalFold>),
    /// It is kept apart.
    Quarantine(Quarantine),
}

/// There was no memory to decode a chunk: nothing is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory for the {0} bytes of a column: the chunk is given back; give this server more, or a smaller --memory-budget"
)]
pub struct NoMemory(usize);

impl Validator {
    /// One that only validates: for whoever measures what folding costs.
    #[must_use]
    pub fn without_folds() -> Self {
        Self {
            without_folds: true,
            ..Self::default()
        }
    }

    /// The header itself was checked by the session.
    pub fn check(&mut self, definition: &StreamDefinition, chunk: &Chunk) -> Result<Verdict, NoMemory> {
        let levels = Levels::of(definition);
        let power = power_of(definition);
        let range = (chunk.header.first_sample, chunk.header.count);
        self.current.clear();
        self.voltage.clear();
        let mut folds = Vec::with_capacity(chunk.header.columns.len() + 1);
        let columns = chunk.header.columns.iter().zip(&definition.signals).enumerate();
        let mut encoded = chunk.columns.iter();
        for (place, (column, signal)) in columns {
            let ColumnContent::Present { encoding, hash } = column.content else {
                continue;
            };
            let Some(encoded) = encoded.next() else {
                return Ok(quarantine(signal, "its bytes are missing"));
            };
            if let Some(bad) = self.decode(signal, encoding, hash, chunk.header.count, encoded)? {
                return Ok(bad);
            }
            if self.without_folds {
                continue;
            }
            folds.push(self.fold(levels, signal, range));
            match power {
                Some((current, _)) if place == current => std::mem::swap(&mut self.samples, &mut self.current),
                Some((_, voltage)) if place == voltage => std::mem::swap(&mut self.samples, &mut self.voltage),
                _ => {}
            }
        }
        // Absent where one of the two is.
        if let Some((current, voltage)) = power
            && !self.current.is_empty()
            && !self.voltage.is_empty()
        {
            let types = [current, voltage].map(|place| definition.signals[place].sample_type);
            folds.push(self.fold_power(levels, types, range));
        }
        Ok(Verdict::Good(folds))
    }

    /// Into `samples`. A verdict where the column is not what the header says.
    fn decode(
        &mut self,
        signal: &Signal,
        encoding: Encoding,
        hash: Hash,
        count: u64,
        encoded: &[u8],
    ) -> Result<Option<Verdict>, NoMemory> {
        // A samples chunk has at most `limits::CHUNK_SAMPLES_MAX`; another count fails to decode.
        let Ok(count) = u32::try_from(count) else {
            return Ok(Some(quarantine(signal, "no chunk holds so many samples")));
        };
        let decoded =
            self.decoder
                .decode_into(encoding, signal.sample_type, count as usize, encoded, &mut self.samples);
        if let Err(error) = decoded {
            return undecodable(signal, error).map(Some);
        }
        let bad = if hash::column_hash(signal.number, signal.sample_type, count, &self.samples) != hash {
            Some("the decoded samples are not those that were hashed at capture")
        } else if signal.finite_only && !all_finite(signal.sample_type, &self.samples) {
            Some("it holds a sample that is not finite, which this signal forbids")
        } else {
            None
        };
        Ok(bad.map(|what| quarantine(signal, what)))
    }

    fn fold(&self, levels: Levels, signal: &Signal, range: (u64, u64)) -> SignalFold {
        let (sample_type, samples) = (signal.sample_type, &self.samples);
        let exact = |range| exact(sample_type, samples, range);
        let exact: Option<&dyn Fn(_) -> _> = is_wide(sample_type).then_some(&exact);
        let block = |range, out: &mut Vec<f64>| to_f64(sample_type, samples, range, out);
        fold(levels, signal.number.into(), range, block, exact)
    }

    fn fold_power(&mut self, levels: Levels, [current, voltage]: [SampleType; 2], range: (u64, u64)) -> SignalFold {
        let block = |range: Range<usize>, out: &mut Vec<f64>| {
            to_f64(current, &self.current, range.clone(), out);
            to_f64(voltage, &self.voltage, range, &mut self.factor);
            multiply(out, &self.factor);
        };
        fold(levels, POWER_NUMBER, range, block, None)
    }
}

fn undecodable(signal: &Signal, error: CodecError) -> Result<Verdict, NoMemory> {
    match error {
        CodecError::Memory(bytes) => Err(NoMemory(bytes)),
        error => Ok(quarantine(signal, &error.to_string())),
    }
}

fn quarantine(signal: &Signal, what: &str) -> Verdict {
    Verdict::Quarantine(Quarantine {
        why: format!("signal {:?}: {what}", signal.name),
    })
}

/// Integers always are.
fn all_finite(sample_type: SampleType, samples: &[u8]) -> bool {
    const F32_EXPONENT: u32 = 0x7f80_0000;
    const F64_EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    // Without an early exit, so that it becomes vector code.
    match sample_type {
        SampleType::F32 => samples.as_chunks::<4>().0.iter().fold(true, |finite, sample| {
            finite & (u32::from_le_bytes(*sample) & F32_EXPONENT != F32_EXPONENT)
        }),
        SampleType::F64 => samples.as_chunks::<8>().0.iter().fold(true, |finite, sample| {
            finite & (u64::from_le_bytes(*sample) & F64_EXPONENT != F64_EXPONENT)
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::fixtures;
    use bytes::Bytes;
    use proptest::prelude::*;
    use wavekeep_proto::chunk::Reason;

    fn why(definition: &StreamDefinition, chunk: &Chunk) -> Option<String> {
        match Validator::default().check(definition, chunk).expect("there is memory") {
            Verdict::Good(_) => None,
            Verdict::Quarantine(Quarantine { why }) => Some(why),
        }
    }

    #[test]
    fn good_content_passes_in_every_encoding() {
        let definition = fixtures::definition(1);
        for encoding in Encoding::SUPPORTED {
            let samples = [1.0, f32::NAN, -0.0, f32::MAX].repeat(250);
            let chunk = fixtures::Capture::new(&definition).samples_encoded(encoding, &samples);
            assert!(
                matches!(chunk.header.columns[0].content, ColumnContent::Present { encoding: used, .. } if used == encoding)
            );
            assert_eq!(why(&definition, &chunk), None);
        }
    }

    #[test]
    fn our_own_lack_of_memory_quarantines_nothing() {
        let signal = &fixtures::definition(1).signals[0];
        assert_eq!(undecodable(signal, CodecError::Memory(7)), Err(NoMemory(7)));
        assert!(matches!(
            undecodable(signal, CodecError::Frame),
            Ok(Verdict::Quarantine(_))
        ));
    }

    #[test]
    fn what_passes_is_folded_and_power_with_it() {
        let definition = fixtures::definition(1);
        let mut validator = Validator::default();
        let mut capture = fixtures::Capture::new(&definition);
        let chunk = capture.samples(&[1.0, f32::NAN, -3.0]);
        let Ok(Verdict::Good(folds)) = validator.check(&definition, &chunk) else {
            panic!("it is good");
        };
        let sums: Vec<_> = folds
            .iter()
            .map(|fold| {
                (
                    fold.signal,
                    fold.whole.sample_count,
                    fold.whole.envelope.count,
                    fold.whole.envelope.sum,
                )
            })
            .collect();
        assert_eq!(sums, [(0, 3, 2, -2.0), (1, 3, 2, -2.0), (POWER_NUMBER, 3, 2, 10.0)]);

        // Where one of the two is absent, there is no power; nothing of the chunk before is left.
        let mut half = capture.samples(&[4.0]);
        half.header.columns[0].content = ColumnContent::Absent(Reason::SignalOff);
        half.columns.remove(0);
        let Ok(Verdict::Good(folds)) = validator.check(&definition, &half) else {
            panic!("it is good");
        };
        assert_eq!(folds.iter().map(|fold| fold.signal).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn an_absent_column_shifts_no_other() {
        let definition = fixtures::definition(1);
        let mut chunk = fixtures::Capture::new(&definition).samples(&[1.0, 2.0]);
        chunk.header.columns[0].content = ColumnContent::Absent(Reason::SignalOff);
        chunk.columns.remove(0);
        assert_eq!(why(&definition, &chunk), None);
    }

    #[test]
    fn each_mismatch_says_what_is_wrong() {
        let definition = fixtures::definition(1);
        let good = fixtures::Capture::new(&definition).samples(&[1.0, 2.0]);
        let with = |change: fn(&mut Chunk)| {
            let mut chunk = good.clone();
            change(&mut chunk);
            why(&definition, &chunk).expect("it is quarantined")
        };
        assert!(with(|chunk| chunk.header.count = 3).contains("signal \"current\""));
        assert!(with(|chunk| chunk.header.count = 1 << 40).contains("no chunk holds so many"));
        assert!(with(|chunk| chunk.columns[1] = Bytes::from_static(b"poison")).contains("signal \"voltage\""));
        assert!(with(|chunk| chunk.columns[0] = vec![0; 8].into()).contains("hashed at capture"));
        assert!(with(|chunk| drop(chunk.columns.pop())).contains("missing"));
    }

    #[test]
    fn what_is_not_finite_is_quarantined_only_where_it_is_forbidden() {
        let mut definition = fixtures::definition(1);
        let chunk = |sample| fixtures::Capture::new(&fixtures::definition(1)).samples(&[0.0, sample, 1.0]);
        for (sample, finite) in [
            (f32::MAX, true),
            (-0.0, true),
            (f32::NAN, false),
            (f32::NEG_INFINITY, false),
        ] {
            definition.signals[1].finite_only = false;
            assert_eq!(why(&definition, &chunk(sample)), None);
            definition.signals[1].finite_only = true;
            assert_eq!(why(&definition, &chunk(sample)).is_none(), finite, "{sample}");
        }
        assert!(!all_finite(
            SampleType::F64,
            &[1.0, f64::INFINITY].map(f64::to_le_bytes).concat()
        ));
        assert!(all_finite(
            SampleType::F64,
            &[1.0, f64::MIN].map(f64::to_le_bytes).concat()
        ));
        assert!(all_finite(SampleType::U32, &[0xff; 8]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), plain: bool) {
            let definition = fixtures::definition(1);
            let encoding = if plain { Encoding::Plain } else { Encoding::ShuffleZstd };
            let mut chunk = fixtures::Capture::new(&definition).samples_encoded(encoding, &[1.0; 20]);
            let unchanged = chunk.columns[0] == bytes;
            chunk.columns[0] = bytes.into();
            prop_assert_eq!(why(&definition, &chunk).is_none(), unchanged);
        }
    }
}
