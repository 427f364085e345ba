//! The sample clock: 2 million ticks a second of the instrument's own time, and what it knows of UTC.

use std::time::Duration;

use crate::settings::Settings;

/// Ticks a second, as the instrument is built.
pub(crate) const NOMINAL_HZ: f64 = 2_000_000.0;

/// Before a host has told it the time, it takes it to be this when it was plugged in: the first of January 2020.
const UTC_GUESS: i64 = 63_072_000 << 30;

#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Ticks a second of the caller's time.
    pub(crate) hz: f64,
    start: u64,
    plugged: Duration,
    /// A UTC and the ticks at that time.
    map: (i64, u64),
}

impl Clock {
    pub(crate) fn new(settings: &Settings, plugged: Duration) -> Self {
        Self {
            hz: NOMINAL_HZ * settings.scale * (1.0 + settings.ppm * 1e-6),
            start: settings.start,
            plugged,
            map: (UTC_GUESS, settings.start),
        }
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Ticks at a time: the id of the sample that is being taken.
    pub(crate) fn ticks(&self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.plugged);
        // Seconds and their rest apart: f64 alone would lose ticks after some days.
        let whole = passed.as_secs() as f64 * self.hz;
        let rest = f64::from(passed.subsec_nanos()) * 1e-9 * self.hz;
        self.start + (whole.floor() + (whole.fract() + rest).floor()) as u64
    }

    /// A host has told when it received a request that was sent at `start`, and when it answered; the answer is here at `end`.
    pub(crate) fn told(&mut self, start: u64, received: i64, sent: i64, end: u64) -> bool {
        if received <= 0 || sent < received || start > end || start < self.start {
            return false;
        }
        self.map = (received + (sent - received) / 2, start + (end - start) / 2);
        true
    }

    /// A UTC, the ticks at that time, and ticks a second as 32Q32.
    pub(crate) fn map(&self) -> (i64, u64, u64) {
        (self.map.0, self.map.1, (self.hz * (1u64 << 32) as f64) as u64)
    }
}
