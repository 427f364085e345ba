//! One run, measured: folded in the columns of the common axis, or whole where nothing is drawn.
//!
//! # Invariants
//! - I8: what is measured is the fold of the run's samples, each once. Streams of a run that overlap are refused.
//! - I13: samples and missing samples add up to the range, or the answer says that the stream is damaged.
//! - I12: one run holds a column of a stream for each quarter of a column of the axis.

use wavekeep_proto::v1;

use super::super::columns::points_max;
use super::super::error::QueryError;
use super::super::fold::Fold;
use super::super::folds::{Folding, Sink, is_folded};
use super::super::gaps::Missing;
use super::super::grid::{Columns, Dated, Grid};
use super::super::limits;
use super::super::locate::Located;
use super::super::read::Reader;
use super::super::reading::Reading;
use super::super::runs::merged;
use super::super::statistics::Part;
use super::super::want::Want;
use super::axis::{Axis, Blanks, Lane};
use super::groups::RunMembers;
use super::subject::asked;
use crate::rollup::Levels;
use crate::rollup::envelope::Bucket;
use crate::store::read_stream::StreamRow;

/// What is measured of every run.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) signal: String,
    pub(super) axis: Option<Axis>,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    name: String,
    device: String,
    times_ns: (i64, i64),
    align_ns: i64,
    fold: Fold,
    gap_sample_count: u64,
    /// From the first sample to the last, without what lies between times that were chosen.
    duration_ns: u64,
    /// Of stored samples, and of those that are not finite.
    stored_s: f64,
    not_finite_s: f64,
    pub(super) lane: Option<Lane>,
}

struct Gathering {
    fold: Fold,
    rate_hz: f64,
    columns: Option<Columns>,
}

impl Sink for Gathering {
    fn take(&mut self, _: usize, sample: u64, dated: Dated, bucket: &Bucket) {
        // The squares of children are not known, and nothing here needs them.
        self.fold.add_bucket(bucket, self.rate_hz);
        if let Some(columns) = &mut self.columns {
            columns.take(sample, dated, bucket);
        }
    }

    fn take_samples(&mut self, _: usize, at: Dated, samples: &[f64]) {
        self.fold.add(samples, self.rate_hz);
        if let Some(columns) = &mut self.columns {
            columns.take_samples(at, samples);
        }
    }
}

/// Of a run of which something is stored.
pub(super) async fn measure(
    reader: Reader,
    run: RunMembers,
    align_ns: i64,
    question: Question,
) -> Result<Measured, QueryError> {
    let mut measured = Measured {
        name: run.name.clone(),
        device: String::new(),
        times_ns: (i64::MAX, i64::MIN),
        align_ns,
        fold: Fold::new(),
        gap_sample_count: 0,
        duration_ns: 0,
        stored_s: 0.0,
        not_finite_s: 0.0,
        lane: question.axis.map(Lane::new),
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut times_ns = Vec::new();
    for member in &run.members {
        let mut reading = reader.begin_two().await?;
        let located = reader.locate_in(&mut reading, member).await?;
        let mut reading = Some(reading);
        for located in located {
            let part = Part::new(&member.row.definition, &located);
            if let Some(other) = parts.iter().find(|other| other.overlaps(&part)) {
                return Err(other.overlap(&part, &member.row.definition.device, &question.signal));
            }
            let is_measured = measured
                .range((&reader, reading.take()), (&run, &member.row), &located, &question)
                .await?;
            if is_measured {
                parts.push(part);
                times_ns.push(located.times_ns);
            }
        }
        if let Some(reading) = reading {
            reading.end();
        }
    }
    if parts.is_empty() {
        return Err(QueryError::Empty(format!(
            "nothing of {:?} is stored of run {:?}: leave the run out",
            question.signal, run.name
        )));
    }
    if measured.fold.finite_count == 0 {
        return Err(QueryError::Empty(format!(
            "no sample of {:?} of run {:?} is a finite number: leave the run out",
            question.signal, run.name
        )));
    }
    measured.duration_ns = duration_ns(&run, &times_ns);
    Ok(measured)
}

/// Of each of the times that the run consists of, from its first sample to its last.
fn duration_ns(run: &RunMembers, located: &[(i64, i64)]) -> u64 {
    let ranges = run.members.iter().flat_map(|member| member.ranges.iter().copied());
    let lengths = merged(ranges.collect()).into_iter().map(|range| {
        // A sample may reach out of its time, and so into the next one; its middle does not.
        let middle = |times: &&(i64, i64)| times.0.midpoint(times.1);
        let within = located
            .iter()
            .filter(|times| range.touches((middle(times), middle(times))));
        let ends = within
            .copied()
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        ends.map_or(0, |(from_ns, to_ns)| {
            to_ns.saturating_sub(from_ns).max(0).cast_unsigned()
        })
    });
    lengths.fold(0, u64::saturating_add)
}

fn grid(question: &Question, row: &StreamRow, located: &Located) -> Result<Option<Grid>, QueryError> {
    let Some(axis) = question.axis else {
        return Ok(None);
    };
    let length_ns = located.times_ns.1.saturating_sub(located.times_ns.0).max(1) as u64;
    let points = axis.points_of(length_ns).min(limits::POINTS_MAX.into());
    let points = points_max(points as u32)?;
    let range = (located.span.from_sample, located.span.to_sample);
    Ok(Some(Grid::new(Levels::of(&row.definition), range, points)))
}

impl Measured {
    /// Folds a range of a stream of the run; false where nothing of it is stored. What was begun is read first.
    async fn range(
        &mut self,
        (reader, reading): (&Reader, Option<Reading>),
        (run, row): (&RunMembers, &StreamRow),
        located: &Located,
        question: &Question,
    ) -> Result<bool, QueryError> {
        let wants = Want::all(&asked(run, &question.signal), &row.definition, true);
        if located.span.from_sample == located.span.to_sample || wants.is_empty() {
            if let Some(reading) = reading {
                reading.end();
            }
            return Ok(false);
        }
        self.device.clone_from(&row.definition.device);
        let grid = grid(question, row, located)?;
        let sink = Gathering {
            fold: self.fold,
            rate_hz: row.definition.rate_hz,
            columns: grid.map(Columns::new),
        };
        let folding = Folding::new((reader, reading), row, located, &wants, sink);
        let folding = match grid {
            _ if !is_folded(row, located) => folding.samples().await?,
            Some(grid) => folding.columns(grid, row).await?,
            None => folding.whole().await?,
        };
        let samples = folding.sink.fold.sample_count - self.fold.sample_count;
        let mut missing = Missing::new(reader, row, located, &wants);
        missing.found([samples]);
        self.take(row, located, samples, folding.sink);
        let mut blanks = Blanks::default();
        while let Some(gaps) = missing.next().await? {
            self.blank(&gaps, &mut blanks);
        }
        missing.require_all_named(0, samples)?;
        self.gap_sample_count += missing.of_wants[0];
        Ok(true)
    }

    fn take(&mut self, row: &StreamRow, located: &Located, samples: u64, sink: Gathering) {
        let definition = &row.definition;
        let finite = sink.fold.finite_count - self.fold.finite_count;
        self.not_finite_s += (samples - finite) as f64 / definition.rate_hz;
        self.fold = sink.fold;
        self.stored_s += samples as f64 / definition.rate_hz;
        self.times_ns = (
            self.times_ns.0.min(located.times_ns.0),
            self.times_ns.1.max(located.times_ns.1),
        );
        let (Some(columns), Some(lane)) = (sink.columns, &mut self.lane) else {
            return;
        };
        let times_ns = columns.times_ns(definition, located.times_ns.0);
        for (column, (envelope, from_ns)) in columns.envelopes.iter().zip(times_ns).enumerate() {
            let samples = columns.length(column, located.span.to_sample);
            let from_ns = from_ns.saturating_sub(self.align_ns);
            let to_ns = from_ns.saturating_add(definition.duration_ns(samples));
            lane.take((from_ns, to_ns), envelope);
        }
    }

    /// I9: what is missing is not drawn.
    fn blank(&mut self, gaps: &[v1::Gap], blanks: &mut Blanks) {
        if let Some(lane) = &mut self.lane {
            let relative = |ns: i64| ns.saturating_sub(self.align_ns);
            for gap in gaps {
                blanks.take((relative(gap.from_ns), relative(gap.to_ns)), lane);
            }
        }
    }

    /// From its first sample to its last, without what lies between times that were chosen; in seconds.
    pub(super) fn duration_s(&self) -> f64 {
        self.duration_ns as f64 / 1e9
    }

    /// Of that without a stored sample. Times are rounded to nanoseconds, and so may be a little short.
    pub(super) fn gap_s(&self) -> f64 {
        if self.gap_sample_count == 0 && self.duration_s() - self.stored_s < 1e-6 {
            return 0.0;
        }
        (self.duration_s() - self.stored_s).max(0.0)
    }

    pub(super) fn not_finite(&self) -> u64 {
        self.fold.sample_count - self.fold.finite_count
    }

    /// The time of those, in seconds.
    pub(super) fn not_finite_s(&self) -> f64 {
        self.not_finite_s
    }

    pub(super) fn mean(&self) -> f64 {
        self.fold.mean()
    }

    pub(super) fn value(&self, metric: v1::Metric) -> f64 {
        match metric {
            v1::Metric::Energy | v1::Metric::Charge => self.fold.integral(),
            v1::Metric::Peak => self.fold.min_max().1,
            v1::Metric::Duration => self.duration_s(),
            v1::Metric::Unspecified | v1::Metric::Mean => self.fold.mean(),
        }
    }

    pub(super) fn to_wire(&self, unit: &str, metric: v1::Metric) -> v1::MeasuredRun {
        let (min, peak) = self.fold.min_max();
        let integral = self.fold.integral();
        v1::MeasuredRun {
            run: self.name.clone(),
            device: self.device.clone(),
            from_ns: self.times_ns.0,
            to_ns: self.times_ns.1,
            align_ns: self.align_ns,
            duration_s: self.duration_s(),
            gap_s: self.gap_s(),
            sample_count: self.fold.sample_count,
            gap_sample_count: self.gap_sample_count,
            finite_count: self.fold.finite_count,
            mean: self.fold.mean(),
            min,
            peak,
            energy_joule: (unit == "W").then_some(integral),
            charge_coulomb: (unit == "A").then_some(integral),
            value: self.value(metric),
        }
    }
}
