//! The simulated instrument: a pure function of its specification and the sample id.
//!
//! Whoever knows the specification (`js220,rate=1000000,seed=7,…`) can recompute every sample that the instrument
//! delivered and every range that it lost, from any sample id, on any machine. That is what makes a simulated recording a
//! proof: a checker compares what it reads back with the truth, bit for bit, without having seen the capture.
//!
//! What is simulated is an Internet-of-Things device on battery (`burst.rs`): it sleeps at 1 µA and wakes once per `wake`
//! period for some milliseconds of a few milliamperes with radio spikes of 10 to 30 mA inside. It is seen through the front
//! end of a Joulescope (`signal.rs`): ranges, codes, noise. The same seed is the same device at any rate and for either model.
//!
//! # The specification
//!
//! ```text
//! SPEC  = MODEL { "," KEY "=" VALUE }        spaces around the parts are ignored; a key may be given once
//! MODEL = "js220"                            noisy floats; noise 6e-5 of the full scale of the active range
//!       | "js110"                            14-bit codes times the gain of the active range, 2 codes of noise
//! KEY:    rate         samples per second, 1 to 2000000          default 1000000 (js220), 2000000 (js110)
//!         seed         0 to 2^64 - 1                             default 0
//!         loss         probability that a loss begins at a
//!                      sample, 0 to 0.000244140625 (1/4096)      default 0
//!         loss_length  mean length of a loss in samples, 1 to    default 667 (so 1 to 1999 samples)
//!                      667; none is longer than three times that
//!         wake         mean time between wake bursts, 100ms to   default 400ms
//!                      60s, in ms or s
//!         speed        1 is real time, 0.001 to 1000; `max` is   default 1
//!                      as fast as possible; no sample depends on it
//!         logic        true: a second stream with the digital        default false
//!                      signals of a JS220 (`logic.rs`)
//! ```
//!
//! # Invariants
//!
//! - *Purity.* A sample's bits depend on model, seed, rate, wake period, signal and sample id alone: not on the block it was asked
//!   in, nor on the machine. Only integer arithmetic and the IEEE 754 operations + − × (never fused, no library function) make it.
//! - *Stability.* The function never changes silently: `tests.rs` holds golden values. Recordings outlive programs.
//! - *I4, the simulator's part.* [`Simulator::covered`] tiles the range it is asked for: each part starts where the one before
//!   it ended, and absence is a [`Coverage::Lost`] range.

mod burst;
mod hash;
mod logic;
mod loss;
mod signal;
mod spec;
mod spec_value;
#[cfg(test)]
mod tests;

pub use logic::{LOGIC_PER_SAMPLE, Logic, LogicSignal};
pub use loss::{Coverage, Covered};
pub use spec::{HELP, SimulatorModel, SimulatorSpec, SpecError, Speed};

use burst::{PowerProfile, Run, Slot};
use hash::derive;
use loss::Losses;
use signal::{FrontEnd, NOISE_BLOCK_SAMPLES, NoiseKeys};
use std::ops::Range;

/// Sample ids are below this: the sample axis of the database is a signed 64-bit integer.
pub const SAMPLE_ID_END: u64 = 1 << 63;

/// What each key of the simulator serves. Numbers are part of the function: never renumber.
const PURPOSE_DEVICE: u64 = 1;
const PURPOSE_LOSS: u64 = 2;
const PURPOSE_NOISE: u64 = 3;
const PURPOSE_DATA_LINE: u64 = 4;

/// A signal of the simulated instrument. Both are sampled together, on one sample axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SimulatedSignal {
    /// The device's current, in amperes.
    Current,
    /// The voltage at the device's terminals, in volts.
    Voltage,
}

impl SimulatedSignal {
    /// Both signals, in the order in which a stream has them.
    pub const ALL: [Self; 2] = [Self::Current, Self::Voltage];

    /// The signal's name in a stream definition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Voltage => "voltage",
        }
    }

    /// The signal's unit in a stream definition.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Current => "A",
            Self::Voltage => "V",
        }
    }
}

/// The simulated instrument. It holds no position: every method is a pure function of its arguments and the specification.
#[derive(Debug, Clone)]
pub struct Simulator {
    profile: PowerProfile,
    front_end: &'static FrontEnd,
    noise_keys: [u64; 2],
    losses: Losses,
}

impl Simulator {
    /// The instrument that `spec` describes.
    #[must_use]
    pub fn new(spec: &SimulatorSpec) -> Self {
        let model_number = match spec.model() {
            SimulatorModel::Js220 => 220,
            SimulatorModel::Js110 => 110,
        };
        let noise = derive(derive(spec.seed(), PURPOSE_NOISE), model_number);
        Self {
            profile: PowerProfile::new(derive(spec.seed(), PURPOSE_DEVICE), spec.rate(), spec.wake_ms()),
            front_end: FrontEnd::of(spec.model()),
            noise_keys: [derive(noise, 0), derive(noise, 1)],
            losses: Losses::new(derive(spec.seed(), PURPOSE_LOSS), spec.loss(), spec.loss_length()),
        }
    }

    /// Fills `out` with the samples of `signal` from `first_sample` on, in amperes or volts. Samples that the instrument loses have
    /// values too (what it would have measured); [`Self::next_loss`] says which they are.
    ///
    /// # Panics
    /// If the range passes [`SAMPLE_ID_END`].
    pub fn fill(&self, signal: SimulatedSignal, first_sample: u64, out: &mut [f32]) {
        let room = SAMPLE_ID_END.checked_sub(first_sample);
        assert!(
            room.is_some_and(|room| out.len() as u64 <= room),
            "samples from {first_sample} on pass the end of the sample axis"
        );
        let noise_key = self.noise_keys[signal as usize];
        let mut slot: Option<Slot> = None;
        let mut sample = first_sample;
        let mut rest = out;
        while !rest.is_empty() {
            let run = self.run_at(&mut slot, sample);
            let block_end = (sample / NOISE_BLOCK_SAMPLES + 1) * NOISE_BLOCK_SAMPLES;
            let run_samples = (run.end.min(block_end) - sample).min(rest.len() as u64);
            // At most rest.len(), so it fits a usize.
            let (part, after) = rest.split_at_mut(run_samples as usize);
            let keys = NoiseKeys::of_block(noise_key, sample / NOISE_BLOCK_SAMPLES);
            // A remainder of 65,536 fits a u32.
            let sample_in_block = (sample % NOISE_BLOCK_SAMPLES) as u32;
            let scale = match signal {
                SimulatedSignal::Current => self.front_end.current(&run),
                SimulatedSignal::Voltage => self.front_end.voltage(&run),
            };
            scale.measure(keys, sample_in_block, part);
            sample += run_samples;
            rest = after;
        }
    }

    /// One sample of `signal`, in amperes or volts: what [`Self::fill`] would write there.
    ///
    /// # Panics
    /// If `sample` is not below [`SAMPLE_ID_END`].
    #[must_use]
    pub fn value_at(&self, signal: SimulatedSignal, sample: u64) -> f32 {
        let mut out = [0.0];
        self.fill(signal, sample, &mut out);
        out[0]
    }

    /// The first lost range within `[from, to)`, clipped to it: where one question ends, the next may go on, and any split
    /// of a range loses the same samples. The instrument loses all signals at once. Takes a few nanoseconds for each 4,096
    /// samples without loss.
    #[must_use]
    pub fn next_loss(&self, from: u64, to: u64) -> Option<Range<u64>> {
        self.losses.next(from, to)
    }

    /// What the instrument delivers of `[from, to)`: ranges of samples and lost ranges in turn, none of them empty.
    #[must_use]
    pub fn covered(&self, from: u64, to: u64) -> Covered<'_> {
        Covered::new(&self.losses, from, to)
    }

    /// The gains of `signal`: every sample is a whole code times one of them, in amperes or volts per code; smallest first.
    #[must_use]
    pub fn gains(&self, signal: SimulatedSignal) -> Vec<f32> {
        self.front_end.gains(signal)
    }

    /// Codes are from 0 to this, exclusive: 2^23 (js220) or 2^14 (js110).
    #[must_use]
    pub fn code_count(&self) -> u32 {
        self.front_end.code_count
    }

    /// The run around `sample`, from the slot last used where it still covers the sample.
    fn run_at(&self, slot: &mut Option<Slot>, sample: u64) -> Run {
        let slot = Slot::around(slot, &self.profile, sample);
        self.profile.run_at(slot, sample, self.front_end.range_delay_ns)
    }
}
