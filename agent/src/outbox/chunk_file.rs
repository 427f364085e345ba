//! A chunk file: what an outbox holds of one stream, as it holds it, outside of any database. The doctor writes them, `replay` reads
//! them: the stream keeps its id, its seqs and its digests, so a server that has a part of it goes on behind that part.
//!
//! Eight bytes that say what it is, then pieces: tag u8, seq u64, bytes of value and of columns u32 each (little-endian), value,
//! columns. The values are those of the outbox (`record`), sealed. The first piece is what the stream is, the second where it stands,
//! the last the hash of all bytes before it: a file that was cut or changed anywhere is refused as a whole.

use std::io::{self, Read, Write};

use wavekeep_proto::chunk::ChunkKind;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits;
use xxhash_rust::xxh3::Xxh3Default;

use super::keys;
use super::record::{Described, Record, State};

/// How the name of one ends.
pub const EXTENSION: &str = "chunks";
const MAGIC: &[u8; 8] = b"WKCHUNK1";
/// A record is its header and little else.
const VALUE_BYTES_MAX: usize = limits::HEADER_BYTES_MAX + 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Described = 1,
    State = 2,
    Chunk = 3,
    End = 4,
}

/// Why a file is not taken. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ChunkFileError {
    #[error("it cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    #[error("this is no chunk file, or one of a later version: `wavekeep-agent outbox export` writes them")]
    Other,
    #[error("it was cut off or damaged after it was written: copy it, or export it, again")]
    Damaged,
}

/// Writes one.
pub(super) struct Writer<W> {
    to: W,
    hash: Xxh3Default,
}

impl<W: Write> Writer<W> {
    pub(super) fn start(to: W, stream: StreamId, described: &Described, state: &[u8]) -> io::Result<Self> {
        let mut writer = Self {
            to,
            hash: Xxh3Default::new(),
        };
        writer.write(MAGIC)?;
        let value = described.to_value(&keys::definition(stream));
        writer.piece(Tag::Described, 0, &value, stream.as_bytes())?;
        writer.piece(Tag::State, 0, state, &[])?;
        Ok(writer)
    }

    /// `data`: empty also where the columns are lost.
    pub(super) fn chunk(&mut self, stream: StreamId, record: &Record, data: &[u8]) -> io::Result<()> {
        let seq = record.header.seq;
        self.piece(Tag::Chunk, seq, &record.to_value(&keys::chunk(stream, seq)), data)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        let hash = self.hash.digest128().to_be_bytes();
        self.piece(Tag::End, 0, &[], &hash)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn piece(&mut self, tag: Tag, seq: u64, value: &[u8], data: &[u8]) -> io::Result<()> {
        let bytes = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        self.write(&[tag as u8])?;
        self.write(&seq.to_le_bytes())?;
        self.write(&bytes(value)?.to_le_bytes())?;
        self.write(&bytes(data)?.to_le_bytes())?;
        self.write(value)?;
        self.write(data)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.to.write_all(bytes)
    }
}

/// A chunk of a file.
#[derive(Debug)]
pub(super) struct FileChunk {
    pub(super) record: Record,
    /// `None`: they are lost, or it has none.
    pub(super) data: Option<Vec<u8>>,
}

/// Reads one: nothing counts before all of it was read, and found whole.
pub struct ChunkFile<R> {
    from: R,
    hash: Xxh3Default,
    stream: StreamId,
    pub(super) described: Described,
    pub(super) state: State,
    /// After the last chunk: seq and sample.
    at: (u64, u64),
}

impl<R: Read> ChunkFile<R> {
    /// Reads what stream it is of.
    pub fn open(mut from: R) -> Result<Self, ChunkFileError> {
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ChunkFileError::Other),
            other => other?,
        }
        if magic != *MAGIC {
            return Err(ChunkFileError::Other);
        }
        let mut hash = Xxh3Default::new();
        hash.update(&magic);
        let damaged = || ChunkFileError::Damaged;
        let described = read_piece(&mut from, &mut hash)?;
        let stream = StreamId::from_slice(&described.data).map_err(|_| damaged())?;
        let of_stream = Described::from_value(&keys::definition(stream), &described.value)
            .filter(|of_stream| described.tag == Tag::Described as u8 && of_stream.definition.id == stream);
        let state = read_piece(&mut from, &mut hash)?;
        let (state, _) = State::from_value(&keys::state(stream), &state.value)
            .filter(|_| state.tag == Tag::State as u8)
            .ok_or_else(damaged)?;
        if state.base.at.seq > state.tail.at.seq || state.base.at.next_sample > state.tail.at.next_sample {
            return Err(damaged());
        }
        Ok(Self {
            from,
            hash,
            stream,
            described: of_stream.ok_or_else(damaged)?,
            at: (state.base.at.seq, state.base.at.next_sample),
            state,
        })
    }

    /// The stream that it is of.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The instrument.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.described.definition.device
    }

    /// The next chunk, checked by its hashes; `None` at the end of a file that is whole.
    pub(super) fn next(&mut self) -> Result<Option<FileChunk>, ChunkFileError> {
        let expected = self.hash.digest128().to_be_bytes();
        let piece = read_piece(&mut self.from, &mut self.hash)?;
        if piece.tag == Tag::End as u8 {
            let ends = self.from.read(&mut [0])? == 0;
            return if ends && piece.data == expected {
                Ok(None)
            } else {
                Err(ChunkFileError::Damaged)
            };
        }
        let record = Record::from_value(&keys::chunk(self.stream, piece.seq), piece.seq, &piece.value)
            .filter(|record| piece.tag == Tag::Chunk as u8 && self.follows(record))
            .ok_or(ChunkFileError::Damaged)?;
        self.at = (record.header.seq, record.header.end_sample());
        let data = Some(piece.data).filter(|data| !data.is_empty());
        if data.as_ref().is_some_and(|data| !record.has_data(data)) {
            return Err(ChunkFileError::Damaged);
        }
        Ok(Some(FileChunk { record, data }))
    }

    /// May it come after the last one, perhaps with a hole before it?
    fn follows(&self, record: &Record) -> bool {
        let (header, tail) = (&record.header, &self.state.tail.at);
        let (seq, sample) = self.at;
        let ends = header.kind == ChunkKind::End;
        header.first_seq > seq
            && header.seq <= tail.seq
            && header.first_sample >= sample
            && header.end_sample() <= tail.next_sample
            && (!ends || tail.ended && header.seq == tail.seq)
            && (ends || header.validate(&self.described.definition).is_ok())
    }
}

struct Piece {
    tag: u8,
    seq: u64,
    value: Vec<u8>,
    data: Vec<u8>,
}

fn read_piece(from: &mut impl Read, hash: &mut Xxh3Default) -> Result<Piece, ChunkFileError> {
    let mut head = [0; 17];
    read(from, &mut head, hash)?;
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let seq = u64::from_le_bytes(head[1..9].try_into().expect("eight bytes are eight"));
    let (value_bytes, data_bytes) = (number(9), number(13));
    if value_bytes > VALUE_BYTES_MAX || data_bytes > limits::CHUNK_COLUMN_BYTES_MAX {
        return Err(ChunkFileError::Damaged);
    }
    let (mut value, mut data) = (vec![0; value_bytes], vec![0; data_bytes]);
    read(from, &mut value, hash)?;
    read(from, &mut data, hash)?;
    Ok(Piece {
        tag: head[0],
        seq,
        value,
        data,
    })
}

fn read(from: &mut impl Read, bytes: &mut [u8], hash: &mut Xxh3Default) -> Result<(), ChunkFileError> {
    match from.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ChunkFileError::Damaged),
        other => other?,
    }
    hash.update(bytes);
    Ok(())
}
