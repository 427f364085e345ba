//! How a command fails, and with which exit code.

use std::io;

use wavekeep::Error;

/// One sentence for people.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit code 2: asked in a way that cannot be answered.
    Usage(String),
    /// Exit code 1.
    Failed(String),
    /// Exit code 1: the server knows no such name.
    Unknown(String),
    /// Exit code 1, in silence.
    OutputClosed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        match error {
            Error::Address { .. }
            | Error::Refused {
                code: tonic::Code::InvalidArgument,
                ..
            } => Self::Usage(sentence),
            Error::Refused {
                code: tonic::Code::NotFound,
                ..
            } => Self::Unknown(sentence),
            _ => Self::Failed(sentence),
        }
    }
}

/// Of standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}
