//! The shell against a server that is a task in this process: it acknowledges, cuts, refuses and takes nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio_stream::wrappers::ReceiverStream;
use wavekeep_proto::chunk::{ChunkKind, Position, Reason};
use wavekeep_proto::frame::{Ack, AgentFrame, Opened, ServerFrame, Welcome};
use wavekeep_proto::id::{Epoch, LedgerId, SessionId, StreamId};
use wavekeep_proto::limits::{HEARTBEAT_MS, WINDOW_BYTES_MIN};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};

use super::*;
use crate::clock::SystemClock;
use crate::outbox::memory::MemoryKv;
use crate::outbox::{self, NewChunk, Options};
use crate::stop::StopToken;

pub(super) type TestOutbox = outbox::Outbox<MemoryKv>;

/// What the server has committed, and how it behaves.
#[derive(Debug, Default)]
pub(super) struct World {
    streams: BTreeMap<StreamId, Position>,
    /// As the last `Open` of each had them.
    runs: BTreeMap<StreamId, String>,
    pub(super) sessions: u32,
    refuse_sessions: u32,
    /// Chunks that a session commits before its link is cut.
    cut_after_chunks: Option<u32>,
    takes_nothing: bool,
    pub(super) chunks: u32,
}

#[derive(Clone, Default)]
pub(super) struct FakeServer(Arc<Mutex<World>>);

impl FakeServer {
    pub(super) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, frame: AgentFrame, slots: &mut BTreeMap<u32, StreamId>) -> Option<ServerFrame> {
        let mut world = self.world();
        match frame {
            AgentFrame::Hello(hello) => {
                assert_eq!((hello.agent.as_str(), hello.workspace.as_str()), ("bench", "main"));
                Some(ServerFrame::Welcome(Welcome {
                    version: 1,
                    window_bytes: WINDOW_BYTES_MIN,
                    ledger_id: LedgerId([5; 16]),
                    chunk_bytes_max: 1 << 22,
                    slots_max: 8,
                    heartbeat_ms: HEARTBEAT_MS,
                    session_id: SessionId([6; 16]),
                    generation: 0,
                }))
            }
            AgentFrame::Open(open) => {
                slots.insert(open.slot, open.definition.id);
                world.runs.insert(open.definition.id, open.run.clone());
                let start = Position::start(&open.definition);
                let at = *world.streams.entry(open.definition.id).or_insert(start);
                Some(ServerFrame::Opened(Opened {
                    slot: open.slot,
                    at,
                    row: None,
                }))
            }
            AgentFrame::Chunk { slot, chunk } => {
                world.chunks += 1;
                let at = world.streams.get_mut(&slots[&slot]).expect("it was opened");
                assert_eq!(
                    (chunk.header.first_seq, chunk.header.first_sample),
                    (at.seq + 1, at.next_sample),
                    "I1"
                );
                *at = Position::after(&chunk.header, chunk.digest);
                let (watermark, digest) = (at.seq, at.digest);
                Some(ServerFrame::Ack(Ack {
                    slot,
                    watermark,
                    digest,
                    window_bytes: WINDOW_BYTES_MIN,
                }))
            }
            AgentFrame::Heartbeat(_) => None,
        }
    }

    async fn serve(
        self,
        mut frames: mpsc::Receiver<v1::AgentFrame>,
        answers: mpsc::Sender<Result<v1::ServerFrame, LinkError>>,
    ) {
        if self.world().takes_nothing {
            answers.closed().await;
            return;
        }
        let mut slots = BTreeMap::new();
        let mut chunks = 0;
        while let Some(frame) = frames.recv().await {
            let frame = wire::agent_frame(frame).expect("an honest agent");
            chunks += u32::from(matches!(frame, AgentFrame::Chunk { .. }));
            let Some(answer) = self.answer(frame, &mut slots) else {
                continue;
            };
            // A cut takes the last ack with it: the agent learns of the commit from the next Opened.
            if self.world().cut_after_chunks.is_some_and(|limit| chunks >= limit) {
                return;
            }
            if answers.send(Ok(wire::server_frame_to_wire(&answer))).await.is_err() {
                return;
            }
        }
    }
}

impl Connect for FakeServer {
    fn connect(&self) -> Connecting {
        let server = self.clone();
        Box::pin(async move {
            {
                let mut world = server.world();
                world.sessions += 1;
                if world.sessions <= world.refuse_sessions {
                    return Err(LinkError("nobody listens".into()));
                }
            }
            let (outgoing, frames) = mpsc::channel(limits::OUTGOING_FRAMES_MAX);
            let (answers, incoming) = mpsc::channel(16);
            tokio::spawn(server.serve(frames, answers));
            Ok(Link {
                outgoing,
                incoming: Box::pin(ReceiverStream::new(incoming)),
            })
        })
    }
}

pub(super) fn definition(id: u8) -> StreamDefinition {
    let signal = Signal {
        number: 0,
        name: "current".into(),
        sample_type: SampleType::F32,
        unit: "A".into(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([id; 16]),
        device: "bench".into(),
        epoch: Epoch([2; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 0,
        signals: vec![signal],
        attributes: BTreeMap::new(),
    }
}

pub(super) fn outbox() -> Arc<TestOutbox> {
    let kv = Arc::new(MemoryKv::new());
    Arc::new(
        TestOutbox::open(kv, Options::default(), Duration::ZERO)
            .expect("an empty disk")
            .0,
    )
}

/// Gaps of one sample: chunks as good as any to the uplink.
pub(super) fn store(outbox: &TestOutbox, stream: u8, samples: std::ops::Range<u64>) {
    for first_sample in samples {
        let chunk = NewChunk {
            kind: ChunkKind::Gap,
            reason: Reason::SourceLoss,
            first_sample,
            count: 1,
            utc_ns: 0,
            markers: Vec::new(),
            columns: Vec::new(),
            data: Vec::new(),
        };
        outbox
            .store(StreamId([stream; 16]), chunk, Duration::ZERO)
            .expect("there is room");
    }
}

fn uplink(outbox: &Arc<TestOutbox>, server: &FakeServer) -> UplinkHandle {
    let clock = Arc::new(SystemClock::new());
    let handle = spawn(
        Arc::clone(outbox),
        server.clone(),
        clock,
        UplinkOptions::new("bench"),
        7,
    )
    .expect("a thread");
    let wake = handle.clone();
    outbox.set_on_change(Arc::new(move || wake.wake()));
    handle
}

pub(super) fn delivered(outbox: &TestOutbox) -> bool {
    outbox
        .streams()
        .into_iter()
        .filter_map(|stream| outbox.view(stream))
        .all(|view| view.acked == view.tail.seq)
}

/// For ever is an hour here: a test that waits so long has failed.
pub(super) fn wait(handle: &UplinkHandle, done: impl FnMut() -> bool) {
    let hour = Instant::now() + Duration::from_secs(3600);
    assert!(handle.wait_until(Some(hour), &StopToken::new(), done));
}

#[test]
fn i1_everything_is_delivered_also_what_is_stored_later() {
    let (outbox, server) = (outbox(), FakeServer::default());
    outbox
        .open_stream(definition(1), BTreeMap::new(), String::new(), 0)
        .expect("a good disk");
    store(&outbox, 1, 0..100);
    let handle = uplink(&outbox, &server);
    wait(&handle, || delivered(&outbox));
    outbox
        .open_stream(definition(2), BTreeMap::new(), String::new(), 0)
        .expect("a good disk");
    store(&outbox, 2, 0..50);
    store(&outbox, 1, 100..101);
    wait(&handle, || delivered(&outbox));
    let status = handle.status();
    assert_eq!(
        (status.link, status.acked_chunks, status.alarm_count),
        (LinkState::Up, 151, 0)
    );
    assert_eq!(server.world().streams[&StreamId([1; 16])].seq, 101);
    handle.stop();
}

#[test]
fn i1_refused_and_cut_sessions_lose_and_repeat_nothing() {
    let (outbox, server) = (outbox(), FakeServer::default());
    {
        let mut world = server.world();
        world.refuse_sessions = 2;
        world.cut_after_chunks = Some(7);
    }
    outbox
        .open_stream(definition(1), BTreeMap::new(), String::new(), 0)
        .expect("a good disk");
    store(&outbox, 1, 0..40);
    let handle = uplink(&outbox, &server);
    wait(&handle, || delivered(&outbox));
    let world = server.world();
    assert!(world.sessions > 7, "{} sessions", world.sessions);
    assert_eq!(world.chunks, 40, "what was committed is never sent again");
    assert!(handle.status().last_error.is_some());
    drop(world);
    handle.stop();
}

#[test]
fn a_file_that_is_relabelled_in_the_midst_of_a_session_is_opened_again() {
    let (outbox, server) = (outbox(), FakeServer::default());
    let file = StreamDefinition {
        file_identity: vec![3; 16],
        ..definition(1)
    };
    let open = |run: &str| {
        outbox
            .open_stream(file.clone(), BTreeMap::new(), run.into(), 0)
            .expect("a good disk");
    };
    open("first");
    let handle = uplink(&outbox, &server);
    wait(&handle, || outbox.wait_opened(file.id, Duration::ZERO));
    open("first");
    assert_eq!(outbox.relabelled(), 0, "nothing is new to the server");
    open("second");
    assert_eq!(outbox.relabelled(), 1);
    assert!(
        !outbox.wait_opened(file.id, Duration::ZERO),
        "who replays it waits for the server"
    );
    handle.reconnect();
    wait(&handle, || outbox.wait_opened(file.id, Duration::ZERO));
    assert_eq!(server.world().runs[&file.id], "second");
    handle.stop();
}

#[test]
fn i12_a_transport_that_takes_nothing_holds_a_bounded_number_of_frames_and_no_stop() {
    let (outbox, server) = (outbox(), FakeServer::default());
    server.world().takes_nothing = true;
    outbox
        .open_stream(definition(1), BTreeMap::new(), String::new(), 0)
        .expect("a good disk");
    store(&outbox, 1, 0..1_000);
    let handle = uplink(&outbox, &server);
    wait(&handle, || server.world().sessions == 1);
    handle.stop();
    assert_eq!(outbox.view(StreamId([1; 16])).map(|view| view.acked), Some(0));
}

#[tokio::test]
async fn on_a_slow_link_nothing_piles_up_however_long_a_chunk_takes() {
    let (outbox, server, handle) = (outbox(), FakeServer::default(), UplinkHandle::new());
    outbox
        .open_stream(definition(1), BTreeMap::new(), String::new(), 0)
        .expect("a good disk");
    store(&outbox, 1, 0..1_000);
    let clock = Arc::new(SystemClock::new());
    let options = UplinkOptions::new("bench");
    let mut task = UplinkTask::new(outbox, server.clone(), clock, options, 7, &handle);
    task.act(false);
    let (outgoing, mut frames) = mpsc::channel(limits::OUTGOING_FRAMES_MAX);
    task.on_connected(Ok(Link {
        outgoing,
        incoming: Box::pin(tokio_stream::pending()),
    }));
    let mut slots = BTreeMap::new();
    for _ in ["Hello", "Open"] {
        task.act(false);
        let frame = wire::agent_frame(frames.try_recv().expect("it says so")).expect("an honest agent");
        let answer = server.answer(frame, &mut slots).expect("an answer");
        task.on_received(Some(Ok(wire::server_frame_to_wire(&answer))));
    }
    task.act(false);
    assert!(!task.has_room(), "the link takes no more, though the window would");
    for _ in 0..2 * limits::STUCK_FRAMES_MAX {
        task.act(true);
    }
    assert!(task.stuck.is_empty() && matches!(task.transport, Transport::Up(_)));
}

#[tokio::test]
async fn i12_frames_that_find_no_room_are_bounded() {
    let (outbox, handle) = (outbox(), UplinkHandle::new());
    outbox
        .open_stream(definition(1), BTreeMap::new(), String::new(), 0)
        .expect("a good disk");
    let clock = Arc::new(SystemClock::new());
    let mut task = UplinkTask::new(
        outbox,
        FakeServer::default(),
        clock,
        UplinkOptions::new("bench"),
        7,
        &handle,
    );
    let (outgoing, _kept) = mpsc::channel(limits::OUTGOING_FRAMES_MAX);
    task.transport = Transport::Up(Link {
        outgoing,
        incoming: Box::pin(tokio_stream::pending()),
    });
    for sent in 0..limits::OUTGOING_FRAMES_MAX + limits::STUCK_FRAMES_MAX {
        assert!(matches!(task.transport, Transport::Up(_)), "frame {sent}");
        task.send(v1::AgentFrame::default());
    }
    assert_eq!(task.stuck.len(), limits::STUCK_FRAMES_MAX);
    task.send(v1::AgentFrame::default());
    assert!(matches!(task.transport, Transport::Down) && task.stuck.is_empty());
}
