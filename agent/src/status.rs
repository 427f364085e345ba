//! What an agent says of itself: `/status` and the summary at its end are made of these.

use std::collections::BTreeMap;

use serde::Serialize;
use wavekeep_proto::uplink::LinkState;

use crate::outbox::verify::OutboxReport;
use crate::uplink::UplinkStatus;

/// An agent.
#[derive(Debug, Clone, Serialize)]
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
}

/// A source.
#[derive(Debug, Clone, Serialize)]
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
    /// Chunks stored, gaps and ends too.
    pub chunk_count: u64,
    /// Of each signal that `--encoding auto` chose for: what, and why.
    pub encodings: BTreeMap<String, String>,
}

/// The link to the server.
#[derive(Debug, Clone, Serialize)]
pub struct LinkStatus {
    /// `down`, `connecting`, `up` or `draining`.
    pub state: String,
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

impl From<UplinkStatus> for LinkStatus {
    fn from(status: UplinkStatus) -> Self {
        let state = match status.link {
            LinkState::Down => "down",
            LinkState::Connecting => "connecting",
            LinkState::Up => "up",
            LinkState::Draining => "draining",
        };
        Self {
            state: state.into(),
            window_bytes: status.window_bytes,
            in_flight_bytes: status.in_flight_bytes,
            acked_chunk_count: status.acked_chunks,
            last_error: status.last_error,
            alarm_count: status.alarm_count,
            alarms: status.alarms.into(),
        }
    }
}
