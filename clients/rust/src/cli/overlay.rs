//! Two groups of runs over one axis, as pictures of characters: one below the other on one scale, and the difference of their means. Pure.
//!
//! # Invariants
//! - I9: a dot is set only where a column has samples; where a group has none there is nothing.

use wavekeep::{ComparedColumns, Comparison};

use super::canvas::{ACROSS, Canvas, DOWN};
use super::picture::Look;
use super::words::{Scale, duration, si};

const FIRST: &str = "\x1b[36m";
const SECOND: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// What is drawn in one panel, from the lower value to the upper one of each column.
struct Panel<'a> {
    title: String,
    lows: &'a [f64],
    highs: &'a [f64],
    colour: &'static str,
}

/// Three panels.
pub(super) fn overlay(comparison: &Comparison, columns: &ComparedColumns, look: &Look) -> Vec<String> {
    let unit = comparison.unit.as_str();
    let (first, second) = (&columns.first, &columns.second);
    let bounds_of = |all: &[&[f64]]| bounds(all.iter().copied().flatten().copied());
    let shared = bounds_of(&[&first.min, &first.max, &second.min, &second.max]);
    let apart = bounds_of(&[&columns.difference, &[0.0]]);
    let name = |group: &wavekeep::RunGroup| format!("{} {}", group.name, comparison.signal);
    let panels = [
        (
            Panel {
                title: name(&comparison.first),
                lows: &first.min,
                highs: &first.max,
                colour: FIRST,
            },
            shared,
        ),
        (
            Panel {
                title: name(&comparison.second),
                lows: &second.min,
                highs: &second.max,
                colour: SECOND,
            },
            shared,
        ),
        (
            Panel {
                title: format!("{} − {}, of the means", comparison.second.name, comparison.first.name),
                lows: &columns.difference,
                highs: &columns.difference,
                colour: "",
            },
            apart,
        ),
    ];
    let labels: Vec<Vec<String>> = panels
        .iter()
        .map(|(_, bounds)| value_labels(*bounds, unit, look.height))
        .collect();
    let widths = labels.iter().flatten().map(|label| label.chars().count());
    let label_width = widths.max().unwrap_or(0);
    let cells = look.width.saturating_sub(label_width + 2).max(ACROSS);
    let mut lines = Vec::new();
    for ((panel, bounds), labels) in panels.iter().zip(&labels) {
        lines.push(panel.title.clone());
        lines.extend(drawn(panel, *bounds, labels, (label_width, cells), look));
    }
    lines.push(time_axis(columns, label_width, cells));
    lines
}

/// Of the finite ones: top and bottom, never the same.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    match (low, high) {
        _ if low > high => (1.0, 0.0),
        _ if low < high && (high - low).is_finite() => (high, low),
        _ => {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low + room, low - room)
        }
    }
}

fn value_labels((top, bottom): (f64, f64), unit: &str, height: usize) -> Vec<String> {
    let scale = Scale::new(&[top, bottom], (top - bottom).abs() / height.max(1) as f64);
    let last = height.saturating_sub(1);
    let label = |row: usize| match row {
        0 => scale.with_unit(top, unit),
        _ if row == last => scale.with_unit(bottom, unit),
        _ => String::new(),
    };
    (0..height).map(label).collect()
}

fn drawn(
    panel: &Panel<'_>,
    (top, bottom): (f64, f64),
    labels: &[String],
    (label_width, cells): (usize, usize),
    look: &Look,
) -> Vec<String> {
    let mut canvas = Canvas::new(cells, look.height);
    let (across, down) = (cells * ACROSS, look.height * DOWN);
    let row = |value: f64| {
        let share = ((top - value) / (top - bottom)).clamp(0.0, 1.0);
        (share * down.saturating_sub(1) as f64).round() as usize
    };
    let columns = panel.lows.len();
    for (column, (low, high)) in panel.lows.iter().zip(panel.highs).enumerate() {
        if !(low.is_finite() && high.is_finite()) {
            continue;
        }
        let first = column * across / columns;
        for x in first..((column + 1) * across / columns).max(first + 1) {
            canvas.fill(x, row(*high), row(*low));
        }
    }
    let rows = canvas.rows().zip(labels);
    rows.map(|(dots, label)| {
        let tick = if label.is_empty() { '│' } else { '┤' };
        let dots = dots.trim_end();
        let painted = if look.colour && !dots.is_empty() && !panel.colour.is_empty() {
            format!("{}{dots}{PLAIN}", panel.colour)
        } else {
            dots.to_owned()
        };
        format!("{label:>label_width$} {tick}{painted}")
    })
    .collect()
}

/// From the moment that is laid over each other.
fn time_axis(columns: &ComparedColumns, label_width: usize, cells: usize) -> String {
    let length = (columns.column_ns as i64).saturating_mul(columns.difference.len() as i64);
    let told = |ns: i64| {
        if ns < 0 {
            format!("−{}", duration(ns.saturating_neg()))
        } else {
            duration(ns)
        }
    };
    let ends = (told(columns.from_ns), told(columns.from_ns.saturating_add(length)));
    let between = cells
        .saturating_sub(ends.0.chars().count() + ends.1.chars().count())
        .max(1);
    let dashes = "─".repeat(cells);
    let indent = " ".repeat(label_width + 1);
    format!(
        "{indent}└{dashes}\n{indent} {}{}{}",
        ends.0,
        " ".repeat(between),
        ends.1
    )
}

/// `12.3456 J ± 0.1234 J`.
pub(super) fn mean_and_std(mean: f64, std: Option<f64>, unit: &str) -> String {
    match std {
        Some(std) => format!("{} ± {}", si(mean, unit), si(std, unit)),
        None => si(mean, unit),
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
