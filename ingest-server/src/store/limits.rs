//! The limits of everything that waits for the database (I12).

use std::time::Duration;

/// Connections that one server opens, unless told otherwise.
pub const CONNECTIONS_MAX: u32 = 16;
/// For a connection, new or from the pool.
pub const CONNECT_SECONDS_MAX: Duration = Duration::from_secs(10);
/// How long a pooled connection may have rested to be used without asking first whether the database still answers, which takes a
/// round trip.
pub(super) const CONNECTION_TRUSTED: Duration = Duration::from_secs(1);
/// For all of a transaction but its COMMIT: no answer by then means that the database is not available.
pub const TRANSACTION_SECONDS_MAX: Duration = Duration::from_secs(60);
/// For the answer to COMMIT: none by then means that it may or may not have happened.
pub const COMMIT_SECONDS_MAX: Duration = Duration::from_secs(30);
/// For the answer to ROLLBACK: none by then closes the connection, which rolls back as well.
pub const ROLLBACK_SECONDS_MAX: Duration = Duration::from_secs(5);

/// How long the database lets us wait for a row that another server has locked.
pub(super) const LOCK_WAIT: &str = "10s";
/// After how much silence of ours the database gives a transaction up: a server that lost its network holds no lock for longer.
pub(super) const IDLE_IN_TRANSACTION: &str = "60s";

/// What the unfinished buckets of streams may take in memory: those of about two thousand JS220s. Others are read again.
pub(super) const TOWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Chunks whose points are read at once.
pub(super) const LOAD_CHUNKS: u64 = 64;

/// Chunks that are folded in one transaction, where an older version did not: whoever captures their stream waits for it.
pub(super) const BACKFILL_CHUNKS: usize = 16;

/// Chunks that a scrub reads at once.
pub(super) const SCRUB_CHUNKS: usize = 64;
/// Their encoded bytes; a chunk may exceed it alone.
pub(super) const SCRUB_BYTES: i64 = 8 * 1024 * 1024;

/// How long retention waits for a lock, while it makes writers wait behind it: it then lets them go first.
pub(super) const RETENTION_LOCK_WAIT: &str = "200ms";
/// Between two attempts to drop a partition.
pub(super) const RETENTION_RETRY: Duration = Duration::from_secs(2);
/// So many; then it is left for the next time.
pub(super) const RETENTION_ATTEMPTS: u32 = 5;

/// Bytes gathered before they are sent to a COPY. A payload of at least this is sent from where it lies.
pub(super) const COPY_BUFFER_BYTES: usize = 64 * 1024;

/// Days for which partitions are made ahead, after today.
pub(super) const PARTITION_DAYS_AHEAD: i64 = 2;
