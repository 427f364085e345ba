//! Every limit of the reader (I12).

use std::time::Duration;

/// For a connection.
pub(crate) const CONNECT_SECONDS_MAX: Duration = Duration::from_secs(5);
/// A connection on which nothing comes is asked whether it is still there.
pub(crate) const KEEP_ALIVE_SECONDS: Duration = Duration::from_secs(20);
/// Bytes under way on a connection and in each answer: a fixed window was faster than an adaptive one.
pub(crate) const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Chunks that are looked at for one with samples, at either end of a stream.
pub(crate) const INTEGRAL_CHUNKS_MAX: u32 = 64;
/// Streams of one answer.
pub(crate) const STREAMS_MAX: usize = 100_000;
/// Gaps of a stream that its manifest has not named yet. The server names them at the latest after 10,000.
pub(crate) const GAPS_PENDING_MAX: usize = 20_000;
/// Columns of one answer: of a thousand points and a few signals, hundreds of streams.
pub(crate) const COLUMNS_MAX: u64 = 4_000_000;
