//! Tests of the outbox, by question. `world` is the truth that the model test compares with; it shares no code with the outbox.

mod cases;
mod damage;
#[cfg(feature = "rocksdb")]
mod doctor;
mod model;
#[cfg(feature = "rocksdb")]
mod on_rocks;
mod positions;
mod quota;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use wavekeep_proto::chunk::{ChunkKind, ColumnContent, ColumnHeader, Marker, MarkerFormat, Position, Reason};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::hash::column_hash;
use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_proto::uplink::{Held, Outbox as _};

use super::kv::Kv;
use super::memory::MemoryKv;
use super::{Durability, NewChunk, Options, Outbox, QUOTA_BYTES_DEFAULT, WhenFull};

/// A stream of one signal of bytes.
fn definition(number: u8, file: bool) -> StreamDefinition {
    let signal = Signal {
        number: 0,
        name: "level".into(),
        sample_type: SampleType::U8,
        unit: String::new(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([number; 16]),
        device: format!("device-{number}"),
        epoch: Epoch([number; 16]),
        file_identity: if file { vec![number; 16] } else { Vec::new() },
        predecessor: None,
        rate_hz: 1_000.0,
        first_sample: 0,
        signals: vec![signal],
        attributes: BTreeMap::new(),
    }
}

fn samples(first_sample: u64, data: Vec<u8>) -> NewChunk {
    let count = data.len() as u64;
    let hash = column_hash(0, SampleType::U8, u32::try_from(count).unwrap(), &data);
    NewChunk {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_sample,
        count,
        utc_ns: 1_700_000_000_000_000_000 + i64::try_from(first_sample).unwrap() * 1_000_000,
        markers: Vec::new(),
        columns: vec![ColumnHeader {
            signal: 0,
            content: ColumnContent::Present {
                encoding: Encoding::Plain,
                hash,
            },
        }],
        data: vec![Bytes::from(data)],
    }
}

fn gap(first_sample: u64, count: u64, reason: Reason) -> NewChunk {
    let utc_ns = 1_700_000_000_000_000_000 + i64::try_from(first_sample).unwrap() * 1_000_000;
    NewChunk {
        kind: ChunkKind::Gap,
        reason,
        first_sample,
        count,
        utc_ns,
        markers: Vec::new(),
        columns: Vec::new(),
        data: Vec::new(),
    }
}

fn marker(sample: u64, text: &str) -> Marker {
    Marker {
        sample,
        kind: 0,
        group: 0,
        y: 0.5,
        format: MarkerFormat::Text,
        content: text.into(),
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn options() -> Options {
    let minted = AtomicU64::new(0);
    Options {
        quota_bytes: QUOTA_BYTES_DEFAULT,
        free_bytes_min: 0,
        when_full: WhenFull::Evict,
        hold_back: secs(100),
        hold_back_bytes: QUOTA_BYTES_DEFAULT,
        durability: Durability::Never,
        random: Arc::new(move || {
            let number = minted.fetch_add(1, Ordering::Relaxed);
            let mut bytes = [0xaa; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            Ok(bytes)
        }),
    }
}

fn open<K: Kv>(kv: &Arc<K>, options: Options) -> Outbox<K> {
    Outbox::open(Arc::clone(kv), options, Duration::ZERO)
        .expect("the disk is good")
        .0
}

fn open_stream<K: Kv>(outbox: &Outbox<K>, definition: &StreamDefinition) -> Position {
    outbox
        .open_stream(
            definition.clone(),
            BTreeMap::new(),
            String::new(),
            1_700_000_000_000_000_000,
        )
        .expect("the disk is good")
}

/// An outbox in memory with one live stream.
fn live() -> (Arc<MemoryKv>, Outbox<MemoryKv>, StreamDefinition) {
    let kv = Arc::new(MemoryKv::new());
    let outbox = open(&kv, options());
    let definition = definition(1, false);
    open_stream(&outbox, &definition);
    (kv, outbox, definition)
}

/// Stores `chunks` chunks of `count` samples each, at the tail.
fn fill<K: Kv>(outbox: &Outbox<K>, stream: StreamId, chunks: u64, count: usize) {
    for _ in 0..chunks {
        let tail = outbox.tail(stream).expect("it is there");
        let byte = u8::try_from(tail.seq % 251).unwrap();
        outbox
            .store(stream, samples(tail.next_sample, vec![byte; count]), Duration::ZERO)
            .expect("there is room");
    }
}

/// Everything held of a stream, in order.
fn held<K: Kv>(outbox: &Outbox<K>, stream: StreamId) -> Vec<Held> {
    let mut all = Vec::new();
    let mut seq = 0;
    while let Some(next) = outbox.next(stream, seq).expect("the disk is good") {
        assert!(next.chunk.header.seq > seq, "reading goes on");
        seq = next.chunk.header.seq;
        all.push(next);
    }
    all
}

/// Kind, reason, first seq, seq, first sample, count.
type Short = (ChunkKind, Reason, u64, u64, u64, u64);

fn short<K: Kv>(outbox: &Outbox<K>, stream: StreamId) -> Vec<Short> {
    let line = |held: Held| {
        let header = held.chunk.header;
        (
            header.kind,
            header.reason,
            header.first_seq,
            header.seq,
            header.first_sample,
            header.count,
        )
    };
    held(outbox, stream).into_iter().map(line).collect()
}
