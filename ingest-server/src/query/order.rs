//! Samples as integers in the same order, so that they can be counted by ranges of them. Pure.
//!
//! The bits of an f64 are in the order of its values, but for the sign: negative ones are turned over. −0.0 counts as 0.0.
//!
//! # Invariants
//! - Of two finite samples the smaller has the smaller key, and each comes back from its key.

use wavekeep_proto::stream::SampleType;

const SIGN: u64 = 1 << 63;

/// Of a finite sample.
pub(super) fn key(sample: f64) -> u64 {
    let bits = (sample + 0.0).to_bits();
    // All bits of a negative one, the sign alone of another.
    bits ^ ((bits.cast_signed() >> 63).cast_unsigned() | SIGN)
}

/// The sample of a key.
pub(super) fn sample(key: u64) -> f64 {
    f64::from_bits(if key & SIGN != 0 { key ^ SIGN } else { !key })
}

/// So many of the lowest bits of the keys of a type's samples say nothing: all zero, or all one where it is negative.
pub(super) fn silent_bits(sample_type: SampleType) -> u32 {
    // An f64 has 53 significant bits.
    match sample_type {
        SampleType::F32 => 29,
        SampleType::F64 | SampleType::I64 | SampleType::U64 | SampleType::I128 => 0,
        SampleType::I8
        | SampleType::I16
        | SampleType::I32
        | SampleType::U8
        | SampleType::U16
        | SampleType::U32
        | SampleType::U4
        | SampleType::U1 => 53 - sample_type.bits(),
    }
}

/// The sample of a key of which so many of the lowest bits are not known, because they say nothing.
pub(super) fn sample_of_silent(key: u64, silent_bits: u32) -> f64 {
    let silent = (1u64 << silent_bits) - 1;
    sample(if key & SIGN != 0 { key & !silent } else { key | silent })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finite() -> impl Strategy<Value = f64> {
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |sample| sample.is_finite())
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_samples(one in finite(), other in finite()) {
            prop_assert_eq!(key(one).cmp(&key(other)), one.partial_cmp(&other).expect("finite"));
            prop_assert_eq!(sample(key(one)), one);
        }

        #[test]
        fn silent_bits_say_nothing(bits in any::<u32>()) {
            let all = [
                (SampleType::F32, f64::from(f32::from_bits(bits))),
                (SampleType::I32, f64::from(bits.cast_signed())),
                (SampleType::U32, f64::from(bits)),
                (SampleType::I16, f64::from(bits as i16)),
                (SampleType::U8, f64::from(bits as u8)),
                (SampleType::I8, f64::from(bits as i8)),
                (SampleType::U1, f64::from(bits & 1)),
            ];
            for (sample_type, value) in all.into_iter().filter(|(_, value)| value.is_finite()) {
                let silent = silent_bits(sample_type);
                let known = key(value) >> silent << silent;
                prop_assert_eq!(sample_of_silent(known, silent), value, "{:?}", sample_type);
            }
        }
    }

    #[test]
    fn both_zeros_are_one() {
        assert_eq!(key(-0.0), key(0.0));
        assert!(key(-f64::MIN_POSITIVE) < key(0.0) && key(0.0) < key(5e-324));
    }
}
