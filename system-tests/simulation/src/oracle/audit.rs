//! Every row of the surviving database, looked at as a scrub would, with nothing known but the sources.

use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::StreamDefinition;

use super::facts::Facts as _;
use super::ranges::Ranges;
use super::{Oracle, hashes};
use crate::database::StreamRow;
use crate::tape;

impl Oracle {
    /// I1, I4, I14: the rows of a stream tile its axis, in order, chained, up to where the stream's row stands.
    pub(super) fn audit(&mut self, stream: StreamId, row: &StreamRow) {
        let definition = &*row.definition;
        let mut at = (0, definition.first_sample, hashes::definition(definition));
        let mut ended = false;
        for chunk in &row.chunks {
            let header = &chunk.header;
            let name = format!("seq {}..{} of {stream}", header.first_seq, header.seq);
            self.check(!ended, || format!("I1: {name} lies after the end"));
            self.check(header.first_seq == at.0 + 1, || {
                format!("I1: {name} is stored after seq {}", at.0)
            });
            self.check(header.first_sample == at.1, || {
                format!("I4: {name} starts at {}, not at {}", header.first_sample, at.1)
            });
            let run = header.seq > header.first_seq;
            self.check(header.replaces() || !run, || {
                format!("I4: {name} stands for several seqs")
            });
            let chained = header.replaces() || hashes::digest(at.2, hashes::chunk(header)) == chunk.digest;
            self.check(chained, || format!("I14: {name} has another digest than its chain"));
            at = (header.seq, header.end(), chunk.digest);
            ended = header.kind == ChunkKind::End;
            self.audit_content(definition, chunk, &name);
            self.audit_capture(stream, chunk, &name);
        }
        let stands = (row.at.seq, row.at.next_sample, row.at.digest);
        self.check(at == stands, || {
            format!(
                "I1: the rows of {stream} end at seq {}, its row stands at {}",
                at.0, row.at.seq
            )
        });
    }

    /// The bytes are those of these samples.
    fn audit_content(&mut self, definition: &StreamDefinition, chunk: &Chunk, name: &str) {
        let header = &chunk.header;
        let mut bytes = chunk.columns.iter();
        for (column, signal) in header.columns.iter().zip(&definition.signals) {
            let ColumnContent::Present { .. } = column.content else {
                continue;
            };
            let width = u64::from(signal.sample_type.bits() / 8);
            let truth = tape::samples(
                definition.epoch,
                column.signal,
                width,
                header.first_sample,
                header.count,
            );
            let same = bytes.next() == Some(&truth);
            self.check(same, || {
                format!(
                    "I13: {name} has other samples in signal {} than were captured",
                    column.signal
                )
            });
        }
        self.check(bytes.next().is_none(), || format!("I13: {name} has a column too many"));
    }

    /// What is stored is what was captured there, or replaces it with its digest.
    fn audit_capture(&mut self, stream: StreamId, chunk: &Chunk, name: &str) {
        let header = &chunk.header;
        let committed = self.committed.get(&stream).and_then(|rows| rows.get(&header.seq));
        let as_chunk = committed.map_or(&[][..], |row| &row.of_chunks);
        let Some(captures) = self.captures.get(&stream) else {
            let holds = !header.replaces() || as_chunk.is_empty() || as_chunk.contains(&chunk.digest);
            self.check(holds, || {
                format!("I14: {name} has another digest than what it replaces")
            });
            return self.audit_of_successor(stream, chunk, name);
        };
        let at_seq = captures.get(&header.seq);
        let same = at_seq.is_some_and(|captures| captures.iter().any(|capture| capture.digest == chunk.digest));
        // The outbox itself ends the stream of a source that is gone.
        let own_end = header.kind == ChunkKind::End && header.reason == Reason::Crashed;
        let holds = if header.replaces() {
            let nothing_known = at_seq.is_none() && as_chunk.is_empty();
            same || nothing_known || as_chunk.contains(&chunk.digest)
        } else {
            same || own_end
        };
        self.check(holds, || format!("I14: {name} is not what was captured there"));
    }

    /// A successor is renumbered: its rows are judged by their samples.
    fn audit_of_successor(&mut self, stream: StreamId, chunk: &Chunk, name: &str) {
        let header = &chunk.header;
        if header.kind != ChunkKind::Gap || header.replaces() {
            return;
        }
        let epoch = self.epochs.get(&stream).copied();
        let of_epoch = self
            .captures
            .iter()
            .filter(|(other, _)| self.epochs.get(other).copied() == epoch);
        let known = of_epoch.flat_map(|(_, seqs)| seqs.values().flatten()).any(|capture| {
            let captured = &capture.header;
            (captured.kind, captured.reason, captured.first_sample, captured.count)
                == (header.kind, header.reason, header.first_sample, header.count)
        });
        self.check(known, || format!("I13: {name} is a gap that no source reported"));
    }

    /// I13: a replacing gap has its reason. Of the samples of its epoch, `known` are those that were ever committed, those that
    /// outboxes gave up, and those that are stored or that an outbox gave up.
    pub(super) fn audit_reason(&mut self, stream: StreamId, row: &StreamRow, known: (&Ranges, &Ranges, &Ranges)) {
        let (committed, given_up, accounted) = known;
        for chunk in row.chunks.iter().filter(|chunk| chunk.header.replaces()) {
            let header = &chunk.header;
            let name = format!(
                "the gap {:?} at seq {}..{} of {stream}",
                header.reason, header.first_seq, header.seq
            );
            if header.reason == Reason::LostByServer {
                let was_there = committed.cover(header.first_sample, header.end());
                self.check(was_there, || format!("I13: {name} stands for what was never committed"));
                // What an outbox adopted from its predecessor, it never had: its successor's gap stands for rows of the other.
                let beside = row.definition.predecessor.is_some() && accounted.cover(header.first_sample, header.end());
                self.check(self.losses > 0 || beside, || {
                    format!("I13: {name}, and the database never lost anything")
                });
            } else {
                self.audit_given_up(row, chunk, given_up, &name);
            }
        }
    }

    /// Samples that were captured within the gap were given up; gaps that were captured there may have been merged into it.
    fn audit_given_up(&mut self, row: &StreamRow, chunk: &Chunk, given_up: &Ranges, name: &str) {
        let epoch = row.definition.epoch;
        let (first, end) = (chunk.header.first_sample, chunk.header.end());
        let of_epoch = self
            .captures
            .iter()
            .filter(|(other, _)| self.epochs.get(other) == Some(&epoch));
        let kept = of_epoch.flat_map(|(_, seqs)| seqs.values().flatten()).find(|capture| {
            let header = &capture.header;
            let within = header.first_sample < end && header.end() > first;
            let (from, to) = (header.first_sample.max(first), header.end().min(end));
            header.kind == ChunkKind::Samples && within && !given_up.cover(from, to)
        });
        if let Some(kept) = kept {
            let seq = kept.header.seq;
            self.break_with(format!("I13: {name} stands for seq {seq}, which no outbox gave up"));
        }
    }
}
