//! Ranks found by counting are those of the sorted samples.

use proptest::prelude::*;

use super::*;

/// As a reader of a range would: blocks of samples, of which the smallest and the largest are known. With the samples that were looked at.
fn found(samples: &[f64], ranks: &[u64], silent_bits: u32, block: usize) -> (Vec<f64>, usize) {
    let finite = || samples.iter().copied().filter(|sample| sample.is_finite());
    let bounds = |samples: &[f64]| {
        let finite = || samples.iter().copied().filter(|sample| sample.is_finite());
        (
            finite().fold(f64::INFINITY, f64::min),
            finite().fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let mut quantiles = Quantiles::new(
        ranks.iter().copied(),
        bounds(&finite().collect::<Vec<_>>()),
        silent_bits,
    );
    let (mut passes, mut seen) = (0, 0);
    while !quantiles.is_done() {
        for block in samples.chunks(block) {
            let (min, max) = bounds(block);
            if min > max {
                continue;
            }
            match quantiles.need((min, max)) {
                Need::Nothing => (),
                Need::Count => {
                    let count = block.iter().filter(|sample| sample.is_finite()).count();
                    quantiles.take_count(min, count as u64);
                }
                Need::Samples => {
                    quantiles.take(block);
                    seen += block.len();
                }
            }
        }
        quantiles.end_pass();
        passes += 1;
        assert!(passes < 70, "it ends");
    }
    (ranks.iter().map(|rank| quantiles.sample(*rank)).collect(), seen)
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut finite: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
    finite.sort_unstable_by(f64::total_cmp);
    finite
}

fn samples() -> impl Strategy<Value = Vec<f64>> {
    let sample = prop_oneof![
        4 => -1e3..1e3f64,
        4 => (-5..5i32).prop_map(f64::from),
        2 => any::<f64>(),
        1 => Just(f64::NAN),
        1 => Just(-0.0),
    ];
    prop::collection::vec(sample, 1..400)
}

proptest! {
    #[test]
    fn a_rank_is_found_as_if_all_were_sorted(samples in samples(), shares in prop::collection::vec(0.0..=100.0f64, 1..12), block in 1usize..50) {
        let sorted = sorted(&samples);
        prop_assume!(!sorted.is_empty());
        let ranks: Vec<u64> = shares.iter().map(|share| rank(*share, sorted.len() as u64)).collect();
        let expected: Vec<f64> = ranks.iter().map(|rank| sorted[*rank as usize - 1]).collect();
        prop_assert_eq!(found(&samples, &ranks, 0, block).0, expected);
    }

    #[test]
    fn windows_hold_their_ends_and_few_steps(one in any::<u64>(), other in any::<u64>(), steps in 1usize..5_000, finest in 0u32..30) {
        let (low, high) = (one.min(other), one.max(other));
        let window = Window::new((low, high), 0, steps, finest);
        prop_assert!(window.holds(low) && window.holds(high));
        prop_assert!(window.shift == 63 || window.counts.len() <= steps);
        prop_assert!(window.step(high) < window.counts.len());
        prop_assert!(window.shift >= finest);
    }
}

#[test]
fn more_samples_than_are_gathered_are_counted_again() {
    // Of f64, many of them nearly alike, so that the first pass leaves millions in one step.
    let count = 3 * GATHERED_MAX as usize;
    let near = |at: usize| 1.0 + (at * 2_654_435_761 % count) as f64 * 1e-13;
    let samples: Vec<f64> = (0..count).map(near).chain([-1e9, 1e9]).collect();
    let sorted = sorted(&samples);
    let ranks: Vec<u64> = [0.0, 1.0, 50.0, 50.00001, 99.0, 100.0]
        .iter()
        .map(|share| rank(*share, sorted.len() as u64))
        .collect();
    let expected: Vec<f64> = ranks.iter().map(|rank| sorted[*rank as usize - 1]).collect();
    assert_eq!(found(&samples, &ranks, 0, 65_536).0, expected);
}

#[test]
fn f32_samples_are_found_in_two_passes_and_blocks_that_lie_apart_are_left_out() {
    let level = |at: usize| f64::from((1 + at / 65_536) as f32 * 0.001 + (at % 977) as f32 * 1e-7);
    let samples: Vec<f64> = (0..40 * 65_536).map(level).collect();
    let sorted = sorted(&samples);
    let ranks: Vec<u64> = [1.0, 50.0, 99.0]
        .iter()
        .map(|share| rank(*share, sorted.len() as u64))
        .collect();
    let expected: Vec<f64> = ranks.iter().map(|rank| sorted[*rank as usize - 1]).collect();
    let (found, seen) = found(&samples, &ranks, 29, 65_536);
    assert_eq!(found, expected);
    assert!(
        seen <= samples.len() + 3 * 65_536,
        "{seen}: the second pass reads a block for each rank"
    );
}

#[test]
fn ranks_are_the_nearest() {
    let ranks = |count, shares: &[f64]| shares.iter().map(|share| rank(*share, count)).collect::<Vec<_>>();
    // Of 5, as Wikipedia's worked example of the nearest-rank method has it: 5th, 30th, 40th, 50th, 100th percentile.
    assert_eq!(ranks(5, &[5.0, 30.0, 40.0, 50.0, 100.0]), [1, 2, 2, 3, 5]);
    assert_eq!(ranks(100, &[0.0, 7.0, 7.01, 29.0, 100.0]), [1, 7, 8, 29, 100]);
    assert_eq!(ranks(1, &[0.0, 50.0, 100.0]), [1, 1, 1]);
    assert_eq!(rank(99.99, 36_000_000_000), 35_996_400_000);
}
