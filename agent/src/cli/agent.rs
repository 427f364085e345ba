//! Starts an agent as the options say, watches a capture, delivers what remains, and says how it went.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use wavekeep_agent::admin;
use wavekeep_agent::agent::Agent;
use wavekeep_agent::capture::{Capture, CaptureEnd, CaptureOptions};
use wavekeep_agent::clock::{Clock, SystemClock};
use wavekeep_agent::connect::GrpcConnect;
use wavekeep_agent::outbox::kv::KvError;
use wavekeep_agent::outbox::rocks::{self, RocksKv};
use wavekeep_agent::outbox::{Options, Outbox, OutboxError};
use wavekeep_agent::telemetry;
use wavekeep_agent::uplink::UplinkOptions;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits;
use wavekeep_proto::uplink::LinkState;

use super::progress::Progress;
use super::signals::Signals;
use super::summary::Summary;
use super::{CliError, CommonArgs};

/// How often a capture is looked at.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// An agent with its signals.
pub(crate) struct Session {
    pub(crate) agent: Agent<RocksKv>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signals: Signals,
    args: CommonArgs,
    labels: BTreeMap<String, String>,
}

/// How far a capture is, for the progress line.
pub(crate) struct Position {
    pub(crate) done: u64,
    pub(crate) message: String,
}

impl Session {
    /// Checks the options, opens the outbox, starts the uplink, by the name of `agent`. `signals` are listened to already.
    pub(crate) fn start(args: CommonArgs, agent: &str, signals: Signals) -> Result<Self, CliError> {
        Self::start_with(args, agent, signals, |_| Ok(()))
    }

    /// The same; `prepare` has the outbox before the uplink does.
    pub(crate) fn start_with(
        args: CommonArgs,
        agent: &str,
        signals: Signals,
        prepare: impl FnOnce(&Outbox<RocksKv>) -> Result<(), CliError>,
    ) -> Result<Self, CliError> {
        let labels = labels(&args.labels)?;
        let connect = GrpcConnect::new(&args.server).map_err(CliError::usage)?;
        let options = Options {
            quota_bytes: args.store.quota,
            when_full: args.store.when_full(),
            hold_back: args.store.hold_back,
            hold_back_bytes: args.store.quota / 4,
            durability: args.store.durability(),
            ..Options::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (outbox, _) = rocks::open(&args.outbox, options, clock.now()).map_err(|error| {
            CliError::Failed(format!("{}: {error}{}", args.outbox.display(), advice(&error, &args)))
        })?;
        prepare(&outbox)?;
        let recorder = telemetry::start_metrics().map_err(CliError::failed)?;
        let uplink = UplinkOptions {
            agent: agent.to_owned(),
            workspace: args.workspace.clone(),
            upload_limit_bytes: args.upload_limit,
            schedule: args.schedule.clone(),
            server: args.server.clone(),
        };
        let mut agent =
            Agent::start(outbox, connect, uplink, Arc::clone(&clock), Some(recorder)).map_err(CliError::failed)?;
        let socket = admin::socket_of(&args.outbox, args.admin_socket.as_deref());
        if let Err(error) = agent.serve_admin(&socket) {
            warn!("there is no admin endpoint: {error}");
        }
        let remains = agent.remains();
        if !remains.is_nothing() {
            info!("as far as the outbox knows, {remains}; they are sent along");
        }
        Ok(Self {
            agent,
            clock,
            signals,
            args,
            labels,
        })
    }

    /// What a file says of itself: a label that was given counts more.
    pub(crate) fn add_labels(&mut self, labels: BTreeMap<String, String>) {
        for (key, value) in labels {
            if self.labels.len() < limits::LABELS_MAX {
                self.labels.entry(key).or_insert(value);
            }
        }
    }

    /// As the options say.
    pub(crate) fn capture_options(&self, duration: Option<Duration>) -> CaptureOptions {
        CaptureOptions {
            labels: self.labels.clone(),
            run: self.args.run.clone().unwrap_or_default(),
            chunk_period: self.args.chunk_period,
            encoding: self.args.encoding,
            duration,
        }
    }

    /// Waits for the capture's end, or a signal, which stops it. A file is also stopped by a refusal: it can be read again when the
    /// server takes it.
    pub(crate) fn watch(
        &self,
        capture: &Capture,
        is_file: bool,
        progress: &mut Progress,
        look: &dyn Fn(&Capture) -> Position,
    ) {
        while !capture.is_finished() {
            if is_file && self.agent.link().refused.is_some() {
                capture.stop();
            }
            // After the first signal the token no longer waits; the source ends within moments.
            if self.signals.stop.wait(LOOK_INTERVAL) {
                capture.stop();
                if self.signals.now.wait(LOOK_INTERVAL) {
                    return;
                }
            }
            let position = look(capture);
            progress.set(position.done, &|| position.message.clone());
        }
    }

    /// Waits until everything is acknowledged (if all captures ended in order, as long as it takes), prints a summary of each, and says
    /// whether that is success. `must_complete`: a stop before the end is none. `file`: neither is one of its streams without an end.
    pub(crate) fn finish(
        self,
        captures: Vec<Capture>,
        must_complete: bool,
        file: impl IntoIterator<Item = StreamId>,
    ) -> Result<(), CliError> {
        if self.signals.now.is_stopped() && !captures.iter().all(Capture::is_finished) {
            return Err(CliError::Incomplete(
                "stopped at once: what was stored is sent by the next run".into(),
            ));
        }
        let ends: Vec<_> = captures
            .into_iter()
            .map(|capture| (capture.counters(), capture.join()))
            .collect();
        self.deliver(ends.iter().all(|(_, end)| *end == CaptureEnd::Complete));
        let remains = self.agent.remains();
        for (counters, end) in &ends {
            Summary::new(&counters.status(), end, remains).print(self.args.json)?;
        }
        let outbox = self.args.outbox.display();
        let kept = (!remains.is_nothing())
            .then(|| format!("{remains}: they are kept in {outbox}; start the agent on it again to send them"));
        let refused = self.agent.link().refused;
        let parts = |parts: [Option<String>; 3]| parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        match (all(ends.into_iter().map(|(_, end)| end)), kept) {
            (CaptureEnd::Failed(why), kept) => Err(CliError::Failed(parts([Some(why), refused, kept]))),
            (_, Some(kept)) => Err(CliError::Incomplete(parts([refused, Some(kept), None]))),
            (CaptureEnd::Stopped, None) if must_complete && refused.is_some() => Err(CliError::Incomplete(parts([
                refused,
                Some("nothing waits in the outbox: do it again when that is mended".into()),
                None,
            ]))),
            (CaptureEnd::Stopped, None) if must_complete => Err(CliError::Incomplete(
                "interrupted before the end; what was captured is on the server".into(),
            )),
            (CaptureEnd::Complete, None) if !file.into_iter().all(|stream| self.agent.is_whole(stream)) => {
                Err(CliError::Incomplete(
                    "the server has another part of this file than what was read here: replay it again to bring the rest".into(),
                ))
            }
            (CaptureEnd::Complete | CaptureEnd::Stopped, None) => Ok(()),
        }
    }

    /// The same of streams that were carried into the outbox up to these samples; nothing is captured.
    pub(crate) fn finish_carried(self, carried: &[(StreamId, u64)]) -> Result<(), CliError> {
        self.deliver(true);
        let (remains, refused) = (self.agent.remains(), self.agent.link().refused);
        let outbox = self.args.outbox.display();
        // A live stream moves to a successor then; of a file, what was held is dropped.
        let dropped = |(stream, next_sample): &&(StreamId, u64)| {
            let at = self.agent.position(*stream);
            at.is_some_and(|at| at.next_sample < *next_sample)
        };
        if let Some((stream, _)) = carried.iter().find(dropped) {
            return Err(CliError::Incomplete(format!(
                "the server has stream {stream} from another replay, cut differently: replay the recorded file that it is of"
            )));
        }
        if remains.is_nothing() {
            return Ok(());
        }
        let kept = format!("{remains}: they are kept in {outbox}; start the agent on it again to send them");
        let parts: Vec<String> = refused.into_iter().chain([kept]).collect();
        Err(CliError::Incomplete(parts.join("; ")))
    }

    fn deliver(&self, patiently: bool) {
        let mut progress = Progress::start("delivering", 0, false);
        // A signal ends the patience, and starts the time that is left then.
        let mut deadline = None;
        loop {
            if deadline.is_none() && (!patiently || self.signals.stop.is_stopped()) {
                deadline = Some(Instant::now() + self.args.drain_wait);
            }
            let look = Instant::now() + LOOK_INTERVAL;
            let until = deadline.map_or(look, |deadline| look.min(deadline));
            let delivered = self.agent.wait_until_delivered(Some(until), &self.signals.now);
            let out_of_time = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let refused = self.agent.link().refused.is_some();
            if delivered || out_of_time || refused || self.signals.now.is_stopped() {
                return;
            }
            progress.set(0, &|| self.waiting_for());
        }
    }

    /// What is waited for, for people.
    pub(crate) fn waiting_for(&self) -> String {
        let (link, remains) = (self.agent.link(), self.agent.remains());
        if let Some(until) = link.closed_until.filter(|_| !remains.is_nothing()) {
            return format!("{remains}; the upload waits until {until} (--schedule)");
        }
        match link.last_error.filter(|_| link.link != LinkState::Up) {
            Some(error) => format!("{remains}; there is no session: {error}"),
            None if remains.is_nothing() => "all is acknowledged".into(),
            None => remains.to_string(),
        }
    }
}

/// How several captures ended, taken together.
fn all(ends: impl Iterator<Item = CaptureEnd>) -> CaptureEnd {
    ends.fold(CaptureEnd::Complete, |all, end| match (all, end) {
        (CaptureEnd::Failed(one), CaptureEnd::Failed(other)) => CaptureEnd::Failed(format!("{one}; {other}")),
        (failed @ CaptureEnd::Failed(_), _) | (_, failed @ CaptureEnd::Failed(_)) => failed,
        (CaptureEnd::Stopped, _) | (_, CaptureEnd::Stopped) => CaptureEnd::Stopped,
        (CaptureEnd::Complete, CaptureEnd::Complete) => CaptureEnd::Complete,
    })
}

/// What to do about an outbox that cannot be opened, where the error does not say.
fn advice(error: &OutboxError, args: &CommonArgs) -> String {
    match error {
        OutboxError::Kv(KvError::Damaged(_) | KvError::Failed(_)) => format!(
            "; `wavekeep-agent outbox verify {0}` says what is intact, `wavekeep-agent outbox export {0} --output DIR` brings that to another disk",
            args.outbox.display()
        ),
        _ => String::new(),
    }
}

fn labels(given: &[(String, String)]) -> Result<BTreeMap<String, String>, CliError> {
    let mut labels = BTreeMap::new();
    for (key, value) in given {
        if labels.insert(key.clone(), value.clone()).is_some() {
            return Err(CliError::Usage(format!(
                "the label {key} is given more than once: keep one of them"
            )));
        }
    }
    if labels.len() > limits::LABELS_MAX {
        return Err(CliError::Usage(format!(
            "a recording has at most {} labels",
            limits::LABELS_MAX
        )));
    }
    Ok(labels)
}
