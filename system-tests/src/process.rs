//! One of our binaries as a child process. Its output goes to files; dropping it kills it, so that no test leaves one behind.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running child.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

/// Where the release binaries are: `WAVEKEEP_BIN`, or beside the program that asks.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("WAVEKEEP_BIN") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().context("cannot name this program")?;
            let own = own.parent().context("this program has no folder")?;
            // Tests run from `deps/` under the folder that has the binaries.
            if own.ends_with("deps") {
                own.parent().unwrap_or(own).to_owned()
            } else {
                own.to_owned()
            }
        }
    };
    let path = folder.join(name);
    if !path.is_file() {
        bail!("{} is not built: run `make build`", path.display());
    }
    Ok(path)
}

impl Process {
    /// Starts `binary` with `args`; its output goes to `folder/LABEL.out` and `.log`.
    pub fn start(binary_name: &str, label: &str, folder: &Path, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary(binary_name)?);
        command.args(args);
        Self::spawn(command, label, folder)
    }

    /// The same, of any command.
    pub fn spawn(mut command: Command, label: &str, folder: &Path) -> Result<Self> {
        let (out, log) = (folder.join(format!("{label}.out")), folder.join(format!("{label}.log")));
        let append = |path: &Path| File::options().create(true).append(true).open(path);
        command.stdin(Stdio::null()).stdout(append(&out)?).stderr(append(&log)?);
        // A group of its own: an interrupt of the terminal goes to the test, which stops its children in order.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {label}"))?;
        // For whoever cleans up after us.
        std::fs::write(folder.join(format!("{label}.pid")), child.id().to_string())?;
        Ok(Self {
            child,
            name: label.into(),
            log,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The largest resident memory so far, in bytes.
    pub fn resident_bytes_max(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .context("/proc/PID/status has VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("VmHWM has a value")?.parse()?;
        Ok(kib * 1024)
    }

    /// As [`Self::wait_success`]; the largest resident memory, in bytes, but for the last moment.
    pub fn wait_success_peak(&mut self, limit: Duration) -> Result<u64> {
        let (mut peak, since) = (0, Instant::now());
        while !self.has_ended()? && since.elapsed() < limit {
            // Nothing is said of a process that has just ended.
            peak = self.resident_bytes_max().unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(10));
        }
        self.wait_success(limit)?;
        Ok(peak)
    }

    /// From here on [`Self::resident_bytes_max`] counts anew.
    pub fn forget_resident_bytes_max(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5")?)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a process id is an i32")?);
        kill(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end, at most this long.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let since = Instant::now();
        while since.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "{} did not end within {limit:?}; its log ends:\n{}",
            self.name,
            self.log_tail()
        )
    }

    /// Waits for an end with exit code 0.
    pub fn wait_success(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} failed ({status}); its log ends:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of that.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
