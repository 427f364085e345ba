//! Where a server says that a stream stands, and what becomes of the stream: rewound, adopted, read again, succeeded, ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wavekeep_proto::chunk::{ChunkKind, Position, Reason};
use wavekeep_proto::id::Hash;
use wavekeep_proto::limits::{SAMPLE_ID_MAX, SEQ_MAX};
use wavekeep_proto::uplink::Outbox as _;

use super::super::memory::MemoryKv;
use super::super::{Options, Outbox, OutboxError, STEP_RECORDS_MAX, StoreError, WhenFull};
use super::{definition, fill, held, live, open, open_stream, options, samples, secs, short};

const SAMPLES: ChunkKind = ChunkKind::Samples;

#[test]
fn i5_a_rewind_takes_acks_back() {
    let (_, outbox, stream) = live();
    fill(&outbox, stream.id, 10, 10);
    outbox.set_acked(stream.id, 8, secs(0)).unwrap();
    outbox.set_acked(stream.id, 2, secs(50)).unwrap();
    outbox.release(secs(140)).unwrap();
    assert_eq!(
        held(&outbox, stream.id)[0].chunk.header.seq,
        1,
        "2 was acked anew at 50"
    );
    outbox.release(secs(150)).unwrap();
    assert_eq!(held(&outbox, stream.id)[0].chunk.header.seq, 3);
    // Behind what is released: the uplink bridges, nothing more goes.
    outbox.set_acked(stream.id, 0, secs(150)).unwrap();
    outbox.release(secs(1_000)).unwrap();
    assert_eq!(held(&outbox, stream.id).len(), 8);
    assert_eq!(
        outbox.position_at(stream.id, 0).unwrap(),
        Some(Position::start(&stream))
    );
    assert_eq!(outbox.position_at(stream.id, 1).unwrap(), None, "released");
    assert_eq!(
        outbox.position_at(stream.id, 2).unwrap().map(|at| at.next_sample),
        Some(20),
        "where what is held begins"
    );
}

#[test]
fn a_power_cut_that_took_the_tail_is_adopted() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 3, 10);
    outbox.sync().unwrap();
    fill(&outbox, stream.id, 3, 10);
    let server = outbox.tail(stream.id).unwrap();
    drop(outbox);
    kv.power_cut(1);
    let outbox = open(&kv, options());
    assert_eq!(outbox.tail(stream.id).unwrap().seq, 4);
    outbox.adopt(stream.id, server, false).unwrap();
    outbox.set_acked(stream.id, server.seq, secs(1)).unwrap();
    assert_eq!(kv.unsynced_batches(), 0, "synced before an end is sent");
    assert_eq!(outbox.tail(stream.id), Some(server));
    let view = outbox.view(stream.id).unwrap();
    assert!(view.to_end && view.acked == 6 && view.unacked_bytes == 0);
    assert_eq!(
        outbox.store(stream.id, samples(60, vec![1]), secs(1)),
        Err(StoreError::Ended)
    );
    outbox.end(stream.id).unwrap();
    outbox.end(stream.id).unwrap();
    let lost = (ChunkKind::Gap, Reason::LostByServer, 5, 6, 40, 20);
    let end = (ChunkKind::End, Reason::Crashed, 7, 7, 60, 0);
    assert_eq!(
        short(&outbox, stream.id)[4..],
        [lost, end],
        "sent only if the server loses it"
    );
    assert_eq!(outbox.position_at(stream.id, 5).unwrap(), None, "inside of the gap");
    let behind = Position { seq: 5, ..server };
    assert_eq!(
        outbox.adopt(stream.id, behind, false),
        Err(OutboxError::Adopt {
            stream: stream.id,
            seq: 5
        })
    );
}

#[test]
fn a_source_whose_stream_is_taken_over_opens_another() {
    let (_, outbox, stream) = live();
    fill(&outbox, stream.id, 2, 10);
    let ahead = Position {
        seq: 5,
        next_sample: 50,
        digest: Hash([5; 16]),
        ended: false,
    };
    outbox.adopt(stream.id, ahead, false).unwrap();
    assert_eq!(
        outbox.store(stream.id, samples(20, vec![1]), secs(1)),
        Err(StoreError::Ended)
    );
    outbox.set_acked(stream.id, 5, secs(1)).unwrap();
    outbox.end(stream.id).unwrap();
    assert_eq!(
        short(&outbox, stream.id)[3],
        (ChunkKind::End, Reason::Crashed, 6, 6, 50, 0)
    );
}

#[test]
fn an_adopted_end_that_the_server_loses_is_written_again() {
    let (_, outbox, stream) = live();
    fill(&outbox, stream.id, 1, 10);
    let ended = Position {
        seq: 3,
        next_sample: 20,
        digest: Hash([5; 16]),
        ended: true,
    };
    outbox.adopt(stream.id, ended, false).unwrap();
    outbox.set_acked(stream.id, 3, secs(1)).unwrap();
    outbox.end(stream.id).unwrap();
    assert_eq!(outbox.tail(stream.id), Some(ended), "no second end");
    outbox.set_acked(stream.id, 1, secs(2)).unwrap();
    outbox.end(stream.id).unwrap();
    assert_eq!(
        short(&outbox, stream.id)[1..],
        [
            (ChunkKind::Gap, Reason::LostByServer, 2, 3, 10, 10),
            (ChunkKind::End, Reason::Crashed, 4, 4, 20, 0),
        ]
    );
}

#[test]
fn a_file_that_disagrees_is_read_again() {
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(&kv, options());
    let file = definition(1, true);
    open_stream(&outbox, &file);
    assert!(!outbox.wait_opened(file.id, Duration::ZERO));
    outbox.set_acked(file.id, 0, secs(0)).unwrap();
    assert!(outbox.wait_opened(file.id, Duration::ZERO));
    fill(&outbox, file.id, 5, 10);
    let server = Position {
        seq: 2,
        next_sample: 25,
        digest: Hash([9; 16]),
        ended: false,
    };
    outbox.adopt(file.id, server, true).unwrap();
    assert_eq!(outbox.tail(file.id), Some(server));
    assert!(held(&outbox, file.id).is_empty());
    assert_eq!(
        outbox.store(file.id, samples(50, vec![1]), secs(0)),
        Err(StoreError::Moved { next_sample: 25 })
    );
    fill(&outbox, file.id, 1, 10);
    assert_eq!(short(&outbox, file.id), [(SAMPLES, Reason::None, 3, 3, 25, 10)]);
    drop(outbox);
    let outbox = open(&kv, options());
    assert!(
        !outbox.view(file.id).unwrap().to_end,
        "a file's stream ends only after its last sample"
    );
    assert_eq!(
        short(&outbox, file.id).len(),
        1,
        "what was held before does not come back"
    );
}

#[test]
fn a_file_is_relabelled_and_is_the_same_stream() {
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(&kv, options());
    let file = definition(1, true);
    open_stream(&outbox, &file);
    fill(&outbox, file.id, 2, 10);
    let labels = BTreeMap::from([("algorithm".to_string(), "B".to_string())]);
    let at = outbox
        .open_stream(file.clone(), labels.clone(), "run-2".into(), 0)
        .unwrap();
    assert_eq!(at.seq, 2);
    drop(outbox);
    let outbox = open(&kv, options());
    let view = outbox.view(file.id).unwrap();
    assert_eq!((view.labels, view.run.as_str()), (labels, "run-2"));
    let other = wavekeep_proto::stream::StreamDefinition {
        rate_hz: 7.0,
        ..file.clone()
    };
    let refused = outbox.open_stream(other, BTreeMap::new(), String::new(), 0);
    assert_eq!(refused, Err(OutboxError::OtherDefinition(file.id).into()));
}

#[test]
fn a_start_ends_the_live_streams_of_sources_that_are_gone() {
    let (kv, outbox, stream) = live();
    let file = definition(2, true);
    open_stream(&outbox, &file);
    fill(&outbox, stream.id, 2, 10);
    drop(outbox);
    let (outbox, report) = Outbox::open(Arc::clone(&kv), options(), secs(7)).unwrap();
    assert_eq!((report.created, report.streams, report.to_end), (false, 2, 1));
    assert_eq!(report.held_bytes, outbox.held_bytes());
    let view = outbox.view(stream.id).unwrap();
    assert!(view.to_end && view.oldest_unacked == Some(secs(7)));
    assert_eq!(
        outbox.store(stream.id, samples(20, vec![1]), secs(8)),
        Err(StoreError::Ended)
    );
    outbox.end(stream.id).unwrap();
    assert_eq!(
        short(&outbox, stream.id)[2],
        (ChunkKind::End, Reason::Crashed, 3, 3, 20, 0)
    );
    assert!(!outbox.view(file.id).unwrap().to_end);
}

#[test]
fn a_source_that_moves_on_leaves_its_end_to_the_uplink() {
    let (_, outbox, stream) = live();
    outbox.mark_to_end(stream.id, Reason::Closed).unwrap();
    assert_eq!(
        outbox.store(stream.id, samples(0, vec![1]), secs(0)),
        Err(StoreError::Ended)
    );
    outbox.end(stream.id).unwrap();
    assert_eq!(
        short(&outbox, stream.id),
        [(ChunkKind::End, Reason::Closed, 1, 1, 0, 0)]
    );
}

#[test]
fn a_succession_goes_on_wherever_it_was_interrupted() {
    let records = 2 * STEP_RECORDS_MAX as u64 + 100;
    for successes in 0..6 {
        let (kv, outbox, stream) = live();
        fill(&outbox, stream.id, records, 3);
        outbox.set_acked(stream.id, 10, secs(0)).unwrap();
        outbox.release(secs(200)).unwrap();
        outbox.sync().unwrap();
        let before = held(&outbox, stream.id);
        kv.fail_after(Some(successes));
        let failed = outbox.succeed(stream.id).is_err();
        assert_eq!(failed, successes < 5, "announce, three moves, drop");
        kv.fail_after(None);
        let outbox = if successes % 2 == 0 {
            drop(outbox);
            open(&kv, options())
        } else {
            outbox.release(secs(200)).unwrap();
            outbox
        };
        if outbox.tail(stream.id).is_some() {
            assert_eq!(successes, 0, "announced, it goes on by itself");
            outbox.succeed(stream.id).unwrap();
        }
        let [successor] = outbox.streams()[..] else {
            panic!("one stream is left")
        };
        let view = outbox.view(successor).unwrap();
        assert_eq!(
            view.definition.predecessor.map(|old| (old.stream_id, old.seq)),
            Some((stream.id, 10))
        );
        assert_eq!(
            (view.definition.first_sample, view.tail.seq, view.to_end),
            (30, records - 10, true)
        );
        let moved = held(&outbox, successor);
        assert_eq!(moved.len(), before.len());
        assert!(
            moved
                .iter()
                .zip(&before)
                .all(|(now, was)| now.chunk.columns == was.chunk.columns)
        );
        assert!(
            kv.entries()
                .iter()
                .all(|(key, _)| key.len() < 17 || &key[1..17] != stream.id.as_bytes()),
            "nothing is left"
        );
    }
}

#[test]
fn i5_a_rewind_is_remembered_so_that_nothing_goes_on_an_ack_that_was_taken_back() {
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(&kv, options());
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, 20, 1_000);
    outbox.set_acked(stream.id, 20, secs(0)).unwrap();
    // Stored with the hint.
    fill(&outbox, stream.id, 10, 1_000);
    outbox.set_acked(stream.id, 5, secs(1)).unwrap();
    drop(outbox);
    kv.power_cut(0);
    // No server any more, and the quota wants room.
    let outbox = open(
        &kv,
        Options {
            quota_bytes: 40_000,
            when_full: WhenFull::Block,
            ..options()
        },
    );
    let other = definition(2, false);
    open_stream(&outbox, &other);
    while let Ok(at) = outbox.store(
        other.id,
        samples(outbox.tail(other.id).unwrap().next_sample, vec![1; 1_000]),
        secs(2),
    ) {
        assert!(at.seq < 100, "it fills");
    }
    assert_eq!(
        held(&outbox, stream.id)[0].chunk.header.first_seq,
        6,
        "the only copy stays"
    );
}

#[test]
fn a_position_where_no_stream_can_be_is_not_taken_over() {
    let (_, outbox, stream) = live();
    fill(&outbox, stream.id, 3, 10);
    let tail = outbox.tail(stream.id).unwrap();
    let most = Position {
        seq: SEQ_MAX - 1,
        next_sample: SAMPLE_ID_MAX,
        digest: Hash([7; 16]),
        ended: false,
    };
    for at in [
        Position { seq: SEQ_MAX, ..most },
        Position {
            next_sample: SAMPLE_ID_MAX + 1,
            ..most
        },
    ] {
        assert!(matches!(
            outbox.adopt(stream.id, at, false),
            Err(OutboxError::Adopt { .. })
        ));
        assert_eq!(outbox.tail(stream.id), Some(tail));
    }
    outbox.adopt(stream.id, most, false).unwrap();
    outbox.end(stream.id).unwrap();
    assert_eq!(
        outbox.tail(stream.id).map(|at| (at.seq, at.ended)),
        Some((SEQ_MAX, true)),
        "an end still fits"
    );
}

#[test]
fn a_stream_that_is_moving_remains() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 700, 3);
    outbox.set_acked(stream.id, 700, secs(0)).unwrap();
    assert!(outbox.remains(secs(1)).is_nothing());
    // Announced, and one step moved.
    kv.fail_after(Some(2));
    outbox.succeed(stream.id).unwrap_err();
    assert!(outbox.streams().is_empty());
    let remains = outbox.remains(secs(1));
    assert_eq!(
        (remains.streams, remains.chunks),
        (1, 700),
        "nothing of it is delivered"
    );
    outbox.release(secs(1)).unwrap();
    let remains = outbox.remains(secs(1));
    assert_eq!((remains.streams, remains.chunks), (1, 700), "nor once it has moved");
}
