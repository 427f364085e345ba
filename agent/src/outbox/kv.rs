//! The seam under the outbox: an ordered map from byte keys to byte values with atomic batches. RocksDB implements it, and
//! so does a simulated disk with a page cache, so that the simulation runs the very batches that production runs.
//!
//! What an implementation promises:
//! - A batch is atomic. What a power cut leaves is a prefix of the batches, in the order in which they were written.
//! - A batch written with `sync`, and every batch before it, survives a power cut once `write` has returned.
//! - A killed process loses nothing that `write` returned for.
//! - Reads may fail as [`KvError::Damaged`] where bytes went bad; keys elsewhere stay readable.

use std::sync::Arc;

/// Why the disk did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// There is no room. Nothing was written.
    #[error("the outbox's disk is full ({0}): make room, or give the outbox a smaller quota")]
    Full(String),
    /// The bytes asked for are bad. Others may be good.
    #[error("bytes of the outbox are damaged ({0})")]
    Damaged(String),
    /// Anything else.
    #[error("the outbox's disk fails ({0}): look at the disk and its permissions")]
    Failed(String),
}

/// One change in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, if it is there.
    Delete(Vec<u8>),
    /// Removes every key from the first (included) to the second (excluded).
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Changes that happen together or not at all, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order.
    pub operations: Vec<Operation>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: Vec<u8>) {
        self.operations.push(Operation::Put(key.as_ref().to_vec(), value));
    }
    /// Removes a key.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.operations.push(Operation::Delete(key.as_ref().to_vec()));
    }
    /// Removes every key from `from` (included) to `end` (excluded). Costs later reads: for rare steps only.
    pub fn delete_range(&mut self, from: impl AsRef<[u8]>, end: impl AsRef<[u8]>) {
        self.operations
            .push(Operation::DeleteRange(from.as_ref().to_vec(), end.as_ref().to_vec()));
    }
    /// Does it change nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
    /// Bytes of the values it sets.
    #[must_use]
    pub fn put_bytes(&self) -> u64 {
        let bytes = |operation: &Operation| match operation {
            Operation::Put(key, value) => (key.len() + value.len()) as u64,
            Operation::Delete(_) | Operation::DeleteRange(..) => 0,
        };
        self.operations.iter().map(bytes).sum()
    }
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Sees entries in order; answers whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// See the module's documentation.
pub trait Kv: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
    /// Visits the entries from `from` (included) to `end` (excluded), ascending, until `visit` answers false.
    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), KvError>;
    /// The last entry at or after `from` and before `end`.
    fn last(&self, from: &[u8], end: &[u8]) -> Result<Option<Entry>, KvError>;
    /// Writes a batch; with `sync`, returns only when it and all before it are on the disk.
    fn write(&self, batch: Batch, sync: bool) -> Result<(), KvError>;
    /// Brings everything written to the disk.
    fn sync(&self) -> Result<(), KvError>;
    /// Gives the file system back what deleted keys from `from` to `to` (*included*: give the last deleted key, or an unread
    /// one is lost) still occupy. Deletions of these keys must be synced before: this is no part of any batch.
    fn reclaim(&self, from: &[u8], to: &[u8]) -> Result<(), KvError>;
    /// Bytes free on its file system, without what is kept for deleting; `None` where that cannot be known.
    fn free_bytes(&self) -> Option<u64>;
    /// Bytes that it occupies, roughly.
    fn used_bytes(&self) -> u64;

    /// The first entry at or after `from` and before `end`.
    fn first(&self, from: &[u8], end: &[u8]) -> Result<Option<Entry>, KvError> {
        let mut found = None;
        self.scan(from, end, &mut |key, value| {
            found = Some((key.to_vec(), value.to_vec()));
            false
        })?;
        Ok(found)
    }
}

impl<K: Kv> Kv for Arc<K> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        (**self).get(key)
    }
    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), KvError> {
        (**self).scan(from, end, visit)
    }
    fn last(&self, from: &[u8], end: &[u8]) -> Result<Option<Entry>, KvError> {
        (**self).last(from, end)
    }
    fn write(&self, batch: Batch, sync: bool) -> Result<(), KvError> {
        (**self).write(batch, sync)
    }
    fn sync(&self) -> Result<(), KvError> {
        (**self).sync()
    }
    fn reclaim(&self, from: &[u8], to: &[u8]) -> Result<(), KvError> {
        (**self).reclaim(from, to)
    }
    fn free_bytes(&self) -> Option<u64> {
        (**self).free_bytes()
    }
    fn used_bytes(&self) -> u64 {
        (**self).used_bytes()
    }
}
