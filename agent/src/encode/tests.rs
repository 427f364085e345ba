//! Columns that are encoded and decoded again, whatever was chosen for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wavekeep_proto::chunk::{ChunkKind, Header, Reason};
use wavekeep_proto::codec::Decoder;
use wavekeep_proto::id::Epoch;

use super::*;
use crate::chunker::CutColumn;

const CHOICES: [EncodingChoice; 4] = [
    EncodingChoice::Auto,
    EncodingChoice::Plain,
    EncodingChoice::ShuffleZstd,
    EncodingChoice::Pco,
];

/// Each look at it takes a millisecond; between chunks the test lets time pass.
#[derive(Default)]
struct SlowClock(AtomicU64);

impl Clock for SlowClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
    fn utc_ns(&self) -> i64 {
        0
    }
}

impl SlowClock {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

fn definition(types: &[SampleType]) -> StreamDefinition {
    let signal = |(sample_type, number): (&SampleType, u16)| Signal {
        number,
        name: format!("signal {number}"),
        sample_type: *sample_type,
        unit: "A".into(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([1; 16]),
        device: "bench".into(),
        epoch: Epoch([2; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1000.0,
        first_sample: 0,
        signals: types.iter().zip(0..).map(signal).collect(),
        attributes: BTreeMap::new(),
    }
}

fn cut(count: u64, columns: &[CutColumn]) -> Cut<'_> {
    Cut {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_sample: 0,
        count,
        utc_ns: 0,
        markers: Vec::new(),
        columns,
    }
}

fn present(samples: Vec<u8>) -> CutColumn {
    CutColumn { absent: None, samples }
}

/// Of the simulator's kind: codes times a gain, with what is no number in between.
fn codes(count: u64) -> Vec<u8> {
    let special = [
        f32::from_bits(0x7fc0_1234),
        -0.0,
        f32::INFINITY,
        f32::from_bits(0x7f80_0001),
    ];
    let sample = |at: u64| match at % 97 {
        place @ 0..4 => special[place as usize],
        _ => {
            (8_000
                + (at + 1)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29)
                    .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                    % 7) as f32
                * 3.3e-4
        }
    };
    (0..count).flat_map(|at| sample(at).to_le_bytes()).collect()
}

fn encodings(headers: &[ColumnHeader]) -> Vec<Option<Encoding>> {
    let of = |header: &ColumnHeader| match header.content {
        ColumnContent::Present { encoding, .. } => Some(encoding),
        ColumnContent::Absent(_) => None,
    };
    headers.iter().map(of).collect()
}

#[test]
fn i13_encoded_columns_decode_to_what_was_cut() {
    let samples = codes(4_000);
    let absent = CutColumn {
        absent: Some(Reason::SignalOff),
        samples: Vec::new(),
    };
    let columns = [absent, present(samples.clone())];
    let definition = definition(&[SampleType::F32; 2]);
    for choice in CHOICES {
        let (mut encoder, clock) = (ColumnEncoder::new(choice), SlowClock::default());
        let mut seen = Vec::new();
        for _ in 0..20 {
            let (headers, columns) = encoder.encode(&definition, &cut(4_000, &columns), &clock);
            clock.pass(Duration::from_secs(4));
            let ColumnContent::Present { encoding, hash } = headers[1].content else {
                panic!("it is present")
            };
            assert_eq!(headers[0].content, ColumnContent::Absent(Reason::SignalOff));
            let mut decoded = Vec::new();
            Decoder::new()
                .decode_into(encoding, SampleType::F32, 4_000, &columns[0], &mut decoded)
                .expect("it decodes");
            assert!(decoded == samples);
            assert_eq!(hash, hash::column_hash(1, SampleType::F32, 4_000, &decoded));
            seen.push(encoding);
        }
        seen.dedup();
        let expected: &[Encoding] = match choice {
            EncodingChoice::Auto => &[Encoding::ShuffleZstd, Encoding::Pco],
            EncodingChoice::Plain => &[Encoding::Plain],
            EncodingChoice::ShuffleZstd => &[Encoding::ShuffleZstd],
            EncodingChoice::Pco => &[Encoding::Pco],
        };
        assert_eq!(seen, expected, "{}", choice.name());
    }
}

#[test]
fn auto_tells_why_and_leaves_pco_where_there_is_no_time_for_it() {
    let definition = definition(&[SampleType::F32; 2]);
    let columns = [present(codes(60_000)), present(codes(60_000))];
    let (mut encoder, clock) = (ColumnEncoder::new(EncodingChoice::Auto), SlowClock::default());
    assert!(encoder.explain(&definition).is_empty());
    let mut last = Vec::new();
    for _ in 0..100 {
        last = encodings(&encoder.encode(&definition, &cut(60_000, &columns), &clock).0);
        clock.pass(Duration::from_secs(1));
    }
    assert_eq!(last, [Some(Encoding::Pco); 2]);
    let why = encoder.explain(&definition);
    assert!(why["signal 0"].starts_with("pco, "), "{why:?}");
    // As fast as it goes.
    for _ in 0..100 {
        last = encodings(&encoder.encode(&definition, &cut(60_000, &columns), &clock).0);
    }
    assert_eq!(last, [Some(Encoding::ShuffleZstd); 2]);
    let why = encoder.explain(&definition);
    assert!(why["signal 1"].starts_with("shuffle+zstd, "), "{why:?}");
    // Time for one of two: 10 % of a core each, of 12.
    for _ in 0..600 {
        last = encodings(&encoder.encode(&definition, &cut(60_000, &columns), &clock).0);
        clock.pass(Duration::from_millis(13));
    }
    last.sort_unstable();
    assert_eq!(last, [Some(Encoding::ShuffleZstd), Some(Encoding::Pco)]);
}

#[test]
fn i14_no_hash_and_no_digest_knows_how_a_column_was_encoded() {
    let definition = definition(&[SampleType::F32, SampleType::U1]);
    let columns = [present(codes(4_000)), present(vec![0x0f; 500])];
    let mut hashes = Vec::new();
    for choice in CHOICES {
        let (headers, _) = ColumnEncoder::new(choice).encode(&definition, &cut(4_000, &columns), &SlowClock::default());
        let header = Header {
            kind: ChunkKind::Samples,
            reason: Reason::None,
            first_seq: 1,
            seq: 1,
            first_sample: 0,
            count: 4_000,
            utc_ns: 0,
            markers: Vec::new(),
            columns: headers,
        };
        hashes.push((encodings(&header.columns), hash::chunk_hash(&header)));
    }
    assert_eq!(hashes[1].0, [Some(Encoding::Plain); 2]);
    assert_eq!(hashes[3].0, [Some(Encoding::Pco), Some(Encoding::ShuffleZstd)]);
    assert!(hashes.iter().all(|(_, hash)| *hash == hashes[0].1));
}

#[test]
fn logic_comes_back_packed_and_a_level_that_holds_costs_a_few_bytes() {
    let types = [SampleType::U1, SampleType::U4, SampleType::U8];
    let definition = definition(&types);
    let mut still = [vec![0xff; 8_192], vec![0x33; 32_768], vec![3; 65_536]];
    still[0][4_000] = 0x7f;
    // 9 samples fill a byte and a bit, and a byte and four of them.
    let odd = [
        vec![0b1010_0110, 1],
        vec![0x21, 0x43, 0x65, 0x87, 0x09],
        (0..9).collect(),
    ];
    for choice in CHOICES {
        let mut encoder = ColumnEncoder::new(choice);
        for (count, samples) in [(65_536, &still), (9, &odd)] {
            let columns = samples.clone().map(present);
            let (headers, encoded) = encoder.encode(&definition, &cut(count, &columns), &SlowClock::default());
            for (((header, bytes), sample_type), samples) in headers.iter().zip(&encoded).zip(types).zip(samples) {
                let ColumnContent::Present { encoding, .. } = header.content else {
                    panic!("it is present")
                };
                let mut decoded = Vec::new();
                Decoder::new()
                    .decode_into(encoding, sample_type, count as usize, bytes, &mut decoded)
                    .expect("it decodes");
                assert!(decoded == *samples);
                if count == 65_536 && choice != EncodingChoice::Plain {
                    assert!(
                        bytes.len() <= 48,
                        "{}: {} bytes as {encoding}",
                        sample_type.name(),
                        bytes.len()
                    );
                }
            }
        }
    }
}

#[test]
fn encodings_that_do_not_exist_are_refused_with_a_way_out() {
    for choice in CHOICES {
        assert_eq!(choice.name().parse(), Ok(choice));
    }
    let refused = "gzip".parse::<EncodingChoice>();
    assert!(refused.is_err_and(|why| why.contains("use auto, plain, shuffle-zstd or pco")));
}
