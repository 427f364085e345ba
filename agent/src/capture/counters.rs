//! What a capture counts, for its status, its metrics and the summary at its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wavekeep_proto::chunk::{ChunkKind, Reason};

use crate::status::{GapsStatus, SourceStatus, milliseconds};

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CaptureState {
    /// For the server to say where a file's stream stands.
    Waiting,
    Capturing,
    /// The outbox is full.
    Blocked,
    Ended,
    Failed,
}

impl CaptureState {
    const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Capturing => "capturing",
            Self::Blocked => "blocked",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// Counted since the capture started, over all streams of its source.
#[derive(Debug)]
pub struct CaptureCounters {
    device: String,
    state: Mutex<(CaptureState, Option<String>)>,
    samples: AtomicU64,
    gap_samples: AtomicU64,
    gaps: AtomicU64,
    chunks: AtomicU64,
    encodings: Mutex<BTreeMap<String, String>>,
    gaps_by_reason: Mutex<BTreeMap<Reason, GapsStatus>>,
    /// On the agent's clock.
    last_chunk: Mutex<Option<Duration>>,
}

impl CaptureCounters {
    pub(super) fn new(device: &str) -> Self {
        Self {
            device: device.into(),
            state: Mutex::new((CaptureState::Waiting, None)),
            samples: AtomicU64::new(0),
            gap_samples: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            encodings: Mutex::default(),
            gaps_by_reason: Mutex::default(),
            last_chunk: Mutex::default(),
        }
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    pub(super) fn set_state(&self, state: CaptureState, error: Option<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (state, error);
    }

    /// Has it ended, in whatever way?
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).0;
        matches!(state, CaptureState::Ended | CaptureState::Failed)
    }

    /// A chunk was stored, at `now` on the agent's clock.
    pub(super) fn stored(&self, kind: ChunkKind, reason: Reason, count: u64, now: Duration) {
        *self.last_chunk.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.chunks.fetch_add(1, Ordering::Relaxed);
        match kind {
            ChunkKind::Samples => {
                self.samples.fetch_add(count, Ordering::Relaxed);
            }
            ChunkKind::Gap => {
                self.gap_samples.fetch_add(count, Ordering::Relaxed);
                self.gaps.fetch_add(1, Ordering::Relaxed);
                let mut by_reason = self.gaps_by_reason.lock().unwrap_or_else(PoisonError::into_inner);
                let gaps = by_reason.entry(reason).or_default();
                gaps.gap_count += 1;
                gaps.sample_count += count;
            }
            ChunkKind::End => {}
        }
    }

    /// What was chosen for the signals of a stream, and why.
    pub(super) fn explain(&self, encodings: BTreeMap<String, String>) {
        let mut all = self.encodings.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(encodings);
    }

    /// As they are at `now` on the agent's clock.
    #[must_use]
    pub fn status_at(&self, now: Duration) -> SourceStatus {
        let last_chunk = *self.last_chunk.lock().unwrap_or_else(PoisonError::into_inner);
        SourceStatus {
            last_chunk_age_ms: last_chunk.map(|at| milliseconds(now.saturating_sub(at))),
            ..self.status()
        }
    }

    /// As they are now, without what has an age.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        let gaps_by_reason = self.gaps_by_reason.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, error) = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SourceStatus {
            device: self.device.clone(),
            state: state.name().into(),
            error,
            sample_count: self.samples.load(Ordering::Relaxed),
            gap_sample_count: self.gap_samples.load(Ordering::Relaxed),
            gap_count: self.gaps.load(Ordering::Relaxed),
            gaps_by_reason: gaps_by_reason
                .iter()
                .map(|(reason, gaps)| (reason.name().to_owned(), *gaps))
                .collect(),
            last_chunk_age_ms: None,
            chunk_count: self.chunks.load(Ordering::Relaxed),
            encodings: self.encodings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            settings: BTreeMap::new(),
        }
    }
}
