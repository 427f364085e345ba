//! When the markers with one text, or of one kind, were, and which texts there are: those of a stream that came in chunks, and those that
//! were added to devices.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::id::StreamId;

use super::error::StoreError;
use super::read_marker::Times;
use super::transaction::within_limit;
use super::{bigint, prepared};

const IN_CHUNKS: &str = "
SELECT DISTINCT time_ns FROM marker
 WHERE stream_id = $1 AND ((format = $2 AND content = $3) OR kind = $4)
   AND EXISTS (SELECT FROM unnest($6::bigint[], $7::bigint[]) AS t(from_ns, to_ns)
                WHERE (t.from_ns IS NULL OR time_ns >= t.from_ns) AND (t.to_ns IS NULL OR time_ns < t.to_ns))
 ORDER BY time_ns LIMIT $5";

/// UTC of the markers that came in chunks of a stream with this text, or of the kind of this number, within these times, in order, at most
/// `limit`.
pub(crate) async fn in_chunks(
    connection: &mut PgConnection,
    stream: StreamId,
    within_ns: &[(Option<i64>, Option<i64>)],
    text: &str,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let (from_ns, to_ns): (Vec<Option<i64>>, Vec<Option<i64>>) = within_ns.iter().copied().unzip();
    let query = prepared(IN_CHUNKS)
        .bind(stream.to_vec())
        .bind(MarkerFormat::Text as i16)
        .bind(text.as_bytes().to_vec())
        .bind(text.parse::<i32>().ok())
        .bind(bigint(limit as u64, "the number of markers")?)
        .bind(from_ns)
        .bind(to_ns);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(|row| Ok(row.try_get("time_ns")?)).collect()
}

const ADDED: &str = "
SELECT DISTINCT a.time_ns FROM added_marker a
 WHERE a.device = ANY($5) AND ((a.format = $6 AND a.content = $7) OR a.kind = $8)
   AND EXISTS (SELECT FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS t(device, from_ns, to_ns)
                WHERE t.device = a.device AND a.time_ns >= t.from_ns AND a.time_ns < t.to_ns)
 ORDER BY a.time_ns LIMIT $4";

/// UTC of the markers that were added to devices, as in [`in_chunks`]; each of the times names its device and both ends.
pub(crate) async fn added(
    connection: &mut PgConnection,
    within: &Times,
    text: &str,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let query = prepared(ADDED)
        .bind(&within.0)
        .bind(&within.1)
        .bind(&within.2)
        .bind(bigint(limit as u64, "the number of markers")?)
        .bind(within.0.iter().flatten().cloned().collect::<Vec<String>>())
        .bind(MarkerFormat::Text as i16)
        .bind(text.as_bytes().to_vec())
        .bind(text.parse::<i32>().ok());
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(|row| Ok(row.try_get("time_ns")?)).collect()
}

const TEXTS: &str = "
(SELECT content FROM marker WHERE stream_id = $1 AND format = $2 LIMIT $3)
UNION
(SELECT content FROM added_marker WHERE device = $4 AND format = $2 LIMIT $3)";

/// Texts of a stream and of its device that a mistyped one may have meant, at most `limit` of each.
pub(crate) async fn texts(
    connection: &mut PgConnection,
    (stream, device): (StreamId, &str),
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let query = prepared(TEXTS)
        .bind(stream.to_vec())
        .bind(MarkerFormat::Text as i16)
        .bind(bigint(limit as u64, "the number of markers")?)
        .bind(device);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let text = |row: &sqlx::postgres::PgRow| {
        let content: Vec<u8> = row.try_get("content")?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    rows.iter().map(text).collect()
}
