//! `wavekeep-agent replay`: brings a recorded file to the server, however often it is interrupted.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use wavekeep_agent::capture::Capture;
use wavekeep_agent::source::raw::{RawShape, RawSource};
use wavekeep_agent::source::simulator::Speed;
use wavekeep_proto::stream::{SampleType, Signal};

use super::agent::{Position, Session};
use super::progress::Progress;
use super::signals::Signals;
use super::{CliError, CommonArgs, replay_jls, values};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the file is [default: by the file's name, else raw]
    #[arg(long, env = "WAVEKEEP_FORMAT", value_enum)]
    format: Option<Format>,
    /// Type of a raw file's samples, little-endian
    #[arg(long, env = "WAVEKEEP_DTYPE", value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// A signal of a raw file, as NAME:UNIT; several are interleaved in this order [default: current:A]
    #[arg(long = "signal", env = "WAVEKEEP_SIGNALS", value_name = "NAME:UNIT", value_delimiter = '\n', value_parser = values::signal)]
    signals: Vec<(String, String)>,
    /// Samples per second of each signal; a raw file needs it
    #[arg(long, env = "WAVEKEEP_RATE", value_name = "HZ", value_parser = values::rate_hz)]
    rate: Option<f64>,
    /// When the first sample was taken (RFC 3339); a raw file needs it, as does a JLS file without times; else it counts instead of them
    #[arg(long, env = "WAVEKEEP_START", value_name = "TIME", value_parser = values::time_ns)]
    start: Option<i64>,
    /// As fast as possible, or this many times as fast as it was recorded
    #[arg(long, env = "WAVEKEEP_SPEED", value_name = "max|FACTOR", default_value = "max", value_parser = speed)]
    speed: Speed,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Raw,
    /// JLS v2: Joulescope's own, with the times, gaps and notes in it
    Jls,
    // Known by name, to be refused in words.
    #[value(hide = true)]
    Csv,
    #[value(hide = true)]
    Npy,
    #[value(hide = true)]
    Energyrunner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    F64,
    I16,
    I32,
}

impl Dtype {
    const fn sample_type(self) -> SampleType {
        match self {
            Self::F32 => SampleType::F32,
            Self::F64 => SampleType::F64,
            Self::I16 => SampleType::I16,
            Self::I32 => SampleType::I32,
        }
    }
}

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(Speed::Factor(factor)),
        _ => Err("write max, or a factor above 0: 1 is real time".into()),
    }
}

impl ReplayArgs {
    fn format(&self) -> Format {
        let extension = self
            .file
            .extension()
            .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        self.format.unwrap_or(match extension.as_deref() {
            Some("csv") => Format::Csv,
            Some("npy") => Format::Npy,
            Some("jls") => Format::Jls,
            _ => Format::Raw,
        })
    }

    fn shape(&self) -> Result<RawShape, CliError> {
        let format = self.format();
        if format != Format::Raw {
            let name = format
                .to_possible_value()
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default();
            return Err(CliError::Usage(format!(
                "this version cannot replay {name} files: convert {} to raw samples, or say --format raw if it is raw",
                self.file.display()
            )));
        }
        let needs = |option| CliError::Usage(format!("a raw file does not say it itself: give {option}"));
        let default = vec![("current".to_owned(), "A".to_owned())];
        let signals = if self.signals.is_empty() {
            &default
        } else {
            &self.signals
        };
        let signal = |((name, unit), number): (&(String, String), u16)| Signal {
            number,
            name: name.clone(),
            sample_type: self.dtype.sample_type(),
            unit: unit.clone(),
            finite_only: false,
        };
        Ok(RawShape {
            device: self.common.device.clone(),
            signals: signals.iter().zip(0..).map(signal).collect(),
            rate_hz: self.rate.ok_or_else(|| needs("--rate, the samples per second"))?,
            start_ns: self
                .start
                .ok_or_else(|| needs("--start, the time of the first sample"))?,
        })
    }
}

pub(crate) fn replay(args: ReplayArgs) -> Result<(), CliError> {
    if args.format() == Format::Jls {
        if args.rate.is_some() || !args.signals.is_empty() {
            let why = "a JLS file says itself what its signals and rates are: leave --rate and --signal out";
            return Err(CliError::Usage(why.into()));
        }
        return replay_jls::replay(&args.file, args.start, args.speed, args.common);
    }
    let shape = args.shape()?;
    let signals = Signals::listen()?;
    let name = args.file.display().to_string();
    let bytes = std::fs::metadata(&args.file).map_or(0, |metadata| metadata.len());
    let source = {
        let mut progress = Progress::start(&format!("reading {name}"), bytes, true);
        let tell = |done| progress.set(done, &|| "bytes looked at".into());
        RawSource::open(&args.file, shape, args.speed, &signals.stop, tell).map_err(CliError::failed)?
    };
    let sample_count = source.sample_count();
    let session = Session::start(args.common, signals)?;
    let stream = source.stream_id();
    let capture = session
        .agent
        .capture(source, session.capture_options(None))
        .map_err(CliError::failed)?;
    let mut progress = Progress::start(&format!("replaying {name}"), sample_count, false);
    session.watch(&capture, true, &mut progress, &|_: &Capture| {
        let done = session
            .agent
            .position(stream)
            .map_or(0, |position| position.next_sample);
        Position {
            done,
            message: session.waiting_for(),
        }
    });
    drop(progress);
    session.finish(capture, true, Some(stream))
}
