//! A recorded file as a source: what all formats share. A format looks at the whole file once, says what is in it
//! (`Recording`), and reads it again from any sample; pace, resume, markers and the check for changes are here.
//!
//! # Invariants
//! - The same samples, gaps and markers, device, start, rate and signals are the same stream, wherever, however often and in whatever
//!   format the file is read.
//! - I13: every sample of the file is delivered, bit for bit, or the replay fails with a sentence.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wavekeep_proto::chunk::{Marker, MarkerFormat, Reason};
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::limits::SAMPLE_ID_MAX;
use wavekeep_proto::stream::{SampleType, Signal};
use xxhash_rust::xxh3::Xxh3Default;

use super::frames::columns_of;
use super::pace::Pace;
use super::simulator::Speed;
use super::{
    Block, Column, Description, DescriptionError, FileError, FileIdentity, Sink, SinkError, Source, SourceError,
    StreamShape,
};
use crate::stop::StopToken;

/// A source that is a recorded file, of any format: it can be read again, and its end is known.
pub trait RecordedFile: Source {
    /// Where each of its streams starts and ends, gaps counted, in the order of the description.
    fn ranges(&self) -> Vec<Range<u64>>;

    /// The streams that the file is, in the same order.
    fn stream_ids(&self) -> Result<Vec<StreamId>, DescriptionError> {
        let definitions = self.describe().definitions()?;
        Ok(definitions.into_iter().map(|definition| definition.id).collect())
    }

    /// What the file says of itself and of its devices: for the streams' labels.
    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// What of the file is not replayed, a sentence each.
    fn warnings(&self) -> &[String] {
        &[]
    }
}

impl Source for Box<dyn RecordedFile> {
    fn describe(&self) -> Description {
        self.as_ref().describe()
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        self.as_mut().run(sink, stop)
    }
}

/// What the caller says of a file. What the file says itself need not be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The device that it was recorded from.
    pub device: String,
    /// Names and units of its signals, in the file's order.
    pub signals: Vec<(String, String)>,
    /// Type of its samples.
    pub sample_type: Option<SampleType>,
    /// Samples per second of each signal.
    pub rate_hz: Option<f64>,
    /// UTC of the first sample, in nanoseconds since 1970.
    pub start_ns: Option<i64>,
    /// How fast it is delivered.
    pub speed: Speed,
    /// Of a table whose rows are traces of one signal: one after the other.
    pub join_rows: bool,
}

impl Given {
    pub(super) fn rate_hz(&self, format: &'static str) -> Result<f64, FileError> {
        self.rate_hz.ok_or(FileError::NeedsRate { format })
    }

    pub(super) fn start_ns(&self, format: &'static str) -> Result<i64, FileError> {
        self.start_ns.ok_or(FileError::NeedsStart { format })
    }

    /// Refuses what contradicts a file that knows its type.
    pub(super) fn require_type(&self, format: &'static str, of_file: SampleType) -> Result<(), FileError> {
        match self.sample_type {
            Some(given) if given != of_file => Err(FileError::OtherType {
                format,
                given: given.name(),
                of_file: of_file.name(),
            }),
            _ => Ok(()),
        }
    }
}

/// What the first reading found. All signals are of one type, of at least 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recording {
    pub(super) device: String,
    pub(super) signals: Vec<Signal>,
    pub(super) rate_hz: f64,
    pub(super) start_ns: i64,
    /// See [`Content`].
    pub(super) content: Hash,
    /// Samples of each signal, gaps counted.
    pub(super) sample_count: u64,
    /// In the order of their samples, all of them below `sample_count`.
    pub(super) markers: Vec<Marker>,
}

/// Signals of one type, numbered in order.
pub(super) fn signals(names: &[(String, String)], sample_type: SampleType) -> Vec<Signal> {
    let signal = |((name, unit), number): (&(String, String), u16)| Signal {
        number,
        name: name.clone(),
        sample_type,
        unit: unit.clone(),
        finite_only: false,
    };
    names.iter().zip(0..).map(signal).collect()
}

/// How a format reads its samples.
pub(super) trait Format: fmt::Debug + Send {
    /// Reads from this sample on; `file` stands at its first byte.
    fn cursor(&self, file: File, sample: u64) -> io::Result<Box<dyn Cursor>>;
}

/// A place in a file. Ends and content that were not there at the first reading are `UnexpectedEof` and `InvalidData`.
pub(super) trait Cursor {
    /// The next samples, at most `count` (above zero), into `frames`: little-endian, signals interleaved. Or the gap that stands here.
    fn next(&mut self, count: u64, frames: &mut Vec<u8>) -> io::Result<Piece>;
}

/// What a cursor came to. Never of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Samples(u64),
    Gap(u64),
}

/// What tells that a file was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileState {
    /// How long it is.
    pub(super) bytes: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

/// The first look at a file, at the whole of it.
pub(super) struct FirstReading<'a> {
    pub(super) path: &'a Path,
    pub(super) file: File,
    state: FileState,
    stop: &'a StopToken,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a> FirstReading<'a> {
    /// `progress` is told how many bytes are done.
    pub(super) fn start(
        path: &'a Path,
        stop: &'a StopToken,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Self, FileError> {
        let unreadable = |error| FileError::Unreadable {
            path: path.into(),
            error,
        };
        // Asked before it is opened: opening a pipe waits for a writer.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(FileError::NotAFile { path: path.into() });
        }
        let file = File::open(path).map_err(unreadable)?;
        let state = FileState::of(&file).map_err(unreadable)?;
        if state.bytes == 0 {
            return Err(FileError::Empty { path: path.into() });
        }
        Ok(Self {
            path,
            file,
            state,
            stop,
            progress,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.bytes
    }

    pub(super) fn unreadable(&self, error: io::Error) -> FileError {
        FileError::Unreadable {
            path: self.path.into(),
            error,
        }
    }

    /// So many bytes are done: is it to go on?
    pub(super) fn done(&mut self, bytes: u64) -> Result<(), FileError> {
        if self.stop.is_stopped() {
            return Err(FileError::Stopped { path: self.path.into() });
        }
        (self.progress)(bytes);
        Ok(())
    }

    /// What was found, as a source.
    pub(super) fn finish(
        self,
        recording: Recording,
        format: impl Format + 'static,
        speed: Speed,
    ) -> Result<FileSource, FileError> {
        let now = FileState::of(&self.file).map_err(|error| self.unreadable(error))?;
        if now != self.state {
            return Err(FileError::Changed { path: self.path.into() });
        }
        Ok(FileSource {
            path: self.path.into(),
            state: self.state,
            recording,
            speed,
            format: Box::new(format),
        })
    }
}

/// What identifies a recording: XXH3-128 of its interleaved samples. With gaps or markers, of that hash and of those.
#[derive(Default)]
pub(super) struct Content {
    samples: Xxh3Default,
    besides: Option<Xxh3Default>,
}

impl Content {
    pub(super) fn samples(&mut self, frames: &[u8]) {
        self.samples.update(frames);
    }

    pub(super) fn gap(&mut self, first_sample: u64, count: u64) {
        let besides = self.besides.get_or_insert_default();
        besides.update(b"gap");
        besides.update(&first_sample.to_le_bytes());
        besides.update(&count.to_le_bytes());
    }

    pub(super) fn marker(&mut self, marker: &Marker) {
        let besides = self.besides.get_or_insert_default();
        besides.update(b"marker");
        besides.update(&marker.sample.to_le_bytes());
        besides.update(&(marker.content.len() as u64).to_le_bytes());
        besides.update(&marker.content);
    }

    pub(super) fn finish(&self) -> Hash {
        let samples = self.samples.digest128().to_be_bytes();
        let Some(besides) = &self.besides else {
            return Hash(samples);
        };
        let mut all = Xxh3Default::new();
        all.update(&samples);
        all.update(&besides.digest128().to_be_bytes());
        Hash(all.digest128().to_be_bytes())
    }
}

/// One reading of a recorded file.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    state: FileState,
    recording: Recording,
    speed: Speed,
    format: Box<dyn Format>,
}

impl FileSource {
    fn fail(&self, error: io::Error) -> SourceError {
        let path = self.path.clone();
        let error = match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => FileError::Changed { path },
            _ => FileError::Unreadable { path, error },
        };
        SourceError::Device(error.to_string())
    }

    /// Delivers everything from where the sink stands.
    fn deliver(&self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let Recording {
            sample_count,
            start_ns,
            rate_hz,
            signals,
            markers,
            ..
        } = &self.recording;
        let mut next_sample = sink.next_sample(0);
        if next_sample > *sample_count {
            let why = format!(
                "the server has {next_sample} samples of {}, which has only {sample_count}: look for another writer of this stream",
                self.path.display(),
            );
            return Err(SourceError::Device(why));
        }
        sink.anchor(0, 0, *start_ns)?;
        let file = File::open(&self.path).map_err(|error| self.fail(error))?;
        let opened = file.try_clone().map_err(|error| self.fail(error))?;
        let mut cursor = self
            .format
            .cursor(file, next_sample)
            .map_err(|error| self.fail(error))?;
        let pace = Pace::new(self.speed, *rate_hz, next_sample);
        let passed = markers.partition_point(|marker| marker.sample < next_sample);
        let mut markers = markers[passed..].iter().peekable();
        let mut frames = Vec::new();
        let mut columns = vec![Vec::new(); signals.len()];
        while next_sample < *sample_count {
            let due = pace.next_block(next_sample, stop).ok_or(SinkError::Stopped)?;
            let piece = cursor
                .next(due.min(*sample_count) - next_sample, &mut frames)
                .map_err(|error| self.fail(error))?;
            let (Piece::Samples(count) | Piece::Gap(count)) = piece;
            let end = next_sample + count;
            // A marker rides in the chunk of its sample: it comes before that sample, and not long before.
            while let Some(marker) = markers.next_if(|marker| marker.sample < end) {
                sink.marker(0, marker.clone())?;
            }
            if let Piece::Gap(_) = piece {
                sink.gap(0, next_sample..end, Reason::SourceLoss)?;
            } else {
                let columns = columns_of(signals, &frames, &mut columns);
                let columns: Vec<_> = columns.iter().map(|column| Column::Raw(column)).collect();
                sink.samples(
                    0,
                    &Block {
                        first_sample: next_sample,
                        count,
                        columns: &columns,
                    },
                )?;
            }
            next_sample = end;
        }
        // Before the stream ends: what was read must be what was hashed, or the stream's name is a lie.
        if FileState::of(&opened).map_err(|error| self.fail(error))? == self.state {
            Ok(())
        } else {
            Err(self.fail(io::ErrorKind::InvalidData.into()))
        }
    }
}

impl RecordedFile for FileSource {
    fn ranges(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.recording.sample_count).collect()
    }
}

impl Source for FileSource {
    fn describe(&self) -> Description {
        let recording = &self.recording;
        Description {
            device: recording.device.clone(),
            attributes: BTreeMap::new(),
            file: Some(FileIdentity {
                content: recording.content,
                start_ns: recording.start_ns,
            }),
            streams: vec![StreamShape {
                signals: recording.signals.clone(),
                rate_hz: recording.rate_hz,
                first_sample: 0,
            }],
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        if self.recording.sample_count > SAMPLE_ID_MAX {
            return Err(super::BadInput::SampleId.into());
        }
        until_delivered(|| self.deliver(sink, stop))
    }
}

/// Delivers again where the server's position was adopted while the file was read: it goes on there.
pub(super) fn until_delivered(mut deliver: impl FnMut() -> Result<(), SourceError>) -> Result<(), SourceError> {
    loop {
        match deliver() {
            Err(SourceError::Sink(SinkError::Moved { .. })) => {}
            other => return other,
        }
    }
}

/// A vertical line that says something: of formats that have no more to say of a sample.
pub(super) fn vertical_line(sample: u64, text: String) -> Marker {
    const VERTICAL: u16 = 1;
    Marker {
        sample,
        kind: VERTICAL,
        group: 0,
        y: f64::NAN,
        format: MarkerFormat::Text,
        content: text.into_bytes(),
    }
}
