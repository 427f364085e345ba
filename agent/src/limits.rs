//! Every limit of the agent that is not part of the protocol (I12). What both sides agree on stands in
//! `wavekeep_proto::limits`.

use std::time::Duration;

/// A chunk is cut after at most this much time on the sample axis, unless told otherwise.
pub const CHUNK_PERIOD_DEFAULT: Duration = Duration::from_secs(1);
/// The shortest chunk period that is accepted.
pub const CHUNK_PERIOD_MIN: Duration = Duration::from_millis(10);
/// The longest: a crash loses at most a chunk period.
pub const CHUNK_PERIOD_MAX: Duration = Duration::from_secs(3600);

/// Samples of each signal that a source should deliver at once, at most: what the reading of files and the simulator use.
pub const SOURCE_BLOCK_SAMPLES: usize = 16_384;
/// Streams of one source.
pub const SOURCE_STREAMS_MAX: usize = 32;
/// Anchors of a time axis that are kept; older ones are forgotten.
pub const ANCHORS_MAX: usize = 64;

/// Frames between the uplink and the transport: a few chunks, so that the link never idles and the window stays exact.
pub const OUTGOING_FRAMES_MAX: usize = 16;
/// Frames that could not be handed over because the transport takes nothing; more, and the link counts as broken.
pub const STUCK_FRAMES_MAX: usize = 64;
/// A frame from the server, in bytes: acks and refusals are small.
pub const SERVER_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Alarms that the status keeps.
pub const ALARMS_KEPT_MAX: usize = 32;
/// Flow-control windows of HTTP/2, of the stream and of the connection, in bytes. Fixed: adaptive ones were slower.
pub const HTTP2_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// A connection that is not up after this long is given up.
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// The connection probes a silent peer after this long (HTTP/2 ping).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How soon waiting people are told what remains, where there is no bar to look at…
pub const PROGRESS_INTERVAL_MIN: Duration = Duration::from_secs(5);
/// … and how often in the long run.
pub const PROGRESS_INTERVAL_MAX: Duration = Duration::from_secs(600);
/// How often a blocked source looks for a stop: the longest that a full outbox delays one.
pub const BLOCKED_POLL: Duration = Duration::from_millis(50);

/// A Unix socket's path is at most this long on Linux, without the closing zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
