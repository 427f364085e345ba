//! The chunker against a model that knows nothing of buffers: what goes in, sample by sample.

use std::time::Duration;

use proptest::prelude::*;
use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::Signal;

use super::*;

fn definition(rate_hz: f64) -> StreamDefinition {
    let signal = |number, name: &str, sample_type| Signal {
        number,
        name: name.into(),
        sample_type,
        unit: String::new(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([1; 16]),
        device: "bench".into(),
        epoch: Epoch([2; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz,
        first_sample: 0,
        signals: vec![signal(0, "current", SampleType::F32), signal(1, "gpi", SampleType::U1)],
        attributes: std::collections::BTreeMap::new(),
    }
}

/// The truth: each sample's two values are functions of its id.
fn current(sample: u64) -> f32 {
    f32::from_bits((sample as u32).wrapping_mul(0x9E37_79B9))
}
fn gpi(sample: u64) -> bool {
    (sample.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) & 1 == 1
}

fn packed(range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start).div_ceil(8) as usize];
    for (at, sample) in range.enumerate() {
        bytes[at / 8] |= u8::from(gpi(sample)) << (at % 8);
    }
    bytes
}

#[derive(Debug, Clone, PartialEq)]
struct Whole {
    kind: ChunkKind,
    reason: Reason,
    range: Range<u64>,
    utc_ns: i64,
    markers: Vec<u64>,
    columns: Vec<CutColumn>,
}

fn keep(cuts: &mut Vec<Whole>) -> impl FnMut(Cut<'_>) -> Result<(), BadInput> {
    |cut| {
        cuts.push(Whole {
            kind: cut.kind,
            reason: cut.reason,
            range: cut.first_sample..cut.first_sample + cut.count,
            utc_ns: cut.utc_ns,
            markers: cut.markers.iter().map(|marker| marker.sample).collect(),
            columns: cut.columns.to_vec(),
        });
        Ok(())
    }
}

fn feed(chunker: &mut Chunker, range: Range<u64>, gpi_off: bool, cuts: &mut Vec<Whole>) {
    let values: Vec<f32> = range.clone().map(current).collect();
    let bits = packed(range.clone());
    let gpi = if gpi_off {
        Column::Absent(Reason::SignalOff)
    } else {
        Column::Raw(&bits)
    };
    let block = Block {
        first_sample: range.start,
        count: range.end - range.start,
        columns: &[Column::F32(&values), gpi],
    };
    chunker.samples(&block, &mut keep(cuts)).expect("the block is good");
}

fn marker(sample: u64) -> Marker {
    Marker {
        sample,
        kind: 0,
        group: 0,
        y: f64::NAN,
        format: MarkerFormat::Text,
        content: b"note".to_vec(),
    }
}

/// A part of a recording.
#[derive(Debug, Clone)]
enum Part {
    Samples {
        count: u64,
        gpi_off: bool,
        marker_at: Option<u64>,
    },
    Gap {
        count: u64,
    },
    Jump {
        count: u64,
    },
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![
        4 => (1u64..150_000, prop::bool::weighted(0.1), prop::option::of(any::<u64>()))
            .prop_map(|(count, gpi_off, at)| Part::Samples { count, gpi_off, marker_at: at.map(|at| at % count) }),
        1 => (1u64..100_000).prop_map(|count| Part::Gap { count }),
        1 => (1u64..1_000).prop_map(|count| Part::Jump { count }),
    ];
    prop::collection::vec(part, 1..6)
}

fn run(rate_hz: f64, period: Duration, parts: &[Part], portion: u64) -> Vec<Whole> {
    let definition = definition(rate_hz);
    let mut chunker = Chunker::new(&definition, period, 0);
    chunker.anchor(Anchor {
        sample: 0,
        utc_ns: 1_700_000_000_000_000_000,
    });
    let mut cuts = vec![];
    let mut at = 0;
    for part in parts {
        match part {
            Part::Samples {
                count,
                gpi_off,
                marker_at,
            } => {
                if let Some(offset) = marker_at {
                    chunker.marker(marker(at + offset)).expect("it is not late");
                }
                let end = at + count;
                while at < end {
                    let to = (at + portion).min(end);
                    feed(&mut chunker, at..to, *gpi_off, &mut cuts);
                    at = to;
                }
            }
            Part::Gap { count } => {
                chunker
                    .gap(at..at + count, Reason::UsbOverrun, &mut keep(&mut cuts))
                    .expect("the gap is good");
                at += count;
            }
            Part::Jump { count } => at += count,
        }
    }
    chunker.finish(&mut keep(&mut cuts)).expect("nothing can fail");
    cuts
}

fn covered(parts: &[Part]) -> (u64, u64) {
    let (mut samples, mut silent) = (0, 0);
    for part in parts {
        match part {
            Part::Samples { count, .. } => {
                samples += count + silent;
                silent = 0;
            }
            Part::Gap { count } => {
                samples += count + silent;
                silent = 0;
            }
            Part::Jump { count } => silent += count,
        }
    }
    (samples, silent)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn i4_chunks_tile_and_end_where_they_may(rate_hz in 1f64..2e6, period_ms in 10u64..5_000, parts in parts(), portion in 1u64..200_000) {
        let portion = portion.max(97);
        let cuts = run(rate_hz, Duration::from_millis(period_ms), &parts, portion);
        let definition = definition(rate_hz);
        let period = period_samples(&definition, Duration::from_millis(period_ms));
        prop_assert_eq!(period % definition.base_bucket_samples(), 0);
        let mut next = 0;
        for (at, cut) in cuts.iter().enumerate() {
            prop_assert_eq!(cut.range.start, next, "I4");
            next = cut.range.end;
            if cut.kind != ChunkKind::Samples {
                continue;
            }
            let (first, last) = (cut.range.start, cut.range.end - 1);
            prop_assert_eq!(first / 65_536, last / 65_536, "crosses a multiple of 65,536");
            prop_assert_eq!(first / period, last / period, "is longer than a chunk period");
            let after = cuts.get(at + 1);
            let early_for_a_reason =
                after.is_none_or(|after| after.kind != ChunkKind::Samples || absences(after) != absences(cut));
            prop_assert!(cut.range.end % definition.base_bucket_samples() == 0 || early_for_a_reason);
        }
        prop_assert_eq!(next, covered(&parts).0);
    }

    #[test]
    fn i13_every_sample_comes_out_once_and_markers_with_theirs(rate_hz in 1f64..2e6, parts in parts(), portion in 97u64..200_000) {
        let cuts = run(rate_hz, Duration::from_secs(1), &parts, portion);
        for cut in cuts.iter().filter(|cut| cut.kind == ChunkKind::Samples) {
            let expected: Vec<u8> = cut.range.clone().flat_map(|sample| current(sample).to_le_bytes()).collect();
            prop_assert!(cut.columns[0].samples == expected, "current of {:?}", cut.range);
            match cut.columns[1].absent {
                None => prop_assert!(cut.columns[1].samples == packed(cut.range.clone()), "gpi of {:?}", cut.range),
                Some(reason) => prop_assert!(reason == Reason::SignalOff && cut.columns[1].samples.is_empty()),
            }
        }
        let markers: usize = parts.iter().filter(|part| matches!(part, Part::Samples { marker_at: Some(_), .. })).count();
        prop_assert_eq!(cuts.iter().map(|cut| cut.markers.len()).sum::<usize>(), markers);
        for cut in &cuts {
            prop_assert!(cut.markers.iter().all(|sample| cut.range.contains(sample)));
        }
    }

    #[test]
    fn i4_portions_do_not_matter(rate_hz in 1f64..2e6, parts in parts(), portion in 97u64..200_000) {
        let period = Duration::from_millis(300);
        prop_assert!(run(rate_hz, period, &parts, portion) == run(rate_hz, period, &parts, 1 << 40));
    }

    #[test]
    fn i4_a_replay_cuts_equally_from_wherever_it_resumes(rate_hz in 1f64..2e6, count in 1u64..500_000, from in any::<prop::sample::Index>()) {
        let definition = definition(rate_hz);
        let period = Duration::from_millis(700);
        let whole = run(rate_hz, period, &[Part::Samples { count, gpi_off: false, marker_at: None }], 10_000);
        let from = from.index(whole.len());
        let mut chunker = Chunker::new(&definition, period, whole[from].range.start);
        chunker.anchor(Anchor { sample: 0, utc_ns: 1_700_000_000_000_000_000 });
        let mut rest = vec![];
        feed(&mut chunker, whole[from].range.start..count, false, &mut rest);
        chunker.finish(&mut keep(&mut rest)).expect("nothing can fail");
        prop_assert!(rest == whole[from..]);
    }
}

fn absences(cut: &Whole) -> Vec<Option<Reason>> {
    cut.columns.iter().map(|column| column.absent).collect()
}

#[test]
fn the_period_is_whole_buckets() {
    let samples = |rate_hz, ms| period_samples(&definition(rate_hz), Duration::from_millis(ms));
    assert_eq!(samples(1e6, 1_000), 15 * 65_536);
    assert_eq!(samples(1e6, 10), 65_536, "at least one bucket");
    assert_eq!(samples(1e5, 1_000), 98_304);
    assert_eq!(samples(1e3, 50), 48);
    assert_eq!(samples(1.0, 3_600_000), 3_600, "an hour of a slow stream is one chunk");
    assert_eq!(samples(1.0, 1_000), 1);
    assert_eq!(samples(0.001, 1_000), 1);
    assert_eq!(samples(1e12, 3_600_000) % 65_536, 0);
}

#[test]
fn i4_a_source_that_steps_back_or_lies_is_refused() {
    let mut chunker = Chunker::new(&definition(1000.0), Duration::from_secs(1), 100);
    let mut cuts = vec![];
    let mut push = |block: &Block<'_>| chunker.samples(block, &mut keep(&mut cuts));
    let bits = [0xFF];
    let two = [1.0f32, 2.0];
    let block = |first_sample, count, columns| Block {
        first_sample,
        count,
        columns,
    };
    let good = [Column::F32(&two), Column::Raw(&bits)];
    assert_eq!(
        push(&block(99, 2, &good)),
        Err(BadInput::Backwards {
            expected: 100,
            given: 99
        })
    );
    assert_eq!(push(&block(100, 2, &good[..1])), Err(BadInput::Columns));
    let other_type = [Column::I16(&[1, 2]), good[1]];
    assert_eq!(push(&block(100, 2, &other_type)), Err(BadInput::Columns));
    let short = BadInput::ColumnBytes {
        column: 0,
        given: 8,
        expected: 12,
    };
    assert_eq!(push(&block(100, 3, &good)), Err(short));
    assert_eq!(push(&block(u64::MAX, 2, &good)), Err(BadInput::SampleId));
    assert_eq!(push(&block(100, u64::MAX, &good)), Err(BadInput::SampleId));
    let evicted = [Column::Absent(Reason::Evicted), good[1]];
    assert_eq!(push(&block(100, 2, &evicted)), Err(BadInput::Reason(Reason::Evicted)));
    assert_eq!(push(&block(100, 2, &good)), Ok(()));
    let gap = chunker.gap(102..103, Reason::LostByServer, &mut keep(&mut cuts));
    assert_eq!(gap, Err(BadInput::Reason(Reason::LostByServer)));
    assert_eq!(chunker.next_sample(), 102);
}

#[test]
fn markers_are_bounded_and_never_late() {
    let definition = definition(1000.0);
    let mut chunker = Chunker::new(&definition, Duration::from_secs(1), 100);
    assert_eq!(chunker.marker(marker(99)), Err(BadInput::LateMarker(99)));
    for _ in 0..MARKERS_MAX {
        assert_eq!(chunker.marker(marker(150)), Ok(()));
    }
    assert_eq!(chunker.marker(marker(150)), Err(BadInput::Markers), "I12");
    let mut cuts = vec![];
    feed(&mut chunker, 100..150, false, &mut cuts);
    // The markers right at the end have no other place than the last chunk.
    let lost = chunker.finish(&mut keep(&mut cuts));
    assert_eq!(lost, Ok(0));
    assert_eq!(
        cuts.last().map(|cut| (cut.range.clone(), cut.markers.len())),
        Some((100..150, MARKERS_MAX))
    );
    chunker.restart(150);
    assert_eq!(chunker.marker(marker(1_000)), Ok(()));
    assert_eq!(chunker.finish(&mut keep(&mut cuts)), Ok(1), "beyond the end");
}

#[test]
fn i13_what_is_not_emitted_of_a_file_is_read_again() {
    let definition = definition(1000.0);
    let mut chunker = Chunker::new(&definition, Duration::from_secs(1), 0);
    let mut cuts = vec![];
    feed(&mut chunker, 0..1_500, false, &mut cuts);
    let stored = cuts.last().map(|cut| cut.range.end).expect("a period has passed");
    assert!(stored < 1_500);
    chunker.restart(stored);
    feed(&mut chunker, stored..1_500, false, &mut cuts);
    chunker.finish(&mut keep(&mut cuts)).expect("nothing can fail");
    assert!(
        cuts.windows(2).all(|pair| pair[0].range.end == pair[1].range.start),
        "I4"
    );
    assert_eq!(
        cuts.iter().map(|cut| cut.range.end - cut.range.start).sum::<u64>(),
        1_500
    );
}
