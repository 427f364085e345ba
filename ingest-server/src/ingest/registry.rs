//! Who is here, how much memory their chunks take, and the conditions that all sessions live under.
//!
//! # Invariants
//! - I12: see [`crate::budget`]. A session has a seat before it reads anything; a chunk is charged from the moment it is accepted
//!   until its writer has answered for it, also when its session is gone by then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::telemetry::gauge;

/// What concerns every session; each hears of a change at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Sessions that have a seat.
    pub sessions: u64,
    /// Every session's window.
    pub window_bytes: u64,
    /// With so many bytes of its chunks in memory a session reads no further.
    pub share_bytes: u64,
    /// The chunks in memory are at the budget: nobody reads.
    pub memory_full: bool,
    /// Set once the server drains: when it gives up.
    pub drain_until: Option<Instant>,
    /// Does the database answer?
    pub ledger_up: bool,
    /// Rises whenever the connection to the database broke or another primary answered: every session of before must end.
    pub ledger_generation: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Registry {
    budget: Mutex<Budget>,
    budget_bytes: u64,
    in_use_bytes: AtomicU64,
    conditions: watch::Sender<Conditions>,
}

impl Registry {
    /// Without sessions, and with a ledger that is up.
    #[must_use]
    pub fn new(budget: Budget) -> Arc<Self> {
        let conditions = Conditions {
            sessions: 0,
            window_bytes: budget.window_bytes(),
            share_bytes: budget.share_bytes(),
            memory_full: false,
            drain_until: None,
            ledger_up: true,
            ledger_generation: 0,
        };
        gauge::MEMORY_BUDGET_BYTES.set(budget.bytes());
        gauge::WINDOW_BYTES.set(budget.window_bytes());
        Arc::new(Self {
            budget: Mutex::new(budget),
            budget_bytes: budget.bytes(),
            in_use_bytes: AtomicU64::new(0),
            conditions: watch::Sender::new(conditions),
        })
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat, if the budget has one.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<Seat> {
        let mut budget = self.budget();
        budget.enter().then(|| {
            self.share(&budget);
            Seat {
                registry: self.clone(),
                is_hot: false,
            }
        })
    }

    fn share(&self, budget: &Budget) {
        let (sessions, window_bytes, share_bytes) = (budget.sessions(), budget.window_bytes(), budget.share_bytes());
        gauge::SESSIONS.set(sessions);
        gauge::SESSIONS_HOT.set(budget.hot());
        gauge::WINDOW_BYTES.set(window_bytes);
        // Sessions are woken only where something changes for them, and who drains when the last one has gone.
        self.conditions.send_if_modified(|conditions| {
            conditions.sessions = sessions;
            let before = (conditions.window_bytes, conditions.share_bytes);
            (conditions.window_bytes, conditions.share_bytes) = (window_bytes, share_bytes);
            sessions == 0 || before != (window_bytes, share_bytes)
        });
    }

    /// How many sessions fit.
    #[must_use]
    pub fn sessions_max(&self) -> u64 {
        self.budget().sessions_max()
    }

    /// As they are now, and as they change.
    #[must_use]
    pub fn conditions(&self) -> watch::Receiver<Conditions> {
        self.conditions.subscribe()
    }

    /// Bytes of chunks in memory.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.in_use_bytes.load(Ordering::Relaxed)
    }

    /// The most chunks that the budget holds, each with its fixed share.
    #[must_use]
    pub fn chunks_max(&self) -> usize {
        let chunks = self.budget_bytes / wavekeep_proto::limits::CHUNK_OVERHEAD_BYTES;
        usize::try_from(chunks)
            .unwrap_or(usize::MAX / 16)
            .saturating_add(wavekeep_proto::limits::ACCEPTED_CHUNKS_MAX)
    }

    /// Counts `bytes` until the charge is dropped.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Charge {
        self.in_use_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.judge();
        Charge {
            registry: self.clone(),
            bytes,
        }
    }

    fn judge(&self) {
        // Full at the budget, no longer full at seven eighths of it: not one wake-up for every chunk at the brim.
        let brim = self.budget_bytes - self.budget_bytes / 8;
        self.conditions.send_if_modified(|conditions| {
            // Read under the lock: of two that judge at once, the later one has the later number.
            let in_use = self.in_use_bytes();
            gauge::MEMORY_IN_USE_BYTES.set(in_use);
            let full = in_use >= self.budget_bytes || (conditions.memory_full && in_use > brim);
            std::mem::replace(&mut conditions.memory_full, full) != full
        });
    }

    /// From now on every session says goodbye, and gives up at `until`.
    pub fn drain(&self, until: Instant) {
        self.conditions
            .send_modify(|conditions| conditions.drain_until = Some(until));
    }

    /// The connection to the database broke, or another primary answers: all sessions end.
    pub fn ledger_lost(&self) {
        gauge::LEDGER_UP.set(0);
        self.conditions.send_modify(|conditions| {
            conditions.ledger_up = false;
            conditions.ledger_generation += 1;
        });
    }

    /// It answers.
    pub fn ledger_up(&self) {
        gauge::LEDGER_UP.set(1);
        self.conditions
            .send_if_modified(|conditions| !std::mem::replace(&mut conditions.ledger_up, true));
    }
}

/// One session's place in the budget.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<Registry>,
    is_hot: bool,
}

impl Seat {
    /// Do chunks come? A hot session has a share of the budget.
    pub fn set_hot(&mut self, is_hot: bool) {
        if std::mem::replace(&mut self.is_hot, is_hot) == is_hot {
            return;
        }
        let mut budget = self.registry.budget();
        if is_hot {
            budget.heat();
        } else {
            budget.cool();
        }
        self.registry.share(&budget);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut budget = self.registry.budget();
        if self.is_hot {
            budget.cool();
        }
        budget.leave();
        self.registry.share(&budget);
    }
}

/// Bytes of chunks that somebody holds.
#[derive(Debug)]
pub struct Charge {
    registry: Arc<Registry>,
    bytes: u64,
}

impl Charge {
    /// Holds the other's bytes too.
    pub fn merge(&mut self, other: &mut Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let before = self.registry.in_use_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            assert!(before >= self.bytes, "I12: what is released was charged");
            self.registry.judge();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn registry() -> Arc<Registry> {
        Registry::new(Budget::new(64 * MIB).expect("it fits"))
    }

    #[test]
    fn i12_hot_seats_move_the_windows_of_all() {
        let registry = registry();
        let mut conditions = registry.conditions();
        let mut seats: Vec<Seat> = std::iter::from_fn(|| registry.enter()).collect();
        assert_eq!(seats.len() as u64, registry.sessions_max());
        assert_eq!(conditions.borrow_and_update().window_bytes, 64 * MIB);
        seats.iter_mut().for_each(|seat| seat.set_hot(true));
        assert_eq!(conditions.borrow().window_bytes, 8 * MIB);
        assert!(conditions.has_changed().expect("the registry lives"));
        seats[0].set_hot(true);
        seats[1].set_hot(false);
        assert_eq!(conditions.borrow_and_update().window_bytes, 64 * MIB / 7);
        drop(seats);
        assert_eq!(
            (conditions.borrow().sessions, conditions.borrow().window_bytes),
            (0, 64 * MIB)
        );
    }

    #[test]
    fn i12_nobody_reads_at_the_budget_until_an_eighth_is_free() {
        let registry = registry();
        let conditions = registry.conditions();
        let full = || conditions.borrow().memory_full;
        let mut first = registry.charge(60 * MIB);
        assert!(!full());
        let second = registry.charge(4 * MIB);
        assert!(full());
        drop(second);
        assert!(full(), "60 of 64 is above seven eighths");
        first.merge(&mut registry.charge(MIB));
        assert_eq!(registry.in_use_bytes(), 61 * MIB);
        drop(first);
        assert!(!full());
        assert_eq!(registry.in_use_bytes(), 0);
    }
}
