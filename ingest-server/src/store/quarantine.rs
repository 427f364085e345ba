//! Table `quarantine`: chunks that were intact but unacceptable, as they were sent. Poison never blocks a stream.

use sqlx::postgres::PgConnection;
use wavekeep_proto::wire;

use super::bigint;
use super::chunk::StreamRows;
use super::copy::BinaryCopy;
use super::error::StoreError;
use super::text::clean;

const COPY: &str =
    "COPY quarantine (stream_id, seq, start_time, header, digest, columns, why) FROM STDIN (FORMAT binary)";

/// Stores the bytes of the rows that validation refused.
pub(super) async fn copy(connection: &mut PgConnection, streams: &[StreamRows<'_>]) -> Result<(), StoreError> {
    if streams
        .iter()
        .all(|stream| stream.rows.iter().all(|row| row.quarantine.is_none()))
    {
        return Ok(());
    }
    let mut copy = BinaryCopy::begin(connection, COPY).await?;
    let mut rows = 0;
    for stream in streams {
        for row in stream.rows {
            let Some(quarantine) = &row.quarantine else { continue };
            let header = &row.chunk.header;
            copy.row(7).await?;
            copy.bytes(stream.stream.as_bytes());
            copy.i64(bigint(header.seq, "seq")?);
            copy.time(header.utc_ns);
            copy.payload(&wire::header_to_bytes(header)).await?;
            copy.bytes(row.chunk.digest.as_bytes());
            copy.payloads(row.chunk.columns.iter().map(|column| column.as_ref()))
                .await?;
            copy.bytes(clean(&quarantine.why).as_bytes());
            rows += 1;
        }
    }
    copy.finish(rows).await
}
