"""Naming what was recorded: runs are made, changed and deleted, and markers added. docs/RUNS.md says what belongs to a run.

# Invariants
- Every request may be repeated: what is so already stays so. A run is the same by its name, a marker by its id.
- A request is one message, done whole or not at all: nothing of it is left out, split or given again here.
- What is answered is what is stored, never what was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from time import time_ns
from typing import Any, TypeVar
from uuid import UUID, uuid4

from google.protobuf.message import Message

from wavekeep import errors, limits
from wavekeep.channel import Connection
from wavekeep.listing import Marker, listed_marker_from_wire
from wavekeep.moments import Time
from wavekeep.runs import Member, Run, run_from_wire
from wavekeep.selection import Selector, Source
from wavekeep.stream import Stream
from wavekeep.v1 import catalog_pb2, query_pb2, stream_pb2

_Answer = TypeVar("_Answer", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """A time to be made part of a run: of a device, or of one stream. What is not given is open."""

    device: str | None = None
    stream: str | Stream | None = None
    """An id, its first digits, or a `Stream`; one of the two is given."""
    start: Time | None = None
    end: Time | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """An entry of an import: a run, and a time to be made part of it. Several entries may name the same run: each is another time
    of it."""

    name: str
    """1 to 200 bytes."""
    _: KW_ONLY
    device: str | None = None
    stream: str | Stream | None = None
    """An id, its first digits, or a `Stream`; without either, the entry adds no time."""
    start: Time | None = None
    end: Time | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    parent: str | Run | None = None
    """A run that is there already, or one of the same import; None: as it is."""
    note: str = ""
    """At most 10,000 bytes; empty: as it is."""

    def members(self) -> list[NewMember]:
        """Its time, where it has one."""
        member = NewMember(device=self.device, stream=self.stream, start=self.start, end=self.end)
        return [] if member == NewMember() else [member]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to, in runs."""

    created: int
    """That were not there."""
    changed: int
    """That were there, and have become other."""
    unchanged: int
    """That were so already."""

    def __str__(self) -> str:
        return f"{self.created:,} runs created, {self.changed:,} changed, {self.unchanged:,} unchanged"


Members = Member | NewMember | Sequence[Member | NewMember]
"""Times of a run: as they are listed of one, or new."""


class Catalog:
    """Names what is in one workspace of one server: one method for each request. Threads may share it."""

    def __init__(self, connection: Connection, selector: Selector, workspace: str) -> None:
        self._connection = connection
        self._selector = selector
        self._workspace = workspace

    def create_run(self, run: NewRun, members: Members) -> Run:
        """Of nothing, with all that it has."""
        parts = self._members([*run.members(), *_listed(members)])
        request = catalog_pb2.CreateRunRequest(workspace=self._workspace, run=_run(run), members=parts)
        return run_from_wire(self._ask("CreateRun", request, query_pb2.Run))

    def update_run(
        self,
        name: str,
        labels: Mapping[str, str],
        remove_labels: Sequence[str] | str,
        note: str | None,
        parent: str | Run | None,
        members: Members,
        remove_members: Members,
    ) -> Run:
        """What is not named stays as it is."""
        request = catalog_pb2.UpdateRunRequest(
            workspace=self._workspace,
            run=query_pb2.Run(name=name, labels=_labels(labels)),
            members=self._members(_listed(members)),
            remove_labels=[remove_labels] if isinstance(remove_labels, str) else remove_labels,
            note=note,
            parent=None if parent is None else run_name(parent),
            remove_members=self._members(_listed(remove_members)),
        )
        return run_from_wire(self._ask("UpdateRun", request, query_pb2.Run))

    def delete_run(self, name: str) -> None:
        """Its name, and no sample."""
        request = catalog_pb2.DeleteRunRequest(workspace=self._workspace, name=name)
        self._ask("DeleteRun", request, catalog_pb2.DeleteRunResponse)

    def import_runs(self, runs: Iterable[NewRun]) -> Imported:
        """All of them, or none."""
        runs = list(runs)
        request = catalog_pb2.ImportRunsRequest(workspace=self._workspace)
        for entry, run in enumerate(runs):
            try:
                request.runs.append(_run(run, self._members(run.members())))
            except errors.WavekeepError as error:
                error.add_note(f"of entry {entry}, run {run.name!r}; nothing was imported")
                raise
        try:
            done = self._ask("ImportRuns", request, catalog_pb2.ImportRunsResponse)
        except errors.Refused as error:
            if error.entry is not None and error.entry < len(runs):
                error.add_note(f"of entry {error.entry}, run {runs[error.entry].name!r}; nothing was imported")
            raise
        return Imported(done.created, done.changed, done.unchanged)

    def mark(self, content: Any, device: str, time: Time | None, kind: int, group: int, y: float | None, id: UUID | None) -> Marker:
        """One marker."""
        if not (0 <= kind <= limits.MARKER_KIND_MAX and 0 <= group <= limits.MARKER_GROUP_MAX):
            raise errors.InvalidQuestion(
                f"kind={kind}, group={group}: a marker's kind is 0 to {limits.MARKER_KIND_MAX:,}, and its group 0 to "
                f"{limits.MARKER_GROUP_MAX}"
            )
        form, encoded = _content(content)
        # A distance is from the end of what is stored of the device.
        at_ns = time_ns() if time is None else self._selector.selection(Source(device=device, start=time)).range.from_ns
        chosen = (id or uuid4()).bytes
        asked = catalog_pb2.AddedMarker(
            id=chosen, device=device, time_ns=at_ns, kind=kind, group=group, y=y, format=form, content=encoded
        )
        request = catalog_pb2.AddMarkersRequest(workspace=self._workspace, markers=[asked])
        added = self._ask("AddMarkers", request, catalog_pb2.AddMarkersResponse).added
        marker = query_pb2.ListedMarker(
            device=device,
            time_ns=at_ns,
            kind=kind,
            group=group,
            y=float("nan") if y is None else y,
            format=form,
            content=encoded,
            added_id=chosen,
        )
        return listed_marker_from_wire(marker if added else self._as_it_was_added(marker, is_of_now=time is None))

    def unmark(self, markers: Marker | UUID | Iterable[Marker | UUID]) -> int:
        """All of them, or none."""
        listed = [markers] if isinstance(markers, (Marker, UUID)) else markers
        request = catalog_pb2.RemoveMarkersRequest(workspace=self._workspace, ids=[_added_id(one).bytes for one in listed])
        return int(self._ask("RemoveMarkers", request, catalog_pb2.RemoveMarkersResponse).removed)

    def _as_it_was_added(self, marker: query_pb2.ListedMarker, *, is_of_now: bool) -> query_pb2.ListedMarker:
        """The same marker, which was there already; the time of one that is of now is that of the first time."""
        span = (None, None) if is_of_now else (marker.time_ns, marker.time_ns + 1)
        selection = self._selector.selection(Source(device=marker.device, start=span[0], end=span[1]))
        request = query_pb2.ListMarkersRequest(workspace=self._workspace, selection=selection)
        for stored in self._connection.stream("ListMarkers", request, query_pb2.ListedMarker):
            if stored.added_id == marker.added_id:
                marker.time_ns = stored.time_ns
                # As bytes: a NaN is itself there.
                if stored.SerializeToString(deterministic=True) == marker.SerializeToString(deterministic=True):
                    return stored
        raise errors.InvalidQuestion(
            f"id={UUID(bytes=marker.added_id)} is that of another marker, which stays as it is: leave it out for a new one"
        )

    def _members(self, members: Iterable[Member | NewMember]) -> list[query_pb2.Selection]:
        return [self._member(member) for member in members]

    def _member(self, member: Member | NewMember) -> query_pb2.Selection:
        if isinstance(member, Member):
            member = NewMember(device=member.device, stream=member.stream, start=member.from_ns, end=member.to_ns)
        if (member.device is None) == (member.stream is None):
            raise errors.InvalidQuestion(
                "a member of a run is a time of a device or of one stream: give one of device= and stream= (client.devices() and "
                "client.streams() list them)"
            )
        return self._selector.selection(Source(device=member.device, stream=member.stream, start=member.start, end=member.end))

    def _ask(self, method: str, request: Message, answer: type[_Answer]) -> _Answer:
        if request.ByteSize() > limits.MESSAGE_BYTES_MAX:
            raise errors.InvalidQuestion(
                f"that is {request.ByteSize():,} bytes, and the server takes at most {limits.MESSAGE_BYTES_MAX:,} at a time: send "
                "it in parts"
            )
        return self._connection.ask(method, request, answer, service="Catalog")


def _added_id(marker: Marker | UUID) -> UUID:
    if isinstance(marker, UUID):
        return marker
    if marker.id is None:
        raise errors.InvalidQuestion(
            f"{str(marker)!r} came with the samples, and is part of what was captured: only what was added goes"
        )
    return marker.id


def run_name(run: str | Run) -> str:
    """Of a run, or as it was given."""
    return run.name if isinstance(run, Run) else run


def _listed(members: Members) -> Sequence[Member | NewMember]:
    return [members] if isinstance(members, (Member, NewMember)) else members


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise errors.InvalidQuestion(f"label {key!r}: {value!r}: key and value are text: write {str(key)!r}: {str(value)!r}")
    return dict(labels)


def _run(run: NewRun, members: Sequence[query_pb2.Selection] = ()) -> query_pb2.Run:
    parent = "" if run.parent is None else run_name(run.parent)
    return query_pb2.Run(name=run.name, labels=_labels(run.labels), parent=parent, note=run.note, members=members)


def _content(content: Any) -> tuple[stream_pb2.MarkerFormat, bytes]:
    """How a note is to be read, and its bytes."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        return stream_pb2.MARKER_FORMAT_BYTES, bytes(content)
    try:
        if isinstance(content, str):
            return stream_pb2.MARKER_FORMAT_TEXT, content.encode()
        return stream_pb2.MARKER_FORMAT_JSON, json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidQuestion(f"a marker is text, bytes or what JSON has a word for: {error}") from error
