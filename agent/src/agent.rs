//! An agent: an outbox, the uplink that empties it, the keeper that looks after it, and any number of captures that fill it.
//!
//! # Invariants
//! - Captures never wait for the network: they share the outbox with the uplink and nothing else.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use tracing::{error, warn};
use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::{LinkState, Outbox as _};

use crate::admin::{Admin, AdminError, Report};
use crate::capture::{Capture, CaptureCounters, CaptureError, CaptureOptions};
use crate::clock::Clock;
use crate::connect::Connect;
use crate::controls::{self, Asked, ControlError, Controls, SettingChange};
use crate::labels::{LabelChange, LabelError, LiveLabels};
use crate::outbox::kv::Kv;
use crate::outbox::{Outbox, OutboxAlarm, OutboxError, Remains};
use crate::source::{DescriptionError, Source, random_128};
use crate::status::{AgentStatus, LabelsStatus, LinkStatus, SourceStatus, milliseconds};
use crate::stop::StopToken;
use crate::telemetry;
use crate::uplink::{self, UplinkHandle, UplinkOptions, UplinkStatus};

/// How often the keeper releases what is acked and past its hold-back.
const KEEPER_INTERVAL: Duration = Duration::from_secs(1);

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AgentError {
    #[error("no thread can be started ({0}): look at the process limits")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Randomness(#[from] DescriptionError),
}

/// See the module's documentation. Dropping it ends its threads; what is in the outbox stays there.
pub struct Agent<K: Kv> {
    shared: Arc<Shared<K>>,
    keeper_stop: StopToken,
    keeper: Option<JoinHandle<()>>,
    admin: Option<Admin>,
}

struct Shared<K: Kv> {
    outbox: Arc<Outbox<K>>,
    uplink: UplinkHandle,
    clock: Arc<dyn Clock>,
    captures: Mutex<Vec<Captured>>,
    started: Duration,
    recorder: Option<PrometheusHandle>,
}

/// What outlives a capture.
struct Captured {
    counters: Arc<CaptureCounters>,
    labels: Arc<LiveLabels>,
    controls: Option<Arc<Controls>>,
}

impl<K: Kv> Agent<K> {
    /// Starts the uplink and the keeper of `outbox`, which was opened by the same `clock`. `recorder` renders the program's metrics, where it has installed one.
    pub fn start<C: Connect + Clone + Sync>(
        outbox: Outbox<K>,
        connect: C,
        options: UplinkOptions,
        clock: Arc<dyn Clock>,
        recorder: Option<PrometheusHandle>,
    ) -> Result<Self, AgentError> {
        let outbox = Arc::new(outbox);
        let random = random_128()?;
        let (half, _) = random.split_at(8);
        let seed = half.iter().fold(0, |seed: u64, byte| seed << 8 | u64::from(*byte));
        let uplink = uplink::spawn(Arc::clone(&outbox), connect, Arc::clone(&clock), options, seed)?;
        let wake = uplink.clone();
        outbox.set_on_change(Arc::new(move || wake.wake()));
        let shared = Arc::new(Shared {
            outbox,
            uplink,
            started: clock.now(),
            clock,
            captures: Mutex::default(),
            recorder,
        });
        let keeper_stop = StopToken::new();
        let (kept, stop) = (Arc::clone(&shared), keeper_stop.clone());
        let keeper = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || keep(&kept, &stop))?;
        Ok(Self {
            shared,
            keeper_stop,
            keeper: Some(keeper),
            admin: None,
        })
    }

    /// Serves `/health`, `/metrics`, `/status`, `/labels` and `/settings` on a Unix socket.
    pub fn serve_admin(&mut self, path: &Path) -> Result<(), AdminError> {
        let report: Arc<dyn Report> = Arc::clone(&self.shared) as Arc<dyn Report>;
        self.admin = Some(Admin::start(path, report)?);
        Ok(())
    }

    /// Captures a source, on a thread of its own.
    pub fn capture(&self, source: impl Source + 'static, options: CaptureOptions) -> Result<Capture, CaptureError> {
        let (outbox, clock) = (Arc::clone(&self.shared.outbox), Arc::clone(&self.shared.clock));
        let relabelled = outbox.relabelled();
        let capture = Capture::start(Box::new(source), outbox, clock, options)?;
        if self.shared.outbox.relabelled() != relabelled {
            self.shared.uplink.reconnect();
        }
        self.shared
            .captures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Captured {
                counters: capture.counters(),
                labels: capture.labels(),
                controls: capture.controls(),
            });
        Ok(capture)
    }

    /// What no ack covers yet.
    #[must_use]
    pub fn remains(&self) -> Remains {
        self.shared.remains()
    }

    /// How the link stands.
    #[must_use]
    pub fn link(&self) -> UplinkStatus {
        self.shared.uplink.status()
    }

    /// Where a stream stands, if anything of it is held.
    #[must_use]
    pub fn position(&self, stream: StreamId) -> Option<Position> {
        self.shared.outbox.view(stream).map(|view| view.tail)
    }

    /// Of a file: is its stream whole, with its end? What the server said may have taken back what was stored of it.
    #[must_use]
    pub fn is_whole(&self, file: StreamId) -> bool {
        // What is not there any more has ended, and was acknowledged to its end.
        self.position(file).is_none_or(|at| at.ended)
    }

    /// Waits until the server has acknowledged everything that the outbox holds, or until `deadline` or a stop. Of a server that
    /// refuses this agent it waits for better times: look at [`Self::link`] now and then.
    #[must_use]
    pub fn wait_until_delivered(&self, deadline: Option<Instant>, stop: &StopToken) -> bool {
        self.shared
            .uplink
            .wait_until(deadline, stop, || self.shared.remains().is_nothing())
    }
}

impl<K: Kv> Drop for Agent<K> {
    fn drop(&mut self) {
        self.shared.uplink.stop();
        self.keeper_stop.stop();
        if let Some(keeper) = self.keeper.take() {
            // It panics only if the outbox does, which has been printed then.
            let _ = keeper.join();
        }
        self.admin = None;
        if let Err(error) = self.shared.outbox.sync() {
            error!("the last sync of the outbox failed: {error}");
        }
    }
}

impl<K: Kv> Shared<K> {
    fn remains(&self) -> Remains {
        self.outbox.remains(self.clock.now())
    }

    fn sources(&self) -> Vec<SourceStatus> {
        self.captures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|captured| SourceStatus {
                settings: captured
                    .controls
                    .as_ref()
                    .map(|controls| controls.settings())
                    .unwrap_or_default(),
                ..captured.counters.status_at(self.clock.now())
            })
            .collect()
    }

    fn live_labels(&self) -> Vec<Arc<LiveLabels>> {
        let captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.iter().map(|captured| Arc::clone(&captured.labels)).collect()
    }
}

/// Releases, and tells people what the outbox has to tell, until stopped.
fn keep<K: Kv>(shared: &Shared<K>, stop: &StopToken) {
    let mut failing = false;
    loop {
        let stopped = stop.wait(KEEPER_INTERVAL);
        for alarm in shared.outbox.take_alarms() {
            tell(&alarm);
            shared.uplink.keep_alarm(alarm.to_string());
        }
        if stopped {
            return;
        }
        let released = shared.outbox.release(shared.clock.now());
        if let Err(error) = &released
            && !failing
        {
            error!("what the server has cannot be released: {error}");
        }
        failing = released.is_err();
    }
}

fn tell(alarm: &OutboxAlarm) {
    match alarm {
        OutboxAlarm::StateRebuilt(_) => warn!("{alarm}"),
        _ => error!("{alarm}"),
    }
}

impl<K: Kv> Report for Shared<K> {
    fn status(&self) -> Result<AgentStatus, String> {
        let (now, remains, counters) = (self.clock.now(), self.remains(), self.outbox.counters());
        Ok(AgentStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            sources: self.sources(),
            link: LinkStatus::new(self.uplink.status(), now),
            outbox: self.outbox.status().map_err(|error| error.to_string())?,
            oldest_unacked_ms: milliseconds(remains.oldest),
            unacked_chunk_count: remains.chunks,
            quota_bytes: self.outbox.options().quota_bytes,
            evicted_sample_count: counters.evicted_samples,
            corrupt_sample_count: counters.corrupt_samples,
            lag: self.uplink.lag(),
            uptime_ms: milliseconds(now.saturating_sub(self.started)),
        })
    }

    /// Of every live source.
    fn change_labels(&self, change: &LabelChange) -> Result<(), LabelError> {
        let mut refused = LabelError::NoSource;
        let mut is_wanted = false;
        for labels in self.live_labels() {
            match labels.want(change) {
                Ok(()) => is_wanted = true,
                Err(error) => refused = error,
            }
        }
        if is_wanted { Ok(()) } else { Err(refused) }
    }

    fn labels(&self) -> Result<Vec<LabelsStatus>, LabelError> {
        let all = self.live_labels();
        let live = all.iter().filter(|labels| !labels.is_file());
        live.map(|labels| labels.status()).collect()
    }

    fn change_settings(&self, change: SettingChange) -> Result<Asked, ControlError> {
        let captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        let live = captures.iter().filter(|captured| !captured.counters.is_over());
        let live: Vec<_> = live
            .map(|captured| (captured.counters.device().to_owned(), captured.controls.clone()))
            .collect();
        drop(captures);
        controls::pick(&live, change.device.as_deref())?.ask(change.set)
    }

    /// A server that is away is no illness of the agent.
    fn illness(&self) -> Option<String> {
        self.sources()
            .into_iter()
            .find_map(|source| Some(format!("{}: {}", source.device, source.error?)))
    }

    /// Counters and gauges that live elsewhere are brought up to date here, so that no capture pays for them.
    fn metrics(&self) -> String {
        let Some(recorder) = &self.recorder else {
            return String::new();
        };
        for source in self.sources() {
            let device = source.device;
            metrics::counter!(telemetry::SAMPLES, "device" => device.clone()).absolute(source.sample_count);
            metrics::counter!(telemetry::GAP_SAMPLES, "device" => device.clone()).absolute(source.gap_sample_count);
            metrics::counter!(telemetry::GAPS, "device" => device.clone()).absolute(source.gap_count);
            metrics::counter!(telemetry::CHUNKS, "device" => device.clone()).absolute(source.chunk_count);
            metrics::gauge!(telemetry::SOURCE_FAILED, "device" => device)
                .set(f64::from(u8::from(source.error.is_some())));
        }
        let counters = self.outbox.counters();
        metrics::counter!(telemetry::STORED_CHUNKS).absolute(counters.stored_chunks);
        metrics::counter!(telemetry::STORED_BYTES).absolute(counters.stored_bytes);
        metrics::counter!(telemetry::RELEASED_CHUNKS).absolute(counters.released_chunks);
        metrics::counter!(telemetry::EVICTED_SAMPLES).absolute(counters.evicted_samples);
        metrics::counter!(telemetry::CORRUPT_SAMPLES).absolute(counters.corrupt_samples);
        let link = self.uplink.status();
        metrics::counter!(telemetry::ACKED_CHUNKS).absolute(link.acked_chunks);
        metrics::gauge!(telemetry::LINK_UP).set(f64::from(u8::from(link.link == LinkState::Up)));
        metrics::gauge!(telemetry::SCHEDULE_OPEN).set(f64::from(u8::from(link.closed_until.is_none())));
        metrics::gauge!(telemetry::UPLOAD_LIMIT_BYTES).set(link.upload_limit_bytes.unwrap_or(0) as f64);
        metrics::gauge!(telemetry::WINDOW_BYTES).set(link.window_bytes as f64);
        metrics::gauge!(telemetry::IN_FLIGHT_BYTES).set(link.in_flight_bytes as f64);
        let remains = self.remains();
        metrics::gauge!(telemetry::OUTBOX_HELD_BYTES).set(self.outbox.held_bytes() as f64);
        metrics::gauge!(telemetry::OUTBOX_UNACKED_BYTES).set(remains.bytes as f64);
        metrics::gauge!(telemetry::OUTBOX_UNACKED_CHUNKS).set(remains.chunks as f64);
        metrics::gauge!(telemetry::OLDEST_UNACKED).set(remains.oldest.as_secs_f64());
        recorder.render()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wavekeep_proto::id::{Epoch, Hash};
    use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};

    use super::*;
    use crate::clock::SystemClock;
    use crate::connect::Connecting;
    use crate::outbox::Options;
    use crate::outbox::memory::MemoryKv;

    /// Never gets through.
    #[derive(Clone)]
    struct Nowhere;

    impl Connect for Nowhere {
        fn connect(&self) -> Connecting {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_file_that_was_taken_back_is_not_whole_though_nothing_remains() {
        let id = StreamId([1; 16]);
        let signal = Signal {
            number: 0,
            name: "current".into(),
            sample_type: SampleType::F32,
            unit: "A".into(),
            finite_only: false,
        };
        let definition = StreamDefinition {
            id,
            device: "bench".into(),
            epoch: Epoch([2; 16]),
            file_identity: vec![3; 16],
            predecessor: None,
            rate_hz: 1e6,
            first_sample: 0,
            signals: vec![signal],
            attributes: BTreeMap::new(),
        };
        let kv = Arc::new(MemoryKv::new());
        let (outbox, _) = Outbox::open(kv, Options::default(), Duration::ZERO).expect("an empty disk");
        outbox
            .open_stream(definition, BTreeMap::new(), String::new(), 0)
            .expect("a good disk");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let agent = Agent::start(outbox, Nowhere, UplinkOptions::new("bench"), clock, None).expect("its threads start");
        // Read whole; then the server turns out to have another writer's stream, of which it has a part.
        let outbox = &agent.shared.outbox;
        outbox
            .end_stream(id, wavekeep_proto::chunk::Reason::Closed, Duration::ZERO)
            .expect("a good disk");
        assert!(agent.is_whole(id));
        let at = Position {
            seq: 5,
            next_sample: 500,
            digest: Hash([9; 16]),
            ended: false,
        };
        outbox.adopt(id, at, true).expect("a good disk");
        assert!(agent.remains().is_nothing());
        assert!(!agent.is_whole(id));
    }
}
