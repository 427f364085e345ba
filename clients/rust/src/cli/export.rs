//! `export`: verified samples into a file. What can be refused is refused before anything is fetched.

use wavekeep::time::rfc3339;
use wavekeep::{Client, Gap, Part, Selected, SelectedStream, Selection, StreamInfo, TimeRange};

use super::axis::require_one_axis;
use super::failure::Failure;
use super::json::ExportLine;
use super::limits::GAPS_NAMED_MAX;
use super::raw::has_nan;
use super::table::Output;
use super::words::{size, thousands};
use super::writer::Writer;
use super::{Export, Format, GapPolicy, lake};

/// Does it go into a directory, which one that is run again goes on with?
pub(super) fn goes_on(export: &Export) -> bool {
    export.format == Format::Parquet && lake::is_directory(&export.output)
}

/// Refuses what no server needs to be asked for. A directory takes the streams of a whole workspace, too.
pub(super) fn require_sense(export: &Export) -> Result<(), Failure> {
    lake::require_sense(export)?;
    if goes_on(export) {
        return Ok(());
    }
    export.select.require_source()
}

pub(super) async fn export(
    client: &Client,
    workspace: &str,
    export: &Export,
    output: &mut Output,
) -> Result<(), Failure> {
    let selection = export.select.selection(client).await?;
    if goes_on(export) {
        return lake::fill(client, workspace, export, &selection, output).await;
    }
    let Selected { streams, mut runs } = client.selected(&selection, export.format.has_facts()).await?;
    runs.retain(|run| {
        let has = |stream: &SelectedStream| stream.times_ns().any(|times| run.covers(&stream.info, times));
        streams.iter().any(has)
    });
    let streams: Vec<StreamInfo> = streams.into_iter().map(|stream| stream.info).collect();
    require_one_axis(&streams)?;
    require_stored(export, &streams)?;
    require_fillable(client, export, &selection, &streams).await?;
    let range = selection.time_range();
    let mut writer = Writer::new(export, workspace, range, total(&streams, range))?;
    writer.runs(&runs);
    let mut waveform = client.waveform(&selection).await?;
    while let Some(part) = waveform.next().await? {
        match part {
            Part::Stream(stream) => writer.stream(stream)?,
            Part::Samples(block) => writer.samples(&block)?,
            Part::Gap(gap) => {
                writer.note_gap(&gap);
                // Gaps of single signals are absent columns of the block that follows.
                if gap.signals.is_empty() {
                    writer.missing(&gap)?;
                }
            }
            Part::Manifest(manifest) => {
                writer.require_rows(&streams, &manifest, output)?;
                writer.proven(&manifest);
            }
            Part::Markers(markers) => writer.markers(markers),
            Part::End(_) | Part::Columns(_) => (),
        }
    }
    let is_stdout = writer.file.is_stdout;
    let (line, not_kept) = writer.finish()?;
    if let Some(sentence) = not_kept {
        output.note(&sentence);
    }
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
        extra(line.filled_sample_count, "of them missing and filled"),
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
        .filter(|signal| !has_nan(signal.sample_type) && !export.format.has_null())
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

/// A gap, for people.
pub(super) fn name(gap: &Gap) -> String {
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
