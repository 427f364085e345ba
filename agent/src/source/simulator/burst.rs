//! The simulated device: its supply current as a function of time, constant by pieces.
//!
//! Time is cut into slots of one wake period. Each slot is a pure function of its number: sleep, then one burst somewhere between
//! an eighth of the slot and its end (inrush, sensing, radio exchanges, storing), then sleep. Times are whole nanoseconds and
//! currents whole picoamperes, so that every machine agrees, at any sample rate: sample i is the device at i / rate seconds.
//!
//! # Invariants
//! - A slot's pieces tile it, the first and the last are sleep: a sample's surroundings never depend on another slot.

use super::hash::{derive, within};
use std::ops::Range;

const NS_PER_SECOND: u128 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// Sleep, inrush, sensing, exchanges of three pieces, storing, sleep.
const PIECES_MAX: usize = 5 + 3 * EXCHANGES_MAX as usize;
const EXCHANGES_MAX: u64 = 6;
/// The longest burst that [`Slot::new`] can draw.
const BURST_NS_MAX: u64 = 18 * NS_PER_MS;
/// The shortest wake period.
pub(super) const WAKE_MS_MIN: u64 = 100;
/// The longest wake period.
pub(super) const WAKE_MS_MAX: u64 = 60_000;

const _: () = assert!(
    BURST_NS_MAX < WAKE_MS_MIN * NS_PER_MS / 4,
    "a burst that starts at 3/4 of the slot must end within it"
);

/// A piece of a slot: from `start_ns` until the next piece starts, the device draws `current_pa`.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    start_ns: u64,
    current_pa: u64,
}

/// One wake period of the device.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    start_ns: u128,
    length_ns: u64,
    /// None, if the rate is below the wake rate and no sample fell into it.
    samples: Range<u64>,
    pieces: [Piece; PIECES_MAX],
    piece_count: usize,
}

/// Samples, up to `end` (exclusive), between which nothing changes but the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first sample after the run.
    pub(super) end: u64,
    /// What the device draws, in picoamperes.
    pub(super) current_pa: u64,
    /// What it drew when the instrument chose its range, in picoamperes.
    pub(super) range_current_pa: u64,
}

/// The device's current over all time, sampled at a rate.
#[derive(Debug, Clone)]
pub(super) struct PowerProfile {
    key: u64,
    rate_hz: u32,
    wake_ns: u64,
}

impl PowerProfile {
    pub(super) fn new(key: u64, rate_hz: u32, wake_ms: u64) -> Self {
        assert!(rate_hz > 0, "a specification has a rate of at least 1 Hz");
        assert!(
            (WAKE_MS_MIN..=WAKE_MS_MAX).contains(&wake_ms),
            "a specification has a wake period within its limits"
        );
        Self {
            key,
            rate_hz,
            wake_ns: wake_ms * NS_PER_MS,
        }
    }

    /// The slot in which `sample` lies.
    fn slot_of(&self, sample: u64) -> Slot {
        let number = self.time_ns(sample) / u128::from(self.wake_ns);
        let start_ns = number * u128::from(self.wake_ns);
        let samples = self.first_sample_at(start_ns)..self.first_sample_at(start_ns + u128::from(self.wake_ns));
        // At low rates a slot number can pass 2^64, so both halves are part of the counter.
        let key = derive(derive(self.key, number as u64), (number >> 64) as u64);
        Slot::new(key, start_ns, self.wake_ns, samples)
    }

    /// The run in which `sample` of `slot` lies, seen by an instrument whose range follows the current `range_delay_ns` late.
    pub(super) fn run_at(&self, slot: &Slot, sample: u64, range_delay_ns: u64) -> Run {
        assert!(slot.samples.contains(&sample), "a sample is looked up in its own slot");
        // Below the wake period, so it fits a u64.
        let offset_ns = (self.time_ns(sample) - slot.start_ns) as u64;
        let (current_pa, piece_end_ns) = slot.piece_at(offset_ns);
        // Before the delay has passed in a slot the range is still that of sleep, which is also how a slot begins.
        let (range_current_pa, range_end_ns) = slot.piece_at(offset_ns.saturating_sub(range_delay_ns));
        let end_ns = piece_end_ns.min(range_end_ns + range_delay_ns);
        let end = self
            .first_sample_at(slot.start_ns + u128::from(end_ns))
            .min(slot.samples.end);
        Run {
            end,
            current_pa,
            range_current_pa,
        }
    }

    /// When `sample` is taken, in whole nanoseconds, rounded down. (2^64 × 10^9 is below 2^94.)
    pub(super) fn time_ns(&self, sample: u64) -> u128 {
        u128::from(sample) * NS_PER_SECOND / u128::from(self.rate_hz)
    }

    /// The first sample taken at `time_ns` or later. Exact: for whole a, floor(x) < a just where x < a.
    pub(super) fn first_sample_at(&self, time_ns: u128) -> u64 {
        let sample = (time_ns * u128::from(self.rate_hz)).div_ceil(NS_PER_SECOND);
        u64::try_from(sample).expect("sample ids are below 2^63, so a slot ends far below 2^64")
    }
}

impl Slot {
    /// The slot around `sample`: the one last used, where it still covers the sample.
    pub(super) fn around<'a>(known: &'a mut Option<Self>, profile: &PowerProfile, sample: u64) -> &'a Self {
        known.take_if(|slot| !slot.samples.contains(&sample));
        known.get_or_insert_with(|| profile.slot_of(sample))
    }

    /// Draws the slot's pieces. The order of the draws is part of the function.
    fn new(key: u64, start_ns: u128, length_ns: u64, samples: Range<u64>) -> Self {
        let mut slot = Self {
            start_ns,
            length_ns,
            samples,
            pieces: [Piece::default(); PIECES_MAX],
            piece_count: 0,
        };
        let mut counter = 0;
        let mut draw = |low: u64, high: u64| {
            counter += 1;
            within(derive(key, counter), low, high)
        };
        let sleep_pa = draw(950_000, 1_050_000);
        slot.push(0, sleep_pa);
        let burst_start_ns = draw(length_ns / 8, length_ns / 4 * 3);
        let mut at_ns = burst_start_ns;
        let mut piece = |length_ns: u64, current_pa: u64| {
            slot.push(at_ns, current_pa);
            at_ns += length_ns;
        };
        piece(draw(20_000, 60_000), draw(6_000_000_000, 9_000_000_000)); // inrush: 20-60 µs, 6-9 mA
        piece(draw(1_000_000, 4_000_000), draw(2_000_000_000, 5_000_000_000)); // sensing: 1-4 ms, 2-5 mA
        for _ in 0..draw(2, EXCHANGES_MAX) {
            piece(draw(150_000, 600_000), draw(3_000_000_000, 4_500_000_000)); // preparing: 150-600 µs, 3-4.5 mA
            piece(draw(40_000, 400_000), draw(10_000_000_000, 30_000_000_000)); // sending: 40-400 µs, 10-30 mA
            piece(draw(100_000, 300_000), draw(6_000_000_000, 8_000_000_000)); // receiving: 100-300 µs, 6-8 mA
        }
        piece(draw(500_000, 5_000_000), draw(1_000_000_000, 2_500_000_000)); // storing: 0.5-5 ms, 1-2.5 mA
        piece(0, sleep_pa);
        assert!(
            at_ns - burst_start_ns <= BURST_NS_MAX && at_ns < length_ns,
            "a burst ends within its slot"
        );
        slot
    }

    fn push(&mut self, start_ns: u64, current_pa: u64) {
        self.pieces[self.piece_count] = Piece { start_ns, current_pa };
        self.piece_count += 1;
    }

    /// The current at `offset_ns` into the slot and the end of its piece.
    fn piece_at(&self, offset_ns: u64) -> (u64, u64) {
        let pieces = &self.pieces[..self.piece_count];
        let next = pieces.partition_point(|piece| piece.start_ns <= offset_ns);
        let end_ns = pieces.get(next).map_or(self.length_ns, |piece| piece.start_ns);
        // The first piece starts at 0, so there is always one at or before the offset.
        (pieces[next - 1].current_pa, end_ns)
    }
}
