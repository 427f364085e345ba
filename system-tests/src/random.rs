//! Choices that a seed makes. Only the choices: what real processes do with them takes another course each time.

use std::time::Duration;

/// A number that has nothing to do with the one before (SplitMix64's output function, Steele et al. 2014).
#[must_use]
pub fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(mixed(seed))
    }

    /// Another one.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0)
    }

    /// From 0, below this.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// One of them.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Milliseconds from, and below.
    pub fn ms(&mut self, from: u64, end: u64) -> Duration {
        Duration::from_millis(from + self.number() % (end - from))
    }
}
