//! The connections to Postgres, what is known of its workspaces, and which primary it is.
//!
//! # Invariants
//! - I6: a transaction that writes begins only where commits are durable, and never on a primary older than one that has answered.
//! - I10: a workspace is entered by [`Database::begin`] or [`Database::begin_read`], and nowhere else.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool, Postgres};

use super::error::StoreError;
use super::limits;
use super::transaction::{Transaction, within_limit};
use super::workspace_row::{self, Workspace};

/// The schema of what all workspaces share.
pub(crate) const REGISTRY_SCHEMA: &str = "wavekeep";

/// Why there is no connection at all. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Not a URL that Postgres' clients know.
    #[error("the database URL is not usable ({0}): give one like postgres://user@host:5432/database")]
    Url(String),
    /// It does not answer.
    #[error("the database at {place} does not answer ({why}): is Postgres running there, and may this user connect?")]
    Unreachable {
        /// Host and port, or the socket's directory; never the password.
        place: String,
        /// What the attempt said.
        why: String,
    },
    /// It answers, but not as whom the URL names.
    #[error(
        "there is no trusted connection to the database at {place} ({why}): name the certificate authority of that server in sslrootcert, its host as its certificate does, and in sslmode what it offers"
    )]
    Untrusted {
        /// See `Unreachable`.
        place: String,
        /// What the attempt said.
        why: String,
    },
    /// It answers, but cannot be written durably.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A pool of connections to one database. Clones share it.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    workspaces: Arc<RwLock<HashMap<String, Arc<Workspace>>>>,
    primary: Arc<Primary>,
    standby_required: bool,
}

/// Which primary answers. Its timeline rises with every promotion of a standby, so the highest one is the last promoted: where an
/// address moves between two servers that both believe to be the primary, the older one is told by its lower timeline.
#[derive(Debug, Default)]
struct Primary(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The highest; 0 before the first answer.
    timeline: u32,
    risen_at: Option<Instant>,
}

impl Primary {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection leads to this timeline: may it be used?
    fn observe(&self, timeline: u32) -> Result<(), StoreError> {
        let mut seen = self.seen();
        let before = seen.timeline;
        if timeline < before {
            return Err(StoreError::OldPrimary {
                newest: before,
                answered: timeline,
            });
        }
        seen.timeline = timeline;
        if before != 0 && before != timeline {
            seen.risen_at = Some(Instant::now());
            return Err(StoreError::PrimaryChanged {
                before,
                after: timeline,
            });
        }
        Ok(())
    }

    /// Was a connection of this age made to the primary of before?
    fn is_outlived(&self, age: Duration) -> bool {
        self.seen().risen_at.is_some_and(|at| age >= at.elapsed())
    }
}

fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(directory) => format!("{} port {}", directory.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// TLS is not offered, a certificate does not convince, or there is no file to judge it by.
fn is_about_trust(options: &PgConnectOptions, error: &sqlx::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        sqlx::Error::Tls(_) => true,
        // rustls' errors come as such. And without a socket no file is looked for but those of certificates.
        sqlx::Error::Io(error) => {
            error.kind() == ErrorKind::InvalidData
                || (error.kind() == ErrorKind::NotFound && options.get_socket().is_none())
        }
        _ => false,
    }
}

fn options_of(url: &str) -> Result<PgConnectOptions, DatabaseError> {
    // The parser itself takes any scheme.
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(DatabaseError::Url("it does not start with postgres://".into()));
    }
    PgConnectOptions::from_str(url).map_err(|error| DatabaseError::Url(error.to_string()))
}

impl Database {
    /// Connects at most so often at a time, and checks that the database answers, is a primary and commits durably.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, DatabaseError> {
        let options = options_of(url)?;
        let options = options.application_name("wavekeep-server").disable_statement_logging();
        let unreachable = |why: String| DatabaseError::Unreachable {
            place: place(&options),
            why,
        };
        let refused = |error: sqlx::Error| match error {
            error if is_about_trust(&options, &error) => DatabaseError::Untrusted {
                place: place(&options),
                why: error.to_string(),
            },
            error => unreachable(error.to_string()),
        };
        let first = tokio::time::timeout(limits::CONNECT_SECONDS_MAX, options.connect()).await;
        let connection = first.map_err(|_| unreachable("no answer".into()))?.map_err(refused)?;
        drop(connection);
        let primary = Arc::<Primary>::default();
        let known = primary.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(limits::CONNECT_SECONDS_MAX)
            .test_before_acquire(false)
            .before_acquire(move |connection, about| {
                let usable = !known.is_outlived(about.age);
                let asked = usable && about.idle_for > limits::CONNECTION_TRUSTED;
                Box::pin(async move { Ok(usable && (!asked || connection.ping().await.is_ok())) })
            })
            .connect_lazy_with(options);
        let database = Self {
            pool,
            workspaces: Arc::default(),
            primary,
            standby_required: false,
        };
        database.begin_in(REGISTRY_SCHEMA).await?.rollback().await;
        Ok(database)
    }

    /// Nothing is committed while the database names no synchronous standby.
    #[must_use]
    pub fn requiring_standby(self, standby_required: bool) -> Self {
        Self {
            standby_required,
            ..self
        }
    }

    /// Of the primary; it rises when a standby was promoted. [`super::PrimaryProbe`] then ends every session, because acks may
    /// have been lost with the old primary.
    #[must_use]
    pub fn timeline(&self) -> u32 {
        self.primary.seen().timeline
    }

    /// Somebody else has asked which primary answers: may it be used?
    pub(super) fn observe(&self, timeline: u32) -> Result<(), StoreError> {
        self.primary.observe(timeline)
    }

    /// Closes all connections once they are free.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction in a workspace.
    pub async fn begin(&self, workspace: &Workspace) -> Result<Transaction, StoreError> {
        self.begin_in(&workspace.schema).await
    }

    /// Begins a transaction that only reads, and sees one state of the database throughout.
    pub async fn begin_read(&self, workspace: &Workspace) -> Result<Transaction, StoreError> {
        Transaction::begin_read(self.pool.acquire().await?, &workspace.schema).await
    }

    /// A connection that answers: a commit that fails ends sessions, so one that went with a restart of the database is not tried. (A
    /// reader just asks again.)
    async fn answering(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        loop {
            let mut connection = self.pool.acquire().await?;
            if within_limit(connection.ping()).await.is_ok() {
                return Ok(connection);
            }
            // The pool has one less that was there before, and a new one answers or is not made.
            drop(connection.detach());
        }
    }

    /// Begins a transaction in the registry or, while it is being created, in a workspace's schema.
    pub(crate) async fn begin_in(&self, schema: &str) -> Result<Transaction, StoreError> {
        let (tx, began) = Transaction::begin(self.answering().await?, schema, self.standby_required).await?;
        // On an error the transaction is dropped, and with it the connection: nothing more goes over one to an old primary.
        self.primary.observe(began.timeline)?;
        Ok(tx)
    }

    /// Begins a transaction that only reads the registry.
    pub(crate) async fn begin_registry_read(&self) -> Result<Transaction, StoreError> {
        Transaction::begin_read(self.pool.acquire().await?, REGISTRY_SCHEMA).await
    }

    /// A workspace by name, from memory if it was read before: nothing of it but its retention ever changes.
    pub async fn workspace(&self, name: &str) -> Result<Arc<Workspace>, StoreError> {
        let known = self
            .workspaces
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        match known {
            Some(workspace) => Ok(workspace),
            None => self.workspace_now(name).await,
        }
    }

    /// A workspace by name, as the database has it now: another database may answer than before.
    pub async fn workspace_now(&self, name: &str) -> Result<Arc<Workspace>, StoreError> {
        if !workspace_row::is_valid_name(name) {
            return Err(StoreError::UnknownWorkspace(name.to_owned()));
        }
        let mut tx = self.begin_registry_read().await?;
        let found = within_limit(workspace_row::find(tx.connection(), name)).await?;
        tx.rollback().await;
        let workspace = Arc::new(found.ok_or_else(|| StoreError::UnknownWorkspace(name.to_owned()))?);
        let mut known = self.workspaces.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), workspace.clone());
        Ok(workspace)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::devdb::TestDatabase;
    use crate::store::{prepared, statement};

    #[tokio::test]
    async fn i10_a_pooled_connection_keeps_no_trace_of_a_workspace() {
        let postgres = TestDatabase::start().await.expect("Postgres is installed");
        let database = Database::connect(&postgres.url(), 1).await.expect("it answers");
        let main = database.workspace("main").await.expect("it was created");
        let setting = async |name: &'static str| {
            let mut connection = database.pool.acquire().await.expect("the only connection is free");
            let row = statement("SELECT current_setting($1), pg_backend_pid()").bind(name);
            let row = row.fetch_one(&mut *connection).await.expect("it answers");
            (row.get::<String, _>(0), row.get::<i32, _>(1))
        };
        let before = (setting("search_path").await, setting("lock_timeout").await);
        database
            .begin(&main)
            .await
            .expect("it begins")
            .commit()
            .await
            .expect("it commits");
        assert_eq!(
            (setting("search_path").await, setting("lock_timeout").await),
            before,
            "after a commit"
        );
        database.begin(&main).await.expect("it begins").rollback().await;
        database.begin_read(&main).await.expect("it begins").rollback().await;
        assert_eq!(
            (setting("search_path").await, setting("lock_timeout").await),
            before,
            "after a rollback"
        );
        drop(database.begin(&main).await.expect("it begins"));
        let after = setting("search_path").await;
        assert_ne!(
            after.1, before.0.1,
            "a dropped transaction takes its connection with it"
        );
        assert_eq!(after.0, before.0.0);
    }

    #[tokio::test]
    async fn i10_what_is_prepared_in_one_workspace_reads_the_next_ones_tables() {
        let postgres = TestDatabase::start().await.expect("Postgres is installed");
        let other = crate::workspace::create(&postgres.url(), "other").await;
        other.expect("it is created");
        let database = Database::connect(&postgres.url(), 1).await.expect("it answers");
        let mut all = Vec::new();
        for name in ["main", "other"] {
            let workspace = database.workspace(name).await.expect("it was created");
            let mut tx = database.begin(&workspace).await.expect("it begins");
            for sql in [
                "CREATE TABLE note (text text)",
                "INSERT INTO note VALUES (current_schema())",
            ] {
                statement(sql).execute(tx.connection()).await.expect("it is ours");
            }
            tx.commit().await.expect("it commits");
            all.push(workspace);
        }
        for _ in 0..7 {
            for workspace in &all {
                let mut tx = database.begin_read(workspace).await.expect("it begins");
                let row = prepared("SELECT text, pg_backend_pid() FROM note WHERE text <> $1").bind("");
                let row = row.fetch_one(tx.connection()).await.expect("it answers");
                assert_eq!(row.get::<String, _>(0), workspace.schema);
                tx.rollback().await;
            }
        }
        let mut connection = database.pool.acquire().await.expect("the only connection is free");
        let times =
            statement("SELECT sum(custom_plans)::bigint FROM pg_prepared_statements WHERE statement LIKE '%note%'");
        let times = times.fetch_one(&mut *connection).await.expect("it answers");
        assert_eq!(times.get::<i64, _>(0), 14, "it was prepared once, and planned for each");
    }

    #[tokio::test]
    async fn i6_commit_of_a_transaction_that_failed_is_no_success() {
        let postgres = TestDatabase::start().await.expect("Postgres is installed");
        let database = Database::connect(&postgres.url(), 1).await.expect("it answers");
        let main = database.workspace("main").await.expect("it was created");
        let mut tx = database.begin(&main).await.expect("it begins");
        // Its caller overlooks the error; COMMIT alone would answer ROLLBACK, which is no error.
        assert!(statement("SELECT 1 / 0").execute(tx.connection()).await.is_err());
        let failure = tx.commit().await.expect_err("nothing was committed");
        assert!(failure.to_string().contains("25P02"), "{failure}");
    }

    #[tokio::test]
    async fn i6_a_commit_that_does_not_wait_for_the_standby_is_refused_where_there_is_one() {
        let postgres = TestDatabase::start().await.expect("Postgres is installed");
        let with = |level: &str| format!("{}&options=-c%20synchronous_commit%3D{level}", postgres.url());
        for level in ["local", "remote_write", "on"] {
            Database::connect(&with(level), 1)
                .await
                .expect("there is no standby to wait for");
        }
        let database = Database::connect(&postgres.url(), 2).await.expect("it answers");
        let required = database.clone().requiring_standby(true);
        let main = required.workspace("main").await.expect("reading goes on");
        let error = required.begin(&main).await.expect_err("a standby is required");
        assert!(matches!(error, StoreError::NoStandby), "{error}");
        let mut connection = database.pool.acquire().await.expect("a connection is free");
        for sql in [
            "ALTER SYSTEM SET synchronous_standby_names = 'b'",
            "SELECT pg_reload_conf()",
        ] {
            statement(sql).execute(&mut *connection).await.expect("it is ours");
        }
        let named = "SELECT current_setting('synchronous_standby_names')";
        while statement(named)
            .fetch_one(&mut *connection)
            .await
            .expect("it answers")
            .get::<String, _>(0)
            .is_empty()
        {
            tokio::task::yield_now().await;
        }
        let begun = required.begin(&main).await.expect("there is a standby now");
        begun.rollback().await;
        for (level, refused) in [
            ("local", true),
            ("remote_write", true),
            ("on", false),
            ("remote_apply", false),
        ] {
            match Database::connect(&with(level), 1).await {
                Ok(_) => assert!(!refused, "{level}"),
                Err(error) => assert!(refused && error.to_string().contains(level), "{level}: {error}"),
            }
        }
    }
}
