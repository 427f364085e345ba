//! The ingest server: sessions, group commit into Postgres or TimescaleDB, queries.
//!
//! | module | what |
//! |---|---|
//! | [`ledger`] | the seam to the durable log |
//! | [`store`] | all SQL; the ledger on Postgres |
//! | [`workspace`] | `migrate` and `workspace create|list` |
//! | [`ingest`] | agents' sessions, and the writers that commit what they accept |
//! | [`budget`], [`validate`] | pure: memory to windows; is a chunk's content what its header says? |
//! | [`rollup`] | pure: envelopes at every level |
//! | [`backfill`] | folds what an older version stored |
//! | [`serve`], [`drain`] | the server from its sockets to its end |
//! | [`grpc`], [`transport`], [`limits`] | services on a port; HTTP/2's settings; how much of everything |
//! | [`admin`], [`telemetry`] | health, readiness; logs and metrics |
//! | [`cli`] | the command line |
//! | [`scrub`] | is everything still as it was captured? |
//! | [`query`] | reading: the `Query` service |
//! | [`catalog`] | runs, labels and markers made afterwards: the `Catalog` service |
//! | [`status`] | the only map from errors to gRPC |
//! | [`devdb`] | a private Postgres, for `dev` and for tests |
#![forbid(unsafe_code)]

pub mod admin;
pub mod backfill;
pub mod budget;
pub mod catalog;
pub mod cli;
pub mod devdb;
pub mod drain;
pub mod grpc;
pub mod ingest;
pub mod ledger;
pub mod limits;
pub mod query;
pub mod rollup;
mod samples;
pub mod scrub;
pub mod serve;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod validate;
pub mod workspace;
