//! The shell around the sending half of the protocol: takes one event, hands it with the time to the machine
//! ([`wavekeep_proto::uplink::Uplink`]), performs the actions that it returns.
//!
//! The machine reads the outbox synchronously, so the uplink has a thread and a runtime of its own ([`spawn`]): a slow disk
//! delays frames and nothing else. A simulation runs [`UplinkTask`] on its own runtime, with its own clock and transport.
//!
//! # Invariants
//! - I12: at most [`limits::OUTGOING_FRAMES_MAX`] frames wait for the transport; while they do, the machine is only asked once a
//!   second, and for its deadlines alone: on a slow link they wait for minutes, and what it would send would pile up.
//! - Outside of its schedule's hours it has no session: the machine is not asked for anything, and so is down.
//! - There is one `select!` here, of cancel-safe branches.

mod lag;
mod shared;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

pub use shared::{UplinkHandle, UplinkStatus};

use shared::Shared;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use wavekeep_proto::code::Code;
use wavekeep_proto::uplink::{Action, Alarm, Config, LinkState, Outbox, Uplink};
use wavekeep_proto::{v1, wire};

use crate::clock::Clock;
use crate::connect::{Connect, Connecting, Incoming, Link, LinkError};
use crate::schedule::Schedule;
use crate::{limits, telemetry};

/// While the transport takes nothing, the machine is asked this often whether it has waited too long.
const BLOCKED_TICK: Duration = Duration::from_secs(1);
/// After a mistake of our own, the uplink starts anew after this long.
const RESTART_WAIT: Duration = Duration::from_secs(1);

/// What an uplink is told once.
#[derive(Debug, Clone)]
pub struct UplinkOptions {
    /// The agent's name for people.
    pub agent: String,
    /// Where its streams belong.
    pub workspace: String,
    /// Most bytes per second to send, if limited.
    pub upload_limit_bytes: Option<u64>,
    /// The hours in which there may be a session, if not always.
    pub schedule: Option<Schedule>,
    /// The server, for people: what the connection is to.
    pub server: String,
}

impl UplinkOptions {
    /// Into the workspace `main`, as fast as possible.
    #[must_use]
    pub fn new(agent: &str) -> Self {
        Self {
            agent: agent.into(),
            workspace: "main".into(),
            upload_limit_bytes: None,
            schedule: None,
            server: "the server".into(),
        }
    }
}

/// The connection, whatever state it is in.
enum Transport {
    Down,
    Connecting(Connecting),
    Up(Link),
}

/// What can happen.
enum Event {
    Stopped,
    /// The outbox changed.
    Woken,
    TimedOut,
    Connected(Result<Link, LinkError>),
    Received(Option<Result<v1::ServerFrame, LinkError>>),
    /// The transport takes frames again, or is gone.
    Room,
}

/// One uplink, to be run on a runtime of the caller's choice.
pub struct UplinkTask<O, C> {
    machine: Uplink,
    outbox: Arc<O>,
    connect: C,
    clock: Arc<dyn Clock>,
    transport: Transport,
    /// Frames that found no room.
    stuck: VecDeque<v1::AgentFrame>,
    shared: Arc<Shared>,
    /// The last reason for not being connected that was logged as a warning.
    warned: Option<String>,
    /// The server said goodbye: the end of this session is no news.
    draining: bool,
    schedule: Option<Schedule>,
    /// The schedule allows no session now.
    closed: bool,
    /// When the schedule is to be looked at again.
    look_at: Duration,
}

/// Runs an uplink on a thread and a runtime of its own.
pub fn spawn<O, C>(
    outbox: Arc<O>,
    connect: C,
    clock: Arc<dyn Clock>,
    options: UplinkOptions,
    seed: u64,
) -> std::io::Result<UplinkHandle>
where
    O: Outbox + Send + Sync + 'static,
    C: Connect + Clone + Sync,
{
    let handle = UplinkHandle::new();
    let for_thread = handle.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("uplink".into()).spawn(move || {
        loop {
            let task = UplinkTask::new(
                Arc::clone(&outbox),
                connect.clone(),
                Arc::clone(&clock),
                options.clone(),
                seed,
                &for_thread,
            );
            // The outbox holds everything that counts, so a machine that broke its own rules can start anew.
            match std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(task.run()))) {
                Ok(()) => return,
                Err(_) => {
                    error!("the uplink broke one of its own rules and starts anew; please report the panic above");
                    metrics::counter!(telemetry::UPLINK_PANICS).increment(1);
                    std::thread::sleep(RESTART_WAIT);
                }
            }
        }
    })?;
    handle.set_thread(thread);
    Ok(handle)
}

impl<O: Outbox, C: Connect> UplinkTask<O, C> {
    /// Not connected yet. `seed` is for the jitter of its back-off.
    pub fn new(
        outbox: Arc<O>,
        connect: C,
        clock: Arc<dyn Clock>,
        options: UplinkOptions,
        seed: u64,
        handle: &UplinkHandle,
    ) -> Self {
        let shared = handle.shared();
        shared.describe(&options);
        let config = Config {
            agent: options.agent,
            workspace: options.workspace,
            upload_limit_bytes: options.upload_limit_bytes,
            seed,
        };
        Self {
            machine: Uplink::new(config),
            outbox,
            connect,
            clock,
            transport: Transport::Down,
            stuck: VecDeque::new(),
            shared,
            warned: None,
            draining: false,
            schedule: options.schedule,
            closed: false,
            look_at: Duration::ZERO,
        }
    }

    /// Until the handle stops it.
    pub async fn run(mut self) {
        let stop = self.shared.stop_token();
        let mut ticked = false;
        loop {
            self.keep_hours();
            if !self.closed {
                self.act(ticked);
            }
            self.shared.publish(&self.machine, self.clock.now());
            let event = self.next_event(&stop).await;
            ticked = matches!(event, Event::TimedOut);
            match event {
                Event::Stopped => return,
                Event::Woken => self.on_woken(),
                Event::TimedOut => {}
                Event::Connected(result) => self.on_connected(result),
                Event::Received(frame) => self.on_received(frame),
                Event::Room => self.unstick(),
            }
        }
    }

    async fn next_event(&mut self, stop: &CancellationToken) -> Event {
        let blocked = !self.has_room();
        let now = self.clock.now();
        let wait = match self.machine.next_timeout() {
            _ if self.closed => Duration::MAX,
            _ if blocked => BLOCKED_TICK,
            Some(at) => at.saturating_sub(now),
            None => Duration::MAX,
        };
        let wait = match &self.schedule {
            Some(_) => wait.min(self.look_at.saturating_sub(now)),
            None => wait,
        };
        let timer = async {
            match tokio::time::Instant::now().checked_add(wait) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let (connecting, incoming, outgoing) = match &mut self.transport {
            Transport::Down => (None, None, None),
            Transport::Connecting(connecting) => (Some(connecting), None, None),
            Transport::Up(link) => (None, Some(&mut link.incoming), blocked.then_some(&link.outgoing)),
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stopped,
            result = connected(connecting) => Event::Connected(result),
            frame = next_frame(incoming) => Event::Received(frame),
            () = room(outgoing) => Event::Room,
            () = self.shared.woken(), if !blocked => Event::Woken,
            () = timer => Event::TimedOut,
        }
    }

    /// Ends the session when the schedule's hours end, and lets another one begin when they begin. What was sent and not acked is
    /// no loss: the next session's `Opened` tells whether it was committed.
    fn keep_hours(&mut self) {
        let now = self.clock.now();
        let Some(schedule) = self.schedule.as_ref().filter(|_| now >= self.look_at) else {
            return;
        };
        let utc_ns = self.clock.utc_ns();
        let closed = !schedule.is_open(utc_ns);
        let change_ns = schedule.next_change_ns(utc_ns);
        let until = change_ns.map_or_else(|| "further notice".into(), |at| schedule.on_the_wall(at));
        let left_ns = change_ns.map_or(u64::MAX, |at| at.saturating_sub(utc_ns).unsigned_abs());
        self.look_at = now + Duration::from_nanos(left_ns).min(limits::SCHEDULE_LOOK_MAX);
        self.shared.set_closed_until(closed.then(|| until.clone()));
        if closed == self.closed {
            return;
        }
        self.closed = closed;
        if closed {
            info!("the upload waits until {until}, as --schedule says; what is captured stays in the outbox");
            self.drop_link();
            self.machine.disconnected(now);
        } else {
            info!("the upload goes on, until {until}");
        }
    }

    /// Does what the machine wants, as long as the transport takes it.
    fn act(&mut self, ticked: bool) {
        if ticked
            && !self.has_room()
            && let Some(action) = self.machine.poll_deadlines(self.clock.now())
        {
            self.perform(action);
        }
        while self.has_room() {
            match self.machine.poll(self.clock.now(), &*self.outbox) {
                Ok(None) => return,
                Ok(Some(action)) => self.perform(action),
                Err(error) => return self.on_outbox_error(&error),
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect => {
                metrics::counter!(telemetry::CONNECTS).increment(1);
                self.transport = Transport::Connecting(self.connect.connect());
            }
            Action::Send(frame) => self.send(wire::agent_frame_to_wire(&frame)),
            Action::Disconnect { why } => {
                self.warn_once(format!("the session ended: {why}"));
                self.drop_link();
            }
            Action::Acked { end_utc_ns } => {
                let latency_ns = self.clock.utc_ns().saturating_sub(end_utc_ns).max(0);
                metrics::histogram!(telemetry::ACK_LATENCY).record(latency_ns as f64 / 1e9);
                self.shared.acked_after(Duration::from_nanos(latency_ns.unsigned_abs()));
            }
            Action::Alarm(alarm) => self.on_alarm(&alarm),
        }
    }

    fn send(&mut self, frame: v1::AgentFrame) {
        metrics::counter!(telemetry::SENT_FRAMES).increment(1);
        let frame = match &self.transport {
            Transport::Up(link) if self.stuck.is_empty() => match link.outgoing.try_send(frame) {
                Ok(()) => return,
                Err(error) => error.into_inner(),
            },
            _ => frame,
        };
        self.stuck.push_back(frame);
        if self.stuck.len() > limits::STUCK_FRAMES_MAX {
            self.link_lost("I12: the transport takes no frames");
        }
    }

    fn has_room(&self) -> bool {
        match &self.transport {
            Transport::Up(link) => self.stuck.is_empty() && link.outgoing.capacity() > 0,
            Transport::Down | Transport::Connecting(_) => true,
        }
    }

    /// The transport may take what found no room.
    fn unstick(&mut self) {
        let Transport::Up(link) = &self.transport else { return };
        while let Some(frame) = self.stuck.pop_front() {
            if let Err(error) = link.outgoing.try_send(frame) {
                self.stuck.push_front(error.into_inner());
                break;
            }
        }
        if link.outgoing.is_closed() {
            self.link_lost("the server closed its end");
        }
    }

    /// A session that is not up yet opens the streams as they are now.
    fn on_woken(&mut self) {
        if self.shared.take_reconnect() && matches!(self.machine.link_state(), LinkState::Up | LinkState::Draining) {
            info!("a stream has other labels: connecting again to tell the server");
            self.drop_link();
            self.machine.disconnected(self.clock.now());
        }
    }

    fn on_connected(&mut self, result: Result<Link, LinkError>) {
        match result {
            Ok(link) => {
                self.transport = Transport::Up(link);
                self.machine.connected(self.clock.now(), &*self.outbox);
            }
            Err(error) => self.link_lost(&error.0),
        }
    }

    fn on_received(&mut self, frame: Option<Result<v1::ServerFrame, LinkError>>) {
        let was_up = self.machine.link_state() == LinkState::Up;
        let frame = match frame {
            Some(Ok(frame)) => wire::server_frame(frame),
            Some(Err(error)) => return self.link_lost(&error.0),
            None => return self.link_lost("the server ended the session"),
        };
        if let Err(error) = self.machine.received(self.clock.now(), frame, &*self.outbox) {
            self.on_outbox_error(&error);
        }
        self.draining = self.machine.link_state() == LinkState::Draining;
        let is_up = self.machine.link_state() == LinkState::Up;
        if is_up && !was_up {
            self.shared.set_refused(None);
        }
        if self.warned.is_some() && is_up {
            self.warned = None;
            info!("the server is reached again");
        }
    }

    fn on_outbox_error(&mut self, error: &O::Error) {
        metrics::counter!(telemetry::OUTBOX_ERRORS).increment(1);
        self.link_lost(&format!("the outbox cannot be used: {error}"));
    }

    fn on_alarm(&mut self, alarm: &Alarm) {
        if let Alarm::Adopted { stream, .. } = alarm
            && self.outbox.view(*stream).is_some_and(|view| view.definition.is_file())
        {
            // A file that was uploaded before, from wherever: nothing that anybody should look at.
            info!("{alarm}");
            return;
        }
        metrics::counter!(telemetry::ALARMS, "kind" => alarm_kind(alarm)).increment(1);
        match alarm {
            Alarm::Lost { .. } | Alarm::Diverged { .. } => error!("{alarm}"),
            _ => warn!("{alarm}"),
        }
        self.shared.keep_alarm(alarm.to_string());
        if is_refusal(alarm) {
            self.shared.set_refused(Some(alarm.to_string()));
        }
    }

    fn link_lost(&mut self, why: &str) {
        self.warn_once(why.to_owned());
        self.drop_link();
        self.machine.disconnected(self.clock.now());
    }

    fn drop_link(&mut self) {
        self.transport = Transport::Down;
        self.stuck.clear();
    }

    /// A server that is away for a night is one line, not a thousand.
    fn warn_once(&mut self, why: String) {
        if std::mem::take(&mut self.draining) {
            info!("{why}; connecting again");
            return;
        }
        if self.warned.as_ref() == Some(&why) {
            debug!("{why}");
            return;
        }
        warn!("{why}; what is captured stays in the outbox, and the uplink tries again");
        self.shared.set_error(why.clone());
        self.warned = Some(why);
    }
}

async fn connected(connecting: Option<&mut Connecting>) -> Result<Link, LinkError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

async fn next_frame(incoming: Option<&mut Incoming>) -> Option<Result<v1::ServerFrame, LinkError>> {
    match incoming {
        Some(incoming) => incoming.next().await,
        None => std::future::pending().await,
    }
}

/// Until the transport takes a frame, or never will: then sending says so.
async fn room(outgoing: Option<&mpsc::Sender<v1::AgentFrame>>) {
    match outgoing {
        Some(outgoing) => drop(outgoing.reserve().await),
        None => std::future::pending().await,
    }
}

/// Does it last until somebody changes something?
fn is_refusal(alarm: &Alarm) -> bool {
    match alarm {
        Alarm::SessionRefused { .. } | Alarm::WrongLedger { .. } => true,
        // Another server of the same address may know the one that was promoted.
        Alarm::OldPrimary { .. } => false,
        // Another agent may let go of the stream, and what is in quarantine may be mended.
        Alarm::StreamRefused { code, .. } => matches!(
            code,
            Code::DefinitionMismatch | Code::InvalidDefinition | Code::Unsupported
        ),
        Alarm::Rewound { .. }
        | Alarm::Lost { .. }
        | Alarm::Adopted { .. }
        | Alarm::Diverged { .. }
        | Alarm::AckMismatch { .. } => false,
    }
}

fn alarm_kind(alarm: &Alarm) -> &'static str {
    match alarm {
        Alarm::Rewound { .. } => "rewound",
        Alarm::Lost { .. } => "lost",
        Alarm::Adopted { .. } => "adopted",
        Alarm::Diverged { .. } => "diverged",
        Alarm::StreamRefused { .. } => "stream_refused",
        Alarm::SessionRefused { .. } => "session_refused",
        Alarm::WrongLedger { .. } => "wrong_ledger",
        Alarm::OldPrimary { .. } => "old_primary",
        Alarm::AckMismatch { .. } => "ack_mismatch",
    }
}

#[cfg(test)]
mod hours_tests;
#[cfg(test)]
mod tests;
