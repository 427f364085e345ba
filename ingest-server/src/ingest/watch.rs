//! Is the database there, and is it still the same primary?
//!
//! A connection of its own is kept open and asked every second. When it breaks, or another primary answers, acks that were given
//! may have been lost with the old one: every session ends, and each agent asks again where its streams stand, and heals.
//!
//! # Invariants
//! - A database outage flips readiness, not liveness: this task ends sessions, never the process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::registry::Registry;
use crate::telemetry::counter;

/// Between two questions.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// No answer by then: it is gone.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A kept connection to the primary.
pub trait Probe: Send + 'static {
    /// Who is the primary? Asks over the connection that it has; connects when it has none, and gives it up when it fails.
    fn primary(&mut self) -> impl Future<Output = Result<String, String>> + Send;
}

/// Watches for ever.
pub async fn watch<P: Probe>(mut probe: P, registry: Arc<Registry>, interval: Duration) {
    let mut known: Option<String> = None;
    let mut up = true;
    loop {
        let answer = tokio::time::timeout(ANSWER_LIMIT, probe.primary()).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_LIMIT:?}")));
        match answer {
            Ok(primary) => {
                if known.as_ref().is_some_and(|known| *known != primary) {
                    warn!("another primary answers: all sessions end");
                    registry.ledger_lost();
                }
                if !up {
                    info!("the database answers again");
                }
                up = true;
                registry.ledger_up();
                known = Some(primary);
            }
            Err(why) if up => {
                warn!(why, "the connection to the database broke: all sessions end");
                counter::LEDGER_ERRORS.add_of("kind", "connection", 1);
                (up, known) = (false, None);
                registry.ledger_lost();
            }
            Err(_) => {}
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::budget::Budget;

    /// Answers one after the other, then no more.
    struct Script(VecDeque<Result<String, String>>);

    impl Probe for Script {
        async fn primary(&mut self) -> Result<String, String> {
            match self.0.pop_front() {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    /// What sessions saw, until this state is reached: is it up, and which generation.
    async fn until(script: &[Result<&str, &str>], last: (bool, u64)) {
        let registry = Registry::new(Budget::new(8 << 20).expect("it fits"));
        let mut conditions = registry.conditions();
        let script = script
            .iter()
            .map(|answer| answer.map(str::to_owned).map_err(str::to_owned));
        let script = Script(script.collect());
        let watching = tokio::spawn(watch(script, registry, Duration::from_millis(1)));
        let reached = conditions.wait_for(|now| (now.ledger_up, now.ledger_generation) == last);
        reached.await.expect("the registry lives as long as its watcher");
        watching.abort();
    }

    #[tokio::test]
    async fn an_outage_ends_every_session_once_and_passes() {
        until(&[Ok("a"), Err("gone"), Err("gone"), Ok("a"), Ok("a")], (true, 1)).await;
        until(&[Ok("a"), Err("gone"), Ok("a"), Err("gone")], (false, 2)).await;
    }

    #[tokio::test]
    async fn another_primary_ends_every_session() {
        until(&[Ok("a"), Ok("a"), Ok("b"), Ok("b")], (true, 1)).await;
    }
}
