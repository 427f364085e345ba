//! Every limit of the agent that is not part of the protocol (I12). What both sides agree on stands in
//! `wavekeep_proto::limits`.

use std::time::Duration;

/// A chunk is cut after at most this much time on the sample axis, unless told otherwise.
pub const CHUNK_PERIOD_DEFAULT: Duration = Duration::from_secs(1);
/// The shortest chunk period that is accepted.
pub const CHUNK_PERIOD_MIN: Duration = Duration::from_millis(50);
/// The longest: a crash loses at most a chunk period.
pub const CHUNK_PERIOD_MAX: Duration = Duration::from_secs(3600);

/// Of a core, what a source may take to encode its columns as pco: an agent with one instrument of 2 MSPS × 2 signals takes a tenth
/// of a core without, and may take a quarter.
pub const ENCODE_SHARE_MAX: f64 = 0.12;
/// Columns whose choice of an encoding is remembered; at more, all are chosen anew.
pub const ENCODED_COLUMNS_MAX: usize = 4_096;

/// Samples of each signal that a source should deliver at once, at most: what the reading of files and the simulator use.
pub const SOURCE_BLOCK_SAMPLES: usize = 16_384;
/// Bytes that a recorded file is read in.
pub const FILE_READ_BYTES: usize = 1 << 20;
/// Bytes of an npy file's header; numpy itself writes a hundred or so.
pub const NPY_HEADER_BYTES_MAX: usize = 64 * 1024;
/// Rows of an npy file that get a marker each are at least this long: a chunk holds a limited number of markers.
pub const MARKED_ROW_SAMPLES_MIN: u64 = 128;
/// Markers of a recorded file, which are all held.
pub const FILE_MARKERS_MAX: u64 = 100_000;
/// Edges beside an EnergyRunner trace, and bytes of their file.
pub const EDGES_MAX: usize = 10_000;
/// See [`EDGES_MAX`].
pub const EDGES_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of one line of a CSV file.
pub const CSV_LINE_BYTES_MAX: usize = 1024 * 1024;
/// Rows of a CSV file that its rate is found from.
pub const CSV_HEAD_ROWS: usize = 10_000;
/// Places of a CSV file that are remembered, so that a replay goes on without reading all of it again.
pub const CSV_PLACES_MAX: usize = 4_096;
/// Streams of one source.
pub const SOURCE_STREAMS_MAX: usize = 32;
/// Anchors of a time axis that are kept; older ones are forgotten.
pub const ANCHORS_MAX: usize = 64;

/// Data chunks of a JLS file that are kept in mind, 32 bytes each: at the usual 32 KiB a chunk, a file of 137 GB.
pub const JLS_CHUNKS_MAX: usize = 4 << 20;
/// Pairs of sample and time of a JLS file that are kept in mind, of all signals together.
pub const JLS_TIMES_MAX: usize = 4 << 20;
/// Annotations of a JLS file that are kept in mind.
pub const JLS_ANNOTATIONS_MAX: usize = 1 << 20;
/// Bytes of a JLS chunk that is read whole; the usual ones have 32 KiB.
pub const JLS_CHUNK_BYTES_MAX: u32 = 64 << 20;
/// Bytes that the largest chunks of all signals of a JLS file may take together: one of each is held.
pub const JLS_HELD_BYTES_MAX: u64 = 256 << 20;

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

/// Windows of a schedule.
pub const SCHEDULE_WINDOWS_MAX: usize = 16;
/// How often the hours of a schedule are looked at, at the least: the host's clock may step.
pub const SCHEDULE_LOOK_MAX: Duration = Duration::from_secs(10);
/// Acked chunks whose lag the status sums up.
pub const LAG_CHUNKS_KEPT: usize = 1_024;
/// A change of labels waits this long for its source to deliver, before the answer says that it waits on.
pub const LABEL_WAIT: Duration = Duration::from_secs(3);
/// How often it is looked at meanwhile.
pub const LABEL_LOOK: Duration = Duration::from_millis(10);
/// A change of an instrument's settings is answered within this time.
pub const SETTING_WAIT: Duration = Duration::from_secs(3);
/// Changes of one instrument's settings that wait.
pub const SETTING_CHANGES_MAX: usize = 8;
/// The body of a request to the admin endpoint: as many labels as a recording may have fit, however they are escaped.
pub const ADMIN_REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// A Unix socket's path is at most this long on Linux, without the closing zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Transfers that wait on an instrument's pipe: what arrives while nobody is there to submit one again, 32 ms of a JS220 at its fastest.
pub const USB_TRANSFERS: usize = 8;
/// Of each.
pub const USB_TRANSFER_BYTES: usize = 32 * 1024;
/// Transfers and what has arrived and is not parsed yet, of an instrument: 8 MiB, a second.
pub const USB_BUFFERS: usize = 256;

/// Reads of what another program writes that wait to be delivered, and the bytes of each: the writer waits then.
pub const PIPE_READS: usize = 16;
/// See [`PIPE_READS`].
pub const PIPE_READ_BYTES: usize = 64 * 1024;
