//! Looks at a store, whatever is damaged of it, and changes nothing: not a byte of any file, and no file beside them.
//!
//! A store that RocksDB does not open as it is (MANIFEST or CURRENT gone, bad, or older than the files) is put together again in a
//! temporary directory: links to its sorted files and its logs, of which RocksDB's own repair makes a new MANIFEST. Columns are then
//! read from the blob files directly (see `blobs.rs`), which that repair knows nothing of.
//!
//! The same is asked before a store is opened for good: RocksDB deletes every file that its MANIFEST does not name, and where CURRENT
//! is gone it starts anew, in the midst of the files.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rocksdb::DB;
use tempfile::TempDir;

use super::super::OutboxError;
use super::super::keys;
use super::super::kv::{Kv, KvError};
use super::super::record::State;
use super::kv::{RocksKv, open_error};
use super::{failed, options, will_not_open};

const CURRENT: &str = "CURRENT";
const BEHIND: &str = "its MANIFEST is older than its files";

fn damaged(why: &str) -> OutboxError {
    KvError::Damaged(why.into()).into()
}

/// The store's files that end like this, in the order of their numbers.
pub(super) fn numbered(store: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension() == Some(OsStr::new(extension)))
        .filter_map(|path| Some((number(&path)?, path)))
        .collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn scratch() -> Result<TempDir, OutboxError> {
    let made = tempfile::Builder::new().prefix("wavekeep-look-").tempdir();
    made.map_err(|error| {
        KvError::Failed(format!(
            "there is no temporary directory ({error}): set TMPDIR to one with room"
        ))
        .into()
    })
}

impl RocksKv {
    /// Opens the store to look at it.
    pub(super) fn look(store: &Path) -> Result<Self, OutboxError> {
        match look_as_it_is(store) {
            Err(error) if will_not_open(&error) => put_together(store, files_of(store), Some(error.to_string())),
            other => other,
        }
    }
}

/// Would RocksDB open all of it?
pub(super) fn check(store: &Path) -> Result<(), OutboxError> {
    // One that is only being made has nothing that could be lost.
    let has_files = ["sst", "blob", "log"]
        .iter()
        .any(|kind| !numbered(store, kind).is_empty());
    if has_files {
        look_as_it_is(store)?;
    }
    Ok(())
}

/// Is there no log? RocksDB always has one, and what was stored last is in it.
pub(super) fn has_lost_its_log(store: &Path) -> bool {
    store.join(CURRENT).exists() && numbered(store, "log").is_empty()
}

fn look_as_it_is(store: &Path) -> Result<RocksKv, OutboxError> {
    if !store.join(CURRENT).exists() {
        return Err(damaged("its file CURRENT is gone"));
    }
    let kv = RocksKv::open_to_look(store, store, scratch()?, None)?;
    let known = kv.newest_table().unwrap_or(0);
    let mut newer = numbered(store, "sst");
    newer.retain(|path| number(path) > Some(known));
    // After a crash there may be a newer one that says nothing new: it was about to be named.
    if !newer.is_empty()
        && let Ok(newer) = put_together(store, newer, None)
        && says_more(&newer, &kv)?
    {
        return Err(damaged(BEHIND));
    }
    Ok(kv)
}

/// Does `newer` know of chunks that `kv` does not?
fn says_more(newer: &RocksKv, kv: &RocksKv) -> Result<bool, OutboxError> {
    let mut states = Vec::new();
    let scanned = newer.scan(&keys::STATES_FROM, &keys::STATES_END, &mut |key, value| {
        states.extend(keys::stream_of_state(key).zip(State::from_value(key, value)));
        true
    });
    // Behind what is damaged there may be more; what was found is enough to tell, mostly.
    drop(scanned);
    for (stream, (newer, acked)) in states {
        let key = keys::state(stream);
        let value = match kv.get(&key) {
            // The files that an old MANIFEST names are gone; a file that is only damaged is known.
            Err(KvError::Damaged(why)) if why.contains("No such file") => return Ok(true),
            Err(KvError::Damaged(_)) => continue,
            value => value?,
        };
        let more = match value {
            Some(value) => {
                State::from_value(&key, &value).is_some_and(|(known, _)| known.tail.at.seq < newer.tail.at.seq)
            }
            // One that is gone was acked.
            None => acked.seq < newer.tail.at.seq,
        };
        if more {
            return Ok(true);
        }
    }
    Ok(false)
}

fn files_of(store: &Path) -> Vec<PathBuf> {
    let mut files = numbered(store, "sst");
    files.extend(numbered(store, "log"));
    files
}

/// A store of these files of `store` alone.
fn put_together(store: &Path, files: Vec<PathBuf>, damage: Option<String>) -> Result<RocksKv, OutboxError> {
    if files.is_empty() {
        return Err(damaged("none of its files is left"));
    }
    let scratch = scratch()?;
    let at = scratch.path().join("store");
    std::fs::create_dir(&at).map_err(failed)?;
    for file in files {
        let name = file.file_name().unwrap_or_default();
        symlink(file.canonicalize().map_err(failed)?, at.join(name)).map_err(failed)?;
    }
    DB::repair(&options::database(), &at).map_err(|error| open_error(&error))?;
    RocksKv::open_to_look(store, &at, scratch, damage)
}
