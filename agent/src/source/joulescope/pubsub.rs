//! Published messages, either way: a topic, what it says about it, a value. Pure.

use super::value::Value;

const TOPIC_BYTES: usize = 32;
const HEAD_BYTES: usize = TOPIC_BYTES + 4;
/// The instrument keeps the value.
const FLAG_RETAIN: u8 = 1;

pub(super) const TOPIC_PING: &str = "c/!ping";
pub(super) const TOPIC_PONG: &str = "c/!pong";
/// Asks for the descriptions of all settings.
pub(super) const TOPIC_ALL_METADATA: &str = "$";

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The topic's value, unasked or as the answer to a query.
    Value,
    /// The description of a setting.
    Metadata,
    /// The answer to a published value: 0, or why not.
    Ack,
    /// A question, which only a host asks.
    Question,
}

/// A message from the instrument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Message<'a> {
    /// Without what tells the role.
    pub(super) topic: &'a str,
    pub(super) role: Role,
    pub(super) value: Value<'a>,
}

impl<'a> Message<'a> {
    /// `None`: it cannot be read.
    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let (head, value) = payload.split_first_chunk::<HEAD_BYTES>()?;
        let end = head[..TOPIC_BYTES].iter().position(|byte| *byte == 0)?;
        let topic = str::from_utf8(&payload[..end]).ok()?;
        let role = match topic.as_bytes().last()? {
            b'$' => Role::Metadata,
            b'#' => Role::Ack,
            b'%' | b'&' => Role::Question,
            _ => Role::Value,
        };
        let answer = topic.strip_suffix('?').unwrap_or(topic);
        Some(Self {
            topic: if role == Role::Value {
                answer
            } else {
                &topic[..topic.len() - 1]
            },
            role,
            value: Value::parse(head[TOPIC_BYTES], value)?,
        })
    }
}

/// The payload that publishes `value`.
///
/// # Panics
/// If the topic or the value is too long: both come from here, or from a description that fitted.
pub(super) fn publish(topic: &str, value: Value<'_>) -> Vec<u8> {
    assert!(topic.len() < TOPIC_BYTES, "a topic fits its field: {topic}");
    let (kind, bytes) = value.encode();
    let is_event = topic.rsplit('/').next().is_some_and(|leaf| leaf.starts_with('!'));
    let retain = !is_event && value != Value::Null;
    let mut payload = vec![0; HEAD_BYTES];
    payload[..topic.len()].copy_from_slice(topic.as_bytes());
    payload[TOPIC_BYTES] = kind;
    payload[TOPIC_BYTES + 1] = if retain { FLAG_RETAIN } else { 0 };
    payload.extend(bytes);
    payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_setting_is_44_bytes_as_observed_on_the_wire() {
        let payload = publish("s/i/ctrl", Value::U32(1));
        let mut expected = b"s/i/ctrl".to_vec();
        expected.resize(32, 0);
        expected.extend([10, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(payload, expected);
        assert_eq!(publish(TOPIC_PING, Value::U32(1))[33], 0, "an event is not kept");
        assert_eq!(publish("$", Value::Null).len(), 44);
    }

    #[test]
    fn the_last_letter_tells_the_role() {
        for (topic, expected, role) in [
            ("s/i/ctrl", "s/i/ctrl", Role::Value),
            ("s/i/ctrl?", "s/i/ctrl", Role::Value),
            ("s/i/ctrl$", "s/i/ctrl", Role::Metadata),
            ("s/gpi/+/dwnN/N#", "s/gpi/+/dwnN/N", Role::Ack),
            ("s/i/ctrl&", "s/i/ctrl", Role::Question),
        ] {
            let payload = publish(topic, Value::I32(-3));
            let message = Message::parse(&payload).expect("it is a message");
            assert_eq!(
                (message.topic, message.role, message.value),
                (expected, role, Value::I32(-3))
            );
        }
    }

    #[test]
    fn what_is_no_message_is_none() {
        let good = publish("s/i/ctrl", Value::U32(1));
        assert_eq!(Message::parse(&good[..43]), None, "half a value");
        assert_eq!(Message::parse(&good[..35]), None);
        let mut endless = good.clone();
        endless[..32].fill(b'x');
        assert_eq!(Message::parse(&endless), None, "the topic has no end");
        let mut nameless = good;
        nameless[0] = 0;
        assert_eq!(Message::parse(&nameless), None);
    }

    proptest! {
        #[test]
        fn i12_arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..508)) {
            let _ = Message::parse(&bytes);
        }
    }
}
