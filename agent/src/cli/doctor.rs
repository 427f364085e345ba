//! `wavekeep-agent outbox verify|export|repair`: the doctor. It opens any outbox, says what is intact and what is damaged, brings what
//! is intact to files, and makes a damaged outbox whole again. Only `repair` changes anything.

use std::fs::File;
use std::io::{BufRead, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Serialize;
use wavekeep_agent::outbox::carry::{CarriedOut, CarryError};
use wavekeep_agent::outbox::chunk_file;
use wavekeep_agent::outbox::rocks::{self, Looked, RocksKv};
use wavekeep_agent::outbox::verify::{StreamVerified, VerifyReport};
use wavekeep_agent::outbox::{Options, Outbox, OutboxError};
use wavekeep_proto::id::StreamId;

use super::outbox::at;
use super::summary::print_line;
use super::{CliError, values};

const IN_USE: &str = "an agent uses this outbox: stop it and ask again";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wavekeep-agent outbox verify /var/lib/wavekeep
  wavekeep-agent outbox verify /var/lib/wavekeep --json | jq .intact

It ends with 0 only if all is intact. Stop the outbox's agent before; docs/OPERATIONS.md has it step by step.")]
pub(crate) struct VerifyArgs {
    /// The outbox's directory
    #[arg(value_name = "DIR", env = "WAVEKEEP_OUTBOX")]
    directory: PathBuf,
    /// Prints one JSON object
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wavekeep-agent outbox export /var/lib/wavekeep --output /media/stick
  wavekeep-agent outbox export /var/lib/wavekeep --output /media/stick --device bench-3 --unacked
  wavekeep-agent replay /media/stick --format chunks --outbox ./outbox --device bench-3")]
pub(crate) struct ExportArgs {
    /// The outbox's directory
    #[arg(value_name = "DIR", env = "WAVEKEEP_OUTBOX")]
    directory: PathBuf,
    /// Where the files go, on another disk if this one fails; made if it is not there
    #[arg(long, env = "WAVEKEEP_OUTPUT", value_name = "DIR")]
    output: PathBuf,
    /// Only streams of this device
    #[arg(long, env = "WAVEKEEP_DEVICE", value_name = "NAME", value_parser = values::name)]
    device: Option<String>,
    /// Only this stream
    #[arg(long, env = "WAVEKEEP_STREAM", value_name = "ID")]
    stream: Option<StreamId>,
    /// Only what no ack covers, as last noted; the server has the rest
    #[arg(long, env = "WAVEKEEP_UNACKED", value_parser = BoolishValueParser::new())]
    unacked: bool,
    /// Prints one JSON object, which is also in the output directory as manifest.json
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wavekeep-agent outbox repair /var/lib/wavekeep           says what it would do, and asks
  wavekeep-agent outbox repair /var/lib/wavekeep --yes     does it at once, for scripts

What is lost becomes gaps with the reason `corrupt`. `wavekeep-agent outbox export` before it brings to safety what is intact.")]
pub(crate) struct RepairArgs {
    /// The outbox's directory
    #[arg(value_name = "DIR", env = "WAVEKEEP_OUTBOX")]
    directory: PathBuf,
    /// Does it without asking
    #[arg(long, env = "WAVEKEEP_YES", value_parser = BoolishValueParser::new())]
    yes: bool,
    /// Prints one JSON object
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// One store, looked at.
#[derive(Debug, Serialize)]
struct StoreReport {
    path: PathBuf,
    /// What is wrong with its files as a whole.
    damage: Option<String>,
    /// What can be read of it, if anything can.
    #[serde(flatten)]
    report: Option<VerifyReport>,
}

/// What `verify` says: of the store in use, and of those that were set aside.
#[derive(Debug, Serialize)]
struct Diagnosis {
    #[serde(flatten)]
    store: StoreReport,
    set_aside: Vec<StoreReport>,
}

impl StoreReport {
    fn of(path: &Path) -> Result<Self, OutboxError> {
        let examined = rocks::look(path).and_then(|looked| {
            let report = looked.outbox.verify()?;
            Ok((looked.damage, report))
        });
        let (damage, report) = match examined {
            Ok((damage, mut report)) => {
                report.intact &= damage.is_none();
                (damage, Some(report))
            }
            Err(error @ (OutboxError::Kv(_) | OutboxError::Broken(_))) => (Some(error.to_string()), None),
            Err(error) => return Err(error),
        };
        let path = path.into();
        Ok(Self { path, damage, report })
    }

    fn is_intact(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.intact)
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(damage) = &self.damage {
            let rest = match self.report {
                Some(_) => "what can be read of it all the same:",
                None => "nothing of it can be read",
            };
            lines.push(format!("{}: DAMAGED: {damage}; {rest}", self.path.display()));
        }
        let Some(report) = &self.report else { return lines };
        lines.extend(report.streams.iter().flat_map(stream_lines));
        for stream in &report.unknown_streams {
            lines.push(format!(
                "{stream}: DAMAGED: its definition is lost, so its chunks cannot be sent"
            ));
        }
        for stream in &report.lost_states {
            lines.push(format!(
                "{stream}: DAMAGED: where it stood is lost and put together from its chunks: what was released long ago counts as damaged"
            ));
        }
        if !report.lost_definitions.is_empty() {
            let copies = report.lost_definitions.len();
            lines.push(format!("DAMAGED: copies of the definitions of {copies} streams"));
        }
        let verdict = if report.intact { "intact" } else { "DAMAGED" };
        lines.push(format!("{} bytes read, {verdict}", report.read_bytes));
        lines
    }
}

impl Diagnosis {
    fn of(directory: &Path) -> Result<Self, CliError> {
        let told = |error| match error {
            OutboxError::InUse => CliError::Failed(format!("{}: {IN_USE}", directory.display())),
            error => at(directory, &error),
        };
        let examine = || {
            let set_aside = match directory.is_dir() {
                true => rocks::set_aside_stores(directory)?,
                false => Vec::new(),
            };
            let store = rocks::store_of(directory);
            let store = if store.is_dir() || set_aside.is_empty() {
                StoreReport::of(&store)?
            } else {
                StoreReport {
                    path: store,
                    damage: Some("it is gone".into()),
                    report: None,
                }
            };
            let set_aside = set_aside.iter().map(|path| StoreReport::of(path));
            let set_aside = set_aside.collect::<Result<_, _>>()?;
            Ok(Self { store, set_aside })
        };
        refuse_in_use(directory)?;
        let mut diagnosis = examine().map_err(told)?;
        // What it changed while it was read would look like damage.
        refuse_in_use(directory)?;
        if let Some(report) = diagnosis.store.report.as_mut() {
            report.intact &= diagnosis.set_aside.is_empty();
        }
        Ok(diagnosis)
    }

    fn is_intact(&self) -> bool {
        self.store.is_intact() && self.set_aside.is_empty()
    }

    fn stores(&self) -> impl Iterator<Item = &StoreReport> {
        std::iter::once(&self.store).chain(&self.set_aside)
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = self.store.lines();
        for store in &self.set_aside {
            lines.push(format!(
                "{}: set aside when it could not be opened, and not brought back yet:",
                store.path.display()
            ));
            lines.extend(store.lines());
        }
        lines
    }

    /// Samples of which nobody but this outbox can know.
    fn lost_samples(&self) -> u64 {
        let reports = self.stores().filter_map(|store| store.report.as_ref());
        reports
            .flat_map(|report| &report.streams)
            .map(|stream| stream.lost_samples)
            .sum()
    }
}

fn refuse_in_use(directory: &Path) -> Result<(), CliError> {
    if rocks::is_locked(directory) {
        return Err(CliError::Failed(format!("{}: {IN_USE}", directory.display())));
    }
    Ok(())
}

fn time(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| format!("{ns} ns"), |time| format!("{time:.3}"))
}

fn stream_lines(stream: &StreamVerified) -> Vec<String> {
    let StreamVerified {
        samples,
        samples_chunks,
        gap_samples,
        gap_chunks,
        acked_seq,
        stored_seq,
        ..
    } = stream;
    let times = match (stream.from_utc_ns, stream.to_utc_ns) {
        (Some(from), Some(to)) => format!(", {} to {}", time(from), time(to)),
        _ => String::new(),
    };
    let mut lines = vec![format!(
        "{} {}: {samples} samples in {samples_chunks} chunks, {gap_samples} missing ones in {gap_chunks} gaps{times}; \
         acknowledged up to chunk {acked_seq} of {stored_seq}",
        stream.stream, stream.device
    )];
    for range in &stream.damaged {
        let acked = if range.acked {
            "the server has them"
        } else {
            "not acknowledged"
        };
        lines.push(format!(
            "  DAMAGED since {}: {} samples from {} on, until {} (chunks {} to {}); {acked}",
            time(range.from_utc_ns),
            range.count,
            range.first_sample,
            time(range.to_utc_ns),
            range.first_seq,
            range.seq
        ));
    }
    if stream.damaged_chunks > 0 {
        lines.push(format!(
            "  DAMAGED in all: {} chunks with {} samples, {} of them not acknowledged",
            stream.damaged_chunks, stream.damaged_samples, stream.lost_samples
        ));
    }
    lines
}

fn print(lines: &[String]) -> Result<(), CliError> {
    lines.iter().try_for_each(|line| print_line(line))
}

fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    print_line(&serde_json::to_string(value).map_err(CliError::failed)?)
}

pub(super) fn verify(args: &VerifyArgs) -> Result<(), CliError> {
    let diagnosis = Diagnosis::of(&args.directory)?;
    if args.json {
        print_json(&diagnosis)?;
    } else {
        print(&diagnosis.lines())?;
    }
    if diagnosis.is_intact() {
        return Ok(());
    }
    let directory = args.directory.display();
    Err(CliError::Failed(format!(
        "{directory} is damaged: bring what is intact to another disk with `wavekeep-agent outbox export {directory} --output DIR`, \
         or let the agent go on with `wavekeep-agent outbox repair {directory}`"
    )))
}

pub(super) fn repair(args: &RepairArgs) -> Result<(), CliError> {
    let directory = args.directory.display();
    let diagnosis = Diagnosis::of(&args.directory)?;
    if diagnosis.is_intact() {
        return if args.json {
            print_json(&rocks::RepairReport::default())
        } else {
            print_line(&format!("{directory} is intact: there is nothing to repair"))
        };
    }
    let plan = [
        format!(
            "what can be read is copied into a new store; what cannot ({} samples that are not acknowledged) becomes gaps with the reason corrupt",
            diagnosis.lost_samples()
        ),
        format!("what is damaged stays in {directory}, as store.kept-…, until you delete it"),
    ];
    if !args.json {
        print(&diagnosis.lines())?;
        print(&plan)?;
    }
    if !args.yes && !is_confirmed("repair it now?")? {
        return Err(CliError::Failed(format!(
            "nothing was changed: `wavekeep-agent outbox repair {directory} --yes` does it"
        )));
    }
    let report = rocks::repair(&args.directory, Options::default()).map_err(|error| at(&args.directory, &error))?;
    if args.json {
        return print_json(&report);
    }
    print(&repaired_lines(&report))
}

/// Does a person say yes? Nobody does where there is no terminal.
pub(super) fn is_confirmed(question: &str) -> Result<bool, CliError> {
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() {
        return Ok(false);
    }
    let mut answer = String::new();
    write!(output, "{question} (yes or no) ")
        .and_then(|()| output.flush())
        .and_then(|()| input.lock().read_line(&mut answer))
        .map_err(CliError::failed)?;
    Ok(matches!(answer.trim(), "yes" | "y"))
}

fn repaired_lines(report: &rocks::RepairReport) -> Vec<String> {
    let damaged = report.lost.streams.iter().filter(|stream| stream.damaged_chunks > 0);
    let mut lines: Vec<String> = damaged.flat_map(stream_lines).collect();
    for stream in &report.lost_definitions {
        lines.push(format!(
            "{stream}: LOST: nothing tells what it is; its chunks stay in the store that is kept"
        ));
    }
    lines.push(format!(
        "repaired: {} chunks of {} streams are held again, what is named above became gaps",
        report.records, report.streams
    ));
    for path in &report.kept {
        let unreadable = if report.unreadable.contains(path) {
            ", of which nothing could be read"
        } else {
            ""
        };
        lines.push(format!("kept: {}{unreadable}", path.display()));
    }
    lines
}

/// What `export` wrote.
#[derive(Debug, Serialize)]
struct Manifest {
    outbox: PathBuf,
    /// What is wrong with stores as a whole, a sentence each.
    damage: Vec<String>,
    /// Streams of which nothing tells what they are.
    unknown_streams: Vec<String>,
    files: Vec<Exported>,
    /// Is everything that was asked for in the files?
    intact: bool,
}

#[derive(Debug, Serialize)]
struct Exported {
    file: String,
    #[serde(flatten)]
    carried: CarriedOut,
    /// What brings it to a server; SERVER and OUTBOX are to be filled in.
    replay: String,
}

pub(super) fn export(args: &ExportArgs) -> Result<(), CliError> {
    let directory = &args.directory;
    refuse_in_use(directory)?;
    let mut stores = vec![rocks::store_of(directory)];
    if directory.is_dir() {
        let aside = rocks::set_aside_stores(directory).map_err(|error| at(directory, &error))?;
        stores.extend(aside.into_iter().rev());
    }
    stores.retain(|store| store.is_dir());
    if stores.is_empty() {
        return Err(at(directory, &OutboxError::Missing));
    }
    std::fs::create_dir_all(&args.output).map_err(|error| written(&args.output, error))?;
    let mut manifest = Manifest {
        outbox: directory.clone(),
        damage: Vec::new(),
        unknown_streams: Vec::new(),
        files: Vec::new(),
        intact: true,
    };
    for store in &stores {
        match rocks::look(store) {
            Ok(looked) => export_store(args, store, looked, &mut manifest)?,
            Err(error @ (OutboxError::Kv(_) | OutboxError::Broken(_))) => {
                manifest.damage.push(format!("{}: {error}", store.display()));
            }
            Err(error) => return Err(at(directory, &error)),
        }
    }
    refuse_in_use(directory)?;
    let lost = manifest.files.iter().map(|file| file.carried.verified.damaged_chunks);
    manifest.intact = lost.sum::<u64>() == 0 && manifest.damage.is_empty() && manifest.unknown_streams.is_empty();
    let text = serde_json::to_string_pretty(&manifest).map_err(CliError::failed)?;
    let path = args.output.join("manifest.json");
    std::fs::write(&path, text + "\n").map_err(|error| written(&path, error))?;
    told(args, &manifest)
}

fn told(args: &ExportArgs, manifest: &Manifest) -> Result<(), CliError> {
    if args.json {
        print_json(manifest)?;
    } else {
        print(&manifest.damage)?;
        for file in &manifest.files {
            print(&stream_lines(&file.carried.verified))?;
            print_line(&format!("  {}", file.replay))?;
        }
    }
    let output = args.output.display();
    if manifest.files.is_empty() {
        let why = if manifest.damage.is_empty() {
            "the outbox holds nothing of that".into()
        } else {
            manifest.damage.join("; ")
        };
        return Err(CliError::Failed(format!("nothing was exported: {why}")));
    }
    if manifest.intact {
        return Ok(());
    }
    Err(CliError::Incomplete(format!(
        "what is intact is in {output}, not all was: {output}/manifest.json names what is missing"
    )))
}

fn export_store(args: &ExportArgs, store: &Path, looked: Looked, manifest: &mut Manifest) -> Result<(), CliError> {
    let outbox = &looked.outbox;
    let lost = outbox.unknown_streams().map_err(|error| at(&args.directory, &error))?;
    manifest.unknown_streams.extend(lost.iter().map(ToString::to_string));
    manifest.damage.extend(
        looked
            .damage
            .iter()
            .map(|damage| format!("{}: {damage}", store.display())),
    );
    for (stream, device) in outbox.held_streams() {
        let name = format!("{}-{stream}.{}", plain(&device), chunk_file::EXTENSION);
        let wanted =
            args.stream.is_none_or(|only| only == stream) && args.device.as_ref().is_none_or(|only| *only == device);
        if !wanted || manifest.files.iter().any(|file| file.file == name) {
            continue;
        }
        let path = args.output.join(&name);
        let carried = export_stream(outbox, stream, args.unacked, &path).map_err(|error| match error {
            CarryError::Outbox(error) => at(&args.directory, &error),
            error => CliError::Failed(format!("{}: {error}", path.display())),
        })?;
        let replay = format!(
            "wavekeep-agent replay {} --server SERVER --outbox OUTBOX --device {}",
            quoted(&path.display().to_string()),
            quoted(&device)
        );
        manifest.files.push(Exported {
            file: name,
            carried,
            replay,
        });
    }
    Ok(())
}

/// There whole, on the disk, or not at all.
fn export_stream(
    outbox: &Outbox<RocksKv>,
    stream: StreamId,
    unacked: bool,
    path: &Path,
) -> Result<CarriedOut, CarryError> {
    let part = path.with_extension("part");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(CarryError::Write)?);
    let carried = outbox.carry_out(stream, unacked, &mut file)?;
    let file = file
        .into_inner()
        .map_err(|error| CarryError::Write(error.into_error()))?;
    file.sync_all()
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(CarryError::Write)?;
    Ok(carried)
}

fn written(path: &Path, error: std::io::Error) -> CliError {
    CliError::Failed(format!("{}: {}", path.display(), CarryError::Write(error)))
}

/// A device's name, as a part of a file's.
fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.chars().map(plain).take(64).collect()
}

/// For a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if text.chars().all(is_plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
