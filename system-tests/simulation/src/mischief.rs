//! Frames that are not what an honest party would send: damaged on the way, or forged by a dishonest one whose frame hash holds.

use wavekeep_proto::chunk::{Chunk, ChunkKind};
use wavekeep_proto::frame::{Ack, AgentFrame};
use wavekeep_proto::hash;
use wavekeep_proto::id::Hash;
use wavekeep_proto::v1;
use wavekeep_proto::wire::{self, WireError};

use crate::random::Random;

fn flip_bit(random: &mut Random, bytes: &[u8]) -> bytes::Bytes {
    let mut flipped = bytes.to_vec();
    if !flipped.is_empty() {
        let bit = random.place(flipped.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    flipped.into()
}

/// What arrives of a frame of which a bit flipped after its frame hash was made.
pub(crate) fn damaged(random: &mut Random, frame: &AgentFrame) -> Result<AgentFrame, WireError> {
    let mut wire = wire::agent_frame_to_wire(frame);
    if let Some(v1::agent_frame::Frame::Chunk(v1::ChunkFrame { chunk: Some(chunk), .. })) = &mut wire.frame {
        match random.below(4) {
            0 if !chunk.columns.is_empty() => {
                let place = random.place(chunk.columns.len());
                chunk.columns[place] = flip_bit(random, &chunk.columns[place]);
            }
            1 => chunk.digest = flip_bit(random, &chunk.digest),
            2 => chunk.frame_hash = flip_bit(random, &chunk.frame_hash),
            _ => chunk.header = flip_bit(random, &chunk.header),
        }
    }
    wire::agent_frame(wire)
}

/// What a dishonest agent did to a chunk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Forged {
    /// It sends this in its place.
    Chunk(Box<Chunk>),
    /// It leaves it out.
    Skipped,
    /// It sends it twice.
    Twice,
    /// There is nothing to gain by it: a replacing gap proves nothing about what it replaces.
    Honest,
}

fn other(random: &mut Random, digest: Hash) -> Hash {
    let mut bytes = digest.0;
    bytes[random.place(16)] ^= 1 << random.below(8);
    Hash(bytes)
}

/// `before` is the digest before the chunk: with it, a forged chunk is as well chained as an honest one.
pub(crate) fn forged(random: &mut Random, before: Option<Hash>, chunk: &Chunk) -> Forged {
    let mut changed = chunk.clone();
    let header = &mut changed.header;
    let replacing = header.is_replacing();
    match random.below(6) {
        0 => {
            header.first_seq += 1;
            header.seq += 1;
        }
        1 => {
            header.first_sample += random.between(1, 3);
            header.markers.clear();
        }
        2 if !replacing => changed.digest = other(random, changed.digest),
        3 if !replacing && header.kind == ChunkKind::Gap => header.count += 1,
        4 => return Forged::Skipped,
        5 => return Forged::Twice,
        _ => return Forged::Honest,
    }
    let chained = random.once_in(2) && changed.digest == chunk.digest && changed.header.count == chunk.header.count;
    if let Some(before) = before.filter(|_| chained && !replacing) {
        changed.digest = hash::next_digest(before, hash::chunk_hash(&changed.header));
    }
    Forged::Chunk(Box::new(changed))
}

/// An ack that no honest server would send now.
pub(crate) fn forged_ack(random: &mut Random, ack: Ack) -> Ack {
    match random.below(4) {
        // Past what was sent.
        0 => Ack {
            watermark: ack.watermark + random.between(1, 1_000),
            ..ack
        },
        // Backwards, or inside of what a gap stands for.
        1 => Ack {
            watermark: ack.watermark.saturating_sub(random.between(1, 3)),
            ..ack
        },
        2 => Ack {
            digest: other(random, ack.digest),
            ..ack
        },
        // A slot that was never opened.
        _ => Ack {
            slot: ack.slot + 10_000,
            ..ack
        },
    }
}

/// For people.
pub(crate) fn describe(forged: &Forged) -> String {
    match forged {
        Forged::Chunk(chunk) => crate::log::chunk(chunk),
        Forged::Skipped | Forged::Twice | Forged::Honest => format!("{forged:?}"),
    }
}
