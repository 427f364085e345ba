//! Digital signals of 1 and 4 bits go all the way, and come back bit for bit: exported, listed, drawn and summed up.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};
use wavekeep_agent::source::simulator::{Coverage, LOGIC_PER_SAMPLE, Logic, LogicSignal, Simulator, SimulatorSpec};
use wavekeep_system_tests::lab::{Lab, fast_simulation};
use wavekeep_system_tests::truth::check_lab;

const PATIENCE: Duration = Duration::from_secs(90);
/// Of current and voltage: 1.5 s at 100 kHz.
const SAMPLES: u64 = 150_000;

fn record(lab: &Lab, device: &str, spec: &str, encoding: &str) {
    let options = fast_simulation(device, spec, "1500ms");
    let options = [options.as_slice(), &["--encoding", encoding]].concat();
    let mut agent = lab.agent(device, &["run"], &options).unwrap();
    agent.wait_success(PATIENCE).unwrap();
}

fn lines(lab: &Lab, verb: &str, device: &str, more: &[&str]) -> Vec<Value> {
    let options = ["--json", verb, "--device", device];
    let text = lab.reader(&[options.as_slice(), more].concat()).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn export(lab: &Lab, device: &str, signals: &[LogicSignal], format: &str) -> Vec<u8> {
    let out = lab.folder().join("export");
    let _ = std::fs::remove_file(&out);
    let path = out.to_str().unwrap();
    let mut options = vec!["export", "--device", device, "--format", format, "--gaps", "skip"];
    options.extend(["--output", path]);
    options.extend(signals.iter().flat_map(|signal| ["--signal", signal.name()]));
    lab.reader(&options).unwrap();
    std::fs::read(out).unwrap()
}

/// The values of a signal that the instrument delivered, a byte each.
fn truth(spec: &SimulatorSpec, signal: LogicSignal) -> Vec<u8> {
    let (logic, simulator) = (Logic::of(spec).unwrap(), Simulator::new(spec));
    let delivered = simulator.covered(0, SAMPLES).filter_map(|part| match part {
        Coverage::Samples(range) => Some(range.start * LOGIC_PER_SAMPLE..range.end * LOGIC_PER_SAMPLE),
        Coverage::Lost(_) => None,
    });
    let values = |range: Range<u64>| range.map(|sample| logic.value_at(signal, sample));
    delivered.flat_map(values).collect()
}

/// As a file has them: without padding but at its end.
fn packed(values: &[u8], bits: usize) -> Vec<u8> {
    let byte = |values: &[u8]| {
        let places = values.iter().enumerate();
        places.fold(0, |byte, (place, value)| byte | value << (place * bits))
    };
    values.chunks(8 / bits).map(byte).collect()
}

#[test]
fn i13_logic_of_one_and_four_bits_comes_back_bit_for_bit() {
    let lab = Lab::start().unwrap();
    // Losses cut the axis at odd bits: none of the chunks after one starts where a byte does.
    for (device, spec) in [
        ("whole", "js220,rate=100000,seed=5,wake=200ms,speed=max,logic=true"),
        (
            "holes",
            "js220,rate=100000,seed=5,wake=200ms,speed=max,loss=2e-4,loss_length=101,logic=true",
        ),
    ] {
        record(&lab, device, spec, "auto");
        let (streams, report) = check_lab(&lab, device).unwrap();
        assert_eq!(streams, 2, "current and voltage, and what is digital");
        assert_eq!(
            report.samples + report.gap_samples(),
            SAMPLES * (1 + LOGIC_PER_SAMPLE),
            "{report:?}"
        );
        assert_eq!(report.gap_samples() > 0, device == "holes");
        let spec: SimulatorSpec = spec.parse().unwrap();
        for signal in LogicSignal::ALL {
            let truth = truth(&spec, signal);
            let found = export(&lab, device, &[signal], "raw");
            assert!(found == packed(&truth, signal.bits()), "{device} {}", signal.name());
            // Its statistics: of a line, the mean is its duty.
            let found = lines(&lab, "stats", device, &["--signal", signal.name()]);
            let [found] = found.as_slice() else { panic!("{found:?}") };
            let sum: u64 = truth.iter().copied().map(u64::from).sum();
            let mean = found["mean"].as_f64().unwrap();
            assert!((mean - sum as f64 / truth.len() as f64).abs() < 1e-12, "{found}");
            assert_eq!(found["sample_count"], truth.len());
            let ends = [truth.iter().min().unwrap(), truth.iter().max().unwrap()];
            assert_eq!(
                [&found["min"], &found["max"]].map(Value::as_f64),
                ends.map(|end| Some(f64::from(*end)))
            );
        }
        // All of them together, as numbers.
        let table = String::from_utf8(export(&lab, device, &LogicSignal::ALL, "csv")).unwrap();
        let mut rows = table.lines();
        let names = LogicSignal::ALL.map(LogicSignal::name).join(",");
        assert_eq!(rows.next(), Some(format!("time,{names}").as_str()));
        let columns = LogicSignal::ALL.map(|signal| truth(&spec, signal));
        for at in 0..columns[0].len() {
            let (_, found) = rows.next().unwrap().split_once(',').unwrap();
            let expected = columns.each_ref().map(|column| column[at].to_string()).join(",");
            assert_eq!(found, expected, "row {at}");
        }
        assert_eq!(rows.next(), None);
    }
}

#[test]
fn i9_logic_is_encoded_small_and_drawn_true() {
    let lab = Lab::start().unwrap();
    let spec = "js220,rate=100000,seed=5,wake=200ms,speed=max,logic=true";
    record(&lab, "plain", spec, "plain");
    record(&lab, "pco", spec, "pco");
    let digital = |device: &str| -> Vec<Value> {
        let chunks = lines(&lab, "chunks", device, &["--limit", "0"]);
        let of_samples = chunks.into_iter().filter(|chunk| chunk["kind"] == "samples");
        of_samples
            .filter(|chunk| chunk["encodings"].as_array().unwrap().len() == 6)
            .collect()
    };
    let (plain, small) = (digital("plain"), digital("pco"));
    assert!(plain.len() >= 2 && plain.len() == small.len());
    for (plain, small) in plain.iter().zip(&small) {
        let bits = LogicSignal::ALL.map(|signal| plain["count"].as_u64().unwrap() * signal.bits() as u64);
        assert_eq!(plain["encodings"], json!(vec!["plain"; 6]));
        assert_eq!(plain["column_bytes"], json!(bits.map(|bits| bits.div_ceil(8))));
        // Pco has no packed samples. Of the data line all is news: two samples a bit take half; what says little takes next to nothing.
        assert_eq!(small["encodings"], json!(vec!["shuffle+zstd"; 6]), "{small}");
        let bytes: Vec<u64> = serde_json::from_value(small["column_bytes"].clone()).unwrap();
        for ((bytes, bits), signal) in bytes.into_iter().zip(bits).zip(LogicSignal::ALL) {
            let most = if signal == LogicSignal::Gpi3 {
                bits / 8 * 6 / 10
            } else {
                bits / 8 / 10
            };
            assert!(bytes <= most, "{}: {small}", signal.name());
        }
    }
    let first = &plain[0]["first_samples"][0];
    assert_eq!(
        (&first["signal"], &first["values"]),
        (&json!("current_range"), &json!(vec![5.0; 3]))
    );

    // A picture: in columns of two thousand samples, ten periods of the clock, the lows, the highs and a quarter.
    let drawn = lines(&lab, "waveform", "plain", &["--signal", "gpi2", "--points", "100"]);
    let [drawn] = drawn.as_slice() else { panic!("{drawn:?}") };
    let of = |name: &str| -> Vec<f64> { serde_json::from_value(drawn[name].clone()).unwrap() };
    let (low, high, mean, count) = (of("min"), of("max"), of("mean"), of("count"));
    assert!((10..=100).contains(&count.len()), "{drawn}");
    assert!(
        low.iter().all(|&low| low == 0.0) && high.iter().all(|&high| high == 1.0),
        "{drawn}"
    );
    assert_eq!(count.iter().sum::<f64>(), (SAMPLES * LOGIC_PER_SAMPLE) as f64);
    let sum: f64 = mean.iter().zip(&count).map(|(mean, count)| mean * count).sum();
    assert!((sum - 75_000.0).abs() < 1e-6, "{sum}");
    // Near enough, the samples themselves.
    let near = lines(
        &lab,
        "waveform",
        "plain",
        &["--signal", "gpi2", "--from", "-1ms", "--points", "500"],
    );
    let [near] = near.as_slice() else { panic!("{near:?}") };
    let samples: Vec<f64> = serde_json::from_value(near["samples"].clone()).unwrap();
    let logic = Logic::of(&spec.parse().unwrap()).unwrap();
    let end = SAMPLES * LOGIC_PER_SAMPLE;
    let truth = (end - samples.len() as u64..end).map(|sample| f64::from(logic.value_at(LogicSignal::Gpi2, sample)));
    assert!(samples.len() >= 199 && truth.eq(samples.iter().copied()), "{near}");
}
