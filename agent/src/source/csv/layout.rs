//! What the columns of a table are: its delimiter, its names and units, and which of them is the time.

use std::fs::File;
use std::io::{Read, Seek};

use csv::ByteRecord;
use wavekeep_proto::limits::{SAMPLE_BITS_MAX, SIGNALS_MAX};
use wavekeep_proto::stream::SampleType;

use super::CsvError;
use super::rows::{read_record, reader};
use super::time::{ABSOLUTE_NS, TimeFormat};
use crate::limits::CSV_LINE_BYTES_MAX;

/// In order of preference.
pub(in crate::source) const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];
const TIME_NAMES: [&str; 3] = ["time", "timestamp", "t"];

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) delimiter: u8,
    pub(super) has_header: bool,
    /// Fields of a line.
    pub(super) fields: usize,
    pub(super) time: Option<(usize, TimeFormat)>,
    /// The fields that are samples, one per signal.
    pub(super) columns: Vec<usize>,
    /// Names and units.
    pub(super) signals: Vec<(String, String)>,
    pub(super) sample_type: SampleType,
}

impl Layout {
    pub(super) fn find(mut file: File, named: &[(String, String)], sample_type: SampleType) -> Result<Self, CsvError> {
        let delimiter = delimiter(&mut file)?;
        let mut reader = reader(file, delimiter);
        let (mut first, mut second) = (ByteRecord::new(), ByteRecord::new());
        if !read_record(&mut reader, &mut first)? {
            return Err(CsvError::NoRows);
        }
        let has_header = first.iter().any(|field| !looks_like_a_value(text(field)));
        if has_header && !read_record(&mut reader, &mut second)? {
            return Err(CsvError::NoRows);
        }
        let fields = first.len();
        let names: Vec<(String, String)> = first.iter().map(|field| name_and_unit(text(field))).collect();
        let time_at = if has_header {
            names.iter().position(|(name, _)| time_unit(name).is_some())
        } else {
            // Lines without names: the caller's names say whether there is one more.
            match fields.checked_sub(named.len()) {
                _ if named.is_empty() => return Err(CsvError::NoNames { columns: fields }),
                Some(0) => None,
                Some(1) => Some(0),
                _ => return Err(CsvError::NoNames { columns: fields }),
            }
        };
        let row = if has_header { &second } else { &first };
        let time = time_at.map(|at| {
            let (name, unit) = &names[at];
            let unit = if unit.is_empty() {
                time_unit(name).unwrap_or("")
            } else {
                unit
            };
            let text = row.get(at).map_or("", text);
            let format = TimeFormat::of_unit(unit).filter(|_| has_header);
            (at, format.unwrap_or_else(|| TimeFormat::of_text(text)))
        });
        let columns: Vec<usize> = (0..fields).filter(|column| Some(*column) != time_at).collect();
        let bits = columns.len() as u64 * u64::from(sample_type.bits());
        if columns.is_empty() || columns.len() > SIGNALS_MAX || bits > u64::from(SAMPLE_BITS_MAX) {
            let sample_type = sample_type.name();
            return Err(CsvError::Columns {
                columns: columns.len(),
                sample_type,
            });
        }
        if !named.is_empty() && named.len() != columns.len() {
            return Err(CsvError::Names {
                columns: columns.len(),
                named: named.len(),
            });
        }
        let signals = if named.is_empty() {
            columns.iter().map(|column| names[*column].clone()).collect()
        } else {
            named.to_vec()
        };
        Ok(Self {
            delimiter,
            has_header,
            fields,
            time,
            columns,
            signals,
            sample_type,
        })
    }

    /// Is this time a date, or does it count from the start of the recording?
    pub(super) fn is_absolute(&self, time_ns: i64) -> bool {
        matches!(self.time, Some((_, TimeFormat::Rfc3339))) || time_ns >= ABSOLUTE_NS
    }
}

/// A field without the space around it; what is not UTF-8 is no number and no name.
pub(in crate::source) fn text(field: &[u8]) -> &str {
    std::str::from_utf8(field).unwrap_or("\u{fffd}").trim()
}

pub(in crate::source) fn looks_like_a_value(text: &str) -> bool {
    text.is_empty() || text.parse::<f64>().is_ok() || TimeFormat::Rfc3339.parse(text).is_some()
}

/// `current [A]` or `current (A)`; without, there is no unit.
pub(in crate::source) fn name_and_unit(text: &str) -> (String, String) {
    for (open, close) in [('[', ']'), ('(', ')')] {
        if let Some((name, unit)) = text.strip_suffix(close).and_then(|text| text.rsplit_once(open)) {
            return (name.trim().into(), unit.trim().into());
        }
    }
    (text.into(), String::new())
}

/// Of a column that is the time: the unit in its name (`time_ms`), or none.
pub(in crate::source) fn time_unit(name: &str) -> Option<&str> {
    let (name, unit) = name.rsplit_once('_').unwrap_or((name, ""));
    let is_time = TIME_NAMES.iter().any(|time| name.eq_ignore_ascii_case(time));
    (is_time && (unit.is_empty() || TimeFormat::of_unit(unit).is_some())).then_some(unit)
}

/// What separates the fields of the first line that is no comment.
fn delimiter(file: &mut File) -> Result<u8, CsvError> {
    let mut start = Vec::new();
    file.take(CSV_LINE_BYTES_MAX as u64)
        .read_to_end(&mut start)
        .map_err(CsvError::Unreadable)?;
    file.rewind().map_err(CsvError::Unreadable)?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
    let mut lines = start.split(|byte| matches!(byte, b'\n' | b'\r'));
    let line = lines
        .find(|line| !line.is_empty() && !line.starts_with(b"#"))
        .unwrap_or(b"");
    let count = |delimiter: u8| {
        let mut is_quoted = false;
        line.iter()
            .filter(|byte| {
                is_quoted ^= **byte == b'"';
                **byte == delimiter && !is_quoted
            })
            .count()
    };
    // The last of the largest is the first of the preferred.
    let most = DELIMITERS.into_iter().rev().max_by_key(|delimiter| count(*delimiter));
    Ok(most.unwrap_or(b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_read_as_people_write_them() {
        let pair = |name: &str, unit: &str| (name.to_owned(), unit.to_owned());
        assert_eq!(name_and_unit("current [A]"), pair("current", "A"));
        assert_eq!(name_and_unit("current(mA)"), pair("current", "mA"));
        assert_eq!(name_and_unit("current"), pair("current", ""));
        for (name, unit) in [
            ("Time", Some("")),
            ("t", Some("")),
            ("timestamp_ns", Some("ns")),
            ("time_ms", Some("ms")),
        ] {
            assert_eq!(time_unit(name), unit, "{name}");
        }
        for name in ["temperature", "times", "time_of_day", "current"] {
            assert_eq!(time_unit(name), None, "{name}");
        }
    }
}
