//! The agent's metrics: every name, with what it means, in one place. They are served by [`crate::admin`].
//!
//! A library user who has a recorder of its own sees the same names there.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// From the end of a chunk's last sample to its ack, of live sources: what was captured is committed that much later.
pub(crate) const ACK_LATENCY: &str = "wavekeep_agent_ack_latency_seconds";

/// Finest where the budget lies: half within 0.15 s, all but one in a hundred within 0.5 s.
const ACK_LATENCY_BUCKETS: &[f64] = &[
    0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 3600.0,
];

macro_rules! names {
    ($all:ident: $($name:ident = $text:literal $help:literal,)*) => {
        $(pub(crate) const $name: &str = $text;)*
        const $all: &[(&str, &str)] = &[$(($text, $help),)*];
    };
}

names! { COUNTERS:
    SAMPLES = "wavekeep_agent_samples_total" "Samples captured, of each signal",
    GAP_SAMPLES = "wavekeep_agent_gap_samples_total" "Samples that the source reported missing",
    GAPS = "wavekeep_agent_gaps_total" "Gaps that the source reported",
    CHUNKS = "wavekeep_agent_chunks_total" "Chunks captured",
    STORED_CHUNKS = "wavekeep_agent_stored_chunks_total" "Chunks written to the outbox",
    STORED_BYTES = "wavekeep_agent_stored_bytes_total" "Bytes written to the outbox",
    RELEASED_CHUNKS = "wavekeep_agent_released_chunks_total" "Acked chunks that left the outbox",
    EVICTED_SAMPLES = "wavekeep_agent_evicted_samples_total" "Samples lost for want of room: each in a named gap",
    CORRUPT_SAMPLES = "wavekeep_agent_corrupt_samples_total" "Samples lost to bad bytes on the disk: each in a named gap",
    ACKED_CHUNKS = "wavekeep_agent_acked_chunks_total" "Chunks that the server has committed",
    CONNECTS = "wavekeep_agent_connects_total" "Attempts to connect",
    SENT_FRAMES = "wavekeep_agent_sent_frames_total" "Frames given to the transport",
    OUTBOX_ERRORS = "wavekeep_agent_outbox_errors_total" "Times that the uplink could not use the outbox",
    UPLINK_PANICS = "wavekeep_agent_uplink_panics_total" "Mistakes of our own in the uplink",
    ALARMS = "wavekeep_agent_alarms_total" "Alarms, by kind",
}

names! { GAUGES:
    SOURCE_FAILED = "wavekeep_agent_source_failed" "1 if the source has failed",
    LINK_UP = "wavekeep_agent_link_up" "1 while a session is up",
    SCHEDULE_OPEN = "wavekeep_agent_schedule_open" "0 while --schedule allows no session, else 1",
    UPLOAD_LIMIT_BYTES = "wavekeep_agent_upload_limit_bytes" "Most bytes per second that are sent; 0 without a limit",
    WINDOW_BYTES = "wavekeep_agent_window_bytes" "The window last received; 0 without a session",
    IN_FLIGHT_BYTES = "wavekeep_agent_in_flight_bytes" "Sent and not yet acked",
    OUTBOX_HELD_BYTES = "wavekeep_agent_outbox_held_bytes" "Bytes that the outbox holds, acked or not",
    OUTBOX_UNACKED_BYTES = "wavekeep_agent_outbox_unacked_bytes" "Bytes that no ack covers",
    OUTBOX_UNACKED_CHUNKS = "wavekeep_agent_outbox_unacked_chunks" "Chunks that no ack covers",
    OLDEST_UNACKED = "wavekeep_agent_oldest_unacked_seconds" "Age of the oldest chunk that no ack covers",
}

/// Metrics are recorded from now on; the handle renders them. An error if the process has a recorder already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let latency = Matcher::Full(ACK_LATENCY.into());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(latency, ACK_LATENCY_BUCKETS)?
        .install_recorder()?;
    for (name, help) in COUNTERS {
        metrics::describe_counter!(*name, *help);
    }
    for (name, help) in GAUGES {
        metrics::describe_gauge!(*name, *help);
    }
    metrics::describe_histogram!(ACK_LATENCY, "From the end of a live chunk's last sample to its ack");
    Ok(handle)
}
