//! A server on a ledger in memory, in this process.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wavekeep_proto::id::StreamId;
use wavekeep_server::budget::Budget;
use wavekeep_server::grpc::{Grpc, common_routes};
use wavekeep_server::ingest::IngestConfig;
use wavekeep_server::ingest::registry::Registry;
use wavekeep_server::limits::connections_max;
use wavekeep_server::serve::ServeError;
use wavekeep_server::transport::Incoming;

use super::client::PATIENCE;
use super::model::ModelLedger;

pub const MIB: u64 = 1024 * 1024;

pub fn budget(bytes: u64) -> Budget {
    Budget::new(bytes).expect("it fits")
}

pub struct Lab {
    pub ledger: Arc<ModelLedger>,
    pub registry: Arc<Registry>,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub serving: JoinHandle<Result<(), ServeError>>,
}

impl Lab {
    pub async fn start() -> Self {
        Self::with(IngestConfig::default(), budget(64 * MIB)).await
    }

    pub async fn with(config: IngestConfig, budget: Budget) -> Self {
        let ledger = Arc::new(ModelLedger::new());
        let registry = Registry::new(budget);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let reporter = tonic_health::server::HealthReporter::new();
        let routes = common_routes(ledger.clone(), registry.clone(), config, reporter).expect("routes");
        let connections_max = connections_max(registry.sessions_max());
        let grpc = Grpc {
            incoming: Incoming::new(listener, connections_max),
            routes,
            tls: None,
        };
        let (stop, stopped) = oneshot::channel();
        let mine = registry.clone();
        let serving = tokio::spawn(async move {
            let stopped = async {
                // Dropped without a word: the test is over.
                let _ = stopped.await;
            };
            grpc.serve(&mine, config, stopped).await
        });
        Self {
            ledger,
            registry,
            address,
            stop: Some(stop),
            serving,
        }
    }

    pub fn stop(&mut self) {
        let stop = self.stop.take().expect("stopped once");
        stop.send(()).expect("the server waits for it");
    }

    pub async fn stopped(self) -> Result<(), ServeError> {
        let ended = tokio::time::timeout(PATIENCE, self.serving).await;
        ended.expect("it stops in time").expect("it does not panic")
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Registry) -> bool) {
        let waiting = async {
            while !holds(&self.registry) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{what} never happened");
    }

    pub fn seqs(&self, number: u8) -> Vec<u64> {
        let stream = self.ledger.stream(StreamId([number; 16]));
        stream.rows.iter().map(|row| row.chunk.header.seq).collect()
    }
}
