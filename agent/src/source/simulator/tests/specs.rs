//! Specifications: what parses, what is displayed, what is refused and in which words.

use super::super::{HELP, SimulatorModel, SimulatorSpec, SpecError, Speed};
use proptest::prelude::*;

fn parse(text: &str) -> Result<SimulatorSpec, SpecError> {
    text.parse()
}

fn valid(text: &str) -> SimulatorSpec {
    parse(text).expect(text)
}

#[test]
fn defaults_are_those_of_the_help() {
    let js220 = valid("js220");
    assert_eq!(
        js220.to_string(),
        "js220,rate=1000000,seed=0,loss=0,loss_length=667,wake=400ms,speed=1"
    );
    let js110 = valid("js110");
    assert_eq!(
        js110.to_string(),
        "js110,rate=2000000,seed=0,loss=0,loss_length=667,wake=400ms,speed=1"
    );
    for word in [
        "js220",
        "js110",
        "rate",
        "seed",
        "loss",
        "loss_length",
        "wake",
        "speed",
        "logic",
        "[default: 667]",
        "[default: 400ms]",
    ] {
        assert!(HELP.contains(word), "{word} is not in the help");
    }
    let example = HELP
        .lines()
        .next()
        .and_then(|line| line.split("for example ").nth(1))
        .expect("the help has an example");
    assert_eq!(valid(example).loss(), 1e-6);
}

#[test]
fn every_key_is_read() {
    let spec = valid(" js110, rate=12, seed = 18446744073709551615,loss=1e-6,loss_length=5,wake=2s,speed=max ");
    assert_eq!(spec.model(), SimulatorModel::Js110);
    assert_eq!(
        (spec.rate(), spec.seed(), spec.loss_length(), spec.wake_ms()),
        (12, u64::MAX, 5, 2_000)
    );
    assert_eq!((spec.loss(), spec.speed()), (1e-6, Speed::Max));
    assert_eq!(valid("js220,speed=0.5").speed(), Speed::Factor(0.5));
    assert!(!spec.logic() && valid("js220,logic=true").logic());
}

#[test]
fn limits_are_valid_and_displayed_values_parse_again() {
    for text in [
        "js220,rate=1",
        "js220,rate=2000000",
        "js220,loss=0.000244140625",
        "js220,loss=5e-324",
        "js220,loss=-0",
        "js220,loss_length=1",
        "js220,wake=100ms",
        "js220,wake=60s",
        "js220,speed=0.001",
        "js220,speed=1000",
        "js220,logic=true",
        "js110,logic=false",
    ] {
        let spec = valid(text);
        assert_eq!(parse(&spec.to_string()), Ok(spec), "{text}");
    }
    assert!(valid("js220,loss=-0").to_string().contains(",loss=0,"));
    assert!(
        !valid("js220,logic=false").to_string().contains("logic"),
        "a definition is hashed: what was there before logic stays what it was"
    );
}

proptest! {
    #[test]
    fn display_round_trips(
        model in prop::sample::select(vec!["js220", "js110"]),
        rate in 1u32..=2_000_000,
        seed: u64,
        loss in 0.0..=1.0 / 4096.0,
        loss_length in 1u64..=667,
        wake_ms in 100u64..=60_000,
        speed in prop_oneof![Just("max".to_owned()), (0.001..=1000.0).prop_map(|factor: f64| factor.to_string())],
        logic: bool,
    ) {
        let logic = if logic && model == "js220" { ",logic=true" } else { "" };
        let text = format!("{model},rate={rate},seed={seed},loss={loss},loss_length={loss_length},wake={wake_ms}ms,speed={speed}{logic}");
        let spec = valid(&text);
        prop_assert_eq!(spec.to_string(), text);
    }

    #[test]
    fn no_text_panics_and_every_refusal_is_one_line(text in "(js220|js110|)[a-z0-9_=,.+\\- \u{e9}]{0,40}") {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

#[test]
fn refusals_name_the_key_and_what_to_write() {
    let whole_rate = "a whole number from 1 to 2000000 in digits";
    let refusals: &[(&str, String)] = &[
        ("js320", "the simulator has no model `js320`: write `js220` (there are js220 and js110)".into()),
        ("JS110", "the simulator has no model `JS110`: write `js110` (there are js220 and js110)".into()),
        ("", "the simulator has no model ``: write `js220` (there are js220 and js110)".into()),
        ("js220,sead=1", "the simulator has no key `sead`: write `seed` (there are rate, seed, loss, loss_length, wake, speed and logic)".into()),
        ("js220,losslength=1", "the simulator has no key `losslength`: write `loss_length` (there are rate, seed, loss, loss_length, wake, speed and logic)".into()),
        ("js220,rat", "`rat` in the simulator's specification has no value: write it as key=value, for example `rate=...`".into()),
        ("js220,seed=1,seed=1", "the simulator's key `seed` is given more than once: keep one of them".into()),
        ("js220,rate=0", format!("`rate=0` of the simulator is not {whole_rate}: the nearest valid is `rate=1`")),
        ("js220,rate=-5", format!("`rate=-5` of the simulator is not {whole_rate}: the nearest valid is `rate=1`")),
        ("js220,rate=1e6", format!("`rate=1e6` of the simulator is not {whole_rate}: the nearest valid is `rate=1000000`")),
        ("js220,rate=0.6", format!("`rate=0.6` of the simulator is not {whole_rate}: the nearest valid is `rate=1`")),
        ("js220,rate=2000001", format!("`rate=2000001` of the simulator is not {whole_rate}: the nearest valid is `rate=2000000`")),
        ("js220,rate=inf", format!("`rate=inf` of the simulator is not {whole_rate}: the nearest valid is `rate=2000000`")),
        ("js220,rate=+5", format!("`rate=+5` of the simulator is not {whole_rate}: the nearest valid is `rate=5`")),
        ("js220,rate=NaN", "`rate=NaN` of the simulator is not a whole number: write for example rate=1000000".into()),
        ("js220,rate=", "`rate=` of the simulator is not a whole number: write for example rate=1000000".into()),
        ("js220,loss=nan", "`loss=nan` of the simulator is not a number: write for example loss=1e-6".into()),
        ("js220,loss=1", "`loss=1` of the simulator is not from 0 to 0.000244140625: the nearest valid is `loss=0.000244140625`".into()),
        ("js220,loss=-1e-9", "`loss=-1e-9` of the simulator is not from 0 to 0.000244140625: the nearest valid is `loss=0`".into()),
        ("js220,speed=fast", "`speed=fast` of the simulator is not a number: write for example speed=1 or speed=max".into()),
        ("js220,speed=0", "`speed=0` of the simulator is not from 0.001 to 1000: the nearest valid is `speed=0.001`".into()),
        ("js220,logic=1", "`logic=1` of the simulator is not a word of true and false: write for example logic=true".into()),
        ("js110,logic=true", "`logic=true` of the simulator is not there for js110, which has no streams of digital signals: the nearest valid is `logic=false`".into()),
        ("js220,wake=5ms", "`wake=5ms` of the simulator is not from 100ms to 60000ms: the nearest valid is `wake=100ms`".into()),
        ("js220,wake=99999999999999999999s", "`wake=99999999999999999999s` of the simulator is not a whole number of milliseconds or seconds: write for example wake=400ms".into()),
        ("js220,wake=18446744073709551615s", "`wake=18446744073709551615s` of the simulator is not from 100ms to 60000ms: the nearest valid is `wake=60000ms`".into()),
        ("js220,wake=400", "`wake=400` of the simulator is not a whole number of milliseconds or seconds: write for example wake=400ms".into()),
    ];
    for (text, message) in refusals {
        assert_eq!(parse(text).expect_err(text).to_string(), *message, "{text}");
    }
    assert!(matches!(
        parse("js220,seed=18446744073709551616"),
        Err(SpecError::NotAllowed { key: "seed", .. })
    ));
}
