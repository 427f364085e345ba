//! Samples of given ranks, found by counting: exact, in memory that does not grow with the samples. Pure.
//!
//! Each pass over the samples counts them by ranges of their keys (`order`); the next one looks only into those ranges that hold a rank, in
//! finer steps, until a range is one sample, or so few samples lie in all that are left that they are gathered and sorted. Two passes find
//! any ranks of f32 samples; of power it is two as well, unless a great many samples are nearly alike.
//!
//! The percentile p of n finite samples is the sample of rank ⌈p ÷ 100 × n⌉ in their order, of rank 1 for p = 0: the nearest rank, always
//! a sample that was captured.
//!
//! # Invariants
//! - A percentile is the sample of its rank: as if all of them had been sorted.
//! - I12: a pass counts in [`BINS`] ranges, and gathers [`GATHERED_MAX`] samples, or one of them more for each rank.

use super::order;

/// Ranges that are counted in one pass, over all windows.
pub(super) const BINS: usize = 1 << 18;
/// Samples that are gathered.
pub(super) const GATHERED_MAX: u64 = 1 << 20;

/// The rank of a percentile, from 1 on, of so many samples.
pub(super) fn rank(percentile: f64, count: u64) -> u64 {
    let exact = percentile / 100.0 * count as f64;
    // 7 % of 100 is 7, whatever the division made of it.
    let nearest = exact.round();
    let rank = if (exact - nearest).abs() <= 1e-9 * nearest.max(1.0) {
        nearest
    } else {
        exact.ceil()
    };
    (rank as u64).clamp(1, count)
}

/// A range of keys, in equal steps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// The lowest key; above it steps of 2^shift keys.
    low: u64,
    /// Not of it any more; None: it reaches to the highest key there is.
    end: Option<u64>,
    shift: u32,
    /// Samples below it.
    below: u64,
    counts: Vec<u64>,
}

impl Window {
    /// Of low ≤ key ≤ high, in about so many steps; no step is finer than `finest`.
    fn new((low, high): (u64, u64), below: u64, steps: usize, finest: u32) -> Self {
        // Steps begin at multiples of themselves.
        let mut shift = finest;
        while (high >> shift) - (low >> shift) >= steps.max(1) as u64 && shift < 63 {
            shift += 1;
        }
        let (first, last) = (low >> shift, high >> shift);
        Self {
            low: first << shift,
            end: (last + 1).checked_mul(1 << shift),
            shift,
            below,
            counts: vec![0; (last - first + 1) as usize],
        }
    }

    fn step(&self, key: u64) -> usize {
        ((key - self.low) >> self.shift) as usize
    }

    fn holds(&self, key: u64) -> bool {
        self.low <= key && self.end.is_none_or(|end| key < end)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Pass {
    /// In windows that are apart and in order.
    Count(Vec<Window>),
    /// All samples between the first key and the last one of each range; `below` are below it.
    Gather {
        ranges: Vec<Gathered>,
    },
    Done,
}

#[derive(Debug, Clone, PartialEq)]
struct Gathered {
    low: u64,
    high: u64,
    below: u64,
    samples: Vec<u64>,
}

/// What a pass needs of some samples that lie between two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// How many there are.
    Count,
    Samples,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Quantiles {
    /// Sought and, when it is found, its key; in order of ranks.
    ranks: Vec<(u64, Option<u64>)>,
    silent_bits: u32,
    pass: Pass,
}

impl Quantiles {
    /// Of ranks, among samples that lie between these two; the lowest bits of their keys may be silent.
    pub(super) fn new(ranks: impl IntoIterator<Item = u64>, (min, max): (f64, f64), silent_bits: u32) -> Self {
        let mut ranks: Vec<(u64, Option<u64>)> = ranks.into_iter().map(|rank| (rank, None)).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let pass = if ranks.is_empty() {
            Pass::Done
        } else {
            let keys = (order::key(min), order::key(max));
            Pass::Count(vec![Window::new(keys, 0, BINS, silent_bits)])
        };
        Self {
            ranks,
            silent_bits,
            pass,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.pass == Pass::Done
    }

    /// What this pass needs of samples of which the smallest and the largest are known.
    pub(super) fn need(&self, (min, max): (f64, f64)) -> Need {
        let (low, high) = (order::key(min), order::key(max));
        match &self.pass {
            Pass::Done => Need::Nothing,
            Pass::Gather { ranges } => {
                let touches = ranges.iter().any(|range| range.low <= high && low <= range.high);
                if touches { Need::Samples } else { Need::Nothing }
            }
            Pass::Count(windows) => {
                let touches = |window: &&Window| window.low <= high && window.end.is_none_or(|end| low < end);
                match windows.iter().find(touches) {
                    None => Need::Nothing,
                    Some(window)
                        if window.holds(low) && window.holds(high) && window.step(low) == window.step(high) =>
                    {
                        Need::Count
                    }
                    Some(_) => Need::Samples,
                }
            }
        }
    }

    /// So many samples that lie between two of which only their number was needed.
    pub(super) fn take_count(&mut self, min: f64, count: u64) {
        let key = order::key(min);
        if let Pass::Count(windows) = &mut self.pass
            && let Some(window) = windows.iter_mut().find(|window| window.holds(key))
        {
            let step = window.step(key);
            window.counts[step] += count;
        }
    }

    /// Samples; those that are not finite are left out.
    pub(super) fn take(&mut self, samples: &[f64]) {
        let keys = samples
            .iter()
            .filter(|sample| sample.is_finite())
            .map(|sample| order::key(*sample));
        match &mut self.pass {
            Pass::Done => (),
            Pass::Count(windows) => {
                if let [window] = &mut windows[..] {
                    for key in keys.filter(|key| window.low <= *key) {
                        // What lies above has no step.
                        if let Some(count) = window.counts.get_mut(((key - window.low) >> window.shift) as usize) {
                            *count += 1;
                        }
                    }
                    return;
                }
                for key in keys {
                    let after = windows.partition_point(|window| window.low <= key);
                    if let Some(window) = windows[..after].last_mut()
                        && window.holds(key)
                    {
                        let step = window.step(key);
                        window.counts[step] += 1;
                    }
                }
            }
            Pass::Gather { ranges } => {
                for key in keys {
                    let after = ranges.partition_point(|range| range.low <= key);
                    if let Some(range) = ranges[..after].last_mut()
                        && key <= range.high
                    {
                        range.samples.push(key);
                    }
                }
            }
        }
    }

    /// All samples were seen: what is found is noted, and the next pass looks for the rest.
    pub(super) fn end_pass(&mut self) {
        self.pass = match std::mem::replace(&mut self.pass, Pass::Done) {
            Pass::Done => Pass::Done,
            Pass::Count(windows) => self.counted(&windows),
            Pass::Gather { mut ranges } => {
                for range in &mut ranges {
                    range.samples.sort_unstable();
                    let within = range.below + 1..=range.below + range.samples.len() as u64;
                    for (rank, found) in self.ranks.iter_mut().filter(|(rank, _)| within.contains(rank)) {
                        *found = Some(range.samples[(*rank - range.below - 1) as usize]);
                    }
                }
                Pass::Done
            }
        };
    }

    fn counted(&mut self, windows: &[Window]) -> Pass {
        // The steps that hold a rank: low, high, samples below, samples within.
        let mut steps: Vec<(u64, u64, u64, u64)> = Vec::new();
        for window in windows {
            let mut below = window.below;
            for (step, count) in window.counts.iter().enumerate() {
                let within = below + 1..=below + count;
                let low = window.low + ((step as u64) << window.shift);
                for (_, found) in self
                    .ranks
                    .iter_mut()
                    .filter(|(rank, _)| *count > 0 && within.contains(rank))
                {
                    if window.shift <= self.silent_bits {
                        *found = Some(low);
                    } else if steps.last().is_none_or(|last| last.0 != low) {
                        steps.push((low, low + ((1 << window.shift) - 1), below, *count));
                    }
                }
                below += count;
            }
        }
        let (silent_bits, each) = (self.silent_bits, BINS / steps.len().max(1));
        if steps.is_empty() {
            Pass::Done
        } else if steps.iter().map(|step| step.3).sum::<u64>() <= GATHERED_MAX {
            let gathered = |(low, high, below, count): (u64, u64, u64, u64)| Gathered {
                low,
                high,
                below,
                samples: Vec::with_capacity(count as usize),
            };
            let ranges = steps.into_iter().map(gathered).collect();
            Pass::Gather { ranges }
        } else {
            let window = |(low, high, below, _)| Window::new((low, high), below, each, silent_bits);
            Pass::Count(steps.into_iter().map(window).collect())
        }
    }

    /// The sample of a rank that was sought; NaN where it was not found, because there were other samples than were counted before.
    pub(super) fn sample(&self, rank: u64) -> f64 {
        let found = self.ranks.iter().find(|(sought, _)| *sought == rank);
        found
            .and_then(|(_, key)| *key)
            .map_or(f64::NAN, |key| order::sample_of_silent(key, self.silent_bits))
    }
}

#[cfg(test)]
#[path = "quantiles_tests.rs"]
mod tests;
