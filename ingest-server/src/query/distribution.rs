//! Percentiles and histograms: the samples of a range are looked at, pass by pass.
//!
//! The first pass counts them, the next ones look for what is left (`quantiles`). What is stored of a chunk's extremes tells whether it must
//! be decoded at all: where all of its samples lie in one step, they are counted whole, and where none lies in a step that is looked into,
//! they are left out.
//!
//! # Invariants
//! - They are of the same samples as the statistics beside them, finite ones. Each column that is read is checked against its hash.
//! - I12: of a signal of a device some MB, whatever the range; one batch of chunks is folded while the next one is read.
//! - A caller that goes away stops it at the next batch.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use wavekeep_proto::chunk::ChunkKind;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::v1;

use super::bins::Bins;
use super::decode::ChunkDecoder;
use super::edges::cut_samples;
use super::error::QueryError;
use super::limits;
use super::locate::Located;
use super::order;
use super::plan::{self, Span};
use super::quantiles::{Need, Quantiles, rank};
use super::read::{Reader, StoredChunk, with_columns};
use super::reading::Reading;
use super::want::{Want, signals};
use crate::store::read_chunk::{self, ChunkRow};
use crate::store::read_envelope::{self, Extremes};
use crate::store::read_stream::StreamRow;

/// What is asked for beside the plain statistics.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wanted {
    percentiles: Vec<f64>,
    bins: usize,
    from: Option<f64>,
    to: Option<f64>,
}

impl Wanted {
    pub(super) fn new(request: &v1::GetStatisticsRequest) -> Result<Self, QueryError> {
        let refused = |sentence: String| Err(QueryError::Invalid(sentence));
        if request.percentiles.len() > limits::PERCENTILES_MAX {
            return refused(format!(
                "at most {} percentiles can be asked for: ask for fewer",
                limits::PERCENTILES_MAX
            ));
        }
        if let Some(bad) = request.percentiles.iter().find(|share| !(0.0..=100.0).contains(*share)) {
            return refused(format!("{bad} is no percentile: give numbers from 0 to 100"));
        }
        if request.histogram_bins > limits::HISTOGRAM_BINS_MAX {
            return refused(format!(
                "at most {} bins can be asked for: ask for fewer",
                limits::HISTOGRAM_BINS_MAX
            ));
        }
        let (from, to) = (request.histogram_from, request.histogram_to);
        let bounds = [from, to];
        if bounds.iter().flatten().any(|bound| !bound.is_finite()) || from.zip(to).is_some_and(|(from, to)| from >= to)
        {
            return refused("a histogram goes from a number to a larger one: give them so".into());
        }
        Ok(Self {
            percentiles: request.percentiles.clone(),
            bins: request.histogram_bins as usize,
            from,
            to,
        })
    }

    pub(super) fn is_none(&self) -> bool {
        self.percentiles.is_empty() && self.bins == 0
    }
}

/// Of one signal of a device: what is found of it so far.
#[derive(Clone)]
pub(super) struct Distribution {
    quantiles: Quantiles,
    /// With whether all samples were counted.
    bins: Option<(Bins, bool)>,
    finite_count: u64,
}

impl Distribution {
    /// Of so many finite samples that lie between these two, and of whose keys so many of the lowest bits say nothing.
    pub(super) fn new(wanted: &Wanted, finite_count: u64, (min, max): (f64, f64), silent_bits: u32) -> Self {
        let some = finite_count > 0;
        let shares = wanted.percentiles.iter().filter(|_| some);
        let ranks = shares.map(|share| rank(*share, finite_count));
        // A range that is open towards where nothing lies has its one bound twice.
        let from = wanted.from.unwrap_or_else(|| min.min(wanted.to.unwrap_or(min)));
        let to = wanted.to.unwrap_or_else(|| max.max(from));
        let bins = (some && wanted.bins > 0).then(|| (Bins::new((from, to), wanted.bins), false));
        Self {
            quantiles: Quantiles::new(ranks, (min, max), silent_bits),
            bins,
            finite_count,
        }
    }

    fn is_done(&self) -> bool {
        self.quantiles.is_done() && self.bins.as_ref().is_none_or(|(_, done)| *done)
    }

    fn need(&self, bounds: (f64, f64)) -> Need {
        let quantiles = self.quantiles.need(bounds);
        let bins = self.bins.as_ref().filter(|(_, done)| !done);
        match (quantiles, bins.map(|(bins, _)| bins.need(bounds))) {
            (Need::Samples, _) | (_, Some(Need::Samples)) => Need::Samples,
            (Need::Count, _) | (_, Some(Need::Count)) => Need::Count,
            (Need::Nothing, _) => Need::Nothing,
        }
    }

    fn take(&mut self, samples: &[f64]) {
        self.quantiles.take(samples);
        if let Some((bins, false)) = &mut self.bins {
            bins.take(samples);
        }
    }

    fn take_count(&mut self, min: f64, count: u64) {
        self.quantiles.take_count(min, count);
        if let Some((bins, false)) = &mut self.bins {
            bins.take_count(min, count);
        }
    }

    fn end_pass(&mut self) {
        self.quantiles.end_pass();
        if let Some((_, done)) = &mut self.bins {
            *done = true;
        }
    }

    /// In the order in which they were asked for.
    pub(super) fn percentiles(&self, wanted: &Wanted) -> Vec<f64> {
        let percentile = |share: &f64| match self.finite_count {
            0 => f64::NAN,
            count => self.quantiles.sample(rank(*share, count)),
        };
        wanted.percentiles.iter().map(percentile).collect()
    }

    pub(super) fn histogram(self) -> Option<v1::Histogram> {
        self.bins.map(|(bins, _)| v1::Histogram {
            from: bins.from,
            to: bins.to,
            counts: bins.counts,
            below: bins.below,
            above: bins.above,
        })
    }
}

/// A stream's range, and which distributions its wants belong to.
pub(super) struct Source {
    pub(super) row: StreamRow,
    pub(super) located: Located,
    pub(super) wants: Vec<(Want, usize)>,
}

impl Source {
    /// So many of the lowest bits of the keys of a want's samples say nothing.
    pub(super) fn silent_bits(&self, want: Want) -> u32 {
        match want {
            Want::Stored(place) => order::silent_bits(self.row.definition.signals[place].sample_type),
            Want::Power(..) => 0,
        }
    }

    fn samples(&self) -> u64 {
        let span = &self.located.span;
        (span.to_sample - span.from_sample).saturating_mul(self.wants.len() as u64)
    }
}

/// Is it little enough to be looked at?
pub(super) fn require_few(sources: &[Source], distributions: usize) -> Result<(), QueryError> {
    if distributions > limits::DISTRIBUTIONS_MAX {
        return Err(QueryError::TooMuch(format!(
            "percentiles and histograms of {distributions} signals are more than the {} of one answer: name signals (--signal)",
            limits::DISTRIBUTIONS_MAX
        )));
    }
    let samples = sources
        .iter()
        .fold(0u64, |all, source| all.saturating_add(source.samples()));
    if samples > limits::DISTRIBUTION_SAMPLES_MAX {
        return Err(QueryError::TooMuch(format!(
            "percentiles and histograms look at each sample, and {samples} are more than the {} of one answer: choose a shorter time or fewer signals, or leave them out",
            limits::DISTRIBUTION_SAMPLES_MAX
        )));
    }
    Ok(())
}

/// Looks at the samples until all is found.
pub(super) async fn find(
    reader: &Reader,
    sources: &[Source],
    mut all: Vec<Distribution>,
) -> Result<Vec<Distribution>, QueryError> {
    while !all.iter().all(Distribution::is_done) {
        // What a pass needs is known when it begins.
        let plan: Arc<[Distribution]> = all.clone().into();
        for source in sources {
            let mut pages = Pages::new(reader, source, &plan);
            if pages.wants.is_empty() {
                continue;
            }
            let mut pass = Pass {
                decoder: ChunkDecoder::default(),
                definition: source.row.definition.clone(),
                span: source.located.span,
                wants: pages.wants.clone(),
                all,
            };
            let mut page = pages.next().await?;
            while let Some(now) = page {
                let work = spawn_blocking(move || pass.take(&now));
                // The next one is read while this one is counted.
                page = pages.next().await?;
                pass = work.await.expect("counting does not panic")?;
            }
            all = pass.all;
        }
        all.iter_mut().for_each(Distribution::end_pass);
    }
    Ok(all)
}

/// Chunks of which samples are needed, each with the wants that need them; and what is counted without.
#[derive(Default)]
struct Page {
    chunks: Vec<(StoredChunk, Vec<bool>)>,
    /// Want, smallest sample, finite samples.
    counts: Vec<(usize, f64, u64)>,
}

/// Reads what a pass needs of a stream.
struct Pages<'a> {
    reader: Reader,
    source: &'a Source,
    plan: Arc<[Distribution]>,
    /// Those that the pass needs anything of.
    wants: Vec<(Want, usize)>,
    after: u64,
    /// Chunks whose samples are still to be read.
    waiting: VecDeque<(ChunkRow, Vec<bool>)>,
}

impl<'a> Pages<'a> {
    fn new(reader: &Reader, source: &'a Source, plan: &Arc<[Distribution]>) -> Self {
        let wants = source.wants.iter().copied();
        Self {
            reader: reader.clone(),
            source,
            plan: plan.clone(),
            wants: wants.filter(|(_, at)| !plan[*at].is_done()).collect(),
            after: source.located.span.first_seq - 1,
            waiting: VecDeque::new(),
        }
    }

    /// None after the last.
    async fn next(&mut self) -> Result<Option<Page>, QueryError> {
        if self.waiting.is_empty() && self.after >= self.source.located.span.last_seq {
            return Ok(None);
        }
        let mut reading = self.reader.begin().await?;
        let mut page = Page::default();
        if self.waiting.is_empty() {
            page.counts = self.look(&mut reading).await?;
        }
        let (rows, needs): (Vec<ChunkRow>, Vec<Vec<bool>>) = self.take_batch().into_iter().unzip();
        if !rows.is_empty() {
            let wants: Vec<Want> = self.wants.iter().map(|(want, _)| *want).collect();
            let signals = signals(&wants, &self.source.row.definition);
            let chunks = with_columns(&mut reading, self.source.located.place, &signals, rows).await?;
            page.chunks = chunks.into_iter().zip(needs).collect();
        }
        reading.end();
        Ok(Some(page))
    }

    /// Reads the headers of the next chunks, and what is folded of them; gives out what is counted without their samples.
    async fn look(&mut self, reading: &mut Reading) -> Result<Vec<(usize, f64, u64)>, QueryError> {
        let (place, span) = (self.source.located.place, self.source.located.span);
        let (seqs, connection) = ((self.after, span.last_seq), reading.tx.connection());
        let rows = read_chunk::page(connection, place, seqs, limits::PAGE_CHUNKS).await?;
        let Some(last) = rows.last().map(|row| row.header.seq) else {
            // The fold before has found them all.
            self.after = span.last_seq;
            return Ok(Vec::new());
        };
        let definition = &self.source.row.definition;
        let numbers: Vec<u32> = self.wants.iter().map(|(want, _)| want.number(definition)).collect();
        let known = read_envelope::extremes(connection, place, &numbers, (self.after + 1, last)).await?;
        self.after = last;
        let mut counts = Vec::new();
        for row in rows.into_iter().filter(has_samples) {
            let (from, to) = plan::cut(&row.header, &span);
            if from == to {
                continue;
            }
            let is_whole = to - from == row.header.count;
            let mut needs = vec![false; self.wants.len()];
            for (want, (number, (_, at))) in numbers.iter().zip(&self.wants).enumerate() {
                let known = known
                    .iter()
                    .find(|known| (known.seq, known.signal) == (row.header.seq, *number));
                match known.map(|known| self.need(*at, known, is_whole)) {
                    Some((Need::Nothing, _)) => (),
                    Some((Need::Count, known)) => counts.push((*at, known.min, known.finite_count)),
                    // Not folded yet, or of a signal that is absent.
                    Some((Need::Samples, _)) | None => needs[want] = true,
                }
            }
            if needs.contains(&true) {
                self.waiting.push_back((row, needs));
            }
        }
        Ok(counts)
    }

    fn need<'b>(&self, at: usize, known: &'b Extremes, is_whole: bool) -> (Need, &'b Extremes) {
        if known.finite_count == 0 {
            return (Need::Nothing, known);
        }
        match self.plan[at].need((known.min, known.max)) {
            // How many of them lie in the range, only they tell.
            Need::Count if !is_whole => (Need::Samples, known),
            need => (need, known),
        }
    }

    /// Chunks whose columns are read together.
    fn take_batch(&mut self) -> Vec<(ChunkRow, Vec<bool>)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some((row, _)) = self.waiting.front() {
            bytes += row.stored_bytes;
            if !batch.is_empty() && bytes > limits::BATCH_BYTES {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        batch
    }
}

fn has_samples(row: &ChunkRow) -> bool {
    row.header.kind == ChunkKind::Samples && !row.quarantined
}

/// What counts the samples of a stream.
struct Pass {
    decoder: ChunkDecoder,
    definition: Arc<StreamDefinition>,
    span: Span,
    wants: Vec<(Want, usize)>,
    all: Vec<Distribution>,
}

impl Pass {
    /// CPU work.
    fn take(mut self, page: &Page) -> Result<Self, QueryError> {
        for (at, min, count) in &page.counts {
            self.all[*at].take_count(*min, *count);
        }
        let wants: Vec<Want> = self.wants.iter().map(|(want, _)| *want).collect();
        let of = (&*self.definition, &wants[..]);
        for (chunk, needs) in &page.chunks {
            let (all, places) = (&mut self.all, &self.wants);
            let chunk = std::slice::from_ref(chunk);
            cut_samples(&mut self.decoder, of, chunk, &self.span, |want, _, samples| {
                if needs[want] {
                    all[places[want].1].take(samples);
                }
            })?;
        }
        Ok(self)
    }
}
