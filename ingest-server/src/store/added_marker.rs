//! Table `added_marker`: notes at times of devices, which people add. Those of chunks are in `marker`.

use sqlx::postgres::PgConnection;

use super::error::StoreError;
use super::statement;
use super::transaction::within_limit;

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) device: &'a str,
    pub(crate) time_ns: i64,
    pub(crate) kind: i32,
    pub(crate) group: i16,
    pub(crate) y: f64,
    pub(crate) format: i16,
    pub(crate) content: &'a [u8],
}

const INSERT: &str = "
INSERT INTO added_marker (id, device, time_ns, kind, \"group\", y, format, content)
SELECT * FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::integer[], $5::smallint[], $6::float8[], $7::smallint[], $8::bytea[])
ON CONFLICT (id) DO NOTHING";

/// Adds those that are not there yet: how many.
pub(crate) async fn insert(connection: &mut PgConnection, rows: &[Row<'_>]) -> Result<u64, StoreError> {
    let query = statement(INSERT)
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.device).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.time_ns).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.kind).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.group).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.y).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.format).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.content).collect::<Vec<_>>());
    let done = within_limit(query.execute(connection)).await?;
    Ok(done.rows_affected())
}

/// Deletes those that are there: how many.
pub(crate) async fn delete(connection: &mut PgConnection, ids: &[&[u8]]) -> Result<u64, StoreError> {
    let query = statement("DELETE FROM added_marker WHERE id = ANY($1)").bind(ids);
    let done = within_limit(query.execute(connection)).await?;
    Ok(done.rows_affected())
}
