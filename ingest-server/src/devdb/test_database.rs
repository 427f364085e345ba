//! A private Postgres for one test, or for the tests of one process: in a temporary directory, migrated, with workspace `main`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::base_backup::BackupFor;
use super::{DevDatabase, DevDatabaseError, USER};
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

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.database.postgres.port()).into()
    }

    /// As it is now, to be brought back by [`Self::restore`]; half a second.
    pub fn back_up(&self) -> Result<TestBackup, TestDatabaseError> {
        let mut number = 1;
        let mut data = self.directory.path.join("backup-1");
        while data.exists() {
            number += 1;
            data = self.directory.path.join(format!("backup-{number}"));
        }
        self.copy_to(self.address(), &data, BackupFor::Restore)?;
        Ok(TestBackup { data })
    }

    /// Stops it if it runs, and starts it as it was when the backup was made. What came after that is gone.
    pub fn restore(&mut self, backup: TestBackup) -> Result<(), TestDatabaseError> {
        self.stop();
        let data = self.directory.path.join("data");
        std::fs::remove_dir_all(&data)?;
        std::fs::rename(backup.data, data)?;
        Ok(self.restart()?)
    }

    /// A standby of it, in a directory of its own, that follows it through `way`: its own address, or a proxy's.
    pub async fn standby(&self, way: SocketAddr) -> Result<Self, TestDatabaseError> {
        let directory = TestDirectory::new()?;
        self.copy_to(way, &directory.path.join("data"), BackupFor::Standby)?;
        let database = DevDatabase::start(&directory.path).await?;
        Ok(Self { database, directory })
    }

    fn copy_to(&self, way: SocketAddr, data: &Path, purpose: BackupFor) -> Result<(), DevDatabaseError> {
        let connection = format!("host={} port={} user={USER}", way.ip(), way.port());
        self.database.postgres.back_up(&connection, data, purpose)
    }
}

/// See [`TestDatabase::back_up`].
#[derive(Debug)]
pub struct TestBackup {
    data: PathBuf,
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
