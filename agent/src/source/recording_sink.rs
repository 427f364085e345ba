//! A sink for tests: keeps what a source delivers.

use std::ops::Range;

use wavekeep_proto::chunk::{Marker, Reason};

use super::{Block, Column, Sink, SinkError};
use crate::stop::StopToken;

/// Keeps the raw bytes of each column, and the gaps. Asserts that a source tiles (I4).
#[derive(Default)]
pub(crate) struct RecordingSink {
    pub(crate) next_sample: u64,
    pub(crate) columns: Vec<Vec<u8>>,
    pub(crate) gaps: Vec<(Range<u64>, Reason)>,
    pub(crate) anchors: Vec<(u64, i64)>,
    pub(crate) markers: Vec<Marker>,
    /// Stops the source once it stands here.
    pub(crate) stop_at: Option<(u64, StopToken)>,
    /// Once, at or after this sample: what is stored now ends there.
    pub(crate) move_at: Option<(u64, u64)>,
}

impl RecordingSink {
    fn check_stop(&self) {
        if let Some((_, stop)) = self.stop_at.as_ref().filter(|(sample, _)| self.next_sample >= *sample) {
            stop.stop();
        }
    }
}

impl Sink for RecordingSink {
    fn next_sample(&self, _: usize) -> u64 {
        self.next_sample
    }

    fn anchor(&mut self, _: usize, sample: u64, utc_ns: i64) -> Result<(), SinkError> {
        self.anchors.push((sample, utc_ns));
        Ok(())
    }

    fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError> {
        assert_eq!(block.first_sample, self.next_sample, "I4");
        if let Some((_, next_sample)) = self.move_at.take_if(|(sample, _)| block.first_sample >= *sample) {
            self.next_sample = next_sample;
            let bytes = self.columns.first().map_or(0, |column| column.len()) as u64 * next_sample / block.first_sample;
            self.columns
                .iter_mut()
                .for_each(|column| column.truncate(bytes as usize));
            return Err(SinkError::Moved { stream, next_sample });
        }
        self.columns.resize(block.columns.len(), Vec::new());
        for (kept, column) in self.columns.iter_mut().zip(block.columns) {
            match column {
                Column::F32(samples) => kept.extend(samples.iter().flat_map(|sample| sample.to_le_bytes())),
                Column::Raw(bytes) => kept.extend_from_slice(bytes),
                other => panic!("no source under test delivers {other:?}"),
            }
        }
        self.next_sample += block.count;
        self.check_stop();
        Ok(())
    }

    fn gap(&mut self, _: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
        assert_eq!(range.start, self.next_sample, "I4");
        self.next_sample = range.end;
        self.gaps.push((range, reason));
        self.check_stop();
        Ok(())
    }

    fn marker(&mut self, _: usize, marker: Marker) -> Result<(), SinkError> {
        assert!(marker.sample >= self.next_sample, "a marker comes before its sample");
        self.markers.push(marker);
        Ok(())
    }
}
