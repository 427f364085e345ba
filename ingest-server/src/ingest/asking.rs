//! A session's questions to the ledger: may this agent come in, and where does this stream stand? They are asked in tasks, so that
//! the session goes on meanwhile; the answers come back as events.
//!
//! # Invariants
//! - I7: the owner of an `Open` is new, and random; two that run at once cannot share a stream.
//! - I12: at most [`OPENS_MAX`] run at a time, the rest wait; those of a slot that closes are forgotten, so there are at most
//!   `limits::SLOTS_MAX` of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use wavekeep_proto::id::{LedgerId, Owner};
use wavekeep_proto::limits;

use crate::ledger::{Ledger, OpenError, OpenRequest, OpenedRow, Report};
use crate::telemetry::histogram;

/// Opens of one session that the ledger is asked at a time: an agent with a thousand streams must not take every connection.
pub(crate) const OPENS_MAX: usize = 4;
/// Shorter than an agent's patience.
const ANSWER_LIMIT: Duration = Duration::from_millis(limits::ANSWER_MS * 4 / 5);

/// What the ledger said.
#[derive(Debug)]
#[allow(missing_docs)]
pub(super) enum Answer {
    Admitted(Result<LedgerId, OpenError>),
    Opened {
        slot: u32,
        result: Result<OpenedRow, OpenError>,
    },
    Reported(Result<(), OpenError>),
}

/// 128 random bits.
pub(super) fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the operating system has random bytes");
    id
}

/// A claim on a stream's row.
#[must_use]
pub(super) fn new_owner() -> Owner {
    Owner(random_id())
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Asking<L> {
    ledger: Arc<L>,
    workspace: Arc<str>,
    running: JoinSet<Answer>,
    waiting: VecDeque<(u32, OpenRequest)>,
}

impl<L: Ledger> Asking<L> {
    /// Nothing yet.
    #[must_use]
    pub(super) fn new(ledger: Arc<L>) -> Self {
        Self {
            ledger,
            workspace: "".into(),
            running: JoinSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Asks for the workspace's ledger id; opens will be in it.
    pub(super) fn admit(&mut self, workspace: &str) {
        self.workspace = workspace.into();
        let (ledger, workspace) = (self.ledger.clone(), self.workspace.clone());
        self.running
            .spawn(async move { Answer::Admitted(in_time(ledger.ledger_id(&workspace)).await) });
    }

    /// Asks for a stream's row, now or when others are answered.
    pub(super) fn open(&mut self, slot: u32, request: OpenRequest) {
        self.waiting.push_back((slot, request));
        self.start();
    }

    /// Has what an agent says of its streams written down; not while as much is asked as may be, since it will say it again. Answers
    /// whether it is under way.
    pub(super) fn report(&mut self, agent: &str, reports: Vec<Report>) -> bool {
        if self.running.len() >= OPENS_MAX || !self.waiting.is_empty() {
            return false;
        }
        let (ledger, workspace, agent) = (self.ledger.clone(), self.workspace.clone(), agent.to_owned());
        self.running
            .spawn(async move { Answer::Reported(in_time(ledger.report(&workspace, &agent, &reports)).await) });
        true
    }

    /// The slot is closed: its question, if it still waits, is not asked any more.
    pub(super) fn forget(&mut self, slot: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != slot);
    }

    fn start(&mut self) {
        while self.running.len() < OPENS_MAX
            && let Some((slot, request)) = self.waiting.pop_front()
        {
            let (ledger, workspace) = (self.ledger.clone(), self.workspace.clone());
            self.running.spawn(async move {
                let since = Instant::now();
                let result = in_time(ledger.open(&workspace, request)).await;
                histogram::OPEN_SECONDS.record(since.elapsed().as_secs_f64());
                Answer::Opened { slot, result }
            });
        }
    }

    /// The next answer; waits for ever when nothing is asked. Cancel-safe.
    pub(super) async fn next(&mut self) -> Answer {
        let Some(answer) = self.running.join_next().await else {
            return std::future::pending().await;
        };
        self.start();
        // A panic of ours: its slot is not known any more, and the session cannot go on.
        answer.unwrap_or_else(|error| Answer::Admitted(Err(OpenError::Unavailable(error.to_string()))))
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, OpenError>>) -> Result<T, OpenError> {
    match tokio::time::timeout(ANSWER_LIMIT, question).await {
        Ok(answer) => answer,
        Err(_) => Err(OpenError::Unavailable(format!("no answer within {ANSWER_LIMIT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ingest::fixtures;
    use crate::ledger::{CommitError, Entry};

    /// A database that never answers.
    struct Mute;

    impl Ledger for Mute {
        async fn ledger_id(&self, _workspace: &str) -> Result<LedgerId, OpenError> {
            std::future::pending().await
        }
        async fn open(&self, _workspace: &str, _request: OpenRequest) -> Result<OpenedRow, OpenError> {
            std::future::pending().await
        }
        async fn commit(&self, _workspace: &str, _entries: &[Entry]) -> Result<Vec<bool>, CommitError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn i12_what_closed_slots_asked_does_not_pile_up() {
        let mut asking = Asking::new(Arc::new(Mute));
        // An agent that opens, breaks a rule and opens again, while the database is slow.
        for slot in 1..=1000 {
            let request = OpenRequest {
                definition: Arc::new(fixtures::definition(1)),
                labels: BTreeMap::new(),
                run: String::new(),
                stored_seq: 0,
                owner: new_owner(),
            };
            asking.open(slot, request);
            asking.forget(slot);
        }
        assert_eq!((asking.running.len(), asking.waiting.len()), (OPENS_MAX, 0));
    }
}
