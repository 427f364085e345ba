//! The streams: which are on, when their next frame is whole, and what is in it.

use crate::wave::{Wave, to_f32};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Adc(u8),
    Range,
    Current,
    Voltage,
    Power,
    Gpi(u8),
}

/// The ports of samples, with the topics that turn them on.
const PORTS: [(u8, &str, Signal); 13] = [
    (16, "s/adc/0/ctrl", Signal::Adc(0)),
    (17, "s/adc/1/ctrl", Signal::Adc(1)),
    (18, "s/adc/2/ctrl", Signal::Adc(2)),
    (19, "s/adc/3/ctrl", Signal::Adc(3)),
    (20, "s/i/range/ctrl", Signal::Range),
    (21, "s/i/ctrl", Signal::Current),
    (22, "s/v/ctrl", Signal::Voltage),
    (23, "s/p/ctrl", Signal::Power),
    (24, "s/gpi/0/ctrl", Signal::Gpi(0)),
    (25, "s/gpi/1/ctrl", Signal::Gpi(1)),
    (26, "s/gpi/2/ctrl", Signal::Gpi(2)),
    (27, "s/gpi/3/ctrl", Signal::Gpi(3)),
    (28, "s/gpi/7/ctrl", Signal::Gpi(4)),
];

#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) port: u8,
    pub(crate) topic: &'static str,
    signal: Signal,
    on: bool,
    /// The id of the next frame's first sample.
    next: u64,
    /// How many ids the host does not know that it lost.
    pub(crate) hidden: u64,
    /// Samples of one frame.
    samples: u64,
    /// Ids from one sample to the next.
    step: u64,
}

impl Stream {
    pub(crate) fn end(&self) -> u64 {
        self.next + self.samples * self.step
    }

    pub(crate) fn span(&self) -> (u64, u64) {
        (self.next, self.end())
    }

    /// The frame is made, or lost.
    pub(crate) fn advance(&mut self) {
        self.next = self.end();
    }

    /// Nothing of before this id will be made.
    pub(crate) fn skip_to(&mut self, id: u64) {
        self.next = self.next.max(id).next_multiple_of(self.step);
    }

    fn is_slow(&self) -> bool {
        matches!(self.signal, Signal::Current | Signal::Voltage | Signal::Power)
    }

    /// The payload of the next frame, whose sample id is off by `off`.
    pub(crate) fn payload(&self, wave: &Wave, off: u32) -> Vec<u8> {
        let (from, end) = self.span();
        let mut bytes = Vec::with_capacity(508);
        let shown = (from - self.hidden) as u32;
        bytes.extend(shown.wrapping_add(off).to_le_bytes());
        let ids = (from..end).step_by(self.step as usize);
        match self.signal {
            Signal::Adc(channel) => bytes.extend(ids.flat_map(|id| wave.adc(channel, id).to_le_bytes())),
            Signal::Range => {
                let mut ids = ids;
                while let (Some(low), Some(high)) = (ids.next(), ids.next()) {
                    bytes.push(wave.range(low) | wave.range(high) << 4);
                }
            }
            Signal::Gpi(input) => {
                let mut ids = ids.peekable();
                while ids.peek().is_some() {
                    bytes.push(
                        ids.by_ref()
                            .take(8)
                            .enumerate()
                            .fold(0, |byte, (bit, id)| byte | u8::from(wave.gpi(input, id)) << bit),
                    );
                }
            }
            Signal::Current | Signal::Voltage | Signal::Power => self.slow(wave, from / 2, end / 2, &mut bytes),
        }
        bytes
    }

    fn slow(&self, wave: &Wave, from: u64, end: u64, bytes: &mut Vec<u8>) {
        let of = self.step / 2;
        let (mut sum, mut have) = (0_i64, 0);
        wave.analog(from, end, |sample| {
            let value = match self.signal {
                Signal::Voltage => sample.v,
                Signal::Power if of == 1 => {
                    // At full rate it is what a host would compute.
                    bytes.extend((to_f32(sample.i) * to_f32(sample.v)).to_le_bytes());
                    return;
                }
                Signal::Power => sample.p,
                _ => sample.i,
            };
            sum += value;
            have += 1;
            if have == of {
                let mean = sum as f64 / (of as f64 * (1u64 << 31) as f64);
                bytes.extend((mean as f32).to_le_bytes());
                (sum, have) = (0, 0);
            }
        });
    }
}

/// All streams.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    all: Vec<Stream>,
}

impl Streams {
    pub(crate) fn new(frame_bytes: usize) -> Self {
        let all = PORTS.map(|(port, topic, signal)| {
            let (bits, step) = match signal {
                Signal::Adc(_) => (16, 1),
                Signal::Range => (4, 1),
                Signal::Gpi(_) => (1, 1),
                Signal::Current | Signal::Voltage | Signal::Power => (32, 2),
            };
            Stream {
                port,
                topic,
                signal,
                on: false,
                next: 0,
                hidden: 0,
                samples: frame_bytes as u64 * 8 / bits,
                step,
            }
        });
        Self { all: all.into() }
    }

    /// Turns a stream on or off. False: the instrument cannot send current, voltage and power at full rate at once.
    pub(crate) fn turn(&mut self, topic: &str, on: bool, now: u64) -> bool {
        let fast = self.fast();
        let Some(stream) = self.all.iter_mut().find(|stream| stream.topic == topic) else {
            return true;
        };
        if on && !stream.on {
            if fast == 2 && stream.is_slow() && stream.step == 2 {
                return false;
            }
            stream.next = 0;
            stream.hidden = 0;
            stream.skip_to(now);
        }
        stream.on = on;
        true
    }

    /// How many of current, voltage and power are on at full rate.
    fn fast(&self) -> usize {
        self.all
            .iter()
            .filter(|stream| stream.on && stream.is_slow() && stream.step == 2)
            .count()
    }

    /// Whether current, voltage and power are all on.
    pub(crate) fn all_slow(&self) -> bool {
        self.all.iter().filter(|stream| stream.on && stream.is_slow()).count() == 3
    }

    pub(crate) fn all_off(&mut self) {
        for stream in &mut self.all {
            stream.on = false;
        }
    }

    /// Current, voltage and power have one sample of so many ids.
    pub(crate) fn decimate_slow(&mut self, step: u64, now: u64) {
        self.decimate(Stream::is_slow, step, now);
    }

    /// Inputs have one sample of so many ids.
    pub(crate) fn decimate_inputs(&mut self, step: u64, now: u64) {
        self.decimate(|stream| matches!(stream.signal, Signal::Gpi(_)), step, now);
    }

    fn decimate(&mut self, which: impl Fn(&Stream) -> bool, step: u64, now: u64) {
        for stream in self
            .all
            .iter_mut()
            .filter(|stream| which(stream) && stream.step != step)
        {
            stream.step = step;
            stream.skip_to(now);
        }
    }

    pub(crate) fn on(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.all.iter_mut().filter(|stream| stream.on)
    }

    /// The stream whose next frame is whole first.
    pub(crate) fn first(&mut self) -> Option<&mut Stream> {
        self.on().min_by_key(|stream| stream.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(topic: &str) -> (Streams, Wave) {
        let mut streams = Streams::new(504);
        assert!(streams.turn(topic, true, 1001));
        (streams, Wave::new(5))
    }

    #[test]
    fn a_full_frame_has_as_many_samples_as_the_protocol_says() {
        for (_, topic, signal) in PORTS {
            let (mut streams, wave) = only(topic);
            let stream = streams.first().unwrap();
            assert_eq!(stream.payload(&wave, 0).len(), 508, "{topic}");
            let (samples, step) = match signal {
                Signal::Adc(_) => (252, 1),
                Signal::Range => (1008, 1),
                Signal::Gpi(_) => (4032, 1),
                _ => (126, 2),
            };
            assert_eq!((stream.samples, stream.step), (samples, step));
            let first = 1001_u64.next_multiple_of(step);
            assert_eq!(stream.span(), (first, first + samples * step));
        }
    }

    #[test]
    fn samples_are_packed_low_first() {
        let (mut streams, wave) = only("s/i/range/ctrl");
        let payload = streams.first().unwrap().payload(&wave, 0);
        assert_eq!(payload[..4], 1001_u32.to_le_bytes());
        assert_eq!(payload[4 + 7], wave.range(1001 + 14) | wave.range(1001 + 15) << 4);
        let (mut streams, wave) = only("s/gpi/7/ctrl");
        let payload = streams.first().unwrap().payload(&wave, 3);
        assert_eq!(payload[..4], 1004_u32.to_le_bytes());
        let byte: u8 = (0..8).map(|bit| u8::from(wave.gpi(4, 1001 + 16 + bit)) << bit).sum();
        assert_eq!(payload[4 + 2], byte);
    }

    #[test]
    fn a_decimated_sample_is_a_mean() {
        let (mut streams, wave) = only("s/p/ctrl");
        streams.decimate_slow(20, 1001);
        let stream = streams.first().unwrap();
        assert_eq!(stream.span().0, 1020);
        let payload = stream.payload(&wave, 0);
        let mut sum = 0;
        wave.analog(510, 520, |sample| sum += sample.p);
        let mean = (sum as f64 / 10.0 / 2_147_483_648.0) as f32;
        assert_eq!(payload[4..8], mean.to_le_bytes());
    }

    #[test]
    fn three_signals_at_full_rate_are_too_many() {
        let (mut streams, _) = only("s/i/ctrl");
        assert!(streams.turn("s/v/ctrl", true, 0));
        assert!(!streams.turn("s/p/ctrl", true, 0));
        assert_eq!(streams.on().count(), 2);
        streams.decimate_slow(20, 0);
        assert!(streams.turn("s/p/ctrl", true, 0));
    }
}
