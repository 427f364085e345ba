//! Limits at work, over real connections: many agents of which few send, calls that are reset at once, headers without end.

#[path = "support/client.rs"]
mod client;
#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/model.rs"]
mod model;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use wavekeep_proto::frame::{AgentFrame, ServerFrame};
use wavekeep_proto::limits::WINDOW_BYTES_MIN;
use wavekeep_proto::wire;
use wavekeep_server::ingest::IngestConfig;
use wavekeep_server::ledger;
use wavekeep_server::limits::{CALLS_MAX, REQUEST_HEADER_BYTES_MAX, RESETS_MAX};

use client::{Client, PATIENCE};
use fixtures::{Capture, definition};
use lab::{Lab, MIB};

const IDLE: usize = 1_000;
const HOT: u8 = 50;
/// 256 KiB of both signals; a chunk does not cross a multiple of 65,536.
const CHUNK_SAMPLES: u64 = 32_768;

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("the server listens")
}

/// Sessions that say hello and then nothing, as many as fit on each connection.
async fn idle_sessions(address: SocketAddr, count: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let channel = channel(address).await;
        for _ in 0..(CALLS_MAX as usize).min(count - clients.len()) {
            let mut client = Client::on(channel.clone()).await;
            client.hello("main").await;
            client.welcomed().await;
            clients.push(client);
        }
    }
    clients
}

/// Sends chunks for as long as it is let, and reads its acks.
fn send_for_ever(mut client: Client, mut capture: Capture) -> JoinHandle<()> {
    let frames = client.frames.clone();
    tokio::spawn(async move {
        let sending = async {
            loop {
                let chunk = capture.run(1, CHUNK_SAMPLES).remove(0);
                let frame = wire::agent_frame_to_wire(&AgentFrame::Chunk { slot: 1, chunk });
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            while let Some(frame) = client.next_or_end().await {
                assert!(matches!(frame, ServerFrame::Ack(_)), "{frame:?}");
            }
        };
        tokio::join!(sending, reading);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_a_thousand_idle_sessions_leave_the_budget_to_fifty_hot_ones_which_share_it() {
    let budget = lab::budget(32 * MIB).with_sessions_max(IDLE as u64 + u64::from(HOT));
    let lab = Lab::with(IngestConfig::default(), budget).await;
    let idle = idle_sessions(lab.address, IDLE).await;
    let window_bytes = || lab.registry.conditions().borrow().window_bytes;
    assert_eq!(window_bytes(), 32 * MIB, "idle sessions cost no share");

    lab.ledger.hold(true);
    let mut hot = Vec::new();
    for number in 1..=HOT {
        let mut client = Client::welcome(lab.address).await;
        let capture = Capture::new(&definition(number));
        client.opened(1, &capture).await;
        hot.push((client, capture));
    }
    let send = |(client, capture)| send_for_ever(client, capture);
    let senders: Vec<_> = hot.into_iter().map(send).collect();
    lab.until("memory to be full", |registry| registry.in_use_bytes() > 27 * MIB)
        .await;
    assert_eq!(window_bytes(), WINDOW_BYTES_MIN, "windows have shrunk");
    // The ledger gets on in steps; each time there is room for some, and all want it.
    let bound = 32 * MIB + u64::from(HOT) * (8 * CHUNK_SAMPLES + 1_024);
    for _ in 0..40 {
        lab.ledger.hold(false);
        tokio::time::sleep(Duration::from_millis(10)).await;
        lab.ledger.hold(true);
        let in_use = lab.registry.in_use_bytes();
        assert!(in_use <= bound, "I12: {in_use} bytes are in memory");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let committed: Vec<usize> = (1..=HOT).map(|number| lab.seqs(number).len()).collect();
    let (least, most) = (committed.iter().min().expect("50"), committed.iter().max().expect("50"));
    assert!(
        *most >= 20 && least * 8 >= *most,
        "{committed:?} chunks of each session"
    );

    senders.iter().for_each(JoinHandle::abort);
    lab.ledger.hold(false);
    drop(idle);
}

#[tokio::test]
async fn i12_a_connection_that_resets_its_calls_at_once_is_told_to_go_away_and_wedges_nobody() {
    let lab = Lab::start().await;
    let tcp = TcpStream::connect(lab.address).await.expect("it listens");
    let (mut requests, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut sent = 0;
    // Far more than the limit; it ends with the connection.
    while sent < 100 * RESETS_MAX && poll_fn(|context| requests.poll_ready(context)).await.is_ok() {
        let uri = format!("http://{}/wavekeep.v1.Ingest/Session", lab.address);
        let request = http::Request::post(uri).header("content-type", "application/grpc");
        let request = request.body(()).expect("a request");
        let Ok((_answer, mut stream)) = requests.send_request(request, false) else {
            break;
        };
        stream.send_reset(h2::Reason::CANCEL);
        sent += 1;
    }
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    let error = ended
        .expect("it ends")
        .expect("no panic")
        .expect_err("it was told to go away");
    // Whoever still writes may find the connection closed before it reads why.
    let told = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    assert!(told || error.is_io(), "{error}");
    Client::welcome(lab.address).await;
    lab.until("its sessions to end", |registry| {
        registry.conditions().borrow().sessions <= 1
    })
    .await;
}

#[tokio::test]
async fn i12_headers_above_the_limit_are_refused_and_the_connection_goes_on() {
    let lab = Lab::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel(lab.address).await);
    let mut ask = async |header_bytes: usize| {
        let mut request = tonic::Request::new(tonic_health::pb::HealthCheckRequest::default());
        let value = "x".repeat(header_bytes).parse().expect("ASCII");
        request.metadata_mut().insert("x-filler", value);
        health.check(request).await
    };
    // What the request needs anyway is less than 1 KiB.
    ask(REQUEST_HEADER_BYTES_MAX as usize - 1_024)
        .await
        .expect("just below the limit");
    ask(REQUEST_HEADER_BYTES_MAX as usize).await.expect_err("above it");
    ask(10).await.expect("the connection goes on");
}
