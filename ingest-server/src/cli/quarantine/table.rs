//! A table that fits the terminal: its last column is cut, and before it gets narrow others are left out. Where nobody looks nothing is.

use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;

/// Never narrower than this, if leaving out columns helps.
const LAST_WIDTH_MIN: usize = 24;
const BETWEEN: &str = "  ";

/// None where nobody looks.
pub(super) fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// RFC 3339, to the millisecond where it is short.
pub(super) fn time(ns: i64, short: bool) -> String {
    let Ok(time) = Timestamp::from_nanosecond(ns.into()) else {
        return ns.to_string();
    };
    if short { format!("{time:.3}") } else { time.to_string() }
}

/// What a device or a database wrote, on one line of a terminal.
pub(in crate::cli) fn plain(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Columns with their headings; the second member says which are left out first, 0 for never.
pub(super) fn lines(headings: &[(&str, u8)], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let length = |cell: &str| cell.chars().count();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(at, (name, _))| {
            rows.iter()
                .map(|row| length(&row[at]))
                .max()
                .unwrap_or(0)
                .max(length(name))
        })
        .collect();
    let last = headings.len() - 1;
    let mut shown: Vec<usize> = (0..headings.len()).collect();
    let before_last = |shown: &[usize]| {
        shown
            .iter()
            .filter(|at| **at != last)
            .map(|at| widths[*at] + BETWEEN.len())
            .sum::<usize>()
    };
    while width.is_some_and(|width| before_last(&shown) + widths[last].min(LAST_WIDTH_MIN) > width) {
        let spare = shown.iter().enumerate().filter(|(_, at)| headings[**at].1 > 0);
        let Some((place, _)) = spare.max_by_key(|(_, at)| headings[**at].1) else {
            break;
        };
        shown.remove(place);
    }
    let room = width.map(|width| width.saturating_sub(before_last(&shown)).max(1));
    let line = |cells: &[&str]| {
        let cell = |at: &usize| match room {
            _ if *at != last => format!("{:width$}", cells[*at], width = widths[*at]),
            Some(room) if length(cells[last]) > room => cells[last].chars().take(room - 1).chain(['…']).collect(),
            _ => cells[last].to_owned(),
        };
        let line = shown.iter().map(cell).collect::<Vec<_>>().join(BETWEEN);
        line.trim_end().to_owned()
    };
    let names: Vec<&str> = headings.iter().map(|(name, _)| *name).collect();
    std::iter::once(line(&names))
        .chain(
            rows.iter()
                .map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>())),
        )
        .collect()
}

/// To standard output, whose reader may have seen enough.
pub(super) fn print(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_gets_less_and_a_file_gets_all() {
        let headings = [("ID", 0), ("TIME", 2), ("BYTES", 1), ("WHY", 0)];
        let row = |id: &str, why: &str| [id, "2026-11-23T00:00:00Z", "1234", why].map(str::to_owned).to_vec();
        let rows = [
            row("1", "signal \"voltage\": not zstd, and more than fits"),
            row("22", "short"),
        ];
        let all = lines(&headings, &rows, None);
        assert_eq!(all[2], "22  2026-11-23T00:00:00Z  1234   short");
        assert!(all[1].ends_with("more than fits"));
        let narrow = lines(&headings, &rows, Some(40));
        assert_eq!(narrow[0], "ID  BYTES  WHY");
        assert!(
            narrow[1].chars().count() == 40 && narrow[1].ends_with('…'),
            "{narrow:?}"
        );
        assert!(
            lines(&headings, &rows, Some(3))
                .iter()
                .all(|line| line.starts_with(['I', '1', '2']))
        );
    }

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(time(1_795_392_000_123_456_789, true), "2026-11-23T00:00:00.123Z");
        assert_eq!(time(1_795_392_000_123_456_789, false), "2026-11-23T00:00:00.123456789Z");
        assert_eq!(plain("a\x1b[2J\n"), "a?[2J?");
    }
}
