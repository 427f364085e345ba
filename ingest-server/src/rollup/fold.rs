//! A chunk's decoded columns into points, for its rows, and pieces, for the buckets that they complete. Pure.
//!
//! # Invariants
//! - I8: points tile the chunk, cut at multiples of their size; each is the fold of its samples. Pieces are folds of points.
//! - Power is the product of the two samples in f64, which for f32 is exact.

use std::ops::Range;

use wavekeep_proto::stream::SampleType;

use super::envelope::{Bucket, Envelope, Exact};
use super::{Levels, bucket_samples};

/// Points of one signal of a chunk, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Points {
    /// Of level 0: the samples themselves.
    Samples(Vec<f64>),
    /// Of all others.
    Folded(Vec<Envelope>),
}

/// One signal of a samples chunk, folded.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalFold {
    /// Of the definition, or [`wavekeep_proto::power::POWER_NUMBER`].
    pub signal: u32,
    /// All of it.
    pub whole: Bucket,
    /// At the stream's point level.
    pub points: Points,
    /// Which buckets of the piece level it has samples of, and what.
    pub pieces: Vec<(u64, Bucket)>,
}

impl SignalFold {
    /// What it takes in memory.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        let points = match &self.points {
            Points::Samples(samples) => samples.len() * size_of::<f64>(),
            Points::Folded(points) => points.len() * size_of::<Envelope>(),
        };
        (size_of::<Self>() + points + self.pieces.len() * size_of::<(u64, Bucket)>()) as u64
    }
}

/// Cuts a range at multiples of `size`: bucket, and the range within.
fn cuts(first_sample: u64, count: u64, size: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = first_sample + count;
    let buckets = if count == 0 {
        0..0
    } else {
        first_sample / size..(end - 1) / size + 1
    };
    buckets.map(move |bucket| {
        let from = first_sample.max(bucket * size) - first_sample;
        let to = end.min((bucket + 1) * size) - first_sample;
        (bucket, from as usize..to as usize)
    })
}

/// Samples of these many are converted and folded together, where pieces are larger: they fit into the first cache.
const BLOCK_LEVEL: u32 = 3;

/// Folds `count` samples of a signal, of which the first is `first_sample`. `samples` replaces a buffer by a range of them, counted from
/// the first; `exact` answers for ranges of them, where f64 does not hold the type.
pub fn fold(
    levels: Levels,
    signal: u32,
    (first_sample, count): (u64, u64),
    mut samples: impl FnMut(Range<usize>, &mut Vec<f64>),
    exact: Option<&dyn Fn(Range<usize>) -> Exact>,
) -> SignalFold {
    let size = bucket_samples(levels.point);
    let block = levels.piece().min(BLOCK_LEVEL).max(levels.point);
    let mut pieces: Vec<(u64, Bucket)> = cuts(first_sample, count, bucket_samples(levels.piece()))
        .map(|(bucket, range)| {
            let sample_count = range.len() as u64;
            let exact = exact.map(|exact| exact(range));
            let envelope = Envelope::EMPTY;
            (
                bucket,
                Bucket {
                    sample_count,
                    envelope,
                    exact,
                },
            )
        })
        .collect();
    let first_piece = pieces.first().map_or(0, |(bucket, _)| *bucket);
    let (mut all, mut points, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    for (bucket, range) in cuts(first_sample, count, bucket_samples(block)) {
        let from = first_sample + range.start as u64;
        samples(range, &mut buffer);
        let piece = (bucket >> (4 * (levels.piece() - block))) - first_piece;
        let envelope = &mut pieces[piece as usize].1.envelope;
        if levels.point == 0 {
            envelope.merge(&Envelope::of(&buffer));
            all.extend_from_slice(&buffer);
            continue;
        }
        for (_, range) in cuts(from, buffer.len() as u64, size) {
            let point = Envelope::of(&buffer[range]);
            envelope.merge(&point);
            points.push(point);
        }
    }
    let mut whole = Bucket::EMPTY;
    pieces.iter().for_each(|(_, piece)| whole.merge(piece));
    SignalFold {
        signal,
        whole,
        points: if levels.point == 0 {
            Points::Samples(all)
        } else {
            Points::Folded(points)
        },
        pieces,
    }
}

/// Power, sample by sample: `power` is current, and becomes the product.
pub fn multiply(power: &mut [f64], voltage: &[f64]) {
    power
        .iter_mut()
        .zip(voltage)
        .for_each(|(power, voltage)| *power *= voltage);
}

/// Is the type one whose samples f64 does not hold exactly?
#[must_use]
pub const fn is_wide(sample_type: SampleType) -> bool {
    matches!(sample_type, SampleType::I64 | SampleType::U64 | SampleType::I128)
}

/// The exact extremes of a range of samples that [`is_wide`]. The range is not empty.
///
/// # Panics
/// For other types, and outside of `raw`.
#[must_use]
pub fn exact(sample_type: SampleType, raw: &[u8], range: Range<usize>) -> Exact {
    macro_rules! extremes {
        ($number:ty) => {
            raw.as_chunks().0[range]
                .iter()
                .map(|bytes| i128::from(<$number>::from_le_bytes(*bytes)))
                .fold((i128::MAX, i128::MIN), |(min, max), value| {
                    (min.min(value), max.max(value))
                })
        };
    }
    match sample_type {
        SampleType::I64 => extremes!(i64),
        SampleType::U64 => extremes!(u64),
        SampleType::I128 => extremes!(i128),
        _ => panic!("f64 holds {} exactly", sample_type.name()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelopes(points: &Points) -> Vec<Envelope> {
        match points {
            Points::Samples(samples) => samples.iter().map(|sample| Envelope::of_one(*sample)).collect(),
            Points::Folded(points) => points.clone(),
        }
    }

    proptest! {
        #[test]
        fn i8_points_and_pieces_are_folds_of_their_samples(
            point in 0u32..3, above in 0u32..2, first_sample in 0u64..10_000, count in 1usize..3_000,
        ) {
            let levels = Levels { point, first: point + above + 1 };
            let samples: Vec<f64> = (0..count).map(|at| if at % 97 == 5 { f64::NAN } else { ((at * 37) % 101) as f64 }).collect();
            let folded = fold(levels, 7, (first_sample, count as u64), |range, out| { out.clear(); out.extend_from_slice(&samples[range]) }, None);
            let all = first_sample..first_sample + count as u64;
            let of = |from: u64, to: u64| {
                let cut = |sample: u64| (sample.clamp(all.start, all.end) - all.start) as usize;
                Envelope::of(&samples[cut(from)..cut(to)])
            };
            let size = bucket_samples(point);
            let points = envelopes(&folded.points);
            prop_assert_eq!(points.len() as u64, (all.end - 1) / size - all.start / size + 1);
            for (at, envelope) in points.iter().enumerate() {
                let start = (all.start / size + at as u64) * size;
                prop_assert_eq!(*envelope, of(start, start + size));
            }
            let size = bucket_samples(levels.piece());
            for (bucket, piece) in &folded.pieces {
                prop_assert_eq!(piece.envelope, of(bucket * size, (bucket + 1) * size));
            }
            prop_assert_eq!(folded.whole.envelope, of(all.start, all.end));
            prop_assert_eq!(folded.whole.sample_count, count as u64);
            prop_assert_eq!(folded.pieces.iter().map(|piece| piece.1.sample_count).sum::<u64>(), count as u64);
        }
    }

    #[test]
    fn wide_integers_keep_their_extremes() {
        let raw: Vec<u8> = [i64::MAX, i64::MAX - 1, -3]
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        assert_eq!(
            exact(SampleType::I64, &raw, 0..2),
            ((i64::MAX - 1).into(), i64::MAX.into())
        );
        assert_eq!(
            exact(SampleType::U64, &raw, 2..3),
            ((u64::MAX - 2).into(), (u64::MAX - 2).into())
        );
        assert!(is_wide(SampleType::I128) && !is_wide(SampleType::U32));
    }

    #[test]
    fn power_is_the_product() {
        let mut power = [1.0, 2.0, f64::NAN];
        multiply(&mut power, &[5.0, 0.5, 1.0]);
        assert_eq!(power[..2], [5.0, 1.0]);
        assert!(power[2].is_nan());
    }
}
