//! A Joulescope JS220 in software: what its firmware answers on USB, a finite FIFO, scripted faults, and a waveform that a program in
//! any language can compute again ([`wave`]). It proves hosts without hardware: in a test's own process, or behind the functions of
//! libusb (the crate `wavekeep-joulescope-preload`), where the vendor's unmodified driver reads from it.
//!
//! # Invariants
//! - No thread and no clock: time is an argument, as what has passed since the instrument was plugged in first. The sample clock can be
//!   slowed, or run as fast as somebody reads, and the same calls give the same bytes.
//! - It shares no code with any host, so that a misreading is not shared either. What it sends follows the description of the protocol;
//!   the codes of its acknowledgements and the form of its metadata are those that the vendor's public host code reads.
//! - Whatever a host sends, it answers or ignores; it never panics, and its memory is bounded ([`limits`]).
//!
//! What only a real instrument can tell (the depth of its FIFO, what its loss looks like, how many samples a frame carries) is a setting.

mod clock;
mod event;
mod fault;
mod fifo;
mod frame;
mod js220;
pub mod limits;
mod pubsub;
mod settings;
mod statistics;
mod streams;
pub mod wave;

pub use event::{Event, Lost};
pub use fault::{Action, Fault, Trigger};
pub use js220::{BULK_IN, BULK_OUT, Js220, PRODUCT, UsbFault, VENDOR};
pub use settings::{Losing, Settings, SettingsError, parse};
