//! What `wavekeep-server migrate` and `workspace create|set|list` do. Nothing here needs a superuser: a role that owns its
//! database, or that may create schemas in it, is enough.

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use tracing::warn;
use wavekeep_proto::id::LedgerId;

use crate::store::migration::{self, MigrationError};
use crate::store::reader_role::{self, Readers};
use crate::store::workspace_row::{self, is_valid_name};
use crate::store::{CommitFailure, Database, DatabaseError, Kind, Retention, StoreError, Transaction, Workspace};

/// The first workspace, which [`migrate`] creates.
pub const FIRST_WORKSPACE: &str = "main";

/// Names that mean something else to Postgres or to us.
const RESERVED: [&str; 3] = ["public", "wavekeep", "information_schema"];
const RESERVED_PREFIXES: [&str; 2] = ["pg_", "timescaledb"];

/// Why it was not done. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Not a name that a workspace can have.
    #[error(
        "{0:?} cannot be the name of a workspace: use 1 to 40 lower-case letters, digits and underscores, a letter first, and none of {reserved}",
        reserved = "public, wavekeep, information_schema, pg_…, timescaledb…"
    )]
    Name(String),
    /// It exists.
    #[error("there is a workspace {0:?} already: choose another name")]
    Exists(String),
    /// Something else has a schema of this name.
    #[error("the database has a schema {0:?} that is no workspace: choose another name, or drop the schema")]
    SchemaTaken(String),
    /// No connection.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A migration did not run.
    #[error("{schema}: {error}")]
    Migration {
        /// Where.
        schema: String,
        /// Why.
        error: MigrationError,
    },
    /// What Postgres says.
    #[error("the database refused: {0}")]
    Store(#[from] StoreError),
}

impl From<CommitFailure> for WorkspaceError {
    fn from(failure: CommitFailure) -> Self {
        Self::Store(failure.into())
    }
}

/// Brings the registry and every workspace up to date, and creates the first workspace if there is none. Servers that start
/// together do it one after the other.
pub async fn migrate(url: &str) -> Result<Vec<Workspace>, WorkspaceError> {
    let database = Database::connect(url, 1).await?;
    let workspaces = migrate_registry(&database).await?;
    for workspace in &workspaces {
        let mut tx = locked(&database, &workspace.schema).await?;
        run_workspace(tx.connection(), &workspace.schema).await?;
        tx.commit().await?;
    }
    if workspaces.is_empty() {
        match create_in(&database, FIRST_WORKSPACE, Retention::None).await {
            Ok(_) | Err(WorkspaceError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let workspaces = all(&database).await;
    database.close().await;
    workspaces
}

/// The workspaces of a database that this program may serve: every schema has exactly its migrations.
pub async fn check(database: &Database) -> Result<Vec<Workspace>, WorkspaceError> {
    let failed = |schema: &str, error| WorkspaceError::Migration {
        schema: schema.to_owned(),
        error,
    };
    let mut tx = database.begin_registry_read().await?;
    let checked = migration::check_registry(tx.connection()).await;
    tx.rollback().await;
    checked.map_err(|error| failed(crate::store::REGISTRY_SCHEMA, error))?;
    let workspaces = all(database).await?;
    for workspace in &workspaces {
        let mut tx = database.begin_read(workspace).await?;
        let checked = migration::check_workspace(tx.connection()).await;
        tx.rollback().await;
        checked.map_err(|error| failed(&workspace.schema, error))?;
    }
    Ok(workspaces)
}

/// Creates a workspace that keeps all it stores.
pub async fn create(url: &str, name: &str) -> Result<Workspace, WorkspaceError> {
    create_keeping(url, name, Retention::None).await
}

/// Creates a workspace: its schema, its tables and its ledger id.
pub async fn create_keeping(url: &str, name: &str, retention: Retention) -> Result<Workspace, WorkspaceError> {
    let reserved = RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if reserved || !is_valid_name(name) {
        return Err(WorkspaceError::Name(name.to_owned()));
    }
    let database = Database::connect(url, 1).await?;
    migrate_registry(&database).await?;
    let workspace = create_in(&database, name, retention).await;
    database.close().await;
    workspace
}

/// Changes how long a workspace keeps what it stores. The servers do so within the hour.
pub async fn set_retention(url: &str, name: &str, retention: Retention) -> Result<Workspace, WorkspaceError> {
    let database = Database::connect(url, 1).await?;
    let mut tx = database.begin_registry_read().await?;
    let checked = migration::check_registry(tx.connection()).await;
    tx.rollback().await;
    let schema = crate::store::REGISTRY_SCHEMA.to_owned();
    checked.map_err(|error| WorkspaceError::Migration { schema, error })?;
    let mut tx = database.begin_in(crate::store::REGISTRY_SCHEMA).await?;
    let found = workspace_row::find(tx.connection(), name).await?;
    let mut workspace = found.ok_or_else(|| StoreError::UnknownWorkspace(name.to_owned()))?;
    workspace.retention = retention;
    workspace_row::set_retention(tx.connection(), &workspace, &actor()).await?;
    tx.commit().await?;
    database.close().await;
    Ok(workspace)
}

/// One workspace, for a command that works on what is in it. Its schema has exactly this version's migrations.
pub async fn enter(url: &str, name: &str) -> Result<(Database, Arc<Workspace>), WorkspaceError> {
    let database = Database::connect(url, 1).await?;
    check(&database).await?;
    let workspace = database.workspace_now(name).await?;
    Ok((database, workspace))
}

/// All workspaces, by name.
pub async fn list(url: &str) -> Result<Vec<Workspace>, WorkspaceError> {
    let database = Database::connect(url, 1).await?;
    let workspaces = all(&database).await;
    database.close().await;
    workspaces
}

async fn all(database: &Database) -> Result<Vec<Workspace>, WorkspaceError> {
    let mut tx = database.begin_registry_read().await?;
    let workspaces = workspace_row::all(tx.connection()).await?;
    tx.rollback().await;
    Ok(workspaces)
}

async fn locked(database: &Database, schema: &str) -> Result<Transaction, WorkspaceError> {
    let mut tx = database.begin_in(schema).await?;
    migration::lock(tx.connection()).await?;
    Ok(tx)
}

async fn migrate_registry(database: &Database) -> Result<Vec<Workspace>, WorkspaceError> {
    let schema = crate::store::REGISTRY_SCHEMA;
    let mut tx = locked(database, schema).await?;
    let connection = tx.connection();
    migration::create_schema(connection, schema).await?;
    let failed = |error| WorkspaceError::Migration {
        schema: schema.to_owned(),
        error,
    };
    migration::run_registry(connection).await.map_err(failed)?;
    let workspaces = workspace_row::all(connection).await?;
    tx.commit().await?;
    Ok(workspaces)
}

async fn run_workspace(connection: &mut PgConnection, schema: &str) -> Result<(), WorkspaceError> {
    let failed = |error| WorkspaceError::Migration {
        schema: schema.to_owned(),
        error,
    };
    migration::run_workspace(connection).await.map_err(failed)?;
    let role = reader_role::reader_role(schema);
    match reader_role::ensure(connection, schema).await? {
        Readers::Ready => {}
        Readers::NotAllowed => warn!(
            role,
            "readers have no role of their own, because this user may not create one: let one who may run `CREATE ROLE \"{role}\" LOGIN`, then migrate again"
        ),
        Readers::WithoutPath => warn!(
            role,
            "readers must name their schema, because this user may not set their search_path: let one who may run `ALTER ROLE \"{role}\" IN DATABASE … SET search_path = \"{schema}\"`"
        ),
    }
    Ok(())
}

async fn create_in(database: &Database, name: &str, retention: Retention) -> Result<Workspace, WorkspaceError> {
    let mut tx = locked(database, name).await?;
    let connection = tx.connection();
    if workspace_row::find(connection, name).await?.is_some() {
        return Err(WorkspaceError::Exists(name.to_owned()));
    }
    if !migration::create_schema(connection, name).await? {
        return Err(WorkspaceError::SchemaTaken(name.to_owned()));
    }
    run_workspace(connection, name).await?;
    let kind = if migration::is_native(connection).await? {
        Kind::Native
    } else {
        Kind::Hypertable
    };
    let workspace = Workspace {
        name: name.to_owned(),
        schema: name.to_owned(),
        kind,
        ledger_id: minted(),
        retention,
    };
    workspace_row::insert(connection, &workspace, &actor()).await?;
    tx.commit().await?;
    Ok(workspace)
}

fn minted() -> LedgerId {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the operating system has random bytes");
    LedgerId(id)
}

/// The user who runs this, for the audit.
pub(crate) fn actor() -> String {
    let uid = nix::unistd::Uid::current();
    nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| format!("uid {uid}"), |user| user.name)
}
