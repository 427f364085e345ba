//! The receiving half against a dishonest agent: seq, tiling and digest are checked apart from each other, and nothing that fails
//! any of them reaches a writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wavekeep_proto::chunk::{Chunk, ChunkKind, Position, Reason};
use wavekeep_proto::code::{Code, Reaction};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::frame::{AgentFrame, Hello, Open, ServerFrame};
use wavekeep_proto::id::{AgentId, Hash, SessionId};
use wavekeep_proto::limits;
use wavekeep_proto::session::{Action, LedgerState, Session};
use wavekeep_proto::wire::{ChunkFault, WireError};

use crate::support::{LEDGER, after, chained, definition, marked, samples};

/// A session, and everything that it did since the test last looked.
struct Server {
    session: Session,
    now: Duration,
}

impl Server {
    /// Greeted, admitted, with this window.
    fn new(window_bytes: u64) -> Self {
        let mut server = Self {
            session: Session::new(Duration::ZERO),
            now: Duration::ZERO,
        };
        server.hear(AgentFrame::Hello(Hello {
            version_min: limits::VERSION_MIN,
            version_max: limits::VERSION_MAX,
            agent: "test".into(),
            agent_id: AgentId([3; 16]),
            workspace: "main".into(),
            encodings: Encoding::SUPPORTED.to_vec(),
            ledger_id: None,
        }));
        assert!(matches!(server.actions()[..], [Action::Admit(_)]));
        let ledger = LedgerState {
            id: LEDGER,
            generation: 7,
        };
        server.session.admitted(ledger, SessionId([1; 16]), window_bytes);
        let actions = server.actions();
        let [Action::Send(ServerFrame::Welcome(welcome))] = &actions[..] else {
            panic!("the agent is not welcomed: {actions:?}");
        };
        assert_eq!(welcome.generation, 7);
        server
    }

    fn hear(&mut self, frame: AgentFrame) {
        self.session.received(self.now, Ok(frame));
    }

    /// Lets time pass, a second at a time.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.session.tick(self.now);
        }
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.session.next_action(self.now)).collect()
    }

    /// Opens stream `number` in `slot`, where it stands at `at`.
    fn open(&mut self, slot: u32, number: u8, at: Position) {
        self.hear(AgentFrame::Open(Open {
            slot,
            definition: Arc::new(definition(number, false)),
            stored_seq: 0,
            labels: BTreeMap::new(),
            run: String::new(),
        }));
        assert!(matches!(self.actions()[..], [Action::Open(_)]));
        self.session.opened(slot, at, None);
        assert!(matches!(self.actions()[..], [Action::Send(ServerFrame::Opened(_))]));
    }

    /// With one stream open at its start.
    fn with_stream() -> (Self, Position) {
        let mut server = Self::new(limits::WINDOW_BYTES_MIN);
        let start = Position::start(&definition(1, false));
        server.open(1, 1, start);
        (server, start)
    }

    fn chunk(&mut self, slot: u32, chunk: Chunk) -> Vec<Action> {
        self.hear(AgentFrame::Chunk { slot, chunk });
        self.actions()
    }

    fn accepts(&mut self, slot: u32, chunk: Chunk) -> Position {
        let position = after(&chunk);
        let actions = self.chunk(slot, chunk);
        assert!(
            matches!(actions[..], [Action::Accept { .. }]),
            "{} actions, refusals {:?}",
            actions.len(),
            refusals(&actions)
        );
        position
    }

    /// The slot is refused with this code, and nothing is handed on.
    fn refuses(&mut self, slot: u32, chunk: Chunk, code: Code) {
        let actions = self.chunk(slot, chunk);
        assert_eq!(refusals(&actions), [(slot, code)]);
        assert_eq!(actions.len(), 1, "nothing else happens");
    }
}

fn refusals(actions: &[Action]) -> Vec<(u32, Code)> {
    let refusal = |action: &Action| match action {
        Action::Send(ServerFrame::Refused(refused)) => Some((refused.slot, refused.code)),
        _ => None,
    };
    actions.iter().filter_map(refusal).collect()
}

#[test]
fn i1_a_chunk_that_skips_a_seq_is_refused_though_its_digest_holds() {
    for skip in [1, 2, limits::SEQ_MAX / 2] {
        let (mut server, start) = Server::with_stream();
        let before = server.accepts(1, samples(&start, 10, 10));
        let mut header = samples(&before, 10, 10).header;
        header.first_seq += skip;
        header.seq += skip;
        server.refuses(1, chained(&before, header, vec![vec![0; 10].into()]), Code::OutOfOrder);
    }
}

#[test]
fn i1_a_chunk_that_comes_again_is_refused_though_its_digest_holds() {
    let (mut server, start) = Server::with_stream();
    let before = server.accepts(1, samples(&start, 10, 10));
    let mut header = samples(&before, 10, 10).header;
    header.first_seq = 1;
    header.seq = 1;
    server.refuses(1, chained(&before, header, vec![vec![0; 10].into()]), Code::OutOfOrder);
}

#[test]
fn i4_a_chunk_that_does_not_tile_is_refused_though_its_digest_holds() {
    for (move_by, back) in [(1, false), (1, true), (1_000, false)] {
        let (mut server, start) = Server::with_stream();
        let before = server.accepts(1, samples(&start, 10, 10));
        let mut header = samples(&before, 10, 10).header;
        header.first_sample = if back {
            header.first_sample - move_by
        } else {
            header.first_sample + move_by
        };
        server.refuses(1, chained(&before, header, vec![vec![0; 10].into()]), Code::OutOfOrder);
    }
}

#[test]
fn i14_a_digest_that_is_not_that_of_the_chunks_sent_is_refused() {
    for bit in 0..128 {
        let (mut server, start) = Server::with_stream();
        let before = server.accepts(1, samples(&start, 10, 10));
        let mut chunk = samples(&before, 10, 10);
        chunk.digest.0[bit / 8] ^= 1 << (bit % 8);
        server.refuses(1, chunk, Code::OutOfOrder);
    }
    let (mut server, start) = Server::with_stream();
    let mut chunk = marked(&start, ChunkKind::Gap, Reason::SourceLoss, 7);
    chunk.digest = Hash([9; 16]);
    server.refuses(1, chunk, Code::OutOfOrder);
}

#[test]
fn i14_a_chunk_whose_header_changed_has_another_digest() {
    let (mut server, start) = Server::with_stream();
    let mut chunk = marked(&start, ChunkKind::Gap, Reason::SourceLoss, 7);
    chunk.header.count = 8;
    server.refuses(1, chunk, Code::OutOfOrder);
}

#[test]
fn i4_only_a_replacing_gap_stands_for_several_seqs() {
    let (mut server, start) = Server::with_stream();
    let mut chunk = marked(&start, ChunkKind::Gap, Reason::SourceLoss, 7);
    chunk.header.seq = 3;
    server.refuses(1, chained(&start, chunk.header.clone(), Vec::new()), Code::InvalidChunk);

    let (mut server, _) = Server::with_stream();
    chunk.header.reason = Reason::Evicted;
    chunk.digest = Hash([9; 16]);
    let position = server.accepts(1, chunk);
    assert_eq!(
        (position.seq, position.digest),
        (3, Hash([9; 16])),
        "I14: it carries the capture's digest"
    );
    server.accepts(1, samples(&position, 10, 10));
}

#[test]
fn i4_a_replacing_gap_must_tile_too() {
    for change in [0, 1] {
        let (mut server, start) = Server::with_stream();
        let before = server.accepts(1, samples(&start, 10, 10));
        let mut chunk = marked(&before, ChunkKind::Gap, Reason::LostByServer, 7);
        chunk.header.first_seq += change;
        chunk.header.seq += 3;
        chunk.header.first_sample += 1 - change;
        server.refuses(1, chunk, Code::OutOfOrder);
    }
}

#[test]
fn i1_nothing_follows_an_end() {
    let (mut server, start) = Server::with_stream();
    let end = server.accepts(1, marked(&start, ChunkKind::End, Reason::Closed, 0));
    server.refuses(1, samples(&end, 10, 10), Code::StreamEnded);
}

#[test]
fn damage_closes_its_slot_alone_and_what_follows_in_it_is_dropped() {
    let (mut server, start) = Server::with_stream();
    let other = Position::start(&definition(2, false));
    server.open(2, 2, other);
    let first = samples(&start, 10, 10);
    let second = samples(&after(&first), 10, 10);
    server.session.received(
        server.now,
        Err(WireError::Chunk {
            slot: 1,
            fault: ChunkFault::Damaged,
        }),
    );
    assert_eq!(refusals(&server.actions()), [(1, Code::Damaged)]);
    assert_eq!(server.chunk(1, second.clone()), [], "it was on its way already");
    server.accepts(2, samples(&other, 10, 10));
    server.open(3, 1, start);
    assert_eq!(server.chunk(1, first.clone()), []);
    let before = server.accepts(3, first);
    assert_eq!(before, server_position(&second));
    server.accepts(3, second);
}

/// Where a chunk starts.
fn server_position(chunk: &Chunk) -> Position {
    let first = samples(&Position::start(&definition(1, false)), 10, 10);
    assert_eq!(chunk.header.first_seq, 2);
    after(&first)
}

#[test]
fn frames_that_are_not_for_now_end_the_session() {
    let start = Position::start(&definition(1, false));
    let (mut server, _) = Server::with_stream();
    let actions = server.chunk(7, samples(&start, 10, 10));
    assert_eq!(
        refusals(&actions),
        [(0, Code::Protocol)],
        "a slot that was never opened"
    );
    assert!(server.session.is_closed());

    let mut server = Server::new(limits::WINDOW_BYTES_MIN);
    server.hear(AgentFrame::Open(Open {
        slot: 1,
        definition: Arc::new(definition(1, false)),
        stored_seq: 0,
        labels: BTreeMap::new(),
        run: String::new(),
    }));
    server.actions();
    let actions = server.chunk(1, samples(&start, 10, 10));
    assert_eq!(refusals(&actions), [(0, Code::Protocol)], "a chunk before Opened");
}

/// A chunk of about a MiB.
fn large(before: &Position) -> Chunk {
    samples(before, 10, 1024 * 1024)
}

#[test]
fn i3_more_than_the_window_ends_the_session() {
    let (mut server, mut at) = Server::with_stream();
    for _ in 0..7 {
        at = server.accepts(1, large(&at));
    }
    let actions = server.chunk(1, large(&at));
    assert_eq!(refusals(&actions), [(0, Code::WindowExceeded)]);
}

#[test]
fn i3_what_was_sent_under_a_larger_window_is_no_fault() {
    let mut server = Server::new(2 * limits::WINDOW_BYTES_MIN);
    let mut at = Position::start(&definition(1, false));
    server.open(1, 1, at);
    for _ in 0..4 {
        at = server.accepts(1, large(&at));
    }
    server.session.set_window(limits::WINDOW_BYTES_MIN);
    for _ in 4..15 {
        at = server.accepts(1, large(&at));
    }
    assert!(
        !server.session.may_read(),
        "I12: it reads nothing more until some of it has landed"
    );
}

#[test]
fn i3_what_a_closed_slot_left_with_the_writer_is_not_held_against_the_agent() {
    let (mut server, mut at) = Server::with_stream();
    let start = at;
    let mut bytes = 0;
    for _ in 0..7 {
        let chunk = large(&at);
        bytes += chunk.flow_bytes();
        at = server.accepts(1, chunk);
    }
    server.session.received(
        server.now,
        Err(WireError::Chunk {
            slot: 1,
            fault: ChunkFault::Damaged,
        }),
    );
    assert_eq!(refusals(&server.actions()), [(1, Code::Damaged)]);
    // The agent has heard of it: it counts none of these bytes any more, and opens the stream again.
    server.open(2, 1, start);
    let mut at = start;
    for _ in 0..7 {
        at = server.accepts(2, large(&at));
    }
    assert!(!server.session.may_read(), "I12: memory is bounded by not reading");
    server.session.fenced(1, bytes, 7);
    server.session.committed(2, at.seq, at.digest, bytes, 7);
    assert_eq!(server.session.in_flight_bytes(), 0);
    assert!(matches!(server.actions()[..], [Action::Send(ServerFrame::Ack(_))]));
    server.accepts(2, large(&at));
}

#[test]
fn i6_an_ack_names_only_what_is_committed() {
    let (mut server, start) = Server::with_stream();
    let first = samples(&start, 10, 10);
    let second = samples(&after(&first), 10, 10);
    let bytes = first.flow_bytes();
    let (first, second) = (server.accepts(1, first), server.accepts(1, second));
    assert_eq!(server.actions(), [], "accepted is not committed");
    server.session.committed(1, first.seq, first.digest, bytes, 1);
    server.session.committed(1, second.seq, second.digest, bytes, 1);
    let actions = server.actions();
    let [Action::Send(ServerFrame::Ack(ack))] = &actions[..] else {
        panic!("one ack for both, not {}", actions.len())
    };
    assert_eq!((ack.watermark, ack.digest), (2, second.digest));
}

#[test]
fn i6_what_the_ledger_lost_or_fenced_is_never_acked() {
    let (mut server, start) = Server::with_stream();
    let chunk = samples(&start, 10, 10);
    let bytes = chunk.flow_bytes();
    let position = server.accepts(1, chunk.clone());
    server.session.fenced(1, bytes, 1);
    let actions = server.actions();
    assert_eq!((refusals(&actions), actions.len()), (vec![(1, Code::Fenced)], 1));

    let (mut server, _) = Server::with_stream();
    server.accepts(1, chunk.clone());
    server.session.lost(bytes, 1, "COMMIT was not answered");
    let actions = server.actions();
    assert_eq!(refusals(&actions), [(0, Code::LedgerUnavailable)]);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Send(ServerFrame::Ack(_))))
    );
    assert!(server.session.is_closed());

    // A commit that answers after its slot has closed is nobody's ack.
    let (mut server, _) = Server::with_stream();
    server.accepts(1, chunk);
    server.session.refuse_slot(1, Code::OutOfOrder, "because");
    server.session.committed(1, position.seq, position.digest, bytes, 1);
    assert!(
        server
            .actions()
            .iter()
            .all(|action| !matches!(action, Action::Send(ServerFrame::Ack(_))))
    );
}

#[test]
fn a_drain_acks_what_was_accepted_and_reads_nothing_more() {
    let (mut server, start) = Server::with_stream();
    let chunk = samples(&start, 10, 10);
    let bytes = chunk.flow_bytes();
    let position = server.accepts(1, chunk);
    server.session.drain(10_000, "restart");
    assert!(matches!(
        server.actions()[..],
        [Action::Send(ServerFrame::Goaway { .. })]
    ));
    assert_eq!(server.chunk(1, samples(&position, 10, 10)), []);
    assert!(!server.session.is_drained() && !server.session.may_read());
    server.session.committed(1, position.seq, position.digest, bytes, 1);
    assert!(!server.session.is_drained(), "its ack is not sent yet");
    assert!(matches!(server.actions()[..], [Action::Send(ServerFrame::Ack(_))]));
    assert!(server.session.is_drained());
}

#[test]
fn i12_an_agent_that_goes_silent_is_given_up_and_what_is_not_read_is_not_silence() {
    let (mut server, _) = Server::with_stream();
    let slowest_s = limits::CHUNK_BYTES_MAX as u64 / limits::LINK_BYTES_PER_S_MIN;
    server.wait(slowest_s + 1);
    assert!(
        !server.session.is_closed(),
        "the largest chunk may be on its way, on the slowest link"
    );
    server.wait(limits::AGENT_SILENCE_MS / 1_000 - slowest_s);
    assert!(server.session.is_closed());
    let refused = refusals(&server.actions());
    assert!(
        matches!(refused[..], [.., (0, code)] if code.reaction() == Reaction::Reconnect),
        "it passes by itself: {refused:?}"
    );

    let (mut server, mut at) = Server::with_stream();
    while server.session.may_read() {
        let rest = limits::WINDOW_BYTES_MIN - server.session.in_flight_bytes() - limits::CHUNK_OVERHEAD_BYTES;
        at = server.accepts(1, samples(&at, 10, rest.min(4 * 1024 * 1024) as usize));
    }
    server.wait(limits::AGENT_SILENCE_MS / 1_000 * 2);
    assert!(!server.session.is_closed(), "the server itself stopped reading");
}

#[test]
fn i12_a_connection_that_says_no_hello_is_given_up_sooner() {
    let mut server = Server {
        session: Session::new(Duration::ZERO),
        now: Duration::ZERO,
    };
    server.wait(limits::SILENCE_MS / 1_000);
    assert!(server.session.is_closed(), "it holds a seat that others could have");
}

#[test]
fn a_server_that_was_stalled_reads_what_waits_before_it_judges() {
    let (mut server, start) = Server::with_stream();
    server.now += Duration::from_millis(2 * limits::AGENT_SILENCE_MS);
    server.session.tick(server.now);
    assert!(!server.session.is_closed(), "the agent's frames wait to be read");
    server.actions();
    server.accepts(1, samples(&start, 10, 10));
}
