//! A disk damages an outbox, and people treat it: `outbox verify`, `outbox export` and a replay of what that wrote; `outbox repair`
//! and the agent again; or the agent alone. Whichever comes first, and whatever is done after it to the same streams: what is stored is
//! what was captured, bit by bit and once, the rest is in named gaps, and no program crashes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use wavekeep_proto::chunk::Reason;
use wavekeep_system_tests::damage::{DAMAGES, Damage, clone_disk, damage, store_files};
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::binary;
use wavekeep_system_tests::truth::{Report, check_lab};

const PATIENCE: Duration = Duration::from_secs(90);
const RATE: u64 = 100_000;

fn spec(number: usize) -> String {
    format!("js220,rate={RATE},seed={number},loss=1e-4")
}

/// Fills an outbox whose server is not there: a stream in sorted files and blob files, and one in the log. The agents of several run
/// side by side.
fn fill(lab: &Lab, numbers: &[usize]) {
    for (seconds, samples) in [("2s", 2 * RATE), ("1s", 3 * RATE)] {
        let agents: Vec<_> = numbers
            .iter()
            .map(|number| {
                let (device, spec) = (format!("bench-{number}"), spec(*number));
                let options = [
                    "--device",
                    &device,
                    "--simulate",
                    &spec,
                    "--duration",
                    seconds,
                    "--chunk-period",
                    "50ms",
                    "--drain-wait",
                    "0s",
                ];
                lab.agent(&device, &["run"], &options).unwrap()
            })
            .collect();
        for (number, mut agent) in numbers.iter().zip(agents) {
            let device = format!("bench-{number}");
            let captured = || lab.tails(&device).map(|tails| tails.values().sum::<u64>() >= samples);
            wait_for("it captures", PATIENCE, || Ok(captured().unwrap_or(false))).unwrap();
            assert!(
                !agent.terminate(PATIENCE).unwrap().success(),
                "{number}: nothing was delivered"
            );
        }
    }
}

fn doctor(lab: &Lab, verb: &str, outbox: &str, options: &[&str]) -> Output {
    let mut command = Command::new(binary("wavekeep-agent").unwrap());
    command.args(["outbox", verb]).arg(lab.outbox(outbox)).args(options);
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{verb}: {:?} {log}",
        output.status
    );
    assert!(!log.contains("panicked"), "{log}");
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Samples stored, and in gaps `corrupt`; `None` if nothing of the device came.
fn stored(lab: &Lab, device: &str, what: &str) -> Option<(u64, u64)> {
    let devices = lab.reader(&["--json", "devices"]).unwrap();
    if !devices.contains(&format!("\"{device}\"")) {
        return None;
    }
    let (_, report) = check_lab(lab, device).unwrap_or_else(|error| panic!("{what}: {error:#}"));
    let Report { samples, gaps, .. } = &report;
    let known = [Reason::SourceLoss, Reason::Corrupt];
    assert!(gaps.keys().all(|reason| known.contains(reason)), "{what}: {gaps:?}");
    Some((*samples, gaps.get(&Reason::Corrupt).copied().unwrap_or(0)))
}

fn sum(streams: &Value, field: &str) -> u64 {
    streams
        .as_array()
        .into_iter()
        .flatten()
        .map(|stream| stream[field].as_u64().unwrap())
        .sum()
}

/// Verify, export, and a replay of each file: stored is exactly what was intact.
fn export_and_replay(lab: &Lab, outbox: &str, device: &str, first: bool, what: &str) {
    let verified = doctor(lab, "verify", outbox, &["--json"]);
    let diagnosis = json(&verified);
    assert_eq!(
        verified.status.success(),
        diagnosis["intact"] == true,
        "{what}: {diagnosis}"
    );
    let files = lab.folder().join(format!("{outbox}-files"));
    let output = doctor(lab, "export", outbox, &["--json", "--output", files.to_str().unwrap()]);
    let nothing_is_left = output.stdout.is_empty() || json(&output)["files"].as_array().unwrap().is_empty();
    if nothing_is_left {
        assert!(!output.status.success(), "{what}");
        return;
    }
    let manifest = json(&output);
    assert_eq!(
        output.status.success(),
        manifest["intact"] == true,
        "{what}: {manifest}"
    );
    for again in ["first", "again"] {
        let options = ["--device", device, "--drain-wait", "1s"];
        let path = files.to_str().unwrap();
        let verb = ["replay", path, "--format", "chunks"];
        let mut replay = lab
            .agent(&format!("{outbox}-carried-{again}"), &verb, &options)
            .unwrap();
        replay
            .wait_success(PATIENCE)
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        let (samples, corrupt) = stored(lab, device, what).expect("it was replayed");
        if first {
            assert_eq!(
                samples,
                sum(&manifest["files"], "samples"),
                "{what} ({again}): exactly what is intact"
            );
            assert_eq!(corrupt, sum(&manifest["files"], "damaged_samples"), "{what} ({again})");
        }
    }
}

/// Verify, repair, and the agent again.
fn repair_and_run(lab: &Lab, outbox: &str, device: &str, first: bool, what: &str) {
    let intact = doctor(lab, "verify", outbox, &["--json"]).status.success();
    if !intact {
        assert!(
            !doctor(lab, "repair", outbox, &[]).status.success(),
            "{what}: only when told to"
        );
    }
    let output = doctor(lab, "repair", outbox, &["--yes", "--json"]);
    assert!(output.status.success(), "{what}: {output:?}");
    let report = json(&output);
    assert_eq!(
        intact,
        report["kept"].as_array().unwrap().is_empty(),
        "{what}: {report}"
    );
    let verified = doctor(lab, "verify", outbox, &["--json"]);
    assert!(verified.status.success(), "{what}: {verified:?}");
    let held = json(&verified);
    run(lab, outbox, &format!("{device}-repaired"), what);
    if first && let Some((samples, corrupt)) = stored(lab, device, what) {
        assert_eq!(samples, sum(&held["streams"], "samples"), "{what}");
        assert_eq!(corrupt, sum(&report["lost"]["streams"], "damaged_samples"), "{what}");
    }
}

/// The agent starts, goes on capturing, delivers, and ends well: on a damaged outbox too.
fn run(lab: &Lab, outbox: &str, device: &str, what: &str) {
    let spec = spec(99);
    let options = ["--device", device, "--simulate", &spec, "--duration", "300ms"];
    let mut agent = lab.agent(outbox, &["run"], &options).unwrap();
    agent
        .wait_success(PATIENCE)
        .unwrap_or_else(|error| panic!("{what}: {error:#}"));
    assert!(!agent.log().contains("panicked"), "{what}");
    let (samples, corrupt) = stored(lab, device, what).expect("it captured");
    assert!(samples > RATE / 10 && corrupt == 0, "{what}");
}

/// Treats an outbox in all ways; the one named by `turn` comes first.
fn treat(lab: &Lab, number: usize, turn: usize, what: &str) {
    let device = format!("bench-{number}");
    let [exported, repaired, alone] = ["exported", "repaired", "alone"].map(|name| format!("{device}-{name}"));
    for outbox in [&exported, &repaired, &alone] {
        clone_disk(&lab.outbox(&device), &lab.outbox(outbox)).unwrap();
    }
    for step in 0..3 {
        match (turn + step) % 3 {
            0 => export_and_replay(lab, &exported, &device, step == 0, what),
            1 => repair_and_run(lab, &repaired, &device, step == 0, what),
            _ => {
                run(lab, &alone, &format!("{device}-alone"), what);
                // What it set aside, if it did.
                let output = doctor(lab, "repair", &alone, &["--yes"]);
                assert!(output.status.success(), "{what}: {output:?}");
                run(lab, &alone, &format!("{device}-after"), what);
            }
        }
        stored(lab, &device, what);
    }
}

#[test]
fn i4_i13_whichever_file_of_an_outbox_is_damaged_what_is_intact_is_stored_once() {
    let mut lab = Lab::stopped(&[]).unwrap();
    let cases: Vec<(&str, Damage)> = ["MANIFEST", "CURRENT", ".sst", ".blob", ".log"]
        .into_iter()
        .flat_map(|kind| DAMAGES.map(|how| (kind, how)))
        .collect();
    let numbers: Vec<usize> = (0..cases.len()).collect();
    numbers.chunks(5).for_each(|some| fill(&lab, some));
    lab.start_server().unwrap();
    for (number, (kind, how)) in cases.iter().enumerate() {
        let what = format!("{kind} {how:?}");
        let outbox = lab.outbox(&format!("bench-{number}"));
        let found = store_files(&outbox, kind).unwrap();
        damage(
            found.first().unwrap_or_else(|| panic!("{what}: there is none")),
            *how,
            number,
        )
        .unwrap();
        treat(&lab, number, number, &what);
    }
}

#[test]
fn i4_i13_bits_that_flip_all_over_an_outbox_cost_what_they_hit() {
    let mut lab = Lab::stopped(&[]).unwrap();
    let numbers: Vec<usize> = (20..26).collect();
    fill(&lab, &numbers);
    lab.start_server().unwrap();
    for number in numbers {
        let outbox = lab.outbox(&format!("bench-{number}"));
        let all = store_files(&outbox, "").unwrap();
        let mut random = number as u64;
        let mut what = format!("seed {number}:");
        for _ in 0..4 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let path = &all[(random >> 33) as usize % all.len()];
            if fs::metadata(path).unwrap().len() > 0 {
                damage(path, Damage::Flipped, (random >> 40) as usize).unwrap();
                what += &format!(" {}", path.file_name().unwrap().display());
            }
        }
        treat(&lab, number, number, &what);
    }
}

/// Capturing, its server away, when its disk damages a file that it has open. It must go on, name what it can no longer read, deliver
/// the rest, and start again.
#[test]
fn i4_i13_damage_under_a_running_agent_costs_what_it_hits() {
    let mut lab = Lab::stopped(&[]).unwrap();
    let cases: Vec<(&str, Damage)> = ["MANIFEST", "CURRENT", ".sst", ".blob", ".log"]
        .into_iter()
        .flat_map(|kind| DAMAGES.map(|how| (kind, how)))
        .collect();
    let numbers: Vec<usize> = (30..30 + cases.len()).collect();
    numbers.chunks(5).for_each(|some| fill(&lab, some));
    let mut agents = Vec::new();
    for (number, (kind, how)) in numbers.iter().zip(&cases) {
        let (device, spec) = (format!("bench-{number}"), spec(*number));
        let files = store_files(&lab.outbox(&device), kind).unwrap();
        let before = lab.tails(&device).unwrap();
        let options = ["--device", &device, "--simulate", &spec];
        let agent = lab.agent(&device, &["run"], &options).unwrap();
        let captures = || Ok(lab.tails(&device).is_ok_and(|tails| tails.len() > before.len()));
        wait_for("it captures", PATIENCE, captures).unwrap();
        // What it has opened anew, if it has; the largest otherwise.
        let now = store_files(&lab.outbox(&device), kind).unwrap();
        let file = now.iter().find(|file| files.contains(file)).or_else(|| now.first());
        let file = file.unwrap_or_else(|| panic!("{kind}: there is none"));
        damage(file, *how, *number).unwrap();
        agents.push((device, format!("{kind} {how:?}"), agent));
    }
    for (device, what, agent) in &mut agents {
        let then: u64 = lab.tails(device).unwrap().values().sum();
        let goes_on = || Ok(lab.tails(device)?.values().sum::<u64>() > then);
        wait_for("it goes on", PATIENCE, goes_on).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(!agent.has_ended().unwrap(), "{what}: {}", agent.log_tail());
    }
    lab.start_server().unwrap();
    for (device, what, mut agent) in agents {
        // Once it has ended, nobody may be able to read its outbox.
        let captured: u64 = lab.tails(&device).unwrap().values().sum();
        let status = agent.terminate(PATIENCE).unwrap();
        assert!(status.success(), "{what}: {status} {}", agent.log_tail());
        assert!(!agent.log().contains("panicked"), "{what}");
        let (_, report) = check_lab(&lab, &device).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(
            captured <= report.samples + report.gap_samples(),
            "{what}: {captured}, {report:?}"
        );
        let (_, corrupt) = stored(&lab, &device, &what).expect("it is stored");
        let says = agent.log().contains("stored bytes were damaged");
        assert_eq!(corrupt > 0, says, "{what}: lost data is said: {}", agent.log_tail());
        assert!(corrupt > 0 || !what.starts_with(".blob"), "{what}: values lie there");
        run(&lab, &device, &format!("{device}-after"), &what);
    }
}

#[test]
fn an_outbox_that_is_none_and_one_in_use_get_a_sentence() {
    let lab = Lab::start().unwrap();
    fs::create_dir(lab.outbox("empty")).unwrap();
    fs::create_dir_all(lab.outbox("foreign").join("store")).unwrap();
    fs::write(lab.outbox("foreign").join("store").join("holiday.jpg"), "a picture").unwrap();
    let files = lab.folder().join("files");
    let output = ["--output", files.to_str().unwrap()];
    for outbox in ["none", "empty", "foreign"] {
        for (verb, options) in [("verify", &[][..]), ("export", &output)] {
            let told = doctor(&lab, verb, outbox, options);
            assert_eq!(told.status.code(), Some(1), "{verb} {outbox}");
            assert_eq!(
                String::from_utf8_lossy(&told.stderr).trim().lines().count(),
                1,
                "{told:?}"
            );
        }
    }
    assert!(lab.outbox("foreign").join("store").join("holiday.jpg").exists());
    let spec = spec(1);
    let options = ["--device", "bench", "--simulate", &spec, "--duration", "30s"];
    let mut agent = lab.agent("used", &["run"], &options).unwrap();
    wait_for("it captures", PATIENCE, || {
        Ok(lab.tails("used").is_ok_and(|tails| !tails.is_empty()))
    })
    .unwrap();
    for (verb, options) in [("verify", &[][..]), ("export", &output), ("repair", &["--yes"])] {
        let told = doctor(&lab, verb, "used", options);
        assert!(
            !told.status.success() && String::from_utf8_lossy(&told.stderr).contains("uses this outbox"),
            "{told:?}"
        );
    }
    agent.terminate(PATIENCE).unwrap();
    assert!(
        agent.log().contains("what was captured is on the server"),
        "{}",
        agent.log_tail()
    );
}
