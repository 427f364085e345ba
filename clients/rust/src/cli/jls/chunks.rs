//! The chunks of a JLS v2 file: headers, checksums, and the lists that run through them. Pure over `Write + Seek`.
//!
//! # Invariants
//! - Chunks stand one behind the other at multiples of 8 bytes, each with the length of the one before it.
//! - A chunk of a list names the one before it, and is named by it once it is there: that header is written again.

use std::io::{self, Seek, SeekFrom, Write};

const IDENTIFICATION: [u8; 16] = *b"jlsfmt\r\n \n \x1a  \xb2\x1c";
/// 1.0.0.
const VERSION: u32 = 1 << 24;
const FILE_HEADER_BYTES: u64 = 32;
const CHUNK_HEADER_BYTES: u64 = 32;
const ALIGNMENT: usize = 8;

/// What a chunk is. A track's tags begin with that of its definition.
pub(super) mod tag {
    pub(in super::super) const SOURCE: u8 = 0x01;
    pub(in super::super) const SIGNAL: u8 = 0x02;
    pub(in super::super) const FIXED_RATE: u8 = 0x20;
    pub(in super::super) const VARIABLE_RATE: u8 = 0x28;
    pub(in super::super) const ANNOTATION: u8 = 0x30;
    pub(in super::super) const UTC: u8 = 0x38;
    pub(in super::super) const USER_DATA: u8 = 0x40;
    pub(in super::super) const END: u8 = 0xff;
    /// Added to a track's.
    pub(in super::super) const HEAD: u8 = 1;
    pub(in super::super) const DATA: u8 = 2;
    pub(in super::super) const INDEX: u8 = 3;
    pub(in super::super) const SUMMARY: u8 = 4;
}

/// What a chunk is about: a signal's number, and its level above the samples.
pub(super) fn meta(signal: u16, level: usize) -> u16 {
    signal | (level as u16) << 12
}

/// A list: its last chunk, whose header is written again when the next one comes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct List {
    last: Option<(u64, [u8; CHUNK_HEADER_BYTES as usize])>,
}

/// Where the next chunk goes.
#[derive(Debug)]
pub(super) struct Chunks {
    end: u64,
    payload_bytes_before: u32,
}

fn sealed(mut header: [u8; 32]) -> [u8; 32] {
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn file_header(bytes: u64) -> [u8; 32] {
    let mut header = [0; 32];
    header[..16].copy_from_slice(&IDENTIFICATION);
    header[16..24].copy_from_slice(&bytes.to_le_bytes());
    header[24..28].copy_from_slice(&VERSION.to_le_bytes());
    sealed(header)
}

/// Payload, padding, checksum.
fn on_disk(payload: &[u8]) -> Vec<u8> {
    if payload.is_empty() {
        return Vec::new();
    }
    let length = (payload.len() + 4).next_multiple_of(ALIGNMENT);
    let mut bytes = payload.to_vec();
    bytes.resize(length - 4, 0);
    bytes.extend(crc32c::crc32c(payload).to_le_bytes());
    bytes
}

impl Chunks {
    /// Begins a file that is not closed yet.
    pub(super) fn begin(out: &mut impl Write) -> io::Result<Self> {
        out.write_all(&file_header(0))?;
        Ok(Self {
            end: FILE_HEADER_BYTES,
            payload_bytes_before: 0,
        })
    }

    /// Appends a chunk to the file and to a list; where it stands.
    pub(super) fn append(
        &mut self,
        out: &mut (impl Write + Seek),
        list: &mut List,
        tag: u8,
        meta: u16,
        payload: &[u8],
    ) -> io::Result<u64> {
        let offset = self.end;
        let payload_bytes = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut header = [0; 32];
        if let Some((before, header_before)) = &mut list.last {
            header[8..16].copy_from_slice(&before.to_le_bytes());
            header_before[..8].copy_from_slice(&offset.to_le_bytes());
            out.seek(SeekFrom::Start(*before))?;
            out.write_all(&sealed(*header_before))?;
            out.seek(SeekFrom::Start(offset))?;
        }
        header[16] = tag;
        header[18..20].copy_from_slice(&meta.to_le_bytes());
        header[20..24].copy_from_slice(&payload_bytes.to_le_bytes());
        header[24..28].copy_from_slice(&self.payload_bytes_before.to_le_bytes());
        let bytes = on_disk(payload);
        out.write_all(&sealed(header))?;
        out.write_all(&bytes)?;
        self.end = offset + CHUNK_HEADER_BYTES + bytes.len() as u64;
        self.payload_bytes_before = payload_bytes;
        list.last = Some((offset, header));
        Ok(offset)
    }

    /// Writes another payload of the same length over that of the chunk at `offset`.
    pub(super) fn replace(&self, out: &mut (impl Write + Seek), offset: u64, payload: &[u8]) -> io::Result<()> {
        out.seek(SeekFrom::Start(offset + CHUNK_HEADER_BYTES))?;
        out.write_all(&on_disk(payload))?;
        out.seek(SeekFrom::Start(self.end)).map(|_| ())
    }

    /// Ends the file, which is whole from then on; its length.
    pub(super) fn finish(mut self, out: &mut (impl Write + Seek)) -> io::Result<u64> {
        self.append(out, &mut List::default(), tag::END, 0, &[])?;
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&file_header(self.end))?;
        out.seek(SeekFrom::Start(self.end))?;
        Ok(self.end)
    }
}

/// Before the entries of a payload.
pub(super) fn payload(first: i64, count: usize, entry_bits: u16, entries: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + entries);
    bytes.extend(first.to_le_bytes());
    bytes.extend((count as u32).to_le_bytes());
    bytes.extend(entry_bits.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// A string as definitions hold it.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| !matches!(byte, 0 | 0x1f)));
    out.extend([0, 0x1f]);
}
