//! The file of an export, and `--format raw`: the samples' own little-endian bytes, several signals interleaved in the order of the
//! stream.
//!
//! # Invariants
//! - A file appears under its name whole, synced, or not at all: it is written beside it and renamed. Links are followed first,
//!   so that neither a link nor a device is ever replaced; pipes, character devices and standard output are written to as they are.
//! - No sample is invented: what is missing becomes NaN where that was asked for, never zero.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use wavekeep::Column;
use wavekeep::proto::stream::SampleType;

use super::failure::Failure;
use super::limits::{FILL_SAMPLES, WRITE_BYTES};

/// Where the samples go. Dropping an unfinished one removes what was written, where that can be undone.
pub(super) struct RawFile {
    path: PathBuf,
    /// What gets the name once it is whole; None where there is nothing to rename.
    partial: Option<PathBuf>,
    /// Are samples written where results are printed?
    pub(super) is_stdout: bool,
    out: Option<BufWriter<File>>,
    pub(super) bytes: u64,
}

impl RawFile {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::Failed(format!("cannot write {}: {why}", path.display()));
        let path = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(failed(&"it is a directory; name a file in it")),
            Ok(found) if is_stdout(&found) => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let out = File::from(stdout.map_err(|error| failed(&error))?);
                return Ok(Self::new(path, None, true, out));
            }
            Ok(found) if found.file_type().is_fifo() || found.file_type().is_char_device() => {
                let out = File::options().write(true).open(path);
                return Ok(Self::new(path, None, false, out.map_err(|error| failed(&error))?));
            }
            Ok(found) if !found.is_file() => return Err(failed(&"it is neither a file nor a pipe; name a file")),
            // The file that a link leads to is replaced, not the link.
            Ok(_) => path.canonicalize().map_err(|error| failed(&error))?,
            Err(_) if path.is_symlink() => {
                let why = "it is a link to a file that cannot be found; name that file, or remove the link";
                return Err(failed(&why));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(failed(&error)),
        };
        let name = path.file_name().ok_or_else(|| failed(&"it names no file"))?;
        let partial = path.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
        let file = File::create(&partial).map_err(|error| failed(&error))?;
        Ok(Self::new(&path, Some(partial), false, file))
    }

    fn new(path: &Path, partial: Option<PathBuf>, is_stdout: bool, out: File) -> Self {
        Self {
            path: path.into(),
            partial,
            is_stdout,
            out: Some(BufWriter::with_capacity(WRITE_BYTES, out)),
            bytes: 0,
        }
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!("cannot write {}: {error}", self.path.display()))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let out = self.out.as_mut().expect("written to before it is finished");
        out.write_all(bytes).map_err(|error| self.failed(&error))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes at any place; only of what can be rewritten.
    pub(super) fn at<T>(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> Result<T, Failure> {
        let out = self.out.as_mut().expect("written to before it is finished");
        write(out).map_err(|error| self.failed(&error))
    }

    /// Can its beginning be written again at the end?
    pub(super) fn can_rewrite(&self) -> bool {
        self.partial.is_some()
    }

    /// Writes the rest, and `head` over its beginning; syncs a file and gives it its name.
    pub(super) fn finish(mut self, head: &[u8]) -> Result<u64, Failure> {
        let out = self.out.take().expect("finished once");
        let named = out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| {
                let Some(partial) = &self.partial else {
                    return Ok(());
                };
                file.write_all_at(head, 0)?;
                file.sync_all()?;
                std::fs::rename(partial, &self.path)?;
                let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
            });
        named.map_err(|error| self.failed(&error))?;
        Ok(self.bytes)
    }
}

impl Drop for RawFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Renamed, it is no longer there under this name; and what cannot be removed is named `.partial`.
            let _ = std::fs::remove_file(partial);
        }
    }
}

fn is_stdout(found: &Metadata) -> bool {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let stdout = stdout.and_then(|stdout| stdout.metadata());
    stdout.is_ok_and(|stdout| {
        let place = |file: &Metadata| (file.dev(), file.ino(), file.rdev());
        place(&stdout) == place(found)
    })
}

/// Turns columns into the bytes of the file.
pub(super) struct Interleaver {
    types: Vec<SampleType>,
    buffer: Vec<u8>,
    /// Bits of a packed signal that do not fill a byte yet, and how many.
    pending: (u8, u64),
}

impl Interleaver {
    /// Refuses what cannot be interleaved.
    pub(super) fn new(types: Vec<SampleType>) -> Result<Self, Failure> {
        if types.len() > 1 && types.iter().any(|sample_type| sample_type.bits() < 8) {
            let sentence = "signals of less than a byte cannot be interleaved: export them one by one, with --signal";
            return Err(Failure::Failed(sentence.into()));
        }
        Ok(Self {
            types,
            buffer: Vec::new(),
            pending: (0, 0),
        })
    }

    fn is_packed(&self) -> bool {
        self.types.iter().any(|sample_type| sample_type.bits() < 8)
    }

    /// The bytes of `count` samples of all columns; an absent column gives NaN, and is only asked for where that exists.
    pub(super) fn bytes<'a>(&'a mut self, columns: &'a [Column], count: u64) -> &'a [u8] {
        match columns {
            [column] if self.is_packed() => self.pack(column.bytes().unwrap_or_default(), count),
            [column] if column.absent.is_none() => column.bytes().unwrap_or_default(),
            columns => {
                let stride: usize = self.types.iter().map(|sample_type| sample_type.bytes(1) as usize).sum();
                self.buffer.clear();
                self.buffer.resize(stride * count as usize, 0);
                let mut offset = 0;
                for (column, sample_type) in columns.iter().zip(&self.types) {
                    let place = (offset, stride);
                    match (column.bytes(), sample_type.bytes(1)) {
                        (None, _) => scatter_nan(&mut self.buffer, place, *sample_type),
                        (Some(bytes), 4) => scatter::<4>(&mut self.buffer, place, bytes),
                        (Some(bytes), 8) => scatter::<8>(&mut self.buffer, place, bytes),
                        (Some(bytes), 2) => scatter::<2>(&mut self.buffer, place, bytes),
                        (Some(bytes), 1) => scatter::<1>(&mut self.buffer, place, bytes),
                        (Some(bytes), _) => scatter::<16>(&mut self.buffer, place, bytes),
                    }
                    offset += sample_type.bytes(1) as usize;
                }
                &self.buffer
            }
        }
    }

    /// Appends packed samples to the bits before them; gives the bytes that are full.
    fn pack(&mut self, bytes: &[u8], count: u64) -> &[u8] {
        let (mut carry, used) = self.pending;
        let bits = count * u64::from(self.types[0].bits());
        self.buffer.clear();
        for byte in bytes {
            self.buffer.push(carry | byte.wrapping_shl(used as u32));
            carry = if used == 0 { 0 } else { byte >> (8 - used) };
        }
        let full = ((used + bits) / 8) as usize;
        if self.buffer.len() > full {
            carry = self.buffer[full];
            self.buffer.truncate(full);
        }
        self.pending = (carry, (used + bits) % 8);
        &self.buffer
    }

    /// The last bits of a packed signal, with zero padding.
    pub(super) fn rest(&self) -> Option<u8> {
        (self.pending.1 > 0).then_some(self.pending.0)
    }

    /// NaN of all signals, `count` times, in pieces.
    pub(super) fn fill(
        &mut self,
        count: u64,
        mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let sample: Vec<u8> = self
            .types
            .iter()
            .flat_map(|sample_type| nan(*sample_type))
            .copied()
            .collect();
        let piece = sample.repeat(count.min(FILL_SAMPLES) as usize);
        let mut left = count;
        while left > 0 {
            let now = left.min(FILL_SAMPLES);
            write(&piece[..sample.len() * now as usize])?;
            left -= now;
        }
        Ok(())
    }
}

/// Does the type have a value that says "missing"?
pub(super) fn has_nan(sample_type: SampleType) -> bool {
    matches!(sample_type, SampleType::F32 | SampleType::F64)
}

pub(super) fn nan(sample_type: SampleType) -> &'static [u8] {
    match sample_type {
        SampleType::F32 => &[0, 0, 0xc0, 0x7f],
        SampleType::F64 => &[0, 0, 0, 0, 0, 0, 0xf8, 0x7f],
        _ => unreachable!("what has no NaN is refused before it is filled"),
    }
}

fn scatter<const WIDTH: usize>(out: &mut [u8], (offset, stride): (usize, usize), samples: &[u8]) {
    for (place, sample) in out.chunks_exact_mut(stride).zip(samples.as_chunks::<WIDTH>().0) {
        place[offset..offset + WIDTH].copy_from_slice(sample);
    }
}

fn scatter_nan(out: &mut [u8], (offset, stride): (usize, usize), sample_type: SampleType) {
    let sample = nan(sample_type);
    for place in out.chunks_exact_mut(stride) {
        place[offset..offset + sample.len()].copy_from_slice(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_join_without_padding() {
        let mut packed = Interleaver::new(vec![SampleType::U1]).expect("one signal");
        let mut bytes = packed.pack(&[0b101], 3).to_vec();
        bytes.extend(packed.pack(&[0b1111_0000, 0b1], 9).to_vec());
        bytes.extend(packed.pack(&[0b1010], 4).to_vec());
        assert_eq!((bytes, packed.rest()), (vec![0b1000_0101, 0b1010_1111], None));
        let mut nibbles = Interleaver::new(vec![SampleType::U4]).expect("one signal");
        assert_eq!(
            (nibbles.pack(&[0x21, 0x03], 3).to_vec(), nibbles.rest()),
            (vec![0x21], Some(3))
        );
    }

    #[test]
    fn samples_are_interleaved_in_signal_order_and_filled_with_nan() {
        let mut out = vec![0; 12];
        scatter::<4>(&mut out, (0, 6), &[1, 2, 3, 4, 5, 6, 7, 8]);
        scatter::<2>(&mut out, (4, 6), &[9, 10, 11, 12]);
        assert_eq!(out, [1, 2, 3, 4, 9, 10, 5, 6, 7, 8, 11, 12]);
        let mut filled = Vec::new();
        let mut interleaver = Interleaver::new(vec![SampleType::F32, SampleType::F64]).expect("whole bytes");
        let all = interleaver.fill(FILL_SAMPLES + 1, |bytes| {
            filled.extend_from_slice(bytes);
            Ok(())
        });
        assert!(all.is_ok() && filled.len() as u64 == (FILL_SAMPLES + 1) * 12);
        assert!(f32::from_le_bytes([filled[0], filled[1], filled[2], filled[3]]).is_nan());
    }

    #[test]
    fn packed_signals_are_not_interleaved() {
        assert!(Interleaver::new(vec![SampleType::F32, SampleType::U1]).is_err());
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("out.raw");
        let files = || std::fs::read_dir(directory.path()).expect("it is there").count();
        let mut file = RawFile::create(&path).expect("created");
        file.write(&[1, 2, 3]).expect("written");
        assert!(!path.exists() && files() == 1);
        drop(file);
        assert_eq!(files(), 0);
        let mut file = RawFile::create(&path).expect("created");
        file.write(&[1, 2, 3]).expect("written");
        assert_eq!(file.finish(&[9]).expect("finished"), 3);
        assert_eq!(
            (std::fs::read(&path).expect("it is there"), files()),
            (vec![9, 2, 3], 1)
        );
        assert!(RawFile::create(directory.path()).is_err());
    }
}
