//! The writers of one workspace: each gathers accepted chunks of all sessions, validates them, and commits them in groups.
//!
//! A stream always has the same writer, so its chunks stay in order. A writer is one task that overlaps three things: chunks
//! arrive, a batch of them is decoded and hashed on a blocking thread, and the group before is in its transaction. While a
//! transaction runs the next group grows; it goes when it is large enough or has waited long enough, and the ledger is free.
//!
//! # Invariants
//! - I1: one transaction of a writer at a time, groups in the order in which their chunks came.
//! - I12: the inbox holds at most what the memory budget holds ([`super::registry::Registry::chunks_max`]); a group in memory is
//!   at most `group_bytes` and one batch.

use std::future::{Future, pending};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tracing::error;
use wavekeep_proto::id::StreamId;

use super::commit::commit_group;
use super::group::{Checked, Group};
use super::ticket::Accepted;
use crate::ledger::Ledger;
use crate::validate::{Validator, Verdict};

/// Flow bytes validated in one go: a few milliseconds of a core.
const BATCH_BYTES: u64 = 1024 * 1024;
/// Decoded bytes validated in one go: what compresses well is folded into more than came.
const BATCH_DECODED_BYTES: u64 = 8 * 1024 * 1024;

/// How a workspace's writers work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterConfig {
    /// How many there are.
    pub writers: usize,
    /// A group of so many flow bytes goes as soon as the ledger is free.
    pub group_bytes: u64,
    /// A smaller one when its first chunk has waited for so long.
    pub linger: Duration,
    /// Chunks are validated on blocking threads; if not, on the reactor: for simulations, in which no thread may run beside it.
    pub threads: bool,
}

impl Default for WriterConfig {
    /// Groups of 4 MiB commit nearly as fast as larger ones, and in a quarter of the time.
    fn default() -> Self {
        Self {
            writers: 2,
            group_bytes: 4 * 1024 * 1024,
            linger: Duration::from_millis(5),
            threads: true,
        }
    }
}

/// The inboxes of a workspace's writers. They end when the last clone of this does.
#[derive(Debug, Clone)]
pub struct Writers {
    inboxes: Arc<[mpsc::Sender<Accepted>]>,
}

/// A writer's inbox is full: the server has more chunks in memory than its budget holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is busy: its writers have more to do than fits its memory")]
pub struct Full;

impl Writers {
    /// Starts them.
    #[must_use]
    pub fn start<L: Ledger>(ledger: &Arc<L>, workspace: &str, config: WriterConfig, chunks_max: usize) -> Self {
        let start = |_| {
            let (sender, inbox) = mpsc::channel(chunks_max);
            tokio::spawn(Writer::new(ledger.clone(), workspace.into(), config, inbox).run());
            sender
        };
        Self {
            inboxes: (0..config.writers.max(1)).map(start).collect(),
        }
    }

    /// Hands a chunk to its stream's writer, which will answer its ticket.
    pub fn accept(&self, accepted: Accepted) -> Result<(), Full> {
        let inbox = &self.inboxes[self.writer_of(accepted.definition.id)];
        // A writer only ends with its last inbox; if it died, the ticket has said `Lost` when the chunk was dropped.
        match inbox.try_send(accepted) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Full),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn writer_of(&self, stream: StreamId) -> usize {
        let mut hasher = DefaultHasher::new();
        stream.hash(&mut hasher);
        (hasher.finish() % self.inboxes.len() as u64) as usize
    }
}

type Validated = (Validator, Vec<Checked>);

struct Writer<L> {
    ledger: Arc<L>,
    workspace: Arc<str>,
    config: WriterConfig,
    inbox: mpsc::Receiver<Accepted>,
    /// Of the last inbox: nothing more will come.
    closed: bool,
    validating: Option<JoinHandle<Validated>>,
    /// Here while it does not validate.
    validator: Option<Validator>,
    group: Group,
    /// When the first chunk of the group came.
    group_since: Instant,
    committing: Option<JoinHandle<()>>,
}

enum Event {
    Arrived(Option<Accepted>),
    Validated(Result<Validated, JoinError>),
    Committed(Result<(), JoinError>),
    Lingered,
}

/// Cancel-safe: a handle that is polled again goes on waiting.
async fn ended<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(handle) => {
            let answer = handle.await;
            *task = None;
            answer
        }
        None => pending().await,
    }
}

impl<L: Ledger> Writer<L> {
    fn new(ledger: Arc<L>, workspace: Arc<str>, config: WriterConfig, inbox: mpsc::Receiver<Accepted>) -> Self {
        Self {
            ledger,
            workspace,
            config,
            inbox,
            closed: false,
            validating: None,
            validator: Some(Validator::default()),
            group: Group::default(),
            group_since: Instant::now(),
            committing: None,
        }
    }

    async fn run(mut self) {
        while !self.is_over() {
            let event = self.next_event().await;
            self.handle(event);
        }
    }

    fn is_over(&self) -> bool {
        self.closed && self.validating.is_none() && self.committing.is_none() && self.group.is_empty()
    }

    fn next_event(&mut self) -> impl Future<Output = Event> + Send {
        let room = self.group.bytes() < self.config.group_bytes;
        let may_validate = self.validator.is_some() && room && !self.closed;
        let waits = !self.group.is_empty() && self.committing.is_none();
        let close_at = self.group_since + self.config.linger;
        async move {
            tokio::select! {
                accepted = self.inbox.recv(), if may_validate => Event::Arrived(accepted),
                validated = ended(&mut self.validating) => Event::Validated(validated),
                committed = ended(&mut self.committing) => Event::Committed(committed),
                () = tokio::time::sleep_until(close_at), if waits => Event::Lingered,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrived(None) => self.closed = true,
            Event::Arrived(Some(first)) => self.validate(first),
            Event::Validated(Ok((validator, batch))) => {
                self.validator = Some(validator);
                if self.group.is_empty() {
                    self.group_since = Instant::now();
                }
                batch.into_iter().for_each(|checked| self.group.push(checked));
            }
            // Its chunks' tickets said `Lost` when they were dropped.
            Event::Validated(Err(error)) => {
                error!(workspace = &*self.workspace, %error, "validation panicked: its chunks are given back");
                self.validator = Some(Validator::default());
            }
            Event::Committed(Err(error)) => {
                error!(workspace = &*self.workspace, %error, "a commit panicked: its chunks are given back");
            }
            Event::Committed(Ok(())) | Event::Lingered => {}
        }
        self.commit_if_due();
    }

    /// What has come by now, up to a batch, goes to a blocking thread; its order is kept.
    fn validate(&mut self, first: Accepted) {
        let Some(mut validator) = self.validator.take() else {
            unreachable!("chunks are taken only while the validator is here")
        };
        let mut bytes = (first.ticket.bytes(), first.decoded_bytes());
        let mut batch = vec![first];
        while bytes.0 < BATCH_BYTES
            && bytes.1 < BATCH_DECODED_BYTES
            && let Ok(next) = self.inbox.try_recv()
        {
            bytes = (bytes.0 + next.ticket.bytes(), bytes.1 + next.decoded_bytes());
            batch.push(next);
        }
        let validate = move || {
            let check = |accepted: Accepted| match validator.check(&accepted.definition, &accepted.chunk) {
                Ok(Verdict::Good(folds)) => Some(Checked {
                    accepted,
                    quarantine: None,
                    folds,
                }),
                Ok(Verdict::Quarantine(quarantine)) => Some(Checked {
                    accepted,
                    quarantine: Some(quarantine),
                    folds: Vec::new(),
                }),
                Err(no_memory) => {
                    // Its ticket says `Lost`: the session ends, and the agent sends it again.
                    error!(device = accepted.definition.device, %no_memory, "a chunk was not validated");
                    None
                }
            };
            let checked = batch.into_iter().filter_map(check).collect();
            (validator, checked)
        };
        self.validating = Some(if self.config.threads {
            tokio::task::spawn_blocking(validate)
        } else {
            tokio::spawn(async { validate() })
        });
    }

    fn commit_if_due(&mut self) {
        let lingered = self.closed || self.group_since.elapsed() >= self.config.linger;
        let due = self.group.bytes() >= self.config.group_bytes || lingered;
        if self.committing.is_some() || self.group.is_empty() || !due {
            return;
        }
        let (ledger, workspace) = (self.ledger.clone(), self.workspace.clone());
        let group = std::mem::take(&mut self.group);
        self.committing = Some(tokio::spawn(async move {
            commit_group(&*ledger, &workspace, group).await;
        }));
    }
}
