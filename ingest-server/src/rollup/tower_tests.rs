//! Towers against folds of the samples themselves.

use proptest::prelude::*;

use super::*;
use crate::rollup::envelope::Envelope;
use crate::rollup::fold::fold;

const LEVELS: Levels = Levels { point: 0, first: 1 };

fn utc(sample: u64) -> i64 {
    sample as i64 * 1_000
}

/// A captured sample, or none.
type Axis = Vec<Option<f64>>;

/// Chunks of an axis: samples and gaps tile it, cut at these lengths.
fn chunks(axis: &[Option<f64>], lengths: &[usize]) -> Vec<(u64, Vec<Option<f64>>)> {
    let (mut at, mut chunks) = (0, Vec::new());
    let mut lengths = lengths.iter().cycle();
    while at < axis.len() {
        let longest = *lengths.next().expect("there are lengths");
        let present = axis[at].is_some();
        let same = axis[at..]
            .iter()
            .take(longest)
            .take_while(|sample| sample.is_some() == present);
        let end = at + same.count();
        chunks.push((at as u64, axis[at..end].to_vec()));
        at = end;
    }
    chunks
}

fn grow(
    tower: &mut Tower,
    levels: Levels,
    (first_sample, samples): &(u64, Vec<Option<f64>>),
    out: &mut Vec<Completed>,
) {
    let present: Vec<f64> = samples.iter().flatten().copied().collect();
    if !present.is_empty() {
        let folded = fold(
            levels,
            3,
            (*first_sample, present.len() as u64),
            |range, out| {
                out.clear();
                out.extend_from_slice(&present[range]);
            },
            None,
        );
        for (bucket, piece) in &folded.pieces {
            tower.piece(3, *bucket, piece, &utc, out);
        }
    }
    tower.close(first_sample + samples.len() as u64, &utc, out);
}

/// The fold of a range of the axis.
fn truth(axis: &[Option<f64>], from: u64, to: u64) -> Bucket {
    let range = (from as usize).min(axis.len())..(to as usize).min(axis.len());
    let present: Vec<f64> = axis[range].iter().flatten().copied().collect();
    Bucket {
        sample_count: present.len() as u64,
        envelope: Envelope::of(&present),
        exact: None,
    }
}

fn assert_true(axis: &[Option<f64>], completed: &Completed) {
    let size = bucket_samples(completed.level);
    let start = completed.bucket * size;
    assert_eq!(completed.whole, truth(axis, start, start + size));
    assert_eq!(completed.utc_ns, utc(start));
    for (place, child) in completed.children.iter().enumerate() {
        let from = start + place as u64 * (size / 16);
        let child_truth = truth(axis, from, from + size / 16);
        assert_eq!(child.unwrap_or(Bucket::EMPTY), child_truth, "child {place}");
        assert_eq!(
            child.is_some(),
            child_truth.sample_count > 0,
            "only children with samples are there"
        );
    }
}

fn axis() -> impl Strategy<Value = Axis> {
    // Integers, so that sums are exact in any order.
    let run = prop_oneof![
        4 => prop::collection::vec((-100i32..100).prop_map(|sample| Some(f64::from(sample))), 1..400),
        1 => (1usize..40).prop_map(|length| vec![None; length]),
        1 => (200usize..1_500).prop_map(|length| vec![None; length]),
        1 => (1usize..5).prop_map(|length| vec![Some(f64::NAN); length]),
    ];
    prop::collection::vec(run, 1..12).prop_map(|runs| runs.concat())
}

proptest! {
    #[test]
    fn i8_every_complete_bucket_with_samples_is_given_out_once_and_true(
        axis in axis(), lengths in prop::collection::vec(1usize..300, 1..5), piece_level in 0u32..2,
    ) {
        let levels = Levels { first: LEVELS.first + piece_level, ..LEVELS };
        let (mut tower, mut out) = (Tower::new(levels), Vec::new());
        for chunk in chunks(&axis, &lengths) {
            let before = out.len();
            grow(&mut tower, levels, &chunk, &mut out);
            let end = chunk.0 + chunk.1.len() as u64;
            for completed in &out[before..] {
                assert!((completed.bucket + 1) * bucket_samples(completed.level) <= end, "complete");
            }
        }
        out.iter().for_each(|completed| assert_true(&axis, completed));
        let mut given: Vec<(u32, u64)> = out.iter().map(|completed| (completed.level, completed.bucket)).collect();
        given.sort_unstable();
        let mut expected = Vec::new();
        for level in levels.first..5 {
            let size = bucket_samples(level);
            let complete = 0..axis.len() as u64 / size;
            expected.extend(complete.filter(|bucket| truth(&axis, bucket * size, (bucket + 1) * size).sample_count > 0)
                .map(|bucket| (level, bucket)));
        }
        prop_assert_eq!(given, expected);
    }

    #[test]
    fn a_tower_is_built_again_from_what_was_given_out(
        axis in axis(), lengths in prop::collection::vec(1usize..300, 1..5), stop in 0usize..40,
    ) {
        let chunks = chunks(&axis, &lengths);
        let stop = stop.min(chunks.len());
        let (mut tower, mut out) = (Tower::new(LEVELS), Vec::new());
        chunks[..stop].iter().for_each(|chunk| grow(&mut tower, LEVELS, chunk, &mut out));
        let end = chunks[..stop].last().map_or(0, |chunk| chunk.0 + chunk.1.len() as u64);

        let mut again = Tower::new(LEVELS);
        for level in LEVELS.first..LEVEL_MAX {
            let parent = end / bucket_samples(level + 1);
            let kept = out.iter().filter(|completed| completed.level == level && completed.bucket / 16 == parent);
            kept.for_each(|completed| again.child(3, level, completed.bucket, completed.whole, &utc));
        }
        let from = end / bucket_samples(LEVELS.first) * bucket_samples(LEVELS.first);
        let mut none = Vec::new();
        for sample in from..end {
            if let Some(value) = axis[sample as usize] {
                let one = Bucket { sample_count: 1, envelope: Envelope::of_one(value), exact: None };
                again.piece(3, sample, &one, &utc, &mut none);
            }
        }
        again.close(end, &utc, &mut none);
        prop_assert!(none.is_empty(), "nothing is given out twice");

        let (mut one, mut other) = (Vec::new(), Vec::new());
        for chunk in &chunks[stop..] {
            grow(&mut tower, LEVELS, chunk, &mut one);
            grow(&mut again, LEVELS, chunk, &mut other);
        }
        prop_assert_eq!(one, other);
    }
}

#[test]
fn a_gap_of_any_length_costs_a_row_a_level_at_most() {
    let (mut tower, mut out) = (Tower::new(LEVELS), Vec::new());
    grow(&mut tower, LEVELS, &(0, vec![Some(1.0)]), &mut out);
    assert!(out.is_empty());
    tower.close(1 << 61, &utc, &mut out);
    assert_eq!(out.len(), LEVEL_MAX as usize, "levels 1 to 15");
    assert!(
        out.iter()
            .all(|completed| completed.bucket == 0 && completed.whole.sample_count == 1)
    );
}
