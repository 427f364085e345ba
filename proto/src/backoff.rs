//! Exponential back-off with full jitter. Pure: the random number is an argument. It resets on progress (an ack), not
//! on a connect, so that a server that accepts and dies is not hammered.

use std::time::Duration;

use crate::limits;

/// Grows with each failure, until [`Backoff::reset`].
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next delay: uniform in [0, min(max, 2^failures × min)] by `random`, but never zero.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling_ms = limits::BACKOFF_MS_MIN
            .saturating_mul(1 << self.failures.min(20))
            .min(limits::BACKOFF_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(1 + random % ceiling_ms)
    }

    /// Only the longest delays from now on: it will not pass by itself.
    pub fn exhaust(&mut self) {
        self.failures = 20;
    }

    /// Progress was made.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i12_delays_grow_to_the_limit_and_reset() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..64).map(|_| backoff.next(u64::MAX - 1)).collect();
        assert!(
            ceilings
                .iter()
                .all(|delay| *delay <= Duration::from_millis(limits::BACKOFF_MS_MAX))
        );
        let longest = |failures: u32| {
            let mut backoff = Backoff { failures };
            (0..2000)
                .map(|random| {
                    backoff.failures = failures;
                    backoff.next(random * 7919)
                })
                .max()
        };
        assert!(longest(0) <= Some(Duration::from_millis(limits::BACKOFF_MS_MIN)));
        assert!(longest(5) > Some(Duration::from_millis(2_000)));
        backoff.reset();
        assert!(backoff.next(12_345) <= Duration::from_millis(limits::BACKOFF_MS_MIN));
    }
}
