//! Every limit of the command line (I12).

/// Rows of a table that wait, to decide how wide its columns are.
pub(super) const ROWS_MEASURED: usize = 500;
/// Gaps that a refusal names one by one.
pub(super) const GAPS_NAMED_MAX: usize = 5;
/// Shorter prefixes of a stream's id are too ambiguous.
pub(super) const STREAM_DIGITS_MIN: usize = 4;
/// Bytes of an export that are gathered before they are written.
pub(super) const WRITE_BYTES: usize = 1024 * 1024;
/// Samples of a gap that are written at once.
pub(super) const FILL_SAMPLES: u64 = 65_536;
