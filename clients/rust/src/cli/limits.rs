//! Every limit of the command line (I12).

use std::time::Duration;

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
/// Points that are held, to be drawn or to be printed as one object: of 48 bytes each.
pub(super) const POINTS_HELD_MAX: usize = 4_000_000;
/// Points of a signal that can be asked for.
pub(super) const POINTS_MAX: u32 = 100_000;
/// Columns of a comparison that can be asked for; the server allows no more.
pub(super) const COMPARED_POINTS_MAX: u32 = 20_000;
/// Bins of a histogram that can be asked for; the server allows no more.
pub(super) const HISTOGRAM_BINS_MAX: u32 = 10_000;
/// Points of a signal in JSON, where nobody says how many.
pub(super) const POINTS_JSON: u32 = 1_000;
/// Characters across where nobody looks at a terminal.
pub(super) const WIDTH_PLAIN: usize = 80;
/// A picture is neither narrower nor wider, whatever the terminal says.
pub(super) const WIDTH_RANGE: (usize, usize) = (40, 1_000);
/// Samples of a column that a listing of chunks can show; the server allows no more.
pub(super) const FIRST_SAMPLES_MAX: u32 = 16;
/// Between two looks for new chunks.
pub(super) const FOLLOW_PERIOD: Duration = Duration::from_millis(500);
/// Between two attempts to reach a server that does not answer.
pub(super) const FOLLOW_WAIT_MAX: Duration = Duration::from_secs(5);
/// Streams that are followed at a time; the server allows fewer.
pub(super) const STREAMS_FOLLOWED_MAX: usize = 100_000;
/// For an agent beside this command to answer.
pub(super) const AGENT_SECONDS_MAX: Duration = Duration::from_secs(5);
/// Of its answer.
pub(super) const AGENT_ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Streams whose instrument's own integrals are held against what is stored, in one answer: each takes a few questions.
pub(super) const INTEGRALS_MAX: usize = 64;
/// Streams of an answer that are held, to be printed once the agent was asked again; the server allows fewer.
pub(super) const STREAMS_RECONCILED_MAX: usize = 100_000;
/// Rows of a row group of Parquet.
pub(super) const ROW_GROUP_ROWS_MAX: usize = 1_048_576;
/// What a row group of Parquet may take while it waits to be written; rows are fewer where there are many signals.
pub(super) const ROW_GROUP_BYTES: usize = 24 * 1024 * 1024;
/// Gaps that a file names in its metadata.
pub(super) const GAPS_LISTED_MAX: usize = 10_000;
/// Files of a directory that an export looks at when it begins.
pub(super) const FILES_MAX: u64 = 10_000_000;
/// Chunks that are looked at before the files that they complete are written.
pub(super) const CHUNKS_LISTED_MAX: u32 = 10_000;
/// Seconds of a stream in one file.
pub(super) const FILE_SECONDS: (u32, u32) = (1, 86_400);
/// Notes on samples that wait for these.
pub(super) const MARKERS_WAITING_MAX: usize = 100_000;
/// Bytes of a table of runs: what a request of the server may have.
pub(super) const IMPORT_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// Rows of a table of runs; the server allows no more.
pub(super) const IMPORT_ROWS_MAX: usize = 10_000;
/// Markers that are held, to be printed in order of time.
pub(super) const MARKERS_LISTED_MAX: usize = 100_000;
