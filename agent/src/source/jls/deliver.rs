//! Delivers the streams of a JLS file side by side: the one whose next sample is the earliest goes on.

use tracing::warn;
use wavekeep_proto::chunk::{Marker, Reason};

use super::blocks::{Blocks, Piece};
use super::format::{Annotation, CHUNK_HEADER_BYTES, ChunkHeader, Tag};
use super::layout::Stream;
use super::scan::read_payload;
use super::{JlsSource, ReadAt, ScanError};
use crate::source::pace::Pace;
use crate::source::{BadInput, Sink, SinkError, SourceError};
use crate::stop::StopToken;

/// One stream on its way.
struct Lane<'a> {
    /// The stream, as the sink calls it.
    place: usize,
    stream: &'a Stream,
    blocks: Blocks<'a>,
    pace: Pace,
    /// Read up to here.
    next: u64,
    /// Delivered up to here: what lies between is missing.
    delivered: u64,
    /// The next anchor and the next marker to tell.
    anchor: usize,
    marker: usize,
}

impl JlsSource {
    /// Delivers everything from where the sink stands.
    pub(super) fn deliver(&self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let streams = self.layout.streams.iter().enumerate();
        let mut lanes: Vec<_> = streams
            .map(|(place, stream)| self.lane(place, stream, sink))
            .collect::<Result<_, _>>()?;
        let mut lost_markers = 0;
        while let Some(lane) = lanes
            .iter_mut()
            .filter(|lane| lane.next < lane.stream.end)
            .min_by(|a, b| a.elapsed_s().total_cmp(&b.elapsed_s()))
        {
            lost_markers += self.deliver_block(lane, sink, stop)?;
        }
        for lane in &mut lanes {
            lost_markers += self.deliver_missing(lane, sink)?;
        }
        if lost_markers > 0 {
            let path = self.path.display();
            warn!("{path}: {lost_markers} annotations are damaged, or too many at one place, and are left out");
        }
        self.check_unchanged()
    }

    fn lane<'a>(&'a self, place: usize, stream: &'a Stream, sink: &mut dyn Sink) -> Result<Lane<'a>, SourceError> {
        let next = sink.next_sample(place);
        if next > stream.end {
            let why = format!(
                "the server has samples up to {next} of {}, which ends at {}: look for another writer of this stream",
                self.path.display(),
                stream.end
            );
            return Err(SourceError::Device(why));
        }
        // The last one at or before where it goes on; with none, the first tells the time before it too.
        let after = stream.anchors.partition_point(|anchor| anchor.sample <= next);
        Ok(Lane {
            place,
            stream,
            blocks: Blocks::new(stream, &self.contents),
            pace: Pace::new(self.speed, stream.rate_hz, next),
            next,
            delivered: next,
            anchor: after.saturating_sub(1),
            marker: stream.markers.partition_point(|(sample, _)| *sample < next),
        })
    }

    /// Answers how many markers could not be told.
    fn deliver_block(&self, lane: &mut Lane<'_>, sink: &mut dyn Sink, stop: &StopToken) -> Result<u64, SourceError> {
        let limit = lane.pace.next_block(lane.next, stop).ok_or(SinkError::Stopped)?;
        // A block ends where the time is told anew.
        let anchors = &lane.stream.anchors;
        let next_anchor = anchors.partition_point(|anchor| anchor.sample <= lane.next);
        let limit = anchors
            .get(next_anchor)
            .map_or(limit, |anchor| limit.min(anchor.sample));
        match lane
            .blocks
            .next(&self.file, lane.next, limit)
            .map_err(|error| self.fail(error))?
        {
            Piece::Missing(end) => {
                lane.next = end;
                Ok(0)
            }
            Piece::Samples(end) => {
                let lost = self.deliver_missing(lane, sink)? + self.announce(lane, end, sink)?;
                let columns: Vec<_> = lane.blocks.columns().collect();
                let block = crate::source::Block {
                    first_sample: lane.next,
                    count: end - lane.next,
                    columns: &columns,
                };
                sink.samples(lane.place, &block)?;
                (lane.next, lane.delivered) = (end, end);
                Ok(lost)
            }
        }
    }

    /// Delivers the gap that was met, if one was.
    fn deliver_missing(&self, lane: &mut Lane<'_>, sink: &mut dyn Sink) -> Result<u64, SourceError> {
        if lane.delivered == lane.next {
            return Ok(0);
        }
        let lost = self.announce(lane, lane.next, sink)?;
        sink.gap(lane.place, lane.delivered..lane.next, Reason::FileGap)?;
        lane.delivered = lane.next;
        Ok(lost)
    }

    /// Tells the time of the first sample that is not delivered yet, and the markers before `end`; at the end of the stream also those
    /// right there.
    fn announce(&self, lane: &mut Lane<'_>, end: u64, sink: &mut dyn Sink) -> Result<u64, SourceError> {
        let anchors = &lane.stream.anchors;
        let now = anchors.partition_point(|anchor| anchor.sample <= lane.delivered).max(1);
        if lane.anchor < now {
            let anchor = anchors[now - 1];
            sink.anchor(lane.place, anchor.sample, anchor.utc_ns)?;
            lane.anchor = now;
        }
        let mut lost = 0;
        let is_due = |sample: u64| sample < end || end == lane.stream.end && sample == end;
        while let Some((sample, offset)) = lane
            .stream
            .markers
            .get(lane.marker)
            .filter(|(sample, _)| is_due(*sample))
        {
            lane.marker += 1;
            let marker = self.read_marker(*sample, *offset).map_err(|error| self.fail(error))?;
            match marker.map(|marker| sink.marker(lane.place, marker)) {
                Some(Ok(())) => {}
                None | Some(Err(SinkError::Source(BadInput::Markers))) => lost += 1,
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(lost)
    }

    /// `None`: it is damaged.
    fn read_marker(&self, sample: u64, offset: u64) -> Result<Option<Marker>, ScanError> {
        let mut header = [0; CHUNK_HEADER_BYTES as usize];
        self.file.read_exact_at(&mut header, offset)?;
        let payload = match ChunkHeader::parse(&header).filter(|header| header.tag == Tag::Annotation) {
            Some(header) => read_payload(&self.file, offset, &header)?,
            None => None,
        };
        Ok(payload
            .as_deref()
            .and_then(Annotation::parse)
            .map(|found| found.marker(sample)))
    }
}

impl Lane<'_> {
    /// How far it is, in seconds since its first sample.
    fn elapsed_s(&self) -> f64 {
        (self.next - self.stream.first) as f64 / self.stream.rate_hz
    }
}

impl Annotation {
    fn marker(self, sample: u64) -> Marker {
        let kind = match self.kind {
            1 => 0,
            2 => 1,
            3 => 2,
            // The application's own come after those that everybody knows.
            0 => 3,
            other => other.into(),
        };
        Marker {
            sample,
            kind,
            group: self.group,
            y: if self.y.is_nan() { f64::NAN } else { self.y.into() },
            format: self.format,
            content: self.content,
        }
    }
}
