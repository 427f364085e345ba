//! `wavekeep-agent run`: captures a device, or several instruments.

use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use wavekeep_agent::capture::Capture;
use wavekeep_agent::source::Source;
use wavekeep_agent::source::joulescope::settings::Settings;
use wavekeep_agent::source::pipe::{PipeFormat, PipeSource, PipeSpec};
use wavekeep_agent::source::simulated::SimulatedSource;
use wavekeep_agent::source::simulator::{self, SimulatorSpec};

use super::agent::{Position, Session};
use super::joulescope;
use super::progress::Progress;
use super::signals::Signals;
use super::{CliError, CommonArgs, values};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true)))]
pub(crate) struct RunArgs {
    /// The device's name, as readers will ask for it [default: of a Joulescope, its model and serial number]
    #[arg(long, env = "WAVEKEEP_DEVICE", value_name = "NAME", value_parser = values::name, required_unless_present = "joulescope")]
    device: Option<String>,
    /// Captures a simulated instrument, like js220,rate=1000000,seed=7,loss=1e-6
    #[arg(long, env = "WAVEKEEP_SIMULATE", value_name = "SPEC", group = "source", long_help = simulator::HELP)]
    simulate: Option<SimulatorSpec>,
    /// Captures the Joulescope with this serial number, also when it is plugged in later; may be given several times. Without a number:
    /// all that there are and that will be
    #[arg(long, env = "WAVEKEEP_JOULESCOPE", value_name = "SERIAL", num_args = 0..=1, default_missing_value = joulescope::ALL, value_delimiter = ',', group = "source")]
    joulescope: Vec<String>,
    /// How the Joulescopes are to measure, like rate=100000,current_range=auto
    #[arg(
        long,
        env = "WAVEKEEP_SETTINGS",
        value_name = "KEY=VALUE,…",
        requires = "joulescope",
        default_value = "",
        hide_default_value = true
    )]
    settings: Settings,
    /// Captures what another program writes to standard input
    #[arg(
        long,
        env = "WAVEKEEP_STDIN",
        value_name = "FORMAT",
        group = "source",
        requires = "rate"
    )]
    stdin: Option<StdinFormat>,
    /// Of standard input: samples per second of each signal
    #[arg(long, env = "WAVEKEEP_RATE", value_name = "HZ", value_parser = values::rate_hz, requires = "stdin")]
    rate: Option<f64>,
    /// Of standard input: a signal, as NAME:UNIT; several in the order of the columns [default: the line of names; of raw samples current:A]
    #[arg(long = "signal", env = "WAVEKEEP_SIGNALS", value_name = "NAME:UNIT", value_delimiter = '\n', value_parser = values::signal, requires = "stdin")]
    signals: Vec<(String, String)>,
    /// Of standard input: type of the samples [default: f32 of raw ones, f64 of a table]
    #[arg(long, env = "WAVEKEEP_DTYPE", value_enum, requires = "stdin")]
    dtype: Option<values::Dtype>,
    /// Ends after this much time on the device's sample axis, and returns once all is acknowledged
    #[arg(long, env = "WAVEKEEP_DURATION", value_name = "DURATION", value_parser = values::duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StdinFormat {
    /// Samples, little-endian, signals interleaved
    Raw,
    /// Lines of text; the first may name the columns, one of which may be the time
    Csv,
}

pub(crate) fn run(args: RunArgs) -> Result<(), CliError> {
    let RunArgs {
        device,
        duration,
        common,
        ..
    } = args;
    if !args.joulescope.is_empty() {
        let wanted = joulescope::Wanted::new(&args.joulescope, device, args.settings)?;
        return joulescope::run(wanted, duration, common);
    }
    let device = device.ok_or_else(|| CliError::Usage("give the device's name: --device NAME".into()))?;
    let signals = Signals::listen()?;
    let session = Session::start(common, &device, signals)?;
    let clock = Arc::clone(&session.clock);
    match (args.simulate, args.rate) {
        (Some(spec), _) => {
            let rate_hz = f64::from(spec.rate());
            capture(session, SimulatedSource::new(&device, spec, clock), rate_hz, duration)
        }
        (None, rate_hz) => {
            let spec = PipeSpec {
                device,
                format: match args.stdin {
                    Some(StdinFormat::Csv) => PipeFormat::Csv,
                    _ => PipeFormat::Raw,
                },
                signals: args.signals,
                sample_type: args.dtype.map(values::Dtype::sample_type),
                rate_hz: rate_hz.ok_or_else(|| CliError::Usage("give --rate HZ".into()))?,
            };
            let rate_hz = spec.rate_hz;
            let source = PipeSource::open(std::io::stdin(), spec, clock, &session.signals.stop);
            let Some(source) = source.map_err(CliError::failed)? else {
                return Err(CliError::Incomplete("stopped before the first line came".into()));
            };
            capture(session, source, rate_hz, duration)
        }
    }
}

fn capture(
    session: Session,
    source: impl Source + 'static,
    rate_hz: f64,
    duration: Option<Duration>,
) -> Result<(), CliError> {
    let device = source.describe().device;
    let capture = session
        .agent
        .capture(source, session.capture_options(duration))
        .map_err(CliError::failed)?;
    let expected = duration.map_or(0, |duration| (duration.as_secs_f64() * rate_hz) as u64);
    let mut progress = Progress::start(&device, expected, false);
    session.watch(&capture, false, &mut progress, &|capture: &Capture| {
        let status = capture.status();
        Position {
            done: status.sample_count + status.gap_sample_count,
            message: session.waiting_for(),
        }
    });
    drop(progress);
    session.finish(vec![capture], duration.is_some(), None)
}
