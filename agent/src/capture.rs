//! The shell around a source: its thread, from the source through the chunker and the encoder into the outbox.
//!
//! # Invariants
//! - I4, I13: what the sink took is stored, in order, or the capture ends with an error that says so.
//! - A live source's streams end with `closed` when it ends, is stopped, or is opened again (I11: each opening has its own epoch); a file's stream ends only after its last sample.
//! - I4, I11: labels change between two deliveries. The stream ends with `closed` where the next one of the same epoch begins.
//! - I11: when a stream takes no more (it diverged, or the server's position was adopted), the capture goes on in a new stream of
//!   the same epoch.

mod counters;
mod sink;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use counters::CaptureCounters;

use counters::CaptureState;
use sink::{CaptureSink, Shared};
use tracing::{error, info, warn};
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::stream::StreamDefinition;

use crate::clock::Clock;
use crate::controls::Controls;
use crate::encode::EncodingChoice;
use crate::labels::LiveLabels;
use crate::limits;
use crate::outbox::Outbox;
use crate::outbox::kv::Kv;
use crate::source::{DescriptionError, SinkError, Source, SourceError};
use crate::status::SourceStatus;
use crate::stop::StopToken;

/// How a source is captured.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Of its streams.
    pub labels: BTreeMap<String, String>,
    /// The run that its streams belong to; empty for none.
    pub run: String,
    /// A chunk is cut after this much time on the sample axis at the latest.
    pub chunk_period: Duration,
    /// How columns are encoded.
    pub encoding: EncodingChoice,
    /// How much is captured of each stream, on its sample axis; `None`: until the source ends or is stopped.
    pub duration: Option<Duration>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            run: String::new(),
            chunk_period: limits::CHUNK_PERIOD_DEFAULT,
            encoding: EncodingChoice::default(),
            duration: None,
        }
    }
}

/// Why a capture did not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CaptureError {
    #[error("{device}: {error}")]
    Description { device: String, error: DescriptionError },
    #[error(transparent)]
    Outbox(#[from] SinkError),
    #[error("no thread can be started ({0}): look at the process limits")]
    Thread(std::io::Error),
}

/// How a capture ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureEnd {
    /// The device or the file ended, or the duration passed.
    Complete,
    /// It was stopped before.
    Stopped,
    /// It failed, in one sentence.
    Failed(String),
}

/// A source that is being captured.
#[derive(Debug)]
pub struct Capture {
    labels: Arc<LiveLabels>,
    controls: Option<Arc<Controls>>,
    counters: Arc<CaptureCounters>,
    stop: StopToken,
    thread: JoinHandle<CaptureEnd>,
}

impl Capture {
    /// Registers the source's streams and starts its thread.
    pub fn start<K: Kv>(
        source: Box<dyn Source>,
        outbox: Arc<Outbox<K>>,
        clock: Arc<dyn Clock>,
        options: CaptureOptions,
    ) -> Result<Self, CaptureError> {
        let description = source.describe();
        let device = description.device.clone();
        let definitions = description.definitions().map_err(|error| CaptureError::Description {
            device: device.clone(),
            error,
        })?;
        let controls = source.controls();
        let stop = StopToken::new();
        let counters = Arc::new(CaptureCounters::new(&device));
        let file_start_ns = description.file.map(|file| file.start_ns);
        let labels = LiveLabels::new(&device, file_start_ns.is_some(), options.labels.clone());
        let shared = Shared {
            stop: stop.clone(),
            counters: Arc::clone(&counters),
            labels: Arc::new(labels),
        };
        let labels = Arc::clone(&shared.labels);
        let sink = CaptureSink::new(definitions, file_start_ns, outbox, clock, options, shared)?;
        let task = Task {
            source,
            sink,
            stop: stop.clone(),
            counters: Arc::clone(&counters),
            labels: Arc::clone(&labels),
        };
        let thread = std::thread::Builder::new()
            .name(format!("source-{device}").chars().take(15).collect())
            .spawn(move || task.run())
            .map_err(CaptureError::Thread)?;
        Ok(Self {
            labels,
            controls,
            counters,
            stop,
            thread,
        })
    }

    /// Tells the source to stop; what it delivered is stored, and its streams end.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Has its thread ended?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        self.counters.status()
    }

    /// The counters, which outlive the capture.
    #[must_use]
    pub fn counters(&self) -> Arc<CaptureCounters> {
        Arc::clone(&self.counters)
    }

    /// Its labels, which can be changed while it is live.
    #[must_use]
    pub fn labels(&self) -> Arc<LiveLabels> {
        Arc::clone(&self.labels)
    }

    /// What the instrument is set to, which can be changed, if it has such settings.
    #[must_use]
    pub fn controls(&self) -> Option<Arc<Controls>> {
        self.controls.clone()
    }

    /// Waits for its end.
    #[must_use]
    pub fn join(self) -> CaptureEnd {
        self.thread.join().unwrap_or_else(|_| {
            self.labels.end();
            let why = "the source broke one of its own rules; please report the panic above";
            self.counters.set_state(CaptureState::Failed, Some(why.into()));
            CaptureEnd::Failed(why.into())
        })
    }
}

/// A source that was opened again, and its streams.
type Opening = (Box<dyn Source>, Vec<StreamDefinition>);

struct Task<K: Kv> {
    source: Box<dyn Source>,
    sink: CaptureSink<K>,
    stop: StopToken,
    counters: Arc<CaptureCounters>,
    labels: Arc<LiveLabels>,
}

impl<K: Kv> Task<K> {
    fn run(mut self) -> CaptureEnd {
        let end = match self.capture() {
            Ok(end) => end,
            Err(SourceError::Sink(SinkError::Stopped)) => CaptureEnd::Stopped,
            Err(error) => CaptureEnd::Failed(error.to_string()),
        };
        self.labels.end();
        let device = self.counters.device();
        match &end {
            CaptureEnd::Failed(why) => {
                error!("{device}: the capture failed: {why}");
                self.counters.set_state(CaptureState::Failed, Some(why.clone()));
            }
            CaptureEnd::Complete | CaptureEnd::Stopped => {
                info!(
                    "{device}: the capture ended; {} samples are stored",
                    self.counters.status().sample_count
                );
                self.counters.set_state(CaptureState::Ended, None);
            }
        }
        end
    }

    fn capture(&mut self) -> Result<CaptureEnd, SourceError> {
        if self.sink.is_file() {
            self.counters.set_state(CaptureState::Waiting, None);
            self.sink.wait_until_opened()?;
            if self.sink.has_ended() {
                info!("{}: the server has all of this file already", self.counters.device());
                return Ok(CaptureEnd::Complete);
            }
        }
        self.counters.set_state(CaptureState::Capturing, None);
        if self.sink.is_file() {
            self.capture_file()
        } else {
            self.capture_live()
        }
    }

    /// Without its last sample a file has no end; what is not stored is read again another time.
    fn capture_file(&mut self) -> Result<CaptureEnd, SourceError> {
        loop {
            let result = self.source.run(&mut self.sink, &self.stop);
            if self.sink.has_ended() {
                return Ok(CaptureEnd::Complete);
            }
            result?;
            match self.sink.finish_file() {
                // The server's position was adopted: the source reads on from there.
                Err(SinkError::Moved { .. }) => {}
                other => return Ok(other.map(|()| CaptureEnd::Complete)?),
            }
        }
    }

    /// One opening of the device after the other.
    fn capture_live(&mut self) -> Result<CaptureEnd, SourceError> {
        let mut lost = 0;
        let result = loop {
            match self.opening() {
                Ok(None) => break Ok(()),
                Ok(Some((next, definitions))) => {
                    lost += self.sink.begin_again(definitions)?;
                    self.source = next;
                    info!("{}: it is captured again", self.counters.device());
                    self.counters.set_state(CaptureState::Capturing, None);
                }
                Err(error) => break Err(error),
            }
        };
        let reached = self.sink.is_complete();
        // A live source has nobody else to write its end, whatever happened to it.
        let finished = self.sink.finish_live(Reason::Closed);
        match result {
            Err(SourceError::Sink(SinkError::Stopped)) => {}
            other => other?,
        }
        lost += finished?;
        Ok(match () {
            () if lost > 0 => CaptureEnd::Failed(format!(
                "the last {lost} samples could not be stored and are a gap: make room for the outbox before the next capture"
            )),
            () if reached || !self.stop.is_stopped() => CaptureEnd::Complete,
            () => CaptureEnd::Stopped,
        })
    }

    /// Captures until the device ends, or is there again after it was away: then the next opening, with its streams.
    fn opening(&mut self) -> Result<Option<Opening>, SourceError> {
        let why = match self.source.run(&mut self.sink, &self.stop) {
            Err(SourceError::Away(why)) => why,
            other => return other.map(|()| None),
        };
        warn!("{}: {why}", self.counters.device());
        self.counters.set_state(CaptureState::Waiting, Some(why));
        let Some(next) = self.source.reopen(&mut self.sink, &self.stop)? else {
            return Ok(None);
        };
        let definitions = next.describe().definitions();
        let definitions = definitions.map_err(|error| SourceError::Device(error.to_string()))?;
        Ok(Some((next, definitions)))
    }
}

/// Samples of `duration` on the axis of `definition`, to the nearest.
fn samples_of(definition: &StreamDefinition, duration: Duration) -> u64 {
    // Saturating: an absurdly long duration has no end.
    (definition.rate_hz * duration.as_secs_f64()).round() as u64
}

#[cfg(test)]
#[path = "capture/label_tests.rs"]
mod label_tests;
#[cfg(test)]
#[path = "capture/reopen_tests.rs"]
mod reopen_tests;
#[cfg(test)]
#[path = "capture/tests.rs"]
mod tests;
