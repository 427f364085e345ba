//! What may be wrong with an argument, and which SQLSTATE says so.

use pgrx::PgSqlErrorCode;
use wavekeep_proto::codec::CodecError;
use wavekeep_proto::limits::CHUNK_SAMPLES_MAX;

/// Why there is no array.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "encoding {0} is not known to this version of the extension wavekeep: install the one that belongs to the server"
    )]
    Encoding(i16),
    #[error(
        "sample type {0} is not known to this version of the extension wavekeep: install the one that belongs to the server"
    )]
    SampleType(i16),
    #[error(
        "a column has a signal's number (0 to 65535), a count of at most {CHUNK_SAMPLES_MAX} and a hash of 16 bytes: give those of its row"
    )]
    Column,
    #[error("places are counted from 0, and none is above {CHUNK_SAMPLES_MAX}: {0} is no place in a chunk")]
    Place(i32),
    #[error("a rate is finite and above zero: {0} is none")]
    Rate(String),
    #[error("the column of signal {signal} cannot be decoded: {why}")]
    Damaged { signal: u16, why: CodecError },
    #[error(
        "the column of signal {0} decodes to other samples than were captured: its bytes were changed in the database"
    )]
    Refuted(u16),
}

impl Error {
    pub(crate) const fn code(&self) -> PgSqlErrorCode {
        match self {
            Self::Encoding(_) | Self::SampleType(_) => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::Column | Self::Place(_) | Self::Rate(_) => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::Damaged { .. } | Self::Refuted(_) => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        }
    }

    /// Ends the statement with it.
    pub(crate) fn raise(&self) -> ! {
        pgrx::ereport!(ERROR, self.code(), self.to_string());
    }
}
