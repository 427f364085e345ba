//! What a script lets go wrong, and when.
//!
//! As text: `ACTION[:NUMBER]@WHEN`, with `WHEN` = `t` or `s` and ticks (half microseconds of the sample clock) since the instrument was
//! plugged in or since its first stream was turned on, or `f` and how many frames of streams it has made by then.

use crate::limits;

/// When a fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// So many ticks after the instrument was plugged in first.
    Tick(u64),
    /// So many ticks after a stream was turned on first.
    Streaming(u64),
    /// When so many frames of streams were made.
    Frame(u64),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The next frames of streams are lost, as in a full FIFO: `lose:FRAMES`.
    Lose(u64),
    /// The next frame of a stream comes twice: `duplicate`.
    Duplicate,
    /// The next frame of a stream has its frame id off by this: `frameid:OFFSET`.
    FrameId(u16),
    /// The next frame of a stream has its sample id off by this: `sampleid:OFFSET`.
    SampleId(u32),
    /// Bulk pipe IN halts until the host clears it: `stall`.
    Stall,
    /// For so many milliseconds no frame is given; the FIFO fills: `silence:MS`.
    Silence(u64),
    /// From now on, answers come so many milliseconds late: `late:MS`.
    Late(u64),
    /// The next settings are not acknowledged: `noack:COUNT`.
    NoAck(u64),
    /// Gone, and plugged in again after so many milliseconds (0: never), with nothing kept: `unplug:MS`.
    Unplug(u64),
    /// For so many milliseconds every transfer fails, and no samples are kept; the clock goes on: `suspend:MS`.
    Suspend(u64),
    /// So many frames of garbage: impossible lengths, unknown operations, texts without an end: `babble:FRAMES`.
    Babble(u64),
    /// Metadata that is no JSON: `badjson`.
    BadJson,
}

/// A fault and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Trigger,
    /// What.
    pub action: Action,
}

impl Fault {
    /// The fault that a text means; `None` if it means none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (action, at) = text.split_once('@')?;
        let kind = at.get(..1)?;
        let number = at[1..].parse().ok()?;
        let at = match kind {
            "t" => Trigger::Tick(number),
            "s" => Trigger::Streaming(number),
            "f" => Trigger::Frame(number),
            _ => return None,
        };
        let (name, number) = match action.split_once(':') {
            Some((name, number)) => (name, Some(number.parse::<u64>().ok()?)),
            None => (action, None),
        };
        let count = |most| number.filter(|&number| number <= most);
        let action = match name {
            "lose" => Action::Lose(count(limits::FAULT_FRAMES)?),
            "duplicate" => Action::Duplicate,
            "frameid" => Action::FrameId(u16::try_from(number?).ok()?),
            "sampleid" => Action::SampleId(u32::try_from(number?).ok()?),
            "stall" => Action::Stall,
            "silence" => Action::Silence(number?),
            "late" => Action::Late(number?),
            "noack" => Action::NoAck(number?),
            "unplug" => Action::Unplug(number?),
            "suspend" => Action::Suspend(number?),
            "babble" => Action::Babble(count(limits::BABBLE_FRAMES)?),
            "badjson" => Action::BadJson,
            _ => return None,
        };
        Some(Self { at, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_mean_faults() {
        assert_eq!(
            Fault::parse("lose:10@s2000000"),
            Some(Fault {
                at: Trigger::Streaming(2_000_000),
                action: Action::Lose(10)
            })
        );
        assert_eq!(
            Fault::parse("stall@f7"),
            Some(Fault {
                at: Trigger::Frame(7),
                action: Action::Stall
            })
        );
        for wrong in [
            "",
            "stall",
            "lose@s1",
            "lose:x@s1",
            "stall@",
            "stall@x1",
            "stall@é",
            "frameid:65536@t0",
            "babble:257@t0",
        ] {
            assert_eq!(Fault::parse(wrong), None, "{wrong}");
        }
    }
}
