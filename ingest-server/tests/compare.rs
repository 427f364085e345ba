//! Groups of runs, compared: over a real Postgres, of samples that are all known.

mod common;
mod query_support;

use common::{NOVEMBER_2026_NS, Stream, definition, random};
use query_support::{Asker, assert_refused, between, by_device, changed};
use tonic::Code;
use wavekeep_proto::chunk::{Marker, MarkerFormat, Reason};
use wavekeep_proto::id::Epoch;
use wavekeep_proto::v1;
use wavekeep_server::ledger::Row;

const RATE_HZ: f64 = 1e4;
const SAMPLES: usize = 20_000;

/// A stream of a run: one at 10 kHz, whose current and voltage are the same, so that power is the square.
fn stream(at_s: i64) -> Stream {
    let mut stream = changed(|definition| {
        definition.rate_hz = RATE_HZ;
        definition.epoch = Epoch(random());
    });
    stream.utc_ns = NOVEMBER_2026_NS + at_s * 1_000_000_000;
    stream
}

fn samples(stream: &mut Stream, values: impl IntoIterator<Item = f32>) -> Row {
    let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
    stream.samples(&bits)
}

/// With a marker at its first sample.
fn marked(stream: &mut Stream, values: &[f32], text: &str) -> Row {
    marked_at(stream, values, text, 0)
}

fn marked_at(stream: &mut Stream, values: &[f32], text: &str, place: u64) -> Row {
    let before = stream.clone();
    let row = samples(stream, values.iter().copied());
    let mut header = row.chunk.header;
    header.markers.push(Marker {
        sample: header.first_sample + place,
        kind: 0,
        group: 0,
        y: f64::NAN,
        format: MarkerFormat::Text,
        content: text.as_bytes().to_vec(),
    });
    *stream = before;
    stream.push(header, row.chunk.columns)
}

/// Two seconds of a constant, in two chunks.
async fn run_of(asker: &Asker, name: &str, algorithm: &str, value: f32, at_s: i64) {
    let mut stream = stream(at_s);
    let rows = (0..2).map(|_| samples(&mut stream, vec![value; SAMPLES / 2])).collect();
    asker.store_in(&stream, rows, name, &[("algorithm", algorithm)]).await;
}

/// 20 runs of A around 4 W, of B around 3.5 W.
async fn two_algorithms(count: usize) -> Asker {
    let asker = Asker::new().await;
    for run in 0..count {
        let wobble = 1.0 + 0.002 * (run as f32 - count as f32 / 2.0);
        let at_s = run as i64 * 10;
        run_of(&asker, &format!("a{run}"), "A", (4.0 * wobble).sqrt(), at_s).await;
        run_of(&asker, &format!("b{run}"), "B", (3.5 * wobble).sqrt(), at_s + 5).await;
    }
    asker
}

fn asked(first: &str, second: &str) -> v1::CompareRunsRequest {
    v1::CompareRunsRequest {
        first: first.into(),
        second: second.into(),
        ..v1::CompareRunsRequest::default()
    }
}

#[tokio::test]
async fn groups_are_compared_in_one_sentence() {
    let asker = two_algorithms(20).await;
    let found = asker
        .compare(asked("algorithm=A", "algorithm=B"))
        .await
        .expect("an answer");
    assert!(
        found
            .sentence
            .starts_with("algorithm=B uses 12.5 % less energy than algorithm=A; 95 % interval "),
        "{}",
        found.sentence
    );
    assert!(found.sentence.ends_with(" %; 20 runs each"), "{}", found.sentence);
    assert_eq!(found.notes, Vec::<String>::new());
    assert_eq!(
        (found.signal.as_str(), found.unit.as_str(), found.metric_unit.as_str()),
        ("power", "W", "J")
    );
    let (first, second) = (found.first.expect("it is there"), found.second.expect("it is there"));
    assert_eq!((first.runs.len(), second.runs.len()), (20, 20));
    for (at, run) in first.runs.iter().enumerate() {
        let number: f32 = run.run[1..].parse().expect("a number");
        let wobble = 1.0 + 0.002 * (number - 10.0);
        let power = f64::from((4.0 * wobble).sqrt()).powi(2);
        assert_eq!(
            (run.sample_count, run.gap_sample_count, run.finite_count),
            (20_000, 0, 20_000),
            "{at}"
        );
        assert!((run.energy_joule.expect("of W") / (2.0 * power) - 1.0).abs() < 1e-12);
        assert!((run.mean / power - 1.0).abs() < 1e-12 && run.value == run.energy_joule.expect("of W"));
        assert_eq!((run.duration_s, run.gap_s, run.peak), (2.0, 0.0, power));
    }
    let difference = found.difference.expect("it is there");
    let interval = difference.interval.expect("enough runs");
    assert_eq!(difference.verdict, i32::from(v1::Verdict::Less));
    assert!(interval.low < -0.125 && -0.125 < interval.high && interval.level == 0.95);
    let values = |group: &v1::RunGroup| -> Vec<f64> { group.runs.iter().map(|run| run.value).collect() };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (first, second) = (values(&first), values(&second));
    assert!((difference.relative.expect("above zero") - (mean(&second) / mean(&first) - 1.0)).abs() < 1e-12);
    assert!(difference.welch.expect("they vary").p < 1e-6);
    assert!(found.columns.is_none(), "none were asked for");
    let again = asker
        .compare(asked("algorithm=A", "algorithm=B"))
        .await
        .expect("an answer");
    assert_eq!(again.sentence, found.sentence, "the same data, the same interval");
    for points_max in [2, 777] {
        let drawn = v1::CompareRunsRequest {
            points_max,
            ..asked("algorithm=A", "algorithm=B")
        };
        let drawn = asker.compare(drawn).await.expect("an answer");
        assert_eq!(drawn.sentence, found.sentence, "however it is drawn");
    }
    let more = asker
        .compare(asked("algorithm=B", "algorithm=A"))
        .await
        .expect("an answer");
    assert!(more.sentence.contains("uses 14.3 % more energy"), "{}", more.sentence);
}

#[tokio::test]
async fn one_run_of_each_is_measured_and_nothing_is_made_up() {
    let asker = two_algorithms(1).await;
    let found = asker.compare(asked("a0", "b0")).await.expect("an answer");
    let expected =
        "b0 uses 12.5 % less energy than a0, as measured; one run each: how sure that is cannot be said of one run";
    assert!(found.sentence.starts_with(expected), "{}", found.sentence);
    let difference = found.difference.expect("it is there");
    assert_eq!((difference.interval, difference.welch), (None, None));
    assert_eq!(found.first.expect("it is there").std, None);
}

/// So many tenths of a second after the recordings began.
fn tenths(tenths: i64) -> Option<i64> {
    Some(NOVEMBER_2026_NS + tenths * 100_000_000)
}

#[tokio::test]
async fn no_sample_counts_twice() {
    let asker = two_algorithms(1).await;
    let run = v1::Run {
        name: "a0-part".into(),
        parent: "a0".into(),
        ..v1::Run::default()
    };
    let part = between(by_device("js220-001"), tenths(0), tenths(5));
    asker.create_run(run, vec![part]).await.expect("it is made");
    for (first, second) in [("run~a0*", "b0"), ("a0", "a0-part"), ("b0", "algorithm=A")] {
        assert_refused(
            asker.compare(asked(first, second)).await,
            Code::InvalidArgument,
            "runs \"a0\" and \"a0-part\" have samples of stream",
        );
    }
    asker.compare(asked("a0-part", "b0")).await.expect("they are apart");
}

#[tokio::test]
async fn times_that_were_chosen_have_no_time_between_them() {
    let asker = two_algorithms(1).await;
    let run = v1::Run {
        name: "windows".into(),
        ..v1::Run::default()
    };
    let window = |from, to| between(by_device("js220-001"), tenths(from), tenths(to));
    let made = asker.create_run(run, vec![window(1, 5), window(12, 18)]).await;
    made.expect("it is made");
    let request = v1::CompareRunsRequest {
        metric: v1::Metric::Duration.into(),
        ..asked("b0", "windows")
    };
    let found = asker.compare(request).await.expect("an answer");
    let windows = found_run(&found.second);
    assert_eq!((windows.duration_s, windows.value, windows.gap_s), (1.0, 1.0, 0.0));
    assert_eq!(found.notes, Vec::<String>::new(), "nothing is missing between them");
}

#[tokio::test]
async fn what_is_not_finite_saves_nothing() {
    let asker = Asker::new().await;
    for run in 0..5 {
        let value = 2.0 + 0.01 * run as f32;
        run_of(&asker, &format!("a{run}"), "A", value, run * 10).await;
        let mut stream = stream(run * 10 + 5);
        let rows = vec![
            samples(&mut stream, vec![f32::NAN; SAMPLES / 2]),
            samples(&mut stream, vec![value; SAMPLES / 2]),
        ];
        let labels = [("algorithm", "B")];
        asker.store_in(&stream, rows, &format!("b{run}"), &labels).await;
    }
    let found = asker.compare(asked("algorithm=A", "algorithm=B")).await;
    let found = found.expect("an answer");
    let verdict = found.difference.expect("it is there").verdict;
    assert_eq!(verdict, i32::from(v1::Verdict::CannotSay), "{}", found.sentence);
    assert!(
        found.sentence.contains("50.0 % of the time of algorithm=B"),
        "{}",
        found.sentence
    );
    assert!(
        found.notes[0].contains("are not finite (50.0 % of its time)"),
        "{:?}",
        found.notes
    );
    run_of(&asker, "nothing", "C", f32::NAN, 100).await;
    assert_refused(
        asker.compare(asked("a0", "nothing")).await,
        Code::OutOfRange,
        "no sample of \"power\" of run \"nothing\" is a finite number",
    );
}

#[tokio::test]
async fn every_metric_is_its_own_fold() {
    let asker = Asker::new().await;
    let mut long = stream(0);
    let rows = vec![samples(
        &mut long,
        (0..10_000).map(|at| if at == 77 { 3.0 } else { 1.0 }),
    )];
    asker.store_in(&long, rows, "long", &[]).await;
    let mut short = stream(100);
    let rows = vec![samples(&mut short, vec![2.0; 5_000])];
    asker.store_in(&short, rows, "short", &[]).await;
    let values = async |signal: &str, metric: v1::Metric| {
        let request = v1::CompareRunsRequest {
            signal: signal.into(),
            metric: metric.into(),
            ..asked("long", "short")
        };
        let found = asker.compare(request).await.expect("an answer");
        let value = |group: Option<v1::RunGroup>| group.expect("it is there").runs[0].value;
        (value(found.first), value(found.second), found.sentence, found.notes)
    };
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    let (first, second, sentence, notes) = values("current", v1::Metric::Unspecified).await;
    close(first, 10_002.0 / RATE_HZ);
    close(second, 1.0);
    assert!(sentence.contains("charge"), "{sentence}");
    assert!(
        notes[0].contains("short are 50.0 % shorter than those of long") && notes[0].contains("mean of current"),
        "{notes:?}"
    );
    let (first, second, ..) = values("power", v1::Metric::Peak).await;
    assert_eq!((first, second), (9.0, 4.0));
    let (first, second, ..) = values("current", v1::Metric::Mean).await;
    close(first, 1.0002);
    close(second, 2.0);
    let (first, second, sentence, notes) = values("current", v1::Metric::Duration).await;
    assert_eq!((first, second, notes), (1.0, 0.5, vec![]));
    assert!(sentence.contains("takes 50.0 % less time"), "{sentence}");
    let energy = v1::CompareRunsRequest {
        signal: "current".into(),
        metric: v1::Metric::Energy.into(),
        ..asked("long", "short")
    };
    assert_refused(
        asker.compare(energy).await,
        Code::InvalidArgument,
        "energy is of a signal in W",
    );
}

#[tokio::test]
async fn i9_both_are_drawn_on_one_axis_and_no_gap_is_bridged() {
    let asker = Asker::new().await;
    // A: 1 s of 1 W, 0.5 s missing, 1 s of 4 W. B: 1 s of 4 W.
    let mut first = stream(0);
    let rows = vec![
        samples(&mut first, vec![1.0; 10_000]),
        first.gap(5_000, Reason::SourceLoss),
        samples(&mut first, vec![2.0; 10_000]),
    ];
    asker.store_in(&first, rows, "A", &[]).await;
    let mut second = stream(50);
    let rows = vec![samples(&mut second, vec![2.0; 10_000])];
    asker.store_in(&second, rows, "B", &[]).await;
    let request = v1::CompareRunsRequest {
        points_max: 10,
        ..asked("A", "B")
    };
    let found = asker.compare(request).await.expect("an answer");
    let columns = found.columns.expect("they were asked for");
    assert_eq!((columns.from_ns, columns.column_ns), (0, 250_000_000));
    let (first, second) = (
        columns.first.expect("it is there"),
        columns.second.expect("it is there"),
    );
    assert_eq!(
        first.runs,
        [1, 1, 1, 1, 0, 0, 1, 1, 1, 1],
        "no sample in half a second: {first:?}"
    );
    assert_eq!(second.runs, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!((&first.mean[..4], &first.mean[6..]), (&[1.0; 4][..], &[4.0; 4][..]));
    assert_eq!(columns.difference[..4], [3.0; 4]);
    assert!(columns.difference[4..].iter().all(|value| value.is_nan()) && first.min[4].is_nan());
    let run = &found.first.expect("it is there").runs[0];
    assert_eq!((run.duration_s, run.gap_s, run.gap_sample_count), (2.5, 0.5, 5_000));
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.contains("0.5000 s of 2.5000 s of A are missing (20.0 %)")
                && note.contains("smaller than said")),
        "{:?}",
        found.notes
    );
}

#[tokio::test]
async fn runs_are_laid_over_each_other_at_a_marker() {
    let asker = Asker::new().await;
    for (name, before) in [("A", 2_000), ("B", 7_000)] {
        let mut stream = stream(if name == "A" { 0 } else { 60 });
        let rows = vec![
            samples(&mut stream, vec![1.0; before]),
            marked(&mut stream, &[3.0; 10_000], "start"),
            marked(&mut stream, &[1.0; 10], "done"),
            marked(&mut stream, &[1.0; 10], "done"),
            // Right after the last sample, where an agent puts what comes as it ends.
            marked_at(&mut stream, &[1.0; 10], "stop", 10),
        ];
        asker.store_in(&stream, rows, name, &[]).await;
    }
    let at = |marker: &str| v1::CompareRunsRequest {
        align_marker: marker.into(),
        points_max: 17,
        ..asked("A", "B")
    };
    let found = asker.compare(at("start")).await.expect("an answer");
    let columns = found.columns.expect("they were asked for");
    assert_eq!(columns.from_ns, -700_000_000);
    let run = found_run(&found.first);
    assert_eq!(run.align_ns - run.from_ns, 200_000_000);
    let (first, second) = (
        columns.first.expect("it is there"),
        columns.second.expect("it is there"),
    );
    assert_eq!(first.runs[..4], [0; 4], "A starts later: {first:?}");
    let rises = |group: &v1::GroupColumns| group.max.iter().position(|value| *value == 9.0);
    assert_eq!(rises(&first), rises(&second), "both rise at the marker");
    let stopped = found_run(&asker.compare(at("stop")).await.expect("an answer").second);
    assert_eq!(stopped.align_ns, stopped.to_ns);
    assert_refused(
        asker.compare(at("strat")).await,
        Code::InvalidArgument,
        "did you mean \"start\"?",
    );
    assert_refused(
        asker.compare(at("done")).await,
        Code::InvalidArgument,
        "has 2 markers \"done\"",
    );
    let noted = async |run: &v1::MeasuredRun, after_ns: i64, text: &str| {
        let (ns, device) = (run.from_ns + after_ns, &definition().device);
        let sql = format!(
            "INSERT INTO added_marker SELECT decode(md5(random()::text), 'hex'), '{device}', {ns}, 0, 0, 'NaN', 1, '{text}'"
        );
        asker.fixture.run(&sql).await;
    };
    let (a, b) = (&found_run(&found.first), &found_run(&found.second));
    noted(a, 300_000_000, "fan on").await;
    noted(b, 800_000_000, "fan on").await;
    // Of the same device, but before and after the runs.
    noted(a, -1, "fan on").await;
    noted(b, 3_000_000_000, "fan on").await;
    let found = asker.compare(at("fan on")).await.expect("added ones are markers too");
    for (group, after_ns) in [(&found.first, 300_000_000), (&found.second, 800_000_000)] {
        let run = found_run(group);
        assert_eq!(run.align_ns - run.from_ns, after_ns);
    }
    let mistyped = asker.compare(at("fun on")).await;
    assert_refused(mistyped, Code::InvalidArgument, "did you mean \"fan on\"?");
    noted(b, 900_000_000, "fan on").await;
    assert_refused(
        asker.compare(at("fan on")).await,
        Code::InvalidArgument,
        "has 2 markers",
    );
}

fn found_run(group: &Option<v1::RunGroup>) -> v1::MeasuredRun {
    group.as_ref().expect("it is there").runs[0].clone()
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_in_words() {
    let asker = two_algorithms(1).await;
    let refused = async |request: v1::CompareRunsRequest, code: Code, part: &str| {
        assert_refused(asker.compare(request).await, code, part);
    };
    refused(
        asked("a0", "b1"),
        Code::NotFound,
        "there is no run \"b1\"; did you mean",
    )
    .await;
    refused(asked("", "b0"), Code::InvalidArgument, "say which runs").await;
    refused(
        asked("algorithm=A", "algorithm=C"),
        Code::OutOfRange,
        "no run is chosen by \"algorithm=C\"",
    )
    .await;
    refused(asked("algorithm=A", "a0"), Code::InvalidArgument, "is in both groups").await;
    refused(asked("algorithm=A", "=b"), Code::InvalidArgument, "the filter").await;
    let unknown = v1::CompareRunsRequest {
        metric: 99,
        ..asked("a0", "b0")
    };
    refused(unknown, Code::InvalidArgument, "no metric 99").await;
    let many = v1::CompareRunsRequest {
        points_max: 1_000_000,
        ..asked("a0", "b0")
    };
    refused(many, Code::InvalidArgument, "ask for fewer").await;
    let mut other = changed(|definition| {
        definition.signals[0].unit = "mA".into();
        definition.device = "ppk2".into();
    });
    let rows = vec![other.few_samples()];
    asker.store_in(&other, rows, "in milliampere", &[]).await;
    let request = v1::CompareRunsRequest {
        signal: "current".into(),
        ..asked("a0", "in milliampere")
    };
    refused(request, Code::InvalidArgument, "only one unit can be compared").await;
}
