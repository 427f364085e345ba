//! What was done, counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Faults whose names begin so are kills.
const KILL: &str = "SIGKILL";

/// Faults by kind, and what could not be done here. Several threads add to it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    faults: Mutex<BTreeMap<&'static str, u64>>,
    notes: Mutex<Vec<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    pub(super) fn count(&self, fault: &'static str) {
        *locked(&self.faults).entry(fault).or_default() += 1;
    }

    pub(super) fn note(&self, note: String) {
        locked(&self.notes).push(note);
    }

    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.faults).clone()
    }

    pub(super) fn notes(&self) -> Vec<String> {
        locked(&self.notes).clone()
    }

    /// Of processes: Postgres with all of its own counts as one.
    pub(super) fn kills(&self) -> u64 {
        kills(&self.faults())
    }
}

pub(super) fn kills(faults: &BTreeMap<&'static str, u64>) -> u64 {
    let kills = faults.iter().filter(|(name, _)| name.starts_with(KILL));
    kills.map(|(_, count)| count).sum()
}
