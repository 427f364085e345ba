//! A table as text, with a column of times or without: read twice, once to know what it is and once to deliver it. Its times must be
//! those of a regular axis, within half a sample; where they jump by whole samples, that is a gap.
//!
//! # Invariants
//! - I4: no row is moved in silence. A time that is neither the next sample's nor a whole number of samples later is refused with its
//!   line.
//! - I12: memory does not grow with the file: rows are read one by one, lines are limited, and so are the places remembered.
//! - I13: a number is the nearest value of the type that the signals have; text that is none is refused with its line.

mod error;
mod grid;
mod layout;
mod rows;
mod time;

use std::fs::File;
use std::io;
use std::path::Path;

use wavekeep_proto::stream::SampleType;

pub use self::error::CsvError;
use self::grid::Grid;
use self::layout::Layout;
pub(super) use self::layout::{DELIMITERS, looks_like_a_value, name_and_unit, text, time_unit};
pub(super) use self::rows::number;
use self::rows::{Places, Rows};
pub(super) use self::time::{ABSOLUTE_NS, TimeFormat};
use super::FileError;
use super::file::{self, Content, Cursor, FileSource, FirstReading, Format, Given, Piece, Recording};
use crate::limits::{CSV_HEAD_ROWS, SOURCE_BLOCK_SAMPLES};
use crate::stop::StopToken;

const FORMAT: &str = "CSV";

/// Reads the whole file once, to know what it is. `progress` is told how many bytes are done. Samples are f64, unless another type is
/// given; the rate is that of the times, the start is the first of them if they are absolute.
pub fn open(
    path: &Path,
    given: &Given,
    stop: &StopToken,
    progress: &mut dyn FnMut(u64),
) -> Result<FileSource, FileError> {
    let failed = |error| match error {
        CsvError::Unreadable(error) => FileError::Unreadable {
            path: path.into(),
            error,
        },
        error => FileError::Csv {
            path: path.into(),
            error,
        },
    };
    let sample_type = given.sample_type.unwrap_or(SampleType::F64);
    let mut reading = FirstReading::start(path, stop, progress)?;
    let again = || File::open(path).map_err(|error| failed(CsvError::Unreadable(error)));
    let layout = Layout::find(again()?, &given.signals, sample_type).map_err(failed)?;
    let (grid, start_ns) = axis(&layout, again()?, given).map_err(failed)?;
    let grid = grid.ok_or(FileError::NeedsRate { format: FORMAT })?;
    let start_ns = start_ns.ok_or(FileError::NeedsStart { format: FORMAT })?;
    let signals = file::signals(&layout.signals, sample_type);
    let mut rows = Rows::new(again()?, layout.clone(), grid);
    let (mut content, mut places, mut frames) = (Content::default(), Places::default(), Vec::new());
    loop {
        places.remember(rows.place());
        match rows.advance(SOURCE_BLOCK_SAMPLES as u64, &mut frames).map_err(failed)? {
            Some(Piece::Samples(_)) => content.samples(&frames),
            Some(Piece::Gap(count)) => content.gap(rows.next_sample() - count, count),
            None => break,
        }
        reading.done(rows.bytes_read())?;
    }
    reading.done(rows.bytes_read())?;
    if rows.next_sample() == 0 {
        return Err(failed(CsvError::NoRows));
    }
    let recording = Recording {
        device: given.device.clone(),
        signals,
        rate_hz: grid.rate_hz(),
        start_ns,
        content: content.finish(),
        sample_count: rows.next_sample(),
        markers: Vec::new(),
    };
    let format = Csv { layout, grid, places };
    reading.finish(recording, format, given.speed)
}

/// The sample axis, as the first rows and the caller say; and when it starts.
fn axis(layout: &Layout, file: File, given: &Given) -> Result<(Option<Grid>, Option<i64>), CsvError> {
    if layout.time.is_none() {
        let grid = given.rate_hz.map(Grid::without_times);
        return match grid {
            None if !layout.has_header => Ok((None, given.start_ns)),
            None => Err(CsvError::NoTimes),
            grid => Ok((grid, given.start_ns)),
        };
    }
    let times = rows::times(file, layout, CSV_HEAD_ROWS)?;
    let Some(first) = times.first() else {
        return Err(CsvError::NoRows);
    };
    let start_ns = given.start_ns.or_else(|| layout.is_absolute(*first).then_some(*first));
    let rate_hz = match given.rate_hz {
        Some(rate_hz) => rate_hz,
        None if times.len() < 2 => return Ok((None, start_ns)),
        None => grid::rate_of(&times)?,
    };
    Ok((Some(Grid::with_times(rate_hz, *first)?), start_ns))
}

/// How the rest of the program reads it.
#[derive(Debug)]
struct Csv {
    layout: Layout,
    grid: Grid,
    places: Places,
}

impl Format for Csv {
    fn cursor(&self, file: File, sample: u64) -> io::Result<Box<dyn Cursor>> {
        let mut rows = Rows::new(file, self.layout.clone(), self.grid);
        let open = |rows: &mut Rows| {
            rows.go_to(self.places.before(sample))?;
            rows.skip_to(sample)
        };
        open(&mut rows).map_err(CsvError::into_io)?;
        Ok(Box::new(rows))
    }
}

impl Cursor for Rows {
    fn next(&mut self, count: u64, frames: &mut Vec<u8>) -> io::Result<Piece> {
        match self.advance(count, frames) {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error.into_io()),
        }
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
