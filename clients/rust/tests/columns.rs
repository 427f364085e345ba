//! Columns that cannot be what is drawn of a stream are refused, by name; honest ones come through.

mod support;

use std::sync::atomic::Ordering;

use support::{Capture, START_NS, Script, definition, drawn, manifest_part, part, script, serve};
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::stream::StreamDefinition;
use wavekeep::proto::v1;
use wavekeep::proto::v1::waveform_part::Part as Wire;
use wavekeep::{BadColumns, Client, Columns, Error, Fault, Gap, Part, Selection, StreamManifest, TimeRange};

const POINTS: u32 = 12;
const BUCKET: u64 = 100;

/// Current in A and voltage in V, of which power is derived, from sample 50 on.
fn derived() -> StreamDefinition {
    let mut definition = definition(1);
    definition.first_sample = 50;
    definition.signals[0].unit = "A".into();
    definition.signals[1].unit = "V".into();
    definition
}

/// Samples 50..350, a gap to 600, samples to 1,010.
fn capture() -> Capture {
    let mut capture = Capture::new(derived());
    capture.samples(Encoding::Plain, &[0x3f80_0000; 300]);
    capture.gap(250, Reason::SourceLoss);
    capture.samples(Encoding::ShuffleZstd, &[0x3f80_0000; 410]);
    capture
}

#[derive(Debug, Default)]
struct Read {
    columns: Vec<Columns>,
    samples: u64,
    gaps: Vec<Gap>,
    manifest: Vec<StreamManifest>,
}

async fn read_selection(script: Script, selection: Selection, points_max: u32) -> Result<Read, Error> {
    let client = Client::connect(&serve(script).await, "main").await?;
    let mut answer = client.columns(&selection, points_max).await?;
    let mut read = Read::default();
    while let Some(part) = answer.next().await? {
        match part {
            Part::Columns(columns) => read.columns.push(columns),
            Part::Samples(block) => read.samples += block.count,
            Part::Gap(gap) => read.gaps.push(gap),
            Part::Manifest(manifest) => read.manifest = manifest,
            Part::Stream(_) | Part::Markers(_) | Part::End(_) => (),
        }
    }
    Ok(read)
}

async fn read(script: Script) -> Result<Read, Error> {
    read_selection(script, Selection::device("js220-001"), POINTS).await
}

#[tokio::test]
async fn i9_honest_columns_come_through() {
    let capture = capture();
    let answer = drawn(&[&capture], BUCKET);
    let asked = answer.points_max.clone();
    let read = read(answer).await.expect("it is honest");
    assert_eq!(asked.load(Ordering::SeqCst), POINTS);
    let names: Vec<_> = read
        .columns
        .iter()
        .map(|columns| (columns.name.as_str(), columns.unit.as_str(), columns.signal))
        .collect();
    assert_eq!(
        names,
        [
            ("current", "A", Some(0)),
            ("voltage", "V", Some(1)),
            ("power", "W", None)
        ]
    );
    let columns = &read.columns[0];
    let ranges: Vec<_> = columns.ranges().collect();
    assert_eq!(
        (ranges[0], ranges[1], ranges[10]),
        ((50, 100), (100, 200), (1_000, 1_010))
    );
    assert_eq!(
        (ranges.len(), columns.count.clone()),
        (11, vec![50, 100, 100, 50, 0, 0, 100, 100, 100, 100, 10])
    );
    assert!(columns.min[4].is_nan() && columns.mean[4].is_nan());
    assert_eq!(columns.time_ns[1], START_NS + 50_000);
    assert_eq!((read.gaps[0].first_sample, read.gaps[0].count), (350, 250));
    let manifest = &read.manifest[0];
    assert_eq!(
        (manifest.sample_count, manifest.gap_sample_count, manifest.chunks),
        (710, 250, 0)
    );
}

#[tokio::test]
async fn a_signal_may_come_in_parts_and_gaps_may_be_named_early() {
    let capture = capture();
    let mut answer = drawn(&[&capture], BUCKET);
    let (whole, mut rest) = (columns(&mut answer, 0).clone(), columns(&mut answer, 0).clone());
    let first = columns(&mut answer, 0);
    first.to_sample = 400;
    rest.first_sample = 400;
    cut(first, 0..4);
    cut(&mut rest, 4..11);
    answer.parts.insert(3, part(Wire::Columns(rest)));
    let early = v1::StreamManifest {
        stream_id: capture.definition.id.to_vec().into(),
        gaps: capture.gaps.clone(),
        ..v1::StreamManifest::default()
    };
    answer.parts.insert(2, manifest_part(vec![early]));
    stated(&mut answer).gaps.clear();
    let read = read(answer).await.expect("it is honest");
    assert_eq!(read.columns.len(), 4);
    let joined: Vec<u64> = read.columns[..1]
        .iter()
        .chain(&read.columns[2..3])
        .flat_map(|part| part.count.clone())
        .collect();
    assert_eq!((joined, read.gaps.len()), (whole.count, 1));
}

#[tokio::test]
async fn few_samples_come_as_they_are_and_are_verified() {
    let mut few = Capture::new(derived());
    few.samples(Encoding::Plain, &[0x3f80_0000; 12]);
    let honest = read(script(&[&few])).await.expect("it is honest");
    assert_eq!((honest.samples, honest.manifest[0].chunks), (12, 1));
    let mut lies = script(&[&few]);
    let Some(Wire::Chunk(chunk)) = &mut lies.parts[1].part else {
        panic!("the second part is a chunk");
    };
    chunk.chunk.as_mut().expect("a chunk").digest = vec![0; 16].into();
    assert_eq!(fault(read(lies).await), Fault::FrameHash { after: 0 });
    few.samples(Encoding::Plain, &[1]);
    let (points_max, found) = (POINTS, 13);
    assert_eq!(fault(read(script(&[&few])).await), Fault::Points { points_max, found });
}

#[tokio::test]
async fn signals_that_were_not_asked_for_are_refused() {
    let answer = || drawn(&[&capture()], BUCKET);
    let one = |name| Selection::device("js220-001").signals([name]);
    for name in ["current", "power"] {
        let refused = read_selection(answer(), one(name), POINTS).await;
        assert!(
            matches!(
                fault(refused),
                Fault::Drawn {
                    why: BadColumns::Signal,
                    ..
                }
            ),
            "{name}"
        );
    }
    let mut alone = answer();
    alone.parts.drain(1..3);
    let read = read_selection(alone, one("power"), POINTS)
        .await
        .expect("power is derived");
    assert_eq!(read.columns[0].name, "power");
    let asked = read_selection(answer(), one("gpi"), POINTS).await;
    assert!(
        matches!(asked, Err(Error::Malformed(_))),
        "the stream has no such signal"
    );
}

fn columns(script: &mut Script, at: usize) -> &mut v1::WaveformColumns {
    let all = script.parts.iter_mut().filter_map(|part| match &mut part.part {
        Some(Wire::Columns(columns)) => Some(columns),
        _ => None,
    });
    all.into_iter().nth(at).expect("so many columns")
}

fn cut(columns: &mut v1::WaveformColumns, range: std::ops::Range<usize>) {
    columns.min = columns.min[range.clone()].to_vec();
    columns.max = columns.max[range.clone()].to_vec();
    columns.mean = columns.mean[range.clone()].to_vec();
    columns.time_ns = columns.time_ns[range.clone()].to_vec();
    columns.count = columns.count[range].to_vec();
}

fn stated(script: &mut Script) -> &mut v1::StreamManifest {
    match &mut script.parts.last_mut().expect("a manifest").part {
        Some(Wire::Manifest(manifest)) => &mut manifest.streams[0],
        _ => panic!("the last part is the manifest"),
    }
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
    let mut lies = drawn(&[&capture()], BUCKET);
    change(&mut lies);
    fault(read(lies).await)
}

/// Why the columns of voltage, changed, are refused.
async fn bad(change: impl FnOnce(&mut v1::WaveformColumns)) -> BadColumns {
    match lie(|script| change(columns(script, 1))).await {
        Fault::Drawn { signal, why, .. } if signal == "voltage" => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn i9_columns_out_of_place_are_refused() {
    let unknown = lie(|script| columns(script, 0).signal = 3).await;
    assert!(
        unknown.to_string().contains("columns of 3 from sample 50 on are wrong"),
        "{unknown}"
    );
    let stored = (50, 1_010);
    for (to_sample, why) in [
        (bad(|columns| columns.first_sample = 49).await, 1_010),
        (bad(|columns| columns.to_sample = 1_011).await, 1_011),
        (bad(|columns| columns.to_sample = 50).await, 50),
        (bad(|columns| columns.first_sample = u64::MAX).await, 1_010),
    ]
    .map(|(why, to_sample)| (to_sample, why))
    {
        assert_eq!(why, BadColumns::Outside { to_sample, stored });
    }
    for (bucket_samples, level) in [(0, 0), (u64::MAX, 0), (100, 16)] {
        let why = bad(|columns| (columns.bucket_samples, columns.level) = (bucket_samples, level)).await;
        assert_eq!(why, BadColumns::Bucket { bucket_samples, level });
    }
    let (max, found) = (12, 960);
    assert_eq!(
        bad(|columns| columns.bucket_samples = 1).await,
        BadColumns::TooMany { max, found }
    );
    let again = lie(|script| script.parts.insert(2, script.parts[1].clone())).await;
    let (expected, bucket_samples) = (1_010, 100);
    let not_continued = BadColumns::NotContinued {
        expected,
        bucket_samples,
    };
    assert!(matches!(again, Fault::Drawn { why, .. } if why == not_continued));
}

#[tokio::test]
async fn i9_columns_that_leave_samples_out_are_refused() {
    // The second part starts later, or is wider, or of another level.
    type Change = fn(&mut v1::WaveformColumns);
    let changes: [Change; 3] = [
        |columns| columns.first_sample = 500,
        |columns| columns.bucket_samples = 200,
        |columns| columns.level = 1,
    ];
    for change in changes {
        let found = lie(|script| {
            let mut rest = columns(script, 0).clone();
            let first = columns(script, 0);
            first.to_sample = 400;
            rest.first_sample = 400;
            cut(first, 0..4);
            cut(&mut rest, 4..11);
            change(&mut rest);
            script.parts.insert(2, part(Wire::Columns(rest)));
        });
        assert!(matches!(
            found.await,
            Fault::Drawn {
                why: BadColumns::NotContinued { expected: 400, .. },
                ..
            }
        ));
    }
    let short = lie(|script| {
        let first = columns(script, 0);
        first.to_sample = 400;
        cut(first, 0..4);
    });
    assert!(matches!(
        short.await,
        Fault::Manifest {
            what: "where a signal's columns end",
            ..
        }
    ));
    let late = lie(|script| {
        let first = columns(script, 0);
        first.first_sample = 400;
        cut(first, 4..11);
    });
    assert!(matches!(
        late.await,
        Fault::Manifest {
            what: "where a signal's columns start",
            ..
        }
    ));
    let none = lie(|script| drop(script.parts.remove(3))).await;
    assert!(matches!(none, Fault::Manifest { .. }), "{none:?}");
}

#[tokio::test]
async fn i9_columns_that_samples_cannot_make_are_refused() {
    type Change = fn(&mut v1::WaveformColumns);
    let shorter: [Change; 5] = [
        |columns| columns.min.truncate(10),
        |columns| columns.max.truncate(10),
        |columns| columns.mean.truncate(10),
        |columns| columns.count.truncate(10),
        |columns| columns.time_ns.truncate(10),
    ];
    for change in shorter {
        let (expected, found) = (11, 10);
        assert_eq!(bad(change).await, BadColumns::Length { expected, found });
    }
    let (count, samples) = (51, 50);
    assert_eq!(
        bad(|columns| columns.count[0] = 51).await,
        BadColumns::Count { count, samples }
    );
    let disordered: [Change; 7] = [
        |columns| columns.min[1] = 1.5,
        |columns| columns.max[1] = -1.5,
        |columns| columns.mean[1] = 1.001,
        |columns| columns.mean[1] = -1.001,
        |columns| columns.mean[1] = f64::NAN,
        |columns| columns.min[1] = f64::NEG_INFINITY,
        |columns| columns.max[1] = f64::NAN,
    ];
    for change in disordered {
        assert!(matches!(bad(change).await, BadColumns::Order { .. }));
    }
    let values: [Change; 2] = [|columns| columns.mean[4] = 0.0, |columns| columns.count[0] = 0];
    for change in values {
        assert_eq!(bad(change).await, BadColumns::NotEmpty);
    }
    // Rounding of the mean is no lie.
    let mut rounded = drawn(&[&capture()], BUCKET);
    columns(&mut rounded, 0).mean[1] = 1.0 + 1e-12;
    read(rounded).await.expect("it is honest");
    // More samples than lie outside of the gaps, though no column has more than it spans.
    let filled = lie(|script| {
        let columns = columns(script, 0);
        (columns.count[4], columns.min[4], columns.mean[4], columns.max[4]) = (1, 0.0, 0.0, 0.0);
    });
    let (count, samples) = (711, 710);
    assert!(matches!(filled.await, Fault::Drawn { why, .. } if why == BadColumns::Count { count, samples }));
}

#[tokio::test]
async fn a_manifest_of_columns_that_says_something_else_is_refused() {
    type Change = fn(&mut v1::StreamManifest);
    let changes: [(&str, Change); 12] = [
        ("where a signal's columns start", |manifest| manifest.from_sample += 1),
        ("where a signal's columns end", |manifest| manifest.to_sample -= 1),
        ("the end of the range", |manifest| manifest.from_sample = 2_000),
        ("the number of samples, stored and missing", |manifest| {
            manifest.sample_count -= 1;
        }),
        ("the number of missing samples", |manifest| {
            (manifest.sample_count, manifest.gap_sample_count) = (711, 249);
        }),
        ("the number of chunks", |manifest| manifest.chunks = 3),
        ("the range of seqs", |manifest| manifest.first_seq = 0),
        ("the range of seqs", |manifest| manifest.last_seq += 1),
        ("the digest at the watermark", |manifest| {
            manifest.digest = vec![1; 16].into();
        }),
        ("the digest before seq 1", |manifest| {
            manifest.digest_before = vec![1; 16].into();
        }),
        ("a gap", |manifest| manifest.gaps[0].count = 0),
        ("a gap", |manifest| manifest.gaps[0].count = 1_000),
    ];
    for (expected, change) in changes {
        match lie(|script| change(stated(script))).await {
            Fault::Manifest { what, .. } => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let overflow = lie(|script| stated(script).gaps[0].first_sample = u64::MAX).await;
    assert!(matches!(overflow, Fault::Manifest { what: "a gap", .. }));
    assert_eq!(lie(|script| drop(script.parts.pop())).await, Fault::ManifestMissing);
    assert_eq!(
        lie(|script| stated(script).stream_id = vec![9; 16].into()).await,
        Fault::ManifestMissing
    );
}

#[tokio::test]
async fn columns_of_another_time_are_refused() {
    // All of it came, where samples 100 to 200 were asked for.
    let at = |sample: i64| Some(START_NS + (sample - 50) * 1_000);
    for (from_ns, to_ns) in [(at(100), None), (None, at(50))] {
        let selection = Selection::device("js220-001").range(TimeRange { from_ns, to_ns });
        let other = read_selection(drawn(&[&capture()], BUCKET), selection, POINTS).await;
        assert!(matches!(
            fault(other),
            Fault::Drawn {
                why: BadColumns::Time,
                ..
            }
        ));
    }
    // The end is open, and the answer stops before the watermark.
    let truncated = lie(|script| {
        let manifest = stated(script);
        (manifest.last_seq, manifest.digest) = (2, vec![7; 16].into());
    });
    let (watermark, found) = (3, 2);
    assert_eq!(truncated.await, Fault::Truncated { watermark, found });
}

#[tokio::test]
async fn columns_out_of_their_place_in_the_answer_are_refused() {
    let malformed = async |change: fn(&mut Script)| {
        let mut lies = drawn(&[&capture()], BUCKET);
        change(&mut lies);
        matches!(read(lies).await, Err(Error::Malformed(_)))
    };
    assert!(
        malformed(|script| drop(script.parts.remove(0))).await,
        "before their stream"
    );
    assert!(
        malformed(|script| script.parts.push(script.parts[1].clone())).await,
        "after the manifest"
    );
    assert!(
        malformed(|script| columns(script, 0).stream_id = vec![9; 16].into()).await,
        "of another stream"
    );
    let chunk = |script: &mut Script, at| {
        let chunks = capture().parts();
        script.parts.insert(at, chunks[1].clone());
    };
    let mut after = drawn(&[&capture()], BUCKET);
    chunk(&mut after, 2);
    assert!(
        matches!(read(after).await, Err(Error::Malformed(_))),
        "samples after columns"
    );
    let mut before = drawn(&[&capture()], BUCKET);
    chunk(&mut before, 1);
    let selection = Selection::device("js220-001");
    let mixed = read_selection(before, selection, 1_000).await;
    assert!(matches!(mixed, Err(Error::Malformed(_))), "columns after samples");
}

/// Not a generator for anything that matters.
fn next(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[tokio::test]
async fn no_flipped_bit_stops_the_reader() {
    use prost::Message;
    let honest = drawn(&[&capture()], BUCKET);
    let (mut state, mut refused) = (7, 0);
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
        // Values within their limits may change: columns are not proven, as samples are.
        refused += usize::from(read(lies).await.is_err());
    }
    assert!(refused > 50, "only {refused} were refused");
}
