//! A trace of EEMBC EnergyRunner: a version byte (0xf1), the samples per second as f32, then the energy of each sample in µJ as f32,
//! all little-endian. The edges that the device under test gave are in a file beside it, in seconds: they become markers.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use wavekeep_proto::chunk::Marker;
use wavekeep_proto::limits::RATE_HZ_MAX;
use wavekeep_proto::stream::SampleType;

use super::FileError;
use super::file::{self, FileSource, FirstReading, Given, Recording};
use super::frames::Frames;
use crate::limits::{EDGES_BYTES_MAX, EDGES_MAX};
use crate::stop::StopToken;

const FORMAT: &str = "energyrunner";
const VERSION: u8 = 0xf1;
const HEADER_BYTES: u64 = 5;
/// How such a file's name ends, and that of the file beside it.
pub const NAME_END: &str = "-energy.bin";
const EDGES_NAME_END: &str = "-timestamps.json";

/// What is wrong with a trace, or with its edges.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum EnergyRunnerError {
    #[error("it does not start with 0xf1 as an EnergyRunner trace does: say --format raw if it is raw samples")]
    Version,
    #[error("it is cut inside of its first sample: copy it again")]
    Short,
    #[error("it has {0} bytes after its last whole sample: copy it again, or cut them off")]
    Rest(u64),
    #[error("its sample rate is {0} Hz, which no trace has: copy it again")]
    Rate(f32),
    #[error("an EnergyRunner trace has one signal, and {0} are given: leave --signal out, or give one")]
    Signals(usize),
    #[error("it says {of_file} Hz itself: leave --rate out")]
    OtherRate { of_file: f32 },
    #[error("its edges in {edges} cannot be read ({why}): mend that file, or move it away to replay without them")]
    Edges { edges: PathBuf, why: String },
}

/// Reads the whole file once, to know what it is. `progress` is told how many bytes are done.
pub fn open(
    path: &Path,
    given: &Given,
    stop: &StopToken,
    progress: &mut dyn FnMut(u64),
) -> Result<FileSource, FileError> {
    let failed = |error| FileError::EnergyRunner {
        path: path.into(),
        error,
    };
    given.require_type(FORMAT, SampleType::F32)?;
    let start_ns = given.start_ns(FORMAT)?;
    let default = [("energy".to_owned(), "uJ".to_owned())];
    let names = match &given.signals[..] {
        [] => &default[..],
        [one] => std::slice::from_ref(one),
        several => return Err(failed(EnergyRunnerError::Signals(several.len()))),
    };
    let signals = file::signals(names, SampleType::F32);
    let mut reading = FirstReading::start(path, stop, progress)?;
    let sample_bytes = Frames::bytes_of(&signals);
    let mut header = [0; HEADER_BYTES as usize];
    if reading.bytes() < HEADER_BYTES + sample_bytes {
        return Err(failed(EnergyRunnerError::Short));
    }
    let read = reading.file.read_exact(&mut header);
    read.map_err(|error| reading.unreadable(error))?;
    let [version, rate @ ..] = header;
    if version != VERSION {
        return Err(failed(EnergyRunnerError::Version));
    }
    let rate = f32::from_le_bytes(rate);
    let rate_hz = f64::from(rate);
    if !(rate_hz > 0.0 && rate_hz <= RATE_HZ_MAX) {
        return Err(failed(EnergyRunnerError::Rate(rate)));
    }
    if given.rate_hz.is_some_and(|given| given != rate_hz) {
        return Err(failed(EnergyRunnerError::OtherRate { of_file: rate }));
    }
    let (sample_count, rest) = (
        (reading.bytes() - HEADER_BYTES) / sample_bytes,
        (reading.bytes() - HEADER_BYTES) % sample_bytes,
    );
    if rest != 0 {
        return Err(failed(EnergyRunnerError::Rest(rest)));
    }
    let markers = edges(path, rate_hz, sample_count).map_err(failed)?;
    let frames = Frames {
        offset: HEADER_BYTES,
        frame_bytes: sample_bytes,
    };
    let mut content = frames.hash(&mut reading)?;
    markers.iter().for_each(|marker| content.marker(marker));
    let recording = Recording {
        device: given.device.clone(),
        signals,
        rate_hz,
        start_ns,
        content: content.finish(),
        sample_count,
        markers,
    };
    reading.finish(recording, frames, given.speed)
}

/// The edges of the file beside it, if there is one.
fn edges(path: &Path, rate_hz: f64, sample_count: u64) -> Result<Vec<Marker>, EnergyRunnerError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some(stem) = name.as_deref().and_then(|name| name.strip_suffix(NAME_END)) else {
        return Ok(Vec::new());
    };
    let edges = path.with_file_name(format!("{stem}{EDGES_NAME_END}"));
    let failed = |why: String| EnergyRunnerError::Edges {
        edges: edges.clone(),
        why,
    };
    if !edges.try_exists().map_err(|error| failed(error.to_string()))? {
        return Ok(Vec::new());
    }
    let mut text = Vec::new();
    File::open(&edges)
        .and_then(|file| file.take(EDGES_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > EDGES_BYTES_MAX {
        return Err(failed(format!("it has more than {EDGES_BYTES_MAX} bytes")));
    }
    let seconds: Vec<f64> = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    if seconds.len() > EDGES_MAX {
        return Err(failed(format!("it has more than {EDGES_MAX} edges")));
    }
    if !seconds.is_sorted() {
        return Err(failed("its times step back".into()));
    }
    let marker = |(second, number): (&f64, u32)| {
        let sample = (second * rate_hz).round();
        if !(sample >= 0.0 && sample < sample_count as f64) {
            return Err(failed(format!("{second} s is outside of the trace")));
        }
        Ok(file::vertical_line(sample as u64, format!("edge {number}")))
    };
    seconds.iter().zip(1..).map(marker).collect()
}

#[cfg(test)]
#[path = "energyrunner_tests.rs"]
mod tests;
