//! Exports of real servers: a directory that is kept current by processes that are killed all the time, and JLS files that are replayed.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::FloatType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;
use wavekeep_system_tests::random::Random;

const PATIENCE: Duration = Duration::from_secs(120);
/// Samples are lost now and then.
const SPEC: &str = "js220,rate=200000,seed=11,loss=1e-5";

fn lines(lab: &Lab, verb: &str, device: &str) -> Vec<Value> {
    let text = lab.reader(&["--json", verb, "--device", device]).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn raw(lab: &Lab, of: [&str; 2], gaps: &str) -> Vec<u8> {
    let out = lab.folder().join("export.bin");
    let _ = std::fs::remove_file(&out);
    let path = out.to_str().unwrap();
    lab.reader(&[
        "export", of[0], of[1], "--format", "raw", "--gaps", gaps, "--output", path,
    ])
    .unwrap();
    std::fs::read(out).unwrap()
}

fn lake_arguments<'a>(url: &'a str, output: &'a str) -> Vec<&'a str> {
    vec![
        "export",
        "--server",
        url,
        "--device",
        "lake",
        "--format",
        "parquet",
        "--gaps",
        "skip",
        "--file-seconds",
        "1",
        "--output",
        output,
    ]
}

/// Every file of a directory, by its name without folders.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.file_name().unwrap().to_string_lossy().into_owned(), path);
        }
    }
    found
}

fn whole_files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = files(folder);
    found.retain(|name, _| name.ends_with(".parquet") && !name.starts_with('.'));
    found
}

/// Samples that files of a stream hold, by their names: in order, without a hole and without an overlap.
fn end_of_files(folder: &Path, stream: &str) -> u64 {
    let mut at = 0;
    for name in whole_files(folder).keys().filter(|name| name.starts_with(stream)) {
        let samples = name.trim_end_matches(".parquet").rsplit('_').next().unwrap();
        let (from, to) = samples.split_once('-').unwrap();
        assert_eq!(
            from.parse::<u64>().unwrap(),
            at,
            "{name} begins where the one before it ends"
        );
        at = to.parse().unwrap();
    }
    at
}

/// Current and voltage of a stream's files, interleaved.
fn samples_of_files(folder: &Path, stream: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (_, path) in whole_files(folder).iter().filter(|(name, _)| name.starts_with(stream)) {
        let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        for group in 0..file.num_row_groups() {
            let group = file.get_row_group(group).unwrap();
            let rows = group.metadata().num_rows() as usize;
            let columns = [1, 2].map(|at| {
                let mut column = get_typed_column_reader::<FloatType>(group.get_column_reader(at).unwrap());
                let (mut levels, mut values) = (Vec::new(), Vec::new());
                column.read_records(rows, Some(&mut levels), None, &mut values).unwrap();
                assert_eq!(values.len(), rows, "nothing is null");
                values
            });
            for (current, voltage) in columns[0].iter().zip(&columns[1]) {
                bytes.extend(current.to_le_bytes());
                bytes.extend(voltage.to_le_bytes());
            }
        }
    }
    bytes
}

#[test]
fn i1_a_directory_that_is_followed_holds_every_sample_once_whatever_kills_the_export() {
    let lab = Lab::start().unwrap();
    let lake = lab.folder().join("lake");
    let (url, output) = (lab.url(), format!("{}/", lake.display()));
    let mut arguments = lake_arguments(&url, &output);
    arguments.push("--follow");
    let options = ["--device", "lake", "--simulate", SPEC, "--chunk-period", "50ms"];
    let mut agent = lab
        .agent("lake", &["run"], &[&options[..], &["--duration", "15s"]].concat())
        .unwrap();
    wait_for("the device is known", PATIENCE, || {
        Ok(lab.reader(&["devices"])?.contains("lake"))
    })
    .unwrap();
    let mut random = Random::new(7);
    let (mut kills, mut torn) = (0, 0);
    while !agent.has_ended().unwrap() {
        let mut export = Process::start("wavekeep", "export", lab.folder(), &arguments).unwrap();
        std::thread::sleep(random.ms(20, 900));
        export.kill9().unwrap();
        kills += 1;
        torn += files(&lake).keys().filter(|name| name.ends_with(".partial")).count();
    }
    agent.wait_success(PATIENCE).unwrap();
    println!("{kills} kills, {torn} times with a torn file");
    assert!(kills > 15, "{kills}");

    let mut export = Process::start("wavekeep", "export", lab.folder(), &arguments).unwrap();
    let streams = lines(&lab, "streams", "lake");
    wait_for("all is in the directory", PATIENCE, || {
        let ends = |stream: &Value| {
            let next_sample = stream["next_sample"].as_u64().unwrap();
            end_of_files(&lake, stream["stream"].as_str().unwrap()) == next_sample
        };
        Ok(streams.iter().all(ends))
    })
    .unwrap();
    // All of it may have been there before this one began.
    wait_for("it follows", PATIENCE, || Ok(export.log().contains("is kept current"))).unwrap();
    export.signal(Signal::SIGINT).unwrap();
    export.wait_success(PATIENCE).unwrap();

    for stream in &streams {
        let id = stream["stream"].as_str().unwrap();
        let stored = raw(&lab, ["--stream", id], "skip");
        assert!(!stored.is_empty() && samples_of_files(&lake, id) == stored, "{id}");
    }
    assert!(files(&lake).keys().all(|name| !name.ends_with(".partial")));
    // Nobody can see when it was written, nor how often that was interrupted.
    let once = lab.folder().join("once");
    let output = format!("{}/", once.display());
    lab.reader(&lake_arguments(&url, &output)).unwrap();
    let (followed, once) = (whole_files(&lake), whole_files(&once));
    assert!(followed.len() > 10 && followed.keys().eq(once.keys()));
    for (name, path) in &followed {
        assert!(
            std::fs::read(path).unwrap() == std::fs::read(&once[name]).unwrap(),
            "{name}"
        );
    }
}

fn export_jls(lab: &Lab, device: &str, path: &Path) {
    let output = path.to_str().unwrap();
    lab.reader(&[
        "export", "--device", device, "--format", "jls", "--gaps", "fill", "--output", output,
    ])
    .unwrap();
}

fn replay(lab: &Lab, file: &Path, device: &str) {
    let verb = ["replay", file.to_str().unwrap()];
    let mut agent = lab.agent(device, &verb, &["--device", device]).unwrap();
    agent.wait_success(PATIENCE).unwrap();
}

fn markers(lab: &Lab, device: &str) -> u64 {
    let chunks = lines(lab, "chunks", device);
    chunks.iter().filter_map(|chunk| chunk["markers"].as_u64()).sum()
}

#[test]
fn i13_a_jls_file_that_was_exported_is_replayed_bit_for_bit() {
    let lab = Lab::start().unwrap();
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    replay(&lab, &package.join("../agent/tests/jls/pair.jls"), "pair");
    let simulated = ["--device", "long", "--simulate", SPEC, "--duration", "8s"];
    lab.agent("long", &["run"], &simulated)
        .unwrap()
        .wait_success(PATIENCE)
        .unwrap();
    for device in ["pair", "long"] {
        let file = lab.folder().join(format!("{device}.jls"));
        export_jls(&lab, device, &file);
        let bytes = std::fs::read(&file).unwrap();
        export_jls(&lab, device, &file);
        assert!(
            std::fs::read(&file).unwrap() == bytes,
            "{device}: the same bytes each time"
        );
        let again = format!("{device}-again");
        replay(&lab, &file, &again);
        assert!(raw(&lab, ["--device", device], "fill") == raw(&lab, ["--device", &again], "fill"));
        assert_eq!(markers(&lab, device), markers(&lab, &again));
        let span = |device: &str| {
            let streams = lines(&lab, "streams", device);
            let of = |key: &str| streams[0][key].as_str().unwrap().to_owned();
            (of("from"), of("to"))
        };
        println!("{:?} {:?}", span(device), span(&again));
    }
    assert!(markers(&lab, "pair-again") > 0);
}
