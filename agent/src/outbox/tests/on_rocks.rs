//! The outbox on RocksDB: its files torn, flipped, lost, locked; and a million chunks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use wavekeep_proto::chunk::{ChunkKind, Position, Reason};
use wavekeep_proto::hash::{chunk_hash, next_digest};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::{Held, Outbox as _};

use super::super::kv::{Batch, Kv};
use super::super::record::{Acked, FORMAT_VERSION, Mark, Record, State, data_hash, version_to_value};
use super::super::rocks::{self, RocksKv};
use super::super::{Durability, Options, Outbox, OutboxAlarm, OutboxError, keys};
use super::{definition, fill, gap, held, open_stream, options, secs, short};

/// Set for the process that measures its memory.
const CHILD: &str = "WAVEKEEP_TEST_OUTBOX_DIR";

pub(super) fn open(dir: &Path) -> Outbox<RocksKv> {
    rocks::open(dir, options(), secs(0)).expect("the store opens").0
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "ballast" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The store's files that end like this, with their bytes.
pub(super) fn files(dir: &Path, suffix: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

/// A stream in a store that is closed: `chunks` of `count` bytes each, all different.
pub(super) fn stored(chunks: u64, count: usize) -> (TempDir, StreamId, Vec<Held>) {
    let dir = TempDir::new().unwrap();
    let outbox = open(dir.path());
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, chunks, count);
    let truth = held(&outbox, stream.id);
    assert_eq!(truth.len() as u64, chunks);
    (dir, stream.id, truth)
}

/// What is shown is what was stored, or a gap that says otherwise, and it tiles. Answers how many records are gaps.
pub(super) fn check(outbox: &Outbox<RocksKv>, stream: StreamId, truth: &[Held]) -> usize {
    let shown = held(outbox, stream);
    let tail = outbox.tail(stream).expect("the stream is there");
    let (mut seq, mut sample) = (0, 0);
    let mut gaps = 0;
    for now in &shown {
        let header = &now.chunk.header;
        assert_eq!(
            (header.first_seq, header.first_sample),
            (seq + 1, sample),
            "I4: it tiles"
        );
        (seq, sample) = (header.seq, header.end_sample());
        let was = &truth[usize::try_from(header.seq - 1).unwrap()];
        assert_eq!(now.chunk.digest, was.chunk.digest, "I14");
        if header.kind == ChunkKind::Gap {
            assert_eq!(header.reason, Reason::Corrupt);
            gaps += 1;
        } else {
            assert_eq!(now, was);
        }
    }
    assert_eq!((seq, sample), (tail.seq, tail.next_sample), "I13: up to the tail");
    gaps
}

#[test]
fn the_stores_own_logs_do_not_fill_the_disk() {
    let dir = TempDir::new().unwrap();
    for _ in 0..10 {
        drop(open(dir.path()));
    }
    let names = fs::read_dir(dir.path().join("store")).unwrap();
    let logs = names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("LOG"));
    assert!(logs.count() <= 2, "one that is written, one before it");
}

#[test]
fn what_is_stored_is_there_after_reopening() {
    let (dir, stream, truth) = stored(100, 4_096);
    let outbox = open(dir.path());
    assert_eq!(held(&outbox, stream), truth);
    assert!(outbox.view(stream).unwrap().to_end);
    outbox.set_acked(stream, 60, secs(0)).unwrap();
    outbox.release(secs(500)).unwrap();
    outbox.end(stream).unwrap();
    drop(outbox);
    let outbox = open(dir.path());
    assert_eq!(held(&outbox, stream)[..40], truth[60..]);
    assert_eq!(short(&outbox, stream)[40].0, ChunkKind::End);
    assert!(outbox.verify().unwrap().intact);
}

#[test]
fn eviction_and_succession_run_on_rocksdb_too() {
    let dir = TempDir::new().unwrap();
    let outbox = rocks::open(
        dir.path(),
        Options {
            quota_bytes: 300_000,
            ..options()
        },
        secs(0),
    )
    .unwrap()
    .0;
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, 100, 8_192);
    let lines = short(&outbox, stream.id);
    assert_eq!((lines[0].1, lines[0].2), (Reason::Evicted, 1));
    assert!(lines.len() > 20 && lines[1..].iter().all(|line| line.0 == ChunkKind::Samples));
    let successor = outbox.succeed(stream.id).unwrap();
    drop(outbox);
    let outbox = open(dir.path());
    assert_eq!(outbox.streams(), [successor]);
    assert_eq!(short(&outbox, successor).len(), lines.len());
    assert!(outbox.verify().unwrap().intact);
}

#[test]
fn a_second_agent_is_told_in_one_sentence() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path());
    let error = rocks::open(dir.path(), options(), secs(0)).unwrap_err();
    assert_eq!(error, OutboxError::InUse);
    assert_eq!(error.to_string().lines().count(), 1);
    drop(first);
    open(dir.path());
}

#[test]
fn a_newer_format_stays_where_it_is() {
    let (dir, stream, _) = stored(3, 10);
    let kv = RocksKv::open(dir.path()).unwrap();
    let mut batch = Batch::default();
    batch.put(keys::VERSION, version_to_value(&keys::VERSION, FORMAT_VERSION + 1));
    kv.write(batch, true).unwrap();
    drop(kv);
    let error = rocks::open(dir.path(), options(), secs(0)).unwrap_err();
    assert_eq!(
        error,
        OutboxError::Newer {
            found: FORMAT_VERSION + 1,
            known: FORMAT_VERSION
        }
    );
    let kv = RocksKv::open(dir.path()).unwrap();
    assert!(
        kv.get(&keys::chunk(stream, 3)).unwrap().is_some(),
        "nothing was touched"
    );
}

#[test]
fn a_torn_log_loses_its_tail_and_opens() {
    let (dir, stream, truth) = stored(40, 700);
    let logs = files(dir.path(), ".log");
    let (log, bytes) = logs.last().expect("there is a log");
    let mut tails = BTreeSet::new();
    // Dense at the end, where a power cut tears; then all over.
    let end = bytes.len();
    let offsets = (0..200)
        .chain((200..end).step_by(997))
        .map(|back| end.saturating_sub(back));
    for offset in offsets.filter(|offset| *offset > 2_000) {
        let torn = TempDir::new().unwrap();
        copy(dir.path(), torn.path());
        let name = log.file_name().unwrap();
        fs::write(torn.path().join("store").join(name), &bytes[..offset]).unwrap();
        let outbox = open(torn.path());
        assert!(outbox.take_alarms().is_empty());
        assert_eq!(
            check(&outbox, stream, &truth),
            0,
            "whole batches from the end are gone, nothing else"
        );
        tails.insert(outbox.tail(stream).unwrap().seq);
    }
    assert!(tails.len() > 20, "the tail was torn in many places: {tails:?}");
}

#[test]
fn i4_a_flipped_bit_in_the_log_costs_what_it_hits() {
    let (dir, stream, truth) = stored(40, 700);
    let logs = files(dir.path(), ".log");
    let (log, bytes) = logs.last().expect("there is a log");
    let mut hit = 0;
    for offset in (4_000..bytes.len()).step_by(331) {
        let flipped = TempDir::new().unwrap();
        copy(dir.path(), flipped.path());
        let mut bytes = bytes.clone();
        bytes[offset] ^= 1 << (offset % 8);
        fs::write(flipped.path().join("store").join(log.file_name().unwrap()), &bytes).unwrap();
        let outbox = open(flipped.path());
        let gaps = check(&outbox, stream, &truth);
        let tail = outbox.tail(stream).unwrap().seq;
        // A log is read in blocks of 32 KiB: a flipped length costs the rest of one.
        assert!(gaps <= 1 && (tail == 40 || gaps == 0), "{gaps} gaps, tail {tail}");
        hit += gaps;
    }
    assert!(hit > 30, "the flips hit chunks: {hit}");
}

/// With everything in sorted files and blob files.
pub(super) fn flushed(chunks: u64, count: usize) -> (TempDir, StreamId, Vec<Held>) {
    let (dir, stream, truth) = stored(chunks, count);
    let kv = RocksKv::open(dir.path()).unwrap();
    kv.reclaim(&keys::ALL_FROM, &keys::ALL_END).unwrap();
    drop(kv);
    (dir, stream, truth)
}

#[test]
fn i4_a_flipped_bit_in_a_blob_file_costs_one_chunk() {
    let (dir, stream, truth) = flushed(50, 8_192);
    let blobs = files(dir.path(), ".blob");
    let (blob, bytes) = blobs.first().expect("columns lie in a blob file");
    let mut hit = 0;
    for offset in (1_000..bytes.len() - 1_000).step_by(bytes.len() / 40) {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 0x10;
        fs::write(blob, &flipped).unwrap();
        let outbox = open(dir.path());
        assert!(!outbox.verify().unwrap().intact);
        assert_eq!(check(&outbox, stream, &truth), 1 + hit);
        hit += 1;
        drop(outbox);
        fs::write(blob, bytes).unwrap();
        if hit == 3 {
            break;
        }
    }
    assert_eq!(hit, 3, "healed gaps stay, each flip adds one");
}

#[test]
fn i4_a_blob_file_that_is_gone_costs_its_chunks_and_no_others() {
    let (dir, stream, _) = flushed(25, 8_192);
    let first = files(dir.path(), ".blob").remove(0).0;
    let outbox = open(dir.path());
    let later = definition(2, false);
    open_stream(&outbox, &later);
    fill(&outbox, later.id, 25, 8_192);
    outbox.kv().reclaim(&keys::ALL_FROM, &keys::ALL_END).unwrap();
    drop(outbox);
    fs::remove_file(first).unwrap();
    let outbox = open(dir.path());
    let lines = short(&outbox, stream);
    assert!(lines.iter().all(|line| line.1 == Reason::Corrupt), "{lines:?}");
    assert_eq!(lines.iter().map(|line| line.5).sum::<u64>(), 25 * 8_192);
    let kept = short(&outbox, later.id);
    assert!(kept.len() == 25 && kept.iter().all(|line| line.0 == ChunkKind::Samples));
}

#[test]
fn i4_a_flipped_bit_in_a_sorted_file_costs_its_block() {
    let (dir, stream, truth) = flushed(2_000, 32);
    let tables = files(dir.path(), ".sst");
    let (table, bytes) = tables
        .iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .expect("there is a sorted file");
    let mut hit = 0;
    for offset in (0..bytes.len() * 9 / 10).step_by(bytes.len() / 20) {
        let flipped = TempDir::new().unwrap();
        copy(dir.path(), flipped.path());
        let mut bytes = bytes.clone();
        bytes[offset] ^= 0x10;
        fs::write(flipped.path().join("store").join(table.file_name().unwrap()), &bytes).unwrap();
        let outbox = open(flipped.path());
        let shown = held(&outbox, stream);
        let lost: u64 = shown
            .iter()
            .filter(|held| held.chunk.header.reason == Reason::Corrupt)
            .map(|held| held.chunk.header.count)
            .sum();
        check(&outbox, stream, &truth);
        assert!(lost <= 400 * 32, "a few blocks of 2,000 chunks, not {lost} samples");
        hit += u64::from(lost > 0);
        // It goes on, with the damage in the midst of it.
        open_stream(&outbox, &definition(2, false));
        fill(&outbox, definition(2, false).id, 5, 10_000);
        outbox.set_acked(stream, 1_900, secs(0)).unwrap();
        outbox.release(secs(500)).unwrap();
        assert_eq!(short(&outbox, stream).iter().map(|line| line.5).sum::<u64>(), 100 * 32);
    }
    assert!(hit >= 8, "{hit}");
}

#[test]
fn a_store_that_will_not_open_is_set_aside_and_repaired() {
    let (dir, stream, truth) = flushed(50, 8_192);
    let agent_id = rocks::inspect(dir.path()).unwrap().agent_id();
    let (manifest, bytes) = {
        let entries = fs::read_dir(dir.path().join("store"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let manifest = entries
            .filter(|path| path.to_str().unwrap().contains("MANIFEST"))
            .max()
            .unwrap();
        (manifest.clone(), fs::read(manifest).unwrap())
    };
    fs::write(&manifest, vec![0x5a; bytes.len()]).unwrap();
    let options = || Options {
        random: Options::default().random,
        ..options()
    };
    let (outbox, report) = rocks::open(dir.path(), options(), secs(0)).expect("a new one is started");
    assert!(report.created);
    let alarms = outbox.take_alarms();
    let [OutboxAlarm::SetAside { path, .. }] = &alarms[..] else {
        panic!("{alarms:?}")
    };
    assert!(path.is_dir() && path != &dir.path().join("store"));
    // Captures go on meanwhile.
    let later = definition(2, false);
    open_stream(&outbox, &later);
    fill(&outbox, later.id, 3, 10);
    drop(outbox);
    // Somebody finds a copy of the manifest.
    fs::write(path.join(manifest.file_name().unwrap()), &bytes).unwrap();
    let report = rocks::repair(dir.path(), options()).unwrap();
    assert_eq!((report.streams, report.records, report.kept.len()), (1, 50, 1));
    // As if it had been killed before the last step.
    fs::rename(&report.kept[0], path).unwrap();
    let again = rocks::repair(dir.path(), options()).unwrap();
    assert_eq!((again.streams, again.known_streams), (0, 1), "it can be repeated");
    assert!(!rocks::is_repair_due(dir.path()).unwrap());
    let outbox = open(dir.path());
    assert_eq!(held(&outbox, stream), truth);
    assert_eq!(held(&outbox, later.id).len(), 3);
    assert_ne!(outbox.agent_id(), agent_id, "the new one has sent already, as itself");
}

#[test]
fn a_damaged_store_is_repaired_and_stays_who_it_was() {
    let (dir, stream, truth) = flushed(50, 8_192);
    let agent_id = rocks::inspect(dir.path()).unwrap().agent_id();
    let (blob, mut bytes) = files(dir.path(), ".blob").remove(0);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(blob, bytes).unwrap();
    let report = rocks::repair(dir.path(), options()).unwrap();
    assert_eq!((report.streams, report.records), (1, 50));
    let outbox = open(dir.path());
    assert_eq!(outbox.agent_id(), agent_id);
    assert_eq!(check(&outbox, stream, &truth), 1);
}

#[test]
fn looking_needs_an_outbox_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    assert_eq!(rocks::inspect(dir.path()).unwrap_err(), OutboxError::Missing);
    assert_eq!(
        rocks::repair(&dir.path().join("none"), options()).unwrap_err(),
        OutboxError::Missing
    );
    let (dir, ..) = stored(5, 100);
    let outbox = rocks::inspect(dir.path()).unwrap();
    assert_eq!(outbox.status().unwrap().streams[0].stored_seq, 5);
    assert!(outbox.verify().unwrap().intact);
    assert!(outbox.rebind().is_err(), "it was opened to be looked at");
}

#[test]
fn room_is_given_back_to_the_file_system() {
    let dir = TempDir::new().unwrap();
    let outbox = rocks::open(
        dir.path(),
        Options {
            durability: Durability::Never,
            ..options()
        },
        secs(0),
    )
    .unwrap()
    .0;
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    fill(&outbox, stream.id, 1_600, 65_536);
    assert!(outbox.kv().used_bytes() > 100_000_000);
    outbox.set_acked(stream.id, 1_600, secs(0)).unwrap();
    outbox.release(secs(500)).unwrap();
    let left = outbox.kv().used_bytes();
    assert!(left < 40_000_000, "{left} bytes are left of 105 million");
    assert_eq!(short(&outbox, stream.id).len(), 1);
}

/// Writes a million chunks as the outbox would, without its thousand batches a second.
fn a_million_chunks(dir: &Path) -> StreamId {
    let outbox = open(dir);
    let stream = definition(1, false);
    open_stream(&outbox, &stream);
    let kv = Arc::clone(outbox.kv());
    drop(outbox);
    let mut at = Mark {
        at: Position::start(&stream),
        next_utc_ns: 0,
    };
    let mut state = State::new(at, 0);
    let mut batch = Batch::default();
    for seq in 1..=1_000_000u64 {
        let mut header = wavekeep_proto::chunk::Header {
            kind: ChunkKind::Samples,
            reason: Reason::None,
            first_seq: seq,
            seq,
            first_sample: at.at.next_sample,
            count: 8,
            utc_ns: 0,
            markers: Vec::new(),
            columns: Vec::new(),
        };
        let cut = super::samples(0, vec![u8::try_from(seq % 256).unwrap(); 8]);
        header.columns = cut.columns;
        let digest = next_digest(at.at.digest, chunk_hash(&header));
        let data = cut.data.concat();
        let record = Record {
            header,
            digest_before: at.at.digest,
            digest,
            column_bytes: vec![8],
            data_hash: data_hash(&data),
            total_bytes: seq * 300,
            ordinal: seq,
        };
        at = record.end(&stream);
        let key = keys::chunk(stream.id, seq);
        batch.put(key, record.to_value(&key));
        batch.put(keys::data(stream.id, seq), data);
        if seq % 2_000 == 0 {
            kv.write(std::mem::take(&mut batch), false).unwrap();
        }
    }
    (state.tail, state.ordinal, state.held_bytes, state.stored_total_bytes) = (at, 1_000_000, 300_000_000, 300_000_000);
    let key = keys::state(stream.id);
    batch.put(key, state.to_value(&key, Acked::default()));
    kv.write(batch, true).unwrap();
    stream.id
}

/// The most memory that this process ever had, in MB.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn i12_a_million_chunks_start_in_the_memory_of_none() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let outbox = open(Path::new(&dir));
        let stream = definition(1, false).id;
        let first = outbox.next(stream, 0).unwrap().unwrap();
        assert_eq!(
            (first.chunk.header.seq, outbox.tail(stream).unwrap().seq),
            (1, 1_000_000)
        );
        outbox.set_acked(stream, 900_000, secs(0)).unwrap();
        assert_eq!(outbox.next(stream, 900_000).unwrap().unwrap().chunk.header.seq, 900_001);
        println!("peak_mb {}", peak_mb());
        return;
    }
    let measure = |dir: &Path| {
        let test = "outbox::tests::on_rocks::i12_a_million_chunks_start_in_the_memory_of_none";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, dir)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let peak = text
            .split_whitespace()
            .skip_while(|word| *word != "peak_mb")
            .nth(1)
            .expect("the child says its peak");
        peak.parse::<u64>().unwrap()
    };
    let dir = TempDir::new().unwrap();
    let stream = a_million_chunks(dir.path());
    let peak_mb = measure(dir.path());
    assert!(peak_mb < 100, "{peak_mb} MB");
    // And they go, in steps.
    let outbox = open(dir.path());
    outbox.set_acked(stream, 999_000, secs(0)).unwrap();
    outbox.release(secs(500)).unwrap();
    assert_eq!(held(&outbox, stream).len(), 1_000);
    outbox
        .store(stream, gap(8_000_000, 1, Reason::SourceLoss), secs(0))
        .expect_err("its source is gone");
}
