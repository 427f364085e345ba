//! Statistics that the instrument makes itself of every sample, also of those that never arrive here: so charge and energy stay right
//! whatever was lost on the way. Pure.
//!
//! # Invariants
//! - Sums are integers; each value is rounded once, to the nearest.

const BYTES: usize = 192;
/// Raw, version 1, of samples that are two ticks long.
const FORMAT: u32 = 0x92;
/// Binary places of current and voltage, of power, and of all integrals.
const PLACES: u32 = 31;
const POWER_PLACES: u32 = 27;

/// Sum, lowest and highest of the samples of a block, as integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sums {
    sum: i64,
    min: i64,
    max: i64,
}

/// The statistics of one block of samples, and what has been accumulated up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Samples of the block.
    pub(super) count: u32,
    /// Samples per second: half of the ticks.
    sample_hz: u32,
    /// The id of its first sample.
    pub(super) first_id: u64,
    /// The id from which on charge and energy are accumulated.
    pub(super) accumulated_from: u64,
    /// Current, voltage, power.
    sums: [Sums; 3],
    charge: i128,
    energy: i128,
}

impl Statistics {
    /// `None`: it is none, or of another version.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|word| u32::from_le_bytes(*word));
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        let i64_at = |at: usize| bytes[at..].first_chunk().map(|word| i64::from_le_bytes(*word));
        let i128_at = |at: usize| bytes[at..].first_chunk().map(|word| i128::from_le_bytes(*word));
        let sums_at = |at: usize| {
            Some(Sums {
                sum: i64_at(at)?,
                min: i64_at(at + 8)?,
                max: i64_at(at + 16)?,
            })
        };
        let head = u32_at(0)?;
        let statistics = Self {
            count: head & 0xff_ffff,
            sample_hz: u32_at(4)? / 2,
            first_id: u64_at(8)?,
            accumulated_from: u64_at(16)?,
            sums: [sums_at(24)?, sums_at(48)?, sums_at(72)?],
            charge: i128_at(112)?,
            energy: i128_at(176)?,
        };
        (head >> 24 == FORMAT && statistics.count > 0 && statistics.sample_hz > 0).then_some(statistics)
    }

    /// Charge in coulomb and energy in joule, accumulated.
    pub(super) fn accumulated(&self) -> [f64; 2] {
        [self.charge, self.energy].map(|sum| quotient(sum, self.sample_hz.into(), PLACES))
    }

    /// The means of current, voltage and power.
    pub(super) fn means(&self) -> [f64; 3] {
        self.each(|sums, places| quotient(sums.sum.into(), self.count.into(), places))
    }

    /// Their lowest and highest samples.
    pub(super) fn extremes(&self) -> [[f32; 2]; 3] {
        // The instrument's samples are f32 as well.
        self.each(|sums, places| [sums.min, sums.max].map(|value| quotient(value.into(), 1, places) as f32))
    }

    fn each<T>(&self, value: impl Fn(&Sums, u32) -> T) -> [T; 3] {
        let [current, voltage, power] = &self.sums;
        [
            value(current, PLACES),
            value(voltage, PLACES),
            value(power, POWER_PLACES),
        ]
    }
}

/// `sum / divisor / 2^places`, to the nearest.
fn quotient(sum: i128, divisor: u64, places: u32) -> f64 {
    // Shifted up until nothing of 64 bits can be lost by dividing; what remains sticks to the lowest bit, below those that are kept.
    let magnitude = sum.unsigned_abs();
    let shift = magnitude.leading_zeros().min(127);
    let shifted = magnitude << shift;
    let divisor = u128::from(divisor.max(1));
    let digits = (shifted / divisor) | u128::from(!shifted.is_multiple_of(divisor));
    let places = i32::try_from(shift + places).unwrap_or(i32::MAX);
    let value = digits as f64 * 2f64.powi(-places);
    if sum < 0 { -value } else { value }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the specification's table.
    pub(in super::super) fn block(
        count: u32,
        first_id: u64,
        sums: [[i64; 3]; 3],
        charge: i128,
        energy: i128,
    ) -> Vec<u8> {
        let mut bytes = (count | 0x92 << 24).to_le_bytes().to_vec();
        bytes.extend(2_000_000u32.to_le_bytes());
        bytes.extend([first_id, 1_000].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(sums.iter().flatten().flat_map(|word| word.to_le_bytes()));
        bytes.extend(
            [-1, charge, -1, 0, -1, energy]
                .iter()
                .flat_map(|word: &i128| word.to_le_bytes()),
        );
        assert_eq!(bytes.len(), 192);
        bytes
    }

    #[test]
    fn fields_have_the_units_of_the_specification() {
        let (one, watt) = (1i64 << 31, 1i64 << 27);
        let sums = [
            [one * 500, one / 4, one * 2],
            [-one * 1_000, -one * 3, one],
            [watt * 250, -watt, watt * 7],
        ];
        // 1 C and −2 J, at 1 MHz.
        let bytes = block(1_000, 77, sums, 1_000_000 << 31, -2_000_000 << 31);
        let statistics = Statistics::parse(&bytes).expect("it is statistics");
        assert_eq!(
            (statistics.count, statistics.first_id, statistics.accumulated_from),
            (1_000, 77, 1_000)
        );
        assert_eq!(statistics.accumulated(), [1.0, -2.0]);
        assert_eq!(statistics.means(), [0.5, -1.0, 0.25]);
        assert_eq!(statistics.extremes(), [[0.25, 2.0], [-3.0, 1.0], [-1.0, 7.0]]);
    }

    #[test]
    fn what_is_no_such_block_is_none() {
        let good = block(1, 0, [[0; 3]; 3], 0, 0);
        assert!(Statistics::parse(&good).is_some());
        assert_eq!(Statistics::parse(&good[..191]), None);
        for (at, byte) in [(3, 0x91), (0, 0), (6, 0)] {
            let mut bad = good.clone();
            bad[at] = byte;
            if at == 6 {
                bad[4..8].fill(0);
            }
            assert_eq!(Statistics::parse(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn years_of_charge_are_rounded_once() {
        // Beyond 2^53 the conversions alone would round twice.
        assert_eq!(
            quotient(((1i128 << 54) + 1) * 1_000_000 + 1, 1_000_000, 0),
            2f64.powi(54)
        );
        assert_eq!(
            quotient(((1i128 << 54) + 2) * 1_000_000 + 1, 1_000_000, 0),
            2f64.powi(54) + 4.0
        );
        assert_eq!(quotient(i128::MIN, 1, 0), -2f64.powi(127));
        assert_eq!(quotient(0, 7, 31).to_bits(), 0);
    }

    proptest! {
        #[test]
        fn quotients_are_those_of_the_exact_number(sum in -(1i64 << 53)..1 << 53, divisor in 1u64..1 << 32) {
            // Both are exact as f64, so their quotient is rounded once, too.
            prop_assert_eq!(quotient(sum.into(), divisor, 0), sum as f64 / divisor as f64);
        }

        #[test]
        fn i12_arbitrary_blocks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 192)) {
            let mut bytes = bytes;
            bytes[3] = 0x92;
            if let Some(statistics) = Statistics::parse(&bytes) {
                let _ = (statistics.accumulated(), statistics.means(), statistics.extremes());
            }
        }
    }
}
