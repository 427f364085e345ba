//! What is read back of a real Postgres is what was captured, bit for bit, and the manifest proves it.

mod common;
mod query_support;

use common::{NOVEMBER_2026_NS, Stream, entry, owner};
use query_support::{Asker, assert_refused, between, bits, by_device, by_stream, changed, id, successor, with_signals};
use tonic::Code;
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::hash::{definition_hash, frame_hash};
use wavekeep_proto::wire::header_to_bytes;
use wavekeep_server::ledger::{Quarantine, Row};

/// NaNs with payloads, signalling ones too, −0.0, infinities, a subnormal.
const ODD: [u32; 7] = [
    0x7f80_0001,
    0xffc1_2345,
    0x7fc0_0000,
    0x8000_0000,
    0xff80_0000,
    0x0000_0001,
    0x7f7f_ffff,
];

fn quarantined(mut row: Row) -> Row {
    row.quarantine = Some(Quarantine { why: "a test".into() });
    row
}

#[tokio::test]
async fn i14_chunks_come_back_as_they_were_committed() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let large: Vec<u32> = (0..65_529u32).map(|number| number.wrapping_mul(0x9e37_79b9)).collect();
    let rows = vec![
        stream.samples(&ODD),
        stream.samples(&large),
        stream.gap(100, Reason::SourceLoss),
        stream.with_marker(b"\0note\xff"),
        stream.end(),
    ];
    asker.store(&stream, rows.clone()).await;
    let answered = asker.read_one(by_stream(&stream)).await;
    assert_eq!(answered.chunks.len(), rows.len());
    for (came, row) in answered.chunks.iter().zip(&rows) {
        let chunk = came.chunk.as_ref().expect("a chunk");
        assert_eq!(chunk.header, header_to_bytes(&row.chunk.header));
        assert_eq!(chunk.digest[..], row.chunk.digest.as_bytes()[..]);
        assert_eq!(chunk.columns, row.chunk.columns, "bit for bit");
        let hash = frame_hash(
            &chunk.header,
            &chunk.digest,
            chunk.columns.iter().map(|column| &column[..]),
        );
        assert_eq!(chunk.frame_hash[..], hash.as_bytes()[..]);
        let header = &row.chunk.header;
        assert_eq!(
            (came.from_sample, came.to_sample),
            (header.first_sample, header.end_sample())
        );
    }
    assert_eq!(
        bits(&answered.chunks[0].chunk.as_ref().expect("a chunk").columns[1]),
        ODD
    );
    let manifest = &answered.manifest;
    assert_eq!((manifest.from_sample, manifest.to_sample), (0, stream.at.next_sample));
    assert_eq!(
        (manifest.sample_count, manifest.gap_sample_count),
        (7 + 65_529 + 3, 100)
    );
    assert_eq!((manifest.first_seq, manifest.last_seq, manifest.chunks), (1, 5, 5));
    assert_eq!(
        manifest.digest_before[..],
        definition_hash(&stream.definition).as_bytes()[..]
    );
    assert_eq!(manifest.digest[..], stream.at.digest.as_bytes()[..]);
    assert_eq!(answered.info.digest, manifest.digest);
    assert_eq!(
        (answered.info.ended, answered.info.end_reason),
        (true, Reason::Closed as i32)
    );
}

#[tokio::test]
async fn each_device_is_cut_by_its_own_clock() {
    let asker = Asker::new().await;
    // Both at 1 MHz by their own word; the second one's chunks come each 3.3 µs by the host's clock.
    for (name, apart_ns, expected) in [("true", 3_000, (15, 24)), ("slow", 3_300, (14, 22))] {
        let mut stream = Stream::of(wavekeep_proto::stream::StreamDefinition {
            id: wavekeep_proto::id::StreamId([apart_ns as u8; 16]),
            device: name.into(),
            ..common::definition()
        });
        let rows: Vec<Row> = (0..10)
            .map(|chunk| {
                stream.utc_ns = NOVEMBER_2026_NS + chunk * apart_ns;
                stream.few_samples()
            })
            .collect();
        asker.store(&stream, rows).await;
        let ns = |ns: i64| Some(NOVEMBER_2026_NS + ns);
        let answered = asker.read_one(between(by_device(name), ns(15_000), ns(24_000))).await;
        let cut = (answered.manifest.from_sample, answered.manifest.to_sample);
        assert_eq!(cut, expected, "{name}");
    }
}

#[tokio::test]
async fn i4_a_range_of_time_is_cut_to_its_samples() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    // 1 MHz: a sample each microsecond, chunks at 0, 3, 6 and 9 µs.
    let rows: Vec<Row> = (0..4).map(|_| stream.few_samples()).collect();
    asker.store(&stream, rows.clone()).await;
    let us = |us: i64| Some(NOVEMBER_2026_NS + us * 1_000);
    let cuts = async |from, to| {
        let answered = asker.read_one(between(by_stream(&stream), from, to)).await;
        let cuts: Vec<_> = answered
            .chunks
            .iter()
            .map(|chunk| (chunk.from_sample, chunk.to_sample))
            .collect();
        (cuts, answered.manifest)
    };
    let (some, manifest) = cuts(us(4), us(8)).await;
    assert_eq!(some, [(4, 6), (6, 8)]);
    assert_eq!(
        (manifest.from_sample, manifest.to_sample, manifest.sample_count),
        (4, 8, 4)
    );
    assert_eq!((manifest.first_seq, manifest.last_seq), (2, 3));
    assert_eq!(manifest.digest_before[..], rows[0].chunk.digest.as_bytes()[..]);
    assert_eq!(manifest.digest[..], rows[2].chunk.digest.as_bytes()[..]);
    assert_eq!(cuts(None, us(2)).await.0, [(0, 2)]);
    assert_eq!(cuts(us(10), None).await.0, [(10, 12)]);
    assert_eq!(
        cuts(us(7), us(8)).await.0,
        [(7, 8)],
        "within one chunk that starts before"
    );
    assert_eq!(cuts(us(-5), us(100)).await.0, [(0, 3), (3, 6), (6, 9), (9, 12)]);
    let nothing = asker.waveform(between(by_stream(&stream), us(50), us(60))).await;
    assert_refused(
        nothing,
        Code::OutOfRange,
        "what is stored lies from 2026-11-23T00:00:00Z to 2026-11-23T00:00:00.000012Z",
    );
}

#[tokio::test]
async fn a_range_up_to_the_very_end_of_a_stream_that_ended_is_all_of_its_samples() {
    let asker = Asker::new().await;
    let mut ordered = Stream::new();
    let rows = vec![ordered.few_samples(), ordered.few_samples(), ordered.end()];
    asker.store(&ordered, rows).await;
    let mut stepped = changed(|definition| definition.device = "other".into());
    let mut rows = vec![stepped.few_samples()];
    stepped.utc_ns = NOVEMBER_2026_NS + 1_000;
    rows.extend([stepped.few_samples(), stepped.end()]);
    asker.store(&stepped, rows).await;
    for (stream, samples_us) in [(&ordered, 6), (&stepped, 4)] {
        let end_ns = NOVEMBER_2026_NS + samples_us * 1_000;
        for from_ns in [None, Some(NOVEMBER_2026_NS)] {
            let answered = asker.read_one(between(by_stream(stream), from_ns, Some(end_ns))).await;
            assert_eq!((answered.manifest.from_sample, answered.manifest.to_sample), (0, 6));
        }
        // A nanosecond later its end belongs to it.
        let later = between(by_stream(stream), None, Some(end_ns + 1));
        assert_eq!(asker.read_one(later).await.manifest.last_seq, 3);
    }
}

#[tokio::test]
async fn a_clock_that_stepped_back_hides_nothing() {
    let asker = Asker::new().await;
    let mut stream = changed(|definition| definition.rate_hz = 1.0);
    let second = 1_000_000_000;
    let mut rows = vec![stream.few_samples(), stream.few_samples()];
    stream.utc_ns = NOVEMBER_2026_NS;
    rows.extend([stream.few_samples(), stream.few_samples()]);
    asker.store(&stream, rows).await;
    // Both passes hold seconds 1 to 5; everything in between belongs to it.
    let range = between(
        by_stream(&stream),
        Some(NOVEMBER_2026_NS + second),
        Some(NOVEMBER_2026_NS + 5 * second),
    );
    let answered = asker.read_one(range).await;
    assert_eq!((answered.manifest.from_sample, answered.manifest.to_sample), (1, 11));
}

#[tokio::test]
async fn only_the_columns_asked_for_come() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![stream.few_samples(), stream.half_samples()];
    asker.store(&stream, rows.clone()).await;
    let voltage = asker.read_one(with_signals(by_stream(&stream), &["voltage"])).await;
    let columns = |at: usize| voltage.chunks[at].chunk.as_ref().expect("a chunk").columns.clone();
    assert_eq!(
        (columns(0), columns(1).len()),
        (vec![rows[0].chunk.columns[1].clone()], 0)
    );
    let manifest = &voltage.manifest;
    assert_eq!(
        (manifest.sample_count, manifest.gap_sample_count, manifest.gaps.len()),
        (3, 3, 1)
    );
    assert_eq!(
        (manifest.gaps[0].signals.as_slice(), manifest.gaps[0].reason),
        (&["voltage".to_owned()][..], 21)
    );
    let current = asker.read_one(with_signals(by_stream(&stream), &["current"])).await;
    assert_eq!((current.manifest.sample_count, current.manifest.gaps.len()), (6, 0));
}

#[tokio::test]
async fn a_quarantined_chunk_reads_as_a_gap() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![
        stream.few_samples(),
        quarantined(stream.few_samples()),
        stream.few_samples(),
    ];
    asker.store(&stream, rows).await;
    let answered = asker.read_one(by_stream(&stream)).await;
    let chunk = answered.chunks[1].clone();
    assert!(chunk.quarantined && chunk.chunk.expect("its header is there").columns.is_empty());
    let manifest = &answered.manifest;
    assert_eq!((manifest.sample_count, manifest.gap_sample_count), (6, 3));
    let gap = &manifest.gaps[0];
    assert_eq!(
        (gap.first_sample, gap.count, gap.reason),
        (3, 3, Reason::Quarantined as i32)
    );
    assert_eq!(
        (gap.from_ns, gap.to_ns),
        (NOVEMBER_2026_NS + 3_000, NOVEMBER_2026_NS + 6_000)
    );
}

#[tokio::test]
async fn i13_many_chunks_and_gaps_come_page_by_page_and_all_of_them() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    // More than a manifest holds at a time, so that some of them are named early.
    let pairs = 5_100;
    let mut rows = Vec::new();
    for _ in 0..pairs {
        rows.extend([
            stream.gap(5, Reason::SourceLoss),
            stream.gap(2, Reason::UsbOverrun),
            stream.samples(&[0]),
        ]);
    }
    asker.store(&stream, rows).await;
    let parts = asker.waveform(by_stream(&stream)).await.expect("an answer");
    let early = parts
        .iter()
        .filter(|part| matches!(part.part, Some(wavekeep_proto::v1::waveform_part::Part::Manifest(_))));
    assert_eq!(early.count(), 2, "10,200 gaps: one manifest before the last");
    let answered = asker.read_one(by_stream(&stream)).await;
    assert_eq!(
        (answered.chunks.len() as u64, answered.manifest.chunks),
        (3 * pairs, 3 * pairs)
    );
    assert_eq!(
        (answered.manifest.sample_count, answered.manifest.gap_sample_count),
        (pairs, 7 * pairs)
    );
    let named: u64 = answered.manifest.gaps.iter().map(|gap| gap.count).sum();
    assert_eq!((answered.manifest.gaps.len() as u64, named), (2 * pairs, 7 * pairs));
    let listed = asker.gaps(by_stream(&stream)).await.expect("an answer");
    assert_eq!(listed.len() as u64, 2 * pairs);
    assert_eq!(listed.iter().map(|gap| gap.count).sum::<u64>(), 7 * pairs);
    assert!(
        listed
            .windows(2)
            .all(|pair| pair[0].first_sample < pair[1].first_sample)
    );
}

#[tokio::test]
async fn a_successor_is_preferred_from_where_it_continues() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let mut rows = vec![stream.few_samples(), stream.few_samples()];
    let fork = stream.clone();
    rows.push(stream.few_samples());
    asker.store(&stream, rows).await;
    let mut next = successor(&fork, 2, fork.at.next_sample, fork.utc_ns);
    let rows = vec![next.few_samples(), next.few_samples()];
    asker.store(&next, rows).await;
    let device = stream.definition.device.clone();
    let answered = asker.read(by_device(&device)).await;
    let read: Vec<_> = answered
        .iter()
        .map(|stream| {
            (
                stream.manifest.stream_id.to_vec(),
                stream.manifest.last_seq,
                stream.manifest.to_sample,
            )
        })
        .collect();
    assert_eq!(read, [(id(&stream), 2, 6), (id(&next), 2, 12)]);
    let itself = asker.read_one(by_stream(&stream)).await;
    assert_eq!(itself.manifest.last_seq, 3);
}

/// A clone's successor, while the original goes on in their stream; or one that has not everything yet.
#[tokio::test]
async fn i4_a_successor_that_does_not_reach_as_far_hides_nothing() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let (first_sample, start_ns) = (stream.definition.first_sample, stream.utc_ns);
    let rows = vec![stream.few_samples(), stream.few_samples(), stream.few_samples()];
    asker.store(&stream, rows).await;
    let device = stream.definition.device.clone();
    let mut next = successor(&stream, 0, first_sample, start_ns);
    let owner = owner();
    let read = async |next: &mut Stream| {
        let before = next.at;
        let rows = vec![next.few_samples()];
        asker.fixture.open(next, owner).await;
        assert_eq!(asker.fixture.commit(&[entry(next, owner, before, rows)]).await, [true]);
        let answered = asker.read(by_device(&device)).await;
        let read = answered.iter().filter(|stream| stream.manifest.last_seq > 0);
        read.map(|stream| (stream.manifest.stream_id.to_vec(), stream.manifest.to_sample))
            .collect::<Vec<_>>()
    };
    let to_sample = stream.at.next_sample;
    for _ in 0..2 {
        assert_eq!(read(&mut next).await, [(id(&stream), to_sample)]);
    }
    assert_eq!(read(&mut next).await, [(id(&next), to_sample)], "it reaches as far");
    assert_eq!(read(&mut next).await, [(id(&next), to_sample + 3)]);
}

#[tokio::test]
async fn a_successor_of_all_comes_after_what_it_replaces() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let (first_sample, start_ns) = (stream.definition.first_sample, stream.utc_ns);
    let mut chain = Vec::new();
    // Whatever their ids are: by those they would hardly come in order.
    for _ in 0..6 {
        let next = successor(&stream, 0, first_sample, start_ns);
        let rows = vec![stream.few_samples()];
        asker.store(&stream, rows).await;
        chain.push(id(&stream));
        stream = next;
    }
    let device = by_device(&stream.definition.device);
    let listed = asker.streams(device.clone()).await.expect("they are there");
    let listed = listed.into_iter().filter_map(|info| info.definition);
    assert_eq!(
        listed
            .map(|definition| definition.stream_id.to_vec())
            .collect::<Vec<_>>(),
        chain
    );
    let read = asker.read(device).await;
    let read: Vec<_> = read.iter().filter(|stream| stream.manifest.last_seq > 0).collect();
    let [read] = read.as_slice() else {
        panic!("samples are read twice")
    };
    assert_eq!(Some(&read.manifest.stream_id.to_vec()), chain.last());
}

#[tokio::test]
async fn a_stream_whose_last_rows_are_gone_does_not_look_complete() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![stream.few_samples(), stream.few_samples(), stream.few_samples()];
    asker.store(&stream, rows).await;
    asker
        .fixture
        .run("DELETE FROM chunk WHERE seq = 3; DELETE FROM chunk_signal WHERE seq = 3")
        .await;
    let selection = || by_stream(&stream);
    let end_ns = NOVEMBER_2026_NS + 9_000;
    for (from_ns, to_ns) in [(None, None), (Some(NOVEMBER_2026_NS), None), (None, Some(end_ns))] {
        let answer = asker.waveform(between(selection(), from_ns, to_ns)).await;
        assert_refused(answer, Code::DataLoss, "the chunks after seq 2, up to 3, are missing");
    }
    let before = between(selection(), None, Some(end_ns - 3_000));
    assert_eq!(
        asker.read_one(before).await.chunks.len(),
        2,
        "what is there can be read"
    );
    asker
        .fixture
        .run("DELETE FROM chunk WHERE seq = 1; DELETE FROM chunk_signal WHERE seq = 1; UPDATE stream SET watermark = 2")
        .await;
    let retained = asker.read_one(selection()).await;
    assert_eq!(retained.chunks.len(), 1, "what retention dropped is no damage");
}

#[tokio::test]
async fn rows_that_are_gone_are_an_error_and_not_a_shorter_answer() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows: Vec<Row> = (0..5).map(|_| stream.few_samples()).collect();
    asker.store(&stream, rows).await;
    asker
        .fixture
        .run("DELETE FROM chunk_signal WHERE seq = 4 AND signal = 0")
        .await;
    assert_refused(
        asker.waveform(by_stream(&stream)).await,
        Code::DataLoss,
        "seq 4 has lost a column",
    );
    asker.fixture.run("DELETE FROM chunk WHERE seq = 3").await;
    assert_refused(
        asker.waveform(by_stream(&stream)).await,
        Code::DataLoss,
        "seq 3 is missing",
    );
    // What retention removes lies before everything else, and is no damage.
    asker.fixture.run("DELETE FROM chunk WHERE seq < 5").await;
    let rest = asker.read_one(by_stream(&stream)).await;
    assert_eq!((rest.manifest.first_seq, rest.manifest.digest_before.len()), (5, 0));
}
