//! Acks are untrusted input: whatever cannot be true moves nothing, and ends the session.

use wavekeep_proto::chunk::Position;
use wavekeep_proto::code::Code;
use wavekeep_proto::frame::{Refused, ServerFrame};
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::limits;
use wavekeep_proto::uplink::{Alarm, LinkState};

use crate::support::{Agent, Store, ack, definition, sending};

const STREAM: StreamId = StreamId([1; 16]);

/// The ack moved nothing, and the session is over.
fn assert_refused(agent: &Agent, why: &str) {
    assert_eq!(agent.store.take_deeds(), [], "nothing moves by such an ack");
    assert_eq!(agent.store.acked(STREAM), 0);
    assert_eq!(agent.ended.len(), 1, "the session ends");
    assert!(agent.ended[0].contains(why), "{}", agent.ended[0]);
    assert_eq!(agent.uplink.link_state(), LinkState::Down);
    assert_eq!(
        agent.uplink.in_flight_bytes(),
        0,
        "nothing is in flight without a session"
    );
}

#[test]
fn i5_an_ack_of_what_was_sent_is_taken() {
    let (mut agent, slot, sent) = sending(5);
    agent.ack(slot, &sent[2]);
    assert_eq!((agent.store.acked(STREAM), agent.uplink.acked_chunks()), (3, 3));
    assert!(agent.ended.is_empty() && agent.alarms.is_empty());
}

#[test]
fn i5_a_flipped_bit_in_an_acks_digest_releases_nothing() {
    for bit in 0..128 {
        let (mut agent, slot, sent) = sending(5);
        let mut digest = sent[2].digest.0;
        digest[bit / 8] ^= 1 << (bit % 8);
        agent.hear(ack(slot, 3, Hash(digest)));
        assert_refused(&agent, "digest");
        assert_eq!(
            agent.alarms,
            [Alarm::AckMismatch { stream: STREAM, seq: 3 }],
            "and people hear of it"
        );
    }
}

#[test]
fn i5_the_digest_of_another_seq_is_a_wrong_digest() {
    let (mut agent, slot, sent) = sending(5);
    agent.hear(ack(slot, 3, sent[1].digest));
    assert_refused(&agent, "digest");
}

#[test]
fn i2_an_ack_past_what_was_sent_is_refused() {
    let (mut agent, slot, sent) = sending(5);
    agent.hear(ack(slot, 6, sent[4].digest));
    assert_refused(&agent, "acknowledged seq 6");
}

#[test]
fn i2_an_ack_past_what_was_sent_is_refused_though_it_is_stored() {
    let (mut agent, slot, _) = sending(5);
    // The window is full, so what is stored now is not sent.
    let stored = agent.store.fill(STREAM, 3, limits::WINDOW_BYTES_MIN as usize);
    agent.pump();
    agent.hear(ack(slot, stored[0].seq, stored[0].digest));
    assert_refused(&agent, "acknowledged seq 6");
}

#[test]
fn i2_an_ack_that_goes_backwards_ends_the_session() {
    let (mut agent, slot, sent) = sending(5);
    agent.ack(slot, &sent[3]);
    agent.ack(slot, &sent[1]);
    assert_eq!(agent.store.acked(STREAM), 4, "it stays where it was");
    assert!(agent.ended[0].contains("acknowledged seq 2"), "{:?}", agent.ended);
}

#[test]
fn i5_an_ack_inside_of_a_chunk_is_refused() {
    let store = Store::default();
    let stream = store.add(definition(1, false));
    let positions = store.fill(stream, 6, 10);
    store.evict(stream, 2, 5);
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    let slot = agent.open(stream, Position::start(&definition(1, false)), None);
    assert_eq!(agent.seqs(), [(1, 1), (2, 5), (6, 6)]);
    agent.store.take_deeds();
    agent.ack(slot, &positions[2]);
    assert_refused(&agent, "inside of a chunk");
}

#[test]
fn i2_an_ack_for_a_slot_that_was_never_opened_is_refused() {
    for slot in [0, 2, u32::MAX] {
        let (mut agent, _, sent) = sending(5);
        agent.hear(ack(slot, 3, sent[2].digest));
        assert_refused(&agent, "never opened");
    }
}

#[test]
fn i2_an_ack_before_opened_is_refused() {
    let store = Store::default();
    let stream = store.add(definition(1, false));
    let positions = store.fill(stream, 2, 10);
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    let slot = agent.slot(stream);
    agent.ack(slot, &positions[0]);
    assert_refused(&agent, "before Opened");
}

#[test]
fn i2_late_acks_of_a_closed_slot_are_ignored() {
    let (mut agent, slot, sent) = sending(5);
    agent.hear(ServerFrame::Refused(Refused {
        slot,
        code: Code::Fenced,
        message: "taken".into(),
    }));
    assert_eq!(
        agent.uplink.in_flight_bytes(),
        0,
        "what was in flight in the slot is not any more"
    );
    agent.ack(slot, &sent[2]);
    assert_eq!(agent.store.take_deeds(), [], "a late ack releases nothing");
    assert!(agent.ended.is_empty(), "and is nobody's fault: {:?}", agent.ended);
    // The stream opens again under a new number, and the late ack of the old one still means nothing.
    agent.wait(1);
    let again = agent.slot(STREAM);
    assert!(again > slot);
    agent.ack(slot, &sent[4]);
    assert_eq!(agent.store.take_deeds(), []);
    agent.open(STREAM, sent[0], None);
    assert_eq!(
        agent.seqs(),
        [(2, 2), (3, 3), (4, 4), (5, 5)],
        "it resumes where the server stands"
    );
}

#[test]
fn i2_the_last_ack_of_an_old_session_is_ignored() {
    let (mut agent, slot, sent) = sending(5);
    agent.uplink.disconnected(agent.now);
    agent
        .uplink
        .received(agent.now, Ok(ack(slot, 5, sent[4].digest)), &agent.store)
        .unwrap();
    assert_eq!(agent.store.take_deeds(), [], "it was read after its session had ended");
    agent.begin(limits::WINDOW_BYTES_MIN);
    agent.open(STREAM, sent[1], None);
    assert_eq!(agent.seqs(), [(3, 3), (4, 4), (5, 5)], "nothing un-acked is skipped");
}

#[test]
fn i12_a_duplicate_ack_does_not_reset_the_ack_timer() {
    let (mut agent, slot, sent) = sending(5);
    agent.ack(slot, &sent[2]);
    let since = agent.now;
    while agent.ended.is_empty() {
        agent.wait(1);
        agent.ack(slot, &sent[2]);
        assert!(
            agent.now.as_secs() < 2 * limits::ACK_MS / 1_000,
            "it would wait for ever"
        );
    }
    assert!(agent.ended[0].contains("acknowledges nothing"), "{:?}", agent.ended);
    assert!((agent.now - since).as_millis() as u64 >= limits::ACK_MS);
}

#[test]
fn i12_the_ack_timer_runs_only_while_something_is_in_flight() {
    let (mut agent, slot, sent) = sending(2);
    agent.ack(slot, &sent[1]);
    for _ in 0..limits::ACK_MS / 1_000 * 3 {
        agent.wait(1);
        agent.hear(ServerFrame::Heartbeat {
            window_bytes: limits::WINDOW_BYTES_MIN,
        });
    }
    assert!(agent.ended.is_empty(), "{:?}", agent.ended);
    agent.store.fill(STREAM, 1, 10);
    agent.wait(1);
    assert_eq!(agent.seqs(), [(3, 3)]);
    agent.wait(15);
    assert!(
        agent.ended.is_empty(),
        "the timer starts with what is sent, not with the last ack"
    );
}

#[test]
fn backoff_resets_on_an_ack_and_not_on_a_connect() {
    let (mut agent, _, sent) = sending(3);
    let mut longest = 0;
    for _ in 0..12 {
        let before = agent.now;
        agent.uplink.disconnected(agent.now);
        agent.begin(limits::WINDOW_BYTES_MIN);
        agent.open(STREAM, Position::start(&definition(1, false)), None);
        longest = longest.max((agent.now - before).as_secs());
    }
    assert!(
        longest >= 3,
        "a server that accepts and dies is not hammered: {longest} s"
    );
    let slot = agent.slot(STREAM);
    agent.ack(slot, &sent[0]);
    let before = agent.now;
    agent.uplink.disconnected(agent.now);
    agent.begin(limits::WINDOW_BYTES_MIN);
    assert!((agent.now - before).as_secs() <= 1, "progress was made");
}
