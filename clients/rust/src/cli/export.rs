//! `export`: verified samples into a file.
//!
//! # Invariants
//! - I4: nothing moves in silence. A gap is refused, filled with NaN, or left out and counted, as the caller chose; streams follow
//!   each other only where one continues the other.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wavekeep::proto::stream::{SampleType, StreamDefinition};
use wavekeep::time::rfc3339;
use wavekeep::{Block, Client, Gap, Part, Selection, StreamInfo, StreamManifest, TimeRange};

use super::failure::Failure;
use super::json::ExportLine;
use super::limits::GAPS_NAMED_MAX;
use super::raw::{Interleaver, RawFile, has_nan};
use super::table::Output;
use super::words::{size, thousands};
use super::{Export, Format, GapPolicy};

/// How often the progress is drawn.
const PROGRESS_HZ: u8 = 5;

pub(super) async fn export(client: &Client, export: &Export, output: &mut Output) -> Result<(), Failure> {
    let Format::Raw = export.format;
    let selection = export.select.selection(client).await?;
    let streams = client.streams(&selection).await?;
    require_one_axis(&streams)?;
    require_stored(export, &streams)?;
    require_fillable(client, export, &selection, &streams).await?;
    let mut writer = Writer::new(export, selection.time_range(), total(&streams, selection.time_range()))?;
    let mut waveform = client.waveform(&selection).await?;
    while let Some(part) = waveform.next().await? {
        match part {
            Part::Stream(stream) => writer.stream(stream)?,
            Part::Samples(block) => writer.samples(&block)?,
            Part::Gap(gap) if gap.signals.is_empty() => writer.missing(&gap)?,
            Part::Manifest(manifest) => writer.require_rows(&streams, &manifest, output)?,
            // Gaps of single signals are absent columns of the block that follows.
            Part::Gap(_) | Part::Markers(_) | Part::End(_) => (),
        }
    }
    let is_stdout = writer.file.is_stdout;
    let line = writer.finish()?;
    if is_stdout {
        // The samples are there.
        output.note(&summary(&line));
        return Ok(());
    }
    if output.json {
        return output.json_line(&line);
    }
    output.line(&summary(&line))
}

fn summary(line: &ExportLine) -> String {
    let signals: Vec<String> = line
        .signals
        .iter()
        .zip(&line.types)
        .map(|(name, kind)| format!("{name} ({kind})"))
        .collect();
    let extra = |count: u64, what: &str| {
        if count > 0 {
            format!(", {} {what}", thousands(count))
        } else {
            String::new()
        }
    };
    format!(
        "{}: {} samples of {}, {}{}{}",
        line.output,
        thousands(line.sample_count),
        signals.join(", "),
        size(line.bytes),
        extra(line.filled_sample_count, "of them missing and filled with NaN"),
        extra(line.skipped_sample_count, "missing and left out"),
    )
}

/// Samples to come, for the progress: of what lies in the range, at the streams' rates.
fn total(streams: &[StreamInfo], range: TimeRange) -> u64 {
    let of_stream = |stream: &StreamInfo| {
        let stored = stream.sample_count.saturating_add(stream.gap_sample_count);
        let (first_ns, last_ns) = (stream.first_time_ns?, stream.last_time_ns?);
        let from_ns = range.from_ns.map_or(first_ns, |ns| ns.max(first_ns));
        let to_ns = range.to_ns.map_or(last_ns, |ns| ns.min(last_ns));
        let seconds = to_ns.saturating_sub(from_ns).max(0) as f64 / 1e9;
        Some(stored.min((seconds * stream.definition.rate_hz).ceil() as u64))
    };
    streams.iter().filter_map(of_stream).sum()
}

/// A stream of which some samples lie in the range, whatever its chunks say.
fn has_samples(stream: &StreamInfo, range: TimeRange) -> bool {
    let (Some(first_ns), Some(last_ns)) = (stream.first_time_ns, stream.last_time_ns) else {
        return false;
    };
    stream.at.next_sample > stream.definition.first_sample
        && range.from_ns.is_none_or(|from_ns| from_ns <= first_ns)
        && range.to_ns.is_none_or(|to_ns| last_ns <= to_ns)
}

/// How a stream follows the one before it in one file.
#[derive(Debug, PartialEq, Eq)]
enum Follows {
    /// After so many samples that nobody captured.
    After(u64),
    /// Not at all, because.
    No(String),
}

/// Where a stream ends, or starts.
#[derive(Debug, Clone, Copy)]
struct Edge {
    sample: u64,
    time_ns: i64,
}

fn follows(before: &StreamDefinition, end: Edge, after: &StreamDefinition, start: Edge) -> Follows {
    if before.signals != after.signals || before.rate_hz.to_bits() != after.rate_hz.to_bits() {
        return Follows::No("it has other signals or another rate".into());
    }
    if before.epoch == after.epoch {
        return match start.sample.checked_sub(end.sample) {
            Some(missing) => Follows::After(missing),
            None => Follows::No("the two overlap".into()),
        };
    }
    let half_sample_ns = after.duration_ns(1) / 2;
    let late_ns = start.time_ns.saturating_sub(end.time_ns);
    if late_ns.saturating_abs() <= half_sample_ns {
        return Follows::After(0);
    }
    let distance = Duration::from_nanos(late_ns.unsigned_abs());
    Follows::No(format!(
        "it starts {distance:?} {} the end of the one before it",
        if late_ns > 0 { "after" } else { "before" }
    ))
}

fn refused(stream: &StreamInfo, why: &str) -> Failure {
    Failure::Failed(format!(
        "stream {} cannot follow the stream before it in one file ({why}): choose one with --stream, or a shorter time with --from and --to; `wavekeep streams` lists them",
        stream.id()
    ))
}

/// Refuses early, before anything is fetched, what [`Writer::stream`] would refuse in the end.
fn require_one_axis(streams: &[StreamInfo]) -> Result<(), Failure> {
    if streams.is_empty() {
        return Err(Failure::Failed(
            "nothing is stored there: `wavekeep streams` lists what is".into(),
        ));
    }
    for pair in streams.windows(2) {
        let (before, after) = (&pair[0].definition, &pair[1].definition);
        if after
            .predecessor
            .is_some_and(|predecessor| predecessor.stream_id == before.id)
        {
            continue;
        }
        let end = Edge {
            sample: pair[0].at.next_sample,
            time_ns: pair[0].last_time_ns.unwrap_or_default(),
        };
        let start = Edge {
            sample: after.first_sample,
            time_ns: pair[1].first_time_ns.unwrap_or_default(),
        };
        if let Follows::No(why) = follows(before, end, after, start) {
            return Err(refused(&pair[1], &why));
        }
    }
    Ok(())
}

/// `power` can be asked for, and is nowhere stored.
fn require_stored(export: &Export, streams: &[StreamInfo]) -> Result<(), Failure> {
    let stored = |name: &String| {
        let mut signals = streams.iter().flat_map(|stream| &stream.definition.signals);
        signals.any(|signal| signal.name == *name)
    };
    match export.select.signals.iter().find(|name| !stored(name)) {
        None => Ok(()),
        Some(name) => {
            let sentence =
                format!("{name} is derived, not stored: export current and voltage, or see `wavekeep stats`");
            Err(Failure::Failed(sentence))
        }
    }
}

/// Names the gaps that the policy does not allow, before anything is fetched.
async fn require_fillable(
    client: &Client,
    export: &Export,
    selection: &Selection,
    streams: &[StreamInfo],
) -> Result<(), Failure> {
    let asked =
        |name: &str| export.select.signals.is_empty() || export.select.signals.iter().any(|signal| signal == name);
    let signals = streams
        .iter()
        .flat_map(|stream| &stream.definition.signals)
        .filter(|signal| asked(&signal.name));
    let unfillable: Vec<String> = signals
        .filter(|signal| !has_nan(signal.sample_type))
        .map(|signal| format!("{} is {}", signal.name, signal.sample_type.name()))
        .collect();
    let why = match export.gaps {
        GapPolicy::Skip => return Ok(()),
        GapPolicy::Fill if unfillable.is_empty() => return Ok(()),
        GapPolicy::Fill => format!(
            "{}, which has no NaN to fill them with: leave them out with --gaps skip",
            unfillable[0]
        ),
        GapPolicy::Fail => {
            "fill them with NaN (--gaps fill), leave them out (--gaps skip), or choose a time without (--from, --to)"
                .into()
        }
    };
    let mut gaps = client.gaps(selection).await?;
    let (mut named, mut count) = (Vec::new(), 0usize);
    while let Some(gap) = gaps.next().await? {
        if gap.count == 0 {
            continue;
        }
        count += 1;
        if named.len() < GAPS_NAMED_MAX {
            named.push(name(&gap));
        }
    }
    if count == 0 {
        return Ok(());
    }
    let more = if count > named.len() {
        format!(", and {} more (`wavekeep gaps`)", count - named.len())
    } else {
        String::new()
    };
    Err(Failure::Failed(format!(
        "samples are missing: {}{more}; {why}",
        named.join(", ")
    )))
}

fn name(gap: &Gap) -> String {
    let signals = if gap.signals.is_empty() {
        String::new()
    } else {
        format!(" of {}", gap.signals.join(","))
    };
    format!(
        "{} samples{signals} from {} on ({})",
        thousands(gap.count),
        rfc3339(gap.from_ns),
        gap.reason.name()
    )
}

/// The file as it grows.
struct Writer<'a> {
    export: &'a Export,
    file: RawFile,
    interleaver: Option<Interleaver>,
    current: Option<StreamInfo>,
    range: TimeRange,
    /// Where the samples before end, of the current stream or, at its start, of the one before it.
    end: Option<(StreamInfo, Edge)>,
    /// When the first sample was taken.
    start_ns: Option<i64>,
    line: ExportLine,
    progress: ProgressBar,
}

impl<'a> Writer<'a> {
    fn new(export: &'a Export, range: TimeRange, total: u64) -> Result<Self, Failure> {
        let file = RawFile::create(&export.output)?;
        let progress = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(PROGRESS_HZ));
        let template = "{wide_bar} {percent:>3} %  {human_pos} samples, {per_sec}, {eta} left";
        progress.set_style(ProgressStyle::with_template(template).expect("the template is right"));
        let line = ExportLine {
            output: export.output.display().to_string(),
            bytes: 0,
            signals: Vec::new(),
            types: Vec::new(),
            sample_count: 0,
            filled_sample_count: 0,
            skipped_sample_count: 0,
            streams: Vec::new(),
        };
        Ok(Self {
            export,
            file,
            interleaver: None,
            current: None,
            range,
            end: None,
            start_ns: None,
            line,
            progress,
        })
    }

    fn stream(&mut self, stream: &StreamInfo) -> Result<(), Failure> {
        if self.interleaver.is_none() {
            let names = &self.export.select.signals;
            let signals = stream
                .definition
                .signals
                .iter()
                .filter(|signal| names.is_empty() || names.contains(&signal.name));
            let (names, types): (Vec<String>, Vec<SampleType>) =
                signals.map(|signal| (signal.name.clone(), signal.sample_type)).unzip();
            self.line.types = types.iter().map(|sample_type| sample_type.name()).collect();
            self.line.signals = names;
            self.interleaver = Some(Interleaver::new(types)?);
        }
        self.line.streams.push(stream.id().to_string());
        self.current = Some(stream.clone());
        Ok(())
    }

    /// The axis goes on at `first_sample`: of a stream that follows another, after what lies between the two.
    fn advance(&mut self, first_sample: u64, time_ns: i64, count: u64, end_ns: i64) -> Result<(), Failure> {
        let current = self.current.clone().expect("a stream comes before its samples");
        if let Some((before, end)) = &self.end
            && before.id() != current.id()
        {
            let start = Edge {
                sample: first_sample,
                time_ns,
            };
            match follows(&before.definition, *end, &current.definition, start) {
                Follows::No(why) => return Err(refused(&current, &why)),
                Follows::After(0) => (),
                Follows::After(missing) => self.absent(missing, &|| {
                    format!("{} samples between two streams", thousands(missing))
                })?,
            }
        }
        if self.end.is_none() {
            self.start_ns = Some(time_ns);
            let before = first_sample.saturating_sub(current.definition.first_sample);
            if self.range.from_ns.is_none() && before > 0 {
                self.absent(before, &|| {
                    format!("the first {}, which are no longer stored", thousands(before))
                })?;
            }
        }
        self.end = Some((
            current,
            Edge {
                sample: first_sample + count,
                time_ns: end_ns,
            },
        ));
        self.progress.inc(count);
        Ok(())
    }

    fn samples(&mut self, block: &Block<'_>) -> Result<(), Failure> {
        let end_ns = block
            .utc_ns
            .saturating_add(block.stream.definition.duration_ns(block.count));
        self.advance(block.first_sample, block.utc_ns, block.count, end_ns)?;
        let absent = block.columns.iter().any(|column| column.absent.is_some());
        if absent && self.export.gaps != GapPolicy::Fill {
            return self.absent(block.count, &|| {
                format!("{} samples of single signals", thousands(block.count))
            });
        }
        if absent {
            require_nan(
                block
                    .columns
                    .iter()
                    .filter(|column| column.absent.is_some())
                    .map(|column| column.sample_type),
            )?;
            self.line.filled_sample_count += block.count;
        }
        let interleaver = self.interleaver.as_mut().expect("a stream comes before its samples");
        self.file.write(interleaver.bytes(block.columns, block.count))?;
        self.line.sample_count += block.count;
        Ok(())
    }

    fn missing(&mut self, gap: &Gap) -> Result<(), Failure> {
        self.advance(gap.first_sample, gap.from_ns, gap.count, gap.to_ns)?;
        self.absent(gap.count, &|| name(gap))
    }

    /// Does to missing samples what was asked for.
    fn absent(&mut self, count: u64, words: &dyn Fn() -> String) -> Result<(), Failure> {
        match self.export.gaps {
            GapPolicy::Fail => {
                let sentence = format!(
                    "samples are missing: {}; fill them (--gaps fill) or leave them out (--gaps skip)",
                    words()
                );
                return Err(Failure::Failed(sentence));
            }
            GapPolicy::Skip => self.line.skipped_sample_count += count,
            GapPolicy::Fill => {
                let signals = &self
                    .current
                    .as_ref()
                    .expect("a stream comes before its samples")
                    .definition
                    .signals;
                let asked = signals.iter().filter(|signal| self.line.signals.contains(&signal.name));
                require_nan(asked.map(|signal| signal.sample_type))?;
                let interleaver = self.interleaver.as_mut().expect("a stream comes before its samples");
                interleaver.fill(count, |bytes| self.file.write(bytes))?;
                self.line.filled_sample_count += count;
                self.line.sample_count += count;
            }
        }
        Ok(())
    }

    /// Rows that are gone without a gap in their place: whole streams, and what lies between `from` and the first sample.
    fn require_rows(&self, listed: &[StreamInfo], manifest: &[StreamManifest], output: &Output) -> Result<(), Failure> {
        let came = |stream: &StreamInfo| manifest.iter().any(|answered| answered.stream == stream.id());
        // A successor may continue a stream before its first sample.
        let replaced = |stream: &StreamInfo| {
            let mut predecessors = listed.iter().filter_map(|other| other.definition.predecessor);
            predecessors.any(|predecessor| predecessor.stream_id == stream.id() && predecessor.seq == 0)
        };
        let mut gone = Vec::new();
        for stream in listed {
            if has_samples(stream, self.range) && !came(stream) && !replaced(stream) {
                gone.push(format!("those of stream {}, which are no longer stored", stream.id()));
            }
        }
        let is_cut = manifest.first().is_some_and(|first| first.digest_before.is_none());
        if let (Some(from_ns), Some(start_ns), true) = (self.range.from_ns, self.start_ns, is_cut)
            && from_ns < start_ns
        {
            gone.push(format!(
                "those before {}, which are no longer stored",
                rfc3339(start_ns)
            ));
        }
        if gone.is_empty() {
            return Ok(());
        }
        let sentence = format!("samples are missing: {}", gone.join(", "));
        if self.export.gaps == GapPolicy::Fail {
            return Err(Failure::Failed(format!(
                "{sentence}; choose a time that is stored (--from, --to), or accept it with --gaps skip"
            )));
        }
        output.note(&sentence);
        Ok(())
    }

    fn finish(mut self) -> Result<ExportLine, Failure> {
        if let Some(byte) = self.interleaver.as_ref().and_then(Interleaver::rest) {
            self.file.write(&[byte])?;
        }
        self.progress.finish_and_clear();
        self.line.bytes = self.file.finish()?;
        Ok(self.line)
    }
}

fn require_nan(types: impl Iterator<Item = SampleType>) -> Result<(), Failure> {
    match types.into_iter().find(|sample_type| !has_nan(*sample_type)) {
        None => Ok(()),
        Some(sample_type) => {
            let sentence = format!(
                "{} samples are missing, and there is no NaN to fill them with: use --gaps skip",
                sample_type.name()
            );
            Err(Failure::Failed(sentence))
        }
    }
}
