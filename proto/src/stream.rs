//! What a stream is: a fixed set of signals sampled together, in one epoch of a device. Its definition never changes.

use std::collections::BTreeMap;

use crate::id::{Epoch, StreamId};
use crate::limits;

/// How one sample is stored. The numbers are hashed and stored: never renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum SampleType {
    F32 = 1,
    F64 = 2,
    I8 = 3,
    I16 = 4,
    I32 = 5,
    I64 = 6,
    U8 = 7,
    U16 = 8,
    U32 = 9,
    U64 = 10,
    U4 = 11,
    U1 = 12,
    I128 = 13,
}

impl SampleType {
    /// Every type, in order of number.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::U4,
        Self::U1,
        Self::I128,
    ];

    /// Bits of one sample.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::U1 => 1,
            Self::U4 => 4,
            Self::I8 | Self::U8 => 8,
            Self::I16 | Self::U16 => 16,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F64 | Self::I64 | Self::U64 => 64,
            Self::I128 => 128,
        }
    }

    /// Bytes of `count` samples, decoded; packed types end in zero padding.
    #[must_use]
    pub const fn bytes(self, count: u64) -> u64 {
        (count * self.bits() as u64).div_ceil(8)
    }

    /// From its number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|sample_type| *sample_type as u32 == number)
    }

    /// As people and SQL write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U4 => "u4",
            Self::U1 => "u1",
            Self::I128 => "i128",
        }
    }
}

/// One signal of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Unique in the stream; ascending.
    pub number: u16,
    /// `current`, `voltage`, …
    pub name: String,
    /// How a sample is stored.
    pub sample_type: SampleType,
    /// SI symbol: `A`, `V`; empty for a bare number.
    pub unit: String,
    /// A sample that is not finite quarantines its chunk.
    pub finite_only: bool,
}

/// Where a successor continues a diverged stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// The diverged stream.
    pub stream_id: StreamId,
    /// Its last seq that this one follows.
    pub seq: u64,
}

/// What never changes about a stream. Its hash is digest 0.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamDefinition {
    /// Random for a live stream or successor, a hash for a file.
    pub id: StreamId,
    /// The instrument, as people call it.
    pub device: String,
    /// The life of the sample counter.
    pub epoch: Epoch,
    /// What identifies a file's content; empty for a live stream.
    pub file_identity: Vec<u8>,
    /// Of a successor only.
    pub predecessor: Option<Predecessor>,
    /// Samples per second, finite and above zero.
    pub rate_hz: f64,
    /// The sample id at which the stream starts.
    pub first_sample: u64,
    /// In order of number.
    pub signals: Vec<Signal>,
    /// Facts about the capture (model, serial, firmware), sorted by name.
    pub attributes: BTreeMap<String, String>,
}

/// Why a definition is refused. Each says what to change.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadDefinition {
    #[error("the device needs a name of 1 to {max} bytes without control characters", max = limits::NAME_BYTES_MAX)]
    Device,
    #[error("the rate {0} Hz is not usable: give one above 0 and up to {max} Hz", max = limits::RATE_HZ_MAX)]
    Rate(f64),
    #[error("a stream has 1 to {max} signals, this one {0}", max = limits::SIGNALS_MAX)]
    SignalCount(usize),
    #[error("signal {0:?} needs a unique name of 1 to {max} bytes and a number above the one before it", max = limits::NAME_BYTES_MAX)]
    Signal(String),
    #[error("one sample of all signals takes {0} bits; split the signals into streams of at most {max} bits", max = limits::SAMPLE_BITS_MAX)]
    TooWide(u32),
    #[error("there are too many or too long attributes (at most {max} of {bytes} bytes)", max = limits::LABELS_MAX, bytes = limits::LABEL_BYTES_MAX)]
    Attributes,
    #[error("the file identity is longer than {max} bytes", max = limits::NAME_BYTES_MAX)]
    FileIdentity,
    #[error("the first sample id {0} leaves no room to count up")]
    FirstSample(u64),
    #[error("the predecessor's seq {0} is none that a stream has: seqs end at {max}", max = limits::SEQ_MAX)]
    PredecessorSeq(u64),
}

fn usable_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// The base level of a stream of this rate: the largest k ≤ 4 with 16^k ≤ max(1, rate × 0.1 s).
#[must_use]
pub fn base_level(rate_hz: f64) -> u32 {
    let limit = (rate_hz * 0.1).max(1.0);
    (0..=limits::BASE_LEVEL_MAX)
        .rev()
        .find(|level| 16f64.powi(*level as i32) <= limit)
        .unwrap_or(0)
}

/// The time that so many samples of the axis take at a uniform rate, in nanoseconds.
#[must_use]
pub fn duration_ns(rate_hz: f64, samples: u64) -> i64 {
    let whole_s = (samples as f64 / rate_hz).floor();
    let rest = samples as f64 - whole_s * rate_hz;
    let ns = whole_s * 1e9 + (rest / rate_hz * 1e9).round();
    ns.min(i64::MAX as f64) as i64
}

impl StreamDefinition {
    /// Is this the stream of a file, which can be read again?
    #[must_use]
    pub fn is_file(&self) -> bool {
        !self.file_identity.is_empty()
    }

    /// Checks every rule that agent and server share.
    pub fn validate(&self) -> Result<(), BadDefinition> {
        if !usable_name(&self.device) {
            return Err(BadDefinition::Device);
        }
        if !(self.rate_hz.is_finite() && self.rate_hz > 0.0 && self.rate_hz <= limits::RATE_HZ_MAX) {
            return Err(BadDefinition::Rate(self.rate_hz));
        }
        if self.signals.is_empty() || self.signals.len() > limits::SIGNALS_MAX {
            return Err(BadDefinition::SignalCount(self.signals.len()));
        }
        if self.file_identity.len() > limits::NAME_BYTES_MAX {
            return Err(BadDefinition::FileIdentity);
        }
        if self.first_sample > limits::SAMPLE_ID_MAX {
            return Err(BadDefinition::FirstSample(self.first_sample));
        }
        if let Some(predecessor) = self.predecessor.filter(|predecessor| predecessor.seq > limits::SEQ_MAX) {
            return Err(BadDefinition::PredecessorSeq(predecessor.seq));
        }
        let long = |(name, value): (&String, &String)| name.len().max(value.len()) > limits::LABEL_BYTES_MAX;
        if self.attributes.len() > limits::LABELS_MAX || self.attributes.iter().any(long) {
            return Err(BadDefinition::Attributes);
        }
        self.validate_signals()
    }

    fn validate_signals(&self) -> Result<(), BadDefinition> {
        for (at, signal) in self.signals.iter().enumerate() {
            let before = &self.signals[..at];
            let follows = before.last().is_none_or(|last| last.number < signal.number);
            let unique = before.iter().all(|other| other.name != signal.name);
            if !usable_name(&signal.name) || signal.unit.len() > limits::NAME_BYTES_MAX || !follows || !unique {
                return Err(BadDefinition::Signal(signal.name.clone()));
            }
        }
        let bits = self.signals.iter().map(|signal| signal.sample_type.bits()).sum();
        if bits > limits::SAMPLE_BITS_MAX {
            return Err(BadDefinition::TooWide(bits));
        }
        Ok(())
    }

    /// See [`base_level`].
    #[must_use]
    pub fn base_level(&self) -> u32 {
        base_level(self.rate_hz)
    }

    /// Samples in a bucket of the base level.
    #[must_use]
    pub fn base_bucket_samples(&self) -> u64 {
        16u64.pow(self.base_level())
    }

    /// See [`duration_ns`].
    #[must_use]
    pub fn duration_ns(&self, samples: u64) -> i64 {
        duration_ns(self.rate_hz, samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::tests::definition;

    #[test]
    fn base_level_follows_the_rate() {
        let level = |rate_hz| {
            StreamDefinition {
                rate_hz,
                ..definition()
            }
            .base_level()
        };
        assert_eq!(
            [
                level(1.0),
                level(159.9),
                level(160.0),
                level(1e4),
                level(1e6),
                level(2e6)
            ],
            [0, 0, 1, 2, 4, 4]
        );
        assert_eq!(level(100_000.0), 3);
    }

    #[test]
    fn absurd_definitions_are_refused() {
        let with = |change: fn(&mut StreamDefinition)| {
            let mut changed = definition();
            change(&mut changed);
            changed.validate()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|d| d.rate_hz = 0.0), Err(BadDefinition::Rate(0.0)));
        assert!(matches!(with(|d| d.rate_hz = f64::NAN), Err(BadDefinition::Rate(_))));
        assert_eq!(with(|d| d.device = String::new()), Err(BadDefinition::Device));
        assert_eq!(with(|d| d.signals.clear()), Err(BadDefinition::SignalCount(0)));
        assert!(matches!(
            with(|d| d.signals[1].number = 0),
            Err(BadDefinition::Signal(_))
        ));
        assert!(matches!(
            with(|d| d.first_sample = u64::MAX),
            Err(BadDefinition::FirstSample(_))
        ));
        let succeeds = |seq| {
            let mut changed = definition();
            let stream_id = StreamId([9; 16]);
            changed.predecessor = Some(Predecessor { stream_id, seq });
            changed.validate()
        };
        assert_eq!(succeeds(limits::SEQ_MAX), Ok(()));
        assert_eq!(succeeds(u64::MAX), Err(BadDefinition::PredecessorSeq(u64::MAX)));
        assert!(matches!(
            with(|d| d.signals.iter_mut().for_each(|s| s.sample_type = SampleType::I128)),
            Ok(())
        ));
    }
}
