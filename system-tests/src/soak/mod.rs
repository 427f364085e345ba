//! `make soak`: a fleet of real processes under every kind of fault for minutes or hours, then everything that is stored against the
//! simulator's truth.
//!
//! | module | what |
//! |---|---|
//! | `fleet`, `member` | three servers, three agents; each is started again when it was killed |
//! | `database` | their Postgres |
//! | `faults` | which fault is next |
//! | `scenes` | faults that destroy or double what an outbox holds, on agents of their own |
//! | `clock` | clocks that are set |
//! | `commits` | how long nothing is committed after a server's death |
//! | `check`, `report`, `tally` | where each captured sample is in the end |
//!
//! A seed makes the choices. Real processes take another course each time, so the same seed is the same plan, not the same run.

mod check;
mod clock;
mod commits;
mod database;
mod faults;
mod fleet;
mod member;
mod report;
mod scenes;
mod tally;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wavekeep_proto::chunk::Reason;

pub use check::Spoil;
pub use report::Report;

use check::Expected;
use faults::Faults;
use fleet::Fleet;
use scenes::{SCENES, Stage};
use tally::Tally;

use crate::lab::Lab;
use crate::random::Random;
use crate::small_disk;

/// Between two lines that say how it stands.
const PROGRESS: Duration = Duration::from_secs(5);
/// A database whose disk fills up is in memory: no longer than this.
const MINUTES_IN_MEMORY: f64 = 30.0;
/// Between two looks at the fleet.
const TICK: Duration = Duration::from_millis(20);

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Faults for so long; draining and checking comes after that.
    pub minutes: f64,
    /// Of the choices.
    pub seed: u64,
    /// Disks can be mounted.
    pub has_mounts: bool,
    /// On TimescaleDB, which is where Postgres is.
    pub has_timescale: bool,
    /// Before the check, which must then fail.
    pub spoil: Option<Spoil>,
}

/// See the module's documentation. What must not be is in the report; an error means that there was nothing to report on.
pub fn soak(plan: &Plan) -> Result<Report> {
    let lab = Arc::new(Lab::stopped(&[])?);
    let tally = Tally::default();
    let mut fleet = Fleet::start(Arc::clone(&lab), plan, &tally)?;
    let mut report = Report {
        minutes: plan.minutes,
        seed: plan.seed,
        has_timescale: plan.has_timescale,
        ..Report::default()
    };
    if let Err(error) = play(plan, &mut fleet, &tally, &mut report) {
        report.violations.push(format!("{error:#}"));
    }
    report.silences = std::mem::take(&mut fleet.commits.silences);
    report.faults = tally.faults();
    report.notes = tally.notes();
    fleet.stop();
    let has_failed = !report.violations().is_empty();
    if plan.has_mounts {
        for disk in [lab.data(), lab.outbox(scenes::FULL)] {
            leave_disk(&disk, has_failed)?;
        }
    }
    if has_failed {
        let mut lab = Arc::into_inner(lab).context("nothing of the fleet is left")?;
        lab.keep();
        let folder = lab.folder().display().to_string();
        let kept = format!(
            "logs, outboxes and database are kept in {folder}; `wavekeep-server dev --data-dir {folder}/server` starts it"
        );
        report.notes.push(kept);
    }
    Ok(report)
}

/// A disk in memory goes with us: what is on it is copied to one that stays, if somebody is to look at it.
fn leave_disk(disk: &Path, is_kept: bool) -> Result<()> {
    if !small_disk::is_mounted(disk)? {
        return Ok(());
    }
    let kept = disk.with_extension("kept");
    if is_kept {
        let status = Command::new("cp").arg("-a").arg(disk).arg(&kept).status()?;
        ensure!(status.success(), "{} cannot be kept", disk.display());
    }
    small_disk::unmount(disk)?;
    if is_kept {
        std::fs::remove_dir(disk)?;
        std::fs::rename(kept, disk)?;
    }
    Ok(())
}

fn play(plan: &Plan, fleet: &mut Fleet, tally: &Tally, report: &mut Report) -> Result<()> {
    let lab = Arc::clone(&fleet.lab);
    let ends = AtomicBool::new(false);
    let front = fleet.front(plan.seed)?;
    let mut expected = std::thread::scope(|scope| {
        let mut scenes = Vec::new();
        for (number, (name, mounts, scene)) in SCENES.iter().enumerate() {
            if *mounts && !plan.has_mounts {
                tally.note(format!("left out, because no disk can be mounted here: {name}"));
                continue;
            }
            let stage = Stage {
                lab: &lab,
                url: front.url(),
                tally,
                ends: &ends,
                random: Random::new(plan.seed.wrapping_add(number as u64 + 1)),
            };
            scenes.push((name, scope.spawn(move || scene(stage))));
        }
        let ended = disturb(plan, fleet, tally, &|| {
            scenes.iter().any(|(_, scene)| scene.is_finished())
        });
        let calm = fleet.calm();
        ends.store(true, Ordering::SeqCst);
        let mut expected = Vec::new();
        for (name, scene) in scenes {
            let outcome = scene.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
            match outcome {
                Ok(devices) => expected.extend(devices),
                // The fleet's account is settled all the same.
                Err(error) => report.violations.push(format!("scene {name}: {error:#}")),
            }
        }
        ended.and(calm).map(|()| expected)
    })?;
    eprintln!("the faults have stopped; what remains in the outboxes is delivered");
    fleet.drain()?;
    expected.extend(fleet.agents.iter().map(|agent| Expected {
        device: agent.device.clone(),
        captured: agent.captured.values().sum(),
        reasons: &[Reason::SourceLoss],
        is_destroyed: false,
        is_cloned: false,
    }));
    expected.sort_by(|one, other| one.device.cmp(&other.device));
    let database_url = fleet.database.url().to_owned();
    if let Some(what) = plan.spoil {
        check::spoil(&database_url, what)?;
    }
    eprintln!("every stored sample is compared with what the instruments delivered");
    for expected in &expected {
        report.push(check::device(&lab, &database_url, &front.url(), expected, tally));
    }
    for outcome in [check::scrub(&database_url), check::panics(lab.folder())] {
        report
            .violations
            .extend(outcome.err().map(|error| format!("{error:#}")));
    }
    Ok(())
}

/// Faults until the time is over, or something has gone wrong.
fn disturb(plan: &Plan, fleet: &mut Fleet, tally: &Tally, has_failed: &dyn Fn() -> bool) -> Result<()> {
    let mut faults = Faults::new(plan.seed);
    let (since, length) = (Instant::now(), Duration::from_secs_f64(plan.minutes * 60.0));
    let mut said = since;
    while since.elapsed() < length && !has_failed() {
        fleet.tick()?;
        faults.tick(fleet, tally)?;
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            let up = |up: usize| format!("{up} of {}", fleet::COUNT);
            eprintln!(
                "{:>5.0} of {:.0} s  {:>4} faults, {:>4} kills  {:>7.1} M samples committed  up: servers {}, agents {}",
                since.elapsed().as_secs_f64(),
                length.as_secs_f64(),
                tally.faults().values().sum::<u64>(),
                tally.kills(),
                fleet.commits.samples() as f64 / 1e6,
                up(fleet.servers.iter().filter(|server| server.member.is_up()).count()),
                up(fleet.agents.iter().filter(|agent| agent.member.is_up()).count()),
            );
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}
