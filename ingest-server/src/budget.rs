//! The server's memory budget, and the windows that it is worth.
//!
//! Every session gets the same share, between the smallest and the largest window; windows move as sessions come and go. A
//! session that would make the share smaller than the smallest window is refused. What an agent had in flight when its window
//! shrank stays: that is why [`crate::ingest`] also stops reading, all sessions at once, while the bytes in memory are at the
//! budget. So the bytes of chunks in memory stay under the budget and one chunk per session, whatever agents do.
//!
//! # Invariants
//! - I12: `sessions ≤ budget / WINDOW_BYTES_MIN`, and `sessions × window ≤ budget`.

use wavekeep_proto::limits::{WINDOW_BYTES_MAX, WINDOW_BYTES_MIN};

/// A budget in which no session fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a memory budget of {0} bytes is too small: one session needs {WINDOW_BYTES_MIN}, give at least --memory-budget 8MiB"
)]
pub struct BudgetTooSmall(pub u64);

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
    sessions: u64,
}

impl Budget {
    /// With no sessions.
    pub const fn new(bytes: u64) -> Result<Self, BudgetTooSmall> {
        if bytes < WINDOW_BYTES_MIN {
            return Err(BudgetTooSmall(bytes));
        }
        Ok(Self { bytes, sessions: 0 })
    }

    /// All of it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Those that have a seat now.
    #[must_use]
    pub const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// More are refused.
    #[must_use]
    pub const fn sessions_max(&self) -> u64 {
        self.bytes / WINDOW_BYTES_MIN
    }

    /// One more session, if there is room for it.
    pub const fn enter(&mut self) -> bool {
        let fits = self.sessions < self.sessions_max();
        if fits {
            self.sessions += 1;
        }
        fits
    }

    /// One session less.
    ///
    /// # Panics
    /// If none had entered.
    pub const fn leave(&mut self) {
        assert!(self.sessions > 0, "I12: a session that leaves had entered");
        self.sessions -= 1;
    }

    /// Every session's window; without sessions, the first one's.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        (self.bytes / self.sessions.max(1)).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn i12_shares_are_fair_and_bounded() {
        let mut budget = Budget::new(256 * MIB).expect("it fits");
        assert_eq!((budget.sessions_max(), budget.window_bytes()), (32, 64 * MIB));
        let mut windows = Vec::new();
        while budget.enter() {
            windows.push(budget.window_bytes() / MIB);
        }
        assert_eq!(windows.len(), 32);
        assert_eq!(
            (windows[0], windows[3], windows[4], windows[15], windows[31]),
            (64, 64, 51, 16, 8)
        );
        budget.leave();
        assert!(budget.window_bytes() > 8 * MIB && budget.enter() && !budget.enter());
    }

    #[test]
    fn i12_a_budget_without_a_session_is_refused() {
        assert_eq!(Budget::new(8 * MIB - 1), Err(BudgetTooSmall(8 * MIB - 1)));
        assert_eq!(Budget::new(8 * MIB).map(|budget| budget.sessions_max()), Ok(1));
    }

    proptest! {
        #[test]
        fn i12_windows_never_exceed_the_budget(bytes in WINDOW_BYTES_MIN..1 << 40, moves in prop::collection::vec(any::<bool>(), 0..300)) {
            let mut budget = Budget::new(bytes).expect("it fits");
            for enter in moves {
                if enter {
                    let full = budget.sessions() == budget.sessions_max();
                    prop_assert_eq!(budget.enter(), !full);
                } else if budget.sessions() > 0 {
                    budget.leave();
                }
                let window = budget.window_bytes();
                prop_assert!((WINDOW_BYTES_MIN..=WINDOW_BYTES_MAX).contains(&window));
                prop_assert!(window * budget.sessions() <= bytes);
            }
        }
    }
}
