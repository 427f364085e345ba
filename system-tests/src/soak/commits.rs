//! What is committed, as it happens: how far each device is, and how long after a server's death it goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{PgConnection, Row};

use crate::stored;

/// Between two questions.
const PERIOD: Duration = Duration::from_millis(20);
/// A database that does not answer in this time is asked anew.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// When a session last opened a stream of it; µs since 1970, by the database.
    opened_us: i64,
    /// Of all of its streams, together.
    seqs: i64,
    pub(super) samples: i64,
}

#[derive(Debug, Default)]
struct Seen {
    devices: BTreeMap<String, Progress>,
    answered: Option<Instant>,
}

/// A server has died on a device whose session it had.
struct Death {
    device: String,
    since: Instant,
    before: Progress,
    /// Where it was when another server had opened it.
    at_open: Option<i64>,
}

/// Asks the database in a thread of its own, until it is dropped.
pub(super) struct Commits {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    deaths: Vec<Death>,
    /// From a server's death to the next commit through another session, whatever else happened meanwhile, except to the database.
    pub(super) silences: Vec<Duration>,
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Commits {
    pub(super) fn watch(database_url: String) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (sees, stops) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("this process may have threads");
            runtime.block_on(ask(&database_url, &sees, &stops));
        });
        Self {
            seen,
            stop,
            thread: Some(thread),
            deaths: Vec::new(),
            silences: Vec::new(),
        }
    }

    /// Of all devices.
    pub(super) fn samples(&self) -> i64 {
        locked(&self.seen)
            .devices
            .values()
            .map(|progress| progress.samples)
            .sum()
    }

    /// Has the database just answered?
    pub(super) fn answers(&self) -> bool {
        locked(&self.seen)
            .answered
            .is_some_and(|answered| answered.elapsed() < Duration::from_millis(500))
    }

    /// The server that had this device's session has just died.
    pub(super) fn died(&mut self, device: &str) {
        let before = locked(&self.seen).devices.get(device).copied();
        let is_waited_for = self.deaths.iter().any(|death| death.device == device);
        if let (Some(before), false) = (before, is_waited_for) {
            self.deaths.push(Death {
                device: device.to_owned(),
                since: Instant::now(),
                before,
                at_open: None,
            });
        }
    }

    /// The database has troubles of its own: how long they last says nothing of servers and agents.
    pub(super) fn forget_deaths(&mut self) {
        self.deaths.clear();
    }

    pub(super) fn tick(&mut self) {
        let seen = locked(&self.seen);
        let silences = &mut self.silences;
        self.deaths.retain_mut(|death| {
            let Some(now) = seen.devices.get(&death.device) else {
                return true;
            };
            // What the dead one had sent to the database may still be committed.
            if now.opened_us == death.before.opened_us {
                return true;
            }
            let is_over = now.seqs > *death.at_open.get_or_insert(now.seqs);
            if is_over {
                silences.push(death.since.elapsed());
            }
            !is_over
        });
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn ask(database_url: &str, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut connection = None;
    while !stop.load(Ordering::SeqCst) {
        let answer = tokio::time::timeout(ANSWER_LIMIT, progress(database_url, &mut connection)).await;
        if let Ok(Ok(devices)) = answer {
            let mut seen = locked(seen);
            seen.devices = devices;
            seen.answered = Some(Instant::now());
        } else {
            connection = None;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn progress(database_url: &str, connection: &mut Option<PgConnection>) -> Result<BTreeMap<String, Progress>> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => stored::sql(database_url).await?,
    };
    let rows = sqlx::query(
        "SELECT device, (extract(epoch FROM max(opened_at)) * 1e6)::bigint AS opened_us,
                sum(watermark)::bigint AS seqs, sum(sample_count)::bigint AS samples
           FROM stream GROUP BY device",
    )
    .fetch_all(&mut open)
    .await?;
    *connection = Some(open);
    let of = |row: &sqlx::postgres::PgRow| {
        let progress = Progress {
            opened_us: row.try_get::<Option<i64>, _>("opened_us")?.unwrap_or_default(),
            seqs: row.try_get("seqs")?,
            samples: row.try_get("samples")?,
        };
        Ok((row.try_get("device")?, progress))
    };
    rows.iter().map(of).collect()
}
