//! A private Postgres for one test, or for the tests of one process: in a temporary directory, migrated, with workspace `main`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{DevDatabase, DevDatabaseError};
use crate::workspace::{self, WorkspaceError};

/// Why a test has no database.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TestDatabaseError {
    #[error(transparent)]
    Postgres(#[from] DevDatabaseError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("no temporary directory: {0}")]
    Directory(#[from] io::Error),
    #[error("the server for tests refused: {0}")]
    Sql(#[from] sqlx::Error),
}

/// Stopped and removed when it is dropped, and also when the test's process dies in any other way.
#[derive(Debug)]
pub struct TestDatabase {
    // Dropped in this order: Postgres stops, then the directory goes.
    database: DevDatabase,
    directory: TestDirectory,
}

impl TestDatabase {
    /// Starts one; two seconds.
    pub async fn start() -> Result<Self, TestDatabaseError> {
        let directory = TestDirectory::new()?;
        let database = DevDatabase::start(&directory.path).await?;
        workspace::migrate(&database.url()).await?;
        Ok(Self { database, directory })
    }

    /// Over the Unix socket. It stays the same across [`Self::restart`].
    #[must_use]
    pub fn url(&self) -> String {
        self.database.url()
    }

    /// The same over TCP, on the loopback interface.
    #[must_use]
    pub fn tcp_url(&self) -> String {
        self.database.tcp_url()
    }

    /// Where it is, with `postgres.log`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// SIGKILL to all of Postgres at once. What was committed is on disk.
    pub fn kill9(&mut self) {
        self.database.postgres.kill9();
    }

    /// Starts it again after [`Self::kill9`] or [`Self::stop`].
    pub fn restart(&mut self) -> Result<(), DevDatabaseError> {
        self.database.postgres.adopt_or_launch()
    }

    /// A fast shutdown.
    pub fn stop(&mut self) {
        self.database.postgres.stop();
    }
}

/// Removed when it is dropped. A watcher, which the end of our process wakes through a pipe, stops the Postgres in it and
/// removes it when nothing of ours could: after SIGKILL, and for a database in a `static`.
#[derive(Debug)]
struct TestDirectory {
    path: PathBuf,
    watcher: Child,
}

const WATCHER: &str = r#"cat >/dev/null
[ -d "$1" ] || exit 0
process=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$process"
for wait in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$process" 2>/dev/null || break; sleep 0.3; done
rm -rf "$1""#;

impl TestDirectory {
    fn new() -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the operating system has random bytes");
        let path = std::env::temp_dir().join(format!("wavekeep-test-{:016x}", u64::from_le_bytes(random)));
        std::fs::create_dir(&path)?;
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(WATCHER)
            .arg("watcher")
            .arg(&path)
            .process_group(0);
        let watcher = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { path, watcher })
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary directory: no reason to fail a test.
        let _ = std::fs::remove_dir_all(&self.path);
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}
