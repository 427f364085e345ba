//! What chunks start with, for listings.
//!
//! # Invariants
//! - I14: a column is decoded whole and held against its hash before any of its samples is shown. One that is damaged is left
//!   out and logged: a listing is how damage is looked at, so it goes on.
//! - Decoding runs on blocking threads; one batch is held (I12).

use std::sync::Arc;

use wavekeep_proto::chunk::ColumnContent;
use wavekeep_proto::codec::Decoder;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::v1;

use super::decode::verified;
use super::error::QueryError;
use super::read::Reader;
use crate::samples::to_f64;
use crate::store::read_chunk::{ChunkRow, PayloadRow, Place};

/// See the module's documentation.
pub(super) struct FirstSamples {
    /// Of each column.
    count: u32,
    /// Lent to the thread that decodes.
    decoder: Decoder,
}

impl FirstSamples {
    pub(super) fn new(count: u32) -> Self {
        Self {
            count,
            decoder: Decoder::new(),
        }
    }

    /// Encoded bytes that have to be read for a chunk: at most.
    pub(super) fn bytes_to_read(&self, row: &ChunkRow) -> u64 {
        if self.count == 0 || row.quarantined {
            0
        } else {
            row.stored_bytes
        }
    }

    /// Of each chunk, what its columns of the signals at `places` start with.
    pub(super) async fn of(
        &mut self,
        reader: &Reader,
        place: Place,
        (definition, places): (&Arc<StreamDefinition>, &[usize]),
        rows: Vec<ChunkRow>,
    ) -> Result<Vec<Vec<v1::FirstSamples>>, QueryError> {
        let seqs = || rows.iter().map(|row| row.header.seq);
        let range = seqs().min().zip(seqs().max());
        let Some(range) = range.filter(|_| rows.iter().any(|row| self.bytes_to_read(row) > 0)) else {
            return Ok(vec![Vec::new(); rows.len()]);
        };
        let numbers: Vec<u16> = places.iter().map(|place| definition.signals[*place].number).collect();
        let payloads = reader.payloads(place, &numbers, range).await?;
        let (definition, places, count) = (definition.clone(), places.to_vec(), self.count);
        let mut decoder = std::mem::take(&mut self.decoder);
        let work = tokio::task::spawn_blocking(move || {
            let of_row = |row| of_chunk(&definition, &places, row, &payloads, count, &mut decoder);
            let all = rows.iter().map(of_row).collect();
            (all, decoder)
        });
        let (all, decoder) = work.await.expect("decoding does not panic");
        self.decoder = decoder;
        Ok(all)
    }
}

fn of_chunk(
    definition: &StreamDefinition,
    places: &[usize],
    row: &ChunkRow,
    payloads: &[PayloadRow],
    count: u32,
    decoder: &mut Decoder,
) -> Vec<v1::FirstSamples> {
    if row.quarantined {
        return Vec::new();
    }
    let mut all = Vec::new();
    for place in places {
        let signal = &definition.signals[*place];
        let column = row.header.columns.get(*place);
        let Some(ColumnContent::Present { .. }) = column.map(|column| column.content) else {
            continue;
        };
        match decoded(definition, *place, row, payloads, count, decoder) {
            Ok(values) => all.push(v1::FirstSamples {
                signal: u32::from(signal.number),
                values,
            }),
            Err(why) => {
                let (stream, seq, signal) = (definition.id, row.header.seq, &signal.name);
                tracing::warn!(%stream, seq, signal, "a column is left out of a listing: it {why}");
            }
        }
    }
    all
}

/// The first samples of a present column; or what is wrong with it.
fn decoded(
    definition: &StreamDefinition,
    place: usize,
    row: &ChunkRow,
    payloads: &[PayloadRow],
    first: u32,
    decoder: &mut Decoder,
) -> Result<Vec<f64>, String> {
    let (signal, header) = (&definition.signals[place], &row.header);
    let column = header
        .columns
        .get(place)
        .filter(|column| column.signal == signal.number);
    let Some(ColumnContent::Present { encoding, hash }) = column.map(|column| column.content) else {
        return Err("is not in its header".into());
    };
    let own = payloads
        .binary_search_by_key(&(header.seq, signal.number), |payload| (payload.seq, payload.signal))
        .map_err(|_| "has lost its bytes".to_owned())?;
    let (mut raw, mut values) = (Vec::new(), Vec::new());
    let content = (encoding, hash, header.count);
    verified(decoder, signal, content, &payloads[own].payload, &mut raw)?;
    let first = u64::from(first).min(header.count) as usize;
    to_f64(signal.sample_type, &raw, 0..first, &mut values);
    Ok(values)
}
