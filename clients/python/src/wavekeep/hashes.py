"""Every hash of the protocol that a reader needs, byte by byte as docs/PROTOCOL.md specifies them.

XXH3-128, as 16 bytes big-endian. Integers are little-endian; text, bytes and lists are preceded by their length as u32; hashes and
ids are 16 raw bytes. Each input starts with a domain byte. Pure: no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from xxhash import xxh3_128, xxh3_128_digest

from wavekeep.v1 import stream_pb2

_U32 = struct.Struct("<I")
_COLUMN = struct.Struct("<BHBI")
_ABSENT_COLUMN = struct.Struct("<BHH")
_CHUNK = struct.Struct("<BBHQQQQqI")
_MARKER = struct.Struct("<QHBdB")


def _bytes(content: bytes) -> bytes:
    return _U32.pack(len(content)) + content


def _text(text: str) -> bytes:
    return _bytes(text.encode())


def column_hash(signal: int, sample_type: int, count: int, raw: bytes | memoryview) -> bytes:
    """Of a present column: its samples, decoded, raw little-endian. `raw` is contiguous."""
    state = xxh3_128(_COLUMN.pack(0x01, signal, sample_type, count))
    state.update(raw)
    return state.digest()


def absent_column_hash(signal: int, reason: int) -> bytes:
    """Of an absent column."""
    return xxh3_128_digest(_ABSENT_COLUMN.pack(0x02, signal, reason))


def chunk_hash(header: stream_pb2.ChunkHeader) -> bytes:
    """Of a chunk: its header, which was checked, with its markers and its columns' hashes."""
    markers, columns = header.markers, header.columns
    parts = [
        _CHUNK.pack(
            0x03,
            header.kind,
            header.reason,
            header.first_seq,
            header.seq,
            header.first_sample,
            header.count,
            header.utc_ns,
            len(markers),
        )
    ]
    for marker in markers:
        parts.append(_MARKER.pack(marker.sample, marker.kind, marker.group, marker.y, marker.format))
        parts.append(_bytes(marker.content))
    parts.append(len(columns).to_bytes(2, "little"))
    for column in columns:
        is_absent = column.absent_reason != 0
        parts.append(absent_column_hash(column.signal, column.absent_reason) if is_absent else column.hash)
    return xxh3_128_digest(b"".join(parts))


def _signals(signals: Sequence[stream_pb2.Signal]) -> Iterable[bytes]:
    yield _U32.pack(len(signals))
    for signal in signals:
        yield signal.number.to_bytes(2, "little") + _text(signal.name) + bytes([signal.sample_type])
        yield _text(signal.unit) + bytes([signal.finite_only])


def definition_hash(definition: stream_pb2.StreamDefinition) -> bytes:
    """Of a stream's definition, which was checked: digest 0."""
    predecessor = b"\x00"
    if definition.HasField("predecessor"):
        before = definition.predecessor
        predecessor = b"\x01" + before.stream_id + before.seq.to_bytes(8, "little")
    parts = [
        b"\x04",
        definition.stream_id,
        _text(definition.device),
        definition.epoch,
        _bytes(definition.file_identity),
        predecessor,
        struct.pack("<dQ", definition.rate_hz, definition.first_sample),
        *_signals(definition.signals),
        _U32.pack(len(definition.attributes)),
    ]
    # Sorted as bytes, which is how UTF-8 sorts code points.
    for name in sorted(definition.attributes):
        parts += [_text(name), _text(definition.attributes[name])]
    return xxh3_128_digest(b"".join(parts))


def next_digest(before: bytes, chunk: bytes) -> bytes:
    """The digest after a chunk: chained, so that it stands for all before it too."""
    return xxh3_128_digest(b"\x05" + before + chunk)


def frame_hash(header: bytes, digest: bytes, columns: Sequence[bytes]) -> bytes:
    """Of a chunk as it travels. It alone tells damage on the way from what is intact but unacceptable."""
    state = xxh3_128(b"\x06" + _bytes(header) + digest + _U32.pack(len(columns)))
    for column in columns:
        state.update(_U32.pack(len(column)))
        state.update(column)
    return state.digest()
