//! Decoded samples as f64. Pure.

use std::ops::Range;

use wavekeep_proto::stream::SampleType;

/// Replaces `out` by these of the samples: exact for all types but the largest values of i64, u64 and i128.
///
/// # Panics
/// Outside of `raw`.
pub(crate) fn to_f64(sample_type: SampleType, raw: &[u8], range: Range<usize>, out: &mut Vec<f64>) {
    out.clear();
    macro_rules! append {
        ($number:ty) => {
            out.extend(
                raw.as_chunks().0[range]
                    .iter()
                    .map(|bytes| <$number>::from_le_bytes(*bytes) as f64),
            )
        };
    }
    match sample_type {
        SampleType::F32 => append!(f32),
        SampleType::F64 => append!(f64),
        SampleType::I8 => append!(i8),
        SampleType::I16 => append!(i16),
        SampleType::I32 => append!(i32),
        SampleType::I64 => append!(i64),
        SampleType::U8 => append!(u8),
        SampleType::U16 => append!(u16),
        SampleType::U32 => append!(u32),
        SampleType::U64 => append!(u64),
        SampleType::I128 => append!(i128),
        SampleType::U4 | SampleType::U1 => {
            let bits = sample_type.bits() as usize;
            let mask = (1u8 << bits) - 1;
            let at = |sample: usize| raw[sample * bits / 8] >> (sample * bits % 8);
            out.extend(range.map(|sample| f64::from(at(sample) & mask)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f64s(sample_type: SampleType, raw: &[u8], count: usize) -> Vec<f64> {
        let mut out = vec![9.0];
        to_f64(sample_type, raw, 0..count, &mut out);
        out
    }

    #[test]
    fn every_type_is_read() {
        for sample_type in SampleType::ALL {
            let raw = vec![0; sample_type.bytes(3) as usize];
            assert_eq!(f64s(sample_type, &raw, 3), [0.0; 3], "{}", sample_type.name());
        }
        assert_eq!(f64s(SampleType::I16, &[0xff, 0xff, 2, 0], 2), [-1.0, 2.0]);
        assert_eq!(f64s(SampleType::U4, &[0x21, 0x0f], 3), [1.0, 2.0, 15.0]);
        assert_eq!(f64s(SampleType::U1, &[0b0000_0101], 4), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(f64s(SampleType::F32, &1.5f32.to_le_bytes(), 1), [1.5]);
        let mut out = Vec::new();
        to_f64(SampleType::U4, &[0x21, 0x43], 1..3, &mut out);
        assert_eq!(out, [2.0, 3.0]);
        to_f64(SampleType::I16, &[9, 0, 5, 0, 7, 0], 1..2, &mut out);
        assert_eq!(out, [5.0]);
        assert_eq!(f64s(SampleType::I128, &(-7i128).to_le_bytes(), 1), [-7.0]);
    }
}
