//! The command line against a scripted server: what it prints where, what it writes, and its exit codes.

mod support;

use std::path::Path;
use std::process::Output;

use support::{Capture, Script, definition, script, serve, signal};
use tokio::process::Command;
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::stream::{SampleType, StreamDefinition};
use wavekeep::proto::v1;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `wavekeep` with nothing of our environment in its options.
async fn run_at(server: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavekeep"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WAVEKEEP_") || name == "COLUMNS") {
        command.env_remove(name);
    }
    let output: Output = command
        .env("WAVEKEEP_SERVER", server)
        .args(arguments)
        .output()
        .await
        .expect("it runs");
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

async fn run(script: Script, arguments: &[&str]) -> Ran {
    run_at(&serve(script).await, arguments).await
}

async fn export(script: Script, output: &Path, more: &[&str]) -> Ran {
    let output = output.to_str().expect("text");
    let mut arguments = vec!["export", "--device", "js220-001", "--format", "raw", "--output", output];
    arguments.extend(more);
    run(script, &arguments).await
}

/// Six samples and three, without a gap.
fn whole() -> Capture {
    let mut capture = Capture::new(definition(1));
    capture.samples(Encoding::Plain, &[0x7f80_0001, 0x8000_0000, 3, 4, 5, 6]);
    capture.samples(Encoding::ShuffleZstd, &[7, 8, 9]);
    capture.end();
    capture
}

/// Two samples, a gap of three, two samples.
fn with_gap(definition: StreamDefinition) -> Capture {
    let mut capture = Capture::new(definition);
    capture.samples(Encoding::Plain, &[1, 2]);
    capture.gap(3, Reason::SourceLoss);
    capture.samples(Encoding::Plain, &[3, 4]);
    capture
}

fn interleaved(bits: &[u32]) -> Vec<u8> {
    bits.iter()
        .flat_map(|bits| [bits.to_le_bytes(), (bits ^ (1 << 31)).to_le_bytes()])
        .flatten()
        .collect()
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }
    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("out.raw")
    }
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("it is there");
        entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect()
    }
}

#[tokio::test]
async fn export_writes_the_samples_own_bytes() {
    let directory = Directory::new();
    let ran = export(script(&[&whole()]), &directory.file(), &[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let expected = interleaved(&[0x7f80_0001, 0x8000_0000, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(std::fs::read(directory.file()).expect("written"), expected);
    assert!(
        ran.out.contains("9 samples of current (f32), voltage (f32), 72 B"),
        "{}",
        ran.out
    );
    assert_eq!(directory.names(), ["out.raw"]);
    let ran = export(script(&[&whole()]), &directory.file(), &["--json"]).await;
    let line: serde_json::Value = serde_json::from_str(&ran.out).expect("one object");
    assert_eq!(
        (line["bytes"].as_u64(), line["sample_count"].as_u64()),
        (Some(72), Some(9))
    );
}

#[tokio::test]
async fn export_refuses_gaps_by_name_unless_told_what_to_do() {
    let directory = Directory::new();
    let ran = export(script(&[&with_gap(definition(1))]), &directory.file(), &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    let named = "samples are missing: 3 samples from 2026-11-23T00:00:00.000002Z on (source_loss)";
    assert!(
        ran.err.contains(named) && ran.err.contains("--gaps fill"),
        "{}",
        ran.err
    );
    assert_eq!(directory.names(), Vec::<String>::new());
    let ran = export(
        script(&[&with_gap(definition(1))]),
        &directory.file(),
        &["--gaps", "skip"],
    )
    .await;
    assert!(
        ran.code == Some(0) && ran.out.contains("3 missing and left out"),
        "{} {}",
        ran.out,
        ran.err
    );
    assert_eq!(
        std::fs::read(directory.file()).expect("written"),
        interleaved(&[1, 2, 3, 4])
    );
    let ran = export(
        script(&[&with_gap(definition(1))]),
        &directory.file(),
        &["--gaps", "fill"],
    )
    .await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let nan = [0x7fc0_0000u32.to_le_bytes(); 6].concat();
    let expected = [interleaved(&[1, 2]), nan, interleaved(&[3, 4])].concat();
    assert_eq!(std::fs::read(directory.file()).expect("written"), expected);
}

#[tokio::test]
async fn export_never_fills_integers() {
    let directory = Directory::new();
    let mut integers = definition(1);
    integers.signals = vec![signal(0, "code", SampleType::I32)];
    let ran = export(script(&[&with_gap(integers)]), &directory.file(), &["--gaps", "fill"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("code is i32, which has no NaN"), "{}", ran.err);
    assert_eq!(directory.names(), Vec::<String>::new());
}

#[tokio::test]
async fn export_writes_nothing_that_is_not_stored() {
    let directory = Directory::new();
    let ran = export(
        script(&[&with_gap(definition(1))]),
        &directory.file(),
        &["--signal", "power"],
    )
    .await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("power is derived, not stored"), "{}", ran.err);
}

#[tokio::test]
async fn export_joins_streams_only_where_one_continues_the_other() {
    let directory = Directory::new();
    let mut apart = Capture::new(definition(2));
    apart.utc_ns += 1_000_000_000;
    apart.samples(Encoding::Plain, &[5]);
    let mut answer = script(&[&whole(), &apart]);
    answer.streams[1].first_time_ns += 1_000_000_000;
    let ran = export(answer, &directory.file(), &["--gaps", "skip"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("choose one with --stream") && ran.err.contains("after the end"),
        "{}",
        ran.err
    );
    // New labels: another stream of the same epoch, on the same axis.
    let mut goes_on = definition(2);
    goes_on.epoch = definition(1).epoch;
    goes_on.first_sample = 9;
    let mut after = Capture::new(goes_on);
    after.samples(Encoding::Plain, &[10, 11]);
    let ran = export(script(&[&whole(), &after]), &directory.file(), &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let written = std::fs::read(directory.file()).expect("written");
    assert_eq!(written[72..], interleaved(&[10, 11]));
}

#[tokio::test]
async fn an_answer_that_is_refuted_leaves_no_file() {
    let directory = Directory::new();
    let mut lies = script(&[&whole()]);
    lies.parts.remove(2);
    std::fs::write(directory.file(), b"before").expect("written");
    let ran = export(lies, &directory.file(), &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(
        ran.err.contains("a chunk is missing: after seq 1 comes seq 3"),
        "{}",
        ran.err
    );
    assert_eq!(directory.names(), ["out.raw"]);
    assert_eq!(std::fs::read(directory.file()).expect("still there"), b"before");
    let nowhere = directory.0.path().join("no/such/directory/out.raw");
    let ran = export(script(&[&whole()]), &nowhere, &[]).await;
    assert!(ran.code == Some(1) && ran.err.contains("cannot write"), "{}", ran.err);
}

fn statistics() -> v1::SignalStatistics {
    v1::SignalStatistics {
        device: "js220-001".into(),
        signal: "current".into(),
        unit: "A".into(),
        from_ns: support::START_NS,
        to_ns: support::START_NS + 1_000_000_000,
        sample_count: 1_200_000,
        finite_count: 1_200_000,
        min: -1.13866e-6,
        max: 0.0102711,
        mean: 1.02801e-5,
        std: f64::NAN,
        charge_coulomb: Some(1.23361e-4),
        ..v1::SignalStatistics::default()
    }
}

#[tokio::test]
async fn stats_have_the_fields_that_scripts_depend_on() {
    let answer = Script {
        statistics: vec![statistics()],
        ..Script::default()
    };
    let arguments = ["--json", "stats", "--device", "js220-001", "--signal", "current"];
    let ran = run(answer.clone(), &arguments).await;
    let line: serde_json::Value = serde_json::from_str(&ran.out).expect("one object");
    let names = "device signal unit from to sample_count gap_sample_count min max mean std rms integral charge_coulomb";
    for name in names.split(' ') {
        assert!(line.get(name).is_some(), "{name} is missing in {}", ran.out);
    }
    assert_eq!((line.get("energy_joule"), line["std"].is_null()), (None, true));
    assert_eq!(
        (line["from"].as_str(), line["sample_count"].as_u64()),
        (Some("2026-11-23T00:00:00Z"), Some(1_200_000))
    );
    let ran = run(answer, &arguments[1..]).await;
    assert!(
        ran.out.contains("mean      10.2801 µA") && ran.out.contains("samples   1,200,000"),
        "{}",
        ran.out
    );
    let ran = run(Script::default(), &arguments[1..]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert_eq!(
        ran.err,
        "error: there is no device \"x\"; did you mean \"js220-001\"?\n"
    );
}

#[tokio::test]
async fn listings_are_tables_or_json_lines() {
    let mut answer = script(&[&whole(), &with_gap(definition(2))]);
    answer.devices = vec![v1::Device {
        name: "js220-001".into(),
        streams: 2,
        sample_count: 13,
        gap_sample_count: 3,
        first_time_ns: support::START_NS,
        last_time_ns: support::START_NS + 9_000,
        stored_bytes: 104,
        live: true,
    }];
    let devices = run(answer.clone(), &["devices"]).await;
    let lines: Vec<&str> = devices.out.lines().collect();
    assert!(lines[0].starts_with("DEVICE     STATE  STREAMS"), "{}", devices.out);
    assert!(lines[1].starts_with("js220-001  live         2"), "{}", devices.out);
    let streams = run(answer.clone(), &["streams", "--json"]).await;
    let streams: Vec<serde_json::Value> = streams
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(streams.len(), 2);
    assert_eq!(streams[0]["stream"].as_str(), Some("01".repeat(16).as_str()));
    assert_eq!(
        (streams[0]["end_reason"].as_str(), streams[1]["ended"].as_bool()),
        (Some("closed"), Some(false))
    );
    let gaps = run(answer, &["gaps", "--device", "js220-001"]).await;
    assert!(
        gaps.out.contains("source_loss") && gaps.out.contains("FIRST SAMPLE"),
        "{}",
        gaps.out
    );
}

#[tokio::test]
async fn a_stream_is_named_by_the_beginning_of_its_id() {
    let answer = || script(&[&whole(), &with_gap(definition(2))]);
    let directory = Directory::new();
    let output = directory.file();
    let arguments = |id: &'static str| {
        [
            "export",
            "--stream",
            id,
            "--format",
            "raw",
            "--output",
            output.to_str().expect("text"),
        ]
    };
    let ran = run(answer(), &arguments("0303")).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("no stream begins with 0303"),
        "{}",
        ran.err
    );
    for bad in ["01", "current"] {
        let ran = run(answer(), &arguments(bad)).await;
        assert!(
            ran.code == Some(2) && ran.err.contains("is no stream id"),
            "{}",
            ran.err
        );
    }
    let mut one = script(&[&whole()]);
    one.streams.push(with_gap(definition(2)).info());
    let ran = run(one, &["gaps", "--stream", "0101"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}

#[tokio::test]
async fn usage_errors_exit_with_2_and_say_what_to_do() {
    let cases: [(&[&str], &str); 6] = [
        (&["stats"], "say what to read"),
        (
            &["stats", "--device", "a", "--from", "yesterday"],
            "is no time: give one like",
        ),
        (
            &["stats", "--device", "a", "--from", "-5s", "--to", "-10s"],
            "--to is not after --from",
        ),
        (
            &["export", "--device", "a", "--format", "mp3", "--output", "x"],
            "invalid value 'mp3'",
        ),
        (&["compare"], "unrecognized subcommand"),
        (&["devices", "--server", "localhost"], "is no server address"),
    ];
    for (arguments, part) in cases {
        let ran = run(script(&[&whole()]), arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.err.contains(part), "{arguments:?}: {}", ran.err);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_sentence() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let ran = run_at(&address, &["devices"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert_eq!(ran.err.lines().count(), 1);
    assert!(ran.err.contains("cannot reach a server at http://127.0.0.1:") && ran.err.contains("wavekeep-server dev"));
}

#[tokio::test]
async fn help_names_the_variable_of_every_option() {
    for command in ["devices", "streams", "gaps", "chunks", "stats", "export"] {
        let ran = run_at("http://127.0.0.1:1", &[command, "--help"]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert!(ran.out.contains("Example"), "{command} has no example");
        let options = ran.out.matches("\n      --").count() + ran.out.matches("\n  -").count();
        // Help and version have none. A narrow terminal breaks lines anywhere.
        let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words.matches("[env: WAVEKEEP_").count(), options - 2, "{}", ran.out);
    }
}
