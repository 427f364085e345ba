//! The statistics block: 192 bytes with sums that are exact over all samples, whether a host saw them or not.

use crate::wave::Wave;

/// 1 raw, version 1, decimated by 2.
const KIND: u32 = 0x92;

/// Samples of a block, at most: its field has 24 bits.
pub(crate) const BLOCK_MOST: u32 = 0x00FF_FFFF;

/// The statistics of one instrument, from when they were turned on or cleared.
#[derive(Debug, Clone)]
pub(crate) struct Statistics {
    /// The id of the first sample of the block under way.
    block: u64,
    /// The id from which the integrals count.
    accumulated_from: u64,
    samples: u32,
    charge: i128,
    energy: i128,
}

impl Statistics {
    /// Blocks of so many samples of 1 MSPS, from the first even id on.
    pub(crate) fn new(from: u64, samples: u32) -> Self {
        let from = from.next_multiple_of(2);
        Self {
            block: from,
            accumulated_from: from,
            samples: samples.clamp(1, BLOCK_MOST),
            charge: 0,
            energy: 0,
        }
    }

    /// The integrals start anew with the block that begins now.
    pub(crate) fn clear(&mut self, from: u64) {
        *self = Self::new(from, self.samples);
    }

    /// Another length, of the block under way as well.
    pub(crate) fn resize(&mut self, samples: u32) {
        self.samples = samples.clamp(1, BLOCK_MOST);
    }

    pub(crate) fn first(&self) -> u64 {
        self.block
    }

    /// The id after the block under way.
    pub(crate) fn end(&self) -> u64 {
        self.block + 2 * u64::from(self.samples)
    }

    /// The block's 192 bytes; the next one begins.
    pub(crate) fn finish(&mut self, wave: &Wave) -> Vec<u8> {
        let mut sums = [Sums::new(); 3];
        wave.analog(self.block / 2, self.end() / 2, |sample| {
            sums[0].add(sample.i);
            sums[1].add(sample.v);
            // Power has 27 bits after the point, to hold more of it.
            sums[2].add(sample.p >> 4);
            self.charge += i128::from(sample.i);
            self.energy += i128::from(sample.p);
        });
        let mut block = Vec::with_capacity(192);
        block.extend((KIND << 24 | self.samples).to_le_bytes());
        block.extend(2_000_000_u32.to_le_bytes());
        block.extend(self.block.to_le_bytes());
        block.extend(self.accumulated_from.to_le_bytes());
        for sum in &sums {
            block.extend(sum.x1.to_le_bytes());
            block.extend(sum.min.to_le_bytes());
            block.extend(sum.max.to_le_bytes());
        }
        for (sum, integral) in sums.iter().zip([self.charge, 0, self.energy]) {
            block.extend(sum.x2.to_le_bytes());
            block.extend(integral.to_le_bytes());
        }
        self.block = self.end();
        block
    }
}

#[derive(Debug, Clone, Copy)]
struct Sums {
    x1: i64,
    x2: i128,
    min: i64,
    max: i64,
}

impl Sums {
    const fn new() -> Self {
        Self {
            x1: 0,
            x2: 0,
            min: i64::MAX,
            max: i64::MIN,
        }
    }

    fn add(&mut self, x: i64) {
        self.x1 += x;
        self.x2 += i128::from(x) * i128::from(x);
        self.min = self.min.min(x);
        self.max = self.max.max(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<const N: usize>(block: &[u8], offset: usize) -> [u8; N] {
        block[offset..offset + N].try_into().unwrap()
    }

    #[test]
    fn the_fields_are_where_the_protocol_has_them_and_the_integrals_go_on() {
        let wave = Wave::new(3);
        let mut statistics = Statistics::new(1001, 5);
        let blocks = [statistics.finish(&wave), statistics.finish(&wave)];
        let (mut charge, mut energy) = (0_i128, 0_i128);
        for (nth, block) in blocks.iter().enumerate() {
            assert_eq!(block.len(), 192);
            assert_eq!(block[..8], [5, 0, 0, 0x92, 0x80, 0x84, 0x1E, 0]);
            let first = 1002 + 10 * nth as u64;
            assert_eq!(u64::from_le_bytes(at(block, 8)), first);
            assert_eq!(u64::from_le_bytes(at(block, 16)), 1002);
            let mut samples = Vec::new();
            wave.analog(first / 2, first / 2 + 5, |sample| samples.push(sample));
            charge += samples.iter().map(|s| i128::from(s.i)).sum::<i128>();
            energy += samples.iter().map(|s| i128::from(s.p)).sum::<i128>();
            let x1: i64 = samples.iter().map(|s| s.v).sum();
            assert_eq!(i64::from_le_bytes(at(block, 48)), x1);
            let most = samples.iter().map(|s| s.p >> 4).max().unwrap();
            assert_eq!(i64::from_le_bytes(at(block, 88)), most);
            let squares: i128 = samples.iter().map(|s| i128::from(s.i) * i128::from(s.i)).sum();
            assert_eq!(i128::from_le_bytes(at(block, 96)), squares);
            assert_eq!(i128::from_le_bytes(at(block, 112)), charge);
            assert_eq!(i128::from_le_bytes(at(block, 144)), 0);
            assert_eq!(i128::from_le_bytes(at(block, 176)), energy);
        }
    }
}
