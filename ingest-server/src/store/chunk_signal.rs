//! Table `chunk_signal`: one signal of a samples chunk, its bytes as they were encoded.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::ColumnContent;
use wavekeep_proto::id::StreamId;

use super::bigint;
use super::chunk::StreamRows;
use super::copy::BinaryCopy;
use super::error::StoreError;
use super::stream::Facts;
use crate::ledger::Row;

const COPY: &str =
    "COPY chunk_signal (stream_id, signal, seq, start_time, first_sample, sample_count, sample_type, encoding,
                                       absent_reason, hash, payload) FROM STDIN (FORMAT binary)";

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
            write(&mut copy, stream.stream, row, facts).await?;
            columns += row.chunk.header.columns.len() as u64;
        }
    }
    copy.finish(columns).await
}

async fn write(copy: &mut BinaryCopy<'_>, stream: StreamId, row: &Row, facts: &Facts) -> Result<(), StoreError> {
    let header = &row.chunk.header;
    let mut payloads = row.chunk.columns.iter();
    for column in &header.columns {
        copy.row(11).await?;
        copy.bytes(stream.as_bytes());
        copy.i32(i32::from(column.signal));
        copy.i64(bigint(header.seq, "seq")?);
        copy.time(header.utc_ns);
        copy.i64(bigint(header.first_sample, "the first sample id")?);
        copy.i64(bigint(header.count, "the number of samples")?);
        copy.i16(facts.sample_type(column.signal)?);
        match column.content {
            ColumnContent::Present { encoding, hash } => {
                copy.i16(encoding as i16);
                copy.null();
                copy.bytes(hash.as_bytes());
                copy.payload(payloads.next().expect("I13: a present column has its bytes"))
                    .await?;
            }
            ColumnContent::Absent(reason) => {
                copy.null();
                copy.i16(reason as i16);
                copy.null();
                copy.null();
            }
        }
    }
    assert!(
        payloads.next().is_none(),
        "I13: bytes of a column that the header does not name"
    );
    Ok(())
}
