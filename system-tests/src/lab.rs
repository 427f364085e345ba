//! A lab in a temporary directory: one server with its private Postgres, or with a database of somebody else's, and agents with
//! their outboxes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::power::PowerCut;
use crate::process::{Process, binary};
use crate::stored;
use crate::watcher::Watcher;

/// How long a server may take to be ready: initdb on a busy machine included.
pub const READY: Duration = Duration::from_secs(60);

/// See the module's documentation. Dropping it stops everything.
pub struct Lab {
    folder: TempDir,
    /// The server, while it runs.
    pub server: Option<Process>,
    grpc: SocketAddr,
    http: SocketAddr,
    extra: Vec<String>,
    /// Somebody else's, which is migrated.
    database: Option<String>,
    // Dropped after the folder, of which it then finds nothing.
    watcher: Watcher,
}

/// A loopback port that was free a moment ago, below those that the system gives to outgoing connections: while a server is
/// down, nobody else gets its port by chance.
pub fn free_port() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run side by side start elsewhere.
    let start = (std::process::id() % 1_000) as u16 * 12;
    for _ in 0..1_000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no free loopback port between 20000 and 32000")
}

/// Options of `run` for a simulated instrument that waits where the server is slower than it.
#[must_use]
pub fn fast_simulation<'a>(device: &'a str, spec: &'a str, duration: &'a str) -> [&'a str; 10] {
    [
        "--device",
        device,
        "--simulate",
        spec,
        "--duration",
        duration,
        "--quota",
        "1GiB",
        "--when-full",
        "block",
    ]
}

impl Lab {
    /// Starts a server (`dev`: private Postgres, migrated, workspace `main`) and waits until it is ready.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with more options for the server.
    pub fn start_with(options: &[&str]) -> Result<Self> {
        let mut lab = Self::stopped(options)?;
        lab.start_server()?;
        Ok(lab)
    }

    /// A lab whose server is yet to be started.
    pub fn stopped(options: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("wavekeep-lab-").tempdir()?;
        // The private Postgres runs as another user when the tests run as root.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (grpc, http) = (free_port()?, free_port()?);
        let extra = options.iter().map(|option| (*option).to_owned()).collect();
        let watcher = Watcher::start(folder.path())?;
        Ok(Self {
            folder,
            server: None,
            grpc,
            http,
            extra,
            database: None,
            watcher,
        })
    }

    /// A lab whose server, yet to be started, uses this database (`serve`).
    pub fn on(database_url: &str) -> Result<Self> {
        let mut lab = Self::stopped(&[])?;
        lab.database = Some(database_url.to_owned());
        Ok(lab)
    }

    /// Where everything of it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// It stays when the lab goes.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
        self.watcher.dismiss();
    }

    /// What agents and readers connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The gRPC address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.grpc
    }

    /// The server's data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    /// Starts the server (again): it adopts a Postgres that a killed one left running.
    pub fn start_server(&mut self) -> Result<()> {
        let (data, grpc, http) = (self.data(), self.grpc.to_string(), self.http.to_string());
        let data = data.to_str().context("the temporary directory is UTF-8")?;
        let mut args = match &self.database {
            Some(url) => vec!["serve", "--database-url", url],
            None => vec!["dev", "--data-dir", data],
        };
        args.extend(["--listen", &grpc, "--http", &http]);
        args.extend(self.extra.iter().map(String::as_str));
        let server = Process::start("wavekeep-server", "server", self.folder.path(), &args)?;
        self.server = Some(server);
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let since = Instant::now();
        let server = self.server.as_mut().context("the server was not started")?;
        while since.elapsed() < READY {
            if server.has_ended()? {
                bail!("the server ended; its log:\n{}", server.log_tail());
            }
            if says_ready(self.http) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        bail!(
            "the server is not ready after {READY:?}; its log:\n{}",
            server.log_tail()
        )
    }

    /// Does the server say that new agents are welcome?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        says_ready(self.http)
    }

    /// A metric without labels, as the server exposes it.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let answer = http_get(self.http, "/metrics")?;
        let mut values = answer
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = values
            .next()
            .with_context(|| format!("the server has no metric {name}"))?;
        Ok(value.trim().parse()?)
    }

    /// SIGKILL of the server alone: its Postgres lives on.
    pub fn kill_server(&mut self) -> Result<()> {
        self.server.take().context("the server runs")?.kill9()
    }

    /// SIGTERM: drains, stops its Postgres, ends with 0.
    pub fn stop_server(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server runs")?;
        let status = server.terminate(READY)?;
        if !status.success() {
            bail!("the server ended with {status}; its log:\n{}", server.log_tail());
        }
        Ok(())
    }

    /// Starts an agent with its outbox at `NAME` under the lab.
    pub fn agent(&self, outbox: &str, verb: &[&str], options: &[&str]) -> Result<Process> {
        self.agent_at(&self.url(), outbox, verb, options)
    }

    /// The same, with another URL (a proxy's, say).
    pub fn agent_at(&self, url: &str, outbox: &str, verb: &[&str], options: &[&str]) -> Result<Process> {
        let command = self.agent_command(url, outbox, verb, options)?;
        Process::spawn(command, outbox, self.folder.path())
    }

    /// The same, where a power cut will take what it has not synced.
    pub fn agent_under(&self, cut: &PowerCut, outbox: &str, options: &[&str]) -> Result<Process> {
        let mut command = self.agent_command(&self.url(), outbox, &["run"], options)?;
        command.envs(cut.environment());
        Process::spawn(command, outbox, self.folder.path())
    }

    /// The command of such an agent, to be started by whoever wants more of it.
    pub fn agent_command(&self, url: &str, outbox: &str, verb: &[&str], options: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("wavekeep-agent")?);
        command
            .args(verb)
            .args(["--server", url, "--outbox"])
            .arg(self.outbox(outbox));
        command.args(options);
        Ok(command)
    }

    /// Where the streams in an agent's outbox stand, by its own word (running or not): the next sample of each.
    pub fn tails(&self, outbox: &str) -> Result<BTreeMap<String, u64>> {
        let mut status = Command::new(binary("wavekeep-agent")?);
        status.args(["outbox", "status", "--json"]).arg(self.outbox(outbox));
        let output = status.output()?;
        if !output.status.success() {
            bail!("outbox status: {}", String::from_utf8_lossy(&output.stderr));
        }
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let streams = status["streams"].as_array().context("the status lists streams")?;
        let tail = |stream: &serde_json::Value| {
            let name = stream["stream"].as_str().context("a stream has an id")?;
            Ok((
                name.into(),
                stream["next_sample"].as_u64().context("and a next sample")?,
            ))
        };
        streams.iter().map(tail).collect()
    }

    /// The metrics of a running agent, by its socket.
    pub fn agent_metrics(&self, outbox: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.outbox(outbox).join("agent.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        http_get_on(&mut stream, "agent", "/metrics")
    }

    /// How many alarms of a kind a running agent has counted.
    pub fn alarms(&self, outbox: &str, kind: &str) -> Result<u64> {
        let metrics = self.agent_metrics(outbox)?;
        let name = format!("wavekeep_agent_alarms_total{{kind=\"{kind}\"}} ");
        let mut counts = metrics.lines().filter_map(|line| line.strip_prefix(&name));
        Ok(counts.next().map_or(Ok(0), |count| count.trim().parse())?)
    }

    /// Where an agent's outbox lies.
    #[must_use]
    pub fn outbox(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("outbox-{name}"))
    }

    /// Runs the reader's command line and returns its standard output.
    pub fn reader(&self, args: &[&str]) -> Result<String> {
        self.reader_at(&self.url(), args)
    }

    /// The same, of another server.
    pub fn reader_at(&self, url: &str, args: &[&str]) -> Result<String> {
        let output = Command::new(binary("wavekeep")?)
            .env("WAVEKEEP_SERVER", url)
            .args(args)
            .output()?;
        if !output.status.success() {
            bail!("wavekeep {args:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The process id of the private Postgres' first process.
    pub fn postmaster(&self) -> Result<Pid> {
        let file = find(&self.data(), "postmaster.pid").context("the private Postgres is not running")?;
        let text = std::fs::read_to_string(file)?;
        let id = text.lines().next().context("postmaster.pid is empty")?.trim().parse()?;
        Ok(Pid::from_raw(id))
    }

    /// Signals every process of the private Postgres.
    pub fn signal_postgres(&self, signal: Signal) -> Result<()> {
        let postmaster = self.postmaster()?;
        let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"))?;
        for child in children.split_whitespace() {
            // A backend may have ended meanwhile.
            let _ = kill(Pid::from_raw(child.parse()?), signal);
        }
        Ok(kill(postmaster, signal)?)
    }

    /// Takes the last `share` of the newest write-ahead log of an agent's outbox, as a power cut takes what was not synced.
    /// Returns how many bytes are gone.
    pub fn cut_outbox_log(&self, outbox: &str, share: f64) -> Result<u64> {
        let mut logs = Vec::new();
        walk(&self.outbox(outbox), &mut |path| {
            if path.extension().is_some_and(|extension| extension == "log") {
                logs.push(path.to_owned());
            }
        });
        logs.sort();
        let newest = logs.last().context("the outbox has no write-ahead log")?;
        let file = std::fs::File::options().write(true).open(newest)?;
        let length = file.metadata()?.len();
        let kept = (length as f64 * (1.0 - share)) as u64;
        file.set_len(kept)?;
        Ok(length - kept)
    }

    /// The private Postgres' URL for readers of `main`, as the server printed it when it was last ready.
    pub fn readers_url(&self) -> Result<String> {
        let output = std::fs::read_to_string(self.folder.path().join("server.out"))?;
        let url = output.rsplit('\'').find(|part| part.starts_with("postgres://"));
        Ok(url.context("the server printed no psql line")?.to_owned())
    }

    /// The same for whoever owns everything, in the schema of `main`; or the database's that the lab was given.
    pub fn database_url(&self) -> Result<String> {
        if let Some(url) = &self.database {
            return Ok(url.clone());
        }
        let url = self
            .readers_url()?
            .replacen("://wavekeep_read_main@", "://wavekeep@", 1);
        Ok(format!("{url}?options=-csearch_path%3Dmain"))
    }

    /// Does something to workspace `main`, by the account that owns it; how many rows it changed.
    pub fn execute(&self, sql: &str) -> Result<u64> {
        // It is printed a moment after the server is ready.
        let printed = || Ok(self.database_url().is_ok());
        wait_for(
            "the server says where its database is",
            Duration::from_secs(60),
            printed,
        )?;
        let url = self.database_url()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(stored::execute(&url, sql))
    }
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, visit);
        } else {
            visit(&path);
        }
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut found = None;
    walk(folder, &mut |path| {
        if path.file_name().is_some_and(|own| own == name) {
            found = Some(path.to_owned());
        }
    });
    found
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A killed server leaves its Postgres running: start it once more, so that it stops it in order.
        if self.server.is_none() && find(&self.data(), "postmaster.pid").is_some() {
            let _ = self.start_server();
        }
        if let Some(mut server) = self.server.take() {
            let _ = server.terminate(READY);
        }
        if std::thread::panicking() || std::env::var_os("WAVEKEEP_KEEP").is_some() {
            self.keep();
            eprintln!("the lab is kept in {}", self.folder.path().display());
        }
    }
}

fn says_ready(http: SocketAddr) -> bool {
    http_get(http, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// One HTTP/1.1 GET over loopback; the whole answer.
pub fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    http_get_on(&mut stream, &address.to_string(), path)
}

fn http_get_on(stream: &mut (impl Read + Write), host: &str, path: &str) -> Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until `done` says so.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < limit {
        if done()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{what}: not within {limit:?}")
}
