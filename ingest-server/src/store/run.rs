//! Table `run`: a row for every run that a stream was ever opened for, or that somebody created.

use sqlx::postgres::PgConnection;

use super::error::StoreError;
use super::statement;
use super::text::clean;

/// Adds it if it is new.
pub(super) async fn insert(connection: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO run (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
    statement(sql).bind(clean(name).as_ref()).execute(connection).await?;
    Ok(())
}
