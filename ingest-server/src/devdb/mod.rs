//! A private Postgres under a directory of ours: for `wavekeep-server dev` and for tests.
//!
//! | under the directory | what |
//! |---|---|
//! | `data` | the cluster, made with data checksums; fsync stays on |
//! | `socket` | its Unix socket, unless the path is too long for one |
//! | `postgres.log` | what it says |
//! | `port` | the loopback port that it had last, taken again while it is free |
//! | `lock` | held by the process that uses the directory |
//!
//! Connections are trusted, and so are only possible over the socket and the loopback interface.
//!
//! A server that is killed leaves its Postgres running: it is in a process group of its own, so that Ctrl-C in a terminal
//! drains the server before the database goes. The next start adopts it.
//!
//! Postgres refuses to run as root. Started by root it runs as `postgres`, or else as `nobody`.

mod account;
mod base_backup;
mod binaries;
mod keeper;
mod process;
mod test_database;
mod test_server;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};

use account::Account;
use binaries::Binaries;
use process::Postgres;

pub use keeper::KeptDatabase;
pub use test_database::{TestBackup, TestDatabase, TestDatabaseError};
pub use test_server::TestServer;

/// The role that owns the cluster.
const USER: &str = "wavekeep";
/// The database.
const DATABASE: &str = "wavekeep";
/// `sun_path` holds 108 bytes with its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// For a connection to a Postgres that says it is ready.
const CONNECT_SECONDS_MAX: Duration = Duration::from_secs(10);

/// Why there is no private Postgres. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DevDatabaseError {
    /// Not installed.
    #[error(
        "there is no Postgres here (looked for `postgres` and `initdb` in PATH, by pg_config and in /usr/lib/postgresql): install postgresql, or give --database-url"
    )]
    NoBinaries,
    /// Root, but nobody else to run as.
    #[error(
        "Postgres refuses to run as root, and there is no user `postgres` or `nobody` to run it as: create one, or give --database-url"
    )]
    NoAccount,
    /// The directory is under one that the other user may not enter.
    #[error(
        "user {account:?}, as whom root runs Postgres, may not enter {directory:?}: choose another --data-dir, such as /var/lib/wavekeep"
    )]
    NotEntered {
        /// Who.
        account: String,
        /// The parent that stops it.
        directory: PathBuf,
    },
    /// Two servers on one directory.
    #[error("another process uses {0:?}: stop it, or choose another --data-dir")]
    InUse(PathBuf),
    /// The disk.
    #[error("{what} {path:?}: {error}")]
    Io {
        /// What failed.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// initdb failed.
    #[error("initdb did not make a cluster in {directory:?}: {said}")]
    Initdb {
        /// Where.
        directory: PathBuf,
        /// Its last line.
        said: String,
    },
    /// pg_basebackup failed.
    #[error("pg_basebackup did not copy into {directory:?}: {said}")]
    Backup {
        /// Where.
        directory: PathBuf,
        /// What it said.
        said: String,
    },
    /// It did not come up.
    #[error("Postgres did not start ({why}); its last words in {log:?}: {said}")]
    NotStarted {
        /// What we saw.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        said: String,
    },
    /// It says it is ready, but cannot be used.
    #[error("the private Postgres does not answer: {0}")]
    Connect(#[from] sqlx::Error),
}

impl DevDatabaseError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            what,
            path: path.to_owned(),
            error,
        }
    }
}

/// A running private Postgres. Dropping it stops it.
#[derive(Debug)]
pub struct DevDatabase {
    postgres: Postgres,
    _lock: File,
}

/// Where things are; see the module's documentation.
#[derive(Debug, Clone)]
struct Layout {
    directory: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    port: PathBuf,
}

impl Layout {
    fn new(directory: &Path) -> Self {
        let inside = directory.join("socket");
        let longest = inside.join(".s.PGSQL.65535");
        let socket = if longest.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            inside
        } else {
            short_socket(directory)
        };
        Self {
            data: directory.join("data"),
            log: directory.join("postgres.log"),
            port: directory.join("port"),
            socket,
            directory: directory.to_owned(),
        }
    }
}

/// The same for the same directory.
fn short_socket(directory: &Path) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    std::env::temp_dir().join(format!("wavekeep-{:016x}", hasher.finish()))
}

impl DevDatabase {
    /// Makes the cluster if there is none, adopts one that runs, starts it otherwise, and creates the database.
    pub async fn start(directory: &Path) -> Result<Self, DevDatabaseError> {
        let directory = directory.to_owned();
        let started = tokio::task::spawn_blocking(move || Self::start_blocking(&directory)).await;
        let database = started.expect("starting Postgres does not panic and is not cancelled")?;
        database.create_database().await?;
        Ok(database)
    }

    fn start_blocking(directory: &Path) -> Result<Self, DevDatabaseError> {
        fs::create_dir_all(directory).map_err(DevDatabaseError::io("cannot create", directory))?;
        let directory = directory
            .canonicalize()
            .map_err(DevDatabaseError::io("cannot find", directory))?;
        let lock = locked(&directory)?;
        let layout = Layout::new(&directory);
        let binaries = Binaries::find().ok_or(DevDatabaseError::NoBinaries)?;
        let account = Account::find()?;
        account.check_can_enter(&directory)?;
        account.own_directory(&layout.data)?;
        let postgres = Postgres::start(binaries, account, layout)?;
        Ok(Self { postgres, _lock: lock })
    }

    async fn create_database(&self) -> Result<(), DevDatabaseError> {
        let mut connection = connect(&self.url_of("postgres")).await?;
        let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(DATABASE);
        if there.fetch_optional(&mut connection).await?.is_none() {
            sqlx::raw_sql("CREATE DATABASE wavekeep")
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// For every client of Postgres: over the Unix socket.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    fn url_of(&self, database: &str) -> String {
        let (socket, port) = (percent_encoded(self.postgres.socket_directory()), self.postgres.port());
        format!("postgres:///{database}?host={socket}&port={port}&user={USER}")
    }

    /// The same over TCP, on the loopback interface.
    #[must_use]
    pub fn tcp_url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{DATABASE}", self.postgres.port())
    }

    /// The process id of its postmaster.
    #[must_use]
    pub const fn process_id(&self) -> i32 {
        self.postgres.process_id()
    }

    /// Whether it was running before: left by a server that was killed.
    #[must_use]
    pub const fn is_adopted(&self) -> bool {
        self.postgres.is_adopted()
    }

    /// A fast shutdown: open transactions are rolled back, everything committed is on disk.
    pub async fn stop(mut self) {
        let stopped = tokio::task::spawn_blocking(move || self.postgres.stop()).await;
        stopped.expect("stopping Postgres does not panic and is not cancelled");
    }
}

fn locked(directory: &Path) -> Result<File, DevDatabaseError> {
    let path = directory.join("lock");
    let lock = File::create(&path).map_err(DevDatabaseError::io("cannot create", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DevDatabaseError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(DevDatabaseError::io("cannot lock", &path)(error)),
    }
}

fn percent_encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let encoded = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(encoded).collect()
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.disable_statement_logging();
    tokio::time::timeout(CONNECT_SECONDS_MAX, options.connect())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)?
}

/// One setting of the cluster, as `SHOW` has it.
pub async fn setting(url: &str, name: &str) -> Result<String, sqlx::Error> {
    let mut connection = connect(url).await?;
    let row = sqlx::query("SELECT current_setting($1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    row.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_is_too_long_moves_to_the_temporary_directory() {
        let short = Layout::new(Path::new("/var/lib/wavekeep"));
        assert_eq!(short.socket, Path::new("/var/lib/wavekeep/socket"));
        let long = Layout::new(&Path::new("/").join("d".repeat(100)));
        assert!(long.socket.starts_with(std::env::temp_dir()));
        assert!(long.socket.as_os_str().len() + ".s.PGSQL.65535".len() < SOCKET_PATH_BYTES_MAX);
        assert_eq!(percent_encoded(Path::new("/a b/c&d")), "/a%20b/c%26d");
    }
}
