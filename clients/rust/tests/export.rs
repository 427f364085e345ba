//! `export` against a scripted server: what it writes, what it refuses, and what it leaves behind.

mod support;

use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Stdio;
use std::time::Duration;

use support::command::{Directory, command_at, export, finished, interleaved, whole, with_gap};
use support::{Capture, START_NS, Script, definition, manifest_part, script, serve, signal};
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::stream::SampleType;
use wavekeep::proto::v1;

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

async fn export_as(format: &str, capture: &Capture, output: &std::path::Path, more: &[&str]) -> support::command::Ran {
    let output = output.to_str().expect("text");
    let mut arguments = vec![
        "export",
        "--device",
        "js220-001",
        "--format",
        format,
        "--output",
        output,
    ];
    arguments.extend(more);
    support::command::run(script(&[capture]), &arguments).await
}

#[tokio::test]
async fn export_writes_lines_whose_decimals_are_the_same_bits() {
    let directory = Directory::new();
    let ran = export_as("csv", &whole(), &directory.file(), &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("2 NaN had a sign or payload"), "{}", ran.err);
    let text = std::fs::read_to_string(directory.file()).expect("written");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "time,current,voltage");
    assert_eq!(lines[1], "2026-11-23T00:00:00.000000000Z,NaN,NaN");
    assert_eq!(lines[2], "2026-11-23T00:00:00.000001000Z,-0.0,0.0");
    let bits = |text: &str| text.parse::<f32>().expect("a number").to_bits();
    for (line, expected) in lines[3..].iter().zip(3u32..) {
        let fields: Vec<_> = line.split(',').collect();
        assert_eq!([bits(fields[1]), bits(fields[2])], [expected, expected ^ (1 << 31)]);
    }
    assert_eq!(lines.len(), 10);
    let ran = export_as("csv", &with_gap(definition(1)), &directory.file(), &["--gaps", "fill"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let text = std::fs::read_to_string(directory.file()).expect("written");
    let missing: Vec<_> = text.lines().filter(|line| line.ends_with("NaN,NaN")).collect();
    assert!(
        missing.len() == 3 && missing[0].starts_with("2026-11-23T00:00:00.000002000Z"),
        "{text}"
    );
}

#[tokio::test]
async fn export_writes_arrays_of_one_type_whose_length_is_right() {
    let directory = Directory::new();
    let ran = export_as("npy", &with_gap(definition(1)), &directory.file(), &["--gaps", "skip"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let array = std::fs::read(directory.file()).expect("written");
    assert!(
        String::from_utf8_lossy(&array[..128]).contains("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }")
    );
    assert_eq!(array[128..], interleaved(&[1, 2, 3, 4]));
    assert_eq!(directory.names(), ["out.raw"]);
    let ran = export_as("npy", &whole(), std::path::Path::new("/dev/stdout"), &[]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("give a file, no pipe"),
        "{}",
        ran.err
    );
    let mut mixed = definition(1);
    mixed.signals = vec![
        signal(0, "current", SampleType::F32),
        signal(1, "code", SampleType::I32),
    ];
    let ran = export_as("npy", &Capture::new(mixed), &directory.file(), &[]).await;
    assert!(ran.code == Some(1) && ran.err.contains("one by one"), "{}", ran.err);
    let mut bits = definition(1);
    bits.signals = vec![signal(0, "gpi", SampleType::U1)];
    let ran = export_as("npy", &Capture::new(bits), &directory.file(), &[]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("numpy has no elements of type u1"),
        "{}",
        ran.err
    );
    assert_eq!(
        std::fs::read(directory.file()).expect("the one before").len(),
        array.len()
    );
}

#[tokio::test]
async fn export_writes_jls_that_is_closed_and_refuses_what_it_cannot_hold() {
    let directory = Directory::new();
    let written = async || {
        let ran = export_as("jls", &with_gap(definition(1)), &directory.file(), &["--gaps", "fill"]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let bytes = std::fs::read(directory.file()).expect("written");
        assert!(
            ran.out.contains("7 samples of") && bytes.starts_with(b"jlsfmt"),
            "{}",
            ran.out
        );
        bytes
    };
    let bytes = written().await;
    // Its length stands in its header only when it is whole.
    assert_eq!(bytes[16..24], (bytes.len() as u64).to_le_bytes());
    assert_eq!(written().await, bytes);
    let pipe = std::path::Path::new("/dev/stdout");
    let ran = export_as("jls", &whole(), pipe, &[]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("give a file, no pipe"),
        "{}",
        ran.err
    );
    let mut wide = definition(1);
    wide.signals = vec![signal(0, "charge", SampleType::I128)];
    let ran = export_as("jls", &Capture::new(wide), &directory.file(), &[]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("charge is i128, which JLS has not"),
        "{}",
        ran.err
    );
    let mut odd = definition(1);
    odd.rate_hz = 0.5;
    let ran = export_as("jls", &Capture::new(odd), &directory.file(), &[]).await;
    assert!(ran.code == Some(1) && ran.err.contains("0.5 Hz"), "{}", ran.err);
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

/// The honest answer of a server whose retention has removed the first chunk.
fn without_head(capture: &Capture) -> Script {
    let mut answer = script(&[capture]);
    answer.parts.remove(1);
    let first = &capture.chunks[0];
    let manifest = v1::StreamManifest {
        from_sample: first.to_sample,
        sample_count: capture.sample_count - first.to_sample,
        first_seq: 2,
        digest_before: bytes::Bytes::new(),
        chunks: capture.chunks.len() as u64 - 1,
        ..capture.manifest()
    };
    *answer.parts.last_mut().expect("a manifest") = manifest_part(vec![manifest]);
    answer
}

#[tokio::test]
async fn export_refuses_a_start_that_is_no_longer_stored() {
    let directory = Directory::new();
    let head = || without_head(&whole());
    let ran = export(head(), &directory.file(), &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(
        ran.err
            .contains("samples are missing: the first 6, which are no longer stored"),
        "{}",
        ran.err
    );
    assert_eq!(directory.names(), Vec::<String>::new());
    let ran = export(head(), &directory.file(), &["--gaps", "skip"]).await;
    assert!(
        ran.code == Some(0) && ran.out.contains("3 samples of") && ran.out.contains("6 missing and left out"),
        "{} {}",
        ran.out,
        ran.err
    );
    let ran = export(head(), &directory.file(), &["--gaps", "fill"]).await;
    assert!(ran.code == Some(0) && ran.out.contains("9 samples of"), "{}", ran.err);
    // From a time on that is missing, and from one that is not.
    let time = |ns: i64| wavekeep::time::rfc3339(START_NS + ns);
    let ran = export(head(), &directory.file(), &["--from", &time(2_000)]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .contains("those before 2026-11-23T00:00:00.000006Z, which are no longer stored"),
        "{}",
        ran.err
    );
    let ran = export(head(), &directory.file(), &["--from", &time(6_000)]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}

#[tokio::test]
async fn export_refuses_streams_that_are_listed_and_do_not_come() {
    let directory = Directory::new();
    let answer = || {
        let mut answer = script(&[&whole()]);
        answer.streams.insert(0, with_gap(definition(2)).info());
        answer.streams[0].first_time_ns -= 4_000;
        answer.streams[0].last_time_ns = START_NS;
        answer
    };
    let ran = export(answer(), &directory.file(), &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    let gone = format!("those of stream {}, which are no longer stored", definition(2).id);
    assert!(ran.err.contains(&gone), "{}", ran.err);
    assert_eq!(directory.names(), Vec::<String>::new());
    let ran = export(answer(), &directory.file(), &["--gaps", "skip"]).await;
    assert!(ran.code == Some(0) && ran.err.contains(&gone), "{}", ran.err);
    // It lies before the time that is asked for.
    let from = wavekeep::time::rfc3339(START_NS);
    let ran = export(answer(), &directory.file(), &["--from", &from]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn export_replaces_neither_a_device_nor_a_link() {
    let directory = Directory::new();
    let device = directory.0.path().join("null");
    symlink("/dev/null", &device).expect("linked");
    let ran = export(script(&[&whole()]), &device, &[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(device.is_symlink());
    let null = std::fs::metadata("/dev/null").expect("it is there");
    assert!(null.file_type().is_char_device());
    // The file that a link leads to is written, and the link stays.
    let elsewhere = Directory::new();
    std::fs::write(elsewhere.file(), b"before").expect("written");
    symlink(elsewhere.file(), directory.file()).expect("linked");
    let ran = export(script(&[&whole()]), &directory.file(), &[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(directory.file().is_symlink());
    assert_eq!(std::fs::read(elsewhere.file()).expect("written").len(), 72);
    assert_eq!(elsewhere.names(), ["out.raw"]);
    std::fs::remove_file(elsewhere.file()).expect("removed");
    let ran = export(script(&[&whole()]), &directory.file(), &[]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("a link to a file that cannot be found"),
        "{}",
        ran.err
    );
    let socket = directory.0.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let ran = export(script(&[&whole()]), &socket, &[]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("neither a file nor a pipe"),
        "{}",
        ran.err
    );
    let file_type = std::fs::metadata(&socket).expect("it is there").file_type();
    assert!(file_type.is_socket());
}

#[tokio::test]
async fn export_into_a_pipe_writes_the_samples_alone() {
    let server = serve(script(&[&whole()])).await;
    let arguments = [
        "export",
        "--device",
        "js220-001",
        "--format",
        "raw",
        "--output",
        "/dev/stdout",
    ];
    let output = command_at(&server, &arguments).output().await.expect("it runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(
        output.stdout,
        interleaved(&[0x7f80_0001, 0x8000_0000, 3, 4, 5, 6, 7, 8, 9])
    );
    assert!(
        said.starts_with("/dev/stdout: 9 samples of current (f32), voltage (f32)"),
        "{said}"
    );
}

#[tokio::test]
async fn an_interrupted_export_leaves_no_file() {
    for signal in ["INT", "TERM"] {
        let directory = Directory::new();
        let server = serve(Script {
            hangs: true,
            ..script(&[&whole()])
        })
        .await;
        let file = directory.file();
        let output = file.to_str().expect("text");
        let arguments = ["export", "--device", "js220-001", "--format", "raw", "--output", output];
        let mut command = command_at(&server, &arguments);
        let running = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        while directory.names().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let kill = format!("kill -{signal} {}", running.id().expect("it runs"));
        let mut shell = tokio::process::Command::new("sh");
        assert_eq!(finished(shell.args(["-c", &kill])).await.code, Some(0));
        let ended = running.wait_with_output().await.expect("it ends");
        assert_eq!((ended.status.code(), ended.stdout), (Some(1), Vec::new()));
        let said = String::from_utf8(ended.stderr).expect("text");
        assert!(
            said.starts_with("error: interrupted, and nothing is left behind") && said.contains("--output DIR/"),
            "{said}"
        );
        assert_eq!(directory.names(), Vec::<String>::new());
    }
}
