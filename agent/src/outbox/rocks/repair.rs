//! Brings back what can be read of stores that were set aside, or of one that is damaged: whole streams, copied record by
//! record into the store in use. What cannot be read stays a hole, which the outbox names when it meets it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wavekeep_proto::id::StreamId;

use super::super::kv::{Batch, Kv};
use super::super::record::{Described, Identity, State};
use super::super::store::put_described;
use super::super::{Options, Outbox, OutboxError, STEP_BYTES_MAX, find, keys};
use super::{BROKEN, RocksKv, STORE, failed, set_aside, will_not_open};

/// What was brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Stores that were read; they stay where they are until a person deletes them.
    pub stores: Vec<PathBuf>,
    /// Stores that cannot be opened at all.
    pub unreadable: Vec<PathBuf>,
    /// Streams that are held again.
    pub streams: u64,
    /// Records of them.
    pub records: u64,
    /// Streams that were left out, since the outbox in use holds the same.
    pub known_streams: u64,
}

/// Sets the store aside if it is damaged, and brings back what can be read of all that were set aside. No agent may run.
pub fn repair(dir: &Path, options: Options) -> Result<RepairReport, OutboxError> {
    if !dir.is_dir() {
        return Err(OutboxError::Missing);
    }
    if dir.join(STORE).is_dir() && is_damaged(dir)? {
        set_aside(dir).map_err(failed)?;
    }
    let (outbox, start) = Outbox::open(Arc::new(RocksKv::open(dir)?), options, Duration::ZERO)?;
    let mut report = RepairReport::default();
    // The last one first: what it says of a stream is the latest.
    for store in set_aside_stores(dir)?.into_iter().rev() {
        match open_broken(dir, &store) {
            Ok(broken) => {
                if start.created && report.stores.is_empty() {
                    keep_identity(&broken, &outbox)?;
                }
                copy_streams(&broken, &outbox, &mut report)?;
                report.stores.push(store);
            }
            Err(error) if will_not_open(&error) => report.unreadable.push(store),
            Err(error) => return Err(error),
        }
    }
    outbox.sync()?;
    Ok(report)
}

fn is_damaged(dir: &Path) -> Result<bool, OutboxError> {
    let verified = RocksKv::open(dir)
        .and_then(|kv| Outbox::inspect(Arc::new(kv)))
        .and_then(|outbox| outbox.verify());
    match verified {
        Ok(report) => Ok(!report.intact),
        Err(error) if will_not_open(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// If RocksDB does not open it, RocksDB's own repair is tried on it first.
fn open_broken(dir: &Path, store: &Path) -> Result<RocksKv, OutboxError> {
    match RocksKv::open_at(dir, store) {
        Err(error) if will_not_open(&error) => {
            RocksKv::repair_files(store)?;
            RocksKv::open_at(dir, store)
        }
        other => other,
    }
}

/// The outbox stays who it was, and bound to whom it was.
fn keep_identity(from: &RocksKv, to: &Outbox<RocksKv>) -> Result<(), OutboxError> {
    let read = |key: &[u8]| {
        from.get(key)
            .ok()
            .flatten()
            .and_then(|value| Identity::from_value(key, &value))
    };
    match read(&keys::IDENTITY).or_else(|| read(&keys::IDENTITY_COPY)) {
        Some(identity) => to.set_identity(identity),
        None => Ok(()),
    }
}

fn set_aside_stores(dir: &Path) -> Result<Vec<PathBuf>, OutboxError> {
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

fn copy_streams(from: &RocksKv, to: &Outbox<RocksKv>, report: &mut RepairReport) -> Result<(), OutboxError> {
    let mut described = BTreeMap::new();
    // What lies behind a damaged definition is not found; what was found counts, and so do the copies.
    let _ = from.scan(
        &keys::DEFINITION_COPIES_FROM,
        &keys::DEFINITION_COPIES_END,
        &mut |key, value| {
            described.extend(keys::stream_of_definition_copy(key).zip(Described::from_value(key, value)));
            true
        },
    );
    let _ = from.scan(&keys::DEFINITIONS_FROM, &keys::DEFINITIONS_END, &mut |key, value| {
        described.extend(keys::stream_of_definition(key).zip(Described::from_value(key, value)));
        true
    });
    for (stream, described) in described {
        if to.state_of(stream).is_some() {
            report.known_streams += 1;
            continue;
        }
        copy_stream(from, &**to.kv(), stream, &described, report)?;
        report.streams += 1;
    }
    Ok(())
}

fn copy_stream<K: Kv>(
    from: &K,
    to: &K,
    stream: StreamId,
    described: &Described,
    report: &mut RepairReport,
) -> Result<(), OutboxError> {
    let key = keys::state(stream);
    let state = from.get(&key).ok().flatten();
    let stands = state.as_ref().and_then(|value| State::from_value(&key, value));
    let mut next = stands.map_or(0, |(state, _)| state.base.at.seq + 1);
    let mut batch = Batch::default();
    loop {
        let found = find::some(from, stream, next, wavekeep_proto::limits::SEQ_MAX)?;
        let Some(last) = found.last() else { break };
        next = last.record.header.seq + 1;
        for found in found {
            let seq = found.record.header.seq;
            let (chunk, data) = (keys::chunk(stream, seq), keys::data(stream, seq));
            batch.put(chunk, found.record.to_value(&chunk));
            if let Ok(Some(value)) = from.get(&data) {
                batch.put(data, value);
            }
            report.records += 1;
            if batch.put_bytes() >= STEP_BYTES_MAX {
                to.write(std::mem::take(&mut batch), false)?;
            }
        }
    }
    // Last, so that a stream is there whole or not at all.
    put_described(&mut batch, described);
    if let Some(state) = state {
        batch.put(key, state);
    }
    to.write(batch, false)?;
    Ok(())
}
