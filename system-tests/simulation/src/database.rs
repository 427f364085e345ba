//! The database, as docs/PROTOCOL.md has it: what `Open` and a commit do to a stream's row and to the chunks, as one step each.
//! A [`Copy`] is one state of it: the primary, a replica, a backup. The world decides which of them survives.
//!
//! # Invariants
//! - I1, I7: a stream's row moves only by the compare-and-set, together with the chunks that it counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::hash::definition_hash;
use wavekeep_proto::id::{Hash, Owner, StreamId};
use wavekeep_proto::stream::StreamDefinition;

/// A stream's row, and its rows of `chunk`.
#[derive(Debug, Clone)]
pub(crate) struct StreamRow {
    pub(crate) definition: Arc<StreamDefinition>,
    definition_hash: Hash,
    pub(crate) at: Position,
    pub(crate) owner: Owner,
    pub(crate) chunks: Vec<Arc<Chunk>>,
}

/// All that one transaction stores of one stream for one owner.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) stream: StreamId,
    pub(crate) owner: Owner,
    pub(crate) before: Position,
    pub(crate) after: Position,
    pub(crate) chunks: Vec<Arc<Chunk>>,
    /// Where the answer goes.
    pub(crate) link: usize,
    pub(crate) slot: u32,
    pub(crate) flow_bytes: u64,
}

/// What `Open` asks.
#[derive(Debug, Clone)]
pub(crate) struct OpenRequest {
    pub(crate) definition: Arc<StreamDefinition>,
    pub(crate) stored_seq: u64,
    pub(crate) owner: Owner,
    pub(crate) link: usize,
    pub(crate) slot: u32,
}

/// What it answers; `row` as `Opened` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenedRow {
    pub(crate) at: Position,
    pub(crate) row: Option<(u64, Hash)>,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copy {
    /// Rises with each promotion: a copy that is brought back in place has the one of its time again.
    pub(crate) generation: u64,
    pub(crate) streams: BTreeMap<StreamId, StreamRow>,
}

impl Copy {
    /// `None`: the id is taken by another definition.
    pub(crate) fn open(&mut self, request: &OpenRequest) -> Option<OpenedRow> {
        let hash = definition_hash(&request.definition);
        let row = self.streams.entry(request.definition.id).or_insert_with(|| StreamRow {
            definition: request.definition.clone(),
            definition_hash: hash,
            at: Position::start(&request.definition),
            owner: request.owner,
            chunks: Vec::new(),
        });
        if row.definition_hash != hash {
            return None;
        }
        row.owner = request.owner;
        let reaches = |chunk: &&Arc<Chunk>| chunk.header.seq <= request.stored_seq;
        let ahead = row.at.seq > request.stored_seq;
        let last = ahead.then(|| row.chunks.iter().rev().find(reaches)).flatten();
        Some(OpenedRow {
            at: row.at,
            row: last.map(|chunk| (chunk.header.seq, chunk.digest)),
        })
    }

    /// One transaction: which entries were stored; the others are fenced.
    pub(crate) fn commit(&mut self, entries: &[Entry]) -> Vec<bool> {
        entries.iter().map(|entry| self.store(entry)).collect()
    }

    fn store(&mut self, entry: &Entry) -> bool {
        let Some(row) = self.streams.get_mut(&entry.stream) else {
            return false;
        };
        let owned = row.owner == entry.owner;
        let in_place = row.at.seq == entry.before.seq
            && row.at.next_sample == entry.before.next_sample
            && row.at.digest == entry.before.digest;
        if !owned || !in_place || row.at.ended {
            return false;
        }
        row.at = entry.after;
        row.chunks.extend(entry.chunks.iter().cloned());
        true
    }
}
