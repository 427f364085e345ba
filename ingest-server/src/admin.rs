//! `/healthz`, `/readyz` and `/metrics`, on a thread and a runtime of their own: they answer however busy the server is.
//!
//! Liveness says that the process works: the main runtime has ticked lately. Readiness says that new agents are welcome: the
//! database answers and the server does not drain. An outage of the database must not make anybody restart the server.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::telemetry::gauge;

/// Between two beats of the main runtime's pulse.
const PULSE: Duration = Duration::from_secs(1);
/// Without a beat for so long it is stuck.
const STUCK: Duration = Duration::from_secs(30);
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
            Ok(listener) => axum::serve(listener, router).await,
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
