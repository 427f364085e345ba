//! The objects of `--json`. Their fields are a surface that scripts depend on: they are added to, never renamed.

use std::collections::BTreeMap;

use serde::Serialize;
use wavekeep::proto::chunk::{ChunkKind, ColumnContent};
use wavekeep::proto::stream::{Signal, StreamDefinition};
use wavekeep::time::rfc3339;
use wavekeep::{ChunkInfo, Committed, Device, Gap, Statistics, StreamInfo};

use super::trace::Trace;

#[derive(Serialize)]
pub(super) struct DeviceLine {
    device: String,
    streams: u64,
    from: Option<String>,
    to: Option<String>,
    sample_count: u64,
    gap_sample_count: u64,
    stored_bytes: u64,
    live: bool,
}

impl From<&Device> for DeviceLine {
    fn from(device: &Device) -> Self {
        Self {
            device: device.name.clone(),
            streams: device.streams,
            from: device.first_time_ns.map(rfc3339),
            to: device.last_time_ns.map(rfc3339),
            sample_count: device.sample_count,
            gap_sample_count: device.gap_sample_count,
            stored_bytes: device.stored_bytes,
            live: device.live,
        }
    }
}

#[derive(Serialize)]
struct SignalObject {
    name: String,
    #[serde(rename = "type")]
    sample_type: &'static str,
    unit: String,
}

#[derive(Serialize)]
pub(super) struct StreamLine {
    stream: String,
    device: String,
    epoch: String,
    signals: Vec<SignalObject>,
    rate_hz: f64,
    first_sample: u64,
    next_sample: u64,
    from: Option<String>,
    to: Option<String>,
    sample_count: u64,
    gap_sample_count: u64,
    stored_bytes: u64,
    quarantined: u64,
    watermark: u64,
    digest: String,
    ended: bool,
    end_reason: Option<&'static str>,
    run: String,
    labels: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    file: bool,
    predecessor: Option<String>,
}

impl From<&StreamInfo> for StreamLine {
    fn from(stream: &StreamInfo) -> Self {
        let definition = &stream.definition;
        let signals = definition.signals.iter();
        Self {
            stream: stream.id().to_string(),
            device: definition.device.clone(),
            epoch: definition.epoch.to_string(),
            signals: signals
                .map(|signal| SignalObject {
                    name: signal.name.clone(),
                    sample_type: signal.sample_type.name(),
                    unit: signal.unit.clone(),
                })
                .collect(),
            rate_hz: definition.rate_hz,
            first_sample: definition.first_sample,
            next_sample: stream.at.next_sample,
            from: stream.first_time_ns.map(rfc3339),
            to: stream.last_time_ns.map(rfc3339),
            sample_count: stream.sample_count,
            gap_sample_count: stream.gap_sample_count,
            stored_bytes: stream.stored_bytes,
            quarantined: stream.quarantined,
            watermark: stream.at.seq,
            digest: stream.at.digest.to_string(),
            ended: stream.at.ended,
            end_reason: stream.end_reason.map(|reason| reason.name()),
            run: stream.run.clone(),
            labels: stream.labels.clone(),
            attributes: definition.attributes.clone(),
            file: definition.is_file(),
            predecessor: definition
                .predecessor
                .map(|predecessor| predecessor.stream_id.to_string()),
        }
    }
}

#[derive(Serialize)]
pub(super) struct GapLine {
    stream: String,
    device: String,
    first_sample: u64,
    count: u64,
    reason: &'static str,
    from: String,
    to: String,
    signals: Vec<String>,
}

impl From<&Gap> for GapLine {
    fn from(gap: &Gap) -> Self {
        Self {
            stream: gap.stream.to_string(),
            device: gap.device.clone(),
            first_sample: gap.first_sample,
            count: gap.count,
            reason: gap.reason.name(),
            from: rfc3339(gap.from_ns),
            to: rfc3339(gap.to_ns),
            signals: gap.signals.clone(),
        }
    }
}

/// Of the finite samples of one signal of a chunk.
#[derive(Debug, Serialize)]
pub(super) struct Extremes {
    #[serde(skip)]
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) mean: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Extremes {
    pub(super) fn of(signal: &Signal, samples: &[f64]) -> Self {
        let finite = || samples.iter().copied().filter(|sample| sample.is_finite());
        let count = finite().count();
        Self {
            name: signal.name.clone(),
            unit: signal.unit.clone(),
            mean: (count > 0).then(|| finite().sum::<f64>() / count as f64),
            min: finite().reduce(f64::min),
            max: finite().reduce(f64::max),
        }
    }
}

#[derive(Serialize)]
pub(super) struct CommittedLine {
    stream: String,
    device: String,
    run: String,
    seq: u64,
    kind: &'static str,
    reason: &'static str,
    first_sample: u64,
    sample_count: u64,
    from: String,
    loaded_at: String,
    signals: BTreeMap<String, Extremes>,
    gaps: Vec<GapLine>,
}

impl CommittedLine {
    pub(super) fn new(committed: &Committed<'_>, extremes: Vec<Extremes>) -> Self {
        let (stream, header) = (committed.stream, committed.header);
        Self {
            stream: stream.id().to_string(),
            device: stream.definition.device.clone(),
            run: stream.run.clone(),
            seq: header.seq,
            kind: kind_name(header.kind),
            reason: header.reason.name(),
            first_sample: header.first_sample,
            sample_count: header.count,
            from: rfc3339(header.utc_ns),
            loaded_at: rfc3339(committed.loaded_at_ns),
            signals: extremes
                .into_iter()
                .map(|signal| (signal.name.clone(), signal))
                .collect(),
            gaps: committed.gaps.iter().map(GapLine::from).collect(),
        }
    }
}

/// As people and SQL write it.
pub(super) fn kind_name(kind: ChunkKind) -> &'static str {
    match kind {
        ChunkKind::Samples => "samples",
        ChunkKind::Gap => "gap",
        ChunkKind::End => "end",
    }
}

/// Of the present columns.
pub(super) fn encodings(chunk: &ChunkInfo) -> Vec<&'static str> {
    let columns = chunk.header.columns.iter();
    columns
        .filter_map(|column| match column.content {
            ColumnContent::Present { encoding, .. } => Some(encoding.name()),
            ColumnContent::Absent(_) => None,
        })
        .collect()
}

#[derive(Serialize)]
pub(super) struct ChunkLine {
    stream: String,
    device: String,
    first_seq: u64,
    seq: u64,
    kind: &'static str,
    reason: &'static str,
    first_sample: u64,
    count: u64,
    from: String,
    encodings: Vec<&'static str>,
    column_bytes: Vec<u64>,
    markers: usize,
    digest: String,
    loaded_at: String,
    quarantined: bool,
    /// Where the stream is known.
    to: Option<String>,
    first_samples: Vec<FirstSamplesObject>,
}

#[derive(Serialize)]
struct FirstSamplesObject {
    signal: String,
    unit: String,
    /// Numbers that are not finite print as null.
    values: Vec<f64>,
}

impl ChunkLine {
    pub(super) fn new(chunk: &ChunkInfo, definition: Option<&StreamDefinition>) -> Self {
        let header = &chunk.header;
        let first_samples = chunk.first_samples.iter().map(|column| {
            let mut signals = definition.into_iter().flat_map(|definition| &definition.signals);
            let signal = signals.find(|signal| signal.number == column.signal);
            FirstSamplesObject {
                signal: signal.map_or_else(|| column.signal.to_string(), |signal| signal.name.clone()),
                unit: signal.map_or_else(String::new, |signal| signal.unit.clone()),
                values: column.values.clone(),
            }
        });
        Self {
            stream: chunk.stream.to_string(),
            device: chunk.device.clone(),
            first_seq: header.first_seq,
            seq: header.seq,
            kind: kind_name(chunk.header.kind),
            reason: header.reason.name(),
            first_sample: header.first_sample,
            count: header.count,
            from: rfc3339(header.utc_ns),
            encodings: encodings(chunk),
            column_bytes: chunk.column_bytes.clone(),
            markers: header.markers.len(),
            digest: chunk.digest.to_string(),
            loaded_at: rfc3339(chunk.loaded_at_ns),
            quarantined: chunk.quarantined,
            to: definition.map(|definition| rfc3339(end_ns(chunk, definition))),
            first_samples: first_samples.collect(),
        }
    }
}

/// UTC after a chunk's last sample, in nanoseconds.
pub(super) fn end_ns(chunk: &ChunkInfo, definition: &StreamDefinition) -> i64 {
    let header = &chunk.header;
    header.utc_ns.saturating_add(definition.duration_ns(header.count))
}

/// What is drawn of a signal: columns, or samples where there are few. Numbers that are not finite print as null.
#[derive(Serialize)]
pub(super) struct WaveformLine {
    device: String,
    signal: String,
    unit: String,
    from: Option<String>,
    to: Option<String>,
    sample_count: u64,
    gap_sample_count: u64,
    /// UTC of the first sample of each, in nanoseconds.
    time: Vec<i64>,
    #[serde(flatten)]
    values: Values,
    gaps: Vec<GapLine>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    Columns {
        min: Vec<f64>,
        max: Vec<f64>,
        mean: Vec<f64>,
        count: Vec<u64>,
    },
    Samples {
        samples: Vec<f64>,
    },
}

impl From<&Trace> for WaveformLine {
    fn from(trace: &Trace) -> Self {
        let points = || trace.points.iter();
        let spans = || trace.spans_ns.values();
        let missing = trace.missing();
        Self {
            device: trace.device.clone(),
            signal: trace.signal.clone(),
            unit: trace.unit.clone(),
            from: spans().map(|span| span.0).min().map(rfc3339),
            to: spans().map(|span| span.1).max().map(rfc3339),
            sample_count: trace.length.saturating_sub(missing),
            gap_sample_count: missing,
            time: points().map(|point| point.from_ns).collect(),
            values: if trace.has_columns {
                Values::Columns {
                    min: points().map(|point| point.min).collect(),
                    max: points().map(|point| point.max).collect(),
                    mean: points().map(|point| point.mean).collect(),
                    count: points().map(|point| point.count).collect(),
                }
            } else {
                let samples = points().map(|point| point.mean).collect();
                Values::Samples { samples }
            },
            gaps: trace.gaps.iter().map(GapLine::from).collect(),
        }
    }
}

/// Numbers that are not finite print as null.
#[derive(Serialize)]
pub(super) struct StatisticsLine {
    device: String,
    signal: String,
    unit: String,
    from: String,
    to: String,
    sample_count: u64,
    gap_sample_count: u64,
    finite_count: u64,
    min: f64,
    max: f64,
    mean: f64,
    std: f64,
    rms: f64,
    integral: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    energy_joule: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    charge_coulomb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    energy_watt_hour: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    charge_ampere_hour: Option<f64>,
    duration_s: f64,
    gap_s: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percentiles: Vec<PercentileObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    histogram: Option<HistogramObject>,
}

#[derive(Serialize)]
struct PercentileObject {
    percentile: f64,
    value: f64,
}

#[derive(Serialize)]
struct HistogramObject {
    from: f64,
    to: f64,
    counts: Vec<u64>,
    below: u64,
    above: u64,
}

impl From<&Statistics> for StatisticsLine {
    fn from(statistics: &Statistics) -> Self {
        Self {
            device: statistics.device.clone(),
            signal: statistics.signal.clone(),
            unit: statistics.unit.clone(),
            from: rfc3339(statistics.from_ns),
            to: rfc3339(statistics.to_ns),
            sample_count: statistics.sample_count,
            gap_sample_count: statistics.gap_sample_count,
            finite_count: statistics.finite_count,
            min: statistics.min,
            max: statistics.max,
            mean: statistics.mean,
            std: statistics.std,
            rms: statistics.rms,
            integral: statistics.integral,
            energy_joule: statistics.energy_joule,
            charge_coulomb: statistics.charge_coulomb,
            energy_watt_hour: statistics.energy_watt_hour(),
            charge_ampere_hour: statistics.charge_ampere_hour(),
            duration_s: statistics.duration_s,
            gap_s: statistics.gap_s,
            percentiles: (statistics.percentiles.iter())
                .map(|(percentile, value)| PercentileObject {
                    percentile: *percentile,
                    value: *value,
                })
                .collect(),
            histogram: statistics.histogram.as_ref().map(|histogram| HistogramObject {
                from: histogram.from,
                to: histogram.to,
                counts: histogram.counts.clone(),
                below: histogram.below,
                above: histogram.above,
            }),
        }
    }
}

/// What an export wrote.
#[derive(Serialize)]
pub(super) struct ExportLine {
    pub(super) output: String,
    pub(super) bytes: u64,
    pub(super) signals: Vec<String>,
    pub(super) types: Vec<&'static str>,
    pub(super) sample_count: u64,
    pub(super) filled_sample_count: u64,
    pub(super) skipped_sample_count: u64,
    pub(super) streams: Vec<String>,
}

/// One file of a directory.
#[derive(Debug, Serialize)]
pub(super) struct LakeLine {
    pub(super) file: String,
    pub(super) stream: String,
    pub(super) first_sample: u64,
    pub(super) end_sample: u64,
    pub(super) sample_count: u64,
    pub(super) bytes: u64,
}
