//! A histogram as a picture of characters: a bar for each bin, its values below. Pure.
//!
//! # Invariants
//! - A bin that has samples has a dot at least, and one that has none is blank.

use wavekeep::Histogram;

use super::canvas::{ACROSS, Canvas, DOWN};
use super::words::{Scale, thousands};

/// Characters down.
const HEIGHT: usize = 8;

/// Its lines, not wider than so many characters.
pub(super) fn drawn(histogram: &Histogram, unit: &str, width: usize) -> Vec<String> {
    let bins = histogram.counts.len();
    let most = histogram.counts.iter().copied().max().unwrap_or(0);
    let labels = [thousands(most), thousands(0)];
    let label_width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    // As many dots for each bin; where there are more bins than dots, those of a dot stand behind each other.
    let room = width.saturating_sub(label_width + 2).max(ACROSS) * ACROSS;
    let dots = (room / bins.max(1)).max(1);
    let across = (bins * dots).min(room);
    let cells = across.div_ceil(ACROSS);
    let mut canvas = Canvas::new(cells, HEIGHT);
    for (bin, count) in histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (first, after) = (
            bin * across / bins,
            ((bin + 1) * across / bins).max(bin * across / bins + 1),
        );
        let down = HEIGHT * DOWN;
        let high = ((*count as f64 / most as f64 * down as f64).round() as usize).max(1);
        for x in first..after {
            canvas.fill(x, down - high, down - 1);
        }
    }
    let mut lines = Vec::new();
    for (row, dots) in canvas.rows().enumerate() {
        let label = match row {
            0 => &labels[0],
            _ if row + 1 == HEIGHT => &labels[1],
            _ => "",
        };
        let tick = if label.is_empty() { '│' } else { '┤' };
        lines.push(format!("{label:>label_width$} {tick}{}", dots.trim_end()));
    }
    let indent = " ".repeat(label_width + 1);
    lines.push(format!("{indent}└{}", "─".repeat(cells)));
    let scale = Scale::new(
        &[histogram.from, histogram.to],
        (histogram.to - histogram.from) / bins.max(1) as f64,
    );
    let ends = (
        scale.with_unit(histogram.from, unit),
        scale.with_unit(histogram.to, unit),
    );
    let between = cells
        .saturating_sub(ends.0.chars().count() + ends.1.chars().count())
        .max(1);
    lines.push(format!("{indent} {}{}{}", ends.0, " ".repeat(between), ends.1));
    if histogram.below + histogram.above > 0 {
        lines.push(format!(
            "{indent} {} samples below, {} above",
            thousands(histogram.below),
            thousands(histogram.above)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64]) -> Histogram {
        Histogram {
            from: 0.0,
            to: 0.01,
            counts: counts.to_vec(),
            below: 0,
            above: 0,
        }
    }

    #[test]
    fn bars_are_as_high_as_their_counts() {
        let lines = drawn(&histogram(&[1_000, 0, 500, 1]), "A", 12);
        assert_eq!((lines.len(), lines[0].as_str()), (HEIGHT + 2, "1,000 ┤⣿"));
        let bottom = &lines[HEIGHT - 1];
        assert_eq!(bottom, "    0 ┤⣿ ⣿⣀", "the second is blank, the last has a dot");
        assert_eq!(lines[HEIGHT / 2], "      │⣿ ⣿");
        assert_eq!(lines[HEIGHT / 2 - 1], "      │⣿");
        assert!(lines[HEIGHT + 1].ends_with(" 0 mA 10 mA"), "{lines:#?}");
    }

    #[test]
    fn it_fits_however_many_bins_there_are() {
        for bins in [1, 7, 40, 3_000] {
            let mut outside = histogram(&vec![3; bins]);
            outside.above = 12;
            let lines = drawn(&outside, "W", 60);
            let widest = lines[..=HEIGHT].iter().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= 60), "{widest:?}");
            assert!(lines[HEIGHT + 2].contains("12 above"));
        }
        assert_eq!(drawn(&histogram(&[]), "W", 60).len(), 2, "nothing to draw");
    }
}
