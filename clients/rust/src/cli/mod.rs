//! Options and subcommands. Every option has an environment variable, and `--help` says so.

mod axis;
mod export;
pub(crate) mod failure;
mod json;
mod limits;
mod listing;
mod raw;
mod select;
mod stats;
mod table;
mod words;
mod writer;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use wavekeep::Client;
use wavekeep::time::Moment;

use self::failure::Failure;
use self::table::Output;

const EXAMPLES: &str = "Examples:
  wavekeep devices
  wavekeep stats --device js220-001 --signal current --from -10s
  wavekeep gaps --device js220-001
  wavekeep export --device js220-001 --signal current --format raw --output current.f32
  WAVEKEEP_SERVER=http://bench:7460 wavekeep --json streams";

const STATS_EXAMPLES: &str = "Examples:
  wavekeep stats --device js220-001 --signal current
  wavekeep stats --device js220-001 --signal power --run night-1 --json
  wavekeep stats --device js220-001 --from 2026-03-01T12:00:00Z --to 2026-03-01T12:00:10Z

Finite samples are folded in 64 bits: mean = Σx/n, std = √(Σ(x−mean)²/n), rms = √(Σx²/n), integral = Σx/rate in unit × seconds;
energy_joule is the integral of a signal in W, charge_coulomb of one in A. `power` is derived where a stream has current and voltage.
Missing samples add nothing and are counted: gap_sample_count.";

const EXPORT_EXAMPLES: &str = "Examples:
  wavekeep export --device js220-001 --signal current --format raw --output current.f32
  wavekeep export --device js220-001 --from -1h --gaps fill --format raw --output both.f32
  wavekeep export --stream 0b1f --format raw --output all.f32

raw is the samples' own little-endian bytes, several signals interleaved in the order of the stream (`wavekeep streams`). Every
sample is verified against its stream's digests. FILE appears whole or not at all; a pipe or /dev/stdout is written to as it is.";

/// Read and verify stored recordings.
#[derive(Debug, Parser)]
#[command(name = "wavekeep", version, after_help = EXAMPLES, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// The server to ask.
    #[arg(
        long,
        global = true,
        display_order = 101,
        value_name = "URL",
        env = "WAVEKEEP_SERVER",
        default_value = "http://127.0.0.1:7460"
    )]
    server: String,
    /// The workspace to read.
    #[arg(
        long,
        global = true,
        display_order = 102,
        value_name = "NAME",
        env = "WAVEKEEP_WORKSPACE",
        default_value = "main"
    )]
    workspace: String,
    /// Print JSON: one object, or one per line.
    #[arg(long, global = true, display_order = 103, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the devices and what is stored of each.
    #[command(after_help = "Example:\n  wavekeep devices --json")]
    Devices,
    /// List the streams: one uninterrupted capture each.
    #[command(after_help = "Examples:\n  wavekeep streams --device js220-001\n  wavekeep streams --from -1h --json")]
    Streams(Select),
    /// List what is missing, and why.
    #[command(after_help = "Examples:\n  wavekeep gaps --device js220-001\n  wavekeep gaps --run night-1 --json")]
    Gaps(Select),
    /// List the stored chunks.
    #[command(
        after_help = "Examples:\n  wavekeep chunks --device js220-001 --newest-first --limit 20\n  wavekeep chunks --limit 0 --json"
    )]
    Chunks {
        #[command(flatten)]
        select: Select,
        /// Show at most N chunks; 0 shows all.
        #[arg(long, value_name = "N", env = "WAVEKEEP_LIMIT", default_value_t = 100)]
        limit: u32,
        /// Show the newest first.
        #[arg(long, env = "WAVEKEEP_NEWEST_FIRST", value_parser = BoolishValueParser::new())]
        newest_first: bool,
    },
    /// Compute statistics for each signal: mean, energy, charge, …
    #[command(after_help = STATS_EXAMPLES)]
    Stats(Select),
    /// Write the samples to a file.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
}

/// Which streams, signals and time.
#[derive(Debug, Args)]
struct Select {
    /// The device's streams.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_DEVICE")]
    device: Option<String>,
    /// One stream, by its id or by the beginning of it.
    #[arg(long, value_name = "ID", env = "WAVEKEEP_STREAM")]
    stream: Option<String>,
    /// The run's streams.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_RUN")]
    run: Option<String>,
    /// Only this signal; may be given several times, and in the variable one a line.
    #[arg(
        long = "signal",
        value_name = "NAME",
        env = "WAVEKEEP_READ_SIGNALS",
        value_delimiter = '\n'
    )]
    signals: Vec<String>,
    /// From this time on: RFC 3339, or -10s for ten seconds before the end.
    #[arg(long, value_name = "TIME", env = "WAVEKEEP_FROM", allow_hyphen_values = true)]
    from: Option<Moment>,
    /// Up to this time, not included: RFC 3339, or -10s.
    #[arg(long, value_name = "TIME", env = "WAVEKEEP_TO", allow_hyphen_values = true)]
    to: Option<Moment>,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    select: Select,
    /// How the file is written.
    #[arg(long, value_enum, env = "WAVEKEEP_EXPORT_FORMAT")]
    format: Format,
    /// The file.
    #[arg(long, value_name = "FILE", env = "WAVEKEEP_OUTPUT")]
    output: PathBuf,
    /// What to do about missing samples.
    #[arg(long, value_enum, env = "WAVEKEEP_GAPS", default_value_t = GapPolicy::Fail)]
    gaps: GapPolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The samples' own little-endian bytes.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GapPolicy {
    /// Refuse, and name them.
    Fail,
    /// Write NaN for each missing sample; only for f32 and f64.
    Fill,
    /// Leave them out: what follows moves up.
    Skip,
}

/// Runs one command.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
    if let Command::Stats(select) | Command::Export(Export { select, .. }) = &arguments.command {
        select.require_source()?;
    }
    let client = Client::connect(&common.server, &common.workspace).await?;
    let mut output = Output::new(common.json);
    match &arguments.command {
        Command::Devices => listing::devices(&client, &mut output).await?,
        Command::Streams(select) => listing::streams(&client, select, &mut output).await?,
        Command::Gaps(select) => listing::gaps(&client, select, &mut output).await?,
        Command::Chunks {
            select,
            limit,
            newest_first,
        } => {
            listing::chunks(&client, select, (*limit, *newest_first), &mut output).await?;
        }
        Command::Stats(select) => stats::stats(&client, select, &mut output).await?,
        Command::Export(export) => export::export(&client, export, &mut output).await?,
    }
    output.finish()
}
