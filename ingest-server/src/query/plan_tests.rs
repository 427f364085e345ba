//! Plans, without a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use wavekeep_proto::chunk::{ChunkKind, Position};
use wavekeep_proto::id::Epoch;
use wavekeep_proto::stream::{Predecessor, SampleType, Signal};

use super::*;

fn signal(number: u16, name: &str, unit: &str) -> Signal {
    Signal {
        number,
        name: name.into(),
        sample_type: SampleType::F32,
        unit: unit.into(),
        finite_only: false,
    }
}

fn definition(rate_hz: f64) -> StreamDefinition {
    StreamDefinition {
        id: StreamId([1; 16]),
        device: "js220".into(),
        epoch: Epoch([1; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz,
        first_sample: 0,
        signals: vec![signal(0, "current", "A"), signal(1, "voltage", "V")],
        attributes: BTreeMap::new(),
    }
}

fn row(definition: StreamDefinition, watermark: u64) -> StreamRow {
    StreamRow {
        at: Position {
            seq: watermark,
            ..Position::start(&definition)
        },
        definition: Arc::new(definition),
        labels: BTreeMap::new(),
        run: String::new(),
        end_reason: None,
        times_ns: Some((0, 1_000)),
        sample_count: 0,
        gap_sample_count: 0,
        stored_bytes: 0,
        quarantined: 0,
        time_stepped: false,
        folded_seq: 0,
        succeeded_at: None,
    }
}

fn chunk(seq: u64, first_sample: u64, count: u64, utc_ns: i64) -> Header {
    Header {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_seq: seq,
        seq,
        first_sample,
        count,
        utc_ns,
        markers: Vec::new(),
        columns: Vec::new(),
    }
}

fn selection(what: v1::selection::What) -> v1::Selection {
    v1::Selection {
        what: Some(what),
        ..v1::Selection::default()
    }
}

fn device(name: &str) -> v1::Selection {
    selection(v1::selection::What::Device(name.into()))
}

#[test]
fn a_request_that_makes_no_sense_is_refused_in_words() {
    let backwards = v1::Selection {
        range: Some(v1::TimeRange {
            from_ns: Some(5),
            to_ns: Some(5),
        }),
        ..device("a")
    };
    let id = selection(v1::selection::What::StreamId(vec![1; 15].into()));
    let signals = v1::Selection {
        signals: vec!["a".into(); proto_limits::SIGNALS_MAX + 1],
        ..device("a")
    };
    let filter = v1::Selection {
        filter: "a".into(),
        ..device("a")
    };
    let long = device(&"a".repeat(proto_limits::NAME_BYTES_MAX + 1));
    for (bad, part) in [
        (backwards, "`to` is not after `from`"),
        (id, "16 bytes"),
        (signals, "at most"),
        (filter, "is not understood"),
        (device(""), "1 to 200 bytes"),
        (long, "1 to 200 bytes"),
    ] {
        let error = asked(Some(bad)).expect_err(part);
        assert!(
            matches!(error, QueryError::Invalid(_) | QueryError::Filter(_)) && error.to_string().contains(part),
            "{error}"
        );
    }
    let nothing = asked(None).expect("everything may be listed");
    assert!(nothing.require_source().is_err());
}

#[test]
fn device_and_run_of_a_filter_restrict_the_source() {
    let with = |filter: &str| {
        asked(Some(v1::Selection {
            filter: filter.into(),
            ..device("a")
        }))
        .expect("it is right")
    };
    assert_eq!(with("device=b").streams(), None);
    let rows = with("run=night,device=a,x=y z~1* x!=z").streams().expect("possible");
    assert_eq!(rows.device.as_deref(), Some("a"));
    assert_eq!(rows.labels, BTreeMap::from([("x".into(), "y".into())]));
    let patterns = [("z".to_owned(), "1%".to_owned(), true), ("x".into(), "z".into(), false)];
    assert_eq!(rows.patterns, patterns);
    let runs = with("run~night-* run!=night-2").runs().expect("it is about runs");
    let holds = |name: &str| runs.iter().all(|term| term.holds(Some(name)));
    assert_eq!([holds("night-1"), holds("night-2"), holds("day")], [true, false, false]);
    let excluded = with("run!=night");
    assert_eq!(excluded.runs(), None);
    let patterns = excluded.streams().expect("possible").patterns;
    assert_eq!(patterns, [("run".to_owned(), "night".to_owned(), false)]);
}

#[test]
fn ranges_are_cut_to_each_other() {
    let range = |from_ns: Option<i64>, to_ns: Option<i64>| Range { from_ns, to_ns };
    let open = Range::default();
    assert_eq!(open.within(open), Some(open));
    assert_eq!(
        range(Some(1), None).within(range(None, Some(5))),
        Some(range(Some(1), Some(5)))
    );
    assert_eq!(
        range(Some(1), Some(9)).within(range(Some(3), Some(12))),
        Some(range(Some(3), Some(9)))
    );
    assert_eq!(
        range(Some(1), Some(3)).within(range(Some(3), None)),
        None,
        "the end is not included"
    );
    assert!(range(Some(3), Some(5)).touches((1, 4)) && !range(Some(3), Some(5)).touches((1, 3)));
    assert!(range(Some(3), Some(5)).touches((3, 3)) && !range(Some(3), Some(5)).touches((5, 5)));
}

#[test]
fn a_stream_is_read_up_to_its_successor_unless_it_is_asked_for_itself() {
    let mut diverged = row(definition(1e3), 90);
    diverged.succeeded_at = Some(70);
    let by_device = asked(Some(device("js220"))).expect("right");
    assert_eq!(
        (
            by_device.last_seq(&diverged),
            by_device.last_seq(&row(definition(1e3), 90))
        ),
        (70, 90)
    );
    let by_id = selection(v1::selection::What::StreamId(vec![1; 16].into()));
    assert_eq!(asked(Some(by_id)).expect("right").last_seq(&diverged), 90);
    let successor = StreamDefinition {
        predecessor: Some(Predecessor {
            stream_id: StreamId([1; 16]),
            seq: 70,
        }),
        ..definition(1e3)
    };
    assert_eq!(by_device.last_seq(&row(successor, 20)), 20);
}

#[test]
fn unknown_signals_are_named_with_the_nearest() {
    let ask = |signals: &[&str]| {
        let signals = signals.iter().map(|name| (*name).to_owned()).collect();
        let asked = asked(Some(v1::Selection {
            signals,
            ..device("js220")
        }));
        let gpi = StreamDefinition {
            signals: vec![signal(0, "gpi0", "")],
            ..definition(1e3)
        };
        asked
            .expect("right")
            .with_signals(vec![row(definition(1e3), 1), row(gpi, 1)])
    };
    let error = ask(&["curent"]).expect_err("misspelt").to_string();
    assert_eq!(error, "there is no signal \"curent\"; did you mean \"current\"?");
    let streams = |signals| ask(signals).expect("known").len();
    assert_eq!(
        [
            streams(&["power"]),
            streams(&["gpi0"]),
            streams(&["gpi0", "current"]),
            streams(&[])
        ],
        [1, 1, 2, 2]
    );
}

#[test]
fn power_is_derived_of_ampere_and_volt_alone() {
    assert_eq!(power_of(&definition(1.0)), Some((0, 1)));
    let with = |signals| StreamDefinition {
        signals,
        ..definition(1.0)
    };
    assert_eq!(power_of(&with(vec![signal(0, "current", "A")])), None);
    assert_eq!(
        power_of(&with(vec![signal(0, "current", "mA"), signal(1, "voltage", "V")])),
        None
    );
    let own = vec![
        signal(0, "current", "A"),
        signal(1, "voltage", "V"),
        signal(2, "power", "W"),
    ];
    assert_eq!(power_of(&with(own)), None);
}

#[test]
fn times_become_samples() {
    let definition = definition(1e6);
    let chunk = chunk(1, 100, 50, 1_000_000);
    let at = |ns| sample_at(&definition, &chunk, ns);
    assert_eq!(
        [at(0), at(1_000_000), at(1_000_001), at(1_001_000), at(1_049_000)],
        [100, 100, 101, 101, 149]
    );
    assert_eq!([at(1_049_001), at(i64::MAX)], [150, 150]);
    let odd = StreamDefinition {
        rate_hz: 3.0,
        ..definition.clone()
    };
    for sample in 100..150 {
        assert_eq!(sample_at(&odd, &chunk, time_ns(&odd, &chunk, sample)), sample);
    }
}

#[test]
fn i4_cuts_tile_the_range() {
    let definition = definition(1e6);
    let chunks = [
        chunk(4, 0, 100, 0),
        chunk(5, 100, 100, 100_000),
        chunk(6, 200, 100, 200_000),
    ];
    let range = Range {
        from_ns: Some(50_000),
        to_ns: Some(210_000),
    };
    let span = span(&definition, range, &chunks[0], &chunks[2]).expect("it holds samples");
    assert_eq!(
        (span.first_seq, span.last_seq, span.from_sample, span.to_sample),
        (4, 6, 50, 210)
    );
    let cuts: Vec<_> = chunks.iter().map(|chunk| cut(chunk, &span)).collect();
    assert_eq!(cuts, [(50, 100), (100, 200), (200, 210)]);
}

#[test]
fn a_range_between_two_samples_is_empty() {
    let definition = definition(1.0);
    let chunk = chunk(1, 0, 10, 0);
    let range = |from, to| Range {
        from_ns: Some(from),
        to_ns: Some(to),
    };
    assert_eq!(span(&definition, range(1, 999_999_999), &chunk, &chunk), None);
    let one = span(&definition, range(1, 1_000_000_001), &chunk, &chunk).expect("sample 1");
    assert_eq!((one.from_sample, one.to_sample), (1, 2));
}

#[test]
fn an_outage_lasts_from_a_crash_to_the_next_epoch() {
    let mut crashed = row(definition(1.0), 1);
    crashed.end_reason = Some(Reason::Crashed);
    let starting = |epoch, start| {
        let definition = StreamDefinition {
            epoch: Epoch([epoch; 16]),
            ..definition(1.0)
        };
        StreamRow {
            times_ns: Some((start, start + 10)),
            ..row(definition, 1)
        }
    };
    let streams = [
        crashed.clone(),
        starting(1, 1_500),
        starting(3, 9_000),
        starting(2, 4_000),
    ];
    assert_eq!(outage(&crashed, &streams), Some((1_000, 4_000)));
    assert_eq!(
        (outage(&crashed, &streams[..2]), outage(&streams[1], &streams)),
        (None, None)
    );
}
