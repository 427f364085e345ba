//! What a capture counts, for its status, its metrics and the summary at its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use wavekeep_proto::chunk::ChunkKind;

use crate::status::SourceStatus;

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
        }
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    pub(super) fn set_state(&self, state: CaptureState, error: Option<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (state, error);
    }

    /// A chunk was stored.
    pub(super) fn stored(&self, kind: ChunkKind, count: u64) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        match kind {
            ChunkKind::Samples => {
                self.samples.fetch_add(count, Ordering::Relaxed);
            }
            ChunkKind::Gap => {
                self.gap_samples.fetch_add(count, Ordering::Relaxed);
                self.gaps.fetch_add(1, Ordering::Relaxed);
            }
            ChunkKind::End => {}
        }
    }

    /// What was chosen for the signals of a stream, and why.
    pub(super) fn explain(&self, encodings: BTreeMap<String, String>) {
        let mut all = self.encodings.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(encodings);
    }

    /// As they are now.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        let (state, error) = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SourceStatus {
            device: self.device.clone(),
            state: state.name().into(),
            error,
            sample_count: self.samples.load(Ordering::Relaxed),
            gap_sample_count: self.gap_samples.load(Ordering::Relaxed),
            gap_count: self.gaps.load(Ordering::Relaxed),
            chunk_count: self.chunks.load(Ordering::Relaxed),
            encodings: self.encodings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
