//! Every odd input is answered with one clear sentence and a non-zero exit; nothing panics, nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::process::binary;

fn run(name: &str, args: &[&str]) -> Output {
    Command::new(binary(name).unwrap())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// One sentence for people that names `what`, and this exit code.
#[track_caller]
fn refuses(output: &Output, code: i32, what: &str) {
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{log}");
    assert!(log.to_lowercase().contains(what), "{what:?} is not in: {log}");
    assert!(!log.contains("panicked") && !log.contains("stack backtrace"), "{log}");
}

fn replay(folder: &Path, file: &Path, more: &[&str]) -> Output {
    let outbox = folder.join("outbox");
    let mut args = vec![
        "replay",
        file.to_str().unwrap(),
        "--server",
        "http://127.0.0.1:1",
        "--device",
        "d",
    ];
    args.extend(["--outbox", outbox.to_str().unwrap()]);
    args.extend(more);
    run("wavekeep-agent", &args)
}

const RAW: [&str; 8] = [
    "--format",
    "raw",
    "--dtype",
    "f32",
    "--signal",
    "x:V",
    "--start",
    "2026-01-01T00:00:00Z",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    RAW.iter().copied().chain(more.iter().copied()).collect()
}

#[test]
fn files_that_are_unreadable_odd_sized_or_empty() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    refuses(
        &replay(folder.path(), &at("missing.bin"), &with(&["--rate", "1000"])),
        1,
        "missing.bin",
    );
    std::fs::write(at("odd.bin"), [0; 4_003]).unwrap();
    refuses(
        &replay(folder.path(), &at("odd.bin"), &with(&["--rate", "1000"])),
        1,
        "odd.bin",
    );
    std::fs::write(at("empty.bin"), []).unwrap();
    refuses(
        &replay(folder.path(), &at("empty.bin"), &with(&["--rate", "1000"])),
        1,
        "empty",
    );
    refuses(&replay(folder.path(), folder.path(), &with(&["--rate", "1000"])), 1, "");
}

#[test]
fn rates_that_are_zero_or_absurd() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("good.bin");
    std::fs::write(&file, [0; 4_000]).unwrap();
    for rate in ["0", "-5", "NaN", "inf", "1e30", "fast"] {
        let rate = format!("--rate={rate}");
        let output = replay(folder.path(), &file, &with(&[&rate]));
        assert!(matches!(output.status.code(), Some(1 | 2)), "{rate}: {output:?}");
        refuses(&output, output.status.code().unwrap(), "rate");
    }
    let spec = [
        "--server",
        "http://127.0.0.1:1",
        "--device",
        "d",
        "--outbox",
        folder.path().to_str().unwrap(),
    ];
    for bad in [
        "js220,rate=0",
        "js999",
        "js220,rte=5",
        "js220,rate=5,rate=6",
        "js220,seed=x",
    ] {
        let mut args = vec!["run", "--simulate", bad];
        args.extend(spec);
        refuses(&run("wavekeep-agent", &args), 2, "");
    }
}

#[test]
fn port_in_use_and_database_down_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("server");
    let args = [
        "dev",
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        &listen,
        "--http",
        "127.0.0.1:0",
    ];
    refuses(&run("wavekeep-server", &args), 1, "in use");
    let url = "postgres://nobody@127.0.0.1:1/none";
    let args = ["migrate", "--database-url", url];
    refuses(&run("wavekeep-server", &args), 1, "database");
}

#[test]
fn unknown_devices_and_servers_that_are_not_there() {
    let lab = Lab::start().unwrap();
    let args = [
        "--server",
        &lab.url(),
        "stats",
        "--device",
        "nobody",
        "--signal",
        "current",
    ];
    refuses(&run("wavekeep", &args), 1, "nobody");
    refuses(
        &run("wavekeep", &["--server", "http://127.0.0.1:1", "devices"]),
        1,
        "127.0.0.1:1",
    );
    refuses(
        &run(
            "wavekeep",
            &["--server", &lab.url(), "--workspace", "nowhere", "devices"],
        ),
        1,
        "nowhere",
    );
    refuses(&run("wavekeep", &["--server", &lab.url(), "stats"]), 2, "--device");
    // An agent for a workspace that does not exist says so, and keeps what it captured.
    let options = [
        "--device",
        "d",
        "--simulate",
        "js220,rate=1000",
        "--duration",
        "600s",
        "--workspace",
        "nowhere",
    ];
    let mut agent = lab.agent("lost", &["run"], &options).unwrap();
    let since = std::time::Instant::now();
    while !agent.log().contains("nowhere") && since.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(agent.log().contains("nowhere"), "{}", agent.log_tail());
    agent.kill9().unwrap();
    let outbox = lab.outbox("lost");
    let status = run("wavekeep-agent", &["outbox", "verify", outbox.to_str().unwrap()]);
    assert!(status.status.success(), "{status:?}");
}

#[test]
fn outbox_that_is_a_file_or_of_a_newer_version() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"not a folder").unwrap();
    let args = ["outbox", "status", file.to_str().unwrap()];
    refuses(&run("wavekeep-agent", &args), 1, "");
    let missing = folder.path().join("missing");
    refuses(
        &run("wavekeep-agent", &["outbox", "status", missing.to_str().unwrap()]),
        1,
        "missing",
    );
    assert!(!missing.exists(), "asking for the status of an outbox makes none");
}
