//! What the shell knows of each slot of a session: which stream, and as which owner it was opened.
//!
//! # Invariants
//! - I7: a slot's owner is the one that its `Open` claimed the row with; a closed slot is forgotten, and so can commit nothing.
//! - I12: the definitions of a session's slots take at most [`DEFINITION_BYTES_MAX`].

use std::collections::HashMap;
use std::sync::Arc;

use wavekeep_proto::frame::Open;
use wavekeep_proto::id::Owner;
use wavekeep_proto::stream::{Signal, StreamDefinition};

/// Of all open slots of one session: a definition takes some hundred bytes, so this is thousands of them.
pub(super) const DEFINITION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One stream of the session.
#[derive(Debug)]
pub(super) struct OpenSlot {
    /// What it is.
    pub(super) definition: Arc<StreamDefinition>,
    /// The claim on its row.
    pub(super) owner: Owner,
    bytes: usize,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: HashMap<u32, OpenSlot>,
    bytes: usize,
}

/// The definitions are too large together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the definitions of this session's streams take more than {DEFINITION_BYTES_MAX} bytes together: open fewer at a time"
)]
pub(super) struct TooLarge;

impl Slots {
    /// One more.
    pub(super) fn insert(&mut self, open: &Open, owner: Owner) -> Result<(), TooLarge> {
        let bytes = footprint_bytes(open);
        if self.bytes + bytes > DEFINITION_BYTES_MAX {
            return Err(TooLarge);
        }
        let slot = OpenSlot {
            definition: open.definition.clone(),
            owner,
            bytes,
        };
        self.bytes += bytes;
        if let Some(old) = self.slots.insert(open.slot, slot) {
            self.bytes -= old.bytes;
        }
        Ok(())
    }

    /// It was refused or fenced.
    pub(super) fn remove(&mut self, slot: u32) -> Option<OpenSlot> {
        let removed = self.slots.remove(&slot)?;
        self.bytes -= removed.bytes;
        Some(removed)
    }

    /// If it is open.
    #[must_use]
    pub(super) fn get(&self, slot: u32) -> Option<&OpenSlot> {
        self.slots.get(&slot)
    }

    /// How many.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

fn footprint_bytes(open: &Open) -> usize {
    /// Of an entry of a map, with two allocations.
    const PAIR_BYTES: usize = 96;
    let definition = &*open.definition;
    let pairs = definition.attributes.iter().chain(&open.labels);
    let signal = |signal: &Signal| size_of::<Signal>() + signal.name.len() + signal.unit.len();
    size_of::<StreamDefinition>()
        + size_of::<OpenSlot>()
        + definition.device.len()
        + definition.file_identity.len()
        + definition.signals.iter().map(signal).sum::<usize>()
        + pairs
            .map(|(name, value)| PAIR_BYTES + name.len() + value.len())
            .sum::<usize>()
}
