//! Traces as pictures of characters: an envelope over time, its axes, and what is missing. Pure.
//!
//! # Invariants
//! - I9: a dot is set only where a point lies, from its min to its max, and never where a gap covers all of the dot's time. Nothing
//!   connects one point with the next.
//! - What is missing is named: each stretch has a letter under the picture, each letter a line with reason and duration.

use std::collections::BTreeMap;

use wavekeep::time::rfc3339_ms;

use super::canvas::{ACROSS, Canvas, DOWN};
use super::trace::{Point, Trace};
use super::words::{Scale, clock, duration, si, thousands};

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Characters across, axis and all.
    pub(super) width: usize,
    /// Characters down, without axis and legend.
    pub(super) height: usize,
    pub(super) colour: bool,
}

const BLUE: &str = "\x1b[36m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
/// Between two labels of the time axis.
const LABELS_APART: usize = 4;
/// Time that no stream covers.
const NOT_RECORDED: &str = "not recorded";
/// Stretches of one reason.
#[derive(Debug, Default)]
struct Missing {
    stretches: Vec<(i64, i64)>,
    samples: u64,
}

/// The time that is drawn, and into how many cells.
#[derive(Debug, Clone, Copy)]
struct Axis {
    from_ns: i64,
    to_ns: i64,
    /// Characters across.
    cells: usize,
}

impl Axis {
    fn length(&self) -> i128 {
        (i128::from(self.to_ns) - i128::from(self.from_ns)).max(1)
    }

    /// Which of `parts` equal parts a time lies in.
    fn part(&self, ns: i64, parts: usize) -> usize {
        let after = (i128::from(ns) - i128::from(self.from_ns)).clamp(0, self.length() - 1);
        usize::try_from(after * parts as i128 / self.length()).unwrap_or(0)
    }

    /// The parts that a stretch of time touches: first and last.
    fn parts(&self, (from_ns, to_ns): (i64, i64), parts: usize) -> (usize, usize) {
        let last = to_ns.saturating_sub(1).max(from_ns);
        (self.part(from_ns, parts), self.part(last, parts))
    }

    /// When a part starts.
    fn time(&self, part: usize, parts: usize) -> i64 {
        let after = self.length() * part as i128 / parts.max(1) as i128;
        i64::try_from(i128::from(self.from_ns) + after).unwrap_or(i64::MAX)
    }
}

/// All of them, one below the other, over the same time.
pub(super) fn picture(traces: &[Trace], look: &Look) -> Vec<String> {
    let spans = || traces.iter().flat_map(|trace| trace.spans_ns.values());
    let (Some(from_ns), Some(to_ns)) = (spans().map(|span| span.0).min(), spans().map(|span| span.1).max()) else {
        return vec!["there is nothing to draw".into()];
    };
    let labels: Vec<Vec<String>> = traces.iter().map(|trace| value_labels(trace, look.height)).collect();
    let label_width = labels
        .iter()
        .flatten()
        .map(|label| label.chars().count())
        .max()
        .unwrap_or(0);
    let cells = look.width.saturating_sub(label_width + 2).max(ACROSS);
    let axis = Axis { from_ns, to_ns, cells };
    let length = duration(to_ns.saturating_sub(from_ns));
    let title = format!("from {}, to {}, {length}", rfc3339_ms(from_ns), rfc3339_ms(to_ns));
    let mut lines = vec![wrapped(&title, look.width, 0)];
    for (trace, labels) in traces.iter().zip(&labels) {
        lines.push(String::new());
        lines.extend(one(trace, labels, label_width, &axis, look));
    }
    lines
}

/// One trace with its axes and its words.
fn one(trace: &Trace, labels: &[String], label_width: usize, axis: &Axis, look: &Look) -> Vec<String> {
    let paint = |text: &str, colour| {
        if look.colour {
            format!("{colour}{text}{PLAIN}")
        } else {
            text.to_owned()
        }
    };
    let missing = missing(trace, axis);
    let mut lines = vec![format!("{} {}", trace.device, trace.signal)];
    let stretches: Vec<(i64, i64)> = missing.values().flat_map(|missing| missing.stretches.clone()).collect();
    for (row, label) in canvas(trace, axis, &stretches, look.height).rows().zip(labels) {
        let tick = if label.is_empty() { '│' } else { '┤' };
        let row = row.trim_end();
        let row = if row.is_empty() {
            String::new()
        } else {
            paint(row, BLUE)
        };
        lines.push(format!("{label:>label_width$} {tick}{row}"));
    }
    let (ticks, times) = time_axis(axis);
    let indent = " ".repeat(label_width + 1);
    lines.push(format!("{indent}└{ticks}"));
    if !missing.is_empty() {
        let strip = strip(&missing, axis);
        lines.push(format!("{indent} {}", paint(strip.trim_end(), RED)));
    }
    lines.push(format!("{indent} {times}"));
    for (letter, (reason, missing)) in letters().zip(&missing) {
        let text = wrapped(&named(reason, missing), look.width, label_width + 6);
        lines.push(format!("{indent} {} = {text}", paint(&letter.to_string(), RED)));
    }
    lines.push(wrapped(&summary(trace), look.width, 0));
    lines
}

fn summary(trace: &Trace) -> String {
    let missing = trace.missing();
    let samples = thousands(trace.length.saturating_sub(missing));
    let values = match trace.envelope() {
        None => "none of them finite".into(),
        Some((min, max, mean)) => {
            let unit = trace.unit.as_str();
            format!("min {}, max {}, mean {}", si(min, unit), si(max, unit), si(mean, unit))
        }
    };
    format!("{samples} samples, {} missing, {values}", thousands(missing))
}

/// Broken at commas where it is too wide. It starts at `start`.
fn wrapped(text: &str, width: usize, start: usize) -> String {
    let (mut out, mut line) = (String::new(), start);
    for (at, part) in text.split(", ").enumerate() {
        // With the comma that may follow.
        let length = part.chars().count() + 1;
        if at > 0 && line + 1 + length > width {
            out.push_str(",\n  ");
            line = 2;
        } else if at > 0 {
            out.push_str(", ");
            line += 1;
        }
        out.push_str(part);
        line += length;
    }
    out
}

/// The top, the middle and the bottom have one.
fn value_labels(trace: &Trace, height: usize) -> Vec<String> {
    let (top, bottom) = bounds(trace);
    let last = height.saturating_sub(1);
    let scale = Scale::new(&[top, bottom], (top - bottom).abs() / height.max(1) as f64);
    let label = |row: usize| {
        let value = top + (bottom - top) * row as f64 / last.max(1) as f64;
        let is_labelled = row == 0 || row == last || (height > 4 && row == height / 2);
        if is_labelled && trace.envelope().is_some() {
            scale.with_unit(value, &trace.unit)
        } else {
            String::new()
        }
    };
    (0..height).map(label).collect()
}

/// The values at the top and at the bottom: never the same.
fn bounds(trace: &Trace) -> (f64, f64) {
    let (min, max, _) = trace.envelope().unwrap_or((0.0, 0.0, 0.0));
    if min < max && (max - min).is_finite() {
        return (max, min);
    }
    let room = if min == 0.0 { 1.0 } else { min.abs() * 0.1 };
    (max + room, min - room)
}

fn canvas(trace: &Trace, axis: &Axis, missing: &[(i64, i64)], height: usize) -> Canvas {
    let mut canvas = Canvas::new(axis.cells, height);
    let (across, down) = (axis.cells * ACROSS, height * DOWN);
    let (top, bottom) = bounds(trace);
    let row = |value: f64| {
        let share = ((top - value) / (top - bottom)).clamp(0.0, 1.0);
        (share * (down.saturating_sub(1)) as f64).round() as usize
    };
    let blank = blank_dots(axis, across, missing);
    for Point {
        from_ns,
        to_ns,
        min,
        max,
        count,
        ..
    } in &trace.points
    {
        if *count == 0 {
            continue;
        }
        let (first, last) = axis.parts((*from_ns, *to_ns), across);
        for x in (first..=last).filter(|x| !blank[*x]) {
            canvas.fill(x, row(*max), row(*min));
        }
    }
    canvas
}

/// I9: columns of dots whose time lies in a gap from start to end. Gaps that meet count as one.
fn blank_dots(axis: &Axis, across: usize, missing: &[(i64, i64)]) -> Vec<bool> {
    let mut sorted = missing.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from_ns, to_ns) in sorted {
        match joined.last_mut() {
            Some(last) if from_ns <= last.1 => last.1 = last.1.max(to_ns),
            _ => joined.push((from_ns, to_ns)),
        }
    }
    let mut blank = vec![false; across];
    for (from_ns, to_ns) in joined {
        let (first, last) = axis.parts((from_ns, to_ns), across);
        for (x, blank) in blank.iter_mut().enumerate().take(last + 1).skip(first) {
            *blank |= from_ns <= axis.time(x, across) && axis.time(x + 1, across) <= to_ns;
        }
    }
    blank
}

/// What is missing of a trace in the time that is drawn, by reason.
fn missing(trace: &Trace, axis: &Axis) -> BTreeMap<&'static str, Missing> {
    let mut by_reason: BTreeMap<&'static str, Missing> = BTreeMap::new();
    for gap in &trace.gaps {
        let missing = by_reason.entry(gap.reason.name()).or_default();
        missing.samples = missing.samples.saturating_add(gap.count);
        missing.stretches.push((gap.from_ns, gap.to_ns));
    }
    let mut spans: Vec<(i64, i64)> = trace.spans_ns.values().copied().collect();
    spans.sort_unstable();
    let mut end_ns = axis.from_ns;
    for (from_ns, to_ns) in spans.into_iter().chain([(axis.to_ns, axis.to_ns)]) {
        // Times of successors are rounded.
        if from_ns.saturating_sub(end_ns) > trace.period_ns {
            let missing = by_reason.entry(NOT_RECORDED).or_default();
            missing.stretches.push((end_ns, from_ns));
        }
        end_ns = end_ns.max(to_ns);
    }
    by_reason
}

/// Each reason has its letter.
fn letters() -> impl Iterator<Item = char> {
    ('a'..='z').chain('A'..='Z')
}

/// A letter in each cell that a gap touches.
fn strip(missing: &BTreeMap<&'static str, Missing>, axis: &Axis) -> String {
    let mut cells = vec![' '; axis.cells];
    for (letter, missing) in letters().zip(missing.values()) {
        for stretch in &missing.stretches {
            let (first, last) = axis.parts(*stretch, axis.cells);
            cells[first..=last].fill(letter);
        }
    }
    cells.into_iter().collect()
}

fn named(reason: &str, missing: &Missing) -> String {
    let ns = |stretch: &(i64, i64)| stretch.1.saturating_sub(stretch.0);
    let total = missing.stretches.iter().map(ns).fold(0, i64::saturating_add);
    let first = missing.stretches.iter().map(|stretch| stretch.0).min().unwrap_or(0);
    let samples = if missing.samples > 0 {
        format!("{} samples, ", thousands(missing.samples))
    } else {
        String::new()
    };
    let places = match missing.stretches.len() {
        1 => format!("at {}", rfc3339_ms(first)),
        many => format!(
            "in {} places, the first at {}",
            thousands(many as u64),
            rfc3339_ms(first)
        ),
    };
    format!("{reason}: {}, {samples}{places}", duration(total))
}

/// The line with its ticks, and the times below them.
fn time_axis(axis: &Axis) -> (String, String) {
    let step_of = |count: usize| axis.length() / count.max(1) as i128;
    let label_width = |count| clock(axis.from_ns, axis.length(), step_of(count)).chars().count();
    let mut count = (axis.cells / (8 + LABELS_APART)).max(1);
    while count > 1 && count * (label_width(count) + LABELS_APART) > axis.cells {
        count -= 1;
    }
    let (mut ticks, mut times) = (vec!['─'; axis.cells], String::new());
    for tick in 0..count {
        let cell = axis.cells * tick / count;
        ticks[cell] = '┬';
        let label = clock(axis.time(cell, axis.cells), axis.length(), step_of(count));
        while times.chars().count() < cell {
            times.push(' ');
        }
        times.push_str(&label);
    }
    (ticks.into_iter().collect(), times)
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
