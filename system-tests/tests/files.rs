//! Files of every format are replayed and come back bit for bit, with what is known of them; exports can be replayed.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use wavekeep_proto::chunk::Header;
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::{recordings, stored};

const PATIENCE: Duration = Duration::from_secs(120);
const START: &str = "2025-07-26T14:12:17.788Z";

fn replay(lab: &Lab, file: &Path, device: &str, options: &[&str]) {
    let verb = ["replay", file.to_str().unwrap()];
    let mut all = vec!["--device", device];
    all.extend(options);
    let mut agent = lab.agent(device, &verb, &all).unwrap();
    agent.wait_success(PATIENCE).unwrap();
}

/// Where `device` was exported to.
fn export(lab: &Lab, device: &str, format: &str, more: &[&str]) -> PathBuf {
    let out = lab.folder().join(format!("{device}.{format}"));
    let _ = std::fs::remove_file(&out);
    let mut all = vec![
        "export",
        "--device",
        device,
        "--format",
        format,
        "--output",
        out.to_str().unwrap(),
    ];
    all.extend(more);
    lab.reader(&all).unwrap();
    out
}

fn exported(lab: &Lab, device: &str, format: &str, more: &[&str]) -> Vec<u8> {
    std::fs::read(export(lab, device, format, more)).unwrap()
}

fn statistics(lab: &Lab, device: &str, signal: &str) -> serde_json::Value {
    let text = lab
        .reader(&["--json", "stats", "--device", device, "--signal", signal])
        .unwrap();
    serde_json::from_str(text.trim()).unwrap()
}

fn close(found: &serde_json::Value, expected: f64, relative: f64) {
    let found = found.as_f64().unwrap();
    assert!(
        (found - expected).abs() <= expected.abs() * relative,
        "{found} is not {expected}"
    );
}

/// A stream's markers, as they are stored.
#[derive(Default)]
struct Markers(Vec<(u64, String)>);

impl stored::Sink for Markers {
    fn samples(&mut self, header: &Header, _: &[Option<Vec<u8>>]) -> anyhow::Result<()> {
        let markers = header.markers.iter();
        let text = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
        self.0
            .extend(markers.map(|marker| (marker.sample, text(&marker.content))));
        Ok(())
    }

    fn gap(&mut self, header: &Header) -> anyhow::Result<()> {
        self.samples(header, &[])
    }
}

fn markers(lab: &Lab, device: &str) -> Vec<(u64, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut connection = stored::sql(&lab.database_url().unwrap()).await.unwrap();
        let mut found = Markers::default();
        for stream in stored::streams(&mut connection, device).await.unwrap() {
            stored::read_by_sql(&mut connection, &stream, &mut found).await.unwrap();
        }
        found.0
    })
}

/// Folder, samples, smallest, largest, total µJ: shared data, SOURCES.md.
const TRACES: [(&str, u64, f64, f64, f64); 6] = [
    (
        "mlperf_tiny_js110/arty-a7-100t_ad_AD08",
        123_782,
        2091.0,
        2200.07,
        265_944_283.395_996,
    ),
    (
        "mlperf_tiny_js110/arty-a7-100t_ic_CNV-W1A1",
        106_509,
        2099.67,
        2310.12,
        232_013_701.430_420,
    ),
    (
        "mlperf_tiny_js110/arty-a7-100t_ic_RN07",
        110_863,
        2100.63,
        2271.73,
        240_560_154.327_393,
    ),
    (
        "mlperf_tiny_js110/arty-a7-100t_kws_KWS-W3A3",
        64_737,
        2084.28,
        2281.74,
        144_792_565.562_988,
    ),
    (
        "mlperf_tiny_lpm01a/NUCLEO_U575ZI_Q_kws",
        69_632,
        15.59,
        27.49,
        1_723_925.103_295,
    ),
    (
        "mlperf_tiny_lpm01a/NUCLEO_U575ZI_Q_vww",
        473_088,
        15.66,
        28.58,
        8_830_953.559_270,
    ),
];

#[test]
fn i13_energyrunner_traces_come_back_bit_for_bit_with_their_edges() {
    let lab = Lab::start().unwrap();
    for (folder, count, min, max, total) in TRACES {
        let folder = recordings::shared().join("data").join(folder);
        let file = folder.join("trace1-energy.bin");
        let device = folder.file_name().unwrap().to_str().unwrap();
        replay(&lab, &file, device, &["--start", START]);
        let samples = exported(&lab, device, "raw", &[]);
        assert!(samples == std::fs::read(&file).unwrap()[5..], "{device}");
        let found = statistics(&lab, device, "energy");
        assert_eq!(
            (&found["sample_count"], &found["unit"]),
            (&count.into(), &"uJ".into()),
            "{device}"
        );
        close(&found["min"], min, 5e-6);
        close(&found["max"], max, 5e-6);
        close(&found["integral"], total / 1e3, 1e-9);
        let text = std::fs::read_to_string(folder.join("trace1-timestamps.json")).unwrap();
        let seconds: Vec<f64> = serde_json::from_str(&text).unwrap();
        let edges: Vec<(u64, String)> = (seconds.iter().zip(1..))
            .map(|(second, number)| ((second * 1e3).round() as u64, format!("edge {number}")))
            .collect();
        assert_eq!(edges.len(), 11);
        assert_eq!(markers(&lab, device), edges, "{device}");
        let energy = samples
            .as_chunks()
            .0
            .iter()
            .map(|sample| f64::from(f32::from_le_bytes(*sample)));
        let energy: Vec<f64> = energy.collect();
        let results = std::fs::read_to_string(folder.join("results.txt")).unwrap();
        let windows = windows(&results);
        assert_eq!(windows.len(), 5, "{device}");
        for (window, expected) in windows {
            let (from, to) = (edges[window - 1].0 as usize, edges[window].0 as usize);
            let found: f64 = energy[from..to].iter().sum();
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "{device} {window}: {found} is not {expected}"
            );
        }
    }
}

/// The windows that the benchmark measured, by number, and their energy in µJ.
fn windows(results: &str) -> Vec<(usize, f64)> {
    let after = |line: &str, word: &str| line.split_once(word).map(|(_, rest)| rest.trim().to_owned());
    let mut lines = results.lines();
    let mut windows = Vec::new();
    while let Some(line) = lines.next() {
        let Some(rest) = after(line, "Energy data for window ") else {
            continue;
        };
        let number = rest.split(' ').next().unwrap().parse().unwrap();
        let energy = after(lines.next().unwrap(), "Energy       :").unwrap();
        windows.push((number, energy.trim_end_matches(" uJ").parse().unwrap()));
    }
    windows
}

#[test]
fn i13_arrays_come_back_as_they_were_saved() {
    let lab = Lab::start().unwrap();
    let file = recordings::shared().join("data/side_channel/2020.03.10-19.15.39_0traces.npy");
    let elements = std::fs::read(&file).unwrap()[128..].to_vec();
    let options = [
        "--join-rows",
        "--signal",
        "voltage:V",
        "--rate",
        "29500000",
        "--start",
        START,
    ];
    replay(&lab, &file, "traces", &options);
    assert!(exported(&lab, "traces", "raw", &[]) == elements);
    let found = statistics(&lab, "traces", "voltage");
    assert_eq!(found["sample_count"], 255_000);
    close(&found["min"], -0.348_633, 5e-6);
    close(&found["max"], 0.195_312, 5e-6);
    close(&found["mean"], -0.004_246_81, 5e-6);
    let rows: Vec<_> = (0..51u64).map(|row| (row * 5_000, format!("row {row}"))).collect();
    assert_eq!(markers(&lab, "traces"), rows);
    let array = exported(&lab, "traces", "npy", &[]);
    assert!(array[128..] == elements);
    // Two signals: what is exported is replayed as the same stream, and nothing is stored twice.
    let pairs: Vec<u8> = (0..200_002u32)
        .flat_map(|at| (f64::from(at) * 0.1).to_le_bytes())
        .collect();
    let raw = lab.folder().join("pairs.bin");
    std::fs::write(&raw, &pairs).unwrap();
    let shape = ["--signal", "a:V", "--signal", "b:A", "--rate", "1000", "--start", START];
    let typed: Vec<&str> = shape.into_iter().chain(["--dtype", "f64"]).collect();
    replay(&lab, &raw, "pairs", &typed);
    let array = export(&lab, "pairs", "npy", &[]);
    let header = std::fs::read(&array).unwrap();
    assert!(String::from_utf8_lossy(&header[..128]).contains("'shape': (100001, 2)"));
    assert!(header[128..] == pairs);
    replay(&lab, &array, "pairs", &shape);
    let streams = lab.reader(&["--json", "streams", "--device", "pairs"]).unwrap();
    assert_eq!(streams.lines().count(), 1, "{streams}");
}

#[test]
fn i13_tables_come_back_with_the_same_bits_and_the_same_gaps() {
    let lab = Lab::start().unwrap();
    // The first two seconds of a real recording, as a table and back.
    let samples = recordings::ppk2("52-p").unwrap()[..800_000].to_vec();
    let raw = lab.folder().join("samples.bin");
    std::fs::write(&raw, &samples).unwrap();
    replay(&lab, &raw, "ppk2", &["--rate", "100000", "--start", START]);
    let table = export(&lab, "ppk2", "csv", &[]);
    let text = std::fs::read_to_string(&table).unwrap();
    assert!(
        text.starts_with("time,current [A]\n2025-07-26T14:12:17.788000000Z,"),
        "{}",
        &text[..100]
    );
    replay(&lab, &table, "table", &["--dtype", "f32"]);
    assert!(exported(&lab, "table", "raw", &[]) == samples);
    replay(&lab, &table, "ppk2", &["--dtype", "f32"]);
    let streams = lab.reader(&["--json", "streams", "--device", "ppk2"]).unwrap();
    assert_eq!(streams.lines().count(), 1, "the table is the same stream: {streams}");

    // A step of whole samples is a gap, and comes back as the same step.
    let line = |at: u32| {
        format!(
            "2026-01-31T12:00:{:02}.{:03}000000Z,{:?}\n",
            at / 1_000,
            at % 1_000,
            f64::from(at) * 0.1
        )
    };
    let lines: String = (0..30_000)
        .filter(|at| !(9_000..9_500).contains(at))
        .map(line)
        .collect();
    let with_gap = lab.folder().join("gap.csv");
    std::fs::write(&with_gap, format!("time,x [V]\n{lines}")).unwrap();
    replay(&lab, &with_gap, "gap", &[]);
    let out = lab.folder().join("refused.csv");
    let refused = lab.reader(&[
        "export",
        "--device",
        "gap",
        "--format",
        "csv",
        "--output",
        out.to_str().unwrap(),
    ]);
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(
        refused.contains("500 samples") && refused.contains("--gaps fill"),
        "{refused}"
    );
    assert!(!out.exists());
    let skipped = exported(&lab, "gap", "csv", &["--gaps", "skip"]);
    assert!(skipped == std::fs::read(&with_gap).unwrap());
    let filled = String::from_utf8(exported(&lab, "gap", "csv", &["--gaps", "fill"])).unwrap();
    assert_eq!(filled.matches(",NaN\n").count(), 500);
    assert!(filled.contains("\n2026-01-31T12:00:09.499000000Z,NaN\n2026-01-31T12:00:09.500000000Z,950.0\n"));
    assert_eq!(filled.lines().count(), 30_001);
}
