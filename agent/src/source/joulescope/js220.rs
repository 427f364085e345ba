//! The JS220, as a machine without I/O, clock or threads: bytes of transfers and time go in, requests and samples come out.
//!
//! What is to be done is a list of steps, done one after the other; each that expects an answer has a deadline.
//!
//! # Invariants
//! - Arbitrary bytes never panic, and make it keep a limited amount at most.
//! - Every setting that is sent is confirmed by the instrument before the next one is sent.
//! - The instrument's questions for the time are answered before anything else is sent.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::counters::Counters;
use super::frame::{self, Frame, FrameIds, PORT_ADMIN, PORT_PUBSUB, PORTS_IGNORED, frames};
use super::limits;
use super::metadata::Metadata;
use super::pubsub::{Message, Role, TOPIC_ALL_METADATA, TOPIC_PING, TOPIC_PONG, publish};
use super::settings::{Plan, Publish, SettingError, Settings};
use super::streams::{Delivery, FIRST_PORT, Losses, Moment, Streams};
use super::time_map::{TimeMap, answer_time};
use super::value::Value;
use crate::source::StreamShape;

const REQUEST_CONNECT: u8 = 1;
const REQUEST_DISCONNECT: u8 = 2;

const OP_CONNECT: u8 = 1;
pub(super) const OP_TIMESYNC: u8 = 3;
const OP_TIMEMAP: u8 = 4;
/// Operation, status and an argument.
const ADMIN_HEAD_BYTES: usize = 4;
/// The major version of the protocol that is spoken here.
const PROTOCOL: u32 = 1;

/// Three numbers of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version(u32);

impl Version {
    /// Is it this one or a later one?
    pub(super) fn at_least(self, [major, minor, patch]: [u8; 3]) -> bool {
        self.0 >= u32::from(major) << 24 | u32::from(minor) << 16 | u32::from(patch)
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 >> 24, self.0 >> 16 & 0xff, self.0 & 0xffff)
    }
}

/// What the instrument says it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    protocol: u32,
    /// Of the program in it.
    pub firmware: Version,
    /// Of its boards.
    pub hardware: Version,
    /// Of the logic in it.
    pub fpga: Version,
}

impl Identity {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let words: Vec<_> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        let [protocol, _, firmware, hardware, fpga] = *words.first_chunk()?;
        Some(Self {
            protocol,
            firmware: Version(firmware),
            hardware: Version(hardware),
            fpga: Version(fpga),
        })
    }
}

#[cfg(test)]
impl Identity {
    /// One with these versions.
    pub(super) fn of(firmware: [u8; 3], fpga: [u8; 3]) -> Self {
        let version = |[major, minor, patch]: [u8; 3]| Version(u32::from_be_bytes([major, minor, 0, patch]));
        Self {
            firmware: version(firmware),
            fpga: version(fpga),
            ..Self::default()
        }
    }
}

/// Why it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Js220Error {
    #[error("it does not answer {0}: unplug it, wait a second and plug it in again")]
    NoAnswer(String),
    #[error("it refuses to be connected (status {0}): unplug it, wait a second and plug it in again")]
    Refused(u8),
    #[error("it speaks version {0} of the protocol, and this agent version 1: look for a newer agent")]
    Protocol(u32),
    #[error("it refuses to set {topic} (code {code}): leave this setting out, or update its firmware")]
    Setting { topic: String, code: i64 },
    #[error(
        "it sends no samples of {0}: unplug it, wait a second and plug it in again; if that does not help, leave them out"
    )]
    NoSamples(String),
    #[error(transparent)]
    Settings(#[from] SettingError),
}

/// What the shell is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// A vendor request that answers one byte: tell [`Js220::answered`].
    Control(u8),
    /// Start bulk pipe IN.
    Start,
    /// One transfer of bulk pipe OUT.
    Send(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Control {
        request: u8,
        must_succeed: bool,
    },
    Start,
    /// The instrument tells what it is.
    Identity,
    /// Messages without an answer of their own.
    Tell {
        topic: String,
        payload: Vec<u8>,
    },
    /// Messages that are confirmed.
    Set {
        topic: String,
        payload: Vec<u8>,
    },
    /// The same while the streams go on, which a refusal does not end.
    Change {
        topic: String,
        payload: Vec<u8>,
    },
    /// Comes back after everything sent before it.
    Fence(u32),
    /// What comes from here on is of the new streams.
    Listen,
    /// Each signal sends something.
    FirstSamples,
}

/// A step that expects an answer, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    step: Step,
    deadline: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Js220 {
    steps: VecDeque<Step>,
    waiting: Option<Waiting>,
    /// Answers to the instrument's questions.
    answers: VecDeque<Vec<u8>>,
    next_frame_id: u16,
    frame_ids: FrameIds,
    identity: Option<Identity>,
    metadata: BTreeMap<String, Metadata>,
    time: Option<TimeMap>,
    losses: Losses,
    plan: Option<Plan>,
    streams: Option<Streams>,
    /// Those that are started next.
    starting: Option<Streams>,
    shapes: Option<Vec<StreamShape>>,
    counters: Counters,
    failed: Option<Js220Error>,
    /// Until when a change has to be confirmed.
    change_deadline: Duration,
    changed: Option<Result<u64, Js220Error>>,
}

impl Js220 {
    /// One that is to be opened.
    pub(super) fn new() -> Self {
        let steps = [
            // What an earlier host left in its queues is flushed by this, and an instrument that was not connected refuses it.
            Step::Control {
                request: REQUEST_DISCONNECT,
                must_succeed: false,
            },
            Step::Start,
            Step::Control {
                request: REQUEST_CONNECT,
                must_succeed: true,
            },
            Step::Identity,
            Step::Tell {
                topic: TOPIC_ALL_METADATA.into(),
                payload: publish(TOPIC_ALL_METADATA, Value::Null),
            },
            Step::Fence(1),
        ];
        Self {
            steps: steps.into(),
            waiting: None,
            answers: VecDeque::new(),
            next_frame_id: 0,
            frame_ids: FrameIds::default(),
            identity: None,
            metadata: BTreeMap::new(),
            time: None,
            losses: Losses::default(),
            plan: None,
            streams: None,
            starting: None,
            shapes: None,
            counters: Counters::default(),
            failed: None,
            change_deadline: Duration::ZERO,
            changed: None,
        }
    }

    /// Sets what was asked for and starts the streams; of an open instrument. What streamed before is stopped first: another rate is
    /// another start.
    pub(super) fn start(&mut self, settings: &Settings) -> Result<(), Js220Error> {
        let identity = self.identity.unwrap_or_default();
        let plan = settings.plan(&identity, &self.metadata)?;
        self.stop();
        for (topic, payload) in &plan.publishes {
            self.steps.push_back(Step::Set {
                topic: topic.clone(),
                payload: payload.clone(),
            });
        }
        self.steps.push_back(Step::Listen);
        self.steps.extend(plan.switches().map(|topic| set(topic, 1)));
        self.steps.push_back(Step::FirstSamples);
        self.starting = Some(Streams::new(&plan));
        self.plan = Some(plan);
        Ok(())
    }

    /// What sets `key` while the streams go on, and all `settings` after that; of an open instrument.
    pub(super) fn plan_change(
        &self,
        settings: &Settings,
        key: &str,
        word: &str,
    ) -> Result<(Settings, Vec<Publish>), SettingError> {
        settings.change(key, word, &self.metadata)
    }

    /// Sends these while the streams go on, one after the other. By `deadline` [`Self::changed`] says how it went; then comes the next.
    pub(super) fn change(&mut self, publishes: Vec<Publish>, deadline: Duration) {
        (self.change_deadline, self.changed) = (deadline, None);
        let steps = publishes
            .into_iter()
            .map(|(topic, payload)| Step::Change { topic, payload });
        self.steps.extend(steps);
    }

    /// How the change went, once, when it is over: from which sample of the first stream on it is confirmed, or why not.
    pub(super) fn changed(&mut self) -> Option<Result<u64, Js220Error>> {
        self.changed.take()
    }

    /// Stops the streams; each stop is confirmed.
    pub(super) fn stop(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.steps.extend(plan.switches().map(|topic| set(topic, 0)));
            // What still comes of them comes before this.
            self.steps.push_back(Step::Fence(2));
        }
        (self.streams, self.shapes) = (None, None);
    }

    /// Whatever it was doing: ends the streams and the connection. It waits for nothing, and nothing is delivered any more.
    pub(super) fn close(&mut self) {
        (self.waiting, self.failed, self.streams, self.starting) = (None, None, None, None);
        self.steps.clear();
        if let Some(plan) = self.plan.take() {
            let tell = |topic: &str| Step::Tell {
                topic: topic.into(),
                payload: publish(topic, Value::U32(0)),
            };
            self.steps.extend(plan.switches().map(tell));
        }
        self.steps.push_back(Step::Control {
            request: REQUEST_DISCONNECT,
            must_succeed: false,
        });
    }

    /// What to do next, if anything. Call it until it answers `None`.
    pub(super) fn next_request(&mut self, now: Duration) -> Option<Request> {
        if let Some(payload) = self.answers.pop_front() {
            return Some(self.send(PORT_ADMIN, &payload));
        }
        if self.waiting.is_some() || self.failed.is_some() {
            return None;
        }
        let step = self.steps.pop_front()?;
        if step == Step::Listen {
            self.streams = self.starting.take();
            return self.next_request(now);
        }
        let deadline = match step {
            Step::FirstSamples => now + limits::FIRST_SAMPLES,
            Step::Change { .. } => self.change_deadline,
            _ => now + limits::ANSWER,
        };
        let request = match &step {
            Step::Control { request, .. } => Some(Request::Control(*request)),
            Step::Start => return Some(Request::Start),
            Step::Tell { payload, .. } => return Some(self.send(PORT_PUBSUB, payload)),
            Step::Set { payload, .. } | Step::Change { payload, .. } => Some(self.send(PORT_PUBSUB, payload)),
            Step::Fence(number) => Some(self.send(PORT_PUBSUB, &publish(TOPIC_PING, Value::U32(*number)))),
            Step::Identity | Step::Listen | Step::FirstSamples => None,
        };
        // It may have told what it is already.
        if step != Step::Identity || self.identity.is_none() {
            self.waiting = Some(Waiting { step, deadline });
            return request;
        }
        self.next_request(now)
    }

    /// The answer to a [`Request::Control`]; `None`: there was none.
    pub(super) fn answered(&mut self, status: Option<u8>) {
        let Some(Step::Control { must_succeed, .. }) = self.waiting.take().map(|waiting| waiting.step) else {
            return;
        };
        match status {
            _ if !must_succeed => {}
            Some(0) => {}
            Some(status) => self.failed = Some(Js220Error::Refused(status)),
            None => self.failed = Some(Js220Error::NoAnswer("a connection".into())),
        }
    }

    /// The bytes of a transfer. `overruns`: transfers that the host has missed so far, in all.
    pub(super) fn transfer(&mut self, bytes: &[u8], overruns: u64, moment: Moment) {
        self.losses.observe(moment);
        self.losses.missed(overruns, moment.now);
        for frame in frames(bytes) {
            match frame {
                Ok(frame) => {
                    self.counters.frames += 1;
                    self.frame_ids.follow(frame.id, &mut self.counters);
                    self.frame(frame, moment);
                }
                Err(odd) => odd.count(&mut self.counters),
            }
        }
    }

    /// Time passes. An error: an answer did not come in time, or was a refusal.
    pub(super) fn tick(&mut self, moment: Moment) -> Result<(), Js220Error> {
        self.losses.observe(moment);
        if self.shapes.is_none() && self.is_at(|step| *step == Step::FirstSamples) {
            self.shapes = self.streams.as_mut().and_then(Streams::begin);
            if self.shapes.is_some() {
                self.waiting = None;
            }
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(late) = self.waiting.as_ref().filter(|waiting| moment.now > waiting.deadline) else {
            return Ok(());
        };
        let error = self.no_answer(&late.step);
        if !matches!(late.step, Step::Change { .. }) {
            return Err(error);
        }
        self.waiting = None;
        self.end_change(Err(error));
        Ok(())
    }

    /// Has it done all that it was told to?
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.steps.is_empty() && self.answers.is_empty()
    }

    /// What is known of it, once it is open.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// The streams, once they have begun.
    pub(super) fn shapes(&self) -> Option<&[StreamShape]> {
        self.shapes.as_deref()
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Where each stream stands.
    pub(super) fn next_samples(&self) -> Vec<u64> {
        self.streams.as_ref().map_or_else(Vec::new, Streams::next_samples)
    }

    /// When the sample was taken that the first stream stands at, if the instrument knows the time.
    pub(super) fn next_utc_ns(&self) -> Option<i64> {
        self.streams.as_ref()?.next_utc_ns(self.time.as_ref())
    }

    /// Gives all samples that there are; at the `last` time, also what is not worth a block yet. Nothing before the streams have begun.
    pub(super) fn deliver<E>(
        &mut self,
        last: bool,
        out: &mut impl FnMut(Delivery<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match (&mut self.streams, &self.shapes) {
            (Some(streams), Some(_)) => streams.deliver(last, self.time.as_ref(), out),
            _ => Ok(()),
        }
    }

    fn send(&mut self, port: u8, payload: &[u8]) -> Request {
        let id = self.next_frame_id;
        self.next_frame_id = id.wrapping_add(1);
        Request::Send(frame::encode(id, port, payload))
    }

    fn frame(&mut self, frame: Frame<'_>, moment: Moment) {
        match frame.port {
            PORT_ADMIN => {
                if self.admin(frame.payload, moment).is_none() {
                    self.counters.admin_odd += 1;
                }
            }
            PORT_PUBSUB => match Message::parse(frame.payload) {
                Some(message) => self.message(&message),
                None => self.counters.messages_odd += 1,
            },
            port if PORTS_IGNORED.contains(&port) => {}
            port if port >= FIRST_PORT => match &mut self.streams {
                Some(streams) => {
                    let context = (self.time.as_ref(), &self.losses);
                    streams.frame(port, frame.payload, moment, context, &mut self.counters);
                }
                None => self.counters.frames_unasked += 1,
            },
            _ => self.counters.frames_unasked += 1,
        }
    }

    /// `None`: it cannot be read.
    fn admin(&mut self, payload: &[u8], moment: Moment) -> Option<()> {
        let (head, bytes) = payload.split_first_chunk::<ADMIN_HEAD_BYTES>()?;
        match head[0] {
            OP_CONNECT => {
                let identity = Identity::parse(bytes)?;
                if identity.protocol >> 24 == PROTOCOL {
                    self.identity = Some(identity);
                } else {
                    self.failed = Some(Js220Error::Protocol(identity.protocol >> 24));
                }
                self.done(|step| *step == Step::Identity);
            }
            OP_TIMESYNC => {
                let answer = answer_time(bytes, moment.utc_ns, moment.utc_ns)?;
                if self.answers.len() < limits::OUTGOING_MAX {
                    self.answers.push_back(answer);
                } else {
                    self.counters.unanswered += 1;
                }
            }
            OP_TIMEMAP => match TimeMap::parse(bytes, moment.utc_ns) {
                Some(map) => self.time = Some(map),
                None => self.counters.time_maps_refused += 1,
            },
            // Its own echo, or what a later firmware has.
            _ => {}
        }
        Some(())
    }

    fn message(&mut self, message: &Message<'_>) {
        match (message.role, message.value) {
            (Role::Metadata, Value::Json(json) | Value::Str(json)) => {
                let metadata = Metadata::parse(json);
                match metadata.filter(|_| self.metadata.len() < limits::TOPICS_MAX) {
                    Some(metadata) => {
                        self.metadata.insert(message.topic.into(), metadata);
                    }
                    None => self.counters.metadata_odd += 1,
                }
            }
            (Role::Ack, value) => self.confirmed(message.topic, value.whole()),
            (Role::Value, value) if message.topic == TOPIC_PONG => {
                self.done(|step| matches!(step, Step::Fence(number) if value.whole() == Some((*number).into())));
            }
            _ => {}
        }
    }

    fn confirmed(&mut self, topic: &str, code: Option<i64>) {
        let is_it = |step: &Step| matches!(step, Step::Set { topic: own, .. } | Step::Change { topic: own, .. } if own == topic);
        let Some(waiting) = self.waiting.take_if(|waiting| is_it(&waiting.step)) else {
            return;
        };
        let refusal = (code != Some(0)).then(|| Js220Error::Setting {
            topic: topic.into(),
            code: code.unwrap_or(-1),
        });
        match (waiting.step, refusal) {
            (Step::Change { .. }, Some(refusal)) => self.end_change(Err(refusal)),
            (Step::Change { .. }, None) if self.steps.is_empty() => {
                let newest = self.streams.as_ref().map_or(0, Streams::newest);
                self.end_change(Ok(newest));
            }
            (_, None) => {}
            (_, refusal) => self.failed = refusal,
        }
    }

    fn end_change(&mut self, result: Result<u64, Js220Error>) {
        self.steps.retain(|step| !matches!(step, Step::Change { .. }));
        self.changed = Some(result);
    }

    fn is_at(&self, is_it: impl Fn(&Step) -> bool) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| is_it(&waiting.step))
    }

    /// The answer came that such a step waits for.
    fn done(&mut self, is_it: impl Fn(&Step) -> bool) {
        if self.is_at(is_it) {
            self.waiting = None;
        }
    }

    fn no_answer(&self, step: &Step) -> Js220Error {
        let silent = || self.streams.as_ref().map_or_else(Vec::new, Streams::silent).join(", ");
        Js220Error::NoAnswer(match step {
            Step::Control { .. } | Step::Identity => "a connection".into(),
            Step::Set { topic, .. } | Step::Change { topic, .. } => format!("when {topic} is set"),
            Step::FirstSamples if self.time.is_none() => "what its time is".into(),
            Step::FirstSamples => return Js220Error::NoSamples(silent()),
            Step::Start | Step::Tell { .. } | Step::Fence(_) | Step::Listen => "what it can do".into(),
        })
    }
}

/// Sets a switch.
fn set(topic: &str, value: u32) -> Step {
    Step::Set {
        topic: topic.into(),
        payload: publish(topic, Value::U32(value)),
    }
}

#[cfg(test)]
#[path = "js220_tests.rs"]
mod tests;
