//! Cuts a stream's samples, gaps and markers into chunks. Pure: no clock, no I/O.
//!
//! # Invariants
//! - I4: the cuts tile the sample axis. A hole that the source did not explain becomes a gap `source_loss`.
//! - I13: every sample that goes in comes out, in exactly one cut.
//! - Cuts lie at multiples of 65,536 samples and of the chunk period, which is a whole number of base buckets, both counted from
//!   sample 0; nowhere else, except before a gap, an end, or where a signal goes absent or comes back. So the cuts do not depend on
//!   how the source portions its samples, nor on where a replay resumes.
//! - I12: what waits is at most one chunk and one chunk's worth of markers.

use std::ops::Range;
use std::time::Duration;

use wavekeep_proto::chunk::{ChunkKind, Marker, Reason};
use wavekeep_proto::limits::{CHUNK_SAMPLES_MAX, MARKER_BYTES_MAX, MARKERS_MAX, SAMPLE_ID_MAX};
use wavekeep_proto::stream::{SampleType, StreamDefinition};

use crate::source::{BadInput, Block, Column};
use crate::time_axis::{Anchor, TimeAxis};

/// A chunk before it is encoded, numbered and hashed.
#[derive(Debug, Clone)]
pub struct Cut<'a> {
    /// Samples, or a gap.
    pub kind: ChunkKind,
    /// Of a gap.
    pub reason: Reason,
    /// Where it starts.
    pub first_sample: u64,
    /// Samples it covers.
    pub count: u64,
    /// UTC of the first sample, in nanoseconds since 1970.
    pub utc_ns: i64,
    /// Notes on the samples it covers, in their order.
    pub markers: Vec<Marker>,
    /// Of samples: one per signal.
    pub columns: &'a [CutColumn],
}

/// One signal's part of a cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CutColumn {
    /// Why there are no samples, if there are none.
    pub absent: Option<Reason>,
    /// The samples, raw little-endian; packed types least significant bit first, padding zero.
    pub samples: Vec<u8>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Chunker {
    sample_types: Vec<SampleType>,
    period_samples: u64,
    axis: Option<TimeAxis>,
    rate_hz: f64,
    /// After everything taken: the open chunk's end.
    next_sample: u64,
    /// Samples of the open chunk.
    open_count: u64,
    open_utc_ns: i64,
    columns: Vec<CutColumn>,
    /// Not before the open chunk's first sample; in order of sample.
    markers: Vec<Marker>,
    marker_bytes: usize,
}

/// The chunk period in samples: whole base buckets, at least one.
#[must_use]
pub fn period_samples(definition: &StreamDefinition, period: Duration) -> u64 {
    let bucket = definition.base_bucket_samples();
    // Saturating: an absurdly long period is cut at multiples of 65,536 anyway.
    let samples = (definition.rate_hz * period.as_secs_f64()) as u64;
    (samples / bucket).max(1).saturating_mul(bucket)
}

impl Chunker {
    /// For a stream of which everything before `next_sample` is stored.
    #[must_use]
    pub fn new(definition: &StreamDefinition, period: Duration, next_sample: u64) -> Self {
        Self {
            sample_types: definition.signals.iter().map(|signal| signal.sample_type).collect(),
            period_samples: period_samples(definition, period),
            axis: None,
            rate_hz: definition.rate_hz,
            next_sample,
            open_count: 0,
            open_utc_ns: 0,
            columns: vec![CutColumn::default(); definition.signals.len()],
            markers: Vec::new(),
            marker_bytes: 0,
        }
    }

    /// The sample after all that was taken.
    #[must_use]
    pub fn next_sample(&self) -> u64 {
        self.next_sample
    }

    /// Does it know the time of any sample yet?
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.axis.is_some()
    }

    /// See [`crate::source::Sink::anchor`].
    pub fn anchor(&mut self, anchor: Anchor) {
        match &mut self.axis {
            None => self.axis = Some(TimeAxis::new(self.rate_hz, anchor)),
            Some(axis) => {
                axis.add(anchor);
            }
        }
    }

    /// Takes samples; emits every chunk that they complete.
    pub fn samples<E: From<BadInput>>(
        &mut self,
        block: &Block<'_>,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check_block(block)?;
        self.follow(block.first_sample, block.count, emit)?;
        let mut done = 0;
        while done < block.count {
            if self.open_count > 0 && !self.goes_with_open(block) {
                self.flush(emit)?;
            }
            if self.open_count == 0 {
                self.open_utc_ns = self.utc_ns(self.next_sample);
                for (open, column) in self.columns.iter_mut().zip(block.columns) {
                    open.absent = column.absent();
                }
            }
            let boundary = self.boundary_after(self.next_sample);
            let count = (block.count - done).min(boundary - self.next_sample);
            for ((open, column), sample_type) in self.columns.iter_mut().zip(block.columns).zip(&self.sample_types) {
                column.append_to(&mut open.samples, *sample_type, self.open_count, done, count);
            }
            done += count;
            self.open_count += count;
            self.next_sample += count;
            if self.next_sample == boundary {
                self.flush(emit)?;
            }
        }
        Ok(())
    }

    /// Takes a gap: the open chunk ends before it.
    pub fn gap<E: From<BadInput>>(
        &mut self,
        range: Range<u64>,
        reason: Reason,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !reason.is_source_gap() {
            return Err(BadInput::Reason(reason).into());
        }
        let count = range.end.saturating_sub(range.start);
        if count == 0 {
            return Ok(());
        }
        self.follow(range.start, count, emit)?;
        self.flush(emit)?;
        self.emit_gap(count, reason, emit)
    }

    /// Takes a marker, which rides in the chunk that covers its sample.
    pub fn marker(&mut self, marker: Marker) -> Result<(), BadInput> {
        if marker.sample < self.next_sample - self.open_count {
            return Err(BadInput::LateMarker(marker.sample));
        }
        let bytes = self.marker_bytes + marker.content.len();
        if self.markers.len() == MARKERS_MAX || bytes > MARKER_BYTES_MAX {
            return Err(BadInput::Markers);
        }
        self.marker_bytes = bytes;
        let at = self.markers.partition_point(|other| other.sample <= marker.sample);
        self.markers.insert(at, marker);
        Ok(())
    }

    /// Emits what is open, whether complete or not: the stream ends here. Returns how many markers lie beyond it and are lost;
    /// one right at the end rides in the last chunk.
    pub fn finish<E>(&mut self, emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<usize, E> {
        if self.open_count > 0 {
            self.flush_with_markers(self.next_sample + 1, emit)?;
        }
        Ok(self.markers.len())
    }

    /// Emits what is open: the stream ends here, and what comes next belongs to another one. So do markers from here on.
    pub fn flush<E>(&mut self, emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.open_count == 0 {
            Ok(())
        } else {
            self.flush_with_markers(self.next_sample, emit)
        }
    }

    fn flush_with_markers<E>(
        &mut self,
        markers_before: u64,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let cut = Cut {
            kind: ChunkKind::Samples,
            reason: Reason::None,
            first_sample: self.next_sample - self.open_count,
            count: self.open_count,
            utc_ns: self.open_utc_ns,
            markers: self.take_markers(markers_before),
            columns: &self.columns,
        };
        let emitted = emit(cut);
        self.discard_open();
        emitted
    }

    /// Forgets everything that was not emitted and goes on at `next_sample`: a file is read again from there.
    pub fn restart(&mut self, next_sample: u64) {
        self.discard_open();
        self.next_sample = next_sample;
        self.markers.clear();
        self.marker_bytes = 0;
    }

    fn discard_open(&mut self) {
        self.open_count = 0;
        for column in &mut self.columns {
            column.samples.clear();
            column.absent = None;
        }
    }

    /// The next cut after `sample`, if nothing else happens.
    fn boundary_after(&self, sample: u64) -> u64 {
        let after = |multiple: u64| (sample / multiple + 1).saturating_mul(multiple);
        after(CHUNK_SAMPLES_MAX).min(after(self.period_samples))
    }

    /// Makes sure that `first_sample` comes next: a hole becomes a gap.
    fn follow<E: From<BadInput>>(
        &mut self,
        first_sample: u64,
        count: u64,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if first_sample.checked_add(count).is_none_or(|end| end > SAMPLE_ID_MAX) {
            return Err(BadInput::SampleId.into());
        }
        if first_sample < self.next_sample {
            return Err(BadInput::Backwards {
                expected: self.next_sample,
                given: first_sample,
            }
            .into());
        }
        let missing = first_sample - self.next_sample;
        if missing > 0 {
            self.flush(emit)?;
            self.emit_gap(missing, Reason::SourceLoss, emit)?;
        }
        Ok(())
    }

    fn emit_gap<E>(
        &mut self,
        count: u64,
        reason: Reason,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(self.open_count == 0, "I4: a gap starts where the chunk before it ended");
        let first_sample = self.next_sample;
        self.next_sample += count;
        let cut = Cut {
            kind: ChunkKind::Gap,
            reason,
            first_sample,
            count,
            utc_ns: self.utc_ns(first_sample),
            markers: self.take_markers(self.next_sample),
            columns: &[],
        };
        emit(cut)
    }

    fn take_markers(&mut self, before_sample: u64) -> Vec<Marker> {
        let count = self.markers.partition_point(|marker| marker.sample < before_sample);
        let taken: Vec<_> = self.markers.drain(..count).collect();
        self.marker_bytes -= taken.iter().map(|marker| marker.content.len()).sum::<usize>();
        taken
    }

    fn utc_ns(&self, sample: u64) -> i64 {
        self.axis.as_ref().map_or(0, |axis| axis.utc_ns(sample))
    }

    fn goes_with_open(&self, block: &Block<'_>) -> bool {
        self.columns
            .iter()
            .zip(block.columns)
            .all(|(open, column)| open.absent == column.absent())
    }

    fn check_block(&self, block: &Block<'_>) -> Result<(), BadInput> {
        if block.columns.len() != self.sample_types.len() {
            return Err(BadInput::Columns);
        }
        for (column, (given, sample_type)) in block.columns.iter().zip(&self.sample_types).enumerate() {
            if let Column::Absent(reason) = given {
                if !reason.is_source_gap() {
                    return Err(BadInput::Reason(*reason));
                }
                continue;
            }
            if !given.holds(*sample_type) {
                return Err(BadInput::Columns);
            }
            // Before multiplying: a count beyond the axis is no count.
            if block.count > SAMPLE_ID_MAX / 128 {
                return Err(BadInput::SampleId);
            }
            let (given, expected) = (given.byte_count(), sample_type.bytes(block.count));
            if given != expected {
                return Err(BadInput::ColumnBytes {
                    column,
                    given,
                    expected,
                });
            }
        }
        Ok(())
    }
}

impl Column<'_> {
    fn absent(&self) -> Option<Reason> {
        match self {
            Self::Absent(reason) => Some(*reason),
            _ => None,
        }
    }

    fn holds(&self, sample_type: SampleType) -> bool {
        match self {
            Self::F32(_) => sample_type == SampleType::F32,
            Self::F64(_) => sample_type == SampleType::F64,
            Self::I16(_) => sample_type == SampleType::I16,
            Self::I32(_) => sample_type == SampleType::I32,
            Self::Raw(_) | Self::Absent(_) => true,
        }
    }

    fn byte_count(&self) -> u64 {
        let bytes = match self {
            Self::F32(samples) => size_of_val(*samples),
            Self::F64(samples) => size_of_val(*samples),
            Self::I16(samples) => size_of_val(*samples),
            Self::I32(samples) => size_of_val(*samples),
            Self::Raw(bytes) => bytes.len(),
            Self::Absent(_) => 0,
        };
        bytes as u64
    }

    /// Appends `count` samples from `from` on to `out`, which holds `out_count` of them.
    fn append_to(&self, out: &mut Vec<u8>, sample_type: SampleType, out_count: u64, from: u64, count: u64) {
        // Both lie within a block that is in memory.
        let range = from as usize..(from + count) as usize;
        match self {
            Self::F32(samples) => append_le(out, &samples[range], f32::to_le_bytes),
            Self::F64(samples) => append_le(out, &samples[range], f64::to_le_bytes),
            Self::I16(samples) => append_le(out, &samples[range], i16::to_le_bytes),
            Self::I32(samples) => append_le(out, &samples[range], i32::to_le_bytes),
            Self::Raw(bytes) => append_raw(out, bytes, sample_type.bits() as usize, out_count as usize, range),
            Self::Absent(_) => {}
        }
    }
}

fn append_le<T: Copy, const BYTES: usize>(out: &mut Vec<u8>, samples: &[T], to_le_bytes: impl Fn(T) -> [u8; BYTES]) {
    let start = out.len();
    out.resize(start + samples.len() * BYTES, 0);
    // On a little-endian machine the compiler makes one copy of this.
    for (bytes, sample) in out[start..].as_chunks_mut::<BYTES>().0.iter_mut().zip(samples) {
        *bytes = to_le_bytes(*sample);
    }
}

fn append_raw(out: &mut Vec<u8>, bytes: &[u8], bits: usize, out_count: usize, range: Range<usize>) {
    let (out_bits, start_bits, end_bits) = (out_count * bits, range.start * bits, range.end * bits);
    if out_bits.is_multiple_of(8) && start_bits.is_multiple_of(8) {
        out.extend_from_slice(&bytes[start_bits / 8..end_bits.div_ceil(8)]);
        // What the last byte holds beyond the range is the next chunk's, or padding: zero.
        if let Some(last) = out.last_mut().filter(|_| !end_bits.is_multiple_of(8)) {
            *last &= (1 << (end_bits % 8)) - 1;
        }
        return;
    }
    // Packed types at odd places only: a bit at a time.
    out.resize((out_bits + (end_bits - start_bits)).div_ceil(8), 0);
    for (at, from) in (out_bits..).zip(start_bits..end_bits) {
        out[at / 8] |= ((bytes[from / 8] >> (from % 8)) & 1) << (at % 8);
    }
}

#[cfg(test)]
#[path = "chunker_tests.rs"]
mod tests;
