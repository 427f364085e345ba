//! What goes wrong with the database: single transactions, and which copy of it is the primary.

use std::time::Duration;

use crate::database::Copy;
use crate::faults::Fault;
use crate::log::log;
use crate::queue::Event;
use crate::transaction::{Fate, Transaction, Work};
use crate::world::World;

/// States of the database that are kept besides the primary's.
const REPLICAS_MAX: usize = 8;

impl World {
    pub(crate) fn break_transaction(&mut self, fault: Fault) {
        let waiting = |(_, transaction): &(&u64, &Transaction)| {
            !transaction.orphan
                && matches!(transaction.fate, Fate::Waiting)
                && matches!(transaction.work, Work::Commit { .. })
        };
        let ids: Vec<u64> = self.transactions.iter().filter(waiting).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return;
        }
        let id = *self.random.pick(&ids);
        let late = self.random.once_in(2);
        let until = self.now + self.random.ms(0, 30_000);
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        if fault == Fault::RollBack {
            transaction.fate = Fate::RolledBack;
        } else {
            self.counters.ambiguous_commits += 1;
            transaction.unanswered = true;
            if late {
                transaction.apply_at = until;
                self.queue.push(until, Event::Apply { transaction: id });
            }
        }
    }

    pub(crate) fn on_replicate(&mut self) {
        if self.calm {
            return;
        }
        let primary = self.branches[self.branches.len() - 1].clone();
        self.keep_replica(primary);
        self.queue.push(self.now + self.plan.replicate_every, Event::Replicate);
    }

    pub(crate) fn keep_replica(&mut self, copy: Copy) {
        if self.replicas.len() < REPLICAS_MAX {
            self.replicas.push(copy);
        } else {
            let place = self.random.place(REPLICAS_MAX);
            self.replicas[place] = copy;
        }
    }

    pub(crate) fn fail_over(&mut self) {
        if self.replicas.is_empty() {
            return;
        }
        let mut copy = self.random.pick(&self.replicas).clone();
        copy.generation = self.branches[self.branches.len() - 1].generation + 1;
        self.become_primary(copy);
    }

    pub(crate) fn lose_stream(&mut self) {
        let mut copy = self.branches[self.branches.len() - 1].clone();
        let streams: Vec<_> = copy.streams.keys().copied().collect();
        if streams.is_empty() {
            return;
        }
        copy.streams.remove(self.random.pick(&streams));
        self.become_primary(copy);
    }

    /// Some servers notice at once; others go on with the old primary for a while, and so do its acks. It may come back.
    fn become_primary(&mut self, copy: Copy) {
        let before = &self.branches[self.branches.len() - 1];
        let branch = self.branches.len();
        self.oracle.branched(before, branch, &copy);
        self.branches.push(copy);
        for server in 0..self.servers.len() {
            let delay = if self.random.once_in(2) {
                Duration::ZERO
            } else {
                self.random.ms(0, 20_000)
            };
            let life = self.servers[server].life;
            self.queue.push(self.now + delay, Event::Follow { server, life });
        }
    }

    pub(crate) fn on_follow(&mut self, server: usize, life: u32) {
        let primary = self.branches.len() - 1;
        let old = self.servers[server].branch;
        if self.servers[server].life != life || old == primary {
            return;
        }
        let left = self.branches[old].clone();
        self.keep_replica(left);
        self.break_database_of(server, "the primary has changed");
        self.servers[server].branch = primary;
        log!(self, "server {server} follows to the primary {primary}");
    }
}
