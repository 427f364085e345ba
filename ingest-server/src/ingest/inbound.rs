//! Chunks after the machine has accepted them, and what an agent says of itself.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use tonic::Status;
use tracing::debug;
use wavekeep_proto::chunk::Chunk;
use wavekeep_proto::frame::SlotStatus;

use super::slots::Slots;
use crate::ledger::Report;
use crate::telemetry::histogram;

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

/// What the agent says of streams that are open in this session, as it is written down.
pub(super) fn reports(status: &[SlotStatus], slots: &Slots) -> Vec<Report> {
    // A frame may name a slot more than once, and a number that is no slot.
    let last: BTreeMap<u32, &SlotStatus> = status.iter().map(|status| (status.slot, status)).collect();
    let report = |status: &SlotStatus| {
        let slot = slots.get(status.slot)?;
        Some(Report {
            stream: slot.definition.id,
            owner: slot.owner,
            stored_seq: status.stored_seq,
            next_sample: status.next_sample,
            outbox_bytes: status.outbox_bytes,
            oldest_unacked_ms: status.oldest_unacked_ms,
        })
    };
    // Of two slots of one stream one alone still owns it.
    last.into_values().filter_map(report).collect()
}

/// What the agent says of itself, for the metrics.
pub(super) fn observe(status: &[SlotStatus]) {
    if let Some(oldest_ms) = status.iter().map(|slot| slot.oldest_unacked_ms).max() {
        histogram::REPORTED_UNACKED_AGE_SECONDS.record(oldest_ms as f64 / 1000.0);
    }
    debug!(slots = status.len(), "heartbeat");
}
