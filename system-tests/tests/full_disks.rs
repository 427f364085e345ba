//! A full disk on either side: what was stored arrives, what was captured is kept or named, and it goes on once there is room.
//!
//! The small disks are file systems in memory, mounted in a namespace of the test's own: each test runs itself again there, and
//! no other process sees them.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::time::Duration;

use sqlx::Row;
use wavekeep_agent::admin::{ask_status, socket_of};
use wavekeep_agent::outbox::FREE_BYTES_MIN_DEFAULT;
use wavekeep_proto::chunk::Reason;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::small_disk::{self, free_bytes};
use wavekeep_system_tests::stored;
use wavekeep_system_tests::truth::check_lab;

const PATIENCE: Duration = Duration::from_secs(90);
/// Set where mounts are the test's own.
const OWN_MOUNTS: &str = "WAVEKEEP_TEST_OWN_MOUNTS";
const MIB: u64 = 1024 * 1024;

/// True in the namespace. Elsewhere, runs this test there, and says false once it has passed.
fn has_own_mounts(test: &str) -> bool {
    if std::env::var_os(OWN_MOUNTS).is_some() {
        return true;
    }
    let status = small_disk::namespace()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OWN_MOUNTS, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    false
}

#[test]
fn i1_disk_full_under_the_database_stops_acks_and_loses_nothing() {
    if !has_own_mounts("i1_disk_full_under_the_database_stops_acks_and_loses_nothing") {
        return;
    }
    let mut lab = Lab::stopped(&[]).unwrap();
    let disk = lab.data();
    small_disk::mount(&disk, 700 * MIB).unwrap();
    lab.start_server().unwrap();
    // Somebody else's files, which the operator deletes later.
    let ballast = disk.join("ballast");
    let room = free_bytes(&disk).unwrap();
    std::fs::write(&ballast, vec![1; (room - 100 * MIB) as usize]).unwrap();
    // About 150 MB of chunks, which take twice that for the rows and the database's log.
    let spec = "js220,rate=2000000,seed=9,speed=4";
    let options = ["--device", "full-2", "--simulate", spec, "--duration", "20s"];
    let mut agent = lab.agent("full-2", &["run"], &options).unwrap();
    // The log grows by 16 MiB: less than that is nothing.
    wait_for("the database's disk is full", PATIENCE, || {
        Ok(free_bytes(&disk)? < 16 * MIB)
    })
    .unwrap();
    wait_for("the server says that it is not ready", PATIENCE, || Ok(!lab.is_ready())).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        !agent.has_ended().unwrap(),
        "it waits until all is committed:\n{}",
        agent.log_tail()
    );
    std::fs::remove_file(&ballast).unwrap();
    agent.wait_success(PATIENCE).unwrap();
    let (streams, report) = check_lab(&lab, "full-2").unwrap();
    assert_eq!(streams, 1);
    assert_eq!(
        report.samples + report.gap_samples(),
        40_000_000,
        "20 s at 2 MSPS: {report:?}"
    );
    assert!(
        report.gaps.keys().all(|reason| *reason == Reason::SourceLoss),
        "{report:?}"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let quarantined: i64 = runtime.block_on(async {
        let mut connection = stored::sql(&lab.database_url().unwrap()).await.unwrap();
        let row = sqlx::query("SELECT count(*) FROM quarantine")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        row.get(0)
    });
    assert_eq!(quarantined, 0, "a full disk is no fault of a chunk");
    let log = lab.server.as_ref().unwrap().log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn i13_disk_full_under_the_agent_evicts_the_oldest_by_name_and_keeps_what_fits() {
    if !has_own_mounts("i13_disk_full_under_the_agent_evicts_the_oldest_by_name_and_keeps_what_fits") {
        return;
    }
    let mut lab = Lab::start().unwrap();
    lab.kill_server().unwrap();
    let disk = lab.outbox("full-1");
    small_disk::mount(&disk, 500 * MIB).unwrap();
    let spec = "js220,rate=2000000,seed=3,speed=8";
    let options = ["--device", "full-1", "--simulate", spec, "--duration", "80s"];
    let mut agent = lab
        .agent("full-1", &["run"], &[&options[..], &["--when-full", "evict"]].concat())
        .unwrap();
    for (what, line) in [
        ("the outbox evicts", "were evicted"),
        ("all is captured", "the capture ended"),
    ] {
        wait_for(what, PATIENCE, || Ok(agent.log().contains(line) || agent.has_ended()?)).unwrap();
        assert!(agent.log().contains(line), "{}", agent.log_tail());
    }
    let status = ask_status(&socket_of(&disk, None)).unwrap();
    let held_bytes = status["outbox"]["held_bytes"].as_u64().unwrap();
    // What the outbox keeps free is not held, and a log and half-empty files take some.
    let may_hold_bytes = 500 * MIB - FREE_BYTES_MIN_DEFAULT;
    assert!(
        held_bytes > may_hold_bytes / 2,
        "what fits is kept: {held_bytes} bytes of {may_hold_bytes}\n{}",
        agent.log_tail()
    );
    lab.start_server().unwrap();
    agent.wait_success(PATIENCE).unwrap();
    assert!(!agent.log().contains("panicked"), "{}", agent.log_tail());
    let (streams, report) = check_lab(&lab, "full-1").unwrap();
    assert_eq!(streams, 1);
    assert_eq!(
        report.samples + report.gap_samples(),
        160_000_000,
        "80 s at 2 MSPS: {report:?}"
    );
    assert!(
        report.samples > 0 && report.gaps.contains_key(&Reason::Evicted),
        "{report:?}"
    );
    let explained = |reason: &Reason| matches!(reason, Reason::Evicted | Reason::SourceLoss);
    assert!(report.gaps.keys().all(explained), "{report:?}");
}
