//! The shell of one session: it takes one event, hands it with the time to the pure machine of `wavekeep_proto::session`, and
//! performs the actions that the machine returns.
//!
//! # Invariants
//! - I7: chunks of a slot are handed on with the owner that its `Open` claimed; see `slots`.
//! - I12: nothing is read while the window, the server's memory or the agent's own reading does not allow it; see `outgoing`,
//!   `asking` and `registry`. So an agent that does not read its acks stops itself, and is disconnected.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tracing::{Span, debug, info, warn};
use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::code::Code;
use wavekeep_proto::frame::{Hello, Open, Refused, ServerFrame, SlotStatus};
use wavekeep_proto::id::{LedgerId, SessionId};
use wavekeep_proto::limits;
use wavekeep_proto::session::{Action, Session};
use wavekeep_proto::{v1, wire};

use super::asking::{Answer, Asking, new_owner, random_id};
use super::inbound;
use super::outgoing::{Outgoing, Sent};
use super::registry::{Conditions, Seat};
use super::shared::Shared;
use super::slots::Slots;
use super::ticket::{Accepted, Reply, Ticket, footprint_bytes};
use super::writer::Writers;
use crate::ledger::{Ledger, LedgerState, OpenError, OpenRequest, OpenedRow};
use crate::limits::{IDLE_AFTER, REPORT_INTERVAL};
use crate::telemetry::{code_label, counter};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(250);

/// One session; see the module's documentation.
pub(super) struct Shell<L: Ledger> {
    shared: Arc<Shared<L>>,
    id: SessionId,
    machine: Session,
    started: Instant,
    age_max: Duration,
    tick: Interval,
    conditions: watch::Receiver<Conditions>,
    ledger_generation: u64,
    drain_until: Option<Instant>,
    outgoing: Outgoing,
    asking: Asking<L>,
    answer_to: mpsc::Sender<Reply>,
    replies: mpsc::Receiver<Reply>,
    slots: Slots,
    workspace: String,
    /// Its name for people.
    agent: String,
    /// When what it says of its streams was last written down.
    last_report: Option<Duration>,
    writers: Option<Writers>,
    seat: Option<Seat>,
    /// When the last chunk came.
    last_chunk: Duration,
    /// The connection is gone: nothing can be said any more.
    gone: bool,
    /// The agent has sent its last frame.
    inbound_over: bool,
}

enum Event {
    Frame(Option<Result<Box<v1::AgentFrame>, Status>>),
    Reply(Option<Reply>),
    Answer(Answer),
    Outgoing { there: bool },
    Conditions,
    Tick,
}

impl<L: Ledger> Shell<L> {
    /// And what the connection is to send.
    pub(super) fn new(shared: Arc<Shared<L>>) -> (Self, mpsc::Receiver<Sent>) {
        let (outgoing, sent) = Outgoing::new();
        let (answer_to, replies) = mpsc::channel(limits::ACCEPTED_CHUNKS_MAX);
        let conditions = shared.registry.conditions();
        let ledger_generation = conditions.borrow().ledger_generation;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let id = SessionId(random_id());
        let age_max = jittered(shared.config.connection_age_max);
        let shell = Self {
            id,
            machine: Session::new(Duration::ZERO),
            started: Instant::now(),
            age_max,
            tick,
            conditions,
            ledger_generation,
            drain_until: None,
            outgoing,
            asking: Asking::new(shared.ledger.clone()),
            answer_to,
            replies,
            slots: Slots::default(),
            workspace: String::new(),
            agent: String::new(),
            last_report: None,
            writers: None,
            seat: None,
            last_chunk: Duration::ZERO,
            gone: false,
            inbound_over: false,
            shared,
        };
        (shell, sent)
    }

    /// For the span of all that it logs.
    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// Runs it to its end. Without a seat it only says so.
    pub(super) async fn run<S>(mut self, seat: Option<Seat>, mut inbound: S)
    where
        S: Stream<Item = Result<v1::AgentFrame, Status>> + Unpin + Send,
    {
        counter::SESSIONS_STARTED.add(1);
        self.seat = seat;
        match &self.seat {
            Some(_) => self.on_conditions(),
            None => {
                let most = self.shared.registry.sessions_max();
                let message = format!("this server's memory holds no more than {most} sessions: come back later");
                self.machine.refuse_session(Code::Busy, &message);
            }
        }
        self.perform();
        while !self.is_over() {
            let event = self.next_event(&mut inbound).await;
            self.handle(event);
            self.perform();
        }
        let seconds = self.started.elapsed().as_secs();
        info!(seconds, slots = self.slots.len(), "session over");
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn is_over(&self) -> bool {
        let drained = self.machine.is_drained() && !self.outgoing.is_blocked();
        self.gone || self.machine.is_closed() || drained
    }

    /// Is there room for another frame of the agent's?
    fn may_read(&self) -> bool {
        let room = !self.outgoing.is_blocked() && {
            let (conditions, held) = (self.conditions.borrow(), self.machine.in_flight_bytes());
            // A share may be smaller than a chunk: one is always let in.
            !conditions.memory_full && (held == 0 || held < conditions.share_bytes)
        };
        room && !self.inbound_over && self.machine.may_read()
    }

    async fn next_event<S>(&mut self, inbound: &mut S) -> Event
    where
        S: Stream<Item = Result<v1::AgentFrame, Status>> + Unpin + Send,
    {
        let may_read = self.may_read();
        tokio::select! {
            frame = inbound.next(), if may_read => Event::Frame(frame.map(|frame| frame.map(Box::new))),
            reply = self.replies.recv() => Event::Reply(reply),
            answer = self.asking.next() => Event::Answer(answer),
            there = self.outgoing.progress() => Event::Outgoing { there },
            Ok(()) = self.conditions.changed() => Event::Conditions,
            _ = self.tick.tick() => Event::Tick,
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Frame(Some(Ok(frame))) => self.machine.received(now, wire::agent_frame(*frame)),
            Event::Frame(Some(Err(status))) => self.on_unreadable(&status),
            Event::Frame(None) => {
                self.inbound_over = true;
                self.drain("the agent ended the session");
            }
            Event::Reply(Some(reply)) => self.on_reply(reply),
            Event::Reply(None) => unreachable!("the session holds a sender of its own replies"),
            Event::Answer(Answer::Admitted(answer)) => self.on_admitted(answer),
            Event::Answer(Answer::Opened { slot, result }) => self.on_opened(slot, result),
            Event::Answer(Answer::Reported(Err(error))) => debug!(%error, "what the agent says was not written down"),
            Event::Answer(Answer::Reported(Ok(()))) => {}
            Event::Conditions => self.on_conditions(),
            Event::Tick => self.on_tick(now),
            Event::Outgoing { there } => self.gone = !there,
        }
    }

    fn on_unreadable(&mut self, status: &Status) {
        if inbound::is_broken_connection(status) {
            info!(why = status.message(), "the connection broke");
            self.gone = true;
        } else {
            let message = format!("the frame cannot be read: {}", status.message());
            self.machine.refuse_session(Code::Protocol, &message);
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Committed {
                slot,
                watermark,
                digest,
                bytes,
                chunks,
            } => self.machine.committed(slot, watermark, digest, bytes, chunks),
            Reply::Fenced { slot, bytes, chunks } => self.machine.fenced(slot, bytes, chunks),
            Reply::Lost { bytes, chunks, message } => self.machine.lost(bytes, chunks, &message),
        }
    }

    fn on_conditions(&mut self) {
        let conditions = *self.conditions.borrow_and_update();
        self.machine.set_window(conditions.window_bytes);
        if conditions.ledger_generation != self.ledger_generation {
            let message = "the connection to the database broke: open your streams again";
            self.machine.refuse_session(Code::LedgerUnavailable, message);
        }
        if let Some(until) = conditions.drain_until
            && self.drain_until.is_none_or(|mine| mine > until)
        {
            self.drain_until = Some(until);
            self.drain("this server is stopping: connect again");
        }
    }

    fn on_tick(&mut self, now: Duration) {
        if !self.may_read() {
            self.machine.paused(now);
        }
        self.machine.tick(now);
        let is_idle = self.machine.in_flight_bytes() == 0 && now.saturating_sub(self.last_chunk) >= IDLE_AFTER;
        if let Some(seat) = self.seat.as_mut().filter(|_| is_idle) {
            seat.set_hot(false);
        }
        let slow = |since: Instant| since.elapsed() >= self.shared.config.slow_reader;
        if self.outgoing.blocked_since().is_some_and(slow) {
            let message = "the agent does not read its acks";
            self.machine.refuse_session(Code::SlowReader, message);
        }
        if now >= self.age_max {
            self.drain("this connection is old: connect again, perhaps to a newer server");
        }
        if self.drain_until.is_some_and(|until| Instant::now() >= until) {
            self.machine
                .refuse_session(Code::Busy, "the server gave up waiting for the last commits");
        }
    }

    /// Goodbye: what was accepted is committed and acked, within the time that there is.
    fn drain(&mut self, reason: &str) {
        let until = *self
            .drain_until
            .get_or_insert_with(|| Instant::now() + self.shared.config.drain);
        let left = until.saturating_duration_since(Instant::now());
        self.machine
            .drain(u64::try_from(left.as_millis()).unwrap_or(u64::MAX), reason);
    }

    fn on_admitted(&mut self, answer: Result<LedgerId, OpenError>) {
        match answer {
            Ok(ledger_id) => {
                self.writers = Some(self.shared.writers(&self.workspace));
                let window_bytes = self.conditions.borrow().window_bytes;
                let ledger = LedgerState {
                    id: ledger_id,
                    generation: self.shared.ledger.generation(),
                };
                self.machine.admitted(ledger, self.id, window_bytes);
                info!("session up");
            }
            Err(OpenError::UnknownWorkspace(name)) => {
                let message = format!(
                    "there is no workspace {name:?}: create it with `wavekeep-server workspace create {name}`, or give the agent another --workspace"
                );
                self.machine.refuse_session(Code::UnknownWorkspace, &message);
            }
            Err(other) => self.machine.refuse_session(Code::LedgerUnavailable, &other.to_string()),
        }
    }

    fn on_opened(&mut self, slot: u32, result: Result<OpenedRow, OpenError>) {
        match result {
            Ok(OpenedRow { at, row }) => {
                if let Some(open) = self.slots.get(slot) {
                    let (stream, device) = (open.definition.id, &open.definition.device);
                    info!(slot, %stream, device, watermark = at.seq, "stream opened");
                }
                self.machine.opened(slot, at, row);
            }
            Err(error @ OpenError::DefinitionMismatch(_)) => {
                self.machine
                    .refuse_slot(slot, Code::DefinitionMismatch, &error.to_string());
            }
            // About this stream alone: the others go on.
            Err(error @ OpenError::BadData(_)) => {
                self.machine
                    .refuse_slot(slot, Code::InvalidDefinition, &error.to_string());
            }
            Err(error @ OpenError::Locked(_)) => self.machine.refuse_slot(slot, Code::Fenced, &error.to_string()),
            Err(OpenError::UnknownWorkspace(name)) => {
                let message = format!("workspace {name:?} is gone");
                self.machine.refuse_session(Code::UnknownWorkspace, &message);
            }
            Err(error @ OpenError::Unavailable(_)) => {
                counter::LEDGER_ERRORS.add_of("kind", "open", 1);
                self.machine.refuse_session(Code::LedgerUnavailable, &error.to_string());
            }
        }
    }

    /// All that the machine wants, until a frame finds no room.
    fn perform(&mut self) {
        while self.machine.is_closed() || !self.outgoing.is_blocked() {
            let now = self.now();
            match self.machine.next_action(now) {
                None | Some(Action::Close) => return,
                Some(Action::Admit(hello)) => self.admit(&hello),
                Some(Action::Open(open)) => self.open(open),
                Some(Action::Accept { slot, before, chunk }) => self.accept(slot, before, chunk),
                Some(Action::Status(status)) => self.on_status(&status),
                Some(Action::Send(ServerFrame::Refused(refused))) => self.refuse(&refused),
                Some(Action::Send(_)) if self.outgoing.is_blocked() => {}
                Some(Action::Send(frame)) => self.outgoing.send(&frame),
            }
        }
    }

    /// The agent says how it stands: that goes into the metrics, and once in a while into the database.
    fn on_status(&mut self, status: &[SlotStatus]) {
        inbound::observe(status);
        let now = self.now();
        if self.last_report.is_some_and(|last| now < last + REPORT_INTERVAL) {
            return;
        }
        let reports = inbound::reports(status, &self.slots);
        if !reports.is_empty() && self.asking.report(&self.agent, reports) {
            self.last_report = Some(now);
        }
    }

    fn admit(&mut self, hello: &Hello) {
        let span = Span::current();
        self.agent = hello.agent.chars().take(100).collect();
        span.record("agent", &self.agent);
        span.record("agent_id", hello.agent_id.to_string());
        span.record("workspace", hello.workspace.chars().take(100).collect::<String>());
        self.workspace.clone_from(&hello.workspace);
        if self.conditions.borrow().ledger_up {
            self.asking.admit(&self.workspace);
        } else {
            let message = "the database does not answer: come back later";
            self.machine.refuse_session(Code::LedgerUnavailable, message);
        }
    }

    fn open(&mut self, open: Open) {
        let owner = new_owner();
        let slot = open.slot;
        if let Err(error) = self.slots.insert(&open, owner) {
            return self.machine.refuse_slot(slot, Code::TooManySlots, &error.to_string());
        }
        let request = OpenRequest {
            definition: open.definition,
            labels: open.labels,
            run: open.run,
            stored_seq: open.stored_seq,
            owner,
        };
        self.asking.open(slot, request);
    }

    fn accept(&mut self, number: u32, before: Position, chunk: Chunk) {
        let slot = self.slots.get(number);
        let slot = slot.expect("I7: a chunk is accepted only in an open slot, and it was opened here");
        self.last_chunk = self.now();
        if let Some(seat) = &mut self.seat {
            seat.set_hot(true);
        }
        let chunk = inbound::unshared(chunk);
        let bytes = chunk.flow_bytes();
        counter::ACCEPTED_CHUNKS.add(1);
        counter::ACCEPTED_BYTES.add(bytes);
        let charge = self.shared.registry.charge(footprint_bytes(&chunk));
        let accepted = Accepted {
            definition: slot.definition.clone(),
            owner: slot.owner,
            before,
            chunk,
            ticket: Ticket::new(self.answer_to.clone(), number, bytes, charge),
        };
        let writers = self
            .writers
            .as_ref()
            .expect("a slot is opened only in a session that was admitted");
        if let Err(error) = writers.accept(accepted) {
            self.machine.refuse_session(Code::Busy, &error.to_string());
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        let Refused { slot, code, message } = refused;
        counter::REFUSALS.add_of("code", code_label(*code), 1);
        if *slot == 0 {
            warn!(?code, message, "session refused");
            return self.outgoing.send_last(refused);
        }
        let closed = self.slots.remove(*slot);
        self.asking.forget(*slot);
        let stream = closed.map(|slot| (slot.definition.id.to_string(), slot.definition.device.clone()));
        let (stream, device) = stream.unwrap_or_default();
        warn!(slot, ?code, message, stream, device, "slot refused");
        if !self.outgoing.is_blocked() {
            self.outgoing.send(&ServerFrame::Refused(refused.clone()));
        }
    }
}

/// Between three quarters of it and all of it: connections that came together do not leave together.
fn jittered(age_max: Duration) -> Duration {
    let [first, second, ..] = random_id();
    age_max * 3 / 4 + age_max / 4 * u32::from(u16::from_le_bytes([first, second])) / 65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_came_together_do_not_leave_together() {
        let age_max = Duration::from_secs(480);
        let ages: std::collections::BTreeSet<Duration> = (0..1_000).map(|_| jittered(age_max)).collect();
        assert!(ages.iter().all(|age| (age_max * 3 / 4..=age_max).contains(age)));
        assert!(ages.len() > 900, "{} ages of a thousand connections", ages.len());
        let (first, last) = (ages.first().expect("a thousand"), ages.last().expect("a thousand"));
        assert!(*last - *first > age_max / 5, "from {first:?} to {last:?}");
    }
}
