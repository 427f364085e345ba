//! What a user may set of a JS220. What a setting may be is what the instrument itself says of it when it is opened. Pure.
//!
//! # Invariants
//! - Nothing is sent that the instrument did not offer; what it does not offer is an error that names what it does.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::decimate::Filter;
use super::js220::Identity;
use super::metadata::Metadata;
use super::pubsub::publish;
use super::value::Value;

/// Samples of current and voltage per second, if the instrument does not decimate.
pub(super) const FULL_HZ: u32 = 1_000_000;
/// The instrument decimates by this at most; the host does the rest.
const DECIMATE_MAX: u32 = 1_000;
/// It decimates by this at least, if at all.
const DECIMATE_MIN: u32 = 4;
/// Firmware and FPGA decimate from here on.
const DECIMATES_SINCE: [u8; 3] = [1, 3, 0];
/// Samples of one block of statistics, at the full rate.
const STATISTICS_HZ_MAX: u32 = 1_000;

/// Those that leave the streams as they are: they can be changed meanwhile.
const LIVE_KEYS: [&str; 6] = ["current_range", "voltage_range", "vref", "gpo0", "gpo1", "power"];
/// Those that do not.
const STREAM_KEYS: [&str; 4] = ["signals", "rate", "filter", "statistics"];

/// A signal that the instrument streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Js220Signal {
    Current,
    Voltage,
    CurrentRange,
    Gpi0,
    Gpi1,
    Gpi2,
    Gpi3,
    TriggerIn,
}

impl Js220Signal {
    /// All of them, in the order of a stream.
    pub const ALL: [Self; 8] = [
        Self::Current,
        Self::Voltage,
        Self::CurrentRange,
        Self::Gpi0,
        Self::Gpi1,
        Self::Gpi2,
        Self::Gpi3,
        Self::TriggerIn,
    ];

    /// Its name in a stream's definition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Voltage => "voltage",
            Self::CurrentRange => "current_range",
            Self::Gpi0 => "gpi0",
            Self::Gpi1 => "gpi1",
            Self::Gpi2 => "gpi2",
            Self::Gpi3 => "gpi3",
            Self::TriggerIn => "trigger_in",
        }
    }

    /// Is it sampled together with current and voltage? The others are at twice their full rate.
    #[must_use]
    pub fn is_analog(self) -> bool {
        matches!(self, Self::Current | Self::Voltage)
    }

    /// Its port, and the topic that switches it.
    pub(super) fn port(self) -> (u8, &'static str) {
        match self {
            Self::CurrentRange => (20, "s/i/range/ctrl"),
            Self::Current => (21, "s/i/ctrl"),
            Self::Voltage => (22, "s/v/ctrl"),
            Self::Gpi0 => (24, "s/gpi/0/ctrl"),
            Self::Gpi1 => (25, "s/gpi/1/ctrl"),
            Self::Gpi2 => (26, "s/gpi/2/ctrl"),
            Self::Gpi3 => (27, "s/gpi/3/ctrl"),
            Self::TriggerIn => (28, "s/gpi/7/ctrl"),
        }
    }
}

/// What is asked of the instrument: see [`HELP`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    signals: Vec<Js220Signal>,
    rate_hz: u32,
    filter: Filter,
    /// Blocks of statistics per second; 0 for none.
    statistics_hz: u32,
    /// Of the settings that the instrument describes, by key.
    words: BTreeMap<&'static str, String>,
}

/// For `--help`.
pub const HELP: &str = "\
Settings of a Joulescope JS220: KEY=VALUE[,KEY=VALUE]..., for example rate=100000,voltage_range=2V. Keys:
  signals        all, or names joined by +: current, voltage, current_range, gpi0 to gpi3, trigger_in
                 [default: current+voltage]
  rate           of current and voltage: a divisor of 1000000, 1 to 1000000 [default: 1000000]
  filter         for lower rates: wideband, which keeps what is below 0.3 of the rate and stops what is above 0.6, by the agent; or
                 sinc1, plain means, up to 250000 a second, by the instrument, so that less goes over USB [default: wideband]
  statistics     blocks a second, 1 to 1000, or off: charge and energy, which survive lost samples [default: 2]
  current_range  auto, or a range that the instrument names [default: auto]
  voltage_range  auto, or a range that the instrument names [default: auto]
  vref           of the digital signals: external, or what else the instrument names
  gpo0, gpo1     0 or 1: its outputs
  power          off disconnects the device under test; on [default: on]
The last six can be changed while it is captured: wavekeep-agent set --help
The other signals are a stream of their own, at 2000000 samples a second.";

impl Default for Settings {
    fn default() -> Self {
        Self {
            signals: vec![Js220Signal::Current, Js220Signal::Voltage],
            rate_hz: FULL_HZ,
            filter: Filter::default(),
            statistics_hz: 2,
            words: BTreeMap::new(),
        }
    }
}

/// Why settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SettingError {
    #[error("{0:?} is no setting: write KEY=VALUE with one of {streams}, {live}", streams = STREAM_KEYS.join(", "), live = LIVE_KEYS.join(", "))]
    Key(String),
    #[error("{0} is no setting that can be changed while it is captured: give KEY=VALUE with one of {keys}", keys = LIVE_KEYS.join(", "))]
    Live(String),
    #[error("{key} changes what is captured: end the agent, and start it anew with --settings {key}={value}")]
    Stream { key: &'static str, value: String },
    #[error("{key} is given twice: leave one out")]
    Twice { key: String },
    #[error("{key}={value} is not possible: give {options}")]
    Value {
        key: &'static str,
        value: String,
        options: String,
    },
    #[error(
        "filter=sinc1 needs firmware and FPGA 1.3.0, and it has {firmware} and {fpga}: update it, or leave filter out"
    )]
    Old { firmware: String, fpga: String },
    #[error("this instrument's firmware has no setting {topic}: leave {key} out")]
    Missing { key: &'static str, topic: &'static str },
}

fn bad(key: &'static str, value: &str, options: impl Into<String>) -> SettingError {
    SettingError::Value {
        key,
        value: value.into(),
        options: options.into(),
    }
}

impl FromStr for Settings {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (mut settings, mut seen) = (Self::default(), Vec::new());
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| SettingError::Key(part.into()))?;
            if seen.contains(&key) {
                return Err(SettingError::Twice { key: key.into() });
            }
            seen.push(key);
            settings.set(key, value)?;
        }
        Ok(settings)
    }
}

impl Settings {
    fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        match key {
            "signals" => self.signals = signals(value)?,
            "rate" => self.rate_hz = rate(value)?,
            "filter" => {
                self.filter = match value {
                    "wideband" => Filter::Wideband,
                    "sinc1" => Filter::Sinc1,
                    _ => return Err(bad("filter", value, "wideband or sinc1")),
                }
            }
            "statistics" => {
                self.statistics_hz = match value.parse() {
                    _ if value == "off" => 0,
                    Ok(hz) if (1..=STATISTICS_HZ_MAX).contains(&hz) && FULL_HZ.is_multiple_of(hz) => hz,
                    _ => return Err(bad("statistics", value, "off, or a divisor of 1000000 from 1 to 1000")),
                }
            }
            _ => {
                let key = live_key(key).ok_or_else(|| SettingError::Key(format!("{key}={value}")))?;
                if key.starts_with("gpo") && !["0", "1"].contains(&value) {
                    return Err(bad(key, value, "0 or 1"));
                }
                if key == "power" && !["on", "off"].contains(&value) {
                    return Err(bad(key, value, "on or off"));
                }
                self.words.insert(key, value.into());
            }
        }
        Ok(())
    }

    /// What is to be sent to the instrument, and what it will send.
    pub(super) fn plan(
        &self,
        identity: &Identity,
        metadata: &BTreeMap<String, Metadata>,
    ) -> Result<Plan, SettingError> {
        let decimate = FULL_HZ / self.rate_hz;
        let decimate_device = self.decimate_device(decimate)?;
        let mut plan = Plan {
            signals: self.signals.clone(),
            decimate: decimate_device,
            decimate_host: decimate / decimate_device,
            filter: self.filter,
            statistics_samples: FULL_HZ.checked_div(self.statistics_hz),
            publishes: Vec::new(),
        };
        self.plan_rate(&mut plan, identity)?;
        if let Some(samples) = plan.statistics_samples {
            plan.add("s/stats/scnt", Value::U32(samples));
        }
        let offered = Offered(metadata);
        let is_power_said = self.words.contains_key("power");
        for key in [
            if is_power_said { "power" } else { "current_range" },
            "voltage_range",
            "vref",
        ] {
            plan.publishes.extend(self.publishes(key, &offered)?);
        }
        for (topic, level) in [("s/gpo/+/!clr", "0"), ("s/gpo/+/!set", "1")] {
            let is_asked = |key| self.words.get(key).is_some_and(|word| word == level);
            let bits = u32::from(is_asked("gpo0")) | u32::from(is_asked("gpo1")) << 1;
            if bits != 0 {
                plan.add(topic, Value::U32(bits));
            }
        }
        Ok(plan)
    }

    /// What sets `key` while the streams go on, and all settings after that.
    pub(super) fn change(
        &self,
        key: &str,
        word: &str,
        metadata: &BTreeMap<String, Metadata>,
    ) -> Result<(Self, Vec<Publish>), SettingError> {
        let Some(key) = live_key(key) else {
            let stream = STREAM_KEYS.into_iter().find(|stream| *stream == key);
            let value = word.into();
            return Err(stream.map_or_else(
                || SettingError::Live(key.into()),
                |key| SettingError::Stream { key, value },
            ));
        };
        let mut changed = self.clone();
        changed.set(key, word)?;
        let publishes = changed.publishes(key, &Offered(metadata))?;
        Ok((changed, publishes))
    }

    /// Those that can be changed meanwhile and that somebody has given.
    pub(super) fn words(&self) -> BTreeMap<String, String> {
        let words = self.words.iter();
        words.map(|(key, word)| ((*key).to_owned(), word.clone())).collect()
    }

    /// What sets the instrument as `key` says, if it is given.
    fn publishes(&self, key: &'static str, offered: &Offered<'_>) -> Result<Vec<Publish>, SettingError> {
        let word = |key| self.words.get(key).map(String::as_str);
        let Some(asked) = word(key) else {
            return Ok(Vec::new());
        };
        Ok(match key {
            // Off is a mode of the current's range; that range is for later then, and has to be a possible one all the same.
            "current_range" | "power" => {
                let is_off = word("power") == Some("off");
                let range = word("current_range").or_else(|| (!is_off).then_some("auto"));
                let topics = ["s/i/range/mode", "s/i/range/select"];
                let range = range
                    .map(|range| offered.range("current_range", topics, range))
                    .transpose()?;
                match range {
                    Some(range) if !is_off => range,
                    _ => vec![offered.publish("power", "s/i/range/mode", "off")?],
                }
            }
            "voltage_range" => offered.range(key, ["s/v/range/mode", "s/v/range/select"], asked)?,
            "vref" => vec![offered.publish(key, "c/gpio/vref", asked)?],
            _ => {
                let topic = if asked == "1" { "s/gpo/+/!set" } else { "s/gpo/+/!clr" };
                let bit = u32::from(key == "gpo1");
                vec![(topic.into(), publish(topic, Value::U32(1 << bit)))]
            }
        })
    }

    /// The instrument's part of it.
    fn decimate_device(&self, decimate: u32) -> Result<u32, SettingError> {
        match self.filter {
            Filter::Wideband => Ok(1),
            Filter::Sinc1 if decimate > DECIMATE_MAX => Ok(DECIMATE_MAX),
            Filter::Sinc1 if decimate == 1 || decimate >= DECIMATE_MIN => Ok(decimate),
            Filter::Sinc1 => {
                let options = "wideband: sinc1 goes from 250000 a second down";
                Err(bad("filter", "sinc1", options))
            }
        }
    }

    fn plan_rate(&self, plan: &mut Plan, identity: &Identity) -> Result<(), SettingError> {
        let can = [identity.firmware, identity.fpga]
            .into_iter()
            .all(|version| version.at_least(DECIMATES_SINCE));
        if !can && plan.decimate > 1 {
            return Err(SettingError::Old {
                firmware: identity.firmware.to_string(),
                fpga: identity.fpga.to_string(),
            });
        }
        if can {
            // Of the digital signals as the instrument expects it; they are only decimated in a mode that nobody asks for here.
            let gpi = if plan.decimate > 1 { plan.decimate * 2 } else { 1 };
            plan.add("s/dwnN/N", Value::U32(plan.decimate));
            plan.add("s/gpi/+/dwnN/N", Value::U32(gpi));
        }
        Ok(())
    }
}

fn live_key(key: &str) -> Option<&'static str> {
    LIVE_KEYS.into_iter().find(|live| *live == key)
}

fn signals(value: &str) -> Result<Vec<Js220Signal>, SettingError> {
    if value == "all" {
        return Ok(Js220Signal::ALL.to_vec());
    }
    let names: Vec<_> = value.split('+').map(str::trim).collect();
    let known = |name: &&str| Js220Signal::ALL.iter().any(|signal| signal.name() == *name);
    if !names.iter().all(known) {
        let all = Js220Signal::ALL.map(Js220Signal::name).join(", ");
        return Err(bad("signals", value, format!("all, or of these, joined by +: {all}")));
    }
    let asked = |signal: &Js220Signal| names.contains(&signal.name());
    Ok(Js220Signal::ALL.into_iter().filter(asked).collect())
}

fn rate(value: &str) -> Result<u32, SettingError> {
    let good = |rate_hz: &u32| *rate_hz > 0 && FULL_HZ.is_multiple_of(*rate_hz);
    let options = "a divisor of 1000000, for example 100000";
    value
        .parse()
        .ok()
        .filter(good)
        .ok_or_else(|| bad("rate", value, options))
}

/// What to send before the streams start, and what comes then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) signals: Vec<Js220Signal>,
    /// Full-rate samples of current and voltage for each one that comes.
    pub(super) decimate: u32,
    /// Those that come for each one that leaves.
    pub(super) decimate_host: u32,
    /// How the host decimates.
    pub(super) filter: Filter,
    /// Of a block of statistics, if there are any.
    pub(super) statistics_samples: Option<u32>,
    /// Topics, with payloads that set them.
    pub(super) publishes: Vec<Publish>,
}

/// A topic, with the payload that sets it.
pub(super) type Publish = (String, Vec<u8>);

impl Plan {
    fn add(&mut self, topic: &str, value: Value<'_>) {
        self.publishes.push((topic.into(), publish(topic, value)));
    }

    /// The topics that switch what comes.
    pub(super) fn switches(&self) -> impl Iterator<Item = &'static str> {
        let signals = self.signals.iter().map(|signal| signal.port().1);
        signals.chain(self.statistics_samples.map(|_| "s/stats/ctrl"))
    }
}

/// What the instrument says of its settings.
struct Offered<'a>(&'a BTreeMap<String, Metadata>);

impl Offered<'_> {
    fn get(&self, key: &'static str, topic: &'static str) -> Result<&Metadata, SettingError> {
        self.0.get(topic).ok_or(SettingError::Missing { key, topic })
    }

    fn publish(&self, key: &'static str, topic: &'static str, word: &str) -> Result<Publish, SettingError> {
        let metadata = self.get(key, topic)?;
        let payload = metadata
            .publish(topic, word)
            .ok_or_else(|| bad(key, word, metadata.words()))?;
        Ok((topic.into(), payload))
    }

    /// A mode, or one of the ranges, which needs the mode `manual`.
    fn range(
        &self,
        key: &'static str,
        [mode, select]: [&'static str; 2],
        word: &str,
    ) -> Result<Vec<Publish>, SettingError> {
        let (modes, ranges) = (self.get(key, mode)?, self.get(key, select)?);
        // A mode has no number here: numbers are ranges.
        let by_mode = modes.publish(mode, word).filter(|_| word == "auto");
        if let Some(payload) = by_mode {
            return Ok(vec![(mode.into(), payload)]);
        }
        let payload = ranges.publish(select, word);
        let payload = payload.ok_or_else(|| bad(key, word, format!("auto, {}", ranges.words())))?;
        Ok(vec![self.publish(key, mode, "manual")?, (select.into(), payload)])
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
