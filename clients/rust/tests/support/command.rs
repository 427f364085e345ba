//! Runs `wavekeep` against a script.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::stream::StreamDefinition;

use super::{Capture, Script, definition, serve};

/// How a run ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// `wavekeep` with nothing of our environment in its options.
pub fn command_at(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavekeep"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WAVEKEEP_") || name == "COLUMNS") {
        command.env_remove(name);
    }
    command.env("WAVEKEEP_SERVER", server).args(arguments);
    command
}

/// Runs a command to its end.
pub async fn finished(command: &mut Command) -> Ran {
    let output: Output = command.output().await.expect("it runs");
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

pub async fn run_at(server: &str, arguments: &[&str]) -> Ran {
    finished(&mut command_at(server, arguments)).await
}

pub async fn run(script: Script, arguments: &[&str]) -> Ran {
    run_at(&serve(script).await, arguments).await
}

pub async fn export(script: Script, output: &Path, more: &[&str]) -> Ran {
    let output = output.to_str().expect("text");
    let mut arguments = vec!["export", "--device", "js220-001", "--format", "raw", "--output", output];
    arguments.extend(more);
    run(script, &arguments).await
}

/// Six samples and three, without a gap.
pub fn whole() -> Capture {
    let mut capture = Capture::new(definition(1));
    capture.samples(Encoding::Plain, &[0x7f80_0001, 0x8000_0000, 3, 4, 5, 6]);
    capture.samples(Encoding::ShuffleZstd, &[7, 8, 9]);
    capture.end();
    capture
}

/// Two samples, a gap of three, two samples.
pub fn with_gap(definition: StreamDefinition) -> Capture {
    let mut capture = Capture::new(definition);
    capture.samples(Encoding::Plain, &[1, 2]);
    capture.gap(3, Reason::SourceLoss);
    capture.samples(Encoding::Plain, &[3, 4]);
    capture
}

pub fn interleaved(bits: &[u32]) -> Vec<u8> {
    bits.iter()
        .flat_map(|bits| [bits.to_le_bytes(), (bits ^ (1 << 31)).to_le_bytes()])
        .flatten()
        .collect()
}

/// Where an export goes.
pub struct Directory(pub tempfile::TempDir);

impl Directory {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }
    pub fn file(&self) -> std::path::PathBuf {
        self.0.path().join("out.raw")
    }
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("it is there");
        entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect()
    }
}
