//! Stopping without losing a byte: not ready → `Goaway` on every session → stop reading → commit and ack what was accepted →
//! close. A rolling restart costs agents one reconnect.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::ingest::registry::Registry;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Sessions give up by themselves at the deadline; this long after it nobody waits for them.
const GRACE: Duration = Duration::from_secs(2);

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on they do not end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Until the next one. Cancel-safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
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
