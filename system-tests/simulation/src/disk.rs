//! An agent's disk, with the real outbox on it. Killing the process keeps what was written; a power cut keeps what was synced, and
//! of the rest a part by chance, from the beginning.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wavekeep_agent::outbox::memory::MemoryKv;
use wavekeep_agent::outbox::{Durability, NewChunk, Options, Outbox, QUOTA_BYTES_MIN, WhenFull, kv::Kv};
use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::Outbox as _;

use crate::plan::Plan;
use crate::random::Random;

/// What the file system keeps free in the outbox's eyes. Half of it may be used while deleted bytes have not been given back (here
/// they always have); the other half takes what is written without asking for room: ends, definitions and their copies.
const FREE_BYTES_MIN: u64 = 32 * 1024;
/// What a record may take besides its columns.
const RECORD_BYTES_MAX: u64 = 4 * 1024;
/// Keys of chunks, and of their data, begin with these bytes; then comes the stream.
const CHUNK_PREFIXES: [u8; 2] = [4, 5];

/// See the module's documentation.
pub(crate) struct Disk {
    kv: Arc<MemoryKv>,
    options: Options,
    outbox: Arc<Outbox<MemoryKv>>,
}

fn options(random: &mut Random, plan: &Plan) -> Options {
    let ids = Mutex::new(Random::new(random.next()));
    Options {
        quota_bytes: QUOTA_BYTES_MIN * 1024,
        free_bytes_min: FREE_BYTES_MIN,
        when_full: WhenFull::Evict,
        hold_back: plan.hold_back,
        hold_back_bytes: u64::MAX,
        durability: if plan.sync_every == 1 {
            Durability::EachChunk
        } else {
            Durability::Never
        },
        random: Arc::new(move || Ok(ids.lock().unwrap_or_else(PoisonError::into_inner).id())),
    }
}

fn open(kv: &Arc<MemoryKv>, options: &Options, now: Duration) -> Outbox<MemoryKv> {
    match Outbox::open(Arc::clone(kv), options.clone(), now) {
        Ok((outbox, _)) => outbox,
        Err(error) => panic!("an outbox does not open: {error}"),
    }
}

impl Disk {
    pub(crate) fn new(random: &mut Random, plan: &Plan) -> Self {
        let kv = Arc::new(MemoryKv::new());
        kv.set_capacity(plan.disk_bytes.map(|bytes| bytes + FREE_BYTES_MIN));
        Self::on(kv, options(random, plan), Duration::ZERO)
    }

    fn on(kv: Arc<MemoryKv>, options: Options, now: Duration) -> Self {
        let outbox = Arc::new(open(&kv, &options, now));
        Self { kv, options, outbox }
    }

    pub(crate) fn outbox(&self) -> &Outbox<MemoryKv> {
        &self.outbox
    }

    /// For tasks of its process.
    pub(crate) fn shared(&self) -> Arc<Outbox<MemoryKv>> {
        self.outbox.clone()
    }

    /// The next process opens it.
    pub(crate) fn start(&mut self, now: Duration) {
        self.outbox = Arc::new(open(&self.kv, &self.options, now));
    }

    /// The power fails; how many batches went with it?
    pub(crate) fn power_cut(&mut self, random: &mut Random, now: Duration) -> u64 {
        let unsynced = self.kv.unsynced_batches() as u64;
        let kept = random.between(0, unsynced);
        self.kv.power_cut(kept as usize);
        self.start(now);
        unsynced - kept
    }

    /// A copy of the disk, as a running machine's snapshot has it.
    pub(crate) fn copy(&self, random: &mut Random, plan: &Plan, now: Duration) -> Self {
        Self::on(Arc::new((*self.kv).clone()), options(random, plan), now)
    }

    /// A bit flips somewhere in a chunk or its data: of which stream?
    pub(crate) fn flip(&self, random: &mut Random) -> Option<StreamId> {
        let of_chunk =
            |(key, _): &(Vec<u8>, Vec<u8>)| key.first().is_some_and(|prefix| CHUNK_PREFIXES.contains(prefix));
        let entries: Vec<_> = self.kv.entries().into_iter().filter(of_chunk).collect();
        if entries.is_empty() {
            return None;
        }
        let (key, value) = random.pick(&entries);
        self.kv.flip(key, random.place(value.len() * 8));
        StreamId::from_slice(&key[1..17]).ok()
    }

    /// Is there too little room for this chunk, so that something must go?
    pub(crate) fn is_tight(&self, chunk: &NewChunk) -> bool {
        let bytes: u64 = chunk.data.iter().map(|column| column.len() as u64).sum();
        self.kv
            .free_bytes()
            .is_some_and(|free| free < FREE_BYTES_MIN + RECORD_BYTES_MAX + bytes)
    }

    /// The first seq held, and the last, of every stream.
    pub(crate) fn held(&self) -> BTreeMap<StreamId, (u64, u64)> {
        let held = |stream: StreamId| {
            let tail = self.outbox.tail(stream)?.seq;
            let first = self
                .outbox
                .next(stream, 0)
                .ok()?
                .map_or(tail + 1, |held| held.chunk.header.first_seq);
            Some((stream, (first, tail)))
        };
        self.outbox.streams().into_iter().filter_map(held).collect()
    }

    /// The samples of every gap of this reason that is held.
    pub(crate) fn gaps(&self, stream: StreamId, reason: Reason) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut seq = 0;
        while let Ok(Some(held)) = self.outbox.next(stream, seq) {
            let header = held.chunk.header;
            seq = header.seq;
            if header.kind == ChunkKind::Gap && header.reason == reason {
                gaps.push((header.first_sample, header.end_sample()));
            }
        }
        gaps
    }
}
