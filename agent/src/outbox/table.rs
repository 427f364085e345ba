//! What is kept in memory: of each stream what it is and where it stands. Nothing per chunk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::StreamDefinition;

use super::Counters;
use super::record::{Acked, Identity, Mark, State};
use super::timeline::Timeline;

/// One stream in memory.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) definition: Arc<StreamDefinition>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) run: String,
    pub(super) state: State,
    pub(super) acked: Acked,
    /// When which seq was acked, for the hold-back.
    pub(super) acks: Timeline,
    /// When which seq was stored, for the age of the oldest un-acked.
    pub(super) stores: Timeline,
    /// A server has said, since the start, where it stands.
    pub(super) opened: bool,
    /// The source of a file has not heard yet that its stream goes on elsewhere.
    pub(super) moved: bool,
    /// A successor that is still being filled: nobody else sees it.
    pub(super) hidden: bool,
    /// No samples that may be evicted end at or before this seq.
    pub(super) evicted_through: u64,
}

impl Stream {
    pub(super) fn new(
        definition: Arc<StreamDefinition>,
        labels: BTreeMap<String, String>,
        run: String,
        state: State,
        acked: Acked,
    ) -> Self {
        Self {
            definition,
            labels,
            run,
            state,
            acked,
            acks: Timeline::default(),
            stores: Timeline::default(),
            opened: false,
            moved: false,
            hidden: false,
            evicted_through: 0,
        }
    }

    pub(super) fn tail(&self) -> &Mark {
        &self.state.tail
    }

    /// Is it to be opened, sent and seen?
    pub(super) fn is_visible(&self) -> bool {
        !self.hidden && self.state.successor.is_none()
    }

    /// Does it take chunks of a source?
    pub(super) fn takes_more(&self) -> bool {
        self.is_visible() && self.state.to_end.is_none() && !self.state.tail.at.ended
    }

    /// Bytes of records that no ack covers; after an eviction in their midst, an upper bound.
    pub(super) fn unacked_bytes(&self) -> u64 {
        if self.acked.seq >= self.state.tail.at.seq {
            return 0;
        }
        self.state
            .stored_total_bytes
            .saturating_sub(self.acked.total_bytes)
            .min(self.state.held_bytes)
    }

    /// When the oldest un-acked chunk was stored.
    pub(super) fn oldest_unacked(&self) -> Option<Duration> {
        let first = self.acked.seq + 1;
        (first <= self.state.tail.at.seq)
            .then(|| self.stores.stored_at(first))
            .flatten()
    }
}

/// All of them, and what belongs to none.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) identity: Identity,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    /// Of the last chunk stored in any stream.
    pub(super) ordinal: u64,
    pub(super) counters: Counters,
    /// The latest time anybody mentioned.
    pub(super) now: Duration,
}

impl Table {
    pub(super) fn held_bytes(&self) -> u64 {
        self.streams.values().map(|stream| stream.state.held_bytes).sum()
    }

    /// Held although acked.
    pub(super) fn held_back_bytes(&self) -> u64 {
        self.streams
            .values()
            .map(|stream| stream.state.held_bytes - stream.unacked_bytes())
            .sum()
    }

    pub(super) fn acked_hint(&self, stream: StreamId) -> Acked {
        self.streams
            .get(&stream)
            .map_or_else(Acked::default, |stream| stream.acked)
    }

    pub(super) fn set_state(&mut self, stream: StreamId, state: State) {
        self.ordinal = self.ordinal.max(state.ordinal);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.state = state;
        }
    }
}
