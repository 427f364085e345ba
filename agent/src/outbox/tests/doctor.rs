//! The doctor: each file of a store damaged in each way, then looked at, carried elsewhere, repaired, and opened by an agent. What was
//! intact is there, bit by bit; what was not is a named gap; nothing panics, and looking changes not a byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::{Held, Outbox as _};

use super::super::carry::CarryError;
use super::super::chunk_file::{ChunkFile, ChunkFileError};
use super::super::kv::Kv;
use super::super::memory::MemoryKv;
use super::super::rocks::{self, RocksKv};
use super::super::{Options, Outbox, OutboxAlarm, OutboxError, keys};
use super::on_rocks::{check, copy, files, flushed, open, stored};
use super::{definition, fill, held, live, marker, open_stream, options, samples, secs, short};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Cut,
    Emptied,
    Flipped,
    Deleted,
}

const ALL: [Damage; 4] = [Damage::Cut, Damage::Emptied, Damage::Flipped, Damage::Deleted];

fn damage(path: &Path, damage: Damage, seed: usize) {
    let mut bytes = fs::read(path).unwrap();
    match damage {
        Damage::Cut => bytes.truncate(bytes.len() / 2 + seed % (bytes.len() / 4 + 1)),
        Damage::Emptied => bytes.clear(),
        Damage::Flipped if bytes.is_empty() => {}
        Damage::Flipped => {
            let at = seed % bytes.len();
            bytes[at] ^= 1 << (seed % 8);
        }
        Damage::Deleted => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

/// Every file under it, with its bytes.
fn all_bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(all_bytes(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

/// A stream: some of it in sorted files and blob files, the rest in the log.
fn half_flushed() -> (TempDir, StreamId, Vec<Held>) {
    let (dir, ..) = flushed(30, 8_192);
    let kv = RocksKv::open(dir.path()).unwrap();
    let outbox = Outbox::open(std::sync::Arc::new(kv), options(), secs(0)).unwrap().0;
    let second = definition(2, false);
    open_stream(&outbox, &second);
    fill(&outbox, second.id, 32, 512);
    outbox.kv().reclaim(&keys::ALL_FROM, &keys::ALL_END).unwrap();
    fill(&outbox, second.id, 32, 4_096);
    let truth = held(&outbox, second.id);
    (dir, second.id, truth)
}

/// What a reader of `shown` sees is what was captured, or a gap that says otherwise; it tiles from `first` on. Answers the samples
/// in gaps, and where it ends.
fn tiles(shown: &[Held], truth: &[Held]) -> (u64, u64) {
    let (mut sample, mut gaps) = (truth[0].chunk.header.first_sample, 0);
    for now in shown {
        let header = &now.chunk.header;
        assert_eq!(header.first_sample, sample, "I4: it tiles");
        sample = header.end_sample();
        if header.kind == ChunkKind::Gap {
            assert_eq!(header.reason, Reason::Corrupt);
            gaps += header.count;
            continue;
        }
        let was = truth.iter().find(|was| was.chunk.header.seq == header.seq);
        assert_eq!(Some(now), was, "bit by bit, with its digests");
    }
    (gaps, sample)
}

/// Carries all streams to a fresh outbox in memory.
fn carried(from: &Outbox<RocksKv>) -> Outbox<MemoryKv> {
    let to = super::open(&std::sync::Arc::new(MemoryKv::new()), options());
    for (stream, _) in from.held_streams() {
        let mut file = Vec::new();
        from.carry_out(stream, false, &mut file).unwrap();
        to.carry_in(ChunkFile::open(&file[..]).unwrap()).unwrap();
    }
    to
}

fn real_options() -> Options {
    Options {
        random: Options::default().random,
        ..options()
    }
}

/// Everything that people do with a damaged outbox. Answers whether anything was noticed, and the samples of `stream` in gaps.
fn treat(dir: &Path, stream: StreamId, truth: &[Held], what: &str) -> (bool, u64) {
    let before = all_bytes(dir);
    let store = rocks::store_of(dir);
    let looked = rocks::look(&store);
    let noticed;
    let mut exported = None;
    match &looked {
        Ok(looked) => {
            noticed = looked.damage.is_some() || !looked.outbox.verify().unwrap().intact;
            let outbox = carried(&looked.outbox);
            if outbox.tail(stream).is_some() {
                exported = Some(tiles(&held(&outbox, stream), truth));
            }
        }
        Err(error) => {
            noticed = true;
            assert!(
                matches!(error, OutboxError::Kv(_) | OutboxError::Broken(_)),
                "{what}: {error}"
            );
        }
    }
    drop(looked);
    assert!(all_bytes(dir) == before, "{what}: looking changes nothing");

    // An agent starts on it, with what it has, or without.
    let started = TempDir::new().unwrap();
    copy(dir, started.path());
    let agent = rocks::open(started.path(), real_options(), secs(0))
        .unwrap_or_else(|error| panic!("{what}: {error}"))
        .0;
    let alarms = agent.take_alarms();
    let set_aside = alarms.iter().any(|alarm| matches!(alarm, OutboxAlarm::SetAside { .. }));
    if agent.tail(stream).is_some() {
        check(&agent, stream, truth);
    }
    open_stream(&agent, &definition(9, false));
    fill(&agent, definition(9, false).id, 3, 100);
    drop(agent);
    // What it set aside comes back.
    if set_aside {
        let report = rocks::repair(started.path(), real_options()).unwrap();
        let agent = open(started.path());
        assert!(agent.verify().unwrap().intact, "{what}");
        assert_eq!(
            held(&agent, definition(9, false).id).len(),
            3,
            "{what}: captures went on"
        );
        if let Some(exported) = exported {
            assert_eq!(tiles(&held(&agent, stream), truth), exported, "{what}: {report:?}");
        }
    }

    let repaired = rocks::repair(dir, real_options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(!rocks::is_repair_due(dir).unwrap(), "{what}: {repaired:?}");
    assert_eq!(!repaired.kept.is_empty(), noticed, "{what}: what is damaged is kept");
    let outbox = open(dir);
    assert!(outbox.verify().unwrap().intact, "{what}");
    let mut gaps = 0;
    if let Some(exported) = exported {
        assert_eq!(tiles(&held(&outbox, stream), truth), exported, "{what}");
        gaps = exported.0;
    }
    (noticed, gaps)
}

#[test]
fn i4_i13_whichever_file_is_damaged_in_whichever_way_what_is_intact_comes_back() {
    let (dir, stream, truth) = half_flushed();
    let names: Vec<PathBuf> = fs::read_dir(dir.path().join("store"))
        .unwrap()
        .map(|entry| PathBuf::from(entry.unwrap().file_name()))
        .collect();
    let (mut noticed, mut whole) = (0, 0);
    for name in &names {
        for (seed, how) in ALL.into_iter().enumerate() {
            let damaged = TempDir::new().unwrap();
            copy(dir.path(), damaged.path());
            damage(&damaged.path().join("store").join(name), how, 4_711 + 977 * seed);
            let (found, gaps) = treat(damaged.path(), stream, &truth, &format!("{} {how:?}", name.display()));
            noticed += usize::from(found);
            whole += usize::from(found && gaps == 0);
        }
    }
    assert!(
        noticed >= 12 && whole >= 8,
        "{noticed} of {} noticed, {whole} without loss",
        4 * names.len()
    );
}

#[test]
fn i13_without_manifest_and_current_nothing_is_lost() {
    for lost in [
        ["MANIFEST"].as_slice(),
        &["CURRENT"],
        &["MANIFEST", "CURRENT", "OPTIONS", "IDENTITY"],
    ] {
        for with_log in [true, false] {
            let (dir, stream, truth) = half_flushed();
            for (path, _) in files(dir.path(), "") {
                let name = path.file_name().unwrap().to_str().unwrap();
                if lost.iter().any(|lost| name.starts_with(lost)) || !with_log && name.ends_with(".log") {
                    fs::remove_file(path).unwrap();
                }
            }
            let (noticed, gaps) = treat(dir.path(), stream, &truth, &format!("{lost:?}, log {with_log}"));
            assert!(noticed && gaps == 0, "{lost:?}: {gaps} samples are lost");
            let outbox = open(dir.path());
            assert_eq!(held(&outbox, definition(1, false).id).len(), 30, "{lost:?}");
            if with_log {
                assert_eq!(held(&outbox, stream), truth, "{lost:?}");
            }
        }
    }
}

#[test]
fn a_manifest_that_forgot_its_newest_files_is_noticed_before_they_are_deleted() {
    let (dir, stream, truth) = half_flushed();
    let before = TempDir::new().unwrap();
    copy(dir.path(), before.path());
    // All goes into files that only a newer MANIFEST names; then the disk brings the old one back, and the log is gone.
    let outbox = open(dir.path());
    let later = definition(3, false);
    open_stream(&outbox, &later);
    fill(&outbox, later.id, 20, 4_096);
    outbox.kv().reclaim(&keys::ALL_FROM, &keys::ALL_END).unwrap();
    let later_truth = held(&outbox, later.id);
    drop(outbox);
    for (path, _) in files(dir.path(), "") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("MANIFEST") || name == "CURRENT" || name.ends_with(".log") {
            fs::remove_file(path).unwrap();
        }
    }
    for (path, bytes) in files(before.path(), "") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("MANIFEST") || name == "CURRENT" {
            fs::write(dir.path().join("store").join(name), bytes).unwrap();
        }
    }
    let (noticed, gaps) = treat(dir.path(), stream, &truth, "an old MANIFEST");
    assert!(noticed && gaps == 0, "{gaps}");
    assert_eq!(held(&open(dir.path()), later.id), later_truth);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn i4_i13_bits_that_flip_anywhere_lose_what_they_hit_by_name(seeds in proptest::collection::vec(any::<usize>(), 1..5)) {
        let (dir, stream, truth) = half_flushed();
        for seed in &seeds {
            let all = files(dir.path(), "");
            let (path, _) = &all[seed % all.len()];
            damage(path, Damage::Flipped, seed / 7);
        }
        treat(dir.path(), stream, &truth, &format!("{seeds:?}"));
    }

    #[test]
    fn a_chunk_file_that_was_changed_is_refused_as_a_whole(at in any::<usize>(), bit in 0..8, cut in any::<bool>()) {
        let (_, outbox, stream) = live();
        fill(&outbox, stream.id, 20, 300);
        let mut file = Vec::new();
        outbox.carry_out(stream.id, false, &mut file).unwrap();
        let at = at % file.len();
        if cut { file.truncate(at) } else { file[at] ^= 1u8 << bit }
        let to = super::open(&std::sync::Arc::new(MemoryKv::new()), options());
        let result = ChunkFile::open(&file[..]).map_err(CarryError::from).and_then(|file| to.carry_in(file));
        prop_assert!(matches!(result, Err(CarryError::File(ChunkFileError::Damaged | ChunkFileError::Other))), "{result:?}");
        prop_assert!(to.held_streams().is_empty() && to.held_bytes() == 0);
    }
}

#[test]
fn i14_what_is_carried_is_what_was_held_and_can_be_carried_again() {
    let (_, outbox, stream) = live();
    fill(&outbox, stream.id, 5, 100);
    let mut chunk = samples(500, vec![9; 100]);
    chunk.markers.push(marker(501, "kept"));
    outbox.store(stream.id, chunk, secs(0)).unwrap();
    outbox
        .store(stream.id, super::gap(600, 50, Reason::SourceLoss), secs(0))
        .unwrap();
    fill(&outbox, stream.id, 5, 100);
    outbox.set_acked(stream.id, 3, secs(0)).unwrap();
    let truth = held(&outbox, stream.id);
    let mut file = Vec::new();
    let out = outbox.carry_out(stream.id, false, &mut file).unwrap();
    assert_eq!(
        (out.verified.samples, out.gaps.len(), out.gaps[0].reason),
        (1_100, 1, "source_loss")
    );
    let kv = std::sync::Arc::new(MemoryKv::new());
    let to = super::open(&kv, options());
    let carried = to.carry_in(ChunkFile::open(&file[..]).unwrap()).unwrap();
    assert_eq!((carried.known, carried.records, carried.samples), (false, 12, 1_100));
    assert_eq!(held(&to, stream.id), truth);
    assert!(to.carry_in(ChunkFile::open(&file[..]).unwrap()).unwrap().known);
    // Its source is gone, so it ends, once; as it would have where it came from.
    drop(to);
    let to = super::open(&kv, options());
    to.end(stream.id).unwrap();
    outbox.mark_to_end(stream.id, Reason::Crashed).unwrap();
    outbox.end(stream.id).unwrap();
    assert_eq!(to.tail(stream.id), outbox.tail(stream.id), "the same digest");

    let mut rest = Vec::new();
    let out = outbox.carry_out(stream.id, true, &mut rest).unwrap();
    assert_eq!((out.verified.samples, rest.len() < file.len()), (800, true));
    let to = super::open(&std::sync::Arc::new(MemoryKv::new()), options());
    to.carry_in(ChunkFile::open(&rest[..]).unwrap()).unwrap();
    assert_eq!(short(&to, stream.id), short(&outbox, stream.id)[3..]);
    assert!(matches!(
        to.carry_in(ChunkFile::open(&file[..]).unwrap()),
        Err(CarryError::OtherPart(id)) if id == stream.id
    ));
}

#[test]
fn a_log_that_is_gone_is_told() {
    let (dir, ..) = stored(20, 700);
    for (path, _) in files(dir.path(), ".log") {
        fs::remove_file(path).unwrap();
    }
    assert!(rocks::look(&rocks::store_of(dir.path())).is_err(), "all was in it");
    let (dir, stream, truth) = half_flushed();
    for (path, _) in files(dir.path(), ".log") {
        fs::remove_file(path).unwrap();
    }
    let looked = rocks::look(&rocks::store_of(dir.path())).unwrap();
    assert!(looked.damage.is_some());
    drop(looked);
    let outbox = open(dir.path());
    assert_eq!(outbox.take_alarms(), [OutboxAlarm::LogLost]);
    assert_eq!(held(&outbox, stream), truth[..32]);
}
