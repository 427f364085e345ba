//! gRPC over HTTP/2 over TCP: the settings, and how many connections there may be.
//!
//! # Invariants
//! - I12: a connection buffers at most [`limits::TRANSPORT_WINDOW_BYTES`] and one message; there are at most as many connections as
//!   [`limits::connections_max`] says; each carries at most [`limits::CALLS_MAX`] calls at a time, and is closed when it begins calls to
//!   reset them at once.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tracing::{debug, warn};

use crate::limits;
use crate::telemetry::{counter, gauge};

/// A certificate chain and its key, both PEM.
#[derive(Clone)]
pub struct Tls {
    /// The chain.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: Vec<u8>,
}

/// How a server serves its connections.
#[derive(Clone)]
pub struct TransportConfig {
    /// A connection is asked to end gracefully at this age: calls that run go on.
    pub connection_age_max: Duration,
    /// Plain text without.
    pub tls: Option<Tls>,
}

/// Serves the connections that come, until `stop`, and then until the last call has ended.
pub async fn serve<I, C>(
    incoming: I,
    config: &TransportConfig,
    routes: Routes,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error>
where
    I: Stream<Item = io::Result<C>>,
    C: Connected<ConnectInfo: Clone> + AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut server = Server::builder()
        .initial_stream_window_size(limits::TRANSPORT_WINDOW_BYTES)
        .initial_connection_window_size(limits::TRANSPORT_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_BYTES)
        .max_concurrent_streams(limits::CALLS_MAX)
        .http2_max_header_list_size(limits::REQUEST_HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(limits::RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(limits::RESETS_MAX))
        .http2_keepalive_interval(Some(limits::PING_INTERVAL))
        .http2_keepalive_timeout(Some(limits::PING_ANSWER))
        .max_connection_age(config.connection_age_max);
    if let Some(tls) = &config.tls {
        let identity = Identity::from_pem(&tls.certificate, &tls.key);
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    server
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

/// TCP connections as they come; those above the limit are closed at once.
pub struct Incoming {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    open: Arc<AtomicU64>,
}

impl Incoming {
    /// Of a socket that is bound.
    #[must_use]
    pub fn new(listener: TcpListener, connections_max: u64) -> Self {
        let permits = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            listener,
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            open: Arc::default(),
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Connection> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            counter::CONNECTIONS_REFUSED.add(1);
            warn!(%peer, "closed at once: too many connections are open");
            return None;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "gone before it was served");
            return None;
        }
        gauge::CONNECTIONS.set(self.open.fetch_add(1, Ordering::Relaxed) + 1);
        Some(Connection {
            stream,
            open: self.open.clone(),
            _permit: permit,
        })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.listener.poll_accept(context) {
                Poll::Pending => return Poll::Pending,
                // Out of file descriptors, or gone again: tonic logs it and asks for the next.
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok((stream, peer))) => {
                    if let Some(connection) = self.admit(stream, peer) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
            }
        }
    }
}

/// A TCP connection that counts.
pub struct Connection {
    stream: TcpStream,
    open: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        gauge::CONNECTIONS.set(self.open.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn i12_a_connection_above_the_limit_is_closed_at_once_and_room_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut incoming = Incoming::new(listener, 1);
        let _first = TcpStream::connect(address).await.expect("it listens");
        let served = incoming.next().await.expect("endless").expect("accepted");
        let mut second = TcpStream::connect(address).await.expect("it listens");
        let closed = tokio::select! {
            closed = second.read_u8() => closed,
            _ = incoming.next() => panic!("the second connection must not be served"),
        };
        assert!(closed.is_err(), "I12: it is closed");
        drop(served);
        let _third = TcpStream::connect(address).await.expect("it listens");
        incoming.next().await.expect("endless").expect("there is room again");
    }
}
