//! Base backups of a private Postgres, as `pg_basebackup` makes them: to be restored, or to become a standby.

use std::path::Path;
use std::process::Stdio;

use super::DevDatabaseError;
use super::account::Account;
use super::binaries::Binaries;

/// What becomes of a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackupFor {
    /// Kept, and started later, as a database that forgot what came after it.
    Restore,
    /// Follows what was copied, through the address that the copy was made through.
    Standby,
}

/// Copies the running Postgres that `connection` leads to into a new `data` directory, with the WAL that makes it whole.
pub(super) fn base_backup(
    binaries: &Binaries,
    account: &Account,
    connection: &str,
    data: &Path,
    purpose: BackupFor,
) -> Result<(), DevDatabaseError> {
    account.own_directory(data)?;
    // Only some programs of an installation may be linked to from PATH.
    let initdb = binaries.initdb.canonicalize();
    let initdb = initdb.map_err(DevDatabaseError::io("cannot find", &binaries.initdb))?;
    let program = initdb.with_file_name("pg_basebackup");
    let mut command = account.command(&program);
    command.arg("--dbname").arg(connection).arg("--pgdata").arg(data);
    command.args(["--wal-method=stream", "--checkpoint=fast"]);
    if purpose == BackupFor::Standby {
        command.arg("--write-recovery-conf");
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(DevDatabaseError::io("cannot run", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(DevDatabaseError::Backup {
        directory: data.to_owned(),
        said: said.trim().to_owned(),
    })
}
