//! Runs on a real Postgres: what they consist of, what is read of them, which a filter lets through.

mod common;
mod query_support;

use std::collections::BTreeMap;

use common::{NOVEMBER_2026_NS, Stream};
use query_support::{Asker, assert_refused, between, bits, by_device, by_stream, changed, id, successor, what};
use tonic::Code;
use tonic_types::StatusExt;
use wavekeep_proto::v1;
use wavekeep_proto::v1::selection::What;
use wavekeep_proto::wire::header_from_bytes;
use wavekeep_server::ledger::Row;

const US: i64 = 1_000;

/// So many microseconds, which are samples, after the first one.
fn at(us: i64) -> Option<i64> {
    Some(NOVEMBER_2026_NS + us * US)
}

fn by_run(name: &str) -> v1::Selection {
    what(What::Run(name.into()))
}

fn run(name: &str, labels: &[(&str, &str)]) -> v1::Run {
    let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    v1::Run {
        name: name.into(),
        labels: labels.collect(),
        ..v1::Run::default()
    }
}

/// Ten chunks of a hundred samples; each sample is its own id.
fn counting(stream: &mut Stream) -> Vec<Row> {
    let chunk = |number: u32| {
        (number * 100..(number + 1) * 100)
            .map(|id| (id as f32).to_bits())
            .collect::<Vec<_>>()
    };
    (0..10).map(|number| stream.samples(&chunk(number))).collect()
}

/// What was read of the first signal, cut to what was asked for.
fn samples(answered: &query_support::Answered) -> Vec<f32> {
    let mut all = Vec::new();
    for chunk in &answered.chunks {
        let whole = chunk.chunk.as_ref().expect("a chunk");
        let first = header_from_bytes(&whole.header).expect("a header").first_sample;
        let cut = (chunk.from_sample - first) as usize..(chunk.to_sample - first) as usize;
        all.extend(bits(&whole.columns[0])[cut].iter().map(|bits| f32::from_bits(*bits)));
    }
    all
}

fn names(runs: &[v1::Run]) -> Vec<&str> {
    runs.iter().map(|run| run.name.as_str()).collect()
}

#[tokio::test]
async fn what_is_read_of_a_run_is_its_times_and_nothing_twice() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = counting(&mut stream);
    asker.store(&stream, rows).await;
    let of_device = |from, to| between(by_device("js220-001"), at(from), at(to));
    let of_stream = between(by_stream(&stream), at(710), at(720));
    let members = vec![of_device(150, 300), of_device(250, 400), of_device(700, 820), of_stream];
    let made = asker.create_run(run("times", &[]), members).await.expect("it is made");
    assert_eq!((made.streams, made.duration_ns, made.members.len()), (1, 370_000, 4));
    assert_eq!((made.first_time_ns, made.last_time_ns), (at(150), at(820)));

    let parts = asker.read(by_run("times")).await;
    let expected = [(150, 400), (700, 820)].map(|(from, to)| (from..to).map(|id| id as f32).collect::<Vec<_>>());
    assert_eq!(parts.iter().map(samples).collect::<Vec<_>>(), expected);
    let spans: Vec<_> = parts
        .iter()
        .map(|part| (part.manifest.from_sample, part.manifest.to_sample))
        .collect();
    assert_eq!(spans, [(150, 400), (700, 820)]);
    let cut = asker.read(between(by_run("times"), at(390), at(701))).await;
    assert_eq!(cut.iter().map(|part| samples(part).len()).collect::<Vec<_>>(), [10, 1]);

    let statistics = asker.statistics(by_run("times")).await.expect("an answer");
    assert_eq!(statistics[0].sample_count, 370);
    let sum: u32 = (150..400).chain(700..820).sum();
    assert!((statistics[0].integral - f64::from(sum) / 1e6).abs() < 1e-12);
    let chunks = asker.chunks(by_run("times"), 0, false).await.expect("an answer");
    let seqs = |chunks: &[v1::ChunkInfo]| -> Vec<u64> {
        chunks
            .iter()
            .map(|chunk| header_from_bytes(&chunk.header).expect("a header").seq)
            .collect()
    };
    assert_eq!(seqs(&chunks), [2, 3, 4, 8, 9]);
    let newest = asker.chunks(by_run("times"), 3, true).await.expect("an answer");
    assert_eq!(seqs(&newest), [9, 8, 4]);
    assert_eq!(asker.streams(by_run("times")).await.expect("an answer").len(), 1);
    let drawn = asker.drawn(by_run("times"), 4).await.expect("an answer");
    let drawn: u64 = drawn
        .into_iter()
        .filter_map(|part| match part.part {
            Some(v1::waveform_part::Part::Columns(columns)) if columns.signal == 0 => {
                Some(columns.count.iter().sum::<u64>())
            }
            _ => None,
        })
        .sum();
    assert_eq!(drawn, 370);
    let outside = asker.statistics(between(by_run("times"), at(500), at(600))).await;
    assert_refused(
        outside,
        Code::OutOfRange,
        "what is stored lies from 2026-11-23T00:00:00.00015Z to 2026-11-23T00:00:00.00082Z",
    );
}

#[tokio::test]
async fn two_times_in_one_chunk_are_read_apart_and_the_chunk_is_listed_once() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = counting(&mut stream);
    asker.store(&stream, rows).await;
    let of_device = |from, to| between(by_device("js220-001"), at(from), at(to));
    let members = vec![of_device(10, 20), of_device(30, 40)];
    asker.create_run(run("two", &[]), members).await.expect("it is made");
    let parts = asker.read(by_run("two")).await;
    assert_eq!(
        parts.iter().map(|part| samples(part).len()).collect::<Vec<_>>(),
        [10, 10]
    );
    for newest_first in [false, true] {
        let chunks = asker.chunks(by_run("two"), 0, newest_first).await.expect("an answer");
        assert_eq!(chunks.len(), 1);
    }
}

#[tokio::test]
async fn a_listed_stream_says_what_of_it_is_selected_and_of_which_runs_it_is() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = counting(&mut stream);
    asker.store(&stream, rows).await;
    let range = |(from, to): (i64, i64)| v1::TimeRange {
        from_ns: at(from),
        to_ns: at(to),
    };
    let times = [
        ("night, 1", [(150, 300), (250, 400)]),
        ("night, 2", [(400, 500), (5_000, 6_000)]),
    ];
    for (name, times) in times {
        let members = times.map(|(from, to)| between(by_device("js220-001"), at(from), at(to)));
        let labels = [("operator", name)];
        asker
            .create_run(run(name, &labels), members.to_vec())
            .await
            .expect("it is made");
    }
    let filtered = |filter: &str| v1::Selection {
        filter: filter.into(),
        ..v1::Selection::default()
    };
    let of = async |selection: v1::Selection| {
        let answer = asker.selected(selection, true).await.expect("an answer");
        let ranges: Vec<_> = answer.streams.into_iter().map(|stream| stream.ranges).collect();
        let operators = answer.runs.iter().map(|run| run.labels["operator"].clone());
        (ranges, operators.collect::<Vec<_>>())
    };
    assert_eq!(
        of(by_run("night, 1")).await,
        (vec![vec![range((150, 400))]], vec!["night, 1".into()])
    );
    // Times of several runs that meet are one; nothing is stored of the last.
    let both = of(filtered("run~night*")).await;
    assert_eq!(
        both,
        (
            vec![vec![range((150, 500))]],
            vec!["night, 1".into(), "night, 2".into()]
        )
    );
    let second = of(filtered("run~night* run!=\"night, 1\"")).await;
    assert_eq!(second, (vec![vec![range((400, 500))]], vec!["night, 2".into()]));
    let cut = of(between(by_run("night, 1"), at(200), None)).await;
    assert_eq!(cut.0, [[range((200, 400))]]);
    // Where no run is named, all that is asked for is selected.
    assert_eq!(
        of(by_device("js220-001")).await,
        (vec![vec![v1::TimeRange::default()]], vec![])
    );
    assert_eq!(
        of(between(by_device("js220-001"), at(1), at(2))).await.0,
        [[range((1, 2))]]
    );
    let unasked = asker.selected(by_run("night, 1"), false).await.expect("an answer");
    assert!(unasked.runs.is_empty());
}

#[tokio::test]
async fn streams_recorded_for_a_run_and_times_added_to_it_are_its_members() {
    let asker = Asker::new().await;
    let (mut recorded, mut other) = (Stream::new(), changed(|definition| definition.device = "ppk2".into()));
    let rows = counting(&mut recorded);
    asker
        .store_in(&recorded, rows, "night", &[("firmware", "1.4"), ("fan", "on")])
        .await;
    let rows = counting(&mut other);
    asker
        .store_in(&other, rows, "", &[("firmware", "1.4"), ("fan", "off")])
        .await;
    let runs = asker.runs("").await.expect("an answer");
    assert_eq!((names(&runs), runs[0].recorded_streams), (vec!["night"], 1));
    assert_eq!(
        runs[0].labels,
        BTreeMap::from([("fan".into(), "on".into()), ("firmware".into(), "1.4".into())])
    );

    let request = v1::UpdateRunRequest {
        workspace: asker.workspace(),
        run: Some(run("night", &[("operator", "ada"), ("firmware", "own")])),
        members: vec![between(by_device("ppk2"), at(0), at(50))],
        note: Some("cold".into()),
        ..v1::UpdateRunRequest::default()
    };
    let update = async || {
        let answer = asker.catalog.clone().update_run(request.clone()).await;
        answer.expect("it is changed, or so already").into_inner()
    };
    let (once, twice) = (update().await, update().await);
    assert_eq!(
        once, twice,
        "a change that is made again changes nothing, not even its time"
    );
    let labels = [("firmware", "own"), ("operator", "ada")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        once.labels,
        BTreeMap::from(labels),
        "what its streams do not share is not its"
    );
    assert_eq!(
        (once.streams, once.duration_ns, once.note.as_str()),
        (2, 1_000_000, "cold")
    );
    assert_eq!(once.devices, ["js220-001", "ppk2"]);
    let parts = asker.read(by_run("night")).await;
    let lengths: Vec<_> = parts
        .iter()
        .map(|part| (part.info.run.as_str(), samples(part).len()))
        .collect();
    assert_eq!(lengths, [("night", 1_000), ("", 50)]);
    let of_one = v1::Selection {
        filter: "device=ppk2".into(),
        ..by_run("night")
    };
    assert_eq!(asker.read(of_one).await.len(), 1);
    let by_filter = v1::Selection {
        filter: "run~nig*".into(),
        ..by_device("ppk2")
    };
    assert_eq!(
        samples(&asker.read_one(by_filter).await).len(),
        50,
        "a filter reads the times of runs, too"
    );
}

#[tokio::test]
async fn a_successor_is_read_in_place_of_what_it_continues_unless_a_stream_is_named() {
    let asker = Asker::new().await;
    let mut first = Stream::new();
    let mut rows = counting(&mut first);
    let at_five = (first.clone(), rows.split_off(5));
    let mut after = successor(&first, 5, 500, NOVEMBER_2026_NS + 500 * US);
    let more = (0..6).map(|_| after.samples(&[0; 100])).collect();
    rows.extend(at_five.1);
    asker.store(&first, rows).await;
    asker.store(&after, more).await;
    let members = vec![between(by_device("js220-001"), at(400), at(600))];
    asker.create_run(run("both", &[]), members).await.expect("it is made");
    let parts = asker.read(by_run("both")).await;
    let lengths: Vec<_> = parts
        .iter()
        .map(|part| (part.manifest.from_sample, part.manifest.to_sample))
        .collect();
    assert_eq!(lengths, [(400, 500), (500, 600)]);
    let members = vec![between(by_stream(&first), at(400), at(600))];
    asker.create_run(run("own", &[]), members).await.expect("it is made");
    let own = asker.read_one(by_run("own")).await;
    assert_eq!((own.manifest.from_sample, own.manifest.to_sample), (400, 600));
    assert_eq!(
        own.info.definition.expect("a definition").stream_id.to_vec(),
        id(&first)
    );
}

#[tokio::test]
async fn a_filter_lets_runs_through_by_their_names_devices_and_labels() {
    let asker = Asker::new().await;
    for (device, run, algorithm) in [
        ("js220-001", "night-1", "A"),
        ("js220-002", "night-2", "B"),
        ("ppk2", "day", "A"),
    ] {
        let mut stream = changed(|definition| definition.device = device.into());
        let rows = vec![stream.few_samples()];
        asker.store_in(&stream, rows, run, &[("algorithm", algorithm)]).await;
    }
    let of_day = vec![between(by_device("ppk2"), at(0), at(2))];
    asker
        .create_run(run("by hand", &[("algorithm", "B"), ("odd", "50%_\"*\"")]), of_day)
        .await
        .expect("it is made");
    asker
        .create_run(run("empty", &[]), Vec::new())
        .await
        .expect("it is made");
    for (filter, expected) in [
        ("algorithm=A", vec!["day", "night-1"]),
        ("algorithm=B", vec!["by hand", "night-2"]),
        ("algorithm!=A", vec!["by hand", "empty", "night-2"]),
        ("algorithm~?", vec!["by hand", "day", "night-1", "night-2"]),
        ("algorithm!~*", vec!["empty"]),
        ("device~js220-*", vec!["night-1", "night-2"]),
        ("device!=ppk2", vec!["empty", "night-1", "night-2"]),
        ("run~night-* algorithm=B", vec!["night-2"]),
        ("run!~night-*", vec!["by hand", "day", "empty"]),
        ("run=\"by hand\"", vec!["by hand"]),
        ("algorithm=A, device=js220-001", vec!["night-1"]),
        (r#"odd="50%_\"*\"""#, vec!["by hand"]),
        (r#"odd~"50%_*""#, vec!["by hand"]),
        (r#"odd~"50__*""#, vec![]),
    ] {
        let runs = asker.runs(filter).await.expect("an answer");
        assert_eq!(names(&runs), expected, "{filter}");
    }
    let error = asker.runs("algorithm A").await.expect_err("it has no operator");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(
        error.message().ends_with("\n  algorithm A\n            ^"),
        "{}",
        error.message()
    );
    let details = error.get_error_details();
    let info = details.error_info().expect("details");
    assert_eq!(info.reason, "INVALID_FILTER");
    assert_eq!(info.metadata.get("characters_before").map(String::as_str), Some("10"));
    assert_refused(
        asker.runs("run=nigth-1").await,
        Code::NotFound,
        "did you mean \"night-1\"?",
    );
    let misspelt = asker.statistics(by_run("nihgt-1")).await;
    assert_refused(
        misspelt,
        Code::NotFound,
        "there is no run \"nihgt-1\"; did you mean \"night-1\"?",
    );
    let empty = asker.statistics(by_run("empty")).await;
    assert_refused(empty, Code::OutOfRange, "nothing is stored of run \"empty\"");
}

#[tokio::test]
async fn a_filter_lets_streams_through() {
    let asker = Asker::new().await;
    let mut of: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
    for (name, device, run, labels) in [
        (
            "a",
            "js220-001",
            "night-1",
            vec![("algorithm", "A"), ("firmware", "1.3")],
        ),
        ("b", "js220-002", "", vec![("algorithm", "A"), ("firmware", "1.4")]),
        ("c", "ppk2", "day", vec![("note", "a_b%c\\d")]),
    ] {
        let mut stream = changed(|definition| definition.device = device.into());
        of.insert(id(&stream), name);
        let rows = vec![stream.few_samples()];
        asker.store_in(&stream, rows, run, &labels).await;
    }
    for (filter, expected) in [
        ("algorithm=A firmware!=1.3 device~js220-*", "b"),
        ("algorithm=A,device~js220-*", "a b"),
        ("firmware!=1.3", "b c"),
        ("firmware~1.?", "a b"),
        ("firmware!~*", "c"),
        ("run!=day", "a b"),
        ("run~*", "a c"),
        ("run!~night-*", "b c"),
        ("run=night-1", "a"),
        ("device!~js*", "c"),
        (r#"note="a_b%c\\d""#, "c"),
        (r#"note~"a_b%c\\\\d""#, "c"),
        (r#"note~"a?b?c*d""#, "c"),
        (r#"note~"a_b__*""#, ""),
        ("algorithm=\"A' OR '1'='1\"", ""),
        ("algorithm~\"'; DROP TABLE stream; --\"", ""),
    ] {
        let selection = v1::Selection {
            filter: filter.into(),
            ..v1::Selection::default()
        };
        let streams = asker.streams(selection).await.expect("an answer");
        let mut found: Vec<&str> = streams
            .iter()
            .map(|stream| of[&stream.definition.as_ref().expect("a definition").stream_id.to_vec()])
            .collect();
        found.sort_unstable();
        assert_eq!(found.join(" "), expected, "{filter}");
    }
    let by_filter_alone = v1::Selection {
        filter: "firmware=1.4".into(),
        ..v1::Selection::default()
    };
    let statistics = asker
        .statistics(by_filter_alone)
        .await
        .expect("a filter says what to read");
    assert_eq!(statistics[0].device, "js220-002");
}
