//! All SQL of the server: a file per table, and what they share.
//!
//! | file | what |
//! |---|---|
//! | `database`, `transaction` | connections; the one type that opens transactions |
//! | `ledger` | the write path: `PostgresLedger` |
//! | `workspace_row` | `wavekeep.workspace` |
//! | `stream`, `device`, `run`, `chunk`, `chunk_signal`, `envelope`, `marker`, `quarantine` | the tables of a workspace |
//! | `towers` | unfinished buckets between commits |
//! | [`backfill`] | folds what an older version stored |
//! | [`replay`], `ancestors` | a chunk out of quarantine into its place, and into the buckets above it |
//! | `added_marker` | notes that people add |
//! | `agent_report` | what agents say of what they hold |
//! | `read_account` | what there is of a stream, counted from its chunks |
//! | `read_stream`, `read_chunk`, `read_gap`, `read_envelope`, `read_run`, `read_label`, `read_marker` | what queries read |
//! | `partition`, `partition_plan` | partitions of the big tables, for any date |
//! | `native`, `hypertable` | what a partition is: a table attached, or TimescaleDB's chunk |
//! | `retention` | drops those that are older than the workspace keeps |
//! | `copy`, `array`, `timestamp` | binary COPY; arrays and times as the database has them |
//! | `probe` | is it still the same primary? |
//! | `migration` | the embedded migrations |
//! | `scrub` | rows as they are, for whoever looks for damage |
//! | [`reader_role`] | who may read a workspace |
//! | `error`, `limits` | what a failure means; what every wait is limited to |
//!
//! # Invariants
//! - I1, I6, I7, I10: see `ledger`, `transaction` and `stream`.
//! - I12: every wait has a limit in `limits`.

pub(crate) mod added_marker;
pub(crate) mod agent_report;
mod ancestors;
pub mod backfill;
pub(crate) mod chunk;
pub(crate) mod chunk_signal;
mod copy;
mod database;
pub(crate) mod device;
pub(crate) mod envelope;
mod error;
mod hypertable;
mod ledger;
pub mod limits;
pub(crate) mod marker;
pub(crate) mod migration;
mod native;
mod partition;
mod partition_plan;
pub(crate) mod points;
mod probe;
pub mod quarantine;
pub(crate) mod read_account;
pub(crate) mod read_chunk;
pub(crate) mod read_envelope;
pub(crate) mod read_gap;
pub(crate) mod read_label;
pub(crate) mod read_marker;
pub(crate) mod read_marker_time;
pub(crate) mod read_run;
pub(crate) mod read_stream;
pub mod reader_role;
pub mod replay;
mod retention;
pub(crate) mod run;
pub(crate) mod scrub;
pub(crate) mod stream;
mod text;
mod timestamp;
mod towers;
mod transaction;
pub(crate) mod workspace_row;

pub(crate) use database::REGISTRY_SCHEMA;
pub use database::{Database, DatabaseError};
pub use error::{CommitFailure, StoreError};
pub use ledger::PostgresLedger;
pub use probe::PrimaryProbe;
pub use retention::Retention;
pub use transaction::Transaction;
pub(crate) use transaction::{prepared, statement};
pub use workspace_row::{Kind, Workspace};

/// Numbers of the protocol are below 2^62; what comes from outside may not be.
pub(crate) fn bigint(number: u64, what: &'static str) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::TooLarge(what))
}

/// A bigint that this program wrote.
pub(crate) fn unsigned(number: i64, what: &'static str) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Unexpected(what))
}
