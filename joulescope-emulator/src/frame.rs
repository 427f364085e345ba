//! Frames, both directions: a word with id, payload's length and port, then the payload. Written, and those of a host taken apart.

/// The most a frame has, with its word.
pub(crate) const FRAME_BYTES: usize = 512;

/// The most a payload has.
pub(crate) const PAYLOAD_BYTES: usize = FRAME_BYTES - 4;

/// Bytes of a publish before its value.
pub(crate) const PUBLISH_BYTES: usize = 36;

/// The most a published value has.
pub(crate) const VALUE_BYTES: usize = PAYLOAD_BYTES - PUBLISH_BYTES;

pub(crate) const PORT_ADMIN: u8 = 0;
pub(crate) const PORT_PUBSUB: u8 = 1;
pub(crate) const PORT_MEMORY: u8 = 3;

/// What a frame's first word says.
pub(crate) fn head(id: u16, port: u8, length: usize) -> [u8; 4] {
    (u32::from(id) | (length as u32 & 0x1FF) << 16 | u32::from(port & 0x1F) << 25).to_le_bytes()
}

/// A host's frame: its port and its payload. `None` if it is none, or is not as long as it says.
pub(crate) fn split(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (head, payload) = frame.split_first_chunk::<4>()?;
    let head = u32::from_le_bytes(*head);
    let length = (head >> 16 & 0x1FF) as usize;
    (length == payload.len() && head >> 30 == 0).then_some(((head >> 25 & 0x1F) as u8, payload))
}

/// The types of a value.
pub(crate) const TYPE_JSON: u8 = 2;
pub(crate) const TYPE_U8: u8 = 8;
pub(crate) const TYPE_U32: u8 = 10;
pub(crate) const TYPE_I32: u8 = 14;
const TYPE_STR: u8 = 1;
const TYPE_BIN: u8 = 3;

/// A value published to a topic.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) kind: u8,
    /// The bits of a scalar; 0 for a text and for bytes.
    pub(crate) bits: u64,
}

impl<'a> Publish<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        let (head, value) = payload.split_first_chunk::<PUBLISH_BYTES>()?;
        let topic = &head[..32];
        let topic = &topic[..topic.iter().position(|&byte| byte == 0)?];
        let kind = head[32];
        let text = matches!(kind, TYPE_STR | TYPE_JSON | TYPE_BIN);
        let bits = if text {
            0
        } else {
            u64::from_le_bytes(*value.first_chunk()?)
        };
        Some(Self {
            topic: str::from_utf8(topic).ok()?,
            kind,
            bits,
        })
    }
}

fn publish(topic: &str, suffix: &str, kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; PUBLISH_BYTES];
    for (to, from) in payload[..31].iter_mut().zip(topic.bytes().chain(suffix.bytes())) {
        *to = from;
    }
    payload[32] = kind;
    payload[33] = flags;
    payload.extend_from_slice(&value[..value.len().min(VALUE_BYTES)]);
    payload
}

/// The payload that publishes a scalar.
pub(crate) fn publish_scalar(topic: &str, suffix: &str, kind: u8, flags: u8, bits: u64) -> Vec<u8> {
    publish(topic, suffix, kind, flags, &bits.to_le_bytes())
}

/// The payload that publishes JSON; its last byte is NUL.
pub(crate) fn publish_json(topic: &str, suffix: &str, json: &str) -> Vec<u8> {
    let mut text = json.as_bytes()[..json.len().min(VALUE_BYTES - 1)].to_vec();
    text.push(0);
    publish(topic, suffix, TYPE_JSON, 0, &text)
}

/// The payload of port 0: operation, status 0, argument 0, then this.
pub(crate) fn admin(op: u8, rest: &[u8]) -> Vec<u8> {
    let mut payload = vec![op, 0, 0, 0];
    payload.extend_from_slice(rest);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: id 0x1234, 44 bytes (0x2C), port 1.
    #[test]
    fn the_word_is_that_of_the_protocol() {
        assert_eq!(head(0x1234, 1, 44), [0x34, 0x12, 0x2C, 0x02]);
        assert_eq!(head(0xFFFF, 31, 508), [0xFF, 0xFF, 0xFC, 0x3F]);
        let mut frame = vec![0x34, 0x12, 3, 0x02];
        frame.extend([7, 8, 9]);
        assert_eq!(split(&frame), Some((1, &[7, 8, 9][..])));
        frame.pop();
        assert_eq!(split(&frame), None);
    }

    #[test]
    fn a_publish_is_read_as_it_was_written() {
        let payload = publish_scalar("s/i/ctrl", "#", TYPE_U32, 1, 7);
        assert_eq!(payload.len(), 44);
        assert_eq!(
            Publish::parse(&payload),
            Some(Publish {
                topic: "s/i/ctrl#",
                kind: TYPE_U32,
                bits: 7
            })
        );
        assert_eq!(Publish::parse(&payload[..43]), None);
        assert_eq!(Publish::parse(&[b'x'; 44]), None);
    }

    #[test]
    fn a_long_topic_and_a_long_text_are_cut() {
        let payload = publish_json(&"t".repeat(99), "$", &"x".repeat(999));
        assert_eq!(payload.len(), PAYLOAD_BYTES);
        assert_eq!(payload.last(), Some(&0));
        assert_eq!(Publish::parse(&payload).map(|found| found.topic.len()), Some(31));
    }
}
