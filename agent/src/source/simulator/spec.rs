//! The specification of a simulated instrument, as written on the command line. The grammar is in the documentation of the
//! module above and, shorter, in [`HELP`].
//!
//! # Invariants
//! - A [`SimulatorSpec`] holds only values within their limits: parsing is the only way to one.
//! - What is displayed names every value, defaults too, and parses to the same specification: it can be kept with a recording
//!   whose truth is to be recomputed by a later version with other defaults. `logic` alone is named only where it is true: recordings
//!   from before it was there say nothing of it, and its default never changes.

use super::loss::{LOSS_LENGTH_MAX, LOSS_MAX};
use super::spec_value::{logic, nearest, real, wake_ms, whole};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// The grammar of a specification, for `--help`.
pub const HELP: &str = "\
A simulated instrument: MODEL[,KEY=VALUE]..., for example js220,rate=1000000,seed=7,loss=1e-6
MODEL is js220 (noisy floats) or js110 (14-bit codes, ranges that switch). Keys:
  rate         samples per second, 1 to 2000000 [default: 1000000 for js220, 2000000 for js110]
  seed         0 to 18446744073709551615; the same seed gives the same samples [default: 0]
  loss         probability that a loss begins at a sample, 0 to 0.000244140625 [default: 0]
  loss_length  mean length of a loss in samples, 1 to 667 [default: 667]
  wake         mean time between wake bursts, 100ms to 60s [default: 400ms]
  speed        1 is real time, 0.001 to 1000, or max for as fast as possible [default: 1]
  logic        true (js220 only): digital signals as a second stream [default: false]
With logic=true a second stream, at twice the rate, has current_range (4 bits: 0 is 10 A, 5 is 18 uA) and, of 1 bit each, gpi0 \
(the device is awake), gpi1 (its radio sends), gpi2 (a clock of 1 kHz, high for a quarter), gpi3 (random bits, 100 kbit/s) and \
trigger_in (100 us at the start of each wake period).";

const KEYS: [&str; 7] = ["rate", "seed", "loss", "loss_length", "wake", "speed", "logic"];
const RATE_HZ_MAX: u64 = 2_000_000;
const SPEED_MIN: f64 = 0.001;
const SPEED_MAX: f64 = 1000.0;
const WAKE_MS_DEFAULT: u64 = 400;

/// Which instrument is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SimulatorModel {
    /// Noisy floats.
    Js220,
    /// 14-bit codes times the gain of a range that follows the current.
    Js110,
}

impl SimulatorModel {
    const ALL: [Self; 2] = [Self::Js220, Self::Js110];

    /// The model's name in a specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Js220 => "js220",
            Self::Js110 => "js110",
        }
    }

    fn default_rate_hz(self) -> u32 {
        match self {
            Self::Js220 => 1_000_000,
            Self::Js110 => 2_000_000,
        }
    }
}

/// How fast the simulated instrument delivers. No sample depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// This many times as fast as real time, 0.001 to 1000.
    Factor(f64),
    /// As fast as it is taken.
    Max,
}

impl Display for Speed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Factor(factor) => factor.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

/// What defines a simulated instrument. Parse it from a string: `"js220,rate=1000000,seed=7".parse()`.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatorSpec {
    model: SimulatorModel,
    rate_hz: u32,
    seed: u64,
    loss: f64,
    loss_length: u64,
    wake_ms: u64,
    speed: Speed,
    logic: bool,
}

impl SimulatorSpec {
    fn of_model(model: SimulatorModel) -> Self {
        Self {
            model,
            rate_hz: model.default_rate_hz(),
            seed: 0,
            loss: 0.0,
            loss_length: LOSS_LENGTH_MAX,
            wake_ms: WAKE_MS_DEFAULT,
            speed: Speed::Factor(1.0),
            logic: false,
        }
    }

    /// Which instrument is simulated.
    #[must_use]
    pub fn model(&self) -> SimulatorModel {
        self.model
    }

    /// Samples per second, 1 to 2,000,000.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate_hz
    }

    /// What makes this device different from others of its model.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The probability that a loss begins at a sample, 0 to 1/4096.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// The mean length of a loss in samples, 1 to 667.
    #[must_use]
    pub fn loss_length(&self) -> u64 {
        self.loss_length
    }

    /// The mean time between wake bursts in milliseconds, 100 to 60,000.
    #[must_use]
    pub fn wake_ms(&self) -> u64 {
        self.wake_ms
    }

    /// How fast samples are delivered.
    #[must_use]
    pub fn speed(&self) -> Speed {
        self.speed
    }

    /// Are there digital signals, too?
    #[must_use]
    pub fn logic(&self) -> bool {
        self.logic
    }

    fn set(&mut self, key: &'static str, value: &str) -> Result<(), SpecError> {
        match key {
            "rate" => {
                let rate_hz = whole(key, value, 1, RATE_HZ_MAX)?;
                self.rate_hz = u32::try_from(rate_hz).expect("the limit of the rate fits a u32");
            }
            "seed" => self.seed = whole(key, value, 0, u64::MAX)?,
            // Adding zero turns -0 into 0.
            "loss" => self.loss = real(key, value, 0.0, LOSS_MAX, "loss=1e-6")? + 0.0,
            "loss_length" => self.loss_length = whole(key, value, 1, LOSS_LENGTH_MAX)?,
            "wake" => self.wake_ms = wake_ms(value)?,
            "speed" if value == "max" => self.speed = Speed::Max,
            "speed" => {
                let factor = real(key, value, SPEED_MIN, SPEED_MAX, "speed=1 or speed=max")?;
                self.speed = Speed::Factor(factor);
            }
            "logic" => self.logic = logic(value, self.model)?,
            _ => unreachable!("set is called with a name from KEYS"),
        }
        Ok(())
    }
}

impl FromStr for SimulatorSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut items = text.split(',').map(str::trim);
        let model = items.next().unwrap_or_default();
        let Some(model) = SimulatorModel::ALL.into_iter().find(|known| known.name() == model) else {
            let nearest = nearest(model, SimulatorModel::ALL.map(SimulatorModel::name));
            return Err(SpecError::UnknownModel {
                model: model.to_owned(),
                nearest,
            });
        };
        let mut spec = Self::of_model(model);
        let mut given = Vec::with_capacity(KEYS.len());
        for item in items {
            let Some((key, value)) = item.split_once('=') else {
                return Err(SpecError::NoValue {
                    item: item.to_owned(),
                    nearest: nearest(item, KEYS),
                });
            };
            let (key, value) = (key.trim(), value.trim());
            let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
                return Err(SpecError::UnknownKey {
                    key: key.to_owned(),
                    nearest: nearest(key, KEYS),
                });
            };
            if given.contains(&key) {
                return Err(SpecError::DuplicateKey { key });
            }
            given.push(key);
            spec.set(key, value)?;
        }
        Ok(spec)
    }
}

impl Display for SimulatorSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            model,
            rate_hz,
            seed,
            loss,
            loss_length,
            wake_ms,
            speed,
            logic,
        } = self;
        let model = model.name();
        // Of an f64 this prints the shortest decimal that reads back as the same number.
        write!(
            f,
            "{model},rate={rate_hz},seed={seed},loss={loss},loss_length={loss_length},wake={wake_ms}ms,speed={speed}"
        )?;
        if *logic { f.write_str(",logic=true") } else { Ok(()) }
    }
}

/// Why a text is no specification, in one sentence that says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The first word is no model.
    #[error("the simulator has no model `{model}`: write `{nearest}` (there are js220 and js110)")]
    UnknownModel {
        /// What was written.
        model: String,
        /// The model most like it.
        nearest: &'static str,
    },
    /// A part without an equals sign.
    #[error(
        "`{item}` in the simulator's specification has no value: write it as key=value, for example `{nearest}=...`"
    )]
    NoValue {
        /// What was written.
        item: String,
        /// The key most like it.
        nearest: &'static str,
    },
    /// A key that does not exist.
    #[error(
        "the simulator has no key `{key}`: write `{nearest}` (there are rate, seed, loss, loss_length, wake, speed and logic)"
    )]
    UnknownKey {
        /// What was written.
        key: String,
        /// The key most like it.
        nearest: &'static str,
    },
    /// A key that is given twice.
    #[error("the simulator's key `{key}` is given more than once: keep one of them")]
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// A value that is no number (or no duration).
    #[error("`{key}={value}` of the simulator is not a {kind}: write for example {example}")]
    NotANumber {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What it should be.
        kind: &'static str,
        /// A valid key and value.
        example: &'static str,
    },
    /// A number that the key does not allow: out of its limits, or not whole.
    #[error("`{key}={value}` of the simulator is not {allowed}: the nearest valid is `{key}={nearest}`")]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What is allowed.
        allowed: String,
        /// The valid value nearest to it.
        nearest: String,
    },
}
