//! The instrument's front end: how the device's current and voltage become samples.
//!
//! Both models do the same: choose a range, turn the level into a code, add noise in whole codes, limit the code to what the
//! converter has, multiply by the range's gain. A JS220 has 2^23 codes of a digital filter, so its samples look like noisy floats;
//! a JS110 has the 2^14 codes of its converter, and its range follows the current 4 µs late, so that its samples sit at the last
//! code when the device wakes up.
//!
//! # Invariants
//! - Every sample is `code as f32 * gain`, with a whole code below 2^24 (exact in an f32) and one rounding.
//! - Only integer operations and f32 + − × on the hot path: identical bits everywhere, and four or more samples at once.

use super::SimulatedSignal;
use super::burst::Run;
use super::hash::derive;
use super::spec::SimulatorModel;

/// The noise of this many samples has one key; a sample's place among them is its counter.
pub(super) const NOISE_BLOCK_SAMPLES: u64 = 1 << 16;

/// A converter and its ranges.
#[derive(Debug)]
pub(super) struct FrontEnd {
    pub(super) code_count: u32,
    /// Standard deviation of the noise, in codes, in each range.
    noise_codes: f32,
    /// How late the range follows the current.
    pub(super) range_delay_ns: u64,
    /// Full scales of the current ranges in picoamperes, smallest first.
    current_ranges_pa: &'static [u64],
    voltage_full_scale_uv: u64,
}

/// Full scale of the voltage, as calibrated: real gains are not round, and samples of round ones would compress too well.
const VOLTAGE_FULL_SCALE_UV: u64 = 15_031_470;

static JS220: FrontEnd = FrontEnd {
    code_count: 1 << 23,
    noise_codes: 512.0, // 2^-14 of full scale
    range_delay_ns: 0,
    current_ranges_pa: &[
        18_000_000,
        180_000_000,
        1_800_000_000,
        18_000_000_000,
        180_000_000_000,
        10_000_000_000_000,
    ],
    voltage_full_scale_uv: VOLTAGE_FULL_SCALE_UV,
};

static JS110: FrontEnd = FrontEnd {
    code_count: 1 << 14,
    noise_codes: 2.0,
    range_delay_ns: 4_000,
    current_ranges_pa: &[
        18_000_000,
        180_000_000,
        1_800_000_000,
        18_000_000_000,
        180_000_000_000,
        2_000_000_000_000,
        10_000_000_000_000,
    ],
    voltage_full_scale_uv: VOLTAGE_FULL_SCALE_UV,
};

/// The battery: its voltage without load in microvolts, and its resistance.
const BATTERY_UV: u64 = 3_300_000;
const BATTERY_MILLIOHM: u64 = 800;

impl FrontEnd {
    pub(super) fn of(model: SimulatorModel) -> &'static Self {
        match model {
            SimulatorModel::Js220 => &JS220,
            SimulatorModel::Js110 => &JS110,
        }
    }

    /// The scale on which the current of `run` is measured.
    pub(super) fn current(&self, run: &Run) -> Scale {
        let full_scale_pa = self.current_ranges_pa[self.current_range(run)];
        self.scale(
            run.current_pa,
            full_scale_pa,
            current_gain(full_scale_pa, self.code_count),
        )
    }

    /// Which range measures the current of `run`, counted from the smallest.
    fn current_range(&self, run: &Run) -> usize {
        // A tenth to spare, so that noise does not reach the end of the range.
        self.current_ranges_pa
            .iter()
            .position(|&full_scale_pa| full_scale_pa / 10 * 9 >= run.range_current_pa)
            .expect("the simulated device draws less than the largest range")
    }

    /// The same as the instrument numbers it: 0 is the largest range.
    pub(super) fn current_range_code(&self, run: &Run) -> u8 {
        let smaller = self.current_ranges_pa.len() - 1 - self.current_range(run);
        u8::try_from(smaller).expect("an instrument has few ranges")
    }

    /// The scale on which the voltage of `run` is measured.
    pub(super) fn voltage(&self, run: &Run) -> Scale {
        // Picoamperes × milliohm are 10^-15 V.
        let level_uv = BATTERY_UV - run.current_pa * BATTERY_MILLIOHM / 1_000_000_000;
        self.scale(
            level_uv,
            self.voltage_full_scale_uv,
            voltage_gain(self.voltage_full_scale_uv, self.code_count),
        )
    }

    pub(super) fn gains(&self, signal: SimulatedSignal) -> Vec<f32> {
        match signal {
            SimulatedSignal::Current => self
                .current_ranges_pa
                .iter()
                .map(|&full_scale_pa| current_gain(full_scale_pa, self.code_count))
                .collect(),
            SimulatedSignal::Voltage => {
                vec![voltage_gain(self.voltage_full_scale_uv, self.code_count)]
            }
        }
    }

    fn scale(&self, level: u64, full_scale: u64, gain: f32) -> Scale {
        // A level beyond the range (the range has yet to follow) needs to stay small enough for an exact f32, and large enough
        // that it is beyond the range with any noise.
        let level_code = (level * u64::from(self.code_count) / full_scale).min(2 * u64::from(self.code_count));
        Scale {
            level_code: level_code as f32,
            noise_codes: self.noise_codes,
            code_max: (self.code_count - 1) as f32,
            gain,
        }
    }
}

/// Amperes per code. One f64 product and one rounding to f32, the same everywhere.
fn current_gain(full_scale_pa: u64, code_count: u32) -> f32 {
    (full_scale_pa as f64 * 1e-12 / f64::from(code_count)) as f32
}

/// Volts per code.
fn voltage_gain(full_scale_uv: u64, code_count: u32) -> f32 {
    (full_scale_uv as f64 * 1e-6 / f64::from(code_count)) as f32
}

/// The two keys of the noise of one signal in one block of samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoiseKeys(u32, u32);

impl NoiseKeys {
    pub(super) fn of_block(signal_key: u64, block: u64) -> Self {
        let key = derive(signal_key, block);
        // The halves of one 64-bit number.
        Self(key as u32, (key >> 32) as u32)
    }
}

/// How a level is measured: everything that is constant over a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    level_code: f32,
    noise_codes: f32,
    code_max: f32,
    gain: f32,
}

impl Scale {
    /// Measures samples from `sample_in_block` on. Written so that the compiler makes vector instructions of it.
    pub(super) fn measure(&self, keys: NoiseKeys, sample_in_block: u32, out: &mut [f32]) {
        let Self {
            level_code,
            noise_codes,
            code_max,
            gain,
        } = *self;
        let mut counter = sample_in_block;
        for sample in out {
            let noise = round(noise(keys, counter) * noise_codes);
            let code = level_code + noise;
            let code = if code > code_max { code_max } else { code };
            let code = if code < 0.0 { 0.0 } else { code };
            *sample = code * gain;
            counter = counter.wrapping_add(1);
        }
    }
}

/// Noise with mean 0, variance 1 and kurtosis 3, as the normal distribution has, ending at ±3.
///
/// The sum of two uniform numbers is triangular: t in −1..1 with E t² = 1/6, E t⁴ = 1/15, E t⁶ = 1/28, …
/// (2 / ((n + 1)(n + 2))). k₀ t + k₁ t³ with the constants below has the three moments named.
#[inline(always)]
fn noise(keys: NoiseKeys, counter: u32) -> f32 {
    const K0: f32 = 2.065_652_5;
    const K1: f32 = 0.935_310_54;
    let random = hash32(keys, counter);
    let triangular = (random & 0xFFFF) as i32 + (random >> 16) as i32 - 0xFFFF;
    let t = triangular as f32 * (1.0 / 65_536.0);
    t * (K0 + K1 * (t * t))
}

/// The 32-bit mixer "lowbias32" (Wellons, hash-prospector), with a key added before each multiplication.
#[inline(always)]
fn hash32(keys: NoiseKeys, counter: u32) -> u32 {
    let mut x = counter.wrapping_add(keys.0);
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_add(keys.1).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// To the nearest whole number, ties to even, for |x| below 2^22: beyond 2^23 an f32 has no fraction left to keep.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 × 2^23
    (x + SHIFT) - SHIFT
}
