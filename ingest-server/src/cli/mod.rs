//! The command line of `wavekeep-server`: exactly the names that scripts depend on.
//!
//! Results go to standard output, progress and logs to standard error. The exit code is 0 only on full success, 2 for a usage
//! error, 1 otherwise, with one sentence that says what to do.

mod dev;
mod options;
mod quarantine;
mod scrub;
mod serve;
mod units;
mod usage;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wavekeep_proto::cli::{self, Completions};

use crate::telemetry::{self, LogFormat};

const EXAMPLES: &str = "\
Examples:
  wavekeep-server dev                                   a private Postgres under ./wavekeep-data, serving on 127.0.0.1:7460
  wavekeep-server migrate --database-url postgres://wavekeep@db/wavekeep
  wavekeep-server serve   --database-url postgres://wavekeep@db/wavekeep --listen 0.0.0.0:7460
  wavekeep-server workspace create team_7 --database-url postgres://wavekeep@db/wavekeep
  wavekeep-server quarantine list --database-url postgres://wavekeep@db/wavekeep
  wavekeep-server scrub --rate 20MB --database-url postgres://wavekeep@db/wavekeep

Every option has an environment variable, named with it; WAVEKEEP_DATABASE_URL keeps a password out of the process list.";

/// Takes instruments' recordings from agents, stores each chunk exactly once in Postgres, and answers readers.
#[derive(Debug, Parser)]
#[command(name = "wavekeep-server", version, after_help = EXAMPLES, max_term_width = 120)]
pub struct Cli {
    /// How logs are written, to standard error
    #[arg(long, global = true, env = "WAVEKEEP_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// What is logged: `info`, `debug`, `warn,wavekeep_server::ingest=debug`
    #[arg(
        long,
        global = true,
        env = "WAVEKEEP_LOG",
        value_name = "FILTER",
        default_value = "info,sqlx=warn"
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve with a private Postgres of its own: migrated, with workspace `main`
    ///
    /// Adopts the Postgres that a killed server left running, and stops it on SIGTERM, SIGINT and SIGHUP, once every session is drained; a second
    /// signal does not wait for them.
    Dev(dev::DevArgs),
    /// Serve a database that `migrate` has prepared
    Serve(serve::ServeArgs),
    /// Bring a database up to date, and create workspace `main` if there is none
    Migrate(workspace::MigrateArgs),
    /// Create or list workspaces
    Workspace(workspace::WorkspaceArgs),
    /// Look at chunks whose content could not be taken, and replay them
    Quarantine(quarantine::QuarantineArgs),
    /// Read everything that is stored again, and say what is not as it was captured
    ///
    /// Hashes, the chain of digests, the tiling of the sample axis, envelopes against samples. It changes nothing, and works beside servers.
    Scrub(scrub::ScrubArgs),
    /// Print what a shell needs to complete these commands and options
    #[command(after_help = Completions::examples("wavekeep-server"))]
    Completions(Completions),
}

/// Parses the arguments and does what they say. Usage errors end the process with 2, also those that clap does not find.
#[must_use]
pub fn run() -> ExitCode {
    let cli = cli::parse::<Cli>();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wavekeep-server: {error:#}");
            ExitCode::from(if usage::is_usage(&error) { 2 } else { 1 })
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    telemetry::start_logs(cli.log_format, &cli.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = match cli.command {
        Command::Dev(args) => runtime.block_on(dev::run(args)),
        Command::Serve(args) => runtime.block_on(serve::run(args)),
        Command::Migrate(args) => runtime.block_on(workspace::migrate(args)),
        Command::Workspace(args) => runtime.block_on(workspace::run(args)),
        Command::Quarantine(args) => runtime.block_on(quarantine::run(args)),
        Command::Scrub(args) => runtime.block_on(scrub::run(args)),
        Command::Completions(asked) => asked.print::<Cli>().map_err(anyhow::Error::from),
    };
    // Whatever still runs on a blocking thread has nothing more to say.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use wavekeep_proto::cli::broken_promises;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_every_option_a_variable() {
        assert_eq!(broken_promises::<Cli>(), Vec::<String>::new());
    }
}
