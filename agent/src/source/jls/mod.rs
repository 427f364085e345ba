//! A recording in a JLS v2 file, as Joulescope's software and `pyjls` write them.
//!
//! The file is looked at twice before it is replayed: once for where everything is (`scan`), once for what its samples are, which
//! is what the file is ([`FileIdentity`]). Nothing of it is held but that index and one chunk of each signal.
//!
//! # Invariants
//! - I13: every sample in an intact chunk is delivered bit for bit, also of a file that was never closed.
//! - I4: what the writer filled with NaN because it was skipped, and what cannot be read, is a gap.
//! - I12: memory is bounded by `limits::JLS_*`, whatever the file says; arbitrary bytes never panic.

mod blocks;
mod deliver;
mod format;
mod layout;
mod scan;
mod signal;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blocks::{Blocks, Piece};
use layout::{Layout, Stream};
use scan::Contents;
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::SampleType;
use xxhash_rust::xxh3::Xxh3Default;

use super::file::{FileState, RecordedFile, until_delivered};
use super::simulator::Speed;
use super::{Column, Description, FileIdentity, Sink, Source, SourceError, StreamShape};
use crate::limits;
use crate::stop::StopToken;

/// Bytes at a place. A file, or what a test makes up.
trait ReadAt: Send {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }
}

/// Why a file's bytes cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ScanError {
    #[error("cannot be read ({0}): check its name and permissions")]
    Unreadable(#[from] io::Error),
    #[error(
        "is no JLS v2 file: choose its format with --format, and convert a JLS v1 file with `python -m pyjls copy`"
    )]
    NotJls,
    #[error("is of JLS version {0}, and only version 1 is known: write it again with a pyjls of today")]
    Version(u8),
    #[error("holds no samples: there is nothing to replay")]
    NoSamples,
    #[error("has sample ids below 0 or above 2^62: write it again with ids that start at 0")]
    SampleIds,
    #[error("has more than {max} data chunks: write it again in several parts, or with more samples in each chunk", max = limits::JLS_CHUNKS_MAX)]
    TooManyChunks,
    #[error("has a chunk of {0} bytes, above {max}: write it again with fewer samples in each chunk", max = limits::JLS_CHUNK_BYTES_MAX)]
    LongChunk(u32),
    #[error("was not read to its end: the replay was stopped, and nothing was stored")]
    Stopped,
}

/// Why a file cannot be replayed, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum JlsError {
    #[error("it is not a file: give a JLS file")]
    NotAFile,
    #[error("it {0}")]
    Scan(#[from] ScanError),
    #[error("it does not say when it was recorded: give --start, the time of the first sample")]
    NoStart,
    #[error(
        "its signal {signal} is of type {sample_type}, which no stream has: write it again as a type of 8, 16, 32 or 64 bits"
    )]
    SampleType { signal: String, sample_type: String },
    #[error("its largest chunks take {0} bytes together, above {max}: write it again with fewer samples in each chunk", max = limits::JLS_HELD_BYTES_MAX)]
    Held(u64),
    #[error("it changed while it was read: replay it when it is complete")]
    Changed,
}

/// What a JLS file does not say about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct JlsOptions {
    /// The device that it was recorded from.
    pub device: String,
    /// UTC of the first sample of each stream, in nanoseconds since 1970: counts instead of the times in the file.
    pub start_ns: Option<i64>,
}

/// One reading of a JLS file.
#[derive(Debug)]
pub struct JlsSource {
    path: PathBuf,
    device: String,
    speed: Speed,
    file: File,
    state: FileState,
    contents: Contents,
    layout: Layout,
    content: Hash,
    labels: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl JlsSource {
    /// Reads the whole file, to know what it is. `progress` is told how many bytes are done, of twice the file's.
    pub fn open(
        path: &Path,
        options: JlsOptions,
        speed: Speed,
        stop: &StopToken,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, JlsError> {
        // Asked before it is opened: opening a pipe waits for a writer.
        if !std::fs::metadata(path).map_err(ScanError::from)?.is_file() {
            return Err(JlsError::NotAFile);
        }
        let file = File::open(path).map_err(ScanError::from)?;
        let state = FileState::of(&file).map_err(ScanError::from)?;
        let contents = scan::scan(&file, state.bytes, stop, &mut progress)?;
        let held = contents
            .signals
            .values()
            .map(|signal| u64::from(signal.chunk_bytes))
            .sum();
        if held > limits::JLS_HELD_BYTES_MAX {
            return Err(JlsError::Held(held));
        }
        let layout = Layout::new(&contents, options.start_ns)?;
        let (content, damaged_samples) = content(&file, &contents, &layout, stop, &mut |share| {
            progress(state.bytes.saturating_add((share * state.bytes as f64) as u64));
        })?;
        if FileState::of(&file).map_err(ScanError::from)? != state {
            return Err(JlsError::Changed);
        }
        let (labels, left_labels) = layout::labels(&contents);
        let mut source = Self {
            path: path.into(),
            device: options.device,
            speed,
            file,
            state,
            contents,
            layout,
            content,
            labels,
            warnings: Vec::new(),
        };
        source.warnings = source.find_warnings(damaged_samples, left_labels);
        Ok(source)
    }

    fn find_warnings(&self, damaged_samples: u64, left_labels: u64) -> Vec<String> {
        let left = self.contents.left;
        let samples: u64 = self
            .contents
            .signals
            .values()
            .flat_map(|signal| &signal.entries)
            .map(|entry| entry.count)
            .sum();
        let mut warnings = Vec::new();
        if !self.contents.is_closed {
            warnings.push(format!(
                "it was not closed by its writer, or cut off: {samples} samples of all signals are read, up to the last whole chunk ({} bytes after it are left out)",
                left.torn_bytes
            ));
        }
        let mut tell = |count: u64, what: &str| {
            if count > 0 {
                warnings.push(format!("{count} {what}"));
            }
        };
        tell(left.damaged_chunks, "damaged places in it are passed over");
        tell(damaged_samples, "samples lie in damaged chunks: they become gaps");
        tell(
            left.variable_rate_chunks,
            "chunks of signals without a fixed rate are left out",
        );
        tell(
            left.annotations,
            "annotations are too long or too many and are left out",
        );
        tell(
            self.layout.stray_annotations,
            "annotations stand at no sample of the file and are left out",
        );
        tell(left.times, "times of samples are too many and are left out");
        tell(
            left.user_data + left_labels,
            "pieces of user data are no text of at most 1,000 bytes, or too many, and are left out of the labels",
        );
        warnings
    }

    fn fail(&self, error: impl Into<JlsError>) -> SourceError {
        let error: JlsError = error.into();
        SourceError::Device(format!("{}: {error}", self.path.display()))
    }

    /// Before the streams end: what was read must be what was hashed, or the streams' names are a lie.
    fn check_unchanged(&self) -> Result<(), SourceError> {
        match FileState::of(&self.file) {
            Ok(state) if state == self.state => Ok(()),
            Ok(_) => Err(self.fail(JlsError::Changed)),
            Err(error) => Err(self.fail(ScanError::from(error))),
        }
    }
}

impl RecordedFile for JlsSource {
    fn ranges(&self) -> Vec<Range<u64>> {
        let streams = self.layout.streams.iter();
        streams.map(|stream| stream.first..stream.end).collect()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.labels.clone()
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Source for JlsSource {
    fn describe(&self) -> Description {
        let shape = |stream: &Stream| StreamShape {
            signals: stream.signals.clone(),
            rate_hz: stream.rate_hz,
            first_sample: stream.first,
        };
        Description {
            device: self.device.clone(),
            attributes: BTreeMap::new(),
            file: Some(FileIdentity {
                content: self.content,
                start_ns: self.layout.start_ns,
            }),
            streams: self.layout.streams.iter().map(shape).collect(),
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        until_delivered(|| self.deliver(sink, stop))
    }
}

/// The XXH3-128 of the samples: of each signal's, one after the other, and of where they lie. However they are cut into chunks, and
/// in which order these were written, the same samples are the same content. Answers also how many cannot be read.
fn content(
    file: &dyn ReadAt,
    contents: &Contents,
    layout: &Layout,
    stop: &StopToken,
    progress: &mut dyn FnMut(f64),
) -> Result<(Hash, u64), ScanError> {
    let total: u64 = layout.streams.iter().map(|stream| stream.end - stream.first).sum();
    let (mut whole, mut done, mut damaged_samples) = (Xxh3Default::new(), 0, 0);
    for stream in &layout.streams {
        let mut blocks = Blocks::new(stream, contents);
        let mut signals: Vec<_> = stream
            .signals
            .iter()
            .map(|signal| SignalHash::new(signal.sample_type))
            .collect();
        let mut next = stream.first;
        while next < stream.end {
            if stop.is_stopped() {
                return Err(ScanError::Stopped);
            }
            progress((done + next - stream.first) as f64 / total as f64);
            match blocks.next(file, next, next.saturating_add(limits::SOURCE_BLOCK_SAMPLES as u64))? {
                Piece::Missing(end) => next = end,
                Piece::Samples(end) => {
                    for (signal, column) in signals.iter_mut().zip(blocks.columns()) {
                        if let Column::Raw(samples) = column {
                            signal.update(next, end - next, samples);
                        }
                    }
                    next = end;
                }
            }
        }
        for (signal, hash) in stream.signals.iter().zip(signals) {
            whole.update(&signal.number.to_le_bytes());
            whole.update(&hash.finish());
        }
        done += stream.end - stream.first;
        damaged_samples += blocks.damaged_samples();
    }
    Ok((Hash(whole.digest128().to_be_bytes()), damaged_samples))
}

/// Of one signal.
struct SignalHash {
    sample_type: SampleType,
    samples: Xxh3Default,
    /// Start and end of each run of samples.
    runs: Xxh3Default,
    run_end: u64,
    unpacked: Vec<u8>,
}

impl SignalHash {
    fn new(sample_type: SampleType) -> Self {
        Self {
            sample_type,
            samples: Xxh3Default::new(),
            runs: Xxh3Default::new(),
            run_end: 0,
            unpacked: Vec::new(),
        }
    }

    fn update(&mut self, first: u64, count: u64, samples: &[u8]) {
        if first != self.run_end {
            self.runs.update(&self.run_end.to_le_bytes());
            self.runs.update(&first.to_le_bytes());
        }
        self.run_end = first + count;
        let bits = self.sample_type.bits() as usize;
        if bits >= 8 {
            self.samples.update(samples);
            return;
        }
        // A byte each, or it would matter where a block ends.
        let mask = (1 << bits) - 1;
        self.unpacked.clear();
        let place = |at: usize| samples[at * bits / 8] >> (at * bits % 8) & mask;
        self.unpacked.extend((0..count as usize).map(place));
        self.samples.update(&self.unpacked);
    }

    fn finish(mut self) -> [u8; 32] {
        self.runs.update(&self.run_end.to_le_bytes());
        let mut both = [0; 32];
        both[..16].copy_from_slice(&self.runs.digest128().to_be_bytes());
        both[16..].copy_from_slice(&self.samples.digest128().to_be_bytes());
        both
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
