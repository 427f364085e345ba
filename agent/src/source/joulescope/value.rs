//! Values of published messages. Pure.

/// A published value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Str(&'a str),
    Json(&'a str),
    Bin(&'a [u8]),
    F32(f32),
    F64(f64),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
}

impl<'a> Value<'a> {
    /// From its number of a type and its bytes. `None`: no such type, too few bytes, or no text where there should be some.
    pub(super) fn parse(kind: u8, bytes: &'a [u8]) -> Option<Self> {
        // Scalars take 8 bytes, whatever their size.
        let scalar = bytes.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        Some(match kind {
            0 => Self::Null,
            1 => Self::Str(text(bytes)?),
            2 => Self::Json(text(bytes)?),
            3 => Self::Bin(bytes),
            6 => Self::F32(f32::from_bits(scalar? as u32)),
            7 => Self::F64(f64::from_bits(scalar?)),
            8 => Self::U8(scalar? as u8),
            9 => Self::U16(scalar? as u16),
            10 => Self::U32(scalar? as u32),
            11 => Self::U64(scalar?),
            12 => Self::I8(scalar? as i8),
            13 => Self::I16(scalar? as i16),
            14 => Self::I32(scalar? as i32),
            15 => Self::I64(scalar? as i64),
            _ => return None,
        })
    }

    /// Its type's number, and its bytes.
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        let scalar = |kind, bits: u64| (kind, bits.to_le_bytes().to_vec());
        match *self {
            Self::Null => scalar(0, 0),
            Self::Str(text) => (1, text.as_bytes().to_vec()),
            Self::Json(text) => (2, text.as_bytes().to_vec()),
            Self::Bin(bytes) => (3, bytes.to_vec()),
            Self::F32(value) => scalar(6, value.to_bits().into()),
            Self::F64(value) => scalar(7, value.to_bits()),
            Self::U8(value) => scalar(8, value.into()),
            Self::U16(value) => scalar(9, value.into()),
            Self::U32(value) => scalar(10, value.into()),
            Self::U64(value) => scalar(11, value),
            // Sign-extended: who reads a wider type than was written finds the same number.
            Self::I8(value) => scalar(12, i64::from(value) as u64),
            Self::I16(value) => scalar(13, i64::from(value) as u64),
            Self::I32(value) => scalar(14, i64::from(value) as u64),
            Self::I64(value) => scalar(15, value as u64),
        }
    }

    /// As a whole number, where it is one.
    pub(super) fn whole(&self) -> Option<i64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => i64::try_from(value).ok(),
            Self::I8(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::I64(value) => Some(value),
            _ => None,
        }
    }
}

/// Up to the first zero: the instrument ends its texts with one.
fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    str::from_utf8(&bytes[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_way() {
        let values = [
            Value::Null,
            Value::Str("auto"),
            Value::Json("{}"),
            Value::Bin(&[0, 1]),
            Value::F32(-0.0),
            Value::F64(1e-300),
            Value::U8(255),
            Value::U16(65_535),
            Value::U32(4_000_000_000),
            Value::U64(u64::MAX),
            Value::I8(-1),
            Value::I16(-2),
            Value::I32(i32::MIN),
            Value::I64(i64::MIN),
        ];
        for value in values {
            let (kind, bytes) = value.encode();
            assert_eq!(Value::parse(kind, &bytes), Some(value));
        }
        assert_eq!(
            Value::I32(-5).encode(),
            (14, vec![0xfb, 255, 255, 255, 255, 255, 255, 255])
        );
        assert_eq!(Value::parse(1, b"3v3\0\0"), Some(Value::Str("3v3")));
    }

    #[test]
    fn what_is_no_value_is_none() {
        for (kind, bytes) in [(10, &[0; 7][..]), (1, &[0xff]), (4, &[0; 8]), (16, &[0; 8]), (255, &[])] {
            assert_eq!(Value::parse(kind, bytes), None, "type {kind}");
        }
    }
}
