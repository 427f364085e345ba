//! The receiving half of the protocol: one agent's session with a server, as a state machine.
//!
//! The shell carries frames, asks the ledger and hands chunks to the writers; the machine decides. Hand in what happens
//! (`received`, `admitted`, `opened`, `committed`, `fenced`, …), then take [`Session::next_action`] until it answers `None`.
//!
//! # Invariants
//! - I2: per open slot committed ≤ accepted, asserted; a chunk is accepted only where it continues what was accepted (I4, I14).
//! - I6: an ack names only what `committed`, or `opened`, reported.
//! - I12: accepted bytes and chunks are bounded by the window and `limits::ACCEPTED_CHUNKS_MAX`; acks waiting are one per slot.
//!
//! Losing the server sets accepted := committed, by losing the machine: the agent's next `Open` asks the ledger.

mod accept;
mod slot;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::chunk::{Chunk, Position};
use crate::code::Code;
use crate::frame::{Ack, AgentFrame, Hello, Open, Opened, Refused, ServerFrame, SlotStatus, Welcome};
use crate::id::{Hash, LedgerId, SessionId};
use crate::limits;
use crate::wire::WireError;
use slot::{Slot, State};

/// Which ledger a session is about, and which copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerState {
    /// Minted with the workspace's schema, and the same in every copy.
    pub id: LedgerId,
    /// Rises with each promotion of a copy; 0: not known.
    pub generation: u64,
}

/// What the shell is to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// May this agent come in? Answer with `admitted` or `refuse_session`.
    Admit(Hello),
    /// Take the stream's row; answer with `opened` or `refuse_slot`.
    Open(Open),
    /// Accepted: hand it to the stream's writer; answer with `committed`, `fenced` or `refuse_session`.
    Accept {
        /// The slot; its owner is the shell's to know.
        slot: u32,
        /// What the stream stood at before it.
        before: Position,
        /// The chunk; `before` plus its header is where the stream stands after it.
        chunk: Chunk,
    },
    /// Send it.
    Send(ServerFrame),
    /// What the agent holds, for lag and reconciliation.
    Status(Vec<SlotStatus>),
    /// Close the session after what was sent.
    Close,
}

#[derive(Debug, PartialEq)]
enum Phase {
    Greeting,
    Admitting { version: u32 },
    Up,
    Closed,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    slots: BTreeMap<u32, Slot>,
    last_slot: u32,
    /// The last window sent, and the largest of this session: what an agent sent before it heard of a smaller one stays.
    window_bytes: u64,
    window_believed_bytes: u64,
    in_flight_bytes: u64,
    /// Of these, what slots accepted that are still open: what the agent counts too.
    in_open_slots_bytes: u64,
    in_flight_chunks: usize,
    acks: BTreeMap<u32, (u64, Hash)>,
    actions: VecDeque<Action>,
    last_received: Duration,
    last_sent: Duration,
    last_tick: Duration,
    draining: bool,
}

impl Session {
    /// Waits for `Hello`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Greeting,
            slots: BTreeMap::new(),
            last_slot: 0,
            window_bytes: 0,
            window_believed_bytes: 0,
            in_flight_bytes: 0,
            in_open_slots_bytes: 0,
            in_flight_chunks: 0,
            acks: BTreeMap::new(),
            actions: VecDeque::new(),
            last_received: now,
            last_sent: now,
            last_tick: now,
            draining: false,
        }
    }

    /// May the shell read on? It stops at the window, so that memory is bounded whatever an agent does.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.phase != Phase::Closed
            && !self.draining
            && (self.in_flight_bytes < self.window_bytes || self.phase != Phase::Up)
            && self.in_flight_chunks < limits::ACCEPTED_CHUNKS_MAX
    }

    /// Bytes accepted and not yet committed.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Is it over? The shell closes the stream once the actions are done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// While draining: is all that was accepted committed, and acked?
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.in_flight_chunks == 0 && self.acks.is_empty() && self.actions.is_empty()
    }

    /// The next thing to do. Acks come last, one per slot, so that a burst of commits is one frame.
    pub fn next_action(&mut self, now: Duration) -> Option<Action> {
        let action = self.actions.pop_front().or_else(|| {
            let (slot, (watermark, digest)) = self.acks.pop_first()?;
            Some(Action::Send(ServerFrame::Ack(Ack {
                slot,
                watermark,
                digest,
                window_bytes: self.window_bytes,
            })))
        });
        if matches!(action, Some(Action::Send(_))) {
            self.last_sent = now;
        }
        action
    }

    /// Time passed: heartbeats, and silence.
    pub fn tick(&mut self, now: Duration) {
        let since = |then: Duration| now.saturating_sub(then);
        if self.phase == Phase::Closed {
            return;
        }
        let stalled = since(self.last_tick) >= Duration::from_millis(limits::STALL_MS);
        self.last_tick = now;
        if !self.may_read() || stalled {
            // What is not read is not silence.
            self.last_received = now;
        }
        let silence_ms = match self.phase {
            Phase::Up => limits::AGENT_SILENCE_MS,
            _ => limits::SILENCE_MS,
        };
        if since(self.last_received) >= Duration::from_millis(silence_ms) {
            // Of all that ends a session, what passes by itself: the link may be better next time.
            self.refuse_session(Code::SlowReader, "the agent went silent, or its link is too slow");
        } else if self.phase == Phase::Up && since(self.last_sent) >= Duration::from_millis(limits::HEARTBEAT_MS) {
            self.actions.push_back(Action::Send(ServerFrame::Heartbeat {
                window_bytes: self.window_bytes,
            }));
            self.last_sent = now;
        }
    }

    /// The shell does not read, for reasons of its own: that is not the agent's silence.
    pub fn paused(&mut self, now: Duration) {
        self.last_received = now;
    }

    /// A frame arrived, or bytes that are not one.
    pub fn received(&mut self, now: Duration, frame: Result<AgentFrame, WireError>) {
        if self.phase == Phase::Closed || self.draining {
            return;
        }
        self.last_received = now;
        match (frame, &self.phase) {
            (Ok(AgentFrame::Hello(hello)), Phase::Greeting) => self.on_hello(hello),
            (Ok(AgentFrame::Open(open)), Phase::Up) => self.on_open(open),
            (Ok(AgentFrame::Chunk { slot, chunk }), Phase::Up) => self.on_chunk(slot, chunk),
            (Ok(AgentFrame::Heartbeat(status)), Phase::Up) => self.actions.push_back(Action::Status(status)),
            (Err(WireError::Chunk { slot, fault }), Phase::Up) => self.on_fault(slot, &fault),
            (Err(WireError::Definition { slot, what }), Phase::Up) => self.on_bad_definition(slot, what),
            (Err(error @ WireError::Damaged), _) => self.refuse_session(Code::Damaged, &error.to_string()),
            (Err(error), _) => self.refuse_session(Code::Protocol, &error.to_string()),
            (Ok(_), _) => self.refuse_session(Code::Protocol, "a frame that is not for now"),
        }
    }

    fn on_hello(&mut self, hello: Hello) {
        let version = hello.version_max.min(limits::VERSION_MAX);
        if version < hello.version_min.max(limits::VERSION_MIN) {
            let message = format!(
                "the agent speaks versions {} to {}, this server {} to {}: upgrade the older one",
                hello.version_min,
                hello.version_max,
                limits::VERSION_MIN,
                limits::VERSION_MAX
            );
            return self.refuse_session(Code::Version, &message);
        }
        self.phase = Phase::Admitting { version };
        self.actions.push_back(Action::Admit(hello));
    }

    /// The agent may come in.
    pub fn admitted(&mut self, ledger: LedgerState, session_id: SessionId, window_bytes: u64) {
        let Phase::Admitting { version } = self.phase else {
            return;
        };
        self.phase = Phase::Up;
        self.set_window(window_bytes);
        self.actions.push_back(Action::Send(ServerFrame::Welcome(Welcome {
            version,
            window_bytes: self.window_bytes,
            ledger_id: ledger.id,
            chunk_bytes_max: limits::CHUNK_BYTES_MAX as u64,
            slots_max: limits::SLOTS_MAX,
            heartbeat_ms: limits::HEARTBEAT_MS,
            session_id,
            generation: ledger.generation,
        })));
    }

    /// The memory budget moved. The agent hears of it with the next ack or heartbeat.
    pub fn set_window(&mut self, window_bytes: u64) {
        assert!(
            window_bytes >= limits::WINDOW_BYTES_MIN,
            "I12: a window holds the largest chunk"
        );
        self.window_bytes = window_bytes;
        self.window_believed_bytes = self.window_believed_bytes.max(window_bytes);
    }

    fn on_open(&mut self, open: Open) {
        if open.slot <= self.last_slot {
            return self.refuse_session(Code::Protocol, "slot numbers only rise");
        }
        self.last_slot = open.slot;
        if self.slots.len() >= limits::SLOTS_MAX as usize {
            return self.push_refused(
                open.slot,
                Code::TooManySlots,
                "too many streams are open in this session",
            );
        }
        if let Err(error) = open.definition.validate() {
            return self.push_refused(open.slot, Code::InvalidDefinition, &error.to_string());
        }
        let labels_fit = open.labels.len() <= limits::LABELS_MAX
            && open
                .labels
                .iter()
                .all(|(key, value)| key.len().max(value.len()) <= limits::LABEL_BYTES_MAX);
        if !labels_fit || open.run.len() > limits::NAME_BYTES_MAX || open.stored_seq > limits::SEQ_MAX {
            return self.push_refused(
                open.slot,
                Code::InvalidDefinition,
                "labels or run are too many or too long",
            );
        }
        self.slots.insert(
            open.slot,
            Slot {
                definition: open.definition.clone(),
                state: State::Opening,
                in_flight_bytes: 0,
            },
        );
        self.actions.push_back(Action::Open(open));
    }

    fn on_bad_definition(&mut self, slot: u32, what: &str) {
        if slot <= self.last_slot {
            return self.refuse_session(Code::Protocol, "slot numbers only rise");
        }
        self.last_slot = slot;
        self.push_refused(slot, Code::InvalidDefinition, what);
    }

    /// The ledger took the stream's row for this session: `Opened` is an ack.
    pub fn opened(&mut self, slot: u32, at: Position, row: Option<(u64, Hash)>) {
        let Some(Slot {
            state: state @ State::Opening,
            ..
        }) = self.slots.get_mut(&slot)
        else {
            return;
        };
        *state = State::Open {
            accepted: at,
            committed: at.seq,
        };
        self.actions
            .push_back(Action::Send(ServerFrame::Opened(Opened { slot, at, row })));
    }

    /// The stream cannot be opened, or its slot broke a rule: the slot closes, its frames are dropped.
    pub fn refuse_slot(&mut self, slot: u32, code: Code, message: &str) {
        if let Some(closed) = self.slots.remove(&slot) {
            self.in_open_slots_bytes -= closed.in_flight_bytes;
            self.acks.remove(&slot);
            self.push_refused(slot, code, message);
        }
    }

    fn push_refused(&mut self, slot: u32, code: Code, message: &str) {
        let refused = Refused {
            slot,
            code,
            message: message.into(),
        };
        self.actions.push_back(Action::Send(ServerFrame::Refused(refused)));
    }

    /// The session is over: say why, close. What was accepted may still commit; the agent's next `Open` will say.
    pub fn refuse_session(&mut self, code: Code, message: &str) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.acks.clear();
        self.push_refused(0, code, message);
        self.actions.push_back(Action::Close);
    }

    /// Say goodbye: nothing more is read, what was accepted is committed and acked.
    pub fn drain(&mut self, deadline_ms: u64, reason: &str) {
        if self.draining || self.phase == Phase::Closed {
            return;
        }
        self.draining = true;
        let reason = reason.to_owned();
        self.actions
            .push_back(Action::Send(ServerFrame::Goaway { deadline_ms, reason }));
    }
}
