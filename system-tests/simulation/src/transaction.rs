//! Transactions on their way through the database, and what becomes of their answers.
//!
//! A transaction is done at one moment and answered at a later one. Either may fail alone: the answer is lost though the
//! transaction was, or will be, done (ambiguous, or late, commit); or it is rolled back.

use std::time::Duration;

use wavekeep_proto::code::Code;

use crate::database::{Entry, OpenRequest, OpenedRow};
use crate::queue::Event;
use crate::world::World;

/// What is asked of the database.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Open(OpenRequest),
    Commit { writer: usize, entries: Vec<Entry> },
}

/// How far it came.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    Waiting,
    Opened(Option<OpenedRow>),
    Stored(Vec<bool>),
    RolledBack,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) work: Work,
    pub(crate) server: usize,
    pub(crate) life: u32,
    /// The copy of the database that its connection leads to.
    pub(crate) branch: usize,
    pub(crate) apply_at: Duration,
    pub(crate) fate: Fate,
    /// Its answer is an error, whatever it did.
    pub(crate) unanswered: bool,
    /// Nobody waits for it any more.
    pub(crate) orphan: bool,
}

impl World {
    pub(crate) fn submit(&mut self, server: usize, work: Work) -> u64 {
        let (low, high) = self.plan.database_ms;
        let mut latency = self.random.ms(low, high);
        if self.now < self.database_slow_until {
            latency += self.random.ms(500, 70_000);
        }
        self.last_transaction += 1;
        let id = self.last_transaction;
        let apply_at = self.now + latency.mul_f64(0.6);
        let transaction = Transaction {
            work,
            server,
            life: self.servers[server].life,
            branch: self.servers[server].branch,
            apply_at,
            fate: Fate::Waiting,
            unanswered: false,
            orphan: false,
        };
        self.transactions.insert(id, transaction);
        self.queue.push(apply_at, Event::Apply { transaction: id });
        self.queue.push(self.now + latency, Event::Answer { transaction: id });
        id
    }

    pub(crate) fn on_apply(&mut self, id: u64) {
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        if !matches!(transaction.fate, Fate::Waiting) || transaction.apply_at > self.now {
            return;
        }
        let primary = self.branches.len() - 1;
        let copy = &mut self.branches[transaction.branch];
        if transaction.orphan {
            self.counters.late_commits += u64::from(matches!(transaction.work, Work::Commit { .. }));
        }
        match &transaction.work {
            Work::Open(request) => {
                let opened = copy.open(request);
                self.oracle
                    .opened(transaction.branch, transaction.branch == primary, request, opened);
                transaction.fate = Fate::Opened(opened);
            }
            Work::Commit { entries, .. } => {
                let stored = copy.commit(entries);
                self.oracle
                    .committed(transaction.branch, transaction.branch == primary, entries, &stored);
                self.counters.fenced += stored.iter().filter(|stored| !**stored).count() as u64;
                self.counters.commits += 1;
                transaction.fate = Fate::Stored(stored);
            }
        }
        if transaction.orphan {
            self.transactions.remove(&id);
        }
    }

    pub(crate) fn on_answer(&mut self, id: u64) {
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        if transaction.orphan || transaction.life != self.servers[transaction.server].life {
            return;
        }
        // Not done, and nothing known of it: the connection is lost, and it may still be done.
        let waiting = matches!(transaction.fate, Fate::Waiting);
        transaction.orphan = true;
        let server = transaction.server;
        let failed = transaction.unanswered || waiting || matches!(transaction.fate, Fate::RolledBack);
        let (work, fate) = if waiting {
            (transaction.work.clone(), Fate::Waiting)
        } else {
            let Some(done) = self.transactions.remove(&id) else {
                return;
            };
            (done.work, done.fate)
        };
        match work {
            Work::Open(request) => self.answer_open(server, &request, if failed { None } else { Some(fate) }),
            Work::Commit { writer, entries } => {
                let stored = match fate {
                    Fate::Stored(stored) if !failed => Some(stored),
                    _ => None,
                };
                self.answer_commit(server, writer, &entries, stored.as_deref());
            }
        }
    }

    fn answer_open(&mut self, server: usize, request: &OpenRequest, fate: Option<Fate>) {
        let (link, slot) = (request.link, request.slot);
        if let Some(session) = self.session_of(link, server) {
            match fate {
                Some(Fate::Opened(Some(row))) => session.opened(slot, row.at, row.row),
                Some(_) => session.refuse_slot(slot, Code::DefinitionMismatch, "the stream has another definition"),
                None => session.refuse_session(Code::LedgerUnavailable, "the database did not answer"),
            }
            self.serve(link);
        }
    }

    /// `None`: not known to be committed. Every session in the batch ends, and asks again by `Open`.
    fn answer_commit(&mut self, server: usize, writer: usize, entries: &[Entry], stored: Option<&[bool]>) {
        let mut touched = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let Some(session) = self.session_of(entry.link, server) else {
                continue;
            };
            let (bytes, chunks) = (entry.flow_bytes, entry.chunks.len());
            match stored.map(|stored| stored[place]) {
                Some(true) => session.committed(entry.slot, entry.after.seq, entry.after.digest, bytes, chunks),
                Some(false) => session.fenced(entry.slot, bytes, chunks),
                None => session.lost(bytes, chunks, "COMMIT was not answered"),
            }
            touched.push(entry.link);
        }
        for link in touched {
            self.serve(link);
        }
        self.servers[server].writers[writer].busy = false;
        self.wake_writer(server, writer);
    }

    /// All that a server's connections carry is lost to it; each transaction may be done already, later, or never.
    pub(crate) fn orphan_transactions(&mut self, server: usize, tell: bool) {
        let life = self.servers[server].life;
        let of_server = |(_, transaction): &(&u64, &Transaction)| {
            transaction.server == server && transaction.life == life && !transaction.orphan
        };
        let ids: Vec<u64> = self.transactions.iter().filter(of_server).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(transaction) = self.transactions.get_mut(&id) else {
                continue;
            };
            transaction.unanswered = true;
            if matches!(transaction.fate, Fate::Waiting) {
                if self.random.once_in(2) {
                    transaction.fate = Fate::RolledBack;
                } else {
                    transaction.apply_at = self.now + self.random.ms(0, 30_000);
                    self.queue.push(transaction.apply_at, Event::Apply { transaction: id });
                }
            }
            if tell {
                self.on_answer(id);
            } else {
                transaction.orphan = true;
                if !matches!(transaction.fate, Fate::Waiting) {
                    self.transactions.remove(&id);
                }
            }
        }
    }
}
