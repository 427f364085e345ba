//! Checks one stream of an answer, chunk by chunk and at last against its manifest. Pure: no I/O.
//!
//! # Invariants
//! - I14: the digest of every chunk follows from the one before it; the first from `digest_before` of the manifest, or from the
//!   definition where the answer starts with seq 1. A replacing gap carries the digest of what it replaces.
//! - I4: a chunk starts at the seq and the sample where the one before it ended, and the cuts of the chunks tile the range.
//! - I12: gaps wait for their manifest in a queue of at most [`GAPS_PENDING_MAX`](crate::limits::GAPS_PENDING_MAX).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use wavekeep_proto::chunk::{BadHeader, ChunkKind, ColumnContent, Header, Reason};
use wavekeep_proto::codec::{Decoder, Encoding};
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{hash, limits, v1, wire};

use crate::columns::ColumnsCheck;
use crate::listing::Gap;
use crate::{Column, Fault, StreamInfo, TimeRange};

/// The samples of a chunk, and when they were taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) first_sample: u64,
    pub(crate) end_sample: u64,
    pub(crate) utc_ns: i64,
}

impl Extent {
    fn of(header: &Header) -> Self {
        Self {
            first_sample: header.first_sample,
            end_sample: header.end_sample(),
            utc_ns: header.utc_ns,
        }
    }

    /// The first sample that was taken at or after a time; the end where none was.
    pub(crate) fn sample_at(&self, definition: &StreamDefinition, time_ns: i64) -> u64 {
        let at = |sample: u64| {
            let after_ns = definition.duration_ns(sample - self.first_sample);
            self.utc_ns.saturating_add(after_ns)
        };
        let (mut low, mut high) = (self.first_sample, self.end_sample);
        while low < high {
            let middle = low + (high - low) / 2;
            if at(middle) < time_ns {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Where the answer stands after a chunk.
#[derive(Debug, Clone, Copy)]
struct Last {
    seq: u64,
    end_sample: u64,
    digest: Hash,
}

/// The first chunk, whose place in the chain the manifest will prove.
#[derive(Debug, Clone, Copy)]
struct First {
    first_seq: u64,
    hash: Hash,
    digest: Hash,
    is_replacing: bool,
}

/// What came of a stream so far.
#[derive(Debug)]
pub(crate) struct StreamCheck {
    pub(crate) info: Arc<StreamInfo>,
    /// What of it is asked for.
    pub(crate) range: TimeRange,
    /// The signals asked for, as places in the definition.
    asked: Vec<usize>,
    first: Option<First>,
    last: Option<Last>,
    /// Of the first and of the last chunk.
    pub(crate) extents: Option<(Extent, Extent)>,
    /// Samples cut out so far: from, to.
    pub(crate) cut: Option<(u64, u64)>,
    pub(crate) sample_count: u64,
    pub(crate) gap_sample_count: u64,
    pub(crate) chunks: u64,
    pub(crate) gaps: VecDeque<Gap>,
    /// Where columns were asked for: what came of them.
    pub(crate) drawn: Option<ColumnsCheck>,
}

/// A chunk whose header and place are proven; its samples are not decoded yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) header: Header,
    pub(crate) from_sample: u64,
    pub(crate) to_sample: u64,
    /// Its columns' bytes are in quarantine.
    pub(crate) quarantined: bool,
    /// Of the signals asked for, those that are present.
    columns: Vec<Bytes>,
}

impl Accepted {
    pub(crate) fn count(&self) -> u64 {
        self.to_sample - self.from_sample
    }

    pub(crate) fn has_samples(&self) -> bool {
        self.header.kind == ChunkKind::Samples && !self.quarantined
    }
}

impl StreamCheck {
    pub(crate) fn new(info: Arc<StreamInfo>, asked: Vec<usize>, range: TimeRange) -> Self {
        Self {
            info,
            range,
            asked,
            first: None,
            last: None,
            extents: None,
            cut: None,
            sample_count: 0,
            gap_sample_count: 0,
            chunks: 0,
            gaps: VecDeque::new(),
            drawn: None,
        }
    }

    /// Were columns asked for, and did no samples come instead?
    pub(crate) fn is_drawn(&self) -> bool {
        self.drawn.is_some() && self.chunks == 0
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last.map_or(0, |last| last.seq)
    }

    pub(crate) fn last_digest(&self) -> Hash {
        self.last.map_or_else(Hash::default, |last| last.digest)
    }

    pub(crate) fn first_seq(&self) -> u64 {
        self.first.map_or(0, |first| first.first_seq)
    }

    /// Does the first chunk follow from this digest?
    pub(crate) fn follows(&self, digest_before: Hash) -> bool {
        self.first
            .is_none_or(|first| first.is_replacing || hash::next_digest(digest_before, first.hash) == first.digest)
    }

    /// Takes the next chunk and its gaps in.
    pub(crate) fn chunk(&mut self, wire: v1::WaveformChunk) -> Result<Accepted, Fault> {
        let after = self.last_seq();
        let chunk = wire.chunk.unwrap_or_default();
        let (header, digest) = intact(&chunk).map_err(|why| match why {
            None => Fault::FrameHash { after },
            Some(why) => Fault::HeaderBytes { after, why },
        })?;
        let seq = header.seq;
        let rules = if wire.quarantined {
            countable(&header)
        } else {
            header.validate(&self.info.definition)
        };
        rules.map_err(|why| Fault::Header { seq, why })?;
        let accepted = Accepted {
            from_sample: wire.from_sample,
            to_sample: wire.to_sample,
            quarantined: wire.quarantined,
            columns: chunk.columns,
            header,
        };
        self.link(&accepted.header, digest)?;
        self.cut(&accepted)?;
        self.count_columns(&accepted)?;
        self.count_samples(&accepted);
        Ok(accepted)
    }

    /// I14 and I4: it continues the chunk before.
    fn link(&mut self, header: &Header, digest: Hash) -> Result<(), Fault> {
        let (seq, is_replacing, chunk_hash) = (header.seq, header.is_replacing(), hash::chunk_hash(header));
        let definition = &self.info.definition;
        let before = match self.last {
            Some(last) => Some(last),
            None if header.first_seq == 1 => Some(Last {
                seq: 0,
                end_sample: definition.first_sample,
                digest: hash::definition_hash(definition),
            }),
            None => None,
        };
        if let Some(before) = before {
            if header.first_seq != before.seq + 1 {
                return Err(Fault::MissingChunk {
                    expected: before.seq + 1,
                    found: header.first_seq,
                });
            }
            if header.first_sample != before.end_sample {
                return Err(Fault::Tiling {
                    seq,
                    expected: before.end_sample,
                    found: header.first_sample,
                });
            }
            if !is_replacing && hash::next_digest(before.digest, chunk_hash) != digest {
                return Err(Fault::Digest { seq });
            }
        }
        if self.first.is_none() {
            self.first = Some(First {
                first_seq: header.first_seq,
                hash: chunk_hash,
                digest,
                is_replacing,
            });
        }
        let extent = Extent::of(header);
        self.extents = Some((self.extents.map_or(extent, |(first, _)| first), extent));
        self.last = Some(Last {
            seq,
            end_sample: header.end_sample(),
            digest,
        });
        self.chunks += 1;
        Ok(())
    }

    /// The cut lies in the chunk and starts where the cut before it ended.
    fn cut(&mut self, chunk: &Accepted) -> Result<(), Fault> {
        let (from, to) = (chunk.from_sample, chunk.to_sample);
        let inside = chunk.header.first_sample <= from && from <= to && to <= chunk.header.end_sample();
        let tiles = self.cut.is_none_or(|(_, end)| end == from);
        if !inside || !tiles {
            return Err(Fault::Cut { seq: chunk.header.seq });
        }
        let start = self.cut.map_or(from, |(start, _)| start);
        self.cut = Some((start, to));
        Ok(())
    }

    fn count_columns(&self, chunk: &Accepted) -> Result<(), Fault> {
        let expected = if chunk.has_samples() {
            self.present(&chunk.header).count()
        } else {
            0
        };
        let found = chunk.columns.len();
        if expected == found {
            Ok(())
        } else {
            Err(Fault::Columns {
                seq: chunk.header.seq,
                expected,
                found,
            })
        }
    }

    /// The columns asked for that carry samples: place in the definition, encoding, hash.
    fn present<'a>(&'a self, header: &'a Header) -> impl Iterator<Item = (usize, Encoding, Hash)> + 'a {
        self.asked
            .iter()
            .filter_map(|signal| match header.columns[*signal].content {
                ColumnContent::Present { encoding, hash } => Some((*signal, encoding, hash)),
                ColumnContent::Absent(_) => None,
            })
    }

    fn count_samples(&mut self, chunk: &Accepted) {
        if chunk.has_samples() && self.present(&chunk.header).next().is_some() {
            self.sample_count += chunk.count();
        } else {
            self.gap_sample_count += chunk.count();
        }
        let gaps = self.gaps_of(chunk);
        self.gaps.extend(gaps);
    }

    /// What is missing in a chunk, within its cut: all of it, or the signals of each reason.
    pub(crate) fn gaps_of(&self, chunk: &Accepted) -> Vec<Gap> {
        let header = &chunk.header;
        let gap = |reason, signals| {
            let ns = |sample: u64| {
                header
                    .utc_ns
                    .saturating_add(self.info.definition.duration_ns(sample - header.first_sample))
            };
            Gap {
                stream: self.info.id(),
                device: self.info.definition.device.clone(),
                first_sample: chunk.from_sample,
                count: chunk.count(),
                reason,
                from_ns: ns(chunk.from_sample),
                to_ns: ns(chunk.to_sample),
                signals,
            }
        };
        match header.kind {
            _ if chunk.count() == 0 => Vec::new(),
            _ if chunk.quarantined => vec![gap(Reason::Quarantined, Vec::new())],
            ChunkKind::Gap => vec![gap(header.reason, Vec::new())],
            ChunkKind::End => Vec::new(),
            ChunkKind::Samples => {
                let mut by_reason: Vec<(Reason, Vec<String>)> = Vec::new();
                for signal in &self.asked {
                    let ColumnContent::Absent(reason) = header.columns[*signal].content else {
                        continue;
                    };
                    let name = self.info.definition.signals[*signal].name.clone();
                    match by_reason.iter_mut().find(|(known, _)| *known == reason) {
                        Some((_, names)) => names.push(name),
                        None => by_reason.push((reason, vec![name])),
                    }
                }
                by_reason
                    .into_iter()
                    .map(|(reason, names)| gap(reason, names))
                    .collect()
            }
        }
    }

    /// Decodes the samples of a chunk into `columns` (one per signal asked for), proves them, and cuts them.
    pub(crate) fn decode(&self, chunk: &Accepted, decoder: &mut Decoder, columns: &mut [Column]) -> Result<(), Fault> {
        let mut encoded = chunk.columns.iter();
        for column in columns {
            let place = chunk.header.columns[column.signal];
            match place.content {
                ColumnContent::Absent(reason) => column.set_absent(reason, chunk.count()),
                ColumnContent::Present { encoding, hash } => {
                    let bytes = encoded.next().expect("count_columns compared their numbers");
                    self.decode_column(chunk, decoder, (encoding, bytes, hash), column)?;
                    column.cut(chunk.from_sample - chunk.header.first_sample, chunk.count());
                }
            }
        }
        Ok(())
    }

    fn decode_column(
        &self,
        chunk: &Accepted,
        decoder: &mut Decoder,
        (encoding, bytes, expected): (Encoding, &Bytes, Hash),
        column: &mut Column,
    ) -> Result<(), Fault> {
        let signal = &self.info.definition.signals[column.signal];
        let count = u32::try_from(chunk.header.count).expect("validated: a samples chunk has at most 65,536 samples");
        let (seq, name) = (chunk.header.seq, || signal.name.clone());
        decoder
            .decode_into(encoding, signal.sample_type, count as usize, bytes, column.buffer())
            .map_err(|why| Fault::Decode {
                seq,
                signal: name(),
                why,
            })?;
        if hash::column_hash(signal.number, signal.sample_type, count, column.buffer()) != expected {
            return Err(Fault::ColumnHash { seq, signal: name() });
        }
        Ok(())
    }
}

/// What even a quarantined header keeps to: numbers that can be counted on from.
fn countable(header: &Header) -> Result<(), BadHeader> {
    if header.first_seq == 0 || header.seq < header.first_seq || header.seq > limits::SEQ_MAX {
        return Err(BadHeader::Seq {
            first_seq: header.first_seq,
            seq: header.seq,
        });
    }
    if header.first_sample.max(header.count) > limits::SAMPLE_ID_MAX {
        return Err(BadHeader::Count(header.count));
    }
    if header.columns.len() > limits::SIGNALS_MAX {
        Err(BadHeader::Columns)
    } else {
        Ok(())
    }
}

/// The header and digest of a chunk whose frame hash holds; `None` where it does not.
fn intact(chunk: &v1::Chunk) -> Result<(Header, Hash), Option<wire::ChunkFault>> {
    let columns = chunk.columns.iter().map(|column| &column[..]);
    if chunk.frame_hash[..] != hash::frame_hash(&chunk.header, &chunk.digest, columns).as_bytes()[..] {
        return Err(None);
    }
    let digest =
        Hash::from_slice(&chunk.digest).map_err(|_| Some(wire::ChunkFault::Malformed("the digest is not 16 bytes")))?;
    Ok((wire::header_from_bytes(&chunk.header).map_err(Some)?, digest))
}
