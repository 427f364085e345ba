//! The limits of what a server serves (I12): connections, calls, and what each may take. The limits that agents must know too are
//! in `wavekeep_proto::limits`, those of the database in `store/limits.rs`, those of readers in `query/limits.rs`.

use std::time::Duration;

use wavekeep_proto::limits::link_ms;

/// HTTP/2's windows, of a call and of a connection: what an agent that is not read can make us hold besides chunks. A link of 100 ms
/// and back carries 20 MB/s in it; the adaptive window was slower than a fixed one.
pub const TRANSPORT_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// A frame counts as a sign of life only when it is whole, and a ping waits behind it: small enough that the slowest link brings
/// several of them before a connection is pinged.
pub const FRAME_BYTES: u32 = 64 * 1024;
/// Calls of one connection at a time.
pub const CALLS_MAX: u32 = 64;
/// Of a request's headers, as HTTP/2 counts them.
pub const REQUEST_HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Calls that a connection may reset before they were looked at, or break by an error: one more, and it is told to go away.
pub const RESETS_MAX: usize = 64;
/// Connections besides those of the sessions: readers, probes.
pub const READERS_MAX: u64 = 256;
/// Silence after which a connection is pinged: well within the minutes after which a NAT forgets it.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// For the answer to a ping, which stands behind what the slowest link has taken already.
pub const PING_ANSWER: Duration = Duration::from_secs(20);
/// A session is idle again, without a share of the memory budget, when no chunk came for so long and none is in memory.
pub const IDLE_AFTER: Duration = Duration::from_secs(10);
/// Between two times that what an agent says of its streams is written down: a statement for each session.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// As many as `--sessions-max` may say.
pub const SESSIONS_MAX: u32 = 100_000;

const _: () = assert!(2 * link_ms(FRAME_BYTES as u64) < PING_INTERVAL.as_millis() as u64);

/// For so many sessions.
#[must_use]
pub const fn connections_max(sessions_max: u64) -> u64 {
    sessions_max + READERS_MAX
}
