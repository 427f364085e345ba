//! Reads of folds, page by page.
//!
//! # Invariants
//! - I12: an answer of one call has at most [`limits::FOLD_ROWS`] rows, or those of one chunk or bucket; a range of many chunks is read
//!   in pages of [`limits::PAGE_CHUNKS`].

use super::error::QueryError;
use super::limits;
use super::reading::Reading;
use crate::store::read_chunk::Place;
use crate::store::read_envelope::{self, BucketRange, BucketRow, ChildrenRow, PointRow};

/// Where the pages of a range of points go on: the next seq, and the last one.
pub(super) type Page = (u64, u64);

impl Reading {
    /// Complete buckets of a few ranges.
    pub(super) async fn buckets(
        &mut self,
        place: Place,
        signals: &[u32],
        ranges: &[BucketRange],
    ) -> Result<Vec<BucketRow>, QueryError> {
        Ok(read_envelope::buckets(self.tx.connection(), place, signals, ranges).await?)
    }

    /// The children of complete buckets, and those of the range that are still to be read.
    pub(super) async fn children(
        &mut self,
        place: Place,
        signals: &[u32],
        range: BucketRange,
    ) -> Result<(Vec<ChildrenRow>, BucketRange), QueryError> {
        let buckets = (limits::FOLD_ROWS / signals.len().max(1)).max(1) as u64;
        let page = BucketRange {
            to: range.to.min(range.from + buckets),
            ..range
        };
        let rows = read_envelope::children(self.tx.connection(), place, signals, page).await?;
        let rest = BucketRange { from: page.to, ..range };
        Ok((rows, rest))
    }

    /// The points of the chunks that hold samples of a range, from the first page on; None for the next: that was the last.
    pub(super) async fn points(
        &mut self,
        place: Place,
        signals: &[u32],
        samples: (u64, u64),
        page: Option<Page>,
    ) -> Result<(Vec<PointRow>, Option<Page>), QueryError> {
        let connection = self.tx.connection();
        let page = match page {
            Some(page) => Some(page),
            None => read_envelope::seqs(connection, place, samples).await?,
        };
        let Some((first, last)) = page else {
            return Ok((Vec::new(), None));
        };
        let chunks = (limits::FOLD_ROWS / signals.len().max(1)).clamp(1, limits::PAGE_CHUNKS) as u64;
        let until = last.min(first + chunks - 1);
        let rows = read_envelope::points(connection, place, signals, (first, until)).await?;
        Ok((rows, (until < last).then_some((until + 1, last))))
    }
}
