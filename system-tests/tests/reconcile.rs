//! `wavekeep reconcile` beside real agents and servers: it adds up in the middle of a capture, while the server is away, after losses,
//! evictions, quarantine and damage, by every word on what was captured; and when a row is gone it does not.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::{Process, binary};

const PATIENCE: Duration = Duration::from_secs(90);
const RATE: u64 = 100_000;
/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn command(lab: &Lab, options: &[&str]) -> Output {
    let mut command = Command::new(binary("wavekeep").unwrap());
    command.env("WAVEKEEP_SERVER", lab.url()).arg("reconcile").args(options);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The exit code, and what is said of each stream.
fn reconcile(lab: &Lab, options: &[&str]) -> (i32, Vec<Value>) {
    let output = command(lab, &[&["--json"], options].concat());
    let said = text(&output.stdout);
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code().unwrap(), lines.collect())
}

fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("{field} of {line}"))
}

/// Every stream adds up; the sum is done again here.
#[track_caller]
fn adds_up(lab: &Lab, options: &[&str]) -> Vec<Value> {
    let (code, lines) = reconcile(lab, options);
    assert_eq!(code, 0, "{lines:?}");
    for line in &lines {
        let fields = [
            "stored",
            "gap_sample_count",
            "quarantined",
            "succeeded",
            "dropped",
            "in_outbox",
        ];
        let there: u64 = fields.iter().map(|field| line[*field].as_u64().unwrap_or(0)).sum();
        assert!(line["adds_up"] == true && line["difference"] == 0, "{line}");
        assert_eq!(line["captured"].as_u64().unwrap_or(there), there, "{line}");
    }
    lines
}

#[track_caller]
fn one(lines: Vec<Value>) -> Value {
    let [line] = lines.try_into().unwrap();
    line
}

fn spec(seed: u64) -> String {
    format!("js220,rate={RATE},seed={seed},loss=1e-5")
}

fn capture(lab: &Lab, url: &str, outbox: &str, device: &str, more: &[&str]) -> Process {
    let spec = spec(device.len() as u64);
    let mut options = vec!["--device", device, "--simulate", &spec, "--chunk-period", "100ms"];
    options.extend(more);
    lab.agent_at(url, outbox, &["run"], &options).unwrap()
}

fn stored_more_than(lab: &Lab, options: &[&str], samples: u64) {
    wait_for("it is stored", PATIENCE, || {
        let (_, lines) = reconcile(lab, options);
        Ok(lines.iter().any(|line| line["stored"].as_u64() > Some(samples)))
    })
    .unwrap();
}

#[test]
fn i13_a_capture_adds_up_while_it_runs_while_the_server_is_away_and_once_it_has_ended() {
    let mut lab = Lab::start().unwrap();
    let outbox = lab.outbox("bench");
    let of_device = ["--device", "bench"];
    let beside = ["--device", "bench", "--outbox", outbox.to_str().unwrap()];
    let mut agent = capture(&lab, &lab.url(), "bench", "bench", &["--drain-wait", "60s"]);
    stored_more_than(&lab, &of_device, RATE);
    let socket = outbox.join("agent.sock");
    for _ in 0..20 {
        let line = one(adds_up(&lab, &beside));
        assert_eq!((&line["captured_by"], &line["ended"]), (&"agent".into(), &false.into()));
        one(adds_up(
            &lab,
            &["--device", "bench", "--agent-socket", socket.to_str().unwrap()],
        ));
    }
    // From anywhere: by what the server hears of the agent.
    wait_for("a heartbeat is heard", PATIENCE, || {
        let line = one(adds_up(&lab, &of_device));
        Ok(line["captured_by"] == "heartbeat" && line["captured_age_ms"].as_u64() < Some(60_000))
    })
    .unwrap();

    lab.kill_server().unwrap();
    let away = command(&lab, &beside);
    assert_eq!(away.status.code(), Some(1), "who is asked is not there");
    std::thread::sleep(Duration::from_secs(2));
    lab.start_server().unwrap();
    let line = one(adds_up(&lab, &beside));
    assert!(number(&line, "in_outbox") > RATE, "what was captured meanwhile: {line}");
    let before = number(&line, "stored");
    while number(&one(adds_up(&lab, &beside)), "stored") < before + 2 * RATE {}

    agent.terminate(PATIENCE).unwrap();
    let captured: u64 = lab.tails("bench").unwrap().values().sum();
    for (options, by) in [(&beside[..], "agent"), (&of_device[..], "end")] {
        let line = one(adds_up(&lab, options));
        assert_eq!(
            (
                &line["captured_by"],
                number(&line, "captured"),
                number(&line, "in_outbox")
            ),
            (&by.into(), captured, 0)
        );
        assert!(number(&line["gaps"], "source_loss") > 0, "{line}");
    }
    let said = text(&command(&lab, &beside).stdout);
    for part in ["captured", "gap source_loss", "in the outbox", "\n  adds up\n"] {
        assert!(said.contains(part), "{said}");
    }
    gone_is_noticed(&lab, &of_device, captured);

    // The stream's row is gone with all of it, and the outbox will heal that.
    lab.execute("DELETE FROM stream").unwrap();
    let line = one(adds_up(&lab, &beside));
    assert_eq!(number(&line, "in_outbox"), captured, "{line}");
    // Acks are noted once in a while.
    assert!(number(&line, "behind") > captured / 2, "{line}");
    let unknown = command(&lab, &of_device);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("no device"), "{}", text(&unknown.stderr));
}

/// Rows that somebody deletes or changes.
fn gone_is_noticed(lab: &Lab, options: &[&str], captured: u64) {
    lab.execute("CREATE TABLE kept AS SELECT * FROM chunk WHERE seq = 5; DELETE FROM chunk WHERE seq = 5")
        .unwrap();
    let (code, lines) = reconcile(lab, options);
    let line = one(lines);
    assert_eq!((code, &line["adds_up"]), (1, &false.into()), "{line}");
    let there = number(&line, "stored") + number(&line, "gap_sample_count");
    assert!(number(&line, "difference") > 0, "{line}");
    assert_eq!(there + number(&line, "difference"), captured, "{line}");
    let output = command(lab, options);
    assert!(
        text(&output.stdout).contains("DOES NOT ADD UP: rows of"),
        "{}",
        text(&output.stdout)
    );
    let error = text(&output.stderr);
    assert!(
        error.starts_with("error: stream ") && error.contains("wavekeep-server scrub"),
        "{error}"
    );
    lab.execute("INSERT INTO chunk SELECT * FROM kept").unwrap();
    adds_up(lab, options);
    lab.execute("INSERT INTO chunk SELECT * FROM kept").unwrap();
    let (code, lines) = reconcile(lab, options);
    assert!(code == 1 && one(lines)["difference"].as_i64() < Some(0));
    lab.execute(
        "DELETE FROM chunk WHERE seq = 5; INSERT INTO chunk SELECT * FROM kept; DROP TABLE kept; UPDATE stream SET sample_count = sample_count - 1",
    )
    .unwrap();
    let (code, lines) = reconcile(lab, options);
    assert!(code == 1 && one(lines)["findings"].to_string().contains("its row counts"));
    lab.execute("UPDATE stream SET sample_count = sample_count + 1")
        .unwrap();
    adds_up(lab, options);
}

#[test]
fn i13_several_devices_of_a_run_add_up_after_evictions_and_before_any_server_knew_of_them() {
    let lab = Lab::start().unwrap();
    // About 30 MB a second into the smallest quota, and nobody takes it.
    let options = [
        "--device",
        "evicts",
        "--run",
        "night",
        "--simulate",
        "js220,rate=2000000,seed=5,loss=1e-5,speed=4",
        "--quota",
        "64MiB",
        "--when-full",
        "evict",
    ];
    let mut agent = lab.agent_at(NOWHERE, "disk", &["run"], &options).unwrap();
    wait_for("samples are evicted", PATIENCE, || {
        Ok(agent.log().contains("were evicted"))
    })
    .unwrap();
    let outbox = lab.outbox("disk");
    let beside = ["--run", "night", "--outbox", outbox.to_str().unwrap()];
    let line = one(adds_up(&lab, &beside));
    assert_eq!(number(&line, "in_outbox"), number(&line, "captured"), "{line}");
    assert!(number(&line, "captured") > 0 && number(&line, "stored") == 0, "{line}");
    agent.kill9().unwrap();
    let line = one(adds_up(&lab, &beside));
    assert_eq!(
        line["captured_by"], "agent",
        "an outbox without an agent is read: {line}"
    );

    let mut second = capture(
        &lab,
        &lab.url(),
        "disk",
        "other",
        &["--run", "night", "--duration", "2s"],
    );
    let mut third = capture(
        &lab,
        &lab.url(),
        "elsewhere",
        "third",
        &["--run", "night", "--duration", "2s"],
    );
    second.wait_success(PATIENCE).unwrap();
    third.wait_success(PATIENCE).unwrap();
    for options in [&beside[..], &beside[..2]] {
        let lines = adds_up(&lab, options);
        let mut devices: Vec<&str> = lines.iter().map(|line| line["device"].as_str().unwrap()).collect();
        // They started together: either may come first.
        devices[1..].sort_unstable();
        assert_eq!(devices, ["evicts", "other", "third"]);
        let line = &lines[0];
        assert!(
            number(&line["gaps"], "evicted") > 0 && number(line, "stored") > 0,
            "{line}"
        );
        assert_eq!((&line["end_reason"], number(line, "in_outbox")), (&"crashed".into(), 0));
    }
    let said = text(&command(&lab, &beside).stdout);
    assert!(said.contains("3 streams: ") && said.contains("all add up"), "{said}");
    let (_, others) = reconcile(&lab, &["--device", "third", "--outbox", outbox.to_str().unwrap()]);
    assert_eq!(one(others)["captured_by"], "end", "that outbox knows nothing of it");
}

#[test]
fn i13_quarantine_and_damaged_outboxes_add_up() {
    let lab = Lab::start().unwrap();
    // The database refuses one chunk for what it is.
    lab.execute("ALTER TABLE chunk_signal ADD CONSTRAINT odd CHECK (seq <> 4)")
        .unwrap();
    let mut agent = capture(&lab, &lab.url(), "disk", "poison", &["--duration", "2s"]);
    agent.wait_success(PATIENCE).unwrap();
    let line = one(adds_up(&lab, &["--device", "poison"]));
    assert!(number(&line, "quarantined") > 0, "{line}");
    lab.execute("ALTER TABLE chunk_signal DROP CONSTRAINT odd; UPDATE stream SET quarantined = 0")
        .unwrap();
    let (code, lines) = reconcile(&lab, &["--device", "poison"]);
    assert!(code == 1 && one(lines)["findings"].to_string().contains("in quarantine"));
    lab.execute("UPDATE stream SET quarantined = 1").unwrap();

    // Once an outbox was opened again, what it held is in files.
    for (device, samples) in [("damaged", 3 * RATE), ("again", 4 * RATE)] {
        let mut agent = capture(&lab, NOWHERE, "damaged", device, &["--drain-wait", "0s"]);
        let captured = || lab.tails("damaged").map(|tails| tails.values().sum::<u64>());
        wait_for("it captures", PATIENCE, || {
            Ok(captured().is_ok_and(|captured| captured > samples))
        })
        .unwrap();
        agent.terminate(PATIENCE).unwrap();
    }
    damage(&lab.outbox("damaged"));
    let mut agent = capture(&lab, &lab.url(), "damaged", "after", &["--duration", "1s"]);
    agent.wait_success(PATIENCE).unwrap();
    let outbox = lab.outbox("damaged");
    for options in [
        &["--device", "damaged", "--outbox", outbox.to_str().unwrap()][..],
        &["--device", "damaged"],
    ] {
        let line = one(adds_up(&lab, options));
        assert!(number(&line["gaps"], "corrupt") > 0, "{line}");
    }
}

/// Flips bits in the largest file of columns.
fn damage(outbox: &Path) {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "blob") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(outbox, &mut found);
    let largest = found.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len());
    let largest = largest.expect("columns are in files of their own");
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0xa5);
    std::fs::write(largest, bytes).unwrap();
}
