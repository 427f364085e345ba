//! Labels, status and hours of a running agent, by the real program without a server.

mod cli;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cli::{Agent, directory, free_url, json};

#[test]
fn labels_change_while_it_captures_and_the_streams_say_so() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let server = free_url();
    let run = cli::run(&outbox, &server, "0");
    let simulate = [
        "--simulate",
        "js220,rate=10000",
        "--label",
        "algorithm=A",
        "--label",
        "firmware=1",
    ];
    let mut child = Agent::new(&run).args(&simulate).spawn();
    child.wait_for_status(&outbox, |status| {
        status["sources"][0]["chunk_count"].as_u64() >= Some(1)
    });
    let label = |given: &[&str]| Agent::new(&["label", "--outbox", &outbox]).args(given).output();
    let output = label(&["algorithm=B", "firmware="]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(output.stdout, "bench: labels algorithm=B\n");
    let again = label(&["algorithm=B", "--json"]);
    assert_eq!(json(&again.stdout)["settled"], true);
    for (given, code, sentence) in [
        (["algorithm"].as_slice(), 2, "key=value"),
        (&["a=1", "a=2"], 2, "keep one of them"),
        (&[], 2, "KEY=VALUE"),
    ] {
        let output = label(given);
        assert_eq!(output.code, Some(code), "{given:?}: {}", output.stderr);
        assert!(output.stderr.contains(sentence), "{given:?}: {}", output.stderr);
    }
    let held = json(&Agent::new(&["outbox", "status", &outbox, "--json"]).output().stdout);
    let mut streams = held["streams"].as_array().expect("it has streams").clone();
    streams.sort_by_key(|stream| stream["ended"] == false);
    let labels: Vec<_> = streams.iter().map(|stream| &stream["labels"]).collect();
    assert_eq!(
        labels,
        [
            &serde_json::json!({"algorithm": "A", "firmware": "1"}),
            &serde_json::json!({"algorithm": "B"})
        ],
        "the change that changed nothing began no stream"
    );
    assert_eq!(
        (&streams[0]["ended"], &streams[1]["ended"]),
        (&true.into(), &false.into())
    );
    child.interrupt();
    let late = label(&["algorithm=C"]);
    assert_eq!(late.code, Some(1), "{}", late.stderr);
    assert!(late.last_line().contains("while an agent captures"), "{}", late.stderr);
    // All that was captured lies in the two streams, one after the other.
    let verified = json(&Agent::new(&["outbox", "verify", &outbox, "--json"]).output().stdout);
    assert_eq!(verified["intact"], true);
}

#[test]
fn a_files_labels_do_not_change_while_it_is_replayed() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let file = directory.path().join("current.f32.bin");
    std::fs::write(&file, vec![7; 400_000]).expect("a file");
    let (file, server) = (file.display().to_string(), free_url());
    let replay = [
        "replay", &file, "--outbox", &outbox, "--server", &server, "--device", "ppk2", "--rate", "1e5",
    ];
    let common = ["--start", "2026-01-31T12:00:00Z", "--drain-wait", "0"];
    let mut child = Agent::new(&replay).args(&common).spawn();
    child.wait_for_status(&outbox, |status| status["sources"][0]["state"] == "waiting");
    let output = Agent::new(&["label", "a=1", "--outbox", &outbox]).output();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(
        output.last_line().contains("a file's labels are given with --label"),
        "{}",
        output.stderr
    );
    child.interrupt();
}

#[test]
fn status_is_for_people_and_for_scripts_and_says_what_to_do_without_an_agent() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let server = free_url();
    let status = |given: &[&str]| Agent::new(&["status", "--outbox", &outbox]).args(given).output();
    let none = status(&[]);
    assert_eq!(none.code, Some(1), "{}", none.stderr);
    assert!(
        none.last_line()
            .contains(&format!("`wavekeep-agent outbox status {outbox}`")),
        "{}",
        none.stderr
    );
    let run = cli::run(&outbox, &server, "0");
    let options = ["--simulate", "js220,rate=50000,loss=2e-4", "--upload-limit", "2MiB"];
    let mut child = Agent::new(&run).args(&options).spawn();
    child.wait_for_status(&outbox, |status| {
        status["sources"][0]["gap_count"].as_u64() >= Some(1) && status["link"]["last_error"].is_string()
    });
    let people = status(&[]);
    assert_eq!(people.code, Some(0), "{}", people.stderr);
    for part in [
        "bench capturing",
        "50 kS/s",
        "bench source_loss: ",
        "at most 2.0 MiB/s",
        "last error: ",
        "no ack yet",
    ] {
        assert!(people.stdout.contains(part), "{part}: {}", people.stdout);
    }
    let found = json(&status(&["--json"]).stdout);
    assert_eq!(found["link"]["upload_limit_bytes"], 2 << 20);
    assert!(found["sources"][0]["last_chunk_age_ms"].is_u64(), "{found}");
    assert!(found["quota_bytes"].as_u64() > found["outbox"]["held_bytes"].as_u64());
    child.interrupt();
}

#[test]
fn outside_of_its_hours_it_captures_and_asks_no_server() {
    let directory = directory();
    let outbox = directory.path().join("outbox").display().to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
    let hour = now.as_secs() / 3_600 % 24;
    let hours = format!("{:02}:00-{:02}:00 UTC", (hour + 3) % 24, (hour + 4) % 24);
    // A server would hear of a connection here.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let server = format!("http://{}", listener.local_addr().expect("it is bound"));
    let run = cli::run(&outbox, &server, "0");
    let options = [
        "--simulate",
        "js220,rate=10000,speed=max",
        "--duration",
        "30s",
        "--schedule",
        &hours,
    ];
    let mut child = Agent::new(&run).args(&options).spawn();
    let status = child.wait_for_status(&outbox, |status| status["sources"][0]["state"] == "ended");
    assert_eq!(status["link"]["state"], "down");
    assert!(status["link"]["closed_until"].is_string(), "{status}");
    assert!(cli::get(&outbox, "/metrics").contains("wavekeep_agent_schedule_open 0"));
    let people = Agent::new(&["status", "--once", "--outbox", &outbox]).output();
    assert!(
        people.stdout.contains("resting, as --schedule says, until "),
        "{}",
        people.stdout
    );
    std::thread::sleep(Duration::from_millis(300));
    let refused = listener.accept().expect_err("nobody connects");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    let output = child.interrupt();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("the upload waits until"), "{}", output.stderr);
    let verified = json(&Agent::new(&["outbox", "verify", &outbox, "--json"]).output().stdout);
    assert_eq!(verified["streams"][0]["samples"], 300_000, "the capture never noticed");
}
