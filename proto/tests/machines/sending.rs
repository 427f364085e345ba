//! The rest of what the sending half promises: every stream in every session, and reactions to refusals.

use wavekeep_proto::chunk::Position;
use wavekeep_proto::code::Code;
use wavekeep_proto::frame::{AgentFrame, Refused, ServerFrame};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits;
use wavekeep_proto::uplink::{Alarm, LinkState, Outbox as _};
use wavekeep_proto::wire::WireError;

use crate::support::{Agent, Store, definition, sending};

const STREAM: StreamId = StreamId([1; 16]);

fn refuse(agent: &mut Agent, slot: u32, code: Code) {
    agent.hear(ServerFrame::Refused(Refused {
        slot,
        code,
        message: "because".into(),
    }));
}

#[test]
fn every_stream_that_holds_anything_is_opened_in_every_session() {
    let store = Store::default();
    for number in 1..=20 {
        store.add(definition(number, number % 3 == 0));
    }
    let mut agent = Agent::new(store);
    for _ in 0..3 {
        agent.begin(limits::WINDOW_BYTES_MIN);
        for number in 1..=20 {
            agent.open(
                StreamId([number; 16]),
                Position::start(&definition(number, number % 3 == 0)),
                None,
            );
        }
        let slots: Vec<u32> = (1..=20).map(|number| agent.slot(StreamId([number; 16]))).collect();
        assert_eq!(
            slots,
            (1..=20).collect::<Vec<u32>>(),
            "slots count from 1 in every session"
        );
        agent.said.clear();
        agent.uplink.disconnected(agent.now);
    }
}

#[test]
fn what_waits_to_be_sent_is_opened_before_what_is_held_back() {
    let store = Store::default();
    let streams: Vec<StreamId> = (1..=40).map(|number| store.add(definition(number, false))).collect();
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    agent.uplink.disconnected(agent.now);
    // By the order of their names these are the last.
    agent.store.fill(streams[38], 1, 10);
    agent.store.set_to_end(streams[39]);
    agent.said.clear();
    agent.begin(limits::WINDOW_BYTES_MIN);
    let first_two: Vec<StreamId> = agent
        .said
        .iter()
        .filter_map(|frame| match frame {
            AgentFrame::Open(open) => Some(open.definition.id),
            _ => None,
        })
        .take(2)
        .collect();
    assert_eq!(first_two, [streams[38], streams[39]]);
}

#[test]
fn i12_streams_open_a_few_at_a_time_and_each_answer_gives_the_others_time() {
    let store = Store::default();
    for number in 1..=200 {
        store.add(definition(number, false));
    }
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    // A slow database: all of them together take far longer than one answer may.
    let mut answered = 0;
    while let Some(AgentFrame::Open(open)) = agent
        .said
        .iter()
        .filter(|f| matches!(f, AgentFrame::Open(_)))
        .nth(answered)
    {
        let stream = open.definition.id;
        let under_way = agent.said.iter().filter(|f| matches!(f, AgentFrame::Open(_))).count() - answered;
        assert_eq!(under_way, limits::OPENS_MAX.min(200 - answered), "I12");
        agent.wait(limits::ANSWER_MS / 1_000 - 2);
        let at = agent.store.tail(stream).unwrap();
        agent.open(stream, at, None);
        answered += 1;
    }
    assert!(agent.ended.is_empty(), "{:?}", agent.ended);
    assert!(
        (1..=200).all(|number| agent.uplink.is_open(StreamId([number; 16]))),
        "{answered} are open"
    );
}

#[test]
fn i2_what_was_in_flight_is_sent_again_from_where_the_server_stands() {
    let (mut agent, slot, sent) = sending(5);
    agent.ack(slot, &sent[1]);
    agent.uplink.disconnected(agent.now);
    agent.store.fill(STREAM, 1, 10);
    agent.begin(limits::WINDOW_BYTES_MIN);
    agent.open(STREAM, sent[2], None);
    assert_eq!(
        agent.seqs(),
        [(4, 4), (5, 5), (6, 6)],
        "the server had one more than it said"
    );
}

#[test]
fn a_refused_slot_opens_again_under_a_new_number_and_after_a_while() {
    for (code, alarmed) in [(Code::OutOfOrder, false), (Code::Damaged, false), (Code::Fenced, true)] {
        let (mut agent, slot, sent) = sending(5);
        refuse(&mut agent, slot, code);
        assert!(agent.ended.is_empty(), "the session goes on");
        assert_eq!(agent.alarms.len(), usize::from(alarmed), "{code:?}");
        agent.wait(1);
        assert_eq!(agent.slot(STREAM), slot + 1);
        agent.open(STREAM, sent[0], None);
        assert_eq!(agent.seqs(), [(2, 2), (3, 3), (4, 4), (5, 5)]);
    }
}

#[test]
fn a_refused_session_connects_again() {
    let (mut agent, _, _) = sending(1);
    refuse(&mut agent, 0, Code::LedgerUnavailable);
    assert_eq!((agent.ended.len(), agent.alarms.len()), (1, 0));
    agent.begin(limits::WINDOW_BYTES_MIN);
    refuse(&mut agent, 0, Code::Forbidden);
    assert!(
        matches!(
            agent.alarms[..],
            [Alarm::SessionRefused {
                code: Code::Forbidden,
                ..
            }]
        ),
        "{:?}",
        agent.alarms
    );
}

#[test]
fn bytes_that_are_no_frame_end_the_session() {
    let (mut agent, _, _) = sending(1);
    agent
        .uplink
        .received(agent.now, Err(WireError::Frame("it is empty")), &agent.store)
        .unwrap();
    agent.pump();
    assert_eq!(agent.ended.len(), 1);
}

#[test]
fn a_stream_that_is_opened_twice_by_the_server_ends_the_session() {
    let (mut agent, slot, _) = sending(1);
    agent.said.push(AgentFrame::Heartbeat(Vec::new()));
    let opened = wavekeep_proto::frame::Opened {
        slot,
        at: Position::start(&definition(1, false)),
        row: None,
    };
    agent.hear(ServerFrame::Opened(opened));
    assert!(agent.ended[0].contains("twice"), "{:?}", agent.ended);
    assert_eq!(agent.uplink.link_state(), LinkState::Down);
}
