//! Chunks of a selection as they are committed, verified.
//!
//! # Invariants
//! - I1: whoever asks again from [`Tail::cursors`] misses nothing and gets nothing twice: a cursor moves when its chunk is handed out.
//! - I14: as for every answer, nothing is handed out before its hashes were checked. Of a stream's first chunk the digest is checked
//!   against the cursor's, where that is known.
//! - I12: one chunk is held, and a cursor and a definition for each of at most as many streams as the server allows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use wavekeep_proto::chunk::Header;
use wavekeep_proto::codec::Decoder;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::v1;
use wavekeep_proto::v1::tail_part::Part as Wire;

use crate::limits::STREAMS_MAX;
use crate::listing::Gap;
use crate::stream_info::StreamInfo;
use crate::verify::{Accepted, StreamCheck};
use crate::waveform::Block;
use crate::{Column, Error, Fault, Selection, TimeRange};

/// A place in a stream: after the chunk with this seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// 0 before the first chunk.
    pub seq: u64,
    /// Of the capture, there; None where it is not known.
    pub digest: Option<Hash>,
    /// The sample that comes next; None where it is not known.
    pub next_sample: Option<u64>,
}

/// Where whoever follows stands, stream by stream. It can be kept, and followed from later.
pub type Cursors = BTreeMap<StreamId, Cursor>;

/// From where on to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailFrom {
    /// What is committed from now on; streams that begin later are whole.
    Now,
    /// Everything that is stored, and then what comes.
    Start,
    /// What was not there at these cursors, and then what comes.
    After(Cursors),
}

impl TailFrom {
    pub(crate) fn to_wire(&self) -> (Vec<v1::ChunkCursor>, bool) {
        let cursor = |(stream, cursor): (&StreamId, &Cursor)| v1::ChunkCursor {
            stream_id: stream.to_vec().into(),
            seq: cursor.seq,
            digest: Vec::new().into(),
        };
        match self {
            Self::Now => (Vec::new(), false),
            Self::Start => (Vec::new(), true),
            Self::After(cursors) => (cursors.iter().map(cursor).collect(), true),
        }
    }
}

/// A chunk that was committed.
#[derive(Debug)]
pub struct Committed<'a> {
    /// Of this stream.
    pub stream: &'a StreamInfo,
    /// What it covers: samples, a gap, or the end.
    pub header: &'a Header,
    /// When it was committed, by the database's clock, in nanoseconds.
    pub loaded_at_ns: i64,
    /// Its samples; None where it has none, or where none of them were asked for.
    pub block: Option<Block<'a>>,
    /// What is missing in it, and why.
    pub gaps: Vec<Gap>,
    /// Chunks before it that are not stored any more, by their seqs.
    pub expired: Option<RangeInclusive<u64>>,
}

#[derive(Debug)]
struct Followed {
    check: StreamCheck,
    asked: Vec<usize>,
    columns: Vec<Column>,
}

impl Followed {
    fn new(info: Arc<StreamInfo>, asked: Vec<usize>) -> Self {
        let column = |signal: &usize| Column::new(*signal, info.definition.signals[*signal].sample_type);
        Self {
            columns: asked.iter().map(column).collect(),
            check: StreamCheck::new(info, asked.clone(), TimeRange::default()),
            asked,
        }
    }

    /// Forgets the chunks before: the next one is held against the cursor alone.
    fn begin_anew(&mut self) {
        self.check = StreamCheck::new(self.check.info.clone(), self.asked.clone(), TimeRange::default());
    }
}

/// See the module's documentation.
pub struct Tail {
    answer: tonic::Streaming<v1::TailPart>,
    selection: Selection,
    streams: BTreeMap<StreamId, Followed>,
    cursors: Cursors,
    decoder: Decoder,
    has_begun: bool,
    /// The one that was handed out last.
    accepted: Option<Accepted>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tail")
            .field("streams", &self.cursors.len())
            .finish()
    }
}

impl Tail {
    pub(crate) fn new(answer: tonic::Streaming<v1::TailPart>, selection: Selection, from: TailFrom) -> Self {
        Self {
            answer,
            selection,
            streams: BTreeMap::new(),
            cursors: match from {
                TailFrom::Now | TailFrom::Start => Cursors::new(),
                TailFrom::After(cursors) => cursors,
            },
            decoder: Decoder::new(),
            has_begun: false,
            accepted: None,
        }
    }

    /// Where it stands: after what was handed out.
    #[must_use]
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// Has the server said where the streams stand? Then [`Self::cursors`] are where to follow anew from.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Waits until the server has said where the streams stand. Whoever follows from now on gets what is committed after this returns,
    /// and a bit of what was committed while it was asked. Cancel-safe.
    pub async fn begin(&mut self) -> Result<(), Error> {
        while !self.has_begun {
            match self.message().await?.part {
                Some(Wire::Start(start)) => self.take_start(&start)?,
                _ => return Err(Error::Malformed("it does not begin with where the streams stand")),
            }
        }
        Ok(())
    }

    /// The next chunk, when there is one. After an error there is nothing more: follow anew from [`Self::cursors`], where
    /// [`Error::is_passing`]. Cancel-safe.
    pub async fn next(&mut self) -> Result<Committed<'_>, Error> {
        self.begin().await?;
        let wire = loop {
            match self.message().await?.part {
                Some(Wire::Stream(info)) => self.take_stream(info)?,
                Some(Wire::Chunk(chunk)) => break chunk,
                Some(Wire::Start(_)) => return Err(Error::Malformed("it begins twice")),
                None => return Err(Error::Malformed("an unknown part")),
            }
        };
        self.take_chunk(wire)
    }

    async fn message(&mut self) -> Result<v1::TailPart, Error> {
        let message = self.answer.message().await;
        let message = message.map_err(|status| Error::interrupted(&status))?;
        message.ok_or_else(|| Error::Interrupted("the server ended it".into()))
    }

    fn take_start(&mut self, start: &v1::TailStart) -> Result<(), Error> {
        for wire in &start.after {
            let stream =
                StreamId::from_slice(&wire.stream_id).map_err(|_| Error::Malformed("a cursor has no stream"))?;
            let cursor = Cursor {
                seq: wire.seq,
                digest: Hash::from_slice(&wire.digest).ok(),
                next_sample: None,
            };
            // What is known here is more than what the server says.
            self.cursors.entry(stream).or_insert(cursor);
        }
        self.has_begun = true;
        Ok(())
    }

    fn take_stream(&mut self, info: v1::StreamInfo) -> Result<(), Error> {
        let info = Arc::new(StreamInfo::from_wire(info)?);
        let asked = info.asked(self.selection.signal_names());
        if !self.selection.admits(&info) || self.streams.len() == STREAMS_MAX {
            return Err(Error::Malformed("a stream that does not belong to the answer"));
        }
        self.streams.insert(info.id(), Followed::new(info, asked));
        Ok(())
    }

    fn take_chunk(&mut self, wire: v1::WaveformChunk) -> Result<Committed<'_>, Error> {
        let stream = StreamId::from_slice(&wire.stream_id).map_err(|_| Error::Malformed("a chunk has no stream"))?;
        let followed = self.streams.get_mut(&stream);
        let followed = followed.ok_or(Error::Malformed("a chunk before its stream"))?;
        let refuted = |fault| Error::Refuted { stream, fault };
        let before = self.cursors.get(&stream).copied();
        let loaded_at_ns = wire.loaded_at_ns;
        let (accepted, expired) = next_chunk(followed, before, wire).map_err(refuted)?;
        let gaps = followed.check.gaps_of(&accepted);
        if accepted.has_samples() {
            let decoded = followed
                .check
                .decode(&accepted, &mut self.decoder, &mut followed.columns);
            decoded.map_err(refuted)?;
        }
        let cursor = Cursor {
            seq: accepted.header.seq,
            digest: Some(followed.check.last_digest()),
            next_sample: Some(accepted.header.end_sample()),
        };
        self.cursors.insert(stream, cursor);
        let accepted = &*self.accepted.insert(accepted);
        let block = (accepted.has_samples() && !followed.columns.is_empty()).then(|| Block {
            stream: &followed.check.info,
            first_sample: accepted.from_sample,
            count: accepted.count(),
            utc_ns: accepted.header.utc_ns,
            columns: &followed.columns,
        });
        Ok(Committed {
            stream: &followed.check.info,
            header: &accepted.header,
            loaded_at_ns,
            block,
            gaps,
            expired,
        })
    }
}

/// Holds a chunk against the one before it, or against where the caller stood; answers which seqs before it are gone.
fn next_chunk(
    followed: &mut Followed,
    before: Option<Cursor>,
    wire: v1::WaveformChunk,
) -> Result<(Accepted, Option<RangeInclusive<u64>>), Fault> {
    let before = before.unwrap_or(Cursor {
        seq: 0,
        digest: None,
        next_sample: None,
    });
    let mut accepted = match followed.check.chunk(wire.clone()) {
        // The server was set back meanwhile, and what it lost stands in one gap with what came before.
        Err(Fault::MissingChunk { expected, found }) if found < expected => {
            followed.begin_anew();
            followed.check.chunk(wire)?
        }
        accepted => accepted?,
    };
    // A chunk that is followed is whole, and no manifest would tell that it is not.
    let header = &accepted.header;
    if (accepted.from_sample, accepted.to_sample) != (header.first_sample, header.end_sample()) {
        return Err(Fault::Cut { seq: header.seq });
    }
    // Who follows has each gap handed out at once.
    followed.check.gaps.clear();
    let first_seq = accepted.header.first_seq;
    if first_seq <= before.seq {
        let missing = Fault::MissingChunk {
            expected: before.seq + 1,
            found: first_seq,
        };
        if !accepted.header.is_replacing() || accepted.header.seq <= before.seq {
            return Err(missing);
        }
        // The caller has the first part of it.
        let from = before.next_sample.unwrap_or(accepted.from_sample);
        accepted.from_sample = from.clamp(accepted.from_sample, accepted.to_sample);
        return Ok((accepted, None));
    }
    if first_seq > before.seq + 1 {
        return Ok((accepted, Some(before.seq + 1..=first_seq - 1)));
    }
    if followed.check.chunks == 1 && before.digest.is_some_and(|digest| !followed.check.follows(digest)) {
        return Err(Fault::Digest {
            seq: accepted.header.seq,
        });
    }
    Ok((accepted, None))
}
