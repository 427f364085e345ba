"""Checks what is followed, chunk by chunk, against the chunk before it or against where the caller stood. Pure: no I/O.

# Invariants
- I1: whoever asks again from the cursors misses nothing and gets nothing twice: each chunk comes with where its stream then stands,
  and whoever hands it out moves the cursor.
- I14: nothing is handed out before its hashes were checked. Of a stream's first chunk the digest is checked against the cursor's,
  where that is known.
- I4: it starts at the sample where the cursor stands, where that is known.
- I12: one chunk is held, and a cursor and a definition for each of at most `limits.STREAMS_MAX` streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavekeep import errors, headers, limits
from wavekeep.committed import Committed
from wavekeep.cursors import Cursor
from wavekeep.decoding import decode_chunk
from wavekeep.listing import Marker, marker_from_wire
from wavekeep.reasons import Reason
from wavekeep.selection import admits
from wavekeep.signals import Samples
from wavekeep.stream import Stream, stream_from_wire
from wavekeep.time_axis import Piece, TimeAxis, duration_ns
from wavekeep.v1 import query_pb2, stream_pb2
from wavekeep.verify import Accepted, StreamCheck


class Following:
    """What one answer to `Tail` said so far. The next answer needs a new one, with the same cursors."""

    def __init__(self, selection: query_pb2.Selection, cursors: dict[str, Cursor]) -> None:
        self.cursors = cursors
        """By stream. Moved by whoever hands out what was taken."""
        self.has_begun = False
        self._selection = selection
        self._checks: dict[str, StreamCheck] = {}

    def take(self, part: query_pb2.TailPart) -> tuple[Committed, Cursor] | None:
        """Takes the next part in; if it is a chunk, answers with it and with where its stream stands after it."""
        kind = part.WhichOneof("part")
        if (kind == "start") is self.has_begun:
            raise errors.Malformed("it does not begin with where the streams stand, or begins twice")
        if kind == "start":
            self._take_start(part.start)
        elif kind == "stream":
            self._take_stream(part.stream)
        elif kind == "chunk":
            return self._take_chunk(part.chunk)
        else:
            raise errors.Malformed("an unknown part")
        return None

    def _take_start(self, start: query_pb2.TailStart) -> None:
        if len(start.after) > limits.STREAMS_MAX:
            raise errors.Malformed("more streams than a server allows")
        for wire in start.after:
            if len(wire.stream_id) != 16 or wire.seq > limits.SEQ_MAX:
                raise errors.Malformed("a cursor that is none")
            # What is known here is more than what the server says.
            self.cursors.setdefault(wire.stream_id.hex(), Cursor(wire.seq, wire.digest if len(wire.digest) == 16 else None))
        self.has_begun = True

    def _take_stream(self, info: query_pb2.StreamInfo) -> None:
        stream, names = stream_from_wire(info), self._selection.signals
        if not admits(self._selection, stream) or len(self._checks) == limits.STREAMS_MAX:
            raise errors.Malformed("a stream that does not belong to the answer")
        asked = [place for place, signal in enumerate(stream.signals) if not names or signal.name in names]
        self._checks[stream.id] = StreamCheck(stream, asked)

    def _take_chunk(self, wire: query_pb2.WaveformChunk) -> tuple[Committed, Cursor]:
        known = self._checks.get(wire.stream_id.hex())
        if known is None:
            raise errors.Malformed("a chunk before its stream")
        stream = known.stream
        check, chunk = _accepted(known, wire)
        self._checks[stream.id] = check
        header = chunk.header
        if (chunk.from_sample, chunk.to_sample) != (header.first_sample, header.first_sample + header.count):
            # A chunk that is followed is whole, and no manifest would tell that it is not.
            raise errors.CutWrong(stream.id, f"seq {header.seq} came without all of its samples", seq=header.seq)
        # Whoever follows has each gap handed out at once.
        check.gaps_pending.clear()
        expired = _continue(check, chunk, self.cursors.get(stream.id, Cursor(0)))
        committed = _committed(check, chunk, wire.loaded_at_ns, expired)
        assert check.last is not None, "a chunk was taken"
        return committed, Cursor(check.last.seq, check.last.digest, check.last.end_sample)


def _accepted(check: StreamCheck, wire: query_pb2.WaveformChunk) -> tuple[StreamCheck, Accepted]:
    last = check.last
    try:
        return check, check.take(wire)
    except errors.ChunkMissing:
        # Its bytes are intact, or it would not have come to this.
        header = stream_pb2.ChunkHeader.FromString(wire.chunk.header)
        if last is None or header.first_seq > last.seq:
            raise
    # The server was set back meanwhile, and what it lost stands in one gap with what came before: that is held against the cursor.
    anew = StreamCheck(check.stream, check.asked)
    return anew, anew.take(wire)


def _continue(check: StreamCheck, chunk: Accepted, before: Cursor) -> tuple[int, int] | None:
    """Holds a chunk against where the caller stood; answers which seqs before it are gone."""
    header, stream = chunk.header, check.stream.id
    if header.first_seq <= before.seq:
        if not headers.is_replacing(header) or header.seq <= before.seq:
            fault = f"a chunk came twice: after seq {before.seq} comes seq {header.first_seq}"
            raise errors.ChunkMissing(stream, fault, seq=before.seq + 1)
        # The caller has the first part of it.
        had = chunk.from_sample if before.next_sample is None else before.next_sample
        chunk.from_sample = min(max(had, chunk.from_sample), chunk.to_sample)
        chunk.gaps = check.gaps_of(chunk)
        return None
    if header.first_seq > before.seq + 1:
        return before.seq + 1, header.first_seq - 1
    if check.chunks > 1:
        # It was held against the chunk that moved the cursor there.
        return None
    if before.next_sample is not None and header.first_sample != before.next_sample:
        fault = f"I4: seq {header.seq} starts at sample {header.first_sample}, not at {before.next_sample} where the cursor stands"
        raise errors.TilingBroken(stream, fault, seq=header.seq)
    if before.digest is not None and not check.follows(before.digest):
        fault = f"I14: the digest at seq {header.seq} does not follow from that of the cursor"
        raise errors.DigestBroken(stream, fault, seq=header.seq)
    return None


def _committed(check: StreamCheck, chunk: Accepted, committed_ns: int, expired: tuple[int, int] | None) -> Committed:
    header, stream = chunk.header, check.stream
    span = (chunk.from_sample, chunk.to_sample)
    axis = TimeAxis(stream.rate_hz)
    axis.append(Piece(*span, header.first_sample, header.utc_ns))
    return Committed(
        stream=stream,
        signals=_samples(check, chunk, axis),
        gaps=tuple(chunk.gaps),
        markers=_markers(stream, chunk),
        end=Reason(header.reason) if header.kind == headers.END and not chunk.quarantined else None,
        axis=axis,
        span=span,
        seqs=(header.first_seq, header.seq),
        committed_ns=committed_ns,
        expired=expired,
    )


def _samples(check: StreamCheck, chunk: Accepted, axis: TimeAxis) -> dict[str, Samples]:
    """Decodes what is there; of the other signals everything is missing."""
    stream, count = check.stream, chunk.count
    stored = {present.place: np.empty(count, stream.signals[present.place].sample_type.dtype) for present in chunk.present}
    decode_chunk(stream, chunk, [(present, stored[present.place]) for present in chunk.present])
    signals: dict[str, Samples] = {}
    for place in check.asked:
        signal = stream.signals[place]
        samples = stored.get(place, np.empty(0, signal.sample_type.dtype))
        runs: Sequence[tuple[int, int]] = [(chunk.from_sample, count)] if place in stored else []
        gaps = [gap for gap in chunk.gaps if gap.concerns(signal.name)]
        span = (chunk.from_sample, chunk.to_sample)
        signals[signal.name] = Samples(signal.name, signal.unit, signal.sample_type, axis, span, samples, runs, gaps)
    return signals


def _markers(stream: Stream, chunk: Accepted) -> tuple[Marker, ...]:
    header = chunk.header
    if chunk.quarantined:
        return ()
    return tuple(
        marker_from_wire(stream, marker, header.utc_ns + duration_ns(max(0, marker.sample - header.first_sample), stream.rate_hz))
        for marker in header.markers
    )
