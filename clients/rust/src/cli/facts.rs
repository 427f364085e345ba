//! What a file says of itself beside its samples: whose they are, what is missing, and which digests prove them.
//!
//! # Invariants
//! - Nothing in it says when or where it was exported: the same selection gives the same facts, while nobody labels its runs anew.
//! - I12: at most [`GAPS_LISTED_MAX`] gaps are listed; the others are counted.

use std::collections::BTreeMap;

use serde::Serialize;
use wavekeep::proto::id::Hash;
use wavekeep::proto::stream::Signal;
use wavekeep::{Gap, Run, StreamInfo, StreamManifest};

use super::GapPolicy;
use super::limits::GAPS_LISTED_MAX;

/// Of these facts: a reader that finds another number asks for a newer version of itself.
const FORMAT: &str = "1";

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Facts {
    workspace: String,
    gap_policy: &'static str,
    signals: Vec<SignalFacts>,
    streams: Vec<StreamFacts>,
    runs: Vec<RunFacts>,
    gaps: Vec<GapFacts>,
    gaps_not_listed: u64,
}

#[derive(Debug, Serialize)]
struct SignalFacts {
    name: String,
    unit: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// One stream, or the part of it that is in the file.
#[derive(Debug, Serialize)]
struct StreamFacts {
    stream: String,
    device: String,
    run: String,
    labels: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    epoch: String,
    rate_hz: f64,
    first_sample: u64,
    end_sample: u64,
    first_seq: u64,
    last_seq: u64,
    digest_before: Option<String>,
    digest: String,
}

/// A run that was asked for, with what people said of it. The labels of its streams are theirs: which ones all of them share is
/// another answer when one more is recorded.
#[derive(Debug, Serialize)]
struct RunFacts {
    run: String,
    labels: BTreeMap<String, String>,
    note: String,
    parent: Option<String>,
}

#[derive(Debug, Serialize)]
struct GapFacts {
    stream: String,
    first_sample: u64,
    count: u64,
    from_ns: i64,
    to_ns: i64,
    reason: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signals: Vec<String>,
}

/// Where the samples of a stream lie, and the digests around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) samples: (u64, u64),
    pub(super) seqs: (u64, u64),
    /// None where retention has removed the chunk before.
    pub(super) digest_before: Option<Hash>,
    pub(super) digest: Hash,
}

impl From<&StreamManifest> for Extent {
    fn from(manifest: &StreamManifest) -> Self {
        Self {
            samples: (manifest.from_sample, manifest.to_sample),
            seqs: (manifest.first_seq, manifest.last_seq),
            digest_before: manifest.digest_before,
            digest: manifest.digest,
        }
    }
}

impl Facts {
    pub(super) fn new(workspace: &str, gaps: GapPolicy) -> Self {
        Self {
            workspace: workspace.into(),
            gap_policy: gaps.name(),
            ..Self::default()
        }
    }

    pub(super) fn signals(&mut self, signals: &[&Signal]) {
        let facts = |signal: &&Signal| SignalFacts {
            name: signal.name.clone(),
            unit: signal.unit.clone(),
            kind: signal.sample_type.name(),
        };
        self.signals = signals.iter().map(facts).collect();
    }

    pub(super) fn stream(&mut self, info: &StreamInfo, extent: &Extent) {
        let definition = &info.definition;
        self.streams.push(StreamFacts {
            stream: definition.id.to_string(),
            device: definition.device.clone(),
            run: info.run.clone(),
            labels: info.labels.clone(),
            attributes: definition.attributes.clone(),
            epoch: definition.epoch.to_string(),
            rate_hz: definition.rate_hz,
            first_sample: extent.samples.0,
            end_sample: extent.samples.1,
            first_seq: extent.seqs.0,
            last_seq: extent.seqs.1,
            digest_before: extent.digest_before.map(|digest| digest.to_string()),
            digest: extent.digest.to_string(),
        });
    }

    pub(super) fn run(&mut self, run: &Run) {
        self.runs.push(RunFacts {
            run: run.name.clone(),
            labels: run.own_labels.clone(),
            note: run.note.clone(),
            parent: run.parent.clone(),
        });
    }

    pub(super) fn gap(&mut self, gap: &Gap) {
        if self.gaps.len() >= GAPS_LISTED_MAX {
            self.gaps_not_listed += 1;
            return;
        }
        self.gaps.push(GapFacts {
            stream: gap.stream.to_string(),
            first_sample: gap.first_sample,
            count: gap.count,
            from_ns: gap.from_ns,
            to_ns: gap.to_ns,
            reason: gap.reason.name(),
            signals: gap.signals.clone(),
        });
    }

    /// Keys and values of a file's metadata.
    pub(super) fn entries(&self) -> Vec<(String, String)> {
        let mut entries = vec![
            ("wavekeep.format", FORMAT.to_owned()),
            ("wavekeep.workspace", self.workspace.clone()),
            ("wavekeep.signals", json(&self.signals)),
            ("wavekeep.streams", json(&self.streams)),
            ("wavekeep.gap_policy", self.gap_policy.to_owned()),
            ("wavekeep.gaps", json(&self.gaps)),
        ];
        if !self.runs.is_empty() {
            entries.push(("wavekeep.runs", json(&self.runs)));
        }
        if self.gaps_not_listed > 0 {
            entries.push(("wavekeep.gaps_not_listed", self.gaps_not_listed.to_string()));
        }
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and maps of them are JSON")
}
