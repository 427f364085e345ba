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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Fixed,
    Number,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading {
    name: &'static str,
    kind: Kind,
    /// Where the terminal is too narrow for all, the highest are left out first; 0 never is.
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

/// As wide as the cells. Until the line fits, spare columns are left out (0 wide) and then the widest texts give way.
fn widths(headings: &[Heading], rows: &[Vec<String>], width_max: Option<usize>) -> Vec<usize> {
    let cells = |column: usize| rows.iter().map(move |row| length(&row[column]));
    let widest = |(column, heading): (usize, &Heading)| {
        cells(column)
            .chain([length(heading.name), heading.least])
            .max()
            .unwrap_or(0)
    };
    let mut widths: Vec<usize> = headings.iter().enumerate().map(widest).collect();
    let is_text = |column: usize| headings[column].kind == Kind::Text;
    let narrowest = |column: usize| WIDTH_MIN.max(headings[column].least);
    let least = |(column, width): (usize, &usize)| {
        if is_text(column) {
            (*width).min(narrowest(column))
        } else {
            *width
        }
    };
    let sum = |widths: &mut dyn Iterator<Item = usize>| {
        let (total, count) = widths
            .filter(|width| *width > 0)
            .fold((0, 0), |(total, count), width| (total + width, count + 1));
        total + JOINT.len() * usize::saturating_sub(count, 1)
    };
    let is_over = |total: usize| width_max.is_some_and(|width_max| total > width_max);
    while is_over(sum(&mut widths.iter().enumerate().map(least))) {
        let spare = (0..widths.len()).filter(|column| headings[*column].spare > 0 && widths[*column] > 0);
        let Some(column) = spare.max_by_key(|column| headings[*column].spare) else {
            break;
        };
        widths[column] = 0;
    }
    while is_over(sum(&mut widths.iter().copied())) {
        let texts = (0..widths.len()).filter(|column| is_text(*column) && widths[*column] > narrowest(*column));
        let Some(column) = texts.max_by_key(|column| widths[*column]) else {
            break;
        };
        widths[column] -= 1;
    }
    widths
}

fn line(headings: &[Heading], widths: &[usize], row: &[String]) -> String {
    let cell = |((heading, width), cell): ((&Heading, &usize), &String)| {
        let width = *width;
        if heading.kind == Kind::Number {
            format!("{cell:>width$}")
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
}
