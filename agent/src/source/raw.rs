//! A recorded file of raw samples: little-endian, signals interleaved, nothing else in it.
//!
//! # Invariants
//! - The same content, device, start, rate and signals are the same stream, wherever and however often the file is read.
//! - I13: every byte of the file becomes a sample, bit for bit; a file that is not whole samples is refused.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wavekeep_proto::hash;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::limits::SAMPLE_ID_MAX;
use wavekeep_proto::stream::{SampleType, Signal};
use xxhash_rust::xxh3::Xxh3Default;

use super::pace::Pace;
use super::simulator::Speed;
use super::{Block, Column, Description, FileIdentity, Sink, SinkError, Source, SourceError, StreamShape};
use crate::stop::StopToken;

const READ_BYTES: usize = 1 << 20;

/// What a raw file does not say about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RawShape {
    /// The device that it was recorded from.
    pub device: String,
    /// Interleaved in this order; all of one type, of at least 8 bits.
    pub signals: Vec<Signal>,
    /// Samples per second of each signal.
    pub rate_hz: f64,
    /// UTC of the first sample, in nanoseconds since 1970.
    pub start_ns: i64,
}

/// Why a file cannot be replayed, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RawError {
    #[error("{path} cannot be read ({error}): check its name and permissions")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is not a file: give a file of raw samples")]
    NotAFile { path: PathBuf },
    #[error("{path} is empty: there is nothing to replay")]
    Empty { path: PathBuf },
    #[error(
        "{path} has {bytes} bytes, which are not whole samples of {frame_bytes} bytes ({signals} × {sample_type}): check --dtype and --signal, or cut the last {rest} bytes off"
    )]
    OddSize {
        path: PathBuf,
        bytes: u64,
        frame_bytes: u64,
        signals: usize,
        sample_type: &'static str,
        rest: u64,
    },
    #[error("{path} changed while it was read: replay it when it is complete")]
    Changed { path: PathBuf },
    #[error("the replay was stopped while {path} was read for the first time: nothing was stored")]
    Stopped { path: PathBuf },
}

/// One reading of a raw file.
#[derive(Debug)]
pub struct RawSource {
    path: PathBuf,
    shape: RawShape,
    speed: Speed,
    sample_type: SampleType,
    content: Hash,
    state: FileState,
    sample_count: u64,
}

/// What tells that a file was written to.
#[derive(Debug, PartialEq, Eq)]
struct FileState {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl RawSource {
    /// Reads the whole file once, to know what it is. `progress` is told how many bytes are done.
    ///
    /// # Panics
    /// If there are no signals, or of several types, or of a packed one.
    pub fn open(
        path: &Path,
        shape: RawShape,
        speed: Speed,
        stop: &StopToken,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, RawError> {
        let sample_type = shape
            .signals
            .first()
            .map(|signal| signal.sample_type)
            .expect("a raw file has a signal");
        assert!(
            shape.signals.iter().all(|signal| signal.sample_type == sample_type),
            "a raw file has one sample type"
        );
        let unreadable = |error| RawError::Unreadable {
            path: path.into(),
            error,
        };
        // Asked before it is opened: opening a pipe waits for a writer.
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(RawError::NotAFile { path: path.into() });
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let bytes = metadata.len();
        let frame_bytes = sample_type.bytes(1) * shape.signals.len() as u64;
        let rest = bytes % frame_bytes;
        match () {
            () if bytes == 0 => return Err(RawError::Empty { path: path.into() }),
            () if rest != 0 => {
                let (signals, sample_type) = (shape.signals.len(), sample_type.name());
                return Err(RawError::OddSize {
                    path: path.into(),
                    bytes,
                    frame_bytes,
                    signals,
                    sample_type,
                    rest,
                });
            }
            () => {}
        }
        let mut content = Xxh3Default::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut done = 0;
        loop {
            if stop.is_stopped() {
                return Err(RawError::Stopped { path: path.into() });
            }
            let read = file.read(&mut buffer).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            content.update(&buffer[..read]);
            done += read as u64;
            progress(done);
        }
        if done != bytes {
            return Err(RawError::Changed { path: path.into() });
        }
        let content = Hash(content.digest128().to_be_bytes());
        let state = FileState {
            bytes,
            modified: metadata.modified().ok(),
        };
        Ok(Self {
            path: path.into(),
            shape,
            speed,
            sample_type,
            content,
            state,
            sample_count: bytes / frame_bytes,
        })
    }

    /// Samples of each signal.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.sample_count
    }

    /// The stream that the file is.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        let RawShape {
            device,
            signals,
            rate_hz,
            start_ns,
        } = &self.shape;
        hash::file_stream_id(self.content, device, *start_ns, *rate_hz, signals)
    }

    fn frame_bytes(&self) -> u64 {
        self.sample_type.bytes(1) * self.shape.signals.len() as u64
    }

    fn fail(&self, error: &RawError) -> SourceError {
        SourceError::Device(error.to_string())
    }

    fn unreadable(&self, error: io::Error) -> SourceError {
        self.fail(&RawError::Unreadable {
            path: self.path.clone(),
            error,
        })
    }

    /// Delivers everything from where the sink stands.
    fn deliver(&self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let mut next_sample = sink.next_sample(0);
        if next_sample > self.sample_count {
            let why = format!(
                "the server has {next_sample} samples of {}, which has only {}: look for another writer of this stream",
                self.path.display(),
                self.sample_count
            );
            return Err(SourceError::Device(why));
        }
        sink.anchor(0, 0, self.shape.start_ns)?;
        let file = File::open(&self.path).map_err(|error| self.unreadable(error))?;
        let mut reader = BufReader::with_capacity(READ_BYTES, file);
        reader
            .seek(SeekFrom::Start(next_sample * self.frame_bytes()))
            .map_err(|error| self.unreadable(error))?;
        let pace = Pace::new(self.speed, self.shape.rate_hz, next_sample);
        let mut frames = Vec::new();
        let mut columns = vec![Vec::new(); self.shape.signals.len()];
        while next_sample < self.sample_count {
            let end = pace
                .next_block(next_sample, stop)
                .ok_or(SinkError::Stopped)?
                .min(self.sample_count);
            let count = end - next_sample;
            frames.resize((count * self.frame_bytes()) as usize, 0);
            reader.read_exact(&mut frames).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.fail(&RawError::Changed {
                    path: self.path.clone(),
                }),
                _ => self.unreadable(error),
            })?;
            self.deliver_block(next_sample, count, &frames, &mut columns, sink)?;
            next_sample = end;
        }
        self.check_unchanged(reader.get_ref())
    }

    fn deliver_block(
        &self,
        first_sample: u64,
        count: u64,
        frames: &[u8],
        columns: &mut [Vec<u8>],
        sink: &mut dyn Sink,
    ) -> Result<(), SourceError> {
        if columns.len() == 1 {
            return Ok(sink.samples(
                0,
                &Block {
                    first_sample,
                    count,
                    columns: &[Column::Raw(frames)],
                },
            )?);
        }
        match self.sample_type.bytes(1) {
            1 => deinterleave::<1>(frames, columns),
            2 => deinterleave::<2>(frames, columns),
            4 => deinterleave::<4>(frames, columns),
            8 => deinterleave::<8>(frames, columns),
            _ => deinterleave::<16>(frames, columns),
        }
        let columns: Vec<_> = columns.iter().map(|column| Column::Raw(column)).collect();
        Ok(sink.samples(
            0,
            &Block {
                first_sample,
                count,
                columns: &columns,
            },
        )?)
    }

    /// Before the stream ends: what was read must be what was hashed, or the stream's name is a lie.
    fn check_unchanged(&self, file: &File) -> Result<(), SourceError> {
        let metadata = file.metadata().map_err(|error| self.unreadable(error))?;
        if self.state
            == (FileState {
                bytes: metadata.len(),
                modified: metadata.modified().ok(),
            })
        {
            Ok(())
        } else {
            Err(self.fail(&RawError::Changed {
                path: self.path.clone(),
            }))
        }
    }
}

impl Source for RawSource {
    fn describe(&self) -> Description {
        Description {
            device: self.shape.device.clone(),
            attributes: std::collections::BTreeMap::new(),
            file: Some(FileIdentity {
                content: self.content,
                start_ns: self.shape.start_ns,
            }),
            streams: vec![StreamShape {
                signals: self.shape.signals.clone(),
                rate_hz: self.shape.rate_hz,
                first_sample: 0,
            }],
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        assert!(
            self.sample_count <= SAMPLE_ID_MAX,
            "a file system holds no file of 2^62 bytes"
        );
        loop {
            match self.deliver(sink, stop) {
                // The server's position was adopted while we read: go on there.
                Err(SourceError::Sink(SinkError::Moved { .. })) => {}
                other => return other,
            }
        }
    }
}

/// One column per signal from interleaved samples of `BYTES` bytes.
fn deinterleave<const BYTES: usize>(frames: &[u8], columns: &mut [Vec<u8>]) {
    let (samples, rest) = frames.as_chunks::<BYTES>();
    assert!(
        rest.is_empty() && samples.len().is_multiple_of(columns.len()),
        "a block is whole samples of all signals"
    );
    let signals = columns.len();
    for (signal, column) in columns.iter_mut().enumerate() {
        column.resize(frames.len() / signals, 0);
        for (to, from) in column
            .as_chunks_mut::<BYTES>()
            .0
            .iter_mut()
            .zip(samples[signal..].iter().step_by(signals))
        {
            *to = *from;
        }
    }
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
