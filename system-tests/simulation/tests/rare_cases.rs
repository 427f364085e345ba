//! Single cases that the seeds met, too rarely to leave them to chance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wavekeep_agent::outbox::memory::MemoryKv;
use wavekeep_agent::outbox::{Durability, NewChunk, Options, Outbox};
use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_proto::uplink::Outbox as _;

const HOLD_BACK: Duration = Duration::from_secs(100);

fn open(kv: &Arc<MemoryKv>, now: Duration) -> Outbox<MemoryKv> {
    let options = Options {
        hold_back: HOLD_BACK,
        durability: Durability::Never,
        free_bytes_min: 0,
        ..Options::default()
    };
    Outbox::open(Arc::clone(kv), options, now).expect("the disk is good").0
}

fn definition() -> StreamDefinition {
    let signal = Signal {
        number: 0,
        name: "level".into(),
        sample_type: SampleType::U8,
        unit: String::new(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([1; 16]),
        device: "bench".into(),
        epoch: Epoch([1; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1_000.0,
        first_sample: 0,
        signals: vec![signal],
        attributes: BTreeMap::new(),
    }
}

fn fill(outbox: &Outbox<MemoryKv>, stream: StreamId, chunks: u64, now: Duration) {
    for _ in 0..chunks {
        let gap = NewChunk {
            kind: ChunkKind::Gap,
            reason: Reason::SourceLoss,
            first_sample: outbox.tail(stream).expect("it is there").next_sample,
            count: 10,
            utc_ns: 0,
            markers: Vec::new(),
            columns: Vec::new(),
            data: Vec::new(),
        };
        outbox.store(stream, gap, now).expect("there is room");
    }
}

/// The first seq that is still held.
fn first_held(outbox: &Outbox<MemoryKv>, stream: StreamId) -> Option<u64> {
    Some(
        outbox
            .next(stream, 0)
            .expect("the disk is good")?
            .chunk
            .header
            .first_seq,
    )
}

/// Acked up to 9, then the server went back to 2; the process died before anything was written that says so.
#[test]
fn i5_what_was_acked_before_a_rewind_is_not_released_after_a_restart() {
    let kv = Arc::new(MemoryKv::new());
    let stream = definition().id;
    let outbox = open(&kv, Duration::ZERO);
    outbox
        .open_stream(definition(), BTreeMap::new(), String::new(), 0)
        .expect("the disk is good");
    fill(&outbox, stream, 9, Duration::ZERO);
    outbox
        .set_acked(stream, 9, Duration::from_secs(1))
        .expect("the disk is good");
    fill(&outbox, stream, 1, Duration::from_secs(2));
    outbox
        .set_acked(stream, 2, Duration::from_secs(3))
        .expect("the disk is good");
    drop(outbox);

    let mut now = Duration::from_secs(4);
    let outbox = open(&kv, now);
    now += HOLD_BACK * 10;
    outbox.release(now).expect("the disk is good");
    assert_eq!(
        first_held(&outbox, stream),
        Some(1),
        "no server has said since the start where it stands"
    );
    outbox.set_acked(stream, 2, now).expect("the disk is good");
    outbox.release(now + HOLD_BACK).expect("the disk is good");
    assert_eq!(
        first_held(&outbox, stream),
        Some(3),
        "what the server has is past its hold-back"
    );
}
