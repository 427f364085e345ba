//! One signal's samples of a block, decoded and cut to the range.
//!
//! # Invariants
//! - The bytes are the samples' own: raw little-endian, packed types least significant bit first with zero padding. Nothing
//!   rounds, so NaN payloads and −0.0 come through.

use wavekeep_proto::chunk::Reason;
use wavekeep_proto::stream::SampleType;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Column {
    /// Which of the stream's signals: `block.stream.definition.signals[signal]`.
    pub signal: usize,
    /// How a sample is stored.
    pub sample_type: SampleType,
    /// Set when this signal alone is missing in this block, and why.
    pub absent: Option<Reason>,
    raw: Vec<u8>,
    start: usize,
    end: usize,
    count: u64,
}

impl Column {
    pub(crate) fn new(signal: usize, sample_type: SampleType) -> Self {
        Self {
            signal,
            sample_type,
            absent: None,
            raw: Vec::new(),
            start: 0,
            end: 0,
            count: 0,
        }
    }

    /// The buffer to decode into: that of the block before, so that it is allocated once.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.raw
    }

    pub(crate) fn set_absent(&mut self, reason: Reason, count: u64) {
        (self.absent, self.start, self.end, self.count) = (Some(reason), 0, 0, count);
    }

    /// Keeps `count` samples after `skip` of what was decoded, which holds them.
    pub(crate) fn cut(&mut self, skip: u64, count: u64) {
        let bits = u64::from(self.sample_type.bits());
        assert!(
            self.sample_type.bytes(skip + count) <= self.raw.len() as u64,
            "I4: a chunk is cut inside of itself"
        );
        (self.absent, self.count) = (None, count);
        if bits >= 8 {
            self.start = (skip * bits / 8) as usize;
            self.end = self.start + (count * bits / 8) as usize;
            return;
        }
        let (first, shift) = ((skip * bits / 8) as usize, skip * bits % 8);
        (self.start, self.end) = (0, self.sample_type.bytes(count) as usize);
        for at in 0..self.end {
            let next = self.raw.get(first + at + 1).copied().unwrap_or(0);
            let pair = u16::from_le_bytes([self.raw[first + at], next]);
            self.raw[at] = (pair >> shift) as u8;
        }
        let used = count * bits % 8;
        if used > 0 {
            self.raw[self.end - 1] &= (1u8 << used) - 1;
        }
    }

    /// Samples of the axis that it covers, present or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The samples' own bytes; None where they are absent.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.absent.is_none().then(|| &self.raw[self.start..self.end])
    }

    /// The samples of a present f32 signal.
    pub fn f32s(&self) -> Option<impl ExactSizeIterator<Item = f32> + '_> {
        let bytes = self.bytes().filter(|_| self.sample_type == SampleType::F32)?;
        Some(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }

    /// Appends the samples as f64, whatever their type: exact for all but the largest of i64, u64 and i128. Absent ones are NaN.
    pub fn append_f64(&self, out: &mut Vec<f64>) {
        macro_rules! append {
            ($bytes:expr, $number:ty) => {
                out.extend(
                    $bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|bytes| <$number>::from_le_bytes(*bytes) as f64),
                )
            };
        }
        let Some(bytes) = self.bytes() else {
            out.extend((0..self.count).map(|_| f64::NAN));
            return;
        };
        match self.sample_type {
            SampleType::F32 => append!(bytes, f32),
            SampleType::F64 => append!(bytes, f64),
            SampleType::I8 => append!(bytes, i8),
            SampleType::I16 => append!(bytes, i16),
            SampleType::I32 => append!(bytes, i32),
            SampleType::I64 => append!(bytes, i64),
            SampleType::U8 => append!(bytes, u8),
            SampleType::U16 => append!(bytes, u16),
            SampleType::U32 => append!(bytes, u32),
            SampleType::U64 => append!(bytes, u64),
            SampleType::I128 => append!(bytes, i128),
            SampleType::U4 | SampleType::U1 => {
                let bits = u64::from(self.sample_type.bits());
                let mask = (1u8 << bits) - 1;
                let at = |sample: u64| bytes[(sample * bits / 8) as usize] >> (sample * bits % 8);
                out.extend((0..self.count).map(|sample| f64::from(at(sample) & mask)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(sample_type: SampleType, raw: &[u8], skip: u64, count: u64) -> Column {
        let mut column = Column::new(0, sample_type);
        column.buffer().extend(raw);
        column.cut(skip, count);
        column
    }

    fn f64s(column: &Column) -> Vec<f64> {
        let mut out = Vec::new();
        column.append_f64(&mut out);
        out
    }

    #[test]
    fn cutting_keeps_bits() {
        let odd = [0x7fc0_1234u32, 0x8000_0000, 0xff80_0000, 1]
            .map(u32::to_le_bytes)
            .concat();
        let cut = column(SampleType::F32, &odd, 1, 2);
        assert_eq!(cut.bytes(), Some(&odd[4..12]));
        let bits: Vec<u32> = cut.f32s().expect("f32").map(f32::to_bits).collect();
        assert_eq!(bits, [0x8000_0000, 0xff80_0000]);
    }

    #[test]
    fn packed_samples_are_shifted_to_the_front_and_padded_with_zero() {
        let cut = column(SampleType::U1, &[0b1011_0110, 0b0000_0011], 3, 6);
        assert_eq!(f64s(&cut), [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
        assert_eq!(cut.bytes(), Some(&[0b0011_0110][..]));
        let cut = column(SampleType::U4, &[0x21, 0x43, 0x05], 1, 3);
        assert_eq!(
            (f64s(&cut), cut.bytes()),
            (vec![2.0, 3.0, 4.0], Some(&[0x32, 0x04][..]))
        );
        assert_eq!(f64s(&column(SampleType::U1, &[0xff], 0, 8)), [1.0; 8]);
    }

    #[test]
    fn absent_samples_are_nan_and_have_no_bytes() {
        let mut absent = Column::new(0, SampleType::I16);
        absent.set_absent(Reason::SignalOff, 2);
        assert_eq!(absent.bytes(), None);
        assert!(f64s(&absent).iter().all(|sample| sample.is_nan()) && f64s(&absent).len() == 2);
    }
}
