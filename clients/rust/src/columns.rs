//! What is drawn of a stream: columns of min, max and mean, checked as far as they can be. Pure: no I/O.
//!
//! # Invariants
//! - I9: the columns of a signal tile the range of the manifest: the first starts at its start, each next one at a multiple of the
//!   width, the last ends at its end. None counts more samples than it spans, and all of them no more than lie outside of gaps.
//! - I12: an answer has at most `points_max` columns of a signal of a stream; what came is given out, and only counted here.

use std::collections::BTreeMap;

use wavekeep_proto::id::Hash;
use wavekeep_proto::power::{POWER_NAME, POWER_NUMBER, POWER_UNIT, power_of};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{hash, limits, v1};

use crate::error::BadColumns;
use crate::listing::Gap;
use crate::manifest::same;
use crate::{Error, Fault, StreamInfo, StreamManifest, TimeRange};

/// A mean may lie outside of min and max by so much of the larger of them: sums of billions of samples are rounded.
const MEAN_ROUNDING: f64 = 1e-6;
/// 16^15 is the largest level whose buckets fit into the axis.
const LEVEL_MAX: u32 = 15;

/// Columns of one signal, one after the other. A signal's columns may come in several parts, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    /// Its place in `stream.definition.signals`; None for `power`, which is derived.
    pub signal: Option<usize>,
    /// Its name.
    pub name: String,
    /// SI symbol.
    pub unit: String,
    /// They were folded from buckets of 16^level samples.
    pub level: u32,
    /// Where the first one starts on the sample axis.
    pub first_sample: u64,
    /// Where the last one ends.
    pub to_sample: u64,
    /// Each ends at the next multiple of this.
    pub bucket_samples: u64,
    /// UTC of each one's first sample, in nanoseconds.
    pub time_ns: Vec<i64>,
    /// The smallest finite sample; NaN where there is none.
    pub min: Vec<f64>,
    /// The largest.
    pub max: Vec<f64>,
    /// Their mean.
    pub mean: Vec<f64>,
    /// Finite samples.
    pub count: Vec<u64>,
}

impl Columns {
    /// The samples of the axis that each one spans: from, to.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (first, to, width) = (self.first_sample, self.to_sample, self.bucket_samples);
        let ends = move |from: u64| (from / width).saturating_add(1).saturating_mul(width).min(to);
        std::iter::successors(Some((first, ends(first))), move |(_, end)| {
            (*end < to).then(|| (*end, ends(*end)))
        })
    }
}

/// What came of a signal.
#[derive(Debug)]
struct Drawn {
    signal: Option<usize>,
    name: String,
    unit: String,
    /// Where the columns start, where they end so far, how wide they are, and their level.
    at: Option<(u64, u64, u64, u32)>,
    columns: u64,
    counted: u64,
    /// Samples in gaps of this signal alone.
    missing: u64,
}

/// What came of a stream.
#[derive(Debug)]
pub(crate) struct ColumnsCheck {
    /// The signals asked for, by number.
    signals: BTreeMap<u32, Drawn>,
    /// Samples in gaps of all signals.
    missing: u64,
    /// From the first gap's start to the last one's end.
    gaps_span: Option<(u64, u64)>,
}

impl ColumnsCheck {
    /// `asked`: places in the definition; `names`: what was asked for.
    pub(crate) fn new(definition: &StreamDefinition, asked: &[usize], names: &[String]) -> Self {
        let drawn = |signal, name: &str, unit: &str| Drawn {
            signal,
            name: name.into(),
            unit: unit.into(),
            at: None,
            columns: 0,
            counted: 0,
            missing: 0,
        };
        let stored = asked.iter().map(|place| {
            let signal = &definition.signals[*place];
            let drawn = drawn(Some(*place), &signal.name, &signal.unit);
            (u32::from(signal.number), drawn)
        });
        let mut signals: BTreeMap<u32, Drawn> = stored.collect();
        let power_asked = names.is_empty() || names.iter().any(|name| name == POWER_NAME);
        if power_asked && power_of(definition).is_some() {
            signals.insert(POWER_NUMBER, drawn(None, POWER_NAME, POWER_UNIT));
        }
        Self {
            signals,
            missing: 0,
            gaps_span: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.signals.is_empty()
    }

    /// Did any columns come?
    pub(crate) fn has_columns(&self) -> bool {
        self.signals.values().any(|drawn| drawn.at.is_some())
    }

    /// Takes the next columns of a signal.
    pub(crate) fn take(
        &mut self,
        info: &StreamInfo,
        wire: v1::WaveformColumns,
        range: TimeRange,
        points_max: u32,
    ) -> Result<Columns, Fault> {
        let first_sample = wire.first_sample;
        let Some(drawn) = self.signals.get_mut(&wire.signal) else {
            return Err(Fault::Drawn {
                signal: wire.signal.to_string(),
                first_sample,
                why: BadColumns::Signal,
            });
        };
        let stored = (info.definition.first_sample, info.at.next_sample);
        let checked = drawn
            .place(&wire, stored, points_max)
            .and_then(|()| check_time(drawn, &wire, range))
            .and_then(|()| drawn.values(&wire));
        checked.map_err(|why| Fault::Drawn {
            signal: drawn.name.clone(),
            first_sample,
            why,
        })?;
        let start = drawn.at.map_or(first_sample, |(start, ..)| start);
        drawn.at = Some((start, wire.to_sample, wire.bucket_samples, wire.level));
        Ok(Columns {
            signal: drawn.signal,
            name: drawn.name.clone(),
            unit: drawn.unit.clone(),
            level: wire.level,
            first_sample,
            to_sample: wire.to_sample,
            bucket_samples: wire.bucket_samples,
            time_ns: wire.time_ns,
            min: wire.min,
            max: wire.max,
            mean: wire.mean,
            count: wire.count,
        })
    }

    /// Takes the gaps that a manifest names.
    pub(crate) fn gaps(&mut self, info: &StreamInfo, stated: &[v1::Gap]) -> Result<Vec<Gap>, Error> {
        let stream = info.id();
        let mut gaps = Vec::with_capacity(stated.len());
        for wire in stated {
            let gap = Gap::from_wire(wire.clone())?;
            let end = gap.first_sample.checked_add(gap.count).filter(|_| gap.count > 0);
            let stored = info.definition.first_sample..=info.at.next_sample;
            let inside = end.is_some_and(|end| stored.contains(&gap.first_sample) && stored.contains(&end));
            if gap.stream != stream || !inside {
                let fault = Fault::Manifest {
                    what: "a gap",
                    stated: format!("{} samples from {} on", gap.count, gap.first_sample),
                    found: format!("a stream of samples {}..{}", stored.start(), stored.end()),
                };
                return Err(Error::Refuted { stream, fault });
            }
            let (start, end) = (gap.first_sample, gap.first_sample + gap.count);
            let span = self.gaps_span.unwrap_or((start, end));
            self.gaps_span = Some((span.0.min(start), span.1.max(end)));
            if gap.signals.is_empty() {
                self.missing = self.missing.saturating_add(gap.count);
            }
            for drawn in self.signals.values_mut() {
                if gap.signals.contains(&drawn.name) {
                    drawn.missing = drawn.missing.saturating_add(gap.count);
                }
            }
            gaps.push(gap);
        }
        Ok(gaps)
    }

    /// Holds the manifest against what came.
    pub(crate) fn totals(
        &self,
        info: &StreamInfo,
        stated: &v1::StreamManifest,
        range: TimeRange,
    ) -> Result<StreamManifest, Fault> {
        let (from, to) = (stated.from_sample, stated.to_sample);
        let length = to.checked_sub(from).ok_or_else(|| Fault::Manifest {
            what: "the end of the range",
            stated: to.to_string(),
            found: format!("a start at {from}"),
        })?;
        for drawn in self.signals.values() {
            let (start, end) = drawn.at.map_or((from, from), |(start, end, ..)| (start, end));
            same("where a signal's columns start", from, start)?;
            same("where a signal's columns end", to, end)?;
            let missing = self.missing.saturating_add(drawn.missing);
            let (count, samples) = (drawn.counted, length.saturating_sub(missing));
            if count > samples {
                return Err(Fault::Drawn {
                    signal: drawn.name.clone(),
                    first_sample: from,
                    why: BadColumns::Count { count, samples },
                });
            }
        }
        let counted = stated.sample_count.saturating_add(stated.gap_sample_count);
        same("the number of samples, stored and missing", counted, length)?;
        if self.missing > stated.gap_sample_count {
            same("the number of missing samples", stated.gap_sample_count, self.missing)?;
        }
        let gaps = self.gaps_span.unwrap_or((from, to));
        same("where the first gap may start", from, gaps.0.min(from))?;
        same("where the last gap may end", to, gaps.1.max(to))?;
        same("the number of chunks", stated.chunks, 0)?;
        ends(info, stated, range)
    }
}

impl Drawn {
    /// Do they continue what came, within the stream and within what was asked for?
    fn place(&mut self, wire: &v1::WaveformColumns, stored: (u64, u64), points_max: u32) -> Result<(), BadColumns> {
        let (first, to, width) = (wire.first_sample, wire.to_sample, wire.bucket_samples);
        if first < stored.0 || first >= to || to > stored.1 {
            let to_sample = to;
            return Err(BadColumns::Outside { to_sample, stored });
        }
        if width == 0 || width > limits::SAMPLE_ID_MAX || wire.level > LEVEL_MAX {
            return Err(BadColumns::Bucket {
                bucket_samples: width,
                level: wire.level,
            });
        }
        if let Some((_, expected, bucket_samples, level)) = self.at {
            // Only the last column of all may be cut short.
            let goes_on = expected.is_multiple_of(bucket_samples);
            if !goes_on || (expected, bucket_samples, level) != (first, width, wire.level) {
                return Err(BadColumns::NotContinued {
                    expected,
                    bucket_samples,
                });
            }
        }
        let expected = (to - 1) / width - first / width + 1;
        self.columns = self.columns.saturating_add(expected);
        if self.columns > u64::from(points_max) {
            return Err(BadColumns::TooMany {
                max: points_max.into(),
                found: self.columns,
            });
        }
        let lengths = [
            wire.time_ns.len(),
            wire.min.len(),
            wire.max.len(),
            wire.mean.len(),
            wire.count.len(),
        ];
        let wrong = lengths
            .into_iter()
            .map(|found| found as u64)
            .filter(|found| *found != expected);
        match wrong.max_by_key(|found| found.abs_diff(expected)) {
            Some(found) => Err(BadColumns::Length { expected, found }),
            None => Ok(()),
        }
    }

    /// Does each say something that samples can say?
    fn values(&mut self, wire: &v1::WaveformColumns) -> Result<(), BadColumns> {
        let (mut from, width) = (wire.first_sample, wire.bucket_samples);
        for at in 0..wire.count.len() {
            let end = (from / width + 1).saturating_mul(width).min(wire.to_sample);
            let (count, samples) = (wire.count[at], end - from);
            if count > samples {
                return Err(BadColumns::Count { count, samples });
            }
            check_order(count, wire.min[at], wire.mean[at], wire.max[at])?;
            // At most as many as the stream has samples: no overflow.
            self.counted += count;
            from = end;
        }
        Ok(())
    }
}

fn check_order(count: u64, min: f64, mean: f64, max: f64) -> Result<(), BadColumns> {
    if count == 0 {
        let empty = min.is_nan() && mean.is_nan() && max.is_nan();
        return if empty { Ok(()) } else { Err(BadColumns::NotEmpty) };
    }
    let largest = min.abs().max(max.abs());
    let slack = largest * MEAN_ROUNDING;
    let within = min - slack <= mean && mean <= max + slack;
    // The sum of huge samples overflows, and has no mean.
    let overflows = !(largest * count as f64).is_finite();
    if min.is_finite() && max.is_finite() && min <= max && (within || overflows) {
        Ok(())
    } else {
        Err(BadColumns::Order { min, mean, max })
    }
}

/// The first column starts with the first sample at or after the start of the range, so it starts in the range.
fn check_time(drawn: &Drawn, wire: &v1::WaveformColumns, range: TimeRange) -> Result<(), BadColumns> {
    let Some(start_ns) = wire.time_ns.first().filter(|_| drawn.at.is_none()) else {
        return Ok(());
    };
    let early = range.from_ns.is_some_and(|from_ns| *start_ns < from_ns);
    let late = range.to_ns.is_some_and(|to_ns| *start_ns >= to_ns);
    if early || late { Err(BadColumns::Time) } else { Ok(()) }
}

/// The chunks that the columns were drawn from, as far as anything is known of them.
fn ends(info: &StreamInfo, stated: &v1::StreamManifest, range: TimeRange) -> Result<StreamManifest, Fault> {
    let (definition, at) = (&info.definition, info.at);
    let (first_seq, last_seq) = (stated.first_seq, stated.last_seq);
    if first_seq == 0 || first_seq > last_seq || last_seq > at.seq {
        return Err(Fault::Manifest {
            what: "the range of seqs",
            stated: format!("{first_seq} to {last_seq}"),
            found: format!("1 to {}", at.seq),
        });
    }
    let digest = Hash::from_slice(&stated.digest).unwrap_or_default();
    if last_seq == at.seq {
        same("the digest at the watermark", digest, at.digest)?;
        if range.to_ns.is_none() {
            same("the end of the range", stated.to_sample, at.next_sample)?;
        }
    }
    let is_first = first_seq == 1;
    if is_first && range.from_ns.is_none() {
        same("the first sample", stated.from_sample, definition.first_sample)?;
    }
    let of_definition = is_first.then(|| hash::definition_hash(definition));
    let digest_before = match &stated.digest_before[..] {
        [] => of_definition,
        bytes => Some(Hash::from_slice(bytes).unwrap_or_default()),
    };
    if let (Some(expected), Some(found)) = (of_definition, digest_before) {
        same("the digest before seq 1", found, expected)?;
    }
    Ok(StreamManifest {
        stream: info.id(),
        from_sample: stated.from_sample,
        to_sample: stated.to_sample,
        sample_count: stated.sample_count,
        gap_sample_count: stated.gap_sample_count,
        first_seq,
        last_seq,
        digest_before,
        digest,
        chunks: 0,
    })
}
