//! How long a program leaves a pipe without a transfer that it had: from the moment in which a transfer was full until the program submits
//! the same one again. While it takes its time, an instrument has one place less to send to.
//!
//! Next to it what is not the program's: how much of that passes from the call of its callback to its submission, and how late the machine
//! wakes a thread that goes before all others, which is the bus itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Of so many of each it is kept how long they took.
const KEPT: usize = 1 << 20;

thread_local! {
    /// The transfer whose callback this thread runs, and since when.
    static CALLED: Cell<Option<(usize, Instant)>> = const { Cell::new(None) };
}

/// A callback of this transfer is called now, by this thread.
pub(crate) fn called(transfer: usize) {
    CALLED.set(Some((transfer, Instant::now())));
}

/// For how long that callback has run, if it is this transfer's.
pub(crate) fn since_called(transfer: usize) -> Option<Duration> {
    let (of, since) = CALLED.get()?;
    (of == transfer).then(|| since.elapsed())
}

#[derive(Default)]
struct Times(Vec<u32>);

impl Times {
    fn add(&mut self, took: Duration) {
        if self.0.len() < KEPT {
            self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// `NAME COUNT p50 … p99 … p999 … max … us`
    fn take(&mut self, name: &str) -> Option<String> {
        let mut sorted = std::mem::take(&mut self.0);
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |thousandths: usize| sorted[last * thousandths / 1_000];
        let (p50, p99, p999, max) = (at(500), at(990), at(999), at(1_000));
        let count = sorted.len();
        Some(format!("{name} {count} p50 {p50} p99 {p99} p999 {p999} max {max} us"))
    }
}

#[derive(Default)]
pub(crate) struct Latency {
    /// Full, by the transfer's address, and not submitted again yet.
    full: BTreeMap<usize, Instant>,
    resubmitted: Times,
    own: Times,
    woken: Times,
}

impl Latency {
    pub(crate) fn filled(&mut self, transfer: usize) {
        self.full.insert(transfer, Instant::now());
    }

    /// `own`: how long its callback had run when it was submitted, before anything of ours was waited for.
    pub(crate) fn submitted(&mut self, transfer: usize, own: Option<Duration>) {
        if let Some(since) = self.full.remove(&transfer) {
            self.resubmitted.add(since.elapsed());
            if let Some(own) = own {
                self.own.add(own);
            }
        }
    }

    /// The bus wanted to go on so long ago.
    pub(crate) fn woken(&mut self, late: Duration) {
        self.woken.add(late);
    }

    /// What there is to say, once, a line each: `resubmitted`, `callback` and `woken`.
    pub(crate) fn take(&mut self) -> Option<String> {
        self.full.clear();
        let resubmitted = self.resubmitted.take("resubmitted")?;
        let others = [self.own.take("callback"), self.woken.take("woken")];
        Some(
            others
                .into_iter()
                .flatten()
                .fold(resubmitted, |said, line| said + "\n" + &line),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_counts_once_it_was_full() {
        let mut latency = Latency::default();
        latency.submitted(1, None);
        assert_eq!(latency.take(), None);
        for transfer in 0..1_000 {
            latency.filled(transfer);
        }
        std::thread::sleep(Duration::from_millis(2));
        for transfer in 0..1_000 {
            latency.submitted(transfer, Some(Duration::from_micros(7)));
        }
        latency.filled(5);
        latency.woken(Duration::from_micros(9));
        let text = latency.take().expect("there were some");
        let others: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            others,
            [
                "callback 1000 p50 7 p99 7 p999 7 max 7 us",
                "woken 1 p50 9 p99 9 p999 9 max 9 us"
            ]
        );
        assert!(text.starts_with("resubmitted 1000 p50 "), "{text}");
        let least: u32 = text
            .split(' ')
            .nth(3)
            .and_then(|word| word.parse().ok())
            .expect("a number");
        assert!(least >= 2_000, "{text}");
        latency.submitted(5, None);
        assert_eq!(latency.take(), None, "what was told is over");
    }
}
