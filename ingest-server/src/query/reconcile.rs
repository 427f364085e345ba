//! `Reconcile`: what there is of each stream. Whether it adds up is for the caller to say, who may know more of the agent.

use wavekeep_proto::v1;

use super::answer::Parts;
use super::error::QueryError;
use super::listing::stream_info;
use super::plan::Asked;
use super::read::Reader;
use crate::store::read_account::{Account, ChunkSum};

/// One stream after the other, in order of time.
pub(super) async fn list(reader: Reader, asked: Asked, parts: Parts<v1::StreamAccount>) -> Result<(), QueryError> {
    if !asked.range.is_open() || !asked.signals.is_empty() {
        return Err(QueryError::Invalid(
            "whole streams alone can be reconciled: leave out times and signals".into(),
        ));
    }
    for member in reader.members(&asked).await? {
        // Of a run's ranges too the whole stream is told. One that was deleted meanwhile is none.
        if let Some(account) = reader.account(member.row.id()).await? {
            parts.send(to_wire(account)).await?;
        }
    }
    Ok(())
}

fn to_wire(account: Account) -> v1::StreamAccount {
    let (first_seq, from_sample) = account.from.unwrap_or_default();
    v1::StreamAccount {
        stream: Some(stream_info(&account.stream)),
        chunks: account.sums.iter().map(sum_to_wire).collect(),
        first_seq,
        from_sample,
        succeeded_at: account.stream.succeeded_at,
        may_have_expired: account.may_have_expired,
        report: account.heard.map(|heard| v1::AgentReport {
            agent: heard.agent,
            stored_seq: heard.stored_seq,
            next_sample: heard.next_sample,
            outbox_bytes: heard.outbox_bytes,
            oldest_unacked_ms: heard.oldest_unacked_ms,
            age_ms: heard.age_ms,
        }),
    }
}

fn sum_to_wire(sum: &ChunkSum) -> v1::ChunkSum {
    v1::ChunkSum {
        kind: u32::try_from(sum.kind).unwrap_or(0),
        reason: i32::from(sum.reason as u16),
        quarantined: sum.quarantined,
        succeeded: sum.succeeded,
        chunks: sum.chunks,
        seqs: sum.seqs,
        sample_count: sum.samples,
    }
}
