//! What there is of a stream, as the server counts it.

use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::v1;

use crate::stream_info::reason_from_wire;
use crate::{Error, StreamInfo};

/// A stream's row, what its chunks come to, and what its agent last said of it: of one state of the database.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Its row.
    pub stream: StreamInfo,
    /// Its chunks up to the watermark.
    pub chunks: Vec<ChunkSum>,
    /// The lowest seq of its chunks, and the sample where the first of them starts; None without chunks.
    pub from: Option<(u64, u64)>,
    /// The seq after which a successor continues it.
    pub succeeded_at: Option<u64>,
    /// The workspace's retention drops what is as old as its first chunk.
    pub may_have_expired: bool,
    /// What its agent last said of it, by heartbeats.
    pub report: Option<AgentReport>,
}

/// Chunks that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSum {
    /// Samples, gap or end.
    pub kind: ChunkKind,
    /// Of a gap or an end.
    pub reason: Reason,
    /// Readers see a gap.
    pub quarantined: bool,
    /// A successor has them as well, and readers prefer the successor's.
    pub succeeded: bool,
    /// How many.
    pub chunks: u64,
    /// Seqs that they stand for.
    pub seqs: u64,
    /// Samples of the axis that they cover.
    pub samples: u64,
}

/// What an agent said of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentReport {
    /// Its name for people.
    pub agent: String,
    /// The last seq in its outbox.
    pub stored_seq: u64,
    /// All before this sample was captured.
    pub next_sample: u64,
    /// In its outbox and not acknowledged.
    pub outbox_bytes: u64,
    /// Age of the oldest of them.
    pub oldest_unacked_ms: u64,
    /// Since it was heard.
    pub age_ms: u64,
}

impl Account {
    fn from_wire(wire: v1::StreamAccount) -> Result<Self, Error> {
        let stream = wire.stream.ok_or(Error::Malformed("an account has no stream"))?;
        Ok(Self {
            stream: StreamInfo::from_wire(stream)?,
            chunks: wire.chunks.iter().map(ChunkSum::from_wire).collect::<Result<_, _>>()?,
            from: (wire.first_seq > 0).then_some((wire.first_seq, wire.from_sample)),
            succeeded_at: wire.succeeded_at,
            may_have_expired: wire.may_have_expired,
            report: wire.report.map(|report| AgentReport {
                agent: report.agent,
                stored_seq: report.stored_seq,
                next_sample: report.next_sample,
                outbox_bytes: report.outbox_bytes,
                oldest_unacked_ms: report.oldest_unacked_ms,
                age_ms: report.age_ms,
            }),
        })
    }
}

impl ChunkSum {
    fn from_wire(wire: &v1::ChunkSum) -> Result<Self, Error> {
        let kind = match wire.kind {
            1 => ChunkKind::Samples,
            2 => ChunkKind::Gap,
            3 => ChunkKind::End,
            _ => return Err(Error::Malformed("a kind of chunk has an unknown number")),
        };
        Ok(Self {
            kind,
            reason: reason_from_wire(wire.reason)?,
            quarantined: wire.quarantined,
            succeeded: wire.succeeded,
            chunks: wire.chunks,
            seqs: wire.seqs,
            samples: wire.sample_count,
        })
    }
}

/// Accounts as they come, one at a time.
#[derive(Debug)]
pub struct Accounts(pub(crate) tonic::Streaming<v1::StreamAccount>);

impl Accounts {
    /// The next one; None after the last.
    pub async fn next(&mut self) -> Result<Option<Account>, Error> {
        match self.0.message().await.map_err(|status| Error::interrupted(&status))? {
            Some(wire) => Account::from_wire(wire).map(Some),
            None => Ok(None),
        }
    }
}
