//! `ListChunks`: chunks without their samples, or with the first few, page by page.
//!
//! # Invariants
//! - I12: one page of headers is held, and of its samples one batch of [`limits::BATCH_BYTES`], or one chunk.
//! - I1: with cursors, whoever asks again from the last chunk that came gets every chunk once. A stream that has nothing new
//!   costs no transaction.

use std::collections::BTreeMap;

use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::v1;

use super::answer::Parts;
use super::error::QueryError;
use super::first_samples::FirstSamples;
use super::limits;
use super::locate::Located;
use super::plan::Asked;
use super::read::Reader;
use super::runs::Member;
use crate::store::read_chunk::{ChunkRow, Place};
use crate::store::read_stream::StreamRow;

/// Which of the chunks of a selection, in which order, and what of them.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Chunks that may still be given out.
    left: u64,
    newest_first: bool,
    first_samples: u32,
    /// Up to these seqs the caller has them.
    after: BTreeMap<StreamId, u64>,
}

impl Wanted {
    pub(super) fn new(request: &v1::ListChunksRequest) -> Result<Self, QueryError> {
        if request.first_samples > limits::FIRST_SAMPLES_MAX {
            return Err(QueryError::Invalid(format!(
                "a listing shows at most the first {} samples of a chunk: ask GetWaveform for more",
                limits::FIRST_SAMPLES_MAX
            )));
        }
        Ok(Self {
            left: if request.limit == 0 {
                u64::MAX
            } else {
                u64::from(request.limit)
            },
            newest_first: request.newest_first,
            first_samples: request.first_samples,
            after: cursors(&request.after)?,
        })
    }
}

/// What a caller has: of each stream the seq up to which it has the chunks.
pub(super) fn cursors(after: &[v1::ChunkCursor]) -> Result<BTreeMap<StreamId, u64>, QueryError> {
    if after.len() > limits::STREAMS_MAX {
        return Err(QueryError::Invalid(format!(
            "at most {} streams can be followed at a time: choose a device or a run",
            limits::STREAMS_MAX
        )));
    }
    let mut seqs = BTreeMap::new();
    for cursor in after {
        let id = StreamId::from_slice(&cursor.stream_id);
        let id =
            id.map_err(|_| QueryError::Invalid("a cursor's stream is 16 bytes: give one that is listed".into()))?;
        let seq: &mut u64 = seqs.entry(id).or_default();
        *seq = cursor.seq.max(*seq);
    }
    Ok(seqs)
}

/// Stream after stream, oldest first or newest first; at most `limit` chunks, or all for 0.
pub(super) async fn list(
    reader: Reader,
    asked: Asked,
    mut wanted: Wanted,
    parts: Parts<v1::ChunkInfo>,
) -> Result<(), QueryError> {
    let mut members = reader.members(&asked).await?;
    if wanted.newest_first {
        members.sort_by_key(|member| std::cmp::Reverse(member.row.times_ns.map(|(_, last)| last)));
    }
    let mut first_samples = FirstSamples::new(wanted.first_samples);
    for member in &members {
        if wanted.left == 0 {
            break;
        }
        list_stream(&reader, &asked, member, &mut wanted, &mut first_samples, &parts).await?;
    }
    Ok(())
}

/// The ranges of a stream as seqs (after < seq ≤ last), in the order in which they are listed. A chunk that two of them share is of the
/// one that comes first.
fn seqs(located: &[Located], known: u64, newest_first: bool) -> Vec<(Place, u64, u64)> {
    let mut seqs: Vec<(Place, u64, u64)> = Vec::with_capacity(located.len());
    for located in located {
        let before = seqs.last().map_or(0, |(.., last)| *last);
        let after = (located.span.first_seq - 1).max(known).max(before);
        seqs.push((located.place, after, located.span.last_seq));
    }
    if newest_first {
        seqs.reverse();
    }
    seqs
}

async fn list_stream(
    reader: &Reader,
    asked: &Asked,
    member: &Member,
    wanted: &mut Wanted,
    first_samples: &mut FirstSamples,
    parts: &Parts<v1::ChunkInfo>,
) -> Result<(), QueryError> {
    let stream = &member.row;
    let known = wanted.after.get(&stream.id()).copied().unwrap_or(0);
    if known >= member.last_seq {
        return Ok(());
    }
    for seqs in seqs(&reader.locate(member).await?, known, wanted.newest_first) {
        list_seqs(reader, asked, (stream, seqs), wanted, first_samples, parts).await?;
    }
    Ok(())
}

/// What is left to give out: after < seq ≤ last.
async fn list_seqs(
    reader: &Reader,
    asked: &Asked,
    (stream, (place, mut after, mut last)): (&StreamRow, (Place, u64, u64)),
    wanted: &mut Wanted,
    first_samples: &mut FirstSamples,
    parts: &Parts<v1::ChunkInfo>,
) -> Result<(), QueryError> {
    let places = asked.places(&stream.definition);
    while after < last && wanted.left > 0 {
        let seqs = if wanted.newest_first {
            (after + 1, last + 1)
        } else {
            (after, last)
        };
        let mut page = reader.chunks(place, seqs, wanted.newest_first).await?;
        let is_last = page.len() < limits::PAGE_CHUNKS;
        page.truncate(usize::try_from(wanted.left).unwrap_or(usize::MAX));
        let Some((row, _)) = page.last() else {
            break;
        };
        if wanted.newest_first {
            last = row.header.first_seq - 1;
        } else {
            after = row.header.seq;
        }
        wanted.left -= page.len() as u64;
        let mut page = page.into_iter().peekable();
        while page.peek().is_some() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(chunk) = page.next_if(|(row, _)| {
                bytes += first_samples.bytes_to_read(row);
                batch.is_empty() || bytes <= limits::BATCH_BYTES
            }) {
                batch.push(chunk);
            }
            let rows = batch.iter().map(|(row, _)| row.clone()).collect();
            let samples = first_samples
                .of(reader, place, (&stream.definition, &places), rows)
                .await?;
            for ((row, column_bytes), samples) in batch.into_iter().zip(samples) {
                parts.send(chunk_info(stream, row, column_bytes, samples)).await?;
            }
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

fn chunk_info(
    stream: &StreamRow,
    row: ChunkRow,
    column_bytes: Vec<u64>,
    first_samples: Vec<v1::FirstSamples>,
) -> v1::ChunkInfo {
    v1::ChunkInfo {
        stream_id: stream.id().to_vec().into(),
        device: stream.definition.device.clone(),
        header: row.header_bytes,
        digest: Hash::to_vec(row.digest).into(),
        column_bytes,
        loaded_at_ns: row.loaded_at_ns,
        quarantined: row.quarantined,
        first_samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(byte: u8, seq: u64) -> v1::ChunkCursor {
        v1::ChunkCursor {
            stream_id: vec![byte; 16].into(),
            seq,
            ..v1::ChunkCursor::default()
        }
    }

    #[test]
    fn i12_what_is_wanted_has_limits() {
        let wanted = |change: fn(&mut v1::ListChunksRequest)| {
            let mut request = v1::ListChunksRequest::default();
            change(&mut request);
            Wanted::new(&request)
        };
        let many = wanted(|request| request.first_samples = 17).expect_err("too many");
        assert!(many.to_string().contains("at most the first 16 samples"), "{many}");
        let many = wanted(|request| request.after = vec![cursor(1, 1); 10_001]).expect_err("too many");
        assert!(many.to_string().contains("at most 10000 streams"), "{many}");
        let short = wanted(|request| request.after = vec![v1::ChunkCursor::default()]).expect_err("no id");
        assert!(short.to_string().contains("16 bytes"), "{short}");
        let twice =
            wanted(|request| request.after = vec![cursor(1, 9), cursor(1, 5), cursor(2, 3)]).expect("it is fine");
        let seqs: Vec<u64> = twice.after.values().copied().collect();
        assert_eq!((seqs, twice.left), (vec![9, 3], u64::MAX));
    }
}
