//! Losses: the same whatever the questions, as many and as long as specified, and tiling with the samples.

use super::super::{Coverage, SAMPLE_ID_END, Simulator};
use super::simulator;
use proptest::prelude::*;
use std::ops::Range;

fn losses(simulator: &Simulator, range: Range<u64>) -> Vec<Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(|| {
        let lost = simulator.next_loss(at, range.end)?;
        at = lost.end;
        Some(lost)
    })
    .collect()
}

/// Ranges in order, those that touch made one.
fn union(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => merged.push(range),
        }
    }
    merged
}

proptest! {
    #[test]
    fn any_split_of_a_range_loses_the_same_samples(
        seed: u64,
        loss in prop_oneof![Just(1.0 / 4096.0), 1e-6..2e-4],
        loss_length in 1u64..=667,
        from in prop_oneof![0u64..100_000, 0..SAMPLE_ID_END - 200_000],
        mut cuts in prop::collection::vec(0u64..100_000, 1..40),
    ) {
        let simulator = simulator(&format!("js220,seed={seed},loss={loss},loss_length={loss_length}"));
        let to = from + 100_000;
        cuts.push(0);
        cuts.push(100_000);
        cuts.sort_unstable();
        let parts = cuts.windows(2).flat_map(|cut| losses(&simulator, from + cut[0]..from + cut[1]));
        prop_assert_eq!(union(parts), losses(&simulator, from..to));
    }

    #[test]
    fn i4_covered_tiles_the_range_and_takes_turns(
        seed: u64,
        loss in prop_oneof![Just(0.0), Just(1.0 / 4096.0), 1e-6..2e-4],
        from in 0..SAMPLE_ID_END - 200_000,
        length in 0u64..100_000,
    ) {
        let simulator = simulator(&format!("js110,seed={seed},loss={loss}"));
        let parts: Vec<Coverage> = simulator.covered(from, from + length).collect();
        let mut at = from;
        for part in &parts {
            prop_assert_eq!(part.range().start, at);
            prop_assert!(!part.range().is_empty());
            at = part.range().end;
        }
        prop_assert_eq!(at, from + length);
        for pair in parts.windows(2) {
            prop_assert_ne!(matches!(pair[0], Coverage::Lost(_)), matches!(pair[1], Coverage::Lost(_)));
        }
        let lost: Vec<_> = parts.iter().filter(|part| matches!(part, Coverage::Lost(_))).map(Coverage::range).collect();
        prop_assert_eq!(lost, losses(&simulator, from..from + length));
    }
}

#[test]
fn losses_begin_as_often_as_specified() {
    for loss in [1e-6, 2e-5, 1.0 / 8192.0] {
        let simulator = simulator(&format!("js220,seed=7,loss={loss}"));
        let samples = (20_000.0 / loss) as u64;
        let count = losses(&simulator, 0..samples).len() as f64;
        // 20,000 expected; five standard deviations are 3.5 %.
        assert!((19_300.0..20_700.0).contains(&count), "{count} losses at {loss}");
    }
}

#[test]
fn losses_are_as_long_as_specified_and_never_touch() {
    for (loss_length, longest) in [(1, 1), (10, 28), (100, 298), (667, 1999)] {
        let simulator = simulator(&format!("js220,seed=7,loss=2.4e-4,loss_length={loss_length}"));
        let losses = losses(&simulator, 0..100_000_000);
        let lengths: Vec<u64> = losses.iter().map(|lost| lost.end - lost.start).collect();
        let mean = lengths.iter().sum::<u64>() as f64 / lengths.len() as f64;
        let specified = loss_length as f64;
        assert!(
            (mean - specified).abs() <= 0.02 * specified + 0.1,
            "mean {mean} for {loss_length}"
        );
        assert_eq!(lengths.iter().max(), Some(&longest));
        assert_eq!(lengths.iter().min(), Some(&1));
        assert!(
            losses.windows(2).all(|pair| pair[0].end < pair[1].start),
            "two losses touch"
        );
    }
}

#[test]
fn the_greatest_loss_is_one_in_each_block_and_none_is_none() {
    let every_block = simulator("js220,seed=7,loss=0.000244140625");
    assert_eq!(losses(&every_block, 0..4096 * 1000).len(), 1000);
    let perfect = simulator("js220,seed=7,loss=0");
    assert_eq!(perfect.next_loss(0, SAMPLE_ID_END), None);
    assert_eq!(perfect.covered(5, 9).collect::<Vec<_>>(), [Coverage::Samples(5..9)]);
}

#[test]
fn an_empty_or_backward_range_loses_nothing() {
    let every_block = simulator("js220,seed=7,loss=0.000244140625");
    let lost = every_block.next_loss(0, 4096).expect("each block has a loss");
    assert_eq!(every_block.next_loss(lost.start, lost.start), None);
    assert_eq!(every_block.next_loss(lost.end, lost.start), None);
    assert_eq!(every_block.covered(lost.start, lost.start).next(), None);
    assert_eq!(
        every_block.next_loss(lost.start, lost.start + 1),
        Some(lost.start..lost.start + 1)
    );
    assert_eq!(
        every_block.covered(lost.start, lost.end).collect::<Vec<_>>(),
        [Coverage::Lost(lost)]
    );
}

#[test]
fn losses_depend_on_the_seed_alone() {
    let of = |spec: &str| losses(&simulator(spec), 0..10_000_000);
    let first = of("js220,seed=7,loss=1e-5");
    assert_eq!(first, of("js110,seed=7,loss=1e-5,rate=1000,wake=1s,speed=max"));
    assert_ne!(first, of("js220,seed=8,loss=1e-5"));
}
