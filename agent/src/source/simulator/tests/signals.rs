//! Signals: the same bits whatever the block, and such samples as the instruments and the device would give.

use super::super::{SAMPLE_ID_END, SimulatedSignal, Simulator};
use super::{bits, samples, simulator};
use proptest::prelude::*;

const CURRENT: SimulatedSignal = SimulatedSignal::Current;
const VOLTAGE: SimulatedSignal = SimulatedSignal::Voltage;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_range_at_any_block_size_gives_identical_bits(
        model in prop::sample::select(vec!["js220", "js110"]),
        signal in prop::sample::select(vec![CURRENT, VOLTAGE]),
        rate in prop_oneof![1u32..=10, 100u32..=20_000, 1_000_000u32..=2_000_000],
        seed: u64,
        wake_ms in 100u64..=2_000,
        from in prop_oneof![0u64..2_000_000, 0..SAMPLE_ID_END - 5_000, Just(SAMPLE_ID_END - 5_000)],
        mut cuts in prop::collection::vec(0usize..5_000, 1..30),
    ) {
        let simulator = simulator(&format!("{model},seed={seed},rate={rate},wake={wake_ms}ms"));
        let whole = samples(&simulator, signal, from, 5_000);
        cuts.extend([0, 5_000]);
        cuts.sort_unstable();
        let parts: Vec<f32> = cuts
            .windows(2)
            .flat_map(|cut| samples(&simulator, signal, from + cut[0] as u64, cut[1] - cut[0]))
            .collect();
        prop_assert_eq!(bits(&parts), bits(&whole));
        let one = cuts[1].min(4_999);
        prop_assert_eq!(simulator.value_at(signal, from + one as u64).to_bits(), whole[one].to_bits());
    }
}

/// Long enough for several bursts, sample by sample: all borders of pieces, slots and noise blocks are crossed one at a time.
#[test]
fn a_second_sample_by_sample_gives_identical_bits() {
    for spec in [
        "js220,seed=3,rate=1000000,wake=100ms",
        "js110,seed=3,rate=1000000,wake=100ms",
    ] {
        let simulator = simulator(spec);
        for signal in SimulatedSignal::ALL {
            let whole = samples(&simulator, signal, 0, 400_000);
            for (sample, value) in whole.iter().enumerate() {
                assert_eq!(
                    simulator.value_at(signal, sample as u64).to_bits(),
                    value.to_bits(),
                    "{spec} {signal:?} {sample}"
                );
            }
        }
    }
}

#[test]
fn samples_depend_on_seed_and_model_but_not_on_losses_or_speed() {
    let of = |spec: &str| bits(&samples(&simulator(spec), CURRENT, 1_000, 1_000));
    let first = of("js220,seed=7");
    assert_eq!(first, of("js220,seed=7,loss=2e-4,loss_length=5,speed=max"));
    assert_ne!(first, of("js220,seed=8"));
    assert_ne!(first, of("js110,seed=7,rate=1000000"));
}

/// The level is a function of time: a slow instrument sees at each of its samples what a fast one sees then.
#[test]
fn the_same_seed_is_the_same_device_at_any_rate() {
    let fast = simulator("js220,seed=9,rate=2000000");
    for (rate, count) in [(1u32, 50u64), (1_000, 5_000), (1_000_000, 900_000)] {
        let slow = simulator(&format!("js220,seed=9,rate={rate}"));
        let ratio = 2_000_000 / u64::from(rate);
        let mut awake = 0;
        for sample in 0..count {
            let (seen_slow, seen_fast) = (slow.value_at(CURRENT, sample), fast.value_at(CURRENT, sample * ratio));
            // Each has noise of at most 3 × 512 codes of the active range, which is at most 11 times the current (20 for sleep).
            let tolerance = 20.0 * 6.0 * 512.0 / (1 << 23) as f32 * seen_fast.max(seen_slow);
            assert!(
                (seen_slow - seen_fast).abs() <= tolerance,
                "{rate} Hz, sample {sample}: {seen_slow} and {seen_fast}"
            );
            awake += u32::from(seen_fast > 1e-4);
        }
        assert!(awake > 0 || rate == 1, "no burst was compared");
    }
}

/// The gain and code of a sample; panics if there is none.
fn code_of(simulator: &Simulator, gains: &[f32], sample: f32) -> Vec<(usize, u32)> {
    let of_gain = |(range, &gain): (usize, &f32)| {
        let code = (f64::from(sample) / f64::from(gain)).round();
        let valid = (0.0..f64::from(simulator.code_count())).contains(&code);
        (valid && (code as f32 * gain).to_bits() == sample.to_bits()).then_some((range, code as u32))
    };
    gains.iter().enumerate().filter_map(of_gain).collect()
}

#[test]
fn every_sample_is_a_whole_code_times_a_gain() {
    for (spec, code_count, range_count) in [("js220,seed=7", 1 << 23, 6), ("js110,seed=7", 1 << 14, 7)] {
        let simulator = simulator(spec);
        assert_eq!(simulator.code_count(), code_count);
        for (signal, gain_count) in [(CURRENT, range_count), (VOLTAGE, 1)] {
            let gains = simulator.gains(signal);
            assert_eq!(gains.len(), gain_count);
            assert!(gains.windows(2).all(|pair| pair[0] < pair[1]), "gains are in order");
            for sample in samples(&simulator, signal, 0, 2_000_000) {
                assert!(
                    !code_of(&simulator, &gains, sample).is_empty(),
                    "{spec} {signal:?}: {sample} is no code times a gain"
                );
            }
        }
    }
}

#[test]
fn js110_has_no_more_values_in_a_range_than_its_converter_has_codes() {
    let simulator = simulator("js110,seed=7,rate=1000000,wake=100ms");
    let gains = simulator.gains(CURRENT);
    let mut values = bits(&samples(&simulator, CURRENT, 0, 10_000_000));
    values.sort_unstable();
    values.dedup();
    let mut per_range = vec![0; gains.len()];
    for value in values {
        // A value that several ranges could give counts for the least sensitive one that could.
        let (range, _) = *code_of(&simulator, &gains, f32::from_bits(value))
            .last()
            .expect("every sample is a code");
        per_range[range] += 1;
    }
    assert!(per_range.iter().all(|&count| count <= 1 << 14), "{per_range:?}");
    // Sleep, burst and spikes are in different ranges; sleep alone has only the values around 1 µA.
    assert!(
        per_range[0] > 10 && per_range[3] > 1_000 && per_range[4] > 1_000,
        "{per_range:?}"
    );
}

#[test]
fn sleep_is_about_a_microampere_with_the_specified_noise() {
    for (spec, noise_codes) in [("js220,seed=7", 512.0), ("js110,seed=7", 2.0)] {
        let simulator = simulator(spec);
        let gain = f64::from(simulator.gains(CURRENT)[0]);
        // A slot begins with an eighth of sleep: 50,000 samples of js220, twice that of js110.
        let codes: Vec<f64> = samples(&simulator, CURRENT, 0, 50_000)
            .iter()
            .map(|&sample| (f64::from(sample) / gain).round())
            .collect();
        let count = codes.len() as f64;
        let mean = codes.iter().sum::<f64>() / count;
        let moment = |power| codes.iter().map(|code| (code - mean).powi(power)).sum::<f64>() / count;
        assert!(
            (0.94e-6..1.06e-6).contains(&(mean * gain)),
            "{spec}: mean {}",
            mean * gain
        );
        let deviation = moment(2).sqrt();
        // Rounding to whole codes adds a variance of 1/12.
        assert!(
            (deviation / noise_codes - 1.0).abs() < 0.03,
            "{spec}: deviation {deviation}"
        );
        assert!(
            (moment(4) / moment(2).powi(2) - 3.0).abs() < 0.1,
            "{spec}: kurtosis {}",
            moment(4) / moment(2).powi(2)
        );
        assert!((moment(3) / deviation.powi(3)).abs() < 0.06, "{spec}: skewness");
        for lag in [1, 2, 3, 4, 7, 8, 16, 64, 256, 4096] {
            let products = codes
                .iter()
                .zip(&codes[lag..])
                .map(|(one, other)| (one - mean) * (other - mean));
            let correlation = products.sum::<f64>() / moment(2) / (count - lag as f64);
            // Five standard deviations of what white noise gives.
            assert!(
                correlation.abs() < 5.0 / count.sqrt(),
                "{spec}: correlation {correlation} at lag {lag}"
            );
        }
    }
}

/// The noise of the two signals, of neighbouring blocks of noise and of neighbouring seeds have nothing in common.
#[test]
fn noises_are_independent() {
    let noise = |seed: u64, signal, first: u64| -> Vec<f64> {
        let codes = samples(
            &simulator(&format!("js220,seed={seed},wake=60s")),
            signal,
            first,
            65_536,
        );
        let mean = codes.iter().map(|&code| f64::from(code)).sum::<f64>() / codes.len() as f64;
        codes.iter().map(|&code| f64::from(code) - mean).collect()
    };
    let product = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>();
    let first = noise(7, CURRENT, 0);
    for (name, other) in [
        ("the voltage", noise(7, VOLTAGE, 0)),
        ("the next block", noise(7, CURRENT, 65_536)),
        ("the next seed", noise(8, CURRENT, 0)),
        ("the next of both", noise(8, CURRENT, 65_536)),
    ] {
        let correlation = product(&first, &other) / (product(&first, &first) * product(&other, &other)).sqrt();
        assert!(correlation.abs() < 5.0 / 256.0, "{name}: {correlation}");
    }
}

/// Lengths of what exceeds `level`, in samples; noise at the edges does not matter at the levels asked for.
fn lengths_above(samples: &[f32], level: f32) -> Vec<usize> {
    samples
        .split(|&sample| sample <= level)
        .map(<[f32]>::len)
        .filter(|&length| length > 0)
        .collect()
}

#[test]
fn bursts_and_radio_spikes_come_as_described() {
    let second = 1_000_000;
    let current = samples(&simulator("js220,seed=7"), CURRENT, 0, 20 * second);
    let bursts = lengths_above(&current, 5e-4);
    assert_eq!(bursts.len(), 50, "one burst in each 400 ms");
    assert!(
        bursts.iter().all(|length| (2_000..18_000).contains(length)),
        "{bursts:?}"
    );
    let spikes = lengths_above(&current, 9.5e-3);
    assert!(
        (100..=300).contains(&spikes.len()),
        "2 to 6 spikes in each burst: {}",
        spikes.len()
    );
    assert!(spikes.iter().all(|length| (39..=401).contains(length)), "{spikes:?}");
    let most = current.iter().copied().fold(0.0, f32::max);
    assert!((28e-3..30.1e-3).contains(&most), "{most}");
    let asleep = current.iter().filter(|&&sample| sample < 2e-6).count() as f64 / current.len() as f64;
    assert!((0.96..0.995).contains(&asleep), "asleep {asleep}");
}

#[test]
fn voltage_droops_in_proportion_to_the_current() {
    let simulator = simulator("js220,seed=7,wake=100ms");
    let (current, voltage) = (
        samples(&simulator, CURRENT, 0, 1_000_000),
        samples(&simulator, VOLTAGE, 0, 1_000_000),
    );
    let mut spikes = 0;
    for (current, voltage) in current.chunks(32).zip(voltage.chunks(32)) {
        let mean = |part: &[f32]| part.iter().map(|&sample| f64::from(sample)).sum::<f64>() / part.len() as f64;
        let expected = 3.3 - 0.8 * mean(current);
        // The noise's deviation is 2^-14 of 15 V; its mean over 32 samples is asked to stay within six of its own.
        assert!(
            (mean(voltage) - expected).abs() < 6.0 * 15.04 / 16_384.0 / 32f64.sqrt(),
            "{} V, not {expected}",
            mean(voltage)
        );
        spikes += u32::from(mean(current) > 0.01);
    }
    assert!(spikes > 10, "no droop was seen");
}

/// A JS110 is still in its sleep range when the device wakes up: its samples sit at the last code for 4 µs.
#[test]
fn js110_switches_its_range_after_the_current() {
    let simulator = simulator("js110,seed=7,rate=2000000");
    let gains = simulator.gains(CURRENT);
    let current = samples(&simulator, CURRENT, 0, 800_000);
    let wakes = current
        .iter()
        .position(|&sample| sample > 2e-6)
        .expect("the device wakes up within its slot");
    let last_code = 16_383.0 * gains[0];
    assert!(
        current[wakes..wakes + 7].iter().all(|&sample| sample == last_code),
        "limited in the sleep range"
    );
    let follows = current[wakes..]
        .iter()
        .position(|&sample| sample != last_code)
        .expect("the range follows");
    assert!((7..=9).contains(&follows), "after {follows} samples");
    assert!(
        current[wakes + follows..wakes + follows + 20]
            .iter()
            .all(|&sample| (5e-3..10e-3).contains(&sample)),
        "inrush"
    );
    // On the way down too: the first samples of sleep are still whole codes of the burst's range.
    let asleep = current
        .iter()
        .rposition(|&sample| sample > 5e-4)
        .expect("there is a burst")
        + 1;
    let in_burst_range = |&sample: &f32| {
        code_of(&simulator, &gains[2..4], sample)
            .first()
            .is_some_and(|&(_, code)| code < 20)
    };
    assert!(
        current[asleep..asleep + 7].iter().all(in_burst_range),
        "still in the burst's range"
    );
    let in_sleep_range =
        |&sample: &f32| (sample - 1e-6).abs() < 1e-7 && !code_of(&simulator, &gains[..1], sample).is_empty();
    assert!(
        current[asleep + 9..asleep + 1_000].iter().all(in_sleep_range),
        "the range follows"
    );
}

#[test]
#[should_panic(expected = "pass the end of the sample axis")]
fn samples_past_the_axis_are_refused() {
    simulator("js220").fill(CURRENT, SAMPLE_ID_END - 1, &mut [0.0; 2]);
}
