//! How far the scrub of one stream is, and what a page of it comes to. Pure, and CPU work.
//!
//! # Invariants
//! - I12: between pages it keeps where the chain stands, and one unfinished bucket of each signal.
//! - A stream can be taken up again from [`Mark`]: what was found wrong after it is found again, nothing is left out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wavekeep_proto::chunk::{ChunkKind, Position};
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::StreamDefinition;

use super::buckets::{Buckets, Stored};
use super::chain::Chain;
use super::content::{self, Checked};
use crate::rollup::Levels;
use crate::store::read_envelope::BucketRange;
use crate::store::scrub::{Page, StoredChunk, StoredColumn};
use crate::validate::{NoMemory, Validator};

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Streams, to their ends.
    pub streams: u64,
    /// Gaps and ends among them.
    pub chunks: u64,
    /// On the sample axis.
    pub samples: u64,
    /// Of encoded columns.
    pub bytes: u64,
    /// Chunks whose stream an older version stored, and whose envelopes are still to be made.
    pub unfolded: u64,
    /// What is wrong.
    pub findings: u64,
}

/// Where a stream can be taken up again: between two chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub(super) seq: u64,
    pub(super) next_sample: u64,
    pub(super) digest: Option<u128>,
    /// The first sample that is stored.
    pub(super) kept_from: u64,
    /// Chunks up to here that were in quarantine, by the database's count.
    pub(super) quarantined: u64,
    /// Of the stream up to here.
    pub(super) own: Own,
    /// Of everything up to here.
    pub(super) totals: Totals,
}

/// What the row of the stream counts too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Own {
    pub(super) samples: u64,
    pub(super) quarantined: u64,
    pub(super) bytes: u64,
}

/// Something that is not as it was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// None: it is about the stream.
    pub seq: Option<u64>,
    /// For people.
    pub what: String,
}

/// What a page came to.
pub(super) struct Taken {
    /// About chunks in order of seq, then about the stream.
    pub(super) wrong: Vec<Wrong>,
    /// Encoded, that were read.
    pub(super) bytes: u64,
    /// It was the last page.
    pub(super) is_over: bool,
}

impl Mark {
    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }
}

/// See the module's documentation.
pub(super) struct StreamScrub {
    chain: Chain,
    buckets: Buckets,
    kept_from: u64,
    /// By the database's count: whoever replays one that was taken changes it.
    quarantined: u64,
    own: Own,
    totals: Totals,
    marks: VecDeque<Mark>,
    validator: Validator,
}

impl StreamScrub {
    /// From the first chunk on, which is the stream's first one unless older ones are no longer stored.
    pub(super) fn new(definition: &StreamDefinition, first: Option<&StoredChunk>, totals: Totals) -> Self {
        let chain = match first.filter(|first| first.first_seq > 1) {
            Some(first) => Chain::before(first),
            None => Chain::start(definition),
        };
        Self::at(definition, chain, (chain.next_sample, 0), Own::default(), totals)
    }

    pub(super) fn from_mark(definition: &StreamDefinition, mark: &Mark) -> Self {
        let chain = Chain {
            seq: mark.seq,
            next_sample: mark.next_sample,
            digest: mark.digest.map(|digest| Hash(digest.to_be_bytes())),
            ended: false,
        };
        let kept = (mark.kept_from, mark.quarantined);
        Self::at(definition, chain, kept, mark.own, mark.totals)
    }

    fn at(
        definition: &StreamDefinition,
        chain: Chain,
        (kept_from, quarantined): (u64, u64),
        own: Own,
        totals: Totals,
    ) -> Self {
        let mut scrub = Self {
            chain,
            buckets: Buckets::new(Levels::of(definition), chain.next_sample),
            kept_from,
            quarantined,
            own,
            totals,
            marks: VecDeque::new(),
            validator: Validator::default(),
        };
        scrub.mark();
        scrub
    }

    /// The last seq that was taken.
    pub(super) const fn seq(&self) -> u64 {
        self.chain.seq
    }

    pub(super) const fn quarantined(&self) -> u64 {
        self.quarantined
    }

    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Where it can be taken up again: before the unfinished bucket.
    pub(super) fn resume(&self) -> Mark {
        self.marks[0]
    }

    /// The buckets that a page completes, and those below them.
    pub(super) fn ranges(&self, page: &Page) -> (Vec<BucketRange>, Vec<BucketRange>) {
        let last = page.chunks.last();
        let end = last.and_then(|last| u64::try_from(last.first_sample.saturating_add(last.sample_count)).ok());
        self.buckets.ranges((self.chain.next_sample, end.unwrap_or(0)))
    }

    /// Takes a page.
    pub(super) fn take(&mut self, page: &Page, stored: &Stored) -> Result<Taken, NoMemory> {
        let bytes = self.totals.bytes;
        self.quarantined = page.quarantined_before;
        let definition = &page.stream.definition;
        let is_folded = page
            .chunks
            .last()
            .is_none_or(|last| u64::try_from(last.seq).is_ok_and(|seq| seq <= page.stream.folded_seq));
        let mut wrong = Vec::new();
        let mut columns = &page.columns[..];
        for chunk in &page.chunks {
            let own = columns.partition_point(|column| column.seq <= chunk.seq);
            let (of_chunk, rest) = columns.split_at(own);
            columns = rest;
            let told = self.chunk(definition, chunk, of_chunk, is_folded)?;
            self.totals.findings += told.len() as u64;
            self.mark();
            let seq = u64::try_from(chunk.seq).ok();
            wrong.extend(told.into_iter().map(|what| Wrong { seq, what }));
        }
        let (about_stream, before) = (|what| Wrong { seq: None, what }, wrong.len());
        if is_folded {
            let to = (self.chain.next_sample, self.kept_from);
            wrong.extend(self.buckets.check(definition, to, stored).into_iter().map(about_stream));
        } else {
            self.buckets.forget(self.chain.next_sample);
        }
        let is_over = self.chain.seq >= page.stream.at.seq || page.chunks.is_empty();
        if is_over {
            wrong.extend(self.against(page).into_iter().map(about_stream));
            self.totals.streams += 1;
        }
        self.quarantined = page.quarantined_after;
        self.count(wrong.len() - before, if is_folded { 0 } else { page.chunks.len() });
        Ok(Taken {
            wrong,
            bytes: self.totals.bytes - bytes,
            is_over,
        })
    }

    /// What is known at the end of a page alone. Whoever takes the stream up again does not find it again.
    fn count(&mut self, findings: usize, unfolded: usize) {
        let marks = self.marks.iter_mut().map(|mark| &mut mark.totals);
        for totals in marks.chain([&mut self.totals]) {
            totals.findings += findings as u64;
            totals.unfolded += unfolded as u64;
        }
    }

    fn mark(&mut self) {
        self.marks.push_back(Mark {
            seq: self.chain.seq,
            next_sample: self.chain.next_sample,
            digest: self.chain.digest.map(|digest| u128::from_be_bytes(digest.0)),
            kept_from: self.kept_from,
            quarantined: self.quarantined,
            own: self.own,
            totals: self.totals,
        });
        let from = self.buckets.unfinished_from(self.chain.next_sample);
        while self.marks.len() > 1 && self.marks[1].next_sample <= from {
            self.marks.pop_front();
        }
    }

    fn chunk(
        &mut self,
        definition: &StreamDefinition,
        chunk: &StoredChunk,
        columns: &[StoredColumn],
        is_folded: bool,
    ) -> Result<Vec<String>, NoMemory> {
        let before = self.chain.next_sample;
        let mut link = self.chain.take(definition, chunk);
        let after = self.chain.next_sample;
        let (folds, told) = match (&link.header, link.digest) {
            _ if chunk.quarantined => (Some(Vec::new()), quarantined(chunk, columns)),
            (Some(header), Some(digest)) => {
                let of_chunk = (chunk, header, digest);
                content::check(&mut self.validator, definition, of_chunk, columns, is_folded)?
            }
            _ => Checked::default(),
        };
        link.wrong.extend(told);
        match folds {
            Some(folds) => {
                if !link.is_next {
                    self.buckets.forget(before.max(after - self.length(chunk)));
                }
                self.buckets.add(&folds);
            }
            None => self.buckets.forget(after),
        }
        self.totals.chunks += 1;
        self.totals.samples += self.length(chunk);
        let bytes = u64::try_from(chunk.stored_bytes).unwrap_or(0);
        self.totals.bytes += bytes;
        self.own.bytes += bytes;
        if chunk.quarantined {
            self.own.quarantined += 1;
            self.quarantined += 1;
        } else if chunk.kind == ChunkKind::Samples as i16 {
            self.own.samples += self.length(chunk);
        }
        Ok(link.wrong)
    }

    fn length(&self, chunk: &StoredChunk) -> u64 {
        u64::try_from(chunk.sample_count)
            .unwrap_or(0)
            .min(self.chain.next_sample)
    }

    /// The stream's own row, at its watermark.
    fn against(&self, page: &Page) -> Vec<String> {
        let (row, chain) = (&page.stream, &self.chain);
        let mut wrong = Vec::new();
        if chain.seq < row.at.seq {
            let (first, last) = (chain.seq + 1, row.at.seq);
            wrong.push(format!("seqs {first} to {last}, up to its watermark, are missing"));
        } else {
            let stands = Position {
                seq: chain.seq,
                next_sample: chain.next_sample,
                digest: chain.digest.unwrap_or(row.at.digest),
                ended: chain.ended,
            };
            if stands != row.at {
                wrong.push("its row does not stand where its last chunk ends".into());
            }
            // Of what is no longer stored the row still counts the samples.
            let is_whole = self.kept_from == row.definition.first_sample;
            if is_whole && self.own.samples != row.sample_count {
                wrong.push(format!(
                    "its row counts {} samples, and {} are stored",
                    row.sample_count, self.own.samples
                ));
            }
            if is_whole && self.own.bytes != row.stored_bytes {
                wrong.push(format!(
                    "its row counts {} bytes, and its chunks {}",
                    row.stored_bytes, self.own.bytes
                ));
            }
            if is_whole && self.own.quarantined != row.quarantined {
                wrong.push(format!(
                    "its row counts {} chunks in quarantine, and there are {}",
                    row.quarantined, self.own.quarantined
                ));
            }
        }
        if let Some(seq) = page.beyond {
            wrong.push(format!("seq {seq} is above its watermark, which is {}", row.at.seq));
        }
        wrong
    }
}

/// Its bytes are kept apart, and it has no columns here.
fn quarantined(chunk: &StoredChunk, columns: &[StoredColumn]) -> Vec<String> {
    let mut wrong = Vec::new();
    if !columns.is_empty() {
        wrong.push("it is in quarantine, and has columns".to_owned());
    }
    match &chunk.kept {
        Some((header, digest)) if header[..] == chunk.header[..] && *digest == chunk.digest => {}
        Some(_) => wrong.push("what quarantine holds of it is another chunk".into()),
        None => wrong.push("quarantine does not hold it".into()),
    }
    wrong
}
