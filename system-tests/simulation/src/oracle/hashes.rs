//! The hashes of docs/PROTOCOL.md, written again from its text: the oracle shares none of the product's code for them.

use wavekeep_proto::chunk::{ColumnContent, Header};
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::StreamDefinition;

fn xxh3_128(input: &[u8]) -> Hash {
    Hash(xxhash_rust::xxh3::xxh3_128(input).to_be_bytes())
}

fn list(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

pub(super) fn column(signal: u16, sample_type: u8, count: u64, samples: &[u8]) -> Hash {
    let mut input = vec![0x01];
    input.extend(signal.to_le_bytes());
    input.push(sample_type);
    input.extend((count as u32).to_le_bytes());
    input.extend(samples);
    xxh3_128(&input)
}

fn absent(signal: u16, reason: u16) -> Hash {
    let mut input = vec![0x02];
    input.extend(signal.to_le_bytes());
    input.extend(reason.to_le_bytes());
    xxh3_128(&input)
}

pub(super) fn chunk(header: &Header) -> Hash {
    let mut input = vec![0x03, header.kind as u8];
    input.extend((header.reason as u16).to_le_bytes());
    for number in [header.first_seq, header.seq, header.first_sample, header.count] {
        input.extend(number.to_le_bytes());
    }
    input.extend(header.utc_ns.to_le_bytes());
    input.extend((header.markers.len() as u32).to_le_bytes());
    for marker in &header.markers {
        input.extend(marker.sample.to_le_bytes());
        input.extend(marker.kind.to_le_bytes());
        input.push(marker.group);
        input.extend(marker.y.to_bits().to_le_bytes());
        input.push(marker.format as u8);
        list(&marker.content, &mut input);
    }
    input.extend((header.columns.len() as u16).to_le_bytes());
    for column in &header.columns {
        let hash = match column.content {
            ColumnContent::Present { hash, .. } => hash,
            ColumnContent::Absent(reason) => absent(column.signal, reason as u16),
        };
        input.extend(hash.0);
    }
    xxh3_128(&input)
}

pub(super) fn definition(definition: &StreamDefinition) -> Hash {
    let mut input = vec![0x04];
    input.extend(definition.id.0);
    list(definition.device.as_bytes(), &mut input);
    input.extend(definition.epoch.0);
    list(&definition.file_identity, &mut input);
    match definition.predecessor {
        None => input.push(0),
        Some(predecessor) => {
            input.push(1);
            input.extend(predecessor.stream_id.0);
            input.extend(predecessor.seq.to_le_bytes());
        }
    }
    input.extend(definition.rate_hz.to_bits().to_le_bytes());
    input.extend(definition.first_sample.to_le_bytes());
    input.extend((definition.signals.len() as u32).to_le_bytes());
    for signal in &definition.signals {
        input.extend(signal.number.to_le_bytes());
        list(signal.name.as_bytes(), &mut input);
        input.push(signal.sample_type as u8);
        list(signal.unit.as_bytes(), &mut input);
        input.push(u8::from(signal.finite_only));
    }
    input.extend((definition.attributes.len() as u32).to_le_bytes());
    for (name, value) in &definition.attributes {
        list(name.as_bytes(), &mut input);
        list(value.as_bytes(), &mut input);
    }
    xxh3_128(&input)
}

pub(super) fn digest(before: Hash, chunk: Hash) -> Hash {
    let mut input = vec![0x05];
    input.extend(before.0);
    input.extend(chunk.0);
    xxh3_128(&input)
}
