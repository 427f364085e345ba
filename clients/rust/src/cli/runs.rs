//! `runs`, and `run create|add|remove|label|show|delete|import`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use wavekeep::time::{Moment, rfc3339};
use wavekeep::{Client, MemberOf, NewRun, Run, RunChange, RunMember, TimeRange};

use super::Select;
use super::failure::Failure;
use super::import;
use super::listing::{say_if_empty, time};
use super::select::run_filter;
use super::table::{Output, fixed, number, text};
use super::words::{duration, thousands};

pub(super) const LIST_EXAMPLES: &str = "Examples:
  wavekeep runs
  wavekeep runs --filter 'algorithm=A firmware!=1.3 device~js220-*'
  wavekeep runs --filter 'run~night-*' --json

A term is key=value, key!=value, key~glob or key!~glob (* any text, ? any character); all must hold. `device` and `run` mean those,
other keys are labels: a run's own, and those that all of its streams share. docs/RUNS.md has more.";

const RUN_EXAMPLES: &str = "Examples:
  wavekeep run create night-1 --device js220-001 --from 2026-03-01T22:00:00Z --to 2026-03-02T06:00:00Z --label algorithm=A
  wavekeep run label night-1 algorithm=B firmware=1.4.2 --remove operator
  wavekeep run show night-1
  wavekeep run import runs.csv";

const CREATE_EXAMPLES: &str = "Examples:
  wavekeep run create night-1 --device js220-001 --from 2026-03-01T22:00:00Z --to 2026-03-02T06:00:00Z
  wavekeep run create night-1 --device js220-001 --from -10min --to -0s --label algorithm=A --label firmware=1.4.2 --parent week-9
  wavekeep run create week-9 --note 'all nights of March'

A run names what is stored, and moves nothing. Without --to its end is open: what is recorded later belongs to it, too; -0s is the end
of what is stored now. Repeating the command with the same times changes nothing (-10min is another time each time).";

const REMOVE_EXAMPLES: &str = "Examples:
  wavekeep run remove night-1 --device js220-002
  wavekeep run remove night-1 --device js220-002 --from 2026-03-01T22:00:00Z --to 2026-03-02T06:00:00Z

Without a time, all that was added of the device or stream; else the time as it was added, which `wavekeep run show` lists. What an agent
recorded for a run (--run) stays in it.";

const IMPORT_EXAMPLES: &str = "Example:
  wavekeep run import runs.csv

The first line names the columns: name, device, from, to; stream (an id, instead of device), parent and note, if there are such; every
other column is a label. A row is a time that is made part of a run, and several rows may name the same one, with one value of each label.
Times are RFC 3339; an empty one is open. Runs that are there get the labels and times; nothing is taken from them. All rows are imported,
or none.";

#[derive(Debug, Args)]
pub(super) struct Runs {
    /// Only runs that it lets through: `key=value key!=value key~glob key!~glob`.
    #[arg(long, value_name = "EXPR", env = "WAVEKEEP_FILTER")]
    filter: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(super) struct RunArguments {
    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Debug, Subcommand)]
enum RunCommand {
    /// Make a run of a time of a device.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// Make another time part of a run.
    #[command(
        after_help = "Example:\n  wavekeep run add night-1 --device js220-002 --from 2026-03-01T22:00:00Z --to 2026-03-02T06:00:00Z"
    )]
    Add(Other),
    /// Take a time out of a run; its samples stay.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(Other),
    /// Set and remove labels; also the note and the parent.
    #[command(
        after_help = "Examples:\n  wavekeep run label night-1 algorithm=B firmware=1.4.2 --remove operator\n  wavekeep run label night-1 --note 'the fan was on' --parent week-9"
    )]
    Label(Label),
    /// Show what a run is and consists of.
    #[command(after_help = "Example:\n  wavekeep run show night-1 --json")]
    Show {
        /// The run.
        name: String,
    },
    /// Delete a run: its name, labels and note, and no sample.
    #[command(
        after_help = "Example:\n  wavekeep run delete night-1\n\nOne that an agent recorded for (--run) is part of that capture, and stays."
    )]
    Delete {
        /// The run.
        name: String,
    },
    /// Make runs from a table.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        /// Comma-separated, UTF-8.
        file: PathBuf,
    },
}

/// A time of a device or of a stream.
#[derive(Debug, Args)]
struct Part {
    /// The device.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_DEVICE")]
    device: Option<String>,
    /// One stream alone, by its id or by the beginning of it.
    #[arg(long, value_name = "ID", env = "WAVEKEEP_STREAM")]
    stream: Option<String>,
    /// From this time on: RFC 3339, or -10s for ten seconds before the end.
    #[arg(long, value_name = "TIME", env = "WAVEKEEP_FROM", allow_hyphen_values = true)]
    from: Option<Moment>,
    /// Up to this time, not included: RFC 3339, or -10s.
    #[arg(long, value_name = "TIME", env = "WAVEKEEP_TO", allow_hyphen_values = true)]
    to: Option<Moment>,
}

#[derive(Debug, Args)]
struct Create {
    /// The run's name.
    name: String,
    #[command(flatten)]
    part: Part,
    /// A label; may be given several times, and in the variable one a line.
    #[arg(long = "label", value_name = "KEY=VALUE", env = "WAVEKEEP_RUN_LABELS", value_delimiter = '\n', value_parser = label)]
    labels: Vec<(String, String)>,
    /// The run that it is a part of.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_PARENT")]
    parent: Option<String>,
    /// What there is to say about it.
    #[arg(long, value_name = "TEXT", env = "WAVEKEEP_NOTE")]
    note: Option<String>,
}

/// A time besides those that a run has.
#[derive(Debug, Args)]
struct Other {
    /// The run.
    name: String,
    #[command(flatten)]
    part: Part,
}

#[derive(Debug, Args)]
struct Label {
    /// The run.
    name: String,
    /// Labels to set.
    #[arg(value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A label to remove; may be given several times, and in the variable one a line.
    #[arg(long, value_name = "KEY", env = "WAVEKEEP_REMOVE_LABELS", value_delimiter = '\n')]
    remove: Vec<String>,
    /// The run that it is a part of; '' for none.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_PARENT")]
    parent: Option<String>,
    /// What there is to say about it; '' for nothing.
    #[arg(long, value_name = "TEXT", env = "WAVEKEEP_NOTE")]
    note: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.trim().is_empty())
        .ok_or("write a label as key=value, for example algorithm=A")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Part {
    /// None where nothing is named.
    async fn member(&self, client: &Client) -> Result<Option<RunMember>, Failure> {
        if self.device.is_none() && self.stream.is_none() {
            if self.from.is_some() || self.to.is_some() {
                return Err(Failure::Usage(
                    "say whose time that is: --device NAME or --stream ID (`wavekeep devices` lists them)".into(),
                ));
            }
            return Ok(None);
        }
        let select = Select {
            device: self.device.clone(),
            stream: self.stream.clone(),
            run: None,
            filter: None,
            signals: Vec::new(),
            from: self.from,
            to: self.to,
        };
        let selection = select.selection(client).await?;
        let range = selection.time_range();
        let id = match &self.stream {
            Some(text) => Some(select.stream_id(client, text).await?),
            None => None,
        };
        Ok(match (id, &self.device) {
            (Some(id), _) => Some(RunMember::stream(id, range)),
            (None, Some(device)) => Some(RunMember::device(device, range)),
            (None, None) => None,
        })
    }

    async fn required(&self, client: &Client) -> Result<RunMember, Failure> {
        let nothing = "say of what: --device NAME or --stream ID, and --from and --to (`wavekeep devices` lists them)";
        self.member(client).await?.ok_or_else(|| Failure::Usage(nothing.into()))
    }
}

pub(super) async fn runs(client: &Client, asked: &Runs, output: &mut Output) -> Result<(), Failure> {
    output.table([
        text("RUN"),
        text("LABELS"),
        text("PARENT").spare(2),
        number("STREAMS").spare(1),
        fixed("DURATION"),
        fixed("FROM").spare(3),
    ]);
    for run in client.runs(asked.filter.as_deref().unwrap_or_default()).await? {
        if output.json {
            output.json_line(&RunLine::from(&run))?;
            continue;
        }
        output.row([
            run.name.clone(),
            pairs(&run.labels),
            run.parent.clone().unwrap_or_default(),
            thousands(run.streams),
            length(&run),
            time(run.first_time_ns, output),
        ])?;
    }
    say_if_empty(output, "no runs");
    Ok(())
}

fn pairs(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

fn length(run: &Run) -> String {
    match run.first_time_ns {
        Some(_) => duration(i64::try_from(run.duration_ns).unwrap_or(i64::MAX)),
        None => "nothing".into(),
    }
}

pub(super) async fn run(client: &Client, arguments: &RunArguments, output: &mut Output) -> Result<(), Failure> {
    match &arguments.command {
        RunCommand::Create(create) => {
            let member = create.part.member(client).await?;
            let is_open = member.as_ref().is_some_and(is_open);
            let run = NewRun {
                name: create.name.clone(),
                labels: create.labels.iter().cloned().collect(),
                parent: create.parent.clone().filter(|parent| !parent.is_empty()),
                note: create.note.clone().unwrap_or_default(),
                members: member.into_iter().collect(),
            };
            let run = client.create_run(&run).await?;
            told(&run, output)?;
            say_if_open(is_open, output)
        }
        RunCommand::Add(add) => {
            let member = add.part.required(client).await?;
            let is_open = is_open(&member);
            let change = RunChange {
                add: vec![member],
                ..RunChange::default()
            };
            let run = client.update_run(&add.name, &change).await?;
            told(&run, output)?;
            say_if_open(is_open, output)
        }
        RunCommand::Remove(remove) => {
            let member = remove.part.required(client).await?;
            let change = RunChange {
                take_out: meant(&the_run(client, &remove.name).await?, &member)?,
                ..RunChange::default()
            };
            let run = client.update_run(&remove.name, &change).await?;
            told(&run, output)
        }
        RunCommand::Label(label) => {
            let change = change(label)?;
            let run = client.update_run(&label.name, &change).await?;
            told(&run, output)
        }
        RunCommand::Show { name } => {
            let run = the_run(client, name).await?;
            show(client, &run, output).await
        }
        RunCommand::Delete { name } => {
            client.delete_run(name).await?;
            if output.json {
                return Ok(());
            }
            output.line(&format!("run {name} is deleted; no sample is"))
        }
        RunCommand::Import { file } => import::import(client, file, output).await,
    }
}

async fn the_run(client: &Client, name: &str) -> Result<Run, Failure> {
    let runs = client.runs(&run_filter(name)).await?;
    let run = runs.into_iter().next();
    run.ok_or_else(|| Failure::Unknown(format!("there is no run {name:?} (`wavekeep runs` lists them)")))
}

/// The times of a run that are meant: the one that was added so, or, without a time, all of the device or stream.
fn meant(run: &Run, asked: &RunMember) -> Result<Vec<RunMember>, Failure> {
    let is_any = asked.range == TimeRange::default();
    let is_meant = |member: &&RunMember| member.of == asked.of && (is_any || member.range == asked.range);
    let found: Vec<RunMember> = run.members.iter().filter(is_meant).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let has: Vec<String> = run.members.iter().map(member_words).collect();
    let has = match has.len() {
        0 => "nothing was added to it".into(),
        _ => format!("added to it are: {}", has.join("; ")),
    };
    Err(Failure::Failed(format!(
        "{} was not added to run {}: {has}",
        member_words(asked),
        run.name
    )))
}

fn change(label: &Label) -> Result<RunChange, Failure> {
    let change = RunChange {
        set: label.labels.iter().cloned().collect(),
        remove: label.remove.clone(),
        note: label.note.clone(),
        parent: label
            .parent
            .clone()
            .map(|parent| (!parent.is_empty()).then_some(parent)),
        ..RunChange::default()
    };
    if change == RunChange::default() {
        return Err(Failure::Usage(
            "say what to change: KEY=VALUE, --remove KEY, --note TEXT or --parent NAME".into(),
        ));
    }
    Ok(change)
}

/// What became of it, in a line.
fn told(run: &Run, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.json_line(&RunLine::from(run));
    }
    let labels = match pairs(&run.labels) {
        labels if labels.is_empty() => "no labels".into(),
        labels => labels,
    };
    output.line(&format!(
        "run {}: {labels}; {} streams, {}",
        run.name,
        thousands(run.streams),
        length(run)
    ))
}

fn is_open(member: &RunMember) -> bool {
    member.range.to_ns.is_none()
}

/// Whoever names the last two seconds may not expect that the run grows with each recording.
fn say_if_open(is_open: bool, output: &mut Output) -> Result<(), Failure> {
    if is_open {
        output.flush()?;
        output.note(
            "the end of this time is open: what is recorded later belongs to the run, too; --to ends it (--to -0s: where what is stored ends now)",
        );
    }
    Ok(())
}

async fn show(client: &Client, run: &Run, output: &mut Output) -> Result<(), Failure> {
    let parts: Vec<String> = client
        .runs("")
        .await?
        .into_iter()
        .filter(|other| other.parent.as_ref() == Some(&run.name))
        .map(|other| other.name)
        .collect();
    if output.json {
        return output.json_line(&ShownLine {
            run: RunLine::from(run),
            parts,
        });
    }
    let mut rows = vec![("run", run.name.clone())];
    let mut row = |name, value: String| {
        if !value.is_empty() {
            rows.push((name, value));
        }
    };
    let own = pairs(&run.own_labels);
    let shared = run.labels.iter().filter(|(key, _)| !run.own_labels.contains_key(*key));
    let shared: BTreeMap<String, String> = shared.map(|(key, value)| (key.clone(), value.clone())).collect();
    row("labels", own);
    row("of all streams", pairs(&shared));
    row("parent", run.parent.clone().unwrap_or_default());
    row("parts", parts.join(" "));
    row("note", run.note.clone());
    row("devices", run.devices.join(" "));
    row(
        "streams",
        format!(
            "{}, {} recorded for it",
            thousands(run.streams),
            thousands(run.recorded_streams)
        ),
    );
    row("duration", length(run));
    row("from", run.first_time_ns.map(rfc3339).unwrap_or_default());
    row("to", run.last_time_ns.map(rfc3339).unwrap_or_default());
    for member in &run.members {
        row("time", member_words(member));
    }
    rows.into_iter().try_for_each(|(name, value)| {
        output.line(&format!("{name:<16}{}", value.replace('\n', &format!("\n{:16}", ""))))
    })
}

fn member_words(member: &RunMember) -> String {
    let of = match &member.of {
        MemberOf::Device(name) => name.clone(),
        MemberOf::Stream(id) => format!("stream {id}"),
    };
    let TimeRange { from_ns, to_ns } = member.range;
    let at = |ns: Option<i64>, open: &str| ns.map_or_else(|| open.to_owned(), rfc3339);
    format!("{of}, {} to {}", at(from_ns, "its beginning"), at(to_ns, "its end"))
}

#[derive(Serialize)]
struct MemberLine {
    device: Option<String>,
    stream: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl From<&RunMember> for MemberLine {
    fn from(member: &RunMember) -> Self {
        let (device, stream) = match &member.of {
            MemberOf::Device(name) => (Some(name.clone()), None),
            MemberOf::Stream(id) => (None, Some(id.to_string())),
        };
        Self {
            device,
            stream,
            from: member.range.from_ns.map(rfc3339),
            to: member.range.to_ns.map(rfc3339),
        }
    }
}

/// Of `--json`. Its fields are a surface that scripts depend on: they are added to, never renamed.
#[derive(Serialize)]
struct RunLine {
    run: String,
    labels: BTreeMap<String, String>,
    own_labels: BTreeMap<String, String>,
    parent: Option<String>,
    note: String,
    streams: u64,
    recorded_streams: u64,
    devices: Vec<String>,
    duration_s: f64,
    from: Option<String>,
    to: Option<String>,
    members: Vec<MemberLine>,
}

/// Of `run show --json`: one run, with the runs that are part of it.
#[derive(Serialize)]
struct ShownLine {
    #[serde(flatten)]
    run: RunLine,
    parts: Vec<String>,
}

impl From<&Run> for RunLine {
    fn from(run: &Run) -> Self {
        Self {
            run: run.name.clone(),
            labels: run.labels.clone(),
            own_labels: run.own_labels.clone(),
            parent: run.parent.clone(),
            note: run.note.clone(),
            streams: run.streams,
            recorded_streams: run.recorded_streams,
            devices: run.devices.clone(),
            duration_s: run.duration_ns as f64 / 1e9,
            from: run.first_time_ns.map(rfc3339),
            to: run.last_time_ns.map(rfc3339),
            members: run.members.iter().map(MemberLine::from).collect(),
        }
    }
}
