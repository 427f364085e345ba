//! The uplink within its schedule's hours and outside of them.

use std::sync::atomic::{AtomicI64, Ordering};

use super::tests::{FakeServer, definition, delivered, outbox, store, wait};
use super::*;
use crate::clock::SystemClock;
use std::collections::BTreeMap;

/// The host's, with another time of day.
struct OtherDay {
    clock: SystemClock,
    ahead_ns: AtomicI64,
}

impl OtherDay {
    fn at(time: &str) -> Arc<Self> {
        let clock = Arc::new(Self {
            clock: SystemClock::new(),
            ahead_ns: AtomicI64::new(0),
        });
        clock.step_to(time);
        clock
    }

    fn step_to(&self, time: &str) {
        let time: jiff::Timestamp = time.parse().expect("it is a time");
        let ns = i64::try_from(time.as_nanosecond()).expect("it is of this century");
        self.ahead_ns.store(ns - self.clock.utc_ns(), Ordering::Release);
    }
}

impl Clock for OtherDay {
    fn now(&self) -> Duration {
        self.clock.now()
    }
    fn utc_ns(&self) -> i64 {
        self.clock.utc_ns() + self.ahead_ns.load(Ordering::Acquire)
    }
}

fn options(schedule: &str) -> UplinkOptions {
    UplinkOptions {
        schedule: Some(Schedule::parse(schedule).expect("they are hours")),
        ..UplinkOptions::new("bench")
    }
}

#[test]
fn i1_outside_of_its_hours_nothing_is_sent_and_within_them_everything_is() {
    let (outbox, server) = (outbox(), FakeServer::default());
    outbox
        .open_stream(definition(1), BTreeMap::new(), String::new(), 0)
        .expect("a good disk");
    store(&outbox, 1, 0..20);
    let clock = OtherDay::at("2026-01-31T09:59:59.6Z");
    let for_uplink: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let handle = spawn(
        Arc::clone(&outbox),
        server.clone(),
        for_uplink,
        options("10:00-11:00 UTC"),
        7,
    )
    .expect("a thread");
    wait(&handle, || handle.status().closed_until.is_some());
    let status = handle.status();
    assert_eq!(status.closed_until.as_deref(), Some("2026-01-31T10:00:00+00:00"));
    assert_eq!(status.schedule.as_deref(), Some("10:00-11:00 UTC"));
    // It looks again by itself when its hours begin, and nobody wakes it.
    wait(&handle, || delivered(&outbox));
    assert!(
        clock.utc_ns() % 86_400_000_000_000 >= 36_000_000_000_000,
        "not before ten"
    );
    let sent = {
        let world = server.world();
        (world.chunks, world.sessions)
    };
    assert_eq!(sent, (20, 1));
    assert_eq!(handle.status().closed_until, None);
    handle.stop();
}

#[tokio::test]
async fn a_session_ends_with_its_hours_and_a_clock_that_steps_is_noticed() {
    let (outbox, server, handle) = (outbox(), FakeServer::default(), UplinkHandle::new());
    let clock = OtherDay::at("2026-01-31T10:30:00Z");
    let for_task: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let mut task = UplinkTask::new(outbox, server, for_task, options("10:00-11:00 UTC"), 7, &handle);
    task.keep_hours();
    assert!(!task.closed);
    assert!(
        task.look_at <= task.clock.now() + limits::SCHEDULE_LOOK_MAX,
        "the clock may step meanwhile"
    );
    task.act(false);
    let (outgoing, _frames) = mpsc::channel(limits::OUTGOING_FRAMES_MAX);
    task.on_connected(Ok(Link {
        outgoing,
        incoming: Box::pin(tokio_stream::pending()),
    }));
    clock.step_to("2026-01-31T11:00:00Z");
    task.keep_hours();
    assert!(!task.closed, "it is not time to look yet");
    task.look_at = Duration::ZERO;
    task.keep_hours();
    assert!(task.closed && matches!(task.transport, Transport::Down));
    assert_eq!(task.machine.link_state(), LinkState::Down);
    assert_eq!(
        handle.status().closed_until.as_deref(),
        Some("2026-02-01T10:00:00+00:00")
    );
    // Back again, as a clock goes that is set right.
    clock.step_to("2026-01-31T10:59:00Z");
    task.look_at = Duration::ZERO;
    task.keep_hours();
    assert!(!task.closed && handle.status().closed_until.is_none());
}
