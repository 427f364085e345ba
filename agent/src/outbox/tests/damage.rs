//! Flipped bits, bad sectors, lost batches: each loses what it hits, by name, and nothing else.

use std::sync::Arc;

use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::Outbox as _;

use super::super::kv::{Batch, Kv};
use super::super::memory::MemoryKv;
use super::super::{Outbox, OutboxAlarm, OutboxError, keys};
use super::{Short, definition, fill, held, live, marker, open, open_stream, options, samples, secs, short};

const CORRUPT: (ChunkKind, Reason) = (ChunkKind::Gap, Reason::Corrupt);

/// Ten chunks of ten samples; the third has a marker.
fn ten() -> (Arc<MemoryKv>, Outbox<MemoryKv>, StreamId, Vec<Short>) {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 2, 10);
    let mut chunk = samples(20, vec![9; 10]);
    chunk.markers.push(marker(21, "kept"));
    outbox.store(stream.id, chunk, secs(0)).unwrap();
    fill(&outbox, stream.id, 7, 10);
    let lines = short(&outbox, stream.id);
    (kv, outbox, stream.id, lines)
}

#[test]
fn i4_a_flipped_bit_in_a_chunks_columns_costs_that_chunk_alone() {
    let (kv, outbox, stream, mut expected) = ten();
    let before = held(&outbox, stream);
    assert!(kv.flip(&keys::data(stream, 3), 37));
    expected[2] = (CORRUPT.0, CORRUPT.1, 3, 3, 20, 10);
    let after = held(&outbox, stream);
    assert_eq!(short(&outbox, stream), expected);
    assert_eq!(
        (after[2].digest_before, after[2].chunk.digest),
        (before[2].digest_before, before[2].chunk.digest),
        "I14"
    );
    assert_eq!(after[2].chunk.header.markers, [marker(21, "kept")]);
    assert_eq!(
        outbox.take_alarms(),
        [OutboxAlarm::Corrupt {
            stream,
            first_sample: 20,
            samples: 10
        }],
        "told once"
    );
    drop(outbox);
    assert_eq!(short(&open(&kv, options()), stream), expected, "and it stays a gap");
}

#[test]
fn i4_a_flipped_bit_in_a_record_costs_that_chunk_alone_wherever_it_is() {
    for seq in 1..=10u64 {
        let (kv, outbox, stream, mut expected) = ten();
        let before = held(&outbox, stream);
        assert!(kv.flip(&keys::chunk(stream, seq), 91));
        let at = usize::try_from(seq - 1).unwrap();
        expected[at] = (CORRUPT.0, CORRUPT.1, seq, seq, (seq - 1) * 10, 10);
        assert_eq!(short(&outbox, stream), expected);
        let after = held(&outbox, stream);
        assert_eq!(
            after[at].chunk.digest, before[at].chunk.digest,
            "I14: by the neighbours"
        );
        assert!(
            kv.get(&keys::data(stream, seq)).unwrap().is_none(),
            "its columns are of no use"
        );
    }
}

#[test]
fn i4_neighbours_that_are_lost_together_are_one_gap() {
    for (lost, sector) in [
        ([4, 5, 6], false),
        ([1, 2, 3], true),
        ([8, 9, 10], true),
        ([4, 5, 6], true),
    ] {
        let (kv, outbox, stream, lines) = ten();
        for seq in lost {
            match sector {
                true => kv.damage(&keys::chunk(stream, seq)),
                false => assert!(kv.flip(&keys::chunk(stream, seq), 5)),
            }
        }
        let (first, last) = (lost[0], lost[2]);
        let verified = outbox.verify().unwrap();
        assert_eq!(
            (
                verified.intact,
                verified.streams[0].damaged_chunks,
                verified.streams[0].damaged_samples
            ),
            (false, 3, 30)
        );
        let after = short(&outbox, stream);
        assert_eq!(after.len(), 8);
        assert!(
            after.contains(&(CORRUPT.0, CORRUPT.1, first, last, (first - 1) * 10, 30)),
            "{after:?}"
        );
        assert!(
            lines
                .iter()
                .filter(|line| line.3 < first || line.3 > last)
                .all(|line| after.contains(line))
        );
        fill(&outbox, stream, 3, 10);
        assert_eq!(short(&outbox, stream)[..8], after, "what comes later changes nothing");
        assert!(outbox.verify().unwrap().intact, "named, it is no damage any more");
        outbox.set_acked(stream, 12, secs(0)).unwrap();
        outbox.release(secs(500)).unwrap();
        assert_eq!(short(&outbox, stream).len(), 1, "and it is released like anything else");
    }
}

#[test]
fn a_lost_end_is_written_again() {
    for reason in [Reason::Closed, Reason::Crashed] {
        let (kv, outbox, stream, _) = ten();
        let end = outbox.end_stream(stream, reason, secs(0)).unwrap();
        let before = held(&outbox, stream);
        kv.flip(&keys::chunk(stream, end.seq), 3);
        assert_eq!(held(&outbox, stream), before);
        assert_eq!(outbox.tail(stream), Some(end));
    }
    let (kv, outbox, stream, _) = ten();
    let end = outbox.end_stream(stream, Reason::Closed, secs(0)).unwrap();
    kv.flip(&keys::chunk(stream, end.seq), 3);
    kv.flip(&keys::chunk(stream, end.seq - 1), 3);
    assert_eq!(short(&outbox, stream)[9], (CORRUPT.0, CORRUPT.1, 10, 11, 90, 10));
    outbox.end(stream).unwrap();
    assert_eq!(
        short(&outbox, stream)[10],
        (ChunkKind::End, Reason::Crashed, 12, 12, 100, 0),
        "lost with its neighbour: another"
    );
}

#[test]
fn a_batch_that_the_log_lost_is_a_named_hole() {
    let (kv, outbox, stream, mut expected) = ten();
    let mut batch = Batch::default();
    batch.delete(keys::chunk(stream, 6));
    batch.delete(keys::data(stream, 6));
    kv.write(batch, true).unwrap();
    expected[5] = (CORRUPT.0, CORRUPT.1, 6, 6, 50, 10);
    assert_eq!(short(&outbox, stream), expected);
}

#[test]
fn a_lost_state_is_put_together_from_the_records() {
    let (kv, outbox, stream, expected) = ten();
    outbox.set_acked(stream, 4, secs(0)).unwrap();
    outbox.release(secs(200)).unwrap();
    let tail = outbox.tail(stream);
    let held_bytes = outbox.held_bytes();
    drop(outbox);
    kv.flip(&keys::state(stream), 40);
    assert_eq!(
        Outbox::inspect(Arc::clone(&kv)).unwrap().verify().unwrap().lost_states,
        [stream.to_string()]
    );
    let outbox = open(&kv, options());
    assert_eq!(outbox.take_alarms(), [OutboxAlarm::StateRebuilt(stream)]);
    assert_eq!((outbox.tail(stream), outbox.held_bytes()), (tail, held_bytes));
    assert_eq!(short(&outbox, stream), expected[4..]);
    assert!(outbox.view(stream).unwrap().to_end);
    drop(outbox);
    let outbox = open(&kv, options());
    assert!(outbox.take_alarms().is_empty(), "once");
}

#[test]
fn a_lost_definition_costs_its_stream_alone_and_is_told() {
    let (kv, outbox, stream, expected) = ten();
    let other = definition(2, false);
    open_stream(&outbox, &other);
    fill(&outbox, other.id, 3, 10);
    drop(outbox);
    kv.flip(&keys::definition(other.id), 99);
    let outbox = open(&kv, options());
    assert_eq!(short(&outbox, other.id).len(), 3, "it is there twice");
    drop(outbox);
    kv.flip(&keys::definition_copy(other.id), 99);
    let outbox = open(&kv, options());
    assert_eq!(outbox.take_alarms(), [OutboxAlarm::DefinitionLost(other.id)]);
    assert_eq!(outbox.streams(), [stream]);
    assert_eq!(short(&outbox, stream), expected);
    assert!(
        kv.entries().iter().any(|(key, _)| key[..] == keys::chunk(other.id, 1)),
        "its chunks stay for a repair"
    );
}

#[test]
fn i4_what_lies_between_two_damages_is_kept() {
    for bad in [vec![11..=16, 19..=20], vec![1..=1, 3..=3], vec![30..=36, 38..=40]] {
        let (kv, outbox, stream) = live();
        fill(&outbox, stream.id, 40, 10);
        let bad: Vec<u64> = bad.into_iter().flatten().collect();
        bad.iter().for_each(|seq| kv.damage(&keys::chunk(stream.id, *seq)));
        let lines = short(&outbox, stream.id);
        let lost: u64 = lines
            .iter()
            .filter(|line| (line.0, line.1) == CORRUPT)
            .map(|line| line.5)
            .sum();
        assert_eq!(lost, 10 * bad.len() as u64, "{lines:?}");
        assert_eq!(lines.iter().map(|line| line.5).sum::<u64>(), 400);
    }
}

#[test]
fn a_successor_whose_definition_is_lost_leaves_the_rest_to_another() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 700, 3);
    // Announced, and one step moved.
    kv.fail_after(Some(2));
    assert!(outbox.succeed(stream.id).is_err());
    drop(outbox);
    let mut definitions = kv.entries().into_iter().map(|(key, _)| key).filter(|key| key[0] == 2);
    let lost = definitions.find(|key| key[..] != keys::definition(stream.id)).unwrap();
    kv.flip(&lost, 100);
    let lost = StreamId::from_slice(&lost[1..]).unwrap();
    kv.flip(&keys::definition_copy(lost), 100);
    let outbox = open(&kv, options());
    assert_eq!(outbox.take_alarms(), [OutboxAlarm::DefinitionLost(lost)]);
    assert_eq!(outbox.streams(), [stream.id]);
    assert_eq!(short(&outbox, stream.id).len(), 700 - 512);
    let successor = outbox.succeed(stream.id).unwrap();
    assert_eq!(short(&outbox, successor).len(), 700 - 512);
}

#[test]
fn the_identity_survives_in_its_copy() {
    let (kv, outbox, ..) = ten();
    let agent_id = outbox.agent_id();
    drop(outbox);
    kv.flip(&keys::IDENTITY, 3);
    assert_eq!(open(&kv, options()).agent_id(), agent_id);
    kv.flip(&keys::IDENTITY_COPY, 3);
    let error = Outbox::open(kv, options(), secs(0)).unwrap_err();
    assert_eq!(error, OutboxError::Broken("its identity is damaged"));
}

#[test]
fn any_flipped_bit_is_noticed_or_harmless() {
    let (kv, outbox, stream, _) = ten();
    outbox.set_acked(stream, 2, secs(0)).unwrap();
    outbox.release(secs(200)).unwrap();
    outbox.end_stream(stream, Reason::Closed, secs(0)).unwrap();
    let truth = held(&outbox, stream);
    let tail = outbox.tail(stream).unwrap();
    drop(outbox);
    for (key, value) in kv.entries() {
        for bit in (0..value.len() * 8).step_by(7) {
            let disk = Arc::new((*kv).clone());
            assert!(disk.flip(&key, bit));
            let outbox = open(&disk, options());
            assert_eq!(outbox.tail(stream), Some(tail));
            for (now, was) in held(&outbox, stream).iter().zip(&truth) {
                assert_eq!(now.chunk.digest, was.chunk.digest);
                assert!(
                    now == was || now.chunk.header.reason == Reason::Corrupt,
                    "{key:?} bit {bit}"
                );
            }
            assert_eq!(held(&outbox, stream).len(), truth.len());
        }
    }
}

#[test]
fn a_stream_that_cannot_be_released_holds_up_no_other() {
    let (kv, outbox, stream) = live();
    let other = definition(2, false);
    open_stream(&outbox, &other);
    for id in [stream.id, other.id] {
        fill(&outbox, id, 5, 10);
        outbox.set_acked(id, 5, secs(0)).unwrap();
    }
    kv.fail_after(Some(0));
    assert!(outbox.release(secs(200)).is_err(), "it is told");
    let left = |id| short(&outbox, id).len();
    assert_eq!((left(stream.id), left(other.id)), (5, 1));
    outbox.release(secs(201)).unwrap();
    assert_eq!((left(stream.id), left(other.id)), (1, 1));
}

#[test]
fn a_bad_block_at_the_front_takes_neither_the_outbox_nor_its_streams() {
    let (kv, outbox, stream, expected) = ten();
    let agent_id = outbox.agent_id();
    drop(outbox);
    for key in [
        &keys::VERSION[..],
        &keys::IDENTITY,
        &keys::definition(stream),
        &keys::state(stream),
        &keys::chunk(stream, 1),
        &keys::chunk(stream, 2),
    ] {
        kv.damage(key);
    }
    let outbox = open(&kv, options());
    assert_eq!(outbox.agent_id(), agent_id);
    assert!(!outbox.verify().unwrap().intact);
    assert_eq!(outbox.take_alarms(), [OutboxAlarm::StateRebuilt(stream)]);
    let lines = short(&outbox, stream);
    assert_eq!(
        lines[0],
        (CORRUPT.0, CORRUPT.1, 1, 2, 0, 20),
        "I13: what was in it is named"
    );
    assert_eq!(lines[1..], expected[2..]);
}

#[test]
fn an_outbox_from_before_there_were_copies_gets_them() {
    let (kv, outbox, stream, expected) = ten();
    drop(outbox);
    let mut batch = Batch::default();
    batch.delete(keys::VERSION_COPY);
    batch.delete(keys::definition_copy(stream));
    kv.write(batch, true).unwrap();
    drop(open(&kv, options()));
    kv.flip(&keys::VERSION, 3);
    kv.flip(&keys::definition(stream), 99);
    assert_eq!(short(&open(&kv, options()), stream), expected);
}
