//! Runs the real program, and talks to its admin socket.
#![allow(dead_code)] // Each test file uses its part of this.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A directory that goes with the test. Its path is short: a Unix socket has to fit.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("wk")
        .tempdir()
        .expect("a temporary directory")
}

/// A line that the program printed.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A URL at which nobody listens.
pub(crate) fn free_url() -> String {
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    format!("http://{}", address.expect("a free port"))
}

/// The agent, about to be started.
pub(crate) struct Agent(Command);

/// What it came to.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn last_line(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }
}

impl Agent {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavekeep-agent"));
        command.args(arguments);
        // The caller's own settings are none of the test's.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WAVEKEEP_")) {
            command.env_remove(name);
        }
        Self(command)
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn output(mut self) -> Output {
        let output = self.0.stdin(Stdio::null()).output().expect("the agent starts");
        output_of(output)
    }

    pub(crate) fn spawn(mut self) -> Running {
        let child = self
            .0
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running(Some(child.expect("the agent starts")))
    }
}

fn output_of(output: std::process::Output) -> Output {
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The agent, running. Killed when the test fails.
pub(crate) struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not waited for yet")
    }

    /// Waits until the agent's status is as wanted. Panics with its log if it ends before.
    pub(crate) fn wait_for_status(&mut self, outbox: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(status) = ask(outbox, "/status").and_then(|answer| serde_json::from_str(&answer).ok())
                && wanted(&status)
            {
                return status;
            }
            if let Some(code) = self.child().try_wait().expect("it can be waited for") {
                let output = output_of(
                    self.0
                        .take()
                        .expect("it is there")
                        .wait_with_output()
                        .expect("its output"),
                );
                panic!("the agent ended with {code}: {}", output.stderr);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        let id = i32::try_from(self.child().id()).expect("process ids are small");
        kill(Pid::from_raw(id), signal).expect("it is still running");
    }

    /// SIGINT, and what it comes to.
    pub(crate) fn interrupt(mut self) -> Output {
        self.signal(Signal::SIGINT);
        output_of(
            self.0
                .take()
                .expect("it is there")
                .wait_with_output()
                .expect("its output"),
        )
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child().kill().expect("it is still running");
        self.child().wait().expect("it ends");
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended; that is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Of a live capture of device `bench`; the source is still to be said.
pub(crate) fn run<'a>(outbox: &'a str, server: &'a str, drain_wait: &'a str) -> [&'a str; 9] {
    [
        "run",
        "--device",
        "bench",
        "--outbox",
        outbox,
        "--server",
        server,
        "--drain-wait",
        drain_wait,
    ]
}

/// The body of what the agent of this outbox answers.
pub(crate) fn get(outbox: &str, path: &str) -> String {
    ask(outbox, path).expect("the agent answers")
}

fn ask(outbox: &str, path: &str) -> Option<String> {
    let mut socket = UnixStream::connect(Path::new(outbox).join("agent.sock")).ok()?;
    write!(socket, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}
