//! Lines of text, in whatever pieces they come. Pure, but for the wait for the first ones.
//!
//! A column of times says when samples were taken, and where some are missing: where it jumps by more than one and a half samples. A line
//! that is no row is one sample that is missing; with times it is the next line's that say how many are.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use wavekeep_proto::stream::{SampleType, Signal};

use super::super::csv::{
    ABSOLUTE_NS, DELIMITERS, TimeFormat, looks_like_a_value, name_and_unit, number, text, time_unit,
};
use super::{Decode, LOOK, Piece, PipeError};
use crate::limits::CSV_LINE_BYTES_MAX;
use crate::stop::StopToken;

/// Samples between two are missing if the step is longer than so many.
const STEP_MAX: f64 = 1.5;
/// Times are told to the sink this often.
const ANCHOR_NS: i64 = 1_000_000_000;

/// What the columns are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    delimiter: u8,
    has_names: bool,
    fields: usize,
    time: Option<(usize, Option<TimeFormat>)>,
    pub(super) names: Vec<(String, String)>,
}

/// Waits for the first line that is no comment. The bytes that were read; none if somebody stopped it.
pub(super) fn find(
    reads: &Receiver<io::Result<Vec<u8>>>,
    named: &[(String, String)],
    stop: &StopToken,
) -> Result<Option<(Layout, Vec<u8>)>, PipeError> {
    let mut bytes = Vec::new();
    loop {
        if let Some(line) = first_line(&bytes) {
            let layout = Layout::of(line, named)?;
            return Ok(Some((layout, bytes)));
        }
        if bytes.len() > CSV_LINE_BYTES_MAX {
            return Err(PipeError::LongLine);
        }
        match reads.recv_timeout(LOOK) {
            Ok(read) => bytes.extend(read.map_err(PipeError::Unreadable)?),
            Err(RecvTimeoutError::Disconnected) => return Err(PipeError::NoRows),
            Err(RecvTimeoutError::Timeout) if stop.is_stopped() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().rposition(|byte| *byte == b'\n')?;
    bytes[..end]
        .split(|byte| *byte == b'\n')
        .find(|line| !is_passed_over(line))
}

/// Nothing, or a comment.
fn is_passed_over(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.is_empty() || line.starts_with(b"#")
}

fn fields(line: &[u8], delimiter: u8) -> impl Iterator<Item = &str> {
    line.split(move |byte| *byte == delimiter)
        .map(|field| unquoted(text(field)))
}

fn unquoted(field: &str) -> &str {
    let inner = field.strip_prefix('"').and_then(|field| field.strip_suffix('"'));
    inner.unwrap_or(field)
}

impl Layout {
    fn of(line: &[u8], named: &[(String, String)]) -> Result<Self, PipeError> {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let count = |delimiter: &u8| line.iter().filter(|byte| *byte == delimiter).count();
        // The last of the largest is the first of the preferred.
        let delimiter = DELIMITERS.into_iter().rev().max_by_key(count).unwrap_or(b',');
        let fields: Vec<&str> = fields(line, delimiter).collect();
        let has_names = fields.iter().any(|field| !looks_like_a_value(field));
        let columns = fields.len();
        let all: Vec<(String, String)> = fields.iter().map(|field| name_and_unit(field)).collect();
        let time = if has_names {
            all.iter().enumerate().find_map(|(at, (name, unit))| {
                let of_name = time_unit(name)?;
                let unit = if unit.is_empty() { of_name } else { unit };
                Some((at, TimeFormat::of_unit(unit)))
            })
        } else {
            match columns.checked_sub(named.len()) {
                Some(0) => None,
                Some(1) if !named.is_empty() => Some((0, None)),
                _ => return Err(PipeError::NoNames { columns }),
            }
        };
        let own: Vec<_> = all
            .into_iter()
            .enumerate()
            .filter(|(at, _)| time.is_none_or(|(time, _)| time != *at))
            .map(|(_, name)| name)
            .collect();
        if !named.is_empty() && named.len() != own.len() {
            return Err(PipeError::Names {
                columns: own.len(),
                named: named.len(),
            });
        }
        Ok(Self {
            delimiter,
            has_names,
            fields: columns,
            time,
            names: if named.is_empty() { own } else { named.to_vec() },
        })
    }
}

pub(super) struct Table {
    layout: Layout,
    sample_type: SampleType,
    rate_hz: f64,
    /// The beginning of a line.
    rest: Vec<u8>,
    /// Its beginning was longer than a line may be, and is gone.
    is_too_long: bool,
    /// Of the last row that had one.
    time_ns: Option<i64>,
    anchored_ns: Option<i64>,
    /// Lines since then that were no rows.
    spoilt: u64,
    is_begun: bool,
}

impl Table {
    pub(super) fn new(layout: Layout, signals: &[Signal], rate_hz: f64) -> Self {
        Self {
            layout,
            sample_type: signals.first().map_or(SampleType::F64, |signal| signal.sample_type),
            rate_hz,
            rest: Vec::new(),
            is_too_long: false,
            time_ns: None,
            anchored_ns: None,
            spoilt: 0,
            is_begun: false,
        }
    }

    fn line(&mut self, line: &[u8], pieces: &mut Vec<Piece>) {
        if is_passed_over(line) {
            return;
        }
        if !std::mem::replace(&mut self.is_begun, true) && self.layout.has_names {
            return;
        }
        let mut frame = Vec::new();
        match self.row(line, &mut frame) {
            Ok(time_ns) => {
                self.place(time_ns, pieces);
                match pieces.last_mut() {
                    Some(Piece::Frames(frames)) => frames.append(&mut frame),
                    _ => pieces.push(Piece::Frames(frame)),
                }
            }
            Err(why) => {
                self.spoilt += 1;
                if self.layout.time.is_none() {
                    self.miss(1, why, pieces);
                }
            }
        }
    }

    fn miss(&mut self, samples: u64, why: String, pieces: &mut Vec<Piece>) {
        self.spoilt = 0;
        pieces.push(Piece::Missing { samples, why });
    }

    /// Where the row is on the axis, if it says when it was taken.
    fn place(&mut self, time_ns: Option<i64>, pieces: &mut Vec<Piece>) {
        let Some(time_ns) = time_ns else {
            return;
        };
        let step = self.time_ns.map_or(1.0, |before| {
            (i128::from(time_ns) - i128::from(before)) as f64 * self.rate_hz / 1e9
        });
        // The conversion saturates; a clock that was set back says nothing of samples.
        let missing = if step > STEP_MAX {
            (step.round() as u64).saturating_sub(1)
        } else {
            0
        };
        if missing > 0 {
            let why = format!("{} lines were no rows, and the times jump", self.spoilt);
            self.miss(missing, why, pieces);
        }
        self.spoilt = 0;
        self.time_ns = Some(time_ns);
        let is_due = self
            .anchored_ns
            .is_none_or(|at| !(at..at.saturating_add(ANCHOR_NS)).contains(&time_ns));
        if time_ns >= ABSOLUTE_NS && (is_due || missing > 0) {
            pieces.push(Piece::Anchor(time_ns));
            self.anchored_ns = Some(time_ns);
        }
    }

    /// Adds the row's samples to the frame; when it was taken.
    fn row(&mut self, line: &[u8], frame: &mut Vec<u8>) -> Result<Option<i64>, String> {
        let shown = || String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        let count = fields(line, self.layout.delimiter).count();
        if count != self.layout.fields {
            let expected = self.layout.fields;
            return Err(format!("{:?} has {count} fields and {expected} are needed", shown()));
        }
        let mut time_ns = None;
        for (at, field) in fields(line, self.layout.delimiter).enumerate() {
            match &mut self.layout.time {
                Some((time, format)) if *time == at => {
                    let format = *format.get_or_insert_with(|| TimeFormat::of_text(field));
                    time_ns = Some(format.parse(field).ok_or_else(|| format!("{field:?} is no time"))?);
                }
                _ => {
                    let added = number(field, self.sample_type, frame);
                    added.ok_or_else(|| format!("{field:?} is no number that fits"))?;
                }
            }
        }
        Ok(time_ns)
    }
}

impl Decode for Table {
    fn decode(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        // What is after the last end of a line is no line yet.
        let rest = lines.next_back().unwrap_or_default();
        for line in lines {
            if self.is_too_long {
                self.is_too_long = false;
                self.spoilt += 1;
                if self.layout.time.is_none() {
                    self.miss(1, "a line is too long".into(), pieces);
                }
            } else if self.rest.is_empty() {
                self.line(line, pieces);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole, pieces);
            }
        }
        if self.rest.len() + rest.len() > CSV_LINE_BYTES_MAX {
            self.is_too_long = true;
            self.rest.clear();
        } else if !self.is_too_long {
            self.rest.extend_from_slice(rest);
        }
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) {
        // A last line need not have an end.
        let rest = std::mem::take(&mut self.rest);
        if !self.is_too_long {
            self.line(&rest, pieces);
        }
        if self.spoilt > 0 {
            let (spoilt, why) = (self.spoilt, "the last lines were no rows".to_owned());
            self.miss(spoilt, why, pieces);
        }
    }
}
