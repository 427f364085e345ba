//! Random numbers that are the same for the same data: an interval that is asked for again does not move. Pure.
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// Seeded by numbers, in their order.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let seed = values.into_iter().fold(STEP, |seed, value| {
            let mut random = Self(seed ^ value.to_bits());
            random.next()
        });
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `count` − 1, each as likely as the others to within `count` ÷ 2^64.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_data_gives_the_same_numbers() {
        let draw = |values: &[f64]| {
            let mut random = Random::of(values.iter().copied());
            [(); 8].map(|()| random.below(1_000))
        };
        assert_eq!(draw(&[1.0, 2.0]), draw(&[1.0, 2.0]));
        assert_ne!(draw(&[1.0, 2.0]), draw(&[2.0, 1.0]));
    }

    #[test]
    fn all_numbers_below_the_bound_come_about_as_often() {
        let mut random = Random::of([7.0]);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[random.below(7)] += 1;
        }
        // Five times the deviation of a binomial count, √(70,000 · 1/7 · 6/7) = 93.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 465), "{counts:?}");
    }

    #[test]
    fn the_published_sequence_comes() {
        // Of seed 1234567, as the authors' own implementation prints it.
        let mut random = Random(1_234_567);
        let first = [(); 3].map(|()| random.next());
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}
