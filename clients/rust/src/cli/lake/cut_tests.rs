//! Files tile what is wanted, and end at the same samples however often the export began again.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::id::{Epoch, StreamId};
use wavekeep::proto::stream::{SampleType, Signal};

use super::super::files::Name;
use super::*;

const RATE_HZ: f64 = 10.0;

fn definition() -> StreamDefinition {
    StreamDefinition {
        id: StreamId([1; 16]),
        device: "js220-001".into(),
        epoch: Epoch([2; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: RATE_HZ,
        first_sample: 7,
        signals: vec![Signal {
            number: 0,
            name: "current".into(),
            sample_type: SampleType::F32,
            unit: "A".into(),
            finite_only: false,
        }],
        attributes: BTreeMap::new(),
    }
}

/// A chunk: seqs, samples, time.
type Made = (Header, Hash);

/// Chunks of these lengths, some of them gaps, with a clock that steps by so much before each.
fn chunks(lengths: &[(u64, bool, i64)], start_ns: i64) -> Vec<Made> {
    let (mut sample, mut utc_ns) = (7, start_ns);
    let mut made = Vec::new();
    for (at, (count, is_gap, step_ns)) in lengths.iter().enumerate() {
        utc_ns += step_ns;
        let seq = at as u64 + 1;
        made.push(header(seq, sample, *count, utc_ns, *is_gap));
        sample += count;
        utc_ns += (*count as f64 / RATE_HZ * 1e9) as i64;
    }
    made
}

fn header(seq: u64, first_sample: u64, count: u64, utc_ns: i64, is_gap: bool) -> Made {
    let header = Header {
        kind: if is_gap { ChunkKind::Gap } else { ChunkKind::Samples },
        reason: if is_gap { Reason::SourceLoss } else { Reason::None },
        first_seq: seq,
        seq,
        first_sample,
        count,
        utc_ns,
        markers: Vec::new(),
        columns: Vec::new(),
    };
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&seq.to_le_bytes());
    (header, Hash(digest))
}

/// What an export gives that sees these chunks, and where it is then.
fn run(chunks: &[Made], ranges: &[TimeRange], covered: &Covered, is_whole: bool) -> Vec<Cut> {
    let definition = definition();
    let mut cutter = Cutter::new(&definition, ranges.to_vec(), 3_000_000_000);
    let known = covered.known_seq(definition.first_sample);
    let seen = chunks.iter().filter(|(header, _)| header.seq > known);
    let mut cuts: Vec<_> = seen
        .flat_map(|(header, digest)| cutter.chunk(&definition, header, *digest, covered))
        .collect();
    if is_whole {
        cuts.extend(cutter.finish());
    }
    cuts
}

fn cover(covered: &mut Covered, cut: &Cut) {
    let name = Name {
        stream: definition().id,
        seqs: cut.extent.seqs,
        samples: cut.extent.samples,
    };
    assert!(covered.add(&name), "no sample is in two files: {cut:?}");
}

const ALL: &[TimeRange] = &[TimeRange {
    from_ns: None,
    to_ns: None,
}];

/// Of times in milliseconds.
fn between(times: &[(i64, i64)]) -> Vec<TimeRange> {
    let range = |(from, to): &(i64, i64)| TimeRange {
        from_ns: Some(from * 1_000_000),
        to_ns: Some(to * 1_000_000),
    };
    times.iter().map(range).collect()
}

#[test]
fn a_file_is_of_one_day_to_the_sample() {
    // Half a second before midnight, in chunks of a second.
    let start_ns = 20_513 * DAY_NS - 500_000_000;
    let chunks = chunks(&[(10, false, 0), (10, false, 0)], start_ns);
    let cuts = run(&chunks, ALL, &Covered::default(), true);
    let extents: Vec<_> = cuts
        .iter()
        .map(|cut| (cut.day, cut.extent.samples, cut.extent.seqs))
        .collect();
    assert_eq!(extents, [(20_512, (7, 12), (1, 1)), (20_513, (12, 27), (1, 2))]);
    assert_eq!(cuts[1].times_ns.0, 20_513 * DAY_NS);
    assert_eq!(cuts[0].extent.digest_before, Some(definition_hash(&definition())));
}

#[test]
fn a_range_is_cut_to_its_samples() {
    let chunks = chunks(&[(10, false, 0), (10, false, 0), (10, false, 0)], 0);
    let cuts = run(&chunks, &between(&[(450, 1_700)]), &Covered::default(), true);
    assert_eq!(cuts.len(), 1);
    assert_eq!((cuts[0].extent.samples, cuts[0].extent.seqs), ((12, 24), (1, 2)));
}

#[test]
fn of_several_times_each_is_a_file_and_ends_where_it_ends() {
    let chunks = chunks(&[(10, false, 0), (10, false, 0), (10, false, 0)], 0);
    // Two in one chunk; one over two chunks, to the end of the second.
    let ranges = between(&[(100, 300), (500, 700), (900, 2_000)]);
    let extents = |cuts: &[Cut]| -> Vec<_> { cuts.iter().map(|cut| (cut.extent.samples, cut.extent.seqs)).collect() };
    let expected = [((8, 10), (1, 1)), ((12, 14), (1, 1)), ((16, 27), (1, 2))];
    let whole = run(&chunks, &ranges, &Covered::default(), true);
    assert_eq!(extents(&whole), expected);
    // Nobody has to wait for the stream's end, nor for another time of it.
    assert_eq!(run(&chunks, &ranges, &Covered::default(), false), whole);
    assert_eq!(
        extents(&run(&chunks[..1], &ranges, &Covered::default(), false)),
        expected[..2]
    );
    // Whichever of them is there is not written again, and the others are the same.
    for there in 0..3 {
        let mut covered = Covered::default();
        cover(&mut covered, &whole[there]);
        let mut others = whole.clone();
        others.remove(there);
        assert_eq!(run(&chunks, &ranges, &covered, true), others);
    }
    assert_eq!(run(&chunks, &[], &Covered::default(), true), []);
}

#[test]
fn a_gap_of_years_is_in_one_file() {
    let chunks = chunks(&[(10, false, 0), (10_000_000_000, true, 0), (10, false, 0)], 0);
    let cuts = run(&chunks, ALL, &Covered::default(), true);
    assert_eq!(cuts.len(), 2);
    assert_eq!(cuts[0].extent.samples.1, cuts[1].extent.samples.0);
}

proptest! {
    #[test]
    fn files_tile_and_do_not_depend_on_when_they_were_written(
        lengths in prop::collection::vec((1u64..40, prop::bool::weighted(0.2), prop_oneof![Just(0i64), -90_000_000_000i64..90_000_000_000]), 1..60),
        kills in prop::collection::vec((0usize..60, 0usize..6), 0..8),
    ) {
        let chunks = chunks(&lengths, 20_513 * DAY_NS - 20_000_000_000);
        let whole = run(&chunks, ALL, &Covered::default(), true);
        let mut at = 7;
        for cut in &whole {
            prop_assert_eq!(cut.extent.samples.0, at);
            prop_assert!(cut.extent.samples.1 > at);
            at = cut.extent.samples.1;
        }
        prop_assert_eq!(at, 7 + lengths.iter().map(|(count, ..)| count).sum::<u64>());
        // Followers that see so many chunks and are killed after so many files; then one that sees all.
        let mut covered = Covered::default();
        let mut found = Vec::new();
        for (committed, files) in kills {
            let committed = &chunks[..committed.min(chunks.len())];
            for cut in run(committed, ALL, &covered.clone(), false).into_iter().take(files) {
                cover(&mut covered, &cut);
                found.push(cut);
            }
        }
        for cut in run(&chunks, ALL, &covered.clone(), true) {
            cover(&mut covered, &cut);
            found.push(cut);
        }
        prop_assert_eq!(found, whole);
    }
}
