//! Against one convolution in double precision, with holes anywhere, in pushes of any length.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::ops::Range;

use proptest::prelude::*;

use super::*;

fn bytes(samples: impl IntoIterator<Item = f32>) -> Vec<u8> {
    samples.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Any values; the sample tells which.
fn sample(at: u64) -> f32 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / 1e6 - 5.0
}

fn push(decimator: &mut Decimator, range: Range<u64>, reason: Reason, into: &mut BTreeMap<u64, f32>) -> Reason {
    let outputs = decimator.push(range.start, &bytes(range.map(sample)), reason);
    let (values, left) = outputs.bytes.as_chunks();
    assert!(left.is_empty());
    for (at, value) in (outputs.first..).zip(values) {
        assert!(
            into.insert(at, f32::from_le_bytes(*value)).is_none(),
            "{at} comes twice"
        );
    }
    outputs.reason
}

/// What one stage makes of what there is.
fn reference(inputs: &BTreeMap<u64, f64>, stage: &Stage) -> BTreeMap<u64, f64> {
    let last = inputs.keys().last().copied().unwrap_or(0);
    let output = |at: u64| {
        let first = (at * stage.factor).checked_sub(stage.before)?;
        let terms = (first..)
            .zip(&stage.taps)
            .map(|(at, tap)| inputs.get(&at).map(|input| input * tap));
        Some((at, terms.sum::<Option<f64>>()?))
    };
    (0..=last / stage.factor).filter_map(output).collect()
}

proptest! {
    #[test]
    fn i4_an_output_is_there_when_all_that_it_looks_at_is(
        filter in prop_oneof![Just((Filter::Wideband, 2)), Just((Filter::Wideband, 5)), Just((Filter::Wideband, 20)), Just((Filter::Sinc1, 7))],
        start in 0u64..300,
        pushes in proptest::collection::vec((prop_oneof![8 => Just(0u64), 1 => 1u64..50], 1u64..500), 1..12),
    ) {
        let mut decimator = Decimator::new(filter.0, filter.1);
        let stages = decimator.stages.clone();
        let (mut there, mut outputs, mut at) = (BTreeMap::new(), BTreeMap::new(), start);
        for (hole, length) in pushes {
            at += hole;
            push(&mut decimator, at..at + length, Reason::DeviceOverflow, &mut outputs);
            there.extend((at..at + length).map(|at| (at, f64::from(sample(at)))));
            at += length;
        }
        let expected = stages.iter().fold(there, |inputs, stage| reference(&inputs, stage));
        prop_assert_eq!(outputs.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (output, expected) in outputs.values().zip(expected.values()) {
            prop_assert!((f64::from(*output) - expected).abs() < 1e-6, "{} for {}", output, expected);
        }
    }
}

#[test]
fn the_first_output_is_known_from_the_first_input() {
    let mut decimator = Decimator::new(Filter::Wideband, 10);
    let outputs = decimator.push(1_003, &bytes([1.0]), Reason::SourceLoss);
    // 1003 + 19 is looked at by 511 of the first filter, which with 44 before it is looked at by 111.
    assert_eq!((outputs.first, outputs.count()), (111, 0));
}

#[test]
fn i4_a_hole_has_the_reason_of_the_input_and_the_nearest_of_several() {
    let mut decimator = Decimator::new(Filter::Wideband, 5);
    let mut outputs = BTreeMap::new();
    push(&mut decimator, 0..1_000, Reason::DeviceOverflow, &mut outputs);
    let before = outputs.len();
    push(&mut decimator, 1_010..1_050, Reason::UsbOverrun, &mut outputs);
    push(&mut decimator, 1_060..1_100, Reason::DeviceOverflow, &mut outputs);
    assert_eq!(outputs.len(), before, "nothing has all that it looks at");
    let reason = push(&mut decimator, 1_100..1_500, Reason::SourceLoss, &mut outputs);
    assert_eq!(reason, Reason::UsbOverrun);
    assert_eq!(outputs.keys().nth(before), Some(&221), "(1060 + 44) / 5");
    let reason = push(&mut decimator, 1_600..2_000, Reason::HostSuspend, &mut outputs);
    assert_eq!(reason, Reason::HostSuspend, "the holes before it are over");
}

/// The amplitude of a sine of so many thousandths of the rate of the outputs, after it; over whole periods.
fn gain(filter: Filter, factor: u32, frequency: u32) -> f64 {
    let mut decimator = Decimator::new(filter, factor);
    let sine = |at: u32| (TAU * f64::from(frequency) / 1_000.0 * f64::from(at) / f64::from(factor)).sin() as f32;
    let outputs = decimator.push(0, &bytes((0..factor * 4_000).map(sine)), Reason::None);
    let values = outputs
        .bytes
        .as_chunks()
        .0
        .iter()
        .map(|value| f64::from(f32::from_le_bytes(*value)));
    let squares: f64 = values.take(3_000).map(|value| value * value).sum();
    (2.0 * squares / 3_000.0).sqrt()
}

#[test]
fn wideband_is_flat_to_a_point_and_lets_nothing_alias_beyond_another() {
    for factor in [2, 5, 100] {
        for frequency in [13, 110, 210, 290] {
            let gain = gain(Filter::Wideband, factor, frequency);
            assert!((gain - 1.0).abs() < 5e-4, "{gain} at {frequency} of 1 in {factor}");
        }
        for frequency in [613, 790, 930] {
            let gain = gain(Filter::Wideband, factor, frequency);
            assert!(gain < 2.5e-4, "{gain} at {frequency} of 1 in {factor}");
        }
    }
    let aliased = gain(Filter::Sinc1, 100, 613);
    assert!(aliased > 0.3, "a plain mean lets {aliased} of it through");
}

#[test]
fn i12_what_is_kept_does_not_grow() {
    let mut decimator = Decimator::new(Filter::Wideband, 1_000_000);
    let samples = bytes((0..126).map(sample));
    for frame in 0..200_000 {
        decimator.push(frame * 126, &samples, Reason::None);
    }
    let kept: usize = decimator.stages.iter().map(|stage| stage.kept.capacity()).sum();
    assert!(kept < 12 * 1_024, "{kept} values");
}
