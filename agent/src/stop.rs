//! How a source learns that it should stop: a flag that can be waited for.
//!
//! # Invariants
//! - Once stopped, always stopped; every wait ends at once.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by whoever stops and whoever is to be stopped. Clones are the same token.
#[derive(Debug, Clone, Default)]
pub struct StopToken {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl StopToken {
    /// Not stopped yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops: every wait ends, now and later.
    pub fn stop(&self) {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_all();
    }

    /// Has it been stopped?
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until `deadline`, or until stopped. Returns whether it was stopped.
    #[must_use]
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut stopped = self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let Some(rest) = deadline
                .checked_duration_since(Instant::now())
                .filter(|rest| !rest.is_zero())
            else {
                return false;
            };
            (stopped, _) = self
                .shared
                .changed
                .wait_timeout(stopped, rest)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Sleeps for `duration`, or until stopped. Returns whether it was stopped.
    #[must_use]
    pub fn wait(&self, duration: Duration) -> bool {
        self.wait_until(Instant::now() + duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_stopped() {
        let token = StopToken::new();
        assert!(!token.wait(Duration::from_millis(1)));
        let stopper = token.clone();
        let thread = std::thread::spawn(move || stopper.stop());
        // Without the stop this would hang for an hour, and the test with it.
        assert!(token.wait(Duration::from_secs(3600)));
        assert!(token.is_stopped());
        thread.join().expect("the stopper does not panic");
    }
}
