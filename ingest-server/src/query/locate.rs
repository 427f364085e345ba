//! Where a range of time lies in a stream: its first chunk, its last one, and the samples that they are cut to.
//!
//! Chunks follow each other by seq. Where time never stepped back they follow each other by time too, and both ends are found by
//! index, however much lies between. Where it did, everything between the lowest and the highest seq that start in the range is part of
//! it.
//!
//! # Invariants
//! - I4: the range is without a hole: whatever lies between its chunks belongs to it.

use wavekeep_proto::hash::definition_hash;
use wavekeep_proto::id::Hash;

use super::error::QueryError;
use super::limits;
use super::plan::{self, Asked, Range, Span};
use super::read::Reader;
use super::reading::Reading;
use super::runs::Member;
use crate::store::Transaction;
use crate::store::read_chunk::{self, Around, ChunkRow, Place};
use crate::store::read_stream::StreamRow;

/// A range of a stream, found in its chunks.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) place: Place,
    /// The time that was looked for.
    pub(super) range: Range,
    pub(super) span: Span,
    /// The digest before the first chunk; None where retention removed the row that holds it.
    pub(super) digest_before: Option<Hash>,
    /// UTC of the range's first sample and of its end, in nanoseconds.
    pub(super) times_ns: (i64, i64),
    /// The first chunk and the last one.
    pub(super) ends: (ChunkRow, ChunkRow),
}

/// The first chunk of a range, and the one before it where that was read too.
struct First {
    chunk: ChunkRow,
    before: Option<ChunkRow>,
}

/// One range of a stream that is looked for.
#[derive(Debug, Clone, Copy)]
struct Sought {
    range: Range,
    last_seq: u64,
}

/// Of one stream, in order of samples; those that overlap, as they may where time stepped back, become one: nothing is read twice.
fn joined(mut all: Vec<Located>) -> Vec<Located> {
    all.sort_by_key(|located| (located.span.from_sample, located.span.to_sample));
    let mut joined: Vec<Located> = Vec::with_capacity(all.len());
    for next in all {
        match joined.last_mut() {
            Some(last) if next.span.from_sample < last.span.to_sample => {
                if next.span.to_sample > last.span.to_sample {
                    last.span.to_sample = next.span.to_sample;
                    last.span.last_seq = next.span.last_seq;
                    last.times_ns.1 = next.times_ns.1;
                    last.range.to_ns = next.range.to_ns;
                    last.ends.1 = next.ends.1;
                }
            }
            _ => joined.push(next),
        }
    }
    joined
}

impl Reader {
    /// Finds the ranges of a member in its stream, in order of samples, without those that hold nothing.
    pub(super) async fn locate(&self, member: &Member) -> Result<Vec<Located>, QueryError> {
        let mut reading = self.begin().await?;
        let located = self.locate_in(&mut reading, member).await?;
        reading.end();
        Ok(located)
    }

    /// The streams asked for that hold something of the range, and where; with the transaction that found them, in which more can be
    /// read at once, and one beside it where folds are to be read. It must not wait for a caller. A stream of a run comes once for each
    /// of its ranges.
    pub(super) async fn located(
        &self,
        asked: &Asked,
        is_folded: bool,
    ) -> Result<(Vec<(StreamRow, Located)>, Reading), QueryError> {
        let mut reading = if is_folded {
            self.begin_two().await?
        } else {
            self.begin().await?
        };
        let members = self.members_in(&mut reading, asked).await?;
        let located = self.located_in(&mut reading, members).await?;
        Ok((located, reading))
    }

    /// The same of members that are known.
    pub(super) async fn located_in(
        &self,
        reading: &mut Reading,
        members: Vec<Member>,
    ) -> Result<Vec<(StreamRow, Located)>, QueryError> {
        let mut all = Vec::new();
        for member in members {
            let located = self.locate_in(reading, &member).await?;
            all.extend(located.into_iter().map(|located| (member.row.clone(), located)));
        }
        Ok(all)
    }

    /// The same, in a transaction that is under way.
    pub(super) async fn locate_in(&self, reading: &mut Reading, member: &Member) -> Result<Vec<Located>, QueryError> {
        let mut all = Vec::with_capacity(member.ranges.len());
        for range in &member.ranges {
            let sought = Sought {
                range: *range,
                last_seq: member.last_seq,
            };
            all.extend(self.locate_one(reading, sought, &member.row).await?);
        }
        Ok(joined(all))
    }

    async fn locate_one(
        &self,
        reading: &mut Reading,
        asked: Sought,
        row: &StreamRow,
    ) -> Result<Option<Located>, QueryError> {
        let Some(times_ns) = row.times_ns else {
            return Ok(None);
        };
        let place = Place {
            stream: row.id(),
            times_ns,
        };
        let ends = if row.time_stepped {
            ends_of_all(&mut reading.tx, asked, row, place).await?
        } else {
            ends(&mut reading.tx, asked, row, place).await?
        };
        let Some((first, last)) = ends else {
            return Ok(None);
        };
        let first_seq = first.chunk.header.first_seq;
        let digest_before = match first.before {
            _ if first_seq == 1 => Some(definition_hash(&row.definition)),
            Some(before) if before.header.seq + 1 == first_seq => Some(before.digest),
            _ => {
                let before = read_chunk::before(reading.tx.connection(), place, first_seq).await?;
                before
                    .filter(|before| before.header.seq + 1 == first_seq)
                    .map(|before| before.digest)
            }
        };
        let (definition, first) = (&row.definition, first.chunk);
        let span = plan::span(definition, asked.range, &first.header, &last.header);
        Ok(span.map(|span| Located {
            place,
            range: asked.range,
            span,
            digest_before,
            times_ns: (
                plan::time_ns(definition, &first.header, span.from_sample),
                plan::time_ns(definition, &last.header, span.to_sample),
            ),
            ends: (first, last),
        }))
    }
}

/// Both ends, where chunks are in order of time.
async fn ends(
    tx: &mut Transaction,
    asked: Sought,
    row: &StreamRow,
    place: Place,
) -> Result<Option<(First, ChunkRow)>, QueryError> {
    let Sought { range, last_seq } = asked;
    let around = if range.is_open() {
        Around::default()
    } else {
        read_chunk::around(tx.connection(), place, last_seq, (range.from_ns, range.to_ns)).await?
    };
    let first = match range.from_ns {
        None => {
            let chunk = read_chunk::first(tx.connection(), place, (1, last_seq)).await?;
            chunk.map(|chunk| First { chunk, before: None })
        }
        Some(from_ns) => first_of(tx, row, place, last_seq, (from_ns, around.start)).await?,
    };
    let Some(first) = first else {
        return Ok(None);
    };
    let last = match range.to_ns {
        None => read_chunk::before(tx.connection(), place, last_seq + 1).await?,
        Some(to_ns) => last_of(tx, place, (to_ns, around.end)).await?,
    };
    require_tail(range, row, last_seq, last.as_ref())?;
    let last = last.filter(|last| last.header.seq >= first.chunk.header.seq);
    Ok(last.map(|last| (first, last)))
}

/// The first chunk that ends after a time. Microseconds decide where to begin, and nanoseconds which it is.
async fn first_of(
    tx: &mut Transaction,
    row: &StreamRow,
    place: Place,
    last_seq: u64,
    (from_ns, mut page): (i64, Vec<ChunkRow>),
) -> Result<Option<First>, QueryError> {
    let connection = tx.connection();
    let mut before = None;
    if page.is_empty() {
        // None starts before it.
        page = read_chunk::page(connection, place, (0, last_seq), limits::PAGE_CHUNKS).await?;
    }
    loop {
        let Some(last) = page.last().map(|chunk| chunk.header.seq) else {
            return Ok(None);
        };
        for chunk in page {
            let ends_ns = plan::time_ns(&row.definition, &chunk.header, chunk.header.end_sample());
            if ends_ns > from_ns {
                return Ok(Some(First { chunk, before }));
            }
            before = Some(chunk);
        }
        page = read_chunk::page(connection, place, (last, last_seq), limits::PAGE_CHUNKS).await?;
    }
}

/// The last chunk that starts before a time. The last of those around it come first.
async fn last_of(
    tx: &mut Transaction,
    place: Place,
    (to_ns, mut page): (i64, Vec<ChunkRow>),
) -> Result<Option<ChunkRow>, QueryError> {
    let connection = tx.connection();
    loop {
        let Some(lowest) = page.last().map(|chunk| chunk.header.seq) else {
            return Ok(None);
        };
        if let Some(chunk) = page.into_iter().find(|chunk| chunk.header.utc_ns < to_ns) {
            return Ok(Some(chunk));
        }
        page = read_chunk::page_backwards(connection, place, (1, lowest), limits::PAGE_CHUNKS).await?;
    }
}

/// The first and the last chunk that the range touches, where chunks are in any order of time.
async fn ends_of_all(
    tx: &mut Transaction,
    asked: Sought,
    row: &StreamRow,
    place: Place,
) -> Result<Option<(First, ChunkRow)>, QueryError> {
    let Sought { range, last_seq } = asked;
    let connection = tx.connection();
    let within = if range.is_open() {
        None
    } else {
        read_chunk::started_within(connection, place, last_seq, range.from_ns, range.to_ns).await?
    };
    let lowest = within.map(|(low, _)| low);
    let mut first = match (range.from_ns, lowest) {
        (None, _) => read_chunk::first(connection, place, (1, last_seq)).await?,
        (Some(_), Some(low)) => read_chunk::first(connection, place, (low, last_seq)).await?,
        (Some(_), None) => None,
    };
    if let Some(from_ns) = range.from_ns {
        // Chunks that start before the range may reach into it.
        let started = read_chunk::started_at(connection, place, last_seq, from_ns).await?;
        let before = match lowest {
            Some(low) => read_chunk::before(connection, place, low).await?,
            None => None,
        };
        for chunk in [started, before].into_iter().flatten() {
            let ends_ns = plan::time_ns(&row.definition, &chunk.header, chunk.header.end_sample());
            let earlier = first.as_ref().is_none_or(|first| chunk.header.seq < first.header.seq);
            if ends_ns > from_ns && earlier {
                first = Some(chunk);
            }
        }
    }
    let Some(first) = first else {
        return Ok(None);
    };
    let last = match range.to_ns {
        None => last_seq,
        Some(_) => within.map_or(first.header.seq, |(_, high)| high.max(first.header.seq)),
    };
    let last = read_chunk::before(connection, place, last + 1).await?;
    require_tail(range, row, last_seq, last.as_ref())?;
    let first = First {
        chunk: first,
        before: None,
    };
    Ok(last.map(|last| (first, last)))
}

/// The watermark is a chunk's seq, so a range that reaches to the stream's end ends with that chunk: what is found before it alone
/// would look complete. (What retention has dropped is missing at the other end, which the answer shows by its first seq.)
fn require_tail(range: Range, row: &StreamRow, last_seq: u64, found: Option<&ChunkRow>) -> Result<(), QueryError> {
    let ends_ns = row.times_ns.map_or(i64::MIN, |(_, last)| last);
    let to_the_end = range
        .to_ns
        .is_none_or(|to_ns| range.from_ns.is_none() && to_ns >= ends_ns);
    // A chunk without samples at the end, as that of the stream's end, starts when all samples are over: not before this range is.
    let has_all_samples =
        range.to_ns == Some(ends_ns) && found.is_some_and(|found| found.header.end_sample() == row.at.next_sample);
    let found_seq = found.map_or(0, |found| found.header.seq);
    if to_the_end && last_seq == row.at.seq && found_seq < last_seq && !has_all_samples {
        return Err(QueryError::Damaged(format!(
            "stream {} is not whole: the chunks after seq {found_seq}, up to {last_seq}, are missing",
            row.id()
        )));
    }
    Ok(())
}
