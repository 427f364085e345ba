//! Reads of markers: those that came in chunks, and those that were added.

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::id::StreamId;

use super::error::StoreError;
use super::transaction::within_limit;
use super::{bigint, prepared, unsigned};

/// What both have.
#[derive(Debug, Clone)]
pub(crate) struct MarkerRow {
    pub(crate) time_ns: i64,
    pub(crate) kind: u32,
    pub(crate) group: u32,
    pub(crate) y: f64,
    pub(crate) format: MarkerFormat,
    pub(crate) content: Bytes,
}

fn common(row: &PgRow) -> Result<MarkerRow, StoreError> {
    let number = |column: &str| -> Result<u32, StoreError> {
        let number: i32 = row.try_get(column)?;
        u32::try_from(number).map_err(|_| StoreError::Unexpected("marker.kind"))
    };
    Ok(MarkerRow {
        time_ns: row.try_get("time_ns")?,
        kind: number("kind")?,
        group: number("group")?,
        y: row.try_get("y")?,
        format: match row.try_get::<i16, _>("format")? {
            1 => MarkerFormat::Text,
            2 => MarkerFormat::Json,
            3 => MarkerFormat::Bytes,
            _ => return Err(StoreError::Unexpected("marker.format")),
        },
        content: row.try_get::<Vec<u8>, _>("content")?.into(),
    })
}

/// Where the next page begins.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct After {
    sample: i64,
    id: i64,
}

/// One that came in a chunk.
#[derive(Debug, Clone)]
pub(crate) struct InChunk {
    pub(crate) seq: u64,
    pub(crate) sample: u64,
    pub(crate) marker: MarkerRow,
}

const IN_CHUNKS: &str = "
SELECT id, seq, sample, time_ns, kind, \"group\"::integer AS \"group\", y, format, content FROM marker
 WHERE stream_id = $1 AND seq <= $2 AND (sample, id) > ($3, $4) AND sample >= $5 AND sample < $6
 ORDER BY sample, id LIMIT $7";

/// Those of a range of samples in chunks up to `last_seq`, in order of samples, at most `limit`; and where the next page begins, if there
/// may be one.
pub(crate) async fn in_chunks(
    connection: &mut PgConnection,
    stream: StreamId,
    (samples, last_seq): ((u64, u64), u64),
    after: After,
    limit: usize,
) -> Result<(Vec<InChunk>, Option<After>), StoreError> {
    let query = prepared(IN_CHUNKS)
        .bind(stream.to_vec())
        .bind(bigint(last_seq, "the seq")?)
        .bind(after.sample)
        .bind(after.id)
        .bind(bigint(samples.0, "the sample id")?)
        .bind(bigint(samples.1, "the sample id")?)
        .bind(bigint(limit as u64, "the number of markers")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let next = match rows.last() {
        Some(last) if rows.len() == limit => Some(After {
            sample: last.try_get("sample")?,
            id: last.try_get("id")?,
        }),
        _ => None,
    };
    let marker = |row: &PgRow| {
        Ok(InChunk {
            seq: unsigned(row.try_get("seq")?, "marker.seq")?,
            sample: unsigned(row.try_get("sample")?, "marker.sample")?,
            marker: common(row)?,
        })
    };
    Ok((rows.iter().map(marker).collect::<Result<_, StoreError>>()?, next))
}

/// One that was added.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub(crate) id: Vec<u8>,
    pub(crate) device: String,
    pub(crate) marker: MarkerRow,
}

/// Times of devices: None is every device, at any time.
pub(crate) type Times = (Vec<Option<String>>, Vec<Option<i64>>, Vec<Option<i64>>);

const ADDED: &str = "
SELECT a.id, a.device, a.time_ns, a.kind, a.\"group\"::integer AS \"group\", a.y, a.format, a.content FROM added_marker a
 WHERE (a.device, a.time_ns, a.id) > ($4, $5, $6)
   AND EXISTS (SELECT FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS t(device, from_ns, to_ns)
                WHERE (t.device IS NULL OR t.device = a.device) AND (t.from_ns IS NULL OR a.time_ns >= t.from_ns)
                  AND (t.to_ns IS NULL OR a.time_ns < t.to_ns))
   AND ($8::text[] IS NULL OR a.device = ANY($8))
 ORDER BY a.device, a.time_ns, a.id LIMIT $7";

/// Those within any of these times, by device and time, at most `limit`, after one.
pub(crate) async fn added(
    connection: &mut PgConnection,
    times: &Times,
    after: Option<&Added>,
    limit: usize,
) -> Result<Vec<Added>, StoreError> {
    let devices: Option<Vec<String>> = times.0.iter().cloned().collect();
    let query = prepared(ADDED)
        .bind(&times.0)
        .bind(&times.1)
        .bind(&times.2)
        .bind(after.map_or("", |after| after.device.as_str()))
        .bind(after.map_or(i64::MIN, |after| after.marker.time_ns))
        .bind(after.map_or(&[][..], |after| &after.id[..]))
        .bind(bigint(limit as u64, "the number of markers")?)
        .bind(devices);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let added = |row: &PgRow| {
        Ok(Added {
            id: row.try_get("id")?,
            device: row.try_get("device")?,
            marker: common(row)?,
        })
    };
    rows.iter().map(added).collect()
}
