//! The postmaster: made, adopted, started, stopped, and killed for tests.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account::Account;
use super::base_backup::{BackupFor, base_backup};
use super::binaries::Binaries;
use super::{DevDatabaseError, Layout, USER};

/// Crash recovery of all the WAL that `max_wal_size` allows takes well under a minute.
const START_SECONDS_MAX: Duration = Duration::from_secs(300);
/// A fast shutdown writes a checkpoint.
const STOP_SECONDS_MAX: Duration = Duration::from_secs(60);
/// Backends look for their postmaster between two commands and while they wait.
const ORPHANS_SECONDS_MAX: Duration = Duration::from_secs(30);
/// Between two looks.
const POLL: Duration = Duration::from_millis(10);
/// Somebody may take the port between our look and Postgres'.
const START_ATTEMPTS: u32 = 5;
/// The log starts over when it is larger.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// For a few writers of rows of 256 KiB to 1 MiB that arrive encoded: large groups of WAL, rare checkpoints, no compression
/// of what is compressed. Durability is Postgres' own: fsync, full_page_writes and synchronous_commit stay on.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_permissions=0700",
    "max_connections=100",
    "shared_buffers=256MB",
    "wal_buffers=64MB",
    "max_wal_size=4GB",
    "min_wal_size=512MB",
    "checkpoint_timeout=15min",
    "checkpoint_completion_target=0.9",
    "wal_compression=off",
    "jit=off",
    // When a chunk was committed, for whoever asks how late that was: 12 bytes a transaction.
    "track_commit_timestamp=on",
    "log_checkpoints=off",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// What `postmaster.pid` says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PidFile {
    process_id: i32,
    port: u16,
    socket: PathBuf,
    ready: bool,
}

impl PidFile {
    /// Lines: pid, data directory, start time, port, socket directory, listen address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            process_id: lines.first()?.trim().parse().ok()?,
            port: lines.get(3)?.trim().parse().ok()?,
            socket: PathBuf::from(lines.get(4)?),
            ready: lines.get(7).is_some_and(|status| status.trim() == "ready"),
        })
    }

    fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Postgres {
    binaries: Binaries,
    account: Account,
    layout: Layout,
    /// None when it was adopted.
    child: Option<Child>,
    process_id: i32,
    port: u16,
    socket: PathBuf,
    stopped: bool,
}

/// A zombie, which nobody has waited for yet, is gone.
fn is_alive(process_id: i32) -> bool {
    let is_zombie = status_of(process_id).is_some_and(|status| status.starts_with('Z'));
    !is_zombie && kill(Pid::from_raw(process_id), None) != Err(Errno::ESRCH)
}

/// From the process table, after the name, which may contain anything: state, parent and so on. None where there is no /proc.
fn status_of(process_id: i32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
    line.rsplit_once(')').map(|(_, status)| status.trim_start().to_owned())
}

/// Process ids are used again: is this one the postmaster of this cluster?
fn is_postmaster_of(process_id: i32, data: &Path) -> bool {
    let command = fs::read(format!("/proc/{process_id}/cmdline"));
    let needle = data.as_os_str().as_encoded_bytes();
    command.map_or_else(
        |_| is_alive(process_id),
        |command| command.windows(needle.len()).any(|part| part == needle),
    )
}

/// What a killed postmaster leaves: lock files, one in the data directory and one beside the socket, with its process id. Postgres
/// takes them for those of a living server while that id is a zombie's that nobody waits for (in a container without an
/// init), or has been given to another process. We hold the directory's own lock, so they are stale if nobody lives there.
fn remove_stale_locks(layout: &Layout) {
    if is_inhabited(&layout.data) != Some(false) {
        return;
    }
    let sockets = fs::read_dir(&layout.socket).into_iter().flatten().flatten();
    let locks = sockets
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "lock"))
        .chain([layout.data.join("postmaster.pid")]);
    for lock in locks {
        // If it cannot be removed, Postgres says so when it starts.
        let _ = fs::remove_file(lock);
    }
}

/// Does any process run in this directory, as every process of a Postgres does? None where there is no /proc.
fn is_inhabited(data: &Path) -> Option<bool> {
    fs::read_link("/proc/self/cwd").ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut directories = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    Some(directories.any(|directory| directory == data))
}

impl Postgres {
    /// Makes the cluster if there is none; adopts it if it runs; starts it otherwise. Waits until it takes connections.
    pub(super) fn start(binaries: Binaries, account: Account, layout: Layout) -> Result<Self, DevDatabaseError> {
        if !layout.data.join("PG_VERSION").exists() {
            initdb(&binaries, &account, &layout)?;
        }
        let mut postgres = Self {
            binaries,
            account,
            socket: layout.socket.clone(),
            layout,
            child: None,
            process_id: 0,
            port: 0,
            stopped: true,
        };
        postgres.adopt_or_launch()?;
        Ok(postgres)
    }

    /// A copy of it, while it runs.
    pub(super) fn back_up(&self, connection: &str, data: &Path, purpose: BackupFor) -> Result<(), DevDatabaseError> {
        base_backup(&self.binaries, &self.account, connection, data, purpose)
    }

    /// After it was stopped or killed, under the port it had if that is free.
    pub(super) fn adopt_or_launch(&mut self) -> Result<(), DevDatabaseError> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            let up = if self.adopt() { Ok(()) } else { self.launch() };
            match up.and_then(|()| self.wait_until_ready()) {
                Ok(()) => return Ok(()),
                // The port was taken, or a server that was killed had just started one.
                Err(error) => last = Some(error),
            }
            std::thread::sleep(20 * POLL);
        }
        Err(last.expect("there was an attempt"))
    }

    /// Whether there is one to adopt.
    fn adopt(&mut self) -> bool {
        let running =
            PidFile::read(&self.layout.data).filter(|file| is_postmaster_of(file.process_id, &self.layout.data));
        if let Some(file) = &running {
            self.process_id = file.process_id;
            self.child = None;
            self.stopped = false;
        }
        running.is_some()
    }

    /// The backends of a killed postmaster end by themselves, each when it next looks for its postmaster; until then Postgres
    /// refuses to start. If one stays, Postgres says so.
    fn wait_until_orphans_are_gone(&self) {
        let started = Instant::now();
        while is_inhabited(&self.layout.data) == Some(true) && started.elapsed() < ORPHANS_SECONDS_MAX {
            std::thread::sleep(POLL);
        }
    }

    fn launch(&mut self) -> Result<(), DevDatabaseError> {
        self.wait_until_orphans_are_gone();
        remove_stale_locks(&self.layout);
        self.account.own_directory(&self.layout.socket)?;
        self.port = self.free_port()?;
        let log = open_log(&self.layout.log)?;
        let error_log = log
            .try_clone()
            .map_err(DevDatabaseError::io("cannot write", &self.layout.log))?;
        let mut command = self.account.command(&self.binaries.postgres);
        command
            .arg("-D")
            .arg(&self.layout.data)
            .arg("-k")
            .arg(&self.layout.socket)
            .arg("-p")
            .arg(self.port.to_string());
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        // A process group of its own: Ctrl-C is for the server, which stops Postgres after it has drained.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(error_log);
        let child = command
            .spawn()
            .map_err(DevDatabaseError::io("cannot run", &self.binaries.postgres))?;
        self.process_id = i32::try_from(child.id()).expect("process ids fit in pid_t");
        self.child = Some(child);
        self.stopped = false;
        Ok(())
    }

    fn free_port(&self) -> Result<u16, DevDatabaseError> {
        let last = fs::read_to_string(&self.layout.port)
            .ok()
            .and_then(|text| text.trim().parse::<u16>().ok());
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
        let address = last.and_then(|port| free(port).ok()).map_or_else(|| free(0), Ok);
        let port = address
            .map_err(DevDatabaseError::io(
                "cannot find a free port for",
                &self.layout.directory,
            ))?
            .port();
        fs::write(&self.layout.port, format!("{port}\n"))
            .map_err(DevDatabaseError::io("cannot write", &self.layout.port))?;
        Ok(port)
    }

    fn wait_until_ready(&mut self) -> Result<(), DevDatabaseError> {
        let started = Instant::now();
        while started.elapsed() < START_SECONDS_MAX {
            if let Some(file) =
                PidFile::read(&self.layout.data).filter(|file| file.process_id == self.process_id && file.ready)
            {
                self.port = file.port;
                self.socket = file.socket;
                return Ok(());
            }
            if self.has_exited() {
                self.stopped = true;
                return Err(self.not_started("it exited".into()));
            }
            std::thread::sleep(POLL);
        }
        Err(self.not_started(format!("not ready within {START_SECONDS_MAX:?}")))
    }

    fn not_started(&self, why: String) -> DevDatabaseError {
        let text = fs::read(&self.layout.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last: Vec<&str> = text.lines().rev().take(4).collect();
        let said = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
        DevDatabaseError::NotStarted {
            why,
            log: self.layout.log.clone(),
            said,
        }
    }

    pub(super) fn has_exited(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !is_alive(self.process_id),
        }
    }

    fn wait_until_exited(&mut self, limit: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < limit {
            if self.has_exited() {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }

    /// Fast; immediate when that takes too long, which loses nothing that was committed.
    pub(super) fn stop(&mut self) {
        if self.stopped {
            return;
        }
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
            // An error means that it is gone already.
            let _ = kill(Pid::from_raw(self.process_id), signal);
            if self.wait_until_exited(STOP_SECONDS_MAX) {
                break;
            }
        }
        self.stopped = true;
        if !self.socket.starts_with(&self.layout.directory) {
            // In the temporary directory; empty, unless Postgres had to be killed.
            let _ = fs::remove_dir(&self.socket);
        }
    }

    /// SIGKILL to it and to every one of its processes at once.
    pub(super) fn kill9(&mut self) {
        let mut processes = vec![self.process_id];
        processes.extend(children_of(self.process_id));
        for process_id in processes {
            let _ = kill(Pid::from_raw(process_id), Signal::SIGKILL);
        }
        assert!(self.wait_until_exited(STOP_SECONDS_MAX), "SIGKILL cannot be ignored");
        self.stopped = true;
    }

    pub(super) fn socket_directory(&self) -> &Path {
        &self.socket
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) const fn process_id(&self) -> i32 {
        self.process_id
    }

    pub(super) const fn is_adopted(&self) -> bool {
        self.child.is_none()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn initdb(binaries: &Binaries, account: &Account, layout: &Layout) -> Result<(), DevDatabaseError> {
    let mut command = account.command(&binaries.initdb);
    command
        .arg("-D")
        .arg(&layout.data)
        .args(["--data-checksums", "--encoding=UTF8", "--locale=C", "--auth=trust"]);
    command.arg(format!("--username={USER}")).stdin(Stdio::null());
    let output = command
        .output()
        .map_err(DevDatabaseError::io("cannot run", &binaries.initdb))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .lines()
        .rfind(|line| line.contains("error:"))
        .or_else(|| said.lines().last());
    Err(DevDatabaseError::Initdb {
        directory: layout.data.clone(),
        said: said.unwrap_or("nothing").to_owned(),
    })
}

fn open_log(path: &Path) -> Result<File, DevDatabaseError> {
    let large = fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).append(!large).write(true).truncate(large);
    options.open(path).map_err(DevDatabaseError::io("cannot write", path))
}

/// From the process table; none where there is no /proc.
fn children_of(parent: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let processes = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |process_id: &i32| {
        let field = status_of(*process_id).and_then(|status| status.split_whitespace().nth(1)?.parse::<i32>().ok());
        field == Some(parent)
    };
    processes.filter(is_child).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files_are_stale_unless_somebody_lives_in_the_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&directory.path().canonicalize().unwrap());
        fs::create_dir(&layout.data).unwrap();
        fs::create_dir(&layout.socket).unwrap();
        let (of_data, of_socket) = (
            layout.data.join("postmaster.pid"),
            layout.socket.join(".s.PGSQL.5432.lock"),
        );
        let remain = || {
            // The id of a living process that is no postmaster: ours.
            let text = format!("{}\n{}\n", std::process::id(), layout.data.display());
            fs::write(&of_data, &text).unwrap();
            fs::write(&of_socket, &text).unwrap();
            remove_stale_locks(&layout);
            (of_data.exists(), of_socket.exists())
        };
        assert_eq!(remain(), (false, false));
        let mut sleep = std::process::Command::new("sleep");
        let mut backend = sleep.arg("60").current_dir(&layout.data).spawn().unwrap();
        assert_eq!(remain(), (true, true), "a backend that has not noticed yet");
        backend.kill().unwrap();
        backend.wait().unwrap();
        assert_eq!(remain(), (false, false));
    }

    #[test]
    fn the_pid_file_is_understood() {
        let text = "4711\n/x/data\n1700000000\n54321\n/x/socket\n127.0.0.1\n  12345  67\nready   \n";
        let expected = PidFile {
            process_id: 4711,
            port: 54321,
            socket: "/x/socket".into(),
            ready: true,
        };
        assert_eq!(PidFile::parse(text), Some(expected.clone()));
        let starting = text.replace("ready   ", "starting");
        assert_eq!(
            PidFile::parse(&starting),
            Some(PidFile {
                ready: false,
                ..expected
            })
        );
        assert_eq!(PidFile::parse("4711\n/x/data\n"), None, "still being written");
        assert_eq!(PidFile::parse(""), None);
    }
}
