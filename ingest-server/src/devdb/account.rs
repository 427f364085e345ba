//! As whom Postgres runs: as ourselves or, because it refuses root, as `postgres` or `nobody`.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User, chown};

use super::DevDatabaseError;

/// None: ourselves.
#[derive(Debug, Clone)]
pub(super) struct Account(Option<User>);

impl Account {
    pub(super) fn find() -> Result<Self, DevDatabaseError> {
        if !Uid::effective().is_root() {
            return Ok(Self(None));
        }
        let found = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        found.map(|user| Self(Some(user))).ok_or(DevDatabaseError::NoAccount)
    }

    /// Makes the command run as the account, with nothing of our environment that could mislead Postgres.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/");
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Every directory from the root down must let the account pass.
    pub(super) fn check_can_enter(&self, directory: &Path) -> Result<(), DevDatabaseError> {
        let Some(user) = &self.0 else { return Ok(()) };
        for parent in directory.ancestors() {
            let metadata = fs::metadata(parent).map_err(DevDatabaseError::io("cannot read", parent))?;
            let may_pass = if metadata.uid() == user.uid.as_raw() {
                0o100
            } else if metadata.gid() == user.gid.as_raw() {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & may_pass == 0 {
                return Err(DevDatabaseError::NotEntered {
                    account: user.name.clone(),
                    directory: parent.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Creates it if need be; nobody else may enter it.
    pub(super) fn own_directory(&self, directory: &Path) -> Result<(), DevDatabaseError> {
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.check_is_ours(directory, error)?,
            Err(error) => return Err(DevDatabaseError::io("cannot create", directory)(error)),
        }
        if let Some(user) = &self.0 {
            let changed = chown(directory, Some(user.uid), Some(user.gid)).map_err(Error::from);
            changed.map_err(DevDatabaseError::io("cannot give away", directory))?;
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory, private).map_err(DevDatabaseError::io("cannot protect", directory))
    }

    /// Not a link, and not somebody else's: it may be in the temporary directory, where anybody can put one.
    fn check_is_ours(&self, directory: &Path, error: Error) -> Result<(), DevDatabaseError> {
        let metadata = fs::symlink_metadata(directory).map_err(DevDatabaseError::io("cannot read", directory))?;
        let is_account = self.0.as_ref().is_some_and(|user| user.uid.as_raw() == metadata.uid());
        if metadata.is_dir() && (is_account || metadata.uid() == Uid::effective().as_raw()) {
            return Ok(());
        }
        Err(DevDatabaseError::io("cannot use what somebody else made at", directory)(error))
    }
}
