//! Delivers at a speed: which sample is due when. What was delivered late is caught up; nothing is ever skipped.

use std::time::{Duration, Instant};

use super::simulator::Speed;
use crate::limits;
use crate::stop::StopToken;

/// The time between two deliveries of a paced source: short against a chunk, long against a wake-up.
const TICK: Duration = Duration::from_millis(10);

/// Keeps a source's pace, from the moment it is made.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    first_sample: u64,
    /// Samples a second of real time; `None`: as fast as possible.
    samples_per_s: Option<f64>,
}

impl Pace {
    pub(super) fn new(speed: Speed, rate_hz: f64, first_sample: u64) -> Self {
        let samples_per_s = match speed {
            Speed::Factor(factor) => Some(rate_hz * factor),
            Speed::Max => None,
        };
        Self {
            start: Instant::now(),
            first_sample,
            samples_per_s,
        }
    }

    /// Waits until something after `next_sample` is due, and says up to where (exclusive), at most a block further.
    /// `None`: stopped. Only a whole block is delivered without a wait: at 2 MSPS some samples are due again as soon as the last ones
    /// are delivered, and a source that took them at once would never rest.
    pub(super) fn next_block(&self, next_sample: u64, stop: &StopToken) -> Option<u64> {
        let limit = next_sample + limits::SOURCE_BLOCK_SAMPLES as u64;
        let Some(samples_per_s) = self.samples_per_s else {
            return (!stop.is_stopped()).then_some(limit);
        };
        let mut waited = false;
        loop {
            let elapsed_s = self.start.elapsed().as_secs_f64();
            // The conversion saturates.
            let due = self.first_sample.saturating_add((elapsed_s * samples_per_s) as u64);
            if due >= limit || waited && due > next_sample {
                return (!stop.is_stopped()).then_some(due.min(limit));
            }
            let missing = (next_sample + 1 - self.first_sample) as f64 / samples_per_s - elapsed_s;
            let wait = Duration::try_from_secs_f64(missing.max(0.0)).unwrap_or(TICK);
            // A slow source waits in steps, so that an absurd rate is still a finite wait.
            if stop.wait(wait.clamp(TICK, Duration::from_secs(60))) {
                return None;
            }
            waited = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_tile_at_any_speed() {
        let stop = StopToken::new();
        for speed in [Speed::Max, Speed::Factor(10.0)] {
            let pace = Pace::new(speed, 100_000.0, 50);
            let mut next = 50;
            while next < 20_000 {
                let end = pace.next_block(next, &stop).expect("nobody stops it");
                assert!(end > next && end - next <= limits::SOURCE_BLOCK_SAMPLES as u64);
                next = end;
            }
        }
        // However long it takes on this machine: a block is whole, or a tick has passed.
        let (pace, mut next, mut blocks) = (Pace::new(Speed::Factor(1.0), 50e6, 0), 0, 0);
        while next < 10_000_000 {
            next = pace.next_block(next, &stop).expect("nobody stops it");
            blocks += 1;
        }
        let ticks = pace.start.elapsed().as_secs_f64() / TICK.as_secs_f64();
        let whole = next / limits::SOURCE_BLOCK_SAMPLES as u64;
        assert!(
            f64::from(blocks) <= ticks + whole as f64 + 1.0,
            "{blocks} blocks in {ticks} ticks"
        );
        stop.stop();
        assert_eq!(Pace::new(Speed::Max, 1.0, 0).next_block(0, &stop), None);
        assert_eq!(Pace::new(Speed::Factor(0.001), 1.0, 0).next_block(0, &stop), None);
    }
}
