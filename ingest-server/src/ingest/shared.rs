//! What all sessions share, and how they behave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wavekeep_proto::limits;

use super::registry::Registry;
use super::writer::{WriterConfig, Writers};
use crate::ledger::Ledger;

/// How sessions behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestConfig {
    /// Of each workspace.
    pub writers: WriterConfig,
    /// A session of this age is drained, with jitter downwards.
    pub connection_age_max: Duration,
    /// How long a session that drains waits for its last commits.
    pub drain: Duration,
    /// An agent that leaves frames unread for so long is disconnected.
    pub slow_reader: Duration,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            writers: WriterConfig::default(),
            connection_age_max: Duration::from_millis(limits::CONNECTION_AGE_MS),
            drain: Duration::from_secs(20),
            slow_reader: Duration::from_millis(limits::SILENCE_MS),
        }
    }
}

/// What all sessions share.
pub(super) struct Shared<L: Ledger> {
    pub(super) ledger: Arc<L>,
    pub(super) registry: Arc<Registry>,
    pub(super) config: IngestConfig,
    /// Of every workspace that an agent was admitted to: only of those that exist.
    writers: Mutex<HashMap<String, Writers>>,
}

impl<L: Ledger> Shared<L> {
    pub(super) fn new(ledger: Arc<L>, registry: Arc<Registry>, config: IngestConfig) -> Self {
        Self {
            ledger,
            registry,
            config,
            writers: Mutex::default(),
        }
    }

    /// Of a workspace that exists; started when they are first asked for.
    pub(super) fn writers(&self, workspace: &str) -> Writers {
        let mut all = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || Writers::start(&self.ledger, workspace, self.config.writers, self.registry.chunks_max());
        all.entry(workspace.to_owned()).or_insert_with(start).clone()
    }
}
