//! Table `envelope`: complete buckets, each written once.

use sqlx::postgres::PgConnection;
use wavekeep_proto::id::StreamId;

use super::bigint;
use super::copy::BinaryCopy;
use super::error::StoreError;
use crate::rollup::envelope::{Bucket, Envelope};
use crate::rollup::tower::Completed;

const COPY: &str =
    "COPY envelope (stream_id, signal, level, bucket, start_time, utc_ns, sample_count, finite_count, min, max, min_exact,
                    max_exact, sum, sumsq, children)
     FROM STDIN (FORMAT binary)";
const FIELDS: i16 = 15;

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
    copy.bytes(row.stream.as_bytes());
    copy.i32(*signal as i32);
    copy.i16(*level as i16);
    copy.i64(bigint(*bucket, "the bucket")?);
    copy.time(row.start_ns);
    copy.i64(*utc_ns);
    copy.i64(bigint(whole.sample_count, "the number of samples")?);
    folded(copy, whole)?;
    copy.bytes(&packed(children));
    Ok(())
}

/// Fields finite_count, min, max, min_exact, max_exact, sum and sumsq.
pub(super) fn folded(copy: &mut BinaryCopy<'_>, whole: &Bucket) -> Result<(), StoreError> {
    let envelope = &whole.envelope;
    let of_some = |value: f64| (!envelope.is_empty()).then_some(value);
    copy.i64(bigint(envelope.count, "the number of finite samples")?);
    copy.f64_or_null(of_some(envelope.min));
    copy.f64_or_null(of_some(envelope.max));
    copy.numeric_or_null(whole.exact.map(|exact| exact.0));
    copy.numeric_or_null(whole.exact.map(|exact| exact.1));
    copy.f64(envelope.sum);
    copy.f64(envelope.sumsq);
    Ok(())
}

/// Bytes of a child.
const CHILD_BYTES: usize = 48;

/// The children of a bucket as one field. Those without samples are zeros.
fn packed(children: &[Option<Bucket>; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 * CHILD_BYTES);
    for child in children {
        let Some(Bucket {
            sample_count, envelope, ..
        }) = child
        else {
            bytes.extend_from_slice(&[0; CHILD_BYTES]);
            continue;
        };
        bytes.extend_from_slice(&sample_count.to_be_bytes());
        bytes.extend_from_slice(&envelope.count.to_be_bytes());
        for value in [envelope.min, envelope.max, envelope.sum, envelope.sumsq] {
            bytes.extend_from_slice(&value.to_be_bytes());
        }
    }
    bytes
}

/// What [`packed`] packed; those without samples are empty. None: it did not pack this.
pub(super) fn unpacked(bytes: &[u8]) -> Option<Vec<Bucket>> {
    let (children, rest) = bytes.as_chunks::<CHILD_BYTES>();
    let child = |child: &[u8; CHILD_BYTES]| {
        let words = child.as_chunks::<8>().0;
        let (count, value) = (
            |at: usize| u64::from_be_bytes(words[at]),
            |at: usize| f64::from_be_bytes(words[at]),
        );
        if count(0) == 0 {
            return Bucket::EMPTY;
        }
        Bucket {
            sample_count: count(0),
            envelope: Envelope {
                count: count(1),
                min: value(2),
                max: value(3),
                sum: value(4),
                sumsq: value(5),
            },
            exact: None,
        }
    };
    (children.len() == 16 && rest.is_empty()).then(|| children.iter().map(child).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_come_back() {
        let mut children = [None; 16];
        children[3] = Some(Bucket {
            sample_count: 5,
            envelope: Envelope::of(&[1.0, -2.0]),
            exact: None,
        });
        children[15] = Some(Bucket {
            sample_count: 1,
            ..Bucket::EMPTY
        });
        let back = unpacked(&packed(&children)).expect("it was packed");
        for (child, back) in children.iter().zip(&back) {
            assert_eq!(child.unwrap_or(Bucket::EMPTY), *back);
        }
        assert_eq!(unpacked(&packed(&children)[1..]), None);
        assert_eq!(unpacked(&[]), None);
    }
}
