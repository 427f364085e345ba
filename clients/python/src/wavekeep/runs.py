"""Runs: names with labels for streams and for times of devices. docs/RUNS.md says what belongs to one.

# Invariants
- What this version does not understand of a run is an error, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wavekeep.errors import Malformed
from wavekeep.moments import rfc3339
from wavekeep.selection import Span
from wavekeep.v1 import query_pb2


@dataclass(frozen=True, slots=True)
class Member:
    """A time that was made part of a run: of a device, or of one stream."""

    device: str | None
    stream: str | None
    """The stream's id; one of the two is given."""
    from_ns: int | None
    """UTC in nanoseconds since 1970; None is open."""
    to_ns: int | None

    def __str__(self) -> str:
        start = "its beginning" if self.from_ns is None else rfc3339(self.from_ns)
        end = "its end" if self.to_ns is None else rfc3339(self.to_ns)
        return f"{self.device if self.stream is None else f'stream {self.stream}'}, {start} to {end}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the workspace, with what is stored of it."""

    name: str
    labels: Mapping[str, str]
    """Its own, and those that all of its streams share; its own win."""
    own_labels: Mapping[str, str]
    """Its own alone."""
    parent: str | None
    """The run that it is a part of."""
    note: str
    streams: int
    """Streams that it has something of."""
    recorded_streams: int
    """Those of them that were recorded for it."""
    devices: tuple[str, ...]
    """Of its streams."""
    members: tuple[Member, ...]
    """What was made part of it afterwards."""
    first_time_ns: int | None
    """UTC of the first moment that is stored of it, in nanoseconds since 1970; None while nothing is."""
    last_time_ns: int | None
    """UTC after the last."""
    duration_ns: int
    """In which any of its streams has something; time that several share counts once."""
    created_at_ns: int
    updated_at_ns: int

    @property
    def duration_s(self) -> float:
        """`duration_ns` in seconds."""
        return self.duration_ns / 1e9

    def __str__(self) -> str:
        labels = " ".join(f"{key}={value}" for key, value in self.labels.items()) or "no labels"
        return f"run {self.name}: {labels}; {self.streams:,} streams, {self.duration_s:g} s"


def _member_from_wire(wire: query_pb2.Selection) -> Member:
    what = wire.WhichOneof("what")
    if what not in ("device", "stream_id") or (what == "stream_id" and len(wire.stream_id) != 16):
        raise Malformed("a run's member is neither of a device nor of a stream")
    is_device = what == "device"
    return Member(wire.device if is_device else None, None if is_device else wire.stream_id.hex(), *Span.from_wire(wire.range))


def run_from_wire(wire: query_pb2.Run) -> Run:
    """From an answer."""
    return Run(
        name=wire.name,
        labels=dict(sorted(wire.labels.items())),
        own_labels=dict(sorted(wire.own_labels.items())),
        parent=wire.parent or None,
        note=wire.note,
        streams=wire.streams,
        recorded_streams=wire.recorded_streams,
        devices=tuple(wire.devices),
        members=tuple(_member_from_wire(member) for member in wire.members),
        first_time_ns=wire.first_time_ns if wire.HasField("first_time_ns") else None,
        last_time_ns=wire.last_time_ns if wire.HasField("last_time_ns") else None,
        duration_ns=wire.duration_ns,
        created_at_ns=wire.created_at_ns,
        updated_at_ns=wire.updated_at_ns,
    )
