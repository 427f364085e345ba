//! `GetWaveform` with points: what is drawn of a range, column by column.
//!
//! # Invariants
//! - I9: see `grid`; columns are folded from whole buckets, points and, at the edges of the range, from samples.
//! - I12: [`limits::COLUMNS_MAX`] columns of a stream, over all its signals; a message has [`limits::COLUMNS_SENT`].
//! - I13: samples in columns and samples in gaps add up to the range, or the answer says that the stream is damaged.

use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::v1;
use wavekeep_proto::v1::waveform_part::Part;

use super::answer::Parts;
use super::error::QueryError;
use super::folds::{Folding, Sink, is_folded};
use super::gaps::Missing;
use super::grid::{Columns, Dated, Grid};
use super::limits;
use super::locate::Located;
use super::manifest::Manifest;
use super::plan::Asked;
use super::read::Reader;
use super::reading::Reading;
use super::want::Want;
use crate::rollup::Levels;
use crate::rollup::envelope::{Bucket, Envelope};
use crate::store::read_stream::StreamRow;

/// How many points a question may ask for.
pub(super) fn points_max(asked: u32) -> Result<u64, QueryError> {
    if asked > limits::POINTS_MAX {
        let sentence = format!("at most {} points can be asked for: ask for fewer", limits::POINTS_MAX);
        return Err(QueryError::Invalid(sentence));
    }
    Ok(asked.into())
}

/// How many of `points_max` are a stream's, by its share of the time; at least one.
pub(super) fn share(points_max: u64, streams: &[(i64, i64)], which: usize) -> u64 {
    let length = |(from, to): (i64, i64)| to.saturating_sub(from).max(1) as u128;
    let all: u128 = streams.iter().copied().map(length).sum();
    let share = u128::from(points_max) * length(streams[which]) / all;
    // Not above points_max, which is a u64.
    (share as u64).max(1)
}

/// Is it answered with the samples themselves? Where power is named it is not, since it is not stored; where nothing is, the caller
/// multiplies.
pub(super) fn has_few_samples(asked: &Asked, row: &StreamRow, located: &Located, points_max: u64) -> bool {
    let is_stored = |want: &Want| matches!(want, Want::Stored(_));
    let samples = located.span.to_sample - located.span.from_sample;
    samples <= points_max && Want::all(asked, &row.definition, false).iter().all(is_stored)
}

struct Drawing(Vec<Columns>);

impl Sink for Drawing {
    fn take(&mut self, want: usize, sample: u64, dated: Dated, bucket: &Bucket) {
        self.0[want].take(sample, dated, bucket);
    }

    fn take_samples(&mut self, want: usize, at: Dated, samples: &[f64]) {
        self.0[want].take_samples(at, samples);
    }
}

/// Sends the columns of one stream, signal after signal.
pub(super) async fn send(
    (reader, reading): (&Reader, Option<Reading>),
    (row, located): (&StreamRow, &Located),
    asked: &Asked,
    points_max: u64,
    (manifest, parts): (&mut Manifest, &Parts<v1::WaveformPart>),
) -> Result<(), QueryError> {
    let definition = row.definition.clone();
    let wants = Want::all(asked, &definition, true);
    let range = (located.span.from_sample, located.span.to_sample);
    if range.0 == range.1 {
        manifest.range(0, located);
        return Ok(());
    }
    let grid = Grid::new(Levels::of(&definition), range, points_max);
    if grid.columns() * wants.len() > limits::COLUMNS_MAX {
        let sentence = format!(
            "{} points of {} signals are more than one answer holds: ask for fewer points, or fewer signals",
            grid.columns(),
            wants.len()
        );
        return Err(QueryError::TooMuch(sentence));
    }
    let sink = Drawing(vec![Columns::new(grid); wants.len()]);
    let folding = Folding::new((reader, reading), row, located, &wants, sink);
    let folding = if is_folded(row, located) {
        folding.columns(grid, row).await?
    } else {
        folding.samples().await?
    };
    let mut missing = Missing::new(reader, row, located, &wants);
    missing.found(folding.sink.0.iter().map(|columns| columns.sample_count));
    while let Some(gaps) = missing.next().await? {
        manifest.gaps(gaps);
        if let Some(overflow) = manifest.overflow() {
            parts.send(part(Part::Manifest(overflow))).await?;
        }
    }
    for (want, columns) in folding.sink.0.iter().enumerate() {
        missing.require_all_named(want, columns.sample_count)?;
        for message in messages(&definition, wants[want], grid, located, columns) {
            parts.send(part(Part::Columns(message))).await?;
        }
    }
    manifest.range(missing.of_all, located);
    Ok(())
}

fn part(part: Part) -> v1::WaveformPart {
    v1::WaveformPart { part: Some(part) }
}

fn messages(
    definition: &StreamDefinition,
    want: Want,
    grid: Grid,
    located: &Located,
    columns: &Columns,
) -> Vec<v1::WaveformColumns> {
    let times_ns = columns.times_ns(definition, located.times_ns.0);
    let some = |envelope: &Envelope, value: f64| if envelope.is_empty() { f64::NAN } else { value };
    let message = |(page, envelopes): (usize, &[Envelope])| {
        let first = page * limits::COLUMNS_SENT;
        let end = first + envelopes.len();
        v1::WaveformColumns {
            stream_id: definition.id.to_vec().into(),
            signal: want.number(definition),
            level: grid.level.unwrap_or(0),
            first_sample: grid.start(first),
            bucket_samples: grid.width,
            min: envelopes.iter().map(|envelope| some(envelope, envelope.min)).collect(),
            max: envelopes.iter().map(|envelope| some(envelope, envelope.max)).collect(),
            mean: envelopes.iter().map(|envelope| envelope.mean()).collect(),
            count: envelopes.iter().map(|envelope| envelope.count).collect(),
            time_ns: times_ns[first..end].to_vec(),
            to_sample: grid.start(end).min(located.span.to_sample),
        }
    };
    columns
        .envelopes
        .chunks(limits::COLUMNS_SENT)
        .enumerate()
        .map(message)
        .collect()
}
