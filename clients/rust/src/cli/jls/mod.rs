//! A JLS v2 file, as Joulescope's software and `pyjls` read it: one source, a signal with a fixed rate for each of ours, their times,
//! annotations and summaries. Pure over `Write + Seek`.
//!
//! Samples are numbered from 0 on. The time of the first one is in the file, of one each minute, and of each before which the axis jumps.
//! The facts of the export, digests among them, are user data in JSON.
//!
//! # Invariants
//! - Samples come out bit for bit. A filled one is the quiet NaN that the official writer fills skipped runs with.
//! - Nothing in the file says when it was written: the same selection gives the same bytes.

mod chunks;
mod notes;
mod samples;

use std::io::{self, Seek, Write};

use wavekeep::proto::chunk::{Marker, MarkerFormat};
use wavekeep::proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep::{Block, StreamInfo};

use self::chunks::{Chunks, List, meta, string, tag};
use self::notes::{NOTES_PER_INDEX, Notes};
use self::samples::{LEVELS, Samples, Shape};
use super::failure::Failure;
use super::limits::{FILL_SAMPLES, MARKERS_WAITING_MAX};
use super::raw::nan;

/// 2018-01-01T00:00:00Z, where JLS time starts, in nanoseconds since 1970.
const EPOCH_NS: i64 = 1_514_764_800_000_000_000;
/// Between two times that are written though nothing jumped.
const UTC_SECONDS: f64 = 60.0;
/// User data of this number is ours: an object of the export's facts.
const FACTS: u16 = 0x77;
const JSON: u16 = 3 << 12;

/// One signal and its tracks.
#[derive(Debug)]
struct Track {
    samples: Samples,
    annotations: Notes,
    times: Notes,
    /// Where the heads of the three stand.
    heads: [u64; 3],
    sample_type: SampleType,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct JlsFile {
    chunks: Chunks,
    user_data: List,
    tracks: Vec<Track>,
    /// Samples so far.
    position: u64,
    /// The last time that was written, and for which sample.
    time: Option<(u64, i64)>,
    /// Notes on samples that are still to come, by their ids.
    markers: Vec<Marker>,
}

/// What JLS cannot hold, in words.
fn require_possible(definition: &StreamDefinition, signals: &[&Signal]) -> Result<u32, Failure> {
    let rate = definition.rate_hz;
    if rate.fract() != 0.0 || rate > f64::from(u32::MAX) {
        return Err(Failure::Failed(format!(
            "JLS has whole samples per second, and this is {rate} Hz: export --format parquet or csv"
        )));
    }
    if signals.len() > 255 {
        return Err(Failure::Failed(
            "JLS has at most 255 signals: choose some with --signal".into(),
        ));
    }
    match signals.iter().find(|signal| Shape::of(signal.sample_type).is_none()) {
        None => Ok(rate as u32),
        Some(signal) => Err(Failure::Failed(format!(
            "{} is {}, which JLS has not: choose other signals with --signal, or export --format raw or csv",
            signal.name,
            signal.sample_type.name()
        ))),
    }
}

impl JlsFile {
    /// Refuses what JLS cannot hold; otherwise begins the file.
    pub(super) fn begin(
        out: &mut (impl Write + Seek),
        info: &StreamInfo,
        signals: &[&Signal],
    ) -> Result<io::Result<Self>, Failure> {
        let rate_hz = require_possible(&info.definition, signals)?;
        Ok(Self::define(out, info, signals, rate_hz))
    }

    fn define(out: &mut (impl Write + Seek), info: &StreamInfo, signals: &[&Signal], rate_hz: u32) -> io::Result<Self> {
        let mut chunks = Chunks::begin(out)?;
        let (mut user_data, mut sources, mut definitions) = (List::default(), List::default(), List::default());
        chunks.append(out, &mut user_data, tag::USER_DATA, 0, &[])?;
        // What is about the file as a whole has a source and a signal of its own, of no rate.
        let global = ["global_annotation_source", "jls", "-", "1.0.0", "-"];
        chunks.append(out, &mut sources, tag::SOURCE, 0, &source(global))?;
        let attribute = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| info.definition.attributes.get(*name));
            found.map_or("-", |value| value.as_str())
        };
        let device = [
            &*info.definition.device,
            attribute(["vendor", "manufacturer"]),
            attribute(["model", "product"]),
            attribute(["firmware", "version"]),
            attribute(["serial", "serial_number"]),
        ];
        let global = signal((0, 1), (0x2004, 0), (16, 16, 10, 10), ("global_annotation_signal", ""));
        chunks.append(out, &mut definitions, tag::SIGNAL, 0, &global)?;
        for track in [tag::VARIABLE_RATE, tag::ANNOTATION] {
            define_track(&mut chunks, out, &mut definitions, track, 0)?;
        }
        chunks.append(out, &mut sources, tag::SOURCE, 1, &source(device))?;
        let mut tracks = Vec::new();
        for (number, of) in (1..).zip(signals) {
            let shape = Shape::of(of.sample_type).expect("it was looked at");
            let sizes = (
                shape.samples_per_chunk,
                shape.samples_per_entry,
                shape.entries_per_chunk,
                20,
            );
            let definition = signal((1, 0), (shape.data_type, rate_hz), sizes, (&of.name, &of.unit));
            chunks.append(out, &mut definitions, tag::SIGNAL, number, &definition)?;
            let mut heads = [0; 3];
            for (head, track) in heads.iter_mut().zip([tag::FIXED_RATE, tag::ANNOTATION, tag::UTC]) {
                *head = define_track(&mut chunks, out, &mut definitions, track, number)?;
            }
            tracks.push(Track {
                samples: Samples::new(number, of.sample_type, shape),
                annotations: Notes::new(tag::ANNOTATION, number),
                times: Notes::new(tag::UTC, number),
                heads,
                sample_type: of.sample_type,
            });
        }
        Ok(Self {
            chunks,
            user_data,
            tracks,
            position: 0,
            time: None,
            markers: Vec::new(),
        })
    }

    /// Keeps notes for the samples that follow; how many do not fit.
    pub(super) fn markers(&mut self, markers: Vec<Marker>) -> usize {
        let room = MARKERS_WAITING_MAX - self.markers.len();
        let lost = markers.len().saturating_sub(room);
        self.markers.extend(markers.into_iter().take(room));
        lost
    }

    pub(super) fn samples(&mut self, out: &mut (impl Write + Seek), block: &Block<'_>) -> io::Result<()> {
        self.tell_time(out, &block.stream.definition, block.utc_ns)?;
        let end = block.first_sample + block.count;
        // What stands before the first sample of all stands outside of what is exported.
        let is_start = self.position == 0;
        self.markers
            .retain(|marker| !(is_start && marker.sample < block.first_sample));
        self.markers.sort_by_key(|marker| marker.sample);
        let due = self.markers.partition_point(|marker| marker.sample < end);
        let due: Vec<_> = self.markers.drain(..due).collect();
        for marker in due {
            let after = marker.sample.saturating_sub(block.first_sample);
            self.annotate(out, self.position + after, &marker)?;
        }
        for (track, column) in self.tracks.iter_mut().zip(block.columns) {
            match column.bytes() {
                Some(bytes) => track.samples.add(&mut self.chunks, out, bytes, block.count)?,
                None => track.fill(&mut self.chunks, out, block.count)?,
            }
        }
        self.position += block.count;
        Ok(())
    }

    /// NaN for so many samples from a time on.
    pub(super) fn missing(
        &mut self,
        out: &mut (impl Write + Seek),
        definition: &StreamDefinition,
        from_ns: i64,
        count: u64,
    ) -> io::Result<()> {
        self.tell_time(out, definition, from_ns)?;
        for track in &mut self.tracks {
            track.fill(&mut self.chunks, out, count)?;
        }
        self.position += count;
        Ok(())
    }

    /// Writes the time of the next sample, where it does not follow from the last one that was written, or that is long ago.
    fn tell_time(
        &mut self,
        out: &mut (impl Write + Seek),
        definition: &StreamDefinition,
        utc_ns: i64,
    ) -> io::Result<()> {
        if let Some((sample, told_ns)) = self.time {
            let passed = self.position - sample;
            let off_ns = utc_ns.saturating_sub(told_ns.saturating_add(definition.duration_ns(passed)));
            let is_late = passed as f64 >= UTC_SECONDS * definition.rate_hz;
            if off_ns.saturating_abs() <= definition.duration_ns(1) / 2 && !is_late {
                return Ok(());
            }
        }
        self.time = Some((self.position, utc_ns));
        let sample = self.position.cast_signed();
        let time = time(utc_ns).to_le_bytes();
        let mut summary = [0; 16];
        summary[..8].copy_from_slice(&sample.to_le_bytes());
        summary[8..].copy_from_slice(&time);
        for track in &mut self.tracks {
            track.times.add(&mut self.chunks, out, (sample, &time), (64, summary))?;
        }
        Ok(())
    }

    /// A note belongs to the first signal.
    fn annotate(&mut self, out: &mut (impl Write + Seek), sample: u64, marker: &Marker) -> io::Result<()> {
        let Some(track) = self.tracks.first_mut() else {
            return Ok(());
        };
        // Text, vertical and horizontal marks have numbers of their own; all others are an application's.
        let kind = u8::try_from(marker.kind)
            .ok()
            .filter(|kind| *kind < 3)
            .map_or(0, |kind| kind + 1);
        let y = (marker.y as f32).to_le_bytes();
        let is_text = marker.format != MarkerFormat::Bytes;
        let storage = match marker.format {
            MarkerFormat::Bytes => 1,
            MarkerFormat::Text => 2,
            MarkerFormat::Json => 3,
        };
        let mut note = vec![kind, storage, marker.group, 0];
        note.extend(y);
        note.extend((marker.content.len() as u32 + u32::from(is_text)).to_le_bytes());
        note.extend_from_slice(&marker.content);
        if is_text {
            note.extend([0, 0x1f]);
        }
        let sample = sample.cast_signed();
        let mut summary = [0; 16];
        summary[..8].copy_from_slice(&sample.to_le_bytes());
        summary[8..12].copy_from_slice(&[kind, marker.group, 0, 0]);
        summary[12..].copy_from_slice(&y);
        track
            .annotations
            .add(&mut self.chunks, out, (sample, &note), (0, summary))
    }

    /// Ends the file; its length.
    pub(super) fn finish(mut self, out: &mut (impl Write + Seek), facts: &[(String, String)]) -> io::Result<u64> {
        let (end, markers) = (self.position, std::mem::take(&mut self.markers));
        for marker in markers.iter().filter(|_| end > 0) {
            self.annotate(out, end, marker)?;
        }
        for track in &mut self.tracks {
            track.samples.finish(&mut self.chunks, out)?;
            track.annotations.finish(&mut self.chunks, out)?;
            track.times.finish(&mut self.chunks, out)?;
            let heads = [&track.samples.heads, &track.annotations.heads, &track.times.heads];
            for (place, offsets) in track.heads.iter().zip(heads) {
                self.chunks.replace(out, *place, &head(offsets))?;
            }
        }
        let facts: serde_json::Map<String, serde_json::Value> = facts
            .iter()
            .map(|(key, value)| {
                let value = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into());
                (key.clone(), value)
            })
            .collect();
        let mut json = serde_json::to_vec(&facts)?;
        json.push(0);
        self.chunks
            .append(out, &mut self.user_data, tag::USER_DATA, FACTS | JSON, &json)?;
        self.chunks.finish(out)
    }
}

impl Track {
    fn fill(&mut self, chunks: &mut Chunks, out: &mut (impl Write + Seek), count: u64) -> io::Result<()> {
        let piece = nan(self.sample_type).repeat(count.min(FILL_SAMPLES) as usize);
        let mut left = count;
        while left > 0 {
            let now = left.min(FILL_SAMPLES);
            self.samples.add(chunks, out, &piece, now)?;
            left -= now;
        }
        Ok(())
    }
}

/// In 2^-30 s since 2018.
fn time(utc_ns: i64) -> i64 {
    let ns = i128::from(utc_ns) - i128::from(EPOCH_NS);
    // Of any i64 of nanoseconds there are fewer of 2^-30 s than 1.1 times as many, which may not fit; nobody lives then.
    let time = ((ns << 30) + 500_000_000).div_euclid(1_000_000_000);
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

fn head(offsets: &[u64; LEVELS]) -> Vec<u8> {
    offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect()
}

/// Defines a track; where its head stands.
fn define_track(
    chunks: &mut Chunks,
    out: &mut (impl Write + Seek),
    definitions: &mut List,
    track: u8,
    signal: u16,
) -> io::Result<u64> {
    chunks.append(out, definitions, track, meta(signal, 0), &[])?;
    chunks.append(
        out,
        definitions,
        track | tag::HEAD,
        meta(signal, 0),
        &head(&[0; LEVELS]),
    )
}

/// Name, vendor, model, version, serial number.
fn source(texts: [&str; 5]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    texts.iter().for_each(|text| string(&mut bytes, text));
    bytes
}

/// Source and kind; type and rate; samples of a chunk, samples of an entry, entries of a chunk, entries of an entry; name and unit.
fn signal(
    (source, kind): (u16, u8),
    (data_type, rate_hz): (u32, u32),
    sizes: (u32, u32, u32, u32),
    (name, unit): (&str, &str),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_le_bytes());
    bytes.extend([kind, 0]);
    let notes = NOTES_PER_INDEX as u32;
    for number in [data_type, rate_hz, sizes.0, sizes.1, sizes.2, sizes.3, notes, notes] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.resize(128, 0);
    string(&mut bytes, name);
    string(&mut bytes, unit);
    bytes
}
