//! Reads of the labels that streams and runs have.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::error::StoreError;
use super::transaction::within_limit;
use super::{bigint, prepared};

/// Keys that a mistyped one may have meant, at most `limit`.
pub(crate) async fn keys(connection: &mut PgConnection, limit: usize) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT jsonb_object_keys(labels) FROM stream UNION SELECT jsonb_object_keys(labels) FROM run LIMIT $1";
    let query = prepared(sql).bind(bigint(limit as u64, "the number of keys")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
