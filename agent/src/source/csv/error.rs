//! What is wrong with a table.

use std::io;

use wavekeep_proto::limits::{SAMPLE_BITS_MAX, SIGNALS_MAX};
use wavekeep_proto::stream::SampleType;

use crate::limits::CSV_LINE_BYTES_MAX;

/// In one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CsvError {
    #[error("{0}")]
    Unreadable(io::Error),
    #[error("line {line} is longer than {max} bytes: this is no CSV file", max = CSV_LINE_BYTES_MAX)]
    LongLine { line: u64 },
    #[error("there are no rows of samples in it")]
    NoRows,
    #[error("none of its columns is named time, timestamp or t: name it, or give --rate if there are no times")]
    NoTimes,
    #[error(
        "it has no line of names: name its {columns} columns with --signal; one name fewer, and the first column is the time"
    )]
    NoNames { columns: usize },
    #[error("it has {columns} columns of samples and --signal names {named}: name all of them, in their order")]
    Names { columns: usize, named: usize },
    #[error("it has {columns} columns of samples, and one stream takes 1 to {max} of {sample_type}: cut it into several files, or give --dtype f32", max = fitting(sample_type))]
    Columns { columns: usize, sample_type: &'static str },
    #[error("line {line} has {found} fields and {expected} are needed: mend or remove that line")]
    Fields { line: u64, found: usize, expected: usize },
    #[error(
        "line {line}: {text:?} is no number: decimals are written with a point; a value that is missing is left empty"
    )]
    Number { line: u64, text: String },
    #[error("line {line}: {text:?} does not fit into {sample_type}: give another --dtype")]
    DoesNotFit {
        line: u64,
        text: String,
        sample_type: &'static str,
    },
    #[error("line {line}: a value is missing, and {sample_type} has none that says so: give --dtype f64")]
    Missing { line: u64, sample_type: &'static str },
    #[error("line {line}: {text:?} is no time: write RFC 3339 with its zone (2026-01-31T12:00:00.5Z), or seconds")]
    Time { line: u64, text: String },
    #[error(
        "line {line}: the time {time} does not come after {before}, the line before's, at {rate_hz} samples per second: sort the lines, or give --rate"
    )]
    Backwards {
        line: u64,
        time: String,
        before: String,
        rate_hz: f64,
    },
    #[error(
        "line {line}: from {before} to {time} are {samples:.3} samples at {rate_hz} per second, which is no whole number: times must be regular within half a sample, and jump by whole ones; give --rate if it is another one"
    )]
    Irregular {
        line: u64,
        time: String,
        before: String,
        samples: f64,
        rate_hz: f64,
    },
    #[error(
        "its times do not go on from line to line, so they say no rate: sort the lines, or give --rate and remove the column"
    )]
    NoStep,
    #[error(
        "{0} samples per second are closer together than its times can say: remove that column, and give --rate and --start"
    )]
    TooFast(f64),
}

/// Signals of a type that fit into one stream.
fn fitting(sample_type: &str) -> usize {
    let of = SampleType::ALL.into_iter().find(|of| of.name() == sample_type);
    of.map_or(SIGNALS_MAX, |of| {
        SIGNALS_MAX.min((SAMPLE_BITS_MAX / of.bits()) as usize)
    })
}

impl CsvError {
    /// At the second reading, where anything else than at the first means that the file changed.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Unreadable(error) => error,
            _ => io::ErrorKind::InvalidData.into(),
        }
    }
}
