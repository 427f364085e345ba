//! What the fsync policy promises, on RocksDB itself: a power cut takes what was not synced, and no more.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::time::Duration;

use wavekeep_proto::chunk::Reason;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::power::PowerCut;
use wavekeep_system_tests::truth::check_lab;

const PATIENCE: Duration = Duration::from_secs(90);

/// Records until well after a moment, then cuts the power. Returns how much the outbox held at that moment, and holds after the
/// cut: samples, both of the one stream.
fn cut_while_recording(lab: &Lab, device: &str, fsync: &str) -> (u64, u64) {
    let cut = PowerCut::prepare(lab.folder()).unwrap();
    let spec = "js220,rate=200000,seed=11,loss=1e-5";
    let options = [
        "--device",
        device,
        "--simulate",
        spec,
        "--duration",
        "600s",
        "--fsync",
        fsync,
    ];
    let mut agent = lab.agent_under(&cut, device, &options).unwrap();
    let held = || -> anyhow::Result<u64> { Ok(lab.tails(device)?.into_values().next().unwrap_or(0)) };
    wait_for("two seconds are recorded", PATIENCE, || {
        Ok(held().unwrap_or(0) > 400_000)
    })
    .unwrap();
    let at_mark = held().unwrap();
    // Ten times the sync period: the disk may be busy.
    std::thread::sleep(Duration::from_secs(1));
    agent.kill9().unwrap();
    let gone = cut.cut(&lab.outbox(device).join("store")).unwrap();
    eprintln!("the power took {gone} bytes");
    (at_mark, held().unwrap_or(0))
}

#[test]
fn what_reached_the_outbox_longer_ago_than_its_sync_period_survives_a_power_cut() {
    let lab = Lab::start().unwrap();
    let (at_mark, after) = cut_while_recording(&lab, "synced-1", "interval");
    assert!(
        after >= at_mark,
        "the outbox held {at_mark} samples a second before the cut, and {after} after it"
    );
    // The server may have what the power took: it is adopted, and the stream ends.
    let options = [
        "--device",
        "synced-1",
        "--simulate",
        "js220,rate=200000,seed=12",
        "--duration",
        "1s",
    ];
    lab.agent("synced-1", &["run"], &options)
        .unwrap()
        .wait_success(PATIENCE)
        .unwrap();
    let (streams, report) = check_lab(&lab, "synced-1").unwrap();
    assert_eq!(streams, 2);
    assert!(report.samples + report.gap_samples() >= at_mark + 200_000, "{report:?}");
    assert!(
        report.gaps.keys().all(|reason| *reason == Reason::SourceLoss),
        "{report:?}"
    );
}

#[test]
fn without_syncs_a_power_cut_takes_what_this_test_says_it_does() {
    // If nothing were lost here, the test above would prove nothing.
    let lab = Lab::start().unwrap();
    let (at_mark, after) = cut_while_recording(&lab, "unsynced-1", "never");
    assert!(after < at_mark, "{after} of {at_mark} samples survive without a sync");
}
