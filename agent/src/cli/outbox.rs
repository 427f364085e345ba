//! `wavekeep-agent outbox status|rebind`: what an outbox holds, and whose it is. The other commands on outboxes are the doctor's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use serde_json::Value;
use wavekeep_agent::admin;
use wavekeep_agent::outbox::{Options, OutboxError, rocks};
use wavekeep_proto::uplink::Outbox as _;

use super::CliError;
use super::doctor::{self, ExportArgs, RepairArgs, VerifyArgs};
use super::summary::print_line;

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// Says what an outbox holds; asks its agent, if one is running
    Status(OutboxArgs),
    /// Reads everything that an outbox holds, however damaged it is, and says what is intact and what is not; changes nothing
    Verify(VerifyArgs),
    /// Writes what is intact of an outbox, however damaged it is, into files that `replay` takes; changes nothing in it
    Export(ExportArgs),
    /// Makes a damaged outbox whole again: what is lost becomes gaps with the reason `corrupt`; what was damaged is kept aside
    Repair(RepairArgs),
    /// Forgets which database an outbox belongs to: the next one that its agent meets gets all that it holds
    Rebind(RebindArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wavekeep-agent outbox status /var/lib/wavekeep
  wavekeep-agent outbox status /var/lib/wavekeep --json | jq .unacked_bytes

It asks the agent that runs on the outbox, or reads the outbox itself; it changes nothing.")]
pub(crate) struct OutboxArgs {
    /// The outbox's directory
    #[arg(value_name = "DIR", env = "WAVEKEEP_OUTBOX")]
    directory: PathBuf,
    /// Prints one JSON object
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    /// Where its agent's admin socket is [default: agent.sock in the outbox's directory]
    #[arg(long, env = "WAVEKEEP_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wavekeep-agent outbox status /var/lib/wavekeep-agent           what it is bound to, and what it holds
  wavekeep-agent outbox rebind /var/lib/wavekeep-agent --yes     after a database was made anew, or restored to an older timeline

What the new database does not have is sent to it, as far as it is still held; what is not held any more becomes a gap
with the reason lost_by_server.")]
pub(crate) struct RebindArgs {
    /// The outbox's directory; its agent must not be running
    #[arg(value_name = "DIR", env = "WAVEKEEP_OUTBOX")]
    directory: PathBuf,
    /// Does it without asking
    #[arg(long, env = "WAVEKEEP_YES", value_parser = BoolishValueParser::new())]
    yes: bool,
}

pub(crate) fn run(command: OutboxCommand) -> Result<(), CliError> {
    match command {
        OutboxCommand::Status(args) => status(&args),
        OutboxCommand::Verify(args) => doctor::verify(&args),
        OutboxCommand::Export(args) => doctor::export(&args),
        OutboxCommand::Repair(args) => doctor::repair(&args),
        OutboxCommand::Rebind(args) => rebind(&args),
    }
}

fn rebind(args: &RebindArgs) -> Result<(), CliError> {
    let failed = |error: OutboxError| at(&args.directory, &error);
    let directory = args.directory.display();
    // A directory that holds no outbox must not become one.
    let bound = rocks::inspect(&args.directory).map_err(failed)?.ledger_id();
    let Some(bound) = bound else {
        return print_line(&format!(
            "{directory} is bound to no database yet: there is nothing to forget"
        ));
    };
    if !args.yes && !doctor::is_confirmed(&format!("forget that it belongs to ledger {bound}?"))? {
        return Err(CliError::Failed(format!(
            "nothing was changed: `wavekeep-agent outbox rebind {directory} --yes` does it"
        )));
    }
    let (outbox, _) = rocks::open(&args.directory, Options::default(), Duration::ZERO).map_err(failed)?;
    outbox.rebind().map_err(failed)?;
    print_line(&format!(
        "{directory} belonged to ledger {bound}, and will belong to the next one that its agent meets"
    ))
}

fn status(args: &OutboxArgs) -> Result<(), CliError> {
    let report = match rocks::inspect(&args.directory) {
        Ok(outbox) => serde_json::to_value(outbox.status().map_err(|error| at(&args.directory, &error))?),
        Err(OutboxError::InUse) => Ok(ask(args)?),
        Err(error) => return Err(at(&args.directory, &error)),
    };
    let report = report.map_err(CliError::failed)?;
    if args.json {
        print_line(&report.to_string())
    } else {
        describe(&report).iter().try_for_each(|line| print_line(line))
    }
}

/// The same of a running agent.
fn ask(args: &OutboxArgs) -> Result<Value, CliError> {
    let socket = admin::socket_of(&args.directory, args.admin_socket.as_deref());
    let mut status = admin::ask_status(&socket).map_err(|error| {
        CliError::Failed(format!(
            "{} is in use, and {error}: stop its agent and ask again",
            args.directory.display()
        ))
    })?;
    Ok(status["outbox"].take())
}

fn describe(report: &Value) -> Vec<String> {
    let ledger = report["ledger_id"].as_str().unwrap_or("none yet");
    let mut lines = vec![
        format!("outbox {}, bound to ledger {ledger}", text(&report["agent_id"])),
        format!(
            "{} bytes held, {} of them not acknowledged",
            report["held_bytes"], report["unacked_bytes"]
        ),
    ];
    for stream in report["streams"].as_array().into_iter().flatten() {
        let end = match (stream["ended"].as_bool(), stream["to_end"].as_bool()) {
            (Some(true), _) => ", ended",
            (_, Some(true)) => ", its end is due",
            _ => "",
        };
        lines.push(format!(
            "{} {}: acknowledged {} of {} chunks, next sample {}, {} bytes not acknowledged{end}",
            text(&stream["stream"]),
            text(&stream["device"]),
            stream["acked_seq"],
            stream["stored_seq"],
            stream["next_sample"],
            stream["unacked_bytes"]
        ));
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn at(directory: &Path, error: &OutboxError) -> CliError {
    CliError::Failed(format!("{}: {error}", directory.display()))
}
