//! `--upload-limit`: a token bucket, pure. A chunk may go when the bucket is not in debt; it then pays in full, so that a
//! chunk larger than a second's allowance still goes, and the average holds.

use std::time::Duration;

#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_s: Option<u64>,
    ready_at: Duration,
}

impl Pace {
    pub(super) fn new(bytes_per_s: Option<u64>) -> Self {
        Self {
            bytes_per_s: bytes_per_s.map(|limit| limit.max(1)),
            ready_at: Duration::ZERO,
        }
    }

    pub(super) fn allows(&self, now: Duration) -> bool {
        now >= self.ready_at
    }

    pub(super) fn spend(&mut self, now: Duration, bytes: u64) {
        if let Some(limit) = self.bytes_per_s {
            let cost = Duration::from_secs_f64(bytes as f64 / limit as f64);
            self.ready_at = self.ready_at.max(now) + cost;
        }
    }

    /// When the next chunk may go, if a limit is set.
    pub(super) fn ready_at(&self) -> Option<Duration> {
        self.bytes_per_s.map(|_| self.ready_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_holds() {
        let mut pace = Pace::new(Some(1_000));
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            assert!(pace.allows(now));
            pace.spend(now, 500);
            assert!(!pace.allows(now));
            now = pace.ready_at().expect("limited");
        }
        assert_eq!(now, Duration::from_secs(5));
    }
}
