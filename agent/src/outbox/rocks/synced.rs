//! When a sync of the log counts. After one that failed, Linux has dropped the pages that it could not write and reports the next
//! sync of the same file as a success; RocksDB, told to go on after errors, forgets it too. So nothing counts as synced after
//! a failure until all of it was written again, from memory and into other files.

use std::sync::{Mutex, PoisonError};

use super::super::kv::KvError;

/// One for a store: its syncs come one at a time, so that none begins before it is known whether the last one failed.
#[derive(Debug, Default)]
pub(super) struct Synced {
    failed: Mutex<bool>,
}

impl Synced {
    /// Syncs the log with `sync`; before that, if an earlier one failed, `rewrite`s what the log was to keep.
    pub(super) fn sync(
        &self,
        rewrite: impl FnOnce() -> Result<(), KvError>,
        sync: impl FnOnce() -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            rewrite()?;
        }
        let result = sync();
        *failed = result.is_err();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_sync_nothing_counts_until_it_was_written_again() {
        let synced = Synced::default();
        let broken = || Err(KvError::Failed("a simulated I/O error".into()));
        let never = || panic!("nothing is to be written again");
        assert_eq!(synced.sync(never, || Ok(())), Ok(()));
        assert!(synced.sync(never, broken).is_err());
        // The disk reports an error once; what it dropped is still not there.
        assert!(synced.sync(broken, || Ok(())).is_err());
        let mut rewritten = false;
        let rewrite = || {
            rewritten = true;
            Ok(())
        };
        assert_eq!(synced.sync(rewrite, || Ok(())), Ok(()));
        assert!(rewritten);
        assert_eq!(synced.sync(never, || Ok(())), Ok(()));
    }
}
