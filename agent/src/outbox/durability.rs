//! When what is stored reaches the disk for good. A killed process loses nothing under any policy; a power cut loses what was
//! not synced, and the server may have it already: then its position is adopted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::kv::{Kv, KvError};
use super::lock;

/// When the write-ahead log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// This often, by a thread of its own: a power cut loses at most this much.
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
    loop {
        let stop = {
            let stop = lock(&shared.stop);
            let waited = shared.wake.wait_timeout_while(stop, interval, |stop| !*stop);
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
