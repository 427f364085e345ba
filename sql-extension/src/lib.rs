//! The Postgres extension `wavekeep`: stored columns as arrays of numbers. What `sample()` of a workspace unnests.
//!
//! It knows encodings, hashes and times, and no table: the tables change with the server, by its migrations, and so does the SQL that
//! reads them (docs/adr/0020). Its functions see nothing but their arguments, so whoever may read a payload may decode it, and nobody else.
//!
//! # Invariants
//! - I14: a column is held against the hash that it was captured with before any of its samples is a row.
//! - I12: an array has at most [`CHUNK_SAMPLES_MAX`](wavekeep_proto::limits::CHUNK_SAMPLES_MAX) elements, whatever is asked for, and memory
//!   follows the count that was asked for, never what a payload says.
//! - Arguments are outside bytes: each is answered with an array or an error of Postgres, and the backend goes on.
#![deny(unsafe_op_in_unsafe_fn)]

mod array;
mod axis;
mod column;
mod error;
mod functions;

pgrx::pg_module_magic!(name, version);
