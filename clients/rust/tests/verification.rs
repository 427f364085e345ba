//! An answer that is not what was captured is refused, by name; an honest one comes through bit for bit.

mod support;

use support::{Capture, START_NS, Script, definition, manifest_part, part, script, seal, serve, signal};
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::id::Hash;
use wavekeep::proto::stream::{Predecessor, SampleType};
use wavekeep::proto::v1::waveform_part::Part as Wire;
use wavekeep::proto::{hash, v1, wire};
use wavekeep::{Client, Error, Fault, Gap, Part, Selection, StreamManifest, TimeRange};

/// NaNs with payloads, −0.0, an infinity, a subnormal, the largest.
const ODD: [u32; 6] = [
    0x7f80_0001,
    0xffc1_2345,
    0x8000_0000,
    0xff80_0000,
    0x0000_0001,
    0x7f7f_ffff,
];

/// All that an answer held.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// First sample, and the bytes of each column (None: absent).
    blocks: Vec<(u64, Vec<Option<Vec<u8>>>)>,
    gaps: Vec<Gap>,
    ends: Vec<Reason>,
    manifest: Vec<StreamManifest>,
}

async fn read_signals(script: Script, signals: &[&str]) -> Result<Read, Error> {
    read_selection(script, Selection::device("js220-001").signals(signals.iter().copied())).await
}

/// Samples `from` to `to` of a capture at 1 MHz, as a range of time; None is open.
fn samples(from: Option<i64>, to: Option<i64>) -> Selection {
    let at = |sample: Option<i64>| sample.map(|sample| START_NS + sample * 1_000);
    let (from_ns, to_ns) = (at(from), at(to));
    Selection::device("js220-001").range(TimeRange { from_ns, to_ns })
}

async fn read_selection(script: Script, selection: Selection) -> Result<Read, Error> {
    let client = Client::connect(&serve(script).await, "main").await?;
    let mut waveform = client.waveform(&selection).await?;
    let mut read = Read::default();
    while let Some(part) = waveform.next().await? {
        match part {
            Part::Samples(block) => {
                let bytes = block.columns.iter().map(|column| column.bytes().map(<[u8]>::to_vec));
                read.blocks.push((block.first_sample, bytes.collect()));
            }
            Part::Gap(gap) => read.gaps.push(gap),
            Part::End(reason) => read.ends.push(reason),
            Part::Manifest(manifest) => read.manifest = manifest,
            Part::Columns(_) => panic!("points were not asked for"),
            Part::Stream(_) | Part::Markers(_) => (),
        }
    }
    Ok(read)
}

async fn read(script: Script) -> Result<Read, Error> {
    read_signals(script, &[]).await
}

/// Three chunks of samples, a gap, and the end.
fn capture() -> Capture {
    let mut capture = live();
    capture.end();
    capture
}

/// The same before its end.
fn live() -> Capture {
    let mut capture = Capture::new(definition(1));
    capture.samples(Encoding::Plain, &ODD);
    let many: Vec<u32> = (0..5_000).map(|at| (at as f32).to_bits()).collect();
    capture.samples(Encoding::ShuffleZstd, &many);
    capture.gap(100, Reason::SourceLoss);
    capture.samples(Encoding::Plain, &[1, 2, 3]);
    capture
}

fn raw(bits: &[u32], flip: u32) -> Option<Vec<u8>> {
    Some(bits.iter().flat_map(|bits| (bits ^ flip).to_le_bytes()).collect())
}

#[tokio::test]
async fn every_encoding_is_read() {
    let mut capture = Capture::new(definition(1));
    let many: Vec<u32> = (0..1_000).map(|at| (at as f32).to_bits()).collect();
    for encoding in Encoding::SUPPORTED {
        capture.samples(encoding, &many);
    }
    let read = read(script(&[&capture])).await.expect("it is honest");
    let columns: Vec<_> = read.blocks.iter().map(|(_, columns)| columns.clone()).collect();
    let expected = vec![raw(&many, 0), raw(&many, 1 << 31)];
    assert_eq!(columns, vec![expected; Encoding::SUPPORTED.len()]);
}

#[tokio::test]
async fn an_honest_answer_comes_through_bit_for_bit() {
    let capture = capture();
    let read = read(script(&[&capture])).await.expect("it is honest");
    assert_eq!(read.blocks.len(), 3);
    assert_eq!(read.blocks[0], (0, vec![raw(&ODD, 0), raw(&ODD, 1 << 31)]));
    assert_eq!(
        read.blocks[2],
        (5_106, vec![raw(&[1, 2, 3], 0), raw(&[1, 2, 3], 1 << 31)])
    );
    assert_eq!(
        (read.gaps[0].first_sample, read.gaps[0].count, read.gaps[0].reason),
        (5_006, 100, Reason::SourceLoss)
    );
    assert_eq!((read.gaps.len(), read.ends), (1, vec![Reason::Closed]));
    assert_eq!(
        (read.manifest[0].digest, read.manifest[0].chunks),
        (capture.at.digest, 5)
    );
}

#[tokio::test]
async fn several_streams_and_gaps_named_early_come_through() {
    let mut first = live();
    first.quarantined(50);
    let mut second = Capture::new(definition(2));
    second.columns(Encoding::Plain, 2, &[Some(vec![0; 8]), None]);
    second.columns(Encoding::Plain, 2, &[None, None]);
    let mut both = script(&[&first, &second]);
    // The first stream's gaps come in a manifest of their own.
    let early = v1::StreamManifest {
        stream_id: first.definition.id.to_vec().into(),
        gaps: first.gaps.clone(),
        ..v1::StreamManifest::default()
    };
    let mut last = [first.manifest(), second.manifest()];
    last[0].gaps.clear();
    both.parts.pop();
    both.parts.push(manifest_part(vec![early]));
    both.parts.push(manifest_part(last.to_vec()));
    let read = read(both).await.expect("it is honest");
    let told: Vec<_> = read
        .gaps
        .iter()
        .map(|gap| (gap.first_sample, gap.reason, gap.signals.len()))
        .collect();
    let off = Reason::SignalOff;
    assert_eq!(
        told,
        [
            (5_006, Reason::SourceLoss, 0),
            (5_109, Reason::Quarantined, 0),
            (0, off, 1),
            (2, off, 2)
        ]
    );
    assert_eq!(read.blocks[3], (0, vec![Some(vec![0; 8]), None]));
    let counts: Vec<_> = read
        .manifest
        .iter()
        .map(|stream| (stream.sample_count, stream.gap_sample_count))
        .collect();
    assert_eq!(counts, [(5_009, 150), (2, 2)]);
}

#[tokio::test]
async fn a_part_of_a_stream_is_cut_and_proven_from_the_digest_before_it() {
    let capture = capture();
    let mut cut = script(&[&capture]);
    // Chunks 2 to 4, without the first 6 samples of the one and the last of the other.
    cut.parts.remove(5);
    cut.parts.remove(1);
    chunk(&mut cut, 0).from_sample = 12;
    chunk(&mut cut, 2).to_sample = 5_108;
    let before = capture.chunks[0].chunk.as_ref().expect("a chunk").digest.clone();
    let manifest = v1::StreamManifest {
        from_sample: 12,
        to_sample: 5_108,
        sample_count: 4_994 + 2,
        gap_sample_count: 100,
        first_seq: 2,
        last_seq: 4,
        digest_before: before,
        digest: capture.chunks[3].chunk.as_ref().expect("a chunk").digest.clone(),
        chunks: 3,
        ..capture.manifest()
    };
    *cut.parts.last_mut().expect("a manifest") = manifest_part(vec![manifest.clone()]);
    let range = samples(Some(12), Some(5_108));
    let answer = read_selection(cut.clone(), range.clone()).await.expect("it is honest");
    let last = answer.blocks.last().expect("a block");
    assert_eq!(
        (answer.blocks[0].0, last.0, last.1[0].clone()),
        (12, 5_106, raw(&[1, 2], 0))
    );
    let wrong = v1::StreamManifest {
        digest_before: vec![0; 16].into(),
        ..manifest
    };
    *cut.parts.last_mut().expect("a manifest") = manifest_part(vec![wrong]);
    assert_eq!(fault(read_selection(cut, range).await), Fault::Digest { seq: 2 });
}

#[tokio::test]
async fn i14_the_first_digest_is_the_definitions_whatever_the_manifest_says() {
    let capture = capture();
    let mut answer = script(&[&capture]);
    let manifest = v1::StreamManifest {
        digest_before: bytes::Bytes::new(),
        ..capture.manifest()
    };
    *answer.parts.last_mut().expect("a manifest") = manifest_part(vec![manifest]);
    let read = read(answer).await.expect("it is honest");
    assert_eq!(
        read.manifest[0].digest_before,
        Some(hash::definition_hash(&capture.definition))
    );
}

#[tokio::test]
async fn packed_samples_are_cut_within_a_byte() {
    let mut definition = definition(1);
    definition.signals = vec![signal(0, "gpi", SampleType::U1)];
    let mut capture = Capture::new(definition);
    capture.columns(Encoding::Plain, 11, &[Some(vec![0b1100_1010, 0b0000_0101])]);
    let mut cut = script(&[&capture]);
    chunk(&mut cut, 0).from_sample = 3;
    let manifest = v1::StreamManifest {
        from_sample: 3,
        sample_count: 8,
        ..capture.manifest()
    };
    *cut.parts.last_mut().expect("a manifest") = manifest_part(vec![manifest]);
    let read = read_selection(cut, samples(Some(3), None)).await.expect("it is honest");
    assert_eq!(read.blocks, [(3, vec![Some(vec![0b1011_1001])])]);
}

fn chunk(script: &mut Script, at: usize) -> &mut v1::WaveformChunk {
    let chunks = script.parts.iter_mut().filter_map(|part| match &mut part.part {
        Some(Wire::Chunk(chunk)) => Some(chunk),
        _ => None,
    });
    chunks.into_iter().nth(at).expect("so many chunks")
}

fn inner(script: &mut Script, at: usize) -> &mut v1::Chunk {
    chunk(script, at).chunk.as_mut().expect("a chunk")
}

#[track_caller]
fn fault(read: Result<Read, Error>) -> Fault {
    match read {
        Err(Error::Refuted { fault, .. }) => fault,
        Err(other) => panic!("it must be refuted: {other}"),
        Ok(read) => panic!("it must be refuted: {:?}", read.manifest),
    }
}

/// The honest answer, changed.
async fn lie(change: impl FnOnce(&mut Script)) -> Fault {
    let mut lies = script(&[&capture()]);
    change(&mut lies);
    fault(read(lies).await)
}

fn flip(bytes: &mut bytes::Bytes, at: usize) {
    let mut changed = bytes.to_vec();
    changed[at] ^= 1;
    *bytes = changed.into();
}

#[tokio::test]
async fn i14_a_payload_that_was_tampered_with_is_refused() {
    let damaged = lie(|script| flip(&mut inner(script, 1).columns[0], 9)).await;
    assert_eq!(damaged, Fault::FrameHash { after: 1 });
    let sealed = lie(|script| {
        flip(&mut inner(script, 0).columns[1], 9);
        seal(inner(script, 0));
    });
    let signal = "voltage".to_owned();
    assert_eq!(sealed.await, Fault::ColumnHash { seq: 1, signal });
    let cut = lie(|script| {
        let column = &mut inner(script, 1).columns[0];
        column.truncate(column.len() - 1);
        seal(inner(script, 1));
    });
    assert!(matches!(cut.await, Fault::Decode { seq: 2, .. }));
    let exchanged = lie(|script| {
        inner(script, 0).columns.swap(0, 1);
        seal(inner(script, 0));
    });
    assert!(matches!(exchanged.await, Fault::ColumnHash { seq: 1, .. }));
    let fewer = lie(|script| {
        inner(script, 0).columns.pop();
        seal(inner(script, 0));
    });
    let (expected, found) = (2, 1);
    assert_eq!(
        fewer.await,
        Fault::Columns {
            seq: 1,
            expected,
            found
        }
    );
}

#[tokio::test]
async fn i14_a_wrong_digest_is_refused() {
    let wrong = lie(|script| {
        flip(&mut inner(script, 2).digest, 3);
        seal(inner(script, 2));
    });
    assert_eq!(wrong.await, Fault::Digest { seq: 3 });
    // Another time, and everything that can be recomputed without the capture.
    let moved = lie(|script| {
        let chunk = inner(script, 1);
        let mut header = wire::header_from_bytes(&chunk.header).expect("a header");
        header.utc_ns += 1;
        chunk.header = wire::header_to_bytes(&header);
        seal(chunk);
    });
    assert_eq!(moved.await, Fault::Digest { seq: 2 });
    let other_stream = lie(|script| {
        let mut other = definition(1);
        other.rate_hz = 2e6;
        let Some(Wire::Stream(stream)) = &mut script.parts[0].part else {
            panic!("the first part is the stream");
        };
        stream.info.as_mut().expect("a description").definition = Some(wire::definition_to_wire(&other));
    });
    assert_eq!(other_stream.await, Fault::Digest { seq: 1 });
}

#[tokio::test]
async fn i4_a_chunk_that_is_missing_repeated_or_shifted_is_refused() {
    let missing = lie(|script| drop(script.parts.remove(2))).await;
    assert_eq!(missing, Fault::MissingChunk { expected: 2, found: 3 });
    assert!(missing.to_string().contains("after seq 1 comes seq 3"), "{missing}");
    let repeated = lie(|script| script.parts.insert(2, script.parts[1].clone())).await;
    assert_eq!(repeated, Fault::MissingChunk { expected: 2, found: 1 });
    let shifted = lie(|script| {
        let before = Hash::from_slice(&inner(script, 2).digest).expect("a digest");
        let chunk = inner(script, 3);
        let mut header = wire::header_from_bytes(&chunk.header).expect("a header");
        header.first_sample += 8;
        chunk.digest = hash::next_digest(before, hash::chunk_hash(&header)).to_vec().into();
        chunk.header = wire::header_to_bytes(&header);
        seal(chunk);
    });
    let (expected, found) = (5_106, 5_114);
    assert_eq!(
        shifted.await,
        Fault::Tiling {
            seq: 4,
            expected,
            found
        }
    );
    for change in [
        |chunk: &mut v1::WaveformChunk| chunk.from_sample += 1,
        |chunk: &mut v1::WaveformChunk| chunk.to_sample -= 1,
        |chunk: &mut v1::WaveformChunk| (chunk.from_sample, chunk.to_sample) = (u64::MAX, 0),
    ] {
        let cut = lie(|script| change(chunk(script, 1))).await;
        assert!(matches!(cut, Fault::Cut { seq: 2 | 3 }), "{cut:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_says_something_else_is_refused() {
    type Change = fn(&mut v1::StreamManifest);
    let changes: [(&str, Change); 10] = [
        ("the first sample", |manifest| manifest.from_sample += 1),
        ("the end of the range", |manifest| manifest.to_sample += 1),
        ("the number of samples", |manifest| manifest.sample_count -= 1),
        ("the number of missing samples", |manifest| {
            manifest.gap_sample_count = 0;
        }),
        ("the number of chunks", |manifest| manifest.chunks += 1),
        ("the first seq", |manifest| manifest.first_seq = 2),
        ("the last seq", |manifest| manifest.last_seq += 1),
        ("the digest", |manifest| manifest.digest = vec![0; 16].into()),
        ("a gap", |manifest| manifest.gaps[0].count += 1),
        ("the number of gaps", |manifest| manifest.gaps.clear()),
    ];
    for (expected, change) in changes {
        let found = lie(|script| {
            let Some(Wire::Manifest(manifest)) = &mut script.parts.last_mut().expect("a manifest").part else {
                panic!("the last part is the manifest");
            };
            change(&mut manifest.streams[0]);
        });
        match found.await {
            Fault::Manifest { what, .. } => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let watermark = lie(|script| {
        let Some(Wire::Stream(stream)) = &mut script.parts[0].part else {
            panic!("the first part is the stream");
        };
        stream.info.as_mut().expect("a description").digest = vec![1; 16].into();
    });
    let what = "the digest at the watermark";
    assert!(matches!(watermark.await, Fault::Manifest { what: found, .. } if found == what));
}

#[tokio::test]
async fn an_answer_without_its_end_is_refused() {
    assert_eq!(lie(|script| drop(script.parts.pop())).await, Fault::ManifestMissing);
    let of_another = lie(|script| {
        script.parts.pop();
        let other = Capture::new(definition(9)).manifest();
        script.parts.push(manifest_part(vec![other]));
    });
    assert_eq!(of_another.await, Fault::ManifestMissing);
    let mut broken = script(&[&capture()]);
    broken.parts.truncate(3);
    broken.failure = Some(tonic::Status::deadline_exceeded("the answer was not complete in time"));
    let error = read(broken).await.expect_err("it broke");
    assert_eq!(error.to_string(), "the answer was not complete in time");
}

/// The honest answer of a server that has lost the rows of the last `lost` chunks.
fn without_tail(capture: &Capture, lost: usize) -> Script {
    let whole = capture.clone();
    let mut short = capture.clone();
    short.chunks.truncate(whole.chunks.len() - lost);
    let last = short.chunks.last().expect("a chunk");
    let inner = last.chunk.as_ref().expect("a chunk");
    let header = wire::header_from_bytes(&inner.header).expect("a header");
    let manifest = v1::StreamManifest {
        to_sample: last.to_sample,
        sample_count: whole.sample_count - (whole.at.next_sample - last.to_sample),
        last_seq: header.seq,
        digest: inner.digest.clone(),
        chunks: short.chunks.len() as u64,
        ..whole.manifest()
    };
    let mut answer = script(&[&whole]);
    answer.parts = short.parts();
    answer.parts.push(manifest_part(vec![manifest]));
    answer
}

#[tokio::test]
async fn i13_a_stream_whose_last_rows_are_gone_is_refused() {
    let (watermark, found) = (4, 3);
    let truncated = Fault::Truncated { watermark, found };
    let short = without_tail(&live(), 1);
    assert_eq!(fault(read(short.clone()).await), truncated);
    let one = Selection::stream(definition(1).id);
    assert_eq!(fault(read_selection(short.clone(), one.clone()).await), truncated);
    // What ends before the loss is whole.
    let before = read_selection(short, samples(None, Some(5_106))).await;
    assert_eq!(before.expect("it is all there").blocks.len(), 2);
    let message = truncated.to_string();
    assert!(message.contains("damaged") && message.contains("seq 4"), "{message}");
}

#[tokio::test]
async fn a_stream_is_read_up_to_its_successor() {
    let mut successor = definition(2);
    successor.predecessor = Some(Predecessor {
        stream_id: definition(1).id,
        seq: 3,
    });
    successor.epoch = definition(1).epoch;
    successor.first_sample = 5_106;
    // The successor has no chunk yet, so it is listed alone.
    let mut answer = without_tail(&live(), 1);
    answer.streams.push(Capture::new(successor.clone()).info());
    let one = Selection::stream(definition(1).id);
    read(answer.clone()).await.expect("the rest is the successor's");
    let (watermark, found) = (4, 3);
    assert_eq!(
        fault(read_selection(answer.clone(), one).await),
        Fault::Truncated { watermark, found },
        "a stream that is asked for by its id is read to its own end"
    );
    // It has some, and is a part of the answer.
    let mut second = Capture::new(successor.clone());
    second.samples(Encoding::Plain, &[7, 8]);
    let Some(Wire::Manifest(manifest)) = answer.parts.pop().expect("a manifest").part else {
        panic!("the last part is the manifest");
    };
    let mut both = answer.clone();
    both.parts.extend(second.parts());
    both.parts
        .push(manifest_part([manifest.streams, vec![second.manifest()]].concat()));
    both.streams.pop();
    let read_both = read(both).await.expect("it is honest");
    assert_eq!(read_both.blocks.len(), 3);
    // It continues the stream from elsewhere.
    successor.predecessor.as_mut().expect("set above").seq = 2;
    let mut elsewhere = without_tail(&live(), 1);
    elsewhere.streams.push(Capture::new(successor).info());
    assert_eq!(fault(read(elsewhere).await), Fault::Truncated { watermark, found });
}

#[tokio::test]
async fn an_answer_to_another_question_is_refused() {
    let honest = || script(&[&capture()]);
    // What is part of a run only the server knows.
    for other in [Selection::device("js220-002"), Selection::stream(definition(2).id)] {
        let answer = read_selection(honest(), other.clone()).await;
        assert!(matches!(answer, Err(Error::Malformed(_))), "{other:?}");
    }
    // All samples came, but other ones were asked for.
    for (from, to, why) in [
        (Some(2), None, "starts with another sample"),
        (None, Some(5_106), "goes on after its end"),
        (None, Some(5_108), "goes on after its end"),
    ] {
        let answer = read_selection(honest(), samples(from, to)).await;
        assert_eq!(fault(answer), Fault::Range(why));
    }
    let live = read_selection(script(&[&live()]), samples(None, Some(5_108))).await;
    assert_eq!(fault(live), Fault::Range("ends with another sample"));
}

#[tokio::test]
async fn parts_out_of_place_are_refused() {
    let malformed = async |change: fn(&mut Script)| {
        let mut lies = script(&[&capture()]);
        change(&mut lies);
        matches!(read(lies).await, Err(Error::Malformed(_)))
    };
    assert!(
        malformed(|script| drop(script.parts.remove(0))).await,
        "a chunk before its stream"
    );
    assert!(
        malformed(|script| script.parts.insert(1, script.parts[0].clone())).await,
        "a stream twice"
    );
    assert!(
        malformed(|script| script.parts.push(script.parts[1].clone())).await,
        "a chunk after the manifest"
    );
    assert!(malformed(|script| script.parts[0].part = None).await, "an unknown part");
    let points = |script: &mut Script| script.parts[1] = part(Wire::Columns(v1::WaveformColumns::default()));
    assert!(malformed(points).await, "points");
    assert!(
        malformed(|script| chunk(script, 0).stream_id = vec![9; 16].into()).await,
        "of another stream"
    );
    let asked = read_signals(script(&[&capture()]), &["gpi"]).await;
    assert!(
        matches!(asked, Err(Error::Malformed(_))),
        "a stream without the signal asked for"
    );
}

/// Not a generator for anything that matters.
fn next(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[tokio::test]
async fn i14_no_flipped_bit_changes_a_sample_or_stops_the_reader() {
    use prost::Message;
    let honest = script(&[&{
        let mut capture = live();
        capture.quarantined(9);
        capture
    }]);
    let expected = read(honest.clone()).await.expect("it is honest");
    let (mut state, mut refused) = (1, 0);
    for _ in 0..300 {
        let mut lies = honest.clone();
        let at = next(&mut state) % lies.parts.len();
        let mut bytes = lies.parts[at].encode_to_vec();
        let byte = next(&mut state) % bytes.len();
        bytes[byte] ^= 1 << (next(&mut state) % 8);
        let Ok(part) = v1::WaveformPart::decode(&bytes[..]) else {
            continue;
        };
        lies.parts[at] = part;
        match read(lies).await {
            Err(_) => refused += 1,
            // What may change without being refused are words about the stream: labels, times of gaps.
            Ok(read) => {
                assert_eq!(read.blocks, expected.blocks, "byte {byte} of part {at}");
                assert_eq!(read.manifest, expected.manifest, "byte {byte} of part {at}");
            }
        }
    }
    assert!(refused > 100, "only {refused} were refused");
}
