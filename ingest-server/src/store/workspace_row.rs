//! Table `wavekeep.workspace`: which workspaces there are.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::id::LedgerId;

use super::error::StoreError;
use super::retention::Retention;
use super::statement;

/// What a workspace's big tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TimescaleDB's.
    Hypertable,
    /// Native range partitions.
    Native,
}

impl Kind {
    /// As it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hypertable => "hypertable",
            Self::Native => "native",
        }
    }
}

/// A use case with its own schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// As agents and readers give it.
    pub name: String,
    /// Where its tables are.
    pub schema: String,
    /// What its big tables are.
    pub kind: Kind,
    /// Minted with the schema.
    pub ledger_id: LedgerId,
    /// When it was read; nothing else of a workspace ever changes.
    pub retention: Retention,
}

/// 1 to 40 lower-case letters, digits and underscores, a letter first: a schema's name that needs no quotes.
#[must_use]
pub(crate) fn is_valid_name(name: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 40 && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(usable)
}

fn from_row(row: &PgRow) -> Result<Workspace, StoreError> {
    let kind = match row.try_get("kind")? {
        "hypertable" => Kind::Hypertable,
        "native" => Kind::Native,
        _ => return Err(StoreError::Unexpected("wavekeep.workspace.kind")),
    };
    let ledger_id = LedgerId::from_slice(row.try_get("ledger_id")?);
    Ok(Workspace {
        name: row.try_get("name")?,
        schema: row.try_get("schema")?,
        kind,
        ledger_id: ledger_id.map_err(|_| StoreError::Unexpected("wavekeep.workspace.ledger_id"))?,
        retention: Retention::from_column(row.try_get("retention_days")?)?,
    })
}

/// The one of this name.
pub(crate) async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Workspace>, StoreError> {
    let sql = "SELECT name, schema, kind, ledger_id, retention_days FROM wavekeep.workspace WHERE name = $1";
    let row = statement(sql).bind(name).fetch_optional(connection).await?;
    row.as_ref().map(from_row).transpose()
}

/// All of them, by name.
pub(crate) async fn all(connection: &mut PgConnection) -> Result<Vec<Workspace>, StoreError> {
    let sql = "SELECT name, schema, kind, ledger_id, retention_days FROM wavekeep.workspace ORDER BY name";
    statement(sql)
        .fetch_all(connection)
        .await?
        .iter()
        .map(from_row)
        .collect()
}

/// Adds one, and says so in the audit.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    workspace: &Workspace,
    actor: &str,
) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO wavekeep.workspace (name, schema, kind, ledger_id, retention_days) VALUES ($1, $2, $3, $4, $5)";
    let insert = statement(sql)
        .bind(&workspace.name)
        .bind(&workspace.schema)
        .bind(workspace.kind.name());
    insert
        .bind(workspace.ledger_id.as_bytes().as_slice())
        .bind(workspace.retention.column())
        .execute(&mut *connection)
        .await?;
    audit(connection, (actor, "workspace created"), workspace).await
}

/// Changes how long it keeps what it stores, and says so in the audit.
pub(crate) async fn set_retention(
    connection: &mut PgConnection,
    workspace: &Workspace,
    actor: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE wavekeep.workspace SET retention_days = $2 WHERE name = $1";
    statement(sql)
        .bind(&workspace.name)
        .bind(workspace.retention.column())
        .execute(&mut *connection)
        .await?;
    audit(connection, (actor, "retention set"), workspace).await
}

async fn audit(
    connection: &mut PgConnection,
    (actor, action): (&str, &'static str),
    workspace: &Workspace,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO wavekeep.audit (actor, action, workspace, detail)
               VALUES ($1, $2, $3, jsonb_build_object('retention', $4::text))";
    let insert = statement(sql).bind(actor).bind(action).bind(&workspace.name);
    insert.bind(workspace.retention.to_string()).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_quotes() {
        assert!(is_valid_name("main") && is_valid_name("team_7") && is_valid_name(&"a".repeat(40)));
        for name in ["", "Main", "7up", "_x", "a-b", "a b", "a\"b", "ä", &"a".repeat(41)] {
            assert!(!is_valid_name(name), "{name:?}");
        }
    }
}
