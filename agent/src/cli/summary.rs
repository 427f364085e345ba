//! What a capture came to, on standard output.

use std::io::Write;

use serde::Serialize;
use wavekeep_agent::capture::CaptureEnd;
use wavekeep_agent::outbox::Remains;
use wavekeep_agent::status::SourceStatus;

use super::CliError;

/// One object, with `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    device: String,
    /// `complete`, `stopped` or `failed`.
    end: &'static str,
    error: Option<String>,
    /// Samples captured in this run and stored; each counts once, however many signals it has.
    sample_count: u64,
    /// Samples missing, in stored gaps.
    gap_sample_count: u64,
    gap_count: u64,
    chunk_count: u64,
    /// Has the server acknowledged everything in the outbox?
    acknowledged: bool,
    /// What it has not.
    unacknowledged_chunk_count: u64,
    unacknowledged_bytes: u64,
}

impl Summary {
    pub(crate) fn new(source: &SourceStatus, end: &CaptureEnd, remains: Remains) -> Self {
        let (end, error) = match end {
            CaptureEnd::Complete => ("complete", None),
            CaptureEnd::Stopped => ("stopped", None),
            CaptureEnd::Failed(why) => ("failed", Some(why.clone())),
        };
        Self {
            device: source.device.clone(),
            end,
            error,
            sample_count: source.sample_count,
            gap_sample_count: source.gap_sample_count,
            gap_count: source.gap_count,
            chunk_count: source.chunk_count,
            acknowledged: remains.is_nothing(),
            unacknowledged_chunk_count: remains.chunks,
            unacknowledged_bytes: remains.bytes,
        }
    }

    pub(crate) fn print(&self, json: bool) -> Result<(), CliError> {
        let text = if json {
            serde_json::to_string(self).map_err(CliError::failed)?
        } else {
            let Self {
                device,
                end,
                sample_count,
                gap_sample_count,
                gap_count,
                chunk_count,
                ..
            } = self;
            let acked = if self.acknowledged {
                "all acknowledged"
            } else {
                "not all acknowledged"
            };
            format!(
                "{device}: {end}; {sample_count} samples and {gap_sample_count} missing ones in {gap_count} gaps captured, {chunk_count} chunks stored, {acked}"
            )
        };
        print_line(&text)
    }
}

/// A closed pipe is an error like any other, not a panic.
pub(crate) fn print_line(text: &str) -> Result<(), CliError> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| CliError::Failed(format!("the result cannot be written: {error}")))
}
