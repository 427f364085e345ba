//! Listings of chunks: what they start with, and what came after those that the caller has.

mod common;
mod query_support;

use common::{Stream, entry, owner};
use query_support::{Asker, assert_refused, by_device, by_stream, changed, id, with_signals};
use tonic::Code;
use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::v1;
use wavekeep_proto::wire::header_from_bytes;
use wavekeep_server::ledger::{Quarantine, Row};

fn seqs(chunks: &[v1::ChunkInfo]) -> Vec<u64> {
    let seq = |chunk: &v1::ChunkInfo| header_from_bytes(&chunk.header).expect("a header").seq;
    chunks.iter().map(seq).collect()
}

/// Signal and values of each column of each chunk.
fn starts(chunks: &[v1::ChunkInfo]) -> Vec<Vec<(u32, Vec<f64>)>> {
    let of_chunk = |chunk: &v1::ChunkInfo| {
        let columns = chunk.first_samples.iter();
        columns.map(|column| (column.signal, column.values.clone())).collect()
    };
    chunks.iter().map(of_chunk).collect()
}

fn request(selection: v1::Selection, first_samples: u32, newest_first: bool) -> v1::ListChunksRequest {
    v1::ListChunksRequest {
        selection: Some(selection),
        first_samples,
        newest_first,
        ..v1::ListChunksRequest::default()
    }
}

#[tokio::test]
async fn chunks_show_what_they_start_with() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let mut quarantined = stream.few_samples();
    quarantined.quarantine = Some(Quarantine { why: "a test".into() });
    let rows = vec![
        quarantined,
        stream.few_samples(),
        stream.half_samples(),
        stream.gap(5, Reason::HostSuspend),
        stream.samples(&[7.5f32.to_bits()]),
        stream.end(),
    ];
    asker.store(&stream, rows).await;
    let (current, voltage) = (0, 40_000);
    let list = async |request| starts(&asker.list_chunks(request).await.expect("an answer"));
    let two = vec![1.0, 2.0];
    let expected = vec![
        vec![],
        vec![(current, two.clone()), (voltage, two.clone())],
        vec![(current, two)],
        vec![],
        vec![(current, vec![7.5]), (voltage, vec![7.5])],
        vec![],
    ];
    assert_eq!(list(request(by_stream(&stream), 2, false)).await, expected);
    let backwards: Vec<_> = expected.iter().rev().cloned().collect();
    assert_eq!(list(request(by_stream(&stream), 2, true)).await, backwards);
    assert_eq!(list(request(by_stream(&stream), 0, false)).await, vec![vec![]; 6]);
    let one = with_signals(by_stream(&stream), &["voltage"]);
    let of_voltage = list(request(one, 16, false)).await;
    assert_eq!(of_voltage[1], [(voltage, vec![1.0, 2.0, 3.0])]);
    assert_eq!(of_voltage[2], []);
    let too_many = asker.list_chunks(request(by_stream(&stream), 17, false)).await;
    assert_refused(too_many, Code::InvalidArgument, "at most the first 16 samples");
}

#[tokio::test]
async fn i14_a_damaged_column_is_not_shown_and_does_not_end_the_listing() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![
        stream.few_samples(),
        stream.few_samples(),
        stream.few_samples(),
        stream.few_samples(),
    ];
    asker.store(&stream, rows).await;
    let damage = "UPDATE chunk_signal SET payload = set_byte(payload, 9, 77) WHERE seq = 1 AND signal = 0;
                  UPDATE chunk_signal SET payload = substr(payload, 2) WHERE seq = 2 AND signal = 0;
                  DELETE FROM chunk_signal WHERE seq = 3 AND signal = 0";
    asker.fixture.run(damage).await;
    let chunks = asker
        .list_chunks(request(by_stream(&stream), 1, false))
        .await
        .expect("an answer");
    let (current, voltage) = ((0, vec![1.0]), (40_000, vec![1.0]));
    let damaged = vec![voltage.clone()];
    assert_eq!(
        starts(&chunks),
        [damaged.clone(), damaged.clone(), damaged, vec![current, voltage]]
    );
}

#[tokio::test]
async fn i12_first_samples_are_read_in_batches_and_pages() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    // Two of these fill a batch; a page has 64 chunks.
    let large: Vec<u32> = (0..65_536).map(|at| (at as f32).to_bits()).collect();
    let mut rows = vec![stream.samples(&large)];
    rows.extend((0..70).map(|_| stream.few_samples()));
    rows.extend([stream.gap(65_326, Reason::SourceLoss), stream.samples(&large)]);
    asker.store(&stream, rows).await;
    for newest_first in [false, true] {
        let request = v1::ListChunksRequest {
            limit: 72,
            ..request(by_stream(&stream), 3, newest_first)
        };
        let mut chunks = asker.list_chunks(request).await.expect("an answer");
        let shown = starts(&chunks);
        if newest_first {
            chunks.reverse();
        }
        assert_eq!(
            seqs(&chunks),
            (1..=73).skip(usize::from(newest_first)).take(72).collect::<Vec<_>>()
        );
        let few = vec![(0, vec![1.0, 2.0, 3.0]), (40_000, vec![1.0, 2.0, 3.0])];
        let many = vec![(0, vec![0.0, 1.0, 2.0]), (40_000, vec![0.0, 1.0, 2.0])];
        assert_eq!((&shown[0], &shown[70]), (&many, &few));
    }
}

/// Commits more of a stream that is open.
async fn commit(asker: &Asker, stream: &Stream, owner: wavekeep_proto::id::Owner, before: Position, rows: Vec<Row>) {
    assert_eq!(
        asker.fixture.commit(&[entry(stream, owner, before, rows)]).await,
        [true]
    );
}

#[tokio::test]
async fn i1_a_follower_gets_every_chunk_once() {
    let asker = Asker::new().await;
    let (mut first, mut second) = (Stream::new(), changed(|_| ()));
    let owner = owner();
    asker.fixture.open(&first, owner).await;
    let (mut came, mut after) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let before = first.at;
        let rows = (0..3).map(|_| first.few_samples()).collect();
        commit(&asker, &first, owner, before, rows).await;
        if round == 2 {
            // A stream that the caller does not know yet.
            asker.fixture.open(&second, owner).await;
            let before = second.at;
            let rows = vec![second.few_samples(), second.end()];
            commit(&asker, &second, owner, before, rows).await;
        }
        let request = v1::ListChunksRequest {
            after: after.clone(),
            ..request(by_device("js220-001"), 1, false)
        };
        let chunks = asker.list_chunks(request).await.expect("an answer");
        for chunk in &chunks {
            after.retain(|cursor: &v1::ChunkCursor| cursor.stream_id != chunk.stream_id);
            let (stream_id, seq) = (chunk.stream_id.clone(), seqs(std::slice::from_ref(chunk))[0]);
            came.push((stream_id.to_vec(), seq));
            after.push(v1::ChunkCursor {
                stream_id,
                seq,
                ..Default::default()
            });
        }
    }
    let of = |stream: &Stream| {
        let own = came.iter().filter(|(stream_id, _)| *stream_id == id(stream));
        own.map(|(_, seq)| *seq).collect::<Vec<_>>()
    };
    assert_eq!((of(&first), of(&second)), ((1..=12).collect(), vec![1, 2]));
    let rest = v1::ListChunksRequest {
        after: after.clone(),
        ..request(by_device("js220-001"), 0, false)
    };
    assert_eq!(
        seqs(&asker.list_chunks(rest).await.expect("an answer")),
        Vec::<u64>::new()
    );
    // Of one stream alone, backwards, with a limit.
    let newest = v1::ListChunksRequest {
        after: vec![v1::ChunkCursor {
            stream_id: id(&first).into(),
            seq: 9,
            ..Default::default()
        }],
        limit: 2,
        ..request(by_stream(&first), 0, true)
    };
    assert_eq!(seqs(&asker.list_chunks(newest).await.expect("an answer")), [12, 11]);
}
