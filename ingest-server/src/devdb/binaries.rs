//! Where Postgres is installed: in PATH, where `pg_config` says, or where Debian puts it, newest first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

impl Binaries {
    pub(super) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::in_path(&path)
            .or_else(|| Self::in_directory(&by_pg_config()?))
            .or_else(|| Self::newest_under(Path::new(DEBIAN)))
    }

    fn in_path(path: &OsString) -> Option<Self> {
        std::env::split_paths(path).find_map(|directory| Self::in_directory(&directory))
    }

    fn in_directory(directory: &Path) -> Option<Self> {
        let found = Self {
            initdb: directory.join("initdb"),
            postgres: directory.join("postgres"),
        };
        (found.initdb.is_file() && found.postgres.is_file()).then_some(found)
    }

    /// `root/15/bin` and the like.
    fn newest_under(root: &Path) -> Option<Self> {
        let entries = std::fs::read_dir(root).ok()?;
        let version = |name: OsString| name.to_str().and_then(|name| name.parse::<u32>().ok());
        let mut versions: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| version(entry.file_name()))
            .collect();
        versions.sort_unstable();
        versions
            .iter()
            .rev()
            .find_map(|version| Self::in_directory(&root.join(version.to_string()).join("bin")))
    }
}

fn by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let directory = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(directory.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_is_whole_is_taken() {
        let root = std::env::temp_dir().join(format!("wavekeep-binaries-{}", std::process::id()));
        for (version, programs) in [
            ("9", &["initdb", "postgres"][..]),
            ("15", &["initdb", "postgres"]),
            ("17", &["postgres"]),
        ] {
            let bin = root.join(version).join("bin");
            std::fs::create_dir_all(&bin).expect("a temporary directory");
            programs
                .iter()
                .for_each(|program| std::fs::write(bin.join(program), "").expect("a temporary file"));
        }
        let found = Binaries::newest_under(&root);
        let by_path =
            Binaries::in_path(&std::env::join_paths([root.join("17/bin"), root.join("9/bin")]).expect("no colons"));
        std::fs::remove_dir_all(&root).expect("it is ours");
        assert_eq!(found.map(|found| found.initdb), Some(root.join("15/bin/initdb")));
        assert_eq!(by_path.map(|found| found.postgres), Some(root.join("9/bin/postgres")));
        assert_eq!(Binaries::newest_under(&root), None);
    }
}
