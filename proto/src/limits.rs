//! Every limit of the system that both sides must agree on (I12), with the assertions that relate them.

/// The protocol versions this build speaks.
pub const VERSION_MIN: u32 = 1;
/// See [`VERSION_MIN`].
pub const VERSION_MAX: u32 = 1;

/// A samples chunk never crosses a multiple of this many samples.
pub const CHUNK_SAMPLES_MAX: u64 = 65_536;
/// The base level of a stream is at most this: 16^4 = [`CHUNK_SAMPLES_MAX`].
pub const BASE_LEVEL_MAX: u32 = 4;
/// Bits that one sample of all signals may take: 16 of f32, 8 of f64.
pub const SAMPLE_BITS_MAX: u32 = 512;
/// Signals of a stream.
pub const SIGNALS_MAX: usize = 128;
/// Samples per second: what an oscilloscope's file may hold.
pub const RATE_HZ_MAX: f64 = 1e12;
/// Sample ids stay below 2^62, so that sums of them never overflow.
pub const SAMPLE_ID_MAX: u64 = 1 << 62;
/// Seqs stay below 2^62.
pub const SEQ_MAX: u64 = 1 << 62;

/// Bytes of a device, signal or run name.
pub const NAME_BYTES_MAX: usize = 200;
/// Labels, or attributes, of a stream.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's key or value.
pub const LABEL_BYTES_MAX: usize = 1_000;

/// Markers in one chunk.
pub const MARKERS_MAX: usize = 1_000;
/// Bytes of the markers of one chunk, together.
pub const MARKER_BYTES_MAX: usize = 256 * 1024;

/// Encoded bytes of a chunk's columns: an encoding that grows them is not used.
pub const CHUNK_COLUMN_BYTES_MAX: usize = CHUNK_SAMPLES_MAX as usize * SAMPLE_BITS_MAX as usize / 8;
/// Bytes of a chunk's header, with its markers.
pub const HEADER_BYTES_MAX: usize = MARKER_BYTES_MAX + 256 * 1024;
/// Bytes of a chunk, whole, as flow control counts it.
pub const CHUNK_BYTES_MAX: usize = CHUNK_COLUMN_BYTES_MAX + HEADER_BYTES_MAX;
/// A gRPC message, either way.
pub const MESSAGE_BYTES_MAX: usize = CHUNK_BYTES_MAX + 64 * 1024;
/// Added to a chunk's bytes by flow control, so that a flood of tiny chunks is bounded too.
pub const CHUNK_OVERHEAD_BYTES: u64 = 512;

/// The smallest window that a server grants.
pub const WINDOW_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// The largest.
pub const WINDOW_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Slots of one session.
pub const SLOTS_MAX: u32 = 4_096;
/// Chunks of one session that may be accepted and not yet committed.
pub const ACCEPTED_CHUNKS_MAX: usize = 8_192;

/// Between two heartbeats of either side.
pub const HEARTBEAT_MS: u64 = 5_000;
/// The slowest link on which a session still gets on: 128 kbit/s. Every wait for something that may stand behind chunks on their
/// way allows for it; whether the link is there at all, HTTP/2's pings find out within half a minute.
pub const LINK_BYTES_PER_S_MIN: u64 = 16 * 1024;
/// Silence after which an agent gives a server up, and a server an agent that it has not welcomed yet.
pub const SILENCE_MS: u64 = 20_000;
/// Silence after which a server gives up an agent that it has welcomed. The agent's heartbeats wait behind its chunks, and the
/// largest one takes the slowest link 4.5 MiB / 16 KiB/s = 288 s.
pub const AGENT_SILENCE_MS: u64 = SILENCE_MS + link_ms(CHUNK_BYTES_MAX as u64);
/// How long an agent waits for `Welcome`, and for any answer to the `Open`s under way, apart from [`link_ms`] of the chunks that
/// were sent before them.
pub const ANSWER_MS: u64 = 15_000;
/// `Open`s of a session that are not answered yet. Few, so that a thousand streams open one after the other, each answered in
/// time; enough to hide the link's latency.
pub const OPENS_MAX: usize = 16;
/// How long sent chunks may stay without any ack, apart from [`link_ms`] of the one under way.
pub const ACK_MS: u64 = 60_000;
/// A machine that was not asked for so long was stalled itself: what came meanwhile still waits to be read, and is not silence.
pub const STALL_MS: u64 = 2 * HEARTBEAT_MS;

/// Acked chunks stay in the outbox for this long: longer than twice the connections' maximum age.
pub const HOLD_BACK_MS: u64 = 20 * 60 * 1000;
/// A server closes connections of this age, with jitter.
pub const CONNECTION_AGE_MS: u64 = 8 * 60 * 1000;

/// Back-off after a failed connection or a refused slot: first and last mean delay.
pub const BACKOFF_MS_MIN: u64 = 100;
/// See [`BACKOFF_MS_MIN`].
pub const BACKOFF_MS_MAX: u64 = 30_000;

/// How long the slowest link takes for so many bytes.
#[must_use]
pub const fn link_ms(bytes: u64) -> u64 {
    bytes * 1000 / LINK_BYTES_PER_S_MIN
}

const _: () = assert!(CHUNK_SAMPLES_MAX == 16u64.pow(BASE_LEVEL_MAX));
// A chunk larger than the smallest window could never be sent: it would wait for ever.
const _: () = assert!(CHUNK_BYTES_MAX as u64 + CHUNK_OVERHEAD_BYTES <= WINDOW_BYTES_MIN);
const _: () = assert!(WINDOW_BYTES_MIN <= WINDOW_BYTES_MAX);
const _: () = assert!(HOLD_BACK_MS > 2 * CONNECTION_AGE_MS);
const _: () = assert!(SILENCE_MS > 2 * HEARTBEAT_MS);
// On the slowest link the largest chunk arrives, and is waited for, before its connection is too old (three quarters: jitter).
const _: () =
    assert!(link_ms(CHUNK_BYTES_MAX as u64) < AGENT_SILENCE_MS && AGENT_SILENCE_MS < CONNECTION_AGE_MS * 3 / 4);
