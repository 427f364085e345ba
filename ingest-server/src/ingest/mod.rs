//! Agents' sessions, and the writers that commit what they accept.
//!
//! | file | what |
//! |---|---|
//! | `session` | the shell of one session: one task around the pure machine |
//! | `slots`, `asking`, `inbound`, `outgoing` | its parts: streams and owners; questions to the ledger; frames from and to the agent |
//! | `shared` | what all sessions share, and how they behave |
//! | [`registry`] | seats, memory in use, and what concerns every session |
//! | [`ticket`] | a chunk on its way to a writer, and the answer that must come back |
//! | [`writer`], [`group`], [`commit`] | gather, validate, group, commit, answer |
//! | [`watch`] | is the database there, and is it still the same primary? |
//!
//! A chunk's way: connection → `session` (machine accepts) → `ticket` → `writer` → `group` → `commit` → the ledger; and back:
//! reply → `session` (machine acks) → `outgoing` → connection.

mod asking;
pub mod commit;
#[cfg(test)]
#[path = "../../tests/support/fixtures.rs"]
pub(crate) mod fixtures;
pub mod group;
mod inbound;
#[cfg(test)]
#[path = "../../tests/support/model.rs"]
pub(crate) mod model;
mod outgoing;
pub mod registry;
mod session;
mod shared;
mod slots;
pub mod ticket;
pub mod watch;
pub mod writer;
#[cfg(test)]
mod writer_tests;

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, field, info_span};
use wavekeep_proto::limits;
use wavekeep_proto::v1;
use wavekeep_proto::v1::ingest_server;

use crate::ledger::Ledger;
pub(crate) use asking::OPENS_MAX;
use outgoing::Sent;
use registry::Registry;
use session::Shell;
pub use shared::IngestConfig;
use shared::Shared;

/// The service `Ingest`.
pub struct IngestService<L: Ledger> {
    shared: Arc<Shared<L>>,
}

impl<L: Ledger> IngestService<L> {
    /// Without sessions.
    #[must_use]
    pub fn new(ledger: Arc<L>, registry: Arc<Registry>, config: IngestConfig) -> Self {
        Self {
            shared: Arc::new(Shared::new(ledger, registry, config)),
        }
    }

    /// For a tonic router, with the protocol's message limit.
    #[must_use]
    pub fn into_server(self) -> ingest_server::IngestServer<Self> {
        ingest_server::IngestServer::new(self)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl<L: Ledger> ingest_server::Ingest for IngestService<L> {
    type SessionStream = ReceiverStream<Sent>;

    /// Answers at once: an agent that waits for the response's headers before it says hello must not wait for ever.
    async fn session(
        &self,
        request: Request<Streaming<v1::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request
            .remote_addr()
            .map(|address| address.to_string())
            .unwrap_or_default();
        let (shell, sent) = Shell::new(self.shared.clone());
        let span = info_span!(
            "session",
            session = %shell.id(),
            peer,
            agent = field::Empty,
            agent_id = field::Empty,
            workspace = field::Empty
        );
        let seat = self.shared.registry.enter();
        tokio::spawn(shell.run(seat, request.into_inner()).instrument(span));
        Ok(Response::new(ReceiverStream::new(sent)))
    }
}
