//! The limits of what is made afterwards (I12). Names, labels and markers have those of the protocol.

/// Calls under way at a time; more are refused. Those that write wait for each other.
pub const CALLS_MAX: usize = 8;
/// Bytes of a note.
pub const NOTE_BYTES_MAX: usize = 10_000;
/// Ranges that are made part of a run.
pub const MEMBERS_MAX: usize = 1_000;
/// Runs, or ranges of runs, of one import.
pub const IMPORT_MAX: usize = 10_000;
