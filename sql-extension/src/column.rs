//! A stored column: decoded, held against its hash, and its samples as numbers. Pure.

use std::cell::RefCell;
use std::ops::Range;

use wavekeep_proto::codec::{Decoder, Encoding};
use wavekeep_proto::hash::column_hash;
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::SampleType;

use crate::axis;
use crate::error::Error;

/// What a row of `chunk_signal` says of a present column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a> {
    pub(crate) signal: i32,
    pub(crate) sample_type: i16,
    pub(crate) encoding: i16,
    pub(crate) count: i64,
    pub(crate) hash: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// A backend has one thread, which decodes one column after the other with the same tables and buffer.
struct Workplace {
    decoder: Decoder,
    raw: Vec<u8>,
}

thread_local! {
    static WORKPLACE: RefCell<Workplace> = RefCell::new(Workplace { decoder: Decoder::new(), raw: Vec::new() });
}

/// The samples of a column, decoded and verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Samples<'a> {
    sample_type: SampleType,
    count: u32,
    raw: &'a [u8],
}

/// Decodes a column, and lends it.
pub(crate) fn with_samples<R>(column: Column<'_>, give: impl FnOnce(Samples<'_>) -> R) -> Result<R, Error> {
    let unknown_type = || Error::SampleType(column.sample_type);
    let sample_type = u32::try_from(column.sample_type).map_err(|_| unknown_type())?;
    let sample_type = SampleType::from_number(sample_type).ok_or_else(unknown_type)?;
    let encoding = u32::try_from(column.encoding).ok().and_then(Encoding::from_wire);
    let encoding = encoding.ok_or(Error::Encoding(column.encoding))?;
    let signal = u16::try_from(column.signal).map_err(|_| Error::Column)?;
    let count = axis::count(column.count)?;
    let hash = Hash::from_slice(column.hash).map_err(|_| Error::Column)?;
    WORKPLACE.with_borrow_mut(|Workplace { decoder, raw }| {
        decoder
            .decode_into(encoding, sample_type, count as usize, column.payload, raw)
            .map_err(|why| Error::Damaged { signal, why })?;
        if column_hash(signal, sample_type, count, raw) != hash {
            return Err(Error::Refuted(signal));
        }
        Ok(give(Samples {
            sample_type,
            count,
            raw,
        }))
    })
}

impl Samples<'_> {
    /// Those of these places that there are.
    pub(crate) fn within(&self, places: &Range<u32>) -> Range<usize> {
        let end = places.end.min(self.count);
        places.start.min(end) as usize..end as usize
    }

    /// Each as the nearest double precision number: exact for all types but i64, u64 and i128.
    pub(crate) fn to_f64(self, places: Range<usize>, out: &mut [f64]) {
        macro_rules! numbers {
            ($of:ty) => {
                for (number, bytes) in out.iter_mut().zip(&self.raw.as_chunks().0[places]) {
                    *number = <$of>::from_le_bytes(*bytes) as f64;
                }
            };
        }
        match self.sample_type {
            SampleType::F32 => numbers!(f32),
            SampleType::F64 => numbers!(f64),
            SampleType::I8 => numbers!(i8),
            SampleType::I16 => numbers!(i16),
            SampleType::I32 => numbers!(i32),
            SampleType::I64 => numbers!(i64),
            SampleType::U8 => numbers!(u8),
            SampleType::U16 => numbers!(u16),
            SampleType::U32 => numbers!(u32),
            SampleType::U64 => numbers!(u64),
            SampleType::I128 => numbers!(i128),
            SampleType::U4 | SampleType::U1 => {
                for (number, place) in out.iter_mut().zip(places) {
                    *number = f64::from(self.packed(place));
                }
            }
        }
    }

    /// Each as text of its digits, where double precision is not exact; none otherwise.
    pub(crate) fn digits(self, places: Range<usize>) -> Vec<String> {
        macro_rules! numbers {
            ($of:ty) => {
                self.raw.as_chunks().0[places]
                    .iter()
                    .map(|bytes| <$of>::from_le_bytes(*bytes).to_string())
                    .collect()
            };
        }
        match self.sample_type {
            SampleType::I64 => numbers!(i64),
            SampleType::U64 => numbers!(u64),
            SampleType::I128 => numbers!(i128),
            _ => Vec::new(),
        }
    }

    /// Packed samples: the first in the least significant bits.
    fn packed(self, place: usize) -> u8 {
        let bits = self.sample_type.bits() as usize;
        let at = place * bits;
        self.raw[at / 8] >> (at % 8) & ((1 << bits) - 1)
    }
}

#[cfg(test)]
mod tests {
    use wavekeep_proto::codec::Encoder;

    use super::*;

    fn encoded(choice: Encoding, sample_type: SampleType, count: u32, raw: &[u8]) -> (i16, Vec<u8>, Hash) {
        let (encoding, payload) = Encoder::new().encode(choice, sample_type, raw);
        (
            encoding.to_wire() as i16,
            payload,
            column_hash(7, sample_type, count, raw),
        )
    }

    fn read(column: Column<'_>, places: Range<u32>) -> Result<Vec<f64>, Error> {
        with_samples(column, |samples| {
            let places = samples.within(&places);
            let mut out = vec![0.0; places.len()];
            samples.to_f64(places, &mut out);
            out
        })
    }

    fn column<'a>(
        sample_type: SampleType,
        count: u32,
        (encoding, payload, hash): &'a (i16, Vec<u8>, Hash),
    ) -> Column<'a> {
        Column {
            signal: 7,
            sample_type: sample_type as i16,
            encoding: *encoding,
            count: i64::from(count),
            hash: hash.as_bytes(),
            payload,
        }
    }

    #[test]
    fn every_type_and_encoding_gives_its_samples() {
        for choice in Encoding::SUPPORTED {
            let raw: Vec<u8> = (0..3_000_i32).flat_map(|n| (n - 1_500).to_le_bytes()).collect();
            let own = encoded(choice, SampleType::I32, 3_000, &raw);
            assert_eq!(i32::from(own.0), choice as i32);
            let got = read(column(SampleType::I32, 3_000, &own), 10..2_000).expect("it decodes");
            assert_eq!(got, (10..2_000).map(|n| f64::from(n - 1_500)).collect::<Vec<_>>());
        }
        let own = encoded(Encoding::Plain, SampleType::U1, 11, &[0b1010_0110, 0b101]);
        let got = read(column(SampleType::U1, 11, &own), 1..99).expect("it decodes");
        assert_eq!(got, [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]);
        let own = encoded(Encoding::Plain, SampleType::U4, 3, &[0x21, 0x0f]);
        assert_eq!(
            read(column(SampleType::U4, 3, &own), 0..3).expect("it decodes"),
            [1.0, 2.0, 15.0]
        );
        let raw: Vec<u8> = [i128::MIN, -1, i128::MAX]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        let own = encoded(Encoding::ShuffleZstd, SampleType::I128, 3, &raw);
        let digits = with_samples(column(SampleType::I128, 3, &own), |samples| samples.digits(1..3));
        assert_eq!(digits.expect("it decodes"), ["-1".to_owned(), i128::MAX.to_string()]);
        let raw: Vec<u8> = [f32::NAN, f32::NEG_INFINITY, -0.0, 0.1]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        let own = encoded(Encoding::Plain, SampleType::F32, 4, &raw);
        let got = read(column(SampleType::F32, 4, &own), 0..4).expect("it decodes");
        assert!(
            got[0].is_nan() && got[1] == f64::NEG_INFINITY && got[2].is_sign_negative() && got[3] == f64::from(0.1f32)
        );
    }

    /// Payloads of somebody who may write to the table: none of them panics, or is taken for samples.
    #[test]
    fn i14_hostile_payloads_are_refused() {
        let raw: Vec<u8> = (0..4_096_u32).flat_map(|n| (n as f32).sin().to_le_bytes()).collect();
        let mut seed = 1u64;
        let mut dice = move |end: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % end
        };
        for choice in Encoding::SUPPORTED {
            let whole = encoded(choice, SampleType::F32, 4_096, &raw);
            for _ in 0..3_000 {
                let mut own = whole.clone();
                for _ in 0..=dice(3) {
                    let place = dice(own.1.len());
                    match dice(4) {
                        0 => own.1.truncate(place.max(1)),
                        1 => own.1[place] ^= 1 << dice(8),
                        2 => own.1[place] = dice(256) as u8,
                        _ => own.1.extend_from_slice(&[0xff; 9]),
                    }
                }
                if own.1 != whole.1 {
                    // A bit that no decoder looks at may be flipped: then the samples are still the right ones.
                    if let Ok(got) = read(column(SampleType::F32, 4_096, &own), 0..4_096) {
                        assert_eq!(got[17], f64::from(17f32.sin()));
                    }
                }
            }
        }
        let own = encoded(Encoding::Plain, SampleType::F32, 4_096, &raw);
        let good = column(SampleType::F32, 4_096, &own);
        let refused = |column| read(column, 0..1).expect_err("it is refused");
        assert_eq!(refused(Column { encoding: 9, ..good }), Error::Encoding(9));
        assert_eq!(refused(Column { encoding: -1, ..good }), Error::Encoding(-1));
        assert_eq!(
            refused(Column {
                sample_type: 99,
                ..good
            }),
            Error::SampleType(99)
        );
        assert_eq!(refused(Column { signal: 8, ..good }), Error::Refuted(8));
        for bad in [
            Column { count: -1, ..good },
            Column { count: 65_537, ..good },
            Column {
                count: i64::MAX,
                ..good
            },
            Column { hash: &[0; 15], ..good },
            Column { signal: -1, ..good },
        ] {
            assert_eq!(refused(bad), Error::Column);
        }
    }
}
