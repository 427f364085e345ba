//! Definitions, headers and chunks ↔ protobuf.

use bytes::Bytes;
use prost::Message;

use super::ChunkFault;
use crate::chunk::{Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Marker, MarkerFormat, Reason};
use crate::codec::Encoding;
use crate::hash;
use crate::id::{Epoch, Hash, StreamId};
use crate::limits;
use crate::stream::{Predecessor, SampleType, Signal, StreamDefinition};
use crate::v1;

/// Domain → wire.
#[must_use]
pub fn definition_to_wire(definition: &StreamDefinition) -> v1::StreamDefinition {
    let signal = |signal: &Signal| v1::Signal {
        number: u32::from(signal.number),
        name: signal.name.clone(),
        sample_type: signal.sample_type as i32,
        unit: signal.unit.clone(),
        finite_only: signal.finite_only,
    };
    v1::StreamDefinition {
        stream_id: definition.id.to_vec().into(),
        device: definition.device.clone(),
        epoch: definition.epoch.to_vec().into(),
        file_identity: definition.file_identity.clone().into(),
        predecessor: definition.predecessor.map(|predecessor| v1::Predecessor {
            stream_id: predecessor.stream_id.to_vec().into(),
            seq: predecessor.seq,
        }),
        rate_hz: definition.rate_hz,
        first_sample: definition.first_sample,
        signals: definition.signals.iter().map(signal).collect(),
        attributes: definition.attributes.clone(),
    }
}

/// Wire → domain. The rules of a definition are [`StreamDefinition::validate`]'s.
pub fn definition_from_wire(wire: v1::StreamDefinition) -> Result<StreamDefinition, &'static str> {
    let signal = |signal: v1::Signal| {
        Ok(Signal {
            number: u16::try_from(signal.number).map_err(|_| "a signal's number is above 65535")?,
            name: signal.name,
            sample_type: SampleType::from_number(signal.sample_type.cast_unsigned()).ok_or("unknown sample type")?,
            unit: signal.unit,
            finite_only: signal.finite_only,
        })
    };
    let predecessor = match wire.predecessor {
        None => None,
        Some(wire) => Some(Predecessor {
            stream_id: StreamId::from_slice(&wire.stream_id).map_err(|_| "bad predecessor id")?,
            seq: wire.seq,
        }),
    };
    Ok(StreamDefinition {
        id: StreamId::from_slice(&wire.stream_id).map_err(|_| "bad stream id")?,
        device: wire.device,
        epoch: Epoch::from_slice(&wire.epoch).map_err(|_| "bad epoch")?,
        file_identity: wire.file_identity.to_vec(),
        predecessor,
        rate_hz: wire.rate_hz,
        first_sample: wire.first_sample,
        signals: wire
            .signals
            .into_iter()
            .map(signal)
            .collect::<Result<_, &'static str>>()?,
        attributes: wire.attributes,
    })
}

/// A header's bytes, as they are hashed, sent and stored.
#[must_use]
pub fn header_to_bytes(header: &Header) -> Bytes {
    let marker = |marker: &Marker| v1::Marker {
        sample: marker.sample,
        kind: u32::from(marker.kind),
        group: u32::from(marker.group),
        y: marker.y,
        format: marker.format as i32,
        content: marker.content.clone().into(),
    };
    let column = |column: &ColumnHeader| {
        let mut wire = v1::ColumnHeader {
            signal: u32::from(column.signal),
            ..v1::ColumnHeader::default()
        };
        match column.content {
            ColumnContent::Present { encoding, hash } => {
                wire.encoding = encoding.to_wire().cast_signed();
                wire.hash = hash.to_vec().into();
            }
            ColumnContent::Absent(reason) => wire.absent_reason = i32::from(reason as u16),
        }
        wire
    };
    let wire = v1::ChunkHeader {
        kind: header.kind as i32,
        reason: i32::from(header.reason as u16),
        first_seq: header.first_seq,
        seq: header.seq,
        first_sample: header.first_sample,
        count: header.count,
        utc_ns: header.utc_ns,
        markers: header.markers.iter().map(marker).collect(),
        columns: header.columns.iter().map(column).collect(),
    };
    wire.encode_to_vec().into()
}

fn marker_from_wire(wire: v1::Marker) -> Result<Marker, ChunkFault> {
    let format = match wire.format {
        1 => MarkerFormat::Text,
        2 => MarkerFormat::Json,
        3 => MarkerFormat::Bytes,
        other => return Err(ChunkFault::Unsupported(format!("marker format {other}"))),
    };
    Ok(Marker {
        sample: wire.sample,
        kind: u16::try_from(wire.kind).map_err(|_| ChunkFault::Malformed("a marker's kind is above 65535"))?,
        group: u8::try_from(wire.group).map_err(|_| ChunkFault::Malformed("a marker's group is above 255"))?,
        y: wire.y,
        format,
        content: wire.content.to_vec(),
    })
}

fn reason_from_wire(number: i32) -> Result<Reason, ChunkFault> {
    Reason::from_number(number.cast_unsigned()).ok_or_else(|| ChunkFault::Unsupported(format!("reason {number}")))
}

fn column_from_wire(wire: &v1::ColumnHeader) -> Result<ColumnHeader, ChunkFault> {
    let signal = u16::try_from(wire.signal).map_err(|_| ChunkFault::Malformed("a signal's number is above 65535"))?;
    let content = if wire.absent_reason != 0 {
        if wire.encoding != 0 || !wire.hash.is_empty() {
            return Err(ChunkFault::Malformed("a column is absent and present"));
        }
        ColumnContent::Absent(reason_from_wire(wire.absent_reason)?)
    } else {
        let encoding = Encoding::from_wire(wire.encoding.cast_unsigned())
            .ok_or_else(|| ChunkFault::Unsupported(format!("encoding {}", wire.encoding)))?;
        let hash =
            Hash::from_slice(&wire.hash).map_err(|_| ChunkFault::Malformed("a column's hash is not 16 bytes"))?;
        ColumnContent::Present { encoding, hash }
    };
    Ok(ColumnHeader { signal, content })
}

/// The reverse of [`header_to_bytes`]. Its rules are [`Header::validate`]'s.
pub fn header_from_bytes(bytes: &[u8]) -> Result<Header, ChunkFault> {
    let wire = v1::ChunkHeader::decode(bytes).map_err(|_| ChunkFault::Malformed("the header does not parse"))?;
    let kind = match wire.kind {
        1 => ChunkKind::Samples,
        2 => ChunkKind::Gap,
        3 => ChunkKind::End,
        other => return Err(ChunkFault::Unsupported(format!("chunk kind {other}"))),
    };
    Ok(Header {
        kind,
        reason: reason_from_wire(wire.reason)?,
        first_seq: wire.first_seq,
        seq: wire.seq,
        first_sample: wire.first_sample,
        count: wire.count,
        utc_ns: wire.utc_ns,
        markers: wire
            .markers
            .into_iter()
            .map(marker_from_wire)
            .collect::<Result<_, _>>()?,
        columns: wire.columns.iter().map(column_from_wire).collect::<Result<_, _>>()?,
    })
}

/// Domain → wire, with the frame hash. The columns' bytes are shared, not copied.
#[must_use]
pub fn chunk_to_wire(chunk: &Chunk) -> v1::Chunk {
    let header = header_to_bytes(&chunk.header);
    let frame_hash = hash::frame_hash(
        &header,
        chunk.digest.as_bytes(),
        chunk.columns.iter().map(|column| &column[..]),
    );
    v1::Chunk {
        header,
        columns: chunk.columns.clone(),
        digest: chunk.digest.to_vec().into(),
        frame_hash: frame_hash.to_vec().into(),
    }
}

/// Wire → domain. The frame hash is checked before anything is parsed: it alone says "damaged on the way".
pub fn chunk_from_wire(wire: v1::Chunk) -> Result<Chunk, ChunkFault> {
    let computed = hash::frame_hash(
        &wire.header,
        &wire.digest,
        wire.columns.iter().map(|column| &column[..]),
    );
    if wire.frame_hash[..] != computed.as_bytes()[..] {
        return Err(ChunkFault::Damaged);
    }
    // A reader's message holds more around a chunk than an agent's: what filled one could be stored, and never be read.
    let column_bytes: usize = wire.columns.iter().map(Bytes::len).sum();
    if wire.header.len() > limits::HEADER_BYTES_MAX || column_bytes > limits::CHUNK_COLUMN_BYTES_MAX {
        return Err(ChunkFault::Malformed("it is larger than a chunk may be"));
    }
    let header = header_from_bytes(&wire.header)?;
    let digest = Hash::from_slice(&wire.digest).map_err(|_| ChunkFault::Malformed("the digest is not 16 bytes"))?;
    if header.present_columns() != wire.columns.len() {
        return Err(ChunkFault::Malformed("the header names other columns than came"));
    }
    Ok(Chunk {
        header,
        digest,
        columns: wire.columns,
    })
}
