//! [`Kv`] on RocksDB.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::statvfs::statvfs;
use rocksdb::{CompactOptions, DB, DBRawIterator, Error, ErrorKind, WriteBatch};

use super::super::OutboxError;
use tempfile::TempDir;

use super::super::keys;
use super::super::kv::{Batch, Entry, Kv, KvError, Operation, Visit};
use super::blobs::Blobs;
use super::synced::Synced;
use super::{STORE, options};

const BALLAST: &str = "ballast";
/// Room for deleting: the log, a flush and a compaction of small records.
const BALLAST_BYTES: u64 = 32 * 1024 * 1024;
/// With less than this free, values are refused, and the ballast makes room for deleting.
const LOW_BYTES: u64 = 16 * 1024 * 1024;

/// See the module's documentation.
pub struct RocksKv {
    db: DB,
    dir: PathBuf,
    store: PathBuf,
    has_ballast: AtomicBool,
    /// Opened to be looked at.
    look: Option<Look>,
    synced: Synced,
}

/// What looking at a store needs besides. It is dropped after the database.
struct Look {
    _scratch: TempDir,
    /// Why it was put together again, if RocksDB did not open it as it is.
    damage: Option<String>,
    /// Made when something cannot be read.
    blobs: OnceLock<Blobs>,
}

impl std::fmt::Debug for RocksKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksKv")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

fn kv_error(error: &Error) -> KvError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => KvError::Damaged(text),
        _ if text.contains("No space left") || text.contains("Disk quota exceeded") => KvError::Full(text),
        _ => KvError::Failed(text),
    }
}

/// Of reading: what the disk cannot read, or a file that is gone, is damage like any other, and the rest stays readable.
fn read_error(error: &Error) -> KvError {
    let text = error.to_string();
    let lost = ["Input/output error", "No such file"]
        .iter()
        .any(|what| text.contains(what));
    match error.kind() {
        ErrorKind::IOError if lost => KvError::Damaged(text),
        _ => kv_error(error),
    }
}

/// A disk may fail once; a failure that stays is damage.
fn read_twice<T>(read: impl Fn() -> Result<T, KvError>) -> Result<T, KvError> {
    match read() {
        Err(KvError::Damaged(_)) => read(),
        other => other,
    }
}

/// Of opening: a store whose files are missing or make no sense is damaged.
pub(super) fn open_error(error: &Error) -> OutboxError {
    let text = error.to_string();
    let lost = text.contains("No such file") || text.contains("does not exist");
    match error.kind() {
        ErrorKind::IOError if text.contains("LOCK") && !lost => OutboxError::InUse,
        ErrorKind::InvalidArgument | ErrorKind::NotFound => KvError::Damaged(text).into(),
        ErrorKind::IOError if lost => KvError::Damaged(text).into(),
        _ => kv_error(error).into(),
    }
}

fn is_ballast(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

impl RocksKv {
    /// Opens, or starts, the store in `dir`. On a full disk, that takes the room that is kept for deleting.
    pub fn open(dir: &Path) -> Result<Self, OutboxError> {
        let store = dir.join(STORE);
        let kv = match Self::open_at(dir, &store) {
            Err(OutboxError::Kv(KvError::Full(_))) if std::fs::remove_file(dir.join(BALLAST)).is_ok() => {
                Self::open_at(dir, &store)?
            }
            other => other?,
        };
        kv.take_ballast();
        Ok(kv)
    }

    pub(super) fn open_at(dir: &Path, store: &Path) -> Result<Self, OutboxError> {
        let db = DB::open(&options::database(), store).map_err(|error| open_error(&error))?;
        Ok(Self {
            db,
            dir: dir.into(),
            store: store.into(),
            has_ballast: AtomicBool::new(is_ballast(&dir.join(BALLAST))),
            look: None,
            synced: Synced::default(),
        })
    }

    /// Opens files of a store to look at them: those at `at`, which are those of `store` or stand for them; RocksDB's own notes go
    /// into `scratch`. `damage`: why they had to be put together again.
    pub(super) fn open_to_look(
        store: &Path,
        at: &Path,
        scratch: TempDir,
        damage: Option<String>,
    ) -> Result<Self, OutboxError> {
        let mut options = options::database();
        options.set_db_log_dir(scratch.path());
        let db = DB::open_for_read_only(&options, at, false).map_err(|error| open_error(&error))?;
        Ok(Self {
            db,
            dir: store.into(),
            store: store.into(),
            has_ballast: AtomicBool::new(false),
            look: Some(Look {
                _scratch: scratch,
                damage,
                blobs: OnceLock::new(),
            }),
            synced: Synced::default(),
        })
    }

    /// Why this store had to be put together again to be looked at, if it had.
    pub(super) fn damage(&self) -> Option<&str> {
        self.look.as_ref()?.damage.as_deref()
    }

    /// The number of the newest sorted file that the store knows.
    pub(super) fn newest_table(&self) -> Option<u64> {
        let files = self.db.live_files().ok()?;
        let number = |name: &str| name.trim_start_matches('/').split('.').next()?.parse().ok();
        files.iter().filter_map(|file| number(&file.name)).max()
    }

    /// What only a blob file has: of a store that is looked at, where RocksDB cannot read.
    fn salvaged(&self, key: &[u8], got: &Result<Option<Vec<u8>>, KvError>) -> Option<Vec<u8>> {
        let look = self.look.as_ref()?;
        match got {
            Err(KvError::Damaged(_)) => {}
            // The way from a chunk's columns to their bytes may be lost without a word; a chunk without columns has none.
            Ok(None) if look.damage.is_some() && keys::is_data(key) => {}
            _ => return None,
        }
        look.blobs.get_or_init(|| Blobs::find(&self.store)).get(key)
    }

    /// Writes what the log was to keep into sorted files, from memory; the log starts anew.
    fn rewrite(&self) -> Result<(), KvError> {
        self.db.flush().map_err(|error| kv_error(&error))
    }

    fn free(&self) -> Option<u64> {
        let stat = statvfs(&self.dir).ok()?;
        Some(stat.blocks_available() * stat.fragment_size())
    }

    /// Keeps room for deleting, where there is plenty.
    fn take_ballast(&self) {
        if self.has_ballast.load(Ordering::Relaxed) || self.free().is_none_or(|free| free < 4 * BALLAST_BYTES) {
            return;
        }
        let allocate = || -> std::io::Result<()> {
            let file = std::fs::File::create(self.dir.join(BALLAST))?;
            let bytes = i64::try_from(BALLAST_BYTES).expect("the ballast is small");
            nix::fcntl::posix_fallocate(&file, 0, bytes).map_err(std::io::Error::from)
        };
        // Without it the outbox is only less comfortable on a full disk. What there is of it is there to be dropped.
        let there = allocate().is_ok() || is_ballast(&self.dir.join(BALLAST));
        self.has_ballast.store(there, Ordering::Relaxed);
    }

    fn drop_ballast(&self) {
        if self.has_ballast.swap(false, Ordering::Relaxed) {
            // If it cannot be deleted, the write that needs the room says so.
            let _ = std::fs::remove_file(self.dir.join(BALLAST));
        }
    }

    /// RocksDB must never meet a full disk: it would take no more writes at all.
    fn check_room(&self, batch: &Batch) -> Result<(), KvError> {
        let bytes = batch.put_bytes();
        let low = |limit: u64| self.free().is_some_and(|free| free < limit);
        if !low(LOW_BYTES + 2 * bytes) {
            return Ok(());
        }
        let deletes = batch
            .operations
            .iter()
            .any(|operation| !matches!(operation, Operation::Put(..)));
        if deletes {
            self.drop_ballast();
        } else if bytes > 64 * 1024 {
            return Err(KvError::Full(format!(
                "{} has less than {LOW_BYTES} bytes free",
                self.dir.display()
            )));
        }
        Ok(())
    }
}

fn check(iterator: &DBRawIterator<'_>) -> Result<(), KvError> {
    iterator.status().map_err(|error| read_error(&error))
}

impl Kv for RocksKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let got = read_twice(|| self.db.get(key).map_err(|error| read_error(&error)));
        match self.salvaged(key, &got) {
            Some(value) => Ok(Some(value)),
            None => got,
        }
    }

    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), KvError> {
        if from >= end {
            return Ok(());
        }
        let mut iterator = self.db.raw_iterator_opt(options::scan(from, end));
        iterator.seek(from);
        let mut seen = None;
        loop {
            while let Some((key, value)) = iterator.item() {
                if !visit(key, value) {
                    return Ok(());
                }
                seen = Some(key.to_vec());
                iterator.next();
            }
            if check(&iterator).is_ok() {
                return Ok(());
            }
            // Once more, after what was seen: a disk may fail once.
            match &seen {
                Some(key) => {
                    iterator.seek(key);
                    if iterator.key() == Some(key) {
                        iterator.next();
                    }
                }
                None => iterator.seek(from),
            }
            if !iterator.valid() {
                return check(&iterator);
            }
        }
    }

    fn last(&self, from: &[u8], end: &[u8]) -> Result<Option<Entry>, KvError> {
        if from >= end {
            return Ok(None);
        }
        read_twice(|| {
            let mut iterator = self.db.raw_iterator_opt(options::scan(from, end));
            iterator.seek_to_last();
            let entry = iterator.item().map(|(key, value)| (key.to_vec(), value.to_vec()));
            if entry.is_none() {
                check(&iterator)?;
            }
            Ok(entry)
        })
    }

    fn write(&self, batch: Batch, sync: bool) -> Result<(), KvError> {
        if self.look.is_some() {
            return Err(KvError::Failed("it was opened to be looked at".into()));
        }
        self.check_room(&batch)?;
        let mut writes = WriteBatch::default();
        for operation in &batch.operations {
            match operation {
                Operation::Put(key, value) => writes.put(key, value),
                Operation::Delete(key) => writes.delete(key),
                Operation::DeleteRange(from, end) if from < end => writes.delete_range(from, end),
                Operation::DeleteRange(..) => {}
            }
        }
        let write = || {
            let written = self.db.write_opt(writes, &options::write(sync));
            written.map_err(|error| kv_error(&error))
        };
        if sync {
            self.synced.sync(|| self.rewrite(), write)
        } else {
            write()
        }
    }

    fn sync(&self) -> Result<(), KvError> {
        let sync = || self.db.flush_wal(true).map_err(|error| kv_error(&error));
        self.synced.sync(|| self.rewrite(), sync)
    }

    fn reclaim(&self, from: &[u8], to: &[u8]) -> Result<(), KvError> {
        // Compacting drops the tree's references, and with the last one of each, the blob file.
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        self.db.compact_range_opt(Some(from), Some(to), &options);
        self.take_ballast();
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        self.free()
    }

    fn used_bytes(&self) -> u64 {
        let Ok(files) = std::fs::read_dir(&self.store) else {
            return 0;
        };
        // A file may be gone before it is asked.
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_the_last_process_kept_for_deleting_can_be_used() {
        let dir = TempDir::new().unwrap();
        drop(RocksKv::open(dir.path()).unwrap());
        assert!(is_ballast(&dir.path().join(BALLAST)));
        // As on a disk that has filled since then: nothing is taken, what is there counts.
        let kv = RocksKv::open_at(dir.path(), &dir.path().join(STORE)).unwrap();
        kv.drop_ballast();
        assert!(!dir.path().join(BALLAST).exists());
    }
}
