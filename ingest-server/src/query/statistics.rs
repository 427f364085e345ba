//! `GetStatistics`: the edges of the range folded from samples, all between from stored envelopes. The definitions stand in `fold`.
//!
//! # Invariants
//! - I8: a statistic is the fold of the samples it covers. Where samples are read, each column is checked against its hash.
//! - I13: samples and missing samples add up to the range, or the answer says that the stream is damaged.
//! - No time counts twice: streams that captured a signal of a device at the same time are never folded together.

use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::v1;

use super::distribution::{self, Distribution, Source, Wanted};
use super::error::QueryError;
use super::fold::Fold;
use super::folds::{Folding, Sink, is_folded};
use super::gaps::Missing;
use super::grid::Dated;
use super::limits;
use super::listing;
use super::locate::Located;
use super::plan::Asked;
use super::read::Reader;
use super::want::Want;
use crate::rollup::envelope::Bucket;

/// A signal of a device, over all its streams.
struct Folded {
    device: String,
    signal: String,
    unit: String,
    times_ns: (i64, i64),
    gap_sample_count: u64,
    /// In seconds: of all samples, stored or missing, and of those that are missing.
    duration_s: f64,
    gap_s: f64,
    fold: Fold,
    /// What it is folded from.
    parts: Vec<Part>,
    /// Of the keys of its samples: see `order`.
    silent_bits: u32,
}

/// The range of one stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    stream: StreamId,
    epoch: Epoch,
    samples: (u64, u64),
    times_ns: (i64, i64),
}

impl Part {
    pub(super) fn new(definition: &StreamDefinition, located: &Located) -> Self {
        Self {
            stream: definition.id,
            epoch: definition.epoch,
            samples: (located.span.from_sample, located.span.to_sample),
            times_ns: located.times_ns,
        }
    }

    /// Did both capture the same time? Within an epoch, samples tell exactly; between epochs, times, which a clock that was set
    /// may have shifted.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        if self.epoch == other.epoch {
            return self.samples.0.max(other.samples.0) < self.samples.1.min(other.samples.1);
        }
        let length = |part: &Self| part.times_ns.1.saturating_sub(part.times_ns.0);
        let allowed = limits::CLOCK_SHIFT_NS_MAX.min(length(self).min(length(other)) / 2);
        let (from, to) = (
            self.times_ns.0.max(other.times_ns.0),
            self.times_ns.1.min(other.times_ns.1),
        );
        to.saturating_sub(from) > allowed
    }

    /// Why the two are not counted together.
    pub(super) fn overlap(&self, other: &Self, device: &str, signal: &str) -> QueryError {
        QueryError::Overlap {
            device: device.into(),
            signal: signal.into(),
            streams: (self.stream, other.stream),
        }
    }
}

/// The folds of the wants of one stream, each into its statistic.
struct Folds {
    rate_hz: f64,
    folds: Vec<Fold>,
}

impl Sink for Folds {
    fn take(&mut self, want: usize, _: u64, _: Dated, bucket: &Bucket) {
        self.folds[want].add_bucket(bucket, self.rate_hz);
    }

    fn take_samples(&mut self, want: usize, _: (u64, i64), samples: &[f64]) {
        self.folds[want].add(samples, self.rate_hz);
    }
}

/// Answers for every signal asked for, in order of time and of the definitions.
pub(super) async fn statistics(
    reader: &Reader,
    asked: &Asked,
    wanted: &Wanted,
) -> Result<v1::GetStatisticsResponse, QueryError> {
    let mut all: Vec<Folded> = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    let (located, reading) = reader.located(asked, true).await?;
    let mut reading = Some(reading);
    for (row, located) in located {
        let wants = Want::all(asked, &row.definition, true);
        let places = wants
            .iter()
            .map(|want| place(&mut all, *want, &row.definition, &located));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let sink = Folds {
            rate_hz: row.definition.rate_hz,
            folds: places.iter().map(|place| all[*place].fold).collect(),
        };
        let before: Vec<u64> = sink.folds.iter().map(|fold| fold.sample_count).collect();
        let folding = Folding::new((reader, reading.take()), &row, &located, &wants, sink);
        let mut folding = if is_folded(&row, &located) {
            folding.whole().await?
        } else {
            folding.samples().await?
        };
        let length = located.span.to_sample - located.span.from_sample;
        if folding.sink.folds.iter().any(Fold::is_doubtful) && length <= limits::DOUBTFUL_SAMPLES_MAX {
            let sink = Folds {
                rate_hz: row.definition.rate_hz,
                folds: places.iter().map(|place| all[*place].fold).collect(),
            };
            folding = Folding::new((reader, None), &row, &located, &wants, sink)
                .samples()
                .await?;
        }
        let found = folding.sink.folds.iter().zip(&before);
        let mut missing = Missing::new(reader, &row, &located, &wants);
        missing.found(found.map(|(fold, before)| fold.sample_count - before));
        let missing = missing.counted().await?;
        for (want, (place, fold)) in places.iter().zip(folding.sink.folds).enumerate() {
            let (samples, folded) = (fold.sample_count - before[want], &mut all[*place]);
            missing.require_all_named(want, samples)?;
            folded.gap_sample_count += missing.of_wants[want];
            folded.duration_s += length as f64 / row.definition.rate_hz;
            folded.gap_s += missing.of_wants[want] as f64 / row.definition.rate_hz;
            folded.fold = fold;
        }
        if !wanted.is_none() {
            let wants = wants.into_iter().zip(places).collect();
            sources.push(Source { row, located, wants });
        }
    }
    if let Some(reading) = reading {
        reading.end();
    }
    if all.is_empty() {
        return Err(listing::nothing(reader, asked).await);
    }
    let mut signals: Vec<v1::SignalStatistics> = all.iter().map(to_wire).collect();
    if !wanted.is_none() {
        let distributions = distributions(reader, &sources, &mut all, wanted).await?;
        for (signal, found) in signals.iter_mut().zip(distributions) {
            signal.percentiles = found.percentiles(wanted);
            signal.histogram = found.histogram();
        }
    }
    Ok(v1::GetStatisticsResponse { signals })
}

/// Of each statistic, from the samples themselves.
async fn distributions(
    reader: &Reader,
    sources: &[Source],
    all: &mut [Folded],
    wanted: &Wanted,
) -> Result<Vec<Distribution>, QueryError> {
    distribution::require_few(sources, all.len())?;
    for source in sources {
        for (want, place) in &source.wants {
            let silent_bits = &mut all[*place].silent_bits;
            *silent_bits = source.silent_bits(*want).min(*silent_bits);
        }
    }
    let begun = all.iter().map(|folded| {
        let fold = &folded.fold;
        Distribution::new(wanted, fold.finite_count, fold.min_max(), folded.silent_bits)
    });
    distribution::find(reader, sources, begun.collect()).await
}

/// The statistic of a want of a stream. Another unit makes another one.
fn place(
    all: &mut Vec<Folded>,
    want: Want,
    definition: &StreamDefinition,
    located: &Located,
) -> Result<usize, QueryError> {
    let (signal, unit) = want.name_and_unit(definition);
    let same = |folded: &Folded| {
        (folded.device.as_str(), folded.signal.as_str(), folded.unit.as_str())
            == (definition.device.as_str(), signal, unit)
    };
    let (from_ns, to_ns) = located.times_ns;
    let part = Part::new(definition, located);
    if let Some(at) = all.iter().position(same) {
        let folded = &mut all[at];
        if let Some(other) = folded.parts.iter().find(|other| other.overlaps(&part)) {
            return Err(other.overlap(&part, &definition.device, signal));
        }
        folded.parts.push(part);
        folded.times_ns = (folded.times_ns.0.min(from_ns), folded.times_ns.1.max(to_ns));
        return Ok(at);
    }
    all.push(Folded {
        device: definition.device.clone(),
        signal: signal.into(),
        unit: unit.into(),
        times_ns: (from_ns, to_ns),
        gap_sample_count: 0,
        duration_s: 0.0,
        gap_s: 0.0,
        fold: Fold::new(),
        parts: vec![part],
        silent_bits: u32::MAX,
    });
    Ok(all.len() - 1)
}

fn to_wire(folded: &Folded) -> v1::SignalStatistics {
    let fold = &folded.fold;
    let (min, max) = fold.min_max();
    let integral = fold.integral();
    v1::SignalStatistics {
        device: folded.device.clone(),
        signal: folded.signal.clone(),
        unit: folded.unit.clone(),
        from_ns: folded.times_ns.0,
        to_ns: folded.times_ns.1,
        sample_count: fold.sample_count,
        gap_sample_count: folded.gap_sample_count,
        min,
        max,
        mean: fold.mean(),
        std: fold.std(),
        rms: fold.rms(),
        integral,
        energy_joule: (folded.unit == "W").then_some(integral),
        charge_coulomb: (folded.unit == "A").then_some(integral),
        finite_count: fold.finite_count,
        duration_s: folded.duration_s,
        gap_s: folded.gap_s,
        percentiles: Vec::new(),
        histogram: None,
    }
}
