//! A stored chunk's columns as f64, each checked against the hash that it was captured with. CPU work, for blocking threads.

use wavekeep_proto::chunk::ColumnContent;
use wavekeep_proto::codec::{Decoder, Encoding};
use wavekeep_proto::hash;
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::{Signal, StreamDefinition};

use super::error::QueryError;
use super::read::StoredChunk;
use super::want::Want;
use crate::rollup::fold::multiply;
use crate::samples::to_f64;

/// Decodes a present column of so many samples into `raw`, and holds it against its hash. Or what is wrong with it.
pub(super) fn verified(
    decoder: &mut Decoder,
    signal: &Signal,
    (encoding, hash, count): (Encoding, Hash, u64),
    encoded: &[u8],
    raw: &mut Vec<u8>,
) -> Result<(), String> {
    let count = u32::try_from(count).map_err(|_| "has too many samples")?;
    decoder
        .decode_into(encoding, signal.sample_type, count as usize, encoded, raw)
        .map_err(|why| format!("cannot be decoded ({why})"))?;
    if hash::column_hash(signal.number, signal.sample_type, count, raw) != hash {
        return Err("decodes to other samples than were captured".into());
    }
    Ok(())
}

/// Decodes chunk after chunk, reusing its buffers.
#[derive(Default)]
pub(super) struct ChunkDecoder {
    decoder: Decoder,
    raw: Vec<u8>,
    /// Of each signal of the stream; empty where it is absent or was not asked for.
    columns: Vec<Vec<f64>>,
    power: Vec<f64>,
}

impl ChunkDecoder {
    /// The signals at these places, which were read, in this order.
    pub(super) fn decode(
        &mut self,
        definition: &StreamDefinition,
        places: &[usize],
        chunk: &StoredChunk,
    ) -> Result<(), QueryError> {
        self.columns.resize(definition.signals.len(), Vec::new());
        self.columns.iter_mut().for_each(Vec::clear);
        if !chunk.has_samples() {
            return Ok(());
        }
        let header = &chunk.row.header;
        let damaged = |place: usize, why: &str| {
            let name = &definition.signals[place].name;
            QueryError::Damaged(format!(
                "signal {name:?} of seq {} of stream {} {why}",
                header.seq, definition.id
            ))
        };
        let mut encoded = chunk.columns.iter();
        for place in places {
            let signal = &definition.signals[*place];
            let column = header
                .columns
                .get(*place)
                .filter(|column| column.signal == signal.number);
            let column = column.ok_or_else(|| damaged(*place, "is not in its header"))?;
            let ColumnContent::Present { encoding, hash } = column.content else {
                continue;
            };
            let bytes = encoded.next().ok_or_else(|| damaged(*place, "has lost its bytes"))?;
            let content = (encoding, hash, header.count);
            verified(&mut self.decoder, signal, content, bytes, &mut self.raw).map_err(|why| damaged(*place, &why))?;
            to_f64(
                signal.sample_type,
                &self.raw,
                0..header.count as usize,
                &mut self.columns[*place],
            );
        }
        Ok(())
    }

    /// Of the chunk that was decoded last, the samples of this range, counted from its first; None where they are absent.
    pub(super) fn samples(&mut self, want: Want, range: std::ops::Range<usize>) -> Option<&[f64]> {
        match want {
            Want::Stored(place) => self.columns[place].get(range),
            Want::Power(current, voltage) => {
                let (current, voltage) = (
                    self.columns[current].get(range.clone())?,
                    self.columns[voltage].get(range)?,
                );
                self.power.clear();
                self.power.extend_from_slice(current);
                multiply(&mut self.power, voltage);
                Some(&self.power)
            }
        }
    }
}
