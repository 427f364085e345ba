//! Encodes a cut's columns and hashes what they decode to.
//!
//! `auto` tries the encodings now and then and takes what suits: `choose.rs`, whose shell this is. What it chose is in each column's
//! header, and it is told why in the log and in the status.
//!
//! # Invariants
//! - The hash is of the samples before they are encoded: it proves the encoder, and survives re-encoding.

mod choose;

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use tracing::info;
use wavekeep_proto::chunk::{ColumnContent, ColumnHeader};
use wavekeep_proto::codec::{Encoder, Encoding};
use wavekeep_proto::hash;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};

use self::choose::Chooser;
use crate::chunker::Cut;
use crate::clock::Clock;
use crate::limits;

/// How a capture's columns are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodingChoice {
    /// Measured for each column: the smallest that there is time for.
    #[default]
    Auto,
    /// The samples as they are.
    Plain,
    /// Shuffle+zstd, with plain as a fallback.
    ShuffleZstd,
    /// Pco, with plain as a fallback; shuffle+zstd for packed and 128-bit samples, which it does not have.
    Pco,
}

impl EncodingChoice {
    /// As the command line writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::ShuffleZstd => "shuffle-zstd",
            Self::Pco => "pco",
        }
    }

    /// None: it is to be chosen.
    const fn encoding(self, sample_type: SampleType) -> Option<Encoding> {
        match self {
            Self::Auto => None,
            Self::Plain => Some(Encoding::Plain),
            Self::Pco if Encoding::Pco.has(sample_type) => Some(Encoding::Pco),
            Self::ShuffleZstd | Self::Pco => Some(Encoding::ShuffleZstd),
        }
    }
}

impl FromStr for EncodingChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Auto, Self::Plain, Self::ShuffleZstd, Self::Pco]
            .into_iter()
            .find(|choice| choice.name() == text)
            .ok_or_else(|| format!("there is no encoding `{text}`: use auto, plain, shuffle-zstd or pco"))
    }
}

/// Encodes for one source thread; keeps its buffers, and what `auto` knows of each column.
pub struct ColumnEncoder {
    encoder: Encoder,
    choice: EncodingChoice,
    choosers: BTreeMap<(StreamId, u16), Chooser>,
    has_news: bool,
}

impl ColumnEncoder {
    /// Encodes as chosen.
    #[must_use]
    pub fn new(choice: EncodingChoice) -> Self {
        Self {
            encoder: Encoder::new(),
            choice,
            choosers: BTreeMap::new(),
            has_news: false,
        }
    }

    /// The columns' headers, one per signal, and the encoded bytes of those that are present.
    #[must_use]
    pub fn encode(
        &mut self,
        definition: &StreamDefinition,
        cut: &Cut<'_>,
        clock: &dyn Clock,
    ) -> (Vec<ColumnHeader>, Vec<Bytes>) {
        self.has_news = false;
        let mut headers = Vec::with_capacity(cut.columns.len());
        let mut columns = Vec::with_capacity(cut.columns.len());
        for (signal, column) in definition.signals.iter().zip(cut.columns) {
            let content = match column.absent {
                Some(reason) => ColumnContent::Absent(reason),
                None => {
                    let count = u32::try_from(cut.count).expect("the chunker cuts at multiples of 65,536");
                    let hash = hash::column_hash(signal.number, signal.sample_type, count, &column.samples);
                    let (encoding, bytes) = match self.choice.encoding(signal.sample_type) {
                        Some(encoding) => self.encoder.encode(encoding, signal.sample_type, &column.samples),
                        None => self.encode_measured(definition, signal, cut.count, &column.samples, clock),
                    };
                    columns.push(Bytes::from(bytes));
                    ColumnContent::Present { encoding, hash }
                }
            };
            headers.push(ColumnHeader {
                signal: signal.number,
                content,
            });
        }
        (headers, columns)
    }

    /// Did the last chunk tell anything new of what its signals are encoded as?
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_news
    }

    /// What `auto` chose for each signal of a stream, and why.
    #[must_use]
    pub fn explain(&self, definition: &StreamDefinition) -> BTreeMap<String, String> {
        let of = |signal: &Signal| {
            let chooser = self.choosers.get(&(definition.id, signal.number))?;
            Some((
                signal.name.clone(),
                chooser.explain(self.allowed((definition.id, signal.number))),
            ))
        };
        definition.signals.iter().filter_map(of).collect()
    }

    fn encode_measured(
        &mut self,
        definition: &StreamDefinition,
        signal: &Signal,
        count: u64,
        samples: &[u8],
        clock: &dyn Clock,
    ) -> (Encoding, Vec<u8>) {
        let key = (definition.id, signal.number);
        if self.choosers.len() >= limits::ENCODED_COLUMNS_MAX && !self.choosers.contains_key(&key) {
            self.choosers.clear();
        }
        let allowed = self.allowed(key);
        let chooser = self
            .choosers
            .entry(key)
            .or_insert_with(|| Chooser::new(signal.sample_type));
        let mut start = clock.now();
        let mut encoded = Vec::new();
        for choice in chooser.plan(start, count, allowed) {
            let column = self.encoder.encode(*choice, signal.sample_type, samples);
            let end = clock.now();
            chooser.measured(*choice, count, column.1.len(), end.saturating_sub(start));
            encoded.push((*choice, column));
            start = end;
        }
        let has_changed = chooser.choose(allowed);
        self.has_news |= has_changed || encoded.len() > 1;
        if has_changed {
            info!("{}: {}: {}", definition.device, signal.name, chooser.explain(allowed));
        }
        // What was just chosen, if this chunk was encoded so; else what it was encoded as.
        let place = encoded.iter().position(|(choice, _)| *choice == chooser.current());
        encoded.swap_remove(place.unwrap_or(0)).1
    }

    /// What the other columns leave of the source's share of a core.
    fn allowed(&self, key: (StreamId, u16)) -> f64 {
        let others = self.choosers.iter().filter(|(other, _)| **other != key);
        let taken: f64 = others.map(|(_, chooser)| chooser.share_taken()).sum();
        (limits::ENCODE_SHARE_MAX - taken).max(0.0)
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
