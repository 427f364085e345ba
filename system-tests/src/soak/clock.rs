//! A clock that somebody sets, for one process: a small library, preloaded into it, adds what a file says to the host's time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// In the program itself: clones share a target directory.
const SOURCE: &str = include_str!("clock.c");

/// Builds the library under `folder`, with the C compiler that RocksDB needs too.
pub(super) fn library(folder: &Path) -> Result<PathBuf> {
    let library = folder.join("clock.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-x", "c", "-", "-ldl", "-o"])
        .arg(&library);
    let mut cc = cc
        .stdin(Stdio::piped())
        .spawn()
        .context("there is no C compiler `cc`")?;
    let mut input = cc.stdin.take().context("it reads its input")?;
    input.write_all(SOURCE.as_bytes())?;
    drop(input);
    ensure!(cc.wait()?.success(), "the clock's library does not compile");
    Ok(library)
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// Right at first.
    pub(super) fn new(library: &Path, file: PathBuf) -> Result<Self> {
        let clock = Self {
            library: library.to_owned(),
            file,
        };
        std::fs::write(&clock.file, 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// What a process's environment needs.
    pub(super) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("WAVEKEEP_TEST_CLOCK", &self.file)]
    }

    /// At once; in place, because processes have it mapped.
    pub(super) fn set_ahead(&self, seconds: i64) -> Result<()> {
        let mut file = std::fs::File::options().write(true).open(&self.file)?;
        Ok(file.write_all(&seconds.to_ne_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn year(clock: &Clock) -> u32 {
        let output = Command::new("date")
            .arg("+%Y")
            .envs(clock.environment())
            .output()
            .expect("coreutils");
        let year = String::from_utf8_lossy(&output.stdout);
        year.trim().parse().expect("a year")
    }

    #[test]
    fn a_process_sees_the_clock_that_was_set() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let library = library(folder.path()).expect("it compiles");
        let clock = Clock::new(&library, folder.path().join("clock")).expect("a file");
        let now = year(&clock);
        clock.set_ahead(10 * 366 * 86_400).expect("a file");
        assert!(year(&clock) >= now + 10);
        clock.set_ahead(-10 * 366 * 86_400).expect("a file");
        assert!(year(&clock) <= now - 10);
    }
}
