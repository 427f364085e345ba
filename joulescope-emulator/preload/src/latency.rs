//! How long a program leaves a pipe without a transfer that it had: from the moment in which a transfer was full until the program submits
//! the same one again. While it takes its time, an instrument has one place less to send to.

use std::collections::BTreeMap;
use std::time::Instant;

/// Of so many it is kept how long they took.
const KEPT: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Latency {
    /// Full, by the transfer's address, and not submitted again yet.
    full: BTreeMap<usize, Instant>,
    microseconds: Vec<u32>,
}

impl Latency {
    pub(crate) fn filled(&mut self, transfer: usize) {
        self.full.insert(transfer, Instant::now());
    }

    pub(crate) fn submitted(&mut self, transfer: usize) {
        if let Some(since) = self.full.remove(&transfer)
            && self.microseconds.len() < KEPT
        {
            let took = since.elapsed().as_micros();
            self.microseconds.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }

    /// What there is to say, once: `resubmitted COUNT p50 … p99 … p999 … max … us`.
    pub(crate) fn take(&mut self) -> Option<String> {
        self.full.clear();
        let mut sorted = std::mem::take(&mut self.microseconds);
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |thousandths: usize| sorted[last * thousandths / 1_000];
        Some(format!(
            "resubmitted {} p50 {} p99 {} p999 {} max {} us",
            sorted.len(),
            at(500),
            at(990),
            at(999),
            at(1_000)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_counts_once_it_was_full() {
        let mut latency = Latency::default();
        latency.submitted(1);
        assert_eq!(latency.take(), None);
        for transfer in 0..1_000 {
            latency.filled(transfer);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        for transfer in 0..1_000 {
            latency.submitted(transfer);
        }
        latency.filled(5);
        let text = latency.take().expect("there were some");
        assert!(text.starts_with("resubmitted 1000 p50 "), "{text}");
        let least: u32 = text
            .split(' ')
            .nth(3)
            .and_then(|word| word.parse().ok())
            .expect("a number");
        assert!(least >= 2_000, "{text}");
        latency.submitted(5);
        assert_eq!(latency.take(), None, "what was told is over");
    }
}
