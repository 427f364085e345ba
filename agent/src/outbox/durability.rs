//! When what is stored reaches the disk for good. A killed process loses nothing under any policy; a power cut loses what was
//! not synced, and the server may have it already: then its position is adopted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::kv::{Kv, KvError};
use super::lock;

/// One for what was stored right after the last sync began, and the rest for syncing it.
const SYNCS_PER_INTERVAL: u32 = 2;

/// When the write-ahead log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// By a thread of its own, twice as often as this: what was stored longer ago than this is on the disk, as long as a sync takes
    /// no longer than half of it. Where syncs take longer they follow each other, and a power cut loses what the last two of them
    /// took.
    Interval(Duration),
    /// Before `store` returns. Chunks stored at the same time share a sync.
    EachChunk,
    /// When the operating system likes, or when told to.
    Never,
}

impl Default for Durability {
    fn default() -> Self {
        Self::Interval(Duration::from_millis(100))
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: Mutex<bool>,
    wake: Condvar,
    failure: Mutex<Option<KvError>>,
}

/// The thread of [`Durability::Interval`]; it ends, after a last sync, when this is dropped.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn spawn<K: Kv>(kv: Arc<K>, dirty: Arc<AtomicBool>, interval: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("outbox-sync".into())
            .spawn(move || run(&*kv, &dirty, interval, &theirs))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Why it could not sync, once.
    pub(super) fn take_failure(&self) -> Option<KvError> {
        lock(&self.shared.failure).take()
    }
}

fn run<K: Kv>(kv: &K, dirty: &AtomicBool, interval: Duration, shared: &Shared) {
    let mut failing = false;
    let mut next = Instant::now();
    loop {
        // From start to start: what is stored while a sync runs waits for the next one.
        next = Instant::now().max(next + interval / SYNCS_PER_INTERVAL);
        let stop = {
            let stop = lock(&shared.stop);
            let wait = next.saturating_duration_since(Instant::now());
            let waited = shared.wake.wait_timeout_while(stop, wait, |stop| !*stop);
            waited.map_or(true, |(stop, _)| *stop)
        };
        if dirty.swap(false, Ordering::AcqRel) {
            let result = kv.sync();
            if let Err(error) = &result {
                dirty.store(true, Ordering::Release);
                if !failing {
                    *lock(&shared.failure) = Some(error.clone());
                }
            }
            failing = result.is_err();
        }
        if stop {
            return;
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        *lock(&self.shared.stop) = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // It panics only if syncing does; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}
