//! `ListDevices`, `ListStreams`, `ListRuns`. `ListChunks` is in `chunks`.

use prost::Message;
use wavekeep_proto::{limits as proto_limits, v1, wire};

use super::error::QueryError;
use super::filter::Filter;
use super::limits;
use super::plan::{Asked, Range, Source};
use super::read::Reader;
use super::runs::{Member, Run};
use crate::store::read_run::{MemberOf, RunMember};
use crate::store::read_stream::{DeviceRow, StreamRow};

/// A stream as readers see it.
pub(super) fn stream_info(row: &StreamRow) -> v1::StreamInfo {
    let (first_time_ns, last_time_ns) = row.times_ns.unwrap_or_default();
    v1::StreamInfo {
        definition: Some(wire::definition_to_wire(&row.definition)),
        labels: row.labels.clone(),
        run: row.run.clone(),
        watermark: row.at.seq,
        next_sample: row.at.next_sample,
        digest: row.at.digest.to_vec().into(),
        ended: row.at.ended,
        end_reason: row.end_reason.map_or(0, |reason| i32::from(reason as u16)),
        first_time_ns,
        last_time_ns,
        sample_count: row.sample_count,
        gap_sample_count: row.gap_sample_count,
        stored_bytes: row.stored_bytes,
        quarantined: row.quarantined,
        ranges: Vec::new(),
    }
}

pub(super) fn time_range(range: Range) -> v1::TimeRange {
    let Range { from_ns, to_ns } = range;
    v1::TimeRange { from_ns, to_ns }
}

fn device(row: DeviceRow) -> v1::Device {
    let (first_time_ns, last_time_ns) = row.times_ns.unwrap_or_default();
    v1::Device {
        name: row.name,
        streams: row.streams,
        first_time_ns,
        last_time_ns,
        sample_count: row.sample_count,
        gap_sample_count: row.gap_sample_count,
        stored_bytes: row.stored_bytes,
        live: row.live,
    }
}

/// One message has a limit.
fn fits<M: Message>(answer: M) -> Result<M, QueryError> {
    if answer.encoded_len() > proto_limits::MESSAGE_BYTES_MAX {
        return Err(QueryError::TooMuch(
            "the answer would be too long: choose a device, a run or a shorter time".into(),
        ));
    }
    Ok(answer)
}

pub(super) async fn devices(reader: &Reader) -> Result<v1::ListDevicesResponse, QueryError> {
    let devices = reader.devices().await?.into_iter().map(device).collect();
    fits(v1::ListDevicesResponse { devices })
}

/// The streams of a selection and, where they are wanted, the runs that it names; as one transaction sees them.
pub(super) async fn streams(
    reader: &Reader,
    asked: &Asked,
    with_runs: bool,
) -> Result<v1::ListStreamsResponse, QueryError> {
    let mut reading = reader.begin().await?;
    let members = reader.members_in(&mut reading, asked).await?;
    let runs = match asked.runs().filter(|_| with_runs) {
        Some(terms) => reader.runs_in(&mut reading, &Filter { terms }).await?,
        None => Vec::new(),
    };
    reading.end();
    let info = |member: &Member| v1::StreamInfo {
        ranges: member.ranges.iter().copied().map(time_range).collect(),
        ..stream_info(&member.row)
    };
    fits(v1::ListStreamsResponse {
        streams: members.iter().map(info).collect(),
        runs: runs.iter().map(run).collect(),
    })
}

pub(super) async fn runs(reader: &Reader, filter: &Filter) -> Result<v1::ListRunsResponse, QueryError> {
    let mut reading = reader.begin().await?;
    let runs = reader.runs_in(&mut reading, filter).await?;
    reading.end();
    fits(v1::ListRunsResponse {
        runs: runs.iter().map(run).collect(),
    })
}

/// The run of this name.
pub(super) async fn one_run(reader: &Reader, name: &str) -> Result<v1::Run, QueryError> {
    let mut reading = reader.begin().await?;
    let runs = reader.runs_in(&mut reading, &Filter::of_run(name)).await?;
    reading.end();
    runs.first().map(run).ok_or_else(|| QueryError::Unknown {
        kind: "run",
        name: name.to_owned(),
        nearest: None,
    })
}

/// A run as readers see it.
pub(super) fn run(run: &Run) -> v1::Run {
    let row = &run.row;
    let times = run.times_ns();
    v1::Run {
        name: row.name.clone(),
        labels: run.labels.clone(),
        streams: run.members.len() as u64,
        parent: row.parent.clone().unwrap_or_default(),
        note: row.note.clone(),
        own_labels: row.labels.clone(),
        members: row.members.iter().map(selection).collect(),
        devices: run.devices().into_iter().map(str::to_owned).collect(),
        first_time_ns: times.map(|times| times.0),
        last_time_ns: times.map(|times| times.1),
        duration_ns: times.map_or(0, |times| times.2),
        recorded_streams: row.recorded,
        created_at_ns: row.created_at_ns,
        updated_at_ns: row.updated_at_ns,
    }
}

fn selection(member: &RunMember) -> v1::Selection {
    use v1::selection::What;
    v1::Selection {
        what: Some(match &member.of {
            MemberOf::Device(name) => What::Device(name.clone()),
            MemberOf::Stream(id) => What::StreamId(id.to_vec().into()),
        }),
        range: Some(time_range(Range {
            from_ns: member.from_ns,
            to_ns: member.to_ns,
        })),
        ..v1::Selection::default()
    }
}

/// Why a selection that must have samples has none.
pub(super) async fn nothing(reader: &Reader, asked: &Asked) -> QueryError {
    let source = match &asked.source {
        Source::Everything => "the workspace".to_owned(),
        Source::Device(name) => format!("device {name:?}"),
        Source::Run(name) => format!("run {name:?}"),
        Source::Stream(id) => format!("stream {id}"),
    };
    let always = Asked {
        range: Range::default(),
        ..asked.clone()
    };
    let members = match reader.members(&always).await {
        Ok(members) => members,
        Err(error) => return error,
    };
    let times = || members.iter().flat_map(Member::times_ns);
    let (first, last) = (times().map(|times| times.0).min(), times().map(|times| times.1).max());
    let dropped = match is_dropped(reader, asked).await {
        Ok(dropped) => dropped,
        Err(error) => return error,
    };
    QueryError::Empty(match (first, last) {
        (Some(first), Some(last)) if dropped => {
            format!(
                "what was captured of {source} in that time is no longer stored, because the workspace's retention has dropped it: choose a later time (captured was from {} to {})",
                time(first),
                time(last)
            )
        }
        (Some(first), Some(last)) if !asked.range.is_open() => {
            format!(
                "nothing of {source} lies in that time: what is stored lies from {} to {}",
                time(first),
                time(last)
            )
        }
        _ if asked.filter.label_keys().next().is_some() => format!(
            "nothing is stored of {source} that the filter lets through: it is held against labels that streams were recorded with; a run that was labelled afterwards is chosen by its name (run=NAME)"
        ),
        _ if !asked.filter.is_empty() => format!("nothing is stored of {source} that the filter lets through"),
        _ => format!("nothing is stored of {source} yet"),
    })
}

/// Did any stream capture something at the time asked for, of which the beginning is gone?
async fn is_dropped(reader: &Reader, asked: &Asked) -> Result<bool, QueryError> {
    for member in reader
        .members(asked)
        .await?
        .into_iter()
        .take(limits::STREAMS_LOOKED_AT_MAX)
    {
        let ranges = vec![Range::default()];
        let whole = Member { ranges, ..member };
        let located = reader.locate(&whole).await?;
        if whole.row.at.seq > 0 && located.first().is_none_or(|located| located.span.first_seq > 1) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn time(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |time| time.to_string())
}
