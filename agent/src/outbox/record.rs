//! The values of the outbox: protobuf messages, so that later versions can add fields, each sealed with a hash over its key
//! and its bytes. A flipped bit anywhere, or a value under another key, is noticed and is never taken for data.
//!
//! A chunk's columns lie apart and bare; their hash stands in the chunk's record, so that stale columns are noticed too.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use wavekeep_proto::chunk::{Chunk, Header, Position, Reason};
use wavekeep_proto::hash;
use wavekeep_proto::id::{AgentId, Hash, LedgerId, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{v1, wire};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// The format version that this build writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// What a record costs besides its bytes: its keys, and RocksDB's own share.
const RECORD_OVERHEAD_BYTES: u64 = 128;
const SEAL_BYTES: usize = size_of::<u64>();

fn seal_of(key: &[u8], body: &[u8]) -> [u8; SEAL_BYTES] {
    let mut state = Xxh3Default::new();
    state.update(key);
    state.update(body);
    state.digest().to_le_bytes()
}

fn sealed(key: &[u8], message: &impl Message) -> Vec<u8> {
    let mut value = Vec::with_capacity(message.encoded_len() + SEAL_BYTES);
    message
        .encode(&mut value)
        .expect("a vector takes whatever is written to it");
    let seal = seal_of(key, &value);
    value.extend_from_slice(&seal);
    value
}

/// `None`: these are not the bytes that were stored under this key.
fn unsealed<M: Message + Default>(key: &[u8], value: &[u8]) -> Option<M> {
    let (body, seal) = value.split_last_chunk::<SEAL_BYTES>()?;
    (*seal == seal_of(key, body)).then_some(())?;
    M::decode(body).ok()
}

#[derive(Clone, PartialEq, Message)]
struct VersionMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
}

#[derive(Clone, PartialEq, Message)]
struct IdentityMessage {
    #[prost(bytes = "vec", tag = "1")]
    agent_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    ledger_id: Vec<u8>,
    #[prost(uint64, tag = "3")]
    generation: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StreamMessage {
    #[prost(message, required, tag = "1")]
    definition: v1::StreamDefinition,
    #[prost(btree_map = "string, string", tag = "2")]
    labels: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    run: String,
}

#[derive(Clone, PartialEq, Message)]
struct MarkMessage {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(uint64, tag = "2")]
    next_sample: u64,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(bool, tag = "4")]
    ended: bool,
    #[prost(sint64, tag = "5")]
    next_utc_ns: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StateMessage {
    #[prost(message, required, tag = "1")]
    base: MarkMessage,
    #[prost(message, required, tag = "2")]
    tail: MarkMessage,
    #[prost(uint64, tag = "3")]
    acked: u64,
    #[prost(uint64, tag = "4")]
    acked_total_bytes: u64,
    #[prost(uint64, tag = "5")]
    stored_total_bytes: u64,
    #[prost(uint64, tag = "6")]
    held_bytes: u64,
    #[prost(uint64, tag = "7")]
    ordinal: u64,
    #[prost(uint32, tag = "8")]
    to_end: u32,
    #[prost(bytes = "vec", tag = "9")]
    successor: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkMessage {
    #[prost(bytes = "bytes", tag = "1")]
    header: Bytes,
    #[prost(bytes = "vec", tag = "2")]
    digest_before: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(uint32, repeated, tag = "4")]
    column_bytes: Vec<u32>,
    #[prost(fixed64, tag = "5")]
    data_hash: u64,
    #[prost(fixed64, tag = "6")]
    total_bytes: u64,
    #[prost(fixed64, tag = "7")]
    ordinal: u64,
}

/// A position, and the UTC of its next sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: Position,
    /// By the stream's time axis.
    pub(super) next_utc_ns: i64,
}

impl Mark {
    fn to_message(self) -> MarkMessage {
        MarkMessage {
            seq: self.at.seq,
            next_sample: self.at.next_sample,
            digest: self.at.digest.to_vec(),
            ended: self.at.ended,
            next_utc_ns: self.next_utc_ns,
        }
    }

    fn from_message(message: &MarkMessage) -> Option<Self> {
        let MarkMessage {
            seq,
            next_sample,
            ref digest,
            ended,
            next_utc_ns,
        } = *message;
        let digest = Hash::from_slice(digest).ok()?;
        Some(Self {
            at: Position {
                seq,
                next_sample,
                digest,
                ended,
            },
            next_utc_ns,
        })
    }
}

/// Where a stream stands: rewritten by every batch that touches the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// After the last record that was released. What is at or before it does not exist, whatever the disk still has.
    pub(super) base: Mark,
    /// After the last record stored.
    pub(super) tail: Mark,
    /// Bytes ever stored, up to the tail.
    pub(super) stored_total_bytes: u64,
    /// Bytes of the records held: what the quota counts.
    pub(super) held_bytes: u64,
    /// Of the last chunk stored: the order of storing across streams.
    pub(super) ordinal: u64,
    /// The source is gone or moved on; the reason of the `end` that is due.
    pub(super) to_end: Option<Reason>,
    /// Diverged: what is held is moving there.
    pub(super) successor: Option<StreamId>,
}

/// How far acks went when a state was written: a hint, since it is only written along with something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Acked {
    pub(super) seq: u64,
    /// Bytes ever stored, up to there.
    pub(super) total_bytes: u64,
}

impl State {
    /// Of a stream of which nothing is held.
    pub(super) fn new(at: Mark, ordinal: u64) -> Self {
        let (stored_total_bytes, held_bytes) = (0, 0);
        Self {
            base: at,
            tail: at,
            stored_total_bytes,
            held_bytes,
            ordinal,
            to_end: None,
            successor: None,
        }
    }

    pub(super) fn to_value(&self, key: &[u8], acked: Acked) -> Vec<u8> {
        let message = StateMessage {
            base: self.base.to_message(),
            tail: self.tail.to_message(),
            acked: acked.seq,
            acked_total_bytes: acked.total_bytes,
            stored_total_bytes: self.stored_total_bytes,
            held_bytes: self.held_bytes,
            ordinal: self.ordinal,
            to_end: self.to_end.map_or(0, |reason| reason as u32),
            successor: self.successor.map_or_else(Vec::new, StreamId::to_vec),
        };
        sealed(key, &message)
    }

    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Option<(Self, Acked)> {
        let message: StateMessage = unsealed(key, value)?;
        let successor = match message.successor.as_slice() {
            [] => None,
            bytes => Some(StreamId::from_slice(bytes).ok()?),
        };
        let to_end = match message.to_end {
            0 => None,
            number => Some(Reason::from_number(number).filter(|reason| reason.is_end())?),
        };
        let state = Self {
            base: Mark::from_message(&message.base)?,
            tail: Mark::from_message(&message.tail)?,
            stored_total_bytes: message.stored_total_bytes,
            held_bytes: message.held_bytes,
            ordinal: message.ordinal,
            to_end,
            successor,
        };
        Some((
            state,
            Acked {
                seq: message.acked,
                total_bytes: message.acked_total_bytes,
            },
        ))
    }
}

/// A held record without its columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) header: Header,
    pub(super) digest_before: Hash,
    pub(super) digest: Hash,
    /// Of each present column.
    pub(super) column_bytes: Vec<u32>,
    /// XXH3-64 of the columns' bytes.
    pub(super) data_hash: u64,
    /// Bytes ever stored in its stream, up to and with it.
    pub(super) total_bytes: u64,
    /// The order of storing, across streams.
    pub(super) ordinal: u64,
}

impl Record {
    pub(super) fn to_value(&self, key: &[u8]) -> Vec<u8> {
        let message = ChunkMessage {
            header: wire::header_to_bytes(&self.header),
            digest_before: self.digest_before.to_vec(),
            digest: self.digest.to_vec(),
            column_bytes: self.column_bytes.clone(),
            data_hash: self.data_hash,
            total_bytes: self.total_bytes,
            ordinal: self.ordinal,
        };
        sealed(key, &message)
    }

    /// `None` also for a record that is whole and yet cannot be one: whose digest is not that of its header.
    pub(super) fn from_value(key: &[u8], seq: u64, value: &[u8]) -> Option<Self> {
        let message: ChunkMessage = unsealed(key, value)?;
        let record = Self {
            header: wire::header_from_bytes(&message.header).ok()?,
            digest_before: Hash::from_slice(&message.digest_before).ok()?,
            digest: Hash::from_slice(&message.digest).ok()?,
            column_bytes: message.column_bytes,
            data_hash: message.data_hash,
            total_bytes: message.total_bytes,
            ordinal: message.ordinal,
        };
        let header = &record.header;
        let chained = || hash::next_digest(record.digest_before, hash::chunk_hash(header)) == record.digest;
        let whole = header.seq == seq
            && (1..=seq).contains(&header.first_seq)
            && header.present_columns() == record.column_bytes.len()
            && (header.is_replacing() || chained());
        whole.then_some(record)
    }

    /// Bytes of its columns.
    pub(super) fn data_bytes(&self) -> u64 {
        self.column_bytes.iter().map(|bytes| u64::from(*bytes)).sum()
    }

    /// What it costs the quota, its value being `value_bytes` long.
    pub(super) fn cost_bytes(&self, value_bytes: usize) -> u64 {
        self.data_bytes() + value_bytes as u64 + RECORD_OVERHEAD_BYTES
    }

    /// Where the capture stood before it.
    pub(super) fn start(&self) -> Mark {
        Mark {
            at: Position {
                seq: self.header.first_seq - 1,
                next_sample: self.header.first_sample,
                digest: self.digest_before,
                ended: false,
            },
            next_utc_ns: self.header.utc_ns,
        }
    }

    /// Where it stood after it.
    pub(super) fn end(&self, definition: &StreamDefinition) -> Mark {
        let length_ns = definition.duration_ns(self.header.count);
        Mark {
            at: Position::after(&self.header, self.digest),
            next_utc_ns: self.header.utc_ns.saturating_add(length_ns),
        }
    }

    /// Are these its columns' bytes?
    pub(super) fn has_data(&self, data: &[u8]) -> bool {
        data.len() as u64 == self.data_bytes() && data_hash(data) == self.data_hash
    }

    /// With its columns, of which `data` is what the disk says. `None`: those are not the bytes that were stored.
    pub(super) fn with_data(self, data: Vec<u8>) -> Option<(Chunk, Hash)> {
        self.has_data(&data).then_some(())?;
        let data = Bytes::from(data);
        let mut at = 0;
        let column = |bytes: &u32| {
            let from = at;
            at += *bytes as usize;
            data.slice(from..at)
        };
        let columns = self.column_bytes.iter().map(column).collect();
        Some((
            Chunk {
                header: self.header,
                digest: self.digest,
                columns,
            },
            self.digest_before,
        ))
    }
}

/// Of a chunk's columns, one after the other.
pub(super) fn data_hash(data: &[u8]) -> u64 {
    xxh3_64(data)
}

/// What a stream is; rewritten only to relabel a file's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Described {
    pub(super) definition: StreamDefinition,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) run: String,
}

impl Described {
    pub(super) fn to_value(&self, key: &[u8]) -> Vec<u8> {
        let message = StreamMessage {
            definition: wire::definition_to_wire(&self.definition),
            labels: self.labels.clone(),
            run: self.run.clone(),
        };
        sealed(key, &message)
    }

    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Option<Self> {
        let message: StreamMessage = unsealed(key, value)?;
        let definition = wire::definition_from_wire(message.definition).ok()?;
        definition.validate().ok()?;
        Some(Self {
            definition,
            labels: message.labels,
            run: message.run,
        })
    }
}

/// Who this outbox is, and whose ledger it feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) agent_id: AgentId,
    pub(super) ledger_id: Option<LedgerId>,
    /// The highest of that ledger that it has met; 0 before the first.
    pub(super) generation: u64,
}

impl Identity {
    /// Of an outbox of which nothing tells who it is: only to look at it.
    pub(super) fn lost() -> Self {
        Self {
            agent_id: AgentId::default(),
            ledger_id: None,
            generation: 0,
        }
    }

    pub(super) fn to_value(self, key: &[u8]) -> Vec<u8> {
        let ledger_id = self.ledger_id.map_or_else(Vec::new, LedgerId::to_vec);
        sealed(
            key,
            &IdentityMessage {
                agent_id: self.agent_id.to_vec(),
                ledger_id,
                generation: self.generation,
            },
        )
    }

    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Option<Self> {
        let message: IdentityMessage = unsealed(key, value)?;
        let ledger_id = match message.ledger_id.as_slice() {
            [] => None,
            bytes => Some(LedgerId::from_slice(bytes).ok()?),
        };
        Some(Self {
            agent_id: AgentId::from_slice(&message.agent_id).ok()?,
            ledger_id,
            generation: message.generation,
        })
    }
}

/// The version's value. Its form is the same in every version, or no version could refuse another.
pub(super) fn version_to_value(key: &[u8], version: u32) -> Vec<u8> {
    sealed(key, &VersionMessage { version })
}

/// The reverse.
pub(super) fn version_from_value(key: &[u8], value: &[u8]) -> Option<u32> {
    unsealed::<VersionMessage>(key, value).map(|message| message.version)
}
