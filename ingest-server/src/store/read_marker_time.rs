//! Reads of table `marker`: when the markers of a stream with one text, or of one kind, were; and which texts there are.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::id::StreamId;

use super::error::StoreError;
use super::transaction::within_limit;
use super::{bigint, prepared};

const TIMES: &str = "
SELECT DISTINCT sample, time_ns FROM marker
 WHERE stream_id = $1 AND ((format = $2 AND content = $3) OR kind = $4)
 ORDER BY sample LIMIT $5";

/// UTC of the markers with this text, or of the kind of this number, in order, at most `limit`.
pub(crate) async fn times_ns(
    connection: &mut PgConnection,
    stream: StreamId,
    text: &str,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let query = prepared(TIMES)
        .bind(stream.to_vec())
        .bind(MarkerFormat::Text as i16)
        .bind(text.as_bytes().to_vec())
        .bind(text.parse::<i32>().ok())
        .bind(bigint(limit as u64, "the number of markers")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(|row| Ok(row.try_get("time_ns")?)).collect()
}

const TEXTS: &str = "SELECT DISTINCT content FROM marker WHERE stream_id = $1 AND format = $2 LIMIT $3";

/// Texts that a mistyped one may have meant, at most `limit`.
pub(crate) async fn texts(
    connection: &mut PgConnection,
    stream: StreamId,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let query = prepared(TEXTS)
        .bind(stream.to_vec())
        .bind(MarkerFormat::Text as i16)
        .bind(bigint(limit as u64, "the number of markers")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let text = |row: &sqlx::postgres::PgRow| {
        let content: Vec<u8> = row.try_get("content")?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    rows.iter().map(text).collect()
}
