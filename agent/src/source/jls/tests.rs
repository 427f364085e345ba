//! Files of the official writer, whole, cut and damaged (tests/jls/make.py knows what they hold).

use std::io::Write;

use proptest::prelude::*;
use tempfile::NamedTempFile;
use wavekeep_proto::chunk::{Marker, MarkerFormat, Reason};

use super::*;
use crate::source::{Block, SinkError};

const START_NS: i64 = 1_769_860_800_000_000_000;

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).and_then(|bytes| bytes.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// One stream as it was delivered.
#[derive(Debug, Default, Clone, PartialEq)]
struct Lane {
    first: u64,
    next: u64,
    /// Each signal's samples, raw; packed ones a byte each.
    columns: Vec<Vec<u8>>,
    /// Of each signal: first sample, end, reason.
    absent: Vec<Vec<(u64, u64, Reason)>>,
    gaps: Vec<(u64, u64, Reason)>,
    anchors: Vec<(u64, i64)>,
    markers: Vec<Marker>,
}

/// Keeps what is delivered; asserts that it tiles (I4).
#[derive(Default)]
struct Kept {
    bits: Vec<Vec<u32>>,
    lanes: Vec<Lane>,
    /// Once, at or after this sample of this stream: what is stored now ends there.
    move_at: Option<(usize, u64, u64)>,
}

impl Kept {
    fn new(source: &JlsSource) -> Self {
        let streams = source.describe().streams;
        let lane = |stream: &StreamShape| Lane {
            first: stream.first_sample,
            next: stream.first_sample,
            columns: vec![Vec::new(); stream.signals.len()],
            absent: vec![Vec::new(); stream.signals.len()],
            ..Lane::default()
        };
        let bits = |stream: &StreamShape| stream.signals.iter().map(|signal| signal.sample_type.bits()).collect();
        Self {
            lanes: streams.iter().map(lane).collect(),
            bits: streams.iter().map(bits).collect(),
            move_at: None,
        }
    }
}

impl Sink for Kept {
    fn next_sample(&self, stream: usize) -> u64 {
        self.lanes[stream].next
    }

    fn anchor(&mut self, stream: usize, sample: u64, utc_ns: i64) -> Result<(), SinkError> {
        self.lanes[stream].anchors.push((sample, utc_ns));
        Ok(())
    }

    fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError> {
        let lane = &mut self.lanes[stream];
        assert_eq!(block.first_sample, lane.next, "I4");
        assert!(block.count > 0 && block.count <= limits::SOURCE_BLOCK_SAMPLES as u64);
        let moved = self
            .move_at
            .take_if(|(of, sample, _)| *of == stream && block.first_sample >= *sample);
        if let Some((_, _, next_sample)) = moved {
            *lane = Lane {
                first: next_sample,
                next: next_sample,
                columns: vec![Vec::new(); lane.columns.len()],
                absent: vec![Vec::new(); lane.columns.len()],
                ..Lane::default()
            };
            return Err(SinkError::Moved { stream, next_sample });
        }
        let end = block.first_sample + block.count;
        for (place, column) in block.columns.iter().enumerate() {
            match column {
                Column::Raw(samples) if self.bits[stream][place] < 8 => {
                    let bits = u64::from(self.bits[stream][place]);
                    assert_eq!(samples.len() as u64, (block.count * bits).div_ceil(8));
                    let value = |at: u64| samples[(at * bits / 8) as usize] >> (at * bits % 8) & ((1 << bits) - 1);
                    lane.columns[place].extend((0..block.count).map(value));
                    let padding =
                        samples.last().map_or(0, |last| u32::from(*last)) >> ((block.count * bits + 7) % 8 + 1);
                    assert_eq!(padding, 0, "padding is zero");
                }
                Column::Raw(samples) => lane.columns[place].extend_from_slice(samples),
                Column::Absent(reason) => match lane.absent[place].last_mut() {
                    Some(last) if last.1 == block.first_sample && last.2 == *reason => last.1 = end,
                    _ => lane.absent[place].push((block.first_sample, end, *reason)),
                },
                other => panic!("{other:?}"),
            }
        }
        lane.next = end;
        Ok(())
    }

    fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
        let lane = &mut self.lanes[stream];
        assert_eq!(range.start, lane.next, "I4");
        assert!(range.end > range.start);
        lane.next = range.end;
        lane.gaps.push((range.start, range.end, reason));
        Ok(())
    }

    fn marker(&mut self, stream: usize, marker: Marker) -> Result<(), SinkError> {
        assert!(marker.sample >= self.lanes[stream].next, "not late");
        self.lanes[stream].markers.push(marker);
        Ok(())
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
    let path = format!("{package}/tests/jls/{name}.jls");
    std::fs::read(path).expect("it is committed")
}

fn temporary(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it takes bytes");
    file
}

fn open(bytes: &[u8], start_ns: Option<i64>) -> Result<JlsSource, JlsError> {
    let file = temporary(bytes);
    let device = "bench".into();
    JlsSource::open(
        file.path(),
        JlsOptions { device, start_ns },
        Speed::Max,
        &StopToken::new(),
        |_| (),
    )
}

fn replayed(source: &mut JlsSource) -> Vec<Lane> {
    let mut kept = Kept::new(source);
    source.run(&mut kept, &StopToken::new()).expect("it is delivered");
    kept.lanes
}

/// make.py: words()
fn words(ranges: &[Range<u64>], factor: u64) -> Vec<u8> {
    let word = |at: u64| match at.wrapping_mul(factor) as u32 {
        0x7fc0_0000 => 0x7fc0_0001,
        bits => bits,
    };
    let samples = ranges.iter().cloned().flatten();
    samples.flat_map(|at| word(at).to_le_bytes()).collect()
}

/// make.py: steps()
fn step(at: u64) -> u64 {
    if (12_000..13_000).contains(&at) {
        at * 7 / 3
    } else {
        at / 5000
    }
}

fn assert_pair(lane: &Lane) {
    const FACTOR: [u64; 2] = [2_654_435_761, 2_246_822_519];
    assert_eq!((lane.first, lane.next), (100, 6600));
    let current = words(&[100..3000, 3400..5000, 5100..5200, 5201..6600], FACTOR[0]);
    assert!(lane.columns[0] == current, "current, bit for bit");
    assert!(
        lane.columns[1] == words(&[150..3000, 3400..6500], FACTOR[1]),
        "voltage, bit for bit"
    );
    assert_eq!(lane.gaps, [(3000, 3400, Reason::FileGap)]);
    assert_eq!(
        lane.absent[0],
        [(5000, 5100, Reason::FileGap), (5200, 5201, Reason::FileGap)]
    );
    assert_eq!(
        lane.absent[1],
        [(100, 150, Reason::SignalOff), (6500, 6600, Reason::SignalOff)]
    );
}

#[test]
fn i13_a_jls_file_is_delivered_bit_for_bit_with_its_gaps() {
    let mut source = open(&fixture("pair"), None).expect("good");
    let description = source.describe();
    assert!(description.definitions().is_ok());
    assert_eq!(description.streams.len(), 1);
    let names: Vec<_> = description.streams[0]
        .signals
        .iter()
        .map(|signal| (&*signal.name, &*signal.unit))
        .collect();
    assert_eq!(names, [("current", "A"), ("voltage", "V")]);
    let lanes = replayed(&mut source);
    assert_pair(&lanes[0]);
}

#[test]
fn times_become_anchors_and_annotations_markers() {
    let mut source = open(&fixture("pair"), None).expect("good");
    assert_eq!(source.describe().file.map(|file| file.start_ns), Some(START_NS));
    let lanes = replayed(&mut source);
    let later = START_NS + 4_000_000_000 + 976_563;
    assert_eq!(lanes[0].anchors, [(100, START_NS), (4100, later)]);
    let found: Vec<_> = lanes[0]
        .markers
        .iter()
        .map(|m| (m.sample, m.kind, m.group, m.format, &*m.content))
        .collect();
    let expected: [(u64, u16, u8, MarkerFormat, &[u8]); 5] = [
        (200, 0, 3, MarkerFormat::Text, b"hello"),
        (2100, 0, 0, MarkerFormat::Text, b"of the whole file"),
        (3100, 1, 0, MarkerFormat::Text, b"1a"),
        (4000, 2, 1, MarkerFormat::Text, b"2"),
        (4001, 3, 0, MarkerFormat::Bytes, b"\x00\xff"),
    ];
    assert_eq!(found, expected);
    assert_eq!(lanes[0].markers[0].y.to_bits(), 1.5f64.to_bits());
    assert_eq!(lanes[0].markers[2].y.to_bits(), f64::NAN.to_bits());
    let warnings = source.warnings().join("; ");
    assert!(warnings.contains("1 annotations stand at no sample"), "{warnings}");
    assert!(warnings.contains("1 pieces of user data"), "{warnings}");
    let labels = source.labels();
    assert_eq!(labels["notes"], "a note");
    assert_eq!(labels["user_data.7"], r#"{"algorithm": "A"}"#);
    assert_eq!(
        (&*labels["source.model"], &*labels["source.serial_number"]),
        ("JS220", "000415")
    );

    let mut told = open(&fixture("pair"), Some(7)).expect("good");
    assert_eq!(
        replayed(&mut told)[0].anchors,
        [(100, 7)],
        "a time that was given counts"
    );
    assert_ne!(told.stream_ids(), source.stream_ids());
}

#[test]
fn i13_constant_chunks_that_were_left_out_come_back() {
    let mut source = open(&fixture("packed"), None).expect("good");
    let streams = source.describe().streams;
    assert_eq!(
        streams.iter().map(|stream| stream.rate_hz).collect::<Vec<_>>(),
        [1000.0, 2000.0]
    );
    let omitted = |number: u8| {
        let entries = source.contents.signals[&number].entries.iter();
        entries
            .filter(|entry| matches!(entry.place, scan::Place::Constant(_)))
            .map(|entry| entry.count)
            .sum::<u64>()
    };
    for number in [3, 4, 5, 6, 8] {
        assert!(
            omitted(number) > 15_000,
            "signal {number}: the writer left them out, or this tests nothing"
        );
    }
    let lanes = replayed(&mut source);
    let of = |name: &str| {
        let place = streams[0].signals.iter().position(|signal| signal.name == name);
        &lanes[0].columns[place.expect("it is there")]
    };
    let bytes = |value: &dyn Fn(u64) -> u8| (0..30_000).map(value).collect::<Vec<u8>>();
    let bits = bytes(&|at| (step(at) & 1) as u8);
    assert!(*of("current_range") == bytes(&|at| (step(at) & 0xf) as u8));
    assert!(*of("gpi[0]") == bits);
    assert!(*of("state") == bytes(&|at| (step(at) * 40) as u8));
    assert!(*of("level") == bytes(&|at| step(at).wrapping_mul(20).wrapping_neg() as u8));
    assert!(lanes[1].columns[0] == bits);
    let raw: Vec<u8> = (0..3000i16)
        .flat_map(|at| at.wrapping_mul(11).wrapping_sub(9000).to_le_bytes())
        .collect();
    assert!(*of("raw") == raw);
    let energy: Vec<u8> = (0..1000u32)
        .flat_map(|at| (f64::from(at) * 0.1).to_le_bytes())
        .collect();
    assert!(*of("energy") == energy);
    // Four bits with a sign.
    let nibbles: Vec<u8> = (11_000..14_000)
        .map(|at| (step(at) as u8) << 4)
        .map(|up| (up.cast_signed() >> 4).cast_unsigned())
        .collect();
    assert!(*of("nibble") == nibbles);
    assert_eq!(lanes[0].gaps, []);
    assert!(source.warnings().is_empty(), "{:?}", source.warnings());
}

#[test]
fn a_file_that_was_never_closed_is_read_up_to_its_last_whole_chunk() {
    let bytes = fixture("unclean");
    assert_eq!(bytes[16..24], [0; 8], "its writer was killed");
    assert!(matches!(open(&bytes, None), Err(JlsError::NoStart)));
    let mut source = open(&bytes, Some(START_NS)).expect("it reads");
    let warning = source.warnings().join("; ");
    assert!(warning.contains("was not closed"), "{warning}");
    let lanes = replayed(&mut source);
    // Of 4000 samples, three chunks of 1024 are whole.
    assert_eq!((lanes[0].first, lanes[0].next), (0, 3072));
    assert!(lanes[0].columns[0] == words(std::slice::from_ref(&(0..3072)), 2_654_435_761));
    assert!(lanes[0].columns[1] == words(std::slice::from_ref(&(0..3072)), 2_246_822_519));
    assert!(warning.contains("6144 samples"), "{warning}");
}

#[test]
fn i13_a_file_cut_off_anywhere_gives_whole_chunks_and_nothing_else() {
    let bytes = fixture("pair");
    let whole = words(std::slice::from_ref(&(100..3000)), 2_654_435_761);
    let mut last = 0;
    for length in (32..bytes.len()).step_by(997) {
        let opened = open(&bytes[..length], Some(START_NS));
        if matches!(opened, Err(JlsError::Scan(ScanError::NoSamples))) {
            assert_eq!(last, 0, "{length}");
            continue;
        }
        let mut source = opened.expect("it reads");
        assert!(
            source.warnings().iter().any(|warning| warning.contains("not closed")),
            "{length}"
        );
        let column = &replayed(&mut source)[0].columns[0];
        let common = column.len().min(whole.len());
        assert!(column[..common] == whole[..common], "{length}");
        assert!(column.len() >= last, "{length}: a longer file has no fewer samples");
        last = column.len();
    }
    assert!(last > whole.len());
}

#[test]
fn i4_a_damaged_chunk_becomes_a_gap_and_is_told() {
    let mut bytes = fixture("pair");
    let source = open(&bytes, None).expect("good");
    let entry = source.contents.signals[&1].entries[1];
    let scan::Place::Chunk(offset) = entry.place else {
        panic!("f32 is never left out")
    };
    bytes[offset as usize + 100] ^= 4;
    let mut damaged = open(&bytes, None).expect("the rest is good");
    assert!(
        damaged
            .warnings()
            .iter()
            .any(|warning| warning.contains("1024 samples")),
        "{:?}",
        damaged.warnings()
    );
    assert_ne!(damaged.stream_ids(), source.stream_ids());
    let lane = &replayed(&mut damaged)[0];
    assert_eq!(lane.absent[0][0], (1124, 2148, Reason::FileGap));
    let rest = words(&[100..1124, 2148..3000], 2_654_435_761);
    assert!(lane.columns[0].starts_with(&rest));
    // The header of a chunk: the next one is found.
    bytes[offset as usize + 20] ^= 4;
    let mut damaged = open(&bytes, None).expect("the rest is good");
    let lane = &replayed(&mut damaged)[0];
    assert_eq!(lane.absent[0][0], (1124, 2148, Reason::FileGap));
}

#[test]
fn i13_a_jls_replay_goes_on_where_the_sink_stands() {
    let mut source = open(&fixture("packed"), None).expect("good");
    let whole = replayed(&mut source);
    for (at, to) in [(4_000, 1_003), (20_001, 12_345), (8, 0)] {
        let mut kept = Kept::new(&source);
        kept.move_at = Some((0, at, to));
        source.run(&mut kept, &StopToken::new()).expect("it reads again");
        let place = source.describe().streams[0]
            .signals
            .iter()
            .position(|signal| signal.name == "current_range");
        let place = place.expect("it is there");
        assert!(kept.lanes[0].columns[place] == whole[0].columns[place][to as usize..]);
        assert_eq!(kept.lanes[0].anchors, [(0, START_NS)]);
        assert!(
            kept.lanes[1].columns == whole[1].columns,
            "the other stream is not moved"
        );
    }
    let mut pair = open(&fixture("pair"), None).expect("good");
    for next in [3_000, 3_100, 4_500] {
        let mut kept = Kept::new(&pair);
        kept.lanes[0].next = next;
        pair.run(&mut kept, &StopToken::new()).expect("it reads on");
        let first_gap = kept.lanes[0].gaps.first().copied();
        assert_eq!(first_gap, (next < 3400).then_some((next, 3400, Reason::FileGap)));
        let current = words(&[next.max(3400)..5000, 5100..5200, 5201..6600], 2_654_435_761);
        assert!(kept.lanes[0].columns[0] == current);
        let markers = kept.lanes[0].markers.iter().all(|marker| marker.sample >= next);
        assert!(markers);
        let anchor = kept.lanes[0].anchors[0].0;
        assert_eq!(anchor, if next < 4100 { 100 } else { 4100 });
    }
    let mut beyond = Kept::new(&pair);
    beyond.lanes[0].next = 6601;
    assert!(matches!(
        pair.run(&mut beyond, &StopToken::new()),
        Err(SourceError::Device(_))
    ));
}

#[test]
fn unusable_jls_files_are_refused_with_one_sentence() {
    let refused = |bytes: &[u8], start_ns| open(bytes, start_ns).expect_err("it is unusable").to_string();
    assert!(refused(b"", None).contains("no JLS v2 file"));
    assert!(refused(&[7; 100], None).contains("no JLS v2 file"));
    let mut version = fixture("pair");
    version[27] = 2;
    assert!(refused(&version, None).contains("version 2"));
    assert!(refused(&fixture("pair")[..500], None).contains("holds no samples"));
    assert!(refused(&fixture("unclean"), None).contains("--start"));
    let directory = tempfile::tempdir().expect("a directory");
    let options = || JlsOptions {
        device: "bench".into(),
        start_ns: None,
    };
    let stop = StopToken::new();
    let opened = JlsSource::open(directory.path(), options(), Speed::Max, &stop, |_| ());
    assert!(matches!(opened, Err(JlsError::NotAFile)));
    stop.stop();
    let file = temporary(&fixture("pair"));
    let opened = JlsSource::open(file.path(), options(), Speed::Max, &stop, |_| ());
    assert!(matches!(opened, Err(JlsError::Scan(ScanError::Stopped))));
}

#[test]
fn a_jls_file_that_changes_while_it_is_read_never_ends_as_if_it_had_not() {
    let mut file = temporary(&fixture("pair"));
    let options = JlsOptions {
        device: "bench".into(),
        start_ns: None,
    };
    let mut source = JlsSource::open(file.path(), options, Speed::Max, &StopToken::new(), |_| ()).expect("good");
    file.write_all(&[2; 4]).expect("it takes bytes");
    let ended = source.run(&mut Kept::new(&source), &StopToken::new());
    assert!(matches!(ended, Err(SourceError::Device(why)) if why.contains("changed")));
}

/// Scans, lays out and reads whatever the bytes are.
fn survive(bytes: Vec<u8>) -> Result<(), JlsError> {
    let stop = StopToken::new();
    let length = bytes.len() as u64;
    let contents = scan::scan(&bytes, length, &stop, &mut |_| ())?;
    layout::labels(&contents);
    let layout = Layout::new(&contents, Some(START_NS))?;
    content(&bytes, &contents, &layout, &stop, &mut |_| ())?;
    Ok(())
}

/// Makes the checksums of the chunk headers, and of the payloads, right again.
fn mend(bytes: &mut [u8]) {
    let mut at = 32;
    while let Some(header) = bytes.get(at..at + 32) {
        let length = u32::from_le_bytes([header[20], header[21], header[22], header[23]]) as usize;
        let crc = crc32c::crc32c(&header[..28]).to_le_bytes();
        bytes[at + 28..at + 32].copy_from_slice(&crc);
        let Some(on_disk) = length
            .checked_add(11)
            .map(|length| length / 8 * 8)
            .filter(|_| length > 0)
        else {
            at += 32;
            continue;
        };
        let Some(payload) = bytes.get_mut(at + 32..(at + 32).saturating_add(on_disk)) else {
            return;
        };
        let crc = crc32c::crc32c(&payload[..length]).to_le_bytes();
        payload[on_disk - 4..].copy_from_slice(&crc);
        at += 32 + on_disk;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_jls_bytes_never_panic(
        name in prop::sample::select(vec!["pair", "packed", "unclean"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        header_changes in prop::collection::vec((0..2_400usize, any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        mended in any::<bool>(),
    ) {
        let mut bytes = fixture(name);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, byte) in header_changes {
            bytes[32 + at] = byte;
        }
        if let Some(cut) = cut {
            let length = cut.index(bytes.len());
            bytes.truncate(length);
        }
        if mended {
            mend(&mut bytes);
        }
        // An error is fine; what matters is that it comes back, soon and within little memory.
        let _ = survive(bytes);
    }

    #[test]
    fn arbitrary_chunks_of_right_checksums_never_panic(
        tags in prop::collection::vec((prop::sample::select(vec![1u8, 2, 0x22, 0x23, 0x24, 0x32, 0x3a, 0x3c, 0x40, 0xff]), any::<u16>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
    ) {
        let mut bytes = fixture("packed")[..32 + 3 * 144].to_vec();
        for (tag, meta, payload) in tags {
            let mut header = [0; 32];
            header[16] = tag;
            header[18..20].copy_from_slice(&(meta & 0xf0ff).to_le_bytes());
            header[20..24].copy_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend(header);
            if !payload.is_empty() {
                let padded = (payload.len() + 11) / 8 * 8;
                bytes.extend(&payload);
                bytes.resize(bytes.len() + padded - payload.len(), 0);
            }
        }
        mend(&mut bytes);
        let _ = survive(bytes);
    }
}
