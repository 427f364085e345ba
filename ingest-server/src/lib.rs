//! The ingest server: sessions, group commit into Postgres or TimescaleDB, queries.
//!
//! | module | what |
//! |---|---|
//! | [`ledger`] | the seam to the durable log |
//! | [`store`] | all SQL; the ledger on Postgres |
//! | [`workspace`] | `migrate` and `workspace create|list` |
//! | [`ingest`] | agents' sessions, and the writers that commit what they accept |
//! | [`budget`], [`validate`] | pure: memory to windows; is a chunk's content what its header says? |
//! | [`telemetry`] | logs and metrics |
//! | [`devdb`] | a private Postgres, for `dev` and for tests |
#![forbid(unsafe_code)]

pub mod budget;
pub mod devdb;
pub mod ingest;
pub mod ledger;
pub mod store;
pub mod telemetry;
pub mod validate;
pub mod workspace;
