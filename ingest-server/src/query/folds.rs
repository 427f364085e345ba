//! Reads a range of a stream as folds: from stored points and buckets where it can. The chunks that the range cuts, one at each end
//! at most, are folded from their samples.
//!
//! # Invariants
//! - I8: every stored sample of the range goes into the sink exactly once, and no other.
//! - I12: one page of rows, or one batch of chunks, is in memory, and the two chunks at the ends.

use std::sync::Arc;

use wavekeep_proto::stream::StreamDefinition;

use super::cover::Cover;
use super::decode::ChunkDecoder;
use super::edges::{Edges, cut_chunks, cut_samples};
use super::error::QueryError;
use super::grid::{Dated, Grid};
use super::locate::Located;
use super::plan::Span;
use super::read::{ChunkReader, Reader, StoredChunk};
use super::reading::Reading;
use super::want::{Want, signals};
use crate::rollup::envelope::Bucket;
use crate::rollup::{Levels, bucket_samples};
use crate::store::read_envelope::{BucketRange, BucketRow, ChildrenRow, PointRow};
use crate::store::read_stream::StreamRow;

/// Where folds go.
pub(super) trait Sink: Send + 'static {
    /// A fold of samples of one want, from this one on, in one bucket of the range's level; with a sample that is dated.
    fn take(&mut self, want: usize, sample: u64, dated: Dated, bucket: &Bucket);
    /// Samples of one want, of which the first is dated.
    fn take_samples(&mut self, want: usize, at: Dated, samples: &[f64]);
}

/// What is read, and where it goes.
pub(super) struct Folding<S> {
    reader: Reader,
    located: Located,
    definition: Arc<StreamDefinition>,
    levels: Levels,
    wants: Vec<Want>,
    /// Their numbers in the tables of folds.
    numbers: Vec<u32>,
    decoder: ChunkDecoder,
    /// A transaction that is under way, to be read in.
    reading: Option<Reading>,
    pub(super) sink: S,
}

/// Are the chunks of the range folded?
pub(super) fn is_folded(row: &StreamRow, located: &Located) -> bool {
    row.folded_seq >= located.span.last_seq
}

impl<S: Sink> Folding<S> {
    /// Of the range that was located, perhaps in a transaction that is still under way.
    pub(super) fn new(
        (reader, reading): (&Reader, Option<Reading>),
        row: &StreamRow,
        located: &Located,
        wants: &[Want],
        sink: S,
    ) -> Self {
        let definition = row.definition.clone();
        Self {
            reader: reader.clone(),
            reading,
            located: located.clone(),
            levels: Levels::of(&definition),
            numbers: wants.iter().map(|want| want.number(&definition)).collect(),
            wants: wants.to_vec(),
            definition,
            decoder: ChunkDecoder::default(),
            sink,
        }
    }

    /// All of it, from samples.
    pub(super) async fn samples(mut self) -> Result<Self, QueryError> {
        if let Some(reading) = self.reading.take() {
            reading.end();
        }
        let span = self.located.span;
        let mut chunks = ChunkReader::new(&self.reader, &self.located, signals(&self.wants, &self.definition));
        let mut batch = chunks.next_batch().await?;
        while let Some(now) = batch {
            let work = tokio::task::spawn_blocking(move || self.take_chunks(&now, &span));
            // The next one is read while this one is folded.
            batch = chunks.next_batch().await?;
            self = work.await.expect("folding does not panic")?;
        }
        Ok(self)
    }

    /// All of it, from as few rows as there are.
    pub(super) async fn whole(self) -> Result<Self, QueryError> {
        let middle = self.middle();
        let mut cover = Cover::default();
        cover.add(self.levels, middle.0, middle.1);
        self.read(cover, None).await
    }

    /// All of it, no fold crossing a column.
    pub(super) async fn columns(self, grid: Grid, row: &StreamRow) -> Result<Self, QueryError> {
        let Some(level) = grid.level else {
            return self.samples().await;
        };
        let (from, to) = self.middle();
        let (size, parent) = (bucket_samples(level), bucket_samples(level + 1));
        let (low, high) = (from.div_ceil(size) * size, to / size * size);
        let mut cover = Cover::default();
        if level < self.levels.piece() {
            // Columns of points alone.
            cover.point(from, to);
            return self.read(cover, None).await;
        }
        if low >= high {
            let cut = high.clamp(from, to.max(from));
            cover.add(self.levels, from, cut);
            cover.add(self.levels, cut, to);
            return self.read(cover, None).await;
        }
        // Buckets whose parent is complete are among its children; of the others each has a row, or points.
        let complete = (row.at.next_sample / parent * parent).min(high);
        let rest = complete.max(low);
        cover.add(self.levels, from, low);
        if level >= self.levels.first {
            cover.bucket(level, rest / size, high / size);
            cover.add(self.levels, high, to);
        } else {
            cover.point(rest, to);
        }
        let children = Children {
            parents: BucketRange {
                level: level + 1,
                from: low / parent,
                to: complete.div_ceil(parent),
            },
            size,
            samples: (low, complete),
        };
        let children = (low < complete).then_some(children);
        self.read(cover, children).await
    }

    /// What lies between the chunks that the range cuts: whole chunks.
    fn middle(&self) -> (u64, u64) {
        let span = &self.located.span;
        let (mut from, mut to) = (span.from_sample, span.to_sample);
        for chunk in cut_chunks(&self.located) {
            let header = &chunk.header;
            if header.first_sample < span.from_sample {
                from = from.max(header.end_sample());
            }
            if span.to_sample < header.end_sample() {
                to = to.min(header.first_sample);
            }
        }
        (from, to.max(from))
    }

    /// The seqs of the middle, where it is not empty: the first one and the last.
    fn middle_seqs(&self) -> (u64, u64) {
        let (first, last) = &self.located.ends;
        let (from, to) = self.middle();
        let starts_later = first.header.first_sample < from;
        let ends_earlier = to < last.header.end_sample();
        (
            first.header.seq + u64::from(starts_later),
            last.header.first_seq - u64::from(ends_earlier),
        )
    }

    /// The ends beside what lies between them where there is room for two transactions, or before it.
    async fn read(mut self, cover: Cover, children: Option<Children>) -> Result<Self, QueryError> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.reader.begin_two().await?,
        };
        let edges = Edges::new(&self.located, &self.definition, &self.wants);
        let edges = if let Some(mut beside) = reading.take_beside() {
            let edges = async {
                let decoding = edges.read(&mut beside).await?;
                beside.end();
                decoding.edges().await
            };
            tokio::try_join!(edges, self.middle_folds(&mut reading, cover, children))?.0
        } else {
            let decoding = edges.read(&mut reading).await?;
            self.middle_folds(&mut reading, cover, children).await?;
            decoding.edges().await?
        };
        reading.end();
        for edge in edges {
            self.sink.take_samples(edge.want, edge.at, &edge.samples);
        }
        Ok(self)
    }

    async fn middle_folds(
        &mut self,
        reading: &mut Reading,
        cover: Cover,
        children: Option<Children>,
    ) -> Result<(), QueryError> {
        if let Some(children) = children {
            self.children(reading, children).await?;
        }
        self.cover(reading, cover).await
    }

    fn want_of(&self, number: u32) -> Option<usize> {
        self.numbers.iter().position(|other| *other == number)
    }

    fn take_children(&mut self, row: &ChildrenRow, children: &Children) {
        let (size, (low, high)) = (children.size, children.samples);
        let Some(want) = self.want_of(row.signal) else { return };
        let start = row.bucket * size * 16;
        for (place, child) in row.children.iter().enumerate() {
            let from = start + place as u64 * size;
            if low <= from && from < high && child.sample_count > 0 {
                self.sink.take(want, from, (start, row.utc_ns), child);
            }
        }
    }

    fn take_bucket(&mut self, row: &BucketRow) {
        if let Some(want) = self.want_of(row.signal) {
            let from = row.bucket * bucket_samples(row.level);
            self.sink.take(want, from, (from, row.utc_ns), &row.whole);
        }
    }

    /// Takes the points of a chunk that lie in the range, which cuts none.
    fn take_points(&mut self, row: &PointRow, (from, to): (u64, u64)) -> Result<(), QueryError> {
        let Some(want) = self.want_of(row.signal) else {
            return Ok(());
        };
        let lost = || {
            QueryError::Damaged(format!(
                "stream {} is not whole: seq {} has lost points",
                self.definition.id, row.seq
            ))
        };
        for (low, bucket) in row.buckets(self.levels.point).ok_or_else(lost)? {
            if from <= low && low + bucket.sample_count <= to {
                self.sink.take(want, low, (row.first_sample, row.utc_ns), &bucket);
            }
        }
        Ok(())
    }

    /// Children of complete buckets.
    async fn children(&mut self, reading: &mut Reading, children: Children) -> Result<(), QueryError> {
        let mut parents = children.parents;
        while parents.from < parents.to {
            let (rows, rest) = reading.children(self.located.place, &self.numbers, parents).await?;
            rows.iter().for_each(|row| self.take_children(row, &children));
            parents = rest;
        }
        Ok(())
    }

    async fn cover(&mut self, reading: &mut Reading, cover: Cover) -> Result<(), QueryError> {
        let place = self.located.place;
        if !cover.buckets.is_empty() {
            for row in reading.buckets(place, &self.numbers, &cover.buckets).await? {
                self.take_bucket(&row);
            }
        }
        for range in cover.points {
            let mut page = (range == self.middle()).then(|| self.middle_seqs());
            loop {
                let (rows, next) = reading.points(place, &self.numbers, range, page).await?;
                rows.iter().try_for_each(|row| self.take_points(row, range))?;
                page = next;
                if page.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The samples of some chunks that lie in the span. CPU work.
    fn take_chunks(mut self, chunks: &[StoredChunk], span: &Span) -> Result<Self, QueryError> {
        let of = (&*self.definition, &self.wants[..]);
        let sink = &mut self.sink;
        cut_samples(&mut self.decoder, of, chunks, span, |want, at, samples| {
            sink.take_samples(want, at, samples);
        })?;
        Ok(self)
    }
}

/// Which children of complete buckets are read.
struct Children {
    parents: BucketRange,
    /// Samples of a child.
    size: u64,
    /// Those that begin in from ≤ s < to.
    samples: (u64, u64),
}
