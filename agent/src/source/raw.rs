//! A recorded file of raw samples: little-endian, signals interleaved, nothing else in it.
//!
//! # Invariants
//! - I13: every byte of the file becomes a sample, bit for bit; a file that is not whole samples is refused.

use std::path::Path;

use wavekeep_proto::stream::SampleType;

use super::FileError;
use super::file::{self, FileSource, FirstReading, Given, Recording};
use super::frames::Frames;
use crate::stop::StopToken;

const FORMAT: &str = "raw";

/// Reads the whole file once, to know what it is. `progress` is told how many bytes are done. Samples are f32, of `current:A`, unless
/// something else is given.
///
/// # Panics
/// If the given type is a packed one.
pub fn open(
    path: &Path,
    given: &Given,
    stop: &StopToken,
    progress: &mut dyn FnMut(u64),
) -> Result<FileSource, FileError> {
    let (rate_hz, start_ns) = (given.rate_hz(FORMAT)?, given.start_ns(FORMAT)?);
    let sample_type = given.sample_type.unwrap_or(SampleType::F32);
    assert!(sample_type.bits() >= 8, "raw files have whole bytes");
    let default = [("current".to_owned(), "A".to_owned())];
    let names = if given.signals.is_empty() {
        &default
    } else {
        &given.signals[..]
    };
    let signals = file::signals(names, sample_type);
    let mut reading = FirstReading::start(path, stop, progress)?;
    let frames = Frames {
        offset: 0,
        frame_bytes: Frames::bytes_of(&signals),
    };
    let (bytes, frame_bytes) = (reading.bytes(), frames.frame_bytes);
    let rest = bytes % frame_bytes;
    if rest != 0 {
        return Err(FileError::OddSize {
            path: path.into(),
            bytes,
            frame_bytes,
            signals: signals.len(),
            sample_type: sample_type.name(),
            rest,
        });
    }
    let content = frames.hash(&mut reading)?.finish();
    let recording = Recording {
        device: given.device.clone(),
        signals,
        rate_hz,
        start_ns,
        content,
        sample_count: bytes / frame_bytes,
        markers: Vec::new(),
    };
    reading.finish(recording, frames, given.speed)
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
