//! The ledger behind the servers: [`crate::database`] as one primary and its copies, reached over connections that may be slow, break,
//! or lose an answer. What was sent may be done after its server is gone.
//!
//! # Invariants
//! - I6: a commit answers `Ok` only after it was done; whatever else happened, it says so, or that it does not know.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wavekeep_proto::id::LedgerId;
use wavekeep_server::ingest::watch::Probe;
use wavekeep_server::ledger::{self, CommitError, Ledger, OpenError};

use super::stage::{Due, Shared, Stage, lock};
use crate::database::{Entry, OpenRequest, OpenedRow};
use crate::log::log;

const LEDGER: LedgerId = LedgerId([7; 16]);

/// What was sent to the database.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Open(OpenRequest),
    Commit(Vec<Entry>),
}

/// What comes back.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Opened(Option<OpenedRow>),
    Stored(Vec<bool>),
    /// Certainly not done.
    RolledBack,
    /// Nobody knows.
    Unknown,
}

/// On its way.
#[derive(Debug)]
pub(super) struct Transaction {
    server: usize,
    life: u32,
    branch: usize,
    work: Work,
    /// `None`: never.
    apply_at: Option<Duration>,
    answer_at: Duration,
    done: Option<Answer>,
    waiting: Option<oneshot::Sender<Answer>>,
}

/// A server's view of the database.
pub(super) struct ModelLedger {
    pub(super) shared: Shared,
    pub(super) server: usize,
}

impl ModelLedger {
    async fn ask(&self, work: Work) -> Answer {
        let answer = lock(&self.shared).begin(self.server, work);
        answer.await.unwrap_or(Answer::Unknown)
    }
}

fn unavailable() -> OpenError {
    OpenError::Unavailable("the simulated database does not answer".into())
}

impl Ledger for ModelLedger {
    async fn ledger_id(&self, _workspace: &str) -> Result<LedgerId, OpenError> {
        let wait = lock(&self.shared).database_latency();
        tokio::time::sleep(wait).await;
        let reachable = lock(&self.shared).is_reachable(self.server);
        if reachable { Ok(LEDGER) } else { Err(unavailable()) }
    }

    fn generation(&self) -> u64 {
        lock(&self.shared).servers[self.server].branch as u64 + 1
    }

    async fn open(&self, _workspace: &str, request: ledger::OpenRequest) -> Result<ledger::OpenedRow, OpenError> {
        let id = request.definition.id;
        let request = OpenRequest {
            definition: request.definition,
            stored_seq: request.stored_seq,
            owner: request.owner,
            link: 0,
            slot: 0,
        };
        match self.ask(Work::Open(request)).await {
            Answer::Opened(Some(row)) => Ok(ledger::OpenedRow {
                at: row.at,
                row: row.row,
            }),
            Answer::Opened(None) => Err(OpenError::DefinitionMismatch(id)),
            _ => Err(unavailable()),
        }
    }

    async fn commit(&self, _workspace: &str, entries: &[ledger::Entry]) -> Result<Vec<bool>, CommitError> {
        let quarantined = entries
            .iter()
            .flat_map(|entry| &entry.rows)
            .find_map(|row| row.quarantine.clone());
        if let Some(quarantine) = quarantined {
            let text = format!("I14: an honest chunk is quarantined: {}", quarantine.why);
            lock(&self.shared).world.oracle.break_with(text);
        }
        let entry = |entry: &ledger::Entry| Entry {
            stream: entry.stream,
            owner: entry.owner,
            before: entry.before,
            after: entry.after,
            chunks: entry.rows.iter().map(|row| Arc::new(row.chunk.clone())).collect(),
            link: 0,
            slot: 0,
            flow_bytes: 0,
        };
        match self.ask(Work::Commit(entries.iter().map(entry).collect())).await {
            Answer::Stored(stored) => Ok(stored),
            Answer::RolledBack => Err(CommitError::Unavailable("the simulated database rolled back".into())),
            _ => Err(CommitError::Ambiguous("the simulated connection broke".into())),
        }
    }
}

/// The connection that a server keeps to see whether the primary is the same.
pub(super) struct ModelProbe {
    pub(super) shared: Shared,
    pub(super) server: usize,
}

impl Probe for ModelProbe {
    async fn primary(&mut self) -> Result<String, String> {
        let wait = lock(&self.shared).database_latency();
        tokio::time::sleep(wait).await;
        let stage = lock(&self.shared);
        if stage.is_reachable(self.server) {
            Ok(format!("copy {}", stage.servers[self.server].branch))
        } else {
            Err("the simulated connection broke".into())
        }
    }
}

impl Stage {
    fn is_reachable(&self, server: usize) -> bool {
        self.world.now >= self.servers[server].unreachable_until
    }

    fn database_latency(&mut self) -> Duration {
        let world = &mut self.world;
        let (low, high) = world.plan.database_ms;
        let slow = world.now < world.database_slow_until;
        world.random.ms(low, if slow { high + 6_000 } else { high })
    }

    fn begin(&mut self, server: usize, work: Work) -> oneshot::Receiver<Answer> {
        let (waiting, answer) = oneshot::channel();
        if !self.is_reachable(server) {
            // Nobody listens at the other end.
            let _ = waiting.send(Answer::RolledBack);
            return answer;
        }
        let apply_at = self.world.now + self.database_latency();
        let answer_at = apply_at + self.database_latency();
        self.last_transaction += 1;
        let place = &self.servers[server];
        let transaction = Transaction {
            server,
            life: place.life,
            branch: place.branch,
            work,
            apply_at: Some(apply_at),
            answer_at,
            done: None,
            waiting: Some(waiting),
        };
        let is_commit = matches!(transaction.work, Work::Commit(_));
        self.transactions.insert(self.last_transaction, transaction);
        if let Some(rolls_back) = self.next_commit.filter(|_| is_commit) {
            self.next_commit = None;
            self.break_commit(self.last_transaction, rolls_back);
        }
        answer
    }

    /// Does what is due, in the order in which it is due.
    pub(super) fn turn_database(&mut self) {
        let now = self.world.now;
        let due = |(id, transaction): (&u64, &Transaction)| {
            let at = transaction
                .apply_at
                .filter(|at| *at <= now && transaction.done.is_none());
            at.map(|at| (at, *id))
        };
        let mut ids: Vec<(Duration, u64)> = self.transactions.iter().filter_map(due).collect();
        ids.sort_unstable();
        for (_, id) in ids {
            self.apply(id);
        }
        for transaction in self.transactions.values_mut().filter(|one| one.answer_at <= now) {
            if let Some(waiting) = transaction.waiting.take() {
                // Who asked may be gone.
                let _ = waiting.send(transaction.done.clone().unwrap_or(Answer::Unknown));
            }
        }
        self.transactions.retain(|_, transaction| {
            let to_come = transaction.done.is_none() && transaction.apply_at.is_some();
            transaction.waiting.is_some() || to_come
        });
    }

    fn apply(&mut self, id: u64) {
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        let world = &mut self.world;
        let branch = transaction.branch;
        let is_primary = branch + 1 == world.branches.len();
        let late = transaction.life != self.servers[transaction.server].life || transaction.waiting.is_none();
        let copy = &mut world.branches[branch];
        let done = match &transaction.work {
            Work::Open(request) => {
                let opened = copy.open(request);
                world.oracle.opened(branch, is_primary, request, opened);
                Answer::Opened(opened)
            }
            Work::Commit(entries) => {
                let stored = copy.commit(entries);
                world.oracle.committed(branch, is_primary, entries, &stored);
                world.counters.late_commits += u64::from(late);
                world.counters.commits += 1;
                world.counters.widest_batch += entries.len() as u64;
                world.counters.fenced += stored.iter().filter(|stored| !**stored).count() as u64;
                Answer::Stored(stored)
            }
        };
        log!(
            world,
            "server {} {}: {done:?}",
            transaction.server,
            describe(&transaction.work)
        );
        transaction.done = Some(done);
    }

    /// All that a server's connections carry is lost to it; each transaction may be done already, later, or never.
    pub(super) fn orphan_transactions(&mut self, server: usize) {
        let ids: Vec<u64> = self.transactions.keys().copied().collect();
        for id in ids {
            self.lose_answer(id, Some(server));
        }
    }

    fn lose_answer(&mut self, id: u64, of_server: Option<usize>) {
        let random = &mut self.world.random;
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        if of_server.is_some_and(|server| server != transaction.server) {
            return;
        }
        let Some(waiting) = transaction.waiting.take() else {
            return;
        };
        if transaction.done.is_none() {
            match random.below(3) {
                0 => transaction.apply_at = None,
                1 => transaction.apply_at = Some(self.world.now + random.ms(0, 20_000)),
                _ => {}
            }
        }
        let _ = waiting.send(Answer::Unknown);
    }

    /// One commit that is on its way, or the next one, is not answered, or is rolled back.
    pub(super) fn break_transaction(&mut self, rolls_back: bool) {
        let waiting = |(_, transaction): &(&u64, &Transaction)| {
            transaction.done.is_none() && transaction.waiting.is_some() && matches!(transaction.work, Work::Commit(_))
        };
        let ids: Vec<u64> = self.transactions.iter().filter(waiting).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            self.next_commit = Some(rolls_back);
            return;
        }
        let id = *self.world.random.pick(&ids);
        self.break_commit(id, rolls_back);
    }

    fn break_commit(&mut self, id: u64, rolls_back: bool) {
        if !rolls_back {
            self.world.counters.ambiguous_commits += 1;
            return self.lose_answer(id, None);
        }
        if let Some(transaction) = self.transactions.get_mut(&id) {
            transaction.apply_at = None;
            transaction.done = Some(Answer::RolledBack);
        }
    }

    /// A server's connections to the database break, and it gets no others for a while.
    pub(super) fn break_database_of(&mut self, server: usize, until: Duration) {
        self.orphan_transactions(server);
        let place = &mut self.servers[server];
        place.unreachable_until = place.unreachable_until.max(until);
    }

    /// Some servers notice another primary at once; others go on with the old one for a while, and so do its acks.
    pub(super) fn primary_changed(&mut self) {
        for server in 0..self.servers.len() {
            let wait = if self.world.random.once_in(2) {
                Duration::ZERO
            } else {
                self.world.random.ms(0, 15_000)
            };
            self.plan_in(wait, Due::Follow(server));
        }
    }

    pub(super) fn follow(&mut self, server: usize) {
        let primary = self.world.branches.len() - 1;
        let old = std::mem::replace(&mut self.servers[server].branch, primary);
        if old != primary {
            let left = self.world.branches[old].clone();
            self.world.keep_replica(left);
            self.break_database_of(server, self.world.now);
        }
    }
}

fn describe(work: &Work) -> String {
    match work {
        Work::Open(request) => format!("opens {}", crate::log::stream(request.definition.id)),
        Work::Commit(entries) => {
            let entry = |entry: &Entry| {
                let name = crate::log::stream(entry.stream);
                format!("{name} {}..{}", entry.before.seq + 1, entry.after.seq)
            };
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("commits {}", entries.join(", "))
        }
    }
}
