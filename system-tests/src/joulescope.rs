//! Holds what is stored of emulated JS220s against their documented waveform, bit by bit.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use wavekeep_joulescope_emulator::wave::{Wave, to_f32};
use wavekeep_proto::chunk::{ChunkKind, Header, Marker, Reason};

use crate::lab::Lab;
use crate::stored::{self, Sink, StoredStream};

/// What is stored of current and voltage, all of which is true, and what is not.
pub struct Truth {
    wave: Wave,
    /// Samples that are stored.
    pub stored: u64,
    /// Samples in gaps.
    pub gaps: BTreeMap<Reason, u64>,
    /// The same, one by one, as numbers of samples.
    pub holes: Vec<(Reason, Range<u64>)>,
    /// At which sample, and what they say.
    pub markers: Vec<(u64, String)>,
    /// The first one's number.
    pub first: Option<u64>,
    /// The number after the last one.
    pub next: u64,
}

impl Truth {
    /// Of an instrument with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            wave: Wave::new(seed),
            stored: 0,
            gaps: BTreeMap::new(),
            holes: Vec::new(),
            markers: Vec::new(),
            first: None,
            next: 0,
        }
    }

    /// Samples that were captured: stored, or in gaps.
    #[must_use]
    pub fn captured(&self) -> u64 {
        self.stored + self.gaps.values().sum::<u64>()
    }

    fn reached(&mut self, first: u64, end: u64) -> Result<()> {
        let expected = *self.first.get_or_insert(first);
        ensure!(
            self.next == 0 && expected == first || self.next == first,
            "I4: {first} comes after {}",
            self.next
        );
        self.next = end;
        Ok(())
    }
}

impl Sink for Truth {
    fn samples(&mut self, header: &Header, columns: &[Option<Vec<u8>>]) -> Result<()> {
        let (first, end) = (header.first_sample, header.end_sample());
        let (mut current, mut voltage) = (Vec::new(), Vec::new());
        self.wave.analog(first, end, |sample| {
            current.extend(to_f32(sample.i).to_le_bytes());
            voltage.extend(to_f32(sample.v).to_le_bytes());
        });
        for (column, truth) in columns.iter().zip([current, voltage]) {
            ensure!(
                column.as_ref().is_none_or(|column| *column == truth),
                "samples {first}..{end} are not those of the waveform"
            );
        }
        self.stored += header.count;
        let note = |marker: &Marker| (marker.sample, String::from_utf8_lossy(&marker.content).into_owned());
        self.markers.extend(header.markers.iter().map(note));
        self.reached(first, end)
    }

    fn gap(&mut self, header: &Header) -> Result<()> {
        ensure!(header.kind == ChunkKind::Gap, "a gap is one");
        let (first, end) = (header.first_sample, header.end_sample());
        *self.gaps.entry(header.reason).or_default() += header.count;
        self.holes.push((header.reason, first..end));
        self.reached(first, end)
    }
}

/// The streams of a device that have this signal, oldest first; and what is in each, with instruments of these seeds: one stream for
/// each opening.
pub fn check(lab: &Lab, device: &str, signal: &str, seeds: &[u64]) -> Result<Vec<(StoredStream, Truth)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = stored::sql(&lab.database_url()?).await?;
        let mut streams = stored::streams(&mut connection, device).await?;
        streams.retain(|stream| stream.definition.signals.iter().any(|own| own.name == signal));
        ensure!(
            streams.len() == seeds.len(),
            "{device}: {} streams for {} openings",
            streams.len(),
            seeds.len()
        );
        let mut checked = Vec::new();
        for (stream, seed) in streams.into_iter().zip(seeds) {
            let mut truth = Truth::new(*seed);
            stored::read_by_sql(&mut connection, &stream, &mut truth).await?;
            checked.push((stream, truth));
        }
        Ok(checked)
    })
}

/// What is stored of current, if the agent has decimated it: by the first sample's number.
#[derive(Default)]
pub struct Decimated(pub BTreeMap<u64, Vec<f32>>);

impl Sink for Decimated {
    fn samples(&mut self, header: &Header, columns: &[Option<Vec<u8>>]) -> Result<()> {
        let bytes = columns.first().and_then(Option::as_ref).context("current is there")?;
        let samples = bytes.as_chunks().0.iter().map(|sample| f32::from_le_bytes(*sample));
        self.0.insert(header.first_sample, samples.collect());
        Ok(())
    }

    fn gap(&mut self, header: &Header) -> Result<()> {
        anyhow::bail!("{} samples are missing: {:?}", header.count, header.reason)
    }
}

/// The rate of a device's only stream of current and voltage, and what is stored of current.
pub fn decimated(lab: &Lab, device: &str) -> Result<(f64, Decimated)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = stored::sql(&lab.database_url()?).await?;
        let mut streams = stored::streams(&mut connection, device).await?;
        streams.retain(|stream| stream.definition.signals.iter().any(|own| own.name == "current"));
        let [stream] = &streams[..] else {
            anyhow::bail!("{} streams", streams.len())
        };
        let mut decimated = Decimated::default();
        stored::read_by_sql(&mut connection, stream, &mut decimated).await?;
        Ok((stream.definition.rate_hz, decimated))
    })
}

/// Current as means of so many samples each, from one to before another of them.
#[must_use]
pub fn means(seed: u64, first: u64, end: u64, factor: u64) -> Vec<f64> {
    let mut samples = Vec::new();
    Wave::new(seed).analog(first * factor, end * factor, |sample| {
        samples.push(f64::from(to_f32(sample.i)));
    });
    let means = samples.chunks(factor as usize);
    means
        .map(|samples| samples.iter().sum::<f64>() / factor as f64)
        .collect()
}

/// The taps of the agent's filter of this factor: one half stands in its source.
pub fn taps(factor: u64) -> Result<Vec<f64>> {
    let source = include_str!("../../agent/src/source/joulescope/decimate.rs");
    let (_, rest) = source.split_once(&format!("HALF_{factor}: ")).context("it has taps")?;
    let numbers = rest.split_once("= [").and_then(|(_, rest)| rest.split_once(']'));
    let (numbers, _) = numbers.context("they are a list")?;
    let half = numbers.split(',').map(|number| number.trim().replace('_', ""));
    let half: Vec<f64> = half
        .filter(|number| !number.is_empty())
        .map(|number| number.parse())
        .collect::<Result<_, _>>()?;
    let both = half[1..].iter().rev().chain(&half);
    Ok(both.map(|tap| tap / f64::from(1 << 23)).collect())
}

/// Current as samples `from` to before `end` of an instrument with this seed, filtered by these factors one after the other: the outputs
/// with all that they look at, by the number of the first.
pub fn filtered(seed: u64, from: u64, end: u64, factors: &[u64]) -> Result<(u64, Vec<f64>)> {
    let (mut first, mut samples) = (from, Vec::new());
    Wave::new(seed).analog(from, end, |sample| samples.push(f64::from(to_f32(sample.i))));
    for factor in factors {
        let taps = taps(*factor)?;
        let half = taps.len() as u64 / 2;
        let output = (first + half).div_ceil(*factor);
        let windows = samples
            .windows(taps.len())
            .skip((output * factor - half - first) as usize);
        let outputs = windows.step_by(*factor as usize);
        samples = outputs
            .map(|window| window.iter().zip(&taps).map(|(sample, tap)| sample * tap).sum())
            .collect();
        first = output;
    }
    Ok((first, samples))
}

/// What an instrument lost of current and of voltage since it was plugged in again so often, by its log (see `joulescope-usbip --help`):
/// as numbers of samples.
pub fn lost(log: &Path, serial: &str, plugs: u64) -> Result<Vec<Range<u64>>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("{}", log.display()))?;
    let head = format!("{serial} {plugs} lost ");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&head));
    let ranges = lines.map(|line| {
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [port, first, end] = numbers[..] else {
            anyhow::bail!("{line:?} is no loss")
        };
        Ok((port, first / 2..end / 2))
    });
    let ranges: Vec<(u64, Range<u64>)> = ranges.collect::<Result<_>>()?;
    let is_analog = |(port, range): (u64, Range<u64>)| matches!(port, 21 | 22).then_some(range);
    Ok(ranges.into_iter().filter_map(is_analog).collect())
}

/// Samples of a gap that no loss explains.
#[must_use]
pub fn unexplained(gap: &Range<u64>, lost: &[Range<u64>]) -> u64 {
    let mut lost: Vec<_> = lost
        .iter()
        .filter(|own| own.end > gap.start && own.start < gap.end)
        .collect();
    lost.sort_by_key(|own| own.start);
    let (mut at, mut found) = (gap.start, 0);
    for own in lost {
        found += own.start.saturating_sub(at);
        at = at.max(own.end);
    }
    found + gap.end.saturating_sub(at)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "they are lists of ranges")]
mod tests {
    use super::*;

    #[test]
    fn losses_explain_gaps() {
        let lost = [10..20, 15..30, 40..50];
        assert_eq!(unexplained(&(12..28), &lost), 0);
        assert_eq!(unexplained(&(5..55), &lost), 5 + 10 + 5);
        assert_eq!(unexplained(&(30..40), &lost), 10);
        assert_eq!(unexplained(&(0..5), &[]), 5);
    }

    #[test]
    fn losses_are_read_from_the_log_of_one_plugging() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text = "1 0 lost 21 100 200\n1 1 lost 22 300 400\n2 1 lost 21 0 2\n1 1 set s/i/ctrl 1\n1 1 lost 20 0 9\n";
        std::fs::write(&log, text).unwrap();
        assert_eq!(lost(&log, "1", 0).unwrap(), vec![50..100]);
        assert_eq!(lost(&log, "1", 1).unwrap(), vec![150..200]);
    }
}
