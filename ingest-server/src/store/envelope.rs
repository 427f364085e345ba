//! Table `envelope`: complete buckets, each written once.

use sqlx::postgres::PgConnection;
use wavekeep_proto::id::StreamId;

use super::bigint;
use super::copy::BinaryCopy;
use super::error::StoreError;
use crate::rollup::bucket_samples;
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
    copy.bytes(&packed(*level, children));
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

/// Bytes of min, max and sum.
const VALUES_BYTES: usize = 24;
/// The same with both counts before.
const COUNTED_BYTES: usize = 40;

/// The children of a bucket of this level as one field: min, max and sum of each, where all are full of finite samples; else each with
/// its counts of samples and of finite ones before, zeros for those without samples.
pub(crate) fn packed(level: u32, children: &[Option<Bucket>; 16]) -> Vec<u8> {
    let size = bucket_samples(level - 1);
    let is_full =
        |child: &Option<Bucket>| child.is_some_and(|child| child.sample_count == size && child.envelope.count == size);
    let counted = !children.iter().all(is_full);
    let mut bytes = Vec::with_capacity(16 * COUNTED_BYTES);
    for child in children {
        let Some(Bucket {
            sample_count, envelope, ..
        }) = child
        else {
            bytes.extend_from_slice(&[0; COUNTED_BYTES]);
            continue;
        };
        if counted {
            bytes.extend_from_slice(&sample_count.to_be_bytes());
            bytes.extend_from_slice(&envelope.count.to_be_bytes());
        }
        for value in [envelope.min, envelope.max, envelope.sum] {
            bytes.extend_from_slice(&value.to_be_bytes());
        }
    }
    bytes
}

/// What [`packed`] packed, without sums of squares; those without samples are empty. None: it did not pack this.
pub(super) fn unpacked(level: u32, bytes: &[u8]) -> Option<Vec<Bucket>> {
    let size = bucket_samples(level.checked_sub(1)?);
    let bucket = |counts: (u64, u64), values: &[u8]| {
        let value = |at: usize| f64::from_be_bytes(values.as_chunks().0[at]);
        if counts.0 == 0 {
            return Bucket::EMPTY;
        }
        Bucket {
            sample_count: counts.0,
            envelope: Envelope {
                count: counts.1,
                min: value(0),
                max: value(1),
                sum: value(2),
                sumsq: f64::NAN,
            },
            exact: None,
        }
    };
    let counted = |child: &[u8; COUNTED_BYTES]| {
        let count = |at: usize| u64::from_be_bytes(child.as_chunks().0[at]);
        bucket((count(0), count(1)), &child[COUNTED_BYTES - VALUES_BYTES..])
    };
    if bytes.len() == 16 * VALUES_BYTES {
        let children = bytes.as_chunks::<VALUES_BYTES>().0.iter();
        return Some(children.map(|child| bucket((size, size), child)).collect());
    }
    let (children, rest) = bytes.as_chunks::<COUNTED_BYTES>();
    (children.len() == 16 && rest.is_empty()).then(|| children.iter().map(counted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of squares are not stored.
    fn same(one: Bucket, other: &Bucket) -> bool {
        let values = |bucket: &Bucket| {
            let Envelope {
                count, min, max, sum, ..
            } = bucket.envelope;
            (bucket.sample_count, count, min, max, sum)
        };
        values(&one) == values(other)
    }

    #[test]
    fn children_come_back() {
        let full = Bucket {
            sample_count: 256,
            envelope: Envelope::of(&[0.5; 256]),
            exact: None,
        };
        let bytes = packed(3, &[Some(full); 16]);
        assert_eq!(bytes.len(), 16 * VALUES_BYTES);
        let back = unpacked(3, &bytes).expect("it was packed");
        assert!(back.len() == 16 && back.iter().all(|back| same(full, back)));

        let mut children = [Some(full); 16];
        children[2] = None;
        children[3] = Some(Bucket {
            sample_count: 5,
            envelope: Envelope::of(&[1.0, -2.0]),
            exact: None,
        });
        children[15] = Some(Bucket {
            sample_count: 256,
            ..Bucket::EMPTY
        });
        let back = unpacked(3, &packed(3, &children)).expect("it was packed");
        for (child, back) in children.iter().zip(&back) {
            assert!(same(child.unwrap_or(Bucket::EMPTY), back), "{back:?}");
        }
        assert_eq!(unpacked(3, &packed(3, &children)[1..]), None);
        assert_eq!(unpacked(3, &[]), None);
        assert_eq!(unpacked(0, &bytes), None);
    }
}
