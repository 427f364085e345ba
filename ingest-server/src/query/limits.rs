//! The limits of reading (I12).

use std::time::Duration;

/// Answers under way at a time; more are refused.
pub const ANSWERS_MAX: usize = 32;
/// Transactions that read at a time, so that readers leave connections to the writers.
pub const TRANSACTIONS_MAX: usize = 4;
/// For a unary answer, where the caller sets no deadline.
pub const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(300);
/// For a caller to take the next part: one that takes nothing for so long is gone.
pub const SLOW_SECONDS_MAX: Duration = Duration::from_secs(300);
/// Streams of one question.
pub const STREAMS_MAX: usize = 10_000;
/// Those who follow what is committed, at a time; more are refused.
pub const TAILS_MAX: usize = 64;
/// Between two looks at what moves in a workspace: how late those who follow hear of it.
pub const NEWS_INTERVAL: Duration = Duration::from_millis(25);
/// As many times as long as a look took passes until the next one, where it was quick.
pub const NEWS_REST: u32 = 4;
/// As long at most, unless the look itself took longer: a database that is busy for a moment is no reason to be late for a second.
pub const NEWS_PAUSE_MAX: Duration = Duration::from_millis(100);
/// Between two listings of what is followed, where no unknown stream moves.
pub const TAIL_LISTING: Duration = Duration::from_secs(5);
/// Streams with a commit in a minute that are looked at; those who follow others hear of them by a listing.
pub const STREAMS_MOVED_MAX: usize = 10_000;
/// Streams that are looked at to say why an answer is empty.
pub const STREAMS_LOOKED_AT_MAX: usize = 64;
/// Devices of one listing.
pub const DEVICES_MAX: usize = 10_000;
/// Names that a mistyped one is compared with.
pub const NAMES_COMPARED_MAX: usize = 10_000;
/// By so much may two epochs of a device overlap before their statistics are not joined: a clock that was set between them.
pub const CLOCK_SHIFT_NS_MAX: i64 = 1_000_000_000;
/// Bytes of a filter.
pub const FILTER_BYTES_MAX: usize = 4_096;
/// Terms of a filter.
pub const FILTER_TERMS_MAX: usize = 64;
/// Runs of one question.
pub const RUNS_MAX: usize = 10_000;
/// Ranges of streams that the runs of one question consist of.
pub const RUN_RANGES_MAX: usize = 100_000;
/// Markers that are read at once.
pub const PAGE_MARKERS: usize = 64;
/// Chunks whose headers are read at once.
pub const PAGE_CHUNKS: usize = 64;
/// Rows of folds that are read at once; of several signals together. A picture of 2,000 points has at most as many of a signal.
pub const FOLD_ROWS: usize = 2_048;
/// Points of one question.
pub const POINTS_MAX: u32 = 100_000;
/// Columns of one stream of an answer, over all its signals.
pub const COLUMNS_MAX: usize = 200_000;
/// Columns of one message.
pub const COLUMNS_SENT: usize = 16_384;
/// Samples of each column that a listing of chunks decodes.
pub const FIRST_SAMPLES_MAX: u32 = 16;
/// Gaps that are read at once. More than a chunk has signals.
pub const PAGE_GAPS: usize = 1_000;
/// Encoded bytes that are read at once; a chunk may exceed it alone.
pub const BATCH_BYTES: u64 = 2 * 1024 * 1024;
/// Parts of an answer that wait to be sent.
pub const PARTS_QUEUED: usize = 1;
/// Gaps of an answer that wait for a manifest; then they get one of their own.
pub const GAPS_PENDING_MAX: usize = 10_000;

/// Percentiles of one question.
pub const PERCENTILES_MAX: usize = 100;
/// Bins of a histogram.
pub const HISTOGRAM_BINS_MAX: u32 = 10_000;
/// Signals of devices whose percentiles and histograms are found together; each takes a few MB.
pub const DISTRIBUTIONS_MAX: usize = 16;
/// Samples of a stream that are read where stored folds leave a deviation in doubt: more would take seconds.
pub const DOUBTFUL_SAMPLES_MAX: u64 = 100_000_000;
/// Samples of all signals that one question about percentiles and histograms looks at: three hours of one signal at 1 MSPS.
pub const DISTRIBUTION_SAMPLES_MAX: u64 = 12_000_000_000;
/// Runs of a group that is compared.
pub const RUNS_COMPARED_MAX: usize = 1_000;
/// Runs that are measured at a time, of one question.
pub const RUNS_MEASURED: usize = TRANSACTIONS_MAX;
/// Columns of the axis of a comparison.
pub const COMPARED_POINTS_MAX: u32 = 20_000;
/// Markers of a stream that are looked at for the one that is meant.
pub const MARKERS_LOOKED_AT_MAX: usize = 100;

/// Bytes of chunks that readers hold at worst, each answer of the largest chunks: one batch sent and one read, one part that waits
/// and one with the connection. Of chunks of 256 KiB it is a quarter of that.
pub const READ_BYTES_MAX: usize = 576 * 1024 * 1024;

const CHUNK_BYTES: usize = wavekeep_proto::limits::CHUNK_BYTES_MAX;
const _: () =
    assert!(BATCH_BYTES < CHUNK_BYTES as u64 && ANSWERS_MAX * (2 + PARTS_QUEUED + 1) * CHUNK_BYTES <= READ_BYTES_MAX);
const _: () = assert!(PAGE_GAPS > wavekeep_proto::limits::SIGNALS_MAX);
