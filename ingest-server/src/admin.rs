//! `/healthz`, `/readyz` and `/metrics`, on a thread and a runtime of their own: they answer however busy the server is.
//!
//! Liveness says that the process works: the main runtime has ticked lately. Readiness says that new agents are welcome: the
//! database answers and the server does not drain. An outage of the database must not make anybody restart the server.
//!
//! # Invariants
//! - I12: at most `CONNECTIONS_MAX` connections, each for at most `CONNECTION_AGE_MAX`: one that is kept open and says nothing
//!   cannot keep probes out for longer.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;

use crate::telemetry::gauge;

/// Between two beats of the main runtime's pulse.
const PULSE: Duration = Duration::from_secs(1);
/// Without a beat for so long it is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// Probes and scrapers; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// A scraper that keeps its connection makes a new one then.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// After an accept that failed: out of file descriptors, perhaps.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Between two cleanings of the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Are new agents welcome?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet: the database is being connected to.
    Starting,
    /// Yes.
    Ready,
    /// The database does not answer.
    LedgerDown,
    /// Not any more.
    Draining,
}

impl Readiness {
    const fn reason(self) -> &'static str {
        match self {
            Self::Starting => "not ready: starting\n",
            Self::Ready => "ready\n",
            Self::LedgerDown => "not ready: the database does not answer\n",
            Self::Draining => "not ready: draining\n",
        }
    }
}

/// What the endpoints tell. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    readiness: Arc<watch::Sender<Readiness>>,
    started: Instant,
    /// Of the last beat, since `started`.
    beat_ms: Arc<AtomicU64>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            readiness: Arc::new(watch::Sender::new(Readiness::Starting)),
            started: Instant::now(),
            beat_ms: Arc::default(),
        }
    }
}

impl Health {
    /// From now on.
    pub fn set(&self, readiness: Readiness) {
        gauge::READY.set(u64::from(readiness == Readiness::Ready));
        self.readiness.send_replace(readiness);
    }

    /// As it is and as it changes.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Beats for ever: to be spawned on the main runtime.
    pub async fn beat(self) {
        loop {
            let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.beat_ms.store(now_ms, Ordering::Relaxed);
            tokio::time::sleep(PULSE).await;
        }
    }

    fn is_alive(&self) -> bool {
        let last = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last) < STUCK
    }
}

#[derive(Clone)]
struct Told {
    health: Health,
    metrics: PrometheusHandle,
}

const INDEX: &str =
    "wavekeep-server\n  /healthz   the process works\n  /readyz    new agents are welcome\n  /metrics   Prometheus\n";

/// Serves them from a thread of its own, until the process ends.
pub fn start(listener: TcpListener, health: Health, metrics: PrometheusHandle) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let upkeep = metrics.clone();
    let router = Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(rendered))
        .with_state(Told { health, metrics });
    let serve = async move {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                upkeep.run_upkeep();
            }
        });
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => axum::serve(Limited::new(listener, CONNECTIONS_MAX, CONNECTION_AGE_MAX), router).await,
            Err(error) => Err(error),
        }
    };
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        if let Err(error) = runtime.block_on(serve) {
            tracing::error!(%error, "health and metrics are not served any more");
        }
    })?;
    Ok(())
}

/// Takes at most so many connections at a time.
struct Limited {
    listener: tokio::net::TcpListener,
    permits: Arc<Semaphore>,
    age_max: Duration,
}

impl Limited {
    fn new(listener: tokio::net::TcpListener, connections_max: usize, age_max: Duration) -> Self {
        Self {
            listener,
            age_max,
            permits: Arc::new(Semaphore::new(connections_max)),
        }
    }
}

impl axum::serve::Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let accepted = self.listener.accept().await;
            let permit = self.permits.clone().try_acquire_owned();
            match (accepted, permit) {
                (Ok((stream, peer)), Ok(permit)) => {
                    let too_old = Box::pin(tokio::time::sleep(self.age_max));
                    return (
                        Connection {
                            stream,
                            too_old,
                            _permit: permit,
                        },
                        peer,
                    );
                }
                (Ok(_), Err(_)) => {}
                (Err(_), _) => tokio::time::sleep(ACCEPT_RETRY).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One that ends at its age.
struct Connection {
    stream: TcpStream,
    too_old: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.too_old.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.too_old.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn healthz(State(told): State<Told>) -> (StatusCode, &'static str) {
    if told.health.is_alive() {
        (StatusCode::OK, "alive\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stuck: restart it\n")
    }
}

async fn readyz(State(told): State<Told>) -> (StatusCode, &'static str) {
    let readiness = *told.health.readiness.borrow();
    let code = match readiness {
        Readiness::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, readiness.reason())
}

async fn rendered(State(told): State<Told>) -> String {
    told.metrics.render()
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn i12_idle_connections_are_few_and_end_at_their_age() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut limited = Limited::new(listener, 1, Duration::from_millis(1));
        let address = limited.local_addr().expect("bound");
        let _idle = TcpStream::connect(address).await.expect("it listens");
        let (mut kept, _) = limited.accept().await;
        let mut second = TcpStream::connect(address).await.expect("it listens");
        let closed = tokio::select! {
            closed = second.read_u8() => closed,
            _ = limited.accept() => panic!("the second connection must not be served"),
        };
        assert!(closed.is_err(), "I12: it is closed");
        assert!(kept.read_u8().await.is_err(), "it said nothing until its age");
        assert!(kept.write_u8(1).await.is_err());
        drop(kept);
        let _third = TcpStream::connect(address).await.expect("it listens");
        limited.accept().await;
    }
}
