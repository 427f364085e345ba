//! Which runs can be compared, and by what.

use std::collections::BTreeMap;

use wavekeep_proto::chunk::Position;
use wavekeep_proto::stream::StreamDefinition;

use super::*;
use crate::query::runs::Member;
use crate::store::read_stream::StreamRow;

fn row(device: &str, signals: &[(&str, &str)]) -> StreamRow {
    let mut definition = crate::ingest::fixtures::definition(1);
    device.clone_into(&mut definition.device);
    let template = definition.signals[0].clone();
    definition.signals = (0u16..)
        .zip(signals)
        .map(|(number, (name, unit))| {
            let mut signal = template.clone();
            signal.number = number;
            (signal.name, signal.unit) = ((*name).into(), (*unit).into());
            signal
        })
        .collect();
    of(definition)
}

fn of(definition: StreamDefinition) -> StreamRow {
    StreamRow {
        labels: BTreeMap::new(),
        run: String::new(),
        at: Position::start(&definition),
        end_reason: None,
        times_ns: None,
        sample_count: 0,
        gap_sample_count: 0,
        stored_bytes: 0,
        quarantined: 0,
        time_stepped: false,
        folded_seq: 0,
        succeeded_at: None,
        definition: definition.into(),
    }
}

fn whole(row: StreamRow) -> Member {
    Member {
        last_seq: row.at.seq,
        ranges: vec![Range::default()],
        row,
    }
}

fn run(name: &str, rows: Vec<StreamRow>) -> RunMembers {
    RunMembers {
        name: name.into(),
        members: rows.into_iter().map(whole).collect(),
    }
}

const BOTH: [(&str, &str); 2] = [("current", "A"), ("voltage", "V")];

fn asked_of(first: Vec<RunMembers>, second: Vec<RunMembers>, signal: &str, metric: Metric) -> Result<Subject, String> {
    let (mut first, mut second) = (first, second);
    subject([&mut first, &mut second], signal, metric).map_err(|error| error.to_string())
}

#[test]
fn power_is_compared_where_all_have_it_and_else_current() {
    let with_power = || run("a", vec![row("x", &BOTH)]);
    let without = || run("b", vec![row("x", &BOTH[..1])]);
    let chosen = |second, metric| {
        let found = asked_of(vec![with_power()], vec![second], "", metric).expect("it can be compared");
        (found.signal, found.unit, found.metric)
    };
    let other = run("c", vec![row("y", &BOTH)]);
    assert_eq!(
        chosen(other, Metric::Unspecified),
        ("power".into(), "W".into(), Metric::Energy)
    );
    assert_eq!(
        chosen(without(), Metric::Unspecified),
        ("current".into(), "A".into(), Metric::Charge)
    );
    let refused = asked_of(vec![with_power()], vec![without()], "", Metric::Energy).expect_err("of current");
    assert!(refused.contains("energy is of a signal in W"), "{refused}");
    let neither = run("d", vec![row("x", &[("voltage", "V")])]);
    let refused = asked_of(vec![with_power()], vec![neither], "", Metric::Unspecified).expect_err("no signal");
    assert!(refused.contains("--signal"), "{refused}");
}

#[test]
fn units_are_never_mixed() {
    let ampere = run("a", vec![row("x", &[("current", "A")])]);
    let milliampere = run("b", vec![row("x", &[("current", "mA")])]);
    let refused = asked_of(vec![ampere], vec![milliampere], "current", Metric::Mean).expect_err("two units");
    assert_eq!(
        refused,
        "\"current\" of run \"a\" is in A, and of run \"b\" in mA: only one unit can be compared"
    );
}

#[test]
fn a_run_is_of_one_device_and_of_one_group() {
    let two = run("a", vec![row("x", &BOTH), row("y", &BOTH)]);
    let other = run("b", vec![row("x", &BOTH)]);
    let refused = asked_of(vec![two], vec![other.clone()], "", Metric::Unspecified).expect_err("two devices");
    assert!(
        refused.contains("devices \"x\" and \"y\"") && refused.contains("run=a,device=x"),
        "{refused}"
    );
    let refused = asked_of(vec![other.clone()], vec![other.clone()], "", Metric::Unspecified).expect_err("itself");
    assert!(refused.contains("in both groups"), "{refused}");
    let helper = row("z", &[("level", "")]);
    let with_helper = run("c", vec![row("y", &BOTH), helper]);
    assert!(
        asked_of(vec![other], vec![with_helper], "", Metric::Unspecified).is_ok(),
        "another device's other signal"
    );
}

#[test]
fn a_mistyped_signal_is_told_with_the_nearest() {
    let runs = || {
        (
            vec![run("a", vec![row("x", &BOTH)])],
            vec![run("b", vec![row("x", &BOTH[..1])])],
        )
    };
    let refused = |signal: &str| {
        let (first, second) = runs();
        asked_of(first, second, signal, Metric::Unspecified).expect_err("no such signal")
    };
    assert!(refused("curent").contains("did you mean \"current\"?"));
    assert!(refused("voltage").contains("run \"b\" has no signal \"voltage\""));
}
