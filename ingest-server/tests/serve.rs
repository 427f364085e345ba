//! The real binary on a real Postgres: from its sockets to its end.

#[path = "support/client.rs"]
mod client;
#[path = "support/fixtures.rs"]
mod fixtures;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use wavekeep_proto::code::Code;
use wavekeep_proto::frame::ServerFrame;
use wavekeep_server::devdb::TestDatabase;

use client::{Client, PATIENCE};
use fixtures::{Capture, definition};

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavekeep-server"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A server process; killed when it is dropped.
struct Server {
    process: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let (grpc, http) = (free_address(), free_address());
        let process = command(arguments)
            .args(["--listen", &grpc.to_string(), "--http", &http.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs");
        Self { process, grpc, http }
    }

    async fn serving(database: &TestDatabase, more: &[&str]) -> Self {
        let url = database.url();
        let arguments = [&["serve", "--database-url", &url], more].concat();
        let mut server = Self::start(&arguments);
        server.until_ready(200).await;
        server
    }

    /// Until `/readyz` answers so; the process must live on.
    async fn until_ready(&mut self, status: u16) {
        let since = Instant::now();
        while self.http_status("/readyz") != Some(status) {
            let ended = self.process.try_wait().expect("a child");
            assert!(
                ended.is_none() && since.elapsed() < PATIENCE,
                "never {status}: {ended:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn http_status(&self, path: &str) -> Option<u16> {
        self.http_get(path)?.split(' ').nth(1)?.parse().ok()
    }

    fn http_get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it runs");
    }

    async fn ended(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The status of a service of gRPC's health.
    async fn health(&self, service: &str) -> i32 {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).expect("an address");
        let mut client = HealthClient::new(endpoint.connect().await.expect("it listens"));
        let request = HealthCheckRequest {
            service: service.into(),
        };
        client.check(request).await.expect("it answers").into_inner().status
    }
}

async fn count(database: &TestDatabase, sql: &'static str) -> i64 {
    let mut connection = PgConnection::connect(&database.url())
        .await
        .expect("the database answers");
    sqlx::query(sql)
        .fetch_one(&mut connection)
        .await
        .expect("the query runs")
        .get(0)
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

#[tokio::test]
async fn chunks_reach_the_tables_and_sigterm_drains() {
    let database = TestDatabase::start().await.expect("Postgres is installed");
    let mut server = Server::serving(&database, &[]).await;
    let mut client = Client::welcome(server.grpc).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    for chunk in capture.run(30, 1000) {
        client.chunk(1, &chunk).await;
    }
    client.chunk(1, &capture.poison()).await;
    client.chunk(1, &capture.end()).await;
    assert_eq!(client.acked(1, 32).await.digest, capture.at.digest);
    assert_eq!(count(&database, "SELECT count(*) FROM main.chunk").await, 32);
    assert_eq!(count(&database, "SELECT count(*) FROM main.quarantine").await, 1);

    assert_eq!(server.health("").await, SERVING);
    assert_eq!(server.health("wavekeep.v1.Ingest").await, SERVING);
    let metrics = server.http_get("/metrics").expect("metrics");
    for line in [
        "wavekeep_sessions 1",
        "wavekeep_committed_chunks_total 32",
        "wavekeep_committed_samples_total 60000",
        "wavekeep_quarantined_chunks_total 1",
        "wavekeep_commit_seconds_count",
        "wavekeep_ledger_up 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    server.signal(Signal::SIGTERM);
    assert!(matches!(client.next().await, ServerFrame::Goaway { .. }));
    assert_eq!(client.next_or_end().await, None);
    drop(client);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once_and_a_closed_terminal_is_a_signal() {
    let database = TestDatabase::start().await.expect("Postgres is installed");
    let mut server = Server::serving(&database, &["--drain", "1h"]).await;
    let mut client = Client::welcome(server.grpc).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    let mut holder = PgConnection::connect(&database.url())
        .await
        .expect("the database answers");
    let hold = sqlx::raw_sql("BEGIN; LOCK TABLE main.chunk_signal");
    hold.execute(&mut holder).await.expect("it is free");
    client.chunk(1, &capture.samples(&[1.0])).await;
    // In its transaction, so that the drain waits for it.
    while count(&database, "SELECT count(*) FROM pg_locks WHERE NOT granted").await == 0 {}
    server.signal(Signal::SIGHUP);
    assert!(matches!(client.next().await, ServerFrame::Goaway { .. }));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_database_outage_flips_readiness_not_liveness_and_passes() {
    let mut database = TestDatabase::start().await.expect("Postgres is installed");
    let mut server = Server::serving(&database, &[]).await;
    let mut client = Client::welcome(server.grpc).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    client.chunk(1, &capture.samples(&[1.0, 2.0])).await;
    client.acked(1, 1).await;

    database.kill9();
    server.until_ready(503).await;
    assert_eq!(client.refused_session().await.0, Code::LedgerUnavailable);
    assert_eq!(server.http_status("/healthz"), Some(200));
    assert_eq!(server.health("").await, SERVING);
    assert_eq!(server.health("readiness").await, NOT_SERVING);
    let early = Client::connect(server.grpc).await;
    early.hello("main").await;
    assert_eq!(early.refused_session().await.0, Code::LedgerUnavailable);

    database.restart().expect("it starts again");
    server.until_ready(200).await;
    let mut client = Client::welcome(server.grpc).await;
    assert_eq!(
        client.opened(1, &capture).await,
        capture.at,
        "I6: what was acked is there"
    );
    client.chunk(1, &capture.samples(&[3.0])).await;
    client.acked(1, 2).await;
}

#[tokio::test]
async fn a_port_in_use_is_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = command(&[
        "serve",
        "--database-url",
        "postgres://nobody@127.0.0.1:1/none",
        "--listen",
        &address,
    ]);
    let output = { output }.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.lines().count() == 1 && said.contains(&address) && said.contains("--listen"),
        "{said}"
    );
}

#[tokio::test]
async fn a_database_that_is_down_or_not_migrated_is_one_sentence_without_its_password() {
    let output = command(&["serve", "--database-url", "postgres://u:s3cret@127.0.0.1:1/none"])
        .args([
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--database-wait",
            "10ms",
        ])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("127.0.0.1:1 does not answer") && !said.contains("s3cret"),
        "{said}"
    );

    let database = TestDatabase::start().await.expect("Postgres is installed");
    let url = database.url().replacen("/wavekeep?", "/postgres?", 1);
    let output = command(&[
        "serve",
        "--database-url",
        &url,
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]);
    let output = { output }.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("wavekeep-server migrate"), "{said}");
}

#[tokio::test]
async fn dev_adopts_the_postgres_that_a_killed_server_left_and_stops_it() {
    let folder = tempfile::Builder::new()
        .prefix("wavekeep-dev-")
        .tempdir()
        .expect("a directory");
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    // Root's Postgres runs as another user, which must get there.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");

    let mut server = Server::start(&["dev", "--data-dir", data]);
    server.until_ready(200).await;
    let mut client = Client::welcome(server.grpc).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    client.chunk(1, &capture.samples(&[1.0])).await;
    client.acked(1, 1).await;
    let postgres = postmaster(data);
    server.signal(Signal::SIGKILL);
    server.ended().await;
    assert!(kill(postgres, None).is_ok(), "Postgres outlives a killed server");

    let mut server = Server::start(&["dev", "--data-dir", data]);
    server.until_ready(200).await;
    assert_eq!(postmaster(data), postgres, "the same Postgres");
    let mut client = Client::welcome(server.grpc).await;
    assert_eq!(client.opened(1, &capture).await.seq, 1);
    server.signal(Signal::SIGINT);
    assert_eq!(server.ended().await.code(), Some(0));
    let running = std::path::Path::new(data).join("data/postmaster.pid");
    assert!(!running.exists(), "Postgres is stopped with its server");
}

fn postmaster(data: &str) -> Pid {
    let file = std::fs::read_to_string(format!("{data}/data/postmaster.pid")).expect("Postgres runs");
    let line = file.lines().next().expect("it has a process id");
    Pid::from_raw(line.parse().expect("a number"))
}

#[tokio::test]
async fn usage_errors_end_with_2_and_all_others_with_1() {
    let url = "postgres://nobody@127.0.0.1:1/none";
    let serve = |more: &[&'static str]| [&["serve", "--database-url", url][..], more].concat();
    let wrong = [
        serve(&["--group-bytes", "0"]),
        serve(&["--memory-budget", "1MiB"]),
        serve(&["--database-connections", "9"]),
        serve(&["--log", "wavekeep=loudly"]),
        serve(&["--no-such-option"]),
        vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--database-url",
            "mysql://db",
        ],
        vec!["migrate", "--database-url", "no url"],
        vec!["workspace", "create", "Team 7", "--database-url", url],
    ];
    for arguments in wrong {
        let output = command(&arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    }
    let output = command(&["migrate", "--database-url", url]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "nobody is there");
}

#[tokio::test]
async fn a_flag_in_the_environment_may_be_1_or_0() {
    let database = TestDatabase::start().await.expect("Postgres is installed");
    for (value, json) in [("1", true), ("true", true), ("0", false)] {
        let mut list = command(&["workspace", "list", "--database-url", &database.url()]);
        let output = list.env("WAVEKEEP_JSON", value).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{value}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(said.starts_with('{'), json, "{value}: {said}");
    }
}

#[test]
fn a_misspelt_variable_is_not_passed_over() {
    let output = command(&["serve", "--database-url", "postgres://nobody@127.0.0.1:1/none"])
        .env("WAVEKEEP_MEMORY_BUDGTE", "1GiB")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("WAVEKEEP_MEMORY_BUDGET"), "{said}");
}
