//! `mark` and `markers`.

use clap::Args;
use serde::Serialize;
use wavekeep::proto::chunk::MarkerFormat;
use wavekeep::time::{Moment, rfc3339};
use wavekeep::{Client, ListedMarker, MarkerOrigin, NewMarker, Selection, TimeRange};

use super::Select;
use super::failure::Failure;
use super::limits::MARKERS_LISTED_MAX;
use super::listing::{say_if_empty, stream_name, time};
use super::table::{Output, fixed, number, text};

pub(super) const MARK_EXAMPLES: &str = "Examples:
  wavekeep mark --device js220-001 'the fan goes on'
  wavekeep mark --device js220-001 --time 2026-03-01T12:00:00Z --kind 1 'firmware 1.4.2'
  wavekeep mark --device js220-001 --time -10s --json-text '{\"step\": 3}'

A marker stands at a time of a device, whether something is stored of that time or not.";

pub(super) const MARKERS_EXAMPLES: &str = "Examples:
  wavekeep markers --device js220-001 --from -1h
  wavekeep markers --run night-1 --json

Those that came with the samples, from an instrument or a file, have a stream and a sample; those that were added have none.";

#[derive(Debug, Args)]
pub(super) struct Mark {
    /// The device.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_DEVICE")]
    device: Option<String>,
    /// When: RFC 3339, or -10s for ten seconds before the end of what is stored [default: now]
    #[arg(long, value_name = "TIME", env = "WAVEKEEP_TIME", allow_hyphen_values = true)]
    time: Option<Moment>,
    /// What it is for: text, vertical, horizontal, or a number.
    #[arg(long, value_name = "KIND", env = "WAVEKEEP_KIND", default_value = "text", value_parser = kind)]
    kind: u16,
    /// JSON instead of a text.
    #[arg(long, value_name = "JSON", env = "WAVEKEEP_JSON_TEXT", conflicts_with = "text")]
    json_text: Option<String>,
    /// The note.
    text: Option<String>,
}

const KINDS: [&str; 3] = ["text", "vertical", "horizontal"];

fn kind(text: &str) -> Result<u16, String> {
    let known = KINDS.iter().position(|name| *name == text);
    let number = known
        .and_then(|at| u16::try_from(at).ok())
        .or_else(|| text.parse().ok());
    number.ok_or_else(|| "give text, vertical, horizontal or a number below 65536".into())
}

pub(super) async fn mark(client: &Client, mark: &Mark, output: &mut Output) -> Result<(), Failure> {
    let Some(device) = &mark.device else {
        return Err(Failure::Usage(
            "say which device: --device NAME (`wavekeep devices` lists them)".into(),
        ));
    };
    let time_ns = match mark.time {
        Some(Moment::At(ns)) => ns,
        None => now_ns()?,
        Some(Moment::BeforeEnd(_)) => before_end(client, device, mark.time).await?,
    };
    let marker = match (&mark.text, &mark.json_text) {
        (Some(text), None) => NewMarker::text(device, time_ns, text),
        (None, Some(json)) => NewMarker::json(device, time_ns, json),
        _ => return Err(Failure::Usage("say what to note: a text, or --json-text JSON".into())),
    };
    let marker = NewMarker {
        kind: mark.kind,
        ..marker
    };
    client.add_markers(std::slice::from_ref(&marker)).await?;
    if output.json {
        let line = AddedLine {
            id: digits(&marker.id),
            device: device.clone(),
            time: rfc3339(time_ns),
        };
        return output.json_line(&line);
    }
    output.line(&format!("marked {device} at {}", rfc3339(time_ns)))
}

fn now_ns() -> Result<i64, Failure> {
    let ns = jiff::Timestamp::now().as_nanosecond();
    i64::try_from(ns).map_err(|_| Failure::Failed("the clock of this computer is wrong: give --time".into()))
}

/// From the end of what is stored of the device.
async fn before_end(client: &Client, device: &str, time: Option<Moment>) -> Result<i64, Failure> {
    let select = Select {
        device: Some(device.to_owned()),
        stream: None,
        run: None,
        filter: None,
        signals: Vec::new(),
        from: time,
        to: None,
    };
    let TimeRange { from_ns, .. } = select.selection(client).await?.time_range();
    from_ns.ok_or_else(|| Failure::Failed("nothing is stored of it yet: give --time as RFC 3339".into()))
}

pub(super) async fn markers(client: &Client, select: &Select, output: &mut Output) -> Result<(), Failure> {
    let selection: Selection = select.selection(client).await?;
    output.table([
        fixed("TIME"),
        text("DEVICE"),
        text("KIND").spare(2),
        text("MARKER").least(20),
        number("SAMPLE").spare(3),
        text("STREAM").spare(1),
    ]);
    let mut listed = client.markers(&selection).await?;
    let mut all = Vec::new();
    while let Some(marker) = listed.next().await? {
        all.push(marker);
        if all.len() > MARKERS_LISTED_MAX {
            return Err(Failure::Failed(format!(
                "that would be more than {MARKERS_LISTED_MAX} markers: choose a device, a run or a shorter time"
            )));
        }
    }
    all.sort_by_key(|marker| marker.time_ns);
    for marker in &all {
        if output.json {
            output.json_line(&MarkerLine::from(marker))?;
            continue;
        }
        let (stream, sample) = match marker.origin {
            MarkerOrigin::Chunk { stream, sample, .. } => (stream_name(stream, output), sample.to_string()),
            MarkerOrigin::Added { .. } => ("added".into(), String::new()),
        };
        output.row([
            time(Some(marker.time_ns), output),
            marker.device.clone(),
            kind_name(marker.kind),
            content(marker),
            sample,
            stream,
        ])?;
    }
    say_if_empty(output, "no markers");
    Ok(())
}

fn kind_name(kind: u32) -> String {
    let known = usize::try_from(kind).ok().and_then(|at| KINDS.get(at));
    known.map_or_else(|| kind.to_string(), |name| (*name).to_owned())
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as hexadecimal digits.
fn content(marker: &ListedMarker) -> String {
    match marker.format {
        MarkerFormat::Text | MarkerFormat::Json => String::from_utf8_lossy(&marker.content).into_owned(),
        MarkerFormat::Bytes => digits(&marker.content),
    }
}

#[derive(Serialize)]
struct AddedLine {
    id: String,
    device: String,
    time: String,
}

/// Of `--json`. Its fields are a surface that scripts depend on: they are added to, never renamed.
#[derive(Serialize)]
struct MarkerLine {
    time: String,
    device: String,
    kind: u32,
    group: u32,
    y: Option<f64>,
    text: Option<String>,
    /// As it is.
    json: Option<serde_json::Value>,
    bytes: Option<String>,
    stream: Option<String>,
    sample: Option<u64>,
    seq: Option<u64>,
    added: Option<String>,
}

impl From<&ListedMarker> for MarkerLine {
    fn from(marker: &ListedMarker) -> Self {
        let says = content(marker);
        let json = serde_json::from_slice(&marker.content).ok();
        let (stream, sample, seq, added) = match marker.origin {
            MarkerOrigin::Chunk { stream, sample, seq } => (Some(stream.to_string()), Some(sample), Some(seq), None),
            MarkerOrigin::Added { id } => (None, None, None, Some(digits(&id))),
        };
        let is = |format| marker.format == format;
        Self {
            time: rfc3339(marker.time_ns),
            device: marker.device.clone(),
            kind: marker.kind,
            group: marker.group,
            y: marker.y.is_finite().then_some(marker.y),
            // What a file calls JSON may be none.
            text: (is(MarkerFormat::Text) || (is(MarkerFormat::Json) && json.is_none())).then(|| says.clone()),
            json: json.filter(|_| is(MarkerFormat::Json)),
            bytes: is(MarkerFormat::Bytes).then_some(says),
            stream,
            sample,
            seq,
            added,
        }
    }
}
