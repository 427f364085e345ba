//! The file of an export as it grows, block by block.
//!
//! # Invariants
//! - I4: nothing moves in silence. A gap is refused, filled with NaN, or left out and counted, as the caller chose; streams follow
//!   each other only where one continues the other.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wavekeep::proto::chunk::Marker;
use wavekeep::proto::stream::SampleType;
use wavekeep::time::rfc3339;
use wavekeep::{Block, Gap, Run, StreamInfo, StreamManifest, TimeRange};

use super::axis::{Edge, Follows, follows, refused};
use super::body::{Body, Times};
use super::export::name;
use super::facts::{Extent, Facts};
use super::failure::Failure;
use super::json::ExportLine;
use super::raw::{RawFile, has_nan};
use super::table::Output;
use super::words::thousands;
use super::{Export, Format, GapPolicy};

/// How often the progress is drawn.
const PROGRESS_HZ: u8 = 5;

/// The file as it grows.
pub(super) struct Writer<'a> {
    export: &'a Export,
    pub(super) file: RawFile,
    body: Option<Body>,
    current: Option<StreamInfo>,
    range: TimeRange,
    /// Where the samples before end, of the current stream or, at its start, of the one before it.
    end: Option<(StreamInfo, Edge)>,
    /// When the first sample was taken.
    start_ns: Option<i64>,
    line: ExportLine,
    facts: Facts,
    infos: Vec<StreamInfo>,
    lost_markers: usize,
    progress: ProgressBar,
}

impl<'a> Writer<'a> {
    pub(super) fn new(export: &'a Export, workspace: &str, range: TimeRange, total: u64) -> Result<Self, Failure> {
        let file = RawFile::create(&export.output)?;
        if export.format.is_rewritten() && !file.can_rewrite() {
            let sentence = "such a file says at its start how long it is, which is known at the end: give a file, no pipe; or --format raw";
            return Err(Failure::Failed(sentence.into()));
        }
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
            body: None,
            current: None,
            range,
            end: None,
            start_ns: None,
            line,
            facts: Facts::new(workspace, export.gaps),
            infos: Vec::new(),
            lost_markers: 0,
            progress,
        })
    }

    /// The runs that were asked for, and that there is something of.
    pub(super) fn runs(&mut self, runs: &[Run]) {
        runs.iter().for_each(|run| self.facts.run(run));
    }

    pub(super) fn stream(&mut self, stream: &StreamInfo) -> Result<(), Failure> {
        if self.body.is_none() {
            let names = &self.export.select.signals;
            let signals = stream.definition.signals.iter();
            let signals: Vec<_> = signals
                .filter(|signal| names.is_empty() || names.contains(&signal.name))
                .collect();
            self.line.types = signals.iter().map(|signal| signal.sample_type.name()).collect();
            self.line.signals = signals.iter().map(|signal| signal.name.clone()).collect();
            self.facts.signals(&signals);
            let body = Body::new(self.export.format, stream, &signals, &mut self.file)?;
            self.file.write(&body.head(0))?;
            self.body = Some(body);
        }
        self.line.streams.push(stream.id().to_string());
        self.current = Some(stream.clone());
        self.infos.push(stream.clone());
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
                Follows::After(missing) => {
                    let from_ns = end.time_ns;
                    self.absent(missing, from_ns, &|| {
                        format!("{} samples between two streams", thousands(missing))
                    })?;
                }
            }
        }
        // A run may consist of several ranges of a stream.
        if let Some((before, end)) = &self.end
            && before.id() == current.id()
            && first_sample > end.sample
        {
            let (missing, from_ns) = (first_sample - end.sample, end.time_ns);
            self.absent(missing, from_ns, &|| {
                format!("{} samples between two times of a run", thousands(missing))
            })?;
        }
        if self.end.is_none() {
            self.start_ns = Some(time_ns);
            let before = first_sample.saturating_sub(current.definition.first_sample);
            if self.range.from_ns.is_none() && !self.is_part_of_run(&current) && before > 0 {
                let from_ns = time_ns.saturating_sub(current.definition.duration_ns(before));
                self.absent(before, from_ns, &|| {
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

    /// May the run that is exported have only a range of it? Only what was recorded for a run is surely whole.
    fn is_part_of_run(&self, stream: &StreamInfo) -> bool {
        let select = &self.export.select;
        let by_filter = select.filter.as_ref().is_some_and(|filter| filter.contains("run"));
        by_filter || select.run.as_ref().is_some_and(|run| stream.run != *run)
    }

    pub(super) fn samples(&mut self, block: &Block<'_>) -> Result<(), Failure> {
        let end_ns = block
            .utc_ns
            .saturating_add(block.stream.definition.duration_ns(block.count));
        self.advance(block.first_sample, block.utc_ns, block.count, end_ns)?;
        let mut columns = block.columns.iter();
        let absent = columns.any(|column| column.absent.is_some());
        // A null among samples moves nothing: only a row that has none of them is left out.
        let keeps_rows = self.export.format.has_null()
            && self.export.gaps == GapPolicy::Skip
            && block.columns.iter().any(|column| column.absent.is_none());
        if absent && self.export.gaps != GapPolicy::Fill && !keeps_rows {
            return self.absent(block.count, block.utc_ns, &|| {
                format!("{} samples of single signals", thousands(block.count))
            });
        }
        if absent {
            let absent = block.columns.iter().filter(|column| column.absent.is_some());
            self.require_fillable(absent.map(|column| column.sample_type))?;
            self.line.filled_sample_count += block.count;
        }
        let body = self.body.as_mut().expect("a stream comes before its samples");
        body.samples(block, &mut self.file)?;
        self.line.sample_count += block.count;
        Ok(())
    }

    /// Notes on the samples that follow.
    pub(super) fn markers(&mut self, markers: Vec<Marker>) {
        if let Some(body) = &mut self.body {
            self.lost_markers += body.markers(markers);
        }
    }

    /// A gap of some signals, or of all: for what the file says of itself.
    pub(super) fn note_gap(&mut self, gap: &Gap) {
        self.facts.gap(gap);
    }

    pub(super) fn missing(&mut self, gap: &Gap) -> Result<(), Failure> {
        self.advance(gap.first_sample, gap.from_ns, gap.count, gap.to_ns)?;
        self.absent(gap.count, gap.from_ns, &|| name(gap))
    }

    /// Does to samples that are missing from this time on what was asked for.
    fn absent(&mut self, count: u64, from_ns: i64, words: &dyn Fn() -> String) -> Result<(), Failure> {
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
                let current = self.current.as_ref().expect("a stream comes before its samples");
                let definition = &current.definition;
                let signals = definition.signals.iter();
                let asked = signals.filter(|signal| self.line.signals.contains(&signal.name));
                self.require_fillable(asked.map(|signal| signal.sample_type))?;
                let body = self.body.as_mut().expect("a stream comes before its samples");
                body.fill(count, Times { definition, from_ns }, &mut self.file)?;
                self.line.filled_sample_count += count;
                self.line.sample_count += count;
            }
        }
        Ok(())
    }

    /// Rows that are gone without a gap in their place: whole streams, and what lies between `from` and the first sample.
    pub(super) fn require_rows(
        &self,
        listed: &[StreamInfo],
        manifest: &[StreamManifest],
        output: &Output,
    ) -> Result<(), Failure> {
        let came = |stream: &StreamInfo| manifest.iter().any(|answered| answered.stream == stream.id());
        // A successor may continue a stream before its first sample; and one that does not reach as far as its predecessor is not read.
        let replaced = |stream: &StreamInfo| {
            let mut others = listed.iter();
            others.any(|other| {
                let by_other = other.definition.predecessor;
                let own = stream.definition.predecessor;
                by_other.is_some_and(|predecessor| predecessor.stream_id == stream.id() && predecessor.seq == 0)
                    || own.is_some_and(|predecessor| predecessor.stream_id == other.id())
                        && other.at.next_sample > stream.at.next_sample
            })
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

    /// What came was whole, and which digests prove it.
    pub(super) fn proven(&mut self, manifest: &[StreamManifest]) {
        for answered in manifest {
            if let Some(info) = self.infos.iter().find(|info| info.id() == answered.stream) {
                self.facts.stream(info, &Extent::from(answered));
            }
        }
    }

    /// Is there something for what is missing?
    fn require_fillable(&self, types: impl Iterator<Item = SampleType>) -> Result<(), Failure> {
        if self.export.format.has_null() {
            return Ok(());
        }
        require_nan(types)
    }

    /// What was written, and what the format could not keep of it.
    pub(super) fn finish(mut self) -> Result<(ExportLine, Option<String>), Failure> {
        let (mut head, mut not_kept) = (Vec::new(), None);
        if let Some(body) = self.body.take() {
            if self.export.format == Format::Npy {
                head = body.head(self.line.sample_count);
            }
            not_kept = body.not_kept();
            if self.lost_markers > 0 {
                not_kept = Some(format!(
                    "{} markers are too many at one place, and are left out",
                    self.lost_markers
                ));
            }
            body.finish(&self.facts, &mut self.file)?;
        }
        self.progress.finish_and_clear();
        self.line.bytes = self.file.finish(&head)?;
        Ok((self.line, not_kept))
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

/// A stream of which some samples lie in the range, whatever its chunks say.
fn has_samples(stream: &StreamInfo, range: TimeRange) -> bool {
    let (Some(first_ns), Some(last_ns)) = (stream.first_time_ns, stream.last_time_ns) else {
        return false;
    };
    stream.at.next_sample > stream.definition.first_sample
        && range.from_ns.is_none_or(|from_ns| from_ns <= first_ns)
        && range.to_ns.is_none_or(|to_ns| last_ns <= to_ns)
}
