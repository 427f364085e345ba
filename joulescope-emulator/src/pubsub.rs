//! The topics: what they may be set to, their metadata, and what they are set to.

use std::collections::BTreeMap;

use crate::frame::{Publish, TYPE_U8, TYPE_U32};
use crate::limits;

/// What a setting's acknowledgement says.
pub(crate) const DONE: i32 = 0;
pub(crate) const NOT_SUPPORTED: i32 = 3;
pub(crate) const INVALID: i32 = 5;
const NOT_FOUND: i32 = 16;

/// What a topic may be set to.
#[derive(Debug, Clone, Copy)]
enum Allowed {
    Options(&'static [(u64, &'static str)]),
    Between(u64, u64),
    Any,
    /// It says something, and cannot be set.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Topic {
    name: &'static str,
    kind: u8,
    default: u64,
    allowed: Allowed,
    brief: &'static str,
}

const OFF_ON: Allowed = Allowed::Options(&[(0, "off"), (1, "on")]);

const fn topic(name: &'static str, kind: u8, default: u64, allowed: Allowed, brief: &'static str) -> Topic {
    Topic {
        name,
        kind,
        default,
        allowed,
        brief,
    }
}

const fn stream(name: &'static str) -> Topic {
    topic(name, TYPE_U32, 0, OFF_ON, "Streams this signal.")
}

#[rustfmt::skip]
const TOPICS: &[Topic] = &[
    topic("c/fw/version", TYPE_U32, 0, Allowed::Nothing, "The firmware's version."),
    topic("c/gpio/vref", TYPE_U8, 0, Allowed::Options(&[(0, "external"), (1, "3v3"), (2, "3.3V")]), "What inputs are compared with."),
    topic("s/i/range/mode", TYPE_U8, 4, Allowed::Options(&[(0, "off"), (4, "auto"), (5, "manual")]), "How the current's range is chosen."),
    topic("s/i/range/select", TYPE_U8, 0, Allowed::Options(&[(0, "10 A"), (1, "180 mA"), (2, "18 mA"), (3, "1.8 mA"), (4, "180 uA"), (5, "18 uA")]), "The current's range, if manual."),
    topic("s/i/range/min", TYPE_U8, 0, Allowed::Between(0, 5), "The least sensitive range."),
    topic("s/i/range/max", TYPE_U8, 5, Allowed::Between(0, 5), "The most sensitive range."),
    topic("s/v/range/mode", TYPE_U8, 0, Allowed::Options(&[(0, "auto"), (1, "manual")]), "How the voltage's range is chosen."),
    topic("s/v/range/select", TYPE_U8, 0, Allowed::Options(&[(0, "15 V"), (1, "2 V")]), "The voltage's range, if manual."),
    topic("s/dwnN/N", TYPE_U32, 1, Allowed::Between(1, 1000), "The mean of so many samples of 1 MSPS."),
    topic("s/gpi/+/dwnN/N", TYPE_U32, 1, Allowed::Between(1, 2000), "One of so many samples of an input."),
    topic("s/gpi/+/dwnN/mode", TYPE_U32, 0, Allowed::Options(&[(0, "off"), (1, "toggle"), (2, "first"), (3, "majority")]), "Whether inputs are decimated."),
    topic("s/gpi/+/!req", TYPE_U32, 0, Allowed::Any, "Asks for s/gpi/+/!value."),
    topic("s/gpo/+/!set", TYPE_U32, 0, Allowed::Any, "Outputs to set."),
    topic("s/gpo/+/!clr", TYPE_U32, 0, Allowed::Any, "Outputs to clear."),
    topic("s/gpo/+/!req", TYPE_U32, 0, Allowed::Any, "Asks for s/gpo/+/!value."),
    topic("s/stats/scnt", TYPE_U32, 500_000, Allowed::Between(1, 0x00FF_FFFF), "Samples of 1 MSPS of one block of statistics."),
    topic("s/stats/!clear", TYPE_U32, 0, Allowed::Any, "Charge and energy start anew."),
    stream("s/adc/0/ctrl"), stream("s/adc/1/ctrl"), stream("s/adc/2/ctrl"), stream("s/adc/3/ctrl"),
    stream("s/i/range/ctrl"), stream("s/i/ctrl"), stream("s/v/ctrl"), stream("s/p/ctrl"),
    stream("s/gpi/0/ctrl"), stream("s/gpi/1/ctrl"), stream("s/gpi/2/ctrl"), stream("s/gpi/3/ctrl"), stream("s/gpi/7/ctrl"),
    stream("s/stats/ctrl"),
];

const _: () = assert!(TOPICS.len() <= limits::TOPICS);

/// What all topics are set to.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    values: BTreeMap<&'static str, u64>,
}

impl Topics {
    pub(crate) fn new(version: u32) -> Self {
        let mut values: BTreeMap<_, _> = TOPICS
            .iter()
            .filter(|t| !is_command(t.name))
            .map(|t| (t.name, t.default))
            .collect();
        values.insert("c/fw/version", u64::from(version));
        Self { values }
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or_default()
    }

    /// Whether this may be set to that; the topic's name then, and the value as it is kept.
    pub(crate) fn check(publish: &Publish<'_>) -> Result<(&'static str, u64), i32> {
        let topic = TOPICS
            .iter()
            .find(|topic| topic.name == publish.topic)
            .ok_or(NOT_FOUND)?;
        let bits = publish.bits;
        let fits = match topic.allowed {
            Allowed::Options(options) => {
                (TYPE_U8..16).contains(&publish.kind) && options.iter().any(|&(value, _)| value == bits)
            }
            Allowed::Between(least, most) => (TYPE_U8..16).contains(&publish.kind) && (least..=most).contains(&bits),
            Allowed::Any => true,
            Allowed::Nothing => return Err(NOT_SUPPORTED),
        };
        if fits { Ok((topic.name, bits)) } else { Err(INVALID) }
    }

    pub(crate) fn set(&mut self, name: &'static str, bits: u64) {
        if !is_command(name) {
            self.values.insert(name, bits);
        }
    }

    /// All retained values: topic, type and bits.
    pub(crate) fn retained(&self) -> impl Iterator<Item = (&'static str, u8, u64)> + '_ {
        TOPICS
            .iter()
            .filter_map(|t| Some((t.name, t.kind, *self.values.get(t.name)?)))
    }
}

/// A leaf that starts so is an order or an event, and is not kept.
fn is_command(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|leaf| leaf.starts_with('!'))
}

/// The metadata of all topics, as JSON.
pub(crate) fn metadata() -> impl Iterator<Item = (&'static str, String)> {
    TOPICS.iter().map(|topic| (topic.name, json(topic)))
}

fn json(topic: &Topic) -> String {
    let dtype = if topic.kind == TYPE_U8 { "u8" } else { "u32" };
    let mut json = format!(r#"{{"dtype":"{dtype}","brief":"{}""#, topic.brief);
    if !is_command(topic.name) && !matches!(topic.allowed, Allowed::Nothing) {
        json.push_str(&format!(r#","default":{}"#, topic.default));
    }
    match topic.allowed {
        Allowed::Options(options) => {
            let options: Vec<_> = options
                .iter()
                .map(|(value, name)| format!(r#"[{value},"{name}"]"#))
                .collect();
            json.push_str(&format!(r#","options":[{}]"#, options.join(",")));
        }
        Allowed::Between(least, most) => json.push_str(&format!(r#","range":[{least},{most}]"#)),
        Allowed::Nothing => json.push_str(r#","flags":["ro"]"#),
        Allowed::Any => {}
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::VALUE_BYTES;

    #[test]
    fn metadata_fits_a_frame() {
        for (name, json) in metadata() {
            assert!(name.len() < 31 && json.len() < VALUE_BYTES, "{name}: {json}");
        }
        let found = metadata().find(|(name, _)| *name == "s/i/range/mode").unwrap();
        assert_eq!(
            found.1,
            r#"{"dtype":"u8","brief":"How the current's range is chosen.","default":4,"options":[[0,"off"],[4,"auto"],[5,"manual"]]}"#
        );
    }

    #[test]
    fn only_what_a_topic_has_may_be_set() {
        let publish = |topic, kind, bits| Publish { topic, kind, bits };
        assert_eq!(
            Topics::check(&publish("s/i/range/mode", TYPE_U8, 4)),
            Ok(("s/i/range/mode", 4))
        );
        assert_eq!(Topics::check(&publish("s/i/range/mode", TYPE_U8, 1)), Err(INVALID));
        assert_eq!(Topics::check(&publish("s/dwnN/N", TYPE_U32, 1001)), Err(INVALID));
        assert_eq!(Topics::check(&publish("s/i/range/mode", 1, 4)), Err(INVALID));
        assert_eq!(Topics::check(&publish("x", TYPE_U32, 1)), Err(NOT_FOUND));
        assert_eq!(Topics::check(&publish("c/fw/version", TYPE_U32, 1)), Err(NOT_SUPPORTED));
        let mut topics = Topics::new(7);
        topics.set("s/gpo/+/!set", 1);
        topics.set("s/i/ctrl", 1);
        assert_eq!(
            (
                topics.get("s/gpo/+/!set"),
                topics.get("s/i/ctrl"),
                topics.get("c/fw/version")
            ),
            (0, 1, 7)
        );
    }
}
