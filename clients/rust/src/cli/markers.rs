//! `mark`, `unmark` and `markers`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use wavekeep::proto::chunk::MarkerFormat;
use wavekeep::proto::id::StreamId;
use wavekeep::time::{Moment, rfc3339};
use wavekeep::{Client, ListedMarker, MarkerOrigin, NewMarker, Selection, TimeRange};

use super::Select;
use super::failure::Failure;
use super::limits::{MARKERS_LISTED_MAX, STREAM_DIGITS_MIN};
use super::listing::{say_if_empty, shown, stream_name, time};
use super::select::beginning;
use super::table::{Output, fixed, number, text};

pub(super) const MARK_EXAMPLES: &str = "Examples:
  wavekeep mark --device js220-001 'the fan goes on'
  wavekeep mark --device js220-001 --time 2026-03-01T12:00:00Z --kind 1 'firmware 1.4.2'
  wavekeep mark --device js220-001 --time -10s --json-text '{\"step\": 3}'

A marker stands at a time of a device, whether something is stored of that time or not. `wavekeep unmark` takes it away.";

pub(super) const UNMARK_EXAMPLES: &str = "Examples:
  wavekeep unmark 5f0c1d2e
  wavekeep unmark --device js220-001 5f0c 77ab12

A marker that was added has an id, which `mark` and `markers` print; its first digits are enough where no other one begins so. Those
that came with the samples are part of what was captured, and stay.";

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

#[derive(Debug, Args)]
pub(super) struct Unmark {
    /// Its device, where there are many markers to look through for the first digits of an id.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_DEVICE")]
    device: Option<String>,
    /// The markers: their ids, or the first digits.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// What to do about a marker that is not found.
const ADDED_ALONE: &str = "`wavekeep markers` lists them; what came with the samples cannot be taken away";

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
            device: Some(device.clone()),
            time: Some(rfc3339(time_ns)),
        };
        return output.json_line(&line);
    }
    let id = shown(digits(&marker.id), output);
    output.line(&format!("marked {device} at {}: {id}", rfc3339(time_ns)))
}

/// Where one is named by the first digits of its id: all of them, or none.
pub(super) async fn unmark(client: &Client, asked: &Unmark, output: &mut Output) -> Result<(), Failure> {
    let whole: Vec<Option<[u8; 16]>> = asked.ids.iter().map(|text| whole_id(text)).collect();
    let listed = if whole.iter().all(Option::is_some) {
        Vec::new()
    } else {
        added(client, asked.device.as_deref()).await?
    };
    let mut found: BTreeMap<[u8; 16], Option<&ListedMarker>> = BTreeMap::new();
    for (text, whole) in asked.ids.iter().zip(whole) {
        let (id, marker) = match whole {
            Some(id) => (id, None),
            None => the_marker(&listed, text).map(|(id, marker)| (id, Some(marker)))?,
        };
        found.insert(id, marker);
    }
    let ids: Vec<[u8; 16]> = found.keys().copied().collect();
    let removed = client.remove_markers(&ids).await?;
    if removed == 0 {
        return Err(Failure::Unknown(format!(
            "no marker that was added has this id: {ADDED_ALONE}"
        )));
    }
    if removed < ids.len() as u64 {
        output.note(&format!("{} of these were not there", ids.len() as u64 - removed));
    }
    for (id, marker) in found {
        let (device, time_ns) = marker.map(|marker| (marker.device.clone(), marker.time_ns)).unzip();
        let id = digits(&id);
        if output.json {
            let time = time_ns.map(rfc3339);
            output.json_line(&AddedLine { id, device, time })?;
            continue;
        }
        let what = marker.map(|marker| {
            format!(
                " of {} at {}: {}",
                marker.device,
                rfc3339(marker.time_ns),
                content(marker)
            )
        });
        output.line(&format!("unmarked {id}{}", what.unwrap_or_default()))?;
    }
    Ok(())
}

/// Those that people added, with their ids.
async fn added(client: &Client, device: Option<&str>) -> Result<Vec<([u8; 16], ListedMarker)>, Failure> {
    let mut listed = client
        .markers(&device.map_or_else(Selection::everything, Selection::device))
        .await?;
    let mut added = Vec::new();
    while let Some(marker) = listed.next().await? {
        if let MarkerOrigin::Added { id } = marker.origin {
            added.push((id, marker));
        }
        if added.len() > MARKERS_LISTED_MAX {
            return Err(Failure::Failed(format!(
                "there are more than {MARKERS_LISTED_MAX} markers: give --device, or all 32 digits of the id (--json prints them)"
            )));
        }
    }
    Ok(added)
}

fn whole_id(text: &str) -> Option<[u8; 16]> {
    // An id of a stream is written likewise.
    text.parse::<StreamId>().ok().map(|id| *id.as_bytes())
}

/// By the beginning of its id.
fn the_marker<'a>(added: &'a [([u8; 16], ListedMarker)], text: &str) -> Result<([u8; 16], &'a ListedMarker), Failure> {
    let Some(begins) = beginning(text) else {
        return Err(Failure::Usage(format!(
            "{text:?} is no marker's id: give its 32 hexadecimal digits, or at least the first {STREAM_DIGITS_MIN} (`wavekeep markers` lists them)"
        )));
    };
    let mut matching = added.iter().filter(|(id, _)| digits(id).starts_with(&begins));
    match (matching.next(), matching.next()) {
        (Some((id, marker)), None) => Ok((*id, marker)),
        (None, _) => Err(Failure::Unknown(format!(
            "no marker that was added begins with {text}: {ADDED_ALONE}"
        ))),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "several markers begin with {text}: give more digits"
        ))),
    }
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
            MarkerOrigin::Added { id } => (format!("added {}", shown(digits(&id), output)), String::new()),
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

/// A marker that was added or taken away.
#[derive(Serialize)]
struct AddedLine {
    id: String,
    /// None of one that was taken away by its whole id.
    device: Option<String>,
    time: Option<String>,
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
