//! Random frames in, and every bit has to leave at its place.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::source::joulescope::limits::LAG_SAMPLES;
use crate::source::joulescope::testing::bit;

fn data(port: u8, width: usize, range: Range<u64>) -> Vec<u8> {
    let bits = range.start * width as u64..range.end * width as u64;
    let mut bytes = vec![0; ((bits.end - bits.start) as usize).div_ceil(8)];
    for (place, at) in bits.enumerate() {
        bytes[place / 8] |= u8::from(bit(port, at)) << (place % 8);
    }
    bytes
}

/// What left: of each signal the positions that are there; of all the positions that are missing, and why.
#[derive(Default)]
struct Left {
    next: u64,
    there: BTreeMap<usize, Vec<Range<u64>>>,
    gaps: Vec<(Range<u64>, Reason)>,
}

fn drain(lane: &mut Lane, widths: &[usize], last: bool, left: &mut Left) {
    lane.drain::<()>(last, &mut |piece| {
        match piece {
            Piece::Gap(range, reason) => {
                assert_eq!(range.start, left.next, "I4");
                left.next = range.end;
                left.gaps.push((range, reason));
            }
            Piece::Samples(block) => {
                let range = block.first_sample..block.first_sample + block.count;
                assert!(range.start == left.next && !range.is_empty(), "I4");
                left.next = range.end;
                assert!(block.columns.iter().any(|column| !matches!(column, Column::Absent(_))));
                for (signal, (column, width)) in block.columns.iter().zip(widths).enumerate() {
                    let Column::Raw(bytes) = column else { continue };
                    let mut expected = data(signal as u8, *width, range.clone());
                    let mut bytes = bytes.to_vec();
                    assert_eq!(bytes.len(), expected.len());
                    // Beyond the last sample anything may stand.
                    let used = block.count as usize * width % 8;
                    if let (Some(a), Some(b), true) = (bytes.last_mut(), expected.last_mut(), used > 0) {
                        (*a, *b) = (*a << (8 - used), *b << (8 - used));
                    }
                    assert_eq!(bytes, expected, "I13: signal {signal} in {range:?}");
                    left.there.entry(signal).or_default().push(range.clone());
                }
            }
        }
        Ok(())
    })
    .expect("nothing here fails");
}

fn push(lane: &mut Lane, widths: &[usize], signal: usize, range: Range<u64>) -> u64 {
    let bytes = data(signal as u8, widths[signal], range.clone());
    let count = range.end - range.start;
    lane.push(signal, range.start, count, (&bytes, 0), Reason::DeviceOverflow)
}

#[test]
fn i12_a_hole_is_one_piece_however_long_it_is_and_whoever_waits() {
    let widths = [32, 32];
    // A sample id with a flipped bit, say, of the one signal; the other one sends nothing more, or goes on where it was.
    for others in [100..100, 100..500] {
        let mut lane = Lane::new(&widths, LAG_SAMPLES);
        let far = 1u64 << 47;
        for signal in [0, 1] {
            push(&mut lane, &widths, signal, 0..100);
        }
        assert_eq!(lane.begin(), Some(0));
        push(&mut lane, &widths, 0, far..far + 100);
        if !others.is_empty() {
            push(&mut lane, &widths, 1, others.clone());
        }
        let mut pieces = 0;
        let drained = lane.drain(true, &mut |_| {
            pieces += 1;
            if pieces < 10 { Ok(()) } else { Err(()) }
        });
        assert!(drained.is_ok(), "{others:?}: it does not end");
        assert!(lane.at().is_some_and(|at| at > far - LAG_SAMPLES), "{others:?}");
    }
}

#[test]
fn i4_both_lost_is_a_gap_and_one_lost_is_absent() {
    let widths = [32, 32];
    let mut lane = Lane::new(&widths, LAG_SAMPLES);
    for (signal, range) in [(0, 5..105), (1, 8..108), (0, 205..305), (1, 158..308)] {
        assert_eq!(push(&mut lane, &widths, signal, range), 0);
    }
    assert_eq!(lane.begin(), Some(8));
    let mut left = Left {
        next: 8,
        ..Left::default()
    };
    drain(&mut lane, &widths, false, &mut left);
    assert_eq!(left.gaps, [(108..158, Reason::DeviceOverflow)]);
    assert_eq!(left.there[&0], [8..105, 205..305]);
    assert_eq!(left.there[&1], [8..105, 105..108, 158..205, 205..305]);
    drain(&mut lane, &widths, true, &mut left);
    assert_eq!(left.next, 305, "the last three of one alone stay out");
}

#[test]
fn i12_a_signal_that_stops_does_not_hold_up_the_other_one() {
    let widths = [1, 4];
    let mut lane = Lane::new(&widths, LAG_SAMPLES);
    push(&mut lane, &widths, 0, 0..64);
    push(&mut lane, &widths, 1, 0..61);
    lane.begin();
    let mut left = Left::default();
    let mut at = 64;
    while at < 3 * LAG_SAMPLES {
        push(&mut lane, &widths, 0, at..at + 4_000);
        at += 4_000;
        drain(&mut lane, &widths, false, &mut left);
        assert!(at - left.next <= LAG_SAMPLES + 4_000);
    }
    assert_eq!(left.there[&1], [0..56, 56..61]);
    // It comes back: what was given up is late, the rest is there.
    let late = push(&mut lane, &widths, 1, left.next - 10..left.next + 30);
    assert_eq!(late, 10);
    let next = left.next;
    drain(&mut lane, &widths, false, &mut left);
    assert_eq!(left.there[&1].last(), Some(&(next..(next + 30) / 8 * 8)));
}

#[test]
fn i12_before_it_begins_a_signal_keeps_a_limited_amount() {
    let widths = [32, 32];
    let mut lane = Lane::new(&widths, LAG_SAMPLES);
    for frame in 0..10_000 {
        push(&mut lane, &widths, 0, frame * 126..(frame + 1) * 126);
    }
    assert!(lane.tracks[0].runs[0].data.capacity() < 4 * 4 * LAG_SAMPLES as usize);
    push(&mut lane, &widths, 1, 1_259_000..1_259_100);
    assert_eq!(lane.begin(), Some(1_259_000));
    for frame in 0..10_000 {
        push(&mut lane, &widths, 0, 2_000_000 + frame * 4..2_000_001 + frame * 4);
    }
    let mut left = Left {
        next: 1_259_000,
        ..Left::default()
    };
    drain(&mut lane, &widths, false, &mut left);
    assert!(lane.tracks[0].runs.len() <= RUNS_MAX);
}

fn frames() -> impl Strategy<Value = Vec<(usize, u64, u64, bool)>> {
    // Signal, a hole before, a length, whether all is drained after it.
    let hole = prop_oneof![4 => Just(0u64), 1 => 1u64..300];
    proptest::collection::vec((0usize..3, hole, 1u64..200, any::<bool>()), 1..80)
}

proptest! {
    #[test]
    fn i13_every_sample_leaves_once_at_its_place(start in 0u64..1_000, frames in frames()) {
        let widths = [4, 1, 32];
        let mut lane = Lane::new(&widths, LAG_SAMPLES);
        let mut ends = [start, start + 3, start + 17];
        let mut pushed: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut left: Option<Left> = None;
        for (signal, hole, length, drained) in frames {
            let from = ends[signal] + hole;
            ends[signal] = from + length;
            prop_assert_eq!(push(&mut lane, &widths, signal, from..from + length), 0);
            pushed.entry(signal).or_default().extend(from..from + length);
            if let (None, Some(next)) = (&left, lane.begin()) {
                left = Some(Left { next, ..Left::default() });
            }
            if let (Some(left), true) = (&mut left, drained) {
                drain(&mut lane, &widths, false, left);
            }
        }
        let Some(mut left) = left else { return Ok(()) };
        let first = lane.at().expect("it has begun").min(left.gaps.first().map_or(u64::MAX, |(range, _)| range.start));
        let first = left.there.values().flatten().map(|range| range.start).min().unwrap_or(first).min(first);
        drain(&mut lane, &widths, true, &mut left);
        for (signal, positions) in pushed {
            let there: Vec<u64> = left.there.remove(&signal).unwrap_or_default().into_iter().flatten().collect();
            let expected: Vec<u64> = positions.into_iter().filter(|at| *at >= first && *at < left.next).collect();
            prop_assert_eq!(there, expected, "signal {}", signal);
        }
    }
}
