//! Joulescopes over USB. The protocol of the JS220 is pure ([`js220`]): bytes and time in, requests and samples out; [`source`] is the
//! thin loop that moves them between a [`usb::Link`] and the agent.

mod align;
mod bits;
mod counters;
mod frame;
pub mod js220;
mod limits;
mod metadata;
mod pubsub;
mod sample_id;
pub mod settings;
pub mod source;
mod statistics;
mod streams;
#[cfg(test)]
mod testing;
mod time_map;
pub mod usb;
mod value;

pub use self::counters::Counters;
