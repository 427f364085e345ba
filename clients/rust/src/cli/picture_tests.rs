//! Pictures, character by character.

use wavekeep::Gap;
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::id::StreamId;

use super::*;

const SECOND: i64 = 1_000_000_000;
/// 2026-11-23T00:00:00Z.
const START: i64 = 1_795_392_000 * SECOND;
const STREAM: StreamId = StreamId([1; 16]);

/// One point a second: min and max; None has no samples.
fn trace(points: &[Option<(f64, f64)>]) -> Trace {
    let mut trace = Trace {
        device: "js220-001".into(),
        signal: "current".into(),
        unit: "A".into(),
        period_ns: SECOND / 1_000,
        length: points.len() as u64 * 1_000,
        ..Trace::default()
    };
    for (at, point) in (0i64..).zip(points) {
        let (min, max) = point.unwrap_or((f64::NAN, f64::NAN));
        trace.points.push(Point {
            from_ns: START + at * SECOND,
            to_ns: START + (at + 1) * SECOND,
            min,
            max,
            mean: (min + max) / 2.0,
            count: if point.is_some() { 1_000 } else { 0 },
        });
    }
    let end = START + points.len() as i64 * SECOND;
    trace.spans_ns.insert(STREAM, (START, end));
    trace
}

fn gap(from_s: f64, to_s: f64, reason: Reason) -> Gap {
    let ns = |seconds: f64| START + (seconds * 1e9) as i64;
    Gap {
        stream: STREAM,
        device: "js220-001".into(),
        first_sample: (from_s * 1e3) as u64,
        count: ((to_s - from_s) * 1e3) as u64,
        reason,
        from_ns: ns(from_s),
        to_ns: ns(to_s),
        signals: Vec::new(),
    }
}

fn drawn(traces: &[Trace], colour: bool) -> String {
    let (width, height) = (40, 4);
    picture(traces, &Look { width, height, colour }).join("\n")
}

/// A step, and a gap of two seconds of ten.
fn step() -> Trace {
    let (low, high) = (Some((0.0, 0.001)), Some((0.002, 0.004)));
    let mut trace = trace(&[low, low, low, low, None, None, high, high, high, high]);
    trace.gaps.push(gap(4.0, 6.0, Reason::SourceLoss));
    trace
}

#[test]
fn i9_an_envelope_is_filled_and_a_gap_is_blank_and_named() {
    let expected = "\
from 2026-11-23T00:00:00.000Z,
  to 2026-11-23T00:00:10.000Z, 10 s

js220-001 current
4 mA ┤                    ⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿
     │                    ⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿
     │⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀      ⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉
0 mA ┤⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿
     └┬────────────────┬────────────────
                   aaaaaaaa
      00:00:00         00:00:05
      a = source_loss: 2 s,
  2,000 samples,
  at 2026-11-23T00:00:04.000Z
8,000 samples, 2,000 missing, min 0 A,
  max 4 mA, mean 1.75 mA";
    assert_eq!(drawn(&[step()], false), expected);
}

#[test]
fn i9_nothing_is_drawn_in_a_gap_that_a_column_spans() {
    // One column of ten seconds, and a gap of four of them: the dots of the gap stay blank.
    let mut trace = trace(&[Some((0.0, 1.0))]);
    trace.points[0].to_ns = START + 10 * SECOND;
    trace.spans_ns.insert(STREAM, (START, START + 10 * SECOND));
    trace.gaps.push(gap(3.0, 5.0, Reason::SourceLoss));
    trace.gaps.push(gap(5.0, 7.0, Reason::UsbOverrun));
    let axis = Axis {
        from_ns: START,
        to_ns: START + 10 * SECOND,
        cells: 10,
    };
    let missing = missing(&trace, &axis);
    let stretches: Vec<(i64, i64)> = missing.values().flat_map(|missing| missing.stretches.clone()).collect();
    let rows: Vec<String> = canvas(&trace, &axis, &stretches, 1).rows().collect();
    assert_eq!(rows, ["⣿⣿⣿    ⣿⣿⣿"]);
    assert_eq!(strip(&missing, &axis), "   aabb   ");
    // A dot that is not wholly in the gap is drawn: there are samples in it.
    let rows: Vec<String> = canvas(&trace, &axis, &[(START + SECOND / 4, START + 2 * SECOND)], 1)
        .rows()
        .collect();
    assert_eq!(rows, ["⡇ ⣿⣿⣿⣿⣿⣿⣿⣿"]);
}

#[test]
fn a_spike_of_one_sample_is_a_dot_at_every_width() {
    let mut points = vec![Some((0.0, 0.0)); 1_000];
    points[777] = Some((0.0, 1.0));
    let trace = trace(&points);
    for cells in [5, 50, 500] {
        let axis = Axis {
            from_ns: START,
            to_ns: START + 1_000 * SECOND,
            cells,
        };
        let top = canvas(&trace, &axis, &[], 4).rows().next().expect("a row");
        let set: Vec<usize> = top
            .chars()
            .enumerate()
            .filter(|(_, cell)| *cell != ' ')
            .map(|(at, _)| at)
            .collect();
        assert_eq!(set, [777 * cells / 1_000]);
    }
}

#[test]
fn what_no_stream_covers_is_named_too() {
    let mut trace = trace(&[Some((0.0, 1.0)), Some((0.0, 1.0))]);
    trace.spans_ns.insert(STREAM, (START, START + 2 * SECOND));
    trace
        .spans_ns
        .insert(StreamId([2; 16]), (START + 65 * SECOND, START + 70 * SECOND));
    let text = drawn(&[trace], false);
    assert!(
        text.contains("a = not recorded: 1 min 3 s,\n  at 2026-11-23T00:00:02.000Z"),
        "{text}"
    );
}

#[test]
fn a_picture_fits_its_width() {
    let mut two = [step(), step()];
    two[1].signal = "voltage".into();
    two[1].gaps.push(gap(8.0, 8.001, Reason::UsbOverrun));
    let text = drawn(&two, false);
    for line in text.lines() {
        assert!(line.chars().count() <= 40, "{line}");
    }
    assert_eq!(text.matches("└").count(), 2);
    assert!(!text.contains('\x1b'));
    let colours = drawn(&two, true);
    assert!(colours.contains(BLUE) && colours.contains(RED));
    assert_eq!(colours.replace(BLUE, "").replace(RED, "").replace(PLAIN, ""), text);
}

#[test]
fn odd_values_are_drawn() {
    assert_eq!(drawn(&[], false), "there is nothing to draw");
    let nothing = drawn(&[trace(&[None, None])], false);
    assert!(nothing.contains("none of them finite"), "{nothing}");
    for values in [
        (0.0, 0.0),
        (-3.3, -3.3),
        (f64::MIN, f64::MAX),
        (1e-300, 1e-300),
        (5e-324, 5e-324),
    ] {
        let text = drawn(&[trace(&[Some(values); 3])], false);
        assert!(text.contains("3,000 samples"), "{text}");
    }
}
