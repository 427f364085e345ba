//! The agent's durable queue: every chunk of every source, from its capture until the server's ack and a hold-back after it.
//!
//! [`Outbox`] is all of the logic over the small seam [`kv::Kv`]; production runs it on RocksDB ([`rocks`]), the simulation on
//! [`memory::MemoryKv`]. Sources store from threads of their own while the uplink reads; every change is one atomic batch, so
//! that there is nothing to recover after a crash. What stands in which batch is in docs/PROTOCOL.md.
//!
//! | file | what |
//! |---|---|
//! | [`kv`], [`memory`], [`rocks`] | the ordered map underneath |
//! | `keys`, `record` | every key and every value |
//! | `table`, `timeline` | what is kept in memory: a few KiB per stream, nothing per chunk |
//! | `start`, `store`, `room`, `release`, `evict`, `adopt`, `succeed`, `heal` | one file per batch |
//! | `find`, `read`, `seam`, `remains` | reading; what the uplink sees, and who waits for it |
//! | [`verify`], `durability` | looking it all over; when the disk is synced |
//! | [`chunk_file`], [`carry`] | streams as files: out of a damaged outbox, into another |
//!
//! # Invariants
//! - I4: the records of a stream tile its axis from `base` to `tail`, without a hole in seqs, samples or digests. A damaged
//!   record becomes a gap `corrupt` over exactly what it covered; a position taken over from the server, a gap
//!   `lost_by_server` over what only the server has. What lies at or before `base` does not exist, whatever the disk says.
//! - I5: a chunk is released only below `acked`, which moves only by digest-checked acks, and then once its hold-back has
//!   passed, or the held-back bytes or the quota need the room. A stream's last record stays until its `end` is acked and
//!   past hold-back, and goes with the whole stream.
//! - I12: the quota bounds the bytes held, the step sizes bound every batch but the ones that replace a range by a tombstone.
//! - I13: samples stored = samples held + samples in gaps + samples released.
//! - I14: a digest is that of the capture. Eviction, damage and rewinding keep it; only a successor has digests of its own.
//!
//! Two locks: `writer` makes changes one at a time and is held while the disk writes; `table` is held for moments only, so
//! that the uplink's looking never waits for the disk. `writer` is taken first. (A third, `reclaiming`, before both, keeps a
//! file's stream that starts anew away from the deleting of its old files.)

mod adopt;
pub mod carry;
pub mod chunk_file;
mod durability;
mod error;
mod evict;
mod find;
mod heal;
mod keys;
pub mod kv;
pub mod memory;
mod read;
mod record;
mod release;
mod remains;
#[cfg(feature = "rocksdb")]
pub mod rocks;
mod room;
mod seam;
mod start;
mod store;
mod succeed;
mod table;
#[cfg(test)]
mod tests;
mod timeline;
pub mod verify;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits;

pub use durability::Durability;
pub use error::{OutboxAlarm, OutboxError, StoreError};
pub use remains::Remains;
pub use start::StartReport;
pub use store::NewChunk;

use durability::Syncer;
use kv::{Batch, Kv};
use record::State;
use table::Table;

/// The smallest sensible quota: several of the largest chunks. Below, a large chunk may never fit.
pub const QUOTA_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// The quota, unless told otherwise.
pub const QUOTA_BYTES_DEFAULT: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes that the file system keeps free: the outbox counts as full before the disk is, so that deleting still works.
pub const FREE_BYTES_MIN_DEFAULT: u64 = 256 * 1024 * 1024;
/// Records that one batch reads, moves or deletes at most.
const STEP_RECORDS_MAX: usize = 512;
/// Bytes of columns that one batch moves at most, beyond its first record.
const STEP_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Alarms that wait to be taken; more are only counted.
const ALARMS_MAX: usize = 256;

const _: () = assert!(QUOTA_BYTES_MIN >= 4 * limits::CHUNK_BYTES_MAX as u64);

/// What to do when the quota is reached and nothing acked is left to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest un-acked samples of live streams become gaps.
    #[default]
    Evict,
    /// The source waits. (The source of a file always waits.)
    Block,
}

/// Where random identifiers come from; a simulation brings its own.
pub type Random = Arc<dyn Fn() -> Result<[u8; 16], OutboxError> + Send + Sync>;

/// How an outbox behaves.
#[derive(Clone)]
pub struct Options {
    /// Bytes that may be held, [`QUOTA_BYTES_MIN`] or more. The disk needs some hundred MB more.
    pub quota_bytes: u64,
    /// Bytes that the file system keeps free.
    pub free_bytes_min: u64,
    /// When the quota is reached.
    pub when_full: WhenFull,
    /// How long acked chunks stay.
    pub hold_back: Duration,
    /// How many bytes of acked chunks stay at most.
    pub hold_back_bytes: u64,
    /// When what is stored is synced.
    pub durability: Durability,
    /// Where random identifiers come from.
    pub random: Random,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            quota_bytes: QUOTA_BYTES_DEFAULT,
            free_bytes_min: FREE_BYTES_MIN_DEFAULT,
            when_full: WhenFull::default(),
            hold_back: Duration::from_millis(limits::HOLD_BACK_MS),
            hold_back_bytes: QUOTA_BYTES_DEFAULT / 4,
            durability: Durability::default(),
            random: Arc::new(system_random),
        }
    }
}

fn system_random() -> Result<[u8; 16], OutboxError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| OutboxError::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// Counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Chunks stored, gaps and ends too.
    pub stored_chunks: u64,
    /// Bytes of columns stored.
    pub stored_bytes: u64,
    /// Records released.
    pub released_chunks: u64,
    /// Samples that became gaps `evicted`.
    pub evicted_samples: u64,
    /// Samples that became gaps `corrupt`.
    pub corrupt_samples: u64,
    /// Alarms, taken or not.
    pub alarms: u64,
}

/// What only the holder of the writer's lock has.
#[derive(Debug, Default)]
struct Writer {
    /// Deleted since the disk was last told to give room back.
    deleted_bytes: u64,
    /// Deleted before that: the disk is about to give it back.
    reclaiming_bytes: u64,
    /// The last seq of each stream whose data were released since then.
    deleted_through: BTreeMap<StreamId, u64>,
    /// Where runs of data that were evicted since then begin, and their last seqs.
    evicted: BTreeMap<(StreamId, u64), u64>,
    /// When that was.
    reclaimed_at: Duration,
}

type OnChange = Arc<dyn Fn() + Send + Sync>;

/// See the module's documentation.
pub struct Outbox<K: Kv> {
    kv: Arc<K>,
    options: Options,
    /// Held while the disk gives room back; taken before `writer`.
    reclaiming: Mutex<()>,
    writer: Mutex<Writer>,
    table: Mutex<Table>,
    /// With `table`: something may have made room, or a server has answered.
    changed: Condvar,
    revision: AtomicU64,
    relabelled: AtomicU64,
    on_change: Mutex<Option<OnChange>>,
    alarms: Mutex<VecDeque<OutboxAlarm>>,
    /// Written since the last sync.
    dirty: Arc<AtomicBool>,
    syncer: Mutex<Option<Syncer>>,
}

impl<K: Kv> std::fmt::Debug for Outbox<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("table", &self.table())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is changed in one step, after all that can fail: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Kv> Outbox<K> {
    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }

    /// What it is kept in.
    #[must_use]
    pub fn kv(&self) -> &Arc<K> {
        &self.kv
    }

    /// How it behaves.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Called, from whichever thread, after anything changed that the uplink may want to know: wake it there.
    pub fn set_on_change(&self, on_change: OnChange) {
        *lock(&self.on_change) = Some(on_change);
    }

    fn notify(&self) {
        self.changed.notify_all();
        let on_change = lock(&self.on_change).clone();
        if let Some(on_change) = on_change {
            on_change();
        }
    }

    fn alarm(&self, alarm: OutboxAlarm) {
        self.table().counters.alarms += 1;
        let mut alarms = lock(&self.alarms);
        if alarms.len() < ALARMS_MAX {
            alarms.push_back(alarm);
        }
    }

    /// What people should hear of, since this was last called.
    #[must_use]
    pub fn take_alarms(&self) -> Vec<OutboxAlarm> {
        let failed = lock(&self.syncer).as_ref().and_then(Syncer::take_failure);
        if let Some(error) = failed {
            self.alarm(OutboxAlarm::SyncFailed(error));
        }
        lock(&self.alarms).drain(..).collect()
    }

    fn streams_changed(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
    }

    /// Since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.table().counters
    }

    /// Bytes of all records held.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.table().held_bytes()
    }

    /// Brings everything stored to the disk.
    pub fn sync(&self) -> Result<(), OutboxError> {
        self.dirty.store(false, Ordering::Release);
        self.kv
            .sync()
            .inspect_err(|_| self.dirty.store(true, Ordering::Release))?;
        Ok(())
    }

    /// Writes one batch with the states that it brings about, and only then lets memory know: after an error nothing changed.
    fn commit(&self, mut batch: Batch, changed: &[(StreamId, &State)], sync: bool) -> Result<(), OutboxError> {
        for (stream, state) in changed {
            assert!(state.base.at.seq <= state.tail.at.seq, "I2: released ≤ stored");
            let key = keys::state(*stream);
            let acked = self.table().acked_hint(*stream);
            batch.put(key, state.to_value(&key, acked));
        }
        self.kv.write(batch, sync)?;
        self.dirty.store(!sync, Ordering::Release);
        let mut table = self.table();
        for (stream, state) in changed {
            table.set_state(*stream, (*state).clone());
        }
        Ok(())
    }
}
