//! The outbox on RocksDB: `DIR/store` holds the database, `DIR/ballast` some room for deleting on a full disk.
//!
//! - *A store that will not open*, or of which RocksDB would throw away what its MANIFEST does not name, is renamed to
//!   `DIR/store.broken-<time>` and a new one is started, with an alarm. Never is memory the outbox. [`repair()`] brings back what can
//!   be read of the stores that were set aside, and renames them to `DIR/store.kept-<time>`.
//! - *Looking changes nothing* ([`look`], [`inspect`]), whatever is damaged.
//! - *Two agents with one outbox*: the second gets one sentence. A lock that the system drops with the process decides.
//! - *A newer format* is refused, and nothing is touched.
//!
//! How RocksDB is set up, and what was measured for it, stands in `options.rs`.

mod blobs;
mod kv;
mod look;
mod options;
mod repair;
mod synced;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

pub use kv::RocksKv;
pub use repair::{RepairReport, is_repair_due, repair};

use look::numbered;

use super::kv::KvError;
use super::{Options, Outbox, OutboxAlarm, OutboxError, StartReport};

const STORE: &str = "store";
const BROKEN: &str = "store.broken-";
const KEPT: &str = "store.kept-";
const LOST_LOG: &str = "its write-ahead log is gone, and with it what was stored last";

/// Opens the outbox in `dir`, or starts one there, for a process that is about to capture; `now` is its monotonic time.
pub fn open(dir: &Path, options: Options, now: Duration) -> Result<(Outbox<RocksKv>, StartReport), OutboxError> {
    std::fs::create_dir_all(dir).map_err(failed)?;
    if is_locked(dir) {
        return Err(OutboxError::InUse);
    }
    let lost_log = look::has_lost_its_log(&dir.join(STORE));
    match open_store(dir, options.clone(), now) {
        Err(error) if will_not_open(&error) => {
            let set_aside = set_aside(dir).map_err(failed)?;
            let (outbox, report) = open_store(dir, options, now)?;
            outbox.alarm(OutboxAlarm::SetAside {
                path: set_aside,
                why: error.to_string(),
                outbox: dir.into(),
            });
            Ok((outbox, report))
        }
        Ok((outbox, report)) => {
            if lost_log {
                outbox.alarm(OutboxAlarm::LogLost);
            }
            Ok((outbox, report))
        }
        error => error,
    }
}

fn open_store(dir: &Path, options: Options, now: Duration) -> Result<(Outbox<RocksKv>, StartReport), OutboxError> {
    look::check(&dir.join(STORE))?;
    let kv = Arc::new(RocksKv::open(dir)?);
    Outbox::open(kv, options, now)
}

/// An outbox that is looked at.
#[derive(Debug)]
pub struct Looked {
    /// Opened to look at it.
    pub outbox: Outbox<RocksKv>,
    /// What is wrong with its files as a whole: `None` if RocksDB opens them.
    pub damage: Option<String>,
}

/// Opens a store to look at it, whatever is damaged: `DIR/store`, or one that was set aside. Nothing is written.
pub fn look(store: &Path) -> Result<Looked, OutboxError> {
    if !store.is_dir() {
        return Err(OutboxError::Missing);
    }
    let outbox = Outbox::inspect(Arc::new(RocksKv::look(store)?))?;
    let lost_log = || look::has_lost_its_log(store).then(|| LOST_LOG.to_owned());
    let damage = outbox.kv().damage().map(str::to_owned).or_else(lost_log);
    Ok(Looked { outbox, damage })
}

/// Opens the outbox in `dir` to look at it. Nothing is written. Not while an agent uses it: what it reads would change.
pub fn inspect(dir: &Path) -> Result<Outbox<RocksKv>, OutboxError> {
    if is_locked(dir) {
        return Err(OutboxError::InUse);
    }
    look(&dir.join(STORE)).map(|looked| looked.outbox)
}

/// Where the store of the outbox in `dir` is.
#[must_use]
pub fn store_of(dir: &Path) -> PathBuf {
    dir.join(STORE)
}

/// The stores in `dir` that were set aside and not brought back yet, oldest first.
pub fn set_aside_stores(dir: &Path) -> Result<Vec<PathBuf>, OutboxError> {
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    let broken = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(BROKEN))
            && path.is_dir()
    };
    let mut stores: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(broken)
        .collect();
    stores.sort();
    Ok(stores)
}

const fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Keeps agents away from the store until it is dropped. RocksDB's own lock is the same, and this process must not open the store while
/// it has this one: closing either lets go of both.
struct Locked {
    _file: std::fs::File,
}

impl Locked {
    fn take(dir: &Path) -> Result<Self, OutboxError> {
        let mut options = std::fs::File::options();
        let file = options.create(true).truncate(false).write(true);
        let file = file.open(dir.join(STORE).join("LOCK")).map_err(failed)?;
        fcntl(&file, FcntlArg::F_SETLK(&whole_file())).map_err(|_| OutboxError::InUse)?;
        Ok(Self { _file: file })
    }
}

/// Does another process hold the store's lock?
#[must_use]
pub fn is_locked(dir: &Path) -> bool {
    let Ok(file) = std::fs::File::open(dir.join(STORE).join("LOCK")) else {
        return false;
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

fn failed(error: std::io::Error) -> KvError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => KvError::Full(error.to_string()),
        _ => KvError::Failed(error.to_string()),
    }
}

/// Is it the store itself that is bad, rather than the disk, its permissions, or another agent?
fn will_not_open(error: &OutboxError) -> bool {
    matches!(error, OutboxError::Broken(_) | OutboxError::Kv(KvError::Damaged(_)))
}

/// Its name tells when.
fn set_aside(dir: &Path) -> std::io::Result<PathBuf> {
    let secs = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    // Several in one second get names of their own.
    let name = (secs..)
        .map(|secs| dir.join(format!("{BROKEN}{secs}")))
        .find(|path| !path.exists());
    let name = name.expect("some second has no broken store yet");
    std::fs::rename(dir.join(STORE), &name)?;
    Ok(name)
}
