//! Table `envelope`: complete buckets, each written once.

use sqlx::postgres::PgConnection;
use wavekeep_proto::id::StreamId;

use super::bigint;
use super::copy::BinaryCopy;
use super::error::StoreError;
use crate::rollup::envelope::Bucket;
use crate::rollup::tower::Completed;

const COPY: &str =
    "COPY envelope (stream_id, signal, level, bucket, start_time, utc_ns, sample_count, finite_count, min, max, min_exact,
                    max_exact, sum, sumsq, child_sample_count, child_finite_count, child_min, child_max, child_sum, child_sumsq)
     FROM STDIN (FORMAT binary)";
const FIELDS: i16 = 20;

/// A bucket of a stream, and the start of the chunk that completed it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EnvelopeRow {
    pub(super) stream: StreamId,
    pub(super) start_ns: i64,
    pub(super) completed: Completed,
}

/// Stores them.
pub(super) async fn copy(connection: &mut PgConnection, rows: &[EnvelopeRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut copy = BinaryCopy::begin(connection, COPY).await?;
    for row in rows {
        copy.row(FIELDS).await?;
        write(&mut copy, row)?;
    }
    copy.finish(rows.len() as u64).await
}

fn write(copy: &mut BinaryCopy<'_>, row: &EnvelopeRow) -> Result<(), StoreError> {
    let Completed {
        signal,
        level,
        bucket,
        utc_ns,
        whole,
        children,
    } = &row.completed;
    let envelope = &whole.envelope;
    let of_some = |value: f64| (!envelope.is_empty()).then_some(value);
    copy.bytes(row.stream.as_bytes());
    copy.i32(*signal as i32);
    copy.i16(*level as i16);
    copy.i64(bigint(*bucket, "the bucket")?);
    copy.time(row.start_ns);
    copy.i64(*utc_ns);
    copy.i64(bigint(whole.sample_count, "the number of samples")?);
    copy.i64(bigint(envelope.count, "the number of finite samples")?);
    copy.f64_or_null(of_some(envelope.min));
    copy.f64_or_null(of_some(envelope.max));
    copy.numeric_or_null(whole.exact.map(|exact| exact.0));
    copy.numeric_or_null(whole.exact.map(|exact| exact.1));
    copy.f64(envelope.sum);
    copy.f64(envelope.sumsq);
    let children = children.iter().map(|child| child.unwrap_or(Bucket::EMPTY));
    let finite = |child: Bucket, value: f64| (!child.envelope.is_empty()).then_some(value);
    // Counts of a bucket fit: sample ids do.
    copy.i64s(children.clone().map(|child| child.sample_count as i64));
    copy.i64s(children.clone().map(|child| child.envelope.count as i64));
    copy.f64s(children.clone().map(|child| finite(child, child.envelope.min)));
    copy.f64s(children.clone().map(|child| finite(child, child.envelope.max)));
    copy.f64s(children.clone().map(|child| Some(child.envelope.sum)));
    copy.f64s(children.map(|child| Some(child.envelope.sumsq)));
    Ok(())
}
