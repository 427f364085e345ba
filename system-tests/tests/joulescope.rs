//! The real agent, with the real libusb's functions taken over by emulated JS220s, and a real server: each stored sample is the one of
//! the instrument's documented waveform, and each other one is in a gap with its reason. Losses, unplugging, several instruments, settings
//! that change meanwhile.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use wavekeep_proto::chunk::Reason;
use wavekeep_system_tests::joulescope::{self, Truth};
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::{Process, binary};
use wavekeep_system_tests::stored::StoredStream;

const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 3;

/// Beside the binaries that cargo builds.
fn emulator() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let library = own.parent().unwrap().parent().unwrap();
    let library = library.join("libwavekeep_joulescope_preload.so");
    assert!(
        library.is_file(),
        "{} is not built: run `make build`",
        library.display()
    );
    library
}

fn with_emulator(command: &mut Command, instruments: &str) {
    command
        .env("LD_PRELOAD", emulator())
        .env("WAVEKEEP_EMULATOR", instruments);
}

fn agent(lab: &Lab, instruments: &str, options: &[&str]) -> Process {
    let mut command = lab.agent_command(&lab.url(), "usb", &["run"], options).unwrap();
    with_emulator(&mut command, instruments);
    Process::spawn(command, "usb", lab.folder()).unwrap()
}

/// The streams of a device that have this signal, oldest first; and what is in each, with instruments of these seeds.
fn check(lab: &Lab, device: &str, signal: &str, seeds: &[u64]) -> Vec<(StoredStream, Truth)> {
    joulescope::check(lab, device, signal, seeds).unwrap()
}

#[test]
fn i4_i13_each_sample_of_a_js220_is_stored_or_in_a_gap() {
    let lab = Lab::start().unwrap();
    // A second before the 32 bits of its sample id are over.
    let instrument =
        "js220,serial=001122,seed=3,fifo=4000000,start=4292967296,fault=lose:20@s2000000,fault=duplicate@s3000000";
    let mut agent = agent(&lab, instrument, &["--joulescope", "001122", "--duration", "4s"]);
    agent.wait_success(PATIENCE).unwrap();
    let checked = check(&lab, "js220-001122", "current", &[SEED]);
    let (stream, truth) = &checked[0];
    assert_eq!(truth.stored + truth.gaps.values().sum::<u64>(), 4_000_000);
    let lost = truth.gaps.get(&Reason::DeviceOverflow).copied().unwrap_or(0);
    // Frames of current and of voltage, of 126 samples each: one of both, or both, are missing.
    assert!((1..=20 * 126).contains(&lost), "{:?}", truth.gaps);
    assert!(truth.stored > 3_000_000, "{:?}", truth.gaps);
    assert!(
        truth.first.unwrap() > (1 << 31) - 1_500_000,
        "its own counter: {:?}",
        truth.first
    );
    assert!(truth.next > 1 << 31, "it wraps: {}", truth.next);
    let attributes = &stream.definition.attributes;
    assert_eq!(attributes.get("serial").map(String::as_str), Some("001122"));
    // What the instrument has integrated itself has the lost samples, too.
    let sums = lab
        .reader(&["--json", "reconcile", "--device", "js220-001122"])
        .unwrap();
    let sums = sums
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let said: Vec<_> = sums.filter(|sum| !sum["instrument"].is_null()).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let said = &said[0]["instrument"];
    for (instrument, stored) in [
        ("charge_coulomb", "stored_charge_coulomb"),
        ("energy_joule", "stored_energy_joule"),
    ] {
        let less = said[instrument].as_f64().unwrap() / said[stored].as_f64().unwrap() - 1.0;
        assert!(less.abs() < 0.01, "{said}");
    }
    // Of current alone, too.
    assert!(said["missing"].as_u64().unwrap() <= 20 * 126, "{said}");
    assert!(!agent.log().contains("panicked"));
}

#[test]
fn lower_rates_are_the_filters_that_they_say() {
    let lab = Lab::start().unwrap();
    let instruments =
        "js220,serial=1,seed=3,fifo=4000000;js220,serial=2,seed=3,fifo=4000000;js220,serial=3,seed=3,fifo=4000000";
    let captures = [
        ("1", "rate=2000"),
        ("2", "rate=100000,filter=sinc1"),
        ("3", "rate=500,filter=sinc1"),
    ];
    for (serial, settings) in captures {
        let settings = format!("{settings},statistics=off");
        let options = ["--joulescope", serial, "--settings", &settings, "--duration", "1500ms"];
        agent(&lab, instruments, &options).wait_success(PATIENCE).unwrap();
    }
    // Of the instrument's values, which have steps of 2^-24 of their own size, and of an output.
    let check = |serial: &str, rate_hz: f64, factors: &[u64]| {
        let (rate, decimated) = joulescope::decimated(&lab, &format!("js220-{serial}")).unwrap();
        assert!((rate - rate_hz).abs() < 1e-9, "{rate}");
        let factor = 1_000_000 / rate_hz as u64;
        let count: usize = decimated.0.values().map(Vec::len).sum();
        assert!(count as f64 > rate_hz, "{count}");
        for (first, samples) in decimated.0 {
            let end = first + samples.len() as u64;
            let expected = if factors.is_empty() {
                joulescope::means(SEED, first, end, factor)
            } else {
                let reach = 6_000;
                let from = (first * factor).checked_sub(reach).unwrap();
                let (known, outputs) = joulescope::filtered(SEED, from, end * factor + reach, factors).unwrap();
                outputs.into_iter().skip((first - known) as usize).collect()
            };
            for ((at, sample), expected) in (first..).zip(samples).zip(expected) {
                let off = (f64::from(sample) - expected).abs();
                assert!(
                    off < 1e-6 * expected.abs() + 1e-7,
                    "{sample} for {expected} at {at} of {rate} Hz"
                );
            }
        }
    };
    check("1", 2_000.0, &[2, 2, 5, 5, 5]);
    check("2", 100_000.0, &[]);
    check("3", 500.0, &[]);
}

#[test]
fn i4_i11_an_instrument_that_is_unplugged_is_captured_again() {
    let lab = Lab::start().unwrap();
    let instrument = "js220,serial=001122,seed=3,fifo=4000000,fault=unplug:1500@s2000000";
    let mut agent = agent(&lab, instrument, &["--device", "bench", "--joulescope", "001122"]);
    let again = || Ok(agent_log(&lab).contains("INFO bench: it is captured again"));
    wait_for("it is captured again", PATIENCE, again).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(agent.terminate(PATIENCE).unwrap().success(), "{}", agent.log_tail());
    let checked = check(&lab, "bench", "current", &[SEED, SEED + 1]);
    let [(first, before), (second, after)] = &checked[..] else {
        panic!("two openings")
    };
    assert_ne!(first.definition.epoch, second.definition.epoch);
    let away = before.gaps.get(&Reason::Unplugged).copied().unwrap_or(0);
    // 1.5 s, and how long it takes to be there again.
    assert!((1_400_000..8_000_000).contains(&away), "{:?}", before.gaps);
    assert!(before.stored > 500_000 && after.stored > 100_000);
    assert!(!after.gaps.contains_key(&Reason::Unplugged));
}

/// `wavekeep-agent set`: whether it is done, and what it says.
fn set(lab: &Lab, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary("wavekeep-agent").unwrap());
    command
        .arg("set")
        .args(arguments)
        .arg("--outbox")
        .arg(lab.outbox("usb"));
    let output = command.output().unwrap();
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn refuses_what_is_not_possible(lab: &Lab) {
    for (arguments, names) in [
        (["voltage_range=3V", "--device=bench"], "give auto, 15 V, 2 V"),
        (
            ["colour=red", "--device=bench"],
            "current_range, voltage_range, vref, gpo0, gpo1, power",
        ),
        (
            ["rate=1000", "--device=bench"],
            "start it anew with --settings rate=1000",
        ),
        (["power=on", "--device=bunch"], "give --device with one of bench"),
    ] {
        let (is_done, why) = set(lab, &arguments);
        assert!(!is_done && why.contains(names), "{why}");
    }
}

#[test]
fn i4_settings_change_while_it_is_captured_and_stay_when_it_is_plugged_in_again() {
    let lab = Lab::start().unwrap();
    let log = lab.folder().join("emulator.log");
    let options = [
        "--device",
        "bench",
        "--joulescope",
        "001122",
        "--settings",
        "statistics=off",
    ];
    let mut command = lab.agent_command(&lab.url(), "usb", &["run"], &options).unwrap();
    with_emulator(
        &mut command,
        "js220,serial=001122,seed=3,fifo=4000000,fault=unplug:1500@s20000000",
    );
    command.env("WAVEKEEP_EMULATOR_LOG", &log);
    let mut agent = Process::spawn(command, "usb", lab.folder()).unwrap();
    let outputs = || Ok(set(&lab, &["gpo0=1"]).0);
    wait_for("it is captured and can be set", PATIENCE, outputs).unwrap();

    let started = std::time::Instant::now();
    let said = set(&lab, &["power=off", "--device", "bench"]);
    assert_eq!(said, (true, "bench: settings gpo0=1 power=off\n".into()));
    assert!(started.elapsed() < Duration::from_secs(3));
    let set_off = || {
        std::fs::read_to_string(&log)
            .unwrap()
            .matches("set s/i/range/mode 0")
            .count()
    };
    assert_eq!(set_off(), 1, "the instrument has it");
    refuses_what_is_not_possible(&lab);

    let again = || Ok(agent_log(&lab).contains("INFO bench: it is captured again"));
    wait_for("it is captured again", PATIENCE, again).unwrap();
    assert_eq!(set_off(), 2, "it is set again");
    assert_eq!(
        set(&lab, &["power=on"]),
        (true, "bench: settings gpo0=1 power=on\n".into())
    );
    std::thread::sleep(Duration::from_millis(500));
    assert!(agent.terminate(PATIENCE).unwrap().success(), "{}", agent.log_tail());
    let checked = check(&lab, "bench", "current", &[SEED, SEED + 1]);
    let [(_, before), (_, after)] = &checked[..] else {
        panic!("two openings")
    };
    for (truth, notes) in [
        (before, &["settings gpo0=1", "settings power=off"][..]),
        (after, &["settings power=on"]),
    ] {
        let found: Vec<_> = truth.markers.iter().map(|(_, note)| note.as_str()).collect();
        assert_eq!(found, notes);
        let range = truth.first.unwrap()..truth.next;
        assert!(truth.markers.iter().all(|(sample, _)| range.contains(sample)));
    }
    assert!(
        before.gaps.keys().all(|reason| *reason == Reason::Unplugged),
        "{:?}",
        before.gaps
    );
    assert!(after.gaps.is_empty(), "{:?}", after.gaps);
}

fn agent_log(lab: &Lab) -> String {
    std::fs::read_to_string(lab.folder().join("usb.log")).unwrap_or_default()
}

#[test]
fn all_that_are_plugged_in_are_captured_and_one_in_trouble_delays_nobody() {
    let lab = Lab::start().unwrap();
    let instruments = "js220,serial=001122,seed=3,scale=0.5;js220,serial=003344,seed=9,scale=0.5;js220,serial=005566,fault=noack:1000@t0";
    let mut agent = agent(
        &lab,
        instruments,
        &["--joulescope", "--settings", "signals=current+voltage"],
    );
    let both = || {
        let devices = lab.reader(&["devices"])?;
        Ok(devices.contains("js220-001122") && devices.contains("js220-003344") && agent_log(&lab).contains("005566"))
    };
    wait_for("both are captured, and the third is said", PATIENCE, both).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(agent.terminate(PATIENCE).unwrap().success(), "{}", agent.log_tail());
    for (device, seed) in [("js220-001122", 3), ("js220-003344", 9)] {
        let checked = check(&lab, device, "current", &[seed]);
        assert!(checked[0].1.stored > 50_000, "{device}");
    }
}

#[test]
fn devices_lists_what_is_plugged_in() {
    let list = |instruments: &str, arguments: &[&str]| {
        let mut command = Command::new(binary("wavekeep-agent").unwrap());
        command.arg("devices").args(arguments);
        with_emulator(&mut command, instruments);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text, String::from_utf8(output.stderr).unwrap())
    };
    let (status, text, _) = list("js220,serial=001122", &[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("js220  001122") && text.contains("1.3.0"), "{text}");
    let (status, text, _) = list("js220,serial=001122,fault=noack:9@t0;js220,serial=003344", &["--json"]);
    let lines: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, lines[1]["device"].as_str()),
        (Some(0), Some("js220-003344")),
        "{text}"
    );
}
