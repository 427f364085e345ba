//! Where the files of a stream begin and end, given its chunks in order. Pure.
//!
//! # Invariants
//! - A file ends where the stream says so and never where an export happened to stand: before the first sample of another day (UTC),
//!   before the first chunk whose block of `file_samples` is another one, before what another file holds, where a wanted time ends, and
//!   at the stream's end.
//!   So its bytes do not depend on when it was written, nor on how often an export was killed.
//! - I4: the files of a stream tile what is wanted: no sample is in two of them, and none between them is missing.

use wavekeep::TimeRange;
use wavekeep::proto::chunk::{ChunkKind, Header};
use wavekeep::proto::hash::definition_hash;
use wavekeep::proto::id::Hash;
use wavekeep::proto::stream::StreamDefinition;

use super::files::Covered;
use crate::cli::facts::Extent;

const DAY_NS: i64 = 86_400_000_000_000;

/// A file to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) extent: Extent,
    /// Days since 1970 of its first sample, in UTC.
    pub(super) day: i64,
    /// The earliest time of its samples and the latest end, in nanoseconds.
    pub(super) times_ns: (i64, i64),
    /// Its block, which ends where the next one begins.
    block: u64,
}

/// Part of a chunk.
#[derive(Debug, Clone, Copy)]
struct Piece {
    samples: (u64, u64),
    times_ns: (i64, i64),
}

/// What is wanted of a stream, and how far it was looked at.
#[derive(Debug)]
pub(super) struct Cutter {
    /// In order of time, and apart from each other.
    pub(super) ranges: Vec<TimeRange>,
    file_samples: u64,
    open: Option<Cut>,
    /// The last chunk seen, and the digest after it.
    last: Option<(u64, Hash)>,
    /// Where the wanted samples seen so far end.
    pub(super) end_sample: Option<u64>,
}

impl Cutter {
    /// Of files that hold as many samples as come in `file_ns`, or a chunk more.
    pub(super) fn new(definition: &StreamDefinition, ranges: Vec<TimeRange>, file_ns: i64) -> Self {
        Self {
            ranges,
            file_samples: ((file_ns as f64 / 1e9 * definition.rate_hz) as u64).max(1),
            open: None,
            last: Some((0, definition_hash(definition))),
            end_sample: None,
        }
    }

    /// The next chunk of the stream; answers the files that it completes.
    pub(super) fn chunk(
        &mut self,
        definition: &StreamDefinition,
        header: &Header,
        digest: Hash,
        covered: &Covered,
    ) -> Vec<Cut> {
        let mut done = Vec::new();
        let before = self.last.filter(|(seq, _)| seq + 1 == header.first_seq);
        let digest_before = before.map(|(_, digest)| digest);
        for piece in wanted(definition, header, &self.ranges, covered) {
            let day = piece.times_ns.0.div_euclid(DAY_NS);
            let block = piece.samples.0 / self.file_samples;
            let goes_on = self
                .open
                .filter(|open| open.extent.samples.1 == piece.samples.0 && open.day == day && open.block == block);
            match goes_on {
                Some(mut open) => {
                    open.extent.samples.1 = piece.samples.1;
                    open.extent.seqs.1 = header.seq;
                    open.extent.digest = digest;
                    open.times_ns.0 = open.times_ns.0.min(piece.times_ns.0);
                    open.times_ns.1 = open.times_ns.1.max(piece.times_ns.1);
                    self.open = Some(open);
                }
                None => done.extend(self.open.replace(Cut {
                    extent: Extent {
                        samples: piece.samples,
                        seqs: (header.first_seq, header.seq),
                        digest_before,
                        digest,
                    },
                    day,
                    times_ns: piece.times_ns,
                    block,
                })),
            }
            self.end_sample = Some(piece.samples.1);
        }
        // What this chunk has behind it is not wanted, or in another file: it cannot go on.
        let is_cut_off = |open: &Cut| open.extent.samples.1 < header.end_sample();
        if header.kind == ChunkKind::End || self.open.as_ref().is_some_and(is_cut_off) {
            done.extend(self.open.take());
        }
        self.last = Some((header.seq, digest));
        done
    }

    /// What waits, as a file that ends here.
    pub(super) fn finish(&mut self) -> Option<Cut> {
        self.open.take()
    }
}

/// The parts of a chunk that are wanted and not covered; each of one day, but for a gap, which is of the day it starts at.
fn wanted(definition: &StreamDefinition, header: &Header, ranges: &[TimeRange], covered: &Covered) -> Vec<Piece> {
    let time = |sample: u64| {
        let after_ns = definition.duration_ns(sample - header.first_sample);
        header.utc_ns.saturating_add(after_ns)
    };
    let sample_at = |ns: Option<i64>, open: u64| ns.map_or(open, |ns| first_at(header, ns, time));
    let left = |range: &TimeRange| {
        let from = sample_at(range.from_ns, header.first_sample);
        covered.without(from, sample_at(range.to_ns, header.end_sample()))
    };
    let mut pieces = Vec::new();
    for (mut from, to) in ranges.iter().flat_map(left) {
        while from < to {
            let midnight_ns = (time(from).div_euclid(DAY_NS) + 1).saturating_mul(DAY_NS);
            let end = match header.kind {
                ChunkKind::Samples => first_at(header, midnight_ns, time).min(to),
                ChunkKind::Gap | ChunkKind::End => to,
            };
            pieces.push(Piece {
                samples: (from, end),
                times_ns: (time(from), time(end)),
            });
            from = end;
        }
    }
    pieces
}

/// The first sample of a chunk that was taken at or after a time; its end where none was.
fn first_at(header: &Header, ns: i64, time: impl Fn(u64) -> i64) -> u64 {
    let (mut low, mut high) = (header.first_sample, header.end_sample());
    while low < high {
        let middle = low + (high - low) / 2;
        if time(middle) < ns {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
