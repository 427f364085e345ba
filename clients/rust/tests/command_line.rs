//! The command line against a scripted server: what it prints where, and its exit codes.

mod support;

use support::command::{Directory, command_at, finished, run, run_at, whole, with_gap};
use support::{Script, definition, script, serve};
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::id::StreamId;
use wavekeep::proto::v1;

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
            ran.code == Some(2) && ran.err.contains("is not a stream id"),
            "{}",
            ran.err
        );
    }
    let ran = run(answer(), &["gaps", "--stream", "0101"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let mut alike = [1; 16];
    alike[15] = 2;
    let mut two = definition(2);
    two.id = StreamId(alike);
    let two = || script(&[&whole(), &with_gap(two.clone())]);
    let ran = run(two(), &["gaps", "--stream", "0101"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(
        ran.err.contains("several streams begin with 0101: give more digits"),
        "{}",
        ran.err
    );
    let id = StreamId(alike).to_string();
    let ran = run(two(), &["gaps", "--stream", &id]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}

#[tokio::test]
async fn chunks_are_listed_with_their_seqs_and_what_is_in_them() {
    let mut capture = with_gap(definition(1));
    capture.quarantined(4);
    capture.samples(Encoding::ShuffleZstd, &[5; 1_000]);
    capture.end();
    let answer = || Script {
        chunks: capture.listed(),
        ..script(&[&capture])
    };
    let ran = run(answer(), &["chunks", "--device", "js220-001"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..5], ["DEVICE", "STREAM", "SEQ", "KIND", "REASON"]);
    let id = definition(1).id.to_string();
    let plain = [
        "js220-001",
        &id,
        "1",
        "samples",
        "0",
        "2",
        "16",
        "plain",
        "4.00",
        "2026-11-23T00:00:00Z",
    ];
    assert_eq!(rows[1][..10], plain);
    let digest = |at: usize| {
        capture.listed()[at]
            .digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let rest = ["2026-11-23T00:00:00.000002Z", &digest(0), "2026-11-23T00:00:00Z"];
    assert_eq!(rows[1][10..13], rest);
    assert_eq!(
        rows[0][rows[0].len() - 7..],
        ["FROM", "TO", "DIGEST", "LOADED", "AT", "FIRST", "SAMPLES"]
    );
    assert_eq!(rows[2][2..6], ["2", "gap", "source_loss", "2"]);
    assert_eq!(rows[4][2..5], ["4", "samples", "quarantined"]);
    assert_eq!(rows[6][2..5], ["6", "end", "closed"]);
    let ran = run(answer(), &["chunks", "--newest-first", "--limit", "2", "--json"]).await;
    let lines = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"));
    let lines: Vec<serde_json::Value> = lines.collect();
    let seqs: Vec<_> = lines.iter().map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, [Some(6), Some(5)]);
    assert_eq!(lines[1]["encodings"][0].as_str(), Some("shuffle+zstd"));
    assert_eq!(lines[1]["digest"].as_str(), Some(digest(4).as_str()));
}

#[tokio::test]
async fn an_empty_listing_says_so_on_standard_error() {
    for (arguments, said) in [
        (&["devices"][..], "no devices\n"),
        (&["streams"], "no streams\n"),
        (&["gaps", "--device", "js220-001"], "no gaps\n"),
        (&["chunks", "--json"], "no chunks\n"),
    ] {
        let ran = run(Script::default(), arguments).await;
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", said));
    }
}

#[tokio::test]
async fn variables_take_what_people_write_in_them() {
    let server = serve(Script {
        chunks: whole().listed(),
        ..script(&[&whole()])
    })
    .await;
    for (json, newest_first, seq) in [("1", "yes", 3), ("true", "no", 1), ("on", "0", 1)] {
        let mut command = command_at(&server, &["chunks", "--limit", "1"]);
        command
            .env("WAVEKEEP_JSON", json)
            .env("WAVEKEEP_NEWEST_FIRST", newest_first);
        let ran = finished(&mut command).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        let line: serde_json::Value = serde_json::from_str(&ran.out).expect("one object");
        assert_eq!(line["seq"].as_u64(), Some(seq));
    }
    let ran = finished(command_at(&server, &["devices"]).env("WAVEKEEP_JSON", "perhaps")).await;
    assert_eq!(ran.code, Some(2));
    // What the agent reads of the same environment means something else here.
    let directory = Directory::new();
    let output = directory.file();
    let mut command = command_at(&server, &["export", "--device", "js220-001"]);
    command
        .env("WAVEKEEP_OUTPUT", &output)
        .env("WAVEKEEP_EXPORT_FORMAT", "raw");
    command
        .env("WAVEKEEP_FORMAT", "csv")
        .env("WAVEKEEP_SIGNALS", "current:A");
    command.env("WAVEKEEP_READ_SIGNALS", "current\nvoltage");
    let ran = finished(&mut command).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("current (f32), voltage (f32)"), "{}", ran.out);
}

#[tokio::test]
async fn usage_errors_exit_with_2_and_say_what_to_do() {
    let cases: [(&[&str], &str); 9] = [
        (&["stats"], "say what to read"),
        (
            &["stats", "--device", "a", "--from", "yesterday"],
            "is not a time: give one like",
        ),
        (
            &["stats", "--device", "a", "--from", "-5s", "--to", "-10s"],
            "--to is not after --from",
        ),
        (
            &["export", "--device", "a", "--format", "mp3", "--output", "x"],
            "invalid value 'mp3'",
        ),
        (&["compare", "a"], "required arguments were not provided"),
        (&["compare"], "say which runs"),
        (
            &["stats", "--device", "a", "--percentiles", "101"],
            "give numbers from 0 to 100",
        ),
        (&["compare", "a", "b", "--align", "marker:"], "give start, or marker:"),
        (&["devices", "--server", "localhost"], "is not a server address"),
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
    for command in [
        "devices",
        "streams",
        "gaps",
        "chunks",
        "tail",
        "stats",
        "compare",
        "waveform",
        "export",
        "runs",
        "mark",
        "markers",
        "completions",
    ] {
        let ran = run_at("http://127.0.0.1:1", &[command, "--help"]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert!(ran.out.contains("Example"), "{command} has no example");
        let options = ran.out.matches("\n      --").count() + ran.out.matches("\n  -").count();
        // Help and version have none. A narrow terminal breaks lines anywhere.
        let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words.matches("[env: WAVEKEEP_").count(), options - 2, "{}", ran.out);
    }
}

#[tokio::test]
async fn a_misspelt_variable_is_not_passed_over() {
    let ran = finished(command_at("http://127.0.0.1:1", &["devices"]).env("WAVEKEEP_WORKSPAEC", "team_7")).await;
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.err.contains("WAVEKEEP_WORKSPAEC") && ran.err.contains("WAVEKEEP_WORKSPACE"),
        "{}",
        ran.err
    );
}

/// The completion is asked for as bash does it when somebody presses tab.
#[tokio::test]
async fn a_shell_completes_commands_options_and_values() {
    let nowhere = "http://127.0.0.1:1";
    let script = run_at(nowhere, &["completions", "bash"]).await;
    assert_eq!((script.code, script.err.as_str()), (Some(0), ""));
    for (words, part) in [
        ("wavekeep expo", "export"),
        ("wavekeep run rem", "remove"),
        ("wavekeep compare --al", "--align"),
        ("wavekeep export --format par", "parquet"),
    ] {
        let asked = format!(
            "{}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _wavekeep wavekeep \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.out
        );
        let ran = finished(tokio::process::Command::new("bash").args(["--norc", "-c", &asked])).await;
        assert_eq!(ran.out.trim(), part, "{words}: {}", ran.err);
    }
    for shell in ["zsh", "fish"] {
        let ran = run_at(nowhere, &["completions", shell]).await;
        assert!(
            ran.code == Some(0) && ran.out.contains("reconcile"),
            "{shell}: {}",
            ran.out
        );
    }
    assert_eq!(run_at(nowhere, &["completions", "tcsh"]).await.code, Some(2));
}
