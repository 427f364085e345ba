//! Reads the signals of a stream together, block by block; says which of them are missing where.
//!
//! # Invariants
//! - I4: the blocks tile the stream.

use wavekeep_proto::chunk::Reason;

use super::layout::Stream;
use super::scan::Contents;
use super::signal::SignalReader;
use super::{ReadAt, ScanError};
use crate::source::Column;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Up to this sample nothing is there, of any signal.
    Missing(u64),
    /// Up to this sample there is something: see [`Blocks::columns`].
    Samples(u64),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    signals: Vec<SignalReader<'a>>,
    end: u64,
    columns: Vec<Vec<u8>>,
    missing: Vec<Option<Reason>>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(stream: &Stream, contents: &'a Contents) -> Self {
        let reader = |(signal, data_type): (&wavekeep_proto::stream::Signal, &_)| {
            let scanned = u8::try_from(signal.number)
                .ok()
                .and_then(|number| contents.signals.get(&number));
            let entries = scanned.map_or(&[][..], |scanned| &scanned.entries);
            SignalReader::new(entries, *data_type, signal.sample_type)
        };
        let signals: Vec<_> = stream.signals.iter().zip(&stream.types).map(reader).collect();
        Self {
            columns: vec![Vec::new(); signals.len()],
            missing: vec![None; signals.len()],
            end: stream.end,
            signals,
        }
    }

    /// What comes at `sample`. Samples end at `limit` at the latest.
    pub(super) fn next(&mut self, file: &dyn ReadAt, sample: u64, limit: u64) -> Result<Piece, ScanError> {
        let mut end = self.end;
        for (signal, missing) in self.signals.iter_mut().zip(&mut self.missing) {
            let run = signal.run(file, sample)?;
            end = end.min(run.range.end);
            *missing = run.missing;
        }
        if self.missing.iter().all(Option::is_some) {
            return Ok(Piece::Missing(end));
        }
        let end = end.min(limit);
        for ((signal, missing), column) in self.signals.iter().zip(&self.missing).zip(&mut self.columns) {
            if missing.is_none() {
                signal.copy(sample..end, column);
            }
        }
        Ok(Piece::Samples(end))
    }

    /// Of the last piece, if it was samples.
    pub(super) fn columns(&self) -> impl Iterator<Item = Column<'_>> {
        self.columns
            .iter()
            .zip(&self.missing)
            .map(|(column, missing)| match missing {
                None => Column::Raw(column),
                Some(reason) => Column::Absent(*reason),
            })
    }

    /// Samples that could not be read, of all signals, so far.
    pub(super) fn damaged_samples(&self) -> u64 {
        self.signals.iter().map(|signal| signal.damaged_samples).sum()
    }
}
