//! Power cuts: what a process has not synced is taken from its files. SIGKILL alone takes nothing, since the kernel has it.
//!
//! A small library, preloaded into the process, notes the size of each file whenever it is synced; a cut shortens every file to
//! the size that was noted last, and empties those that never were. It holds for files that are only ever appended to, as
//! RocksDB's are. Names of files and directories are taken to be durable.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// See the module's documentation.
pub struct PowerCut {
    library: PathBuf,
    notes: PathBuf,
}

impl PowerCut {
    /// Builds the library under `folder`, with the C compiler that RocksDB needs too.
    pub fn prepare(folder: &Path) -> Result<Self> {
        // Asked at run time: clones share a target directory, and with it the tests' programs.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").context("cargo runs the tests that cut the power")?;
        let source = Path::new(&package).join("tests/support/synced.c");
        let library = folder.join("synced.so");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .status()
            .context("there is no C compiler `cc`")?;
        ensure!(status.success(), "{} does not compile", source.display());
        Ok(Self {
            library,
            notes: folder.join("synced.txt"),
        })
    }

    /// What a process's environment needs.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("WAVEKEEP_TEST_SYNCED", self.notes.clone()),
        ]
    }

    /// Takes from the files under `folder` what was never synced. Returns how many bytes are gone.
    pub fn cut(&self, folder: &Path) -> Result<u64> {
        let folder = folder.canonicalize()?;
        let notes = std::fs::read_to_string(&self.notes).context("nothing was ever synced")?;
        let synced: HashMap<&Path, u64> = notes
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(size, path)| Some((Path::new(path), size.parse().ok()?)))
            .collect();
        let mut gone = 0;
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if !path.is_file() || !is_database_file(&path) {
                continue;
            }
            let file = std::fs::File::options().write(true).open(&path)?;
            let size = file.metadata()?.len();
            let kept = synced.get(path.as_path()).copied().unwrap_or(0).min(size);
            file.set_len(kept)?;
            gone += size - kept;
        }
        Ok(gone)
    }
}

/// Logs, tables, blobs and manifests; locks and text logs hold nothing.
fn is_database_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    matches!(ending, "log" | "sst" | "blob") || name.starts_with("MANIFEST-")
}
