//! A transaction that reads, and perhaps one beside it, so that the database looks for the samples at the ends of a range while it looks
//! for the folds between them.
//!
//! # Invariants
//! - I12: each has its place among [`limits::TRANSACTIONS_MAX`](super::limits::TRANSACTIONS_MAX). Nobody waits for a place or for a
//!   connection while holding one: where there is no second one by the time it is needed, it is done without.

use std::sync::Arc;

use tokio::sync::oneshot::{self, Receiver};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::QueryError;
use crate::store::{Database, Transaction, Workspace};

/// A transaction and its place among those that read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) tx: Transaction,
    _permit: OwnedSemaphorePermit,
    beside: Option<Receiver<Self>>,
}

impl Reading {
    /// When there is room for one.
    pub(super) async fn begin(
        database: &Database,
        workspace: &Workspace,
        transactions: &Arc<Semaphore>,
    ) -> Result<Self, QueryError> {
        let permit = transactions.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let tx = database.begin_read(workspace).await?;
        Ok(Self {
            tx,
            _permit: permit,
            beside: None,
        })
    }

    /// Begins another one, while the caller goes on; not where there is no room now.
    pub(super) fn begin_beside(
        &mut self,
        database: &Database,
        workspace: &Arc<Workspace>,
        transactions: &Arc<Semaphore>,
    ) {
        let Ok(permit) = transactions.clone().try_acquire_owned() else {
            return;
        };
        let (give, take) = oneshot::channel();
        let (database, workspace) = (database.clone(), workspace.clone());
        tokio::spawn(async move {
            // Whoever needs it reads without it, and is told of the database's trouble in its own transaction.
            let Ok(tx) = database.begin_read(&workspace).await else {
                return;
            };
            let beside = Self {
                tx,
                _permit: permit,
                beside: None,
            };
            if let Err(late) = give.send(beside) {
                late.end();
            }
        });
        self.beside = Some(take);
    }

    /// The one beside it, if it has begun. It may see more of the database than this one does.
    pub(super) fn take_beside(&mut self) -> Option<Self> {
        let mut beside = self.beside.take()?;
        // What is given from here on is given back, and ended.
        beside.close();
        beside.try_recv().ok()
    }

    /// Rolls back, while the caller goes on.
    pub(super) fn end(mut self) {
        if let Some(beside) = self.take_beside() {
            beside.end();
        }
        tokio::spawn(async move {
            let Self { tx, _permit, .. } = self;
            tx.rollback().await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::devdb::TestServer;

    /// A reader that finds room for itself alone reads all in one transaction; what began too late goes back where it came from.
    #[tokio::test]
    async fn i12_one_beside_takes_only_a_place_that_is_free() {
        let postgres = TestServer::start().await.expect("Postgres is installed");
        let database = Database::connect(&postgres.url(), 2).await.expect("it answers");
        let main = database.workspace("main").await.expect("it was created");
        let transactions = Arc::new(Semaphore::new(2));
        let begin = async || {
            let mut reading = Reading::begin(&database, &main, &transactions)
                .await
                .expect("it begins");
            reading.begin_beside(&database, &main, &transactions);
            reading
        };
        let all_places = async || {
            let places = transactions.acquire_many(2);
            let places = tokio::time::timeout(Duration::from_secs(20), places).await;
            drop(places.expect("each was given back"));
        };

        let mut first = begin().await;
        assert_eq!(transactions.available_permits(), 0);
        while first.beside.as_ref().is_some_and(Receiver::is_empty) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let beside = first.take_beside().expect("it has begun");
        assert!(first.take_beside().is_none(), "it is given once");
        first.end();
        let mut alone = begin().await;
        assert!(alone.take_beside().is_none(), "there was no place");
        beside.end();
        alone.end();
        all_places().await;

        let mut hasty = begin().await;
        assert!(hasty.take_beside().is_none(), "it has not begun yet");
        hasty.end();
        all_places().await;

        // Both connections are whole: a third would have to wait for one.
        let unused = begin().await;
        unused.end();
        all_places().await;
        assert!(Reading::begin(&database, &main, &transactions).await.is_ok());
    }
}
