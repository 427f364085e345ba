//! Samples of a fixed size, interleaved, from some byte of a file on to its end: the part that most formats have.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use wavekeep_proto::stream::Signal;

use super::FileError;
use super::file::{Content, Cursor, FirstReading, Format, Piece};
use crate::limits::FILE_READ_BYTES;

/// Where they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames {
    /// The byte that they start at.
    pub(super) offset: u64,
    /// Bytes of one sample of all signals.
    pub(super) frame_bytes: u64,
}

impl Frames {
    /// Bytes of one sample of these signals.
    pub(super) fn bytes_of(signals: &[Signal]) -> u64 {
        signals.iter().map(|signal| signal.sample_type.bytes(1)).sum()
    }

    /// Hashes all of them.
    pub(super) fn hash(&self, reading: &mut FirstReading<'_>) -> Result<Content, FileError> {
        let mut content = Content::default();
        let mut done = self.offset;
        let sought = reading.file.seek(SeekFrom::Start(done));
        sought.map_err(|error| reading.unreadable(error))?;
        let mut buffer = vec![0; FILE_READ_BYTES];
        loop {
            reading.done(done)?;
            let read = reading.file.read(&mut buffer);
            let read = read.map_err(|error| reading.unreadable(error))?;
            if read == 0 {
                break;
            }
            content.samples(&buffer[..read]);
            done += read as u64;
        }
        if done != reading.bytes() {
            let path = reading.path.into();
            return Err(FileError::Changed { path });
        }
        Ok(content)
    }
}

impl Format for Frames {
    fn cursor(&self, file: File, sample: u64) -> io::Result<Box<dyn Cursor>> {
        let mut reader = BufReader::with_capacity(FILE_READ_BYTES, file);
        reader.seek(SeekFrom::Start(self.offset + sample * self.frame_bytes))?;
        let frame_bytes = self.frame_bytes;
        Ok(Box::new(FramesCursor { reader, frame_bytes }))
    }
}

struct FramesCursor {
    reader: BufReader<File>,
    frame_bytes: u64,
}

impl Cursor for FramesCursor {
    fn next(&mut self, count: u64, frames: &mut Vec<u8>) -> io::Result<Piece> {
        frames.resize((count * self.frame_bytes) as usize, 0);
        self.reader.read_exact(frames)?;
        Ok(Piece::Samples(count))
    }
}

/// One column per signal from interleaved samples; `columns` is where they are made if they are not there already.
pub(super) fn columns_of<'a>(signals: &[Signal], frames: &'a [u8], columns: &'a mut [Vec<u8>]) -> Vec<&'a [u8]> {
    let [first, _, ..] = signals else {
        return vec![frames];
    };
    match first.sample_type.bytes(1) {
        1 => deinterleave::<1>(frames, columns),
        2 => deinterleave::<2>(frames, columns),
        4 => deinterleave::<4>(frames, columns),
        8 => deinterleave::<8>(frames, columns),
        _ => deinterleave::<16>(frames, columns),
    }
    columns.iter().map(Vec::as_slice).collect()
}

fn deinterleave<const BYTES: usize>(frames: &[u8], columns: &mut [Vec<u8>]) {
    let (samples, rest) = frames.as_chunks::<BYTES>();
    assert!(
        rest.is_empty() && samples.len().is_multiple_of(columns.len()),
        "a block is whole samples of all signals"
    );
    let signals = columns.len();
    for (signal, column) in columns.iter_mut().enumerate() {
        column.resize(frames.len() / signals, 0);
        for (to, from) in column
            .as_chunks_mut::<BYTES>()
            .0
            .iter_mut()
            .zip(samples[signal..].iter().step_by(signals))
        {
            *to = *from;
        }
    }
}
