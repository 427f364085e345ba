//! What each step promises, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wavekeep_proto::chunk::{ChunkKind, Position, Reason};
use wavekeep_proto::id::{LedgerId, StreamId};
use wavekeep_proto::uplink::Outbox as _;

use super::super::kv::{Batch, Kv, Operation};
use super::super::memory::MemoryKv;
use super::super::record::{FORMAT_VERSION, version_to_value};
use super::super::{Durability, Options, Outbox, OutboxError, StoreError, keys};
use super::{definition, fill, gap, held, live, marker, open, open_stream, options, samples, secs, short};

const SAMPLES: ChunkKind = ChunkKind::Samples;

#[test]
fn i4_stored_chunks_tile_and_chain() {
    let (_, outbox, stream) = live();
    fill(&outbox, stream.id, 2, 10);
    outbox
        .store(stream.id, gap(20, 5, Reason::UsbOverrun), secs(1))
        .unwrap();
    let end = outbox.end_stream(stream.id, Reason::Closed, secs(1)).unwrap();
    assert_eq!(
        short(&outbox, stream.id),
        [
            (SAMPLES, Reason::None, 1, 1, 0, 10),
            (SAMPLES, Reason::None, 2, 2, 10, 10),
            (ChunkKind::Gap, Reason::UsbOverrun, 3, 3, 20, 5),
            (ChunkKind::End, Reason::Closed, 4, 4, 25, 0),
        ]
    );
    let chain = held(&outbox, stream.id);
    assert!(
        chain
            .windows(2)
            .all(|pair| pair[0].chunk.digest == pair[1].digest_before)
    );
    assert_eq!(chain[0].digest_before, Position::start(&stream).digest);
    assert_eq!((end.seq, end.ended, end.digest), (4, true, chain[3].chunk.digest));
    assert_eq!(
        outbox.store(stream.id, gap(25, 1, Reason::UsbOverrun), secs(1)),
        Err(StoreError::Ended)
    );
}

#[test]
#[should_panic(expected = "I4: a chunk starts where the one before it ended")]
fn i4_a_hole_in_the_axis_is_the_sources_mistake() {
    let (_, outbox, stream) = live();
    fill(&outbox, stream.id, 1, 10);
    let _ = outbox.store(stream.id, samples(11, vec![1]), secs(0));
}

#[test]
#[should_panic(expected = "I4: a source built a chunk that no stream can have")]
fn i4_columns_of_other_signals_are_the_sources_mistake() {
    let (_, outbox, stream) = live();
    let mut chunk = samples(0, vec![1]);
    chunk.columns[0].signal = 7;
    let _ = outbox.store(stream.id, chunk, secs(0));
}

#[test]
#[should_panic(expected = "I11: a live stream's id is minted once")]
fn i11_a_live_stream_is_opened_once() {
    let (_, outbox, stream) = live();
    open_stream(&outbox, &stream);
}

#[test]
fn i5_release_waits_for_the_ack_and_the_hold_back() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 4, 10);
    assert_eq!(outbox.release(secs(1_000)), Ok(0), "nothing is acked");
    outbox.set_acked(stream.id, 3, secs(1_000)).unwrap();
    assert_eq!(outbox.release(secs(1_099)), Ok(0), "held back");
    assert!(outbox.release(secs(1_100)).unwrap() > 0);
    assert_eq!(held(&outbox, stream.id).len(), 1, "1 to 3 are released");
    outbox.set_acked(stream.id, 4, secs(1_100)).unwrap();
    assert_eq!(
        outbox.release(secs(2_000)),
        Ok(0),
        "the last record of a stream that goes on stays"
    );
    let end = outbox.end_stream(stream.id, Reason::Closed, secs(2_000)).unwrap();
    outbox.set_acked(stream.id, end.seq, secs(2_000)).unwrap();
    outbox.release(secs(2_099)).unwrap();
    assert_eq!(held(&outbox, stream.id).len(), 1, "only the end is left");
    let revision = outbox.revision();
    outbox.release(secs(2_100)).unwrap();
    assert!(outbox.streams().is_empty() && outbox.view(stream.id).is_none());
    assert_ne!(outbox.revision(), revision);
    assert_eq!(
        kv.entries().len(),
        4,
        "twice the version and the identity are all that is left"
    );
    assert_eq!(outbox.held_bytes(), 0);
}

#[test]
fn i5_held_back_bytes_have_a_limit() {
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(
        &kv,
        Options {
            hold_back_bytes: 5_000,
            ..options()
        },
    );
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, 20, 1_000);
    outbox.set_acked(stream.id, 15, secs(0)).unwrap();
    outbox.release(secs(1)).unwrap();
    let first = held(&outbox, stream.id)[0].chunk.header.seq;
    assert!(
        (12..=16).contains(&first),
        "about 5,000 of 15,000 acked bytes stay, from {first} on"
    );
}

#[test]
fn an_outbox_is_bound_once_and_rebound_by_a_person() {
    let (kv, outbox, _) = live();
    let (ours, other) = (LedgerId([1; 16]), LedgerId([2; 16]));
    outbox.bind(ours).unwrap();
    outbox.bind(ours).unwrap();
    assert_eq!(outbox.bind(other), Err(OutboxError::Bound));
    outbox.meet_generation(3).unwrap();
    let agent_id = outbox.agent_id();
    drop(outbox);
    kv.power_cut(0);
    let outbox = open(&kv, options());
    assert_eq!((outbox.agent_id(), outbox.ledger_id()), (agent_id, Some(ours)));
    assert_eq!(outbox.generation(), 3);
    outbox.rebind().unwrap();
    outbox.bind(other).unwrap();
    assert_eq!((outbox.ledger_id(), outbox.generation()), (Some(other), 0));
}

#[test]
fn a_cloned_disk_is_the_same_agent() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 3, 10);
    let clone = open(&Arc::new((*kv).clone()), options());
    assert_eq!(
        (clone.agent_id(), clone.streams()),
        (outbox.agent_id(), outbox.streams())
    );
    assert_eq!(held(&clone, stream.id), held(&outbox, stream.id));
    fill(&outbox, stream.id, 1, 10);
    assert_eq!(clone.tail(stream.id).map(|tail| tail.seq), Some(3), "nothing is shared");
}

#[test]
fn a_newer_format_is_refused_in_one_sentence() {
    let (kv, outbox, _) = live();
    drop(outbox);
    let mut batch = Batch::default();
    batch.put(keys::VERSION, version_to_value(&keys::VERSION, FORMAT_VERSION + 1));
    kv.write(batch, true).unwrap();
    let error = Outbox::open(kv, options(), secs(0)).unwrap_err();
    assert_eq!(
        error,
        OutboxError::Newer {
            found: FORMAT_VERSION + 1,
            known: FORMAT_VERSION
        }
    );
    assert!(error.to_string().contains("use the newer program"));
}

#[test]
fn a_failed_write_changes_nothing() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 1, 10);
    let before = (outbox.tail(stream.id), outbox.held_bytes(), kv.entries());
    kv.fail_after(Some(0));
    assert!(matches!(
        outbox.store(stream.id, samples(10, vec![1]), secs(0)),
        Err(StoreError::Outbox(_))
    ));
    assert_eq!((outbox.tail(stream.id), outbox.held_bytes(), kv.entries()), before);
    fill(&outbox, stream.id, 1, 10);
}

#[test]
fn durability_says_when_the_disk_is_synced() {
    for (durability, while_open) in [(Durability::EachChunk, 0), (Durability::Never, 3)] {
        let kv = Arc::new(MemoryKv::new());
        let outbox = open(
            &kv,
            Options {
                durability,
                ..options()
            },
        );
        let stream = definition(1, false);
        open_stream(&outbox, &stream);
        fill(&outbox, stream.id, 3, 10);
        assert_eq!(kv.unsynced_batches(), while_open, "{durability:?}");
    }
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(
        &kv,
        Options {
            durability: Durability::Interval(secs(3_600)),
            ..options()
        },
    );
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, 3, 10);
    drop(outbox);
    assert_eq!(kv.unsynced_batches(), 0, "the thread syncs before it ends");
}

#[test]
fn what_is_released_does_not_come_back() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 10, 10);
    let old = kv.entries();
    outbox.set_acked(stream.id, 8, secs(0)).unwrap();
    outbox.release(secs(200)).unwrap();
    let before = held(&outbox, stream.id);
    drop(outbox);
    // As after deleting whole files of a sorted store: chunks and columns reappear, and the stored base decides.
    let mut batch = Batch::default();
    let gone = |key: &[u8]| matches!(key[0], 4 | 5) && key < &keys::chunk(stream.id, 9)[..] || key[0] == 5;
    batch.operations = old
        .into_iter()
        .filter(|(key, _)| gone(key))
        .map(|(key, value)| Operation::Put(key, value))
        .collect();
    kv.write(batch, true).unwrap();
    let outbox = open(&kv, options());
    assert_eq!(held(&outbox, stream.id), before);
    assert!(outbox.verify().unwrap().intact);
    assert_eq!(outbox.position_at(stream.id, 3).unwrap(), None);
}

#[test]
fn room_is_given_back_only_after_the_base_is_synced_and_never_beyond_it() {
    let (kv, outbox, stream) = live();
    fill(&outbox, stream.id, 1_100, 65_536);
    outbox.set_acked(stream.id, 1_090, secs(0)).unwrap();
    outbox.sync().unwrap();
    outbox.release(secs(200)).unwrap();
    drop(outbox);
    kv.power_cut(0);
    let outbox = open(&kv, options());
    let held = held(&outbox, stream.id);
    assert_eq!(
        (held[0].chunk.header.seq, held.len()),
        (1_091, 10),
        "released, and that is on the disk"
    );
    assert!(
        held.iter().all(|held| held.chunk.header.kind == SAMPLES),
        "1,091 is whole"
    );
    assert!(kv.used_bytes() < 11 * 66_000);
}

#[test]
fn a_files_stream_that_starts_anew_is_not_reclaimed() {
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(
        &kv,
        Options {
            hold_back: secs(1),
            ..options()
        },
    );
    let file = definition(1, true);
    open_stream(&outbox, &file);
    fill(&outbox, file.id, 3, 10);
    let end = outbox.end_stream(file.id, Reason::Closed, secs(0)).unwrap();
    outbox.set_acked(file.id, end.seq, secs(0)).unwrap();
    // Too soon for giving room back: that is planned.
    outbox.release(secs(2)).unwrap();
    assert!(outbox.tail(file.id).is_none(), "done and forgotten");
    open_stream(&outbox, &file);
    fill(&outbox, file.id, 3, 10);
    outbox.release(secs(500)).unwrap();
    assert!(
        held(&outbox, file.id)
            .iter()
            .all(|held| held.chunk.header.kind == SAMPLES),
        "its columns are there"
    );
    assert_eq!(held(&outbox, file.id).len(), 3);
}

#[test]
fn i4_sources_store_while_the_uplink_reads_and_the_quota_presses() {
    const CHUNKS: u64 = 3_000;
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(
        &kv,
        Options {
            quota_bytes: 30_000,
            hold_back: secs(1),
            ..options()
        },
    );
    let streams = [definition(1, false), definition(2, false)];
    for stream in &streams {
        open_stream(&outbox, stream);
    }
    std::thread::scope(|scope| {
        for stream in &streams {
            let outbox = &outbox;
            scope.spawn(move || fill(outbox, stream.id, CHUNKS, 16));
        }
        let mut at = [(0, 0); 2];
        let mut now = 0;
        while at.iter().any(|(seq, _)| *seq < CHUNKS) {
            for (stream, (seq, sample)) in streams.iter().zip(&mut at) {
                let Some(held) = outbox.next(stream.id, *seq).unwrap() else {
                    continue;
                };
                let header = held.chunk.header;
                assert_ne!(
                    header.reason,
                    Reason::Corrupt,
                    "what changes under a reader is not damaged"
                );
                assert!(
                    header.first_seq == *seq + 1 && header.first_sample == *sample || header.first_seq <= *seq,
                    "I4"
                );
                (*seq, *sample) = (header.seq, header.end_sample());
                if header.seq % 3 == 0 {
                    outbox.set_acked(stream.id, header.seq, secs(now)).unwrap();
                }
            }
            now += 1;
            outbox.release(secs(now)).unwrap();
        }
        assert!(at.iter().all(|(_, sample)| *sample == CHUNKS * 16), "I13");
    });
    assert!(outbox.verify().unwrap().intact);
}

#[test]
fn changes_are_announced() {
    let (_, outbox, stream) = live();
    let told = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&told);
    outbox.set_on_change(Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let mut last = 0;
    let mut told_again = |what: &str| {
        let now = told.load(Ordering::Relaxed);
        assert!(now > last, "{what}");
        last = now;
    };
    fill(&outbox, stream.id, 1, 10);
    told_again("store");
    open_stream(&outbox, &definition(2, false));
    told_again("open");
    outbox.end_stream(stream.id, Reason::Closed, secs(0)).unwrap();
    told_again("end");
    outbox.succeed(stream.id).unwrap();
    told_again("succeed");
}

#[test]
fn status_and_verify_say_what_is_held() {
    let (kv, outbox, stream) = live();
    let mut chunk = samples(0, vec![7; 100]);
    chunk.markers.push(marker(5, "here"));
    outbox.store(stream.id, chunk, secs(0)).unwrap();
    outbox
        .store(stream.id, gap(100, 50, Reason::Unplugged), secs(0))
        .unwrap();
    outbox.set_acked(stream.id, 1, secs(0)).unwrap();
    let status = outbox.status().unwrap();
    assert_eq!(status.agent_id, outbox.agent_id().to_string());
    let line = &status.streams[0];
    assert_eq!(
        (line.acked_seq, line.stored_seq, line.next_sample, line.released_seq),
        (1, 2, 150, 0)
    );
    assert_eq!(line.oldest_unacked_utc_ns, Some(1_700_000_000_100_000_000));
    assert!(line.unacked_bytes > 0 && line.unacked_bytes < line.held_bytes);
    drop(outbox);
    let before = kv.entries();
    let verified = Outbox::inspect(Arc::clone(&kv)).unwrap().verify().unwrap();
    assert_eq!(kv.entries(), before, "looking changes nothing");
    assert!(verified.intact);
    let line = &verified.streams[0];
    assert_eq!(
        (line.samples, line.samples_chunks, line.gap_samples, line.column_bytes),
        (100, 1, 50, 100)
    );
    assert_eq!(
        line.gap_samples_by_reason,
        BTreeMap::from([("unplugged".to_string(), 50)])
    );
}

#[test]
fn an_empty_store_is_no_outbox_to_look_at() {
    let error = Outbox::inspect(Arc::new(MemoryKv::new())).unwrap_err();
    assert_eq!(error, OutboxError::Broken("it is empty"));
    let (_, outbox, _) = live();
    assert!(outbox.view(StreamId([99; 16])).is_none());
    assert_eq!(outbox.next(StreamId([99; 16]), 0), Ok(None));
    assert_eq!(
        outbox.succeed(StreamId([99; 16])),
        Err(OutboxError::UnknownStream(StreamId([99; 16])))
    );
}
