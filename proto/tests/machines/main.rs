//! The two state machines, each against a peer that is not honest, or not lucky: what a simulation with honest parties would not
//! notice if it were taken out.

mod acks;
mod flow;
mod opened;
mod sending;
mod server;
mod support;
