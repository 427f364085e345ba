//! The rows of a table, one by one, from any place that was remembered.
//!
//! # Invariants
//! - I12: one row is held, and no row is longer than the limit for a line, quoted or not.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use csv::{ByteRecord, ErrorKind, Position};
use wavekeep_proto::stream::SampleType;

use super::super::file::Piece;
use super::CsvError;
use super::grid::{Grid, Misfit};
use super::layout::{Layout, text};
use super::time::TimeFormat;
use crate::limits::{CSV_LINE_BYTES_MAX, CSV_PLACES_MAX};

const BUFFER_BYTES: usize = 64 * 1024;

/// Fails instead of reading more than a line may have without a row in between.
pub(super) struct Limited {
    file: File,
    left: usize,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let most = buffer.len().min(self.left);
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

pub(super) fn reader(file: File, delimiter: u8) -> csv::Reader<Limited> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(Limited { file, left: 0 })
}

/// The next row, if there is one.
pub(super) fn read_record(reader: &mut csv::Reader<Limited>, record: &mut ByteRecord) -> Result<bool, CsvError> {
    reader.get_mut().left = CSV_LINE_BYTES_MAX;
    let line = reader.position().line();
    reader
        .read_byte_record(record)
        .map_err(|error| match error.into_kind() {
            ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => CsvError::LongLine { line },
            ErrorKind::Io(error) => CsvError::Unreadable(error),
            _ => CsvError::Unreadable(io::ErrorKind::InvalidData.into()),
        })
}

/// The line of a row, for people: counted when one is refused, since the reader does not count what it skips, nor both halves of CRLF.
fn line_of(reader: &csv::Reader<Limited>, position: Option<&Position>) -> u64 {
    let position = position.unwrap_or_else(|| reader.position());
    let file = &reader.get_ref().file;
    let (mut line, mut at, mut buffer) = (1, 0, vec![0; BUFFER_BYTES]);
    let (mut is_start, mut is_comment, mut before) = (true, false, 0);
    loop {
        let bytes = match file.read_at(&mut buffer, at) {
            Ok(read) if read > 0 => &buffer[..read],
            _ => return line,
        };
        for (byte, offset) in bytes.iter().copied().zip(at..) {
            let is_end = byte == b'\n' || byte == b'\r';
            if byte == b'\n' && before == b'\r' {
                before = byte;
                continue;
            }
            is_comment |= is_start && byte == b'#';
            if offset >= position.byte() && !is_end && !is_comment {
                return line;
            }
            line += u64::from(is_end);
            is_comment &= !is_end;
            (is_start, before) = (is_end, byte);
        }
        at += bytes.len() as u64;
    }
}

/// The time of a row that has all its fields; none if it has no times.
fn time_of(reader: &csv::Reader<Limited>, record: &ByteRecord, layout: &Layout) -> Result<Option<i64>, CsvError> {
    if record.len() != layout.fields {
        return Err(CsvError::Fields {
            line: line_of(reader, record.position()),
            found: record.len(),
            expected: layout.fields,
        });
    }
    let Some((at, format)) = layout.time else {
        return Ok(None);
    };
    let text = text(&record[at]);
    let time = format.parse(text).ok_or_else(|| CsvError::Time {
        line: line_of(reader, record.position()),
        text: text.into(),
    })?;
    Ok(Some(time))
}

/// The times of the first rows, at most so many.
pub(super) fn times(file: File, layout: &Layout, most: usize) -> Result<Vec<i64>, CsvError> {
    let mut reader = reader(file, layout.delimiter);
    let (mut record, mut times) = (ByteRecord::new(), Vec::new());
    if layout.has_header {
        read_record(&mut reader, &mut record)?;
    }
    while times.len() < most && read_record(&mut reader, &mut record)? {
        times.extend(time_of(&reader, &record, layout)?);
    }
    Ok(times)
}

/// Where a row is, and which sample of the axis is expected there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    sample: u64,
    position: Position,
}

/// Some places of a file, evenly apart, however long it is.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    /// Of so many places that are offered, one is kept, less 1.
    skipped: u64,
    offered: u64,
}

impl Places {
    pub(super) fn remember(&mut self, place: Place) {
        if self.offered.is_multiple_of(self.skipped + 1) {
            if self.places.len() == CSV_PLACES_MAX {
                let mut at = 0;
                self.places.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.skipped = self.skipped * 2 + 1;
            }
            if self.offered.is_multiple_of(self.skipped + 1) {
                self.places.push(place);
            }
        }
        self.offered += 1;
    }

    /// The last one at or before this sample.
    pub(super) fn before(&self, sample: u64) -> Option<&Place> {
        let after = self.places.partition_point(|place| place.sample <= sample);
        self.places[..after].last()
    }
}

/// See the module's documentation.
pub(super) struct Rows {
    reader: csv::Reader<Limited>,
    layout: Layout,
    grid: Grid,
    record: ByteRecord,
    /// Is `record` a row that was not taken yet?
    is_pending: bool,
    /// Samples that are missing before it.
    missing: u64,
    next_sample: u64,
    before_ns: Option<i64>,
    header_comes: bool,
}

impl Rows {
    pub(super) fn new(file: File, layout: Layout, grid: Grid) -> Self {
        Self {
            reader: reader(file, layout.delimiter),
            header_comes: layout.has_header,
            layout,
            grid,
            record: ByteRecord::new(),
            is_pending: false,
            missing: 0,
            next_sample: 0,
            before_ns: None,
        }
    }

    pub(super) fn next_sample(&self) -> u64 {
        self.next_sample
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.reader.position().byte()
    }

    /// Where to go on from here.
    pub(super) fn place(&self) -> Place {
        let pending = self.record.position().filter(|_| self.is_pending);
        Place {
            sample: self.next_sample,
            position: pending.unwrap_or_else(|| self.reader.position()).clone(),
        }
    }

    pub(super) fn go_to(&mut self, place: Option<&Place>) -> Result<(), CsvError> {
        let Some(Place { sample, position }) = place else {
            return Ok(());
        };
        self.header_comes = self.layout.has_header && position.byte() == 0;
        (self.next_sample, self.is_pending, self.before_ns) = (*sample, false, None);
        // Before the first seek, the reader reads a record, in which there might be names.
        self.reader.get_mut().left = CSV_LINE_BYTES_MAX;
        let sought = self.reader.seek_raw(SeekFrom::Start(position.byte()), position.clone());
        sought.map_err(|error| CsvError::Unreadable(error.into()))
    }

    /// Goes on to a sample without reading the values before it.
    pub(super) fn skip_to(&mut self, sample: u64) -> Result<(), CsvError> {
        while self.next_sample < sample {
            if !self.look()? {
                return Err(CsvError::NoRows);
            }
            let missing = self.missing.min(sample - self.next_sample);
            if missing > 0 {
                self.missing -= missing;
                self.next_sample += missing;
            } else {
                self.is_pending = false;
                self.next_sample += 1;
            }
        }
        Ok(())
    }

    /// The next samples, at most so many, or the gap that stands here; none at the end.
    pub(super) fn advance(&mut self, count: u64, frames: &mut Vec<u8>) -> Result<Option<Piece>, CsvError> {
        frames.clear();
        let mut taken = 0;
        while taken < count && self.look()? {
            if self.missing > 0 {
                if taken > 0 {
                    break;
                }
                let missing = std::mem::take(&mut self.missing);
                self.next_sample += missing;
                return Ok(Some(Piece::Gap(missing)));
            }
            for column in &self.layout.columns {
                let text = text(&self.record[*column]);
                append(frames, text, self.layout.sample_type)
                    .map_err(|wrong| wrong.at(line_of(&self.reader, self.record.position()), text))?;
            }
            self.is_pending = false;
            self.next_sample += 1;
            taken += 1;
        }
        Ok((taken > 0).then_some(Piece::Samples(taken)))
    }

    /// Reads a row if none waits, and finds what is missing before it. False: there are no more.
    fn look(&mut self) -> Result<bool, CsvError> {
        if self.is_pending {
            return Ok(true);
        }
        if std::mem::take(&mut self.header_comes) {
            read_record(&mut self.reader, &mut self.record)?;
        }
        if !read_record(&mut self.reader, &mut self.record)? {
            return Ok(false);
        }
        let time = time_of(&self.reader, &self.record, &self.layout)?;
        self.missing = match time {
            None => 0,
            Some(time) => {
                let missing = self.grid.missing(self.next_sample, time);
                missing.map_err(|misfit| self.refusal(misfit, time))?
            }
        };
        self.before_ns = time;
        self.is_pending = true;
        Ok(true)
    }

    fn refusal(&self, misfit: Misfit, time: i64) -> CsvError {
        let before = self.before_ns.unwrap_or(time);
        let rate_hz = self.grid.rate_hz();
        let words = |ns: i64| match self.layout.time {
            Some((_, TimeFormat::Rfc3339)) => {
                jiff::Timestamp::from_nanosecond(ns.into()).map_or_else(|_| ns.to_string(), |time| time.to_string())
            }
            _ => format!("{}.{:09} s", ns / 1_000_000_000, (ns % 1_000_000_000).abs()),
        };
        let line = line_of(&self.reader, self.record.position());
        match misfit {
            Misfit::Backwards => CsvError::Backwards {
                line,
                time: words(time),
                before: words(before),
                rate_hz,
            },
            Misfit::Irregular => CsvError::Irregular {
                line,
                time: words(time),
                before: words(before),
                samples: self.grid.samples(before, time),
                rate_hz,
            },
        }
    }
}

/// Adds a number to the frames; none if it is no value of this type.
pub(in crate::source) fn number(text: &str, sample_type: SampleType, frames: &mut Vec<u8>) -> Option<()> {
    append(frames, text, sample_type).ok()
}

/// Why a field is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Number,
    DoesNotFit(SampleType),
    Missing(SampleType),
}

impl Wrong {
    fn at(self, line: u64, text: &str) -> CsvError {
        match self {
            Self::Number => CsvError::Number {
                line,
                text: text.into(),
            },
            Self::DoesNotFit(of) => CsvError::DoesNotFit {
                line,
                text: text.into(),
                sample_type: of.name(),
            },
            Self::Missing(of) => CsvError::Missing {
                line,
                sample_type: of.name(),
            },
        }
    }
}

/// Appends a sample: the nearest value of the type. An empty field is NaN.
fn append(frames: &mut Vec<u8>, text: &str, sample_type: SampleType) -> Result<(), Wrong> {
    macro_rules! float {
        ($number:ty) => {{
            let number = match text {
                "" => <$number>::NAN,
                text => text.parse::<$number>().map_err(|_| Wrong::Number)?,
            };
            // What is too large is parsed as infinite, which only the word for it is.
            if number.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) {
                return Err(Wrong::DoesNotFit(sample_type));
            }
            frames.extend_from_slice(&number.to_le_bytes());
        }};
    }
    macro_rules! integer {
        ($number:ty) => {{
            if text.is_empty() {
                return Err(Wrong::Missing(sample_type));
            }
            let number = text.parse::<$number>().map_err(|_| match text.parse::<f64>() {
                Ok(_) => Wrong::DoesNotFit(sample_type),
                Err(_) => Wrong::Number,
            })?;
            frames.extend_from_slice(&number.to_le_bytes());
        }};
    }
    match sample_type {
        SampleType::F32 => float!(f32),
        SampleType::F64 => float!(f64),
        SampleType::I8 => integer!(i8),
        SampleType::I16 => integer!(i16),
        SampleType::I32 => integer!(i32),
        SampleType::I64 => integer!(i64),
        SampleType::U8 | SampleType::U4 | SampleType::U1 => integer!(u8),
        SampleType::U16 => integer!(u16),
        SampleType::U32 => integer!(u32),
        SampleType::U64 => integer!(u64),
        SampleType::I128 => integer!(i128),
    }
    Ok(())
}
