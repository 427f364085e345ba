//! An instrument that integrates by itself, held against what is stored of its samples: charge and energy.
//!
//! It counts every sample, also those that were lost on the way, so what the two differ by is what is missing, apart from rounding. The
//! time is that from the end of the first block that begins a stored chunk to the end of the last one that does.

use crate::{ChunkInfo, ChunkOrder, Client, Error, Selection, Statistics, StreamInfo, TimeRange, limits};

const CHARGE: &str = "charge";
const ENERGY: &str = "energy";

/// Charge and energy over the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Integrals {
    /// UTC, in nanoseconds: from here…
    pub from_ns: i64,
    /// … to before here.
    pub to_ns: i64,
    /// In coulomb.
    pub charge: Integral,
    /// In joule; None where there is no power.
    pub energy: Option<Integral>,
}

/// One of them, twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Integral {
    /// By the instrument.
    pub instrument: f64,
    /// Of the samples that are stored.
    pub stored: f64,
    /// Samples that are not.
    pub missing: u64,
}

/// Is it a stream of what an instrument integrates?
#[must_use]
pub fn integrates(stream: &StreamInfo) -> bool {
    let has = |name: &str, unit: &str| {
        let signals = &stream.definition.signals;
        signals.iter().any(|signal| signal.name == name && signal.unit == unit)
    };
    has(CHARGE, "C") && has(ENERGY, "J")
}

impl Client {
    /// What the instrument has integrated in such a stream, and what its stored samples come to; None where there is too little of
    /// either.
    pub async fn integrals(&self, stream: &StreamInfo) -> Result<Option<Integrals>, Error> {
        let first = self.accumulated(stream, false).await?;
        let last = self.accumulated(stream, true).await?;
        let (Some((from_ns, before)), Some((to_ns, after))) = (first, last) else {
            return Ok(None);
        };
        // What is accumulated at a block counts the block itself.
        let block_ns = (1e9 / stream.definition.rate_hz).round() as i64;
        let (from_ns, to_ns) = (from_ns.saturating_add(block_ns), to_ns.saturating_add(block_ns));
        if from_ns >= to_ns {
            return Ok(None);
        }
        let stored = |signal: &'static str| {
            let range = TimeRange {
                from_ns: Some(from_ns),
                to_ns: Some(to_ns),
            };
            let device = Selection::device(&stream.definition.device);
            self.only(device.signals([signal]).range(range))
        };
        let compare = |at: usize, stored: Option<f64>, missing: u64| {
            stored.map(|stored| Integral {
                instrument: after[at] - before[at],
                stored,
                missing,
            })
        };
        let Some(current) = stored("current").await? else {
            return Ok(None);
        };
        let Some(charge) = compare(0, current.charge_coulomb, current.gap_sample_count) else {
            return Ok(None);
        };
        // Without voltage nobody knows of power.
        let power = stored("power").await.ok().flatten();
        Ok(Some(Integrals {
            from_ns,
            to_ns,
            charge,
            energy: power.and_then(|power| compare(1, power.energy_joule, power.gap_sample_count)),
        }))
    }

    /// Charge and energy at the first block of the first, or of the last, chunk that has them; and when that block began.
    async fn accumulated(&self, stream: &StreamInfo, newest_first: bool) -> Result<Option<(i64, [f64; 2])>, Error> {
        let selection = Selection::stream(stream.id()).signals([CHARGE, ENERGY]);
        let order = ChunkOrder {
            limit: limits::INTEGRAL_CHUNKS_MAX,
            newest_first,
            first_samples: 1,
            ..ChunkOrder::default()
        };
        let signals = &stream.definition.signals;
        let value = |chunk: &ChunkInfo, name: &str| {
            let number = signals.iter().find(|signal| signal.name == name)?.number;
            let column = chunk.first_samples.iter().find(|column| column.signal == number)?;
            column.values.first().copied()
        };
        let mut chunks = self.chunks(&selection, &order).await?;
        while let Some(chunk) = chunks.next().await? {
            if let (Some(charge), Some(energy)) = (value(&chunk, CHARGE), value(&chunk, ENERGY)) {
                return Ok(Some((chunk.header.utc_ns, [charge, energy])));
            }
        }
        Ok(None)
    }

    /// The statistics of the one signal that a selection has; None if it has several, or none.
    async fn only(&self, selection: Selection) -> Result<Option<Statistics>, Error> {
        let mut all = self.statistics(&selection).await?;
        let only = all.pop();
        Ok(only.filter(|_| all.is_empty()))
    }
}
