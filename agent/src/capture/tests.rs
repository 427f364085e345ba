//! Captures into an outbox on a simulated disk: no server, no network.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use wavekeep_proto::chunk::{ChunkKind, ColumnContent, Header, Position};
use wavekeep_proto::codec::Decoder;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::stream::{SampleType, Signal};
use wavekeep_proto::uplink::Outbox as _;

use super::*;
use crate::clock::SystemClock;
use crate::outbox::memory::MemoryKv;
use crate::outbox::{Durability, Options, QUOTA_BYTES_MIN, WhenFull};
use crate::source::{Block, Column, Description, FileIdentity, Sink, StreamShape};

pub(super) type TestOutbox = Outbox<MemoryKv>;

pub(super) fn outbox(options: Options) -> Arc<TestOutbox> {
    let (outbox, _) = Outbox::open(Arc::new(MemoryKv::new()), options, Duration::ZERO).expect("an empty disk");
    Arc::new(outbox)
}

/// What a scripted source does next.
#[derive(Debug, Clone)]
enum Step {
    Samples(Range<u64>),
    Gap(Range<u64>),
    /// Waits for a stop.
    Wait,
    /// The server turns out to stand elsewhere.
    Adopt(Arc<TestOutbox>, Position),
    /// The disk is too full to sync, this many times.
    FullForSyncs(Arc<TestOutbox>, u64),
    /// Returns; the steps after it are for the next run.
    Done,
    Fail,
}

/// Does what it is told; a sample's value is its id.
struct Scripted {
    file: bool,
    steps: Mutex<VecDeque<Step>>,
}

impl Scripted {
    fn boxed(file: bool, steps: &[Step]) -> Box<Self> {
        Box::new(Self {
            file,
            steps: Mutex::new(steps.iter().cloned().collect()),
        })
    }
}

pub(super) fn deliver(sink: &mut dyn Sink, range: Range<u64>) -> Result<(), SinkError> {
    let values: Vec<f32> = range.clone().map(|sample| sample as f32).collect();
    let columns = [Column::F32(&values)];
    sink.samples(
        0,
        &Block {
            first_sample: range.start,
            count: values.len() as u64,
            columns: &columns,
        },
    )
}

/// At 1,000 samples a second.
pub(super) fn one_signal(file: Option<FileIdentity>) -> Description {
    let signal = Signal {
        number: 0,
        name: "current".into(),
        sample_type: SampleType::F32,
        unit: "A".into(),
        finite_only: false,
    };
    Description {
        device: "bench".into(),
        attributes: BTreeMap::new(),
        file,
        streams: vec![StreamShape {
            signals: vec![signal],
            rate_hz: 1_000.0,
            first_sample: 0,
        }],
    }
}

impl Source for Scripted {
    fn describe(&self) -> Description {
        one_signal(self.file.then_some(FileIdentity {
            content: Hash([4; 16]),
            start_ns: 0,
        }))
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        while let Some(step) = self.steps.lock().expect("nobody panicked").pop_front() {
            match step {
                // A file is read from where the sink stands.
                Step::Samples(range) if self.file => loop {
                    let from = sink.next_sample(0).max(range.start);
                    match deliver(sink, from..range.end) {
                        Err(SinkError::Moved { .. }) => {}
                        other => break other?,
                    }
                },
                Step::Samples(range) => deliver(sink, range)?,
                Step::Gap(range) => sink.gap(0, range, Reason::UsbOverrun)?,
                Step::Wait => {
                    assert!(stop.wait(Duration::from_secs(600)), "somebody stops it");
                    if self.file {
                        return Err(SinkError::Stopped.into());
                    }
                }
                Step::Adopt(outbox, at) => outbox.adopt(only_stream(&outbox), at, false).expect("a good disk"),
                Step::FullForSyncs(outbox, times) => outbox.kv().fill_for_syncs(times),
                Step::Done => return Ok(()),
                Step::Fail => return Err(SourceError::Device("the device was unplugged: plug it in".into())),
            }
        }
        Ok(())
    }
}

fn start(source: Box<Scripted>, outbox: &Arc<TestOutbox>, duration: Option<Duration>) -> Capture {
    let options = CaptureOptions {
        duration,
        ..CaptureOptions::default()
    };
    Capture::start(source, Arc::clone(outbox), Arc::new(SystemClock::new()), options).expect("it starts")
}

pub(super) fn held(outbox: &TestOutbox, stream: StreamId) -> Vec<(Header, Vec<f32>)> {
    let mut all = vec![];
    let mut seq = 0;
    while let Some(held) = outbox.next(stream, seq).expect("a good disk") {
        let header = held.chunk.header;
        seq = header.seq;
        let mut values = vec![];
        if let Some(ColumnContent::Present { encoding, .. }) = header.columns.first().map(|column| column.content) {
            let mut raw = vec![];
            let count = header.count as usize;
            Decoder::new()
                .decode_into(encoding, SampleType::F32, count, &held.chunk.columns[0], &mut raw)
                .expect("it decodes");
            values = raw
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
        }
        all.push((header, values));
    }
    all
}

fn kinds(held: &[(Header, Vec<f32>)]) -> Vec<(ChunkKind, Reason, Range<u64>)> {
    held.iter()
        .map(|(header, _)| (header.kind, header.reason, header.first_sample..header.end_sample()))
        .collect()
}

fn only_stream(outbox: &TestOutbox) -> StreamId {
    match outbox.streams()[..] {
        [stream] => stream,
        ref streams => panic!("one stream, not {streams:?}"),
    }
}

#[test]
fn i13_what_a_source_delivers_is_stored_and_ends_closed() {
    let outbox = outbox(Options::default());
    let steps = [
        Step::Samples(0..1_500),
        Step::Gap(1_500..1_600),
        Step::Samples(1_700..1_710),
    ];
    let capture = start(Scripted::boxed(false, &steps), &outbox, None);
    let counters = capture.counters();
    assert_eq!(capture.join(), CaptureEnd::Complete);
    let held = held(&outbox, only_stream(&outbox));
    let expected = [
        (ChunkKind::Samples, Reason::None, 0..992),
        (ChunkKind::Samples, Reason::None, 992..1_500),
        (ChunkKind::Gap, Reason::UsbOverrun, 1_500..1_600),
        (ChunkKind::Gap, Reason::SourceLoss, 1_600..1_700),
        (ChunkKind::Samples, Reason::None, 1_700..1_710),
        (ChunkKind::End, Reason::Closed, 1_710..1_710),
    ];
    assert_eq!(kinds(&held), expected);
    for (header, values) in held.iter().filter(|(header, _)| header.kind == ChunkKind::Samples) {
        let truth: Vec<f32> = (header.first_sample..header.end_sample())
            .map(|sample| sample as f32)
            .collect();
        assert_eq!(values, &truth);
    }
    let status = counters.status();
    assert_eq!(
        (status.sample_count, status.gap_sample_count, status.gap_count),
        (1_510, 200, 2)
    );
    assert_eq!(status.state, "ended");
}

/// The host's clock, which somebody sets: each time that it is looked at, it is hours off in the other direction.
struct Restless {
    steady: SystemClock,
    looks: AtomicI64,
}

impl Clock for Restless {
    fn now(&self) -> Duration {
        self.steady.now()
    }

    fn utc_ns(&self) -> i64 {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let hours = if looks % 2 == 0 { 3 * looks } else { -5 * looks };
        1_795_392_000_000_000_000 + hours * 3_600_000_000_000
    }
}

#[test]
fn i4_a_clock_that_steps_by_hours_moves_no_sample() {
    let outbox = outbox(Options::default());
    let steps = [
        Step::Samples(0..1_500),
        Step::Samples(1_500..2_000),
        Step::Samples(2_010..3_000),
    ];
    let clock = Arc::new(Restless {
        steady: SystemClock::new(),
        looks: AtomicI64::new(0),
    });
    let options = CaptureOptions::default();
    let capture = Capture::start(Scripted::boxed(false, &steps), Arc::clone(&outbox), clock, options);
    assert_eq!(capture.expect("it starts").join(), CaptureEnd::Complete);
    let held = held(&outbox, only_stream(&outbox));
    let first_ns = held[0].0.utc_ns;
    let mut next_sample = 0;
    for (header, values) in &held {
        assert_eq!(header.first_sample, next_sample, "chunks tile");
        next_sample = header.end_sample();
        // At 1,000 samples a second, from the one look that dated the first.
        assert_eq!(header.utc_ns - first_ns, header.first_sample as i64 * 1_000_000);
        let truth: Vec<f32> = (header.first_sample..next_sample).map(|sample| sample as f32).collect();
        assert!(header.kind != ChunkKind::Samples || values == &truth);
    }
    assert_eq!(next_sample, 3_000);
}

#[test]
fn i13_a_duration_is_exact_to_the_sample() {
    for steps in [
        vec![Step::Samples(0..5_000)],
        vec![Step::Samples(0..2_000), Step::Samples(2_000..2_500), Step::Wait],
        vec![Step::Samples(0..10), Step::Gap(10..9_000)],
        vec![Step::Samples(0..10), Step::Samples(3_000..3_010)],
    ] {
        let outbox = outbox(Options::default());
        let capture = start(
            Scripted::boxed(false, &steps),
            &outbox,
            Some(Duration::from_millis(2_500)),
        );
        assert_eq!(capture.join(), CaptureEnd::Complete, "{steps:?}");
        let held = held(&outbox, only_stream(&outbox));
        let last = held.last().map(|(header, _)| (header.kind, header.first_sample));
        assert_eq!(last, Some((ChunkKind::End, 2_500)), "{steps:?}");
    }
}

#[test]
fn a_stopped_or_failed_live_source_still_ends_its_stream() {
    let outbox_of_stopped = outbox(Options::default());
    let capture = start(
        Scripted::boxed(false, &[Step::Samples(0..100), Step::Wait]),
        &outbox_of_stopped,
        None,
    );
    while capture.status().state != "capturing" {
        std::thread::yield_now();
    }
    capture.stop();
    assert_eq!(capture.join(), CaptureEnd::Stopped);
    let of_stopped = kinds(&held(&outbox_of_stopped, only_stream(&outbox_of_stopped)));
    assert_eq!(of_stopped.last(), Some(&(ChunkKind::End, Reason::Closed, 100..100)));

    let outbox_of_failed = outbox(Options::default());
    let capture = start(
        Scripted::boxed(false, &[Step::Samples(0..100), Step::Fail]),
        &outbox_of_failed,
        None,
    );
    let counters = capture.counters();
    assert!(matches!(capture.join(), CaptureEnd::Failed(why) if why.contains("plug it in")));
    assert_eq!(counters.status().state, "failed");
    let of_failed = kinds(&held(&outbox_of_failed, only_stream(&outbox_of_failed)));
    assert_eq!(of_failed.len(), 2, "its samples, and the end");
}

#[test]
fn i11_a_capture_goes_on_in_a_new_stream_of_the_same_epoch() {
    let outbox = outbox(Options::default());
    let capture = start(
        Scripted::boxed(false, &[Step::Samples(0..992), Step::Wait, Step::Samples(992..1_100)]),
        &outbox,
        None,
    );
    let first = loop {
        match outbox.streams().first().and_then(|stream| outbox.view(*stream)) {
            Some(view) if view.tail.seq == 1 => break view,
            _ => std::thread::yield_now(),
        }
    };
    // As the uplink does when a power cut took the outbox's tail: the stream is to be ended.
    let ahead = Position {
        seq: 5,
        next_sample: 992,
        digest: Hash([7; 16]),
        ended: true,
    };
    outbox.adopt(first.definition.id, ahead, false).expect("a good disk");
    capture.stop();
    assert_eq!(capture.join(), CaptureEnd::Stopped);
    let streams: Vec<_> = outbox
        .streams()
        .into_iter()
        .filter(|stream| *stream != first.definition.id)
        .collect();
    let [second] = streams[..] else {
        panic!("the capture opened one more stream, not {streams:?}")
    };
    let second_view = outbox.view(second).expect("it is there");
    assert_eq!(second_view.definition.epoch, first.definition.epoch);
    assert_eq!(second_view.definition.first_sample, 992);
    let of_second = kinds(&held(&outbox, second));
    assert_eq!(of_second.first(), Some(&(ChunkKind::Samples, Reason::None, 992..1_100)));
    assert_eq!(of_second.last(), Some(&(ChunkKind::End, Reason::Closed, 1_100..1_100)));
}

#[test]
fn i4_a_file_waits_for_opened_and_goes_on_where_the_server_stands() {
    let outbox = outbox(Options::default());
    let capture = start(Scripted::boxed(true, &[Step::Samples(0..3_000)]), &outbox, None);
    let stream = only_stream(&outbox);
    assert_eq!(
        outbox.view(stream).map(|view| view.tail.seq),
        Some(0),
        "nothing is stored before Opened"
    );
    // The server has the first 1,984 samples of an earlier upload: Opened is adopted.
    let at = Position {
        seq: 2,
        next_sample: 1_984,
        digest: Hash([7; 16]),
        ended: false,
    };
    outbox.adopt(stream, at, false).expect("a good disk");
    outbox.set_acked(stream, 2, Duration::ZERO).expect("a good disk");
    assert_eq!(capture.join(), CaptureEnd::Complete);
    let tail = outbox.view(stream).expect("it is there").tail;
    assert_eq!((tail.next_sample, tail.ended), (3_000, true));
    let first = outbox
        .next(stream, 2)
        .expect("a good disk")
        .expect("it is held")
        .chunk
        .header;
    assert_eq!((first.first_sample, first.seq), (1_984, 3));
    let before = outbox.next(stream, 0).expect("a good disk").expect("it is held");
    assert_eq!(
        (before.chunk.header.reason, before.chunk.header.utc_ns),
        (Reason::LostByServer, 0),
        "a file's time is its own, not that of its replay"
    );
}

#[test]
fn a_file_that_the_server_has_whole_is_done_and_one_that_is_interrupted_has_no_end() {
    let outbox_of_whole = outbox(Options::default());
    let capture = start(Scripted::boxed(true, &[Step::Fail]), &outbox_of_whole, None);
    let stream = only_stream(&outbox_of_whole);
    let at = Position {
        seq: 5,
        next_sample: 3_000,
        digest: Hash([7; 16]),
        ended: true,
    };
    outbox_of_whole.adopt(stream, at, false).expect("a good disk");
    outbox_of_whole
        .set_acked(stream, 5, Duration::ZERO)
        .expect("a good disk");
    assert_eq!(capture.join(), CaptureEnd::Complete, "it is not even read");

    let outbox_of_stopped = outbox(Options::default());
    let capture = start(
        Scripted::boxed(true, &[Step::Samples(0..1_500), Step::Wait]),
        &outbox_of_stopped,
        None,
    );
    let stream = only_stream(&outbox_of_stopped);
    outbox_of_stopped
        .set_acked(stream, 0, Duration::ZERO)
        .expect("a good disk");
    while outbox_of_stopped.view(stream).is_some_and(|view| view.tail.seq == 0) {
        std::thread::yield_now();
    }
    capture.stop();
    assert_eq!(capture.join(), CaptureEnd::Stopped);
    let tail = outbox_of_stopped.view(stream).expect("it is there").tail;
    assert_eq!(
        (tail.next_sample, tail.ended),
        (992, false),
        "whole chunks only: the rest is read again"
    );

    let outbox_of_impatient = outbox(Options::default());
    let capture = start(
        Scripted::boxed(true, &[Step::Samples(0..10)]),
        &outbox_of_impatient,
        None,
    );
    capture.stop();
    assert_eq!(
        capture.join(),
        CaptureEnd::Stopped,
        "a server that never answers does not hold it"
    );
}

#[test]
fn i12_a_full_outbox_blocks_the_source_until_there_is_room() {
    let options = Options {
        quota_bytes: QUOTA_BYTES_MIN,
        when_full: WhenFull::Block,
        ..Options::default()
    };
    let outbox = outbox(options);
    outbox.kv().set_capacity(Some(1_000));
    let capture = start(
        Scripted::boxed(false, &[Step::Samples(0..992), Step::Wait]),
        &outbox,
        None,
    );
    while capture.status().state != "blocked" {
        std::thread::yield_now();
    }
    assert_eq!(capture.status().sample_count, 0);
    outbox.kv().set_capacity(None);
    while capture.status().sample_count == 0 {
        std::thread::yield_now();
    }
    capture.stop();
    assert_eq!(capture.join(), CaptureEnd::Stopped);
    assert_eq!(kinds(&held(&outbox, only_stream(&outbox))).len(), 2);
}

/// Its sources wait: the disk takes changes, and has no room for samples.
fn full_outbox() -> Arc<TestOutbox> {
    let outbox = outbox(Options {
        when_full: WhenFull::Block,
        ..Options::default()
    });
    outbox.kv().set_capacity(Some(100_000));
    outbox
}

fn stop_when_blocked(capture: Capture) -> CaptureEnd {
    while capture.status().state != "blocked" {
        std::thread::yield_now();
    }
    capture.stop();
    capture.join()
}

#[test]
fn i4_a_file_that_is_stopped_in_a_full_outbox_has_no_end() {
    let outbox = full_outbox();
    let capture = start(Scripted::boxed(true, &[Step::Samples(0..500)]), &outbox, None);
    let stream = only_stream(&outbox);
    outbox.set_acked(stream, 0, Duration::ZERO).expect("a good disk");
    assert_eq!(stop_when_blocked(capture), CaptureEnd::Stopped);
    let tail = outbox.view(stream).expect("it is there").tail;
    assert_eq!(
        (tail.next_sample, tail.ended),
        (0, false),
        "the server would take it for the whole file"
    );
}

#[test]
fn i13_what_a_live_source_delivered_and_could_not_be_stored_is_a_gap_before_the_end() {
    for delivered in [100, 1_500] {
        let outbox = full_outbox();
        let steps = [Step::Samples(0..delivered), Step::Done];
        let capture = start(Scripted::boxed(false, &steps), &outbox, None);
        let counters = capture.counters();
        let end = stop_when_blocked(capture);
        assert!(
            matches!(&end, CaptureEnd::Failed(why) if why.contains(&delivered.to_string())),
            "{end:?}"
        );
        let expected = [
            (ChunkKind::Gap, Reason::SourceLoss, 0..delivered),
            (ChunkKind::End, Reason::Closed, delivered..delivered),
        ];
        assert_eq!(kinds(&held(&outbox, only_stream(&outbox))), expected);
        assert_eq!(counters.status().gap_sample_count, delivered);
    }
}

#[test]
fn i4_a_file_whose_stream_moves_before_its_end_is_read_on_from_there() {
    let outbox = outbox(Options::default());
    let at = Position {
        seq: 1,
        next_sample: 300,
        digest: Hash([7; 16]),
        ended: false,
    };
    let steps = [
        Step::Samples(0..500),
        Step::Adopt(Arc::clone(&outbox), at),
        Step::Done,
        Step::Samples(0..500),
    ];
    let capture = start(Scripted::boxed(true, &steps), &outbox, None);
    let stream = only_stream(&outbox);
    outbox.set_acked(stream, 0, Duration::ZERO).expect("a good disk");
    assert_eq!(capture.join(), CaptureEnd::Complete);
    let expected = [
        (ChunkKind::Gap, Reason::LostByServer, 0..300),
        (ChunkKind::Samples, Reason::None, 300..500),
        (ChunkKind::End, Reason::Closed, 500..500),
    ];
    assert_eq!(kinds(&held(&outbox, stream)), expected);
}

#[test]
fn i1_a_chunk_that_is_stored_and_cannot_be_synced_yet_is_not_stored_again() {
    let outbox = outbox(Options {
        durability: Durability::EachChunk,
        ..Options::default()
    });
    let steps = [
        Step::Samples(0..500),
        Step::FullForSyncs(Arc::clone(&outbox), 3),
        Step::Samples(500..1_000),
    ];
    let capture = start(Scripted::boxed(false, &steps), &outbox, None);
    assert_eq!(capture.join(), CaptureEnd::Complete);
    let expected = [
        (ChunkKind::Samples, Reason::None, 0..992),
        (ChunkKind::Samples, Reason::None, 992..1_000),
        (ChunkKind::End, Reason::Closed, 1_000..1_000),
    ];
    assert_eq!(kinds(&held(&outbox, only_stream(&outbox))), expected);
    assert_eq!(outbox.kv().unsynced_batches(), 0);
}
