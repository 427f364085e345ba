"""The rules of a chunk's header, apart from whether it follows the chunk before it. Pure.

The answer to a rule that is broken is a sentence; None where all hold.
"""

from __future__ import annotations

from wavekeep import limits
from wavekeep.codec import ENCODINGS
from wavekeep.reasons import Reason
from wavekeep.stream import Stream
from wavekeep.v1 import stream_pb2

SAMPLES = stream_pb2.CHUNK_KIND_SAMPLES
GAP = stream_pb2.CHUNK_KIND_GAP
END = stream_pb2.CHUNK_KIND_END


def is_replacing(header: stream_pb2.ChunkHeader) -> bool:
    """Is it a gap that stands for captured chunks?"""
    return header.kind == GAP and Reason(header.reason).is_replacing


def unknown(header: stream_pb2.ChunkHeader) -> str | None:
    """What in it this version does not know, or cannot hash."""
    if header.kind not in (SAMPLES, GAP, END):
        return f"chunk kind {header.kind} is unknown"
    if header.reason not in Reason._value2member_map_:
        return f"reason {header.reason} is unknown"
    for column in header.columns:
        wrong = _unknown_column(column)
        if wrong is not None:
            return wrong
    for marker in header.markers:
        if marker.format not in (1, 2, 3):
            return f"marker format {marker.format} is unknown"
        if marker.kind >= 1 << 16 or marker.group >= 1 << 8:
            return "a marker's kind or group is too large"
    return None


def _unknown_column(column: stream_pb2.ColumnHeader) -> str | None:
    if column.signal >= 1 << 16:
        return "a signal's number is above 65535"
    if column.absent_reason != 0:
        if column.encoding != 0 or column.hash:
            return "a column is absent and present"
        return None if column.absent_reason in Reason._value2member_map_ else f"reason {column.absent_reason} is unknown"
    if column.encoding not in ENCODINGS:
        return f"encoding {column.encoding} is unknown"
    return None if len(column.hash) == 16 else "a column's hash is not 16 bytes"


def uncountable(header: stream_pb2.ChunkHeader) -> str | None:
    """What even a quarantined header keeps to: numbers that can be counted on from."""
    if header.first_seq == 0 or not header.first_seq <= header.seq <= limits.SEQ_MAX:
        return f"seq {header.seq} does not follow first seq {header.first_seq}"
    if max(header.first_sample, header.count) > limits.SAMPLE_ID_MAX:
        return f"a chunk of {header.count} samples at this place is not allowed"
    if len(header.columns) > limits.SIGNALS_MAX:
        return "the columns are not those of the stream's signals"
    return None


def broken(header: stream_pb2.ChunkHeader, stream: Stream) -> str | None:
    """The rules that need nothing but the definition."""
    reason = Reason(header.reason)
    kind, count = header.kind, header.count
    if header.seq > header.first_seq and not is_replacing(header):
        return f"seq {header.seq} stands for several chunks without replacing them"
    fits = {
        SAMPLES: reason is Reason.NONE,
        GAP: reason.is_replacing or reason.is_source_gap,
        END: reason.is_end,
    }
    if not fits[kind]:
        return f"{reason} does not go with this kind of chunk"
    first, last = header.first_sample, header.first_sample + count - 1
    block = limits.CHUNK_SAMPLES_MAX
    allowed = {
        SAMPLES: count > 0 and first // block == last // block,
        GAP: count > 0 or is_replacing(header),
        END: count == 0,
    }
    if first + count > limits.SAMPLE_ID_MAX or not allowed[kind]:
        return f"a chunk of {count} samples at this place is not allowed"
    numbers = [signal.number for signal in stream.signals] if kind == SAMPLES else []
    if [column.signal for column in header.columns] != numbers:
        return "the columns are not those of the stream's signals"
    for column in header.columns:
        if column.absent_reason and not Reason(column.absent_reason).is_source_gap:
            return f"{Reason(column.absent_reason)} does not go with an absent column"
    outside = any(not first <= marker.sample <= first + count for marker in header.markers)
    too_many = len(header.markers) > limits.MARKERS_MAX and not is_replacing(header)
    too_long = sum(len(marker.content) for marker in header.markers) > limits.MARKER_BYTES_MAX
    if outside or too_many or too_long:
        return "the markers are too many, too long, or outside of the chunk"
    return None
