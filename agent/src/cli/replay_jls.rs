//! `wavekeep-agent replay` of a JLS file: several streams, and labels that the file brings along.

use std::path::Path;

use tracing::warn;
use wavekeep_agent::capture::Capture;
use wavekeep_agent::source::jls::{JlsError, JlsOptions, JlsSource};
use wavekeep_agent::source::simulator::Speed;

use super::agent::{Position, Session};
use super::progress::Progress;
use super::signals::Signals;
use super::{CliError, CommonArgs};

pub(super) fn replay(path: &Path, start_ns: Option<i64>, speed: Speed, common: CommonArgs) -> Result<(), CliError> {
    let signals = Signals::listen()?;
    let name = path.display().to_string();
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let source = {
        let mut progress = Progress::start(&format!("reading {name}"), bytes.saturating_mul(2), true);
        let tell = |done| progress.set(done, &|| "bytes looked at, twice".into());
        let device = common.device.clone();
        JlsSource::open(path, JlsOptions { device, start_ns }, speed, &signals.stop, tell)
    };
    let source = source.map_err(|error| match error {
        JlsError::NoStart => CliError::Usage(format!("{name}: {error}")),
        _ => CliError::Failed(format!("{name}: {error}")),
    })?;
    for warning in source.warnings() {
        warn!("{name}: {warning}");
    }
    let (streams, ranges) = (source.stream_ids(), source.ranges());
    let sample_count = ranges.iter().map(|range| range.end - range.start).sum();
    let mut session = Session::start(common, signals)?;
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
    session.finish(capture, true, streams)
}
