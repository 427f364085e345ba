//! Whatever another program writes, while it writes it: `run --stdin raw|csv`. One stream, at a rate that the caller names.
//!
//! | module | what |
//! |---|---|
//! | `raw` | samples of all signals in turn, little-endian, nothing else |
//! | `table` | text: a line of names, then a line for each sample; with a column of times or without |
//!
//! # Invariants
//! - I4: what cannot be a sample is missing where it stands, in a gap `source_loss`, and said once a minute at the most. It never moves what
//!   comes after it.
//! - I12: a writer that is faster than the outbox waits; nothing but [`limits::PIPE_READS`] reads lies in between, and no line is longer
//!   than [`limits::CSV_LINE_BYTES_MAX`].
//! - The input's end is the capture's end; a writer that falls silent delays nobody who wants to stop it.

mod raw;
mod table;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use tracing::warn;
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::limits::{SAMPLE_BITS_MAX, SIGNALS_MAX};
use wavekeep_proto::stream::{SampleType, Signal};

use self::raw::Raw;
use self::table::Table;
use super::frames::columns_of;
use super::{Block, Column, Description, Sink, Source, SourceError, StreamShape, file};
use crate::clock::Clock;
use crate::limits;
use crate::stop::StopToken;

/// How often the stop is looked at while nobody writes.
const LOOK: Duration = Duration::from_millis(50);
/// Between two warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// What the other program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipeFormat {
    /// Samples, little-endian, signals interleaved.
    Raw,
    /// Lines of text.
    Csv,
}

/// What the caller says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PipeSpec {
    /// The device.
    pub device: String,
    /// What is written.
    pub format: PipeFormat,
    /// Names and units, in the order of the columns; of a table with a line of names they need not be given.
    pub signals: Vec<(String, String)>,
    /// Type of the samples: f32 of raw ones and f64 of a table, unless another one is given.
    pub sample_type: Option<SampleType>,
    /// Samples per second of each signal.
    pub rate_hz: f64,
}

/// Why it cannot be captured.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PipeError {
    #[error("standard input cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("standard input ended before the first line of samples")]
    NoRows,
    #[error(
        "the first line has {columns} columns and no names: name them with --signal, in their order; one name fewer, and the first is the time"
    )]
    NoNames { columns: usize },
    #[error("there are {columns} columns of samples and --signal names {named}: name all of them, in their order")]
    Names { columns: usize, named: usize },
    #[error("{0} columns of {1} do not fit into one stream: write fewer, or give --dtype f32")]
    Columns(usize, &'static str),
    #[error("the first line is longer than {max} bytes: this is no CSV", max = limits::CSV_LINE_BYTES_MAX)]
    LongLine,
    #[error("no thread can be started ({0}): look at the process limits")]
    Thread(io::Error),
}

/// What a reader of bytes has made of them: samples of all signals, interleaved, or none for so many samples.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Frames(Vec<u8>),
    Missing {
        samples: u64,
        why: String,
    },
    /// The next sample was taken then.
    Anchor(i64),
}

/// Makes samples of bytes, however they are cut.
trait Decode: Send {
    fn decode(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>);
    /// At the end of the input.
    fn finish(&mut self, pieces: &mut Vec<Piece>);
}

/// See the module's documentation.
pub struct PipeSource {
    spec: PipeSpec,
    signals: Vec<Signal>,
    decoder: Box<dyn Decode>,
    reads: Receiver<io::Result<Vec<u8>>>,
    /// Read while it was looked for names.
    first: Vec<u8>,
    clock: Arc<dyn Clock>,
    warned: Option<Duration>,
    columns: Vec<Vec<u8>>,
}

impl PipeSource {
    /// Reads on a thread of its own, from now on. Of a table, returns once its first lines are there.
    pub fn open(
        input: impl Read + Send + 'static,
        spec: PipeSpec,
        clock: Arc<dyn Clock>,
        stop: &StopToken,
    ) -> Result<Option<Self>, PipeError> {
        let reads = read(input)?;
        let (signals, decoder, first): (_, Box<dyn Decode>, _) = match spec.format {
            PipeFormat::Raw => {
                let default = [("current".to_owned(), "A".to_owned())];
                let names = if spec.signals.is_empty() {
                    &default
                } else {
                    &spec.signals[..]
                };
                let signals = signals(names, spec.sample_type.unwrap_or(SampleType::F32))?;
                let decoder = Raw::new(&signals);
                (signals, Box::new(decoder), Vec::new())
            }
            PipeFormat::Csv => {
                let Some((layout, first)) = table::find(&reads, &spec.signals, stop)? else {
                    return Ok(None);
                };
                let signals = signals(&layout.names, spec.sample_type.unwrap_or(SampleType::F64))?;
                let decoder = Table::new(layout, &signals, spec.rate_hz);
                (signals, Box::new(decoder), first)
            }
        };
        Ok(Some(Self {
            columns: vec![Vec::new(); signals.len()],
            spec,
            signals,
            decoder,
            reads,
            first,
            clock,
            warned: None,
        }))
    }

    /// True: the input has ended.
    fn next(&mut self, pieces: &mut Vec<Piece>) -> Result<bool, SourceError> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.decoder.decode(&first, pieces);
            return Ok(false);
        }
        match self.reads.recv_timeout(LOOK) {
            Ok(Ok(bytes)) => self.decoder.decode(&bytes, pieces),
            Ok(Err(error)) => return Err(SourceError::Device(PipeError::Unreadable(error).to_string())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                self.decoder.finish(pieces);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn deliver(&mut self, sink: &mut dyn Sink, piece: Piece) -> Result<(), SourceError> {
        let first_sample = sink.next_sample(0);
        match piece {
            Piece::Anchor(utc_ns) => sink.anchor(0, first_sample, utc_ns)?,
            Piece::Missing { samples, why } => {
                self.warn(samples, &why);
                let range: Range<u64> = first_sample..first_sample.saturating_add(samples);
                sink.gap(0, range, Reason::SourceLoss)?;
            }
            Piece::Frames(frames) => {
                let frame_bytes: u64 = self.signals.iter().map(|signal| signal.sample_type.bytes(1)).sum();
                let count = frames.len() as u64 / frame_bytes;
                let columns = columns_of(&self.signals, &frames, &mut self.columns);
                let columns: Vec<Column<'_>> = columns.into_iter().map(Column::Raw).collect();
                sink.samples(
                    0,
                    &Block {
                        first_sample,
                        count,
                        columns: &columns,
                    },
                )?;
            }
        }
        Ok(())
    }

    fn warn(&mut self, samples: u64, why: &str) {
        let now = self.clock.now();
        if self.warned.is_none_or(|at| now.saturating_sub(at) >= WARN_INTERVAL) {
            warn!("{}: {samples} samples are missing: {why}", self.spec.device);
            self.warned = Some(now);
        }
    }
}

impl Source for PipeSource {
    fn describe(&self) -> Description {
        Description {
            device: self.spec.device.clone(),
            attributes: BTreeMap::new(),
            file: None,
            streams: vec![StreamShape {
                signals: self.signals.clone(),
                rate_hz: self.spec.rate_hz,
                first_sample: 0,
            }],
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let mut pieces = Vec::new();
        let mut is_over = false;
        while !is_over && !stop.is_stopped() {
            is_over = self.next(&mut pieces)?;
            for piece in pieces.drain(..) {
                self.deliver(sink, piece)?;
            }
        }
        Ok(())
    }
}

/// Of one type, numbered in order.
fn signals(names: &[(String, String)], sample_type: SampleType) -> Result<Vec<Signal>, PipeError> {
    let bits = names.len() as u64 * u64::from(sample_type.bits());
    if names.is_empty() || names.len() > SIGNALS_MAX || bits > u64::from(SAMPLE_BITS_MAX) {
        return Err(PipeError::Columns(names.len(), sample_type.name()));
    }
    Ok(file::signals(names, sample_type))
}

/// The thread ends with the input, or with the program: nobody can wake one that waits for bytes.
fn read(mut input: impl Read + Send + 'static) -> Result<Receiver<io::Result<Vec<u8>>>, PipeError> {
    let (sender, reads) = mpsc::sync_channel(limits::PIPE_READS);
    let thread = std::thread::Builder::new().name("stdin".into());
    let reading = move || {
        let mut buffer = vec![0; limits::PIPE_READ_BYTES];
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) => Err(error),
            };
            let is_over = read.is_err();
            if sender.send(read).is_err() || is_over {
                return;
            }
        }
    };
    thread.spawn(reading).map_err(PipeError::Thread)?;
    Ok(reads)
}

#[cfg(test)]
mod tests;
