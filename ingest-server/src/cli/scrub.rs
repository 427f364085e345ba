//! `wavekeep-server scrub`.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::BoolishValueParser;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wavekeep_proto::cli::thousands;
use wavekeep_proto::id::StreamId;

use super::options::DatabaseOptions;
use super::quarantine::{parse_stream, plain};
use super::units::parse_bytes;
use crate::scrub::{self, Cursor, Event, Order, Totals, Wrong};
use crate::workspace::{self, FIRST_WORKSPACE};

const EXAMPLES: &str = "\
Examples, with WAVEKEEP_DATABASE_URL set:
  wavekeep-server scrub
  wavekeep-server scrub --workspace team_7 --rate 20MB --state /var/lib/wavekeep/scrub.json
  wavekeep-server scrub --device js220-001 --json

It ends with 0 when nothing is wrong, and with 1 when something is, or when it could not look at everything.";

/// Between two times that the state is written, and that progress is shown.
const STATE_PERIOD: Duration = Duration::from_secs(5);
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ScrubArgs {
    #[command(flatten)]
    database: DatabaseOptions,
    /// What is looked at
    #[arg(long, env = "WAVEKEEP_WORKSPACE", value_name = "NAME", default_value = FIRST_WORKSPACE)]
    workspace: String,
    /// Only the streams of this device
    #[arg(long, env = "WAVEKEEP_DEVICE", value_name = "NAME")]
    device: Option<String>,
    /// Only this stream; the first digits are enough
    #[arg(long, env = "WAVEKEEP_STREAM", value_name = "ID", value_parser = parse_stream)]
    stream: Option<String>,
    /// At most so many encoded bytes a second, so that ingest and readers have the rest [default: as fast as it goes]
    #[arg(long, env = "WAVEKEEP_RATE", value_name = "BYTES", value_parser = parse_bytes)]
    rate: Option<u64>,
    /// Keep in this file how far it is, and go on from there; the file is removed at the end
    #[arg(long, env = "WAVEKEEP_STATE", value_name = "FILE")]
    state: Option<PathBuf>,
    /// One JSON object a line: for each finding, and at the end what was looked at
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    workspace: String,
    device: Option<String>,
    stream: Option<String>,
    cursor: Cursor,
}

const VERSION: u32 = 1;

impl ScrubArgs {
    /// From where it goes on.
    fn cursor(&self) -> anyhow::Result<Cursor> {
        let Some(path) = &self.state else {
            return Ok(Cursor::START);
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Cursor::START),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let state: Option<State> = serde_json::from_slice(&text).ok();
        let Some(state) = state.filter(|state| state.version == VERSION) else {
            bail!(
                "{} is no state of a scrub of this version: give another file, or remove it",
                path.display()
            );
        };
        if (&state.workspace, &state.device, &state.stream) != (&self.workspace, &self.device, &self.stream) {
            bail!(
                "{} is the state of a scrub of something else (workspace {}): give another file, or remove it",
                path.display(),
                plain(&state.workspace)
            );
        }
        Ok(state.cursor)
    }

    /// A file that is whole, whenever this program dies.
    fn keep(&self, path: &Path, cursor: &Cursor) -> io::Result<()> {
        let state = State {
            version: VERSION,
            workspace: self.workspace.clone(),
            device: self.device.clone(),
            stream: self.stream.clone(),
            cursor: *cursor,
        };
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&state)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }

    fn told(&self, stream: StreamId, device: &str, wrong: &Wrong) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            let finding = json!({
                "stream": stream.to_string(), "device": device, "seq": wrong.seq, "what": wrong.what,
            });
            return writeln!(out, "{finding}");
        }
        let seq = wrong.seq.map(|seq| format!(", seq {seq}")).unwrap_or_default();
        writeln!(out, "{}, stream {stream}{seq}: {}", plain(device), plain(&wrong.what))
    }

    fn summed_up(&self, totals: &Totals) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            let Totals {
                streams,
                chunks,
                samples,
                bytes,
                unfolded,
                findings,
            } = totals;
            let all = json!({
                "streams": streams, "chunks": chunks, "samples": samples, "bytes": bytes, "unfolded_chunks": unfolded,
                "findings": findings,
            });
            return writeln!(out, "{all}");
        }
        writeln!(out, "{}; {}", sentence(totals), findings(totals.findings))?;
        if totals.unfolded > 0 {
            writeln!(
                out,
                "{} chunks have no envelopes yet: a server makes them in the background; scrub again then",
                thousands(totals.unfolded)
            )?;
        }
        Ok(())
    }
}

fn sentence(totals: &Totals) -> String {
    let counted = [
        (totals.streams, "stream"),
        (totals.chunks, "chunk"),
        (totals.samples, "sample"),
        (totals.bytes, "byte"),
    ];
    let counted = counted.map(|(count, of)| format!("{} {of}{}", thousands(count), if count == 1 { "" } else { "s" }));
    format!("looked at {}", counted.join(", "))
}

fn findings(findings: u64) -> String {
    match findings {
        0 => "everything is as it was captured".into(),
        1 => "1 finding".into(),
        more => format!("{} findings", thousands(more)),
    }
}

pub(super) async fn run(args: ScrubArgs) -> anyhow::Result<()> {
    let cursor = args.cursor()?;
    let url = args.database.database_url.expose_secret();
    let (database, workspace) = workspace::enter(url, &args.workspace).await?;
    let order = Order {
        device: args.device.clone(),
        stream: args.stream.clone(),
        bytes_per_second: args.rate,
    };
    if cursor != Cursor::START {
        eprintln!("going on where the scrub before stopped");
    }
    let is_watched = io::stderr().is_terminal();
    let (mut kept, mut shown) = (Instant::now(), Instant::now());
    let tell = |event: Event<'_>| match event {
        Event::Wrong(stream, device, wrong) => args.told(stream, device, wrong),
        Event::Progress(totals, cursor) => {
            if let Some(path) = args.state.as_deref().filter(|_| kept.elapsed() >= STATE_PERIOD) {
                kept = Instant::now();
                args.keep(path, cursor)?;
            }
            if is_watched && shown.elapsed() >= PROGRESS_PERIOD {
                shown = Instant::now();
                eprint!("\r\x1b[K{}", sentence(totals));
            }
            Ok(())
        }
    };
    let totals = scrub::run(&database, &workspace, &order, cursor, tell).await;
    if is_watched {
        eprint!("\r\x1b[K");
    }
    let totals = totals?;
    if totals.streams == 0 && (args.device.is_some() || args.stream.is_some()) {
        bail!("there is no such stream: `wavekeep streams` lists them");
    }
    args.summed_up(&totals)?;
    if let Some(path) = args.state.as_deref().filter(|path| path.exists()) {
        fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    if totals.findings > 0 {
        bail!("{} in workspace {}", findings(totals.findings), args.workspace);
    }
    Ok(())
}
