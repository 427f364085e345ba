//! What the server bounds (I12).

use std::time::Duration;

/// Connections at once; later ones are closed.
pub(crate) const CONNECTIONS: usize = 16;

/// How long a connection may take to say what it wants.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes of one transfer.
pub(crate) const TRANSFER_BYTES: u32 = 1 << 20;

/// Bytes that one connection is owed: of transfers that wait for the instrument, and of answers that it has not read.
pub(crate) const OWED_BYTES: usize = 16 << 20;

/// Transfers of one connection that wait for the instrument: the kernel's own hosts have a few dozen.
pub(crate) const WAITING: usize = 1024;
