//! What the emulator bounds.

/// Answers and other frames that are no samples, which wait to be read. A host that asks more and reads nothing loses the answers.
pub const ANSWERS: usize = 1024;

/// Events kept for [`crate::Js220::take_events`]; later ones are counted only.
pub const EVENTS: usize = 65_536;

/// Settings kept: more topics than the instrument has are refused.
pub const TOPICS: usize = 128;

/// A FIFO's bytes, at most.
pub const FIFO_BYTES: usize = 1 << 30;

/// Faults of one script.
pub const FAULTS: usize = 1024;

/// Frames that one fault loses, or babbles.
pub const FAULT_FRAMES: u64 = 1 << 32;

/// Frames of garbage that one fault puts into the FIFO.
pub const BABBLE_FRAMES: u64 = 256;
