//! The protocol in a hostile world: the real state machines of agent and server and the real outbox, on modelled disks, links and
//! databases, in virtual time. One seed is one world, the same each time; an oracle judges it.
//!
//! | module | what |
//! |---|---|
//! | `world` | the loop, and the parties: `agent` and its `shell`, `server`, `database`, `link` |
//! | `source`, `capture`, `tape` | what is captured, and the truth about every sample |
//! | `disk`, `transaction` | what a power cut, or a lost answer, leaves |
//! | `plan`, `faults`, `failover`, `mischief` | what a seed's world is like, and what goes wrong in it |
//! | `oracle` | what must hold |
//! | `mutation` | the list of rules to take out, for `mutate` |
//! | `network` | the same world around the real shells, on a simulated network |
//! | `queue`, `random`, `log`, `counters` | what comes next, by what chance, and what came |
#![forbid(unsafe_code)]

mod agent;
mod capture;
pub mod counters;
mod database;
mod disk;
mod failover;
pub mod faults;
mod link;
mod log;
mod mischief;
pub mod mutation;
#[cfg(feature = "network")]
pub mod network;
mod oracle;
mod plan;
mod queue;
mod random;
mod server;
mod shell;
mod source;
mod tape;
mod transaction;
mod world;

pub use world::Outcome;

/// Runs the world of a seed; with `with_log`, the outcome tells what happened.
#[must_use]
pub fn run(seed: u64, with_log: bool) -> Outcome {
    world::World::run(seed, with_log)
}
