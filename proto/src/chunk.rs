//! What a chunk is: samples, a gap with its reason, or an end; numbered, tiling the sample axis (I4), hashed.

use bytes::Bytes;

use crate::codec::Encoding;
use crate::id::Hash;
use crate::limits;
use crate::stream::StreamDefinition;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChunkKind {
    /// One column per signal.
    Samples = 1,
    /// Samples that are missing, and why.
    Gap = 2,
    /// The stream is over; no samples.
    End = 3,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// Why samples are missing, or why a stream ended. The numbers are hashed and stored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason { $($(#[$doc])* $name = $number,)* }

        impl Reason {
            /// Every reason, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// As people and SQL write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// A samples chunk has none.
    None = 0 "none",
    /// The outbox was full: its oldest un-acked samples made room.
    Evicted = 1 "evicted",
    /// The outbox's own bytes were bad.
    Corrupt = 2 "corrupt",
    /// The server came back behind its acks, and the outbox no longer held them.
    LostByServer = 3 "lost_by_server",
    /// The host did not take USB data in time.
    UsbOverrun = 16 "usb_overrun",
    /// The instrument's own buffer overflowed.
    DeviceOverflow = 17 "device_overflow",
    /// The PC slept.
    HostSuspend = 18 "host_suspend",
    /// The instrument was unplugged.
    Unplugged = 19 "unplugged",
    /// The instrument says that samples are missing, not why.
    SourceLoss = 20 "source_loss",
    /// One signal alone was not sampled.
    SignalOff = 21 "signal_off",
    /// A file says so itself.
    FileGap = 22 "file_gap",
    /// Values that the signal forbids.
    NotFinite = 23 "not_finite",
    /// The server's: intact but unacceptable, kept in quarantine.
    Quarantined = 48 "quarantined",
    /// The source ended the stream.
    Closed = 64 "closed",
    /// The source's process died.
    Crashed = 65 "crashed",
}

impl Reason {
    /// From its number; unknown numbers are refused, never guessed.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u32 == number)
    }
    /// Does a gap of this reason stand for captured chunks, and so carry the capture's digest?
    #[must_use]
    pub const fn is_replacing(self) -> bool {
        matches!(self, Self::Evicted | Self::Corrupt | Self::LostByServer)
    }
    /// May a source give this reason for a gap or an absent column?
    #[must_use]
    pub const fn is_source_gap(self) -> bool {
        (self as u16) >= 16 && (self as u16) < 48
    }
    /// Does it say why a stream ended?
    #[must_use]
    pub const fn is_end(self) -> bool {
        (self as u16) >= 64
    }
}

/// How a marker's content is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum MarkerFormat {
    Text = 1,
    Json = 2,
    Bytes = 3,
}

/// A note at a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Marker {
    /// The sample it stands at.
    pub sample: u64,
    /// What it is for: 0 text, 1 vertical, 2 horizontal; sources may add.
    pub kind: u16,
    /// Markers of a group belong together.
    pub group: u8,
    /// Height on the axis; NaN when it has none.
    pub y: f64,
    /// How `content` is to be read.
    pub format: MarkerFormat,
    /// The note.
    pub content: Vec<u8>,
}

/// One signal's part of a samples chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnHeader {
    /// The signal's number.
    pub signal: u16,
    /// Its samples, or why there are none.
    pub content: ColumnContent,
}

/// See [`ColumnHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnContent {
    /// The hash is of the decoded samples: it proves the encoder too.
    Present {
        /// How the bytes are encoded.
        encoding: Encoding,
        /// Column hash of docs/PROTOCOL.md.
        hash: Hash,
    },
    /// This signal alone was lost.
    Absent(
        /// Why.
        Reason,
    ),
}

/// Everything about a chunk but its columns' bytes and its digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// What it holds.
    pub kind: ChunkKind,
    /// Of a gap or an end.
    pub reason: Reason,
    /// The first seq it stands for.
    pub first_seq: u64,
    /// Its seq; above `first_seq` only for a replacing gap of a run of chunks.
    pub seq: u64,
    /// Where it starts on the sample axis.
    pub first_sample: u64,
    /// Samples it covers; 0 for an end.
    pub count: u64,
    /// UTC of the first sample, in nanoseconds.
    pub utc_ns: i64,
    /// Notes on the samples it covers.
    pub markers: Vec<Marker>,
    /// Of a samples chunk: one per signal of the definition, in its order.
    pub columns: Vec<ColumnHeader>,
}

/// Why a header cannot belong to its stream. Intact bytes that break these rules are the sender's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadHeader {
    #[error("seq {seq} does not follow first seq {first_seq}, or stands for several chunks without replacing them")]
    Seq { first_seq: u64, seq: u64 },
    #[error("{0:?} does not go with this kind of chunk")]
    Reason(Reason),
    #[error("a chunk of {0} samples at this place is not allowed")]
    Count(u64),
    #[error("the columns are not those of the stream's signals")]
    Columns,
    #[error("the markers are too many, too long, or outside of the chunk")]
    Markers,
}

impl Header {
    /// The sample after the last one covered: where the next chunk must start (I4).
    #[must_use]
    pub const fn end_sample(&self) -> u64 {
        self.first_sample.saturating_add(self.count)
    }

    /// Is it a gap that stands for captured chunks?
    #[must_use]
    pub const fn is_replacing(&self) -> bool {
        matches!(self.kind, ChunkKind::Gap) && self.reason.is_replacing()
    }

    /// How many columns carry bytes.
    #[must_use]
    pub fn present_columns(&self) -> usize {
        self.columns
            .iter()
            .filter(|column| matches!(column.content, ColumnContent::Present { .. }))
            .count()
    }

    /// The rules that need nothing but the definition. (Whether it follows what was accepted is the session's.)
    pub fn validate(&self, definition: &StreamDefinition) -> Result<(), BadHeader> {
        let run = self.seq > self.first_seq;
        if self.first_seq == 0
            || self.seq < self.first_seq
            || self.seq > limits::SEQ_MAX
            || (run && !self.is_replacing())
        {
            return Err(BadHeader::Seq {
                first_seq: self.first_seq,
                seq: self.seq,
            });
        }
        let reason_fits = match self.kind {
            ChunkKind::Samples => self.reason == Reason::None,
            ChunkKind::Gap => self.reason.is_replacing() || self.reason.is_source_gap(),
            ChunkKind::End => self.reason.is_end(),
        };
        if !reason_fits {
            return Err(BadHeader::Reason(self.reason));
        }
        self.validate_range()?;
        self.validate_columns(definition)?;
        self.validate_markers()
    }

    fn validate_range(&self) -> Result<(), BadHeader> {
        // Also where the chunk ends: the next one starts there, and the database counts in signed 64 bits.
        if self.end_sample() > limits::SAMPLE_ID_MAX || self.count > limits::SAMPLE_ID_MAX {
            return Err(BadHeader::Count(self.count));
        }
        let fits = match self.kind {
            ChunkKind::Samples => {
                let block = |sample: u64| sample / limits::CHUNK_SAMPLES_MAX;
                self.count > 0 && block(self.first_sample) == block(self.first_sample + self.count - 1)
            }
            // A gap that replaces nothing but an `end` covers no sample.
            ChunkKind::Gap => self.count > 0 || self.is_replacing(),
            ChunkKind::End => self.count == 0,
        };
        if fits {
            Ok(())
        } else {
            Err(BadHeader::Count(self.count))
        }
    }

    fn validate_columns(&self, definition: &StreamDefinition) -> Result<(), BadHeader> {
        if self.kind != ChunkKind::Samples {
            return if self.columns.is_empty() {
                Ok(())
            } else {
                Err(BadHeader::Columns)
            };
        }
        let numbers = self.columns.iter().map(|column| column.signal);
        if !numbers.eq(definition.signals.iter().map(|signal| signal.number)) {
            return Err(BadHeader::Columns);
        }
        let bad_reason = self.columns.iter().find_map(|column| match column.content {
            ColumnContent::Absent(reason) if !reason.is_source_gap() => Some(reason),
            _ => None,
        });
        bad_reason.map_or(Ok(()), |reason| Err(BadHeader::Reason(reason)))
    }

    fn validate_markers(&self) -> Result<(), BadHeader> {
        let bytes: usize = self.markers.iter().map(|marker| marker.content.len()).sum();
        // A replacing gap keeps the markers of all that it replaces; a run of those is bounded by the header's size.
        let too_many = self.markers.len() > limits::MARKERS_MAX && !self.is_replacing();
        let outside = |marker: &Marker| marker.sample < self.first_sample || marker.sample > self.end_sample();
        if too_many || bytes > limits::MARKER_BYTES_MAX || self.markers.iter().any(outside) {
            return Err(BadHeader::Markers);
        }
        Ok(())
    }
}

/// A chunk whole, as it is stored, sent and read.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// What it is.
    pub header: Header,
    /// The digest of the capture after it (I14).
    pub digest: Hash,
    /// The present columns' encoded bytes, in the header's order.
    pub columns: Vec<Bytes>,
}

impl Chunk {
    /// What flow control counts: the encoded columns and a fixed share for header and frame.
    #[must_use]
    pub fn flow_bytes(&self) -> u64 {
        let columns: u64 = self.columns.iter().map(|column| column.len() as u64).sum();
        let markers: u64 = self
            .header
            .markers
            .iter()
            .map(|marker| marker.content.len() as u64 + 32)
            .sum();
        columns + markers + limits::CHUNK_OVERHEAD_BYTES
    }
}

/// Where a stream stands after a seq: what `tail`, `Opened` and `accepted` are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last seq; 0 before the first.
    pub seq: u64,
    /// Where the next chunk starts.
    pub next_sample: u64,
    /// The digest at `seq`.
    pub digest: Hash,
    /// Is `seq` an end?
    pub ended: bool,
}

impl Position {
    /// Before the first chunk.
    #[must_use]
    pub fn start(definition: &StreamDefinition) -> Self {
        Self {
            seq: 0,
            next_sample: definition.first_sample,
            digest: crate::hash::definition_hash(definition),
            ended: false,
        }
    }

    /// After `header`, whose digest is `digest`.
    #[must_use]
    pub fn after(header: &Header, digest: Hash) -> Self {
        Self {
            seq: header.seq,
            next_sample: header.end_sample(),
            digest,
            ended: header.kind == ChunkKind::End,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::id::{Epoch, StreamId};
    use crate::stream::{SampleType, Signal};

    pub(crate) fn definition() -> StreamDefinition {
        let signal = |number, name: &str, unit: &str| Signal {
            number,
            name: name.into(),
            sample_type: SampleType::F32,
            unit: unit.into(),
            finite_only: false,
        };
        StreamDefinition {
            id: StreamId([7; 16]),
            device: "js220-001".into(),
            epoch: Epoch([9; 16]),
            file_identity: Vec::new(),
            predecessor: None,
            rate_hz: 1e6,
            first_sample: 0,
            signals: vec![signal(0, "current", "A"), signal(1, "voltage", "V")],
            attributes: BTreeMap::from([("model".into(), "JS220".into())]),
        }
    }

    pub(crate) fn gap(first_seq: u64, seq: u64, first_sample: u64, count: u64, reason: Reason) -> Header {
        Header {
            kind: ChunkKind::Gap,
            reason,
            first_seq,
            seq,
            first_sample,
            count,
            utc_ns: 0,
            markers: Vec::new(),
            columns: Vec::new(),
        }
    }

    #[test]
    fn i4_headers_that_cannot_tile_are_refused() {
        let definition = definition();
        let check = |header: Header| header.validate(&definition);
        assert_eq!(check(gap(1, 1, 0, 10, Reason::SourceLoss)), Ok(()));
        assert_eq!(check(gap(1, 4, 0, 10, Reason::Evicted)), Ok(()));
        assert_eq!(
            check(gap(1, 4, 0, 10, Reason::SourceLoss)),
            Err(BadHeader::Seq { first_seq: 1, seq: 4 })
        );
        assert_eq!(
            check(gap(0, 0, 0, 10, Reason::SourceLoss)),
            Err(BadHeader::Seq { first_seq: 0, seq: 0 })
        );
        assert_eq!(
            check(gap(5, 4, 0, 10, Reason::Evicted)),
            Err(BadHeader::Seq { first_seq: 5, seq: 4 })
        );
        assert_eq!(check(gap(1, 1, 0, 0, Reason::SourceLoss)), Err(BadHeader::Count(0)));
        assert_eq!(
            check(gap(1, 1, 0, 9, Reason::Quarantined)),
            Err(BadHeader::Reason(Reason::Quarantined))
        );
        assert_eq!(
            check(gap(1, 1, u64::MAX, 9, Reason::SourceLoss)),
            Err(BadHeader::Count(9))
        );
        let samples = Header {
            kind: ChunkKind::Samples,
            ..gap(1, 1, 65_530, 10, Reason::None)
        };
        assert_eq!(
            check(samples.clone()),
            Err(BadHeader::Count(10)),
            "crosses a multiple of 65,536"
        );
        assert_eq!(
            check(Header {
                first_sample: 0,
                ..samples
            }),
            Err(BadHeader::Columns)
        );
    }

    #[test]
    fn numbers_of_reasons_round_trip() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_number(*reason as u32), Some(*reason));
        }
        assert_eq!(Reason::from_number(4), None);
    }
}
