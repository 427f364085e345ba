//! `GetWaveform`: the stored chunks as they are, still encoded and hashed, or columns where that would be more samples than points
//! are wanted; then the manifest.
//!
//! # Invariants
//! - I14: header, digest and column bytes are those of the rows; nothing is decoded. The frame hash is of what is sent, so that
//!   damage on this way is found too.
//! - I12: one batch is sent while the next one is read.

use wavekeep_proto::chunk::ColumnContent;
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::power::{POWER_NAME, power_of};
use wavekeep_proto::v1::waveform_part::Part;
use wavekeep_proto::{hash, v1};

use super::answer::Parts;
use super::columns;
use super::error::QueryError;
use super::gaps;
use super::listing;
use super::locate::Located;
use super::manifest::Manifest;
use super::plan::{self, Asked};
use super::read::{ChunkReader, Reader, StoredChunk};
use crate::store::read_stream::StreamRow;

/// Which encodings the caller reads.
#[derive(Debug, Clone)]
pub(super) struct Accepted(Vec<Encoding>);

impl Accepted {
    /// None named: all that this version knows. Unknown ones are of no use here.
    pub(super) fn new(numbers: &[i32]) -> Self {
        let known = numbers
            .iter()
            .filter_map(|number| Encoding::from_wire(number.cast_unsigned()));
        Self(if numbers.is_empty() {
            Encoding::SUPPORTED.to_vec()
        } else {
            known.collect()
        })
    }

    pub(super) fn require_all(&self, chunk: &StoredChunk, places: &[usize]) -> Result<(), QueryError> {
        let columns = places.iter().filter_map(|place| chunk.row.header.columns.get(*place));
        let mut refused = columns.filter_map(|column| match column.content {
            ColumnContent::Present { encoding, .. } if !self.0.contains(&encoding) => Some(encoding),
            _ => None,
        });
        let Some(encoding) = refused.next().filter(|_| chunk.has_samples()) else {
            return Ok(());
        };
        Err(QueryError::Invalid(format!(
            "the samples are stored as {encoding}, which the caller does not accept: accept it, or update the caller"
        )))
    }
}

/// What the caller wants of the samples.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    accepted: Accepted,
    /// 0: the samples, however many.
    points_max: u64,
}

impl Wanted {
    pub(super) fn new(encodings: &[i32], points_max: u32) -> Result<Self, QueryError> {
        Ok(Self {
            accepted: Accepted::new(encodings),
            points_max: columns::points_max(points_max)?,
        })
    }
}

/// Only what is stored has samples to send.
fn require_stored(asked: &Asked, located: &[(StreamRow, Located)]) -> Result<(), QueryError> {
    let derived = asked.signals.iter().any(|signal| signal == POWER_NAME);
    if derived && located.iter().any(|(row, _)| power_of(&row.definition).is_some()) {
        return Err(QueryError::Invalid(
            "power is derived, not stored: read current and voltage and multiply them, or ask for points or statistics"
                .into(),
        ));
    }
    Ok(())
}

fn part(part: Part) -> v1::WaveformPart {
    v1::WaveformPart { part: Some(part) }
}

/// Sends stream after stream, in order of time.
pub(super) async fn send(
    reader: Reader,
    asked: Asked,
    wanted: Wanted,
    parts: Parts<v1::WaveformPart>,
) -> Result<(), QueryError> {
    let (located, reading) = reader.located(&asked, wanted.points_max > 0).await?;
    let mut reading = Some(reading);
    // Only a picture is read in the same transaction, and that of the first stream, before anything waits for the caller.
    let is_picture = wanted.points_max > 0 && !located.is_empty();
    if let Some(reading) = reading.take_if(|_| !is_picture) {
        reading.end();
    }
    if wanted.points_max == 0 {
        require_stored(&asked, &located)?;
    }
    if located.is_empty() {
        return Err(listing::nothing(&reader, &asked).await);
    }
    let times: Vec<_> = located.iter().map(|(_, range)| range.times_ns).collect();
    let mut manifest = Manifest::default();
    for (which, (row, range)) in located.iter().enumerate() {
        if let Some(pending) = manifest.pending() {
            parts.send(part(Part::Manifest(pending))).await?;
        }
        let info = Some(listing::stream_info(row));
        let asked_range = Some(listing::time_range(range.range));
        let stream = v1::WaveformStream {
            info,
            range: asked_range,
        };
        parts.send(part(Part::Stream(stream))).await?;
        manifest.begin(range);
        let points = columns::share(wanted.points_max, &times, which);
        if wanted.points_max == 0 || columns::has_few_samples(&asked, row, range, points) {
            if let Some(reading) = reading.take() {
                reading.end();
            }
            let answer = (&wanted.accepted, &mut manifest, &parts);
            send_chunks(&reader, (row, range), &asked, answer).await?;
        } else {
            columns::send(
                (&reader, reading.take()),
                (row, range),
                &asked,
                points,
                (&mut manifest, &parts),
            )
            .await?;
        }
    }
    parts.send(part(Part::Manifest(manifest.finish()))).await
}

async fn send_chunks(
    reader: &Reader,
    (row, located): (&StreamRow, &Located),
    asked: &Asked,
    (accepted, manifest, parts): (&Accepted, &mut Manifest, &Parts<v1::WaveformPart>),
) -> Result<(), QueryError> {
    let places = asked.places(&row.definition);
    let numbers = places.iter().map(|place| row.definition.signals[*place].number);
    let mut chunks = ChunkReader::new(reader, located, numbers.collect());
    let mut batch = chunks.next_batch().await?;
    while let Some(now) = batch {
        let sending = send_batch(row, located, &places, (accepted, manifest), now, parts);
        // The next one is read while this one is sent.
        let (sent, next) = tokio::join!(sending, chunks.next_batch());
        sent?;
        batch = next?;
    }
    Ok(())
}

async fn send_batch(
    row: &StreamRow,
    located: &Located,
    places: &[usize],
    (accepted, manifest): (&Accepted, &mut Manifest),
    batch: Vec<StoredChunk>,
    parts: &Parts<v1::WaveformPart>,
) -> Result<(), QueryError> {
    for chunk in batch {
        let cut = plan::cut(&chunk.row.header, &located.span);
        let gaps = gaps::of_chunk(&row.definition, places, &chunk.row, cut);
        accepted.require_all(&chunk, places)?;
        manifest.chunk(&chunk, cut, chunk.columns.is_empty(), gaps);
        parts.send(part(Part::Chunk(to_wire(row, chunk, cut)))).await?;
        if let Some(overflow) = manifest.overflow() {
            parts.send(part(Part::Manifest(overflow))).await?;
        }
    }
    Ok(())
}

/// A chunk with what is asked of it.
pub(super) fn to_wire(row: &StreamRow, chunk: StoredChunk, (from_sample, to_sample): (u64, u64)) -> v1::WaveformChunk {
    let columns = chunk.columns.iter().map(|column| &column[..]);
    let frame_hash = hash::frame_hash(&chunk.row.header_bytes, chunk.row.digest.as_bytes(), columns);
    v1::WaveformChunk {
        stream_id: row.id().to_vec().into(),
        chunk: Some(v1::Chunk {
            header: chunk.row.header_bytes,
            columns: chunk.columns,
            digest: chunk.row.digest.to_vec().into(),
            frame_hash: frame_hash.to_vec().into(),
        }),
        from_sample,
        to_sample,
        quarantined: chunk.row.quarantined,
        loaded_at_ns: chunk.row.loaded_at_ns,
    }
}
