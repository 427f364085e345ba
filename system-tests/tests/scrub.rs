//! `wavekeep-server scrub` as people run it: what it prints, its exit codes, and its state file; on what a real agent recorded.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use wavekeep_system_tests::lab::{Lab, fast_simulation};
use wavekeep_system_tests::process::binary;

fn scrub(lab: &Lab, options: &[&str]) -> Output {
    Command::new(binary("wavekeep-server").unwrap())
        .arg("scrub")
        .args(options)
        .env("WAVEKEEP_DATABASE_URL", lab.database_url().unwrap())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_is_damaged_is_told_and_ends_with_1() {
    let lab = Lab::start().unwrap();
    let options = fast_simulation("bench-1", "js220,rate=100000,seed=3,speed=max", "20s");
    let mut agent = lab.agent("bench", &["run"], &options).unwrap();
    agent.wait_success(Duration::from_secs(60)).unwrap();

    let whole = scrub(&lab, &[]);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let said = text(&whole.stdout);
    assert!(
        said.contains("everything is as it was captured") && said.contains("looked at 1 stream,"),
        "{said}"
    );

    let flip = "UPDATE chunk_signal SET payload = set_bit(payload, 4000, 1 - get_bit(payload, 4000)) WHERE seq = 9 AND signal = 1";
    assert_eq!(lab.execute(flip).unwrap(), 1);
    let damaged = scrub(&lab, &["--device", "bench-1", "--json"]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(
        text(&damaged.stderr).contains("1 finding in workspace main"),
        "{}",
        text(&damaged.stderr)
    );
    let said = text(&damaged.stdout);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), &lines[0]["seq"], &lines[0]["device"]),
        (2, &9.into(), &"bench-1".into()),
        "{said}"
    );
    assert_eq!(lines[1]["findings"], 1);
    assert_eq!(lab.execute(flip).unwrap(), 1);

    // A state that is of something else is not gone on with, and one that is whole is gone at the end.
    let state = lab.folder().join("scrub.json");
    let path = state.to_str().unwrap();
    fs::write(&state, "{}").unwrap();
    let refused = scrub(&lab, &["--state", path]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("no state of a scrub"),
        "{}",
        text(&refused.stderr)
    );
    fs::remove_file(&state).unwrap();
    assert!(scrub(&lab, &["--state", path, "--rate", "100MB"]).status.success());
    assert!(!state.exists());

    assert_eq!(
        scrub(&lab, &["--device", "bench-2"]).status.code(),
        Some(1),
        "a name that is mistyped"
    );
    assert_eq!(scrub(&lab, &["--rate", "fast"]).status.code(), Some(2));
    assert_eq!(scrub(&lab, &["--workspace", "no_such"]).status.code(), Some(1));
}
