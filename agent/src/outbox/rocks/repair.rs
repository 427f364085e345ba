//! Brings back what can be read of stores that were set aside, or of one that is damaged: whole streams, copied record by
//! record into the store in use. What cannot be read is a hole there, which becomes a gap `corrupt` as it does for the uplink.
//!
//! What was damaged stays as it was, under another name. Killed at any moment, it can be done again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wavekeep_proto::id::StreamId;

use super::super::kv::{Batch, Kv, KvError};
use super::super::record::{Described, Identity};
use super::super::store::put_described;
use super::super::table::Stream;
use super::super::verify::VerifyReport;
use super::super::{Options, Outbox, OutboxError, STEP_BYTES_MAX, find, keys};
use super::{BROKEN, KEPT, Locked, RocksKv, STORE, failed, look, set_aside, set_aside_stores, will_not_open};

/// Room on the disk that is left beside what is copied.
const FREE_BYTES: u64 = 128 * 1024 * 1024;

/// What was brought back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RepairReport {
    /// Stores that were damaged, under the names that they have now; they stay until a person deletes them.
    pub kept: Vec<PathBuf>,
    /// Of these, the ones of which nothing can be read.
    pub unreadable: Vec<PathBuf>,
    /// Streams that are held again.
    pub streams: u64,
    /// Records of them.
    pub records: u64,
    /// Streams that were left out, since the outbox in use holds the same.
    pub known_streams: u64,
    /// Streams of which nothing tells what they are: their chunks stay in the stores that are kept.
    pub lost_definitions: Vec<String>,
    /// What was damaged, before it became gaps.
    pub lost: VerifyReport,
}

/// Is anything damaged, or set aside and not brought back? Changes nothing.
pub fn is_repair_due(dir: &Path) -> Result<bool, OutboxError> {
    let store = dir.join(STORE);
    Ok(!set_aside_stores(dir)?.is_empty() || store.is_dir() && is_damaged(&store)?)
}

/// Sets the store aside if it is damaged, brings back what can be read of all that were set aside, and names what cannot. No agent may
/// run.
pub fn repair(dir: &Path, options: Options) -> Result<RepairReport, OutboxError> {
    if !dir.is_dir() {
        return Err(OutboxError::Missing);
    }
    if dir.join(STORE).is_dir() {
        // Agents are kept away until the store has another name, or is intact.
        let locked = Locked::take(dir)?;
        if is_damaged(&dir.join(STORE))? {
            check_room(dir)?;
            set_aside(dir).map_err(failed)?;
        }
        drop(locked);
    }
    let stores = set_aside_stores(dir)?;
    if stores.is_empty() {
        return if dir.join(STORE).is_dir() {
            Ok(RepairReport::default())
        } else {
            Err(OutboxError::Missing)
        };
    }
    let mut report = RepairReport::default();
    bring_back(dir, options.clone(), &stores, &mut report)?;
    name_what_is_lost(dir, options, &mut report)?;
    for store in &stores {
        let kept = keep(store)?;
        for unreadable in report.unreadable.iter_mut().filter(|path| *path == store) {
            unreadable.clone_from(&kept);
        }
        report.kept.push(kept);
    }
    Ok(report)
}

fn is_damaged(store: &Path) -> Result<bool, OutboxError> {
    let looked = match look(store) {
        Err(error) if will_not_open(&error) => return Ok(true),
        other => other?,
    };
    Ok(looked.damage.is_some() || !looked.outbox.verify()?.intact)
}

/// What is copied is there twice.
fn check_room(dir: &Path) -> Result<(), OutboxError> {
    let stat = nix::sys::statvfs::statvfs(dir).map_err(|error| failed(error.into()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    let entries = std::fs::read_dir(dir.join(STORE)).map_err(failed)?;
    let needed: u64 = entries.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
    if free >= needed + FREE_BYTES {
        return Ok(());
    }
    Err(KvError::Full(format!(
        "{free} bytes are free, and a copy of what is intact needs {needed}; nothing was changed, and `outbox export` brings it to another disk"
    ))
    .into())
}

fn bring_back(dir: &Path, options: Options, stores: &[PathBuf], report: &mut RepairReport) -> Result<(), OutboxError> {
    let (outbox, start) = Outbox::open(Arc::new(RocksKv::open(dir)?), options, Duration::ZERO)?;
    let mut is_new = start.created || start.streams == 0;
    // The last one first: what it says of a stream is the latest.
    for store in stores.iter().rev() {
        match look(store) {
            Ok(broken) => {
                let identity = broken.outbox.table().identity;
                if is_new && identity != Identity::lost() {
                    outbox.set_identity(identity)?;
                    is_new = false;
                }
                copy_streams(&broken.outbox, &outbox, report)?;
            }
            Err(error) if will_not_open(&error) => report.unreadable.push(store.clone()),
            Err(error) => return Err(error),
        }
    }
    outbox.sync()
}

fn copy_streams(from: &Outbox<RocksKv>, to: &Outbox<RocksKv>, report: &mut RepairReport) -> Result<(), OutboxError> {
    let streams: BTreeMap<StreamId, Stream> = from.table().streams.clone();
    for (id, stream) in streams {
        // In the table, or copied a moment ago.
        if to.state_of(id).is_some() || to.kv().get(&keys::definition(id))?.is_some() {
            report.known_streams += 1;
            continue;
        }
        copy_stream(&**from.kv(), &**to.kv(), id, &stream, report)?;
        report.streams += 1;
    }
    let lost = from.unknown_streams()?;
    report.lost_definitions.extend(lost.iter().map(ToString::to_string));
    Ok(())
}

fn copy_stream<K: Kv>(
    from: &K,
    to: &K,
    id: StreamId,
    stream: &Stream,
    report: &mut RepairReport,
) -> Result<(), OutboxError> {
    let (mut next, tail) = (stream.state.base.at.seq + 1, stream.state.tail.at.seq);
    let mut batch = Batch::default();
    while next <= tail {
        let found = find::some(from, id, next, tail)?;
        let Some(last) = found.last() else { break };
        next = last.record.header.seq + 1;
        for found in found {
            let seq = found.record.header.seq;
            let (chunk, data) = (keys::chunk(id, seq), keys::data(id, seq));
            batch.put(chunk, found.record.to_value(&chunk));
            if !found.record.column_bytes.is_empty()
                && let Ok(Some(value)) = from.get(&data)
            {
                batch.put(data, value);
            }
            report.records += 1;
            if batch.put_bytes() >= STEP_BYTES_MAX {
                to.write(std::mem::take(&mut batch), false)?;
            }
        }
    }
    // Last, so that a stream is there whole or not at all.
    let described = Described {
        definition: (*stream.definition).clone(),
        labels: stream.labels.clone(),
        run: stream.run.clone(),
    };
    put_described(&mut batch, &described);
    let key = keys::state(id);
    batch.put(key, stream.state.to_value(&key, stream.acked));
    to.write(batch, false)?;
    Ok(())
}

/// Reads all of it as the uplink would: what is damaged becomes a gap on the way.
fn name_what_is_lost(dir: &Path, options: Options, report: &mut RepairReport) -> Result<(), OutboxError> {
    let (outbox, _) = Outbox::open(Arc::new(RocksKv::open(dir)?), options, Duration::ZERO)?;
    report.lost = outbox.verify()?;
    outbox.mend()?;
    outbox.sync()
}

fn keep(store: &Path) -> Result<PathBuf, OutboxError> {
    let name = store.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_prefix(BROKEN).unwrap_or(name);
    let kept = store.with_file_name(format!("{KEPT}{name}"));
    std::fs::rename(store, &kept).map_err(failed)?;
    Ok(kept)
}
