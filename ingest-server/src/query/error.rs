//! Why a question has no answer. `crate::status` maps each to a gRPC code.

use wavekeep_proto::id::StreamId;

use super::filter::FilterError;
use crate::store::StoreError;

/// One sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A filter is not understood.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// There is no such device, stream, run, signal or workspace.
    #[error("there is no {kind} {name:?}{}", hint(.nearest, .kind))]
    Unknown {
        /// What it was to be.
        kind: &'static str,
        /// As it was given.
        name: String,
        /// One that is there and is written alike.
        nearest: Option<String>,
    },
    /// There is nothing in that time.
    #[error("{0}")]
    Empty(String),
    /// More than one answer may hold.
    #[error("{0}")]
    TooMuch(String),
    /// Two streams have the same signal of the same device at the same time.
    #[error(
        "streams {} and {} both captured signal {signal:?} of device {device:?} at the same time, and together would count it twice: choose one of them (--stream), a run that has only one, or another time",
        streams.0, streams.1
    )]
    Overlap {
        /// The device.
        device: String,
        /// The signal.
        signal: String,
        /// Both.
        streams: (StreamId, StreamId),
    },
    /// Too many questions at a time.
    #[error("the server answers {0} questions already: ask again in a moment")]
    Busy(usize),
    /// The server drains.
    #[error("the server stops: ask another one, from where you stand")]
    Stopping,
    /// Chunks went while they were being sent.
    #[error(
        "what stream {stream} had after seq {seq} was dropped while it was being sent, as the workspace's retention says: ask again, and the answer begins with what is still stored"
    )]
    Expired {
        /// Of it.
        stream: StreamId,
        /// The last seq that was read.
        seq: u64,
    },
    /// The caller's deadline, or ours, passed.
    #[error("the answer was not complete in time: ask for less, or allow more time")]
    Deadline,
    /// What is stored is not whole.
    #[error("{0}: it was committed whole, and the database has lost or changed it since; a backup has it")]
    Damaged(String),
    /// The database does not answer, or not as it should.
    #[error("the database cannot be read ({0}): ask again in a moment, and if it stays so look at the server's log")]
    Store(StoreError),
}

fn hint(nearest: &Option<String>, kind: &str) -> String {
    match (nearest, kind) {
        (Some(nearest), _) => format!("; did you mean {nearest:?}?"),
        (None, "signal") => ": `wavekeep streams` lists the signals".into(),
        (None, "workspace") => ": create it with `wavekeep-server workspace create`".into(),
        (None, kind) => format!(": `wavekeep {kind}s` lists them"),
    }
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownWorkspace(name) => Self::Unknown {
                kind: "workspace",
                name,
                nearest: None,
            },
            error => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_say_what_to_do() {
        let say = |kind, nearest: Option<&str>| {
            let (name, nearest) = ("js22".to_owned(), nearest.map(str::to_owned));
            QueryError::Unknown { kind, name, nearest }.to_string()
        };
        assert_eq!(
            say("device", Some("js220")),
            "there is no device \"js22\"; did you mean \"js220\"?"
        );
        assert_eq!(
            say("stream", None),
            "there is no stream \"js22\": `wavekeep streams` lists them"
        );
    }
}
