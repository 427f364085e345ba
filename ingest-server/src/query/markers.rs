//! `ListMarkers`: notes, those of chunks stream by stream, and then those that people added.
//!
//! An added marker is of a device and a time. It belongs to a device at any time, and to a run, a stream or a filter where one of their
//! streams has something of that time.
//!
//! # Invariants
//! - I12: one page of [`limits::PAGE_MARKERS`] is held.

use wavekeep_proto::v1;

use super::answer::Parts;
use super::error::QueryError;
use super::limits;
use super::locate::Located;
use super::plan::{Asked, Source};
use super::read::Reader;
use super::runs::Member;
use crate::store::read_marker::{self, MarkerRow, Times};

pub(super) async fn list(reader: Reader, asked: Asked, parts: Parts<v1::ListedMarker>) -> Result<(), QueryError> {
    let members = reader.members(&asked).await?;
    for member in &members {
        for located in reader.locate(member).await? {
            of_chunks(&reader, member, &located, &parts).await?;
        }
    }
    let times = times(&asked, &members);
    let mut after = None;
    loop {
        let mut reading = reader.begin().await?;
        let page = read_marker::added(reading.tx.connection(), &times, after.as_ref(), limits::PAGE_MARKERS).await?;
        reading.end();
        for added in &page {
            let mut listed = to_wire(&added.device, &added.marker);
            listed.added_id = added.id.clone().into();
            parts.send(listed).await?;
        }
        if page.len() < limits::PAGE_MARKERS {
            return Ok(());
        }
        after = page.into_iter().next_back();
    }
}

/// Where added markers are looked for.
fn times(asked: &Asked, members: &[Member]) -> Times {
    let (mut devices, mut froms, mut tos) = (Vec::new(), Vec::new(), Vec::new());
    let mut push = |device: Option<String>, from_ns: Option<i64>, to_ns: Option<i64>| {
        devices.push(device);
        froms.push(from_ns);
        tos.push(to_ns);
    };
    let range = asked.range;
    match &asked.source {
        Source::Device(name) if asked.filter.is_empty() => push(Some(name.clone()), range.from_ns, range.to_ns),
        Source::Everything if asked.filter.is_empty() => push(None, range.from_ns, range.to_ns),
        _ => {
            for member in members {
                let device = &member.row.definition.device;
                member
                    .times_ns()
                    .for_each(|(from, to)| push(Some(device.clone()), Some(from), Some(to)));
            }
        }
    }
    (devices, froms, tos)
}

async fn of_chunks(
    reader: &Reader,
    member: &Member,
    located: &Located,
    parts: &Parts<v1::ListedMarker>,
) -> Result<(), QueryError> {
    let samples = (located.span.from_sample, located.span.to_sample);
    let mut next = Some(read_marker::After::default());
    while let Some(after) = next {
        let mut reading = reader.begin().await?;
        let within = (samples, located.span.last_seq);
        let connection = reading.tx.connection();
        let page = read_marker::in_chunks(connection, member.row.id(), within, after, limits::PAGE_MARKERS).await?;
        reading.end();
        for found in page.0 {
            let mut listed = to_wire(&member.row.definition.device, &found.marker);
            listed.stream_id = member.row.id().to_vec().into();
            (listed.seq, listed.sample) = (found.seq, found.sample);
            parts.send(listed).await?;
        }
        next = page.1;
    }
    Ok(())
}

fn to_wire(device: &str, marker: &MarkerRow) -> v1::ListedMarker {
    v1::ListedMarker {
        device: device.to_owned(),
        time_ns: marker.time_ns,
        kind: marker.kind,
        group: marker.group,
        y: marker.y,
        format: marker.format as i32,
        content: marker.content.clone(),
        ..v1::ListedMarker::default()
    }
}
