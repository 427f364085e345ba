//! The limits of messages and chunks at their edge: the largest chunk that there may be goes all the way, through the transport and
//! Postgres and back; what is one byte larger is refused, and nobody else notices.

#[path = "support/client.rs"]
mod client;
mod common;
#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/model.rs"]
mod model;
mod query_support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;
use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Marker, MarkerFormat, Reason};
use wavekeep_proto::code::Code;
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::frame::{AgentFrame, Hello, Open, ServerFrame};
use wavekeep_proto::hash::{column_hash, frame_hash};
use wavekeep_proto::limits::{
    BASE_LEVEL_MAX, CHUNK_BYTES_MAX, CHUNK_COLUMN_BYTES_MAX, CHUNK_SAMPLES_MAX, HEADER_BYTES_MAX, LABEL_BYTES_MAX,
    LABELS_MAX, MARKER_BYTES_MAX, MARKERS_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, SAMPLE_BITS_MAX, SAMPLE_ID_MAX,
    SIGNALS_MAX, WINDOW_BYTES_MIN,
};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_proto::v1::catalog_client::CatalogClient;
use wavekeep_proto::v1::query_client::QueryClient;
use wavekeep_proto::v1::{self, agent_frame};
use wavekeep_proto::wire;
use wavekeep_server::grpc::{Grpc, common_routes};
use wavekeep_server::ingest::IngestConfig;
use wavekeep_server::ingest::registry::Registry;
use wavekeep_server::ledger::{self, Row};
use wavekeep_server::query;
use wavekeep_server::store::Database;
use wavekeep_server::transport::Incoming;

use client::{Client, hello};
use common::{Fixture, Stream};
use fixtures::{Capture, definition};
use lab::Lab;
use query_support::{Asker, by_stream};

/// `bytes` long, and each number another one.
fn text(number: usize, bytes: usize) -> String {
    let mut text = format!("{number}-");
    text.push_str(&"x".repeat(bytes - text.len()));
    text
}

fn labels() -> BTreeMap<String, String> {
    let label = |number| (text(number, LABEL_BYTES_MAX), text(number, LABEL_BYTES_MAX));
    (0..LABELS_MAX).map(label).collect()
}

/// As wide, as long-winded and as far up the axis as a stream can be: room for one chunk is left.
fn largest_definition() -> StreamDefinition {
    let (number_max, signals) = (u16::MAX, SIGNALS_MAX as u16);
    let signal = |at: u16| Signal {
        number: number_max - signals + 1 + at,
        name: text(at.into(), NAME_BYTES_MAX),
        sample_type: SampleType::U4,
        unit: text(at.into(), NAME_BYTES_MAX),
        finite_only: true,
    };
    let definition = StreamDefinition {
        device: text(0, NAME_BYTES_MAX),
        first_sample: SAMPLE_ID_MAX - CHUNK_SAMPLES_MAX,
        signals: (0..signals).map(signal).collect(),
        attributes: labels(),
        ..common::definition()
    };
    assert_eq!(definition.base_level(), BASE_LEVEL_MAX);
    let bits: u32 = definition.signals.iter().map(|signal| signal.sample_type.bits()).sum();
    assert_eq!(bits, SAMPLE_BITS_MAX, "and as wide as it may be");
    definition.validate().expect("at the limits, not above");
    definition
}

/// All samples of a block, of noise, and as many and as long markers as there may be.
fn largest_chunk(stream: &mut Stream) -> Row {
    let first_sample = stream.at.next_sample;
    let marker = |number: usize| Marker {
        sample: first_sample + CHUNK_SAMPLES_MAX,
        kind: u16::MAX,
        group: u8::MAX,
        y: -0.5,
        format: MarkerFormat::Bytes,
        content: vec![0xff; MARKER_BYTES_MAX * (number + 1) / MARKERS_MAX - MARKER_BYTES_MAX * number / MARKERS_MAX],
    };
    let raw: Bytes = common::random::<{ CHUNK_SAMPLES_MAX as usize / 2 }>().to_vec().into();
    let column = |signal: &Signal| ColumnHeader {
        signal: signal.number,
        content: ColumnContent::Present {
            encoding: Encoding::Plain,
            hash: column_hash(signal.number, SampleType::U4, CHUNK_SAMPLES_MAX as u32, &raw),
        },
    };
    let header = Header {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_seq: 1,
        seq: 1,
        first_sample,
        count: CHUNK_SAMPLES_MAX,
        utc_ns: stream.utc_ns,
        markers: (0..MARKERS_MAX).map(marker).collect(),
        columns: stream.definition.signals.iter().map(column).collect(),
    };
    let row = stream.push(header, vec![raw; SIGNALS_MAX]);
    assert_eq!(
        row.chunk.columns.iter().map(Bytes::len).sum::<usize>(),
        CHUNK_COLUMN_BYTES_MAX
    );
    let markers = row.chunk.header.markers.iter();
    assert_eq!(
        markers.map(|marker| marker.content.len()).sum::<usize>(),
        MARKER_BYTES_MAX
    );
    row
}

/// A server's own services on Postgres, over its own transport.
async fn served(fixture: Fixture) -> (Client, Asker) {
    let ledger = Arc::new(common::ledger(&fixture.url).await);
    // The smallest budget: one session, with the smallest window.
    let registry = Registry::new(lab::budget(WINDOW_BYTES_MIN));
    let (config, reporter) = (IngestConfig::default(), tonic_health::server::HealthReporter::new());
    let database = Database::connect(&fixture.url, 4).await.expect("the database answers");
    let routes = common_routes(ledger, registry.clone(), config, reporter).expect("routes");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let grpc = Grpc {
        incoming: Incoming::new(listener, 8),
        routes: routes.add_service(query::service(database, tokio_util::sync::CancellationToken::new())),
        tls: None,
    };
    tokio::spawn(async move { grpc.serve(&registry, config, std::future::pending()).await });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.connect().await.expect("it listens");
    // As readers have it.
    let query = QueryClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let asker = Asker {
        fixture,
        query,
        catalog: CatalogClient::new(channel.clone()),
    };
    (Client::on(channel).await, asker)
}

#[tokio::test]
async fn i12_the_largest_chunk_is_committed_acked_and_read_back() {
    let (mut client, asker) = served(Fixture::new().await).await;
    let mut stream = Stream::of(largest_definition());
    let start = stream.at;
    let row = largest_chunk(&mut stream);
    let chunk = &row.chunk;
    assert!(wire::header_to_bytes(&chunk.header).len() <= HEADER_BYTES_MAX);
    assert!(chunk.flow_bytes() <= CHUNK_BYTES_MAX as u64);

    let hello = Hello {
        workspace: asker.fixture.workspace.clone(),
        ..hello("")
    };
    client.send(&AgentFrame::Hello(hello)).await;
    assert_eq!(client.welcomed().await.window_bytes, WINDOW_BYTES_MIN);
    let open = Open {
        slot: 1,
        definition: stream.definition.clone(),
        stored_seq: 0,
        labels: labels(),
        run: text(0, NAME_BYTES_MAX),
    };
    client.send(&AgentFrame::Open(open)).await;
    match client.next().await {
        ServerFrame::Opened(opened) => assert_eq!(opened.at, start),
        other => panic!("Opened was expected, not {other:?}"),
    }
    client.chunk(1, chunk).await;
    assert_eq!(client.acked(1, 1).await.digest, chunk.digest);
    let end = stream.end();
    client.chunk(1, &end.chunk).await;
    client.acked(1, 2).await;

    let answered = asker.read_one(by_stream(&stream)).await;
    let came = &answered.chunks[0];
    assert_eq!((answered.chunks.len(), came.quarantined), (2, false));
    assert_eq!(came.chunk.as_ref(), Some(&wire::chunk_to_wire(chunk)), "bit for bit");
    assert_eq!(
        (came.from_sample, came.to_sample),
        (SAMPLE_ID_MAX - CHUNK_SAMPLES_MAX, SAMPLE_ID_MAX)
    );
    assert_eq!(answered.manifest.digest[..], stream.at.digest.as_bytes()[..]);
    assert_eq!(
        answered.info.definition,
        Some(wire::definition_to_wire(&stream.definition))
    );
}

fn framed(slot: u32, chunk: v1::Chunk) -> v1::AgentFrame {
    let chunk = Some(chunk);
    v1::AgentFrame {
        frame: Some(agent_frame::Frame::Chunk(v1::ChunkFrame { slot, chunk })),
        ..v1::AgentFrame::default()
    }
}

/// With a hash of what it holds now.
fn rehashed(mut chunk: v1::Chunk) -> v1::Chunk {
    let columns = chunk.columns.iter().map(|column| &column[..]);
    chunk.frame_hash = frame_hash(&chunk.header, &chunk.digest, columns).to_vec().into();
    chunk
}

/// The chunk in a message of exactly so many bytes.
fn padded(slot: u32, chunk: &Chunk, message_bytes: usize) -> v1::AgentFrame {
    let mut chunk = wire::chunk_to_wire(chunk);
    // First nearly, and then by what is missing: the lengths are numbers of a varying length, too.
    chunk.columns[0] = vec![0; message_bytes - 1_000].into();
    let missing = message_bytes - framed(slot, chunk.clone()).encoded_len();
    chunk.columns[0] = vec![0; message_bytes - 1_000 + missing].into();
    let frame = framed(slot, rehashed(chunk));
    assert_eq!(frame.encoded_len(), message_bytes);
    frame
}

#[tokio::test]
async fn i12_what_is_larger_than_a_chunk_may_be_is_refused_in_its_slot_alone() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    let mut beside = Capture::new(&definition(2));
    client.opened(1, &beside).await;
    let good = capture.samples(&[1.0]);
    let column_bytes = |bytes: usize| {
        let mut chunk = wire::chunk_to_wire(&good);
        chunk.columns[1] = vec![0; bytes - chunk.columns[0].len()].into();
        rehashed(chunk)
    };
    let header_bytes = |bytes: usize| {
        let mut chunk = wire::chunk_to_wire(&good);
        // A field that a later version may know, so many bytes long.
        let mut header = chunk.header.to_vec();
        let rest = bytes - header.len() - 5;
        header.extend([
            0xfa,
            0x01,
            0x80 | (rest & 0x7f) as u8,
            0x80 | (rest >> 7 & 0x7f) as u8,
            (rest >> 14) as u8,
        ]);
        header.resize(bytes, 0);
        chunk.header = header.into();
        rehashed(chunk)
    };
    let above = [
        column_bytes(CHUNK_COLUMN_BYTES_MAX + 1),
        header_bytes(HEADER_BYTES_MAX + 1),
        // In a message that is just not too large.
        wire_chunk(padded(1, &good, MESSAGE_BYTES_MAX)),
    ];
    for (slot, chunk) in (2..).zip(above) {
        client.opened(slot, &capture).await;
        client.send_wire(framed(slot, chunk)).await;
        let (refused, code, message) = client.refused().await;
        assert_eq!((refused, code), (slot, Code::InvalidChunk), "{message}");
        assert!(message.contains("larger than a chunk may be"), "{message}");
        client.chunk(1, &beside.samples(&[1.0])).await;
        client.acked(1, beside.at.seq).await;
    }
    client.opened(9, &capture).await;
    client.send_wire(framed(9, header_bytes(HEADER_BYTES_MAX))).await;
    assert_eq!(client.acked(9, 1).await.digest, good.digest, "as large as it may be");
}

fn wire_chunk(frame: v1::AgentFrame) -> v1::Chunk {
    match frame.frame {
        Some(agent_frame::Frame::Chunk(frame)) => frame.chunk.expect("it is there"),
        other => panic!("a chunk was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn i12_a_message_one_byte_above_the_limit_ends_its_session_and_no_other() {
    let lab = Lab::start().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", lab.address)).expect("an address");
    let channel = endpoint.connect().await.expect("it listens");
    let session = async || {
        let mut client = Client::on(channel.clone()).await;
        client.hello("main").await;
        client.welcomed().await;
        client
    };
    // On the same connection, and on another one.
    let mut others = vec![session().await, Client::welcome(lab.address).await];
    let mut captures = Vec::new();
    for (number, other) in (2..).zip(&mut others) {
        let mut capture = Capture::new(&definition(number));
        other.opened(1, &capture).await;
        other.chunk(1, &capture.samples(&[1.0])).await;
        captures.push(capture);
    }
    let mut large = session().await;
    let mut capture = Capture::new(&definition(1));
    large.opened(1, &capture).await;
    let good = capture.samples(&[1.0]);
    large.send_wire(padded(1, &good, MESSAGE_BYTES_MAX)).await;
    let (slot, code, _) = large.refused().await;
    assert_eq!((slot, code), (1, Code::InvalidChunk), "it was read");
    large.opened(2, &capture).await;
    large.send_wire(padded(2, &good, MESSAGE_BYTES_MAX + 1)).await;
    let (code, message) = large.refused_session().await;
    assert_eq!(code, Code::Protocol);
    assert!(message.contains("too large"), "{message}");

    for (other, capture) in others.iter_mut().zip(&mut captures) {
        other.chunk(1, &capture.samples(&[2.0])).await;
        other.acked(1, 2).await;
    }
    let mut again = session().await;
    assert_eq!(again.opened(1, &capture).await.seq, 0, "nothing of it is stored");
    again.chunk(1, &good).await;
    again.acked(1, 1).await;
}
