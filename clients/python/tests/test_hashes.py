"""The hashes of docs/protocol-vectors.txt, which promises them to other languages."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from xxhash import xxh3_128_digest

from tests.support.lab import TREE
from wavekeep import hashes
from wavekeep.reasons import Reason
from wavekeep.v1 import stream_pb2

NAN = struct.unpack("<d", bytes.fromhex("000000000000f87f"))[0]


def vectors() -> dict[str, tuple[bytes, bytes]]:
    lines = (TREE / "docs/protocol-vectors.txt").read_text().splitlines()
    found = [line.split() for line in lines if not line.startswith("#")]
    return {name: (bytes.fromhex(given), bytes.fromhex(digest)) for name, given, digest in found}


def definition() -> stream_pb2.StreamDefinition:
    return stream_pb2.StreamDefinition(
        stream_id=bytes(range(16)),
        device="µCurrent-1",
        epoch=b"\xee" * 16,
        file_identity=bytes([1, 2, 3]),
        predecessor=stream_pb2.Predecessor(stream_id=b"\xab" * 16, seq=41),
        rate_hz=1e6,
        first_sample=1 << 33,
        signals=[
            stream_pb2.Signal(number=0, name="current", sample_type=stream_pb2.SAMPLE_TYPE_F32, unit="A"),
            stream_pb2.Signal(number=3, name="gpi", sample_type=stream_pb2.SAMPLE_TYPE_U1, finite_only=True),
        ],
        attributes={"serial": "000415", "model": "JS220"},
    )


def header() -> stream_pb2.ChunkHeader:
    return stream_pb2.ChunkHeader(
        kind=stream_pb2.CHUNK_KIND_SAMPLES,
        first_seq=7,
        seq=7,
        first_sample=65_536,
        count=9,
        utc_ns=-1,
        markers=[stream_pb2.Marker(sample=65_540, kind=1, group=2, y=-0.5, format=stream_pb2.MARKER_FORMAT_TEXT, content=b"boot")],
        columns=[
            stream_pb2.ColumnHeader(signal=0, encoding=stream_pb2.ENCODING_PLAIN, hash=b"\x11" * 16),
            stream_pb2.ColumnHeader(signal=3, absent_reason=stream_pb2.REASON_SIGNAL_OFF),
        ],
    )


def bare(kind: Any, reason: Any, first_seq: int, seq: int, count: int) -> stream_pb2.ChunkHeader:
    return stream_pb2.ChunkHeader(
        kind=kind,
        reason=reason,
        first_seq=first_seq,
        seq=seq,
        first_sample=65_545,
        count=count,
        utc_ns=1_795_392_000_000_000_000,
    )


def test_every_hash_is_that_of_the_page() -> None:
    samples = struct.pack("<ff", 1.5, -0.0) + bytes.fromhex("3412c07f")
    digest = hashes.next_digest(hashes.definition_hash(definition()), hashes.chunk_hash(header()))
    first = definition()
    first.ClearField("predecessor")
    evicted = bare(stream_pb2.CHUNK_KIND_GAP, stream_pb2.REASON_EVICTED, 8, 12, 65_536)
    for sample, form, content in ((65_545, 2, b"{}"), (131_080, 3, b"\xff")):
        evicted.markers.add(sample=sample, kind=0x0102, y=NAN, format=form, content=content)
    gap = bare(stream_pb2.CHUNK_KIND_GAP, stream_pb2.REASON_SOURCE_LOSS, 8, 8, 100)
    end = bare(stream_pb2.CHUNK_KIND_END, stream_pb2.REASON_CLOSED, 13, 13, 0)
    made = {
        "column": hashes.column_hash(0, 1, 3, samples),
        "column_packed": hashes.column_hash(3, 12, 9, bytes([0b1010_0101, 1])),
        "absent_column": hashes.absent_column_hash(3, Reason.SIGNAL_OFF),
        "chunk": hashes.chunk_hash(header()),
        "definition": hashes.definition_hash(definition()),
        "digest": digest,
        "frame": hashes.frame_hash(b"\xca\xfe", digest, [bytes([9, 8, 7])]),
        "definition_without_predecessor": hashes.definition_hash(first),
        "gap": hashes.chunk_hash(gap),
        "replacing_gap_with_markers": hashes.chunk_hash(evicted),
        "end": hashes.chunk_hash(end),
    }
    expected = vectors()
    # Agents alone hash control frames and files.
    agents = {"control_frame", "file_stream", "file_epoch"}
    assert {name: digest.hex() for name, digest in made.items()} == {
        name: digest.hex() for name, (_, digest) in expected.items() if name not in agents
    }
    for name, (given, stated) in expected.items():
        assert xxh3_128_digest(given) == stated, name


def test_an_array_is_hashed_as_its_bytes() -> None:
    samples = np.array([1.5, -0.0], "<f4")
    assert hashes.column_hash(0, 1, 2, samples.data) == hashes.column_hash(0, 1, 2, samples.tobytes())
