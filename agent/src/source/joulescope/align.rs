//! Joins the signals of one stream: frames of each arrive by themselves, blocks of all leave. Pure.
//!
//! Positions are those of the stream's own axis.
//!
//! # Invariants
//! - I4: what [`Lane::drain`] emits tiles the axis: samples of all signals, samples of some (the others are absent, with a reason), or
//!   a gap with its reason.
//! - I13: each sample that is taken leaves once, at its position, its bits as they came.
//! - I12: a signal waits for another one for a limited time; what did not come by then is missing.

use std::collections::VecDeque;
use std::ops::Range;

use wavekeep_proto::chunk::Reason;

use super::bits;
use super::limits::{BLOCK_SAMPLES, RUNS_MAX};
use crate::source::{Block, Column};

/// Cuts of packed samples lie at multiples of this where they may: they start a byte there.
const GRID_PACKED: u64 = 8;

/// The signals of one stream.
#[derive(Debug)]
pub(super) struct Lane {
    tracks: Vec<Track>,
    /// Where the stream begins, once it has.
    first: u64,
    /// Emitted up to here; `None`: the stream has not begun.
    at: Option<u64>,
    /// Cuts lie at multiples of this where they may.
    grid: u64,
    /// So many samples may one signal be ahead of another one.
    lag: u64,
}

/// One signal.
#[derive(Debug)]
struct Track {
    bits: usize,
    runs: VecDeque<Run>,
    /// Where its first sample will be, if that is known before it has come.
    expected: Option<u64>,
    /// After the last sample that was taken.
    end: u64,
    /// For samples that do not start a byte.
    shifted: Vec<u8>,
}

/// Samples without a hole.
#[derive(Debug)]
struct Run {
    /// Why there is a hole before it.
    reason: Reason,
    /// The position of the data's first bit: on the grid, so that what is on the grid starts a byte.
    base: u64,
    range: Range<u64>,
    data: Vec<u8>,
}

/// How a signal stands at a position: the same up to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// `more`: samples may still come after it.
    Present {
        until: u64,
        more: bool,
    },
    Missing {
        until: u64,
        reason: Reason,
    },
    Waiting,
}

/// What leaves.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Samples(Block<'a>),
    Gap(Range<u64>, Reason),
}

impl Lane {
    /// Signals of so many bits each, of which one may be ahead of another one by so many samples.
    pub(super) fn new(bits: &[usize], lag: u64) -> Self {
        let is_packed = bits.iter().any(|bits| !bits.is_multiple_of(8));
        let grid = if is_packed { GRID_PACKED } else { 1 };
        let tracks = bits.iter().map(|bits| Track {
            bits: *bits,
            runs: VecDeque::new(),
            expected: None,
            end: 0,
            shifted: Vec::new(),
        });
        Self {
            tracks: tracks.collect(),
            first: 0,
            at: None,
            grid,
            lag,
        }
    }

    /// Where it stands, once it has begun.
    pub(super) fn at(&self) -> Option<u64> {
        self.at
    }

    /// Signals that have not sent anything yet.
    pub(super) fn silent(&self) -> impl Iterator<Item = usize> {
        self.tracks
            .iter()
            .enumerate()
            .filter(|(_, track)| track.start().is_none())
            .map(|(place, _)| place)
    }

    /// Begins where all signals are there, as soon as that is known. Answers where.
    pub(super) fn begin(&mut self) -> Option<u64> {
        if self.at.is_none() {
            let starts = self.tracks.iter().map(Track::start);
            let start = starts.collect::<Option<Vec<_>>>()?.into_iter().max()?;
            self.first = start.next_multiple_of(self.grid);
            self.at = Some(self.first);
        }
        self.at
    }

    /// The first sample of a signal will be this one.
    pub(super) fn expect(&mut self, signal: usize, first: u64) {
        self.tracks[signal].expected.get_or_insert(first);
    }

    /// Takes `count` samples of a signal, the first of `data` at `first` on; those at its start that are known already, `known`, are
    /// left out. `reason`: why there is a hole before them, if there is one. Answers how many came too late;
    /// those before the stream's first one are none of it.
    pub(super) fn push(
        &mut self,
        signal: usize,
        first: u64,
        count: u64,
        (data, known): (&[u8], u64),
        reason: Reason,
    ) -> u64 {
        let at = self.at.unwrap_or(0);
        let track = &mut self.tracks[signal];
        let left_out = at.max(track.end).saturating_sub(first).min(count);
        if left_out < count {
            track.push(first + left_out, count - left_out, (data, known + left_out), reason);
        }
        if self.at.is_none() {
            self.forget_early(signal);
        }
        left_out.saturating_sub(self.first.saturating_sub(first))
    }

    /// Before the stream begins only as much is kept as would be waited for.
    fn forget_early(&mut self, signal: usize) {
        let track = &mut self.tracks[signal];
        let from = track.end.saturating_sub(self.lag);
        track.forget_before(from - from % self.grid);
        while track.runs.len() > RUNS_MAX {
            track.runs.pop_front();
        }
    }

    /// Emits all that is known of all signals; at the `last` time, also what does not end on the grid.
    pub(super) fn drain<E>(&mut self, last: bool, emit: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        while let Some((range, standings)) = self.next_piece(last) {
            self.at = Some(range.end);
            let emitted = self.emit(&range, &standings, emit);
            for track in &mut self.tracks {
                track.forget_before(range.end);
            }
            emitted?;
        }
        Ok(())
    }

    fn next_piece(&self, last: bool) -> Option<(Range<u64>, Vec<Standing>)> {
        let at = self.at?;
        let newest = self.tracks.iter().map(|track| track.end).max()?;
        let overdue =
            newest.saturating_sub(at) > self.lag || self.tracks.iter().any(|track| track.runs.len() > RUNS_MAX);
        let mut standings: Vec<_> = self.tracks.iter().map(|track| track.standing(at)).collect();
        if standings.contains(&Standing::Waiting) && !overdue {
            return None;
        }
        for standing in &mut standings {
            if *standing == Standing::Waiting {
                // Half of what is waited for, so that it does not give up sample by sample; all, if there are too many holes.
                let waited = newest.saturating_sub(self.lag / 2);
                let until = if waited > at { waited } else { newest };
                *standing = Standing::Missing {
                    until,
                    reason: Reason::SourceLoss,
                };
            }
        }
        // A gap is one piece, however long: a sample id may be any number.
        let is_gap = standings
            .iter()
            .all(|standing| matches!(standing, Standing::Missing { .. }));
        let mut end = if is_gap {
            u64::MAX
        } else {
            (at - at % self.grid).saturating_add(BLOCK_SAMPLES)
        };
        let mut may_go_on = false;
        for standing in &standings {
            let (until, more) = match *standing {
                Standing::Present { until, more } => (until, more),
                Standing::Missing { until, .. } => (until, false),
                Standing::Waiting => continue,
            };
            if until < end {
                (end, may_go_on) = (until, more);
            }
        }
        if may_go_on && !last && !overdue {
            end -= end % self.grid;
        }
        (end > at).then_some((at..end, standings))
    }

    fn emit<E>(
        &mut self,
        range: &Range<u64>,
        standings: &[Standing],
        emit: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let reasons = standings.iter().map(|standing| match standing {
            Standing::Missing { reason, .. } => Some(*reason),
            _ => None,
        });
        if let Some(reasons) = reasons.clone().collect::<Option<Vec<_>>>() {
            // The reasons' numbers go from the one nearest to the host to the least known.
            let reason = reasons.into_iter().min().unwrap_or(Reason::SourceLoss);
            return emit(Piece::Gap(range.clone(), reason));
        }
        let columns: Vec<_> = self
            .tracks
            .iter_mut()
            .zip(reasons)
            .map(|(track, reason)| reason.map_or_else(|| Column::Raw(track.samples(range)), Column::Absent))
            .collect();
        emit(Piece::Samples(Block {
            first_sample: range.start,
            count: range.end - range.start,
            columns: &columns,
        }))
    }
}

impl Track {
    fn start(&self) -> Option<u64> {
        let first = self.runs.front().map(|run| run.range.start);
        first.or(self.expected)
    }

    fn push(&mut self, first: u64, count: u64, (data, known): (&[u8], u64), reason: Reason) {
        let follows = self.runs.back().is_some_and(|run| run.range.end == first);
        if !follows {
            let base = first - first % GRID_PACKED;
            let padding = bytes(self.bits, first - base);
            self.runs.push_back(Run {
                reason,
                base,
                range: first..first,
                data: vec![0; padding],
            });
        }
        if let Some(run) = self.runs.back_mut() {
            // Both lie within a frame.
            let from = known as usize * self.bits;
            let held = (first - run.base) as usize * self.bits;
            bits::append(&mut run.data, held, data, from..from + count as usize * self.bits);
            run.range.end = first + count;
        }
        self.end = first + count;
    }

    fn standing(&self, at: u64) -> Standing {
        let mut runs = self.runs.iter().skip_while(|run| run.range.end <= at);
        match runs.next() {
            Some(run) if run.range.start > at => Standing::Missing {
                until: run.range.start,
                reason: run.reason,
            },
            Some(run) => Standing::Present {
                until: run.range.end,
                more: runs.next().is_none(),
            },
            None => Standing::Waiting,
        }
    }

    /// The samples of a range that is present, from the byte of the first one on.
    fn samples(&mut self, range: &Range<u64>) -> &[u8] {
        let run = self.runs.iter().find(|run| run.range.end > range.start);
        let run = run.expect("what is present has a run");
        // Both are within the data.
        let start = (range.start - run.base) as usize * self.bits;
        let end = (range.end - run.base) as usize * self.bits;
        if start.is_multiple_of(8) {
            return &run.data[start / 8..end.div_ceil(8)];
        }
        self.shifted.clear();
        bits::append(&mut self.shifted, 0, &run.data, start..end);
        &self.shifted
    }

    fn forget_before(&mut self, position: u64) {
        while self.runs.front().is_some_and(|run| run.range.end <= position) {
            // The last run stays, empty: what comes next may follow it.
            if self.runs.len() == 1 {
                break;
            }
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut() {
            let base = position.min(run.range.end);
            let base = (base - base % GRID_PACKED).max(run.base);
            run.data.drain(..bytes(self.bits, base - run.base));
            run.base = base;
            run.range.start = run.range.start.max(position.min(run.range.end));
        }
    }
}

/// Whole bytes that hold so many samples.
fn bytes(bits: usize, samples: u64) -> usize {
    (samples as usize * bits).div_ceil(8)
}

#[cfg(test)]
#[path = "align_tests.rs"]
mod tests;
