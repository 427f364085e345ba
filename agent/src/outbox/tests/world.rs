//! The truth: what sources captured, what a server has, and what an outbox must therefore show.

use std::collections::BTreeMap;

use wavekeep_proto::chunk::{ChunkKind, Header, Marker, Position, Reason};
use wavekeep_proto::hash::{chunk_hash, definition_hash, next_digest};
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::uplink::{Held, Outbox as _};

use super::super::Outbox;
use super::super::kv::Kv;
use super::super::memory::MemoryKv;
use super::held;

/// A chunk as it was captured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct True {
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
    pub(super) digest: Hash,
}

/// A stream as it was captured: chunk n has seq n + 1.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    pub(super) definition: StreamDefinition,
    pub(super) chunks: Vec<True>,
    /// The highest seq ever acked.
    pub(super) acked_ever: u64,
    /// What the server has committed.
    pub(super) committed: u64,
    /// A power cut keeps at least this.
    pub(super) synced: u64,
    /// Bits were flipped: gaps `corrupt` are explained.
    pub(super) damaged: bool,
    /// Its source is there and has not ended it.
    pub(super) sourced: bool,
    /// Where it stands is known to the outbox since the last start.
    pub(super) opened: bool,
}

impl Capture {
    pub(super) fn new(definition: StreamDefinition) -> Self {
        Self {
            definition,
            chunks: Vec::new(),
            acked_ever: 0,
            committed: 0,
            synced: 0,
            damaged: false,
            sourced: true,
            opened: false,
        }
    }

    pub(super) fn seq(&self) -> u64 {
        self.chunks.len() as u64
    }

    pub(super) fn at(&self, seq: u64) -> Position {
        let Some(before) = seq.checked_sub(1) else {
            let digest = definition_hash(&self.definition);
            return Position {
                seq: 0,
                next_sample: self.definition.first_sample,
                digest,
                ended: false,
            };
        };
        let chunk = &self.chunks[usize::try_from(before).unwrap()];
        let next_sample = chunk.header.first_sample + chunk.header.count;
        Position {
            seq,
            next_sample,
            digest: chunk.digest,
            ended: chunk.header.kind == ChunkKind::End,
        }
    }

    pub(super) fn push(&mut self, header: Header, data: Vec<u8>) {
        let digest = next_digest(self.at(self.seq()).digest, chunk_hash(&header));
        self.chunks.push(True { header, data, digest });
    }

    /// Is this held record what was captured, or a gap that rightly stands for it?
    fn explains(&self, held: &Held, may_evict: bool) {
        let header = &held.chunk.header;
        let (from, to) = (self.at(header.first_seq - 1), self.at(header.seq));
        assert_eq!(held.digest_before, from.digest, "I14: before {header:?}");
        assert_eq!(held.chunk.digest, to.digest, "I14: after {header:?}");
        let (start, end) = (header.first_sample, header.first_sample + header.count);
        assert_eq!((start, end), (from.next_sample, to.next_sample), "I4, I13: {header:?}");
        let covered =
            &self.chunks[usize::try_from(header.first_seq - 1).unwrap()..usize::try_from(header.seq).unwrap()];
        if let [captured] = covered
            && captured.header == *header
        {
            assert_eq!(
                held.chunk.columns.concat(),
                captured.data,
                "I13: the bytes that were captured"
            );
            return;
        }
        let markers = || {
            covered
                .iter()
                .flat_map(|chunk| chunk.header.markers.clone())
                .collect::<Vec<_>>()
        };
        match header.reason {
            Reason::Evicted if header.kind == ChunkKind::Gap => {
                assert!(
                    may_evict && self.definition.file_identity.is_empty(),
                    "nothing made it evict {header:?}"
                );
                let kept = |marker| header.markers.contains(marker);
                assert!(
                    capture_kept(&header.markers, &markers()),
                    "no marker comes from nowhere"
                );
                assert!(self.damaged || markers().iter().all(kept), "markers are kept");
                // One that was damaged became a gap `corrupt`, and another one is due.
                assert!(
                    self.damaged || covered.iter().all(|chunk| chunk.header.kind != ChunkKind::End),
                    "an end is never merged"
                );
            }
            Reason::Corrupt => assert!(self.damaged, "nothing was damaged: {header:?}"),
            Reason::LostByServer => assert!(
                header.seq <= self.committed.max(self.acked_ever),
                "not adopted: {header:?}"
            ),
            _ => panic!("I13: {header:?} is not what was captured: {covered:?}"),
        }
    }
}

/// Are these some of those, in their order?
fn capture_kept(some: &[Marker], all: &[Marker]) -> bool {
    let mut all = all.iter();
    some.iter().all(|marker| all.any(|captured| captured == marker))
}

/// All streams.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) captures: BTreeMap<StreamId, Capture>,
    pub(super) may_evict: bool,
}

impl World {
    /// Everything an outbox shows is explained, and nothing is missing.
    pub(super) fn check<K: Kv>(&mut self, outbox: &Outbox<K>) {
        let shown = outbox.streams();
        for (id, capture) in &mut self.captures {
            let Some(tail) = outbox.tail(*id) else {
                let done = capture.at(capture.seq()).ended && capture.acked_ever == capture.seq();
                let emptied = capture.seq() == 0 && capture.synced == 0;
                assert!(done || emptied, "I5: {id} is gone before its end was acked");
                continue;
            };
            assert!(shown.contains(id));
            let truth = capture.at(tail.seq);
            assert_eq!(
                (tail.next_sample, tail.digest),
                (truth.next_sample, truth.digest),
                "I14: the tail of {id}"
            );
            assert!(
                tail.ended == truth.ended || capture.damaged || !tail.ended,
                "only an end ends {id}"
            );
            let mut at = None;
            for held in held(outbox, *id) {
                let header = &held.chunk.header;
                match at {
                    // I5: what is not held was acked.
                    None => assert!(
                        header.first_seq <= capture.acked_ever + 1,
                        "I5: {header:?} comes after {}",
                        capture.acked_ever
                    ),
                    Some(at) => assert_eq!(header.first_seq, at + 1, "I4: no hole"),
                }
                at = Some(header.seq);
                capture.explains(&held, self.may_evict);
                for seq in [header.first_seq - 1, header.seq] {
                    let known = outbox
                        .position_at(*id, seq)
                        .expect("the disk is good")
                        .expect("an end of a held record");
                    assert_eq!(
                        (known.seq, known.digest),
                        (seq, capture.at(seq).digest),
                        "I14: position {seq}"
                    );
                }
            }
            assert_eq!(at.unwrap_or(tail.seq), tail.seq, "I13: all is held up to the tail");
            assert!(at.is_some() || capture.acked_ever >= tail.seq, "I5: {id} holds nothing");
        }
        assert!(
            shown.iter().all(|id| self.captures.contains_key(id)),
            "no stream comes from nowhere"
        );
    }

    /// The bytes that it says it holds are those on the disk.
    pub(super) fn check_bytes(outbox: &Outbox<MemoryKv>) {
        let bytes = |(key, value): &(Vec<u8>, Vec<u8>)| match key[0] {
            4 => value.len() as u64 + 128,
            5 => value.len() as u64,
            _ => 0,
        };
        let on_disk: u64 = outbox.kv().entries().iter().map(bytes).sum();
        assert_eq!(outbox.held_bytes(), on_disk, "I12: the quota counts what is there");
    }

    /// After a power cut: the tails that are left must be as long as what was synced, and what was cut off is forgotten unless
    /// the server has it.
    pub(super) fn after_power_cut<K: Kv>(&mut self, outbox: &Outbox<K>) {
        self.captures.retain(|id, capture| {
            let seq = outbox.tail(*id).map_or(0, |tail| tail.seq);
            let gone = outbox.tail(*id).is_none();
            let done = capture.at(capture.seq()).ended && capture.acked_ever == capture.seq();
            assert!(
                seq >= capture.synced || gone && done,
                "{id}: {seq} is left of {} synced",
                capture.synced
            );
            capture
                .chunks
                .truncate(usize::try_from(seq.max(capture.committed)).unwrap());
            capture.synced = capture.synced.max(seq);
            !gone || capture.committed > 0
        });
    }
}
