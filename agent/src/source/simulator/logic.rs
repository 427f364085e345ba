//! The digital signals of a simulated JS220: the range that measures the current, four inputs and a trigger, all sampled together at
//! twice the rate of current and voltage, as the instrument does it.
//!
//! | signal | bits | what it tells |
//! |---|---|---|
//! | `current_range` | 4 | the range in use, 0 (10 A) to 5 (18 µA) |
//! | `gpi0` | 1 | the device is awake |
//! | `gpi1` | 1 | its radio sends: it draws 10 mA or more |
//! | `gpi2` | 1 | a clock of 1 kHz from sample 0 on, high for the first quarter of each period |
//! | `gpi3` | 1 | a data line: random bits, 10 µs each |
//! | `trigger_in` | 1 | 100 µs at the start of each wake period |
//!
//! # Invariants
//! - Sample `2 i` is taken together with sample `i` of current and voltage: the same device at the same time.
//! - A signal is levels, each up to a sample that integers alone tell, so its bits depend on seed, rate, wake period and sample
//!   id alone. Golden values hold it.

use std::ops::Range;

use super::burst::{PowerProfile, Slot};
use super::hash::derive;
use super::signal::FrontEnd;
use super::spec::SimulatorSpec;
use super::{PURPOSE_DATA_LINE, PURPOSE_DEVICE, SAMPLE_ID_END};

/// Samples of digital signals for each one of current and voltage.
pub const LOGIC_PER_SAMPLE: u64 = 2;

/// Far above sleep, far below what anything else draws.
const AWAKE_PA: u64 = 10_000_000;
const SENDING_PA: u64 = 10_000_000_000;
const CLOCK_NS: u64 = 1_000_000;
const CLOCK_HIGH_NS: u64 = CLOCK_NS / 4;
const DATA_BIT_NS: u128 = 10_000;
const TRIGGER_NS: u64 = 100_000;

/// A digital signal of the simulated instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the module's table says what each one is")]
pub enum LogicSignal {
    CurrentRange,
    Gpi0,
    Gpi1,
    Gpi2,
    Gpi3,
    TriggerIn,
}

impl LogicSignal {
    /// All of them, in the order in which a stream has them.
    pub const ALL: [Self; 6] = [
        Self::CurrentRange,
        Self::Gpi0,
        Self::Gpi1,
        Self::Gpi2,
        Self::Gpi3,
        Self::TriggerIn,
    ];

    /// The signal's name in a stream definition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CurrentRange => "current_range",
            Self::Gpi0 => "gpi0",
            Self::Gpi1 => "gpi1",
            Self::Gpi2 => "gpi2",
            Self::Gpi3 => "gpi3",
            Self::TriggerIn => "trigger_in",
        }
    }

    /// Bits of a sample: 1 or 4.
    #[must_use]
    pub fn bits(self) -> usize {
        if self == Self::CurrentRange { 4 } else { 1 }
    }
}

/// The digital signals of a simulated instrument. Like the rest of it, a pure function.
#[derive(Debug, Clone)]
pub struct Logic {
    profile: PowerProfile,
    front_end: &'static FrontEnd,
    wake_ns: u64,
    data_key: u64,
}

impl Logic {
    /// Those of the instrument that `spec` describes, where it has any.
    #[must_use]
    pub fn of(spec: &SimulatorSpec) -> Option<Self> {
        spec.logic().then(|| {
            let rate_hz = spec.rate() * LOGIC_PER_SAMPLE as u32;
            Self {
                profile: PowerProfile::new(derive(spec.seed(), PURPOSE_DEVICE), rate_hz, spec.wake_ms()),
                front_end: FrontEnd::of(spec.model()),
                wake_ns: spec.wake_ms() * 1_000_000,
                data_key: derive(spec.seed(), PURPOSE_DATA_LINE),
            }
        })
    }

    /// Fills `out` with `count` samples of `signal` from `first_sample` on: packed, the first in the least significant bits, the last
    /// byte padded with zeros.
    ///
    /// # Panics
    /// If the range passes [`SAMPLE_ID_END`].
    pub fn fill(&self, signal: LogicSignal, first_sample: u64, count: usize, out: &mut Vec<u8>) {
        let end = first_sample.saturating_add(count as u64);
        assert!(
            end <= SAMPLE_ID_END,
            "samples from {first_sample} on pass the end of the sample axis"
        );
        out.clear();
        out.resize((count * signal.bits()).div_ceil(8), 0);
        let mut slot = None;
        let mut sample = first_sample;
        while sample < end {
            let (value, until) = self.level_at(signal, &mut slot, sample);
            let until = until.min(end);
            // Both are within `count`.
            let places = (sample - first_sample) as usize..(until - first_sample) as usize;
            put(out, signal.bits(), places, value);
            sample = until;
        }
    }

    /// One sample of `signal`: what [`Self::fill`] would write there.
    ///
    /// # Panics
    /// If `sample` is not below [`SAMPLE_ID_END`].
    #[must_use]
    pub fn value_at(&self, signal: LogicSignal, sample: u64) -> u8 {
        assert!(
            sample < SAMPLE_ID_END,
            "sample {sample} passes the end of the sample axis"
        );
        self.level_at(signal, &mut None, sample).0
    }

    /// The value at `sample`, and up to which sample (exclusive) it is surely the same.
    fn level_at(&self, signal: LogicSignal, slot: &mut Option<Slot>, sample: u64) -> (u8, u64) {
        let at_ns = self.profile.time_ns(sample);
        let run = |slot| {
            let slot = Slot::around(slot, &self.profile, sample);
            self.profile.run_at(slot, sample, self.front_end.range_delay_ns)
        };
        match signal {
            LogicSignal::CurrentRange => {
                let run = run(slot);
                (self.front_end.current_range_code(&run), run.end)
            }
            LogicSignal::Gpi0 => {
                let run = run(slot);
                (u8::from(run.current_pa >= AWAKE_PA), run.end)
            }
            LogicSignal::Gpi1 => {
                let run = run(slot);
                (u8::from(run.current_pa >= SENDING_PA), run.end)
            }
            LogicSignal::Gpi2 => self.pulse(at_ns, CLOCK_NS, CLOCK_HIGH_NS),
            LogicSignal::Gpi3 => {
                let bit = at_ns / DATA_BIT_NS;
                // At low rates a bit's number can pass 2^64, so both halves are part of the counter.
                let random = derive(derive(self.data_key, bit as u64), (bit >> 64) as u64);
                let end = self.profile.first_sample_at((bit + 1) * DATA_BIT_NS);
                ((random & 1) as u8, end)
            }
            LogicSignal::TriggerIn => self.pulse(at_ns, self.wake_ns, TRIGGER_NS),
        }
    }

    /// High at the start of each period.
    fn pulse(&self, at_ns: u128, period_ns: u64, high_ns: u64) -> (u8, u64) {
        let start_ns = at_ns - at_ns % u128::from(period_ns);
        let high_end_ns = start_ns + u128::from(high_ns);
        if at_ns < high_end_ns {
            (1, self.profile.first_sample_at(high_end_ns))
        } else {
            (0, self.profile.first_sample_at(start_ns + u128::from(period_ns)))
        }
    }
}

/// Writes `value` to these places of `out`, which hold zero.
fn put(out: &mut [u8], bits: usize, places: Range<usize>, value: u8) {
    let pattern = if bits == 1 { value * 0xff } else { value * 0x11 };
    let (start, end) = (places.start * bits, places.end * bits);
    let (first, last) = (start / 8, end / 8);
    let (from_start, before_end) = (0xff << (start % 8), !(0xff << (end % 8)));
    if first == last {
        out[first] |= pattern & from_start & before_end;
        return;
    }
    out[first] |= pattern & from_start;
    out[first + 1..last].fill(pattern);
    if before_end != 0 {
        out[last] |= pattern & before_end;
    }
}
