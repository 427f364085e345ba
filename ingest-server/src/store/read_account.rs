//! What there is of a stream, counted from the rows of its chunks and not from its own row: for whoever holds one against the other.
//!
//! # Invariants
//! - All of an account is of one state of the database: it is read in one transaction.
//! - No chunk's header or columns are read, however long the stream is.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::id::StreamId;

use super::agent_report::{self, Heard};
use super::error::StoreError;
use super::read_chunk::{Place, placed};
use super::read_stream::{self, StreamRow, reason};
use super::transaction::within_limit;
use super::{bigint, prepared, unsigned};

/// Chunks up to the watermark that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkSum {
    pub(crate) kind: i16,
    pub(crate) reason: Reason,
    pub(crate) quarantined: bool,
    /// They lie after the seq at which a successor continues the stream.
    pub(crate) succeeded: bool,
    pub(crate) chunks: u64,
    pub(crate) seqs: u64,
    pub(crate) samples: u64,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) stream: StreamRow,
    pub(crate) sums: Vec<ChunkSum>,
    /// Lowest seq and sample of the chunks; None without chunks.
    pub(crate) from: Option<(u64, u64)>,
    /// The workspace's retention drops what is as old as the first chunk.
    pub(crate) may_have_expired: bool,
    pub(crate) heard: Option<Heard>,
}

// What somebody has changed by hand may be of any size and sign: it is told as what it is nearest to, and does not add up.
const SUMS: &str = "
SELECT kind, reason, quarantined, seq > $5 AS succeeded, count(*) AS chunks,
       greatest(0, least(sum(seq - first_seq + 1), 9223372036854775807))::bigint AS seqs,
       greatest(0, least(sum(sample_count), 9223372036854775807))::bigint AS samples,
       greatest(0, min(first_seq)) AS from_seq, greatest(0, min(first_sample)) AS from_sample
  FROM chunk
 WHERE stream_id = $1 AND start_time BETWEEN $2 AND $3 AND seq <= $4
 GROUP BY kind, reason, quarantined, succeeded";

const EXPIRED: &str = "
SELECT EXISTS (SELECT FROM wavekeep.workspace w
                WHERE w.schema = current_schema() AND to_timestamp($1::bigint / 1e9) < now() - make_interval(days => w.retention_days))";

/// Of a stream; None where it is gone.
pub(crate) async fn account(connection: &mut PgConnection, id: StreamId) -> Result<Option<Account>, StoreError> {
    let Some(stream) = read_stream::by_id(connection, id).await? else {
        return Ok(None);
    };
    let mut account = Account {
        heard: agent_report::read(connection, id).await?,
        stream,
        sums: Vec::new(),
        from: None,
        may_have_expired: false,
    };
    let Some(times_ns) = account.stream.times_ns else {
        return Ok(Some(account));
    };
    let place = Place { stream: id, times_ns };
    let query = placed(SUMS, place)
        .bind(bigint(account.stream.at.seq, "the watermark")?)
        .bind(
            account
                .stream
                .succeeded_at
                .map_or(Ok(i64::MAX), |seq| bigint(seq, "the seq"))?,
        );
    for row in within_limit(query.fetch_all(&mut *connection)).await? {
        let count = |column| unsigned(row.try_get(column)?, column);
        let from = (count("from_seq")?, count("from_sample")?);
        account.from = Some(
            account
                .from
                .map_or(from, |before| (before.0.min(from.0), before.1.min(from.1))),
        );
        account.sums.push(sum(&row)?);
    }
    account
        .sums
        .sort_by_key(|sum| (sum.succeeded, sum.quarantined, sum.kind, sum.reason));
    if account.from.is_none_or(|(first_seq, _)| first_seq > 1) {
        let query = prepared(EXPIRED).bind(times_ns.0);
        account.may_have_expired = within_limit(query.fetch_one(connection)).await?.try_get(0)?;
    }
    Ok(Some(account))
}

fn sum(row: &PgRow) -> Result<ChunkSum, StoreError> {
    let count = |column| unsigned(row.try_get(column)?, column);
    Ok(ChunkSum {
        kind: row.try_get("kind")?,
        reason: reason(row.try_get("reason")?).ok_or(StoreError::Unexpected("chunk.reason"))?,
        quarantined: row.try_get("quarantined")?,
        succeeded: row.try_get("succeeded")?,
        chunks: count("chunks")?,
        seqs: count("seqs")?,
        samples: count("samples")?,
    })
}
