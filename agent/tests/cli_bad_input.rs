//! Bad input on the command line: one sentence that says what to do, the right exit code, no panic.

mod cli;

use cli::{Agent, directory};

#[test]
fn usage_errors_exit_with_2_and_say_what_to_write() {
    let run = ["run", "--outbox", "/nowhere", "--device", "bench"];
    let simulate = ["--simulate", "js220"];
    let cases: &[(&[&str], &str)] = &[
        (&["--simulate", "js330"], "js220"),
        (&["--simulate", "js220,rate=0"], "nearest valid is `rate=1`"),
        (&["--simulate", "js220,rate=9000000"], "nearest valid is `rate=2000000`"),
        (&[], "--simulate <SPEC>"),
        (
            &["--simulate", "js220", "--server", "localhost:7460"],
            "write it like http://127.0.0.1:7460",
        ),
        (&["--simulate", "js220", "--label", "colour"], "key=value"),
        (&["--simulate", "js220", "--label", "run=zz"], "name it with --run"),
        (&["--simulate", "js220", "--label", "device=x"], "name it with --device"),
        (
            &["--simulate", "js220", "--label", "a=1", "--label", "a=2"],
            "keep one of them",
        ),
        (&["--simulate", "js220", "--duration", "soon"], "10s"),
        (&["--simulate", "js220", "--duration", "0s"], "10s"),
        (
            &["--simulate", "js220", "--chunk-period", "49ms"],
            "a chunk period is from 50ms to 1h",
        ),
        (
            &["--simulate", "js220", "--schedule", "22-06"],
            "write hours like 22:00-06:00",
        ),
        (&["--simulate", "js220", "--schedule", "06:00-06:00"], "00:00-24:00"),
        (
            &["--simulate", "js220", "--encoding", "gzip"],
            "use auto, plain, shuffle-zstd or pco",
        ),
        (&["--simulate", "js220", "--upload-limit", "fast"], "8MiB"),
        (&["--simulate", "js220", "--quota", "1MiB"], "at least 64 MiB"),
        (&["--simulate", "js220", "--when-full", "panic"], "evict"),
        (&["--simulate", "js220", "--fsync", "sometimes"], "each-chunk"),
        (&["--simulate", "js220", "--workspace", ""], "a name has 1 to 200 bytes"),
        (&["--simulate", "js220", "--log", "a=b=c"], "is no log filter"),
        (&["--simulate", "js220", "--serve", "x"], "--server"),
    ];
    for (given, expected) in cases {
        let output = Agent::new(&run).args(given).output();
        assert_eq!(output.code, Some(2), "{given:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{given:?}: {}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        assert_eq!(output.stdout, "", "{given:?}");
    }
    let output = Agent::new(&["run", "--outbox", "/nowhere", "--device", "a\nb"])
        .args(&simulate)
        .output();
    assert_eq!(output.code, Some(2), "{}", output.stderr);
}

const RAW: [&str; 4] = ["--rate", "1000", "--start", "2026-01-31T12:00:00Z"];

/// What replaying a file of this content comes to.
fn replay(name: &str, content: Option<&[u8]>, given: &[&str]) -> cli::Output {
    let directory = directory();
    let file = directory.path().join(name);
    if let Some(content) = content {
        std::fs::write(&file, content).expect("a file");
    }
    let (file, outbox) = (
        file.display().to_string(),
        directory.path().join("outbox").display().to_string(),
    );
    let output = Agent::new(&["replay", &file, "--outbox", &outbox, "--device", "bench"])
        .args(given)
        .output();
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    output
}

#[test]
fn files_that_cannot_be_replayed_are_refused_with_one_sentence() {
    let two: Vec<&str> = RAW
        .into_iter()
        .chain(["--signal", "current:A", "--signal", "voltage:V"])
        .collect();
    let same: Vec<&str> = RAW
        .into_iter()
        .chain(["--signal", "current:A", "--signal", "current:A"])
        .collect();
    for (name, content, given, code, expected) in [
        ("missing.bin", None, &RAW[..], 1, "cannot be read"),
        ("empty.bin", Some(&[][..]), &RAW, 1, "is empty"),
        ("odd.bin", Some(&[0; 1_001]), &RAW, 1, "cut the last 1 bytes off"),
        ("pair.bin", Some(&[0; 12]), &two, 1, "whole samples of 8 bytes"),
        ("night.parquet", Some(b"PAR1samples.PAR1"), &RAW, 1, "is a Parquet file"),
        (
            "night.parquet",
            Some(b"PAR1samples.PAR1"),
            &[],
            1,
            "export it as csv, npy",
        ),
        ("night.bin.gz", Some(b"\x1f\x8b\x08\x00samp"), &RAW, 1, "unpack it"),
        ("same.bin", Some(&[0; 16]), &same, 1, "unique name"),
        ("", None, &RAW, 1, "is not a file"),
        ("data.csv", Some(b"1,2\n"), &RAW, 1, "name its 2 columns with --signal"),
        ("data.csv", Some(b"time,x\n0,1\n1,2\n"), &[], 2, "give --start"),
        ("data.npy", Some(b"1,2\n"), &RAW, 1, "is no npy file"),
        ("t-energy.bin", Some(&[0; 16]), &RAW[2..], 1, "does not start with 0xf1"),
        ("t-energy.bin", Some(&[0xf1; 16]), &[], 2, "give --start"),
        (
            "data.jls",
            Some(b"jls"),
            &RAW,
            2,
            "leave --rate, --signal, --dtype and --join-rows out",
        ),
        ("text.jls", Some(b"jls"), &[], 1, "is no JLS v2 file"),
    ] {
        let output = replay(name, content, given);
        assert_eq!(output.code, Some(code), "{name} {given:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{name} {given:?}: {}", output.stderr);
    }
}

#[test]
fn replays_that_make_no_sense_exit_with_2_and_say_what_to_write() {
    for (given, expected) in [
        (&["--format", "jls", "--rate", "5"][..], "leave --rate"),
        (&["--join-rows"], "leave --join-rows out"),
        (
            &["--format", "energyrunner", "--start", RAW[3], "--dtype", "f64"],
            "leave --dtype out",
        ),
        (&RAW[..2], "--start"),
        (&RAW[2..], "--rate"),
        (&["--rate", "0"], "a rate is above 0"),
        (&["--rate", "1e300"], "a rate is above 0"),
        (&["--rate", "nan"], "a rate is above 0"),
        (&["--start", "yesterday"], "RFC 3339"),
        (&["--speed", "0"], "1 is real time"),
        (&["--signal", ":A"], "NAME:UNIT"),
        (&["--dtype", "f16"], "f32"),
        (&["--label", "device=x"], "name it with --device"),
    ] {
        let output = replay("good.bin", Some(&[0; 16]), given);
        assert_eq!(output.code, Some(2), "{given:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{given:?}: {}", output.stderr);
    }
}

#[test]
fn unusable_outboxes_are_refused_with_one_sentence() {
    let directory = directory();
    let file = directory.path().join("a-file");
    std::fs::write(&file, b"not a directory").expect("a file");
    for outbox in [file.display().to_string(), "/proc/outbox".to_owned()] {
        let run = [
            "run",
            "--device",
            "bench",
            "--simulate",
            "js220,speed=max",
            "--duration",
            "1s",
            "--outbox",
            &outbox,
        ];
        let output = Agent::new(&run).output();
        assert_eq!(output.code, Some(1), "{outbox}: {}", output.stderr);
        assert!(
            output.last_line().starts_with(&format!("wavekeep-agent: {outbox}: ")),
            "{}",
            output.stderr
        );
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    }
    for command in ["status", "verify"] {
        let missing = directory.path().join("none").display().to_string();
        let output = Agent::new(&["outbox", command, &missing]).output();
        assert_eq!(output.code, Some(1), "{}", output.stderr);
        assert!(!directory.path().join("none").exists(), "looking makes nothing");
    }
}

#[test]
fn help_names_every_option_with_its_environment_variable_and_has_examples() {
    for (command, options) in [
        (
            &["run"][..],
            &[
                "SERVER",
                "OUTBOX",
                "DEVICE",
                "SIMULATE",
                "DURATION",
                "WORKSPACE",
                "RUN",
                "LABELS",
                "FSYNC",
            ][..],
        ),
        (
            &["replay"],
            &[
                "SERVER",
                "OUTBOX",
                "RATE",
                "START",
                "SPEED",
                "DTYPE",
                "SIGNALS",
                "UPLOAD_LIMIT",
                "QUOTA",
            ],
        ),
        (&["outbox", "status"], &["OUTBOX", "JSON"]),
    ] {
        let output = Agent::new(command).args(&["--help"]).output();
        assert_eq!(output.code, Some(0));
        for option in options {
            assert!(
                output.stdout.contains(&format!("WAVEKEEP_{option}=]")),
                "{command:?} {option}: {}",
                output.stdout
            );
        }
    }
    for command in ["run", "replay", "outbox"] {
        let output = Agent::new(&[command, "--help"]).output();
        assert!(output.stdout.contains("Examples:"), "{command}: {}", output.stdout);
    }
}

#[test]
fn help_shows_examples() {
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["replay", "--help"],
        &["outbox", "--help"],
    ] {
        let output = Agent::new(command).output();
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stdout.contains("Examples:"), "{command:?}");
    }
}

#[test]
fn a_misspelt_variable_is_not_passed_over() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let output = Agent::new(&["outbox", "status", &outbox])
        .env("WAVEKEEP_QOUTA", "1GiB")
        .output();
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("WAVEKEEP_QUOTA"), "{}", output.stderr);
}
