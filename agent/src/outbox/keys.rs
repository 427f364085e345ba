//! Every key of the outbox, in one place: a prefix byte, then the stream's id, then the seq, big-endian so that keys sort as
//! streams and seqs do.
//!
//! | prefix | key | value |
//! |---|---|---|
//! | 1 | item u8 | the outbox itself: format version, identity |
//! | 2 | stream | what a stream is: its definition, labels and run |
//! | 3 | stream | where it stands: base and tail, `to_end`, successor, the `acked` hint, counters |
//! | 4 | stream, seq | what a chunk is: its header, digests and sizes, without its columns |
//! | 5 | stream, seq | the chunk's encoded columns |
//! | 6 | none | the identity again, away from the first one |
//! | 7 | none | the format version again; where it is, every definition is there twice |
//! | 8 | stream | what a stream is, again: the first ones lie in one block, which one flipped bit makes unreadable |
//!
//! A chunk and its columns are apart, so that eviction and release delete the bulk and that reading the small part is cheap.
//! A record that stands for several seqs has the key of its last one: the first record that ends after a seq is one seek.

use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits::SEQ_MAX;

/// The first byte of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Prefix {
    Outbox = 1,
    Definition = 2,
    State = 3,
    Chunk = 4,
    Data = 5,
    IdentityCopy = 6,
    VersionCopy = 7,
    DefinitionCopy = 8,
}

const STREAM_ID_BYTES: usize = size_of::<StreamId>();
const SEQ_BYTES: usize = size_of::<u64>();
/// Of a stream's definition or state.
const STREAM_KEY_BYTES: usize = 1 + STREAM_ID_BYTES;
/// Of a chunk or its data.
const CHUNK_KEY_BYTES: usize = STREAM_KEY_BYTES + SEQ_BYTES;

// The layout on disk: it never changes within a format version.
const _: () = assert!(STREAM_KEY_BYTES == 17);
const _: () = assert!(CHUNK_KEY_BYTES == 25);
const _: () = assert!(size_of::<Prefix>() == 1);
// One past the last seq is still a key.
const _: () = assert!(SEQ_MAX < u64::MAX);

/// Key of a stream's definition or state.
pub(super) type StreamKey = [u8; STREAM_KEY_BYTES];
/// Key of a chunk or its data.
pub(super) type ChunkKey = [u8; CHUNK_KEY_BYTES];

/// The format version.
pub(super) const VERSION: [u8; 2] = [Prefix::Outbox as u8, 0];
/// The identity.
pub(super) const IDENTITY: [u8; 2] = [Prefix::Outbox as u8, 1];
/// The identity, again.
pub(super) const IDENTITY_COPY: [u8; 1] = [Prefix::IdentityCopy as u8];
/// The format version, again.
pub(super) const VERSION_COPY: [u8; 1] = [Prefix::VersionCopy as u8];
/// Every copy of a definition lies from here…
pub(super) const DEFINITION_COPIES_FROM: [u8; 1] = [Prefix::DefinitionCopy as u8];
/// … to here (excluded).
pub(super) const DEFINITION_COPIES_END: [u8; 1] = [Prefix::DefinitionCopy as u8 + 1];
/// Every definition lies from here…
pub(super) const DEFINITIONS_FROM: [u8; 1] = [Prefix::Definition as u8];
/// … to here (excluded).
pub(super) const DEFINITIONS_END: [u8; 1] = [Prefix::Definition as u8 + 1];
/// Every state lies from here…
pub(super) const STATES_FROM: [u8; 1] = [Prefix::State as u8];
/// … to here (excluded).
pub(super) const STATES_END: [u8; 1] = [Prefix::State as u8 + 1];
/// Every key lies from here…
pub(super) const ALL_FROM: [u8; 1] = [0];
/// … to here (excluded).
pub(super) const ALL_END: [u8; 1] = [u8::MAX];

fn stream_key(prefix: Prefix, stream: StreamId) -> StreamKey {
    let mut key = [0; STREAM_KEY_BYTES];
    key[0] = prefix as u8;
    key[1..].copy_from_slice(stream.as_bytes());
    key
}

fn chunk_key(prefix: Prefix, stream: StreamId, seq: u64) -> ChunkKey {
    let mut key = [0; CHUNK_KEY_BYTES];
    key[..STREAM_KEY_BYTES].copy_from_slice(&stream_key(prefix, stream));
    key[STREAM_KEY_BYTES..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Of what a stream is.
pub(super) fn definition(stream: StreamId) -> StreamKey {
    stream_key(Prefix::Definition, stream)
}

/// Of the same, again.
pub(super) fn definition_copy(stream: StreamId) -> StreamKey {
    stream_key(Prefix::DefinitionCopy, stream)
}

/// Of where it stands.
pub(super) fn state(stream: StreamId) -> StreamKey {
    stream_key(Prefix::State, stream)
}

/// Of a chunk that ends at `seq`.
pub(super) fn chunk(stream: StreamId, seq: u64) -> ChunkKey {
    chunk_key(Prefix::Chunk, stream, seq)
}

/// Of its columns.
pub(super) fn data(stream: StreamId, seq: u64) -> ChunkKey {
    chunk_key(Prefix::Data, stream, seq)
}

fn stream_of(prefix: Prefix, key: &[u8]) -> Option<StreamId> {
    let key = StreamKey::try_from(key).ok()?;
    (key[0] == prefix as u8).then_some(())?;
    StreamId::from_slice(&key[1..]).ok()
}

/// The stream of a definition's key.
pub(super) fn stream_of_definition(key: &[u8]) -> Option<StreamId> {
    stream_of(Prefix::Definition, key)
}

/// The stream of a copy's key.
pub(super) fn stream_of_definition_copy(key: &[u8]) -> Option<StreamId> {
    stream_of(Prefix::DefinitionCopy, key)
}

/// The stream of a state's key.
pub(super) fn stream_of_state(key: &[u8]) -> Option<StreamId> {
    stream_of(Prefix::State, key)
}

/// The seq of a chunk's key.
pub(super) fn seq_of_chunk(key: &[u8]) -> Option<u64> {
    let key = ChunkKey::try_from(key).ok()?;
    (key[0] == Prefix::Chunk as u8).then_some(())?;
    Some(u64::from_be_bytes(key[STREAM_KEY_BYTES..].try_into().ok()?))
}

/// Is it the key of a chunk's columns? RocksDB's own look at a damaged store asks.
#[cfg(any(test, feature = "rocksdb"))]
pub(super) fn is_data(key: &[u8]) -> bool {
    key.len() == CHUNK_KEY_BYTES && key[0] == Prefix::Data as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_stream() -> impl Strategy<Value = StreamId> {
        prop_oneof![any::<[u8; 16]>(), Just([0; 16]), Just([0xff; 16])].prop_map(StreamId)
    }

    fn any_seq() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, 250..260u64, 65_530..65_540u64, 0..=SEQ_MAX, Just(SEQ_MAX)]
    }

    proptest! {
        #[test]
        fn keys_round_trip(stream in any_stream(), seq in any_seq()) {
            prop_assert_eq!(stream_of_definition(&definition(stream)), Some(stream));
            prop_assert_eq!(stream_of_definition_copy(&definition_copy(stream)), Some(stream));
            prop_assert_eq!(stream_of_definition(&definition_copy(stream)), None);
            prop_assert_eq!(seq_of_chunk(&chunk(stream, seq)), Some(seq));
            prop_assert_eq!(stream_of_state(&state(stream)), Some(stream));
            prop_assert_eq!((stream_of_definition(&state(stream)), stream_of_state(&definition(stream))), (None, None));
            prop_assert_eq!(seq_of_chunk(&data(stream, seq)), None);
            prop_assert!(is_data(&data(stream, seq)) && !is_data(&chunk(stream, seq)));
        }

        #[test]
        fn keys_sort_as_streams_and_seqs_do(a in (any_stream(), any_seq()), b in (any_stream(), any_seq())) {
            prop_assert_eq!(chunk(a.0, a.1).cmp(&chunk(b.0, b.1)), a.cmp(&b));
            prop_assert_eq!(data(a.0, a.1).cmp(&data(b.0, b.1)), a.cmp(&b));
            prop_assert!(chunk(a.0, a.1) < data(b.0, b.1));
            prop_assert!(definition(a.0) < state(b.0) && state(a.0)[..] < chunk(b.0, b.1)[..]);
            prop_assert!(definition(a.0)[..] >= DEFINITIONS_FROM[..] && definition(a.0)[..] < DEFINITIONS_END[..]);
            prop_assert!(state(a.0)[..] >= STATES_FROM[..] && state(a.0)[..] < STATES_END[..]);
            prop_assert!(ALL_FROM[..] < VERSION[..] && data(a.0, a.1)[..] < IDENTITY_COPY[..] && IDENTITY_COPY < ALL_END);
            prop_assert!(IDENTITY_COPY < VERSION_COPY && VERSION_COPY < DEFINITION_COPIES_FROM);
            prop_assert!(definition_copy(a.0)[..] >= DEFINITION_COPIES_FROM[..] && definition_copy(a.0)[..] < DEFINITION_COPIES_END[..]);
            prop_assert!(DEFINITION_COPIES_END < ALL_END);
        }

        #[test]
        fn other_bytes_are_no_keys(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if bytes.len() != CHUNK_KEY_BYTES || bytes[0] != 4 {
                prop_assert_eq!(seq_of_chunk(&bytes), None);
            }
            if bytes.len() != STREAM_KEY_BYTES || bytes[0] != 2 {
                prop_assert_eq!(stream_of_definition(&bytes), None);
            }
        }
    }
}
