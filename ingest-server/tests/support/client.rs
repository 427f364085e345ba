//! A scripted agent: it sends what it is told to, and shows what the server answers.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::code::Code;
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::frame::{Ack, AgentFrame, Hello, Open, Opened, Refused, ServerFrame, Welcome};
use wavekeep_proto::id::AgentId;
use wavekeep_proto::limits;
use wavekeep_proto::v1::{self, ingest_client::IngestClient};
use wavekeep_proto::wire;

use super::fixtures::Capture;

/// Nothing takes so long: a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    pub frames: mpsc::Sender<v1::AgentFrame>,
    inbound: Streaming<v1::ServerFrame>,
}

impl Client {
    /// Waits for the response's headers before it says anything, as tonic's clients do.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, |endpoint| endpoint).await
    }

    pub async fn connect_as(address: SocketAddr, settings: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        Self::on(settings(endpoint).connect().await.expect("the server listens")).await
    }

    /// One session of several on a connection.
    pub async fn on(channel: Channel) -> Self {
        let (frames, outgoing) = mpsc::channel(64);
        let mut client = IngestClient::new(channel);
        let session = client.session(ReceiverStream::new(outgoing));
        let response = tokio::time::timeout(PATIENCE, session)
            .await
            .expect("headers come at once");
        let inbound = response.expect("a session").into_inner();
        Self { frames, inbound }
    }

    /// Connected and welcome in workspace `main`.
    pub async fn welcome(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        client.hello("main").await;
        client.welcomed().await;
        client
    }

    pub async fn send(&self, frame: &AgentFrame) {
        self.send_wire(wire::agent_frame_to_wire(frame)).await;
    }

    pub async fn send_wire(&self, frame: v1::AgentFrame) {
        // A session that is over takes nothing: the test sees what it answered.
        let _ = self.frames.send(frame).await;
    }

    pub async fn hello(&self, workspace: &str) {
        self.send(&AgentFrame::Hello(hello(workspace))).await;
    }

    pub async fn open(&self, slot: u32, capture: &Capture, stored_seq: u64) {
        let open = Open {
            slot,
            definition: capture.definition.clone(),
            stored_seq,
            labels: BTreeMap::new(),
            run: String::new(),
        };
        self.send(&AgentFrame::Open(open)).await;
    }

    /// Opens, and waits for where the stream stands.
    pub async fn opened(&mut self, slot: u32, capture: &Capture) -> Position {
        self.open(slot, capture, 0).await;
        match self.next().await {
            ServerFrame::Opened(Opened { slot: answered, at, .. }) if answered == slot => at,
            other => panic!("Opened was expected, not {other:?}"),
        }
    }

    pub async fn chunk(&self, slot: u32, chunk: &Chunk) {
        let chunk = chunk.clone();
        self.send(&AgentFrame::Chunk { slot, chunk }).await;
    }

    /// The next frame but heartbeats, or `None` at the end of the session.
    pub async fn next_or_end(&mut self) -> Option<ServerFrame> {
        let next = async {
            loop {
                let frame = self.inbound.message().await.ok()??;
                match wire::server_frame(frame).expect("a frame") {
                    ServerFrame::Heartbeat { .. } => {}
                    frame => return Some(frame),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the server answers")
    }

    pub async fn next(&mut self) -> ServerFrame {
        self.next_or_end().await.expect("the session goes on")
    }

    pub async fn welcomed(&mut self) -> Welcome {
        match self.next().await {
            ServerFrame::Welcome(welcome) => welcome,
            other => panic!("Welcome was expected, not {other:?}"),
        }
    }

    /// Until the slot is acked up to this seq.
    pub async fn acked(&mut self, slot: u32, watermark: u64) -> Ack {
        loop {
            match self.next().await {
                ServerFrame::Ack(ack) if ack.slot == slot && ack.watermark == watermark => return ack,
                ServerFrame::Ack(ack) => assert!(ack.watermark < watermark || ack.slot != slot, "I6: {ack:?}"),
                other => panic!("acks were expected, not {other:?}"),
            }
        }
    }

    /// The next refusal, after any acks.
    pub async fn refused(&mut self) -> (u32, Code, String) {
        loop {
            match self.next().await {
                ServerFrame::Refused(Refused { slot, code, message }) => return (slot, code, message),
                ServerFrame::Ack(_) => {}
                other => panic!("Refused was expected, not {other:?}"),
            }
        }
    }

    /// The session's refusal, which is its end.
    pub async fn refused_session(mut self) -> (Code, String) {
        let (slot, code, message) = self.refused().await;
        assert_eq!(slot, 0, "{message}");
        assert_eq!(self.next_or_end().await, None, "nothing follows a session's refusal");
        (code, message)
    }

    /// No more frames from this side.
    pub fn end(self) -> Self {
        let (closed, _) = mpsc::channel(1);
        Self {
            frames: closed,
            inbound: self.inbound,
        }
    }
}

pub fn hello(workspace: &str) -> Hello {
    Hello {
        version_min: limits::VERSION_MIN,
        version_max: limits::VERSION_MAX,
        agent: "scripted".into(),
        agent_id: AgentId([0xa9; 16]),
        workspace: workspace.into(),
        encodings: Encoding::SUPPORTED.to_vec(),
        ledger_id: None,
    }
}
