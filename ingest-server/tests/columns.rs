//! What is drawn, and what is summed up, at every zoom: against the samples themselves.

mod captured;
mod common;
mod query_support;

use captured::{Captured, Dice};
use common::{NOVEMBER_2026_NS, entry, owner};
use query_support::{Asker, assert_refused, between, by_device, by_stream, with_signals};
use sqlx::AssertSqlSafe;
use tonic::Code;
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::v1;
use wavekeep_proto::v1::waveform_part::Part;
use wavekeep_server::ledger::Row;

const POWER: u32 = 65_536;

/// A stream that goes on: what it captured is committed in groups.
async fn stored(rate_hz: f64, longest: u64, until: u64, seed: u64) -> (Asker, Captured) {
    let (asker, mut captured, mut dice) = (Asker::new().await, Captured::new(rate_hz), Dice(seed));
    let owner = owner();
    asker.fixture.open(&captured.stream, owner).await;
    while (captured.axis.len() as u64) < until {
        let before = captured.stream.at;
        let rows: Vec<Row> = (0..1 + dice.below(8))
            .map(|_| captured.chunk(&mut dice, longest))
            .collect();
        let group = entry(&captured.stream, owner, before, rows);
        assert_eq!(asker.fixture.commit(&[group]).await, [true]);
    }
    (asker, captured)
}

fn ns(captured: &Captured, sample: u64) -> i64 {
    NOVEMBER_2026_NS + captured.stream.definition.duration_ns(sample)
}

fn range(captured: &Captured, from: u64, to: u64) -> v1::Selection {
    between(
        by_stream(&captured.stream),
        Some(ns(captured, from)),
        Some(ns(captured, to)),
    )
}

/// Columns of each signal, all messages joined, and the manifest.
fn columns(parts: Vec<v1::WaveformPart>) -> (Vec<v1::WaveformColumns>, v1::StreamManifest) {
    let (mut all, mut manifest): (Vec<v1::WaveformColumns>, _) = (Vec::new(), None);
    for part in parts {
        match part.part.expect("a known part") {
            Part::Columns(columns) => match all.last_mut().filter(|last| last.signal == columns.signal) {
                Some(last) => {
                    assert_eq!(
                        last.to_sample, columns.first_sample,
                        "messages of a signal follow each other"
                    );
                    last.to_sample = columns.to_sample;
                    last.min.extend(columns.min);
                    last.max.extend(columns.max);
                    last.mean.extend(columns.mean);
                    last.count.extend(columns.count);
                    last.time_ns.extend(columns.time_ns);
                }
                None => all.push(columns),
            },
            Part::Manifest(last) => manifest = Some(last),
            Part::Stream(_) => {}
            Part::Chunk(_) => panic!("more samples than points"),
        }
    }
    let mut streams = manifest.expect("a manifest").streams;
    assert_eq!(streams.len(), 1);
    (all, streams.remove(0))
}

fn assert_true(captured: &Captured, (from, to): (u64, u64), points: u64, drawn: &v1::WaveformColumns, what: &str) {
    let width = drawn.bucket_samples;
    assert_eq!((drawn.first_sample, drawn.to_sample), (from, to), "{what}");
    assert!(
        drawn.count.len() as u64 <= points,
        "{what}: {} columns",
        drawn.count.len()
    );
    let mut start = from;
    for column in 0..drawn.count.len() {
        let end = ((start / width + 1) * width).min(to);
        let (_, truth) = captured.truth(start, end, drawn.signal == POWER);
        assert_eq!(drawn.count[column], truth.count, "{what}: column {column} of {width}");
        let [min, max, mean] = [&drawn.min, &drawn.max, &drawn.mean].map(|values| values[column]);
        if truth.count == 0 {
            assert!(
                min.is_nan() && max.is_nan() && mean.is_nan(),
                "{what}: nothing is drawn in a gap"
            );
        } else {
            assert_eq!((min, max), (truth.min, truth.max), "{what}: column {column} of {width}");
            assert!(
                (mean - truth.mean()).abs() < 1e-9,
                "{what}: {mean} is not {}",
                truth.mean()
            );
        }
        assert!(
            (drawn.time_ns[column] - ns(captured, start)).abs() < 1_000,
            "{what}: column {column}"
        );
        start = end;
    }
    assert_eq!(start, to, "{what}: the columns tile the range");
}

fn assert_statistics(captured: &Captured, (from, to): (u64, u64), all: &[v1::SignalStatistics], what: &str) {
    assert_eq!(all.len(), 3, "{what}: current, voltage and power");
    for statistics in all {
        let (stored, truth) = captured.truth(from, to, statistics.signal == "power");
        assert_eq!(
            (
                statistics.sample_count,
                statistics.gap_sample_count,
                statistics.finite_count
            ),
            (stored, to - from - stored, truth.count),
            "{what}: {}",
            statistics.signal
        );
        if truth.count == 0 {
            assert!(statistics.mean.is_nan() && statistics.min.is_nan(), "{what}");
            continue;
        }
        assert_eq!((statistics.min, statistics.max), (truth.min, truth.max), "{what}");
        let close = |one: f64, other: f64| (one - other).abs() <= 1e-9 * other.abs().max(1.0);
        let mean = truth.sum / truth.count as f64;
        let variance = (truth.sumsq / truth.count as f64 - mean * mean).max(0.0);
        assert!(close(statistics.mean, mean), "{what}");
        assert!(
            close(statistics.std, variance.sqrt()),
            "{what}: {} is not {}",
            statistics.std,
            variance.sqrt()
        );
        assert!(
            close(statistics.rms, (truth.sumsq / truth.count as f64).sqrt()),
            "{what}"
        );
        assert!(
            close(statistics.integral, truth.sum / captured.stream.definition.rate_hz),
            "{what}"
        );
    }
}

/// Random ranges and widths, ends of the stream and of its unfinished buckets among them.
async fn every_zoom(rate_hz: f64, longest: u64, until: u64, seed: u64) {
    let (asker, captured) = stored(rate_hz, longest, until, seed).await;
    let (end, mut dice) = (captured.axis.len() as u64, Dice(seed ^ 0x5eed));
    for round in 0..40 {
        if round == 30 {
            // As recorded by a version that knew no envelopes: everything is folded from samples.
            let sql = format!("UPDATE {}.stream SET folded_seq = 0", asker.fixture.workspace);
            let mut connection = common::connect(&asker.fixture.url, &asker.fixture.workspace).await;
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .expect("it updates");
        }
        let length = match dice.below(4) {
            0 => end,
            1 => 1 + dice.below(end),
            2 => 1 + dice.below(end / 16 + 1),
            _ => 1 + dice.below(end / 300 + 20),
        };
        let from = if dice.below(3) == 0 {
            end - length
        } else {
            dice.below(end - length + 1)
        };
        let (to, points) = (from + length, 1 + dice.below(300));
        let what = format!("{rate_hz} Hz, seed {seed}, round {round}: {from} to {to} in {points}");
        let selection = range(&captured, from, to);
        assert_statistics(
            &captured,
            (from, to),
            &asker.statistics(selection.clone()).await.expect(&what),
            &what,
        );

        let named = with_signals(selection, &["current", "power"]);
        let (drawn, manifest) = columns(asker.drawn(named, points as u32).await.expect(&what));
        assert_eq!(
            drawn.iter().map(|columns| columns.signal).collect::<Vec<_>>(),
            [0, POWER],
            "{what}"
        );
        drawn
            .iter()
            .for_each(|columns| assert_true(&captured, (from, to), points, columns, &what));
        let (samples, _) = captured.truth(from, to, false);
        assert_eq!((manifest.from_sample, manifest.to_sample), (from, to), "{what}");
        assert_eq!(
            (manifest.sample_count, manifest.gap_sample_count),
            (samples, length - samples),
            "{what}"
        );
        assert_eq!(
            manifest.gaps.iter().map(|gap| gap.count).sum::<u64>(),
            length - samples,
            "{what}"
        );
    }
}

#[tokio::test]
async fn i9_slow_streams_are_drawn_and_summed_up_as_their_samples_are() {
    every_zoom(1.0, 9, 1_500, 1).await;
    every_zoom(1_000.0, 900, 70_000, 2).await;
}

#[tokio::test]
async fn i9_streams_of_100_khz_are_drawn_and_summed_up_as_their_samples_are() {
    every_zoom(1e5, 50_000, 2_500_000, 3).await;
}

#[tokio::test]
async fn i9_fast_streams_are_drawn_and_summed_up_as_their_samples_are() {
    every_zoom(1e6, 65_536, 3_000_000, 4).await;
    every_zoom(2e6, 65_536, 3_000_000, 5).await;
}

#[tokio::test]
async fn i9_a_spike_of_one_sample_in_an_hour_is_visible_at_every_zoom() {
    let (asker, mut captured) = (Asker::new().await, Captured::new(1_000.0));
    let (hour, spike) = (3_600_000u64, 2_345_678u64);
    let owner = owner();
    asker.fixture.open(&captured.stream, owner).await;
    let mut at = 0;
    while at < hour {
        let before = captured.stream.at;
        let count = (65_536 - at % 65_536).min(hour - at);
        let value = |sample: u64| if sample == spike { 7.5f32 } else { 0.25 };
        let bits: Vec<u32> = (at..at + count).map(|sample| value(sample).to_bits()).collect();
        let row = captured.stream.samples(&bits);
        let group = entry(&captured.stream, owner, before, vec![row]);
        assert_eq!(asker.fixture.commit(&[group]).await, [true]);
        at += count;
    }
    captured.axis = (0..hour)
        .map(|sample| Some(if sample == spike { 7.5 } else { 0.25 }))
        .collect();
    for points in [1, 2, 3, 10, 100, 2_000, 10_000, 100_000] {
        for (from, to) in [(0, hour), (spike - 1_000_000, hour - 1), (spike, hour), (1, spike + 1)] {
            let selection = with_signals(range(&captured, from, to), &["voltage"]);
            let (drawn, _) = columns(asker.drawn(selection, points).await.expect("an answer"));
            let [voltage] = &drawn[..] else { panic!("one signal") };
            let column = (spike / voltage.bucket_samples - from / voltage.bucket_samples) as usize;
            let highest: Vec<usize> = (0..voltage.max.len()).filter(|at| voltage.max[*at] > 1.0).collect();
            assert_eq!(highest, [column], "{points} points of {from} to {to}");
            assert_eq!(
                (voltage.max[column], voltage.min.iter().copied().fold(9.0, f64::min)),
                (7.5, 0.25_f64.min(7.5))
            );
        }
    }
    // Few enough samples are sent as they are.
    let near = with_signals(range(&captured, spike - 10, spike + 10), &["voltage"]);
    let parts = asker.drawn(near.clone(), 20).await.expect("an answer");
    assert!(parts.iter().any(|part| matches!(part.part, Some(Part::Chunk(_)))));
    let (drawn, _) = columns(
        asker
            .drawn(with_signals(near, &["power"]), 20)
            .await
            .expect("derived ones are columns"),
    );
    assert_eq!((drawn[0].bucket_samples, drawn[0].max[10]), (1, 7.5 * 7.5));
}

#[tokio::test]
async fn i9_a_signal_that_is_absent_alone_is_drawn_as_nothing_and_takes_power_with_it() {
    let asker = Asker::new().await;
    let mut stream = common::Stream::new();
    let rows = vec![
        stream.few_samples(),
        stream.half_samples(),
        stream.gap(4, Reason::SourceLoss),
        stream.few_samples(),
    ];
    asker.store(&stream, rows).await;
    let selection = with_signals(by_stream(&stream), &["current", "voltage", "power"]);
    let (drawn, manifest) = columns(asker.drawn(selection.clone(), 13).await.expect("an answer"));
    let counts: Vec<String> = drawn
        .iter()
        .map(|columns| columns.count.iter().map(u64::to_string).collect())
        .collect();
    assert_eq!(counts, ["1111110000111", "1110000000111", "1110000000111"]);
    assert_eq!(
        (manifest.sample_count, manifest.gap_sample_count),
        (9, 4),
        "of any signal"
    );
    let gaps: Vec<_> = manifest
        .gaps
        .iter()
        .map(|gap| (gap.first_sample, gap.count, gap.signals.clone()))
        .collect();
    assert_eq!(gaps, [(3, 3, vec!["voltage".to_owned()]), (6, 4, vec![])]);

    // Where none is named, all are meant, the derived one too.
    let (unnamed, _) = columns(asker.drawn(by_stream(&stream), 12).await.expect("an answer"));
    let numbers: Vec<u32> = unnamed.iter().map(|columns| columns.signal).collect();
    assert_eq!(numbers, [0, 40_000, POWER]);

    let power = with_signals(by_stream(&stream), &["power"]);
    let (drawn, manifest) = columns(asker.drawn(power.clone(), 2).await.expect("an answer"));
    assert_eq!(drawn[0].count, [3, 3]);
    assert_eq!((manifest.sample_count, manifest.gap_sample_count), (6, 7));
    let statistics = asker.statistics(power).await.expect("an answer");
    assert_eq!((statistics[0].sample_count, statistics[0].gap_sample_count), (6, 7));
    assert_eq!(statistics[0].max, 9.0);
}

#[tokio::test]
async fn i13_a_bucket_that_is_lost_is_noticed() {
    let (asker, captured) = stored(1e3, 900, 3_000, 11).await;
    let mut connection = common::connect(&asker.fixture.url, &asker.fixture.workspace).await;
    sqlx::query("DELETE FROM envelope WHERE level = 2 AND bucket = 3")
        .execute(&mut connection)
        .await
        .expect("it deletes");
    let whole = range(&captured, 100, 2_900);
    assert_refused(asker.statistics(whole.clone()).await, Code::DataLoss, "is not whole");
    assert_refused(asker.drawn(whole, 1).await, Code::DataLoss, "is not whole");
}

#[tokio::test]
async fn points_are_shared_by_streams_and_limited() {
    let asker = Asker::new().await;
    for start_s in [0, 10, 40] {
        let mut stream = query_support::changed(|definition| definition.rate_hz = 1e3);
        stream.utc_ns += start_s * 1_000_000_000;
        let rows: Vec<Row> = (0..10).map(|_| stream.samples(&[1.0f32.to_bits(); 500])).collect();
        asker.store(&stream, rows).await;
    }
    let device = with_signals(by_device("js220-001"), &["current"]);
    let parts = asker.drawn(device.clone(), 30).await.expect("an answer");
    let of_streams: Vec<usize> = parts
        .iter()
        .filter_map(|part| match &part.part {
            Some(Part::Columns(columns)) => Some(columns.count.len()),
            _ => None,
        })
        .collect();
    assert_eq!(of_streams.len(), 3);
    assert!(
        of_streams.iter().sum::<usize>() <= 30 && of_streams.iter().all(|count| *count >= 5),
        "{of_streams:?}"
    );
    assert_refused(
        asker.drawn(device, 100_001).await,
        Code::InvalidArgument,
        "at most 100000 points",
    );
}
