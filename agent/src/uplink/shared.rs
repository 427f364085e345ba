//! What the uplink shares with the rest of the agent: it is woken, stopped, and tells how it stands.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wavekeep_proto::uplink::{LinkState, Uplink};

use super::UplinkOptions;
use super::lag::Lag;
use crate::limits;
use crate::status::LagStatus;
use crate::stop::StopToken;

/// How the link stands.
#[derive(Debug, Clone)]
pub struct UplinkStatus {
    /// Down, connecting, up or draining.
    pub link: LinkState,
    /// The server, for people.
    pub server: String,
    /// On the agent's clock; none without a session.
    pub session_since: Option<Duration>,
    /// When chunks were last acked, on the agent's clock.
    pub last_ack: Option<Duration>,
    /// Most bytes per second that are sent.
    pub upload_limit_bytes: Option<u64>,
    /// The hours in which there may be a session.
    pub schedule: Option<String>,
    /// They have not begun: until when (RFC 3339, in the schedule's time zone).
    pub closed_until: Option<String>,
    /// The window last received; 0 without a session.
    pub window_bytes: u64,
    /// Sent and not yet acked.
    pub in_flight_bytes: u64,
    /// Chunks acked since the agent started.
    pub acked_chunks: u64,
    /// Why there was no session, last time there was none.
    pub last_error: Option<String>,
    /// The server takes nothing, or not a stream of this agent, until somebody changes something: in one sentence. The uplink asks
    /// again now and then all the same.
    pub refused: Option<String>,
    /// Alarms since the agent started.
    pub alarm_count: u64,
    /// The newest of them, oldest first.
    pub alarms: VecDeque<String>,
}

/// Wakes, asks and stops an uplink. Clones are the same uplink.
#[derive(Debug, Clone)]
pub struct UplinkHandle {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: Notify,
    reconnect: AtomicBool,
    stop: CancellationToken,
}

#[derive(Debug)]
struct State {
    status: UplinkStatus,
    lag: Lag,
    /// Counts what happened, so that a waiter sees that something did.
    events: u64,
}

impl Default for UplinkHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl UplinkHandle {
    /// Of an uplink that is yet to be started.
    #[must_use]
    pub fn new() -> Self {
        let status = UplinkStatus {
            link: LinkState::Down,
            server: String::new(),
            session_since: None,
            last_ack: None,
            upload_limit_bytes: None,
            schedule: None,
            closed_until: None,
            window_bytes: 0,
            in_flight_bytes: 0,
            acked_chunks: 0,
            last_error: None,
            refused: None,
            alarm_count: 0,
            alarms: VecDeque::new(),
        };
        let shared = Shared {
            state: Mutex::new(State {
                status,
                lag: Lag::default(),
                events: 0,
            }),
            changed: Condvar::new(),
            wake: Notify::new(),
            reconnect: AtomicBool::new(false),
            stop: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
            thread: Arc::default(),
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn set_thread(&self, thread: JoinHandle<()>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// The outbox changed: there may be something to send.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// A session that is up ends and another one begins, which opens every stream again, with the labels that it has now.
    pub fn reconnect(&self) {
        self.shared.reconnect.store(true, Ordering::Release);
        self.wake();
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        self.shared.lock().status.clone()
    }

    /// How long the last live chunks took from their last sample to their ack.
    #[must_use]
    pub fn lag(&self) -> LagStatus {
        self.shared.lock().lag.status()
    }

    /// Waits until `done`, which is asked again after everything that happens, or until `deadline` or a stop. Returns `done`.
    #[must_use]
    pub fn wait_until(&self, deadline: Option<Instant>, stop: &StopToken, mut done: impl FnMut() -> bool) -> bool {
        loop {
            let seen = self.shared.lock().events;
            if done() {
                return true;
            }
            if stop.is_stopped() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            let state = self.shared.lock();
            if state.events == seen {
                drop(self.shared.wait(state, limits::BLOCKED_POLL));
            }
        }
    }

    /// Counts an alarm, and keeps it for the status.
    pub fn keep_alarm(&self, alarm: String) {
        self.shared.keep_alarm(alarm);
    }

    /// Ends the session and the uplink's thread.
    pub fn stop(&self) {
        self.shared.stop.cancel();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics were caught and logged where they happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(super) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Once per wish.
    pub(super) fn take_reconnect(&self) -> bool {
        self.reconnect.swap(false, Ordering::AcqRel)
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn describe(&self, options: &UplinkOptions) {
        let status = &mut self.lock().status;
        status.server.clone_from(&options.server);
        status.upload_limit_bytes = options.upload_limit_bytes;
        status.schedule = options.schedule.as_ref().map(ToString::to_string);
    }

    pub(super) fn acked_after(&self, lag: Duration) {
        self.lock().lag.acked(lag);
    }

    pub(super) fn set_closed_until(&self, until: Option<String>) {
        self.lock().status.closed_until = until;
    }

    pub(super) fn publish(&self, machine: &Uplink, now: Duration) {
        let mut state = self.lock();
        state.events += 1;
        state.status.link = machine.link_state();
        state.status.session_since = match state.status.link {
            LinkState::Up | LinkState::Draining => state.status.session_since.or(Some(now)),
            LinkState::Down | LinkState::Connecting => None,
        };
        if state.status.acked_chunks != machine.acked_chunks() {
            state.status.last_ack = Some(now);
        }
        state.status.window_bytes = machine.window_bytes();
        state.status.in_flight_bytes = machine.in_flight_bytes();
        state.status.acked_chunks = machine.acked_chunks();
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn keep_alarm(&self, alarm: String) {
        let status = &mut self.lock().status;
        status.alarm_count += 1;
        if status.alarms.len() == limits::ALARMS_KEPT_MAX {
            status.alarms.pop_front();
        }
        status.alarms.push_back(alarm);
    }

    pub(super) fn set_error(&self, error: String) {
        self.lock().status.last_error = Some(error);
    }

    pub(super) fn set_refused(&self, refused: Option<String>) {
        self.lock().status.refused = refused;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, at_most)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}
