"""What to read, as people say it and as the wire has it: the one place where a question's device, stream, run, time and filter
become a `Selection`.

# Invariants
- All that is said must hold: what the selection has no field for becomes a term of its filter.
- The server is asked only where it has to be: for the end of what is stored, and for the rest of a stream's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wavekeep import errors, limits
from wavekeep.channel import Connection
from wavekeep.moments import Moment, Time, moment
from wavekeep.stream import Stream, stream_from_wire
from wavekeep.v1 import query_pb2


class Source(NamedTuple):
    """What to read, as it was asked for."""

    device: str | None = None
    stream: str | Stream | None = None
    run: str | None = None
    signals: Sequence[str] | str | None = None
    start: Time | None = None
    end: Time | None = None
    filter: str = ""

    def require_some(self) -> Source:
        """Refuses a question about everything: its answer would be all that is stored."""
        if self.device is None and self.stream is None and self.run is None:
            raise errors.InvalidQuestion("say what to read: device=, stream= or run= (client.devices() lists them)")
        return self


class Selector:
    """Makes selections in one workspace of one server. Threads may share it."""

    def __init__(self, connection: Connection, workspace: str) -> None:
        self._connection = connection
        self._workspace = workspace

    def streams(self, selection: query_pb2.Selection) -> list[Stream]:
        """The streams of a selection."""
        request = query_pb2.ListStreamsRequest(workspace=self._workspace, selection=selection)
        answer = self._connection.ask("ListStreams", request, query_pb2.ListStreamsResponse)
        return [stream_from_wire(info) for info in answer.streams]

    def selection(self, source: Source) -> query_pb2.Selection:
        """As the wire has it."""
        signals = [source.signals] if isinstance(source.signals, str) else list(source.signals or ())
        selection = query_pb2.Selection(signals=signals, filter=source.filter)
        terms = {"device": source.device, "run": source.run}
        if source.stream is not None:
            selection.stream_id = bytes.fromhex(self._stream_id(source.stream))
        elif source.device is not None:
            selection.device = source.device
            del terms["device"]
        elif source.run is not None:
            selection.run = source.run
            del terms["run"]
        for key, value in terms.items():
            if value is not None:
                quoted = value.replace("\\", "\\\\").replace('"', '\\"')
                selection.filter += f'{"," if selection.filter else ""}{key}="{quoted}"'
        start = None if source.start is None else moment(source.start)
        end = None if source.end is None else moment(source.end)
        relative = any(time is not None and time.before_end for time in (start, end))
        end_ns = self._end_ns(selection) if relative else 0
        _set_range(selection, start, end, end_ns)
        return selection

    def _end_ns(self, selection: query_pb2.Selection) -> int:
        ends = [stream.last_time_ns for stream in self.streams(selection) if stream.last_time_ns is not None]
        if not ends:
            raise errors.NothingStored("nothing is stored there yet, so it has no end to count back from")
        return max(ends)

    def _stream_id(self, stream: str | Stream) -> str:
        if isinstance(stream, Stream):
            return stream.id
        digits = stream.lower()
        is_hexadecimal = all(digit in "0123456789abcdef" for digit in digits)
        if is_hexadecimal and len(digits) == 32:
            return digits
        if not is_hexadecimal or not limits.STREAM_DIGITS_MIN <= len(digits) < 32:
            raise errors.InvalidQuestion(
                f"{stream!r} is not a stream id: give its 32 hexadecimal digits, or at least the first {limits.STREAM_DIGITS_MIN}"
            )
        matching = [one.id for one in self.streams(query_pb2.Selection()) if one.id.startswith(digits)]
        if not matching:
            raise errors.NothingStored(f"no stream begins with {stream}: client.streams() lists them")
        if len(matching) > 1:
            raise errors.InvalidQuestion(f"several streams begin with {stream}: give more digits")
        return matching[0]


def _set_range(selection: query_pb2.Selection, start: Moment | None, end: Moment | None, end_ns: int) -> None:
    if start is not None:
        selection.range.from_ns = start.resolve(end_ns)
    if end is not None:
        selection.range.to_ns = end.resolve(end_ns)
    if start is not None and end is not None and selection.range.from_ns >= selection.range.to_ns:
        raise errors.InvalidQuestion("end is not after start: exchange them")


class Span(NamedTuple):
    """A range of UTC time in nanoseconds since 1970: from ≤ t < to. None is open."""

    from_ns: int | None = None
    to_ns: int | None = None

    @classmethod
    def from_wire(cls, wire: query_pb2.TimeRange) -> Span:
        """As a message has it."""
        return cls(wire.from_ns if wire.HasField("from_ns") else None, wire.to_ns if wire.HasField("to_ns") else None)

    def is_within(self, other: Span) -> bool:
        """Does it reach no further than another?"""
        begins = other.from_ns is None or (self.from_ns is not None and self.from_ns >= other.from_ns)
        ends = other.to_ns is None or (self.to_ns is not None and self.to_ns <= other.to_ns)
        return begins and ends

    def has(self, time_ns: int) -> bool:
        """Does a moment lie in it?"""
        return (self.from_ns is None or self.from_ns <= time_ns) and (self.to_ns is None or time_ns < self.to_ns)

    def is_after(self, other: Span) -> bool:
        """Does it begin later than another ends? Those that meet are one."""
        return other.to_ns is not None and self.from_ns is not None and other.to_ns < self.from_ns


def admits(selection: query_pb2.Selection, stream: Stream) -> bool:
    """Is such a stream part of an answer? What belongs to a run, the server knows alone."""
    what = selection.WhichOneof("what")
    if what == "device":
        return stream.device == selection.device
    return what != "stream_id" or stream.id == selection.stream_id.hex()


def part(selection: query_pb2.Selection, stated: Span) -> Span | None:
    """What of a stream is asked for, by the server's word; None where nobody asked for that. Only a run has ranges of its own, and
    they lie within the one asked for."""
    asked = Span.from_wire(selection.range)
    is_of_runs = selection.WhichOneof("what") == "run" or "run" in selection.filter
    return stated if stated == asked or (is_of_runs and stated.is_within(asked)) else None
