//! Encodes a cut's columns and hashes what they decode to.
//!
//! # Invariants
//! - The hash is of the samples before they are encoded: it proves the encoder, and survives re-encoding.

use std::str::FromStr;

use bytes::Bytes;
use wavekeep_proto::chunk::{ColumnContent, ColumnHeader};
use wavekeep_proto::codec::{Encoder, Encoding};
use wavekeep_proto::hash;
use wavekeep_proto::stream::{Signal, StreamDefinition};

use crate::chunker::{Cut, CutColumn};

/// How a capture's columns are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodingChoice {
    /// What suits the data: shuffle+zstd, and plain where that does not make a column smaller.
    #[default]
    Auto,
    /// The samples as they are.
    Plain,
    /// Shuffle+zstd, with plain as a fallback.
    ShuffleZstd,
}

impl EncodingChoice {
    /// As the command line writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::ShuffleZstd => "shuffle-zstd",
        }
    }

    const fn encoding(self) -> Encoding {
        match self {
            Self::Plain => Encoding::Plain,
            Self::Auto | Self::ShuffleZstd => Encoding::ShuffleZstd,
        }
    }
}

impl FromStr for EncodingChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "shuffle-zstd" => Ok(Self::ShuffleZstd),
            "pco" => Err("this version cannot encode pco: use auto, plain or shuffle-zstd".into()),
            _ => Err(format!(
                "there is no encoding `{text}`: use auto, plain or shuffle-zstd"
            )),
        }
    }
}

/// Encodes for one source thread; keeps its buffers.
pub struct ColumnEncoder {
    encoder: Encoder,
    choice: EncodingChoice,
}

impl ColumnEncoder {
    /// Encodes as chosen.
    #[must_use]
    pub fn new(choice: EncodingChoice) -> Self {
        Self {
            encoder: Encoder::new(),
            choice,
        }
    }

    /// The columns' headers, one per signal, and the encoded bytes of those that are present.
    #[must_use]
    pub fn encode(&mut self, definition: &StreamDefinition, cut: &Cut<'_>) -> (Vec<ColumnHeader>, Vec<Bytes>) {
        let mut headers = Vec::with_capacity(cut.columns.len());
        let mut columns = Vec::with_capacity(cut.columns.len());
        for (signal, column) in definition.signals.iter().zip(cut.columns) {
            let content = match column.absent {
                Some(reason) => ColumnContent::Absent(reason),
                None => {
                    let (content, bytes) = self.encode_column(signal, cut.count, column);
                    columns.push(bytes);
                    content
                }
            };
            headers.push(ColumnHeader {
                signal: signal.number,
                content,
            });
        }
        (headers, columns)
    }

    fn encode_column(&mut self, signal: &Signal, count: u64, column: &CutColumn) -> (ColumnContent, Bytes) {
        let count = u32::try_from(count).expect("the chunker cuts at multiples of 65,536");
        let hash = hash::column_hash(signal.number, signal.sample_type, count, &column.samples);
        let (encoding, bytes) = self
            .encoder
            .encode(self.choice.encoding(), signal.sample_type.bits(), &column.samples);
        (ColumnContent::Present { encoding, hash }, Bytes::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wavekeep_proto::chunk::{ChunkKind, Reason};
    use wavekeep_proto::codec::Decoder;
    use wavekeep_proto::id::{Epoch, StreamId};
    use wavekeep_proto::stream::SampleType;

    use super::*;

    fn definition(signals: u16) -> StreamDefinition {
        let signal = |number| Signal {
            number,
            name: format!("signal {number}"),
            sample_type: SampleType::F32,
            unit: "A".into(),
            finite_only: false,
        };
        StreamDefinition {
            id: StreamId([1; 16]),
            device: "bench".into(),
            epoch: Epoch([2; 16]),
            file_identity: Vec::new(),
            predecessor: None,
            rate_hz: 1000.0,
            first_sample: 0,
            signals: (0..signals).map(signal).collect(),
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn i13_encoded_columns_decode_to_what_was_cut() {
        let nan_payload = f32::from_bits(0x7fc0_1234);
        let samples: Vec<u8> = [1.0, -0.0, nan_payload, f32::INFINITY]
            .iter()
            .cycle()
            .take(4_000)
            .flat_map(|v: &f32| v.to_le_bytes())
            .collect();
        let present = CutColumn {
            absent: None,
            samples: samples.clone(),
        };
        let absent = CutColumn {
            absent: Some(Reason::SignalOff),
            samples: Vec::new(),
        };
        let cut = Cut {
            kind: ChunkKind::Samples,
            reason: Reason::None,
            first_sample: 0,
            count: 4_000,
            utc_ns: 0,
            markers: Vec::new(),
            columns: &[absent, present],
        };
        let definition = definition(2);
        for choice in [EncodingChoice::Auto, EncodingChoice::Plain, EncodingChoice::ShuffleZstd] {
            let (headers, columns) = ColumnEncoder::new(choice).encode(&definition, &cut);
            assert_eq!(headers[0].content, ColumnContent::Absent(Reason::SignalOff));
            let ColumnContent::Present { encoding, hash } = headers[1].content else {
                panic!("it is present")
            };
            assert_eq!(encoding == Encoding::Plain, choice == EncodingChoice::Plain);
            let mut decoded = Vec::new();
            Decoder::new()
                .decode_into(encoding, 32, 4_000, &columns[0], &mut decoded)
                .expect("it decodes");
            assert!(decoded == samples);
            assert_eq!(hash, hash::column_hash(1, SampleType::F32, 4_000, &decoded));
        }
    }

    #[test]
    fn encodings_that_do_not_exist_are_refused_with_a_way_out() {
        for name in ["auto", "plain", "shuffle-zstd"] {
            assert_eq!(name.parse::<EncodingChoice>().map(EncodingChoice::name), Ok(name));
        }
        assert!(
            "pco"
                .parse::<EncodingChoice>()
                .is_err_and(|why| why.contains("use auto"))
        );
        assert!(
            "gzip"
                .parse::<EncodingChoice>()
                .is_err_and(|why| why.contains("use auto"))
        );
    }
}
