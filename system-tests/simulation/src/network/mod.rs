//! The same hostile world on a simulated network: the agent's real uplink and connection, HTTP/2, the server's real transport,
//! sessions and writers, each process on a runtime and a clock of its own. Only what is behind their seams is modelled: the outbox's
//! disk, the ledger, the instruments. The oracle is that of the world without a network.
//!
//! | module | what |
//! |---|---|
//! | `drive` | the loop: the network's time, what is due, the verdict |
//! | `stage` | what all parties share, and what the driver is told to do |
//! | `plan`, `faults` | what a seed's world is like, and what goes wrong in it |
//! | `agent`, `watched` | an agent's process; its outbox, under the oracle's eyes |
//! | `server` | a server's process |
//! | `database` | the ledger behind the servers: slow, ambiguous, late, failed over |
//! | `wire` | a connection that is throttled, reset in the middle of a frame, or damaged |
//!
//! # Invariants
//! - Two runs of a seed are the same, in a fresh process each: maps, `select!` and identifiers draw from the operating system's
//!   randomness and the libraries read its clock, so a process that replays a seed answers for both (`bin/network.rs`).
//! - Nothing here runs on a thread of its own.

mod agent;
mod database;
mod drive;
mod faults;
mod plan;
mod server;
mod stage;
mod watched;
mod wire;

pub use drive::{Outcome, run};
pub use faults::NetworkFault;
