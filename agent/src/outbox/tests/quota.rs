//! The quota, and full disks: what goes first, what waits, and what is never given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::limits::{HEADER_BYTES_MAX, MARKER_BYTES_MAX};
use wavekeep_proto::uplink::Outbox as _;
use wavekeep_proto::wire::header_to_bytes;

use super::super::kv::{Batch, Entry, Kv, KvError, Visit};
use super::super::memory::MemoryKv;
use super::super::{Options, Outbox, OutboxAlarm, StoreError, WhenFull};
use super::{definition, fill, gap, held, marker, open, open_stream, options, samples, secs, short};

fn with_quota(quota_bytes: u64, when_full: WhenFull) -> (Arc<MemoryKv>, Outbox<MemoryKv>) {
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(
        &kv,
        Options {
            quota_bytes,
            when_full,
            ..options()
        },
    );
    (kv, outbox)
}

#[test]
fn i5_the_quota_takes_acked_chunks_first_whatever_their_hold_back() {
    let (_, outbox) = with_quota(40_000, WhenFull::Evict);
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, 30, 1_000);
    outbox.set_acked(stream.id, 20, secs(0)).unwrap();
    fill(&outbox, stream.id, 10, 1_000);
    let all = short(&outbox, stream.id);
    assert!(all[0].2 > 1 && all[0].2 <= 21, "some acked ones went");
    assert!(
        all.iter().all(|line| line.0 == ChunkKind::Samples),
        "nothing was evicted"
    );
    assert_eq!(outbox.counters().evicted_samples, 0);
}

#[test]
fn i14_eviction_takes_the_oldest_across_streams_and_merges_neighbours() {
    let (_, outbox) = with_quota(60_000, WhenFull::Evict);
    let (old, new) = (definition(1, false), definition(2, false));
    open_stream(&outbox, &old);
    open_stream(&outbox, &new);
    let mut marked = samples(0, vec![1; 1_000]);
    marked.markers.push(marker(3, "first"));
    outbox.store(old.id, marked, secs(0)).unwrap();
    fill(&outbox, old.id, 9, 1_000);
    outbox
        .store(old.id, gap(10_000, 77, Reason::UsbOverrun), secs(0))
        .unwrap();
    fill(&outbox, old.id, 10, 1_000);
    let end = outbox.end_stream(old.id, Reason::Closed, secs(0)).unwrap();
    let before = held(&outbox, old.id);
    fill(&outbox, new.id, 48, 1_000);
    let after = held(&outbox, old.id);
    let shape: Vec<_> = after
        .iter()
        .map(|held| (held.chunk.header.reason, held.chunk.header.count))
        .collect();
    assert_eq!(
        shape,
        [
            (Reason::Evicted, 10_000),
            (Reason::UsbOverrun, 77),
            (Reason::Evicted, 10_000),
            (Reason::Closed, 0)
        ]
    );
    assert_eq!(after[0].chunk.header.markers, [marker(3, "first")], "markers are kept");
    assert_eq!(
        after[0].chunk.digest, before[9].chunk.digest,
        "the digest is the capture's"
    );
    assert_eq!(after[3], before[21], "an end is never touched");
    assert_eq!(outbox.tail(old.id), Some(end));
    assert!(outbox.held_bytes() <= 60_000);
    let evicted = outbox.counters().evicted_samples;
    let told: u64 = outbox
        .take_alarms()
        .iter()
        .map(|alarm| match alarm {
            OutboxAlarm::Evicted { samples, .. } => *samples,
            other => panic!("{other}"),
        })
        .sum();
    assert_eq!(evicted, told, "every evicted sample is told");
    let gone = held(&outbox, new.id)
        .iter()
        .filter(|held| held.chunk.header.reason == Reason::Evicted)
        .count();
    assert!(gone <= 1 && held(&outbox, new.id).len() > 30, "the newest stay");
    assert!(outbox.verify().unwrap().intact);
}

#[test]
fn a_source_that_may_not_evict_waits_for_acks() {
    let (_, outbox) = with_quota(20_000, WhenFull::Block);
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    let full = loop {
        let tail = outbox.tail(stream.id).unwrap();
        match outbox.store(stream.id, samples(tail.next_sample, vec![1; 1_000]), secs(0)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            full,
            StoreError::Full {
                quota_bytes: 20_000,
                ..
            }
        ),
        "{full}"
    );
    outbox.wait_for_room(std::time::Duration::ZERO);
    outbox.set_acked(stream.id, 5, secs(0)).unwrap();
    fill(&outbox, stream.id, 3, 1_000);
    assert_eq!(outbox.counters().evicted_samples, 0);
    assert!(
        outbox.end_stream(stream.id, Reason::Closed, secs(0)).is_ok(),
        "an end always fits"
    );
}

#[test]
fn a_file_is_never_evicted_and_its_replay_waits() {
    let (_, outbox) = with_quota(20_000, WhenFull::Evict);
    let (file, live) = (definition(1, true), definition(2, false));
    open_stream(&outbox, &file);
    open_stream(&outbox, &live);
    fill(&outbox, live.id, 5, 1_000);
    fill(&outbox, file.id, 8, 1_000);
    let tail = outbox.tail(file.id).unwrap().next_sample;
    let full = |result| matches!(result, Err(StoreError::Full { .. }));
    assert!(
        full(outbox.store(file.id, samples(tail, vec![1; 8_000]), secs(0))),
        "the live samples stay"
    );
    fill(&outbox, live.id, 12, 1_000);
    assert_eq!(short(&outbox, file.id).len(), 8, "all of the file is held");
    assert!(outbox.counters().evicted_samples > 0);
    let next = outbox.tail(live.id).unwrap().next_sample;
    assert!(
        full(outbox.store(live.id, samples(next, vec![1; 15_000]), secs(0))),
        "and even a live source waits for it"
    );
}

#[test]
fn i12_gaps_alone_are_merged_when_they_fill_the_quota() {
    let (kv, outbox) = with_quota(20_000, WhenFull::Evict);
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    for number in 0..2_000 {
        outbox
            .store(stream.id, gap(number * 10, 10, Reason::SourceLoss), secs(0))
            .unwrap();
        assert!(outbox.held_bytes() <= 20_000);
    }
    assert!(kv.used_bytes() < 25_000);
    let all = held(&outbox, stream.id);
    assert_eq!(
        all.iter().map(|held| held.chunk.header.count).sum::<u64>(),
        20_000,
        "I13: every sample is in a gap"
    );
    assert!(outbox.verify().unwrap().intact);
}

#[test]
fn i12_merged_markers_stay_within_a_header() {
    let (_, outbox) = with_quota(4_300_000, WhenFull::Evict);
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    for number in 0..40u64 {
        let mut chunk = samples(number * 16_384, vec![1; 16_384]);
        chunk.markers.push(marker(number * 16_384, &"x".repeat(100_000)));
        outbox.store(stream.id, chunk, secs(0)).unwrap();
    }
    for held in held(&outbox, stream.id) {
        let header = held.chunk.header;
        assert!(header.validate(&stream).is_ok());
        assert!(header_to_bytes(&header).len() <= HEADER_BYTES_MAX);
        assert!(header.markers.iter().map(|marker| marker.content.len()).sum::<usize>() <= MARKER_BYTES_MAX);
    }
    assert!(outbox.counters().evicted_samples > 0);
}

#[test]
fn a_full_disk_loses_nothing_that_was_stored() {
    let kv = Arc::new(MemoryKv::new());
    kv.set_capacity(Some(30_000));
    let outbox = open(
        &kv,
        Options {
            when_full: WhenFull::Block,
            free_bytes_min: 5_000,
            ..options()
        },
    );
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    let mut stored = 0;
    let full = loop {
        let tail = outbox.tail(stream.id).unwrap();
        match outbox.store(stream.id, samples(tail.next_sample, vec![1; 1_000]), secs(0)) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    assert!(
        stored > 10 && kv.free_bytes() >= Some(4_000),
        "room for deleting is kept"
    );
    assert_eq!(held(&outbox, stream.id).len(), stored);
    // Somebody else takes the rest.
    kv.set_capacity(Some(kv.used_bytes()));
    outbox.set_acked(stream.id, 5, secs(0)).unwrap();
    assert!(outbox.release(secs(500)).unwrap() > 0, "deleting works on a full disk");
    kv.set_capacity(None);
    fill(&outbox, stream.id, 1, 1_000);
    assert!(outbox.verify().unwrap().intact);
}

#[test]
fn on_a_full_disk_the_newest_replace_the_oldest_and_no_more_than_that() {
    let kv = Arc::new(MemoryKv::new());
    kv.set_capacity(Some(60_000));
    let outbox = open(
        &kv,
        Options {
            quota_bytes: 640_000,
            free_bytes_min: 20_000,
            ..options()
        },
    );
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, 200, 512);
    let all = held(&outbox, stream.id);
    let kept = all
        .iter()
        .filter(|held| held.chunk.header.kind == ChunkKind::Samples)
        .count();
    assert!((50..90).contains(&kept), "{kept} of about 70 that fit are kept");
    assert_eq!(
        all.iter().map(|held| held.chunk.header.count).sum::<u64>(),
        200 * 512,
        "I13: the others are a gap"
    );
}

/// A disk of this many bytes, which what is deleted occupies until it is told to give it back, as on RocksDB.
struct SlowToGiveBack {
    kv: MemoryKv,
    bytes: u64,
    occupied: AtomicU64,
    occupied_max: AtomicU64,
}

impl Kv for SlowToGiveBack {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.kv.get(key)
    }
    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), KvError> {
        self.kv.scan(from, end, visit)
    }
    fn last(&self, from: &[u8], end: &[u8]) -> Result<Option<Entry>, KvError> {
        self.kv.last(from, end)
    }
    fn write(&self, batch: Batch, sync: bool) -> Result<(), KvError> {
        let occupied = self.occupied.fetch_add(batch.put_bytes(), Ordering::Relaxed) + batch.put_bytes();
        self.occupied_max.fetch_max(occupied, Ordering::Relaxed);
        self.kv.write(batch, sync)
    }
    fn sync(&self) -> Result<(), KvError> {
        self.kv.sync()
    }
    fn reclaim(&self, from: &[u8], to: &[u8]) -> Result<(), KvError> {
        self.kv.reclaim(from, to)?;
        self.occupied.store(self.kv.used_bytes(), Ordering::Relaxed);
        Ok(())
    }
    fn free_bytes(&self) -> Option<u64> {
        Some(self.bytes.saturating_sub(self.occupied.load(Ordering::Relaxed)))
    }
    fn used_bytes(&self) -> u64 {
        self.occupied.load(Ordering::Relaxed)
    }
}

#[test]
fn a_disk_that_gives_room_back_late_costs_no_more_samples_than_fit() {
    const MIB: u64 = 1024 * 1024;
    let kv = Arc::new(SlowToGiveBack {
        kv: MemoryKv::new(),
        bytes: 100 * MIB,
        occupied: AtomicU64::new(0),
        occupied_max: AtomicU64::new(0),
    });
    let outbox = open(
        &kv,
        Options {
            free_bytes_min: 40 * MIB,
            ..options()
        },
    );
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    for second in 0..30 {
        fill(&outbox, stream.id, 100, 65_536);
        outbox.release(secs(second)).unwrap();
    }
    assert!(
        outbox.counters().evicted_samples > 100 * MIB,
        "it was filled several times"
    );
    let held = outbox.held_bytes();
    assert!(
        (50 * MIB..=60 * MIB).contains(&held),
        "{held} bytes are kept of the 60 MiB that may be used"
    );
    let occupied = kv.occupied_max.load(Ordering::Relaxed);
    assert!(
        occupied <= 80 * MIB,
        "half of what is kept free stays free, not {occupied}"
    );
    assert!(outbox.verify().unwrap().intact);
}
