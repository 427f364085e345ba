//! The command line. Every option has an environment variable. Results go to standard output, logs and
//! progress to standard error; exit 0 only on full success, 2 for a usage error, 1 otherwise, with one sentence.

mod agent;
mod carried;
mod devices;
mod doctor;
mod joulescope;
mod label;
mod outbox;
mod progress;
mod replay;
mod run;
mod set;
mod signals;
mod status;
mod summary;
mod values;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use wavekeep_agent::admin::AdminError;
use wavekeep_agent::encode::EncodingChoice;
use wavekeep_agent::outbox::{Durability, QUOTA_BYTES_MIN, WhenFull};
use wavekeep_agent::schedule::Schedule;
use wavekeep_proto::cli::{self, Completions};

const EXAMPLES: &str = "\
Examples:
  wavekeep-agent run --outbox ./outbox --device demo --simulate js220 --duration 10s
  wavekeep-agent replay current.f32.bin --outbox ./outbox --device ppk2 --rate 100000 --start 2026-01-31T12:00:00Z
  wavekeep-agent devices
  wavekeep-agent run --outbox ./outbox --joulescope
  wavekeep-agent status --outbox ./outbox
  wavekeep-agent label algorithm=B --outbox ./outbox
  wavekeep-agent set power=off --outbox ./outbox

Every command has more of them: wavekeep-agent run --help";

const RUN_EXAMPLES: &str = "\
Examples:
  wavekeep-agent run --outbox /var/lib/wavekeep --joulescope                                all that are plugged in, now and later
  wavekeep-agent run --outbox /var/lib/wavekeep --device bench-3 --joulescope 001122
  wavekeep-agent run --outbox /var/lib/wavekeep --joulescope 001122 --joulescope 003344 --settings rate=100000,statistics=10
  wavekeep-agent run --outbox /var/lib/wavekeep --device bench-3 --simulate js220,rate=1000000,seed=7
  wavekeep-agent run --outbox ./outbox --device bench-3 --simulate js220 --schedule 22:00-06:00,12:00-13:00 --upload-limit 2MiB
  wavekeep-agent run --outbox ./outbox --device demo --simulate js110 --duration 10s --run baseline --label firmware=1.4.2
  ./read-my-scope | wavekeep-agent run --outbox ./outbox --device scope --stdin raw --signal current:A --signal voltage:V --rate 1e6
  ./read-my-meter | wavekeep-agent run --outbox ./outbox --device meter --stdin csv --rate 10

What is captured is in the outbox at once and on the server when that can be reached. Ctrl-C ends the capture and gives the uplink
ten seconds to deliver the rest; a second one ends at once. Nothing is lost: the next run on this outbox sends what remains.

--chunk-period 50ms is near real time, --chunk-period 1h with --schedule 22:00-06:00 a nightly batch; neither changes what is captured.";

const DEVICES_EXAMPLES: &str = "\
Examples:
  wavekeep-agent devices
  wavekeep-agent devices --json | jq -r '.[].serial'

An instrument is asked for its firmware unless another program uses it; what it measures is not disturbed. It ends with 1 if one that is
plugged in cannot be captured, and says what to do.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  wavekeep-agent replay current.f32.bin --outbox ./outbox --device ppk2 --rate 100000 --start 2026-01-31T12:00:00Z
  wavekeep-agent replay iv.bin --dtype i16 --signal current:A --signal voltage:V --outbox ./outbox --device scope --rate 2e6 --start 2026-01-31T12:00:00Z --speed 1
  wavekeep-agent replay 20260131_120000.jls --outbox ./outbox --device js220
  wavekeep-agent replay scope.csv --dtype f32 --outbox ./outbox --device scope
  wavekeep-agent replay iv.npy --signal current:A --signal voltage:V --outbox ./outbox --device smu --rate 1000 --start 2026-01-31T12:00:00Z
  wavekeep-agent replay traces.npy --join-rows --signal voltage:V --outbox ./outbox --device target --rate 29.5e6 --start 2026-01-31T12:00:00Z
  wavekeep-agent replay /media/stick --format chunks --outbox ./outbox --device bench-3
  wavekeep-agent replay trace1-energy.bin --outbox ./outbox --device dut --start 2026-01-31T12:00:00Z

csv: a line of names with units (time,current [A]), then numbers; the column named time, timestamp or t is RFC 3339, or seconds, or
time_ms, time_us, time_ns. Times must be regular within half a sample; whole samples that are missing become a gap.
npy: 1-D is one signal, 2-D is (samples, signals). energyrunner (…-energy.bin): …-timestamps.json beside it becomes markers.
docs/FILES.md has all of it.
chunks: what `wavekeep-agent outbox export` wrote of the device, a file or all files of a directory; the streams stay the ones they were, so
a server that has a part of one gets the rest of it.

A JLS file says itself what it holds and when that was recorded.
The same file is the same stream, from wherever it is replayed: doing it again stores nothing twice and finishes what was interrupted.";

const LABEL_EXAMPLES: &str = "\
Examples:
  wavekeep-agent label algorithm=B --outbox /var/lib/wavekeep
  wavekeep-agent label algorithm=C firmware=1.4.3 operator= --outbox ./outbox

The stream that is captured ends, and the next one begins at the next sample that the device delivers, with these labels. No sample
is lost, and sample ids go on: readers see one recording of the device. Labels that are not named stay.";

const SET_EXAMPLES: &str = "\
Examples:
  wavekeep-agent set power=off --outbox /var/lib/wavekeep
  wavekeep-agent set power=on current_range='180 mA' --outbox /var/lib/wavekeep --device js220-001122
  wavekeep-agent set gpo0=1 --outbox ./outbox --json

The stream goes on, no sample is lost. It answers once the instrument has confirmed, within 3 s, and then the sample has a marker, like
\"settings power=off\". A value that the instrument does not offer is answered by those that it does. One that is unplugged gets the same
settings when it is back. signals, rate and statistics change the streams themselves: they are given when the agent starts.";

const STATUS_EXAMPLES: &str = "\
Examples:
  wavekeep-agent status --outbox /var/lib/wavekeep
  wavekeep-agent status --outbox /var/lib/wavekeep --json | jq .lag.p99_ms

On a terminal it is drawn anew each second, until Ctrl-C.";

const OUTBOX_EXAMPLES: &str = "\
Examples:
  wavekeep-agent outbox status /var/lib/wavekeep --json
  wavekeep-agent outbox verify /var/lib/wavekeep                          what is intact, what is damaged, and since when
  wavekeep-agent outbox export /var/lib/wavekeep --output /media/stick    what is intact, as files for replay
  wavekeep-agent outbox repair /var/lib/wavekeep --yes                    damage becomes named gaps; the agent can go on

The three open any outbox, also one that no agent can open. Stop its agent before. docs/OPERATIONS.md has it step by step.";

/// Captures instruments into a durable outbox and brings what was captured to a Wavekeep server, once and provably.
#[derive(Debug, Parser)]
#[command(name = "wavekeep-agent", version, propagate_version = true, max_term_width = 120, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines on standard error look
    #[arg(long, global = true, display_order = 900, env = "WAVEKEEP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or a tracing filter
    #[arg(
        long,
        global = true,
        env = "WAVEKEEP_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Captures a device until it is stopped, or for a duration
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<run::RunArgs>),
    /// Lists the instruments that are plugged in, and says what is wrong with one that cannot be captured
    #[command(after_help = DEVICES_EXAMPLES)]
    Devices(devices::DevicesArgs),
    /// Brings a recorded file to the server
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Box<replay::ReplayArgs>),
    /// Changes the labels of what an agent captures, while it does
    #[command(after_help = LABEL_EXAMPLES)]
    Label(label::LabelArgs),
    /// Changes what an instrument is set to, while an agent captures it: range, outputs, power of the device under test
    #[command(after_help = SET_EXAMPLES)]
    Set(set::SetArgs),
    /// Shows how a running agent stands: its sources, outbox, link, lag and gaps
    #[command(after_help = STATUS_EXAMPLES)]
    Status(status::StatusArgs),
    /// Looks at an outbox, brings to safety what is intact of a damaged one, and repairs it
    #[command(subcommand, after_help = OUTBOX_EXAMPLES)]
    Outbox(outbox::OutboxCommand),
    /// Prints what a shell needs to complete these commands and options
    #[command(after_help = Completions::examples("wavekeep-agent"))]
    Completions(Completions),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Of every capture.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// The server; it need not be there yet
    #[arg(
        long,
        env = "WAVEKEEP_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7460"
    )]
    server: String,
    /// The outbox's directory; made if it is not there
    #[arg(long, env = "WAVEKEEP_OUTBOX", value_name = "DIR")]
    outbox: PathBuf,
    /// The use case that the recording belongs to
    #[arg(long, env = "WAVEKEEP_WORKSPACE", value_name = "NAME", default_value = "main", value_parser = values::name)]
    workspace: String,
    /// The run that the recording belongs to
    #[arg(long, env = "WAVEKEEP_RUN", value_name = "NAME", value_parser = values::name)]
    run: Option<String>,
    /// A label of the recording; may be given several times [in the environment: one a line]
    #[arg(long = "label", env = "WAVEKEEP_LABELS", value_name = "KEY=VALUE", value_delimiter = '\n', value_parser = values::label)]
    labels: Vec<(String, String)>,
    /// A chunk is cut after this much time at the latest, from 50ms to 1h; also after 65,536 samples
    #[arg(long, env = "WAVEKEEP_CHUNK_PERIOD", value_name = "DURATION", default_value = "1s", value_parser = values::chunk_period)]
    chunk_period: Duration,
    /// Most bytes per second to send, like 2MiB [default: no limit]
    #[arg(long, env = "WAVEKEEP_UPLOAD_LIMIT", value_name = "BYTES/s", value_parser = values::bytes_per_s)]
    upload_limit: Option<u64>,
    /// Uploads only in these hours of the day, like 22:00-06:00 or 12:00-13:00,22:00-06:00; local time, or with UTC at the end
    #[arg(long, env = "WAVEKEEP_SCHEDULE", value_name = "HH:MM-HH:MM", value_parser = Schedule::parse)]
    schedule: Option<Schedule>,
    /// How samples are encoded: auto (measured for each signal: the smallest that there is time for), plain, shuffle-zstd or pco
    #[arg(long, env = "WAVEKEEP_ENCODING", value_name = "ENCODING", default_value = "auto")]
    encoding: EncodingChoice,
    /// After a stop, the uplink has this long to deliver the rest
    #[arg(long, env = "WAVEKEEP_DRAIN_WAIT", value_name = "DURATION", default_value = "10s", value_parser = values::duration_or_zero)]
    drain_wait: Duration,
    /// Where the admin socket is [default: agent.sock in the outbox's directory]
    #[arg(long, env = "WAVEKEEP_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Prints the summary as one JSON object
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// How the outbox stores.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// When what is stored is synced to the disk: a power cut loses what was not
    #[arg(long, env = "WAVEKEEP_FSYNC", value_enum, default_value_t = Fsync::Interval)]
    fsync: Fsync,
    /// What was stored longer ago than this is on the disk, with --fsync interval and a disk that syncs in half the time
    #[arg(long, env = "WAVEKEEP_FSYNC_INTERVAL", value_name = "DURATION", default_value = "100ms", value_parser = values::duration)]
    fsync_interval: Duration,
    /// Bytes that the outbox may hold
    #[arg(long, env = "WAVEKEEP_QUOTA", value_name = "SIZE", default_value = "16GiB", value_parser = quota)]
    quota: u64,
    /// At the quota: the oldest samples become named gaps, or the device waits (the replay of a file always waits)
    #[arg(long, env = "WAVEKEEP_WHEN_FULL", value_enum, default_value_t = WhenFullArg::Evict)]
    when_full: WhenFullArg,
    /// How long acknowledged chunks stay, so that a server that lost them can be healed
    #[arg(long, env = "WAVEKEEP_HOLD_BACK", value_name = "DURATION", default_value = "20m", value_parser = values::duration_or_zero)]
    hold_back: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Fsync {
    Interval,
    EachChunk,
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhenFullArg {
    Evict,
    Block,
}

fn quota(text: &str) -> Result<u64, String> {
    let bytes = values::size(text)?;
    if bytes < QUOTA_BYTES_MIN {
        return Err(format!("an outbox needs at least {} MiB", QUOTA_BYTES_MIN >> 20));
    }
    Ok(bytes)
}

impl StoreArgs {
    fn durability(&self) -> Durability {
        match self.fsync {
            Fsync::Interval => Durability::Interval(self.fsync_interval),
            Fsync::EachChunk => Durability::EachChunk,
            Fsync::Never => Durability::Never,
        }
    }

    fn when_full(&self) -> WhenFull {
        match self.when_full {
            WhenFullArg::Evict => WhenFull::Evict,
            WhenFullArg::Block => WhenFull::Block,
        }
    }
}

/// Why a command did not succeed, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// What was asked for is not complete; a summary has said so.
    #[error("{0}")]
    Incomplete(String),
}

impl CliError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    /// Of an agent that was asked for something which `needs` it to run.
    fn unanswered(error: &AdminError, needs: &str) -> Self {
        if error.is_silence() {
            return Self::Failed(format!("{error}: {needs}; start one, or name its outbox with --outbox"));
        }
        Self::failed(error)
    }
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let cli = cli::parse::<Cli>();
    if let Err(error) = init_logs(&cli) {
        return report(&error);
    }
    let result = match cli.command {
        Command::Run(args) => run::run(*args),
        Command::Devices(args) => devices::devices(&args),
        Command::Replay(args) => replay::replay(*args),
        Command::Label(args) => label::label(args),
        Command::Set(args) => set::set(args),
        Command::Status(args) => status::status(&args),
        Command::Outbox(command) => outbox::run(command),
        Command::Completions(asked) => asked.print::<Cli>().map_err(CliError::failed),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &CliError) -> ExitCode {
    // With nobody to read it, the exit code still says it.
    let _ = writeln!(std::io::stderr(), "wavekeep-agent: {error}");
    match error {
        CliError::Usage(_) => ExitCode::from(2),
        CliError::Failed(_) | CliError::Incomplete(_) => ExitCode::from(1),
    }
}

fn init_logs(cli: &Cli) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&cli.log).map_err(|error| {
        CliError::Usage(format!(
            "`{}` is no log filter ({error}): write error, warn, info or debug",
            cli.log
        ))
    })?;
    let colours = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::LogWriter)
        .with_ansi(colours);
    match cli.log_format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wavekeep_proto::cli::broken_promises;

    use super::*;

    #[test]
    fn every_command_has_examples_and_every_option_a_variable() {
        assert_eq!(broken_promises::<Cli>(), Vec::<String>::new());
    }
}
