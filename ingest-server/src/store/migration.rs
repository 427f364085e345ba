//! The embedded migrations: `migrations/registry` once for a database, `migrations/workspace` once for each workspace's schema.
//! Forward only. They run inside of a [`super::Transaction`] of the caller, which also holds the lock that makes servers that
//! start together migrate one after the other.

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Row, SqlStr};

use super::error::StoreError;
use super::statement;

const REGISTRY: [(i64, &str, &str); 2] = [
    (
        1,
        "registry",
        include_str!("../../../migrations/registry/0001_registry.sql"),
    ),
    (
        2,
        "retention",
        include_str!("../../../migrations/registry/0002_retention.sql"),
    ),
];
const WORKSPACE: [(i64, &str, &str); 10] = [
    (
        1,
        "workspace",
        include_str!("../../../migrations/workspace/0001_workspace.sql"),
    ),
    (
        2,
        "envelopes",
        include_str!("../../../migrations/workspace/0002_envelopes.sql"),
    ),
    (3, "views", include_str!("../../../migrations/workspace/0003_views.sql")),
    (
        4,
        "points",
        include_str!("../../../migrations/workspace/0004_points.sql"),
    ),
    (
        5,
        "successors",
        include_str!("../../../migrations/workspace/0005_successors.sql"),
    ),
    (
        6,
        "succeeded",
        include_str!("../../../migrations/workspace/0006_succeeded.sql"),
    ),
    (
        7,
        "agent_reports",
        include_str!("../../../migrations/workspace/0007_agent_reports.sql"),
    ),
    (
        8,
        "further_successors",
        include_str!("../../../migrations/workspace/0008_further_successors.sql"),
    ),
    (9, "runs", include_str!("../../../migrations/workspace/0009_runs.sql")),
    (
        10,
        "samples",
        include_str!("../../../migrations/workspace/0010_samples.sql"),
    ),
];

/// Held until the transaction ends by whoever migrates.
const LOCK_ID: i64 = 0x57_41_56_45_4b_45_45_50;

/// Why a schema was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// An older program met a newer database.
    #[error("a newer version has migrated this database (migration {0}): use that version, or a newer one")]
    Newer(i64),
    /// A migration file was edited after it had been applied.
    #[error(
        "migration {0} is not the one that was applied here: use the version that this database came from, or a newer one"
    )]
    Edited(i64),
    /// What Postgres says.
    #[error("a migration failed and was undone: {0}")]
    Failed(String),
    /// Migrations of this program were never run here.
    #[error("the database is not up to date: run `wavekeep-server migrate` with the same --database-url first")]
    Behind,
}

fn migrator(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    // Without transactions of their own: the caller's covers all of them.
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            SqlStr::from_static(sql),
            true,
        )
    };
    let mut migrator = Migrator::with_migrations(files.iter().map(migration).collect());
    migrator.set_locking(false);
    migrator.dangerous_set_table_name("migration");
    migrator
}

/// Waits for other servers that migrate; released with the transaction.
pub(crate) async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    statement("SET LOCAL lock_timeout = '10min'")
        .execute(&mut *connection)
        .await?;
    statement("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK_ID)
        .execute(&mut *connection)
        .await?;
    statement("SET LOCAL lock_timeout = '10s'").execute(connection).await?;
    Ok(())
}

/// Creates the schema that the transaction has entered, if it is not there. Says whether it was not.
pub(crate) async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<bool, StoreError> {
    // CREATE SCHEMA IF NOT EXISTS asks for the right to create one even where it is there.
    let there = statement("SELECT FROM pg_namespace WHERE nspname = $1")
        .bind(schema)
        .fetch_optional(&mut *connection)
        .await?;
    if there.is_some() {
        return Ok(false);
    }
    connection
        .create_schema_if_not_exists(&format!("\"{schema}\""))
        .await
        .map_err(|error| match error {
            MigrateError::Execute(error) => error.into(),
            _ => StoreError::Unexpected("CREATE SCHEMA"),
        })?;
    Ok(true)
}

async fn run(connection: &mut PgConnection, files: &[(i64, &'static str, &'static str)]) -> Result<(), MigrationError> {
    migrator(files)
        .run_direct(None, connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(version) => MigrationError::Newer(version),
            MigrateError::VersionMismatch(version) => MigrationError::Edited(version),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                MigrationError::Failed(StoreError::from(error).to_string())
            }
            other => MigrationError::Failed(other.to_string()),
        })
}

/// Brings the registry, whose schema the transaction has entered, up to date.
pub(crate) async fn run_registry(connection: &mut PgConnection) -> Result<(), MigrationError> {
    run(connection, &REGISTRY).await
}

/// Brings the workspace whose schema the transaction has entered up to date.
pub(crate) async fn run_workspace(connection: &mut PgConnection) -> Result<(), MigrationError> {
    run(connection, &WORKSPACE).await
}

async fn check(
    connection: &mut PgConnection,
    files: &[(i64, &'static str, &'static str)],
) -> Result<(), MigrationError> {
    let failed = |error: sqlx::Error| MigrationError::Failed(StoreError::from(error).to_string());
    let there = statement("SELECT FROM pg_class WHERE oid = to_regclass('migration')");
    let there = there.fetch_optional(&mut *connection).await.map_err(failed)?;
    if there.is_none() {
        return Err(MigrationError::Behind);
    }
    let sql = "SELECT version, checksum FROM migration WHERE success ORDER BY version";
    let rows = statement(sql).fetch_all(connection).await.map_err(failed)?;
    let applied = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let applied: Vec<(i64, Vec<u8>)> = applied.collect::<Result<_, _>>().map_err(failed)?;
    let migrator = migrator(files);
    let mut known = migrator.iter();
    for (version, checksum) in &applied {
        match known.next() {
            Some(migration) if migration.version == *version && *migration.checksum == **checksum => {}
            Some(migration) if migration.version == *version => return Err(MigrationError::Edited(*version)),
            _ => return Err(MigrationError::Newer(*version)),
        }
    }
    match known.next() {
        Some(_) => Err(MigrationError::Behind),
        None => Ok(()),
    }
}

/// Is the registry, whose schema the transaction has entered, as this program wants it?
pub(crate) async fn check_registry(connection: &mut PgConnection) -> Result<(), MigrationError> {
    check(connection, &REGISTRY).await
}

/// Is the workspace whose schema the transaction has entered as this program wants it?
pub(crate) async fn check_workspace(connection: &mut PgConnection) -> Result<(), MigrationError> {
    check(connection, &WORKSPACE).await
}

/// Which branch the first migration of the workspace has taken.
pub(crate) async fn is_native(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let partitioned = statement("SELECT FROM pg_class WHERE oid = 'chunk'::regclass AND relkind = 'p'");
    Ok(partitioned.fetch_optional(connection).await?.is_some())
}
