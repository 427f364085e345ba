//! What the instrument does as time passes: frames of streams, statistics, requests for the time, and its script's faults.

use std::mem;
use std::time::Duration;

use super::{Js220, OP_TIME_SYNC, UsbFault};
use crate::clock::Clock;
use crate::event::{Event, Lost};
use crate::fault::{Action, Fault, Trigger};
use crate::frame::{self, FRAME_BYTES, PORT_ADMIN, PORT_PUBSUB};
use crate::settings::Losing;
use crate::streams::Streams;
use crate::wave::{Wave, mix};

/// How often it asks the host for the time.
const SYNC_PERIOD: Duration = Duration::from_secs(1);

const PORT_STATISTICS: u8 = 30;

/// The script that is not over, and what it has set going.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    script: Vec<Fault>,
    /// Ticks when a stream was turned on first.
    streaming: Option<u64>,
    /// Frames of streams made, lost ones too.
    frames: u64,
    lose: u64,
    duplicate: bool,
    frame_off: u16,
    sample_off: u32,
    unacknowledged: u64,
    late: Duration,
    silent_until: Duration,
    suspended_until: Duration,
    gone: bool,
    back_at: Option<Duration>,
}

impl Trouble {
    pub(super) fn new(script: Vec<Fault>) -> Self {
        Self {
            script,
            streaming: None,
            frames: 0,
            lose: 0,
            duplicate: false,
            frame_off: 0,
            sample_off: 0,
            unacknowledged: 0,
            late: Duration::ZERO,
            silent_until: Duration::ZERO,
            suspended_until: Duration::ZERO,
            gone: false,
            back_at: None,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn is_silent(&self, now: Duration) -> bool {
        now < self.silent_until
    }

    pub(super) fn late(&self) -> Duration {
        self.late
    }

    pub(super) fn streaming(&mut self, ticks: u64) {
        self.streaming.get_or_insert(ticks);
    }

    pub(super) fn reachable(&self, now: Duration) -> Result<(), UsbFault> {
        match self {
            Self { gone: true, .. } => Err(UsbFault::Gone),
            _ if now < self.suspended_until => Err(UsbFault::Suspended),
            _ => Ok(()),
        }
    }

    /// Whether the next setting is acknowledged.
    pub(super) fn acknowledges(&mut self) -> bool {
        let silent = self.unacknowledged > 0;
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        !silent
    }

    /// The next fault whose time has come.
    fn due(&mut self, ticks: u64, start: u64) -> Option<Action> {
        let nth = self.script.iter().position(|fault| match fault.at {
            Trigger::Tick(after) => ticks >= start.saturating_add(after),
            Trigger::Streaming(after) => self.streaming.is_some_and(|from| ticks >= from.saturating_add(after)),
            Trigger::Frame(frames) => self.frames >= frames,
        })?;
        Some(self.script.remove(nth).action)
    }
}

impl Js220 {
    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.trouble.gone {
            match self.trouble.back_at {
                Some(at) if at <= self.now => self.come_back(at),
                _ => return,
            }
        }
        while let Some((due, port, payload)) = self.late.pop_front() {
            if due > self.now {
                self.late.push_front((due, port, payload));
                break;
            }
            self.fifo.push_answer(port, &payload);
        }
        let ticks = self.ticks();
        while !self.trouble.gone {
            let next = self.next_end().filter(|&end| end <= ticks);
            while let Some(action) = self.trouble.due(next.unwrap_or(ticks), self.clock.start()) {
                self.suffer(action);
            }
            if self.trouble.gone || next.is_none() {
                break;
            }
            // A fault may have changed what comes next.
            if self.next_end().is_some_and(|end| end <= ticks) {
                self.make_next();
            }
        }
        if self.connected && self.now >= self.sync_due {
            self.sync_due = self.now + SYNC_PERIOD;
            let mut request = [0; 40];
            request[8..16].copy_from_slice(&ticks.to_le_bytes());
            self.answer(PORT_ADMIN, frame::admin(OP_TIME_SYNC, &request));
        }
    }

    /// When the next frame of a stream or of statistics is whole.
    fn next_end(&mut self) -> Option<u64> {
        let statistics = self.statistics.as_ref().map(|statistics| statistics.end());
        let stream = self.streams.first().map(|stream| stream.end());
        statistics.into_iter().chain(stream).min()
    }

    fn make_next(&mut self) {
        if !self.map_sent {
            self.send_map();
        }
        self.trouble.frames += 1;
        let ends = self.streams.first().map(|stream| stream.end());
        match &mut self.statistics {
            Some(statistics) if ends.is_none_or(|end| statistics.end() < end) => {
                let (first, end) = (statistics.first(), statistics.end());
                let block = statistics.finish(&self.wave);
                if self.loses(block.len()) {
                    self.lost(PORT_STATISTICS, first, end);
                } else {
                    self.fifo
                        .push_stream(PORT_STATISTICS, &block, mem::take(&mut self.trouble.frame_off));
                    self.settle(usize::from(PORT_STATISTICS));
                }
            }
            _ => self.make_samples(),
        }
        if mem::take(&mut self.trouble.duplicate) {
            self.fifo.repeat_last();
        }
    }

    fn make_samples(&mut self) {
        let loses = self.loses(self.settings.frame_bytes + 4);
        let Some(stream) = self.streams.first() else { return };
        let (port, (first, end)) = (stream.port, stream.span());
        if loses {
            if self.settings.losing == Losing::Frame {
                stream.hidden += end - first;
            }
            stream.advance();
            self.lost(port, first, end);
        } else {
            let payload = stream.payload(&self.wave, mem::take(&mut self.trouble.sample_off));
            stream.advance();
            self.fifo
                .push_stream(port, &payload, mem::take(&mut self.trouble.frame_off));
            self.settle(usize::from(port));
        }
    }

    /// Whether the next frame is lost.
    fn loses(&mut self, payload: usize) -> bool {
        let asleep = self.now < self.trouble.suspended_until;
        if self.trouble.lose > 0 {
            self.trouble.lose -= 1;
            return true;
        }
        asleep || !self.fifo.has_room(payload)
    }

    fn lost(&mut self, port: u8, first: u64, end: u64) {
        if self.settings.losing != Losing::Sample {
            self.fifo.skip_id();
        }
        let nth = usize::from(port);
        match &mut self.losing[nth] {
            Some(lost) if lost.end == first => lost.end = end,
            _ => {
                self.settle(nth);
                self.losing[nth] = Some(Lost { port, first, end });
            }
        }
    }

    /// A port's loss is over: it is noted.
    pub(super) fn settle(&mut self, port: usize) {
        if let Some(lost) = self.losing[port].take() {
            self.note(Event::Lost(lost));
        }
    }

    fn suffer(&mut self, action: Action) {
        self.note(Event::Fault(format!("{action:?}")));
        let trouble = &mut self.trouble;
        let until = |ms| self.now.saturating_add(Duration::from_millis(ms));
        match action {
            Action::Lose(frames) => trouble.lose = frames,
            Action::Duplicate => trouble.duplicate = true,
            Action::FrameId(off) => trouble.frame_off = off,
            Action::SampleId(off) => trouble.sample_off = off,
            Action::Stall => self.halted = true,
            Action::Silence(ms) => trouble.silent_until = until(ms),
            Action::Late(ms) => trouble.late = Duration::from_millis(ms.min(3_600_000)),
            Action::NoAck(count) => trouble.unacknowledged = count,
            Action::Suspend(ms) => trouble.suspended_until = until(ms),
            Action::Unplug(0) => self.leave(None),
            Action::Unplug(ms) => self.leave(Some(Duration::from_millis(ms))),
            Action::Babble(frames) => self.babble(frames),
            Action::BadJson => {
                let payload = frame::publish_json("s/i/ctrl", "$", r#"{"dtype":"u32","options":[[0,"off"],[1,"#);
                self.fifo.push_answer(PORT_PUBSUB, &payload);
            }
        }
    }

    /// It is unplugged, and comes back after a time, if one is given.
    pub(super) fn leave(&mut self, back: Option<Duration>) {
        self.disconnect();
        self.trouble.gone = true;
        self.trouble.back_at = back.map(|after| self.now.saturating_add(after));
    }

    fn come_back(&mut self, at: Duration) {
        self.plugs += 1;
        self.trouble.gone = false;
        self.trouble.silent_until = Duration::ZERO;
        self.trouble.suspended_until = Duration::ZERO;
        self.clock = Clock::new(&self.settings, at);
        self.wave = Wave::new(self.settings.seed.wrapping_add(self.plugs));
        self.streams = Streams::new(self.settings.frame_bytes);
        self.topics = super::Topics::new(self.settings.version);
        self.outputs = 0;
    }

    /// Frames that no instrument would send; all of them different, the same ones for the same seed.
    fn babble(&mut self, frames: u64) {
        let seed = mix(self.settings.seed ^ 0xBABB);
        let mut word = 0_u64;
        let mut noise = |length: usize| -> Vec<u8> {
            (0..length)
                .map(|_| {
                    word += 1;
                    mix(seed.wrapping_add(word)) as u8
                })
                .collect()
        };
        for nth in 0..frames {
            let bytes = match nth % 8 {
                // Nothing but noise.
                0 => noise(FRAME_BYTES),
                // It says 508 bytes, and has fewer.
                1 => [&frame::head(0, 21, 508)[..], &noise(100)].concat(),
                // It says 511 bytes, more than any has.
                2 => [&frame::head(0, 21, 511)[..], &noise(508)].concat(),
                // An operation that there is not.
                3 => [&frame::head(0, PORT_ADMIN, 8)[..], &[0xEE], &noise(7)].concat(),
                // A topic without an end, and a type that there is not.
                4 => [&frame::head(0, PORT_PUBSUB, 44)[..], &[b'x'; 32], &noise(12)].concat(),
                // Statistics that are too short.
                5 => [&frame::head(0, PORT_STATISTICS, 20)[..], &noise(20)].concat(),
                // Less than a frame's first word.
                6 => noise(3),
                // Samples without a sample, of a port that nobody turned on.
                _ => frame::head(0, 27, 0).to_vec(),
            };
            self.fifo.push_raw(bytes, false);
        }
    }
}
