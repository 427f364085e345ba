//! The instrument: what it answers on its control pipe and its bulk pipes. What it makes by itself, as time passes, is in [`making`].

#[path = "making.rs"]
mod making;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use self::making::Trouble;
use crate::clock::Clock;
use crate::event::{Event, Lost};
use crate::fifo::Fifo;
use crate::frame::{self, PORT_ADMIN, PORT_MEMORY, PORT_PUBSUB, Publish, TYPE_I32, TYPE_U32};
use crate::limits;
use crate::pubsub::{self, Topics};
use crate::settings::Settings;
use crate::statistics::Statistics;
use crate::streams::Streams;
use crate::wave::Wave;

/// USB's vendor id.
pub const VENDOR: u16 = 0x16D0;
/// USB's product id.
pub const PRODUCT: u16 = 0x10BA;
/// The address of bulk pipe OUT.
pub const BULK_OUT: u8 = 0x01;
/// The address of bulk pipe IN.
pub const BULK_IN: u8 = 0x82;

const REQUEST_CONNECT: u8 = 1;
const REQUEST_DISCONNECT: u8 = 2;

const OP_CONNECT: u8 = 1;
const OP_ECHO: u8 = 2;
const OP_TIME_SYNC: u8 = 3;
const OP_TIME_MAP: u8 = 4;
const OP_MEMORY_ACK: u8 = 1;
const OP_MEMORY_BOOT: u8 = 15;

/// The protocol's version, the application's id, and the version of the hardware.
const PROTOCOL: u32 = 0x0100_0000;
const APPLICATION: u32 = 2;
const HARDWARE: u32 = 0x0100_0000;

/// How long it is away when it boots.
const BOOT: Duration = Duration::from_millis(500);

/// Why a transfer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsbFault {
    /// The pipe is halted, or the request is none.
    #[error("stalled")]
    Stall,
    /// It is unplugged.
    #[error("unplugged")]
    Gone,
    /// It sleeps.
    #[error("suspended")]
    Suspended,
}

/// One instrument. Time is what has passed since it was plugged in first; it never goes back.
#[derive(Debug, Clone)]
pub struct Js220 {
    settings: Settings,
    clock: Clock,
    wave: Wave,
    fifo: Fifo,
    topics: Topics,
    streams: Streams,
    statistics: Option<Statistics>,
    outputs: u64,
    now: Duration,
    connected: bool,
    halted: bool,
    map_sent: bool,
    sync_due: Duration,
    /// Answers that are not in the FIFO yet, with the time when they will be.
    late: VecDeque<(Duration, u8, Vec<u8>)>,
    trouble: Trouble,
    plugs: u64,
    events: Vec<Event>,
    /// What each port is losing now.
    losing: [Option<Lost>; 32],
}

impl Js220 {
    /// An instrument that is plugged in.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            clock: Clock::new(&settings, Duration::ZERO),
            wave: Wave::new(settings.seed),
            fifo: Fifo::new(settings.fifo_bytes),
            topics: Topics::new(settings.version),
            streams: Streams::new(settings.frame_bytes),
            statistics: None,
            outputs: 0,
            now: Duration::ZERO,
            connected: false,
            halted: false,
            map_sent: false,
            sync_due: Duration::ZERO,
            late: VecDeque::new(),
            trouble: Trouble::new(settings.faults.clone()),
            plugs: 0,
            events: Vec::new(),
            losing: [None; 32],
            settings,
        }
    }

    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.settings.serial
    }

    /// How often it was plugged in again. The waveform's seed is that of the settings plus this.
    #[must_use]
    pub fn plugs(&self) -> u64 {
        self.plugs
    }

    /// Whether it is plugged in.
    pub fn plugged(&mut self, now: Duration) -> bool {
        self.advance(now);
        !self.trouble.is_gone()
    }

    /// Unplugs it; it comes back after a time, if one is given.
    pub fn unplug(&mut self, now: Duration, back: Option<Duration>) {
        self.advance(now);
        self.leave(back);
    }

    /// What happened since this was asked last; a loss once it is over. Past [`limits::EVENTS`] the later ones are dropped.
    pub fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }

    /// A vendor request that reads.
    pub fn control_in(
        &mut self,
        request: u8,
        value: u16,
        _index: u16,
        length: u16,
        now: Duration,
    ) -> Result<Vec<u8>, UsbFault> {
        self.reachable(now)?;
        match request {
            REQUEST_CONNECT => self.connect(value == 0),
            REQUEST_DISCONNECT => self.disconnect(),
            _ => return Err(UsbFault::Stall),
        }
        Ok(vec![0; usize::from(length.min(1))])
    }

    /// One transfer to the instrument: a frame.
    pub fn bulk_out(&mut self, transfer: &[u8], now: Duration) -> Result<(), UsbFault> {
        self.reachable(now)?;
        if !self.connected {
            return Ok(());
        }
        match frame::split(transfer) {
            Some((PORT_ADMIN, payload)) => self.administrate(payload),
            Some((PORT_PUBSUB, payload)) => {
                if let Some(publish) = Publish::parse(payload) {
                    self.published(&publish);
                }
            }
            Some((PORT_MEMORY, payload)) => self.memory(payload),
            _ => {}
        }
        Ok(())
    }

    /// Continues a transfer from the instrument of at most `max` bytes: moves what there is behind what is in `into`. True when the
    /// transfer is whole: it is full, or its last frame was a short one.
    pub fn bulk_in(&mut self, into: &mut Vec<u8>, max: usize, now: Duration) -> Result<bool, UsbFault> {
        self.reachable(now)?;
        if self.halted {
            return Err(UsbFault::Stall);
        }
        if self.trouble.is_silent(self.now) {
            return Ok(false);
        }
        Ok(self.fifo.take(into, max))
    }

    /// The host clears bulk pipe IN.
    pub fn clear_halt(&mut self, now: Duration) -> Result<(), UsbFault> {
        self.reachable(now)?;
        self.halted = false;
        Ok(())
    }

    fn reachable(&mut self, now: Duration) -> Result<(), UsbFault> {
        self.advance(now);
        self.trouble.reachable(self.now)
    }

    fn ticks(&self) -> u64 {
        self.clock.ticks(self.now)
    }

    fn connect(&mut self, defaults: bool) {
        let kept = mem::replace(&mut self.topics, Topics::new(self.settings.version));
        self.disconnect();
        if !defaults {
            self.topics = kept;
        } else {
            self.decimate();
        }
        self.connected = true;
        self.map_sent = false;
        self.sync_due = self.now;
        let words = [
            PROTOCOL,
            APPLICATION,
            self.settings.version,
            HARDWARE,
            self.settings.version,
        ];
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.answer(PORT_ADMIN, frame::admin(OP_CONNECT, &words));
    }

    fn disconnect(&mut self) {
        self.connected = false;
        for port in 0..self.losing.len() {
            self.settle(port);
        }
        self.streams.all_off();
        self.statistics = None;
        self.fifo.clear();
        self.late.clear();
        self.halted = false;
    }

    fn administrate(&mut self, payload: &[u8]) {
        match payload.first() {
            Some(&OP_ECHO) => self.answer(PORT_ADMIN, payload.to_vec()),
            Some(&OP_TIME_SYNC) if payload.len() >= 44 => {
                let word = |nth: usize| {
                    let at = 4 + 8 * nth;
                    payload[at..at + 8]
                        .iter()
                        .rev()
                        .fold(0_u64, |word, &byte| word << 8 | u64::from(byte))
                };
                let end = self.ticks();
                if self.clock.told(word(1), word(2) as i64, word(3) as i64, end) {
                    self.send_map();
                }
            }
            _ => {}
        }
    }

    /// Tells the host which UTC its ticks are.
    fn send_map(&mut self) {
        let (utc, ticks, hz) = self.clock.map();
        let words = [0, utc as u64, ticks, hz];
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.fifo.push_answer(PORT_ADMIN, &frame::admin(OP_TIME_MAP, &words));
        self.map_sent = true;
    }

    fn memory(&mut self, payload: &[u8]) {
        match payload {
            [OP_MEMORY_BOOT, ..] => self.leave(Some(BOOT)),
            [op, region, ..] => {
                let mut answer = vec![OP_MEMORY_ACK, *region, pubsub::NOT_SUPPORTED as u8, *op];
                answer.resize(12, 0);
                self.answer(PORT_MEMORY, answer);
            }
            _ => {}
        }
    }

    fn published(&mut self, publish: &Publish<'_>) {
        match publish.topic {
            "$" => {
                for (topic, json) in pubsub::metadata() {
                    self.answer(PORT_PUBSUB, frame::publish_json(topic, "$", &json));
                }
            }
            "?" => {
                let retained: Vec<_> = self.topics.retained().collect();
                for (topic, kind, bits) in retained {
                    self.answer(PORT_PUBSUB, frame::publish_scalar(topic, "?", kind, 0, bits));
                }
            }
            "c/!ping" => {
                self.answer(
                    PORT_PUBSUB,
                    frame::publish_scalar("c/!pong", "", publish.kind, 0, publish.bits),
                );
            }
            _ => self.set(publish),
        }
    }

    fn set(&mut self, publish: &Publish<'_>) {
        let code = match Topics::check(publish) {
            Ok((topic, bits)) => {
                let code = self.apply(topic, bits);
                if code == pubsub::DONE {
                    self.note(Event::Set(topic.to_owned(), bits));
                }
                code
            }
            Err(code) => code,
        };
        if self.trouble.acknowledges() {
            let code = u64::from(code as u32);
            self.answer(
                PORT_PUBSUB,
                frame::publish_scalar(publish.topic, "#", TYPE_I32, 0, code),
            );
        }
        let asked = match publish.topic {
            "s/gpi/+/!req" => self.inputs(),
            "s/gpo/+/!req" => self.outputs,
            _ => return,
        };
        let topic = publish.topic.replace("!req", "!value");
        self.answer(PORT_PUBSUB, frame::publish_scalar(&topic, "", TYPE_U32, 0, asked));
    }

    /// Inputs 0 to 3, and the trigger as bit 7, as they are now.
    fn inputs(&self) -> u64 {
        let ticks = self.ticks();
        (0..5)
            .map(|input| u64::from(self.wave.gpi(input, ticks)) << if input == 4 { 7 } else { input })
            .sum()
    }

    fn apply(&mut self, topic: &'static str, bits: u64) -> i32 {
        let ticks = self.ticks();
        let on = bits != 0;
        match topic {
            "s/dwnN/N" if bits == 2 || bits == 3 => return pubsub::INVALID,
            "s/dwnN/N" if bits == 1 && self.streams.all_slow() => return pubsub::NOT_SUPPORTED,
            "s/stats/ctrl" => {
                let samples = self.topics.get("s/stats/scnt") as u32;
                self.statistics = match self.statistics.take() {
                    running @ Some(_) if on => running,
                    _ => on.then(|| Statistics::new(ticks, samples)),
                };
            }
            "s/stats/scnt" => {
                if let Some(statistics) = &mut self.statistics {
                    statistics.resize(bits as u32);
                }
            }
            "s/stats/!clear" => {
                if let Some(statistics) = &mut self.statistics {
                    statistics.clear(ticks);
                }
            }
            "s/gpo/+/!set" => self.outputs |= bits & 0xFF,
            "s/gpo/+/!clr" => self.outputs &= !bits,
            _ if !self.streams.turn(topic, on, ticks) => return pubsub::NOT_SUPPORTED,
            _ => {}
        }
        if on && topic.ends_with("/ctrl") {
            self.trouble.streaming(ticks);
        }
        self.topics.set(topic, bits);
        self.decimate();
        pubsub::DONE
    }

    /// The settings of decimation, as they are now.
    fn decimate(&mut self) {
        let ticks = self.ticks();
        self.streams.decimate_slow(2 * self.topics.get("s/dwnN/N"), ticks);
        let inputs = match self.topics.get("s/gpi/+/dwnN/mode") {
            0 => 1,
            _ => self.topics.get("s/gpi/+/dwnN/N"),
        };
        self.streams.decimate_inputs(inputs, ticks);
    }

    fn answer(&mut self, port: u8, payload: Vec<u8>) {
        let late = self.trouble.late();
        if late.is_zero() && self.late.is_empty() {
            self.fifo.push_answer(port, &payload);
        } else if self.late.len() < limits::ANSWERS {
            self.late.push_back((self.now + late, port, payload));
        }
    }

    fn note(&mut self, event: Event) {
        if self.events.len() < limits::EVENTS {
            self.events.push(event);
        }
    }
}
