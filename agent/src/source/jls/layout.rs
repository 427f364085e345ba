//! How the signals of a JLS file become streams: which ones belong together, their names, their times, their notes. Pure.
//!
//! Signals of one source at one rate share a sample counter: they are one stream, as long as it is not too wide. Its time is that
//! of the first of them that has any; between two pairs of sample and time the axis goes on at the nominal rate, as always.

use std::collections::{BTreeMap, BTreeSet};

use wavekeep_proto::limits::{LABEL_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, SAMPLE_BITS_MAX, SIGNALS_MAX};
use wavekeep_proto::stream::Signal;

use super::format::{self, DataType};
use super::scan::Contents;
use super::{JlsError, ScanError};
use crate::time_axis::{Anchor, TimeAxis};

/// Signals that are replayed as one stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Their numbers are those that they have in the file.
    pub(super) signals: Vec<Signal>,
    pub(super) types: Vec<DataType>,
    pub(super) rate_hz: f64,
    pub(super) first: u64,
    pub(super) end: u64,
    /// At least one; in order of sample.
    pub(super) anchors: Vec<Anchor>,
    /// Sample and offset, in order.
    pub(super) markers: Vec<(u64, u64)>,
}

/// All of a file's streams.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) streams: Vec<Stream>,
    /// UTC of the first sample of all.
    pub(super) start_ns: i64,
    /// Annotations that stand at no sample that is replayed.
    pub(super) stray_annotations: u64,
}

impl Layout {
    /// `start_ns`, if it is given, counts instead of the times in the file.
    pub(super) fn new(contents: &Contents, start_ns: Option<i64>) -> Result<Self, JlsError> {
        let mut streams = group(contents)?;
        let mut start = start_ns;
        if start_ns.is_none() {
            for stream in &mut streams {
                stream.anchors = stream.anchors_in(contents);
                let Some(first) = stream.anchors.first() else { continue };
                let own = TimeAxis::new(stream.rate_hz, *first).utc_ns(stream.first);
                start = Some(start.map_or(own, |start| start.min(own)));
            }
        }
        let start_ns = start.ok_or(JlsError::NoStart)?;
        for stream in &mut streams {
            if stream.anchors.is_empty() {
                stream.anchors.push(Anchor {
                    sample: stream.first,
                    utc_ns: start_ns,
                });
            }
        }
        let mut layout = Self {
            streams,
            start_ns,
            stray_annotations: 0,
        };
        layout.place_annotations(contents);
        Ok(layout)
    }

    fn place_annotations(&mut self, contents: &Contents) {
        for annotation in &contents.annotations {
            let place = if annotation.signal == 0 {
                let utc_ns = format::utc_ns(annotation.at);
                self.streams
                    .iter_mut()
                    .find_map(|stream| stream.sample_at(utc_ns).map(|at| (stream, at)))
            } else {
                let number = u16::from(annotation.signal);
                let has = |stream: &&mut Stream| stream.signals.iter().any(|signal| signal.number == number);
                let stream = self.streams.iter_mut().find(has);
                stream.zip(u64::try_from(annotation.at).ok())
            };
            match place.filter(|(stream, sample)| (stream.first..=stream.end).contains(sample)) {
                Some((stream, sample)) => stream.markers.push((sample, annotation.offset)),
                None => self.stray_annotations += 1,
            }
        }
        for stream in &mut self.streams {
            stream.markers.sort_unstable();
        }
    }
}

impl Stream {
    /// Of the first signal that has pairs: those up to its end, from the last one on that stands at or before its start.
    fn anchors_in(&self, contents: &Contents) -> Vec<Anchor> {
        let numbers = self
            .signals
            .iter()
            .filter_map(|signal| u8::try_from(signal.number).ok());
        let times = numbers
            .filter_map(|number| contents.signals.get(&number))
            .map(|signal| &signal.times);
        let Some(times) = times.into_iter().find(|times| !times.is_empty()) else {
            return Vec::new();
        };
        let anchor = |(sample, utc_ns): &(i64, i64)| {
            let sample = u64::try_from(*sample).ok()?;
            Some(Anchor {
                sample,
                utc_ns: *utc_ns,
            })
        };
        let mut anchors: Vec<_> = times.iter().filter_map(anchor).collect();
        // Stable: of several times for one sample, the first holds.
        anchors.sort_by_key(|anchor| anchor.sample);
        anchors.dedup_by_key(|anchor| anchor.sample);
        let before = anchors.partition_point(|anchor| anchor.sample <= self.first);
        anchors.drain(..before.saturating_sub(1));
        let within = anchors.partition_point(|anchor| anchor.sample < self.end).max(1);
        anchors.truncate(within);
        anchors
    }

    /// The sample that was taken then, if there is one.
    fn sample_at(&self, utc_ns: i64) -> Option<u64> {
        let after = self.anchors.partition_point(|anchor| anchor.utc_ns <= utc_ns);
        let anchor = self.anchors.get(after.saturating_sub(1))?;
        let seconds = (i128::from(utc_ns) - i128::from(anchor.utc_ns)) as f64 / 1e9;
        let sample = anchor.sample as f64 + (seconds * self.rate_hz).round();
        // The conversion saturates; what lies before or after is none of its samples.
        (sample >= self.first as f64)
            .then_some(sample as u64)
            .filter(|sample| *sample < self.end)
    }
}

fn group(contents: &Contents) -> Result<Vec<Stream>, JlsError> {
    let recorded = || contents.signals.iter().filter(|(_, signal)| signal.range().is_some());
    let source_count = recorded()
        .map(|(_, signal)| signal.definition.source)
        .collect::<BTreeSet<_>>()
        .len();
    let mut taken = BTreeSet::new();
    let mut streams: Vec<((u16, u32), Stream)> = Vec::new();
    for (number, scanned) in recorded() {
        let definition = &scanned.definition;
        let Some(range) = scanned
            .range()
            .filter(|_| definition.has_fixed_rate && definition.rate_hz > 0)
        else {
            continue;
        };
        let source = contents.sources.get(&definition.source).filter(|_| source_count > 1);
        let name = name(
            *number,
            &definition.name,
            source.map(|source| source.name.as_str()),
            &mut taken,
        );
        let sample_type = definition.data_type.sample_type().ok_or_else(|| JlsError::SampleType {
            signal: name.clone(),
            sample_type: definition.data_type.name(),
        })?;
        let signal = Signal {
            number: u16::from(*number),
            name,
            sample_type,
            unit: if definition.unit.len() <= NAME_BYTES_MAX {
                definition.unit.clone()
            } else {
                String::new()
            },
            finite_only: false,
        };
        let key = (definition.source, definition.rate_hz);
        let fits = |stream: &Stream| {
            let bits: u32 = stream.signals.iter().map(|signal| signal.sample_type.bits()).sum();
            bits + sample_type.bits() <= SAMPLE_BITS_MAX && stream.signals.len() < SIGNALS_MAX
        };
        match streams.iter_mut().find(|(of, stream)| *of == key && fits(stream)) {
            Some((_, stream)) => {
                stream.first = stream.first.min(range.start);
                stream.end = stream.end.max(range.end);
                stream.signals.push(signal);
                stream.types.push(definition.data_type);
            }
            None => streams.push((
                key,
                Stream {
                    signals: vec![signal],
                    types: vec![definition.data_type],
                    rate_hz: f64::from(definition.rate_hz),
                    first: range.start,
                    end: range.end,
                    anchors: Vec::new(),
                    markers: Vec::new(),
                },
            )),
        }
    }
    if streams.is_empty() {
        return Err(JlsError::Scan(ScanError::NoSamples));
    }
    Ok(streams.into_iter().map(|(_, stream)| stream).collect())
}

/// The signal's own name, behind its source's where there are several; made usable and unique.
fn name(number: u8, own: &str, source: Option<&str>, taken: &mut BTreeSet<String>) -> String {
    let is_usable = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
    let mut name = if is_usable(own) {
        own.to_owned()
    } else {
        format!("signal_{number}")
    };
    if let Some(source) = source.filter(|source| is_usable(source)) {
        name = format!("{source}.{name}");
    }
    if name.len() > NAME_BYTES_MAX {
        name = format!("signal_{number}");
    }
    if taken.contains(&name) {
        name = format!("signal_{number}");
        // Somebody may call another signal that.
        while taken.contains(&name) {
            name.push('_');
        }
    }
    taken.insert(name.clone());
    name
}

/// What the file says of itself, as labels; those that are none are left out, and counted.
pub(super) fn labels(contents: &Contents) -> (BTreeMap<String, String>, u64) {
    let mut labels = BTreeMap::new();
    let mut left = 0;
    let mut add = |key: String, value: &str| {
        let is_text = value.chars().all(|c| !c.is_control() || c == '\n' || c == '\t');
        if is_text && key.len().max(value.len()) <= LABEL_BYTES_MAX && labels.len() < LABELS_MAX {
            let mut key = key;
            while labels.contains_key(&key) {
                key.push('\'');
            }
            labels.insert(key, value.to_owned());
        } else {
            left += 1;
        }
    };
    for data in &contents.user_data {
        let key = if data.number == 0 {
            "notes".into()
        } else {
            format!("user_data.{}", data.number)
        };
        add(key, &data.text);
    }
    let recorded = contents.signals.values().filter(|signal| signal.range().is_some());
    let used: BTreeSet<u16> = recorded.map(|signal| signal.definition.source).collect();
    for (number, source) in contents.sources.iter().filter(|(number, _)| used.contains(number)) {
        let prefix = if used.len() > 1 {
            format!("source.{number}")
        } else {
            "source".into()
        };
        let facts = [
            ("name", &source.name),
            ("vendor", &source.vendor),
            ("model", &source.model),
            ("version", &source.version),
            ("serial_number", &source.serial_number),
        ];
        for (key, value) in facts
            .into_iter()
            .filter(|(_, value)| !value.is_empty() && *value != "-")
        {
            add(format!("{prefix}.{key}"), value);
        }
    }
    for signal in contents
        .signals
        .values()
        .filter(|signal| signal.definition.data_type.fixed_point != 0)
    {
        let key = format!("signal.{}.fixed_point", signal.definition.name);
        add(key, &signal.definition.data_type.fixed_point.to_string());
    }
    (labels, left)
}
