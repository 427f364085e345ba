//! A connection between an agent and a server: it keeps the order of frames, and may be slow, cut with frames on their way, or
//! go dead without a word. What it carries is the domain's frames; a damaged one goes through the wire's encoding.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wavekeep_proto::frame::{AgentFrame, ServerFrame};
use wavekeep_proto::id::{Owner, StreamId};
use wavekeep_proto::session::Session;
use wavekeep_proto::wire::WireError;

/// On its way to the server.
#[derive(Debug)]
pub(crate) enum Up {
    Frame(Result<AgentFrame, WireError>),
    Closed,
}

/// On its way to the agent.
#[derive(Debug)]
pub(crate) enum Down {
    Frame(ServerFrame),
    Closed,
}

/// What a server's shell knows of a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotOwner {
    pub(crate) stream: StreamId,
    pub(crate) owner: Owner,
}

/// What is to be done to the next chunk, or ack, that is sent.
#[derive(Debug, Default)]
pub(crate) struct Mischief {
    /// Bits of the next chunk's frame flip on the way.
    pub(crate) damage: bool,
    /// The next chunk is not what an honest agent would send.
    pub(crate) chunk: bool,
    /// The next ack is not what an honest server would send.
    pub(crate) ack: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) agent: usize,
    pub(crate) agent_life: u32,
    pub(crate) server: usize,
    pub(crate) server_life: u32,
    /// The agent's end is open.
    pub(crate) agent_open: bool,
    /// The server's end; `None` once it is closed.
    pub(crate) session: Option<Session>,
    pub(crate) slots: BTreeMap<u32, SlotOwner>,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
    up_at: Duration,
    down_at: Duration,
    /// Arrived, and not read yet: the server reads while its session lets it.
    pub(crate) inbox: VecDeque<Up>,
    /// Nothing that is sent from now on arrives.
    pub(crate) severed: bool,
    /// Delay of a frame, from and to, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    pub(crate) mischief: Mischief,
    /// A frame was tampered with: what either side says of the other is explained.
    pub(crate) tampered: bool,
}

impl Link {
    pub(crate) fn new(agent: (usize, u32), server: (usize, u32), now: Duration, delay_ms: (u64, u64)) -> Self {
        Self {
            agent: agent.0,
            agent_life: agent.1,
            server: server.0,
            server_life: server.1,
            agent_open: true,
            session: Some(Session::new(now)),
            slots: BTreeMap::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_at: now,
            down_at: now,
            inbox: VecDeque::new(),
            severed: false,
            delay_ms,
            mischief: Mischief::default(),
            tampered: false,
        }
    }

    /// When what is sent now arrives: never before what was sent earlier.
    pub(crate) fn arrival_up(&mut self, sent_at: Duration, delay: Duration) -> Duration {
        self.up_at = self.up_at.max(sent_at + delay);
        self.up_at
    }

    pub(crate) fn arrival_down(&mut self, sent_at: Duration, delay: Duration) -> Duration {
        self.down_at = self.down_at.max(sent_at + delay);
        self.down_at
    }
}
