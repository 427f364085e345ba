//! Table `agent_report`: what agents say of what they hold.
//!
//! # Invariants
//! - I7: only what the owner of a stream says of it is written down.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use wavekeep_proto::id::StreamId;

use super::error::StoreError;
use super::text::clean;
use super::transaction::within_limit;
use super::{prepared, statement, unsigned};
use crate::ledger::Report;

// In order of id, so that two servers never wait for each other.
const WRITE: &str = "
INSERT INTO agent_report (stream_id, agent, stored_seq, next_sample, outbox_bytes, oldest_unacked_ms)
SELECT s.id, $7, r.stored_seq, r.next_sample, r.outbox_bytes, r.oldest_unacked_ms
  FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS r(id, owner, stored_seq, next_sample, outbox_bytes, oldest_unacked_ms)
  JOIN stream s ON s.id = r.id AND s.owner = r.owner
 ORDER BY s.id
ON CONFLICT (stream_id) DO UPDATE
   SET agent = excluded.agent, stored_seq = excluded.stored_seq, next_sample = excluded.next_sample,
       outbox_bytes = excluded.outbox_bytes, oldest_unacked_ms = excluded.oldest_unacked_ms, heard_at = now()";

/// Writes down what is said of several streams, each named once. Numbers that no bigint holds are no such numbers: the largest stand
/// for them.
pub(super) async fn write(connection: &mut PgConnection, agent: &str, reports: &[Report]) -> Result<(), StoreError> {
    let bytes =
        |field: fn(&Report) -> &[u8; 16]| reports.iter().map(|report| field(report).to_vec()).collect::<Vec<_>>();
    let numbers = |field: fn(&Report) -> u64| {
        let number = |report| i64::try_from(field(report)).unwrap_or(i64::MAX);
        reports.iter().map(number).collect::<Vec<_>>()
    };
    statement(WRITE)
        .bind(bytes(|report| report.stream.as_bytes()))
        .bind(bytes(|report| report.owner.as_bytes()))
        .bind(numbers(|report| report.stored_seq))
        .bind(numbers(|report| report.next_sample))
        .bind(numbers(|report| report.outbox_bytes))
        .bind(numbers(|report| report.oldest_unacked_ms))
        .bind(clean(agent).into_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// What was last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) agent: String,
    pub(crate) stored_seq: u64,
    pub(crate) next_sample: u64,
    pub(crate) outbox_bytes: u64,
    pub(crate) oldest_unacked_ms: u64,
    pub(crate) age_ms: u64,
}

const READ: &str = "
SELECT agent, stored_seq, next_sample, outbox_bytes, oldest_unacked_ms,
       greatest(0, extract(epoch FROM now() - heard_at) * 1000)::bigint AS age_ms
  FROM agent_report WHERE stream_id = $1";

/// Of a stream.
pub(crate) async fn read(connection: &mut PgConnection, stream: StreamId) -> Result<Option<Heard>, StoreError> {
    let query = prepared(READ).bind(stream.to_vec());
    let Some(row) = within_limit(query.fetch_optional(connection)).await? else {
        return Ok(None);
    };
    let count = |column| unsigned(row.try_get(column)?, column);
    Ok(Some(Heard {
        agent: row.try_get("agent")?,
        stored_seq: count("stored_seq")?,
        next_sample: count("next_sample")?,
        outbox_bytes: count("outbox_bytes")?,
        oldest_unacked_ms: count("oldest_unacked_ms")?,
        age_ms: count("age_ms")?,
    }))
}
