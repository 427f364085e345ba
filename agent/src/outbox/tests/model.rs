//! Random actions against the truth in `world`: stores, acks, rewinds, releases, evictions, kills, power cuts in the midst of a
//! step, bit flips, successions; after each, all that the outbox shows must be explained.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::hash::definition_hash;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::{Held, Outbox as _};

use super::super::memory::MemoryKv;
use super::super::{Options, Outbox, StoreError};
use super::world::{Capture, World};
use super::{definition, gap, held, marker, open, open_stream, options, samples};

#[derive(Debug, Clone)]
enum Action {
    Store {
        stream: usize,
        count: usize,
        chunks: usize,
        marked: bool,
    },
    Gap {
        stream: usize,
        count: u64,
    },
    End {
        stream: usize,
    },
    /// A part of what is held is committed and acked.
    Ack {
        stream: usize,
        part: f64,
    },
    /// A server with a part of what it had says where it stands.
    Opened {
        stream: usize,
        part: f64,
    },
    Release {
        secs: u64,
    },
    Sync,
    Kill,
    /// A part of what is not synced survives.
    PowerCut {
        part: f64,
    },
    Flip {
        which: prop::sample::Index,
        bit: prop::sample::Index,
        sector: bool,
    },
    Succeed {
        stream: usize,
    },
    /// In the midst of the next change, after this many writes, the disk fails; then the power.
    FailAfter {
        writes: u64,
        part: f64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let stream = 0..3usize;
    prop_oneof![
        8 => (stream.clone(), 1..900usize, 1..6usize, any::<bool>())
            .prop_map(|(stream, count, chunks, marked)| Action::Store { stream, count, chunks, marked }),
        2 => (stream.clone(), 1..100_000u64).prop_map(|(stream, count)| Action::Gap { stream, count }),
        1 => stream.clone().prop_map(|stream| Action::End { stream }),
        4 => (stream.clone(), 0.0..=1.0).prop_map(|(stream, part)| Action::Ack { stream, part }),
        3 => (stream.clone(), 0.0..=1.0).prop_map(|(stream, part)| Action::Opened { stream, part }),
        2 => (1..150u64).prop_map(|secs| Action::Release { secs }),
        1 => Just(Action::Sync),
        1 => Just(Action::Kill),
        2 => (0.0..=1.0).prop_map(|part| Action::PowerCut { part }),
        2 => (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, bit, sector)| Action::Flip { which, bit, sector }),
        1 => stream.prop_map(|stream| Action::Succeed { stream }),
        1 => (0..3u64, 0.0..=1.0).prop_map(|(writes, part)| Action::FailAfter { writes, part }),
    ]
}

fn part_of(whole: u64, part: f64) -> u64 {
    (whole as f64 * part).round() as u64
}

struct Run {
    kv: Arc<MemoryKv>,
    outbox: Option<Outbox<MemoryKv>>,
    options: Options,
    world: World,
    /// What each source stores into; a live source opens a new stream when it has to.
    streams: [StreamId; 3],
    next_number: u8,
    now: Duration,
    fail_next: Option<(u64, f64)>,
    /// A change failed halfway; the power is about to be cut.
    failing: Option<f64>,
    damage: bool,
}

impl Run {
    fn new(quota_bytes: u64, damage: bool) -> Self {
        let kv = Arc::new(MemoryKv::new());
        let options = Options {
            quota_bytes,
            ..options()
        };
        let mut run = Self {
            outbox: Some(open(&kv, options.clone())),
            kv,
            options,
            world: World {
                may_evict: quota_bytes < 1_000_000,
                ..World::default()
            },
            streams: [StreamId::default(); 3],
            next_number: 1,
            now: Duration::ZERO,
            fail_next: None,
            failing: None,
            damage,
        };
        (0..3).for_each(|stream| run.open(stream));
        run
    }

    fn outbox(&self) -> &Outbox<MemoryKv> {
        self.outbox.as_ref().expect("it is open but for a moment")
    }

    /// Stream 2 is that of a file.
    fn open(&mut self, stream: usize) {
        let definition = definition(self.next_number, stream == 2);
        self.next_number += 1;
        self.streams[stream] = definition.id;
        open_stream(self.outbox(), &definition);
        self.world.captures.insert(definition.id, Capture::new(definition));
    }

    fn capture(&mut self, stream: usize) -> &mut Capture {
        self.world
            .captures
            .get_mut(&self.streams[stream])
            .expect("what a source stores into is captured")
    }

    /// Ready to store: a live source without a stream opens one, a file's waits for the server.
    fn ready(&mut self, stream: usize) {
        let id = self.streams[stream];
        let gone = self.outbox().tail(id).is_none() || !self.world.captures.contains_key(&id);
        if gone || !self.world.captures[&id].sourced {
            self.open(stream);
        } else if stream == 2 && !self.world.captures[&id].opened {
            self.opened(id, 1.0);
            if self.world.captures[&id].at(self.world.captures[&id].seq()).ended {
                self.open(stream);
            }
        }
    }

    /// Makes a change, in the midst of which the disk may fail.
    fn change<T, E: std::fmt::Debug>(
        &mut self,
        change: impl FnOnce(&Outbox<MemoryKv>) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some((writes, part)) = self.fail_next.take() {
            self.kv.fail_after(Some(writes));
            self.failing = Some(part);
        }
        let result = change(self.outbox());
        self.kv.fail_after(None);
        assert!(
            result.is_ok() || self.failing.is_some() || self.world.may_evict,
            "the disk is good: {:?}",
            result.err()
        );
        result
    }

    fn store(&mut self, stream: usize, chunk: super::NewChunk) {
        let id = self.streams[stream];
        let (header_markers, data) = (chunk.markers.clone(), chunk.data.concat());
        let now = self.now;
        let result = self.change(|outbox| outbox.store(id, chunk, now));
        match result {
            Ok(at) => {
                let held = self
                    .outbox()
                    .next(id, at.seq - 1)
                    .expect("the disk is good")
                    .expect("it was just stored");
                assert_eq!(held.chunk.header.markers, header_markers);
                let capture = self.capture(stream);
                let mut header = held.chunk.header;
                header.seq = capture.seq() + 1;
                header.first_seq = header.seq;
                capture.push(header, data);
            }
            Err(StoreError::Full { .. }) => assert!(self.world.may_evict, "there is room"),
            Err(StoreError::Outbox(_)) => assert!(self.failing.is_some(), "the disk is good"),
            Err(error @ (StoreError::Ended | StoreError::Moved { .. } | StoreError::NotSynced(_))) => panic!("{error}"),
        }
    }

    /// The server's answer to `Open`, when it has `part` of what it had.
    fn opened(&mut self, id: StreamId, part: f64) {
        let Some(tail) = self.outbox().tail(id) else { return };
        let Some(capture) = self.world.captures.get_mut(&id) else {
            return;
        };
        capture.committed = part_of(capture.committed, part);
        let at = capture.at(capture.committed);
        // What neither has any more never was.
        capture.chunks.truncate(usize::try_from(tail.seq.max(at.seq)).unwrap());
        capture.acked_ever = capture.acked_ever.min(capture.seq()).max(at.seq);
        let outbox = self.outbox.as_ref().expect("it is open");
        let mut results = Vec::new();
        if at.seq > tail.seq {
            results.push(outbox.adopt(id, at, false));
        }
        results.push(outbox.set_acked(id, at.seq, self.now));
        results.push(outbox.end(id));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        capture.opened = true;
        capture.sourced &= at.seq <= tail.seq || !capture.definition.file_identity.is_empty();
        capture.sourced &= !at.ended;
        self.note_end(id);
    }

    /// The outbox may have written an `end` of its own.
    fn note_end(&mut self, id: StreamId) {
        let outbox = self.outbox.as_ref().expect("it is open");
        let Some(capture) = self.world.captures.get_mut(&id) else {
            return;
        };
        let Some(tail) = outbox.tail(id).filter(|tail| tail.seq > capture.seq()) else {
            return;
        };
        assert_eq!(tail.seq, capture.seq() + 1, "one end and nothing else");
        let end = outbox
            .next(id, capture.seq())
            .expect("the disk is good")
            .expect("it is held")
            .chunk
            .header;
        assert_eq!(end.kind, ChunkKind::End);
        capture.sourced = false;
        capture.push(end, Vec::new());
    }

    fn succeed(&mut self, id: StreamId) {
        if self.outbox().tail(id).is_none() {
            return;
        }
        let before = held(self.outbox(), id);
        let old = self.world.captures[&id].clone();
        match self.change(|outbox| outbox.succeed(id)) {
            Ok(successor) => {
                assert_eq!(self.outbox().succeed(id).ok(), Some(successor), "it can be repeated");
                self.succeeded(&old, &before, successor);
            }
            Err(_) => {
                assert!(self.failing.is_some(), "the disk is good");
                let part = self.failing.take();
                self.restart(part);
                // It is finished by the start, or it never began.
                let successor = self
                    .outbox()
                    .streams()
                    .into_iter()
                    .find(|id| !self.world.captures.contains_key(id));
                if let Some(successor) = successor {
                    self.succeeded(&old, &before, successor);
                }
                let outbox = self.outbox.as_ref().expect("it is open");
                self.world.after_power_cut(outbox);
            }
        }
    }

    /// The successor has what was held, renumbered, in digests of its own.
    fn succeeded(&mut self, old: &Capture, before: &[Held], successor: StreamId) {
        let view = self.outbox().view(successor).expect("it is there");
        let mut capture = Capture::new((*view.definition).clone());
        let predecessor = capture.definition.predecessor.expect("it says what it follows");
        assert_eq!(predecessor.stream_id, old.definition.id);
        assert_eq!(capture.definition.epoch, old.definition.epoch);
        capture.damaged = old.damaged;
        capture.sourced = false;
        let mut digest = definition_hash(&capture.definition);
        let moved = held(self.outbox(), successor);
        assert_eq!(moved.len(), before.len(), "one record for each");
        for (seq, (now, was)) in (1..).zip(moved.iter().zip(before)) {
            let header = now.chunk.header.clone();
            assert_eq!((header.first_seq, header.seq), (seq, seq));
            assert_eq!(now.digest_before, digest);
            assert_eq!(
                (header.kind, header.reason),
                (was.chunk.header.kind, was.chunk.header.reason)
            );
            assert_eq!(
                (header.first_sample, header.count),
                (was.chunk.header.first_sample, was.chunk.header.count)
            );
            assert_eq!(
                (&header.markers, &now.chunk.columns),
                (&was.chunk.header.markers, &was.chunk.columns)
            );
            capture.push(header, now.chunk.columns.concat());
            assert_eq!(now.chunk.digest, capture.at(seq).digest, "the successor's own chain");
            digest = now.chunk.digest;
        }
        assert!(view.to_end || view.tail.ended, "nobody stores into it");
        assert!(
            self.outbox().tail(old.definition.id).is_none(),
            "the predecessor is gone"
        );
        capture.synced = capture.seq();
        self.world.captures.remove(&old.definition.id);
        self.world.captures.insert(successor, capture);
    }

    fn restart(&mut self, cut: Option<f64>) {
        self.outbox = None;
        if let Some(part) = cut {
            let keep = part_of(self.kv.unsynced_batches() as u64, part);
            self.kv.power_cut(usize::try_from(keep).unwrap());
        }
        self.now = Duration::ZERO;
        self.outbox = Some(open(&self.kv, self.options.clone()));
        for capture in self.world.captures.values_mut() {
            capture.opened = false;
            capture.sourced &= !capture.definition.file_identity.is_empty();
        }
    }

    fn cut_power(&mut self) {
        let part = self.failing.take().unwrap_or(0.5);
        self.restart(Some(part));
        let outbox = self.outbox.as_ref().expect("it is open");
        self.world.after_power_cut(outbox);
    }

    fn flip(&mut self, which: prop::sample::Index, bit: prop::sample::Index, sector: bool) {
        let entries: Vec<_> = self
            .kv
            .entries()
            .into_iter()
            .filter(|(key, _)| matches!(key[0], 4 | 5))
            .collect();
        if !self.damage || entries.is_empty() {
            return;
        }
        let (key, value) = which.get(&entries);
        if sector {
            self.kv.damage(key);
        } else {
            self.kv.flip(key, bit.index(value.len() * 8));
        }
        let id = StreamId::from_slice(&key[1..17]).expect("the key of a chunk");
        if let Some(capture) = self.world.captures.get_mut(&id) {
            capture.damaged = true;
        }
    }

    fn act(&mut self, action: &Action) {
        self.now += Duration::from_millis(100);
        match *action {
            Action::Store {
                stream,
                count,
                chunks,
                marked,
            } => {
                for chunk in 0..chunks {
                    self.ready(stream);
                    let tail = self.outbox().tail(self.streams[stream]).expect("it is ready");
                    let first_sample = tail.next_sample;
                    // A chunk never crosses a multiple of 65,536.
                    let count = count.min(65_536 - usize::try_from(first_sample % 65_536).unwrap());
                    let mut new = samples(first_sample, vec![u8::try_from(chunk + count % 200).unwrap(); count]);
                    if marked {
                        new.markers.push(marker(first_sample, &format!("note {}", tail.seq)));
                    }
                    self.store(stream, new);
                    if self.failing.is_some() {
                        break;
                    }
                }
            }
            Action::Gap { stream, count } => {
                self.ready(stream);
                let tail = self.outbox().tail(self.streams[stream]).expect("it is ready");
                self.store(stream, gap(tail.next_sample, count, Reason::UsbOverrun));
            }
            Action::End { stream } => {
                self.ready(stream);
                let (id, now) = (self.streams[stream], self.now);
                if self.change(|outbox| outbox.end_stream(id, Reason::Closed, now)).is_ok() {
                    self.note_end(id);
                }
            }
            Action::Ack { stream, part } => self.ack(self.streams[stream], part),
            Action::Opened { stream, part } => self.opened(self.streams[stream], part),
            Action::Release { secs } => {
                self.now += Duration::from_secs(secs);
                let now = self.now;
                // A failure is dealt with after the action.
                let _ = self.change(|outbox| outbox.release(now));
            }
            Action::Sync => {
                self.outbox().sync().expect("the disk is good");
                let outbox = self.outbox.as_ref().expect("it is open");
                for (id, capture) in &mut self.world.captures {
                    capture.synced = outbox.tail(*id).map_or(capture.synced, |tail| tail.seq);
                }
            }
            Action::Kill => self.restart(None),
            Action::PowerCut { part } => {
                self.failing = Some(part);
                self.cut_power();
            }
            Action::Flip { which, bit, sector } => self.flip(which, bit, sector),
            Action::Succeed { stream } if stream < 2 => self.succeed(self.streams[stream]),
            Action::Succeed { .. } => {}
            Action::FailAfter { writes, part } => self.fail_next = Some((writes, part)),
        }
    }

    fn ack(&mut self, id: StreamId, part: f64) {
        let Some(tail) = self.outbox().tail(id) else { return };
        let Some(capture) = self.world.captures.get_mut(&id) else {
            return;
        };
        let (from, to) = (capture.committed.min(tail.seq), tail.seq);
        capture.committed = capture.committed.max(from + part_of(to - from, part));
        if capture.committed <= tail.seq {
            capture.acked_ever = capture.acked_ever.max(capture.committed);
            let (seq, now) = (capture.committed, self.now);
            self.outbox().set_acked(id, seq, now).expect("the disk is good");
        }
    }

    fn step(&mut self, action: &Action) {
        self.act(action);
        if self.failing.is_some() {
            self.cut_power();
        }
        let outbox = self.outbox.as_ref().expect("it is open");
        self.world.check(outbox);
        if !self.damage {
            World::check_bytes(outbox);
            assert!(
                outbox.held_bytes() <= self.options.quota_bytes + 2_000,
                "I12: the quota holds, but for an end"
            );
        }
    }
}

fn run(quota_bytes: u64, damage: bool, actions: &[Action]) {
    let mut run = Run::new(quota_bytes, damage);
    for action in actions {
        run.step(action);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i5_i13_everything_is_held_until_it_is_acked(actions in proptest::collection::vec(action(), 1..60)) {
        run(1_000_000_000, false, &actions);
    }

    #[test]
    fn i14_digest_survives_eviction_rewinds_and_power_cuts(actions in proptest::collection::vec(action(), 1..80)) {
        run(12_000, false, &actions);
    }

    #[test]
    fn i4_damage_becomes_gaps_that_tile(actions in proptest::collection::vec(action(), 1..60)) {
        run(1_000_000_000, true, &actions);
    }

    #[test]
    fn i4_damage_and_eviction_together_still_tile(actions in proptest::collection::vec(action(), 1..80)) {
        run(12_000, true, &actions);
    }
}
