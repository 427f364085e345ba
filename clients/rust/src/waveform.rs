//! The samples of a selection, or columns drawn from them, as they arrive: streams in order of time, each in order of its
//! samples.
//!
//! # Invariants
//! - Memory does not grow with the range: one chunk is held, and what waits for its manifest is limited (I12).
//! - `Ok(None)` means complete: the last manifest came and agrees with everything before it.

use std::collections::VecDeque;
use std::sync::Arc;

use wavekeep_proto::chunk::{Marker, Reason};
use wavekeep_proto::codec::Decoder;
use wavekeep_proto::v1;
use wavekeep_proto::v1::waveform_part::Part as Wire;

use crate::columns::ColumnsCheck;
use crate::limits::{COLUMNS_MAX, GAPS_PENDING_MAX, STREAMS_MAX};
use crate::listing::Gap;
use crate::manifest;
use crate::stream_info::StreamInfo;
use crate::verify::{Accepted, StreamCheck};
use crate::{Client, Column, Columns, Error, Fault, Selection, StreamManifest};

/// Samples without a break, verified.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Of this stream.
    pub stream: &'a StreamInfo,
    /// Where it starts on the sample axis.
    pub first_sample: u64,
    /// Samples of each column.
    pub count: u64,
    /// UTC of the first sample, in nanoseconds; the next follow at the stream's rate.
    pub utc_ns: i64,
    /// The signals asked for, in the order of the definition.
    pub columns: &'a [Column],
}

/// One step of an answer.
#[derive(Debug)]
pub enum Part<'a> {
    /// What follows, up to the next one, is of this stream.
    Stream(&'a StreamInfo),
    /// Notes on the samples that follow.
    Markers(Vec<Marker>),
    /// Samples, for all the signals asked for or for some of them, or none.
    Samples(Block<'a>),
    /// What is drawn of one signal, where columns were asked for and there are more samples than that.
    Columns(Columns),
    /// Samples that are missing: of all signals, or of the named ones in the block that follows. Those of a stream that is drawn
    /// come after all of its columns.
    Gap(Gap),
    /// The stream is over, and why.
    End(Reason),
    /// All came, and this is what it was.
    Manifest(Vec<StreamManifest>),
}

/// What is ready to be given out.
#[derive(Debug)]
enum Ready {
    Stream,
    Markers(Vec<Marker>),
    Samples(Accepted),
    Columns(Columns),
    Gap(Gap),
    End(Reason),
    Manifest(Vec<StreamManifest>),
}

/// See the module's documentation.
pub struct Waveform {
    answer: tonic::Streaming<v1::WaveformPart>,
    selection: Selection,
    /// 0: samples were asked for.
    points_max: u32,
    /// Columns that came.
    drawn: u64,
    /// To ask which streams have a successor.
    client: Client,
    /// The streams so far; the last one is the current one.
    checks: Vec<StreamCheck>,
    columns: Vec<Column>,
    decoder: Decoder,
    ready: VecDeque<Ready>,
    /// Everything agrees with it but that the streams are read to their ends, which is not known yet.
    manifest: Option<Vec<StreamManifest>>,
    complete: bool,
}

impl std::fmt::Debug for Waveform {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Waveform")
            .field("streams", &self.checks.len())
            .field("complete", &self.complete)
            .finish()
    }
}

impl Waveform {
    pub(crate) fn new(
        answer: tonic::Streaming<v1::WaveformPart>,
        selection: Selection,
        points_max: u32,
        client: Client,
    ) -> Self {
        Self {
            answer,
            selection,
            points_max,
            drawn: 0,
            client,
            checks: Vec::new(),
            columns: Vec::new(),
            decoder: Decoder::new(),
            ready: VecDeque::new(),
            manifest: None,
            complete: false,
        }
    }

    /// The next part; None after the last. What it borrows is reused by the next call. After an error there is nothing more.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Part<'_>>, Error> {
        while self.ready.is_empty() {
            if let Some(streams) = &self.manifest {
                self.require_ends(streams).await?;
                let streams = self.manifest.take().unwrap_or_default();
                self.ready.push_back(Ready::Manifest(streams));
                break;
            }
            match self
                .answer
                .message()
                .await
                .map_err(|status| Error::interrupted(&status))?
            {
                Some(part) if !self.complete => self.take_in(part)?,
                Some(_) => return Err(Error::Malformed("something follows the manifest")),
                None if self.complete => return Ok(None),
                None => {
                    let stream = self.checks.last().map(|check| check.info.id()).unwrap_or_default();
                    return Err(Error::Refuted {
                        stream,
                        fault: Fault::ManifestMissing,
                    });
                }
            }
        }
        let ready = self.ready.pop_front().expect("the loop ends when something is ready");
        self.give_out(ready).map(Some)
    }

    /// Where the range is open towards the end, a stream must come up to its watermark, or up to where a successor continues it.
    /// Otherwise its last rows are gone, and nothing else would tell.
    async fn require_ends(&self, streams: &[StreamManifest]) -> Result<(), Error> {
        let open = |(check, _): &(&StreamCheck, &StreamManifest)| check.range.to_ns.is_none();
        for (check, manifest) in self.checks.iter().zip(streams).filter(open) {
            let (stream, found, watermark) = (manifest.stream, manifest.last_seq, check.info.at.seq);
            if found == watermark {
                continue;
            }
            if !self.is_succeeded(check, found).await? {
                let fault = Fault::Truncated { watermark, found };
                return Err(Error::Refuted { stream, fault });
            }
        }
        Ok(())
    }

    async fn is_succeeded(&self, check: &StreamCheck, seq: u64) -> Result<bool, Error> {
        let stream = check.info.id();
        if self.selection.is_one_stream() {
            return Ok(false);
        }
        let came = self.checks.iter().map(|check| &*check.info.definition);
        if manifest::is_continued(stream, seq, came) {
            return Ok(true);
        }
        // A successor of which nothing is stored yet is no part of the answer.
        let device = Selection::device(check.info.definition.device.as_str());
        let listed = self.client.streams(&device).await?;
        let listed = listed.iter().map(|info| &*info.definition);
        Ok(manifest::is_continued(stream, seq, listed))
    }

    fn take_in(&mut self, part: v1::WaveformPart) -> Result<(), Error> {
        match part.part.ok_or(Error::Malformed("an unknown part"))? {
            Wire::Stream(stream) => self.take_stream(stream),
            Wire::Chunk(chunk) => self.take_chunk(chunk),
            Wire::Manifest(manifest) => {
                self.manifest = manifest::check(&mut self.checks, &manifest)?;
                self.complete = self.manifest.is_some();
                for check in self.checks.iter_mut().filter(|check| check.is_drawn()) {
                    self.ready.extend(check.gaps.drain(..).map(Ready::Gap));
                }
                Ok(())
            }
            Wire::Columns(columns) => self.take_columns(columns),
        }
    }

    fn take_stream(&mut self, stream: v1::WaveformStream) -> Result<(), Error> {
        let info = stream.info.ok_or(Error::Malformed("a stream without a description"))?;
        let info = Arc::new(StreamInfo::from_wire(info)?);
        let asked = info.asked(self.selection.signal_names());
        let names = self.selection.signal_names();
        let drawn = (self.points_max > 0).then(|| ColumnsCheck::new(&info.definition, &asked, names));
        let is_asked = !asked.is_empty() || drawn.as_ref().is_some_and(|drawn| !drawn.is_empty());
        let malformed = Error::Malformed("a stream that does not belong to the answer");
        let Some(range) = self.selection.part(stream.range) else {
            return Err(malformed);
        };
        // Of a run, a stream comes once for each range, in order of time.
        let known = self.checks.iter().rev().find(|check| check.info.id() == info.id());
        let follows = |known: &StreamCheck| {
            known
                .range
                .to_ns
                .is_some_and(|end| range.from_ns.is_some_and(|from| end < from))
        };
        if !is_asked
            || known.is_some_and(|known| !follows(known))
            || !self.selection.admits(&info)
            || self.checks.len() == STREAMS_MAX
        {
            return Err(malformed);
        }
        let column = |signal: &usize| Column::new(*signal, info.definition.signals[*signal].sample_type);
        self.columns = asked.iter().map(column).collect();
        let mut check = StreamCheck::new(info, asked, range);
        check.drawn = drawn;
        self.checks.push(check);
        self.ready.push_back(Ready::Stream);
        Ok(())
    }

    fn take_chunk(&mut self, chunk: v1::WaveformChunk) -> Result<(), Error> {
        let check = self
            .checks
            .last_mut()
            .ok_or(Error::Malformed("a chunk before its stream"))?;
        let stream = check.info.id();
        if chunk.stream_id[..] != stream.as_bytes()[..] {
            return Err(Error::Malformed("a chunk of another stream"));
        }
        if check.drawn.as_ref().is_some_and(ColumnsCheck::has_columns) {
            return Err(Error::Malformed("samples of a stream that is drawn"));
        }
        let accepted = check.chunk(chunk).map_err(|fault| Error::Refuted { stream, fault })?;
        if self.points_max > 0 && check.sample_count > u64::from(self.points_max) {
            let (points_max, found) = (self.points_max, check.sample_count);
            let fault = Fault::Points { points_max, found };
            return Err(Error::Refuted { stream, fault });
        }
        if check.gaps.len() > GAPS_PENDING_MAX {
            return Err(Error::Refuted {
                stream,
                fault: Fault::ManifestMissing,
            });
        }
        if !accepted.header.markers.is_empty() && !accepted.quarantined {
            self.ready.push_back(Ready::Markers(accepted.header.markers.clone()));
        }
        self.ready.extend(check.gaps_of(&accepted).into_iter().map(Ready::Gap));
        if accepted.has_samples() {
            self.ready.push_back(Ready::Samples(accepted));
        } else if accepted.header.reason.is_end() && !accepted.quarantined {
            self.ready.push_back(Ready::End(accepted.header.reason));
        }
        Ok(())
    }

    fn take_columns(&mut self, columns: v1::WaveformColumns) -> Result<(), Error> {
        let check = self
            .checks
            .last_mut()
            .ok_or(Error::Malformed("columns before their stream"))?;
        let stream = check.info.id();
        if columns.stream_id[..] != stream.as_bytes()[..] {
            return Err(Error::Malformed("columns of another stream"));
        }
        let drawn = check.drawn.as_mut().filter(|_| check.chunks == 0);
        let drawn = drawn.ok_or(Error::Malformed("points instead of samples"))?;
        self.drawn = self.drawn.saturating_add(columns.count.len() as u64);
        if self.drawn > COLUMNS_MAX {
            return Err(Error::TooManyColumns(COLUMNS_MAX));
        }
        let range = check.range;
        let columns = drawn
            .take(&check.info, columns, range, self.points_max)
            .map_err(|fault| Error::Refuted { stream, fault })?;
        self.ready.push_back(Ready::Columns(columns));
        Ok(())
    }

    fn give_out(&mut self, ready: Ready) -> Result<Part<'_>, Error> {
        let current = self.checks.last();
        let current = || current.expect("a stream comes before its chunks");
        Ok(match ready {
            Ready::Stream => Part::Stream(&current().info),
            Ready::Markers(markers) => Part::Markers(markers),
            Ready::Gap(gap) => Part::Gap(gap),
            Ready::Columns(columns) => Part::Columns(columns),
            Ready::End(reason) => Part::End(reason),
            Ready::Manifest(streams) => Part::Manifest(streams),
            Ready::Samples(chunk) => {
                let check = current();
                let stream = check.info.id();
                check
                    .decode(&chunk, &mut self.decoder, &mut self.columns)
                    .map_err(|fault| Error::Refuted { stream, fault })?;
                let skipped = chunk.from_sample - chunk.header.first_sample;
                Part::Samples(Block {
                    stream: &check.info,
                    first_sample: chunk.from_sample,
                    count: chunk.count(),
                    utc_ns: chunk
                        .header
                        .utc_ns
                        .saturating_add(check.info.definition.duration_ns(skipped)),
                    columns: &self.columns,
                })
            }
        })
    }
}
