//! The server's memory budget, and the windows that it is worth.
//!
//! A session is *hot* while chunks come; every hot session has the same share of the budget, and windows follow it, between the smallest
//! and the largest, as sessions become hot or idle, come and go. An idle one costs no share. What an agent had in flight when its
//! window shrank stays; and a share may be smaller than the smallest window, which must hold the largest chunk. That is why
//! a session reads no further while its chunks in memory take its share ([`Budget::share_bytes`]; with none in memory it may always read
//! one), and why [`crate::ingest`] stops reading, all sessions at once, while all of them are at the budget. So the bytes of
//! chunks in memory stay under the budget and one chunk per session, and no session takes another one's share, whatever agents do.
//!
//! # Invariants
//! - I12: `hot × share ≤ budget`; `share ≤ window`, and `hot × window ≤ budget` until the window is the smallest.
//! - I12: there are at most [`Budget::sessions_max`] sessions: unless told otherwise as many as have the smallest window all at
//!   once.

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
    sessions_max: u64,
    sessions: u64,
    hot: u64,
}

impl Budget {
    /// With no sessions.
    pub const fn new(bytes: u64) -> Result<Self, BudgetTooSmall> {
        if bytes < WINDOW_BYTES_MIN {
            return Err(BudgetTooSmall(bytes));
        }
        Ok(Self {
            bytes,
            sessions_max: bytes / WINDOW_BYTES_MIN,
            sessions: 0,
            hot: 0,
        })
    }

    /// For so many sessions, of which most are idle.
    ///
    /// # Panics
    /// If there would be none.
    #[must_use]
    pub const fn with_sessions_max(self, sessions_max: u64) -> Self {
        assert!(sessions_max > 0, "I12: a server has room for a session");
        Self { sessions_max, ..self }
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
        self.sessions_max
    }

    /// Those of which chunks come.
    #[must_use]
    pub const fn hot(&self) -> u64 {
        self.hot
    }

    /// One more session, if there is room for it.
    pub const fn enter(&mut self) -> bool {
        let fits = self.sessions < self.sessions_max;
        if fits {
            self.sessions += 1;
        }
        fits
    }

    /// One session less, which is idle.
    ///
    /// # Panics
    /// If none had entered that is idle.
    pub const fn leave(&mut self) {
        assert!(self.sessions > self.hot, "I12: a session that leaves had entered");
        self.sessions -= 1;
    }

    /// Chunks of an idle session come.
    ///
    /// # Panics
    /// If none is idle.
    pub const fn heat(&mut self) {
        assert!(self.hot < self.sessions, "I12: a session that is hot had entered");
        self.hot += 1;
    }

    /// No chunks of a hot session come any more.
    ///
    /// # Panics
    /// If none is hot.
    pub const fn cool(&mut self) {
        assert!(self.hot > 0, "I12: a session that cools was hot");
        self.hot -= 1;
    }

    /// Every session's window, as if all of the hot ones used it.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        (self.bytes / self.hot.max(1)).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
    }

    /// With so many bytes of its chunks in memory a session reads no further.
    #[must_use]
    pub fn share_bytes(&self) -> u64 {
        (self.bytes / self.hot.max(1)).min(WINDOW_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn i12_windows_shrink_as_sessions_become_hot_before_memory_is_full() {
        let mut budget = Budget::new(256 * MIB).expect("it fits").with_sessions_max(1_050);
        while budget.enter() {}
        assert_eq!(
            (budget.sessions(), budget.window_bytes()),
            (1_050, 64 * MIB),
            "all are idle"
        );
        let mut windows = Vec::new();
        let mut shares = Vec::new();
        for _ in 0..50 {
            budget.heat();
            windows.push(budget.window_bytes() / MIB);
            shares.push(budget.share_bytes() / MIB);
        }
        assert_eq!(
            (
                windows[0],
                windows[3],
                windows[4],
                windows[15],
                windows[31],
                windows[49]
            ),
            (64, 64, 51, 16, 8, 8)
        );
        assert_eq!(
            (shares[0], shares[3], shares[4], shares[31], shares[49]),
            (64, 64, 51, 8, 5)
        );
        budget.cool();
        budget.leave();
        assert!(budget.enter() && !budget.enter());
    }

    #[test]
    fn i12_a_budget_without_a_session_is_refused() {
        assert_eq!(Budget::new(8 * MIB - 1), Err(BudgetTooSmall(8 * MIB - 1)));
        assert_eq!(Budget::new(8 * MIB).map(|budget| budget.sessions_max()), Ok(1));
    }

    proptest! {
        #[test]
        fn i12_shares_never_exceed_the_budget(
            bytes in WINDOW_BYTES_MIN..1 << 40, sessions_max in 1u64..200, moves in prop::collection::vec(0..4, 0..300),
        ) {
            let mut budget = Budget::new(bytes).expect("it fits").with_sessions_max(sessions_max);
            for step in moves {
                let (sessions, hot) = (budget.sessions(), budget.hot());
                match step {
                    0 => prop_assert_eq!(budget.enter(), sessions < sessions_max),
                    1 if sessions > hot => budget.leave(),
                    2 if sessions > hot => budget.heat(),
                    3 if hot > 0 => budget.cool(),
                    _ => {}
                }
                let (window, share) = (budget.window_bytes(), budget.share_bytes());
                prop_assert!((WINDOW_BYTES_MIN..=WINDOW_BYTES_MAX).contains(&window));
                prop_assert!(share <= window && share * budget.hot() <= bytes);
                prop_assert!(window * budget.hot() <= bytes || window == WINDOW_BYTES_MIN);
            }
        }
    }
}
