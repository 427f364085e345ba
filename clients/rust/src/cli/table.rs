//! Standard output: tables that fit the terminal, or JSON lines.
//!
//! # Invariants
//! - I12: at most [`ROWS_MEASURED`] rows wait to be printed. They decide the columns' widths; what follows
//!   keeps to them in a terminal, and is never cut elsewhere.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;
use super::limits::ROWS_MEASURED;

/// Between two columns.
const JOINT: &str = "  ";
/// Minimum width of a text column.
const WIDTH_MIN: usize = 8;
/// Of a name, so much is kept as long as anything else can give way.
const NAME_KEPT: usize = 20;
/// What hangs below a line has at least this much room.
const FOLDED_MIN: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Name,
    Fixed,
    Number,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading {
    name: &'static str,
    kind: Kind,
    /// Where the terminal is too narrow for all, the highest are left out first, unless there is room left in the end; 0 never is.
    spare: u8,
    /// Never narrower than this, whatever the first rows are (wider ones may follow) and the terminal is.
    least: usize,
}

const fn heading(name: &'static str, kind: Kind) -> Heading {
    Heading {
        name,
        kind,
        spare: 0,
        least: 0,
    }
}

/// Left-aligned; cut where the terminal is narrow.
pub(super) const fn text(name: &'static str) -> Heading {
    heading(name, Kind::Text)
}

/// Left-aligned; what a row is about: cut last, and in its middle.
pub(super) const fn name(name: &'static str) -> Heading {
    heading(name, Kind::Name)
}

/// Left-aligned; never cut.
pub(super) const fn fixed(name: &'static str) -> Heading {
    heading(name, Kind::Fixed)
}

/// Right-aligned; never cut.
pub(super) const fn number(name: &'static str) -> Heading {
    heading(name, Kind::Number)
}

impl Heading {
    /// Where the terminal is too narrow for all, those with the highest number are left out first.
    pub(super) const fn spare(self, spare: u8) -> Self {
        Self { spare, ..self }
    }

    /// Never narrower than this.
    pub(super) const fn least(self, least: usize) -> Self {
        Self { least, ..self }
    }
}

/// See the module's documentation.
pub(super) struct Output {
    /// Print JSON instead.
    pub(super) json: bool,
    out: io::BufWriter<io::Stdout>,
    width_max: Option<usize>,
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    is_empty: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            out: io::BufWriter::new(io::stdout()),
            width_max: terminal_width(),
            headings: Vec::new(),
            rows: Vec::new(),
            widths: Vec::new(),
            is_empty: true,
        }
    }

    /// Was nothing printed yet?
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Says something to people, on standard error.
    pub(super) fn note(&self, sentence: &str) {
        // Nobody may be listening there.
        let _ = writeln!(io::stderr(), "{sentence}");
    }

    /// Does a person look at a terminal? Then ids and times are shortened.
    pub(super) fn is_narrow(&self) -> bool {
        self.width_max.is_some()
    }

    pub(super) fn json_line(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        self.is_empty = false;
        serde_json::to_writer(&mut self.out, object)?;
        Ok(self.out.write_all(b"\n")?)
    }

    pub(super) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.is_empty = false;
        Ok(writeln!(self.out, "{line}")?)
    }

    /// A sentence, or what ends with one: in a terminal it goes on below, indented by `hang`.
    pub(super) fn prose(&mut self, line: &str, hang: usize) -> Result<(), Failure> {
        let lines = folded(line, self.width_max, hang);
        lines.iter().try_for_each(|line| self.line(line))
    }

    pub(super) fn table(&mut self, headings: impl Into<Vec<Heading>>) {
        self.headings = headings.into();
    }

    pub(super) fn row(&mut self, cells: impl Into<Vec<String>>) -> Result<(), Failure> {
        self.is_empty = false;
        let cells: Vec<String> = cells.into();
        assert_eq!(cells.len(), self.headings.len(), "a row has a cell for each column");
        self.rows
            .push(cells.iter().map(|cell| cell.replace(char::is_control, "?")).collect());
        if self.widths.is_empty() && self.rows.len() < ROWS_MEASURED {
            return Ok(());
        }
        self.print_rows()
    }

    fn print_rows(&mut self) -> Result<(), Failure> {
        if self.widths.is_empty() && !self.headings.is_empty() {
            self.widths = widths(&self.headings, &self.rows, self.width_max);
            let names: Vec<String> = self.headings.iter().map(|heading| heading.name.into()).collect();
            self.rows.insert(0, names);
        }
        for row in std::mem::take(&mut self.rows) {
            if self.width_max.is_none() {
                let wider = self.widths.iter_mut().zip(&row);
                wider.for_each(|(width, cell)| *width = length(cell).max(*width));
            }
            writeln!(self.out, "{}", line(&self.headings, &self.widths, &row))?;
        }
        Ok(())
    }

    /// Prints what waits, for those who watch. The widths of the columns are decided by then.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if !self.rows.is_empty() {
            self.print_rows()?;
        }
        Ok(self.out.flush()?)
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// None where nobody looks: then nothing is cut.
pub(super) fn terminal_width() -> Option<usize> {
    if let Some(columns) = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()) {
        return Some(columns);
    }
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

/// As wide as the cells. Until the line fits, spare columns are left out (0 wide), then the widest texts give way, and then names.
fn widths(headings: &[Heading], rows: &[Vec<String>], width_max: Option<usize>) -> Vec<usize> {
    let full = |(column, heading): (usize, &Heading)| {
        let cells = rows.iter().map(|row| length(&row[column]));
        let widest = cells.chain([length(heading.name), heading.least]).max();
        widest.unwrap_or(0)
    };
    let full: Vec<usize> = headings.iter().enumerate().map(full).collect();
    let Some(width_max) = width_max else { return full };
    let least = |(heading, full): (&Heading, &usize)| match heading.kind {
        Kind::Text => WIDTH_MIN.max(heading.least).min(*full),
        Kind::Name => NAME_KEPT.max(heading.least).min(*full),
        Kind::Fixed | Kind::Number => *full,
    };
    let least: Vec<usize> = headings.iter().zip(&full).map(least).collect();
    let mut floor = left_out(headings, &least, width_max);
    let shown = full.iter().zip(&floor);
    let mut widths: Vec<usize> = shown.map(|(full, floor)| if *floor > 0 { *full } else { 0 }).collect();
    let names = |column: &usize| headings[*column].kind == Kind::Name;
    (0..floor.len())
        .filter(names)
        .for_each(|name| floor[name] = widths[name]);
    give_way(&mut widths, &floor, width_max);
    (0..floor.len())
        .filter(names)
        .for_each(|name| floor[name] = WIDTH_MIN.max(headings[name].least).min(floor[name]));
    give_way(&mut widths, &floor, width_max);
    widths
}

/// These widths, with 0 for the columns for which there is no room.
fn left_out(headings: &[Heading], least: &[usize], width_max: usize) -> Vec<usize> {
    let mut widths = least.to_vec();
    let mut out = Vec::new();
    while total(&widths) > width_max {
        let spare = (0..widths.len()).filter(|column| headings[*column].spare > 0 && widths[*column] > 0);
        let Some(column) = spare.max_by_key(|column| headings[*column].spare) else {
            break;
        };
        widths[column] = 0;
        out.push(column);
    }
    // In place of a wide one that had to go, there may be room for narrow ones that went before it.
    for column in out.into_iter().rev() {
        widths[column] = least[column];
        if total(&widths) > width_max {
            widths[column] = 0;
        }
    }
    widths
}

/// The widest above its floor first.
fn give_way(widths: &mut [usize], floor: &[usize], width_max: usize) {
    while total(widths) > width_max {
        let above = (0..widths.len()).filter(|column| widths[*column] > floor[*column]);
        let Some(column) = above.max_by_key(|column| widths[*column]) else {
            break;
        };
        widths[column] -= 1;
    }
}

/// Of a line.
fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0);
    let (sum, count) = shown.fold((0, 0), |(sum, count), width| (sum + width, count + 1));
    sum + JOINT.len() * usize::saturating_sub(count, 1)
}

/// In lines of at most `width_max`, broken at blanks where that can be; all but the first are indented by `hang`.
pub(super) fn folded(line: &str, width_max: Option<usize>, hang: usize) -> Vec<String> {
    let Some(width_max) = width_max.filter(|width_max| length(line) > *width_max) else {
        return vec![line.into()];
    };
    // What hangs too far to the right has no room there.
    let indent = " ".repeat(if hang + FOLDED_MIN > width_max { 0 } else { hang });
    let mut lines = Vec::new();
    let mut current = String::new();
    for piece in line.split_inclusive(' ') {
        let is_begun = !current.trim_start().is_empty();
        if is_begun && length(&current) + length(piece.trim_end()) > width_max {
            lines.push(std::mem::replace(&mut current, indent.clone()).trim_end().to_owned());
        }
        if !lines.is_empty() && current == indent && piece == " " {
            continue;
        }
        current.push_str(piece);
        while width_max > indent.len() && length(current.trim_end()) > width_max {
            let rest: String = current.chars().skip(width_max).collect();
            lines.push(current.chars().take(width_max).collect());
            current = format!("{indent}{rest}");
        }
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// In its middle: names of instruments differ at their ends.
fn cut_name(name: &str, width: usize) -> String {
    let kept = width.saturating_sub(1);
    let begins = name.chars().take(kept / 2);
    let ends = name.chars().skip(length(name) - (kept - kept / 2));
    begins.chain(['…']).chain(ends).collect()
}

fn line(headings: &[Heading], widths: &[usize], row: &[String]) -> String {
    let cell = |((heading, width), cell): ((&Heading, &usize), &String)| {
        let width = *width;
        if heading.kind == Kind::Number {
            format!("{cell:>width$}")
        } else if length(cell) > width && heading.kind == Kind::Name {
            cut_name(cell, width)
        } else if length(cell) > width {
            let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
            format!("{kept}…")
        } else {
            format!("{cell:<width$}")
        }
    };
    let shown = headings
        .iter()
        .zip(widths)
        .zip(row)
        .filter(|((_, width), _)| **width > 0);
    let cells: Vec<String> = shown.map(cell).collect();
    cells.join(JOINT).trim_end().into()
}

/// The table as a terminal of this width shows it.
#[cfg(test)]
pub(super) fn drawn(headings: &[Heading], row: &[&str], width_max: usize) -> String {
    let row: Vec<String> = row.iter().map(|cell| (*cell).to_owned()).collect();
    let widths = widths(headings, std::slice::from_ref(&row), Some(width_max));
    let names: Vec<String> = headings.iter().map(|heading| heading.name.into()).collect();
    let lines = [line(headings, &widths, &names), line(headings, &widths, &row)];
    assert!(lines.iter().all(|line| length(line) <= width_max), "{lines:?}");
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["js220-on-the-long-bench", "1,200"], ["b", "7"]]
            .iter()
            .map(|row| row.map(str::to_owned).to_vec())
            .collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let headings = [text("DEVICE"), number("SAMPLES")];
        let widths = widths(&headings, &rows(), None);
        assert_eq!(widths, [23, 7]);
        assert_eq!(
            line(&headings, &widths, &rows()[1]),
            format!("b{}7", " ".repeat(22 + 2 + 6))
        );
    }

    #[test]
    fn texts_give_way_to_a_narrow_terminal_and_numbers_do_not() {
        let headings = [text("DEVICE"), number("SAMPLES")];
        let widths = widths(&headings, &rows(), Some(20));
        assert_eq!(line(&headings, &widths, &rows()[0]), "js220-on-t…    1,200");
        assert_eq!(super::widths(&headings, &rows(), Some(3)), [WIDTH_MIN, 7]);
    }

    #[test]
    fn a_column_keeps_its_least_width() {
        let headings = [text("DEVICE").least(12), number("SAMPLES").spare(1)];
        assert_eq!(widths(&headings, &rows(), Some(22)), [13, 7]);
        assert_eq!(widths(&headings, &rows(), Some(20)), [20, 0]);
        assert_eq!(widths(&[text("A").least(9), text("B")], &[], None), [9, 1]);
    }

    #[test]
    fn spare_columns_are_left_out_before_texts_are_cut_to_nothing() {
        let headings = [text("DEVICE"), number("SAMPLES").spare(1)];
        assert_eq!(widths(&headings, &rows(), Some(17)), [8, 7]);
        assert_eq!(widths(&headings, &rows(), Some(16)), [16, 0]);
        assert_eq!(line(&headings, &[16, 0], &rows()[0]), "js220-on-the-lo…");
        let fixed = [fixed("TIME"), number("SAMPLES").spare(1)];
        assert_eq!(widths(&fixed, &rows(), Some(10)), [23, 0]);
    }

    #[test]
    fn what_was_left_out_comes_back_where_a_wider_one_had_to_go() {
        let headings = [text("DEVICE"), fixed("A LONG TIME").spare(1), number("MS").spare(2)];
        let rows = [["b", "2026-11-23T00:00:00.000Z", "7"].map(str::to_owned).to_vec()];
        assert_eq!(widths(&headings, &rows, Some(36)), [6, 24, 2]);
        assert_eq!(widths(&headings, &rows, Some(35)), [6, 24, 0]);
        assert_eq!(widths(&headings, &rows, Some(20)), [6, 0, 2]);
    }

    #[test]
    fn a_name_is_cut_last_and_in_its_middle() {
        let headings = [name("DEVICE"), text("SIGNALS"), number("SAMPLES").spare(1)];
        let rows = [["js220-001122-at-bench-7", "current,voltage", "7"]
            .map(str::to_owned)
            .to_vec()];
        assert_eq!(widths(&headings, &rows, Some(42)), [23, 8, 7]);
        assert_eq!(widths(&headings, &rows, Some(39)), [20, 8, 7]);
        assert_eq!(widths(&headings, &rows, Some(38)), [23, 13, 0]);
        assert_eq!(widths(&headings, &rows, Some(20)), [10, 8, 0]);
        assert_eq!(line(&headings, &[10, 8, 0], &rows[0]), "js22…nch-7  current…");
    }

    #[test]
    fn prose_goes_on_below() {
        let said = "  stored  1,200  as far as that heartbeat tells";
        assert_eq!(folded(said, None, 17), [said]);
        assert_eq!(folded(said, Some(47), 17), [said]);
        let below = ["  stored  1,200  as far as that", "                 heartbeat tells"];
        assert_eq!(folded(said, Some(38), 17), below);
        assert_eq!(
            folded(said, Some(20), 17),
            ["  stored  1,200  as", "far as that", "heartbeat tells"]
        );
        assert_eq!(folded("a bcdefghijkl m", Some(6), 2), ["a", "bcdefg", "hijkl", "m"]);
    }
}
