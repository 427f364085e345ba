//! Rows of `chunk`: each says what its header says, chunks follow each other without a hole, and digests chain. Pure.
//!
//! # Invariants
//! - I4, I5: a chunk that passes continues the one before it, by seq, by sample and by digest, back to where the scrub began.
//! - What is wrong with one chunk is told once: the next is held against what this one's row says.

use wavekeep_proto::chunk::{ChunkKind, Header, Position};
use wavekeep_proto::hash::{chunk_hash, next_digest};
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::wire;

use crate::store::scrub::StoredChunk;

/// Where the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) seq: u64,
    pub(super) next_sample: u64,
    /// None where the row that has it is not stored any more, or is damaged.
    pub(super) digest: Option<Hash>,
    pub(super) ended: bool,
}

/// What a row came to.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) header: Option<Header>,
    pub(super) digest: Option<Hash>,
    /// The chunk begins where the one before it ended.
    pub(super) is_next: bool,
    pub(super) wrong: Vec<String>,
}

impl Chain {
    pub(super) fn start(definition: &StreamDefinition) -> Self {
        let Position {
            seq,
            next_sample,
            digest,
            ended,
        } = Position::start(definition);
        Self {
            seq,
            next_sample,
            digest: Some(digest),
            ended,
        }
    }

    /// Before the first chunk that is still stored.
    pub(super) fn before(chunk: &StoredChunk) -> Self {
        Self {
            seq: natural(chunk.first_seq).saturating_sub(1),
            next_sample: natural(chunk.first_sample),
            digest: None,
            ended: false,
        }
    }

    /// Takes the next row.
    pub(super) fn take(&mut self, definition: &StreamDefinition, chunk: &StoredChunk) -> Link {
        let mut wrong = Vec::new();
        let header = wire::header_from_bytes(&chunk.header).ok();
        match &header {
            None => wrong.push("its header cannot be read".to_owned()),
            Some(header) => {
                of_header(definition, chunk, header, &mut wrong);
                if chunk_hash(header).as_bytes() != &chunk.hash[..] {
                    wrong.push("its hash is not that of its header".into());
                }
            }
        }
        let digest = Hash::from_slice(&chunk.digest).ok();
        let is_next = self.follow(chunk, &mut wrong);
        let chained = match (&header, self.digest.filter(|_| is_next)) {
            // It carries the digest of what it replaces, which nobody has any more.
            (Some(header), _) if header.is_replacing() => digest,
            (Some(header), Some(before)) => Some(next_digest(before, chunk_hash(header))),
            _ => digest,
        };
        if digest.is_none() || digest != chained {
            wrong.push("its digest is not that of the chunk before it and its own hash".into());
        }
        *self = Self {
            seq: natural(chunk.seq),
            next_sample: natural(chunk.first_sample).saturating_add(natural(chunk.sample_count)),
            digest,
            ended: chunk.kind == ChunkKind::End as i16,
        };
        Link {
            header,
            digest,
            is_next,
            wrong,
        }
    }

    fn follow(&self, chunk: &StoredChunk, wrong: &mut Vec<String>) -> bool {
        let (first, next) = (natural(chunk.first_seq), self.seq + 1);
        if self.ended {
            wrong.push("it comes after the stream's end".into());
        }
        if first > next {
            wrong.push(format!("seqs {next} to {} before it are missing", first - 1));
        } else if first < next {
            wrong.push(format!("seq {first} is stored twice, or in another order"));
        } else if natural(chunk.first_sample) != self.next_sample {
            wrong.push(format!(
                "it starts at sample {}, and the chunk before it ends at {}",
                chunk.first_sample, self.next_sample
            ));
        } else {
            return true;
        }
        false
    }
}

fn of_header(definition: &StreamDefinition, chunk: &StoredChunk, header: &Header, wrong: &mut Vec<String>) {
    if wire::header_to_bytes(header) != chunk.header {
        wrong.push("its header has bytes that mean nothing".into());
    }
    if let Err(error) = header.validate(definition) {
        wrong.push(format!("its header is against the rules: {error}"));
    }
    let is = |number: u64, stored: i64| u64::try_from(stored) == Ok(number);
    for (name, same) in [
        ("first_seq", is(header.first_seq, chunk.first_seq)),
        ("seq", is(header.seq, chunk.seq)),
        ("kind", header.kind as i16 == chunk.kind),
        ("reason", header.reason as i16 == chunk.reason),
        ("first_sample", is(header.first_sample, chunk.first_sample)),
        ("sample_count", is(header.count, chunk.sample_count)),
        ("utc_ns", header.utc_ns == chunk.utc_ns),
        ("start_time", header.utc_ns.div_euclid(1_000) == chunk.start_us),
    ] {
        if !same {
            wrong.push(format!("its {name} is not what its header says"));
        }
    }
}

/// Numbers of ours are never negative; others are no number of a chunk.
fn natural(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
