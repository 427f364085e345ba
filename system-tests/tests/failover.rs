//! A database that loses commits it had acknowledged, with real Postgres instances: a replica that is promoted without them, a backup
//! that is restored, rows that are deleted, a database made anew. Agents notice, send again what their outboxes hold back, and say what
//! nobody holds any more.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::process::Command;
use std::time::Duration;

use wavekeep_proto::chunk::Reason;
use wavekeep_system_tests::cluster::{Cluster, Instance};
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::{Process, binary};
use wavekeep_system_tests::proxy::Proxy;
use wavekeep_system_tests::truth::Report;

const RATE: u64 = 200_000;
/// The instrument itself loses samples, now and then.
const SPEC: &str = "js220,rate=200000,seed=23,loss=1e-5";
const PATIENCE: Duration = Duration::from_secs(60);

/// In real time; chunks of 41 ms; until it is stopped.
fn record(lab: &Lab, url: &str, device: &str, more: &[&str]) -> Process {
    let mut options = vec!["--device", device, "--simulate", SPEC, "--chunk-period", "50ms"];
    options.extend(["--drain-wait", "60s"]);
    options.extend(more);
    lab.agent_at(url, device, &["run"], &options).unwrap()
}

/// Stops it once all is acked. How many samples it captured, by its outbox's word, those that the instrument lost included.
fn stop(lab: &Lab, agent: &mut Process, device: &str) -> u64 {
    agent.terminate(PATIENCE).unwrap();
    lab.tails(device).unwrap().values().sum()
}

fn wait_for_alarm(lab: &Lab, device: &str, kind: &str) {
    let what = format!("{device} alarms: {kind}");
    wait_for(&what, PATIENCE, || Ok(lab.alarms(device, kind)? > 0)).unwrap();
}

/// Every one of so many samples, but for those that the instrument lost itself.
#[track_caller]
fn all_of(report: &Report, captured: u64) {
    let lost_by_instrument = report.gaps.get(&Reason::SourceLoss).copied().unwrap_or_default();
    assert_eq!(report.samples + lost_by_instrument, captured, "{report:?}");
    assert_eq!(report.gap_samples(), lost_by_instrument, "{report:?}");
}

#[track_caller]
fn scrub(database: &Instance) {
    let mut command = Command::new(binary("wavekeep-server").unwrap());
    command.args(["scrub", "--database-url", &database.postgres.tcp_url()]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
}

/// Until the primary has acked a while's commits that the standby does not have.
fn commit_in_vain(cluster: &Cluster, device: &str) {
    cluster.second.wait_for_watermark(device, 15).unwrap();
    cluster.stop_replication();
    let replicated = cluster.second.watermark(device).unwrap();
    cluster.first.wait_for_watermark(device, replicated + 25).unwrap();
}

#[test]
fn i1_i13_a_promoted_replica_gets_again_what_it_never_had() {
    let mut cluster = Cluster::start().unwrap();
    let mut lab = Lab::on(&cluster.url()).unwrap();
    lab.start_server().unwrap();
    let mut agent = record(&lab, &lab.url(), "promoted", &[]);
    commit_in_vain(&cluster, "promoted");
    let (before, after) = cluster.fail_over("promoted").unwrap();
    assert!(after + 20 <= before, "commits are lost: {before} before, {after} after");
    wait_for_alarm(&lab, "promoted", "rewound");
    let captured = stop(&lab, &mut agent, "promoted");
    let log = agent.log();
    assert!(
        log.contains("sending again from there") && !log.contains("are lost"),
        "{log}"
    );
    let (streams, report) = cluster.second.check(&lab.url(), "promoted").unwrap();
    assert_eq!(streams, 1);
    all_of(&report, captured);
    scrub(&cluster.second);
}

#[test]
fn i7_i13_an_old_primary_that_returns_is_fenced() {
    let mut cluster = Cluster::start().unwrap();
    let mut lab = Lab::on(&cluster.url()).unwrap();
    lab.start_server().unwrap();
    let front = Proxy::start(lab.address()).unwrap();
    let mut agent = record(&lab, &front.url(), "returned", &[]);
    commit_in_vain(&cluster, "returned");
    let (before, after) = cluster.fail_over("returned").unwrap();
    assert!(after < before, "commits are lost");
    wait_for_alarm(&lab, "returned", "rewound");
    let healed = cluster.second.watermark("returned").unwrap();
    cluster.second.wait_for_watermark("returned", healed + 10).unwrap();

    // The address moves back to it, as one of a multi-master mistake does.
    cluster.first.postgres.restart().unwrap();
    cluster.address.lead_to(cluster.first.postgres.address());
    cluster.address.cut();
    wait_for("the server is not ready", PATIENCE, || Ok(!lab.is_ready())).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(!lab.is_ready(), "an old primary is none");
    assert_eq!(cluster.first.watermark("returned").unwrap(), before);
    cluster.address.lead_to(cluster.second.postgres.address());
    cluster.address.cut();
    wait_for("the server is ready", PATIENCE, || Ok(lab.is_ready())).unwrap();

    // A server that has always known only the old one, and all agents come to it.
    let mut old = Lab::on(&cluster.first.postgres.tcp_url()).unwrap();
    old.start_server().unwrap();
    front.lead_to(old.address());
    front.cut();
    wait_for_alarm(&lab, "returned", "old_primary");
    assert_eq!(
        cluster.first.watermark("returned").unwrap(),
        before,
        "nothing is entrusted to it"
    );
    front.lead_to(lab.address());
    front.cut();
    let captured = stop(&lab, &mut agent, "returned");
    assert_eq!(cluster.first.watermark("returned").unwrap(), before);
    let (_, report) = cluster.second.check(&lab.url(), "returned").unwrap();
    all_of(&report, captured);
    scrub(&cluster.second);
}

#[test]
fn i13_i14_a_restored_backup_is_filled_from_hold_back_and_the_rest_is_one_named_gap() {
    let mut database = Instance::start().unwrap();
    let mut lab = Lab::on(&database.postgres.tcp_url()).unwrap();
    lab.start_server().unwrap();
    let mut patient = record(&lab, &lab.url(), "patient", &[]);
    let mut hasty = record(&lab, &lab.url(), "hasty", &["--hold-back", "500ms"]);
    database.wait_for_watermark("patient", 20).unwrap();
    database.wait_for_watermark("hasty", 20).unwrap();
    let backup = database.postgres.back_up().unwrap();
    let at_backup = database.watermark("hasty").unwrap();
    database.wait_for_watermark("hasty", at_backup + 70).unwrap();
    database.postgres.restore(backup).unwrap();
    wait_for_alarm(&lab, "patient", "rewound");
    wait_for_alarm(&lab, "hasty", "rewound");
    wait_for_alarm(&lab, "hasty", "lost");
    assert_eq!(lab.alarms("hasty", "lost").unwrap(), 1);
    assert_eq!(lab.alarms("patient", "lost").unwrap(), 0);
    let captured = stop(&lab, &mut patient, "patient");

    let (_, report) = database.check(&lab.url(), "patient").unwrap();
    all_of(&report, captured);
    let captured = stop(&lab, &mut hasty, "hasty");
    let (streams, mut report) = database.check(&lab.url(), "hasty").unwrap();
    let lost = report.gaps.remove(&Reason::LostByServer).unwrap_or_default();
    assert!(lost > RATE / 2 && lost < captured / 2, "{lost} samples are lost");
    let by_instrument = report.gap_samples();
    assert!(
        report.gaps.keys().all(|reason| *reason == Reason::SourceLoss),
        "{report:?}"
    );
    assert_eq!((streams, report.samples + by_instrument + lost), (1, captured));
    let gaps = "SELECT count(*) FROM chunk WHERE kind = 2 AND reason = 3";
    assert_eq!(
        database.number(gaps).unwrap(),
        Some(1),
        "one gap stands for all of them"
    );
    let said = lab.reader(&["gaps", "--device", "hasty"]).unwrap();
    assert!(said.contains("lost_by_server"), "{said}");
    let log = hasty.log();
    let error = log.lines().find(|line| line.contains("are lost"));
    assert!(error.is_some_and(|line| line.contains("ERROR")), "{log}");
    scrub(&database);
}

#[test]
fn i1_i13_a_stream_whose_row_is_gone_is_stored_again() {
    let database = Instance::start().unwrap();
    let mut lab = Lab::on(&database.postgres.tcp_url()).unwrap();
    lab.start_server().unwrap();
    let mut agent = record(&lab, &lab.url(), "deleted", &[]);
    database.wait_for_watermark("deleted", 30).unwrap();
    // With it go all of its rows, while its session has chunks under way.
    database.run("DELETE FROM stream WHERE device = 'deleted'").unwrap();
    wait_for_alarm(&lab, "deleted", "rewound");
    let captured = stop(&lab, &mut agent, "deleted");
    let (streams, report) = database.check(&lab.url(), "deleted").unwrap();
    assert_eq!(streams, 1);
    all_of(&report, captured);
    scrub(&database);
}

#[test]
fn a_database_made_anew_gets_nothing_until_a_person_says_so() {
    let mut database = Instance::start().unwrap();
    let empty = Instance::start().unwrap();
    let address = Proxy::start(database.postgres.address()).unwrap();
    let url = |of: &Instance| {
        of.postgres
            .tcp_url()
            .replace(&of.postgres.address().to_string(), &address.address().to_string())
    };
    let mut lab = Lab::on(&url(&database)).unwrap();
    lab.start_server().unwrap();
    let mut agent = record(&lab, &lab.url(), "anew", &["--duration", "4s"]);
    database.wait_for_watermark("anew", 20).unwrap();
    address.lead_to(empty.postgres.address());
    database.postgres.stop();
    address.cut();
    wait_for_alarm(&lab, "anew", "wrong_ledger");
    let log = agent.log();
    assert!(
        log.contains("this outbox belongs to ledger") && log.contains("give that server an outbox of its own"),
        "{log}"
    );
    wait_for("the capture goes on to its end", PATIENCE, || {
        Ok(agent.log().contains("the capture ended"))
    })
    .unwrap();
    agent.kill9().unwrap();
    assert_eq!(
        empty.number("SELECT count(*) FROM stream").unwrap(),
        Some(0),
        "nothing was sent"
    );
    rebind(&lab, "anew");
    let mut next = lab
        .agent_at(
            &lab.url(),
            "anew",
            &["run"],
            &["--device", "next", "--simulate", SPEC, "--duration", "1s"],
        )
        .unwrap();
    next.wait_success(PATIENCE).unwrap();
    let (_, report) = empty.check(&lab.url(), "anew").unwrap();
    all_of(&report, 4 * RATE);
    scrub(&empty);
}

/// Without `--yes`, and without a terminal, nothing happens.
fn rebind(lab: &Lab, outbox: &str) {
    let directory = lab.outbox(outbox);
    let rebind = |yes: &[&str]| {
        let mut command = Command::new(binary("wavekeep-agent").unwrap());
        command.args(["outbox", "rebind"]).arg(&directory).args(yes);
        command.output().unwrap()
    };
    let asked = rebind(&[]);
    assert_eq!(asked.status.code(), Some(1), "nobody said yes");
    assert!(
        String::from_utf8_lossy(&asked.stderr).contains("--yes` does it"),
        "{asked:?}"
    );
    assert!(rebind(&["--yes"]).status.success());
}

#[test]
fn i13_what_has_ended_and_what_was_replayed_is_healed_by_the_next_agent_on_its_outbox() {
    let mut database = Instance::start().unwrap();
    let mut lab = Lab::on(&database.postgres.tcp_url()).unwrap();
    lab.start_server().unwrap();
    let samples: Vec<u8> = (0..400_000u32)
        .flat_map(|sample| (sample as f32).sin().to_le_bytes())
        .collect();
    let file = lab.folder().join("file.bin");
    std::fs::write(&file, &samples).unwrap();
    let replay = || {
        let verb = ["replay", file.to_str().unwrap()];
        let options = "--device scope --format raw --dtype f32 --rate 100000 --signal u:V --start 2026-01-02T03:04:05Z";
        let options: Vec<&str> = options.split(' ').collect();
        let mut agent = lab.agent("files", &verb, &options).unwrap();
        agent.wait_success(PATIENCE).unwrap();
    };
    let backup = database.postgres.back_up().unwrap();
    record(&lab, &lab.url(), "ended", &["--duration", "2s"])
        .wait_success(PATIENCE)
        .unwrap();
    replay();
    database.postgres.restore(backup).unwrap();
    wait_for("the server is ready", PATIENCE, || Ok(lab.is_ready())).unwrap();
    assert_eq!(
        database.number("SELECT count(*) FROM stream").unwrap(),
        Some(0),
        "all of it is gone"
    );

    replay();
    let mut next = lab
        .agent_at(
            &lab.url(),
            "ended",
            &["run"],
            &["--device", "next", "--simulate", SPEC, "--duration", "1s"],
        )
        .unwrap();
    next.wait_success(PATIENCE).unwrap();
    let (streams, report) = database.check(&lab.url(), "ended").unwrap();
    assert_eq!(streams, 1);
    all_of(&report, 2 * RATE);
    let ended = "SELECT count(*) FROM stream WHERE ended";
    assert_eq!(database.number(ended).unwrap(), Some(3), "each with its end");
    let out = lab.folder().join("file.out");
    let export = [
        "export",
        "--device",
        "scope",
        "--format",
        "raw",
        "--output",
        out.to_str().unwrap(),
    ];
    lab.reader(&export).unwrap();
    assert!(std::fs::read(out).unwrap() == samples, "byte for byte");
    scrub(&database);
}
