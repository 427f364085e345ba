//! The one type that opens transactions. It enters the workspace by `SET LOCAL search_path`, so that a pooler cannot leak
//! it into the next client's transaction; `public` holds no tables of ours, so forgetting to enter one finds nothing.
//!
//! # Invariants
//! - I10: every statement runs after `SET LOCAL search_path` to one workspace's schema, in the same transaction.
//! - I6: [`Transaction::commit`] answers `Ok` only when COMMIT has answered, and COMMIT is refused by the database when the
//!   transaction had failed without our noticing (its answer would be the word ROLLBACK, and no error).
//! - A connection goes back to the pool only after COMMIT or ROLLBACK has answered. Dropping a transaction, a cancelled future
//!   or a limit that passed closes it, which rolls back.
//!
//! Statements that write are not prepared by name. Those that read the big tables are, once for each connection: a picture is drawn by
//! half a dozen of them, and parsing took a fifth of its time. A pooler must know names then, as PgBouncer does since 1.21. The
//! database looks tables up again when the search path is another one, and plans for the values at hand, so that it opens
//! only their partitions.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor, Postgres, Row};

use super::error::{CommitFailure, StoreError};
use super::limits;

/// A statement that is prepared for this one use.
pub(crate) fn statement(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// A statement that each connection prepares once.
pub(crate) fn prepared(sql: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(true)
}

/// What the database said about itself when the transaction began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Began {
    /// Rises with every promotion of a standby.
    pub(super) timeline: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Transaction {
    /// None once it is finished.
    connection: Option<PoolConnection<Postgres>>,
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Statement timeouts are off: one that fires while COMMIT waits for a standby would make the database answer "committed"
/// before the standby has it. Our own limits close the connection instead; and where the network took us away, keepalives
/// tell the database, so that the rows we locked are free again within a minute.
fn opening(mode: &str, schema: &str, last: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "BEGIN ISOLATION LEVEL {mode}; SET LOCAL search_path = {}, pg_temp; SET LOCAL statement_timeout = 0; \
         SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL lock_timeout = '{}'; SET LOCAL idle_in_transaction_session_timeout = '{}'; \
         SET LOCAL tcp_keepalives_idle = 15; SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3{last}",
        quoted(schema),
        limits::LOCK_WAIT,
        limits::IDLE_IN_TRANSACTION,
    ))
}

const SELF_CHECK: &str = "; SELECT pg_walfile_name(pg_current_wal_lsn()), current_setting('synchronous_commit'), \
     current_setting('fsync'), current_setting('synchronous_standby_names')";

/// Every read of ours is by index, in its order. A partition that was just filled has no statistics yet, and without them the planner
/// would read tables whole, sort all of a stream's chunks to find two, or compile what takes a millisecond to run.
const BY_INDEX: &str = "; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; \
     SET LOCAL jit = off";

impl Transaction {
    /// One round trip. On a standby, or where commits are not durable, it fails.
    pub(super) async fn begin(
        connection: PoolConnection<Postgres>,
        schema: &str,
        standby_required: bool,
    ) -> Result<(Self, Began), StoreError> {
        let mut tx = Self {
            connection: Some(connection),
        };
        let sql = opening("READ COMMITTED READ WRITE", schema, SELF_CHECK);
        let answer = within_limit(tx.connection().fetch_one(sqlx::raw_sql(sql))).await?;
        Ok((
            tx,
            Began {
                timeline: checked(&answer, standby_required)?,
            },
        ))
    }

    /// Sees one state of the database throughout; works on a standby too.
    pub(super) async fn begin_read(connection: PoolConnection<Postgres>, schema: &str) -> Result<Self, StoreError> {
        let mut tx = Self {
            connection: Some(connection),
        };
        let sql = opening("REPEATABLE READ READ ONLY", schema, BY_INDEX);
        within_limit(tx.connection().execute(sqlx::raw_sql(sql))).await?;
        Ok(tx)
    }

    /// To run statements of `super` on.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("a transaction is used before it is finished")
    }

    /// COMMIT. Whatever the answer, the transaction is over.
    pub async fn commit(mut self) -> Result<(), CommitFailure> {
        // The SELECT fails, and with it all of this, in a transaction that has failed: COMMIT alone would answer ROLLBACK.
        let sent = self.connection().execute(sqlx::raw_sql("SELECT; COMMIT"));
        match tokio::time::timeout(limits::COMMIT_SECONDS_MAX, sent).await {
            Ok(Ok(_)) => {
                drop(self.connection.take());
                Ok(())
            }
            Ok(Err(error)) => Err(CommitFailure::new(error)),
            Err(_) => Err(CommitFailure::Unanswered(format!(
                "no answer within {:?}",
                limits::COMMIT_SECONDS_MAX
            ))),
        }
    }

    /// After a statement failed. Only where the database itself said so is the connection in a known state: after a limit
    /// passed, the answer to an earlier statement could be taken for that of a later one, such as COMMIT.
    pub(super) async fn fail(self, error: &StoreError) {
        let StoreError::Sql(sqlx::Error::Database(said)) = error else {
            return;
        };
        // A migration changed a table, or a pooler the connection: what was prepared on it is of no use.
        if !matches!(said.code().as_deref(), Some("0A000" | "26000" | "42P05")) {
            self.rollback().await;
        }
    }

    /// ROLLBACK; when it does not answer the connection is closed, which does the same. Only after every statement has been
    /// answered: otherwise drop the transaction.
    pub async fn rollback(mut self) {
        let sent = self.connection().execute(sqlx::raw_sql("ROLLBACK"));
        if matches!(
            tokio::time::timeout(limits::ROLLBACK_SECONDS_MAX, sent).await,
            Ok(Ok(_))
        ) {
            drop(self.connection.take());
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

/// Waits for everything but COMMIT and ROLLBACK.
pub(super) async fn within_limit<T, E: Into<StoreError>>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limits::TRANSACTION_SECONDS_MAX, future).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(StoreError::Silent(limits::TRANSACTION_SECONDS_MAX)),
    }
}

fn checked(answer: &PgRow, standby_required: bool) -> Result<u32, StoreError> {
    let (wal_file, synchronous_commit, fsync): (String, String, String) =
        (answer.try_get(0)?, answer.try_get(1)?, answer.try_get(2)?);
    let standbys: String = answer.try_get(3)?;
    if synchronous_commit == "off" {
        return Err(StoreError::NotDurable("synchronous_commit"));
    }
    // Whoever lets commits go on without the standby when it is away only prefers it.
    if standby_required && standbys.is_empty() {
        return Err(StoreError::NoStandby);
    }
    // With `remote_write` the standby has the commit in its memory, with `local` perhaps not at all.
    if !standbys.is_empty() && matches!(&*synchronous_commit, "local" | "remote_write") {
        return Err(StoreError::NotReplicated(synchronous_commit));
    }
    if fsync == "off" {
        return Err(StoreError::NotDurable("fsync"));
    }
    let timeline = wal_file
        .get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    timeline.ok_or(StoreError::Unexpected("the name of the current WAL file"))
}
