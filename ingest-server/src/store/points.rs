//! Field `chunk_signal.points`: all points of one signal of a chunk, as one string of bytes.
//!
//! Of level 0 each is a sample, 8 bytes; of all others count (integer), min, max, sum and sumsq (double precision), 36 bytes. Numbers are
//! big-endian, and NaN stands where there is no finite sample. Functions `point_*` of the schema read them, see migration 4.

use super::error::StoreError;
use crate::rollup::envelope::Envelope;
use crate::rollup::fold::Points;

const SAMPLE_BYTES: usize = 8;
const POINT_BYTES: usize = 36;

/// As they are stored.
pub(crate) fn packed(points: &Points) -> Vec<u8> {
    match points {
        Points::Samples(samples) => {
            let finite = |sample: &f64| if sample.is_finite() { *sample } else { f64::NAN };
            samples.iter().flat_map(|sample| finite(sample).to_be_bytes()).collect()
        }
        Points::Folded(points) => {
            let mut bytes = Vec::with_capacity(points.len() * POINT_BYTES);
            for point in points {
                let of_some = |value: f64| if point.is_empty() { f64::NAN } else { value };
                // A point has at most a chunk's samples.
                bytes.extend_from_slice(&(point.count as u32).to_be_bytes());
                for value in [of_some(point.min), of_some(point.max), point.sum, point.sumsq] {
                    bytes.extend_from_slice(&value.to_be_bytes());
                }
            }
            bytes
        }
    }
}

/// What [`packed`] packed, of this level.
pub(super) fn unpacked(level: u32, bytes: &[u8]) -> Result<Vec<Envelope>, StoreError> {
    const UNEXPECTED: StoreError = StoreError::Unexpected("chunk_signal.points");
    if level == 0 {
        let (samples, rest) = bytes.as_chunks::<SAMPLE_BYTES>();
        let all = samples
            .iter()
            .map(|sample| Envelope::of_one(f64::from_be_bytes(*sample)));
        return if rest.is_empty() {
            Ok(all.collect())
        } else {
            Err(UNEXPECTED)
        };
    }
    let (points, rest) = bytes.as_chunks::<POINT_BYTES>();
    let point = |bytes: &[u8; POINT_BYTES]| {
        let (count, values) = bytes.split_first_chunk::<4>().expect("36 is more than 4");
        let value = |at: usize| f64::from_be_bytes(values.as_chunks().0[at]);
        match u32::from_be_bytes(*count) {
            0 => Envelope::EMPTY,
            count => Envelope {
                count: count.into(),
                min: value(0),
                max: value(1),
                sum: value(2),
                sumsq: value(3),
            },
        }
    };
    if rest.is_empty() {
        Ok(points.iter().map(point).collect())
    } else {
        Err(UNEXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_back() {
        let points = vec![Envelope::of(&[1.0, -2.0]), Envelope::EMPTY, Envelope::of(&[-0.5; 256])];
        let bytes = packed(&Points::Folded(points.clone()));
        assert_eq!(bytes.len(), 3 * POINT_BYTES);
        assert_eq!(unpacked(2, &bytes).expect("they were packed"), points);
        assert!(unpacked(2, &bytes[1..]).is_err());

        let bytes = packed(&Points::Samples(vec![1.5, f64::NAN, f64::NEG_INFINITY]));
        let back = unpacked(0, &bytes).expect("they were packed");
        assert_eq!(back, [Envelope::of_one(1.5), Envelope::EMPTY, Envelope::EMPTY]);
        assert!(unpacked(0, &bytes[1..]).is_err());
        assert_eq!(unpacked(0, &[]).expect("there are none"), []);
    }
}
