//! The one source of chance: a seed decides everything that happens in a world.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Seeds next to each other give unrelated numbers.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed ^ 0x5741_5645_4b45_4550);
        random.next();
        random
    }

    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is above 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A place in a list of `length`, which is above 0.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// From `low` to `high` milliseconds, to the microsecond.
    pub(crate) fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1_000, high * 1_000))
    }

    /// The time to the next of events that come at random, once in `mean` on average.
    pub(crate) fn until_next(&mut self, mean: Duration) -> Duration {
        let unit = ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        Duration::from_micros((mean.as_micros() as f64 * -unit.ln()) as u64 + 1)
    }

    /// One of a list that is not empty.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.place(list.len())]
    }

    /// 128 random bits.
    pub(crate) fn id(&mut self) -> [u8; 16] {
        let value = u128::from(self.next()) << 64 | u128::from(self.next());
        value.to_be_bytes()
    }
}
