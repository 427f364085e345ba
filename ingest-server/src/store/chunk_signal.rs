//! Table `chunk_signal`: one signal of a samples chunk, its bytes as they were encoded, its envelope and its points. Power that
//! is derived has a row too, without bytes.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::{ColumnContent, Header};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::power::POWER_NUMBER;
use wavekeep_proto::stream::SampleType;

use super::chunk::StreamRows;
use super::copy::BinaryCopy;
use super::error::StoreError;
use super::stream::Facts;
use super::{bigint, envelope, points};
use crate::ledger::Row;
use crate::rollup::fold::SignalFold;

const COPY: &str =
    "COPY chunk_signal (stream_id, signal, seq, start_time, first_sample, sample_count, sample_type, encoding,
                                       absent_reason, hash, payload, finite_count, min, max, min_exact, max_exact, sum, sumsq,
                                       utc_ns, point_level, points)
     FROM STDIN (FORMAT binary)";
const FIELDS: i16 = 21;
/// Those of a fold, the last ones.
const FOLD_FIELDS: usize = 10;

/// Stores the columns of every chunk that is not in quarantine.
pub(super) async fn copy(
    connection: &mut PgConnection,
    streams: &[StreamRows<'_>],
    facts: &HashMap<StreamId, Facts>,
) -> Result<(), StoreError> {
    let stored = |row: &&Row| row.quarantine.is_none() && !row.chunk.header.columns.is_empty();
    if !streams.iter().any(|stream| stream.rows.iter().any(|row| stored(&row))) {
        return Ok(());
    }
    let mut copy = BinaryCopy::begin(connection, COPY).await?;
    let mut columns = 0;
    for stream in streams {
        let facts = facts
            .get(&stream.stream)
            .ok_or(StoreError::Unexpected("a stream that moved"))?;
        for row in stream.rows.iter().filter(stored) {
            columns += write(&mut copy, stream.stream, row, facts).await?;
        }
    }
    copy.finish(columns).await
}

/// Says how many rows it wrote.
async fn write(copy: &mut BinaryCopy<'_>, stream: StreamId, row: &Row, facts: &Facts) -> Result<u64, StoreError> {
    let header = &row.chunk.header;
    let level = facts.levels().point as i16;
    let fold_of = |signal: u32| row.folds.iter().find(|fold| fold.signal == signal);
    let mut payloads = row.chunk.columns.iter();
    for column in &header.columns {
        place(
            copy,
            stream,
            column.signal.into(),
            header,
            facts.sample_type(column.signal)?,
        )
        .await?;
        match column.content {
            ColumnContent::Present { encoding, hash } => {
                copy.i16(encoding as i16);
                copy.null();
                copy.bytes(hash.as_bytes());
                copy.payload(payloads.next().expect("I13: a present column has its bytes"))
                    .await?;
                folded(copy, header.utc_ns, level, fold_of(column.signal.into())).await?;
            }
            ColumnContent::Absent(reason) => {
                copy.null();
                copy.i16(reason as i16);
                copy.null();
                copy.null();
                folded(copy, header.utc_ns, level, None).await?;
            }
        }
    }
    assert!(
        payloads.next().is_none(),
        "I13: bytes of a column that the header does not name"
    );
    let mut rows = header.columns.len() as u64;
    if let Some(power) = fold_of(POWER_NUMBER) {
        place(copy, stream, POWER_NUMBER, header, SampleType::F64 as i16).await?;
        for _ in 0..4 {
            copy.null();
        }
        folded(copy, header.utc_ns, level, Some(power)).await?;
        rows += 1;
    }
    Ok(rows)
}

/// The first seven fields.
async fn place(
    copy: &mut BinaryCopy<'_>,
    stream: StreamId,
    signal: u32,
    header: &Header,
    sample_type: i16,
) -> Result<(), StoreError> {
    copy.row(FIELDS).await?;
    copy.bytes(stream.as_bytes());
    copy.i32(signal as i32);
    copy.i64(bigint(header.seq, "seq")?);
    copy.time(header.utc_ns);
    copy.i64(bigint(header.first_sample, "the first sample id")?);
    copy.i64(bigint(header.count, "the number of samples")?);
    copy.i16(sample_type);
    Ok(())
}

/// The last [`FOLD_FIELDS`]; all NULL where there is no fold.
async fn folded(
    copy: &mut BinaryCopy<'_>,
    utc_ns: i64,
    level: i16,
    fold: Option<&SignalFold>,
) -> Result<(), StoreError> {
    let Some(SignalFold { whole, points, .. }) = fold else {
        for _ in 0..FOLD_FIELDS {
            copy.null();
        }
        return Ok(());
    };
    envelope::folded(copy, whole)?;
    copy.i64(utc_ns);
    copy.i16(level);
    copy.payload(&points::packed(points)).await?;
    Ok(())
}
