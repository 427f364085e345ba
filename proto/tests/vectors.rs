//! The test vectors of docs/PROTOCOL.md: the hashed bytes are assembled here as the page says, apart from the product, and
//! docs/protocol-vectors.txt (name, input, hash) is proven current. `WAVEKEEP_GENERATE=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use wavekeep_proto::chunk::{ChunkKind, ColumnContent, ColumnHeader, Header, Marker, MarkerFormat, Reason};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::frame::ServerFrame;
use wavekeep_proto::hash;
use wavekeep_proto::id::{Epoch, Hash, StreamId};
use wavekeep_proto::stream::{Predecessor, SampleType, Signal, StreamDefinition};
use wavekeep_proto::wire;

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn signal_bytes(number: u16, name: &str, sample_type: u8, unit: &str, finite_only: u8) -> Vec<u8> {
    [
        &number.to_le_bytes()[..],
        &text(name),
        &[sample_type],
        &text(unit),
        &[finite_only],
    ]
    .concat()
}

fn signals() -> (Vec<Signal>, Vec<u8>) {
    let signal = |number, name: &str, sample_type, unit: &str, finite_only| Signal {
        number,
        name: name.into(),
        sample_type,
        unit: unit.into(),
        finite_only,
    };
    let signals = vec![
        signal(0, "current", SampleType::F32, "A", false),
        signal(3, "gpi", SampleType::U1, "", true),
    ];
    let bytes = [
        &2u32.to_le_bytes()[..],
        &signal_bytes(0, "current", 1, "A", 0),
        &signal_bytes(3, "gpi", 12, "", 1),
    ]
    .concat();
    (signals, bytes)
}

fn definition() -> (StreamDefinition, Vec<u8>) {
    let (signals, signal_bytes) = signals();
    let id: [u8; 16] = std::array::from_fn(|at| at as u8);
    let definition = StreamDefinition {
        id: StreamId(id),
        device: "µCurrent-1".into(),
        epoch: Epoch([0xee; 16]),
        file_identity: vec![1, 2, 3],
        predecessor: Some(Predecessor {
            stream_id: StreamId([0xab; 16]),
            seq: 41,
        }),
        rate_hz: 1e6,
        first_sample: 1 << 33,
        signals,
        attributes: BTreeMap::from([("serial".into(), "000415".into()), ("model".into(), "JS220".into())]),
    };
    let bytes = [
        &[4][..],
        &id,
        &text("µCurrent-1"),
        &[0xee; 16],
        &[3, 0, 0, 0, 1, 2, 3],
        &[1],
        &[0xab; 16],
        &41u64.to_le_bytes(),
        &1e6f64.to_le_bytes(),
        &(1u64 << 33).to_le_bytes(),
        &signal_bytes,
        &2u32.to_le_bytes(),
        &text("model"),
        &text("JS220"),
        &text("serial"),
        &text("000415"),
    ]
    .concat();
    (definition, bytes)
}

fn header() -> (Header, Vec<u8>) {
    let column = |signal, content| ColumnHeader { signal, content };
    let header = Header {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_seq: 7,
        seq: 7,
        first_sample: 65_536,
        count: 9,
        utc_ns: -1,
        markers: vec![Marker {
            sample: 65_540,
            kind: 1,
            group: 2,
            y: -0.5,
            format: MarkerFormat::Text,
            content: b"boot".to_vec(),
        }],
        columns: vec![
            column(
                0,
                ColumnContent::Present {
                    encoding: Encoding::Plain,
                    hash: Hash([0x11; 16]),
                },
            ),
            column(3, ColumnContent::Absent(Reason::SignalOff)),
        ],
    };
    let absent = hash::absent_column_hash(3, Reason::SignalOff);
    let bytes = [
        &[3, 1, 0, 0][..],
        &7u64.to_le_bytes(),
        &7u64.to_le_bytes(),
        &65_536u64.to_le_bytes(),
        &9u64.to_le_bytes(),
        &(-1i64).to_le_bytes(),
        &1u32.to_le_bytes(),
        &65_540u64.to_le_bytes(),
        &1u16.to_le_bytes(),
        &[2],
        &(-0.5f64).to_le_bytes(),
        &[1],
        &text("boot"),
        &2u16.to_le_bytes(),
        &[0x11; 16],
        absent.as_bytes(),
    ]
    .concat();
    (header, bytes)
}

/// (name, the bytes that are hashed, what the product says)
fn vectors() -> Vec<(&'static str, Vec<u8>, Hash)> {
    let nan = f32::from_bits(0x7fc0_1234);
    let samples: Vec<u8> = [1.5f32, -0.0, nan]
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let column = [&[1, 0, 0, 1, 3, 0, 0, 0][..], &samples].concat();
    let bits = [&[1, 3, 0, 12, 9, 0, 0, 0][..], &[0b1010_0101, 1]].concat();
    let (definition, definition_bytes) = definition();
    let (header, header_bytes) = header();
    let (signals, signal_bytes) = signals();
    let (before, chunk) = (hash::definition_hash(&definition), hash::chunk_hash(&header));
    let digest = hash::next_digest(before, chunk);
    let frame = [
        &[6][..],
        &[2, 0, 0, 0, 0xca, 0xfe],
        digest.as_bytes(),
        &1u32.to_le_bytes(),
        &[3, 0, 0, 0, 9, 8, 7],
    ]
    .concat();
    let content = Hash([0x77; 16]);
    let start = 1_753_539_137_788_000_000i64;
    let file = [
        &[7][..],
        &[0x77; 16],
        &text("ppk2"),
        &start.to_le_bytes(),
        &1e5f64.to_le_bytes(),
        &signal_bytes,
    ];
    let epoch = [&[8][..], &[0x77; 16], &text("ppk2"), &start.to_le_bytes()];
    let control = [&[9][..], &HEARTBEAT].concat();
    vec![
        ("column", column, hash::column_hash(0, SampleType::F32, 3, &samples)),
        (
            "column_packed",
            bits,
            hash::column_hash(3, SampleType::U1, 9, &[0b1010_0101, 1]),
        ),
        (
            "absent_column",
            vec![2, 3, 0, 21, 0],
            hash::absent_column_hash(3, Reason::SignalOff),
        ),
        ("chunk", header_bytes, chunk),
        ("definition", definition_bytes, before),
        (
            "digest",
            [&[5][..], before.as_bytes(), chunk.as_bytes()].concat(),
            digest,
        ),
        (
            "frame",
            frame,
            hash::frame_hash(&[0xca, 0xfe], digest.as_bytes(), [&[9u8, 8, 7][..]].into_iter()),
        ),
        ("control_frame", control, hash::control_hash(&HEARTBEAT)),
        (
            "file_stream",
            file.concat(),
            Hash(hash::file_stream_id(content, "ppk2", start, 1e5, &signals).0),
        ),
        (
            "file_epoch",
            epoch.concat(),
            Hash(hash::file_epoch(content, "ppk2", start).0),
        ),
    ]
}

/// A server's heartbeat, field 6, with a window of 8 MiB, field 1; as protobuf has it.
const HEARTBEAT: [u8; 7] = [0x32, 5, 0x08, 0x80, 0x80, 0x80, 0x04];

#[test]
fn a_control_frame_carries_the_hash_of_the_message_that_it_would_be_without() {
    let frame = ServerFrame::Heartbeat {
        window_bytes: 8 * 1024 * 1024,
    };
    let wire = wire::server_frame_to_wire(&frame).encode_to_vec();
    let check = hash::control_hash(&HEARTBEAT);
    let expected = [&HEARTBEAT[..], &[0x82, 0x01, 16], check.as_bytes()];
    assert_eq!(wire, expected.concat(), "check is field 16");
}

/// A NaN, bit for bit the same on every machine.
const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0000);

/// A chunk without columns.
fn bare(kind: ChunkKind, reason: Reason, (first_seq, seq): (u64, u64), count: u64) -> Header {
    Header {
        kind,
        reason,
        first_seq,
        seq,
        first_sample: 65_545,
        count,
        utc_ns: 1_795_392_000_000_000_000,
        markers: Vec::new(),
        columns: Vec::new(),
    }
}

/// The same by hand: `start` is domain, kind and reason, `markers` their list.
fn bare_bytes(start: [u8; 4], seqs: (u64, u64), count: u64, markers: &[u8]) -> Vec<u8> {
    [
        &start[..],
        &seqs.0.to_le_bytes(),
        &seqs.1.to_le_bytes(),
        &65_545u64.to_le_bytes(),
        &count.to_le_bytes(),
        &1_795_392_000_000_000_000i64.to_le_bytes(),
        markers,
        &[0, 0],
    ]
    .concat()
}

/// The forms that the first vectors leave out: see `vectors`.
fn further_vectors() -> Vec<(&'static str, Vec<u8>, Hash)> {
    let (with_predecessor, bytes) = definition();
    let first = StreamDefinition {
        predecessor: None,
        ..with_predecessor
    };
    // Domain, id, device, epoch, file identity: then 01, stream id and seq become 00.
    let before = 1 + 16 + text("µCurrent-1").len() + 16 + 7;
    let first_bytes = [&bytes[..before], &[0], &bytes[before + 1 + 16 + 8..]].concat();
    let none = 0u32.to_le_bytes();
    let marker = |sample, format, content: &[u8]| Marker {
        sample,
        kind: 0x0102,
        group: 0,
        y: NAN,
        format,
        content: content.into(),
    };
    let evicted = Header {
        markers: vec![
            marker(65_545, MarkerFormat::Json, b"{}"),
            marker(131_080, MarkerFormat::Bytes, &[0xff]),
        ],
        ..bare(ChunkKind::Gap, Reason::Evicted, (8, 12), 65_536)
    };
    let marker_bytes = |sample: u64, format: u8, content: &[u8]| {
        let length = (content.len() as u32).to_le_bytes();
        let y = NAN.to_le_bytes();
        [&sample.to_le_bytes()[..], &[2, 1, 0], &y, &[format], &length, content].concat()
    };
    let markers = [
        &2u32.to_le_bytes()[..],
        &marker_bytes(65_545, 2, b"{}"),
        &marker_bytes(131_080, 3, &[0xff]),
    ]
    .concat();
    let gap = bare(ChunkKind::Gap, Reason::SourceLoss, (8, 8), 100);
    let end = bare(ChunkKind::End, Reason::Closed, (13, 13), 0);
    vec![
        (
            "definition_without_predecessor",
            first_bytes,
            hash::definition_hash(&first),
        ),
        (
            "gap",
            bare_bytes([3, 2, 20, 0], (8, 8), 100, &none),
            hash::chunk_hash(&gap),
        ),
        (
            "replacing_gap_with_markers",
            bare_bytes([3, 2, 1, 0], (8, 12), 65_536, &markers),
            hash::chunk_hash(&evicted),
        ),
        (
            "end",
            bare_bytes([3, 3, 64, 0], (13, 13), 0, &none),
            hash::chunk_hash(&end),
        ),
    ]
}

/// Asked at run time: clones share a target directory, and with it this very program.
fn docs() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    Path::new(&package).join("../docs")
}

#[test]
fn i14_every_hash_is_that_of_its_specified_bytes() {
    let mut page =
        String::from("# name, the bytes that are hashed, XXH3-128 big-endian; docs/PROTOCOL.md explains each\n");
    for (name, bytes, hash) in vectors().into_iter().chain(further_vectors()) {
        let by_hand = xxhash_rust::xxh3::xxh3_128(&bytes).to_be_bytes();
        assert_eq!(hash.as_bytes(), &by_hand, "{name}");
        let input: String = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = writeln!(page, "{name} {input} {hash}");
    }
    let committed = docs().join("protocol-vectors.txt");
    if std::env::var_os("WAVEKEEP_GENERATE").is_some() {
        std::fs::write(&committed, &page).expect("the source tree is writable");
    }
    let old = std::fs::read_to_string(&committed).unwrap_or_default();
    assert_eq!(
        old, page,
        "docs/protocol-vectors.txt is stale: run `make generate` and commit"
    );
}

#[test]
fn the_page_has_the_frame_that_the_codec_is_tested_with() {
    let page = docs().join("PROTOCOL.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    assert!(page.contains(include_str!("../src/codec/frame.hex").trim()));
}
