//! The two state machines, each against a peer that is not honest, or not lucky: what a simulation with honest parties would not
//! notice if it were taken out.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

mod acks;
mod flow;
mod opened;
mod sending;
mod server;
mod support;
