//! The outbox on RocksDB: `DIR/store` holds the database, `DIR/ballast` some room for deleting on a full disk.
//!
//! - *A store that will not open* is renamed to `DIR/store.broken-<time>` and a new one is started, with an alarm. Never is
//!   memory the outbox. [`repair`] brings back what can be read of the stores that were set aside.
//! - *Two agents with one outbox*: the second gets one sentence. A lock that the system drops with the process decides.
//! - *A newer format* is refused, and nothing is touched.
//!
//! How RocksDB is set up, and what was measured for it, stands in `options.rs`.

mod kv;
mod options;
mod repair;
mod synced;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

pub use kv::RocksKv;
pub use repair::{RepairReport, repair};

use super::kv::KvError;
use super::{Options, Outbox, OutboxAlarm, OutboxError, StartReport};

const STORE: &str = "store";
const BROKEN: &str = "store.broken-";

/// Opens the outbox in `dir`, or starts one there, for a process that is about to capture; `now` is its monotonic time.
pub fn open(dir: &Path, options: Options, now: Duration) -> Result<(Outbox<RocksKv>, StartReport), OutboxError> {
    std::fs::create_dir_all(dir).map_err(failed)?;
    match open_store(dir, options.clone(), now) {
        Err(error) if will_not_open(&error) => {
            let set_aside = set_aside(dir).map_err(failed)?;
            let (outbox, report) = open_store(dir, options, now)?;
            outbox.alarm(OutboxAlarm::SetAside {
                path: set_aside,
                why: error.to_string(),
            });
            Ok((outbox, report))
        }
        other => other,
    }
}

fn open_store(dir: &Path, options: Options, now: Duration) -> Result<(Outbox<RocksKv>, StartReport), OutboxError> {
    let kv = Arc::new(RocksKv::open(dir)?);
    Outbox::open(kv, options, now)
}

/// Opens the outbox in `dir` to look at it. Nothing is written. Not while an agent uses it: what it reads would change.
pub fn inspect(dir: &Path) -> Result<Outbox<RocksKv>, OutboxError> {
    if !dir.join(STORE).is_dir() {
        return Err(OutboxError::Missing);
    }
    if is_locked(dir) {
        return Err(OutboxError::InUse);
    }
    Outbox::inspect(Arc::new(RocksKv::open_read_only(dir)?))
}

/// Does another process hold the store's lock?
fn is_locked(dir: &Path) -> bool {
    let Ok(file) = std::fs::File::open(dir.join(STORE).join("LOCK")) else {
        return false;
    };
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
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
