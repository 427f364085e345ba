//! The samples at the ends of a range, of the chunks that it cuts: one at each end, or one at both.
//!
//! # Invariants
//! - I8: of each chunk the samples of the range are given out once, and no other.

use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use wavekeep_proto::stream::StreamDefinition;

use super::decode::ChunkDecoder;
use super::error::QueryError;
use super::grid::Dated;
use super::locate::Located;
use super::plan::{self, Span};
use super::read::{StoredChunk, with_columns};
use super::reading::Reading;
use super::want::{Want, places, signals};
use crate::store::read_chunk::{ChunkRow, Place};

/// Samples of one want at an end of a range, of which the first is dated.
pub(super) struct Edge {
    pub(super) want: usize,
    pub(super) at: Dated,
    pub(super) samples: Vec<f64>,
}

/// What is read at the ends of a range.
pub(super) struct Edges {
    place: Place,
    span: Span,
    definition: Arc<StreamDefinition>,
    wants: Arc<[Want]>,
    /// The chunks that are cut; two at most.
    cut: Vec<ChunkRow>,
}

/// The chunks that a range cuts, at one end or both.
pub(super) fn cut_chunks(located: &Located) -> Vec<&ChunkRow> {
    let ((first, last), span) = (&located.ends, &located.span);
    let is_cut = |chunk: &ChunkRow| {
        let (from, end) = (chunk.header.first_sample, chunk.header.end_sample());
        (from < span.from_sample && span.from_sample < end) || (from < span.to_sample && span.to_sample < end)
    };
    let mut cut: Vec<&ChunkRow> = [first, last].into_iter().filter(|chunk| is_cut(chunk)).collect();
    cut.dedup_by_key(|chunk| chunk.header.seq);
    cut
}

impl Edges {
    /// Of a range that was located.
    pub(super) fn new(located: &Located, definition: &Arc<StreamDefinition>, wants: &[Want]) -> Self {
        Self {
            place: located.place,
            span: located.span,
            definition: definition.clone(),
            wants: wants.into(),
            cut: cut_chunks(located).into_iter().cloned().collect(),
        }
    }

    /// Reads them, and begins to decode them: each chunk on a blocking thread of its own.
    pub(super) async fn read(self, reading: &mut Reading) -> Result<Decoding, QueryError> {
        if self.cut.is_empty() {
            return Ok(Decoding(Vec::new()));
        }
        let signals = signals(&self.wants, &self.definition);
        let chunks = with_columns(reading, self.place, &signals, self.cut).await?;
        let decode = |chunk: StoredChunk| {
            let (definition, wants, span) = (self.definition.clone(), self.wants.clone(), self.span);
            spawn_blocking(move || {
                let (mut decoder, mut edges) = (ChunkDecoder::default(), Vec::new());
                let of = (&*definition, &*wants);
                cut_samples(&mut decoder, of, &[chunk], &span, |want, at, samples| {
                    let samples = samples.to_vec();
                    edges.push(Edge { want, at, samples });
                })?;
                Ok(edges)
            })
        };
        Ok(Decoding(chunks.into_iter().map(decode).collect()))
    }
}

/// Chunks that are being decoded.
pub(super) struct Decoding(Vec<JoinHandle<Result<Vec<Edge>, QueryError>>>);

impl Decoding {
    pub(super) async fn edges(self) -> Result<Vec<Edge>, QueryError> {
        let mut edges = Vec::new();
        for chunk in self.0 {
            edges.extend(chunk.await.expect("decoding does not panic")?);
        }
        Ok(edges)
    }
}

/// Decodes chunks, and gives out the samples of each want that lie in the span, the first of them dated. CPU work.
pub(super) fn cut_samples(
    decoder: &mut ChunkDecoder,
    (definition, wants): (&StreamDefinition, &[Want]),
    chunks: &[StoredChunk],
    span: &Span,
    mut take: impl FnMut(usize, Dated, &[f64]),
) -> Result<(), QueryError> {
    let needed = places(wants);
    for chunk in chunks {
        let header = &chunk.row.header;
        let (from, to) = plan::cut(header, span);
        if from == to {
            continue;
        }
        decoder.decode(definition, &needed, chunk)?;
        let range = (from - header.first_sample) as usize..(to - header.first_sample) as usize;
        let at = (from, plan::time_ns(definition, header, from));
        for (place, want) in wants.iter().enumerate() {
            if let Some(samples) = decoder.samples(*want, range.clone()) {
                take(place, at, samples);
            }
        }
    }
    Ok(())
}
