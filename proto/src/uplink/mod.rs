//! The sending half of the protocol, across reconnects: a state machine over the [`Outbox`].
//!
//! The shell connects, carries frames and keeps the time; the machine decides everything else. `poll` until it answers
//! `None`, hand in what happens (`connected`, `received`, `disconnected`), poll again; wake it at [`Uplink::next_timeout`].
//!
//! # Invariants
//! - I2: per open slot acked ≤ sent ≤ stored, asserted at each move of a cursor; what an ack claims is checked, never asserted.
//! - I3: bytes in flight never pass the last window by sending. What is in flight when a window shrinks stays.
//! - I5: acked moves only by an ack, or an `Opened`, whose digest is the one stored with that seq.
//!
//! Losing the link drops the slots, and with them `sent`: the next `Opened` says where to go on. There is no resend loop.

mod alarm;
mod opened;
mod outbox;
mod pace;
mod receive;
mod send;
mod slot;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use alarm::Alarm;
pub use outbox::{Held, Outbox, StreamView};

use crate::backoff::Backoff;
use crate::codec::Encoding;
use crate::frame::{AgentFrame, Hello};
use crate::id::StreamId;
use crate::limits;
use pace::Pace;
use slot::{Pending, Slot};

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Connect and start a session; answer with `connected` or `disconnected`.
    Connect,
    /// Send this frame.
    Send(AgentFrame),
    /// Close the session; `disconnected` has already been dealt with.
    Disconnect {
        /// For people.
        why: String,
    },
    /// Samples of a live source are acknowledged: measure how long that took.
    Acked {
        /// UTC of the end of the last of them.
        end_utc_ns: i64,
    },
    /// Tell people, and count.
    Alarm(Alarm),
}

/// What does not change while an agent runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// A name for people.
    pub agent: String,
    /// Where its streams belong.
    pub workspace: String,
    /// Most bytes per second to send, if limited.
    pub upload_limit_bytes: Option<u64>,
    /// Seeds the jitter of back-off.
    pub seed: u64,
}

/// Where the link stands, for status and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Waiting for the back-off to pass.
    Down,
    /// `Connect` was given out, or `Hello` is not answered yet.
    Connecting,
    /// A session is up.
    Up,
    /// The server said goodbye; acks are awaited.
    Draining,
}

#[derive(Debug)]
enum Link {
    Down { retry_at: Duration },
    Connecting,
    Greeting { since: Duration },
    Up(Box<Session>),
}

/// One session, from `Welcome` on.
#[derive(Debug)]
struct Session {
    slots: BTreeMap<u32, Slot>,
    last_slot: u32,
    slots_max: u32,
    window_bytes: u64,
    in_flight_bytes: u64,
    /// Read from the outbox, waiting for the window or the pace.
    pending: Option<Pending>,
    /// The slot whose turn it was last: the window is shared round robin, or the last stream would starve.
    turn: u32,
    last_received: Duration,
    last_heartbeat: Duration,
    heartbeat: Duration,
    /// When the watermark of anything in flight last moved. A duplicate ack does not count.
    last_progress: Duration,
    /// When the `Open`s that are not answered have waited too long: each answer is a sign that the others' are coming.
    answer_by: Duration,
    goaway: Option<Duration>,
}

impl Session {
    /// For the next ack: the chunk that is under way may be of any size, up to all that is in flight.
    fn ack_ms(&self) -> u64 {
        limits::ACK_MS + limits::link_ms(self.in_flight_bytes.min(limits::CHUNK_BYTES_MAX as u64))
    }
}

/// What outlives a session, per stream.
#[derive(Debug, Default)]
struct StreamState {
    slot: Option<u32>,
    /// It had something to send when the session began: it is opened before those that are held back alone.
    has_news: bool,
    backoff: Backoff,
    open_at: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Uplink {
    config: Config,
    link: Link,
    backoff: Backoff,
    random: u64,
    streams: BTreeMap<StreamId, StreamState>,
    revision: Option<u64>,
    outgoing: VecDeque<AgentFrame>,
    alarms: VecDeque<Alarm>,
    /// UTC of the ends of acked chunks, for [`Action::Acked`].
    acked_utc_ns: VecDeque<i64>,
    disconnect: Option<String>,
    pace: Pace,
    polled_at: Duration,
    acked_chunks: u64,
}

impl Uplink {
    /// Not connected; the first `poll` says `Connect`.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            pace: Pace::new(config.upload_limit_bytes),
            random: config.seed,
            config,
            link: Link::Down {
                retry_at: Duration::ZERO,
            },
            backoff: Backoff::default(),
            streams: BTreeMap::new(),
            revision: None,
            outgoing: VecDeque::new(),
            alarms: VecDeque::new(),
            acked_utc_ns: VecDeque::new(),
            disconnect: None,
            polled_at: Duration::ZERO,
            acked_chunks: 0,
        }
    }

    /// Where the link stands.
    #[must_use]
    pub fn link_state(&self) -> LinkState {
        match &self.link {
            Link::Down { .. } => LinkState::Down,
            Link::Connecting | Link::Greeting { .. } => LinkState::Connecting,
            Link::Up(session) if session.goaway.is_some() => LinkState::Draining,
            Link::Up(_) => LinkState::Up,
        }
    }

    /// Bytes sent and not yet acked.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        match &self.link {
            Link::Up(session) => session.in_flight_bytes,
            _ => 0,
        }
    }

    /// The window last received; 0 without a session.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        match &self.link {
            Link::Up(session) => session.window_bytes,
            _ => 0,
        }
    }

    /// Is the stream open in this session: did the server say where it stands?
    #[must_use]
    pub fn is_open(&self, stream: StreamId) -> bool {
        let Link::Up(session) = &self.link else { return false };
        let slot = self.streams.get(&stream).and_then(|state| state.slot);
        slot.and_then(|slot| session.slots.get(&slot))
            .is_some_and(Slot::is_open)
    }

    /// The connection is there: say hello.
    pub fn connected<O: Outbox>(&mut self, now: Duration, outbox: &O) {
        if !matches!(self.link, Link::Connecting) {
            return;
        }
        self.outgoing.clear();
        self.outgoing.push_back(AgentFrame::Hello(Hello {
            version_min: limits::VERSION_MIN,
            version_max: limits::VERSION_MAX,
            agent: self.config.agent.clone(),
            agent_id: outbox.agent_id(),
            workspace: self.config.workspace.clone(),
            encodings: Encoding::SUPPORTED.to_vec(),
            ledger_id: outbox.ledger_id(),
        }));
        self.link = Link::Greeting { since: now };
    }

    /// The link is gone, or never came: sent := acked, by dropping every slot.
    pub fn disconnected(&mut self, now: Duration) {
        if matches!(self.link, Link::Down { .. }) {
            return;
        }
        let delay = self.next_delay();
        self.link_down(now + delay);
    }

    fn link_down(&mut self, retry_at: Duration) {
        self.link = Link::Down { retry_at };
        self.outgoing.clear();
        self.disconnect = None;
        for state in self.streams.values_mut() {
            state.slot = None;
            state.open_at = Duration::ZERO;
        }
    }

    /// The next thing to do, or `None` until something happens.
    pub fn poll<O: Outbox>(&mut self, now: Duration, outbox: &O) -> Result<Option<Action>, O::Error> {
        if let Some(alarm) = self.alarms.pop_front() {
            return Ok(Some(Action::Alarm(alarm)));
        }
        if let Some(end_utc_ns) = self.acked_utc_ns.pop_front() {
            return Ok(Some(Action::Acked { end_utc_ns }));
        }
        if let Some(action) = self.poll_deadlines(now) {
            return Ok(Some(action));
        }
        if let Some(frame) = self.outgoing.pop_front() {
            return Ok(Some(Action::Send(frame)));
        }
        match self.link {
            Link::Down { retry_at } if now >= retry_at => {
                self.link = Link::Connecting;
                Ok(Some(Action::Connect))
            }
            Link::Up(_) => self.poll_session(now, outbox),
            _ => Ok(None),
        }
    }

    /// Has something been waited for for too long? For a shell whose transport takes no frames now: all else would find no room.
    pub fn poll_deadlines(&mut self, now: Duration) -> Option<Action> {
        self.forgive_stall(now);
        self.polled_at = now;
        self.check_deadlines(now);
        let why = self.disconnect.take()?;
        self.disconnected(now);
        Some(Action::Disconnect { why })
    }

    /// While we ourselves were stalled, nobody read what the server said.
    fn forgive_stall(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.polled_at);
        if let Link::Up(session) = &mut self.link
            && gap >= Duration::from_millis(limits::STALL_MS)
        {
            session.last_received = (session.last_received + gap).min(now);
            session.last_progress = (session.last_progress + gap).min(now);
            session.answer_by += gap;
        }
    }

    fn check_deadlines(&mut self, now: Duration) {
        let late = |since: Duration, limit_ms: u64| now.saturating_sub(since) >= Duration::from_millis(limit_ms);
        let why = match &self.link {
            Link::Greeting { since } if late(*since, limits::ANSWER_MS) => "the server did not answer Hello",
            Link::Up(session) => {
                let unanswered = now >= session.answer_by && session.opening() > 0;
                if late(session.last_received, limits::SILENCE_MS) {
                    "the server went silent"
                } else if unanswered {
                    "the server did not answer Open"
                } else if session.in_flight_bytes > 0 && late(session.last_progress, session.ack_ms()) {
                    "the server acknowledges nothing"
                } else if session
                    .goaway
                    .is_some_and(|deadline| session.in_flight_bytes == 0 || now >= deadline)
                {
                    "the server drained this session"
                } else {
                    return;
                }
            }
            _ => return,
        };
        self.disconnect.get_or_insert_with(|| why.into());
    }

    /// When to poll even if nothing happens.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        let after = |since: Duration, ms: u64| since + Duration::from_millis(ms);
        match &self.link {
            Link::Down { retry_at } => Some(*retry_at),
            Link::Connecting => None,
            Link::Greeting { since } => Some(after(*since, limits::ANSWER_MS)),
            Link::Up(session) => Some(self.next_session_timeout(session)),
        }
    }

    fn next_session_timeout(&self, session: &Session) -> Duration {
        let after = |since: Duration, ms: u64| since + Duration::from_millis(ms);
        let progress = (session.in_flight_bytes > 0).then(|| after(session.last_progress, session.ack_ms()));
        let answer = (session.opening() > 0).then_some(session.answer_by);
        // What is due and still waits, waits for something else than time: a window, a free slot.
        let later = |at: &Duration| *at > self.polled_at;
        let waiting = self
            .streams
            .values()
            .filter(|state| state.slot.is_none())
            .map(|state| state.open_at)
            .filter(later);
        let pace = session
            .pending
            .as_ref()
            .and_then(|_| self.pace.ready_at())
            .filter(later);
        [
            after(session.last_received, limits::SILENCE_MS),
            session.last_heartbeat + session.heartbeat,
        ]
        .into_iter()
        .chain(progress)
        .chain(answer)
        .chain(waiting)
        .chain(pace)
        .chain(session.goaway)
        .fold(Duration::MAX, Duration::min)
    }

    /// Chunks acked since the start, for metrics.
    #[must_use]
    pub fn acked_chunks(&self) -> u64 {
        self.acked_chunks
    }

    fn next_random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn next_delay(&mut self) -> Duration {
        let random = self.next_random();
        self.backoff.next(random)
    }
}
