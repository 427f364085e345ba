//! The streams of an open JS220: from the frames of its ports to blocks, gaps and statistics. Pure.
//!
//! | stream | axis | signals |
//! |---|---|---|
//! | analog | 1 MHz, or what instrument and host decimate to | `current`, `voltage` |
//! | digital | 2 MHz | `current_range`, `gpi0` to `gpi3`, `trigger_in` |
//! | statistics | blocks, from 0 on | charge, energy, means, extremes |
//!
//! # Invariants
//! - I4: the axis is that of the instrument's counter: what is missing on it leaves as a gap, or as an absent column, with a reason.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use wavekeep_proto::chunk::Reason;
use wavekeep_proto::stream::{SampleType, Signal};

use super::align::{Lane, Piece};
use super::counters::Counters;
use super::decimate::Decimator;
use super::limits;
use super::sample_id::{Placed, SampleIds};
use super::settings::{FULL_HZ, Js220Signal, Plan};
use super::statistics::Statistics;
use super::time_map::{TICK_HZ, TimeMap};
use crate::source::{Block, Column, StreamShape};

/// Streams have the ports from here on.
pub(super) const FIRST_PORT: u8 = 16;
const PORT_COUNT: usize = 16;
const PORT_STATISTICS: u8 = 30;
/// Ticks of a sample at the full rate of current and voltage.
const ANALOG_TICKS: u32 = (TICK_HZ / FULL_HZ as u64) as u32;
const ID_BYTES: usize = 4;

/// What leaves an instrument, for the sink.
#[derive(Debug)]
pub(super) enum Delivery<'a> {
    Anchor {
        stream: usize,
        sample: u64,
        utc_ns: i64,
    },
    Samples {
        stream: usize,
        block: Block<'a>,
    },
    Gap {
        stream: usize,
        range: Range<u64>,
        reason: Reason,
    },
}

/// When something arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Since some fixed moment.
    pub(super) now: Duration,
    /// By the host's clock.
    pub(super) utc_ns: i64,
}

/// Why samples are missing, as far as the host knows.
#[derive(Debug, Default)]
pub(super) struct Losses {
    overruns: u64,
    overrun_at: Option<Duration>,
    slept: Option<Slept>,
    last: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
struct Slept {
    noticed: Duration,
    length_ns: u64,
}

impl Losses {
    /// Looks at the clocks: the one on the wall also goes while the host sleeps.
    pub(super) fn observe(&mut self, moment: Moment) {
        if let Some(last) = self.last.replace(moment) {
            let passed_ns = moment.now.saturating_sub(last.now).as_nanos();
            let passed_ns = i64::try_from(passed_ns).unwrap_or(i64::MAX);
            let ahead_ns = moment.utc_ns.saturating_sub(last.utc_ns).saturating_sub(passed_ns);
            if i128::from(ahead_ns) > limits::SUSPEND_MIN.as_nanos() as i128 {
                self.slept = Some(Slept {
                    noticed: moment.now,
                    length_ns: ahead_ns.unsigned_abs(),
                });
            }
        }
    }

    /// So many transfers the host has missed in all.
    pub(super) fn missed(&mut self, overruns: u64, now: Duration) {
        if overruns != self.overruns {
            (self.overruns, self.overrun_at) = (overruns, Some(now));
        }
    }

    /// Why so many ticks are missing.
    fn reason(&self, ticks: u64, now: Duration) -> Reason {
        let within = |at: Duration, window| now.saturating_sub(at) <= window;
        let missing_ns = ticks.saturating_mul(1_000_000_000 / TICK_HZ);
        match (self.slept, self.overrun_at) {
            // A clock that was set is not what a short loss comes from.
            (Some(slept), _) if within(slept.noticed, limits::SUSPEND_WINDOW) && missing_ns >= slept.length_ns / 2 => {
                Reason::HostSuspend
            }
            (_, Some(at)) if within(at, limits::OVERRUN_WINDOW) => Reason::UsbOverrun,
            _ => Reason::DeviceOverflow,
        }
    }

    /// Has so much time passed that the lower half of a sample id is not enough?
    fn in_doubt(&self, last: Duration, now: Duration) -> bool {
        let doubt_ns = limits::DOUBT.as_nanos();
        let slept = self
            .slept
            .filter(|slept| slept.noticed >= last && u128::from(slept.length_ns) > doubt_ns);
        slept.is_some() || now.saturating_sub(last) > limits::DOUBT
    }
}

/// One signal's port.
#[derive(Debug)]
struct Port {
    stream: usize,
    place: usize,
    bits: usize,
    /// Of a sample that comes.
    ticks: u64,
    ids: SampleIds,
    last: Option<Duration>,
    /// Where the host decimates further.
    decimator: Option<Decimator>,
    /// After the last sample that came, in ticks.
    end: u64,
}

/// A stream of joined signals.
#[derive(Debug)]
struct Joined {
    lane: Lane,
    signals: Vec<Js220Signal>,
    /// Of a sample that leaves.
    ticks: u64,
    /// The last anchor, by its id.
    anchored: Option<u64>,
}

/// The stream of statistics.
#[derive(Debug)]
struct Blocks {
    samples: u32,
    /// The id at which block 0 starts.
    start: Option<u64>,
    taken: u64,
    waiting: VecDeque<(u64, Statistics, Reason)>,
    delivered: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Streams {
    ports: [Option<Port>; PORT_COUNT],
    joined: Vec<Joined>,
    blocks: Option<Blocks>,
}

impl Streams {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut streams = Self {
            ports: [const { None }; PORT_COUNT],
            joined: Vec::new(),
            blocks: plan.statistics_samples.map(Blocks::new),
        };
        let decimator = (plan.decimate_host > 1).then(|| Decimator::new(plan.filter, plan.decimate_host));
        let signals = |is_analog: bool| {
            let signals = plan.signals.iter().copied();
            signals.filter(move |signal| signal.is_analog() == is_analog).collect()
        };
        let (decimate, host) = (u64::from(plan.decimate), u64::from(plan.decimate_host));
        // The same time, whatever the rate, and what may lie between two frames of a signal.
        let lag = (limits::LAG_SAMPLES / decimate).max(limits::LAG_SAMPLES_MIN) / host;
        let lane = |bits: &[usize]| Lane::new(bits, lag.max(1));
        let ticks = u64::from(ANALOG_TICKS) * decimate;
        streams.join(signals(true), ticks, lane, (host, decimator.as_ref()));
        streams.join(
            signals(false),
            1,
            |bits| Lane::new(bits, limits::LAG_SAMPLES),
            (1, None),
        );
        streams
    }

    /// Samples of so many ticks come; one in `factor` leaves the decimator.
    fn join(
        &mut self,
        signals: Vec<Js220Signal>,
        ticks: u64,
        lane: impl Fn(&[usize]) -> Lane,
        (factor, decimator): (u64, Option<&Decimator>),
    ) {
        if signals.is_empty() {
            return;
        }
        let bits: Vec<_> = signals
            .iter()
            .map(|signal| sample_type(*signal).bits() as usize)
            .collect();
        for ((place, signal), bits) in signals.iter().enumerate().zip(&bits) {
            self.ports[usize::from(signal.port().0 - FIRST_PORT)] = Some(Port {
                stream: self.joined.len(),
                place,
                bits: *bits,
                ticks,
                ids: SampleIds::new(ticks),
                last: None,
                decimator: decimator.cloned(),
                end: 0,
            });
        }
        self.joined.push(Joined {
            lane: lane(&bits),
            signals,
            ticks: ticks * factor,
            anchored: None,
        });
    }

    /// A frame of one of the streams' ports.
    pub(super) fn frame(
        &mut self,
        port: u8,
        payload: &[u8],
        moment: Moment,
        (time, losses): (Option<&TimeMap>, &Losses),
        counters: &mut Counters,
    ) {
        if port == PORT_STATISTICS {
            return match &mut self.blocks {
                Some(blocks) => blocks.take(payload, moment.now, losses, counters),
                None => counters.frames_unasked += 1,
            };
        }
        let Some(port) = self
            .ports
            .get_mut(usize::from(port - FIRST_PORT))
            .and_then(Option::as_mut)
        else {
            counters.frames_unasked += 1;
            return;
        };
        let Some((id, data)) = payload.split_first_chunk::<ID_BYTES>() else {
            counters.samples_odd += 1;
            return;
        };
        let count = (data.len() * 8 / port.bits) as u64;
        if count == 0 {
            counters.samples_odd += 1;
            return;
        }
        let in_doubt = port.last.is_some_and(|last| losses.in_doubt(last, moment.now));
        let expected = time.map(|time| time.counter_at(moment.utc_ns));
        match port.ids.place(u32::from_le_bytes(*id), count, expected, in_doubt) {
            Placed::Samples { first, known, missing } => {
                port.last = Some(moment.now);
                counters.holes += u64::from(missing > 0);
                let reason = losses.reason(missing, moment.now);
                let lane = &mut self.joined[port.stream].lane;
                counters.samples_late += port.push(lane, first / port.ticks, (data, count, known), reason);
            }
            Placed::Old => counters.samples_old += 1,
            Placed::Unplaced => counters.samples_unplaced += 1,
        }
    }

    /// Have all streams begun? Their shapes are known then.
    pub(super) fn begin(&mut self) -> Option<Vec<StreamShape>> {
        let mut shapes = Vec::new();
        for joined in &mut self.joined {
            shapes.push(StreamShape {
                signals: (0..)
                    .zip(&joined.signals)
                    .map(|(number, signal)| definition(number, *signal))
                    .collect(),
                rate_hz: TICK_HZ as f64 / joined.ticks as f64,
                first_sample: joined.lane.begin()?,
            });
        }
        shapes.extend(self.blocks.as_ref().map(|blocks| StreamShape {
            signals: Blocks::signals(),
            rate_hz: f64::from(FULL_HZ) / f64::from(blocks.samples),
            first_sample: 0,
        }));
        Some(shapes)
    }

    /// The signals that have not sent anything yet.
    pub(super) fn silent(&self) -> Vec<&'static str> {
        let silent = |joined: &Joined| {
            let names: Vec<_> = joined.lane.silent().map(|place| joined.signals[place].name()).collect();
            names
        };
        self.joined.iter().flat_map(silent).collect()
    }

    /// Where each stream stands: the sample after what was delivered.
    pub(super) fn next_samples(&self) -> Vec<u64> {
        let joined = self.joined.iter().map(|joined| joined.lane.at().unwrap_or(0));
        joined
            .chain(self.blocks.as_ref().map(|blocks| blocks.delivered))
            .collect()
    }

    /// Which sample of the first stream the instrument takes next, as far as anything has come of it.
    pub(super) fn newest(&self) -> u64 {
        let ports = self.ports.iter().flatten().filter(|port| port.stream == 0);
        let end = ports.map(|port| port.end).max().unwrap_or(0);
        self.joined.first().map_or(0, |joined| end.div_ceil(joined.ticks))
    }

    /// When the sample was taken that the first stream stands at.
    pub(super) fn next_utc_ns(&self, time: Option<&TimeMap>) -> Option<i64> {
        let joined = self.joined.first()?;
        time?.utc_ns(joined.lane.at()? * joined.ticks)
    }

    /// Gives all that is known; at the `last` time, also what is not worth a block yet.
    pub(super) fn deliver<E>(
        &mut self,
        last: bool,
        time: Option<&TimeMap>,
        out: &mut impl FnMut(Delivery<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (stream, joined) in self.joined.iter_mut().enumerate() {
            if let Some((sample, utc_ns)) = joined.anchor(time) {
                out(Delivery::Anchor { stream, sample, utc_ns })?;
            }
            joined.lane.drain(last, &mut |piece| match piece {
                Piece::Samples(block) => out(Delivery::Samples { stream, block }),
                Piece::Gap(range, reason) => out(Delivery::Gap { stream, range, reason }),
            })?;
        }
        let stream = self.joined.len();
        self.blocks
            .as_mut()
            .map_or(Ok(()), |blocks| blocks.deliver(stream, time, out))
    }
}

impl Port {
    /// Of `count` samples those that are not `known`, the first of them at `first`. Answers how many came too late.
    fn push(&mut self, lane: &mut Lane, first: u64, (data, count, known): (&[u8], u64, u64), reason: Reason) -> u64 {
        let taken = count - known;
        self.end = (first + taken) * self.ticks;
        let Some(decimator) = &mut self.decimator else {
            return lane.push(self.place, first, taken, (data, known), reason);
        };
        let (from, to) = (known as usize * self.bits / 8, count as usize * self.bits / 8);
        let outputs = decimator.push(first, &data[from..to], reason);
        lane.expect(self.place, outputs.first);
        match outputs.count() {
            0 => 0,
            count => lane.push(self.place, outputs.first, count, (outputs.bytes, 0), outputs.reason),
        }
    }
}

impl Joined {
    /// Once a second, at the sample that comes next: the instrument's clock drifts against the nominal rate.
    fn anchor(&mut self, time: Option<&TimeMap>) -> Option<(u64, i64)> {
        let sample = self.lane.at()?;
        let id = sample * self.ticks;
        if self
            .anchored
            .is_some_and(|anchored| id < anchored + limits::ANCHOR_TICKS)
        {
            return None;
        }
        let utc_ns = time?.utc_ns(id)?;
        self.anchored = Some(id);
        Some((sample, utc_ns))
    }
}

impl Blocks {
    fn new(samples: u32) -> Self {
        Self {
            samples,
            start: None,
            taken: 0,
            waiting: VecDeque::new(),
            delivered: 0,
        }
    }

    /// What does not fit into 512 bits of a sample is less precise: the extremes, which are single samples of 24 bits themselves.
    fn signals() -> Vec<Signal> {
        let doubles = [
            ("charge", "C"),
            ("energy", "J"),
            ("current_mean", "A"),
            ("voltage_mean", "V"),
            ("power_mean", "W"),
        ];
        let floats = [
            ("current_min", "A"),
            ("current_max", "A"),
            ("voltage_min", "V"),
            ("voltage_max", "V"),
            ("power_min", "W"),
            ("power_max", "W"),
        ];
        let doubles = doubles.map(|(name, unit)| (name, unit, SampleType::F64));
        let all = doubles
            .into_iter()
            .chain(floats.map(|(name, unit)| (name, unit, SampleType::F32)));
        let signal = |(number, (name, unit, sample_type)): (u16, (&str, &str, _))| Signal {
            number,
            name: name.into(),
            sample_type,
            unit: unit.into(),
            finite_only: false,
        };
        (0..).zip(all).map(signal).collect()
    }

    fn take(&mut self, payload: &[u8], now: Duration, losses: &Losses, counters: &mut Counters) {
        let ticks = u64::from(self.samples * ANALOG_TICKS);
        let statistics = Statistics::parse(payload).filter(|statistics| statistics.count == self.samples);
        let place = statistics.and_then(|statistics| {
            let start = *self.start.get_or_insert(statistics.first_id);
            let since = statistics.first_id.checked_sub(start)?;
            // To the nearest: after other settings the blocks may stand elsewhere.
            let block = since.checked_add(ticks / 2)? / ticks;
            (block >= self.taken && self.waiting.len() < limits::STATISTICS_MAX).then_some((block, statistics))
        });
        let Some((block, statistics)) = place else {
            counters.statistics_odd += 1;
            return;
        };
        let missing = block - self.taken;
        self.waiting
            .push_back((block, statistics, losses.reason(missing.saturating_mul(ticks), now)));
        self.taken = block + 1;
    }

    fn deliver<E>(
        &mut self,
        stream: usize,
        time: Option<&TimeMap>,
        out: &mut impl FnMut(Delivery<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((block, statistics, reason)) = self.waiting.pop_front() {
            let range = self.delivered..block;
            self.delivered = block + 1;
            if !range.is_empty() {
                out(Delivery::Gap { stream, range, reason })?;
            }
            if let Some(utc_ns) = time.and_then(|time| time.utc_ns(statistics.first_id)) {
                let sample = block;
                out(Delivery::Anchor { stream, sample, utc_ns })?;
            }
            let (accumulated, means, extremes) = (statistics.accumulated(), statistics.means(), statistics.extremes());
            let doubles = accumulated
                .iter()
                .chain(&means)
                .map(std::slice::from_ref)
                .map(Column::F64);
            let floats = extremes
                .as_flattened()
                .iter()
                .map(std::slice::from_ref)
                .map(Column::F32);
            let columns: Vec<_> = doubles.chain(floats).collect();
            let block = Block {
                first_sample: block,
                count: 1,
                columns: &columns,
            };
            out(Delivery::Samples { stream, block })?;
        }
        Ok(())
    }
}

fn sample_type(signal: Js220Signal) -> SampleType {
    match signal {
        Js220Signal::Current | Js220Signal::Voltage => SampleType::F32,
        Js220Signal::CurrentRange => SampleType::U4,
        _ => SampleType::U1,
    }
}

fn definition(number: u16, signal: Js220Signal) -> Signal {
    Signal {
        number,
        name: signal.name().into(),
        sample_type: sample_type(signal),
        unit: match signal {
            Js220Signal::Current => "A".into(),
            Js220Signal::Voltage => "V".into(),
            _ => String::new(),
        },
        finite_only: false,
    }
}
