//! What is drawn of each signal, gathered from an answer: over all streams of a device.
//!
//! # Invariants
//! - I12: at most [`POINTS_HELD_MAX`] points are held.
//! - I9: a point spans the samples of one column and no more; between points there is nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use wavekeep::proto::id::StreamId;
use wavekeep::proto::power::{POWER_NAME, POWER_UNIT, power_of};
use wavekeep::proto::stream::StreamDefinition;
use wavekeep::{Block, Columns, Gap, Part, StreamManifest, Waveform};

use super::failure::Failure;
use super::limits::POINTS_HELD_MAX;

/// A column, or a sample. Without finite samples, `count` is 0 and the rest NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
    pub(super) count: u64,
}

/// One signal of a device.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    pub(super) device: String,
    pub(super) signal: String,
    pub(super) unit: String,
    pub(super) points: Vec<Point>,
    /// Is any of the points a column?
    pub(super) has_columns: bool,
    pub(super) gaps: Vec<Gap>,
    /// When each stream has something of it, or a gap.
    pub(super) spans_ns: BTreeMap<StreamId, (i64, i64)>,
    /// The longest sample.
    pub(super) period_ns: i64,
    /// Samples of the axes, stored or missing.
    pub(super) length: u64,
}

impl Trace {
    fn cover(&mut self, stream: StreamId, from_ns: i64, to_ns: i64) {
        let span = self.spans_ns.entry(stream).or_insert((from_ns, to_ns));
        *span = (span.0.min(from_ns), span.1.max(to_ns));
    }

    fn push(&mut self, stream: StreamId, point: Point) {
        self.cover(stream, point.from_ns, point.to_ns);
        self.points.push(point);
    }

    /// Samples in gaps; where two gaps of derived power lie over each other, once.
    pub(super) fn missing(&self) -> u64 {
        let mut ranges: Vec<(StreamId, u64, u64)> = self
            .gaps
            .iter()
            .map(|gap| (gap.stream, gap.first_sample, gap.first_sample.saturating_add(gap.count)))
            .collect();
        ranges.sort_unstable();
        let (mut missing, mut end) = (0u64, None);
        for (stream, from, to) in ranges {
            let from = match end {
                Some((known, end)) if known == stream => from.max(end),
                _ => from,
            };
            missing = missing.saturating_add(to.saturating_sub(from));
            end = Some((stream, to.max(from)));
        }
        missing
    }

    /// Smallest, largest and mean of all; None where nothing is finite.
    pub(super) fn envelope(&self) -> Option<(f64, f64, f64)> {
        let finite = self.points.iter().filter(|point| point.count > 0);
        let start = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0);
        let (min, max, sum, count) = finite.fold(start, |(min, max, sum, count), point| {
            let weight = point.count as f64;
            (
                min.min(point.min),
                max.max(point.max),
                sum + point.mean * weight,
                count + weight,
            )
        });
        (count > 0.0).then(|| (min, max, sum / count))
    }
}

/// Gathers an answer.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    /// The signals that were asked for; none: all.
    wanted: Vec<String>,
    traces: Vec<Trace>,
    streams: BTreeMap<StreamId, Arc<StreamDefinition>>,
    current: Option<Arc<StreamDefinition>>,
    held: usize,
}

impl Gatherer {
    pub(super) fn new(wanted: &[String]) -> Self {
        Self {
            wanted: wanted.to_vec(),
            ..Self::default()
        }
    }

    /// Reads an answer to its end.
    pub(super) async fn all(mut self, mut waveform: Waveform) -> Result<Vec<Trace>, Failure> {
        while let Some(part) = waveform.next().await? {
            match part {
                Part::Stream(stream) => self.stream(&stream.definition),
                Part::Samples(block) => self.samples(&block),
                Part::Columns(columns) => self.columns(&columns),
                Part::Gap(gap) => self.gap(&gap),
                Part::Manifest(streams) => self.manifest(&streams),
                Part::Markers(_) | Part::End(_) => (),
            }
            if self.held > POINTS_HELD_MAX {
                return Err(Failure::Failed(format!(
                    "that would be more than {POINTS_HELD_MAX} points: ask for fewer (--points), for fewer signals or for a shorter time"
                )));
            }
        }
        Ok(self.traces)
    }

    fn wants(&self, signal: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == signal)
    }

    /// The signals of a stream that are wanted: name and unit.
    fn signals(&self, definition: &StreamDefinition) -> Vec<(String, String)> {
        let stored = definition.signals.iter();
        let stored = stored.map(|signal| (signal.name.clone(), signal.unit.clone()));
        let power = power_of(definition).map(|_| (POWER_NAME.to_owned(), POWER_UNIT.to_owned()));
        stored.chain(power).filter(|(name, _)| self.wants(name)).collect()
    }

    fn trace(&mut self, definition: &StreamDefinition, signal: &str, unit: &str) -> Option<&mut Trace> {
        if !self.wants(signal) {
            return None;
        }
        let same = |trace: &Trace| {
            (trace.device.as_str(), trace.signal.as_str(), trace.unit.as_str())
                == (definition.device.as_str(), signal, unit)
        };
        let at = self.traces.iter().position(same).unwrap_or(self.traces.len());
        if at == self.traces.len() {
            self.traces.push(Trace {
                device: definition.device.clone(),
                signal: signal.into(),
                unit: unit.into(),
                ..Trace::default()
            });
        }
        let trace = &mut self.traces[at];
        trace.period_ns = trace.period_ns.max(definition.duration_ns(1));
        Some(trace)
    }

    fn stream(&mut self, definition: &Arc<StreamDefinition>) {
        self.streams.insert(definition.id, definition.clone());
        self.current = Some(definition.clone());
        for (signal, unit) in self.signals(definition) {
            self.trace(definition, &signal, &unit);
        }
    }

    fn columns(&mut self, columns: &Columns) {
        let Some(definition) = self.current.clone() else {
            return;
        };
        let Some(trace) = self.trace(&definition, &columns.name, &columns.unit) else {
            return;
        };
        trace.has_columns = true;
        for (at, (from, to)) in columns.ranges().enumerate() {
            let from_ns = columns.time_ns[at];
            let point = Point {
                from_ns,
                to_ns: from_ns.saturating_add(definition.duration_ns(to - from)),
                min: columns.min[at],
                max: columns.max[at],
                mean: columns.mean[at],
                count: columns.count[at],
            };
            trace.push(definition.id, point);
        }
        self.held += columns.count.len();
    }

    fn samples(&mut self, block: &Block<'_>) {
        let definition = &block.stream.definition;
        let values = |place: usize| {
            let column = block.columns.iter().find(|column| column.signal == place)?;
            let mut values = Vec::new();
            column.absent.is_none().then(|| column.append_f64(&mut values))?;
            Some(values)
        };
        for (place, signal) in definition.signals.iter().enumerate() {
            if self.wants(&signal.name)
                && let Some(values) = values(place)
            {
                self.points(block, (&signal.name, &signal.unit), &values);
            }
        }
        let Some((current, voltage)) = power_of(definition).filter(|_| self.wants(POWER_NAME)) else {
            return;
        };
        if let Some((current, voltage)) = values(current).zip(values(voltage)) {
            let power: Vec<f64> = current
                .iter()
                .zip(voltage)
                .map(|(current, voltage)| current * voltage)
                .collect();
            self.points(block, (POWER_NAME, POWER_UNIT), &power);
        }
    }

    fn points(&mut self, block: &Block<'_>, (signal, unit): (&str, &str), values: &[f64]) {
        let definition = &block.stream.definition;
        let Some(trace) = self.trace(definition, signal, unit) else {
            return;
        };
        for (at, value) in (0..).zip(values) {
            let ns = |sample| block.utc_ns.saturating_add(definition.duration_ns(sample));
            let value = if value.is_finite() { *value } else { f64::NAN };
            let point = Point {
                from_ns: ns(at),
                to_ns: ns(at + 1),
                min: value,
                max: value,
                mean: value,
                count: u64::from(value.is_finite()),
            };
            trace.push(definition.id, point);
        }
        self.held += values.len();
    }

    fn gap(&mut self, gap: &Gap) {
        let Some(definition) = self.streams.get(&gap.stream).cloned() else {
            return;
        };
        let derived = power_of(&definition).map(|(current, voltage)| [current, voltage]);
        for (signal, unit) in self.signals(&definition) {
            let is_derived = signal == POWER_NAME && derived.is_some();
            let of_factors = derived.into_iter().flatten().any(|place| {
                let factor = &definition.signals[place].name;
                is_derived && gap.signals.contains(factor)
            });
            if (gap.signals.is_empty() || gap.signals.contains(&signal) || of_factors)
                && let Some(trace) = self.trace(&definition, &signal, &unit)
            {
                trace.cover(gap.stream, gap.from_ns, gap.to_ns);
                trace.gaps.push(gap.clone());
            }
        }
    }

    fn manifest(&mut self, streams: &[StreamManifest]) {
        for stream in streams {
            let Some(definition) = self.streams.get(&stream.stream).cloned() else {
                continue;
            };
            for (signal, unit) in self.signals(&definition) {
                if let Some(trace) = self.trace(&definition, &signal, &unit) {
                    trace.length = trace
                        .length
                        .saturating_add(stream.to_sample.saturating_sub(stream.from_sample));
                }
            }
        }
    }
}
