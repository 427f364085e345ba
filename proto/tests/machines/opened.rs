//! `Opened`: all of reconnection is decided by where the server says it stands.

use wavekeep_proto::chunk::{ChunkKind, Position, Reason};
use wavekeep_proto::frame::{ServerFrame, Welcome};
use wavekeep_proto::id::{Hash, LedgerId, StreamId};
use wavekeep_proto::limits;
use wavekeep_proto::uplink::{Alarm, LinkState, Outbox as _};

use crate::support::{Agent, Deed, Store, after, definition, marked, samples, welcome};

const STREAM: StreamId = StreamId([1; 16]);

/// An agent with one stream of `chunks` chunks that has just asked to open it.
fn asking(chunks: u64, file: bool) -> (Agent, Vec<Position>) {
    let store = Store::default();
    store.add(definition(1, file));
    let positions = store.fill(STREAM, chunks, 10);
    (Agent::new(store), positions)
}

fn begin(agent: &mut Agent) {
    agent.begin(limits::WINDOW_BYTES_MIN);
}

/// What a longer life of the same stream would have committed after `before`.
fn ahead(before: &Position, chunks: usize) -> Position {
    (0..chunks).fold(*before, |at, _| after(&samples(&at, 25, 0)))
}

#[test]
fn the_end_is_written_only_after_opened() {
    let (mut agent, positions) = asking(3, false);
    agent.store.set_to_end(STREAM);
    begin(&mut agent);
    agent.wait(5);
    assert_eq!(
        agent.store.take_deeds(),
        [],
        "the server may be ahead: where the stream ends is not known yet"
    );
    agent.open(STREAM, positions[2], None);
    assert_eq!(agent.store.take_deeds(), [Deed::Acked(3), Deed::Ended]);
    assert_eq!(agent.seqs(), [(4, 4)]);
}

#[test]
fn i2_a_power_cut_took_the_tail_and_the_server_has_it() {
    let (mut agent, positions) = asking(3, false);
    agent.store.set_to_end(STREAM);
    begin(&mut agent);
    let at = ahead(&positions[2], 2);
    agent.open(STREAM, at, Some((3, positions[2].digest)));
    let adopted = Deed::Adopted { seq: 5, discard: false };
    assert_eq!(
        agent.store.take_deeds(),
        [adopted, Deed::Acked(5), Deed::Ended],
        "the end follows what the server has"
    );
    assert_eq!(
        agent.alarms,
        [Alarm::Adopted {
            stream: STREAM,
            from: 3,
            to: 5
        }]
    );
    assert_eq!(agent.seqs(), [(6, 6)]);
}

#[test]
fn i14_what_is_ahead_is_adopted_only_where_the_digest_agrees() {
    let (mut agent, positions) = asking(3, false);
    begin(&mut agent);
    agent.open(STREAM, ahead(&positions[2], 2), Some((3, Hash([1; 16]))));
    assert_eq!(
        agent.store.take_deeds(),
        [Deed::Succeeded],
        "another outbox has written to it"
    );
    assert!(matches!(agent.alarms[..], [Alarm::Diverged { stream: STREAM, .. }]));
}

#[test]
fn i14_what_is_ahead_without_any_row_to_compare_is_not_adopted() {
    let (mut agent, positions) = asking(3, false);
    begin(&mut agent);
    agent.open(STREAM, ahead(&positions[2], 2), None);
    assert_eq!(agent.store.take_deeds(), [Deed::Succeeded]);
}

#[test]
fn i14_a_row_above_what_was_asked_about_proves_nothing() {
    let (mut agent, positions) = asking(3, false);
    begin(&mut agent);
    let at = ahead(&positions[2], 2);
    agent.open(STREAM, at, Some((4, at.digest)));
    assert_eq!(agent.store.take_deeds(), [Deed::Succeeded]);
}

#[test]
fn i14_an_ended_stream_adopts_nothing() {
    // A power cut took seqs 4 and 5, an `end` was committed as seq 4 by the new primary, then the old one came back with 5.
    let (mut agent, positions) = asking(3, false);
    agent
        .store
        .put(STREAM, marked(&positions[2], ChunkKind::End, Reason::Crashed, 0));
    begin(&mut agent);
    let at = ahead(&positions[2], 3);
    agent.open(STREAM, at, Some((4, ahead(&positions[2], 1).digest)));
    assert_eq!(agent.store.take_deeds(), [Deed::Succeeded]);

    // The same where the row that can be compared agrees: what ended goes nowhere.
    let (mut agent, positions) = asking(3, false);
    agent.store.set_tail_ended(STREAM, true);
    begin(&mut agent);
    agent.open(STREAM, ahead(&positions[2], 2), Some((3, positions[2].digest)));
    assert_eq!(agent.store.take_deeds(), [Deed::Succeeded]);
}

#[test]
fn a_position_that_no_stream_has_ends_the_session() {
    for at in [
        (u64::MAX, 1_000),
        (limits::SEQ_MAX, 1_000),
        (5, u64::MAX),
        (5, limits::SAMPLE_ID_MAX + 1),
    ] {
        let (mut agent, positions) = asking(3, false);
        begin(&mut agent);
        let at = Position {
            seq: at.0,
            next_sample: at.1,
            ..positions[2]
        };
        agent.open(STREAM, at, Some((3, positions[2].digest)));
        assert_eq!(agent.store.take_deeds(), []);
        assert_eq!(agent.ended.len(), 1, "a server cannot make it count past the end");
    }
}

#[test]
fn i1_an_end_that_only_the_server_has_is_not_written_twice() {
    // A damaged `end` became a gap, and another one is due; the server had committed it before.
    let (mut agent, _) = asking(3, false);
    agent.store.put(
        STREAM,
        marked(&agent.store.tail(STREAM).unwrap(), ChunkKind::End, Reason::Crashed, 0),
    );
    agent.store.set_tail_ended(STREAM, false);
    agent.store.set_to_end(STREAM);
    begin(&mut agent);
    let at = Position {
        ended: true,
        ..agent.store.tail(STREAM).unwrap()
    };
    agent.open(STREAM, at, None);
    let adopted = Deed::Adopted { seq: 4, discard: false };
    assert_eq!(agent.store.take_deeds(), [adopted, Deed::Acked(4)]);
    assert_eq!(agent.seqs(), [], "the stream has ended");
}

#[test]
fn i14_a_server_that_ended_earlier_has_diverged() {
    let (mut agent, positions) = asking(3, false);
    begin(&mut agent);
    let end = marked(&positions[1], ChunkKind::End, Reason::Crashed, 0);
    agent.open(STREAM, after(&end), None);
    assert_eq!(agent.store.take_deeds(), [Deed::Succeeded]);
}

#[test]
fn i14_a_server_that_ended_where_nothing_is_held_any_more_has_diverged() {
    let (mut agent, positions) = asking(6, false);
    agent.store.release(STREAM, 4);
    begin(&mut agent);
    let at = Position {
        ended: true,
        ..positions[1]
    };
    agent.open(STREAM, at, None);
    assert_eq!(agent.store.take_deeds(), [Deed::Succeeded], "nothing can follow an end");
}

#[test]
fn i14_a_position_that_disagrees_has_diverged() {
    for change in [0, 1] {
        let (mut agent, positions) = asking(3, false);
        begin(&mut agent);
        let mut at = positions[1];
        if change == 0 {
            at.digest = Hash([1; 16]);
        } else {
            at.next_sample += 1;
        }
        agent.open(STREAM, at, None);
        assert_eq!(agent.store.take_deeds(), [Deed::Succeeded]);
        assert_eq!(agent.seqs(), [], "nothing is sent into a stream that is another's");
    }
}

#[test]
fn a_file_that_disagrees_is_read_again() {
    let (mut agent, positions) = asking(3, true);
    begin(&mut agent);
    let at = Position {
        digest: Hash([1; 16]),
        ..positions[1]
    };
    agent.open(STREAM, at, None);
    assert_eq!(
        agent.store.take_deeds(),
        [Deed::Adopted { seq: 2, discard: true }, Deed::Acked(2)]
    );
    assert!(agent.alarms.is_empty(), "nothing is lost: {:?}", agent.alarms);
}

#[test]
fn i5_a_rewind_sends_again_and_tells() {
    let (mut agent, positions) = asking(4, false);
    begin(&mut agent);
    let slot = agent.open(STREAM, positions[1], None);
    agent.ack(slot, &positions[3]);
    agent.chunks();
    agent.store.take_deeds();
    agent.uplink.disconnected(agent.now);
    begin(&mut agent);
    agent.open(STREAM, positions[0], None);
    assert_eq!(
        agent.store.take_deeds(),
        [Deed::Acked(1)],
        "what the server lost is not acked any more"
    );
    assert_eq!(agent.seqs(), [(2, 2), (3, 3), (4, 4)]);
    assert_eq!(
        agent.alarms,
        [Alarm::Rewound {
            stream: STREAM,
            from: 4,
            to: 1
        }]
    );
}

#[test]
fn i13_what_nobody_holds_any_more_becomes_one_named_gap() {
    let (mut agent, positions) = asking(6, false);
    agent.store.release(STREAM, 4);
    begin(&mut agent);
    let slot = agent.open(STREAM, positions[0], None);
    let sent = agent.chunks();
    let gap = &sent[0].1;
    assert_eq!(
        (gap.header.first_seq, gap.header.seq),
        (2, 4),
        "from where the server stands to what is held"
    );
    assert_eq!((gap.header.first_sample, gap.header.count), (10, 30));
    assert_eq!(
        (gap.header.kind, gap.header.reason),
        (ChunkKind::Gap, Reason::LostByServer)
    );
    assert_eq!(gap.digest, positions[3].digest, "I14: the digest of the capture");
    assert_eq!(sent.len(), 3, "then what is held");
    let lost = Alarm::Lost {
        stream: STREAM,
        first_sample: 10,
        count: 30,
        reason: Reason::LostByServer,
    };
    assert!(agent.alarms.contains(&lost), "{:?}", agent.alarms);
    agent.ack(slot, &positions[3]);
    assert!(agent.ended.is_empty(), "and its ack is checked as any other");
}

#[test]
fn i13_a_stream_of_which_nothing_is_held_is_a_gap_up_to_its_tail() {
    let (mut agent, positions) = asking(4, false);
    agent.store.release(STREAM, 4);
    begin(&mut agent);
    agent.open(STREAM, positions[1], None);
    let sent = agent.chunks();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].1.header.first_seq, sent[0].1.header.seq, sent[0].1.header.count),
        (3, 4, 20)
    );
    assert_eq!(sent[0].1.digest, positions[3].digest);
}

#[test]
fn i4_of_a_gap_that_the_watermark_lies_inside_of_only_the_rest_is_sent() {
    let (mut agent, positions) = asking(6, false);
    agent.store.evict(STREAM, 2, 5);
    begin(&mut agent);
    let slot = agent.open(STREAM, positions[2], None);
    assert_eq!(agent.store.take_deeds(), [Deed::Acked(3)]);
    let sent = agent.chunks();
    let rest = &sent[0].1.header;
    assert_eq!(
        (rest.first_seq, rest.seq, rest.first_sample, rest.count),
        (4, 5, 30, 20)
    );
    assert_eq!(sent[0].1.digest, positions[4].digest, "I14: the same digest");
    agent.ack(slot, &positions[4]);
    assert_eq!(agent.store.acked(STREAM), 5);
    assert!(agent.ended.is_empty());
}

#[test]
fn i4_a_position_that_does_not_fit_the_gap_around_it_has_diverged() {
    let (mut agent, positions) = asking(6, false);
    agent.store.evict(STREAM, 2, 5);
    begin(&mut agent);
    agent.open(
        STREAM,
        Position {
            next_sample: 51,
            ..positions[2]
        },
        None,
    );
    assert_eq!(agent.store.take_deeds(), [Deed::Succeeded]);
}

#[test]
fn i14_a_tail_that_grew_since_open_is_asked_about_again() {
    let (mut agent, positions) = asking(2, true);
    begin(&mut agent);
    let first = agent.slot(STREAM);
    agent.store.fill(STREAM, 1, 10);
    // The server has 4; of our 3 it told nothing.
    let at = ahead(&positions[1], 2);
    agent.open(STREAM, at, Some((2, positions[1].digest)));
    assert_eq!(
        agent.store.take_deeds(),
        [],
        "nothing is decided on an answer that does not reach the tail"
    );
    assert!(agent.slot(STREAM) > first, "it asks again");
}

#[test]
fn i7_nothing_is_sent_to_a_database_that_a_promoted_copy_has_replaced() {
    let (mut agent, _) = asking(2, false);
    let welcome_by = |generation| match welcome(limits::WINDOW_BYTES_MIN) {
        ServerFrame::Welcome(welcome) => ServerFrame::Welcome(Welcome { generation, ..welcome }),
        other => panic!("{other:?} is no welcome"),
    };
    let mut meet = |generation| {
        agent.uplink.disconnected(agent.now);
        while agent.uplink.link_state() != LinkState::Connecting {
            agent.wait(1);
        }
        agent.said.clear();
        agent.alarms.clear();
        agent.hear(welcome_by(generation));
        (agent.alarms.clone(), agent.said.is_empty(), agent.store.generation())
    };
    assert_eq!(meet(2), (vec![], false, 2));
    assert_eq!(meet(4), (vec![], false, 4), "a copy of it was promoted");
    let old = Alarm::OldPrimary { newest: 4, found: 3 };
    assert_eq!(meet(3), (vec![old], true, 4), "the old one is back");
    assert_eq!(meet(0), (vec![], false, 4), "a server that does not know");
    assert_eq!(meet(4), (vec![], false, 4));
}

#[test]
fn nothing_is_sent_to_another_ledger() {
    let (mut agent, _) = asking(2, false);
    agent.store.bind(LedgerId([8; 16])).unwrap();
    while agent.uplink.link_state() != LinkState::Connecting {
        agent.wait(1);
    }
    agent.said.clear();
    agent.hear(welcome(limits::WINDOW_BYTES_MIN));
    assert!(matches!(agent.alarms[..], [Alarm::WrongLedger { .. }]));
    assert_eq!(agent.ended.len(), 1);
    assert!(agent.said.is_empty(), "{:?}", agent.said);
}
