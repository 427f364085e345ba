//! The verdict at the end: every captured sample is stored, or in a gap that says why; each once.
//!
//! Two losses are explained. *Forgotten*: the database lost what it had acknowledged so long ago that no outbox holds anything of
//! the stream any more. *The known limit* of docs/PROTOCOL.md: the same, of a stream that diverged before. Nothing else passes.

use std::collections::{BTreeMap, BTreeSet};

use wavekeep_proto::chunk::ChunkKind;
use wavekeep_proto::id::{Epoch, StreamId};

use super::facts::Facts as _;
use super::ranges::Ranges;
use super::{Capture, Oracle};
use crate::counters::Counters;
use crate::database::{Copy, StreamRow};

impl Oracle {
    /// Judges the surviving database; `held` are the streams of which each agent's outbox still holds anything.
    pub(crate) fn judge(&mut self, surviving: &Copy, held: &[BTreeSet<StreamId>], counters: &mut Counters) {
        let mut epochs: BTreeMap<Epoch, Vec<(StreamId, &StreamRow)>> = BTreeMap::new();
        for (stream, row) in &surviving.streams {
            self.audit(*stream, row);
            epochs.entry(row.definition.epoch).or_default().push((*stream, row));
        }
        for (epoch, rows) in &epochs {
            let committed = Ranges::union(self.committed_samples.get(epoch).into_iter().flatten().copied());
            let given_up = Ranges::union(self.given_up.get(epoch).into_iter().flatten().copied());
            let chunks = rows
                .iter()
                .flat_map(|(_, row)| &row.chunks)
                .filter(|chunk| !chunk.header.replaces());
            let chunks = chunks.map(|chunk| (chunk.header.first_sample, chunk.header.end()));
            let lost_elsewhere = self.given_up.get(epoch).into_iter().flatten().copied();
            let accounted = Ranges::union(chunks.chain(lost_elsewhere));
            for (stream, row) in rows {
                self.audit_reason(*stream, row, (&committed, &given_up, &accounted));
                self.judge_predecessor(row);
            }
            self.judge_overlaps(rows);
        }
        self.judge_coverage(&epochs, held, counters);
        self.count(surviving, counters);
    }

    /// A successor starts where its predecessor's seq ended.
    fn judge_predecessor(&mut self, row: &StreamRow) {
        let Some(predecessor) = row.definition.predecessor else {
            return;
        };
        let captures = self
            .captures
            .get(&predecessor.stream_id)
            .and_then(|seqs| seqs.get(&predecessor.seq));
        let Some(captures) = captures else { return };
        let follows = captures
            .iter()
            .any(|capture| capture.header.end() == row.definition.first_sample);
        let name = row.definition.id;
        self.check(follows, || {
            format!("I4: the successor {name} does not start where its predecessor's seq ends")
        });
    }

    /// Exactly once: two streams of an epoch hold the same samples only where one continues what diverged.
    fn judge_overlaps(&mut self, rows: &[(StreamId, &StreamRow)]) {
        let mut samples: Vec<(u64, u64, StreamId)> = Vec::new();
        for (stream, row) in rows {
            let of_row = row
                .chunks
                .iter()
                .filter(|chunk| chunk.header.kind == ChunkKind::Samples);
            samples.extend(of_row.map(|chunk| (chunk.header.first_sample, chunk.header.end(), *stream)));
        }
        samples.sort_unstable();
        for pair in samples.windows(2) {
            let ((_, end, one), (first, _, other)) = (pair[0], pair[1]);
            if first < end {
                let related = self.root(rows, one) == self.root(rows, other);
                self.check(related, || {
                    format!("I1: sample {first} is stored in {one} and in {other}")
                });
            }
        }
    }

    /// The stream that a successor, over however many successions, continues.
    fn root(&self, rows: &[(StreamId, &StreamRow)], stream: StreamId) -> StreamId {
        let mut root = stream;
        while let Some((_, row)) = rows.iter().find(|(id, _)| *id == root) {
            let Some(predecessor) = row.definition.predecessor else {
                break;
            };
            root = predecessor.stream_id;
        }
        root
    }

    fn judge_coverage(
        &mut self,
        epochs: &BTreeMap<Epoch, Vec<(StreamId, &StreamRow)>>,
        held: &[BTreeSet<StreamId>],
        counters: &mut Counters,
    ) {
        let stored: BTreeMap<Epoch, Ranges> = epochs
            .iter()
            .map(|(epoch, rows)| {
                let chunks = rows.iter().flat_map(|(_, row)| &row.chunks);
                (
                    *epoch,
                    Ranges::union(chunks.map(|chunk| (chunk.header.first_sample, chunk.header.end()))),
                )
            })
            .collect();
        let nothing = Ranges::default();
        let captures = std::mem::take(&mut self.captures);
        for (stream, seqs) in &captures {
            let stored = self
                .epochs
                .get(stream)
                .and_then(|epoch| stored.get(epoch))
                .unwrap_or(&nothing);
            for capture in seqs.values().flatten().filter(|capture| capture.holders != 0) {
                counters.captured_samples += capture.header.count;
                if !stored.cover(capture.header.first_sample, capture.header.end()) {
                    self.explain_loss(*stream, capture, held, counters);
                }
            }
        }
        self.captures = captures;
    }

    fn explain_loss(
        &mut self,
        stream: StreamId,
        capture: &Capture,
        held: &[BTreeSet<StreamId>],
        counters: &mut Counters,
    ) {
        let header = &capture.header;
        let (seq, first, end) = (header.seq, header.first_sample, header.end());
        let ranges = self
            .epochs
            .get(&stream)
            .and_then(|epoch| self.committed_samples.get(epoch))
            .into_iter()
            .flatten();
        let was_committed = Ranges::union(ranges.copied()).cover(first, end);
        let holders = || {
            held.iter()
                .enumerate()
                .filter(|(agent, _)| capture.holders & (1 << agent) != 0)
                .map(|(_, held)| held)
        };
        // Released before the stream diverged: nobody opens it any more, if nobody else has it.
        let left_behind = self
            .successors
            .get(&stream)
            .is_some_and(|all| all.iter().any(|(_, released)| seq <= *released));
        let given_up = !holders().any(|held| held.contains(&stream));
        let forgotten = !self
            .family(stream)
            .iter()
            .any(|stream| holders().any(|held| held.contains(stream)));
        if self.losses > 0 && was_committed && left_behind && given_up {
            counters.known_limit += 1;
        } else if self.losses > 0 && was_committed && forgotten {
            counters.forgotten += 1;
        } else {
            self.break_with(format!(
                "I13: seq {seq} of {stream}, samples [{first}, {end}), is neither stored nor in a gap"
            ));
        }
    }

    /// A stream, and all that continue it.
    fn family(&self, stream: StreamId) -> Vec<StreamId> {
        let mut family = vec![stream];
        let mut at = 0;
        while at < family.len() {
            family.extend(
                self.successors
                    .get(&family[at])
                    .into_iter()
                    .flatten()
                    .map(|(successor, _)| *successor),
            );
            at += 1;
        }
        family
    }

    fn count(&self, surviving: &Copy, counters: &mut Counters) {
        for chunk in surviving.streams.values().flat_map(|row| &row.chunks) {
            counters.count_row(&chunk.header);
        }
        counters.successors += surviving
            .streams
            .values()
            .filter(|row| row.definition.predecessor.is_some())
            .count() as u64;
        counters.database_losses += self.losses;
        counters.rewinds += self.alarms.rewinds;
        counters.jump_gaps += self.alarms.jump_gaps;
        counters.adoptions += self.alarms.adoptions;
        counters.divergences += self.alarms.divergences;
        counters.ack_mismatches += self.alarms.ack_mismatches;
        counters.old_primaries += self.alarms.old_primaries;
        counters.stream_refusals += self.alarms.stream_refusals;
    }
}
