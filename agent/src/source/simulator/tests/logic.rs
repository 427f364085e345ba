//! Digital signals: the same bits whatever the block, together with the analog ones, and as often high as they are said to be.

use super::super::{LOGIC_PER_SAMPLE, Logic, LogicSignal, SAMPLE_ID_END, SimulatedSignal};
use super::{samples, simulator};
use proptest::prelude::*;

fn logic(spec: &str) -> Logic {
    Logic::of(&spec.parse().expect("the test's specification is valid")).expect("it has digital signals")
}

fn packed(logic: &Logic, signal: LogicSignal, first: u64, count: usize) -> Vec<u8> {
    let mut out = vec![0xff; 3];
    logic.fill(signal, first, count, &mut out);
    out
}

/// One value for each sample.
fn unpacked(logic: &Logic, signal: LogicSignal, first: u64, count: usize) -> Vec<u8> {
    let bytes = packed(logic, signal, first, count);
    let bits = signal.bits();
    let values = (0..bytes.len() * 8 / bits).map(|at| bytes[at * bits / 8] >> (at * bits % 8) & ((1 << bits) - 1));
    let (values, padding): (Vec<u8>, Vec<u8>) = (values.clone().take(count).collect(), values.skip(count).collect());
    assert!(padding.iter().all(|&value| value == 0), "padding is zero");
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_range_at_any_block_size_gives_identical_bits(
        signal in prop::sample::select(LogicSignal::ALL.to_vec()),
        rate in prop_oneof![1u32..=10, 100u32..=20_000, 1_000_000u32..=2_000_000],
        seed: u64,
        wake_ms in 100u64..=2_000,
        from in prop_oneof![0u64..2_000_000, 0..SAMPLE_ID_END - 5_000, Just(SAMPLE_ID_END - 5_000)],
        mut cuts in prop::collection::vec(0usize..5_000, 1..30),
    ) {
        let logic = logic(&format!("js220,seed={seed},rate={rate},wake={wake_ms}ms,logic=true"));
        let whole = unpacked(&logic, signal, from, 5_000);
        cuts.extend([0, 5_000]);
        cuts.sort_unstable();
        let parts: Vec<u8> = cuts
            .windows(2)
            .flat_map(|cut| unpacked(&logic, signal, from + cut[0] as u64, cut[1] - cut[0]))
            .collect();
        prop_assert_eq!(&parts, &whole);
        let one = cuts[1].min(4_999);
        prop_assert_eq!(logic.value_at(signal, from + one as u64), whole[one]);
    }
}

#[test]
fn a_second_sample_by_sample_gives_identical_bits() {
    let logic = logic("js220,seed=3,rate=100000,wake=100ms,logic=true");
    for signal in LogicSignal::ALL {
        for (sample, value) in (0..).zip(unpacked(&logic, signal, 0, 200_000)) {
            assert_eq!(logic.value_at(signal, sample), value, "{signal:?} {sample}");
        }
    }
}

/// What the digital signals say of the device is what current and voltage show.
#[test]
fn levels_agree_with_the_current_taken_together_with_them() {
    let spec = "js220,seed=7,wake=100ms,logic=true";
    let (logic, simulator) = (logic(spec), simulator(spec));
    let mut gains = simulator.gains(SimulatedSignal::Current);
    // As the instrument numbers them.
    gains.reverse();
    let count = 1_000_000;
    let current = samples(&simulator, SimulatedSignal::Current, 0, count);
    let of = |signal| unpacked(&logic, signal, 0, count * LOGIC_PER_SAMPLE as usize);
    let (ranges, awake, sending) = (
        of(LogicSignal::CurrentRange),
        of(LogicSignal::Gpi0),
        of(LogicSignal::Gpi1),
    );
    let mut seen = [0u32; 6];
    for (at, &sample) in current.iter().enumerate() {
        let together = at * LOGIC_PER_SAMPLE as usize;
        let range = usize::from(ranges[together]);
        let code = (f64::from(sample) / f64::from(gains[range])).round();
        assert_eq!(
            code as f32 * gains[range],
            sample,
            "sample {at} is no code of range {range}"
        );
        assert_eq!(awake[together] == 1, sample > 1e-4, "{at}: {sample} A");
        // Between the two levels nothing is drawn but noise.
        if sending[together] == 1 {
            assert!(sample > 9.5e-3, "{at}: {sample} A");
        } else {
            assert!(sample < 9.6e-3, "{at}: {sample} A");
        }
        seen[range] += 1;
    }
    assert!(seen[5] > 500_000 && seen[2] > 1_000 && seen[1] > 100, "{seen:?}");
}

#[test]
fn clock_data_and_trigger_are_as_often_high_as_they_are_said_to_be() {
    let logic = logic("js220,seed=7,wake=100ms,logic=true");
    let high = |signal, first| -> u32 {
        unpacked(&logic, signal, first, 2_000_000)
            .into_iter()
            .map(u32::from)
            .sum()
    };
    assert_eq!(high(LogicSignal::Gpi2, 0), 500_000, "a quarter");
    assert_eq!(high(LogicSignal::Gpi2, 777), 500_000, "in any whole period");
    assert_eq!(high(LogicSignal::TriggerIn, 0), 10 * 200, "100 µs in each 100 ms");
    let bits = unpacked(&logic, LogicSignal::Gpi3, 0, 2_000_000);
    assert!(
        bits.chunks(20).all(|bit| bit.iter().all(|&value| value == bit[0])),
        "10 µs each"
    );
    let ones = f64::from(high(LogicSignal::Gpi3, 0)) / 20.0;
    // 100,000 bits: five standard deviations.
    assert!((ones - 50_000.0).abs() < 5.0 * 158.2, "{ones}");
    let changes = bits.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64;
    assert!((changes - 50_000.0).abs() < 5.0 * 158.2, "{changes}");
    let other = packed(
        &super::logic::logic("js220,seed=8,logic=true"),
        LogicSignal::Gpi3,
        0,
        2_000,
    );
    assert_ne!(packed(&logic, LogicSignal::Gpi3, 0, 2_000), other);
}

#[test]
fn analog_signals_do_not_depend_on_digital_ones() {
    let of = |spec: &str| samples(&simulator(spec), SimulatedSignal::Current, 1_000, 1_000);
    assert_eq!(of("js220,seed=7"), of("js220,seed=7,logic=true"));
    assert!(Logic::of(&"js220".parse().expect("it is a specification")).is_none());
}

#[test]
#[should_panic(expected = "pass the end of the sample axis")]
fn samples_past_the_axis_are_refused() {
    logic("js220,logic=true").fill(LogicSignal::Gpi3, SAMPLE_ID_END - 1, 2, &mut Vec::new());
}
