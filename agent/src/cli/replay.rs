//! `wavekeep-agent replay`: brings a recorded file to the server, however often it is interrupted.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use tracing::warn;
use wavekeep_agent::capture::Capture;
use wavekeep_agent::outbox::chunk_file;
use wavekeep_agent::source::file::{FileSource, Given, RecordedFile};
use wavekeep_agent::source::jls::{JlsError, JlsOptions, JlsSource};
use wavekeep_agent::source::simulator::Speed;
use wavekeep_agent::source::{FileError, csv, energyrunner, foreign, npy, raw};
use wavekeep_agent::stop::StopToken;

use super::agent::{Position, Session};
use super::carried;
use super::progress::Progress;
use super::signals::Signals;
use super::{CliError, CommonArgs, values};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The device's name, as readers will ask for it
    #[arg(long, env = "WAVEKEEP_DEVICE", value_name = "NAME", value_parser = values::name)]
    pub(super) device: String,
    /// What the file is [default: by the file's name, else raw]
    #[arg(long, env = "WAVEKEEP_FORMAT", value_enum)]
    format: Option<Format>,
    /// Type of the samples: of a raw file, little-endian [default: f32]; what a CSV file's numbers become [default: f64]
    #[arg(long, env = "WAVEKEEP_DTYPE", value_enum)]
    dtype: Option<values::Dtype>,
    /// A signal, as NAME:UNIT; several in the order of the file's columns, in which a raw file interleaves them [default: what the file
    /// says; of a raw file current:A]
    #[arg(long = "signal", env = "WAVEKEEP_SIGNALS", value_name = "NAME:UNIT", value_delimiter = '\n', value_parser = values::signal)]
    signals: Vec<(String, String)>,
    /// Samples per second of each signal; raw and npy files need it, and CSV files without times
    #[arg(long, env = "WAVEKEEP_RATE", value_name = "HZ", value_parser = values::rate_hz)]
    rate: Option<f64>,
    /// When the first sample was taken (RFC 3339): all files need it but CSV files with dates and JLS files with times; where it is
    /// given, it counts instead of those
    #[arg(long, env = "WAVEKEEP_START", value_name = "TIME", value_parser = values::time_ns)]
    start: Option<i64>,
    /// As fast as possible, or this many times as fast as it was recorded
    #[arg(long, env = "WAVEKEEP_SPEED", value_name = "max|FACTOR", default_value = "max", value_parser = speed)]
    speed: Speed,
    /// Of an npy file whose rows are traces of one signal: takes them one after the other, with a marker at each
    #[arg(long, env = "WAVEKEEP_JOIN_ROWS", value_parser = BoolishValueParser::new())]
    join_rows: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Samples, little-endian, signals interleaved
    Raw,
    /// A table as text, with a column of times or without
    Csv,
    /// An array that numpy saved
    Npy,
    /// JLS v2: Joulescope's own, with the times, gaps and notes in it
    Jls,
    /// A trace of EEMBC EnergyRunner, with the edges beside it
    Energyrunner,
    /// What `outbox export` wrote: a file, or a directory of them
    Chunks,
}

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(Speed::Factor(factor)),
        _ => Err("write max, or a factor above 0: 1 is real time".into()),
    }
}

/// How far a file's first reading is.
type Tell<'a> = &'a mut dyn FnMut(u64);

impl ReplayArgs {
    fn format(&self) -> Format {
        let name = self
            .file
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().to_ascii_lowercase());
        self.format.unwrap_or_else(|| match name.rsplit_once('.') {
            Some((_, "csv" | "tsv")) => Format::Csv,
            Some((_, "npy")) => Format::Npy,
            Some((_, "jls")) => Format::Jls,
            Some((_, chunk_file::EXTENSION)) => Format::Chunks,
            _ if name.ends_with(energyrunner::NAME_END) => Format::Energyrunner,
            _ => Format::Raw,
        })
    }

    /// Does it say what only a file without such knowledge needs?
    pub(super) fn describes(&self) -> bool {
        let signals = !self.signals.is_empty();
        signals || self.dtype.is_some() || self.rate.is_some() || self.start.is_some() || self.join_rows
    }

    fn given(&self) -> Given {
        Given {
            device: self.device.clone(),
            signals: self.signals.clone(),
            sample_type: self.dtype.map(values::Dtype::sample_type),
            rate_hz: self.rate,
            start_ns: self.start,
            speed: self.speed,
            join_rows: self.join_rows,
        }
    }

    /// Reads the file, as its format says, to know what it is.
    fn open(&self, stop: &StopToken, tell: Tell<'_>) -> Result<Box<dyn RecordedFile>, CliError> {
        let (format, file, given) = (self.format(), &self.file, self.given());
        if self.join_rows && !matches!(format, Format::Npy | Format::Jls) {
            return Err(CliError::Usage(
                "only an npy file has rows to join: leave --join-rows out".into(),
            ));
        }
        let boxed = |source: Result<FileSource, FileError>| match source {
            Ok(source) => Ok(Box::new(source) as Box<dyn RecordedFile>),
            Err(error) if error.is_usage() => Err(CliError::usage(error)),
            Err(error) => Err(CliError::failed(error)),
        };
        match format {
            // Raw by default, that is, not because somebody knows it.
            Format::Raw if self.format.is_none() => {
                boxed(foreign::require_raw(file).and_then(|()| raw::open(file, &given, stop, tell)))
            }
            Format::Raw => boxed(raw::open(file, &given, stop, tell)),
            Format::Csv => boxed(csv::open(file, &given, stop, tell)),
            Format::Npy => boxed(npy::open(file, &given, stop, tell)),
            Format::Energyrunner => boxed(energyrunner::open(file, &given, stop, tell)),
            Format::Jls => self.open_jls(given, stop, tell),
            Format::Chunks => Err(CliError::Usage("a chunk file is not captured: it is carried".into())),
        }
    }

    fn open_jls(&self, given: Given, stop: &StopToken, tell: Tell<'_>) -> Result<Box<dyn RecordedFile>, CliError> {
        if given.rate_hz.is_some() || !given.signals.is_empty() || given.sample_type.is_some() || given.join_rows {
            let why = "a JLS file says itself what its signals, types and rates are: leave --rate, --signal, --dtype and --join-rows out";
            return Err(CliError::Usage(why.into()));
        }
        let options = JlsOptions {
            device: given.device,
            start_ns: given.start_ns,
        };
        let name = self.file.display();
        match JlsSource::open(&self.file, options, given.speed, stop, tell) {
            Ok(source) => Ok(Box::new(source)),
            Err(error @ JlsError::NoStart) => Err(CliError::Usage(format!("{name}: {error}"))),
            Err(error) => Err(CliError::Failed(format!("{name}: {error}"))),
        }
    }

    /// How often a file is read to know what it is, and how far that is said to be.
    fn readings(&self) -> (u64, &'static str) {
        match self.format() {
            Format::Jls => (2, "bytes looked at, twice"),
            _ => (1, "bytes looked at"),
        }
    }
}

pub(crate) fn replay(args: ReplayArgs) -> Result<(), CliError> {
    let signals = Signals::listen()?;
    if args.format() == Format::Chunks {
        return carried::replay(args, signals);
    }
    let name = args.file.display().to_string();
    let bytes = std::fs::metadata(&args.file).map_or(0, |metadata| metadata.len());
    let source = {
        let (times, what) = args.readings();
        let mut progress = Progress::start(&format!("reading {name}"), bytes.saturating_mul(times), true);
        args.open(&signals.stop, &mut |done| progress.set(done, &|| what.into()))?
    };
    for warning in source.warnings() {
        warn!("{name}: {warning}");
    }
    let ranges = source.ranges();
    let sample_count = ranges.iter().map(|range| range.end - range.start).sum();
    let streams = source.stream_ids().map_err(CliError::failed)?;
    let mut session = Session::start(args.common, &args.device, signals)?;
    session.add_labels(source.labels());
    let capture = session
        .agent
        .capture(source, session.capture_options(None))
        .map_err(CliError::failed)?;
    let mut progress = Progress::start(&format!("replaying {name}"), sample_count, false);
    session.watch(&capture, true, &mut progress, &|_: &Capture| {
        let positions = streams.iter().map(|stream| session.agent.position(*stream));
        let done = positions
            .zip(&ranges)
            .map(|(position, range)| position.map_or(0, |position| position.next_sample.saturating_sub(range.start)));
        Position {
            done: done.sum(),
            message: session.waiting_for(),
        }
    });
    drop(progress);
    session.finish(vec![capture], true, streams)
}
