//! A gRPC server on any ledger: what it serves, and how it ends.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::info;

use crate::drain::drain;
use crate::ingest::registry::Registry;
use crate::ingest::{IngestConfig, IngestService};
use crate::ledger::Ledger;
use crate::serve::ServeError;
use crate::transport::{self, Tls, TransportConfig};

/// Connections may be older than sessions by this: sessions end by themselves first.
const CONNECTION_GRACE: Duration = Duration::from_secs(30);
/// What readers still have for the answers that they are getting, when draining took all the time there was.
const READERS_GRACE: Duration = Duration::from_secs(1);

/// What a server on any ledger has: sessions, health and reflection.
pub fn common_routes<L: Ledger>(
    ledger: Arc<L>,
    registry: Arc<Registry>,
    ingest: IngestConfig,
    reporter: HealthReporter,
) -> Result<Routes, ServeError> {
    let health = HealthService::from_health_reporter(reporter);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wavekeep_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Routes::new(IngestService::new(ledger, registry, ingest).into_server())
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(reflection))
}

/// A gRPC server on any ledger, and on any connections.
pub struct Grpc<I> {
    /// Connections, as they come: [`transport::Incoming`], or what a simulation has.
    pub incoming: I,
    /// What it serves.
    pub routes: Routes,
    /// Plain text without.
    pub tls: Option<Tls>,
}

impl<I, C> Grpc<I>
where
    I: Stream<Item = io::Result<C>> + Send + 'static,
    C: Connected<ConnectInfo: Clone> + AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// Serves until `stop`; then drains every session, lets the other calls end, and closes, all within `ingest.drain`.
    pub async fn serve(
        self,
        registry: &Arc<Registry>,
        ingest: IngestConfig,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let config = TransportConfig {
            connection_age_max: ingest.connection_age_max + ingest.drain + CONNECTION_GRACE,
            tls: self.tls,
        };
        let close = Arc::new(Notify::new());
        let closing = close.clone();
        let mut serving =
            tokio::spawn(
                async move { transport::serve(self.incoming, &config, self.routes, closing.notified()).await },
            );
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            () = stop => None,
        };
        if let Some(ended) = ended {
            // Without a signal it ends only when it cannot serve.
            ended.map_err(io::Error::other)??;
            return Ok(());
        }
        let until = Instant::now() + ingest.drain;
        let left = drain(registry, ingest.drain).await;
        close.notify_one();
        if tokio::time::timeout_at(until.max(Instant::now() + READERS_GRACE), &mut serving)
            .await
            .is_err()
        {
            info!("readers that were still being answered are cut off");
            serving.abort();
        }
        match left {
            0 => Ok(()),
            sessions => Err(ServeError::NotDrained(sessions)),
        }
    }
}
