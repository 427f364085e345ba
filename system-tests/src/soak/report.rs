//! The conservation report: of each device what was captured, and where it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use wavekeep_proto::chunk::Reason;

use super::check::Expected;
use super::tally;
use crate::truth;

/// Several devices in one line.
const COPIES: &str = "copies";

/// Of one device, in samples of its axis.
#[derive(Debug)]
pub(super) struct Row {
    device: String,
    pub(super) streams: u64,
    captured: u64,
    found: truth::Report,
    lost: u64,
    repeated: u64,
    destroyed: u64,
    pub(super) violations: Vec<String>,
}

impl Row {
    pub(super) fn new(expected: &Expected) -> Self {
        Self {
            device: expected.device.clone(),
            streams: 0,
            captured: expected.captured,
            found: truth::Report::default(),
            lost: 0,
            repeated: 0,
            destroyed: 0,
            violations: Vec::new(),
        }
    }

    /// Every stored sample was true; were there as many as were captured?
    pub(super) fn found(&mut self, expected: &Expected, found: &truth::Report, once: u64) {
        self.found = found.clone();
        let missing = self.captured.saturating_sub(once);
        (self.lost, self.destroyed) = if expected.is_destroyed {
            (0, missing)
        } else {
            (missing, 0)
        };
        self.repeated = once.saturating_sub(self.captured);
        let device = &self.device;
        if self.lost > 0 || self.repeated > 0 {
            self.violations.push(format!(
                "{device}: {} samples were captured, and {once} are read",
                self.captured
            ));
        }
        let unexpected = |reason: &&Reason| !expected.reasons.contains(reason);
        for reason in found.gaps.keys().filter(unexpected) {
            self.violations.push(format!("{device}: a gap `{}`", reason.name()));
        }
        if found.samples == 0 {
            self.violations.push(format!("{device}: nothing was stored"));
        }
    }

    fn add(&mut self, other: &Self) {
        self.device = COPIES.into();
        self.streams += other.streams;
        self.captured += other.captured;
        self.found.add(&other.found);
    }

    fn json(&self) -> Value {
        let gaps: BTreeMap<&str, u64> = self
            .found
            .gaps
            .iter()
            .map(|(reason, count)| (reason.name(), *count))
            .collect();
        json!({
            "device": self.device, "streams": self.streams, "captured": self.captured, "stored": self.found.samples,
            "gaps": gaps, "lost": self.lost, "repeated": self.repeated, "destroyed_on_purpose": self.destroyed,
            "violations": self.violations,
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Report {
    /// As it was asked for.
    pub minutes: f64,
    /// Of the choices.
    pub seed: u64,
    /// On TimescaleDB.
    pub has_timescale: bool,
    pub(super) rows: Vec<Row>,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) silences: Vec<Duration>,
    pub(super) notes: Vec<String>,
    /// Of no device alone.
    pub(super) violations: Vec<String>,
}

impl Report {
    /// What must not be, with where it is; empty: all was conserved.
    #[must_use]
    pub fn violations(&self) -> Vec<&str> {
        let of_rows = self.rows.iter().flat_map(|row| &row.violations);
        self.violations.iter().chain(of_rows).map(String::as_str).collect()
    }

    /// Processes that were killed.
    #[must_use]
    pub fn kills(&self) -> u64 {
        tally::kills(&self.faults)
    }

    /// How to do the same again.
    #[must_use]
    pub fn command(&self) -> String {
        let timescale = if self.has_timescale { " TIMESCALE=1" } else { "" };
        format!("make soak MINUTES={} SEED={}{timescale}", self.minutes, self.seed)
    }

    /// What clones captured of their own is one line, if nothing is wrong with it.
    pub(super) fn push(&mut self, row: Row) {
        let is_copy = |row: &Row| row.device.starts_with("copy-") || row.device == COPIES;
        match self
            .rows
            .iter_mut()
            .find(|known| is_copy(known) && known.violations.is_empty())
        {
            Some(known) if is_copy(&row) && row.violations.is_empty() => known.add(&row),
            _ => self.rows.push(row),
        }
    }

    fn altered(&self) -> Option<u64> {
        let all_read = self.rows.iter().all(|row| row.streams > 0) && !self.rows.is_empty();
        // A device is read to its end only if every sample of it is true.
        all_read.then_some(0)
    }

    fn silence_ms(&self) -> Option<[f64; 3]> {
        let mut sorted = self.silences.clone();
        sorted.sort();
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| sorted[(last as f64 * share).round() as usize].as_secs_f64() * 1e3;
        Some([at(0.5), at(0.99), at(1.0)])
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let silence = self.silence_ms();
        json!({
            "passed": self.violations().is_empty(), "minutes": self.minutes, "seed": self.seed, "kills": self.kills(),
            "devices": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "lost": self.rows.iter().map(|row| row.lost).sum::<u64>(),
            "repeated": self.rows.iter().map(|row| row.repeated).sum::<u64>(),
            "altered": self.altered(), "faults": self.faults,
            "death_to_next_commit_ms": silence.map(|[p50, p99, max]| json!({
                "count": self.silences.len(), "p50": p50, "p99": p99, "max": max,
            })),
            "notes": self.notes, "violations": self.violations(), "repeat": self.command(),
        })
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<14}{:>8}{:>14}{:>17}{:>6}{:>10}{:>11}   in named gaps",
            "device", "streams", "captured", "stored and true", "lost", "repeated", "destroyed"
        );
        for row in &self.rows {
            let mut gaps = String::new();
            for (reason, count) in &row.found.gaps {
                let _ = write!(gaps, "  {} {count}", reason.name());
            }
            let _ = writeln!(
                text,
                "{:<14}{:>8}{:>14}{:>17}{:>6}{:>10}{:>11} {gaps}",
                row.device, row.streams, row.captured, row.found.samples, row.lost, row.repeated, row.destroyed
            );
        }
        let altered = match self.altered() {
            Some(altered) => format!(
                "altered: {altered}; every stored sample was compared bit for bit, by SQL and by Query, and the database was scrubbed."
            ),
            None => "altered: unknown; not every device could be read to its end.".into(),
        };
        let _ = writeln!(
            text,
            "{altered}\nDestroyed: damaged on purpose in the only outbox that had them, and too badly to leave a trace.\n"
        );
        for (name, count) in &self.faults {
            let _ = writeln!(text, "{count:>8}  {name}");
        }
        let faults: u64 = self.faults.values().sum();
        let _ = writeln!(
            text,
            "{faults:>8}  faults in all; {} of them killed a process",
            self.kills()
        );
        if let Some([p50, p99, max]) = self.silence_ms() {
            let count = self.silences.len();
            let _ = writeln!(
                text,
                "\nA server's death to the next commit of an agent that it had: p50 {p50:.0} ms, p99 {p99:.0} ms, at most {max:.0} ms ({count} deaths; without those while the database was down or full, or in the 8 s after)"
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        for violation in self.violations() {
            let _ = writeln!(text, "VIOLATED: {violation}");
        }
        let passed = if self.violations().is_empty() {
            "PASSED"
        } else {
            "FAILED"
        };
        let _ = writeln!(text, "\n{passed}: {}", self.command());
        text
    }
}
