//! `replay --format chunks`: carries streams from chunk files into the outbox and delivers them. Nothing is captured: the streams are
//! the ones that they were, and a server that has a part of one goes on behind it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::json;
use tracing::info;
use wavekeep_agent::outbox::Outbox;
use wavekeep_agent::outbox::carry::{CarriedIn, CarryError};
use wavekeep_agent::outbox::chunk_file::{self, ChunkFile, ChunkFileError};
use wavekeep_agent::outbox::rocks::RocksKv;
use wavekeep_proto::id::StreamId;

use super::CliError;
use super::agent::Session;
use super::replay::ReplayArgs;
use super::signals::Signals;
use super::summary::print_line;

type Opened = ChunkFile<BufReader<File>>;

pub(super) fn replay(args: ReplayArgs, signals: Signals) -> Result<(), CliError> {
    let common = &args.common;
    if args.describes() || common.run.is_some() || !common.labels.is_empty() {
        let why = "a chunk file says itself what its stream is: leave --rate, --start, --signal, --dtype, --join-rows, --run and --label out";
        return Err(CliError::Usage(why.into()));
    }
    let files = files(&args.file, &args.device)?;
    let (as_json, device) = (common.json, args.device.clone());
    let mut total = (0, 0, 0);
    let mut streams = Vec::new();
    let session = Session::start_with(args.common, &device, signals, |outbox| {
        for file in &files {
            let (stream, carried) = carry_in(outbox, file)?;
            streams.push((stream, carried.next_sample));
            total = (total.0 + 1, total.1 + carried.records, total.2 + carried.samples);
        }
        Ok(())
    })?;
    session.finish_carried(&streams)?;
    let (streams, chunks, samples) = total;
    print_line(&if as_json {
        json!({ "device": device, "stream_count": streams, "chunk_count": chunks, "sample_count": samples, "acknowledged": true }).to_string()
    } else {
        format!("{device}: {samples} samples in {chunks} chunks of {streams} streams carried over, all acknowledged")
    })
}

fn failed(path: &Path, error: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("{}: {error}", path.display()))
}

fn open(path: &Path) -> Result<Opened, CliError> {
    let opened = File::open(path).map_err(ChunkFileError::Unreadable);
    opened
        .and_then(|file| ChunkFile::open(BufReader::with_capacity(1 << 20, file)))
        .map_err(|error| failed(path, error))
}

/// The file, or those of a directory that are of the device.
fn files(path: &Path, device: &str) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        let of_file = open(path)?.device().to_owned();
        if of_file != device {
            return Err(CliError::Usage(format!(
                "{} is of device {of_file}: give --device {of_file}",
                path.display()
            )));
        }
        return Ok(vec![path.into()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| failed(path, error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == chunk_file::EXTENSION))
        .collect();
    files.sort();
    let mut others = std::collections::BTreeSet::new();
    let mut of_device = Vec::new();
    for file in files {
        let of_file = open(&file)?.device().to_owned();
        if of_file == device {
            of_device.push(file);
        } else {
            others.insert(of_file);
        }
    }
    if of_device.is_empty() {
        let others: Vec<_> = others.into_iter().collect();
        let why = match others.len() {
            0 => "there are no chunk files in it: `wavekeep-agent outbox export` writes them".into(),
            _ => format!("it has nothing of device {device}, but of {}", others.join(", ")),
        };
        return Err(failed(path, why));
    }
    Ok(of_device)
}

fn carry_in(outbox: &Outbox<RocksKv>, path: &Path) -> Result<(StreamId, CarriedIn), CliError> {
    let file = open(path)?;
    let stream = file.stream();
    let carried = outbox.carry_in(file).map_err(|error| match error {
        CarryError::Outbox(error) => CliError::failed(error),
        error => failed(path, error),
    })?;
    if carried.known {
        info!("{}: the outbox holds stream {stream} already", path.display());
    }
    Ok((stream, carried))
}
