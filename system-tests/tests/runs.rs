//! Runs and markers with the real programs: recorded for, made afterwards, read, exported; notes of a file, and added ones.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use wavekeep_system_tests::lab::{Lab, fast_simulation};
use wavekeep_system_tests::process::binary;

const PATIENCE: Duration = Duration::from_secs(90);

fn wavekeep(lab: &Lab, arguments: &[&str]) -> Output {
    Command::new(binary("wavekeep").unwrap())
        .env("WAVEKEEP_SERVER", lab.url())
        .args(arguments)
        .output()
        .unwrap()
}

fn lines(lab: &Lab, arguments: &[&str]) -> Vec<Value> {
    let text = lab.reader(&[&["--json"], arguments].concat()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fails, and says this.
#[track_caller]
fn refused(lab: &Lab, arguments: &[&str], code: i32, part: &str) {
    let output = wavekeep(lab, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(part), "{arguments:?}: {said}");
}

/// Times of a recording, as options.
fn time(start: &str, ms: i64) -> String {
    let start: jiff::Timestamp = start.parse().unwrap();
    (start + jiff::SignedDuration::from_millis(ms)).to_string()
}

#[test]
fn runs_are_made_of_what_was_recorded_and_read_as_they_were_made() {
    let lab = Lab::start().unwrap();
    for (device, algorithm) in [("js220-a", "A"), ("js220-b", "B")] {
        let simulated = fast_simulation(device, "js220,rate=10000,seed=3", "2s");
        let label = format!("algorithm={algorithm}");
        let options = [&simulated[..], &["--run", device, "--label", &label]].concat();
        lab.agent(device, &["run"], &options)
            .unwrap()
            .wait_success(PATIENCE)
            .unwrap();
    }
    let runs = lines(&lab, &["runs", "--filter", "algorithm=A device~js220-*"]);
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(
        (&runs[0]["run"], &runs[0]["labels"]),
        (&json!("js220-a"), &json!({"algorithm": "A"}))
    );
    let start = runs[0]["from"].as_str().unwrap().to_owned();

    let (from, to) = (time(&start, 500), time(&start, 700));
    let create = [
        "run",
        "create",
        "by hand",
        "--device",
        "js220-a",
        "--from",
        &from,
        "--to",
        &to,
        "--label",
        "algorithm=C",
    ];
    for _ in 0..2 {
        lab.reader(&create).unwrap();
    }
    let (from, to) = (time(&start, 600), time(&start, 900));
    lab.reader(&[
        "run", "add", "by hand", "--device", "js220-a", "--from", &from, "--to", &to,
    ])
    .unwrap();
    lab.reader(&[
        "run",
        "label",
        "by hand",
        "operator=ada",
        "--note",
        "two times, which overlap",
    ])
    .unwrap();
    let shown = lab.reader(&["run", "show", "by hand"]).unwrap();
    for part in [
        "algorithm=C operator=ada",
        "two times, which overlap",
        "js220-a, ",
        "400 ms",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    check_parts(&lab);
    let statistics = lines(&lab, &["stats", "--run", "by hand", "--signal", "current"]);
    assert_eq!(statistics[0]["sample_count"].as_u64(), Some(4_000));
    let table = lab.reader(&["runs"]).unwrap();
    assert!(table.starts_with("RUN") && table.lines().count() == 4, "{table}");

    check_hole(&lab, &start);
    check_directory(&lab, &start);
    check_refusals(&lab);
}

fn check_parts(lab: &Lab) {
    let part = ["run", "create", "a part", "--parent", "by hand"];
    lab.reader(&part).unwrap();
    let shown = lines(lab, &["run", "show", "by hand"]);
    assert_eq!(
        (&shown[0]["parts"], &shown[0]["run"]),
        (&json!(["a part"]), &json!("by hand"))
    );
    lab.reader(&["run", "delete", "a part"]).unwrap();
}

fn check_hole(lab: &Lab, start: &str) {
    // Two times with a hole between them: a file says so, or the export does not happen.
    let (from, to) = (time(start, 1_000), time(start, 1_100));
    lab.reader(&[
        "run", "add", "by hand", "--device", "js220-a", "--from", &from, "--to", &to,
    ])
    .unwrap();
    let file = lab.folder().join("run.f32");
    let export = [
        "export",
        "--run",
        "by hand",
        "--signal",
        "current",
        "--format",
        "raw",
        "--output",
        file.to_str().unwrap(),
    ];
    refused(lab, &export, 1, "1,000 samples between two times of a run");
    lab.reader(&[&export[..], &["--gaps", "skip"]].concat()).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 4 * 5_000);
    let picture = lines(
        lab,
        &["waveform", "--run", "by hand", "--signal", "current", "--points", "100"],
    );
    assert_eq!(picture.len(), 1);
}

/// Samples of the files of a directory, by their names.
fn lengths(folder: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(lengths(&path));
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            let (_, samples) = path.file_stem().unwrap().to_str().unwrap().rsplit_once('_').unwrap();
            let (from, to) = samples.split_once('-').unwrap();
            found.push(to.parse::<u64>().unwrap() - from.parse::<u64>().unwrap());
        }
    }
    found.sort_unstable();
    found
}

fn check_directory(lab: &Lab, start: &str) {
    let fill = |folder: &str, more: &[&str]| {
        let folder = lab.folder().join(folder);
        let output = format!("{}/", folder.display());
        let export = ["export", "--format", "parquet", "--gaps", "skip", "--output", &output];
        lab.reader(&[&export[..], more].concat()).unwrap();
        lengths(&folder)
    };
    let cut = [1_000, 4_000];
    assert_eq!(
        fill("run", &["--run", "by hand"]),
        cut,
        "the members, cut to their times"
    );
    assert_eq!(fill("run", &["--run", "by hand"]), cut, "each sample once");
    assert_eq!(fill("filter", &["--filter", "run=\"by hand\" device~js*"]), cut);
    let from = time(start, 800);
    assert_eq!(fill("from", &["--run", "by hand", "--from", &from]), [1_000, 1_000]);
    assert_eq!(
        fill("recorded", &["--run", "js220-b"]),
        [20_000],
        "it was recorded for it"
    );
    let not = ["--filter", "run!=js220-a"];
    assert_eq!(fill("not", &not), [20_000]);
    // With another that was recorded: both, and what they share once.
    assert_eq!(fill("both", &["--filter", "run~*a* device=js220-a"]), [20_000]);
}

fn check_refusals(lab: &Lab) {
    refused(lab, &["stats", "--run", "by hnad"], 1, "did you mean \"by hand\"?");
    refused(
        lab,
        &["runs", "--filter", "algorithm A"],
        2,
        "\n  algorithm A\n            ^\n",
    );
    refused(lab, &["run", "delete", "js220-a"], 1, "part of their capture");
    lab.reader(&["run", "delete", "by hand"]).unwrap();
    refused(lab, &["run", "show", "by hand"], 1, "there is no run \"by hand\"");
}

#[test]
fn a_table_is_imported_whole_or_not_at_all() {
    let lab = Lab::start().unwrap();
    let simulated = fast_simulation("js220-a", "js220,rate=10000,seed=3", "2s");
    lab.agent("js220-a", &["run"], &simulated)
        .unwrap()
        .wait_success(PATIENCE)
        .unwrap();
    let start = lines(&lab, &["devices"])[0]["from"].as_str().unwrap().to_owned();
    let row = |name: &str, device: &str, at: i64, algorithm: &str| {
        format!(
            "{name},{device},{},{},series,{algorithm}\n",
            time(&start, at),
            time(&start, at + 100)
        )
    };
    let head = "name,device,from,to,parent,algorithm\n";
    let good = [
        head,
        &row("1", "js220-a", 0, "A"),
        &row("2", "js220-a", 200, "B"),
        &row("1", "js220-a", 400, ""),
        "series,,,,,\n",
    ]
    .concat();
    let file = lab.folder().join("runs.csv");
    let path = file.to_str().unwrap();
    std::fs::write(&file, format!("{good}{}", row("3", "js220-b", 600, "A"))).unwrap();
    refused(
        &lab,
        &["run", "import", path],
        1,
        "line 6: there is no device \"js220-b\"; did you mean \"js220-a\"?; nothing was imported",
    );
    assert!(lines(&lab, &["runs"]).is_empty());
    std::fs::write(&file, &good).unwrap();
    assert!(
        lab.reader(&["run", "import", path])
            .unwrap()
            .contains("3 runs created, 0 changed, 0 unchanged")
    );
    assert!(
        lab.reader(&["run", "import", path])
            .unwrap()
            .contains("0 runs created, 0 changed, 3 unchanged")
    );
    let both = lines(&lab, &["stats", "--filter", "run~?", "--signal", "current"]);
    assert_eq!(
        both[0]["sample_count"].as_u64(),
        Some(3_000),
        "three times of a tenth of a second"
    );
    let first = lines(&lab, &["runs", "--filter", "algorithm=A"]);
    assert_eq!((first.len(), first[0]["duration_s"].as_f64()), (1, Some(0.2)));
}

fn check_unmark(lab: &Lab, before: &[Value]) {
    let said = lab.reader(&["mark", "--device", "js220", "a slip"]).unwrap();
    let id = said.trim().rsplit(' ').next().unwrap();
    let said = lab.reader(&["unmark", &id[..8]]).unwrap();
    assert!(
        said.starts_with(&format!("unmarked {id} of js220 at ")) && said.ends_with(": a slip\n"),
        "{said}"
    );
    assert_eq!(lines(lab, &["markers", "--device", "js220"]), before);
    refused(lab, &["unmark", id], 1, "no marker that was added has this id");
    refused(lab, &["unmark", &id[..9]], 1, "no marker that was added begins with");
}

#[test]
fn notes_of_a_file_arrive_and_stand_beside_those_that_people_add() {
    let lab = Lab::start().unwrap();
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let jls = package.join("../agent/tests/jls/pair.jls");
    let verb = ["replay", jls.to_str().unwrap()];
    lab.agent("jls", &verb, &["--device", "js220", "--run", "file"])
        .unwrap()
        .wait_success(PATIENCE)
        .unwrap();
    let of_file = lines(&lab, &["markers", "--device", "js220"]);
    let texts: Vec<&str> = of_file.iter().filter_map(|marker| marker["text"].as_str()).collect();
    assert!(
        texts.contains(&"hello") && texts.contains(&"of the whole file"),
        "{of_file:?}"
    );
    assert!(
        of_file
            .iter()
            .all(|marker| marker["stream"].is_string() && marker["sample"].is_u64())
    );
    let at = of_file[0]["time"].as_str().unwrap();
    lab.reader(&[
        "mark",
        "--device",
        "js220",
        "--time",
        at,
        "--kind",
        "vertical",
        "the fan goes on",
    ])
    .unwrap();
    lab.reader(&["mark", "--device", "js220", "--json-text", "{\"step\": 3}"])
        .unwrap();
    let all = lines(&lab, &["markers", "--device", "js220"]);
    assert_eq!(all.len(), of_file.len() + 2);
    let added = all.last().unwrap();
    assert_eq!(
        (&added["json"], added["added"].is_string(), &added["sample"]),
        (&json!({"step": 3}), true, &Value::Null)
    );
    let of_run = lines(&lab, &["markers", "--run", "file"]);
    assert_eq!(
        of_run.len(),
        of_file.len() + 1,
        "one was added long after the recording"
    );
    check_unmark(&lab, &all);
    refused(&lab, &["mark", "--device", "js22", "x"], 1, "did you mean \"js220\"?");
    refused(
        &lab,
        &["mark", "--device", "js220", "--json-text", "{"],
        2,
        "is not JSON",
    );
    let scrubbed = Command::new(binary("wavekeep-server").unwrap())
        .args(["scrub", "--database-url", &lab.database_url().unwrap()])
        .output()
        .unwrap();
    assert!(
        scrubbed.status.success(),
        "{}",
        String::from_utf8_lossy(&scrubbed.stderr)
    );
}
