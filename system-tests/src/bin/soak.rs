//! `make soak`: see [`wavekeep_system_tests::soak`].

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use wavekeep_system_tests::small_disk;
use wavekeep_system_tests::soak::{Plan, Spoil, soak};

/// Set where mounts are our own.
const OWN_MOUNTS: &str = "WAVEKEEP_TEST_OWN_MOUNTS";

/// Kills, suspends, cuts off and fills up real agents, servers and a Postgres at random, and then compares every stored sample with what the
/// instruments delivered.
#[derive(Debug, Parser)]
#[command(
    name = "soak",
    after_help = "Examples:
  make soak MINUTES=10            ten minutes of faults; a seed of its own
  make soak MINUTES=10 SEED=7     the choices of another run: the same plan, whose course differs all the same
  make soak MINUTES=10 TIMESCALE=1     on TimescaleDB
  soak --minutes 0.5 --spoil alter     must fail: one stored byte is changed before the check

Progress goes to standard error, the conservation report to standard output. It ends with 0 if no sample was lost, repeated or altered,
with 1 otherwise; then the directory with logs, outboxes and database is kept and named."
)]
struct Args {
    /// Faults for so many minutes; draining and checking comes after that
    #[arg(long, default_value_t = 10.0, value_parser = minutes)]
    minutes: f64,
    /// Of the choices [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// On TimescaleDB: to be run under scripts/with-timescale
    #[arg(long)]
    timescale: bool,
    /// Prints the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Spoils what is stored before it is checked
    #[arg(long, value_enum)]
    spoil: Option<SpoilArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SpoilArg {
    /// Changes a stored byte
    Alter,
    /// Deletes a stored chunk
    Drop,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.1..=100_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("give a number of minutes, 0.1 or more".into()),
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let has_mounts = std::env::var_os(OWN_MOUNTS).is_some();
    if !has_mounts
        && small_disk::namespace()
            .arg("true")
            .status()
            .is_ok_and(|status| status.success())
    {
        let mut again = small_disk::namespace();
        again.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
        return Err(again.env(OWN_MOUNTS, "1").exec().into());
    }
    let by_time = || jiff::Timestamp::now().as_microsecond().cast_unsigned() % 1_000_000;
    let plan = Plan {
        minutes: args.minutes,
        seed: args.seed.unwrap_or_else(by_time),
        has_mounts,
        has_timescale: args.timescale,
        spoil: args.spoil.map(|spoil| match spoil {
            SpoilArg::Alter => Spoil::Alter,
            SpoilArg::Drop => Spoil::Drop,
        }),
    };
    eprintln!("soak: {} minutes, seed {}", plan.minutes, plan.seed);
    let report = soak(&plan)?;
    if args.json {
        println!("{}", report.json());
    } else {
        println!("\n{}", report.table());
    }
    Ok(ExitCode::from(u8::from(!report.violations().is_empty())))
}
