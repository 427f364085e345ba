//! The oracle: it knows from the sources what was captured, from the model of the database what was committed, and from the
//! frames what each side claimed; it shares types with the product, and no logic. What it finds first, it keeps.
//!
//! | file | what it judges |
//! |---|---|
//! | this one | what is captured and committed: I1, I4, I7, I14, at every commit |
//! | `session` | what the two sides say: I2, I3, I6, at every frame |
//! | `outbox` | what an outbox lets go of: I5, and that evictions are evictions |
//! | `alarms` | that every alarm and refusal has a reason in this world |
//! | `judge`, `audit` | the surviving database at the end: I1, I4, I13, I14, and every gap's reason |
//! | `hashes`, `facts` | the hashes, and what a header means, from the specification's text |

mod alarms;
mod audit;
mod facts;
mod hashes;
mod judge;
mod outbox;
mod ranges;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wavekeep_proto::chunk::{Chunk, ColumnContent, Header};
use wavekeep_proto::id::{Epoch, Hash, Owner, StreamId};
use wavekeep_proto::stream::StreamDefinition;

use crate::database::{Copy, Entry, OpenRequest, OpenedRow};
use facts::Facts as _;
use session::{Flight, SlotState};

/// A chunk, as its source gave it to an outbox.
#[derive(Debug, Clone)]
struct Capture {
    header: Header,
    digest: Hash,
    /// Agents whose outbox has it, or has let go of it after an ack: a bit each. Nobody promises what no agent ever had safely.
    holders: u64,
}

/// Rows that were committed at some time, in some copy of the database, at one last seq.
#[derive(Debug, Clone)]
struct Committed {
    first_seq: u64,
    digests: Vec<Hash>,
    /// Of these, the ones that a chunk itself gave, not a gap in its place.
    of_chunks: Vec<Hash>,
}

/// Where a stream stands in a copy of the database.
#[derive(Debug, Clone, Copy)]
struct Place {
    seq: u64,
    next_sample: u64,
    digest: Hash,
    owner: Owner,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    broken: Option<String>,
    captures: BTreeMap<StreamId, BTreeMap<u64, Vec<Capture>>>,
    places: BTreeMap<(usize, StreamId), Place>,
    committed: BTreeMap<StreamId, BTreeMap<u64, Committed>>,
    slots: BTreeMap<(usize, u32), SlotState>,
    flights: BTreeMap<usize, Flight>,
    /// The highest generation of the database that an agent was welcomed with.
    generations: BTreeMap<usize, u64>,
    /// What an outbox was told is committed, and when it was told of each seq.
    told: BTreeMap<(usize, StreamId), BTreeMap<u64, Duration>>,
    /// The highest of these, whatever a server took back later.
    told_once: BTreeMap<(usize, StreamId), u64>,
    /// Ranges of samples that an outbox gave up in place, for want of room or because of bad bytes.
    given_up: BTreeMap<Epoch, Vec<(u64, u64)>>,
    /// A bit flipped in an outbox, among records of these.
    flipped: BTreeSet<Epoch>,
    /// Whose samples each stream has.
    epochs: BTreeMap<StreamId, Epoch>,
    /// Ranges of samples that were committed at some time, in some copy of the database.
    committed_samples: BTreeMap<Epoch, Vec<(u64, u64)>>,
    /// Streams of which two outboxes hold the same.
    cloned: BTreeSet<StreamId>,
    /// Streams of which a power cut took something.
    tail_lost: BTreeSet<StreamId>,
    /// Streams that diverged: where their records went, from which seq on.
    successors: BTreeMap<StreamId, Vec<(StreamId, u64)>>,
    /// Streams of files, which anybody may replay.
    files: BTreeSet<StreamId>,
    /// How often the database lost commits.
    losses: u64,
    alarms: alarms::AlarmCounts,
}

impl Oracle {
    /// What is wrong, if anything is.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Keeps the first thing that is wrong.
    pub(crate) fn break_with(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.break_with(what());
        }
    }

    /// An outbox took a chunk from a source. `before` is where the stream's tail was.
    pub(crate) fn captured(
        &mut self,
        agent: usize,
        definition: &StreamDefinition,
        before: (u64, u64, Hash),
        chunk: &Chunk,
    ) {
        let header = &chunk.header;
        let (seq, next_sample, digest) = before;
        let stream = definition.id;
        let follows = header.first_seq == seq + 1 && header.seq == seq + 1 && header.first_sample == next_sample;
        self.check(follows, || {
            format!("I4: seq {} of {stream} does not follow its tail", header.seq)
        });
        let expected = hashes::digest(digest, hashes::chunk(header));
        self.check(expected == chunk.digest, || {
            format!(
                "I14: the outbox computed another digest at seq {} of {stream}",
                header.seq
            )
        });
        let mut bytes = chunk.columns.iter();
        for (column, signal) in header.columns.iter().zip(&definition.signals) {
            if let ColumnContent::Present { hash, .. } = column.content {
                let samples = bytes.next().map_or(&[][..], |bytes| &bytes[..]);
                let expected = hashes::column(column.signal, signal.sample_type as u8, header.count, samples);
                self.check(expected == hash, || {
                    format!("I14: signal {} of seq {} has another hash", column.signal, header.seq)
                });
            }
        }
        self.epochs.insert(stream, definition.epoch);
        let captures = self.captures.entry(stream).or_default().entry(header.seq).or_default();
        match captures.iter_mut().find(|capture| capture.digest == chunk.digest) {
            Some(capture) => capture.holders |= 1 << agent,
            None => captures.push(Capture {
                header: header.clone(),
                digest: chunk.digest,
                holders: 1 << agent,
            }),
        }
    }

    /// `Open` was done.
    pub(crate) fn opened(&mut self, branch: usize, is_primary: bool, request: &OpenRequest, opened: Option<OpenedRow>) {
        // Whoever still asks the old primary hears of what it has, not of what the new one has.
        self.losses += u64::from(!is_primary);
        let stream = request.definition.id;
        if opened.is_none() {
            return self.break_with(format!("stream {stream} exists with another definition"));
        }
        let definition = &request.definition;
        let place = self.places.entry((branch, stream)).or_insert_with(|| Place {
            seq: 0,
            next_sample: definition.first_sample,
            digest: hashes::definition(definition),
            owner: request.owner,
        });
        place.owner = request.owner;
        if definition.is_file() {
            self.files.insert(stream);
        }
        self.epochs.insert(stream, definition.epoch);
    }

    /// A commit was done.
    pub(crate) fn committed(&mut self, branch: usize, is_primary: bool, entries: &[Entry], stored: &[bool]) {
        // What the old primary still commits is lost already.
        self.losses += u64::from(!is_primary && stored.contains(&true));
        for (entry, _) in entries.iter().zip(stored).filter(|(_, stored)| **stored) {
            for chunk in &entry.chunks {
                self.committed_chunk(branch, entry, chunk);
            }
        }
    }

    fn committed_chunk(&mut self, branch: usize, entry: &Entry, chunk: &Chunk) {
        let stream = entry.stream;
        let header = &chunk.header;
        let Some(place) = self.places.get(&(branch, stream)).copied() else {
            return self.break_with(format!("stream {stream} was never opened in this database"));
        };
        self.check(place.owner == entry.owner, || {
            format!("I7: a fenced session committed seq {} of {stream}", header.seq)
        });
        self.check(header.first_seq == place.seq + 1, || {
            format!(
                "I1: seq {} of {stream} is committed after {}",
                header.first_seq, place.seq
            )
        });
        let tiles = header.first_sample == place.next_sample;
        self.check(tiles, || {
            format!(
                "I4: seq {} of {stream} starts at {}, not at {}",
                header.seq, header.first_sample, place.next_sample
            )
        });
        if !header.replaces() {
            let expected = hashes::digest(place.digest, hashes::chunk(header));
            self.check(expected == chunk.digest, || {
                format!("I14: seq {} of {stream} is committed with another digest", header.seq)
            });
        }
        let after = Place {
            seq: header.seq,
            next_sample: header.first_sample + header.count,
            digest: chunk.digest,
            ..place
        };
        self.places.insert((branch, stream), after);
        if let Some(epoch) = self.epochs.get(&stream).filter(|_| header.count > 0) {
            self.committed_samples
                .entry(*epoch)
                .or_default()
                .push((header.first_sample, header.end()));
        }
        let rows = self.committed.entry(stream).or_default();
        let row = rows.entry(header.seq).or_insert(Committed {
            first_seq: header.first_seq,
            digests: Vec::new(),
            of_chunks: Vec::new(),
        });
        row.first_seq = row.first_seq.min(header.first_seq);
        if !row.digests.contains(&chunk.digest) {
            row.digests.push(chunk.digest);
        }
        if !header.replaces() && !row.of_chunks.contains(&chunk.digest) {
            row.of_chunks.push(chunk.digest);
        }
    }

    /// Another copy of the database is the primary now. Does it lack anything that the last one had?
    pub(crate) fn branched(&mut self, before: &Copy, branch: usize, copy: &Copy) {
        for (stream, row) in &copy.streams {
            let place = Place {
                seq: row.at.seq,
                next_sample: row.at.next_sample,
                digest: row.at.digest,
                owner: row.owner,
            };
            self.places.insert((branch, *stream), place);
        }
        let lost = before.streams.iter().any(|(stream, row)| {
            copy.streams
                .get(stream)
                .is_none_or(|other| other.at.seq < row.at.seq || other.at.digest != row.at.digest)
        });
        self.losses += u64::from(lost);
    }

    /// Its records moved to a successor.
    pub(crate) fn has_diverged(&self, stream: StreamId) -> bool {
        self.successors.contains_key(&stream)
    }

    /// Was it committed, at some time, somewhere? Digest 0 always was.
    fn was_committed(&self, stream: StreamId, seq: u64, digest: Hash) -> bool {
        let row = self.committed.get(&stream).and_then(|rows| rows.get(&seq));
        seq == 0 || row.is_some_and(|row| row.digests.contains(&digest))
    }

    /// Was every seq of a range committed, at some time, somewhere?
    fn were_all_committed(&self, stream: StreamId, first_seq: u64, last_seq: u64) -> bool {
        let Some(rows) = self.committed.get(&stream) else {
            return false;
        };
        let covered = |seq: u64| rows.range(seq..).next().is_some_and(|(_, row)| row.first_seq <= seq);
        (first_seq..=last_seq).all(covered)
    }
}
