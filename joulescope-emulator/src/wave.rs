//! The waveform: each sample is a pure function of the seed, the signal and the sample's id, in integers, so that a test in another
//! language computes the same bits.
//!
//! All arithmetic is of 64 bits without sign and wraps; `>>` shifts zeros in.
//!
//! ```text
//! mix(z):             z = (z ^ z>>30) * 0xBF58476D1CE4E5B9;  z = (z ^ z>>27) * 0x94D049BB133111EB;  z ^ z>>31
//! hash(seed, k, n):   mix(mix(seed + k * 0x9E3779B97F4A7C15) + n)
//! ```
//!
//! A sample of current or voltage at 1 MSPS has number `n = id / 2`, with `w = hash(seed, 0, n)`; 16384 of them are a burst, with
//! `b = hash(seed, 1, n / 16384)`:
//!
//! ```text
//! range r             = b % 6
//! current / 2^-31 A   = ((1<<22) + (b>>8 & 0xFFFFF) + (w & 0xFFFFF)) << [9, 7, 5, 3, 1, 0][r],  negative if b>>60 == 0
//! voltage / 2^-31 V   = (3460300 + (w>>20 & 0xFFFF) - (40000 if r == 0)) << 11
//! power / 2^-31 W     = current * (voltage >> 11) >> 20, rounded down
//! raw ADC c           = bits 16c to 16c+15 of hash(seed, 2, id), as i16
//! GPI k, trigger k=4  = bit id % 64 of hash(seed, 16 + k, id / 64)
//! ```
//!
//! Current and voltage have at most 24 significant bits, so they are exact as `f32`. Power at full rate is the product of those two
//! as `f32`. Under `s/dwnN/N` = N, a sample is the mean of the N samples from its id on, rounded once from the exact sum.
//!
//! An instrument that was plugged in anew has the seed plus 1, so that samples of two connections are never mistaken for each other.

/// Samples at 1 MSPS of one burst.
pub const BURST: u64 = 16_384;

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const CURRENT_SHIFT: [u32; 6] = [9, 7, 5, 3, 1, 0];

/// SplitMix64's last step.
#[must_use]
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One waveform.
#[derive(Debug, Clone, Copy)]
pub struct Wave {
    analog: u64,
    burst: u64,
    adc: u64,
    gpi: [u64; 5],
}

/// Current, voltage and power of one sample, in units of 2^-31.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analog {
    /// Current, in 2^-31 A.
    pub i: i64,
    /// Voltage, in 2^-31 V.
    pub v: i64,
    /// Power, in 2^-31 W.
    pub p: i64,
}

/// What all samples of a burst have in common.
#[derive(Debug, Clone, Copy)]
struct Burst {
    shift: u32,
    base: i64,
    negative: bool,
    v_base: i64,
}

impl Wave {
    /// The waveform of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let key = |k: u64| mix(seed.wrapping_add(k.wrapping_mul(STEP)));
        Self {
            analog: key(0),
            burst: key(1),
            adc: key(2),
            gpi: [key(16), key(17), key(18), key(19), key(20)],
        }
    }

    fn burst_word(&self, number: u64) -> u64 {
        mix(self.burst.wrapping_add(number / BURST))
    }

    fn burst(&self, number: u64) -> Burst {
        let b = self.burst_word(number);
        let range = (b % 6) as usize;
        Burst {
            shift: CURRENT_SHIFT[range],
            base: (1 << 22) + ((b >> 8) & 0xF_FFFF) as i64,
            negative: b >> 60 == 0,
            v_base: 3_460_300 - if range == 0 { 40_000 } else { 0 },
        }
    }

    /// Calls `each` with the samples of 1 MSPS numbered `from` to before `end`, in order.
    pub fn analog(&self, from: u64, end: u64, mut each: impl FnMut(Analog)) {
        let mut number = from;
        while number < end {
            let burst = self.burst(number);
            let until = end.min((number / BURST + 1) * BURST);
            while number < until {
                let w = mix(self.analog.wrapping_add(number));
                let i = (burst.base + (w & 0xF_FFFF) as i64) << burst.shift;
                let i = if burst.negative { -i } else { i };
                let v = burst.v_base + ((w >> 20) & 0xFFFF) as i64;
                each(Analog {
                    i,
                    v: v << 11,
                    p: (i * v) >> 20,
                });
                number += 1;
            }
        }
    }

    /// The current range of the sample with this id, 0 to 5.
    #[must_use]
    pub fn range(&self, id: u64) -> u8 {
        (self.burst_word(id / 2) % 6) as u8
    }

    /// The raw sample of one of the four ADCs.
    #[must_use]
    pub fn adc(&self, channel: u8, id: u64) -> i16 {
        (mix(self.adc.wrapping_add(id)) >> (16 * u32::from(channel & 3))) as i16
    }

    /// Inputs 0 to 3, and 4 for the trigger: the bits of the 64 samples from id `64 * word` on, the first one lowest.
    #[must_use]
    pub fn gpi_word(&self, input: u8, word: u64) -> u64 {
        mix(self.gpi[usize::from(input).min(4)].wrapping_add(word))
    }

    /// Input 0 to 3, or 4 for the trigger, at a sample.
    #[must_use]
    pub fn gpi(&self, input: u8, id: u64) -> bool {
        self.gpi_word(input, id / 64) >> (id % 64) & 1 == 1
    }
}

/// The value of so many units of 2^-31 (exact: they have at most 24 significant bits).
#[must_use]
pub fn to_f32(units: i64) -> f32 {
    (units as f64 / (1u64 << 31) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 of seed 0 gives these first: its generator is `mix` of multiples of its step.
    #[test]
    fn it_is_split_mix() {
        assert_eq!(mix(STEP), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(STEP.wrapping_mul(2)), 0x6E78_9E6A_A1B9_65F4);
    }

    /// Computed by the formulas above in Python's integers.
    #[test]
    fn samples_are_those_of_the_formulas() {
        let wave = Wave::new(3);
        let mut all = Vec::new();
        wave.analog(1_000_000, 1_000_002, |sample| all.push(sample));
        wave.analog(16_384 * 24, 16_384 * 24 + 1, |sample| all.push(sample));
        assert_eq!(all, VECTOR);
        assert_eq!(wave.range(2_000_000), VECTOR_RANGE);
        assert_eq!(
            [wave.adc(0, 77), wave.adc(1, 77), wave.adc(2, 77), wave.adc(3, 77)],
            VECTOR_ADC
        );
        let bits: u64 = (0..64).map(|bit| u64::from(wave.gpi(4, 640 + bit)) << bit).sum();
        assert_eq!(bits, VECTOR_GPI);
    }

    const VECTOR: [Analog; 3] = [
        Analog {
            i: 5674284,
            v: 7135875072,
            p: 18855082,
        },
        Analog {
            i: 6075143,
            v: 7185797120,
            p: 20328324,
        },
        Analog {
            i: -728024960,
            v: 7215519744,
            p: -2446155285,
        },
    ];
    const VECTOR_RANGE: u8 = 5;
    const VECTOR_ADC: [i16; 4] = [30509, -19752, 26996, 29086];
    const VECTOR_GPI: u64 = 0x531d_afba_3a12_a5b4;

    #[test]
    fn current_and_voltage_are_exact_as_f32() {
        let wave = Wave::new(9);
        wave.analog(0, 200_000, |sample| {
            for units in [sample.i, sample.v] {
                assert_eq!(f64::from(to_f32(units)) * (1u64 << 31) as f64, units as f64);
            }
        });
    }
}
