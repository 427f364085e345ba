//! Table `marker`: notes at samples; those of chunks are stored with their chunk.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use wavekeep_proto::id::StreamId;

use super::bigint;
use super::chunk::StreamRows;
use super::copy::BinaryCopy;
use super::error::StoreError;
use super::stream::Facts;

const COPY: &str =
    "COPY marker (stream_id, seq, sample, time_ns, kind, \"group\", y, format, content) FROM STDIN (FORMAT binary)";

/// Stores the markers of the rows, also of those in quarantine: their header is good.
pub(super) async fn copy(
    connection: &mut PgConnection,
    streams: &[StreamRows<'_>],
    facts: &HashMap<StreamId, Facts>,
) -> Result<(), StoreError> {
    if streams
        .iter()
        .all(|stream| stream.rows.iter().all(|row| row.chunk.header.markers.is_empty()))
    {
        return Ok(());
    }
    let mut copy = BinaryCopy::begin(connection, COPY).await?;
    let mut rows = 0;
    for stream in streams {
        let facts = facts
            .get(&stream.stream)
            .ok_or(StoreError::Unexpected("a stream that moved"))?;
        for header in stream.rows.iter().map(|row| &row.chunk.header) {
            for marker in &header.markers {
                copy.row(9).await?;
                copy.bytes(stream.stream.as_bytes());
                copy.i64(bigint(header.seq, "seq")?);
                copy.i64(bigint(marker.sample, "a marker's sample id")?);
                copy.i64(facts.time_after(header.utc_ns, marker.sample.saturating_sub(header.first_sample)));
                copy.i32(i32::from(marker.kind));
                copy.i16(i16::from(marker.group));
                copy.f64(marker.y);
                copy.i16(marker.format as i16);
                copy.payload(&marker.content).await?;
                rows += 1;
            }
        }
    }
    copy.finish(rows).await
}
