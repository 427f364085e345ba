//! Captures by the real program without a server: nothing stops for it, and nothing is lost.

mod cli;

use std::time::Duration;

use cli::{Agent, directory, free_url, json};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn i13_without_a_server_everything_captured_stays_in_the_outbox() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let server = free_url();
    let run = [
        "run",
        "--outbox",
        &outbox,
        "--server",
        &server,
        "--device",
        "bench",
        "--json",
        "--drain-wait",
        "100ms",
    ];
    let simulate = [
        "--simulate",
        "js220,rate=100000,loss=1e-4,speed=max",
        "--duration",
        "3s",
    ];
    let mut child = Agent::new(&run).args(&simulate).spawn();
    let status = child.wait_for_status(&outbox, |status| status["sources"][0]["state"] == "ended");
    assert_ne!(status["link"]["state"], "up");
    let busy = Agent::new(&run).args(&simulate).output();
    assert_eq!(busy.code, Some(1));
    assert!(
        busy.stderr.contains("another agent uses this outbox"),
        "{}",
        busy.stderr
    );
    let asked = json(&Agent::new(&["outbox", "status", &outbox, "--json"]).output().stdout);
    assert_eq!(asked["streams"][0]["device"], "bench");

    let output = child.interrupt();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.last_line().contains("not acknowledged yet"), "{}", output.stderr);
    let summary = json(&output.stdout);
    let (samples, gaps) = (summary["sample_count"].as_u64(), summary["gap_sample_count"].as_u64());
    assert_eq!(
        samples.zip(gaps).map(|(samples, gaps)| samples + gaps),
        Some(300_000),
        "I13: {summary}"
    );
    assert_eq!(summary["acknowledged"], false);

    let verified = Agent::new(&["outbox", "verify", &outbox, "--json"]).output();
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    let stream = &json(&verified.stdout)["streams"][0];
    assert_eq!(
        (stream["samples"].as_u64(), stream["gap_samples"].as_u64()),
        (samples, gaps)
    );
    let held = json(&Agent::new(&["outbox", "status", &outbox, "--json"]).output().stdout);
    assert_eq!(
        (&held["streams"][0]["ended"], &held["streams"][0]["acked_seq"]),
        (&true.into(), &0.into())
    );
    let people = Agent::new(&["outbox", "status", &outbox]);
    let people = people.env("WAVEKEEP_JSON", "0").output();
    assert!(people.stdout.contains("bench: acknowledged 0 of"), "{}", people.stdout);
    let by_environment = Agent::new(&["outbox", "status", &outbox]).env("WAVEKEEP_JSON", "1");
    assert_eq!(
        json(&by_environment.output().stdout),
        held,
        "a flag may be set as people set flags"
    );
}

#[test]
fn i4_a_killed_capture_leaves_whole_chunks_and_its_end_is_due() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let server = free_url();
    let run = cli::run(&outbox, &server, "0");
    let mut child = Agent::new(&run).args(&["--simulate", "js110,rate=50000"]).spawn();
    child.wait_for_status(&outbox, |status| {
        status["sources"][0]["chunk_count"].as_u64() >= Some(2)
    });
    child.kill();
    let verified = Agent::new(&["outbox", "verify", &outbox, "--json"]).output();
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert!(json(&verified.stdout)["streams"][0]["samples_chunks"].as_u64() >= Some(2));

    let mut next = Agent::new(&run).args(&["--simulate", "js110,rate=50000"]).spawn();
    let status = next.wait_for_status(&outbox, |status| {
        status["outbox"]["streams"].as_array().map(Vec::len) == Some(2)
    });
    let due = |stream: &&Value| stream["to_end"] == true;
    assert_eq!(
        status["outbox"]["streams"]
            .as_array()
            .map(|streams| streams.iter().filter(due).count()),
        Some(1)
    );
    assert_eq!(next.interrupt().code, Some(1), "two streams remain");
}

#[test]
fn a_replay_without_a_server_stores_nothing_and_says_so_when_interrupted() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let file = directory.path().join("current.f32.bin");
    std::fs::write(&file, vec![7; 400_000]).expect("a file");
    let (file, server) = (file.display().to_string(), free_url());
    let replay = [
        "replay", &file, "--outbox", &outbox, "--server", &server, "--device", "ppk2", "--rate", "1e5",
    ];
    let common = ["--start", "2026-01-31T12:00:00Z", "--drain-wait", "0", "--json"];
    let mut child = Agent::new(&replay).args(&common).spawn();
    child.wait_for_status(&outbox, |status| status["sources"][0]["state"] == "waiting");
    let output = child.interrupt();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.last_line().contains("interrupted"), "{}", output.stderr);
    assert_eq!(json(&output.stdout)["chunk_count"], 0);
}

#[test]
fn the_admin_endpoint_tells_prometheus_what_it_wants_to_know() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let server = free_url();
    let run = cli::run(&outbox, &server, "0");
    let mut child = Agent::new(&run).args(&["--simulate", "js220,rate=1000"]).spawn();
    child.wait_for_status(&outbox, |status| status["sources"][0]["state"] == "capturing");
    let metrics = cli::get(&outbox, "/metrics");
    for name in [
        "samples_total",
        "oldest_unacked_seconds",
        "outbox_held_bytes",
        "link_up 0",
        "gap_samples_total",
    ] {
        assert!(metrics.contains(&format!("wavekeep_agent_{name}")), "{name}: {metrics}");
    }
    assert!(cli::get(&outbox, "/health").ends_with("ok\n"));
    child.interrupt();
    assert!(
        !directory.path().join("outbox/agent.sock").exists(),
        "an orderly end removes the socket"
    );
}

#[test]
fn a_second_signal_ends_the_patience_that_the_first_one_left() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let server = free_url();
    // The first alone would wait for an hour.
    let run = cli::run(&outbox, &server, "1h");
    let mut child = Agent::new(&run).args(&["--simulate", "js220,rate=1000"]).spawn();
    child.wait_for_status(&outbox, |status| {
        status["sources"][0]["chunk_count"].as_u64() >= Some(1)
    });
    child.signal(Signal::SIGTERM);
    child.signal(Signal::SIGTERM); // To its group, too: the same wish.
    child.wait_for_status(&outbox, |status| status["sources"][0]["state"] == "ended");
    std::thread::sleep(Duration::from_millis(600));
    let output = child.interrupt();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(
        output.last_line().contains("start the agent on it again"),
        "{}",
        output.stderr
    );
}
