//! The role of a workspace's readers: it may read its schema and nothing else, and finds it without any set-up.
//!
//! Who migrates may not be allowed to create roles, or to change them, as in a managed database: then whoever may does it by hand, and
//! the next `migrate` grants what is missing. Nothing else depends on the role.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::error::StoreError;
use super::statement;

/// Of a workspace.
#[must_use]
pub fn reader_role(schema: &str) -> String {
    format!("wavekeep_read_{schema}")
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The role is there, and may read.
    Ready,
    /// It is there and may read, but somebody else must set its search path.
    WithoutPath,
    /// This user may not create it.
    NotAllowed,
}

/// Each step by itself: one that is not allowed takes no other back.
fn attempt(step: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "DO $$ BEGIN {step}; EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL; END $$"
    ))
}

/// Makes the role of the schema that the transaction has entered, if it may, and lets it read what is there and what will be.
pub(crate) async fn ensure(connection: &mut PgConnection, schema: &str) -> Result<Readers, StoreError> {
    let (role, schema) = (format!("\"{}\"", reader_role(schema)), format!("\"{schema}\""));
    sqlx::raw_sql(attempt(&format!("CREATE ROLE {role} LOGIN NOINHERIT")))
        .execute(&mut *connection)
        .await?;
    let role_name = role.trim_matches('"').to_owned();
    let there = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
    let there: bool = statement(there)
        .bind(&role_name)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    if !there {
        return Ok(Readers::NotAllowed);
    }
    let grants = format!(
        "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *connection).await?;
    let database = "(SELECT quote_ident(current_database()))";
    let path = format!(
        "EXECUTE 'ALTER ROLE {role} IN DATABASE ' || {database} || ' SET search_path = {schema}'; \
         EXECUTE 'ALTER ROLE {role} IN DATABASE ' || {database} || ' SET default_transaction_read_only = on'"
    );
    sqlx::raw_sql(attempt(&path)).execute(&mut *connection).await?;
    let is_set = "SELECT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole JOIN pg_database d ON d.oid = s.setdatabase
                                  WHERE r.rolname = $1 AND d.datname = current_database()
                                    AND EXISTS (SELECT FROM unnest(s.setconfig) AS one WHERE one LIKE 'search_path=%'))";
    let is_set: bool = statement(is_set)
        .bind(&role_name)
        .fetch_one(connection)
        .await?
        .try_get(0)?;
    Ok(if is_set { Readers::Ready } else { Readers::WithoutPath })
}
