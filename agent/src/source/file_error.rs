//! Why a recorded file cannot be replayed.

use std::io;
use std::path::PathBuf;

use super::csv::CsvError;
use super::energyrunner::EnergyRunnerError;
use super::npy::NpyError;

/// Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FileError {
    #[error("{path} cannot be read ({error}): check its name and permissions")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path} is not a file: give a file of recorded samples")]
    NotAFile { path: PathBuf },
    #[error("{path} is empty: there is nothing to replay")]
    Empty { path: PathBuf },
    #[error(
        "{path} has {bytes} bytes, which are not whole samples of {frame_bytes} bytes ({signals} × {sample_type}): check --dtype and --signal, or cut the last {rest} bytes off"
    )]
    OddSize {
        path: PathBuf,
        bytes: u64,
        frame_bytes: u64,
        signals: usize,
        sample_type: &'static str,
        rest: u64,
    },
    #[error(
        "{path} is {what} by its first bytes, not raw samples: {advice}; --format raw takes its bytes as samples all the same"
    )]
    Foreign {
        path: PathBuf,
        what: &'static str,
        advice: &'static str,
    },
    #[error("{path} changed while it was read: replay it when it is complete")]
    Changed { path: PathBuf },
    #[error("the replay was stopped while {path} was read for the first time: nothing was stored")]
    Stopped { path: PathBuf },
    #[error("{path}: {error}")]
    Npy { path: PathBuf, error: NpyError },
    #[error("{path}: {error}")]
    EnergyRunner { path: PathBuf, error: EnergyRunnerError },
    #[error("{path}: {error}")]
    Csv { path: PathBuf, error: CsvError },
    #[error("this {format} file does not say it itself: give --rate, the samples per second")]
    NeedsRate { format: &'static str },
    #[error("this {format} file does not say it itself: give --start, the time of the first sample")]
    NeedsStart { format: &'static str },
    #[error("an {format} file knows its type, which is {of_file} and not {given}: leave --dtype out")]
    OtherType {
        format: &'static str,
        given: &'static str,
        of_file: &'static str,
    },
}

impl FileError {
    /// Is something else to be given, rather than another file?
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NeedsRate { .. } | Self::NeedsStart { .. } | Self::OtherType { .. }
        )
    }
}
