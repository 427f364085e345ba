"""What an answer says about itself at its end, held against what came. Pure: no I/O.

A server names the gaps of an answer in manifests of their own when they become many; such a one has no digest. The last part of an
answer is the manifest with the digests of every stream, and the gaps not yet named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wavekeep import errors
from wavekeep.drawn import DrawnCheck
from wavekeep.reasons import Reason
from wavekeep.stream import Stream
from wavekeep.v1 import query_pb2
from wavekeep.verify import StreamCheck


@dataclass(frozen=True, slots=True)
class StreamManifest:
    """What was answered of a stream; every number was checked against what came."""

    from_sample: int
    to_sample: int
    sample_count: int
    gap_sample_count: int
    first_seq: int
    last_seq: int
    digest_before: bytes | None
    """None where retention has removed the row that held it: then the chain is proven from the first chunk on."""
    digest: bytes
    chunks: int
    """0 of what was drawn."""


def is_last(manifest: query_pb2.Manifest) -> bool:
    """Or does it only name gaps?"""
    return all(stream.digest for stream in manifest.streams)


def is_continued(stream: str, seq: int, streams: Iterable[Stream]) -> bool:
    """Does one of the streams continue another after this seq? Then the other is read up to there."""
    return any(other.predecessor == (stream, seq) for other in streams)


def _same(stream: str, what: str, stated: object, found: object) -> None:
    if stated != found:
        show = [value.hex() if isinstance(value, bytes) else value for value in (stated, found)]
        fault = f"the manifest does not agree with what came: {what} is {show[0]} there, and {show[1]} here"
        raise errors.ManifestWrong(stream, fault)


def take_gaps(check: StreamCheck, drawn: DrawnCheck | None, stated: Sequence[query_pb2.Gap]) -> None:
    """Every gap that the manifest names came, in order. Of columns, the manifest is what names them."""
    if drawn is not None and check.chunks == 0:
        drawn.take_gaps(stated)
        return
    for wire in stated:
        reason = Reason(wire.reason) if wire.reason in Reason._value2member_map_ else "unknown"
        found = check.gaps_pending.popleft() if check.gaps_pending else None
        as_found = (found.first_sample, found.count, found.reason, list(found.signals)) if found else None
        _same(check.stream.id, "a gap", (wire.first_sample, wire.count, reason, list(wire.signals)), as_found)


def _check_range(check: StreamCheck, from_ns: int | None, to_ns: int | None) -> None:
    """The first chunk is cut to where the range asked for starts, and the last one to where it ends."""
    if check.extents is None or check.cut is None:
        return
    (first, last), (start, end), rate_hz = check.extents, check.cut, check.stream.rate_hz
    if start != (first.first_sample if from_ns is None else first.sample_at(rate_hz, from_ns)):
        fault = "starts with another sample"
    elif to_ns is not None and last.utc_ns >= to_ns:
        fault = "goes on after its end"
    elif end != (last.end_sample if to_ns is None else last.sample_at(rate_hz, to_ns)):
        fault = "ends with another sample"
    else:
        return
    raise errors.RangeWrong(check.stream.id, f"the answer is not that of the time asked for: it {fault}")


def check_samples(check: StreamCheck, stated: query_pb2.StreamManifest, from_ns: int | None, to_ns: int | None) -> StreamManifest:
    """Holds the last manifest against the chunks of a stream."""
    stream, (start, end) = check.stream, check.cut or (0, 0)
    first_seq = check.first.first_seq if check.first else 0
    last_seq, digest = (check.last.seq, check.last.digest) if check.last else (0, bytes(16))
    for what, there, here in (
        ("the first sample", stated.from_sample, start),
        ("the end of the range", stated.to_sample, end),
        ("the number of samples", stated.sample_count, check.sample_count),
        ("the number of missing samples", stated.gap_sample_count, check.gap_sample_count),
        ("the number of chunks", stated.chunks, check.chunks),
        ("the first seq", stated.first_seq, first_seq),
        ("the last seq", stated.last_seq, last_seq),
        ("the digest", stated.digest, digest),
    ):
        _same(stream.id, what, there, here)
    if stream.watermark == last_seq:
        _same(stream.id, "the digest at the watermark", stream.digest, digest)
    _check_range(check, from_ns, to_ns)
    _same(stream.id, "the number of gaps", 0, len(check.gaps_pending))
    before: bytes | None = stated.digest_before
    if not before:
        # The definition is known, whatever the manifest says.
        before = stream.digest_zero if first_seq == 1 else None
    if before is not None and not check.follows(before):
        fault = f"I14: the digest at seq {first_seq} does not follow from the chunks before it"
        raise errors.DigestBroken(stream.id, fault, seq=first_seq)
    return _manifest(stated, before)


def _manifest(stated: query_pb2.StreamManifest, digest_before: bytes | None) -> StreamManifest:
    return StreamManifest(
        from_sample=stated.from_sample,
        to_sample=stated.to_sample,
        sample_count=stated.sample_count,
        gap_sample_count=stated.gap_sample_count,
        first_seq=stated.first_seq,
        last_seq=stated.last_seq,
        digest_before=digest_before,
        digest=stated.digest,
        chunks=stated.chunks,
    )


def check_drawn(drawn: DrawnCheck, stated: query_pb2.StreamManifest, from_ns: int | None, to_ns: int | None) -> StreamManifest:
    """Holds the last manifest against the columns of a stream."""
    stream, start, end = drawn.stream, stated.from_sample, stated.to_sample
    _same(stream.id, "the order of the range", start <= end, True)
    drawn.check_counts(start, end)
    counted = stated.sample_count + stated.gap_sample_count
    _same(stream.id, "the number of samples, stored and missing", counted, end - start)
    if drawn.missing > stated.gap_sample_count:
        _same(stream.id, "the number of missing samples", stated.gap_sample_count, drawn.missing)
    inside = all(start <= gap.first_sample and gap.to_sample <= end for gap in drawn.gaps)
    _same(stream.id, "whether the gaps lie in the range", inside, True)
    _same(stream.id, "the number of chunks", stated.chunks, 0)
    known = 0 < stated.first_seq <= stated.last_seq <= stream.watermark
    _same(stream.id, "whether its seqs are some of the stream's", known, True)
    if stated.last_seq == stream.watermark:
        _same(stream.id, "the digest at the watermark", stated.digest, stream.digest)
        if to_ns is None:
            _same(stream.id, "the end of the range", end, stream.next_sample)
    if stated.first_seq == 1:
        if from_ns is None:
            _same(stream.id, "the first sample", start, stream.first_sample)
        if stated.digest_before:
            _same(stream.id, "the digest before seq 1", stated.digest_before, stream.digest_zero)
    before: bytes | None = stated.digest_before
    if not before:
        before = stream.digest_zero if stated.first_seq == 1 else None
    return _manifest(stated, before)
