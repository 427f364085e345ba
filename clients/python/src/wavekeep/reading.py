"""An answer to `GetWaveform` as it arrives: checked in order, decoded by several threads into arrays made beforehand.

# Invariants
- Nothing is given out before all of it is proven: each frame, each column's samples, the chain of digests, the manifest, the range.
- I12: at most `limits.CHUNKS_DECODING_MAX` chunks are decoded or wait for it, and what is kept fits into the machine's memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavekeep import errors, headers, limits, memory
from wavekeep import manifest as manifests
from wavekeep.decoding import decode_chunk
from wavekeep.drawn import DrawnCheck
from wavekeep.listing import Gap, Marker, marker_from_wire
from wavekeep.reasons import Reason
from wavekeep.selection import Span, admits, part
from wavekeep.signals import Columns, Samples
from wavekeep.stream import Signal, Stream, stream_from_wire
from wavekeep.time_axis import Piece, TimeAxis, duration_ns
from wavekeep.v1 import query_pb2
from wavekeep.verify import Accepted, StreamCheck
from wavekeep.waveform import StreamWaveform


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for."""

    selection: query_pb2.Selection
    points: int
    """0: the samples."""

    @property
    def names(self) -> Sequence[str]:
        """Of signals; none for all."""
        return self.selection.signals


class _Sink:
    """One signal's samples as they come: an array that is large enough as a rule, and grows where it is not."""

    def __init__(self, signal: Signal, capacity: int) -> None:
        self.signal = signal
        self.array: NDArray[Any] = np.empty(capacity, signal.sample_type.dtype)
        self.used = 0
        self.runs: list[tuple[int, int]] = []

    def place(self, first_sample: int, count: int) -> NDArray[Any]:
        """Where the next samples go. There is room for them."""
        if self.runs and sum(self.runs[-1]) == first_sample:
            first, before = self.runs[-1]
            self.runs[-1] = (first, before + count)
        else:
            self.runs.append((first_sample, count))
        self.used += count
        return self.array[self.used - count : self.used]


class _Assembly:
    """One stream of the answer, or one range of a run's stream."""

    def __init__(self, stream: Stream, asked: Sequence[int], question: Question, span: Span) -> None:
        self.stream = stream
        self.span = span
        """What of it is asked for."""
        self.check = StreamCheck(stream, asked)
        self.drawn = DrawnCheck(stream, asked, question.names, question.points) if question.points else None
        self.axis = TimeAxis(stream.rate_hz)
        capacity = _capacity(stream, question.points, span)
        self.sinks = {place: _Sink(stream.signals[place], capacity) for place in asked}
        self.gaps: list[Gap] = []
        self.markers: list[Marker] = []
        self.end: Reason | None = None
        self.manifest: manifests.StreamManifest | None = None

    def finished(self) -> StreamWaveform:
        """All of it came and was proven."""
        manifest = self.manifest
        assert manifest is not None, "a manifest came for every stream"
        span = (manifest.from_sample, manifest.to_sample)
        signals: dict[str, Samples | Columns] = {}
        if self.drawn is not None and self.check.chunks == 0:
            self.gaps = self.drawn.gaps
            for drawn in self.drawn.signals.values():
                gaps = [gap for gap in self.gaps if gap.concerns(drawn.name)]
                signals[drawn.name] = Columns(drawn, gaps, span)
        else:
            for sink in self.sinks.values():
                signal = sink.signal
                gaps = [gap for gap in self.gaps if gap.concerns(signal.name)]
                signals[signal.name] = Samples(
                    signal.name, signal.unit, signal.sample_type, self.axis, span, sink.array[: sink.used], sink.runs, gaps
                )
        return StreamWaveform(self.stream, signals, tuple(self.gaps), tuple(self.markers), self.end, manifest, self.span)


def _capacity(stream: Stream, points: int, span: Span) -> int:
    """Samples to come, as far as the stream's description tells: of what lies in the range, at the stream's rate."""
    if points:
        return min(stream.sample_count, points)
    if stream.first_time_ns is None or stream.last_time_ns is None:
        return 0
    from_ns = stream.first_time_ns if span.from_ns is None else max(span.from_ns, stream.first_time_ns)
    to_ns = stream.last_time_ns if span.to_ns is None else min(span.to_ns, stream.last_time_ns)
    in_range = int(max(0, to_ns - from_ns) / 1e9 * stream.rate_hz) + 2
    return min(stream.sample_count, in_range)


class Reader:
    """Takes the parts of an answer in, and gives the waveform out at its end."""

    def __init__(self, question: Question, decoders: ThreadPoolExecutor) -> None:
        self.question = question
        self.assemblies: list[_Assembly] = []
        self.is_complete = False
        self._decoders = decoders
        self._decoding: deque[Future[None]] = deque()
        self._bytes = 0
        self._columns = 0
        self._ranges: dict[str, Span] = {}
        """Of each stream, the range that came last."""

    def take(self, part: query_pb2.WaveformPart) -> None:
        """Takes the next part in."""
        if self.is_complete:
            raise errors.Malformed("something follows the manifest")
        kind = part.WhichOneof("part")
        if kind == "chunk":
            self._take_chunk(part.chunk)
        elif kind == "columns":
            self._take_columns(part.columns)
        elif kind == "stream":
            self._take_stream(part.stream)
        elif kind == "manifest":
            self._take_manifest(part.manifest)
        else:
            raise errors.Malformed("an unknown part")

    def finish(self) -> tuple[StreamWaveform, ...]:
        """The answer has ended."""
        if not self.is_complete:
            stream = self.assemblies[-1].stream.id if self.assemblies else "0" * 32
            fault = "the answer came without its manifest, so it may be incomplete"
            raise errors.ManifestWrong(stream, fault)
        self._decode_all()
        return tuple(assembly.finished() for assembly in self.assemblies)

    def abandon(self) -> None:
        """What is being decoded writes into arrays that nobody will see; it is waited for all the same."""
        while self._decoding:
            self._decoding.popleft().exception()

    def _take_stream(self, wire: query_pb2.WaveformStream) -> None:
        stream, question = stream_from_wire(wire.info), self.question
        asked = [place for place, signal in enumerate(stream.signals) if not question.names or signal.name in question.names]
        stated = Span.from_wire(wire.range) if wire.HasField("range") else Span.from_wire(question.selection.range)
        span = part(question.selection, stated)
        # Of a run, a stream comes once for each range, in order of time.
        known = self._ranges.get(stream.id)
        belongs = span is not None and (known is None or span.is_after(known)) and admits(question.selection, stream)
        if span is None or not belongs or len(self.assemblies) == limits.STREAMS_MAX:
            raise errors.Malformed("a stream that does not belong to the answer")
        self._ranges[stream.id] = span
        widths = sum(stream.signals[place].sample_type.dtype.itemsize for place in asked)
        self._require_memory(widths * _capacity(stream, question.points, span))
        assembly = _Assembly(stream, asked, question, span)
        if not asked and not (assembly.drawn and assembly.drawn.signals):
            raise errors.Malformed("a stream without a signal that was asked for")
        self.assemblies.append(assembly)

    def _require_memory(self, more_bytes: int) -> None:
        self._bytes += more_bytes
        memory.require(self._bytes, "ask for points=…, for fewer signals or for a shorter time")

    def _current(self, stream_id: bytes) -> _Assembly:
        if not self.assemblies:
            raise errors.Malformed("something comes before its stream")
        if self.assemblies[-1].stream.id != stream_id.hex():
            raise errors.Malformed("something of another stream")
        return self.assemblies[-1]

    def _take_columns(self, wire: query_pb2.WaveformColumns) -> None:
        assembly = self._current(wire.stream_id)
        if assembly.drawn is None or assembly.check.chunks:
            raise errors.Malformed("points instead of samples")
        self._columns += len(wire.count)
        if self._columns > limits.COLUMNS_MAX:
            advice = "ask for fewer points, for fewer signals or for a shorter time"
            raise errors.TooMuch(f"that would be more than {limits.COLUMNS_MAX:,} columns: {advice}")
        assembly.drawn.take(wire, *assembly.span)

    def _take_chunk(self, wire: query_pb2.WaveformChunk) -> None:
        assembly, points = self._current(wire.stream_id), self.question.points
        if assembly.drawn is not None and assembly.drawn.has_columns():
            raise errors.Malformed("samples of a stream that is drawn")
        chunk = assembly.check.take(wire)
        if points and assembly.check.sample_count > points:
            fault = f"{assembly.check.sample_count} samples came where at most {points} points were asked for"
            raise errors.DrawnWrong(assembly.stream.id, fault)
        header = chunk.header
        assembly.axis.append(Piece(chunk.from_sample, chunk.to_sample, header.first_sample, header.utc_ns))
        assembly.gaps.extend(chunk.gaps)
        if not chunk.quarantined:
            rate_hz, whole = assembly.stream.rate_hz, Span.from_wire(self.question.selection.range)
            for marker in header.markers:
                time_ns = header.utc_ns + duration_ns(max(0, marker.sample - header.first_sample), rate_hz)
                # Two times of a run may share a chunk: its markers are of one of them, or of none.
                if assembly.span == whole or assembly.span.has(time_ns):
                    assembly.markers.append(marker_from_wire(assembly.stream, marker, time_ns))
            if header.kind == headers.END:
                assembly.end = Reason(header.reason)
        columns = [(present, self._place(assembly.sinks[present.place], chunk)) for present in chunk.present]
        if not columns:
            return
        while len(self._decoding) >= limits.CHUNKS_DECODING_MAX:
            self._decoding.popleft().result()
        # Of all columns at once: handing a column alone to another thread takes as long as decoding a short one.
        self._decoding.append(self._decoders.submit(decode_chunk, assembly.stream, chunk, columns))

    def _place(self, sink: _Sink, chunk: Accepted) -> NDArray[Any]:
        if sink.used + chunk.count > len(sink.array):
            # Nobody may write into the array that is left.
            self._decode_all()
            self._require_memory(sink.array.nbytes)
            larger = np.empty(max(2 * len(sink.array), sink.used + chunk.count), sink.array.dtype)
            larger[: sink.used] = sink.array[: sink.used]
            sink.array = larger
        return sink.place(chunk.from_sample, chunk.count)

    def _decode_all(self) -> None:
        while self._decoding:
            self._decoding.popleft().result()

    def _take_manifest(self, wire: query_pb2.Manifest) -> None:
        assemblies = self.assemblies
        if not manifests.is_last(wire):
            for early in wire.streams:
                assembly = self._named(early)
                manifests.take_gaps(assembly.check, assembly.drawn, early.gaps)
            return
        for at, assembly in enumerate(assemblies):
            stated = wire.streams[at] if at < len(wire.streams) else None
            if stated is None or stated.stream_id.hex() != assembly.stream.id:
                fault = "the answer came without its manifest, so it may be incomplete"
                raise errors.ManifestWrong(assembly.stream.id, fault)
            manifests.take_gaps(assembly.check, assembly.drawn, stated.gaps)
            if assembly.drawn is not None and assembly.check.chunks == 0:
                assembly.manifest = manifests.check_drawn(assembly.drawn, stated, *assembly.span)
            else:
                assembly.manifest = manifests.check_samples(assembly.check, stated, *assembly.span)
        if len(wire.streams) > len(assemblies):
            raise errors.Malformed("the manifest names a stream that did not come")
        self.is_complete = True

    def _named(self, early: query_pb2.StreamManifest) -> _Assembly:
        """What a manifest of gaps is about: of a stream that came for several ranges, the one that starts where it says."""
        of_stream = [assembly for assembly in self.assemblies if assembly.stream.id == early.stream_id.hex()]
        if not of_stream:
            raise errors.Malformed("a manifest names a stream that did not come")
        starts = [assembly for assembly in of_stream if assembly.check.cut and assembly.check.cut[0] == early.from_sample]
        return starts[0] if starts else of_stream[-1]
