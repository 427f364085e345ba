//! What one transaction will store: an entry for each (stream, owner), of chunks that follow each other.
//!
//! # Invariants
//! - I4: the rows of an entry tile, from its `before` to its `after`. A chunk that does not continue its entry is given back (the
//!   one before it was given up), never committed out of order.
//! - I7: a (stream, owner) has one entry.

use std::collections::HashMap;
use std::sync::Arc;

use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::{Owner, StreamId};

use super::ticket::{Accepted, Ticket};
use crate::ledger::{Entry, Quarantine, Row};
use crate::rollup::fold::SignalFold;

/// A chunk after validation.
#[derive(Debug)]
pub struct Checked {
    /// The chunk.
    pub accepted: Accepted,
    /// Why its content is not what its header says.
    pub quarantine: Option<Quarantine>,
    /// Of its columns, where it is.
    pub folds: Vec<SignalFold>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Group {
    entries: Vec<Entry>,
    /// One for each entry.
    facts: Vec<Facts>,
    index: HashMap<(StreamId, Owner), usize>,
    bytes: u64,
}

/// What is known of an entry besides what is stored.
#[derive(Debug)]
pub struct Facts {
    /// Answers for all of its rows.
    pub ticket: Ticket,
    /// For logs.
    pub device: String,
}

impl Group {
    /// Flow bytes of its chunks, and what their folds take in memory.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Nothing to commit?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many chunks.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.entries.iter().map(|entry| entry.rows.len()).sum()
    }

    /// One more chunk, after all of its stream that are here.
    pub fn push(&mut self, checked: Checked) {
        let Checked {
            accepted,
            quarantine,
            folds,
        } = checked;
        let (stream, owner) = (accepted.definition.id, accepted.owner);
        let after = Position::after(&accepted.chunk.header, accepted.chunk.digest);
        let bytes = accepted.ticket.bytes() + folds.iter().map(SignalFold::bytes).sum::<u64>();
        let row = Row {
            chunk: accepted.chunk,
            quarantine,
            folds,
        };
        match self.index.get(&(stream, owner)) {
            Some(&at) if self.entries[at].after == accepted.before => {
                self.entries[at].rows.push(row);
                self.entries[at].after = after;
                self.facts[at].ticket.merge(accepted.ticket);
            }
            Some(_) => {
                return accepted
                    .ticket
                    .lost(&Arc::from("the chunk before this one was given up"));
            }
            None => {
                self.index.insert((stream, owner), self.entries.len());
                self.entries.push(Entry {
                    stream,
                    owner,
                    before: accepted.before,
                    after,
                    rows: vec![row],
                });
                self.facts.push(Facts {
                    ticket: accepted.ticket,
                    device: accepted.definition.device.clone(),
                });
            }
        }
        self.bytes += bytes;
    }

    /// The entries and, in the same order, what is known of them.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Entry>, Vec<Facts>) {
        (self.entries, self.facts)
    }
}
