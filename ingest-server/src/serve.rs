//! The server: sockets first, then the database, then everybody may come; and on a signal, the other way round.
//!
//! | gRPC health's service | says |
//! |---|---|
//! | `""` | liveness: serving as long as the process works, whatever the database does |
//! | `wavekeep.v1.Ingest`, `wavekeep.v1.Query`, `wavekeep.v1.Catalog`, `readiness` | readiness: new agents are welcome |

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{error, warn};

use crate::admin::{self, Health, Readiness};
use crate::backfill;
use crate::budget::{Budget, BudgetTooSmall};
use crate::catalog;
use crate::drain::StopSignals;
use crate::grpc::{self, Grpc};
use crate::ingest::registry::{Conditions, Registry};
use crate::ingest::{IngestConfig, watch};
use crate::limits::connections_max;
use crate::query;
use crate::store::migration::MigrationError;
use crate::store::{Database, DatabaseError, PostgresLedger, PrimaryProbe, StoreError};
use crate::transport::{self, Tls};
use crate::workspace::{self, WorkspaceError};

/// Between two attempts.
const DATABASE_RETRY: Duration = Duration::from_secs(1);
/// Between two lines about it.
const DATABASE_REPORT: Duration = Duration::from_secs(5);
/// For connections to the database that are still in use once everything else has ended.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at the partitions of the days ahead, and at those that are old.
const PARTITIONS_INTERVAL: Duration = Duration::from_secs(3600);

/// How to serve.
#[derive(Clone)]
pub struct ServeConfig {
    /// For agents and readers.
    pub listen: SocketAddr,
    /// For health and metrics.
    pub http: SocketAddr,
    /// For chunks in memory.
    pub memory_budget_bytes: u64,
    /// Sessions at a time; unless told as many as have the smallest window all at once.
    pub sessions_max: Option<u32>,
    /// Connections to the database, for writers, opens and readers.
    pub database_connections: u32,
    /// How long a database that does not answer is waited for at start.
    pub database_wait: Duration,
    /// Commit nothing while the database names no synchronous standby.
    pub standby_required: bool,
    /// Sessions and writers.
    pub ingest: IngestConfig,
    /// Plain text without.
    pub tls: Option<Tls>,
}

/// Why the server does not serve, or ended other than drained. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is in use, or not ours.
    #[error("cannot listen on {address} ({error}): stop what listens there, or choose another with {option}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
        /// Which option.
        option: &'static str,
    },
    /// No session fits.
    #[error(transparent)]
    Budget(#[from] BudgetTooSmall),
    /// No database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Not migrated, or by another version.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// What the database says.
    #[error("the database refused: {0}")]
    Store(#[from] StoreError),
    /// gRPC's transport.
    #[error("gRPC cannot be served ({0}): check --tls-cert and --tls-key, PEM both")]
    Transport(#[from] tonic::transport::Error),
    /// gRPC's reflection.
    #[error("gRPC reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Threads, signals.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
    /// The second signal.
    #[error("stopped at once, by a second signal; nothing is lost, agents send again what was not acknowledged")]
    StoppedAtOnce,
    /// Not everything was acknowledged.
    #[error(
        "{0} sessions were not drained in time; nothing is lost, their agents send again what was not acknowledged"
    )]
    NotDrained(u64),
}

/// The sockets, bound: a port in use is noticed before anything else is started.
#[derive(Debug)]
pub struct Sockets {
    grpc: TcpListener,
    http: TcpListener,
}

fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, ServeError> {
    let listen = |error| ServeError::Listen { address, error, option };
    let listener = TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    Ok(listener)
}

impl Sockets {
    /// Both.
    pub fn bind(config: &ServeConfig) -> Result<Self, ServeError> {
        Ok(Self {
            grpc: bind(config.listen, "--listen")?,
            http: bind(config.http, "--http")?,
        })
    }

    /// Where agents connect; the port that was found, where 0 was asked for.
    pub fn grpc_address(&self) -> std::io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where health and metrics are.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }
}

/// Waits for the database, reporting, as long as configured; an unusable URL or schema is not waited for.
async fn connect(url: &SecretString, config: &ServeConfig) -> Result<Database, ServeError> {
    let give_up = Instant::now() + config.database_wait;
    let mut told: Option<Instant> = None;
    loop {
        let why = match usable(url, config).await {
            Ok(database) => return Ok(database),
            Err(error) if is_passing(&error) && Instant::now() < give_up => error,
            Err(WorkspaceError::Database(error)) => return Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        if told.is_none_or(|at| at.elapsed() >= DATABASE_REPORT) {
            warn!(%why, "waiting for the database");
            told = Some(Instant::now());
        }
        tokio::time::sleep(DATABASE_RETRY).await;
    }
}

async fn usable(url: &SecretString, config: &ServeConfig) -> Result<Database, WorkspaceError> {
    let database = Database::connect(url.expose_secret(), config.database_connections).await?;
    let database = database.requiring_standby(config.standby_required);
    workspace::check(&database).await?;
    Ok(database)
}

/// Connections are lost at any moment, also between the first answer and the last look at the schema.
fn is_passing(error: &WorkspaceError) -> bool {
    match error {
        WorkspaceError::Database(DatabaseError::Unreachable { .. }) => true,
        WorkspaceError::Database(DatabaseError::Store(error)) | WorkspaceError::Store(error) => error.is_passing(),
        WorkspaceError::Migration { error, .. } => matches!(error, MigrationError::Failed(_)),
        _ => false,
    }
}

/// Serves a database that is migrated, until a signal; then drains, unless a second signal ends it at once. `ready` is called once
/// agents may come.
pub async fn serve(
    config: &ServeConfig,
    url: &SecretString,
    sockets: Sockets,
    metrics: PrometheusHandle,
    signals: &StopSignals,
    ready: impl FnOnce(),
) -> Result<(), ServeError> {
    tokio::select! {
        served = serve_until_drained(config, url, sockets, metrics, signals, ready) => served,
        () = signals.reached(2) => Err(ServeError::StoppedAtOnce),
    }
}

async fn serve_until_drained(
    config: &ServeConfig,
    url: &SecretString,
    sockets: Sockets,
    metrics: PrometheusHandle,
    signals: &StopSignals,
    ready: impl FnOnce(),
) -> Result<(), ServeError> {
    let budget = Budget::new(config.memory_budget_bytes)?;
    let budget = match config.sessions_max {
        Some(sessions) => budget.with_sessions_max(sessions.into()),
        None => budget,
    };
    let health = Health::default();
    tokio::spawn(health.clone().beat());
    admin::start(sockets.http, health.clone(), metrics)?;
    let database = tokio::select! {
        connected = connect(url, config) => connected?,
        () = signals.first() => return Ok(()),
    };
    let reporter = HealthReporter::new();
    let registry = Registry::new(budget);
    let ledger = Arc::new(PostgresLedger::new(database));
    let probe = PrimaryProbe::new(url.expose_secret(), ledger.database().clone())?;
    let background = [
        tokio::spawn(watch::watch(probe, registry.clone(), watch::INTERVAL)),
        tokio::spawn(backfill::run(ledger.database().clone())),
        tokio::spawn(partitions(ledger.clone())),
        tokio::spawn(readiness(health.clone(), registry.clone())),
        tokio::spawn(report(reporter.clone(), health)),
    ];
    let routes = routes(&ledger, &registry, config.ingest, reporter)?;
    let listener = tokio::net::TcpListener::from_std(sockets.grpc)?;
    let grpc = Grpc {
        incoming: transport::Incoming::new(listener, connections_max(registry.sessions_max())),
        routes,
        tls: config.tls.clone(),
    };
    let signalled = async {
        ready();
        signals.first().await;
    };
    let served = grpc.serve(&registry, config.ingest, signalled).await;
    background.iter().for_each(JoinHandle::abort);
    // A connection that is in use may wait for the database for longer than anybody waits for us.
    if tokio::time::timeout(CLOSE_WAIT, ledger.database().close())
        .await
        .is_err()
    {
        warn!("connections to the database are still in use, and are cut");
    }
    served
}

/// Every service of this server. **A new one is added here.**
fn routes(
    ledger: &Arc<PostgresLedger>,
    registry: &Arc<Registry>,
    ingest: IngestConfig,
    reporter: HealthReporter,
) -> Result<Routes, ServeError> {
    let routes = grpc::common_routes(ledger.clone(), registry.clone(), ingest, reporter)?;
    let stopping = CancellationToken::new();
    tokio::spawn(tell_drain(registry.conditions(), stopping.clone()));
    let routes = routes.add_service(query::service(ledger.database().clone(), stopping));
    Ok(routes.add_service(catalog::service(ledger.database().clone())))
}

/// To those who know nothing of sessions.
async fn tell_drain(mut conditions: tokio::sync::watch::Receiver<Conditions>, stopping: CancellationToken) {
    let drains = conditions.wait_for(|now| now.drain_until.is_some()).await.is_ok();
    if drains {
        stopping.cancel();
    }
}

/// From the sessions' conditions to the server's readiness.
async fn readiness(health: Health, registry: Arc<Registry>) {
    let mut conditions = registry.conditions();
    let judge = |now: &Conditions| match now {
        Conditions {
            drain_until: Some(_), ..
        } => Readiness::Draining,
        Conditions { ledger_up: false, .. } => Readiness::LedgerDown,
        _ => Readiness::Ready,
    };
    loop {
        let readiness = judge(&conditions.borrow_and_update());
        health.set(readiness);
        let changed = conditions.wait_for(|now| judge(now) != readiness);
        if changed.await.is_err() {
            return;
        }
    }
}

/// From readiness to gRPC's health.
async fn report(reporter: HealthReporter, health: Health) {
    let mut readiness = health.readiness();
    loop {
        let status = match *readiness.borrow_and_update() {
            Readiness::Ready => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        };
        for service in [
            "wavekeep.v1.Ingest",
            "wavekeep.v1.Query",
            "wavekeep.v1.Catalog",
            "readiness",
        ] {
            reporter.set_service_status(service, status).await;
        }
        if readiness.changed().await.is_err() {
            return;
        }
    }
}

/// No batch has to wait for tomorrow's partitions at midnight, and what a workspace keeps no longer goes. Workspaces come, and
/// their retention changes, while the server runs.
async fn partitions(ledger: Arc<PostgresLedger>) {
    loop {
        if let Err(error) = make_partitions_ahead(&ledger).await {
            error!(%error, "the partitions of the next days were not made; the next attempt is in an hour");
        }
        if let Err(error) = drop_expired(&ledger).await {
            error!(%error, "what is older than its workspace keeps was not dropped; the next attempt is in an hour");
        }
        tokio::time::sleep(PARTITIONS_INTERVAL).await;
    }
}

async fn drop_expired(ledger: &PostgresLedger) -> Result<(), ServeError> {
    for workspace in workspace::check(ledger.database()).await? {
        ledger.drop_expired(&workspace.name).await?;
    }
    Ok(())
}

async fn make_partitions_ahead(ledger: &PostgresLedger) -> Result<(), ServeError> {
    for workspace in workspace::check(ledger.database()).await? {
        ledger.make_partitions_ahead(&workspace.name).await?;
    }
    Ok(())
}
