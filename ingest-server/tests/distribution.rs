//! Percentiles and histograms, against the samples themselves, sorted and counted.

mod captured;
mod common;
mod query_support;

use captured::{Captured, Dice};
use common::{NOVEMBER_2026_NS, entry, owner};
use query_support::{Asker, assert_refused, between, by_device, by_stream, changed, with_signals};
use tonic::Code;
use wavekeep_proto::v1;
use wavekeep_server::ledger::Row;

/// Chunks of any length, gaps and samples that are not finite; a few of them far away from the others, so that chunks differ.
async fn stored(rate_hz: f64, until: u64, seed: u64) -> (Asker, Captured) {
    let (asker, mut captured, mut dice) = (Asker::new().await, Captured::new(rate_hz), Dice(seed));
    let owner = owner();
    asker.fixture.open(&captured.stream, owner).await;
    while (captured.axis.len() as u64) < until {
        let before = captured.stream.at;
        let rows: Vec<Row> = (0..4)
            .map(|_| {
                let count = 1 + dice.below(9_000);
                match dice.below(8) {
                    0 => captured.gap(count),
                    1 => level(&mut captured, &mut dice, count),
                    _ => captured.chunk(&mut dice, 9_000),
                }
            })
            .collect();
        let group = entry(&captured.stream, owner, before, rows);
        assert_eq!(asker.fixture.commit(&[group]).await, [true]);
    }
    (asker, captured)
}

/// A chunk of one value.
fn level(captured: &mut Captured, dice: &mut Dice, count: u64) -> Row {
    let longest = 65_536 - captured.stream.at.next_sample % 65_536;
    let value = dice.below(2_000) as f64 / 8.0 - 125.0;
    captured.samples(&vec![value; count.min(longest) as usize])
}

fn sorted(captured: &Captured, (from, to): (usize, usize), squared: bool) -> Vec<f64> {
    let stored = captured.axis[from..to].iter().flatten();
    let values = stored.map(|value| if squared { value * value } else { *value });
    let mut finite: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    finite
}

const SHARES: [f64; 9] = [50.0, 0.0, 100.0, 1.0, 99.0, 99.99, 25.0, 0.001, 50.0];

fn asked(selection: v1::Selection) -> v1::GetStatisticsRequest {
    v1::GetStatisticsRequest {
        selection: Some(selection),
        percentiles: SHARES.to_vec(),
        histogram_bins: 40,
        ..v1::GetStatisticsRequest::default()
    }
}

/// ⌈p ÷ 100 × n⌉, in whole numbers.
fn nearest_rank(sorted: &[f64], share: f64) -> f64 {
    let thousandths = (share * 1_000.0).round() as u128;
    let rank = (thousandths * sorted.len() as u128).div_ceil(100_000).max(1);
    sorted[rank as usize - 1]
}

fn assert_counted(histogram: &v1::Histogram, sorted: &[f64]) {
    let width = (histogram.to - histogram.from) / histogram.counts.len() as f64;
    let start = |bin: usize| {
        if bin == histogram.counts.len() {
            histogram.to
        } else {
            histogram.from + bin as f64 * width
        }
    };
    for (bin, count) in histogram.counts.iter().enumerate() {
        let is_last = bin + 1 == histogram.counts.len();
        let in_bin = |value: &&f64| {
            start(bin) <= **value && (**value < start(bin + 1) || (is_last && **value <= start(bin + 1)))
        };
        assert_eq!(*count, sorted.iter().filter(in_bin).count() as u64, "bin {bin}");
    }
    assert_eq!(
        histogram.counts.iter().sum::<u64>() + histogram.below + histogram.above,
        sorted.len() as u64
    );
}

#[tokio::test]
async fn i8_percentiles_are_the_sorted_samples_own_and_bins_count_them_all() {
    let (asker, captured) = stored(1e5, 150_000, 7).await;
    let (end, at) = (captured.axis.len(), |sample: usize| {
        Some(NOVEMBER_2026_NS + captured.stream.definition.duration_ns(sample as u64))
    });
    for (from, to) in [(0, end), (1, end - 1), (20_011, 99_997), (50_000, 50_003)] {
        let selection = between(by_stream(&captured.stream), at(from), at(to));
        let found = asker.distribution(asked(selection.clone())).await.expect("an answer");
        let plain = asker.statistics(selection).await.expect("an answer");
        for (signal, plain) in found.iter().zip(&plain) {
            let sorted = sorted(&captured, (from, to), signal.signal == "power");
            if sorted.is_empty() {
                assert!(signal.percentiles.iter().all(|value| value.is_nan()) && signal.histogram.is_none());
                continue;
            }
            let expected = SHARES.map(|share| nearest_rank(&sorted, share));
            assert_eq!(signal.percentiles, expected, "{} of {from} to {to}", signal.signal);
            let histogram = signal.histogram.as_ref().expect("it was asked for");
            assert!(
                sorted[0] == sorted[sorted.len() - 1] || (histogram.from, histogram.to) == (signal.min, signal.max)
            );
            assert_counted(histogram, &sorted);
            assert_eq!((signal.mean, signal.finite_count), (plain.mean, plain.finite_count));
            assert!((signal.duration_s - (to - from) as f64 / 1e5).abs() < 1e-12);
            assert!((signal.gap_s - plain.gap_sample_count as f64 / 1e5).abs() < 1e-12);
        }
    }
}

#[tokio::test]
async fn a_histogram_of_a_part_says_what_lies_beside_it() {
    let (asker, captured) = stored(1e4, 40_000, 11).await;
    let request = v1::GetStatisticsRequest {
        histogram_from: Some(-10.0),
        histogram_to: Some(20.0),
        histogram_bins: 7,
        percentiles: Vec::new(),
        ..asked(with_signals(by_stream(&captured.stream), &["current"]))
    };
    let found = asker.distribution(request.clone()).await.expect("an answer").remove(0);
    let sorted = sorted(&captured, (0, captured.axis.len()), false);
    let histogram = found.histogram.expect("it was asked for");
    assert_eq!((histogram.from, histogram.to), (-10.0, 20.0));
    assert_counted(&histogram, &sorted);
    let below = sorted.iter().filter(|value| **value < -10.0).count() as u64;
    assert!(histogram.below == below && below > 0 && histogram.above > 0);
    assert_eq!(found.percentiles, Vec::<f64>::new());
    // Beyond everything there is.
    let beyond = v1::GetStatisticsRequest {
        histogram_from: Some(1e6),
        histogram_to: None,
        ..request
    };
    let found = asker.distribution(beyond).await.expect("an answer").remove(0);
    let histogram = found.histogram.expect("it was asked for");
    assert_eq!((histogram.below, histogram.counts), (sorted.len() as u64, vec![0; 7]));
}

#[tokio::test]
async fn percentiles_are_of_all_streams_of_a_device() {
    let asker = Asker::new().await;
    let (mut first, mut second) = (common::Stream::new(), changed(|definition| definition.rate_hz = 1e3));
    second.utc_ns += 1_000_000_000;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let rows = vec![first.samples(&bits(&[5.0, 1.0, 9.0]))];
    asker.store(&first, rows).await;
    let rows = vec![
        second.samples(&bits(&[-2.0, 3.0])),
        second.gap(4, wavekeep_proto::chunk::Reason::SourceLoss),
    ];
    asker.store(&second, rows).await;
    let found = asker
        .distribution(asked(with_signals(by_device("js220-001"), &["voltage"])))
        .await
        .expect("an answer")
        .remove(0);
    // −2, 1, 3, 5, 9.
    assert_eq!(found.percentiles, [3.0, -2.0, 9.0, -2.0, 9.0, 9.0, 1.0, -2.0, 3.0]);
    assert!((found.duration_s - 0.006_003).abs() < 1e-12 && (found.gap_s - 0.004).abs() < 1e-12);
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused_in_words() {
    let asker = Asker::new().await;
    let mut stream = common::Stream::new();
    let rows = vec![stream.few_samples()];
    asker.store(&stream, rows).await;
    let refused = async |change: fn(&mut v1::GetStatisticsRequest), part: &str| {
        let mut request = asked(by_stream(&stream));
        change(&mut request);
        assert_refused(asker.distribution(request).await, Code::InvalidArgument, part);
    };
    refused(|request| request.percentiles[0] = 100.1, "100.1 is no percentile").await;
    refused(|request| request.percentiles[0] = f64::NAN, "is no percentile").await;
    refused(
        |request| request.percentiles = vec![1.0; 101],
        "at most 100 percentiles",
    )
    .await;
    refused(|request| request.histogram_bins = 10_001, "at most 10000 bins").await;
    refused(
        |request| request.histogram_from = Some(f64::INFINITY),
        "to a larger one",
    )
    .await;
    refused(
        |request| (request.histogram_from, request.histogram_to) = (Some(1.0), Some(1.0)),
        "to a larger one",
    )
    .await;
    // A gap of years costs nothing to store, and would take hours to look at if it were samples.
    let mut long = changed(|definition| definition.device = "long".into());
    let rows = vec![
        long.few_samples(),
        long.gap(20_000_000_000, wavekeep_proto::chunk::Reason::HostSuspend),
    ];
    asker.store(&long, rows).await;
    let answer = asker.distribution(asked(by_stream(&long))).await;
    assert_refused(
        answer,
        Code::FailedPrecondition,
        "choose a shorter time or fewer signals",
    );
    assert!(
        asker.statistics(by_stream(&long)).await.is_ok(),
        "the plain ones are as they were"
    );
}
