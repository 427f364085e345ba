//! Options and subcommands. Every option has an environment variable, and `--help` says so.

mod agent;
mod axis;
mod body;
mod canvas;
mod chunks;
mod compare;
mod export;
mod facts;
pub(crate) mod failure;
mod histogram;
mod import;
mod jls;
mod json;
mod lake;
mod limits;
mod listing;
mod markers;
mod overlay;
mod parquet_file;
mod patience;
mod picture;
mod raw;
mod reconcile;
mod runs;
mod select;
mod state;
mod stats;
mod table;
mod tail;
mod trace;
mod waveform;
mod words;
mod writer;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use wavekeep::Client;
use wavekeep::proto::cli::Completions;
use wavekeep::time::Moment;

use self::failure::Failure;
use self::markers::{Mark, Unmark};
use self::reconcile::Reconcile;
use self::runs::{RunArguments, Runs};
use self::table::Output;
use self::tail::Follow;

const EXAMPLES: &str = "Examples:
  wavekeep devices
  wavekeep waveform --device js220-001 --signal current --from -10s
  wavekeep stats --device js220-001 --signal current --from -10s
  wavekeep compare --first algorithm=A --second algorithm=B
  wavekeep runs --filter 'algorithm=A device~js220-*'
  wavekeep chunks --device js220-001 --follow
  wavekeep tail --device js220-001
  wavekeep gaps --device js220-001
  wavekeep reconcile --device js220-001
  wavekeep export --device js220-001 --from -1h --format parquet --output hour.parquet
  WAVEKEEP_SERVER=http://bench:7460 wavekeep --json streams";

const STATS_EXAMPLES: &str = "Examples:
  wavekeep stats --device js220-001 --signal current
  wavekeep stats --device js220-001 --signal power --run night-1 --json
  wavekeep stats --device js220-001 --from 2026-03-01T12:00:00Z --to 2026-03-01T12:00:10Z
  wavekeep stats --device js220-001 --signal current --percentiles 1,50,99.9 --histogram 40

Finite samples are folded in 64 bits: mean = Σx/n, std = √(Σ(x−mean)²/n), rms = √(Σx²/n), integral = Σx/rate in unit × seconds;
energy_joule is the integral of a signal in W, charge_coulomb of one in A. `power` is derived where a stream has current and voltage.
Missing samples add nothing and are counted: gap_sample_count, gap_s. A percentile is the sample of the nearest rank, ⌈p/100 × n⌉; it and
a histogram take a look at every sample, where the rest comes from envelopes.";

const WAVEFORM_EXAMPLES: &str = "Examples:
  wavekeep waveform --device js220-001 --signal current
  wavekeep waveform --device js220-001 --signal current --signal voltage --from -10s
  wavekeep waveform --device js220-001 --signal power --from 2026-03-01T12:00:00Z --to 2026-03-01T12:00:10Z --points 500 --json

Each column goes from the smallest to the largest sample of its time, so that nothing between is lost. Where samples are missing
there is nothing, and letters below say why. --json prints one object for each signal: time (ns), min, max, mean, count and gaps;
samples in place of min, max, mean and count where there are no more than N. A column without finite samples has null.";

const CHUNKS_EXAMPLES: &str = "Examples:
  wavekeep chunks --device js220-001 --newest-first --limit 20
  wavekeep chunks --device js220-001 --follow
  wavekeep chunks --limit 0 --first-samples 0 --json

`pco 1.05, plain 4.00` is how the columns are encoded, and the bytes that a sample takes so. An agent with --encoding auto measures
what is smallest for each signal, among what it has the time for; its log and its status say why it chose what it did.

First samples that the server does not send are of a damaged column (the server's log says which), or it is an older server.";

const EXPORT_EXAMPLES: &str = "Examples:
  wavekeep export --device js220-001 --from -1h --format parquet --output hour.parquet
  wavekeep export --device js220-001 --format parquet --gaps skip --output lake/ --follow
  wavekeep export --device js220-001 --from -1h --gaps fill --format jls --output hour.jls
  wavekeep export --device js220-001 --from -10s --format csv --output last.csv
  wavekeep export --device js220-001 --run night-1 --signal current --format npy --output night.npy
  wavekeep export --stream 0b1f --format raw --output all.f32

parquet has a column of times (UTC, ns) and one of each signal; labels, units, gaps and digests are its metadata. Into DIR/ it is
workspace=/device=/date=/ with a file for each --file-seconds of each stream, of which an export that is run again writes those that are
not there yet. jls opens in Joulescope's software and pyjls, with times, annotations and summaries.

csv has a line of names (time,current [A]), then RFC 3339 times and the shortest decimals that are read as the same bits; what --gaps
skip leaves out is seen by its times. npy is numpy.load's: of one axis for one signal, (samples, signals) for several of one type.
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
    /// List the stored chunks, or those that are committed from now on.
    #[command(after_help = CHUNKS_EXAMPLES)]
    Chunks(ChunkArguments),
    /// Show what is committed, as it is committed.
    #[command(after_help = tail::EXAMPLES)]
    Tail(Follow),
    /// Draw signals over time.
    #[command(after_help = WAVEFORM_EXAMPLES)]
    Waveform(Draw),
    /// Compute statistics for each signal: mean, energy, charge, …
    #[command(after_help = STATS_EXAMPLES)]
    Stats(StatsArguments),
    /// Say which of two groups of runs takes less, by how much, and how sure that is.
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::Compare),
    /// Write the samples to a file.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// List the runs: what was recorded, by its names and labels.
    #[command(after_help = runs::LIST_EXAMPLES)]
    Runs(Runs),
    /// Make, label, show, delete and import runs.
    Run(RunArguments),
    /// Note something at a time of a device.
    #[command(after_help = markers::MARK_EXAMPLES)]
    Mark(Mark),
    /// Take away notes that were added.
    #[command(after_help = markers::UNMARK_EXAMPLES)]
    Unmark(Unmark),
    /// List the notes: those that came with the samples, and those that were added.
    #[command(after_help = markers::MARKERS_EXAMPLES)]
    Markers(Select),
    /// Say for each stream whether what was captured adds up with what is stored.
    #[command(after_help = reconcile::EXAMPLES)]
    Reconcile(Reconcile),
    /// Print what a shell needs to complete these commands and options.
    #[command(after_help = Completions::examples("wavekeep"))]
    Completions(Completions),
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
    /// The run's streams and times.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_RUN")]
    run: Option<String>,
    /// Only streams that it lets through: `key=value key!=value key~glob key!~glob`, labels, device or run.
    #[arg(long, value_name = "EXPR", env = "WAVEKEEP_FILTER")]
    filter: Option<String>,
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
struct ChunkArguments {
    #[command(flatten)]
    select: Select,
    /// Show at most N chunks; 0 shows all. 100 where nothing is said, and all with --follow.
    #[arg(long, value_name = "N", env = "WAVEKEEP_LIMIT")]
    limit: Option<u32>,
    /// Show the newest first.
    #[arg(long, env = "WAVEKEEP_NEWEST_FIRST", value_parser = BoolishValueParser::new())]
    newest_first: bool,
    /// Show the first N samples of each column.
    #[arg(long, value_name = "N", env = "WAVEKEEP_FIRST_SAMPLES", default_value_t = 3, value_parser = first_samples)]
    first_samples: u32,
    /// Show chunks as they are committed, from now or from --from on, until interrupted.
    #[arg(long, env = "WAVEKEEP_FOLLOW", value_parser = BoolishValueParser::new())]
    follow: bool,
}

impl ChunkArguments {
    fn require_sense(&self) -> Result<(), Failure> {
        let what = match self {
            Self { follow: false, .. } => return Ok(()),
            Self { newest_first: true, .. } => "--newest-first",
            Self {
                select: Select { to: Some(_), .. },
                ..
            } => "--to",
            _ => return Ok(()),
        };
        Err(Failure::Usage(format!(
            "--follow shows what comes, oldest first and without an end: leave out {what}"
        )))
    }
}

#[derive(Debug, Args)]
struct StatsArguments {
    #[command(flatten)]
    select: Select,
    /// Also find these percentiles of the samples, joined by commas: 1,50,99.
    #[arg(long, value_name = "P,…", env = "WAVEKEEP_PERCENTILES", value_delimiter = ',', value_parser = percentile)]
    percentiles: Vec<f64>,
    /// Also count the samples in N bins, and draw them.
    #[arg(long, value_name = "N", env = "WAVEKEEP_HISTOGRAM", value_parser = bins)]
    histogram: Option<u32>,
    /// Where the bins start [default: the smallest sample]
    #[arg(
        long,
        value_name = "VALUE",
        env = "WAVEKEEP_HISTOGRAM_FROM",
        requires = "histogram",
        allow_negative_numbers = true
    )]
    histogram_from: Option<f64>,
    /// Where the bins end [default: the largest sample]
    #[arg(
        long,
        value_name = "VALUE",
        env = "WAVEKEEP_HISTOGRAM_TO",
        requires = "histogram",
        allow_negative_numbers = true
    )]
    histogram_to: Option<f64>,
}

fn percentile(text: &str) -> Result<f64, String> {
    let share = text.trim().parse().ok().filter(|share| (0.0..=100.0).contains(share));
    share.ok_or_else(|| "give numbers from 0 to 100, joined by commas".into())
}

fn bins(text: &str) -> Result<u32, String> {
    within(text, (1, limits::HISTOGRAM_BINS_MAX))
}

#[derive(Debug, Args)]
struct Draw {
    #[command(flatten)]
    select: Select,
    /// At most N columns of each signal of a stream [default: two for each character across; 1000 with --json]
    #[arg(long, value_name = "N", env = "WAVEKEEP_POINTS", value_parser = points)]
    points: Option<u32>,
    /// Characters that each signal's picture is high.
    #[arg(long, value_name = "N", env = "WAVEKEEP_HEIGHT", default_value_t = 8, value_parser = height)]
    height: usize,
}

/// A number within limits.
fn within(text: &str, (least, most): (u32, u32)) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("give a number from {least} to {most}"))
}

fn points(text: &str) -> Result<u32, String> {
    within(text, (1, limits::POINTS_MAX))
}

fn first_samples(text: &str) -> Result<u32, String> {
    within(text, (0, limits::FIRST_SAMPLES_MAX))
}

fn file_seconds(text: &str) -> Result<u32, String> {
    within(text, limits::FILE_SECONDS)
}

fn height(text: &str) -> Result<usize, String> {
    within(text, (2, 200)).map(|number| number as usize)
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    select: Select,
    /// How the file is written.
    #[arg(long, value_enum, env = "WAVEKEEP_EXPORT_FORMAT")]
    format: Format,
    /// The file; for parquet also a directory, DIR/, which gets a file for each --file-seconds of each stream.
    #[arg(long, value_name = "FILE", env = "WAVEKEEP_OUTPUT")]
    output: PathBuf,
    /// What to do about missing samples.
    #[arg(long, value_enum, env = "WAVEKEEP_GAPS", default_value_t = GapPolicy::Fail)]
    gaps: GapPolicy,
    /// Keep the directory current until interrupted: each file appears whole, each sample in one file, across restarts.
    #[arg(long, env = "WAVEKEEP_EXPORT_FOLLOW", value_parser = BoolishValueParser::new())]
    follow: bool,
    /// Seconds of a stream in each file of a directory.
    #[arg(long, value_name = "N", env = "WAVEKEEP_FILE_SECONDS", default_value_t = 60, value_parser = file_seconds)]
    file_seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The samples' own little-endian bytes.
    Raw,
    /// Lines of a time and a number of each signal.
    Csv,
    /// An array for numpy: of one axis, or (samples, signals).
    Npy,
    /// A column of times and one of each signal, for pandas, DuckDB and Spark.
    Parquet,
    /// A JLS v2 file for Joulescope's software and pyjls.
    Jls,
}

impl Format {
    /// Does its beginning say what is known at the end?
    fn is_rewritten(self) -> bool {
        matches!(self, Self::Npy | Self::Jls)
    }

    /// Does it say of itself whose samples it has?
    fn has_facts(self) -> bool {
        matches!(self, Self::Parquet | Self::Jls)
    }

    /// Has it something for a sample that is missing, whatever its type?
    fn has_null(self) -> bool {
        self == Self::Parquet
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GapPolicy {
    /// Refuse, and name them.
    Fail,
    /// Write NaN for each missing sample, only for f32 and f64; null in parquet.
    Fill,
    /// Leave them out: what follows moves up.
    Skip,
}

impl GapPolicy {
    fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Fill => "fill",
            Self::Skip => "skip",
        }
    }
}

impl Arguments {
    /// Is an interrupt how the command ends, when all is well?
    pub(crate) fn ends_by_interrupt(&self) -> bool {
        matches!(
            &self.command,
            Command::Chunks(ChunkArguments { follow: true, .. })
                | Command::Export(Export { follow: true, .. })
                | Command::Tail(_)
        )
    }
}

impl Arguments {
    /// What an interrupt means for what was asked, in words.
    pub(crate) fn interrupted(&self) -> &'static str {
        match &self.command {
            Command::Export(export) if export::goes_on(export) => {
                "interrupted: the files that are there are whole; run it again, and it goes on with those that are not"
            }
            Command::Export(_) => {
                "interrupted, and nothing is left behind: a long export goes on where it stopped with --format parquet --output DIR/"
            }
            _ => "interrupted",
        }
    }
}

/// Runs one command.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
    match &arguments.command {
        Command::Completions(asked) => return Ok(asked.print::<Arguments>()?),
        Command::Stats(StatsArguments { select, .. }) | Command::Waveform(Draw { select, .. }) => {
            select.require_source()?;
        }
        Command::Export(export) => export::require_sense(export)?,
        Command::Chunks(arguments) => arguments.require_sense()?,
        Command::Tail(follow) => follow.require_sense()?,
        Command::Devices
        | Command::Streams(_)
        | Command::Gaps(_)
        | Command::Runs(_)
        | Command::Run(_)
        | Command::Mark(_)
        | Command::Unmark(_)
        | Command::Markers(_)
        | Command::Compare(_)
        | Command::Reconcile(_) => (),
    }
    let client = Client::connect(&common.server, &common.workspace).await?;
    let mut output = Output::new(common.json);
    match &arguments.command {
        Command::Devices => listing::devices(&client, &mut output).await?,
        Command::Streams(select) => listing::streams(&client, select, &mut output).await?,
        Command::Gaps(select) => listing::gaps(&client, select, &mut output).await?,
        Command::Chunks(arguments) => chunks::chunks(&client, arguments, &mut output).await?,
        Command::Tail(follow) => tail::tail(&client, follow, &mut output).await?,
        Command::Waveform(draw) => waveform::waveform(&client, draw, &mut output).await?,
        Command::Stats(arguments) => stats::stats(&client, arguments, &mut output).await?,
        Command::Compare(asked) => compare::compare(&client, asked, &mut output).await?,
        Command::Export(export) => export::export(&client, &common.workspace, export, &mut output).await?,
        Command::Runs(asked) => runs::runs(&client, asked, &mut output).await?,
        Command::Run(arguments) => runs::run(&client, arguments, &mut output).await?,
        Command::Mark(mark) => markers::mark(&client, mark, &mut output).await?,
        Command::Unmark(asked) => markers::unmark(&client, asked, &mut output).await?,
        Command::Markers(select) => markers::markers(&client, select, &mut output).await?,
        Command::Reconcile(asked) => {
            let verdict = reconcile::reconcile(&client, asked, &mut output).await;
            output.finish()?;
            return verdict;
        }
        Command::Completions(_) => (), // needed no server
    }
    output.finish()
}

#[cfg(test)]
mod tests {
    use wavekeep::proto::cli::broken_promises;

    use super::*;

    #[test]
    fn every_command_has_examples_and_every_option_a_variable() {
        assert_eq!(broken_promises::<Arguments>(), Vec::<String>::new());
    }
}
