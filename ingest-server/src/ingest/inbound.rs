//! Frames from an agent, before the machine sees them, and chunks after it has accepted them.

use std::error::Error;

use bytes::Bytes;
use tonic::Status;
use tracing::debug;
use wavekeep_proto::chunk::{Chunk, ColumnContent};
use wavekeep_proto::frame::{AgentFrame, SlotStatus};
use wavekeep_proto::v1;
use wavekeep_proto::wire::{self, ChunkFault, WireError};

use crate::telemetry::histogram;

/// Parses a frame. One that names an encoding which this version cannot decode is refused here: all of them would be
/// quarantined.
pub(super) fn understood(frame: v1::AgentFrame) -> Result<AgentFrame, WireError> {
    let frame = wire::agent_frame(frame)?;
    if let AgentFrame::Chunk { slot, chunk } = &frame {
        for column in &chunk.header.columns {
            if let ColumnContent::Present { encoding, .. } = column.content
                && let Err(error) = encoding.require_supported()
            {
                let fault = ChunkFault::Unsupported(error.to_string());
                return Err(WireError::Chunk { slot: *slot, fault });
            }
        }
    }
    Ok(frame)
}

/// The chunk with columns of its own, copied out of the connection's buffer (I12): a chunk of 500 bytes does not keep a buffer
/// of 4 MiB alive, and what is charged for it is what it takes.
pub(super) fn unshared(mut chunk: Chunk) -> Chunk {
    for column in &mut chunk.columns {
        *column = Bytes::copy_from_slice(column);
    }
    chunk
}

/// Did the connection break? Otherwise what came is larger than a message may be, or is none.
pub(super) fn is_broken_connection(status: &Status) -> bool {
    status.source().is_some()
}

/// What the agent says of itself, for the metrics.
pub(super) fn observe(status: &[SlotStatus]) {
    if let Some(oldest_ms) = status.iter().map(|slot| slot.oldest_unacked_ms).max() {
        histogram::REPORTED_UNACKED_AGE_SECONDS.record(oldest_ms as f64 / 1000.0);
    }
    debug!(slots = status.len(), "heartbeat");
}
