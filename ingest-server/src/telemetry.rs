//! What the server says about itself: logs to standard error, and the metrics of `/metrics`.
//!
//! Every metric has its name here, once, with what it means. Labels take their values from closed sets only: an agent cannot
//! make the server remember names.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use wavekeep_proto::code::Code;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Installed twice.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a filter.
    #[error("the log filter is not usable ({0}): give one like `info` or `info,wavekeep_server=debug`")]
    Filter(String),
    /// A second recorder or subscriber in one process.
    #[error("logs or metrics are set up already: {0}")]
    Twice(String),
}

/// Logs go to standard error from now on. `filter` as `tracing` has it: `info`, `wavekeep_server=debug`.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| TelemetryError::Twice(error.to_string()))
}

/// Metrics are recorded from now on; the handle renders them.
pub fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let twice = |error: &dyn std::fmt::Display| TelemetryError::Twice(error.to_string());
    let mut builder = PrometheusBuilder::new();
    for (name, _, buckets) in histogram::ALL {
        builder = builder
            .set_buckets_for_metric(Matcher::Full((*name).into()), buckets)
            .map_err(|error| twice(&error))?;
    }
    let handle = builder.install_recorder().map_err(|error| twice(&error))?;
    for (name, help) in counter::ALL {
        metrics::describe_counter!(*name, *help);
    }
    for (name, help) in gauge::ALL {
        metrics::describe_gauge!(*name, *help);
    }
    for (name, help, _) in histogram::ALL {
        metrics::describe_histogram!(*name, *help);
    }
    Ok(handle)
}

/// A refusal's label.
#[must_use]
pub const fn code_label(code: Code) -> &'static str {
    match code {
        Code::Version => "version",
        Code::UnknownWorkspace => "unknown_workspace",
        Code::Unauthenticated => "unauthenticated",
        Code::Forbidden => "forbidden",
        Code::Busy => "busy",
        Code::LedgerUnavailable => "ledger_unavailable",
        Code::Fenced => "fenced",
        Code::DefinitionMismatch => "definition_mismatch",
        Code::InvalidDefinition => "invalid_definition",
        Code::OutOfOrder => "out_of_order",
        Code::Damaged => "damaged",
        Code::InvalidChunk => "invalid_chunk",
        Code::TooManySlots => "too_many_slots",
        Code::Protocol => "protocol",
        Code::WindowExceeded => "window_exceeded",
        Code::SlowReader => "slow_reader",
        Code::StreamEnded => "stream_ended",
        Code::Unsupported => "unsupported",
    }
}

macro_rules! metric_table {
    ($kind:ident { $($name:ident = $text:literal $help:literal,)* }) => {
        $(#[doc = $help] pub const $name: $kind = $kind($text);)*
        pub(super) const ALL: &[(&str, &str)] = &[$(($text, $help),)*];
    };
}

/// What only rises.
pub mod counter {
    /// A counter's name.
    #[derive(Debug, Clone, Copy)]
    pub struct Counter(&'static str);

    impl Counter {
        /// More of it.
        pub fn add(self, more: u64) {
            metrics::counter!(self.0).increment(more);
        }
        /// More of it, of one kind.
        pub fn add_of(self, label: &'static str, value: &'static str, more: u64) {
            metrics::counter!(self.0, label => value).increment(more);
        }
    }

    metric_table!(Counter {
        ACCEPTED_BYTES = "wavekeep_accepted_bytes_total" "Flow bytes of chunks that sessions accepted",
        ACCEPTED_CHUNKS = "wavekeep_accepted_chunks_total" "Chunks that sessions accepted",
        COMMITTED_BYTES = "wavekeep_committed_bytes_total" "Flow bytes of chunks that are committed",
        COMMITTED_CHUNKS = "wavekeep_committed_chunks_total" "Chunks that are committed",
        COMMITTED_SAMPLES = "wavekeep_committed_samples_total" "Samples that are committed, each signal's counted",
        FENCED_CHUNKS = "wavekeep_fenced_chunks_total" "Chunks not stored because another session owns their stream",
        LOST_CHUNKS = "wavekeep_lost_chunks_total" "Chunks given back because the ledger failed; their agents send them again",
        QUARANTINED_CHUNKS = "wavekeep_quarantined_chunks_total" "Intact but unacceptable chunks kept in quarantine",
        REFUSALS = "wavekeep_refusals_total" "Refusals of sessions and slots, by code",
        SESSIONS_STARTED = "wavekeep_sessions_started_total" "Sessions that agents started",
        CONNECTIONS_REFUSED = "wavekeep_connections_refused_total" "Connections closed at once because too many were open",
        LEDGER_ERRORS = "wavekeep_ledger_errors_total" "Failures of the database, by kind",
    });
}

/// What stands somewhere.
pub mod gauge {
    /// A gauge's name.
    #[derive(Debug, Clone, Copy)]
    pub struct Gauge(&'static str);

    impl Gauge {
        /// It stands here.
        pub fn set(self, value: u64) {
            metrics::gauge!(self.0).set(value as f64);
        }
    }

    metric_table!(Gauge {
        SESSIONS = "wavekeep_sessions" "Sessions that have a seat",
        SESSIONS_HOT = "wavekeep_sessions_hot" "Of these, those of which chunks come; they share the memory budget",
        CONNECTIONS = "wavekeep_connections" "gRPC connections that are open",
        WINDOW_BYTES = "wavekeep_window_bytes" "The window of every session",
        MEMORY_BUDGET_BYTES = "wavekeep_memory_budget_bytes" "The budget for chunks in memory",
        MEMORY_IN_USE_BYTES = "wavekeep_memory_in_use_bytes" "Bytes of chunks in memory",
        LEDGER_UP = "wavekeep_ledger_up" "1 while the database answers",
        READY = "wavekeep_ready" "1 while new agents are welcome",
    });
}

/// What is spread.
pub mod histogram {
    const SECONDS: &[f64] = &[
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    ];
    const BYTES: &[f64] = &[
        1024.0,
        16_384.0,
        65_536.0,
        262_144.0,
        1_048_576.0,
        2_097_152.0,
        4_194_304.0,
        8_388_608.0,
        16_777_216.0,
    ];
    const COUNT: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 8192.0];
    const AGE_SECONDS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0, 604_800.0];

    /// A histogram's name.
    #[derive(Debug, Clone, Copy)]
    pub struct Histogram(&'static str);

    impl Histogram {
        /// Once more.
        pub fn record(self, value: f64) {
            metrics::histogram!(self.0).record(value);
        }
    }

    macro_rules! histograms {
        ($($name:ident = $text:literal $buckets:ident $help:literal,)*) => {
            $(#[doc = $help] pub const $name: Histogram = Histogram($text);)*
            pub(super) const ALL: &[(&str, &str, &[f64])] = &[$(($text, $help, $buckets),)*];
        };
    }

    histograms! {
        COMMIT_SECONDS = "wavekeep_commit_seconds" SECONDS "One transaction, from BEGIN to the answer to COMMIT",
        ACCEPTED_TO_COMMITTED_SECONDS = "wavekeep_accepted_to_committed_seconds" SECONDS "From accepting the oldest chunk of an entry to its commit",
        OPEN_SECONDS = "wavekeep_open_seconds" SECONDS "Taking a stream's row",
        GROUP_BYTES = "wavekeep_group_bytes" BYTES "Flow bytes of one group commit",
        GROUP_CHUNKS = "wavekeep_group_chunks" COUNT "Chunks of one group commit",
        REPORTED_UNACKED_AGE_SECONDS = "wavekeep_reported_unacked_age_seconds" AGE_SECONDS "Age of the oldest un-acked chunk, as agents report it with each heartbeat",
    }
}
