//! `export --format parquet --output DIR/`: a data lake's directory, brought up to date once, or kept so with `--follow`.
//!
//! # Invariants
//! - I1: every stored sample comes into exactly one file, whatever ends the export at whatever moment: what is in the directory is the
//!   state ([`files`]), and where files end is the stream's own ([`cut`]).
//! - I14: a file gets its name only when the answer that it was made of is proven, and holds each of its samples.
//! - I12: of a stream, a cursor and one unfinished cut are held.

mod cut;
mod files;

use std::collections::BTreeMap;
use std::path::Path;

use wavekeep::proto::id::StreamId;
use wavekeep::proto::stream::Signal;
use wavekeep::{
    ChunkOrder, Client, Gap, Part, Run, Selected, SelectedStream, Selection, StreamInfo, StreamManifest, TimeRange,
};

use self::cut::{Cut, Cutter};
use self::files::{Covered, Lake, Name, Settings};
use super::export::name;
use super::facts::Facts;
use super::failure::Failure;
use super::json::LakeLine;
use super::limits::{CHUNKS_LISTED_MAX, FOLLOW_PERIOD, STREAMS_FOLLOWED_MAX};
use super::parquet_file::ParquetFile;
use super::patience::{Patience, Stopped};
use super::raw::RawFile;
use super::table::Output;
use super::words::{size, thousands};
use super::{Export, Format, GapPolicy};

/// Does the export go into a directory?
pub(super) fn is_directory(output: &Path) -> bool {
    output.as_os_str().as_encoded_bytes().ends_with(b"/") || output.is_dir()
}

/// What a directory cannot be.
pub(super) fn require_sense(export: &Export) -> Result<(), Failure> {
    let is_directory = is_directory(&export.output);
    let why = match export {
        Export { follow: true, .. } if export.format != Format::Parquet || !is_directory => {
            "--follow keeps a directory of Parquet files current: give --format parquet --output DIR/"
        }
        Export { follow: true, .. } if export.select.to.is_some() => {
            "--follow goes on without an end: leave out --to, or leave out --follow"
        }
        Export {
            gaps: GapPolicy::Fill, ..
        } if is_directory && export.format == Format::Parquet => {
            "a directory has rows of what is stored, and each file lists the gaps in it: give --gaps skip"
        }
        _ => return Ok(()),
    };
    Err(Failure::Usage(why.into()))
}

/// One stream, and how far it is in the directory.
struct Followed {
    cutter: Cutter,
    covered: Covered,
    /// Chunks up to here were looked at.
    seq: u64,
    is_over: bool,
}

/// The export on its way.
struct Filling<'a> {
    client: &'a Client,
    workspace: &'a str,
    export: &'a Export,
    /// Those that are named, as they are this time.
    runs: Vec<Run>,
    lake: Lake,
    streams: BTreeMap<StreamId, Followed>,
    written: u64,
    samples: u64,
    bytes: u64,
}

pub(super) async fn fill(
    client: &Client,
    workspace: &str,
    export: &Export,
    selection: &Selection,
    output: &mut Output,
) -> Result<(), Failure> {
    let settings = Settings {
        signals: export.select.signals.clone(),
        gaps: export.gaps.name().into(),
        file_seconds: export.file_seconds.into(),
    };
    let mut filling = Filling {
        client,
        workspace,
        export,
        runs: Vec::new(),
        lake: Lake::open(&export.output, workspace, &settings)?,
        streams: BTreeMap::new(),
        written: 0,
        samples: 0,
        bytes: 0,
    };
    if !export.follow {
        filling.round(selection, output).await.map_err(Stopped::into_failure)?;
        return filling.say(output);
    }
    output.note(&format!(
        "{} is kept current until this is interrupted; {} files are there already",
        export.output.display(),
        thousands(filling.lake.found)
    ));
    let mut patience = Patience::default();
    loop {
        let came = filling.round(selection, output).await;
        output.flush()?;
        match came {
            Ok(()) => {
                patience.answered(output);
                tokio::time::sleep(FOLLOW_PERIOD).await;
            }
            Err(stopped) => patience.wait(stopped, output).await?,
        }
    }
}

impl Filling<'_> {
    /// Writes every file that can be written now.
    async fn round(&mut self, selection: &Selection, output: &mut Output) -> Result<(), Stopped> {
        let Selected { streams, runs } = self.client.selected(selection, true).await?;
        self.runs = runs;
        for stream in streams {
            self.stream(stream, output).await?;
        }
        Ok(())
    }

    async fn stream(&mut self, stream: SelectedStream, output: &mut Output) -> Result<(), Stopped> {
        let SelectedStream { info, ranges } = stream;
        if self.signals(&info).is_empty() {
            return Ok(());
        }
        if self.streams.len() >= STREAMS_FOLLOWED_MAX && !self.streams.contains_key(&info.id()) {
            let sentence = format!(
                "more than {STREAMS_FOLLOWED_MAX} streams cannot be followed: choose a device (--device) or a run (--run)"
            );
            return Err(Failure::Failed(sentence).into());
        }
        let mut followed = match self.streams.remove(&info.id()) {
            Some(followed) if followed.cutter.ranges == ranges => followed,
            // Somebody may have changed the run meanwhile.
            _ => self.first_look(&info, ranges),
        };
        let done = self.look(&info, &mut followed, output).await;
        // An unfinished look is begun again from what is in the directory.
        if done.is_ok() {
            self.streams.insert(info.id(), followed);
        }
        done
    }

    fn signals<'a>(&self, info: &'a StreamInfo) -> Vec<&'a Signal> {
        let names = &self.export.select.signals;
        let signals = info.definition.signals.iter();
        signals
            .filter(|signal| names.is_empty() || names.contains(&signal.name))
            .collect()
    }

    fn first_look(&self, info: &StreamInfo, ranges: Vec<TimeRange>) -> Followed {
        let covered = self.lake.covered(info.id());
        let file_ns = i64::from(self.export.file_seconds) * 1_000_000_000;
        Followed {
            cutter: Cutter::new(&info.definition, ranges, file_ns),
            seq: covered.known_seq(info.definition.first_sample),
            covered,
            is_over: false,
        }
    }

    /// Looks at the chunks of a stream that were not seen yet.
    async fn look(&mut self, info: &StreamInfo, followed: &mut Followed, output: &mut Output) -> Result<(), Stopped> {
        while !followed.is_over && followed.seq < info.at.seq {
            let (cuts, seen) = self.cuts(info, followed).await?;
            for cut in cuts {
                self.write(info, &cut, output).await?;
            }
            if seen < u64::from(CHUNKS_LISTED_MAX) {
                break;
            }
        }
        // A stream that goes on has its last file once it ends; whoever does not wait for that takes what there is.
        if !self.export.follow
            && let Some(cut) = followed.cutter.finish()
        {
            self.write(info, &cut, output).await?;
        }
        Ok(())
    }

    /// The files that the next chunks complete, and how many chunks those are.
    async fn cuts(&self, info: &StreamInfo, followed: &mut Followed) -> Result<(Vec<Cut>, u64), Stopped> {
        let selection = Selection::stream(info.id()).range(self.listed(&followed.cutter.ranges));
        let order = ChunkOrder {
            limit: CHUNKS_LISTED_MAX,
            after: BTreeMap::from([(info.id(), followed.seq)]),
            ..ChunkOrder::default()
        };
        let (mut cuts, mut seen) = (Vec::new(), 0);
        let mut chunks = self.client.chunks(&selection, &order).await?;
        while let Some(chunk) = chunks.next().await? {
            // A server that does not know cursors sends everything again.
            if chunk.header.seq <= followed.seq {
                continue;
            }
            seen += 1;
            followed.seq = chunk.header.seq;
            let done = followed
                .cutter
                .chunk(&info.definition, &chunk.header, chunk.digest, &followed.covered);
            cuts.extend(done);
        }
        followed.is_over = info.at.ended && followed.seq >= info.at.seq;
        Ok((cuts, seen))
    }

    /// The time whose chunks are looked at.
    fn listed(&self, ranges: &[TimeRange]) -> TimeRange {
        TimeRange {
            from_ns: ranges.first().and_then(|range| range.from_ns),
            // A time that ends with a chunk is seen to be over by the next one.
            to_ns: ranges
                .last()
                .and_then(|range| range.to_ns)
                .filter(|_| !self.export.follow),
        }
    }

    async fn write(&mut self, info: &StreamInfo, cut: &Cut, output: &mut Output) -> Result<(), Stopped> {
        let file_name = Name {
            stream: info.id(),
            seqs: cut.extent.seqs,
            samples: cut.extent.samples,
        };
        let path = self.lake.place(&info.definition.device, cut.day, &file_name)?;
        let (rows, bytes) = self.fetch(info, cut, &path).await?;
        self.lake.written(&file_name, &path)?;
        self.written += 1;
        self.samples += rows;
        self.bytes += bytes;
        let line = LakeLine {
            file: path.display().to_string(),
            stream: info.id().to_string(),
            first_sample: cut.extent.samples.0,
            end_sample: cut.extent.samples.1,
            sample_count: rows,
            bytes,
        };
        if output.json {
            output.json_line(&line)?;
        } else {
            output.line(&format!("{}: {} samples, {}", line.file, thousands(rows), size(bytes)))?;
        }
        Ok(())
    }

    /// Fetches a file's samples and writes them; how many there are, and the file's bytes.
    async fn fetch(&self, info: &StreamInfo, cut: &Cut, path: &Path) -> Result<(u64, u64), Stopped> {
        let signals = self.signals(info);
        let mut facts = Facts::new(self.workspace, self.export.gaps);
        facts.signals(&signals);
        let mut rows = ParquetFile::new(&signals)?;
        let mut file = RawFile::create(path)?;
        // Where time steps, other chunks come as well: it is the sample that decides.
        let range = TimeRange {
            from_ns: Some(cut.times_ns.0),
            to_ns: Some(cut.times_ns.1),
        };
        let names = signals.iter().map(|signal| signal.name.clone());
        let selection = Selection::stream(info.id()).signals(names).range(range);
        let mut waveform = self.client.waveform(&selection).await?;
        let (from, to) = cut.extent.samples;
        let mut at = from;
        while let Some(part) = waveform.next().await? {
            match part {
                Part::Samples(block) => {
                    let (first, end) = (block.first_sample, block.first_sample + block.count);
                    if first.max(from) >= end.min(to) {
                        continue;
                    }
                    require_next(at, first.max(from), path)?;
                    at = end.min(to);
                    if block.columns.iter().any(|column| column.absent.is_none()) {
                        rows.samples(&block, first.max(from), at)?;
                        file.write(&rows.take_bytes())?;
                    }
                }
                Part::Gap(gap) if gap.first_sample < to && gap.first_sample + gap.count > from => {
                    if self.export.gaps == GapPolicy::Fail {
                        return Err(refused(&gap).into());
                    }
                    facts.gap(&gap);
                    if gap.signals.is_empty() {
                        require_next(at, gap.first_sample.max(from), path)?;
                        at = (gap.first_sample + gap.count).min(to);
                    }
                }
                Part::Manifest(manifest) => require_digests(cut, &manifest, path)?,
                _ => (),
            }
        }
        require_next(at, to, path)?;
        facts.stream(info, &cut.extent);
        let runs = self.runs.iter().filter(|run| run.covers(info, cut.times_ns));
        runs.for_each(|run| facts.run(run));
        let written = rows.rows;
        file.write(&rows.finish(facts.entries())?)?;
        Ok((written, file.finish(&[])?))
    }

    fn say(&self, output: &mut Output) -> Result<(), Failure> {
        let there = match self.lake.found {
            0 => String::new(),
            found => format!("; {} were there already", thousands(found)),
        };
        output.note(&format!(
            "{}: {} files with {} samples, {}, were written{there}",
            self.export.output.display(),
            thousands(self.written),
            thousands(self.samples),
            size(self.bytes)
        ));
        Ok(())
    }
}

fn refused(gap: &Gap) -> Failure {
    Failure::Failed(format!(
        "samples are missing: {}; leave them out (--gaps skip), or choose a time without (--from, --to)",
        name(gap)
    ))
}

/// I14: the digests that the list of chunks gave are those of the answer, as far as it begins and ends with the same chunks.
fn require_digests(cut: &Cut, manifest: &[StreamManifest], path: &Path) -> Result<(), Failure> {
    let listed = &cut.extent;
    let is_other = |answered: &StreamManifest| {
        let before = answered.digest_before.zip(listed.digest_before);
        (answered.first_seq == listed.seqs.0 && before.is_some_and(|(answered, listed)| answered != listed))
            || (answered.last_seq == listed.seqs.1 && answered.digest != listed.digest)
    };
    if !manifest.iter().any(is_other) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "I14: the digests of {} are not those of its samples: export again, and if it happens again tell the server's operator",
        path.display()
    )))
}

/// I4: what the answer proves is what the list of chunks said.
fn require_next(expected: u64, found: u64, path: &Path) -> Result<(), Failure> {
    if expected == found {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "I4: {} needs sample {expected} next, and {found} came: export again, and if it happens again tell the server's operator",
        path.display()
    )))
}
