//! Faults that destroy what an outbox holds, or double it. Each has an agent of its own, beside the fleet and on the same servers, so that
//! the fleet's account stays strict.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wavekeep_proto::chunk::Reason;

use super::check::Expected;
use super::fleet::{PATIENCE, RATE, deliver, remember, spec};
use super::tally::Tally;
use crate::damage::{DAMAGES, clone_disk, damage, store_files};
use crate::lab::{Lab, wait_for};
use crate::process::{Process, binary};
use crate::random::Random;
use crate::small_disk;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";
/// The device, and the outbox, whose disk is a small one.
pub(super) const FULL: &str = "full";
const MIB: u64 = 1024 * 1024;

/// Where a scene plays.
pub(super) struct Stage<'a> {
    pub(super) lab: &'a Lab,
    /// All servers.
    pub(super) url: String,
    pub(super) tally: &'a Tally,
    pub(super) ends: &'a AtomicBool,
    pub(super) random: Random,
}

/// Plays until the stage ends, and says what is to be found then.
type Scene = fn(Stage<'_>) -> Result<Vec<Expected>>;

/// All of them, by name; and whether they need disks to be mounted.
pub(super) const SCENES: &[(&str, bool, Scene)] = &[
    ("damaged", false, damaged),
    ("cloned", false, cloned),
    ("full", true, full),
];

impl Stage<'_> {
    fn goes_on(&self) -> bool {
        !self.ends.load(Ordering::SeqCst)
    }

    /// For so many milliseconds, from and below, or until the end.
    fn wait(&mut self, from: u64, end: u64) {
        let (since, time) = (Instant::now(), self.random.ms(from, end));
        while self.goes_on() && since.elapsed() < time {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn agent(&self, url: &str, name: &str, more: &[&str]) -> Result<Process> {
        let simulate = spec(name.len() as u64);
        let options = ["--device", name, "--simulate", &simulate, "--drain-wait", "3s"];
        self.lab.agent_at(url, name, &["run"], &[&options[..], more].concat())
    }

    fn captures(&self, name: &str, samples: u64) -> Result<()> {
        wait_for(&format!("{name} captures"), PATIENCE, || {
            let tails = self.lab.tails(name).unwrap_or_default();
            Ok(tails.into_values().any(|tail| tail >= samples))
        })
    }
}

/// Files of an outbox are cut, flipped, deleted while its agent is down, with and without chunks that no server has.
fn damaged(mut stage: Stage<'_>) -> Result<Vec<Expected>> {
    let name = "damaged";
    let mut captured = BTreeMap::new();
    while stage.goes_on() {
        // Short chunks, so that there are several files.
        let url = if stage.random.below(2) == 0 {
            NOWHERE.to_owned()
        } else {
            stage.url.clone()
        };
        let mut agent = stage.agent(&url, name, &["--chunk-period", "50ms"])?;
        stage.wait(1_500, 5_000);
        agent.kill9()?;
        stage.tally.count("SIGKILL of an agent, then its disk damages a file");
        if let Ok(tails) = stage.lab.tails(name) {
            remember(&mut captured, tails);
        }
        let files = store_files(&stage.lab.outbox(name), "").unwrap_or_default();
        let files: Vec<_> = files
            .into_iter()
            .filter(|path| path.metadata().is_ok_and(|file| file.len() > 0))
            .collect();
        if !files.is_empty() {
            let how = *stage.random.one_of(&DAMAGES);
            let file = &files[stage.random.below(files.len())];
            damage(file, how, stage.random.below(1_000_000))?;
            stage.tally.count("a file of an outbox is cut, flipped or deleted");
        }
    }
    let mut repair = std::process::Command::new(binary("wavekeep-agent")?);
    repair.args(["outbox", "repair", "--yes"]).arg(stage.lab.outbox(name));
    let output = repair.output()?;
    ensure!(
        output.status.success(),
        "outbox repair: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    deliver(stage.lab, &stage.url, name, name)?;
    remember(&mut captured, stage.lab.tails(name)?);
    Ok(vec![Expected {
        device: name.into(),
        captured: captured.values().sum(),
        reasons: &[Reason::SourceLoss, Reason::Corrupt],
        is_destroyed: true,
        is_cloned: false,
    }])
}

const DIVERGED: &str = "diverged: another outbox has written to it";

/// How often a process has said that a stream of its has what it did not write.
fn told(process: &Process) -> usize {
    let log = process.log();
    // Where the clone only added the stream's end, there is nothing to diverge from.
    log.matches(DIVERGED).count() + log.matches("continuing from the server's").count()
}

/// The disk of an agent at work is cloned, and the clone runs too.
fn cloned(mut stage: Stage<'_>) -> Result<Vec<Expected>> {
    let name = "cloned";
    let mut copies = Vec::new();
    let mut original = stage.agent(&stage.url, name, &[])?;
    stage.captures(name, RATE)?;
    while stage.goes_on() {
        let copy = format!("copy-{}", copies.len() + 1);
        original.signal(Signal::SIGSTOP)?;
        let told_before = told(&original);
        let cloned = clone_disk(&stage.lab.outbox(name), &stage.lab.outbox(&copy));
        original.signal(Signal::SIGCONT)?;
        cloned.context("an outbox is cloned")?;
        stage.tally.count("an outbox is cloned, and both run");
        deliver(stage.lab, &stage.url, &copy, &copy)?;
        copies.push(Expected {
            device: copy.clone(),
            captured: RATE,
            reasons: &[Reason::SourceLoss],
            is_destroyed: false,
            is_cloned: false,
        });
        // Whichever of them comes second to what the other has written.
        let log = stage.lab.folder().join(format!("{copy}.log"));
        wait_for(
            "one of both says that somebody else wrote to its stream",
            PATIENCE,
            || {
                let by_copy = std::fs::read_to_string(&log)?.contains(DIVERGED);
                Ok(by_copy || told(&original) > told_before)
            },
        )?;
        std::fs::remove_dir_all(stage.lab.outbox(&copy))?;
        stage.wait(2_000, 8_000);
    }
    original.terminate(PATIENCE)?;
    // Successors count on where their predecessors end.
    let epoch = stage.lab.tails(name)?.into_values().max().unwrap_or_default();
    deliver(stage.lab, &stage.url, name, name)?;
    copies.push(Expected {
        device: name.into(),
        captured: epoch + RATE,
        reasons: &[Reason::SourceLoss, Reason::LostByServer],
        is_destroyed: false,
        is_cloned: true,
    });
    Ok(copies)
}

/// A small disk fills up under an agent that keeps deleting, with somebody else's file; it is killed there, too.
fn full(mut stage: Stage<'_>) -> Result<Vec<Expected>> {
    let name = FULL;
    let disk = stage.lab.outbox(name);
    small_disk::mount(&disk, 420 * MIB)?;
    let elses = disk.join("somebody-elses");
    let mut captured = BTreeMap::new();
    while stage.goes_on() {
        let mut agent = stage.agent(&stage.url, name, &["--hold-back", "200ms"])?;
        stage.wait(1_500, 4_000);
        let room = small_disk::free_bytes(&disk)?;
        // As much as there is: it is full before this returns.
        let _ = std::fs::write(&elses, vec![1; room as usize]);
        stage.tally.count("the disk of an outbox is full");
        stage.wait(1_000, 3_000);
        let killed = stage.random.below(2) == 0 && !agent.has_ended()?;
        if killed {
            agent.kill9()?;
            stage.tally.count("SIGKILL of an agent, its disk full");
        }
        std::fs::remove_file(&elses)?;
        if !killed {
            stage.wait(500, 1_500);
            if !agent.has_ended()? {
                agent.terminate(PATIENCE)?;
            }
        }
        remember(&mut captured, stage.lab.tails(name)?);
    }
    deliver(stage.lab, &stage.url, name, name)?;
    remember(&mut captured, stage.lab.tails(name)?);
    Ok(vec![Expected {
        device: name.into(),
        captured: captured.values().sum(),
        reasons: &[Reason::SourceLoss, Reason::Evicted],
        is_destroyed: false,
        is_cloned: false,
    }])
}
