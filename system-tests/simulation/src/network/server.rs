//! A server's process: the real transport, sessions, writers and the watch over the primary, on the modelled ledger.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic_health::server::HealthReporter;
use turmoil::net::{TcpListener, TcpStream};
use wavekeep_server::budget::Budget;
use wavekeep_server::grpc::{Grpc, common_routes};
use wavekeep_server::ingest::IngestConfig;
use wavekeep_server::ingest::registry::Registry;
use wavekeep_server::ingest::watch::{self, watch};
use wavekeep_server::ingest::writer::WriterConfig;

use super::database::{ModelLedger, ModelProbe};
use super::stage::{Shared, Stage, lock};
use crate::log::log;
use crate::world::AGENTS_MAX;

/// Where every server listens.
pub(super) const PORT: u16 = 7460;

/// From the process's start to the time when it has drained.
pub(super) async fn run(shared: Shared, server: usize) -> turmoil::Result {
    let (config, registry, stop) = {
        let mut stage = lock(&shared);
        let config = IngestConfig {
            writers: WriterConfig {
                writers: stage.world.plan.writers,
                group_bytes: stage.plan.group_bytes,
                linger: Duration::from_millis(5),
                threads: false,
            },
            connection_age_max: stage.plan.connection_age_max,
            drain: stage.plan.drain,
            ..IngestConfig::default()
        };
        // Room for all: an agent that finds a server full for ever proves nothing.
        let budget = Budget::new(stage.plan.budget_bytes)?.with_sessions_max(2 * AGENTS_MAX as u64);
        let registry = Registry::new(budget);
        let primary = stage.world.branches.len() - 1;
        let place = &mut stage.servers[server];
        place.life += 1;
        place.running = true;
        place.draining = false;
        place.branch = primary;
        place.registry = Some(registry.clone());
        let stop = place.stop.clone();
        log!(stage.world, "server {server} starts");
        (config, registry, stop)
    };
    let ledger = Arc::new(ModelLedger {
        shared: shared.clone(),
        server,
    });
    let probe = ModelProbe {
        shared: shared.clone(),
        server,
    };
    let incoming = Incoming::new(TcpListener::bind(("0.0.0.0", PORT)).await?);
    tokio::spawn(watch(probe, registry.clone(), watch::INTERVAL));
    let grpc = Grpc {
        incoming,
        routes: common_routes(ledger, registry.clone(), config, HealthReporter::new())?,
        tls: None,
    };
    // A session that had not drained in time is cut, as in a process that ends.
    let _ = grpc.serve(&registry, config, stop.notified()).await;
    lock(&shared).has_drained(server);
    std::future::pending().await
}

impl Stage {
    fn has_drained(&mut self, server: usize) {
        log!(self.world, "server {server} has drained");
        self.servers[server].exited = true;
    }
}

type Accepting = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send>>;

/// Connections as they come.
struct Incoming {
    listener: Arc<TcpListener>,
    accepting: Accepting,
}

fn accept(listener: &Arc<TcpListener>) -> Accepting {
    let listener = listener.clone();
    Box::pin(async move { listener.accept().await })
}

impl Incoming {
    fn new(listener: TcpListener) -> Self {
        let listener = Arc::new(listener);
        let accepting = accept(&listener);
        Self { listener, accepting }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Accepted>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = std::task::ready!(self.accepting.as_mut().poll(context));
        self.accepting = accept(&self.listener);
        Poll::Ready(Some(accepted.map(|(stream, _)| Accepted(stream))))
    }
}

/// A connection, at the server's end.
struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.0.local_addr().ok(),
            remote_addr: self.0.peer_addr().ok(),
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, to)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
