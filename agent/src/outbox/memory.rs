//! A simulated disk with a page cache: what was written and not synced is lost by a power cut, in whole batches from the
//! end. The simulation and the property tests run the outbox on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::kv::{Batch, Entry, Kv, KvError, Operation, Visit};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone, Default)]
struct Disk {
    /// What a power cut leaves at least.
    durable: Map,
    /// Written after `durable`, in order, not synced.
    log: Vec<Batch>,
    /// What reads see: `durable` with `log` applied.
    current: Map,
    used_bytes: u64,
    /// Bytes of keys and values that fit.
    capacity_bytes: Option<u64>,
    /// Writes that still succeed before one fails, once.
    fail_after: Option<u64>,
    /// The next syncs find the disk full.
    full_syncs: u64,
    /// Keys whose stored value is unreadable.
    damaged: BTreeSet<Vec<u8>>,
    /// Places that no scan gets past, even once the key there was set again: as a bad block of a sorted file.
    damaged_places: BTreeSet<Vec<u8>>,
    batches: u64,
}

/// See the module's documentation. Cloning it is cloning the disk: nothing is shared.
#[derive(Debug, Default)]
pub struct MemoryKv {
    disk: Mutex<Disk>,
}

impl Clone for MemoryKv {
    fn clone(&self) -> Self {
        Self {
            disk: Mutex::new(self.disk().clone()),
        }
    }
}

fn apply(map: &mut Map, batch: &Batch) {
    for operation in &batch.operations {
        match operation {
            Operation::Put(key, value) => {
                map.insert(key.clone(), value.clone());
            }
            Operation::Delete(key) => {
                map.remove(key);
            }
            Operation::DeleteRange(from, end) => remove_range(map, from, Bound::Excluded(end)),
        }
    }
}

fn remove_range(map: &mut Map, from: &[u8], end: Bound<&[u8]>) {
    if matches!(end, Bound::Included(end) | Bound::Excluded(end) if end <= from) {
        return;
    }
    let keys: Vec<Vec<u8>> = map
        .range::<[u8], _>((Bound::Included(from), end))
        .map(|(key, _)| key.clone())
        .collect();
    for key in keys {
        map.remove(&key);
    }
}

fn bad_sector() -> KvError {
    KvError::Damaged("a simulated bad sector".into())
}

fn bytes_of(map: &Map) -> u64 {
    map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

impl Disk {
    /// What the map's bytes grow by; deleting in the same batch makes room for putting.
    fn growth(&self, batch: &Batch) -> (u64, u64) {
        let size = |key: &[u8]| {
            self.current
                .get(key)
                .map_or(0, |value| (key.len() + value.len()) as u64)
        };
        let mut freed = 0;
        for operation in &batch.operations {
            freed += match operation {
                Operation::Put(key, _) | Operation::Delete(key) => size(key),
                Operation::DeleteRange(from, end) if from < end => self
                    .current
                    .range::<[u8], _>((Bound::Included(&from[..]), Bound::Excluded(&end[..])))
                    .map(|(key, value)| (key.len() + value.len()) as u64)
                    .sum(),
                Operation::DeleteRange(..) => 0,
            };
        }
        (batch.put_bytes(), freed)
    }

    /// May a scan go from `from` to the entry at `to`?
    fn check_way(&self, from: &[u8], to: Option<&[u8]>, end: &[u8]) -> Result<(), KvError> {
        let mut places = self
            .damaged_places
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(end)));
        match places.next() {
            Some(place) if to.is_none_or(|to| place.as_slice() <= to) => Err(bad_sector()),
            _ => Ok(()),
        }
    }
}

impl MemoryKv {
    /// An empty disk without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many batches would a power cut lose at most?
    #[must_use]
    pub fn unsynced_batches(&self) -> usize {
        self.disk().log.len()
    }

    /// How many batches were ever written?
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.disk().batches
    }

    /// The power fails: of the unsynced batches, the first `keep_batches` happen to have reached the disk.
    pub fn power_cut(&self, keep_batches: usize) {
        let mut disk = self.disk();
        let log = std::mem::take(&mut disk.log);
        for batch in log.iter().take(keep_batches) {
            apply(&mut disk.durable, batch);
        }
        disk.current = disk.durable.clone();
        disk.used_bytes = bytes_of(&disk.current);
    }

    /// From now on, no more than this many bytes fit; `None` for no limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.disk().capacity_bytes = capacity_bytes;
    }

    /// After `successes` more writes, one fails and writes nothing.
    pub fn fail_after(&self, successes: Option<u64>) {
        self.disk().fail_after = successes;
    }

    /// The next syncs, this many, find the disk full and sync nothing.
    pub fn fill_for_syncs(&self, count: u64) {
        self.disk().full_syncs = count;
    }

    /// A bad sector: reading this key fails until it is set again, and no scan gets past it any more.
    pub fn damage(&self, key: &[u8]) {
        let mut disk = self.disk();
        disk.damaged.insert(key.to_vec());
        disk.damaged_places.insert(key.to_vec());
    }

    /// Flips one bit of a stored value, silently. False if there is no such bit.
    pub fn flip(&self, key: &[u8], bit: usize) -> bool {
        let mut disk = self.disk();
        let Disk { current, durable, .. } = &mut *disk;
        let flip = |map: &mut Map| match map.get_mut(key).and_then(|value| value.get_mut(bit / 8)) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        };
        flip(durable);
        flip(current)
    }

    /// Every entry, for tests that look at, or tamper with, the bytes.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.disk()
            .current
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let disk = self.disk();
        if disk.damaged.contains(key) {
            return Err(bad_sector());
        }
        Ok(disk.current.get(key).cloned())
    }

    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), KvError> {
        if from >= end {
            return Ok(());
        }
        // One entry at a time: the visitor may call back.
        let mut at = from.to_vec();
        loop {
            let (key, value) = {
                let disk = self.disk();
                let found = disk
                    .current
                    .range::<[u8], _>((Bound::Included(&at[..]), Bound::Excluded(end)))
                    .next();
                disk.check_way(&at, found.map(|(key, _)| &key[..]), end)?;
                let Some((key, value)) = found else { return Ok(()) };
                (key.clone(), value.clone())
            };
            if !visit(&key, &value) {
                return Ok(());
            }
            at = key;
            at.push(0);
        }
    }

    fn last(&self, from: &[u8], end: &[u8]) -> Result<Option<Entry>, KvError> {
        if from >= end {
            return Ok(None);
        }
        let disk = self.disk();
        let found = disk
            .current
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(end)))
            .next_back();
        disk.check_way(found.map_or(from, |(key, _)| key), None, end)?;
        Ok(found.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn write(&self, batch: Batch, sync: bool) -> Result<(), KvError> {
        let mut disk = self.disk();
        if let Some(successes) = disk.fail_after {
            disk.fail_after = successes.checked_sub(1);
            if successes == 0 {
                return Err(KvError::Failed("a simulated write error".into()));
            }
        }
        let (put, freed) = disk.growth(&batch);
        let after = (disk.used_bytes + put).saturating_sub(freed);
        if put > freed && disk.capacity_bytes.is_some_and(|capacity| after > capacity) {
            return Err(KvError::Full("the simulated disk has no more room".into()));
        }
        for operation in &batch.operations {
            if let Operation::Put(key, _) | Operation::Delete(key) = operation {
                disk.damaged.remove(key);
            }
        }
        apply(&mut disk.current, &batch);
        disk.used_bytes = after;
        disk.log.push(batch);
        disk.batches += 1;
        drop(disk);
        if sync { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), KvError> {
        let mut disk = self.disk();
        if let Some(rest) = disk.full_syncs.checked_sub(1) {
            disk.full_syncs = rest;
            return Err(KvError::Full("the simulated disk has no room for its log".into()));
        }
        let log = std::mem::take(&mut disk.log);
        for batch in &log {
            apply(&mut disk.durable, batch);
        }
        Ok(())
    }

    fn reclaim(&self, from: &[u8], to: &[u8]) -> Result<(), KvError> {
        // Whole files go, whatever batch deleted the keys in them: a power cut does not bring them back.
        let mut disk = self.disk();
        remove_range(&mut disk.durable, from, Bound::Included(to));
        remove_range(&mut disk.current, from, Bound::Included(to));
        disk.used_bytes = bytes_of(&disk.current);
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = self.disk();
        disk.capacity_bytes
            .map(|capacity| capacity.saturating_sub(disk.used_bytes))
    }

    fn used_bytes(&self) -> u64 {
        self.disk().used_bytes
    }
}
