"""Checks one stream of an answer, chunk by chunk. Pure: no I/O.

# Invariants
- I14: the digest of every chunk follows from the one before it; the first from `digest_before` of the manifest, or from the
  definition where the answer starts with seq 1. A replacing gap carries the digest of what it replaces.
- I4: a chunk starts at the seq and the sample where the one before it ended, and the cuts of the chunks tile the range.
- I12: gaps wait for their manifest in a queue of at most `limits.GAPS_PENDING_MAX`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError

from wavekeep import errors, headers, limits
from wavekeep.hashes import chunk_hash, frame_hash, next_digest
from wavekeep.listing import Gap
from wavekeep.reasons import Reason
from wavekeep.stream import Stream
from wavekeep.time_axis import duration_ns, sample_at
from wavekeep.v1 import query_pb2, stream_pb2


class Extent(NamedTuple):
    """The samples of a chunk, and when they were taken."""

    first_sample: int
    end_sample: int
    utc_ns: int

    def sample_at(self, rate_hz: float, time_ns: int) -> int:
        """The first sample that was taken at or after a time; the end where none was."""
        return sample_at(self.first_sample, self.end_sample, self.utc_ns, rate_hz, time_ns)


class First(NamedTuple):
    """The first chunk, whose place in the chain the manifest will prove."""

    first_seq: int
    hash: bytes
    digest: bytes
    is_replacing: bool


class Last(NamedTuple):
    """Where the answer stands after a chunk."""

    seq: int
    end_sample: int
    digest: bytes


class Present(NamedTuple):
    """A column that was asked for and carries samples."""

    place: int
    encoding: int
    hash: bytes
    encoded: bytes


@dataclass(slots=True)
class Accepted:
    """A chunk whose header and place are proven; its samples are not decoded yet."""

    header: stream_pb2.ChunkHeader
    from_sample: int
    to_sample: int
    quarantined: bool
    columns: Sequence[bytes]
    present: list[Present] = field(default_factory=list)
    """Of the signals asked for."""
    gaps: list[Gap] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Samples of the axis, within the cut."""
        return self.to_sample - self.from_sample

    @property
    def has_samples(self) -> bool:
        """Is it no gap, no end and not in quarantine?"""
        return self.header.kind == headers.SAMPLES and not self.quarantined


class StreamCheck:
    """What came of a stream so far."""

    def __init__(self, stream: Stream, asked: Sequence[int]) -> None:
        self.stream = stream
        self.asked = list(asked)
        """The signals asked for, as places in the definition."""
        self.first: First | None = None
        self.last: Last | None = None
        self.extents: tuple[Extent, Extent] | None = None
        """Of the first and of the last chunk."""
        self.cut: tuple[int, int] | None = None
        """Samples cut out so far: from, to."""
        self.sample_count = 0
        self.gap_sample_count = 0
        self.chunks = 0
        self.gaps_pending: deque[Gap] = deque()

    def follows(self, digest_before: bytes) -> bool:
        """Does the first chunk follow from this digest?"""
        first = self.first
        return first is None or first.is_replacing or next_digest(digest_before, first.hash) == first.digest

    def take(self, wire: query_pb2.WaveformChunk) -> Accepted:
        """Takes the next chunk and its gaps in."""
        # Each look at them copies their bytes.
        columns = list(wire.chunk.columns)
        header = self._intact(wire.chunk, columns)
        wrong = headers.uncountable(header)
        if wrong is None and not wire.quarantined:
            wrong = headers.broken(header, self.stream)
        if wrong is not None:
            fault = f"the header of seq {header.seq} is wrong: {wrong}"
            raise errors.HeaderWrong(self.stream.id, fault, seq=header.seq)
        chunk = Accepted(header, wire.from_sample, wire.to_sample, wire.quarantined, columns)
        self._link(header, wire.chunk.digest)
        self._cut(chunk)
        self._count(chunk)
        if len(self.gaps_pending) > limits.GAPS_PENDING_MAX:
            raise errors.ManifestWrong(self.stream.id, "the answer names too few of its gaps", seq=header.seq)
        return chunk

    def _intact(self, chunk: stream_pb2.Chunk, columns: Sequence[bytes]) -> stream_pb2.ChunkHeader:
        after = self.last.seq if self.last else 0
        if frame_hash(chunk.header, chunk.digest, columns) != chunk.frame_hash:
            fault = f"the frame hash of the chunk after seq {after} does not match its bytes"
            raise errors.FrameDamaged(self.stream.id, fault, seq=after + 1)
        header = stream_pb2.ChunkHeader()
        try:
            header.ParseFromString(chunk.header)
            wrong = headers.unknown(header) if len(chunk.digest) == 16 else "the digest is not 16 bytes"
        except DecodeError:
            wrong = "it does not parse"
        if wrong is not None:
            fault = f"the header of the chunk after seq {after} is unusable: {wrong}"
            raise errors.HeaderWrong(self.stream.id, fault, seq=after + 1)
        return header

    def _link(self, header: stream_pb2.ChunkHeader, digest: bytes) -> None:
        """I14 and I4: it continues the chunk before."""
        seq, stream = header.seq, self.stream
        replaces, own_hash = headers.is_replacing(header), chunk_hash(header)
        before = self.last
        if before is None and header.first_seq == 1:
            before = Last(0, stream.first_sample, stream.digest_zero)
        if before is not None:
            if header.first_seq != before.seq + 1:
                fault = f"a chunk is missing: after seq {before.seq} comes seq {header.first_seq}"
                raise errors.ChunkMissing(stream.id, fault, seq=before.seq + 1)
            if header.first_sample != before.end_sample:
                fault = (
                    f"I4: seq {seq} starts at sample {header.first_sample}, not at {before.end_sample} where the one before ended"
                )
                raise errors.TilingBroken(stream.id, fault, seq=seq)
            if not replaces and next_digest(before.digest, own_hash) != digest:
                fault = f"I14: the digest at seq {seq} does not follow from the chunks before it"
                raise errors.DigestBroken(stream.id, fault, seq=seq)
        if self.first is None:
            self.first = First(header.first_seq, own_hash, digest, replaces)
        extent = Extent(header.first_sample, header.first_sample + header.count, header.utc_ns)
        self.extents = (self.extents[0] if self.extents else extent, extent)
        self.last = Last(seq, extent.end_sample, digest)
        self.chunks += 1

    def _cut(self, chunk: Accepted) -> None:
        """The cut lies in the chunk and starts where the cut before it ended."""
        first, count = chunk.header.first_sample, chunk.header.count
        inside = first <= chunk.from_sample <= chunk.to_sample <= first + count
        tiles = self.cut is None or self.cut[1] == chunk.from_sample
        if not inside or not tiles:
            seq = chunk.header.seq
            raise errors.CutWrong(self.stream.id, f"the range that seq {seq} is cut to leaves samples out", seq=seq)
        self.cut = (self.cut[0] if self.cut else chunk.from_sample, chunk.to_sample)

    def _count(self, chunk: Accepted) -> None:
        header = chunk.header
        present: list[tuple[int, stream_pb2.ColumnHeader]] = []
        if chunk.has_samples:
            present = [(place, header.columns[place]) for place in self.asked if not header.columns[place].absent_reason]
        if len(chunk.columns) != len(present):
            fault = f"seq {header.seq} came with {len(chunk.columns)} columns instead of {len(present)}"
            raise errors.ColumnsWrong(self.stream.id, fault, seq=header.seq)
        if present:
            self.sample_count += chunk.count
        else:
            self.gap_sample_count += chunk.count
        # Of an encoding that is no number here, the header was refused.
        columns = zip(present, chunk.columns, strict=True)
        chunk.present = [Present(place, column.encoding, column.hash, encoded) for (place, column), encoded in columns]
        chunk.gaps = self.gaps_of(chunk)
        self.gaps_pending.extend(chunk.gaps)

    def gaps_of(self, chunk: Accepted) -> list[Gap]:
        """What is missing in a chunk, within its cut: all of it, or the signals of each reason."""
        header, absent = chunk.header, dict[Reason, list[str]]()
        if chunk.count == 0 or header.kind == headers.END:
            return []
        if chunk.quarantined:
            return [self._gap(chunk, Reason.QUARANTINED)]
        if header.kind == headers.GAP:
            return [self._gap(chunk, Reason(header.reason))]
        for place in self.asked:
            reason = header.columns[place].absent_reason
            if reason:
                absent.setdefault(Reason(reason), []).append(self.stream.signals[place].name)
        return [self._gap(chunk, reason, names) for reason, names in absent.items()]

    def _gap(self, chunk: Accepted, reason: Reason, signals: Sequence[str] = ()) -> Gap:
        header, rate_hz = chunk.header, self.stream.rate_hz
        return Gap(
            stream=self.stream.id,
            device=self.stream.device,
            first_sample=chunk.from_sample,
            count=chunk.count,
            reason=reason,
            from_ns=header.utc_ns + duration_ns(chunk.from_sample - header.first_sample, rate_hz),
            to_ns=header.utc_ns + duration_ns(chunk.to_sample - header.first_sample, rate_hz),
            signals=tuple(signals),
        )
