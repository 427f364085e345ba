//! Energies that others computed from the same recordings, against those that the server computes of any range.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use wavekeep::time::Moment;
use wavekeep::{Client, Distribution, Selection, Statistics, TimeRange};
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::recordings;

const PATIENCE: Duration = Duration::from_secs(120);
const START: &str = "2025-07-26T14:12:17.788Z";

fn replay(lab: &Lab, file: &Path, device: &str, options: &[&str]) {
    let verb = ["replay", file.to_str().unwrap()];
    let mut all = vec!["--device", device, "--start", START];
    all.extend(options);
    let mut agent = lab.agent(device, &verb, &all).unwrap();
    agent.wait_success(PATIENCE).unwrap();
}

/// Of samples from ≤ s < to, at this rate.
async fn statistics(
    client: &Client,
    device: &str,
    rate_hz: u64,
    (from, to): (u64, u64),
    asked: &Distribution,
) -> Statistics {
    let start_ns = START.parse::<Moment>().unwrap().resolve(0);
    let at = |sample: u64| Some(start_ns + (sample * (1_000_000_000 / rate_hz)) as i64);
    let range = TimeRange {
        from_ns: at(from),
        to_ns: at(to),
    };
    let selection = Selection::device(device).range(range);
    let mut found = client.distribution(&selection, asked).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[track_caller]
fn close(found: f64, expected: f64, relative: f64, what: &str) {
    assert!(
        (found - expected).abs() <= expected.abs() * relative,
        "{what}: {found} is not {expected}"
    );
}

/// What the author of a PPK2 capture says of it: the events, and means over them, of four digits.
struct Analysis {
    events: Vec<(u64, u64)>,
    window: (u64, u64),
    voltage: f64,
    event_milliampere: f64,
    event_microjoule: f64,
    microjoule_per_second: f64,
}

fn analysis(name: &str) -> Analysis {
    let file = std::fs::File::open(recordings::shared().join(format!("data/ppk2/{name}.zip"))).unwrap();
    let mut text = String::new();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    archive
        .by_name(&format!("{name}/emscope.yaml"))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let number = |text: &str, key: &str| -> f64 {
        let after = text.split_once(&format!("{key}: ")).unwrap().1;
        let end = after.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
        after[..end.unwrap_or(after.len())].parse().unwrap()
    };
    let span = |text: &str| {
        let (from, count) = (
            number(text, "sample_offset") as u64,
            number(text, "sample_count") as u64,
        );
        (from, from + count)
    };
    let (capture, rest) = text.split_once("analysis:").unwrap();
    let events = rest
        .lines()
        .filter(|line| line.trim_start().starts_with("- {sample_offset"));
    let means = rest.split_once("avg_duration").unwrap().1;
    Analysis {
        events: events.map(span).collect(),
        window: span(rest),
        voltage: number(capture, "avg_voltage"),
        event_milliampere: number(means, "avg_current"),
        event_microjoule: number(means, "avg_energy"),
        microjoule_per_second: number(means, "energy_per_sec"),
    }
}

#[test]
fn i8_events_of_ppk2_captures_have_the_energies_that_their_author_found() {
    let lab = Lab::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for name in ["52-p", "in-p"] {
        let samples = recordings::ppk2(name).unwrap();
        let raw = lab.folder().join(format!("{name}.bin"));
        std::fs::write(&raw, &samples).unwrap();
        replay(
            &lab,
            &raw,
            name,
            &["--dtype", "f32", "--signal", "current:A", "--rate", "100000"],
        );
        let told = analysis(name);
        assert_eq!(told.events.len(), 11, "{name}");
        let mut sorted: Vec<f32> = samples
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        sorted.sort_by(f32::total_cmp);
        runtime.block_on(async {
            let client = Client::connect(&lab.url(), "main").await.unwrap();
            let none = Distribution::default();
            let (mut microjoule, mut milliampere) = (0.0, 0.0);
            for event in &told.events {
                let found = statistics(&client, name, 100_000, *event, &none).await;
                assert_eq!(found.sample_count, event.1 - event.0);
                microjoule += found.charge_coulomb.unwrap() * told.voltage * 1e6 / told.events.len() as f64;
                milliampere += found.mean * 1e3 / told.events.len() as f64;
            }
            close(microjoule, told.event_microjoule, 2e-5, "energy of an event");
            close(milliampere, told.event_milliampere, 2e-4, "current of an event");
            let window = statistics(&client, name, 100_000, told.window, &none).await;
            assert_eq!(window.duration_s, 11.0);
            let per_second = window.charge_coulomb.unwrap() * told.voltage * 1e6 / window.duration_s;
            close(per_second, told.microjoule_per_second, 2e-5, "energy of a second");

            let shares = [0.0, 1.0, 50.0, 90.0, 99.9, 100.0];
            let asked = Distribution {
                percentiles: shares.to_vec(),
                bins: 50,
                ..Distribution::default()
            };
            let found = statistics(&client, name, 100_000, (0, 1_200_000), &asked).await;
            for (share, value) in found.percentiles {
                let rank = ((share * 10.0) as usize * sorted.len()).div_ceil(1_000).max(1);
                assert_eq!(value, f64::from(sorted[rank - 1]), "{name}: {share} %");
            }
            assert_eq!(found.histogram.unwrap().counts.iter().sum::<u64>(), 1_200_000);
        });
    }
}

/// The windows that the benchmark measured, by number, and their energy in µJ.
fn windows(results: &str) -> Vec<(usize, f64)> {
    let mut windows = Vec::new();
    let mut lines = results.lines();
    while let Some(line) = lines.next() {
        let Some((_, rest)) = line.split_once("Energy data for window ") else {
            continue;
        };
        let energy = lines.next().unwrap().split_once("Energy       :").unwrap().1;
        let energy = energy.trim().trim_end_matches(" uJ").parse().unwrap();
        windows.push((rest.split(' ').next().unwrap().parse().unwrap(), energy));
    }
    windows
}

#[test]
fn i8_windows_of_mlperf_tiny_have_the_energies_of_its_results() {
    let lab = Lab::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for folder in [
        "mlperf_tiny_js110/arty-a7-100t_ad_AD08",
        "mlperf_tiny_js110/arty-a7-100t_kws_KWS-W3A3",
        "mlperf_tiny_lpm01a/NUCLEO_U575ZI_Q_kws",
    ] {
        let path = recordings::shared().join("data").join(folder);
        let device = path.file_name().unwrap().to_str().unwrap();
        replay(&lab, &path.join("trace1-energy.bin"), device, &[]);
        let edges = std::fs::read_to_string(path.join("trace1-timestamps.json")).unwrap();
        let edges: Vec<f64> = serde_json::from_str(&edges).unwrap();
        let edges: Vec<u64> = edges.iter().map(|second| (second * 1e3).round() as u64).collect();
        let windows = windows(&std::fs::read_to_string(path.join("results.txt")).unwrap());
        assert_eq!(windows.len(), 5, "{folder}");
        runtime.block_on(async {
            let client = Client::connect(&lab.url(), "main").await.unwrap();
            for (window, expected) in windows {
                let range = (edges[window - 1], edges[window]);
                let found = statistics(&client, device, 1_000, range, &Distribution::default()).await;
                // Each sample is the energy of a millisecond, in µJ. SOURCES.md: an edge is rounded to one of them.
                close(found.mean * found.finite_count as f64, expected, 1e-4, folder);
            }
        });
    }
}
