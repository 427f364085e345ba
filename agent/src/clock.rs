//! Time, as an argument: the seam behind which a simulation puts its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the shells know of time. Pure code gets it as an argument.
pub trait Clock: Send + Sync + 'static {
    /// Since some fixed moment of this process; never steps.
    fn now(&self) -> Duration;
    /// Nanoseconds since 1970 by the host's clock, which may step, drift and be wrong.
    fn utc_ns(&self) -> i64;
}

/// The host's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Counts from now on.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn utc_ns(&self) -> i64 {
        utc_ns(SystemTime::now())
    }
}

/// Nanoseconds since 1970, saturating; times before it are negative.
fn utc_ns(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(utc_ns(UNIX_EPOCH - Duration::from_secs(2)), -2_000_000_000);
        assert_eq!(utc_ns(UNIX_EPOCH + Duration::from_nanos(5)), 5);
    }
}
