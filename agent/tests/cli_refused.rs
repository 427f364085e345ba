//! A server that refuses the agent for good: nothing waits for ever, nothing is lost, and a person hears what to do.

mod cli;

use std::net::SocketAddr;

use cli::{Agent, directory};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use wavekeep_proto::code::Code;
use wavekeep_proto::frame::{Refused, ServerFrame};
use wavekeep_proto::v1::ingest_server::{Ingest, IngestServer};
use wavekeep_proto::{v1, wire};

const WHY: &str = "the agent speaks versions 1 to 1, this server 7 to 9: upgrade the older one";

/// Answers every `Hello` as a server of another version does.
struct OtherVersion;

#[tonic::async_trait]
impl Ingest for OtherVersion {
    type SessionStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ServerFrame, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let refused = |_| {
            let refused = ServerFrame::Refused(Refused {
                slot: 0,
                code: Code::Version,
                message: WHY.into(),
            });
            Ok(wire::server_frame_to_wire(&refused))
        };
        Ok(Response::new(Box::pin(request.into_inner().map(refused))))
    }
}

/// Runs until the sender is dropped.
fn other_version() -> (SocketAddr, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let serving = Server::builder()
                .add_service(IngestServer::new(OtherVersion))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    // Dropped or sent: the test is over.
                    let _ = stopped.await;
                });
            serving.await.expect("it serves");
        });
    });
    (address, stop)
}

#[test]
fn a_replay_that_is_refused_for_good_ends_and_says_what_to_do() {
    let (address, _stop) = other_version();
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let file = directory.path().join("current.f32.bin");
    std::fs::write(&file, vec![7; 400_000]).expect("a file");
    let (file, server) = (file.display().to_string(), format!("http://{address}"));
    let replay = [
        "replay", &file, "--outbox", &outbox, "--server", &server, "--device", "ppk2", "--rate", "1e5",
    ];
    let output = Agent::new(&replay)
        .args(&["--start", "2026-01-31T12:00:00Z", "--drain-wait", "1h"])
        .output();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.last_line().contains(WHY), "{}", output.stderr);
    assert!(output.last_line().contains("do it again"), "{}", output.stderr);
}

#[test]
fn i13_a_capture_goes_on_while_it_is_refused_and_ends_with_what_remains() {
    let (address, _stop) = other_version();
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let server = format!("http://{address}");
    let output = Agent::new(&[
        "run",
        "--outbox",
        &outbox,
        "--server",
        &server,
        "--device",
        "bench",
        "--json",
        "--simulate",
        "js220,rate=10000",
        "--duration",
        "2s",
    ])
    .output();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    let last = output.last_line();
    assert!(
        last.contains(WHY) && last.contains("not acknowledged yet"),
        "{}",
        output.stderr
    );
    let summary: Value = serde_json::from_str(&output.stdout).expect("a summary");
    assert_eq!(summary["end"], "complete");
    assert_eq!(
        summary["sample_count"]
            .as_u64()
            .zip(summary["gap_sample_count"].as_u64())
            .map(|(samples, gaps)| samples + gaps),
        Some(20_000),
        "I13: {summary}"
    );
}
