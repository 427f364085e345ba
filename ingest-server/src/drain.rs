//! Stopping without losing a byte: not ready → `Goaway` on every session → stop reading → commit and ack what was accepted →
//! close. A rolling restart costs agents one reconnect.
//!
//! A second signal ends the process at once: nothing that was acknowledged is lost by that either.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::ingest::registry::Registry;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Sessions give up by themselves at the deadline; this long after it nobody waits for them.
const GRACE: Duration = Duration::from_secs(2);

/// SIGTERM, SIGINT and SIGHUP (a terminal that was closed), counted. Clones share the count.
#[derive(Debug, Clone)]
pub struct StopSignals {
    count: watch::Receiver<u32>,
}

impl StopSignals {
    /// From now on they do not end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (heard, count) = watch::channel(0u32);
        tokio::spawn(async move {
            while !heard.is_closed() {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
                heard.send_modify(|count| *count = count.saturating_add(1));
            }
        });
        Ok(Self { count })
    }

    /// Until the first one: stop in order.
    pub async fn first(&self) {
        self.reached(1).await;
    }

    /// Until there were so many.
    pub async fn reached(&self, number: u32) {
        let reached = self.count.clone().wait_for(|count| *count >= number).await.is_ok();
        if !reached {
            // The runtime is going down, and its tasks with it.
            std::future::pending::<()>().await;
        }
    }
}

/// Drains every session. Says how many had not ended at the deadline.
pub async fn drain(registry: &Arc<Registry>, limit: Duration) -> u64 {
    let until = Instant::now() + limit;
    let mut conditions = registry.conditions();
    info!(sessions = conditions.borrow().sessions, "draining");
    registry.drain(until);
    loop {
        let line = Instant::now() + PROGRESS;
        let wait_until = line.min(until + GRACE);
        let drained = conditions.wait_for(|now| now.sessions == 0);
        if tokio::time::timeout_at(wait_until, drained).await.is_ok() {
            info!("drained: all that was accepted is committed and acknowledged");
            return 0;
        }
        let sessions = conditions.borrow().sessions;
        if Instant::now() >= until + GRACE {
            warn!(
                sessions,
                "not drained in time: their agents will send again what was not acknowledged"
            );
            return sessions;
        }
        let bytes = registry.in_use_bytes();
        info!(sessions, bytes, "draining: waiting for commits and acks");
    }
}
