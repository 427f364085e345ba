//! The columns of a Parquet file as they wait for their row group.
//!
//! # Invariants
//! - Nothing rounds: floats keep their bits, integers their value. A missing sample is null, whatever its type; it has no value.

use ::parquet::basic::{LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{
    ByteArray, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
};
use ::parquet::errors::ParquetError;
use ::parquet::file::writer::SerializedColumnWriter;
use ::parquet::schema::types::Type;
use wavekeep::proto::stream::SampleType;

/// Digits of a decimal of 16 bytes.
const DECIMAL_DIGITS: i32 = 38;
/// The first number that has more.
const DECIMAL_END: u128 = 10u128.pow(DECIMAL_DIGITS.unsigned_abs());

enum Values {
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I128(Vec<FixedLenByteArray>),
}

/// Of one signal.
pub(super) struct SampleColumn {
    sample_type: SampleType,
    values: Values,
    /// 1 for each sample, 0 for each that is missing.
    levels: Vec<i16>,
}

/// An integer that a decimal of 38 digits cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge(pub(super) i128);

/// How a signal stands in the file's schema: u4 and u1 are unsigned integers of 8 bits, i128 a decimal of 38 digits.
pub(super) fn field(name: &str, sample_type: SampleType) -> Result<Type, ParquetError> {
    let integer = |bits, is_signed| Some(LogicalType::integer(bits, is_signed));
    let (physical, logical) = match sample_type {
        SampleType::F32 => (Physical::FLOAT, None),
        SampleType::F64 => (Physical::DOUBLE, None),
        SampleType::I8 => (Physical::INT32, integer(8, true)),
        SampleType::I16 => (Physical::INT32, integer(16, true)),
        SampleType::I32 => (Physical::INT32, integer(32, true)),
        SampleType::I64 => (Physical::INT64, integer(64, true)),
        SampleType::U8 | SampleType::U4 | SampleType::U1 => (Physical::INT32, integer(8, false)),
        SampleType::U16 => (Physical::INT32, integer(16, false)),
        SampleType::U32 => (Physical::INT32, integer(32, false)),
        SampleType::U64 => (Physical::INT64, integer(64, false)),
        SampleType::I128 => (
            Physical::FIXED_LEN_BYTE_ARRAY,
            Some(LogicalType::decimal(0, DECIMAL_DIGITS)),
        ),
    };
    let builder = Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    if sample_type == SampleType::I128 {
        return builder
            .with_length(16)
            .with_precision(DECIMAL_DIGITS)
            .with_scale(0)
            .build();
    }
    builder.build()
}

impl SampleColumn {
    pub(super) fn new(sample_type: SampleType) -> Self {
        let values = match sample_type {
            SampleType::F32 => Values::F32(Vec::new()),
            SampleType::F64 => Values::F64(Vec::new()),
            SampleType::I64 | SampleType::U64 => Values::I64(Vec::new()),
            SampleType::I128 => Values::I128(Vec::new()),
            _ => Values::I32(Vec::new()),
        };
        Self {
            sample_type,
            values,
            levels: Vec::new(),
        }
    }

    /// Bytes of one sample while it waits.
    pub(super) fn row_bytes(&self) -> usize {
        let value = match self.values {
            Values::I32(_) | Values::F32(_) => 4,
            Values::I64(_) | Values::F64(_) => 8,
            Values::I128(_) => size_of::<FixedLenByteArray>() + 16,
        };
        value + size_of::<i16>()
    }

    pub(super) fn add_missing(&mut self, count: usize) {
        self.levels.resize(self.levels.len() + count, 0);
    }

    /// Takes samples `from`..`to` of a column's own bytes.
    pub(super) fn add(&mut self, bytes: &[u8], from: usize, to: usize) -> Result<(), TooLarge> {
        self.levels.resize(self.levels.len() + to - from, 1);
        macro_rules! numbers {
            ($values:expr, $number:ty, $into:expr) => {{
                const WIDTH: usize = size_of::<$number>();
                let samples = &bytes.as_chunks::<WIDTH>().0[from..to];
                $values.extend(
                    samples
                        .iter()
                        .map(|bytes| $into(<$number>::from_le_bytes(*bytes))),
                );
            }};
        }
        match (&mut self.values, self.sample_type) {
            (Values::F32(values), _) => numbers!(values, f32, |value| value),
            (Values::F64(values), _) => numbers!(values, f64, |value| value),
            (Values::I64(values), _) => numbers!(values, i64, |value| value),
            (Values::I32(values), SampleType::I8) => numbers!(values, i8, i32::from),
            (Values::I32(values), SampleType::U8) => numbers!(values, u8, i32::from),
            (Values::I32(values), SampleType::I16) => numbers!(values, i16, i32::from),
            (Values::I32(values), SampleType::U16) => numbers!(values, u16, i32::from),
            (Values::I32(values), SampleType::U4 | SampleType::U1) => {
                let bits = self.sample_type.bits() as usize;
                let packed = |at: usize| bytes[at * bits / 8] >> (at * bits % 8) & ((1 << bits) - 1);
                values.extend((from..to).map(|at| i32::from(packed(at))));
            }
            (Values::I32(values), _) => numbers!(values, i32, |value| value),
            (Values::I128(values), _) => {
                for sample in &bytes.as_chunks::<16>().0[from..to] {
                    let value = i128::from_le_bytes(*sample);
                    if value.unsigned_abs() >= DECIMAL_END {
                        return Err(TooLarge(value));
                    }
                    values.push(ByteArray::from(value.to_be_bytes().to_vec()).into());
                }
            }
        }
        Ok(())
    }

    /// Writes what waits, and forgets it.
    pub(super) fn write(&mut self, out: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = Some(&self.levels[..]);
        match &mut self.values {
            Values::I32(values) => {
                out.typed::<Int32Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::I64(values) => {
                out.typed::<Int64Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::F32(values) => {
                out.typed::<FloatType>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::F64(values) => {
                out.typed::<DoubleType>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::I128(values) => {
                out.typed::<FixedLenByteArrayType>().write_batch(values, levels, None)?;
                values.clear();
            }
        }
        self.levels.clear();
        Ok(())
    }
}
