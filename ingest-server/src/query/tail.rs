//! `Tail`: chunks of a selection as they are committed, whichever server commits them.
//!
//! What moved is told by [`News`](super::news::News), which looks at the database for all who follow. A listing of the selection, once in
//! a while and whenever a stream moves that nobody knows, finds those that are new, and makes good what the news missed.
//!
//! # Invariants
//! - I1: of each stream its chunks come in order of seq, each once, from where the caller stood; the position moves when a chunk is handed
//!   over.
//! - I12: a caller holds no transaction while it waits, and one batch at most; streams are limited.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wavekeep_proto::hash::definition_hash;
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::v1;
use wavekeep_proto::v1::tail_part::Part;

use super::answer::Parts;
use super::chunks::cursors;
use super::error::QueryError;
use super::limits;
use super::news::Watermarks;
use super::plan::{Asked, Range, Source};
use super::read::{ChunkReader, Reader};
use super::reading::Reading;
use super::waveform::{Accepted, to_wire};
use super::{listing, plan};
use crate::store::read_stream::StreamRow;

/// From where on, and what the caller reads.
#[derive(Debug)]
pub(super) struct Wanted {
    accepted: Accepted,
    /// Up to these seqs the caller has the chunks.
    after: BTreeMap<StreamId, u64>,
    from_start: bool,
}

impl Wanted {
    pub(super) fn new(request: &v1::TailRequest) -> Result<Self, QueryError> {
        Ok(Self {
            accepted: Accepted::new(&request.encodings),
            after: cursors(&request.after)?,
            from_start: request.from_start,
        })
    }
}

/// A range is what was; this is about what comes.
pub(super) fn require_open(asked: &Asked) -> Result<(), QueryError> {
    if asked.range.is_open() {
        return Ok(());
    }
    Err(QueryError::Invalid(
        "what is committed from now on has no time range: leave it out, or ask GetWaveform for a range".into(),
    ))
}

/// Where the caller stands in each stream.
#[derive(Debug, Default)]
struct Positions {
    known: BTreeMap<StreamId, Position>,
    /// Streams that moved and were not of the selection when it was last listed.
    foreign: BTreeSet<StreamId>,
}

#[derive(Debug)]
struct Position {
    seq: u64,
    /// Was the caller told which stream it is?
    is_told: bool,
}

impl Positions {
    /// After a listing: streams that are new are sent whole, unless the caller has come to know them before.
    fn listed(&mut self, rows: &[StreamRow], wanted: &Wanted) -> Result<(), QueryError> {
        for row in rows {
            self.foreign.remove(&row.id());
            let seq = wanted.after.get(&row.id()).copied().unwrap_or_default();
            self.known.entry(row.id()).or_insert(Position { seq, is_told: false });
        }
        if self.known.len() > limits::STREAMS_MAX {
            return Err(QueryError::TooMuch(format!(
                "more than {} streams cannot be followed at a time: choose a device or a run, and ask anew",
                limits::STREAMS_MAX
            )));
        }
        Ok(())
    }

    /// Those of the news that have more than the caller has.
    fn behind(&self, news: &Watermarks) -> Vec<StreamId> {
        let moved = news.iter().filter(|(id, watermark)| {
            let position = self.known.get(id);
            position.is_some_and(|position| position.seq < **watermark)
        });
        moved.map(|(id, _)| *id).collect()
    }

    /// Is there any that was not there when the selection was listed? Each asks for a listing once.
    fn has_unknown(&mut self, news: &Watermarks) -> bool {
        // What is long gone from the news would only be kept.
        self.foreign.retain(|id| news.contains_key(id));
        let unknown: Vec<_> = news.keys().filter(|id| !self.known.contains_key(id)).copied().collect();
        let before = self.foreign.len();
        self.foreign.extend(unknown);
        self.foreign.len() > before
    }
}

/// What wakes a follower.
pub(super) struct Wakes {
    pub(super) news: watch::Receiver<Watermarks>,
    /// The server drains.
    pub(super) stopping: CancellationToken,
}

/// Until the caller goes, or the server.
pub(super) async fn follow(
    reader: Reader,
    asked: Asked,
    wanted: Wanted,
    mut wakes: Wakes,
    parts: Parts<v1::TailPart>,
) -> Result<(), QueryError> {
    let stopping = wakes.stopping.clone();
    let rows = followed(&reader, &asked).await?;
    let mut positions = start(&asked, &wanted, &rows, &parts).await?;
    let following = async {
        send_all(&reader, &asked, (&wanted.accepted, &parts), &mut positions, rows).await?;
        let mut listed = Instant::now();
        loop {
            let is_due = !heard_before(&mut wakes.news, listed + limits::TAIL_LISTING).await;
            let news = wakes.news.borrow_and_update().clone();
            if is_due || positions.has_unknown(&news) {
                let rows = followed(&reader, &asked).await?;
                listed = Instant::now();
                positions.listed(&rows, &wanted)?;
                send_all(&reader, &asked, (&wanted.accepted, &parts), &mut positions, rows).await?;
                continue;
            }
            for id in positions.behind(&news) {
                send_moved(&reader, &asked, (&wanted.accepted, &parts), &mut positions, id).await?;
            }
        }
    };
    tokio::select! {
        followed = following => followed,
        () = stopping.cancelled() => Err(QueryError::Stopping),
    }
}

async fn followed(reader: &Reader, asked: &Asked) -> Result<Vec<StreamRow>, QueryError> {
    let mut reading = reader.begin().await?;
    let rows = followed_in(reader, &mut reading, asked).await?;
    reading.end();
    Ok(rows)
}

/// The streams of a selection that may go on: of a run not those of which ranges of time were made part of it afterwards.
async fn followed_in(reader: &Reader, reading: &mut Reading, asked: &Asked) -> Result<Vec<StreamRow>, QueryError> {
    let members = reader.members_in(reading, asked).await?;
    let whole = members
        .into_iter()
        .filter(|member| member.ranges.iter().any(Range::is_open));
    let rows: Vec<StreamRow> = whole.map(|member| member.row).collect();
    if !asked.signals.is_empty() && rows.iter().any(|row| asked.places(&row.definition).is_empty()) {
        return Err(QueryError::Invalid(
            "power is not stored, and so not followed: follow current and voltage, and multiply".into(),
        ));
    }
    Ok(rows)
}

/// False once it is `due`, news or none: also for whoever always has news to take in.
async fn heard_before(news: &mut watch::Receiver<Watermarks>, due: Instant) -> bool {
    if Instant::now() >= due {
        return false;
    }
    let changed = async {
        if news.changed().await.is_err() {
            // Nobody looks any more: listings go on.
            std::future::pending::<()>().await;
        }
    };
    tokio::time::timeout_at(due, changed).await.is_ok()
}

/// The same of one stream that was listed: it has some of the signals, and need not have all of them.
fn only(asked: &Asked, id: StreamId) -> Asked {
    Asked {
        source: Source::Stream(id),
        signals: Vec::new(),
        ..asked.clone()
    }
}

/// Tells the caller where it starts.
async fn start(
    asked: &Asked,
    wanted: &Wanted,
    rows: &[StreamRow],
    parts: &Parts<v1::TailPart>,
) -> Result<Positions, QueryError> {
    let mut positions = Positions::default();
    let mut after = Vec::new();
    for row in rows {
        let named = wanted.after.get(&row.id()).copied();
        let seq = named.unwrap_or_else(|| if wanted.from_start { 0 } else { asked.last_seq(row) });
        let digest = match seq {
            0 => Some(definition_hash(&row.definition)),
            seq if seq == row.at.seq => Some(row.at.digest),
            _ => None,
        };
        after.push(v1::ChunkCursor {
            stream_id: row.id().to_vec().into(),
            seq,
            digest: digest.map(Hash::to_vec).unwrap_or_default().into(),
        });
        positions.known.insert(row.id(), Position { seq, is_told: false });
    }
    parts.send(part(Part::Start(v1::TailStart { after }))).await?;
    Ok(positions)
}

fn part(part: Part) -> v1::TailPart {
    v1::TailPart { part: Some(part) }
}

/// What the caller lacks of these streams.
async fn send_all(
    reader: &Reader,
    asked: &Asked,
    to: (&Accepted, &Parts<v1::TailPart>),
    positions: &mut Positions,
    rows: Vec<StreamRow>,
) -> Result<(), QueryError> {
    for row in rows {
        if let Some(position) = positions.known.get_mut(&row.id())
            && position.seq < asked.last_seq(&row)
        {
            let reading = reader.begin().await?;
            send((reader, reading), asked, to, position, &row).await?;
        }
    }
    Ok(())
}

/// What the caller lacks of a stream that moved. Where it is a chunk or two, one transaction does: this is what many followers of many
/// streams cost.
async fn send_moved(
    reader: &Reader,
    asked: &Asked,
    to: (&Accepted, &Parts<v1::TailPart>),
    positions: &mut Positions,
    id: StreamId,
) -> Result<(), QueryError> {
    let mut reading = reader.begin().await?;
    let rows = followed_in(reader, &mut reading, &only(asked, id)).await?;
    match (rows.first(), positions.known.get_mut(&id)) {
        (Some(row), Some(position)) if position.seq < asked.last_seq(row) => {
            send((reader, reading), asked, to, position, row).await
        }
        _ => {
            reading.end();
            Ok(())
        }
    }
}

/// The chunks of a stream after the position; the first ones are read in the transaction that is given, which ends before the caller is
/// waited for.
async fn send(
    (reader, mut reading): (&Reader, Reading),
    asked: &Asked,
    (accepted, parts): (&Accepted, &Parts<v1::TailPart>),
    position: &mut Position,
    row: &StreamRow,
) -> Result<(), QueryError> {
    let places = asked.places(&row.definition);
    let numbers = places.iter().map(|place| row.definition.signals[*place].number);
    let seqs = (position.seq, asked.last_seq(row));
    let chunks = ChunkReader::between((reader, &mut reading), row, numbers.collect(), seqs).await?;
    let Some(mut chunks) = chunks else {
        reading.end();
        return Ok(());
    };
    // A caller that has chunks of it is not sent on over a hole: it would take it for damage.
    if position.is_told && chunks.after() > position.seq {
        let (stream, seq) = (row.id(), position.seq);
        return Err(QueryError::Expired { stream, seq });
    }
    let mut batch = chunks.next_batch_in(&mut reading).await?;
    reading.end();
    if !std::mem::replace(&mut position.is_told, true) {
        parts.send(part(Part::Stream(listing::stream_info(row)))).await?;
    }
    while let Some(chunks_read) = batch {
        for chunk in chunks_read {
            accepted.require_all(&chunk, &places)?;
            let (seq, range) = (chunk.row.header.seq, plan::whole(&chunk.row.header));
            parts.send(part(Part::Chunk(to_wire(row, chunk, range)))).await?;
            position.seq = seq;
        }
        batch = chunks.next_batch().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> StreamId {
        StreamId([byte; 16])
    }

    fn positions(known: &[(u8, u64)]) -> Positions {
        let known = known.iter().map(|(byte, seq)| {
            let position = Position {
                seq: *seq,
                is_told: true,
            };
            (id(*byte), position)
        });
        Positions {
            known: known.collect(),
            foreign: BTreeSet::new(),
        }
    }

    fn news(watermarks: &[(u8, u64)]) -> Watermarks {
        Watermarks::new(watermarks.iter().map(|(byte, seq)| (id(*byte), *seq)).collect())
    }

    #[test]
    fn only_what_has_moved_further_is_read() {
        let positions = positions(&[(1, 5), (2, 5), (3, 5)]);
        assert_eq!(positions.behind(&news(&[(1, 5), (2, 6), (3, 4), (9, 9)])), [id(2)]);
    }

    #[test]
    fn a_stream_that_nobody_knows_asks_for_one_listing() {
        let mut positions = positions(&[(1, 5)]);
        assert!(!positions.has_unknown(&news(&[(1, 9)])));
        assert!(positions.has_unknown(&news(&[(1, 9), (2, 1)])));
        assert!(
            !positions.has_unknown(&news(&[(1, 9), (2, 7)])),
            "it is of another device"
        );
        assert!(!positions.has_unknown(&news(&[(1, 9)])));
        assert!(positions.foreign.is_empty(), "I12: what does not move is forgotten");
    }
}
