//! `wavekeep-agent run`: captures a device.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use wavekeep_agent::capture::Capture;
use wavekeep_agent::source::simulated::SimulatedSource;
use wavekeep_agent::source::simulator::{self, SimulatorSpec};

use super::agent::{Position, Session};
use super::progress::Progress;
use super::signals::Signals;
use super::{CliError, CommonArgs, values};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Captures a simulated instrument, like js220,rate=1000000,seed=7,loss=1e-6
    #[arg(long, env = "WAVEKEEP_SIMULATE", value_name = "SPEC", required = true, long_help = simulator::HELP)]
    simulate: SimulatorSpec,
    /// Ends after this much time on the device's sample axis, and returns once all is acknowledged
    #[arg(long, env = "WAVEKEEP_DURATION", value_name = "DURATION", value_parser = values::duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(crate) fn run(args: RunArgs) -> Result<(), CliError> {
    let signals = Signals::listen()?;
    let device = args.common.device.clone();
    let session = Session::start(args.common, signals)?;
    let source = SimulatedSource::new(&device, args.simulate.clone(), Arc::clone(&session.clock));
    let capture = session
        .agent
        .capture(source, session.capture_options(args.duration))
        .map_err(CliError::failed)?;
    let expected = args.duration.map_or(0, |duration| {
        (duration.as_secs_f64() * f64::from(args.simulate.rate())) as u64
    });
    let mut progress = Progress::start(&device, expected, false);
    session.watch(&capture, false, &mut progress, &|capture: &Capture| {
        let status = capture.status();
        Position {
            done: status.sample_count + status.gap_sample_count,
            message: session.waiting_for(),
        }
    });
    drop(progress);
    session.finish(capture, args.duration.is_some(), None)
}
