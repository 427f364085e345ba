//! What can go wrong when reading, in sentences that say what to do.

use std::error::Error as _;

use tonic_types::StatusExt;
use wavekeep_proto::chunk::BadHeader;
use wavekeep_proto::codec::CodecError;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::wire::ChunkFault;

/// Why there is no answer, or none to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid server address.
    #[error(
        "{url:?} is not a server address ({why}): give one like http://127.0.0.1:7460, with --server or WAVEKEEP_SERVER"
    )]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there.
    #[error(
        "cannot reach a server at {server} ({why}): start one with `wavekeep-server dev`, or say where it is with --server or \
         WAVEKEEP_SERVER"
    )]
    Unreachable {
        /// The address.
        server: String,
        /// What the system says.
        why: String,
    },
    /// The server answered no. Its sentence says why and what to do.
    #[error("{message}")]
    Refused {
        /// The kind of refusal.
        code: tonic::Code,
        /// For people.
        message: String,
        /// Of several that were sent together: which one it is about, counted from 0.
        entry: Option<usize>,
    },
    /// The answer ended in the middle.
    #[error("the answer ended in the middle ({0}): ask again")]
    Interrupted(String),
    /// The answer is not what was captured, or does not prove it.
    #[error(
        "stream {stream}: {fault}; ask again, and if it happens again tell the server's operator that rows of the database are \
         damaged or missing: `wavekeep chunks --stream {stream} --limit 0` lists those that are there"
    )]
    Refuted {
        /// The stream it is about.
        stream: StreamId,
        /// What does not hold.
        fault: Fault,
    },
    /// More would have to be kept than a reader keeps.
    #[error("that would be more than {0} columns: ask for fewer points, for fewer signals or for a shorter time")]
    TooManyColumns(u64),
    /// The answer makes no sense to this version.
    #[error("this version does not understand the server's answer ({0}): update whichever of the two is older")]
    Malformed(&'static str),
}

/// Why an answer is refused. Every one of them means: what came is not what the instrument delivered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The frame hash fails.
    #[error("the frame hash of the chunk after seq {after} does not match its bytes")]
    FrameHash {
        /// The seq before; 0 when it is the first.
        after: u64,
    },
    /// The header is not understood.
    #[error("the header of the chunk after seq {after} is unusable: {why}")]
    HeaderBytes {
        /// The seq before.
        after: u64,
        /// Why.
        why: ChunkFault,
    },
    /// The header breaks a rule.
    #[error("the header of seq {seq} is wrong: {why}")]
    Header {
        /// Of the chunk.
        seq: u64,
        /// Which rule.
        why: BadHeader,
    },
    /// A chunk is missing, or came twice.
    #[error("a chunk is missing: after seq {} comes seq {found}", .expected.saturating_sub(1))]
    MissingChunk {
        /// The seq that had to follow.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// I4: chunks tile.
    #[error("I4: seq {seq} starts at sample {found}, not at {expected} where the chunk before it ended")]
    Tiling {
        /// Of the chunk.
        seq: u64,
        /// Where it had to start.
        expected: u64,
        /// Where it starts.
        found: u64,
    },
    /// I14: the chain does not hold.
    #[error("I14: the digest at seq {seq} does not follow from the chunks before it")]
    Digest {
        /// Of the chunk.
        seq: u64,
    },
    /// The bytes cannot be decoded.
    #[error("signal {signal} of seq {seq} cannot be decoded: {why}")]
    Decode {
        /// Of the chunk.
        seq: u64,
        /// Its name.
        signal: String,
        /// Why.
        why: CodecError,
    },
    /// The samples differ from those captured.
    #[error(
        "signal {signal} of seq {seq} does not decode to the samples that were captured: the column's hash does not match"
    )]
    ColumnHash {
        /// Of the chunk.
        seq: u64,
        /// Its name.
        signal: String,
    },
    /// The columns are not those asked for.
    #[error("seq {seq} came with {found} columns instead of {expected}")]
    Columns {
        /// Of the chunk.
        seq: u64,
        /// How many had to come.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// The cut leaves samples out.
    #[error("the range that seq {seq} is cut to leaves samples out")]
    Cut {
        /// Of the chunk.
        seq: u64,
    },
    /// Columns that cannot be drawn of the signal.
    #[error("I9: the columns of {signal} from sample {first_sample} on are wrong: {why}")]
    Drawn {
        /// Its name, or its number where there is none.
        signal: String,
        /// Where they start.
        first_sample: u64,
        /// What is wrong with them.
        why: BadColumns,
    },
    /// More samples came than points were asked for.
    #[error("{found} samples came where at most {points_max} points were asked for")]
    Points {
        /// As asked.
        points_max: u32,
        /// As came.
        found: u64,
    },
    /// The manifest says something else than what came.
    #[error("the manifest does not agree with what came: {what} is {stated} there, and {found} here")]
    Manifest {
        /// Which statement.
        what: &'static str,
        /// What the manifest says.
        stated: String,
        /// What came.
        found: String,
    },
    /// The answer starts or ends with other samples than those of the range asked for.
    #[error("the answer is not that of the time asked for: it {0}")]
    Range(&'static str),
    /// The answer stops short of the stream's watermark, and no successor continues the stream from there.
    #[error("it is damaged: its last chunk is seq {found}, but it was committed up to seq {watermark}")]
    Truncated {
        /// Where the stream stood when it was asked for.
        watermark: u64,
        /// The last seq that came.
        found: u64,
    },
    /// The answer has no manifest, or none for this stream.
    #[error("the answer came without its manifest, so it may be incomplete")]
    ManifestMissing,
}

/// What is wrong with columns that were drawn of a signal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadColumns {
    /// Nobody asked for this signal, or the stream has none of this number.
    #[error("the signal was not asked for")]
    Signal,
    /// They lie outside of what is stored.
    #[error("they reach to sample {to_sample}, and the stream has samples {}..{}", .stored.0, .stored.1)]
    Outside {
        /// Where they end.
        to_sample: u64,
        /// What the stream has.
        stored: (u64, u64),
    },
    /// A width of no samples, or of another level than there is.
    #[error("{bucket_samples} samples a column at level {level} make no columns")]
    Bucket {
        /// The width.
        bucket_samples: u64,
        /// The level.
        level: u32,
    },
    /// They do not continue those before them.
    #[error("they do not continue those before, which end at sample {expected} and are {bucket_samples} samples wide")]
    NotContinued {
        /// Where those before end.
        expected: u64,
        /// How wide those before are.
        bucket_samples: u64,
    },
    /// The vectors are not as long as they must be.
    #[error("{expected} columns must have come, and {found} did")]
    Length {
        /// That the range implies.
        expected: u64,
        /// The length of the vector that differs most.
        found: u64,
    },
    /// More than were asked for.
    #[error("they would be {found}, and at most {max} were asked for")]
    TooMany {
        /// How many were asked for, or fit into an answer.
        max: u64,
        /// How many came.
        found: u64,
    },
    /// More samples are counted than there are.
    #[error("{count} samples are counted where there are {samples}")]
    Count {
        /// As it came.
        count: u64,
        /// What there is room for.
        samples: u64,
    },
    /// min ≤ mean ≤ max does not hold.
    #[error("min {min}, mean {mean} and max {max} are in no order")]
    Order {
        /// As it came.
        min: f64,
        /// As it came.
        mean: f64,
        /// As it came.
        max: f64,
    },
    /// A column without samples has a min, a max or a mean.
    #[error("a column that counts no samples has a value")]
    NotEmpty,
    /// They start outside of the time asked for.
    #[error("they start outside of the time asked for")]
    Time,
}

/// The innermost cause: what the operating system says, not the layers above it.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl Error {
    pub(crate) fn unreachable(server: &str, error: &tonic::transport::Error) -> Self {
        Self::Unreachable {
            server: server.into(),
            why: root_cause(error),
        }
    }

    /// A refusal before the answer began.
    pub(crate) fn refused(server: &str, status: &tonic::Status) -> Self {
        match status.source() {
            // No server said this: the connection could not be had, or broke.
            Some(source) if status.code() == tonic::Code::Unavailable || status.code() == tonic::Code::Unknown => {
                Self::Unreachable {
                    server: server.into(),
                    why: root_cause(source),
                }
            }
            _ if status.code() == tonic::Code::Unimplemented && status.message().is_empty() => {
                Self::Malformed("it does not know this question")
            }
            _ => Self::Refused {
                code: status.code(),
                message: sentence(status),
                entry: entry(status),
            },
        }
    }

    /// May the same question be answered a while later? The server restarts, or has too much to do.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        use tonic::Code;
        match self {
            Self::Unreachable { .. } | Self::Interrupted(_) => true,
            Self::Refused { code, .. } => matches!(
                code,
                Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled
            ),
            _ => false,
        }
    }

    /// A failure in the middle of an answer.
    pub(crate) fn interrupted(status: &tonic::Status) -> Self {
        match status.source() {
            Some(source) => Self::Interrupted(root_cause(source)),
            None => Self::Refused {
                code: status.code(),
                message: sentence(status),
                entry: entry(status),
            },
        }
    }
}

fn sentence(status: &tonic::Status) -> String {
    match status.message() {
        "" => format!("the server refused: {}", status.code()),
        message => message.into(),
    }
}

fn entry(status: &tonic::Status) -> Option<usize> {
    let details = status.get_error_details();
    details.error_info()?.metadata.get("entry")?.parse().ok()
}
