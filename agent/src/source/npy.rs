//! An array that numpy saved: one axis is one signal; of two, the first is time and the second the signals. A table of traces, each
//! row one after the other of the same signal, is joined where that is asked for.
//!
//! # Invariants
//! - I13: every element becomes a sample, bit for bit; a shape or type that has no such reading is refused.

mod header;

use std::io::Read;
use std::path::Path;

use wavekeep_proto::chunk::Marker;
use wavekeep_proto::limits::{SAMPLE_BITS_MAX, SIGNALS_MAX};

use self::header::Header;
pub use self::header::NpyError;
use super::FileError;
use super::file::{self, FileSource, FirstReading, Given, Recording};
use super::frames::Frames;
use crate::limits::{FILE_MARKERS_MAX, MARKED_ROW_SAMPLES_MIN, NPY_HEADER_BYTES_MAX};
use crate::stop::StopToken;

const FORMAT: &str = "npy";

/// How the array is a recording.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    names: Vec<(String, String)>,
    sample_count: u64,
    /// Samples of a row, where rows are joined.
    row_samples: Option<u64>,
}

/// Reads the whole file once, to know what it is. `progress` is told how many bytes are done. Signals that are not named are `s0`,
/// `s1`, ….
pub fn open(
    path: &Path,
    given: &Given,
    stop: &StopToken,
    progress: &mut dyn FnMut(u64),
) -> Result<FileSource, FileError> {
    let failed = |error| FileError::Npy {
        path: path.into(),
        error,
    };
    let mut reading = FirstReading::start(path, stop, progress)?;
    let mut start = Vec::new();
    let read = reading
        .file
        .by_ref()
        .take(NPY_HEADER_BYTES_MAX as u64)
        .read_to_end(&mut start);
    read.map_err(|error| reading.unreadable(error))?;
    let header = Header::parse(&start).map_err(failed)?;
    given.require_type(FORMAT, header.sample_type)?;
    let plan = plan(&header, given).map_err(failed)?;
    let (rate_hz, start_ns) = (given.rate_hz(FORMAT)?, given.start_ns(FORMAT)?);
    let offset = header.bytes;
    let (expected, found) = (header.data_bytes(), reading.bytes().saturating_sub(offset));
    if expected != Some(found) {
        return Err(failed(NpyError::Length {
            shape: header.shape_text(),
            found,
        }));
    }
    let signals = file::signals(&plan.names, header.sample_type);
    let frames = Frames {
        offset,
        frame_bytes: Frames::bytes_of(&signals),
    };
    let markers = plan
        .row_samples
        .map_or_else(Vec::new, |samples| rows(samples, plan.sample_count));
    let mut content = frames.hash(&mut reading)?;
    markers.iter().for_each(|marker| content.marker(marker));
    let recording = Recording {
        device: given.device.clone(),
        signals,
        rate_hz,
        start_ns,
        content: content.finish(),
        sample_count: plan.sample_count,
        markers,
    };
    reading.finish(recording, frames, given.speed)
}

fn plan(header: &Header, given: &Given) -> Result<Plan, NpyError> {
    let shape = || header.shape_text();
    let (samples, signals) = match header.shape[..] {
        [samples] => (samples, 1),
        [samples, signals] => (samples, signals),
        _ => return Err(NpyError::Axes(shape())),
    };
    if samples == 0 || signals == 0 {
        return Err(NpyError::NoSamples(shape()));
    }
    let is_joined = given.join_rows && header.shape.len() == 2;
    let (sample_count, signal_count) = if is_joined {
        (samples.checked_mul(signals).ok_or_else(|| NpyError::Axes(shape()))?, 1)
    } else {
        (samples, signals)
    };
    if header.is_fortran && samples > 1 && signals > 1 {
        return Err(NpyError::Fortran);
    }
    let bits = signal_count.saturating_mul(u64::from(header.sample_type.bits()));
    if signal_count > SIGNALS_MAX as u64 || bits > u64::from(SAMPLE_BITS_MAX) {
        return Err(NpyError::TooWide {
            shape: shape(),
            signals,
        });
    }
    let named = given.signals.len() as u64;
    if named != 0 && named != signal_count {
        return Err(NpyError::Names {
            shape: shape(),
            signal_count,
            named,
        });
    }
    let names = if named == 0 {
        (0..signal_count)
            .map(|number| (format!("s{number}"), String::new()))
            .collect()
    } else {
        given.signals.clone()
    };
    Ok(Plan {
        names,
        sample_count,
        row_samples: is_joined.then_some(signals),
    })
}

/// Where each joined row begins; nothing where that would be everywhere.
fn rows(row_samples: u64, sample_count: u64) -> Vec<Marker> {
    let rows = sample_count / row_samples;
    if row_samples < MARKED_ROW_SAMPLES_MIN || rows > FILE_MARKERS_MAX {
        return Vec::new();
    }
    let row = |row: u64| file::vertical_line(row * row_samples, format!("row {row}"));
    (0..rows).map(row).collect()
}

#[cfg(test)]
#[path = "npy_tests.rs"]
mod tests;
