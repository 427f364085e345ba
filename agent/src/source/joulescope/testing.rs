//! For the tests: bytes as the instrument sends them, written by the specification's tables and not by the code under test; and an
//! instrument that is a script.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wavekeep_proto::chunk::{Marker, Reason};

use super::usb::{Found, Link, Usb, UsbError};
use crate::clock::Clock;
use crate::controls::{Asked, Controls};
use crate::source::{Block, Column, Sink, SinkError};
use crate::stop::StopToken;

/// The instrument's counter, and the host's time, when it starts.
pub(super) const START_ID: u64 = 0x3_ffff_0000;
pub(super) const START_NS: i64 = 1_790_000_000_000_000_000;

/// Frames of an instrument, numbered in their order, one every 512 bytes.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    next_id: u16,
}

impl Bytes {
    pub(super) fn frame(&mut self, port: u8, payload: &[u8]) -> Vec<u8> {
        let head = u32::from(self.next_id) + payload.len() as u32 * 0x1_0000 + u32::from(port) * 0x200_0000;
        self.next_id = self.next_id.wrapping_add(1);
        let mut frame = head.to_le_bytes().to_vec();
        frame.extend_from_slice(payload);
        assert!(frame.len() <= 512);
        frame.resize(512, 0xcc);
        frame
    }

    /// Frames that never come.
    pub(super) fn lose(&mut self, frames: u16) {
        self.next_id = self.next_id.wrapping_add(frames);
    }

    pub(super) fn samples(&mut self, port: u8, id: u64, data: &[u8]) -> Vec<u8> {
        let payload = [&(id as u32).to_le_bytes()[..], data].concat();
        self.frame(port, &payload)
    }

    /// Current or voltage of the stream's own positions, as [`float`] tells them.
    pub(super) fn floats(&mut self, port: u8, ticks: u64, range: Range<u64>) -> Vec<u8> {
        let data: Vec<u8> = range.clone().flat_map(|at| float(port, at).to_le_bytes()).collect();
        self.samples(port, range.start * ticks, &data)
    }

    pub(super) fn message(&mut self, topic: &str, kind: u8, value: &[u8]) -> Vec<u8> {
        let mut payload = topic.as_bytes().to_vec();
        payload.resize(32, 0);
        payload.extend([kind, 0, 0, 0]);
        payload.extend_from_slice(value);
        self.frame(1, &payload)
    }

    pub(super) fn identity(&mut self, firmware: u32) -> Vec<u8> {
        let mut payload = vec![1, 0, 0, 0];
        for word in [0x0100_0000, 7, firmware, 0x0200_0001, 0x0103_0000] {
            payload.extend(u32::to_le_bytes(word));
        }
        self.frame(0, &payload)
    }

    /// The sample `id` was taken at `utc_ns`.
    pub(super) fn time_map(&mut self, id: u64, utc_ns: i64) -> Vec<u8> {
        let since = i128::from(utc_ns) - 1_514_764_800_000_000_000;
        let time = (since * (1 << 30) / 1_000_000_000) as i64;
        let mut payload = vec![4, 0, 0, 0];
        for word in [0, time as u64, id, 2_000_000 << 32] {
            payload.extend(word.to_le_bytes());
        }
        self.frame(0, &payload)
    }
}

/// The value of each sample, told by its signal and position.
pub(super) fn float(port: u8, at: u64) -> f32 {
    (at % 0x40_0000) as f32 * if port == 21 { 1.0 } else { -1.0 }
}

/// One bit of a digital signal.
pub(super) fn bit(port: u8, bit: u64) -> bool {
    (bit ^ u64::from(port)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1
}

/// What the instrument says of its settings.
pub(super) const METADATA: [(&str, &str); 6] = [
    (
        "s/i/range/mode",
        r#"{"dtype":"u32","options":[[0,"auto"],[1,"manual"],[2,"off"]]}"#,
    ),
    (
        "s/i/range/select",
        r#"{"dtype":"u32","options":[[0,"10 A"],[1,"180 mA"],[2,"18 mA"]]}"#,
    ),
    (
        "s/v/range/mode",
        r#"{"dtype":"u32","options":[[0,"auto"],[1,"manual"]]}"#,
    ),
    (
        "s/v/range/select",
        r#"{"dtype":"u32","options":[[0,"15 V"],[1,"2 V"]]}"#,
    ),
    ("c/gpio/vref", r#"{"dtype":"u32","options":[[0,"external"],[1,"3v3"]]}"#),
    ("s/stats/scnt", r#"{"dtype":"u32"}"#),
];

/// What a script does next.
#[derive(Debug)]
pub(super) enum Event {
    /// Bytes of a transfer.
    Transfer(Vec<u8>),
    /// So many frames never come.
    Lose(u16),
    /// So many transfers were missed in all.
    Missed(u64),
    /// The host sleeps for so long.
    Sleep(Duration),
    /// Nothing comes for so long.
    Quiet(Duration),
    Unplug,
    Stop,
    /// Somebody wants these settings.
    Ask(&'static [(&'static str, &'static str)]),
}

/// The instrument's side of a script, and the host's clock.
#[derive(Debug, Default)]
pub(super) struct Instrument {
    pub(super) bytes: Bytes,
    pub(super) events: VecDeque<Event>,
    /// What comes once the last switch is on.
    pub(super) streaming: VecDeque<Event>,
    pub(super) switches: usize,
    pub(super) firmware: u32,
    /// Topics that were set, with the low bytes of their values; requests as `control N`.
    pub(super) told: Vec<(String, u64)>,
    /// Answers to the instrument's questions.
    pub(super) answers: Vec<Vec<u8>>,
    /// The topic that is refused, and with what code.
    pub(super) refused: Option<(&'static str, i32)>,
    /// The topic that is not answered.
    pub(super) mute: Option<&'static str>,
    pub(super) stop: StopToken,
    /// Whom [`Event::Ask`] asks, and what it was told.
    pub(super) controls: Option<Arc<Controls>>,
    pub(super) asked: Vec<Asked>,
    now: Duration,
    slept_ns: i64,
    missed: u64,
    next_id: u16,
    next_in: u16,
}

/// Shared by the script, its link, its clock and the test.
#[derive(Debug, Clone, Default)]
pub(super) struct Script(Arc<Mutex<Instrument>>);

impl Script {
    /// One that answers everything, and has this many switches put on before it streams.
    pub(super) fn new(switches: usize) -> Self {
        let script = Self::default();
        {
            let mut instrument = script.lock();
            (instrument.switches, instrument.firmware) = (switches, 0x0103_0000);
        }
        script
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Instrument> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn found() -> Found {
        Found {
            vendor: 0x16d0,
            product: 0x10ba,
            bus: 1,
            address: 7,
            serial: Ok("001234".into()),
        }
    }
}

impl Clock for Script {
    fn now(&self) -> Duration {
        self.lock().now
    }

    fn utc_ns(&self) -> i64 {
        let instrument = self.lock();
        START_NS + instrument.now.as_nanos() as i64 + instrument.slept_ns
    }
}

impl Usb for Script {
    type Link = Self;

    fn find(&mut self) -> Result<Vec<Found>, UsbError> {
        Ok(vec![Self::found()])
    }

    fn open(&mut self, _: &Found) -> Result<Self, UsbError> {
        Ok(self.clone())
    }
}

impl Instrument {
    fn published(&mut self, payload: &[u8]) {
        let end = payload.iter().position(|byte| *byte == 0).expect("a topic ends");
        let topic = String::from_utf8(payload[..end].to_vec()).expect("a topic is text");
        let value = u64::from_le_bytes(*payload[36..].first_chunk().expect("a scalar has 8 bytes"));
        assert_eq!(payload.len(), 44, "all that is sent here is scalar");
        self.told.push((topic.clone(), value));
        let mut transfer = Vec::new();
        match topic.as_str() {
            "$" => {
                for (topic, json) in METADATA {
                    transfer.extend(self.bytes.message(&format!("{topic}$"), 2, json.as_bytes()));
                }
            }
            "c/!ping" => transfer = self.bytes.message("c/!pong", 10, &value.to_le_bytes()),
            topic if self.mute == Some(topic) => return,
            topic => {
                let code = self
                    .refused
                    .filter(|(refused, _)| *refused == topic)
                    .map_or(0, |(_, code)| code);
                transfer = self
                    .bytes
                    .message(&format!("{topic}#"), 14, &i64::from(code).to_le_bytes());
            }
        }
        // While it streams, before what it sends later.
        if self.switches == 0 {
            self.events.push_front(Event::Transfer(transfer));
        } else {
            self.events.push_back(Event::Transfer(transfer));
        }
        if topic.ends_with("ctrl") && value == 1 {
            self.switches -= 1;
            if self.switches == 0 {
                self.events.append(&mut self.streaming);
            }
        }
    }
}

impl Link for Script {
    fn control_in(&mut self, request: u8, value: u16, index: u16, length: u16) -> Result<Vec<u8>, UsbError> {
        assert_eq!((value, index, length), (0, 0, 1));
        let mut instrument = self.lock();
        instrument.told.push((format!("control {request}"), 0));
        if request == 1 {
            let firmware = instrument.firmware;
            let identity = instrument.bytes.identity(firmware);
            instrument.events.push_back(Event::Transfer(identity));
        }
        // Not connected yet: refused, which has to be ignored.
        Ok(vec![if request == 2 { 9 } else { 0 }])
    }

    fn control_out(&mut self, _: u8, _: u16, _: u16, _: &[u8]) -> Result<(), UsbError> {
        panic!("a JS220 is given nothing by control requests")
    }

    fn start(&mut self) -> Result<(), UsbError> {
        self.lock().told.push(("start".into(), 0));
        Ok(())
    }

    fn bulk_out(&mut self, data: &[u8]) -> Result<(), UsbError> {
        let mut instrument = self.lock();
        let id = u16::from_le_bytes([data[0], data[1]]);
        assert_eq!((id, usize::from(data[2])), (instrument.next_id, data.len() - 4));
        instrument.next_id += 1;
        match data[3] >> 1 {
            0 => instrument.answers.push(data[4..].to_vec()),
            1 => instrument.published(&data[4..]),
            port => panic!("nothing is sent to port {port}"),
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>, wait: Duration) -> Result<bool, UsbError> {
        let mut instrument = self.lock();
        match instrument.events.pop_front() {
            Some(Event::Transfer(mut bytes)) => {
                // Numbered as they leave.
                for frame in bytes.chunks_mut(512) {
                    frame[..2].copy_from_slice(&instrument.next_in.to_le_bytes());
                    instrument.next_in = instrument.next_in.wrapping_add(1);
                }
                instrument.now += Duration::from_micros(100);
                *into = bytes;
                return Ok(true);
            }
            Some(Event::Lose(frames)) => instrument.next_in = instrument.next_in.wrapping_add(frames),
            Some(Event::Missed(count)) => instrument.missed = count,
            Some(Event::Sleep(time)) => instrument.slept_ns += time.as_nanos() as i64,
            Some(Event::Quiet(time)) => instrument.now += time,
            Some(Event::Unplug) => return Err(UsbError::Gone),
            Some(Event::Stop) => instrument.stop.stop(),
            Some(Event::Ask(set)) => {
                let set = set.iter().map(|(key, word)| ((*key).into(), (*word).into())).collect();
                let asked = instrument.controls.as_ref().map(|controls| controls.ask(set));
                let asked = asked.expect("it has controls").expect("they are attended");
                instrument.asked.push(asked);
            }
            None => instrument.now += wait,
        }
        Ok(false)
    }

    fn overruns(&self) -> u64 {
        self.lock().missed
    }
}

/// A piece of one signal: its bytes, or why there are none.
pub(super) type Piece = (Range<u64>, Result<Vec<u8>, Reason>);

/// Keeps everything, of every stream, and asserts that it tiles (I4).
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) next: Vec<u64>,
    /// By stream and signal.
    pub(super) signals: Vec<Vec<Vec<Piece>>>,
    pub(super) gaps: Vec<(usize, Range<u64>, Reason)>,
    pub(super) anchors: Vec<(usize, u64, i64)>,
    pub(super) markers: Vec<(usize, Marker)>,
}

impl Kept {
    /// For streams that start here.
    pub(super) fn new(first: &[u64]) -> Self {
        Self {
            next: first.to_vec(),
            signals: vec![Vec::new(); first.len()],
            ..Self::default()
        }
    }

    /// All samples of a signal, without what is missing.
    pub(super) fn joined(&self, stream: usize, signal: usize) -> Vec<u8> {
        let pieces = self.signals[stream][signal].iter();
        pieces
            .filter_map(|(_, piece)| piece.as_ref().ok())
            .flatten()
            .copied()
            .collect()
    }
}

impl Sink for Kept {
    fn next_sample(&self, stream: usize) -> u64 {
        self.next[stream]
    }

    fn anchor(&mut self, stream: usize, sample: u64, utc_ns: i64) -> Result<(), SinkError> {
        assert!(sample >= self.next[stream], "an anchor comes before its sample");
        self.anchors.push((stream, sample, utc_ns));
        Ok(())
    }

    fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError> {
        let range = block.first_sample..block.first_sample + block.count;
        assert_eq!(range.start, self.next[stream], "I4");
        self.next[stream] = range.end;
        let signals = &mut self.signals[stream];
        signals.resize(block.columns.len(), Vec::new());
        for (signal, column) in signals.iter_mut().zip(block.columns) {
            let piece = match column {
                Column::Raw(bytes) => Ok(bytes.to_vec()),
                Column::F64(values) => Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
                Column::F32(values) => Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
                Column::Absent(reason) => Err(*reason),
                other => panic!("no JS220 delivers {other:?}"),
            };
            signal.push((range.clone(), piece));
        }
        Ok(())
    }

    fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
        assert!(range.start == self.next[stream] && !range.is_empty(), "I4");
        self.next[stream] = range.end;
        self.gaps.push((stream, range, reason));
        Ok(())
    }

    fn marker(&mut self, stream: usize, marker: Marker) -> Result<(), SinkError> {
        assert!(marker.sample >= self.next[stream], "a marker comes before its sample");
        self.markers.push((stream, marker));
        Ok(())
    }
}
