//! `GetStatistics`: by folding every sample of the range. The definitions stand in `fold`.
//!
//! # Invariants
//! - I8: a statistic is the fold of the samples it covers, each checked against the hash of its column.
//! - No time counts twice: streams that captured a signal of a device at the same time are never folded together.
//! - Decoding and folding run on blocking threads; one batch is folded while the next one is read (I12).

use wavekeep_proto::chunk::ColumnContent;
use wavekeep_proto::codec::Decoder;
use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{hash, v1};

use super::error::QueryError;
use super::fold::Fold;
use super::limits;
use super::listing;
use super::plan::{self, Asked, POWER, Span};
use super::read::{ChunkReader, Located, Reader, StoredChunk};
use crate::samples::to_f64;

/// A signal of a device, over all its streams.
struct Folded {
    device: String,
    signal: String,
    unit: String,
    times_ns: (i64, i64),
    gap_sample_count: u64,
    fold: Fold,
    /// What it is folded from.
    parts: Vec<Part>,
}

/// The range of one stream.
#[derive(Debug, Clone, Copy)]
struct Part {
    stream: StreamId,
    epoch: Epoch,
    samples: (u64, u64),
    times_ns: (i64, i64),
}

impl Part {
    fn new(definition: &StreamDefinition, located: &Located) -> Self {
        Self {
            stream: definition.id,
            epoch: definition.epoch,
            samples: (located.span.from_sample, located.span.to_sample),
            times_ns: located.times_ns,
        }
    }

    /// Did both capture the same time? Within an epoch, samples tell exactly; between epochs, times, which a clock that was set
    /// may have shifted.
    fn overlaps(&self, other: &Self) -> bool {
        if self.epoch == other.epoch {
            return self.samples.0.max(other.samples.0) < self.samples.1.min(other.samples.1);
        }
        let length = |part: &Self| part.times_ns.1.saturating_sub(part.times_ns.0);
        let allowed = limits::CLOCK_SHIFT_NS_MAX.min(length(self).min(length(other)) / 2);
        let (from, to) = (
            self.times_ns.0.max(other.times_ns.0),
            self.times_ns.1.min(other.times_ns.1),
        );
        to.saturating_sub(from) > allowed
    }
}

/// What of a stream goes into which statistic.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// The signal at this place.
    Stored(usize),
    /// Current and voltage, multiplied.
    Power(usize, usize),
}

/// Everything that a blocking thread needs, and gives back.
struct Folder {
    all: Vec<Folded>,
    decoder: Decoder,
    raw: Vec<u8>,
    /// The samples of each signal of the stream, where they were decoded.
    columns: Vec<Vec<f64>>,
    power: Vec<f64>,
}

/// Answers for every signal asked for, in order of time and of the definitions.
pub(super) async fn statistics(reader: &Reader, asked: &Asked) -> Result<v1::GetStatisticsResponse, QueryError> {
    let mut folder = Folder {
        all: Vec::new(),
        decoder: Decoder::new(),
        raw: Vec::new(),
        columns: Vec::new(),
        power: Vec::new(),
    };
    for row in reader.streams(asked).await? {
        let Some(located) = reader.locate(asked, &row).await? else {
            continue;
        };
        let definition = row.definition.clone();
        let wants = folder.wants(asked, &definition, &located)?;
        let mut needed: Vec<usize> = wants.iter().flat_map(|(_, want)| want.places()).collect();
        needed.sort_unstable();
        needed.dedup();
        let numbers = needed.iter().map(|place| definition.signals[*place].number);
        let mut chunks = ChunkReader::new(reader, &located, numbers.collect());
        let mut batch = chunks.next_batch().await?;
        while let Some(now) = batch {
            let (definition, wants, needed) = (definition.clone(), wants.clone(), needed.clone());
            let work = tokio::task::spawn_blocking(move || {
                let folded = now
                    .iter()
                    .try_for_each(|chunk| folder.chunk(&definition, &wants, &needed, chunk, &located.span));
                folded.map(|()| folder)
            });
            // The next one is read while this one is folded.
            batch = chunks.next_batch().await?;
            folder = work.await.expect("folding does not panic")?;
        }
    }
    if folder.all.is_empty() {
        return Err(listing::nothing(reader, asked).await);
    }
    let signals = folder.all.iter().map(to_wire).collect();
    Ok(v1::GetStatisticsResponse { signals })
}

impl Want {
    fn places(self) -> Vec<usize> {
        match self {
            Self::Stored(place) => vec![place],
            Self::Power(current, voltage) => vec![current, voltage],
        }
    }
}

impl Folder {
    /// What the stream's samples go into: places in `all`.
    fn wants(
        &mut self,
        asked: &Asked,
        definition: &StreamDefinition,
        located: &Located,
    ) -> Result<Vec<(usize, Want)>, QueryError> {
        let mut wants = Vec::new();
        for place in asked.places(definition) {
            let signal = &definition.signals[place];
            let at = self.at(definition, (&signal.name, &signal.unit), located)?;
            wants.push((at, Want::Stored(place)));
        }
        let power_asked = asked.signals.is_empty() || asked.signals.iter().any(|signal| signal == POWER);
        if let Some((current, voltage)) = plan::power(definition).filter(|_| power_asked) {
            let at = self.at(definition, (POWER, "W"), located)?;
            wants.push((at, Want::Power(current, voltage)));
        }
        Ok(wants)
    }

    /// The statistic of a signal. Another unit makes another one.
    fn at(
        &mut self,
        definition: &StreamDefinition,
        (signal, unit): (&str, &str),
        located: &Located,
    ) -> Result<usize, QueryError> {
        let same = |folded: &Folded| {
            (folded.device.as_str(), folded.signal.as_str(), folded.unit.as_str())
                == (definition.device.as_str(), signal, unit)
        };
        let (from_ns, to_ns) = located.times_ns;
        let part = Part::new(definition, located);
        if let Some(at) = self.all.iter().position(same) {
            let folded = &mut self.all[at];
            if let Some(other) = folded.parts.iter().find(|other| other.overlaps(&part)) {
                return Err(QueryError::Overlap {
                    device: definition.device.clone(),
                    signal: signal.into(),
                    streams: (other.stream, part.stream),
                });
            }
            folded.parts.push(part);
            folded.times_ns = (folded.times_ns.0.min(from_ns), folded.times_ns.1.max(to_ns));
            return Ok(at);
        }
        self.all.push(Folded {
            device: definition.device.clone(),
            signal: signal.into(),
            unit: unit.into(),
            times_ns: (from_ns, to_ns),
            gap_sample_count: 0,
            fold: Fold::new(),
            parts: vec![part],
        });
        Ok(self.all.len() - 1)
    }

    fn chunk(
        &mut self,
        definition: &StreamDefinition,
        wants: &[(usize, Want)],
        needed: &[usize],
        chunk: &StoredChunk,
        span: &Span,
    ) -> Result<(), QueryError> {
        let header = &chunk.row.header;
        let (from, to) = plan::cut(header, span);
        if from == to {
            return Ok(());
        }
        self.columns.resize(definition.signals.len(), Vec::new());
        self.columns.iter_mut().for_each(Vec::clear);
        if chunk.has_samples() {
            self.decode(definition, needed, chunk)?;
        }
        let range = (from - header.first_sample) as usize..(to - header.first_sample) as usize;
        for (at, want) in wants {
            // A signal that is absent was not decoded: then there are no samples to cut.
            let samples = match *want {
                Want::Stored(place) => self.columns[place].get(range.clone()),
                Want::Power(current, voltage) => {
                    let pair = self.columns[current]
                        .get(range.clone())
                        .zip(self.columns[voltage].get(range.clone()));
                    pair.map(|(current, voltage)| {
                        let product = current.iter().zip(voltage).map(|(current, voltage)| current * voltage);
                        self.power.clear();
                        self.power.extend(product);
                        &self.power[..]
                    })
                }
            };
            let folded = &mut self.all[*at];
            match samples {
                Some(samples) => folded.fold.add(samples, definition.rate_hz),
                None => folded.gap_sample_count += to - from,
            }
        }
        Ok(())
    }

    fn decode(
        &mut self,
        definition: &StreamDefinition,
        needed: &[usize],
        chunk: &StoredChunk,
    ) -> Result<(), QueryError> {
        let header = &chunk.row.header;
        let damaged = |place: usize, why: &str| {
            let name = &definition.signals[place].name;
            QueryError::Damaged(format!(
                "signal {name:?} of seq {} of stream {} {why}",
                header.seq, definition.id
            ))
        };
        let mut encoded = chunk.columns.iter();
        for place in needed {
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
            let count = u32::try_from(header.count).map_err(|_| damaged(*place, "has too many samples"))?;
            self.decoder
                .decode_into(
                    encoding,
                    signal.sample_type.bits(),
                    count as usize,
                    bytes,
                    &mut self.raw,
                )
                .map_err(|why| damaged(*place, &format!("cannot be decoded ({why})")))?;
            if hash::column_hash(signal.number, signal.sample_type, count, &self.raw) != hash {
                return Err(damaged(*place, "decodes to other samples than were captured"));
            }
            to_f64(signal.sample_type, &self.raw, header.count, &mut self.columns[*place]);
        }
        Ok(())
    }
}

fn to_wire(folded: &Folded) -> v1::SignalStatistics {
    let fold = &folded.fold;
    let (min, max) = fold.min_max();
    let integral = fold.integral();
    v1::SignalStatistics {
        device: folded.device.clone(),
        signal: folded.signal.clone(),
        unit: folded.unit.clone(),
        from_ns: folded.times_ns.0,
        to_ns: folded.times_ns.1,
        sample_count: fold.sample_count,
        gap_sample_count: folded.gap_sample_count,
        min,
        max,
        mean: fold.mean(),
        std: fold.std(),
        rms: fold.rms(),
        integral,
        energy_joule: (folded.unit == "W").then_some(integral),
        charge_coulomb: (folded.unit == "A").then_some(integral),
        finite_count: fold.finite_count,
    }
}
