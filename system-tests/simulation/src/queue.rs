//! What is going to happen, in order of virtual time; what happens at the same time, in the order in which it was decided.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::faults::Fault;

/// Something that happens to one party. `life` names the process it was meant for: a later one is not concerned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// An agent's machine asked to be polled now.
    AgentWake {
        agent: usize,
        life: u32,
    },
    /// An agent's outbox releases what it may.
    Maintain {
        agent: usize,
        life: u32,
    },
    /// A connection is there, or does not come.
    Connected {
        agent: usize,
        life: u32,
        server: usize,
    },
    /// A source has something.
    Capture {
        agent: usize,
        life: u32,
        source: usize,
    },
    /// The next frame of a link arrives.
    Upward {
        link: usize,
    },
    Downward {
        link: usize,
    },
    /// One end of a link notices that it is cut.
    ServerNotices {
        link: usize,
    },
    AgentNotices {
        link: usize,
    },
    /// Time passes for a session.
    SessionTick {
        link: usize,
    },
    /// A drained session's patience ends.
    DrainEnds {
        link: usize,
    },
    /// A writer takes what has gathered.
    Write {
        server: usize,
        life: u32,
        writer: usize,
    },
    /// The database does a transaction; its answer arrives.
    Apply {
        transaction: u64,
    },
    Answer {
        transaction: u64,
    },
    /// A replica is where the primary is now.
    Replicate,
    /// A server finds the new primary.
    Follow {
        server: usize,
        life: u32,
    },
    /// A process starts again.
    AgentStarts {
        agent: usize,
        life: u32,
    },
    ServerStarts {
        server: usize,
        life: u32,
    },
    /// Something bad.
    Fault(Fault),
    /// The bad things stop.
    Calm,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    order: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Duration, event: Event) {
        self.order += 1;
        self.heap.push(Reverse((at, self.order, event)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Duration, Event)> {
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }
}
