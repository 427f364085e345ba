//! Reads a range of a stream as folds: from stored points and buckets where it can, from samples at the edges.
//!
//! # Invariants
//! - I8: every stored sample of the range goes into the sink exactly once, and no other.
//! - I12: one page of rows, or one batch of chunks, is in memory.

use std::sync::Arc;

use wavekeep_proto::stream::StreamDefinition;

use super::cover::Cover;
use super::decode::ChunkDecoder;
use super::error::QueryError;
use super::grid::Grid;
use super::plan::{self, Span};
use super::read::{ChunkReader, Located, Reader, StoredChunk};
use super::want::{Want, places};
use crate::rollup::envelope::Bucket;
use crate::rollup::{Levels, bucket_samples};
use crate::store::read_envelope::{BucketRange, BucketRow, ChildrenRow, PointRow};
use crate::store::read_stream::StreamRow;

/// Where folds go.
pub(super) trait Sink: Send + 'static {
    /// A fold of samples of one want, in one bucket of the range's level, of which the first was taken at this UTC.
    fn take(&mut self, want: usize, at: (u64, i64), bucket: &Bucket);
    /// Samples of one want, of which the first was taken at this UTC.
    fn take_samples(&mut self, want: usize, at: (u64, i64), samples: &[f64]);
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
    pub(super) sink: S,
}

/// Are the chunks of the range folded?
pub(super) fn is_folded(row: &StreamRow, located: &Located) -> bool {
    row.folded_seq >= located.span.last_seq
}

impl<S: Sink> Folding<S> {
    /// Of the range that was located.
    pub(super) fn new(reader: &Reader, row: &StreamRow, located: Located, wants: Vec<Want>, sink: S) -> Self {
        let definition = row.definition.clone();
        Self {
            reader: reader.clone(),
            located,
            levels: Levels::of(&definition),
            numbers: wants.iter().map(|want| want.number(&definition)).collect(),
            wants,
            definition,
            decoder: ChunkDecoder::default(),
            sink,
        }
    }

    /// All of it, from samples.
    pub(super) async fn samples(self) -> Result<Self, QueryError> {
        let span = self.located.span;
        self.raw(span).await
    }

    /// All of it, from as few rows as there are.
    pub(super) async fn whole(self) -> Result<Self, QueryError> {
        let Span {
            from_sample, to_sample, ..
        } = self.located.span;
        let cover = Cover::of(self.levels, from_sample, to_sample);
        self.cover(cover).await
    }

    /// All of it, no fold crossing a column.
    pub(super) async fn columns(mut self, grid: Grid, row: &StreamRow) -> Result<Self, QueryError> {
        let Span {
            from_sample: from,
            to_sample: to,
            ..
        } = self.located.span;
        let Some(level) = grid.level else {
            return self.samples().await;
        };
        let (size, parent) = (bucket_samples(level), bucket_samples(level + 1));
        let (low, high) = (from.div_ceil(size) * size, to / size * size);
        let mut cover = Cover::default();
        if low >= high || level < self.levels.piece() {
            // Columns that are no larger than the lowest buckets are folded from points.
            cover.points.push((from, to));
            return self.cover(cover).await;
        }
        // Buckets whose parent is complete are among its children; of the others each has a row, or points.
        let complete = (row.at.next_sample / parent * parent).min(high);
        let rest = complete.max(low);
        cover.add(self.levels, from, low);
        if level >= self.levels.first {
            cover.bucket(level, rest / size, high / size);
            cover.add(self.levels, high, to);
        } else {
            cover.points.push((rest, to));
        }
        cover.points.retain(|(from, to)| from < to);
        if low < complete {
            let parents = BucketRange {
                level: level + 1,
                from: low / parent,
                to: complete.div_ceil(parent),
            };
            self.children(parents, size, (low, complete)).await?;
        }
        self.cover(cover).await
    }

    fn want_of(&self, number: u32) -> Option<usize> {
        self.numbers.iter().position(|other| *other == number)
    }

    fn after(&self, utc_ns: i64, samples: u64) -> i64 {
        utc_ns.saturating_add(self.definition.duration_ns(samples))
    }

    fn take_children(&mut self, row: &ChildrenRow, size: u64, (low, high): (u64, u64)) {
        let Some(want) = self.want_of(row.signal) else { return };
        let start = row.bucket * size * 16;
        for (place, child) in row.children.iter().enumerate() {
            let from = start + place as u64 * size;
            if low <= from && from < high && child.sample_count > 0 {
                let utc_ns = self.after(row.utc_ns, from - start);
                self.sink.take(want, (from, utc_ns), child);
            }
        }
    }

    fn take_bucket(&mut self, row: &BucketRow) {
        if let Some(want) = self.want_of(row.signal) {
            let from = row.bucket * bucket_samples(row.level);
            self.sink.take(want, (from, row.utc_ns), &row.whole);
        }
    }

    /// Takes the points that lie in the range, and answers what is left of those that it cuts.
    fn take_points(&mut self, row: &PointRow, (from, to): (u64, u64)) -> Result<Vec<(u64, u64)>, QueryError> {
        let Some(want) = self.want_of(row.signal) else {
            return Ok(Vec::new());
        };
        let size = bucket_samples(self.levels.point);
        let (first, end) = (row.first_sample, row.first_sample + row.whole.sample_count);
        let cells = first / size..end.div_ceil(size);
        if row.points.len() as u64 != cells.end - cells.start {
            let damaged = format!(
                "stream {} is not whole: seq {} has lost points",
                self.definition.id, row.seq
            );
            return Err(QueryError::Damaged(damaged));
        }
        let mut cut = Vec::new();
        for (cell, envelope) in cells.zip(&row.points) {
            let (low, high) = ((cell * size).max(first), ((cell + 1) * size).min(end));
            if from <= low && high <= to {
                let part = Bucket {
                    sample_count: high - low,
                    envelope: *envelope,
                    exact: None,
                };
                let utc_ns = self.after(row.utc_ns, low - first);
                self.sink.take(want, (low, utc_ns), &part);
            } else if low < to && from < high {
                cut.push((low.max(from), high.min(to)));
            }
        }
        Ok(cut)
    }

    /// Those of the range, from the rows of their parents.
    async fn children(&mut self, mut parents: BucketRange, size: u64, range: (u64, u64)) -> Result<(), QueryError> {
        let (reader, numbers) = (self.reader.clone(), self.numbers.clone());
        while parents.from < parents.to {
            let (rows, rest) = reader.children(self.located.place, &numbers, parents).await?;
            rows.iter().for_each(|row| self.take_children(row, size, range));
            parents = rest;
        }
        Ok(())
    }

    async fn cover(mut self, cover: Cover) -> Result<Self, QueryError> {
        let reader = self.reader.clone();
        let (place, numbers) = (self.located.place, self.numbers.clone());
        for row in reader.buckets(place, &numbers, &cover.buckets).await? {
            self.take_bucket(&row);
        }
        // Of each chunk that an end of a range cuts a point of: its seq, and the samples.
        let mut cuts: Vec<(u64, (u64, u64))> = Vec::new();
        for range in cover.points {
            let mut page = None;
            loop {
                let (rows, next) = reader.points(place, &numbers, range, page).await?;
                for row in &rows {
                    let cut = self.take_points(row, range)?;
                    cuts.extend(cut.into_iter().map(|samples| (row.seq, samples)));
                }
                page = next;
                if page.is_none() {
                    break;
                }
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        for (seq, (from_sample, to_sample)) in cuts {
            let span = Span {
                first_seq: seq,
                last_seq: seq,
                from_sample,
                to_sample,
            };
            self = self.raw(span).await?;
        }
        Ok(self)
    }

    /// The samples of a span, decoded and folded on blocking threads; the next batch is read meanwhile.
    async fn raw(mut self, span: Span) -> Result<Self, QueryError> {
        let located = Located { span, ..self.located };
        let needed = places(&self.wants);
        let signals = needed.iter().map(|place| self.definition.signals[*place].number);
        let mut chunks = ChunkReader::new(&self.reader, &located, signals.collect());
        let mut batch = chunks.next_batch().await?;
        while let Some(now) = batch {
            let needed = needed.clone();
            let work = tokio::task::spawn_blocking(move || {
                let mut taken = Ok(());
                for chunk in &now {
                    taken = taken.and_then(|()| self.take_chunk(&needed, chunk, &span));
                }
                taken.map(|()| self)
            });
            batch = chunks.next_batch().await?;
            self = work.await.expect("folding does not panic")?;
        }
        Ok(self)
    }

    fn take_chunk(&mut self, needed: &[usize], chunk: &StoredChunk, span: &Span) -> Result<(), QueryError> {
        let header = &chunk.row.header;
        let (from, to) = plan::cut(header, span);
        if from == to {
            return Ok(());
        }
        self.decoder.decode(&self.definition, needed, chunk)?;
        let range = (from - header.first_sample) as usize..(to - header.first_sample) as usize;
        let at = (from, plan::time_ns(&self.definition, header, from));
        for (place, want) in self.wants.iter().enumerate() {
            if let Some(samples) = self.decoder.samples(*want, range.clone()) {
                self.sink.take_samples(place, at, samples);
            }
        }
        Ok(())
    }
}
