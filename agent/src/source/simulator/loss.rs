//! Injected losses: which samples the simulated instrument fails to deliver.
//!
//! The sample axis is cut into blocks of 4,096 samples; a hash of the block's number decides whether the block has a loss, how long
//! it is and where it starts. So the losses around any sample id are known without looking at what came before.
//!
//! # Invariants
//! - A loss lies within its block and never touches the block's first sample: two losses never touch each other.
//! - I4: what [`Covered`] yields tiles the range asked for.

use super::hash::{derive, within};
use std::ops::Range;

const BLOCK_SAMPLES: u64 = 4096;
/// One loss in each block is the most there can be.
pub(super) const LOSS_MAX: f64 = 1.0 / BLOCK_SAMPLES as f64;
/// A loss is at most 3 × mean − 2 samples long, which has to fit a block.
pub(super) const LOSS_LENGTH_MAX: u64 = 667;
const _: () = assert!(
    3 * LOSS_LENGTH_MAX - 2 < BLOCK_SAMPLES / 2,
    "losses leave at least half of a block"
);

/// The losses of an instrument.
#[derive(Debug, Clone)]
pub(super) struct Losses {
    key: u64,
    /// A block has a loss where its random number is at or below this; `None`: there are no losses.
    threshold: Option<u64>,
    /// 3 × mean − 2: the length is 1 + that × the square of a uniform number, whose mean is a third.
    span_samples: u64,
}

impl Losses {
    pub(super) fn new(key: u64, loss: f64, loss_length: u64) -> Self {
        assert!(
            (0.0..=LOSS_MAX).contains(&loss),
            "a specification has a loss probability within its limits"
        );
        assert!(
            (1..=LOSS_LENGTH_MAX).contains(&loss_length),
            "a specification has a loss length within its limits"
        );
        // Multiplying by powers of two is exact; the conversion saturates, so that one loss a block is really one.
        let threshold = (loss > 0.0).then_some((loss * BLOCK_SAMPLES as f64 * 2f64.powi(64)) as u64);
        Self {
            key,
            threshold,
            span_samples: 3 * loss_length - 2,
        }
    }

    /// The first lost range within `[from, to)`, clipped to it.
    pub(super) fn next(&self, from: u64, to: u64) -> Option<Range<u64>> {
        if from >= to || self.threshold.is_none() {
            return None;
        }
        (from / BLOCK_SAMPLES..=(to - 1) / BLOCK_SAMPLES)
            .filter_map(|block| self.of_block(block))
            .map(|lost| lost.start.max(from)..lost.end.min(to))
            .find(|lost| !lost.is_empty())
    }

    fn of_block(&self, block: u64) -> Option<Range<u64>> {
        let key = derive(self.key, block);
        if key > self.threshold? {
            return None;
        }
        let uniform = derive(key, 1);
        let square = ((u128::from(uniform) * u128::from(uniform)) >> 64) as u64;
        let length = 1 + ((u128::from(square) * u128::from(self.span_samples)) >> 64) as u64;
        let start = block * BLOCK_SAMPLES + within(derive(key, 2), 1, BLOCK_SAMPLES - length);
        Some(start..start + length)
    }
}

/// A part of the sample axis, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// The instrument delivers these samples.
    Samples(Range<u64>),
    /// The instrument loses these samples, of all signals.
    Lost(Range<u64>),
}

impl Coverage {
    /// The sample ids of the part.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        match self {
            Self::Samples(range) | Self::Lost(range) => range.clone(),
        }
    }
}

/// Samples and losses of a range in turn, without hole or overlap (I4). From [`Simulator::covered`](super::Simulator::covered).
#[derive(Debug, Clone)]
pub struct Covered<'a> {
    losses: &'a Losses,
    at: u64,
    to: u64,
    /// The next loss, where it is known already.
    lost: Option<Range<u64>>,
}

impl<'a> Covered<'a> {
    pub(super) fn new(losses: &'a Losses, from: u64, to: u64) -> Self {
        Self {
            losses,
            at: from,
            to,
            lost: None,
        }
    }
}

impl Iterator for Covered<'_> {
    type Item = Coverage;

    fn next(&mut self) -> Option<Coverage> {
        if self.at >= self.to {
            return None;
        }
        let lost = self
            .lost
            .take()
            .or_else(|| self.losses.next(self.at, self.to))
            .unwrap_or(self.to..self.to);
        assert!(
            lost.start >= self.at && lost.end <= self.to,
            "I4: a loss lies within the range asked for"
        );
        let part = if lost.start == self.at {
            Coverage::Lost(lost)
        } else {
            let samples = self.at..lost.start;
            self.lost = Some(lost);
            Coverage::Samples(samples)
        };
        self.at = part.range().end;
        Some(part)
    }
}
