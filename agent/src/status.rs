//! What an agent says of itself: `/status` and the summary at its end are made of these.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wavekeep_proto::uplink::LinkState;

use crate::outbox::verify::OutboxReport;
use crate::uplink::UplinkStatus;

/// An agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Of the agent's program.
    pub version: String,
    /// Its sources, also those that have ended.
    pub sources: Vec<SourceStatus>,
    /// Its link to the server.
    pub link: LinkStatus,
    /// What it holds.
    pub outbox: OutboxReport,
    /// Age of the oldest chunk that no ack covers; 0 when there is none.
    pub oldest_unacked_ms: u64,
    /// Chunks that no ack covers.
    pub unacked_chunk_count: u64,
    /// Bytes that the outbox may hold.
    pub quota_bytes: u64,
    /// Samples that became gaps `evicted` since the start.
    pub evicted_sample_count: u64,
    /// Samples that became gaps `corrupt` since the start.
    pub corrupt_sample_count: u64,
    /// From sample to ack.
    pub lag: LagStatus,
    /// Since the start.
    pub uptime_ms: u64,
}

/// How long the last chunks of live sources took, from their last sample to their ack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LagStatus {
    /// Of so many chunks.
    pub chunk_count: u64,
    /// Half of them within this.
    pub p50_ms: Option<f64>,
    /// All but one in a hundred within this.
    pub p99_ms: Option<f64>,
}

/// The labels of a source, changed while it is live or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelsStatus {
    /// The device.
    pub device: String,
    /// Of the stream that is captured now.
    pub labels: BTreeMap<String, String>,
    /// Nothing is asked for that is yet to be done.
    pub settled: bool,
}

/// What an instrument is set to, after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsStatus {
    /// The device.
    pub device: String,
    /// What somebody has set, when it was started or since.
    pub settings: BTreeMap<String, String>,
}

/// Gaps of one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapsStatus {
    /// Gaps.
    pub gap_count: u64,
    /// Samples in them.
    pub sample_count: u64,
}

/// A source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The device that it reads.
    pub device: String,
    /// `waiting`, `capturing`, `blocked`, `ended` or `failed`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Samples stored, of all its streams; each counts once, however many signals it has.
    pub sample_count: u64,
    /// Samples that are missing and lie in stored gaps.
    pub gap_sample_count: u64,
    /// Those gaps.
    pub gap_count: u64,
    /// The same, by reason.
    pub gaps_by_reason: BTreeMap<String, GapsStatus>,
    /// Chunks stored, gaps and ends too.
    pub chunk_count: u64,
    /// Of each signal that `--encoding auto` chose for: what, and why.
    pub encodings: BTreeMap<String, String>,
    /// What the instrument is set to, as far as anybody has said.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Since a chunk was last stored.
    pub last_chunk_age_ms: Option<u64>,
}

/// The link to the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkStatus {
    /// `down`, `connecting`, `up` or `draining`.
    pub state: String,
    /// The server, as the agent was told.
    pub server: String,
    /// Since the session is up; none without one.
    pub session_age_ms: Option<u64>,
    /// Since chunks were last acked.
    pub last_ack_age_ms: Option<u64>,
    /// Most bytes per second that are sent.
    pub upload_limit_bytes: Option<u64>,
    /// The hours in which there may be a session.
    pub schedule: Option<String>,
    /// They have not begun: until when (RFC 3339, in the schedule's time zone).
    pub closed_until: Option<String>,
    /// Bytes that may be in flight.
    pub window_bytes: u64,
    /// Bytes sent and not yet acked.
    pub in_flight_bytes: u64,
    /// Chunks acked since the agent started.
    pub acked_chunk_count: u64,
    /// Why there was no session, last time there was none.
    pub last_error: Option<String>,
    /// Alarms since the agent started.
    pub alarm_count: u64,
    /// The newest of them, oldest first.
    pub alarms: Vec<String>,
}

impl LinkStatus {
    /// As it is at `now` on the agent's clock.
    #[must_use]
    pub fn new(status: UplinkStatus, now: Duration) -> Self {
        let state = match status.link {
            LinkState::Down => "down",
            LinkState::Connecting => "connecting",
            LinkState::Up => "up",
            LinkState::Draining => "draining",
        };
        let age_ms = |since: Duration| milliseconds(now.saturating_sub(since));
        Self {
            state: state.into(),
            server: status.server,
            session_age_ms: status.session_since.map(age_ms),
            last_ack_age_ms: status.last_ack.map(age_ms),
            upload_limit_bytes: status.upload_limit_bytes,
            schedule: status.schedule,
            closed_until: status.closed_until,
            window_bytes: status.window_bytes,
            in_flight_bytes: status.in_flight_bytes,
            acked_chunk_count: status.acked_chunks,
            last_error: status.last_error,
            alarm_count: status.alarm_count,
            alarms: status.alarms.into(),
        }
    }
}

/// Saturating.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
