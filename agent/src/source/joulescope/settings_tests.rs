//! What is accepted, what is sent for it, and what a refusal says.

use super::super::testing::METADATA;
use super::*;

fn metadata() -> BTreeMap<String, Metadata> {
    let parsed = METADATA.map(|(topic, json)| (topic.to_owned(), Metadata::parse(json).expect("it is a description")));
    parsed.into()
}

fn plan(text: &str) -> Result<Vec<(String, u8)>, SettingError> {
    let settings: Settings = text.parse()?;
    let identity = Identity::of([1, 3, 0], [1, 3, 1]);
    let plan = settings.plan(&identity, &metadata())?;
    // The value's lowest byte.
    Ok(plan
        .publishes
        .into_iter()
        .map(|(topic, payload)| (topic, payload[36]))
        .collect())
}

fn sent(text: &str) -> Vec<(String, u8)> {
    let sent = plan(text).expect("it is possible");
    sent.into_iter()
        .filter(|(topic, _)| !topic.contains("dwnN") && !topic.contains("scnt"))
        .collect()
}

fn topics(expected: &[(&str, u8)]) -> Vec<(String, u8)> {
    expected
        .iter()
        .map(|(topic, value)| ((*topic).to_owned(), *value))
        .collect()
}

#[test]
fn words_are_those_of_the_instrument() {
    assert_eq!(sent(""), []);
    assert_eq!(sent("current_range=auto"), topics(&[("s/i/range/mode", 0)]));
    assert_eq!(
        sent("current_range=18mA"),
        topics(&[("s/i/range/mode", 1), ("s/i/range/select", 2)])
    );
    assert_eq!(
        sent("voltage_range=2 V,vref=3v3"),
        topics(&[("s/v/range/mode", 1), ("s/v/range/select", 1), ("c/gpio/vref", 1)])
    );
    assert_eq!(
        sent("power=off,current_range=18mA"),
        topics(&[("s/i/range/mode", 2)]),
        "off is off"
    );
    assert_eq!(sent("power=on"), topics(&[("s/i/range/mode", 0)]), "on is said, too");
    assert_eq!(
        sent("gpo0=1,gpo1=0"),
        topics(&[("s/gpo/+/!clr", 2), ("s/gpo/+/!set", 1)])
    );
}

#[test]
fn rates_are_the_divisors_of_the_full_one() {
    let sent = |text: &str| {
        let sent = plan(text).expect("it is possible");
        sent.into_iter()
            .filter(|(topic, _)| topic.contains("dwnN"))
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    assert_eq!(sent("rate=1000000"), [1, 1]);
    assert_eq!(sent("rate=1000000,filter=sinc1"), [1, 1]);
    assert_eq!(sent("rate=100000"), [1, 1], "the host decimates");
    assert_eq!(sent("rate=100000,filter=sinc1"), [10, 20]);
    let parts = |text: &str| {
        let settings: Settings = text.parse().expect("it is a setting");
        let plan = settings.plan(&Identity::of([1, 3, 0], [1, 3, 1]), &metadata());
        let plan = plan.expect("it is possible");
        (plan.decimate, plan.decimate_host)
    };
    for hz in [
        500_000, 200_000, 100_000, 50_000, 20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100, 50, 20, 10, 5, 2, 1,
    ] {
        let factor = FULL_HZ / hz;
        assert_eq!(parts(&format!("rate={hz}")), (1, factor));
        if hz < 500_000 {
            let device = factor.min(1_000);
            assert_eq!(parts(&format!("rate={hz},filter=sinc1")), (device, factor / device));
        }
    }
    for rate in ["333333", "999", "0", "x", "250001", "2000000"] {
        let error = plan(&format!("rate={rate}")).expect_err("there is no such rate");
        assert!(error.to_string().contains("a divisor of 1000000"), "{error}");
    }
    let error = plan("rate=500000,filter=sinc1").expect_err("it would be 250000");
    assert!(error.to_string().contains("wideband"), "{error}");
    let settings: Settings = "rate=100000,filter=sinc1".parse().expect("it is a setting");
    let old = Identity::of([1, 2, 9], [1, 3, 0]);
    let error = settings.plan(&old, &metadata()).expect_err("it is too old");
    assert!(error.to_string().contains("1.2.9"), "{error}");
    let settings: Settings = "rate=100000".parse().expect("it is a setting");
    let plan = settings.plan(&old, &metadata()).expect("the host does it");
    assert!(plan.publishes.iter().all(|(topic, _)| !topic.contains("dwnN")));
}

#[test]
fn refusals_name_what_there_is() {
    for (text, names) in [
        ("signals=current+watt", "trigger_in"),
        ("filter=flat", "wideband or sinc1"),
        ("statistics=3", "divisor"),
        ("current_range=5 A", "auto, 10 A, 180 mA, 18 mA"),
        ("power=off,current_range=5 A", "auto, 10 A, 180 mA, 18 mA"),
        ("voltage_range=off", "15 V, 2 V"),
        ("vref=5V", "external, 3v3"),
        ("gpo1=2", "0 or 1"),
        ("power=maybe", "on or off"),
        ("colour=red", "current_range"),
        ("rate", "KEY=VALUE"),
        ("vref=3v3,vref=3v3", "twice"),
    ] {
        let error = plan(text).expect_err(text).to_string();
        assert!(error.contains(names), "{text}: {error}");
    }
    let settings: Settings = "vref=3v3".parse().expect("it is a setting");
    let none = settings.plan(&Identity::default(), &BTreeMap::new());
    assert_eq!(
        none,
        Err(SettingError::Missing {
            key: "vref",
            topic: "c/gpio/vref"
        })
    );
}

#[test]
fn signals_have_the_order_of_a_stream() {
    let settings: Settings = "signals=trigger_in+voltage+current,statistics=off"
        .parse()
        .expect("it is a setting");
    let plan = settings
        .plan(&Identity::default(), &metadata())
        .expect("it is possible");
    assert_eq!(
        plan.signals,
        [Js220Signal::Current, Js220Signal::Voltage, Js220Signal::TriggerIn]
    );
    assert_eq!(
        plan.switches().collect::<Vec<_>>(),
        ["s/i/ctrl", "s/v/ctrl", "s/gpi/7/ctrl"]
    );
    let all: Settings = "signals=all".parse().expect("it is a setting");
    assert_eq!(all.signals, Js220Signal::ALL);
}

#[test]
fn what_leaves_the_streams_as_they_are_can_be_changed_meanwhile() {
    let mut settings: Settings = "rate=1000,vref=3v3".parse().expect("they are settings");
    for (key, word, sent) in [
        ("power", "off", &[("s/i/range/mode", 2)][..]),
        // For later.
        ("current_range", "18 mA", &[("s/i/range/mode", 2)]),
        ("power", "on", &[("s/i/range/mode", 1), ("s/i/range/select", 2)]),
        ("current_range", "auto", &[("s/i/range/mode", 0)]),
        ("voltage_range", "2V", &[("s/v/range/mode", 1), ("s/v/range/select", 1)]),
        ("vref", "external", &[("c/gpio/vref", 0)]),
        ("gpo0", "0", &[("s/gpo/+/!clr", 1)]),
        ("gpo1", "1", &[("s/gpo/+/!set", 2)]),
    ] {
        let (changed, publishes) = settings.change(key, word, &metadata()).expect(key);
        let publishes: Vec<_> = publishes
            .into_iter()
            .map(|(topic, payload)| (topic, payload[36]))
            .collect();
        assert_eq!(publishes, topics(sent), "{key}={word}");
        settings = changed;
    }
    let words: Vec<_> = settings
        .words()
        .into_iter()
        .map(|(key, word)| key + "=" + &word)
        .collect();
    let expected = [
        "current_range=auto",
        "gpo0=0",
        "gpo1=1",
        "power=on",
        "voltage_range=2V",
        "vref=external",
    ];
    assert_eq!(words, expected);
    assert_eq!(settings.rate_hz, 1_000);
    for (key, word, names) in [
        ("rate", "100000", "--settings rate=100000"),
        ("signals", "all", "start it anew"),
        ("statistics", "off", "start it anew"),
        ("colour", "red", "current_range, voltage_range, vref, gpo0, gpo1, power"),
        ("voltage_range", "3 V", "auto, 15 V, 2 V"),
        ("gpo0", "on", "0 or 1"),
    ] {
        let error = settings.change(key, word, &metadata()).expect_err(key).to_string();
        assert!(error.contains(names), "{key}={word}: {error}");
    }
}
