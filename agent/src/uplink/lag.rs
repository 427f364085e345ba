//! How long the last chunks of live sources took, from their last sample to their ack. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits;
use crate::status::LagStatus;

/// The last [`limits::LAG_CHUNKS_KEPT`] of them.
#[derive(Debug, Default)]
pub(super) struct Lag(VecDeque<Duration>);

impl Lag {
    pub(super) fn acked(&mut self, after: Duration) {
        if self.0.len() == limits::LAG_CHUNKS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(after);
    }

    /// Nearest ranks: each is a time that was measured.
    pub(super) fn status(&self) -> LagStatus {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let percent = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).map(|lag| lag.as_secs_f64() * 1e3)
        };
        LagStatus {
            chunk_count: sorted.len() as u64,
            p50_ms: percent(50),
            p99_ms: percent(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunks_count_by_nearest_rank() {
        let mut lag = Lag::default();
        assert_eq!((lag.status().p50_ms, lag.status().chunk_count), (None, 0));
        lag.acked(Duration::from_millis(7));
        assert_eq!((lag.status().p50_ms, lag.status().p99_ms), (Some(7.0), Some(7.0)));
        for ms in (1..=100).rev() {
            lag.acked(Duration::from_millis(ms));
        }
        lag.0.pop_front();
        assert_eq!((lag.status().p50_ms, lag.status().p99_ms), (Some(50.0), Some(99.0)));
        for _ in 0..limits::LAG_CHUNKS_KEPT {
            lag.acked(Duration::from_millis(3));
        }
        let status = lag.status();
        assert_eq!(
            (status.p99_ms, status.chunk_count),
            (Some(3.0), limits::LAG_CHUNKS_KEPT as u64)
        );
    }
}
