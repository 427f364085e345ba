//! Counter-based randomness: a number for every (key, counter), without a state to carry along.
//!
//! # Invariants
//! - These functions are part of the simulator's definition: changing one changes every recording's truth.

/// The increment of SplitMix64 (2^64 divided by the golden ratio, odd).
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014; variant 13 of Stafford): a bijection that scrambles well.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The number that `key` has for `counter`, itself fit to be a key. Mixed twice, so that keys a multiple of [`GAMMA`] apart
/// do not share a sequence.
pub(super) const fn derive(key: u64, counter: u64) -> u64 {
    mix(key ^ mix(counter.wrapping_add(GAMMA)))
}

/// `random` spread evenly over `low..=high`.
///
/// # Panics
/// If `low` is above `high`, or the range is all of `u64`.
pub(super) const fn within(random: u64, low: u64, high: u64) -> u64 {
    assert!(low <= high, "an empty range of random numbers");
    let count = (high - low) + 1;
    // The high half of a 64 by 64 bit product: below `count`.
    low + ((random as u128 * count as u128) >> 64) as u64
}
