"""Asks one workspace of one server, and names what is stored in it: one method for each question."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import numpy as np

from wavekeep import cursors, errors, limits
from wavekeep.catalog import Catalog, Imported, Members, NewRun, run_name
from wavekeep.channel import Connection
from wavekeep.codec import ENCODINGS
from wavekeep.comparison import Comparison, Metric, align_to_wire, comparison_from_wire, metric_to_wire
from wavekeep.listing import (
    Device,
    Gap,
    Marker,
    Statistics,
    device_from_wire,
    gap_from_wire,
    listed_marker_from_wire,
    statistics_from_wire,
)
from wavekeep.manifest import is_continued
from wavekeep.moments import Time
from wavekeep.reading import Question, Reader
from wavekeep.runs import Run, run_from_wire
from wavekeep.selection import Selector, Source, Span
from wavekeep.stream import Stream
from wavekeep.tail import Tail
from wavekeep.v1 import query_pb2, stream_pb2
from wavekeep.waveform import StreamWaveform, Waveform

_ENCODINGS = tuple(stream_pb2.Encoding.Name(number) for number in ENCODINGS)
DEFAULT_URL = "http://127.0.0.1:7460"
DEFAULT_WORKSPACE = "main"


class Client:
    """Asks one workspace of one server.

    ```python
    with wavekeep.Client() as client:
        waveform = client.waveform(device="js220-001", signals="current", start="-10s")
        current = waveform["current"].samples        # masked where samples are missing
    ```

    `url` is `http://` or `https://`, host and port: WAVEKEEP_SERVER where it is not given, else `http://127.0.0.1:7460`.
    `workspace` is WAVEKEEP_WORKSPACE, else `main`. `token` is sent with each question, never unencrypted to another machine.
    Nothing is contacted before the first question. Threads may share a client.

    Times (`start`, `end`) are RFC 3339 text, a `datetime` with its zone, a `numpy.datetime64` in UTC, nanoseconds since 1970, or
    `"-10s"` for ten seconds before the end of what is stored. A range is `start` ≤ t < `end`; what is not given is open.
    `device`, `stream` (an id, its first digits, or a `Stream`) and `run` may be combined; all that are given must hold. `filter`
    is the server's label expression: `algorithm=A,firmware=1.4`.
    """

    def __init__(self, url: str | None = None, token: str | None = None, workspace: str | None = None) -> None:
        self.url = url or os.environ.get("WAVEKEEP_SERVER") or DEFAULT_URL
        self.workspace = workspace or os.environ.get("WAVEKEEP_WORKSPACE") or DEFAULT_WORKSPACE
        self._connection = Connection(self.url, token)
        self._selector = Selector(self._connection, self.workspace)
        self._catalog = Catalog(self._connection, self._selector, self.workspace)
        decoders = min(limits.DECODERS_MAX, os.cpu_count() or 1)
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="wavekeep-decoder")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<wavekeep.Client of workspace {self.workspace} at {self.url}>"

    def close(self) -> None:
        """Ends the connection and the threads that decode."""
        self._connection.close()
        self._decoders.shutdown()

    def devices(self) -> list[Device]:
        """Every device, by name."""
        request = query_pb2.ListDevicesRequest(workspace=self.workspace)
        answer = self._connection.ask("ListDevices", request, query_pb2.ListDevicesResponse)
        return [device_from_wire(device) for device in answer.devices]

    def streams(
        self,
        *,
        device: str | None = None,
        stream: str | Stream | None = None,
        run: str | None = None,
        signals: Sequence[str] | str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        filter: str = "",
    ) -> list[Stream]:
        """Streams in order of time; those that have no sample in the range are not among them. Of nothing, all of the workspace."""
        return self._selector.streams(self._selector.selection(Source(device, stream, run, signals, start, end, filter)))

    def gaps(
        self,
        *,
        device: str | None = None,
        stream: str | Stream | None = None,
        run: str | None = None,
        signals: Sequence[str] | str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        filter: str = "",
    ) -> list[Gap]:
        """What is missing, and why: gaps, quarantined chunks, absent signals, and outages between epochs."""
        selection = self._selector.selection(Source(device, stream, run, signals, start, end, filter))
        request = query_pb2.ListGapsRequest(workspace=self.workspace, selection=selection)
        return [gap_from_wire(gap) for gap in self._connection.stream("ListGaps", request, query_pb2.Gap)]

    def markers(
        self,
        *,
        device: str | None = None,
        stream: str | Stream | None = None,
        run: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        filter: str = "",
    ) -> list[Marker]:
        """Notes in the range: those that came with samples, stream by stream, and then those that people added to devices. No
        sample is fetched."""
        return self._markers(self._selector.selection(Source(device, stream, run, None, start, end, filter)))

    def statistics(
        self,
        *,
        device: str | None = None,
        stream: str | Stream | None = None,
        run: str | None = None,
        signals: Sequence[str] | str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        filter: str = "",
        percentiles: Sequence[float] | float = (),
        bins: int = 0,
        bins_from: float | None = None,
        bins_to: float | None = None,
    ) -> list[Statistics]:
        """Of each signal, exact for any range: folded by the server over every sample, without fetching one.

        ```python
        for one in client.statistics(device="js220-001", percentiles=(1, 50, 99), bins=40):
            print(one.signal, one.percentiles[99], one.histogram.counts)
        ```

        `percentiles` are in percent, 0 to 100, at most 100 of them; `bins` are those of a histogram, at most 10,000, from
        `bins_from` to `bins_to`: from the smallest to the largest sample where nothing is said. Both take a look at the samples
        themselves, some 100 million a second; they are exact too.
        """
        shares: list[float] = np.atleast_1d(np.asarray(percentiles, np.float64)).tolist()
        _require_distribution(shares, bins, bins_from, bins_to)
        source = Source(device, stream, run, signals, start, end, filter).require_some()
        request = query_pb2.GetStatisticsRequest(
            workspace=self.workspace,
            selection=self._selector.selection(source),
            percentiles=shares,
            histogram_bins=bins,
            histogram_from=bins_from,
            histogram_to=bins_to,
        )
        answer = self._connection.ask("GetStatistics", request, query_pb2.GetStatisticsResponse)
        return [statistics_from_wire(one, shares, bins) for one in answer.signals]

    def waveform(
        self,
        *,
        device: str | None = None,
        stream: str | Stream | None = None,
        run: str | None = None,
        signals: Sequence[str] | str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        filter: str = "",
        points: int | None = None,
    ) -> Waveform:
        """The samples as they were captured, each one verified; or with `points` at most so many columns of each signal.

        With `points`, a stream with fewer samples than that comes as samples. `power` can be drawn where a stream has current and
        voltage; of samples, `StreamWaveform.power()` multiplies them.
        """
        if points is not None and not 0 < points <= limits.POINTS_MAX:
            raise errors.InvalidQuestion(f"points={points}: ask for 1 to {limits.POINTS_MAX:,}, or leave it out for samples")
        source = Source(device, stream, run, signals, start, end, filter).require_some()
        selection = self._selector.selection(source)
        request = query_pb2.GetWaveformRequest(
            workspace=self.workspace, selection=selection, points_max=points or 0, encodings=_ENCODINGS
        )
        reader = Reader(Question(selection, points or 0), self._decoders)
        try:
            for part in self._connection.stream("GetWaveform", request, query_pb2.WaveformPart):
                reader.take(part)
            streams = reader.finish()
        except BaseException as error:
            reader.abandon()
            if isinstance(error, RuntimeError) and self._connection.is_closed:
                # Another thread has closed it, and those who decode are gone.
                raise errors.ClientClosed from error
            raise
        waveform = Waveform(streams, lambda span: self._markers(selection, span))
        self._require_ends(selection, waveform)
        return waveform

    def runs(self, filter: str = "") -> list[Run]:
        """Runs by name, those that the filter lets through: of their names, their labels, and the devices of their streams."""
        request = query_pb2.ListRunsRequest(workspace=self.workspace, filter=filter)
        answer = self._connection.ask("ListRuns", request, query_pb2.ListRunsResponse)
        return [run_from_wire(run) for run in answer.runs]

    def compare(
        self,
        first: str | Run,
        second: str | Run,
        *,
        signal: str | None = None,
        metric: Metric | str | None = None,
        align: str | None = None,
        points: int = 1_000,
    ) -> Comparison:
        """Which of two groups of runs takes less, by how much, and how sure that is: the second group is held against the first.

        A group is a run, or an expression that chooses runs: `algorithm=A,firmware=1.4`. `signal` is power where every run has it,
        else current; `metric` is energy of a signal in W, charge of one in A, else the mean (see `Metric`). Of at least 5 runs of
        each group the difference has an interval; docs/COMPARE.md says how, and when it is not given.

        Both come on one axis too, of at most `points` columns; with `points=0` they do not. Runs are laid over each other at their
        starts, or with `align="marker:TEXT"` at the marker with this text; that moves the columns and nothing else.
        """
        if not 0 <= points <= limits.COMPARED_POINTS_MAX:
            raise errors.InvalidQuestion(f"points={points}: ask for at most {limits.COMPARED_POINTS_MAX:,}, or for 0")
        request = query_pb2.CompareRunsRequest(
            workspace=self.workspace,
            first=run_name(first),
            second=run_name(second),
            signal=signal or "",
            metric=metric_to_wire(metric),
            align_marker=align_to_wire(align),
            points_max=points,
        )
        return comparison_from_wire(self._connection.ask("CompareRuns", request, query_pb2.CompareRunsResponse))

    def tail(
        self,
        *,
        device: str | None = None,
        stream: str | Stream | None = None,
        run: str | None = None,
        signals: Sequence[str] | str | None = None,
        filter: str = "",
        from_start: bool = False,
        cursor: str | None = None,
        patience_s: float | None = None,
    ) -> Tail:
        """Chunks as they are committed, by any server, each one verified. Of nothing, all of the workspace.

        ```python
        with client.tail(device="js220-001", cursor=stored_cursor) as tail:
            for chunk in tail:
                store(chunk["current"].samples, chunk.time, tail.cursor)   # one transaction, and nothing is missed or repeated
        ```

        What is committed from now on, and streams that begin later whole; with `from_start` all that is stored first; with `cursor`
        (what `tail.cursor` said before) what came since then, and streams whole that it does not know. A server that goes away is
        asked again until it answers, or for `patience_s` seconds. It ends by `close()`, from any thread, or an interrupt. At the
        first question the server must be there: an address or a name that is wrong is raised at once.
        """
        selection = self._selector.selection(Source(device, stream, run, signals, filter=filter))
        request = query_pb2.TailRequest(workspace=self.workspace, selection=selection, encodings=_ENCODINGS)
        stood = None if cursor is None else cursors.load(cursor)
        return Tail(self._connection, request, stood, from_start, patience_s)

    # Naming what was recorded. What is so already stays so: a request whose answer was lost is simply given again.

    def create_run(
        self,
        name: str,
        *,
        device: str | None = None,
        stream: str | Stream | None = None,
        start: Time | None = None,
        end: Time | None = None,
        members: Members = (),
        labels: Mapping[str, str] | None = None,
        parent: str | Run | None = None,
        note: str = "",
    ) -> Run:
        """Makes a run of what is stored, and moves nothing. Without a member it groups others, as their `parent`.

        ```python
        client.create_run("night-2", device="js220-001", start="2026-03-01T22:00:00Z", labels={"algorithm": "B"})
        ```

        `device` or `stream`, with `start` and `end`, are a time that is made part of it; `members` are others (at most 1,000):
        `NewMember`, or those of a run that was listed. A time that says how long before the end, as `"-10s"`, is another one each
        time it is said.

        A run that is there with the same content is answered as it is; with another one it is `RunExists`. A device, stream or
        parent that is not there is `UnknownName`.
        """
        run = NewRun(name, device=device, stream=stream, start=start, end=end, labels=labels or {}, parent=parent, note=note)
        return self._catalog.create_run(run, members)

    def update_run(
        self,
        run: str | Run,
        *,
        labels: Mapping[str, str] | None = None,
        remove_labels: Sequence[str] | str = (),
        note: str | None = None,
        parent: str | Run | None = None,
        members: Members = (),
        remove_members: Members = (),
    ) -> Run:
        """Changes a run, also one that was recorded, and answers what it has become. What is not named stays as it is.

        `labels` are set, after `remove_labels` (keys) are taken away; `note=""` is no note, and `parent=""` no parent. `members`
        are added, after `remove_members` are taken out as they were added, which `Run.members` says; their samples stay. What is
        to be taken away and is not there is no error.

        `UnknownName` if there is no such run, device, stream or parent; `ParentCircle` if the parent is a part of it.
        """
        return self._catalog.update_run(run_name(run), labels or {}, remove_labels, note, parent, members, remove_members)

    def delete_run(self, run: str | Run) -> None:
        """Deletes a run: its name, labels and note, and no sample. What it was the parent of has none then.

        One that streams were recorded for is part of their capture: `RunRecorded`. One that is not there, as when this is repeated,
        is `UnknownName`.
        """
        self._catalog.delete_run(run_name(run))

    def import_runs(self, runs: Iterable[NewRun]) -> Imported:
        """Makes many runs, or adds to those that are there: all of them, or none. At most 10,000 entries.

        Labels are set and times added, notes and parents set where they are given; nothing is taken away. So it may be repeated,
        also with entries that were not there before. Several entries may name the same run: each is another time of it. A refusal's
        `entry` says which one it is about, counted from 0.
        """
        return self._catalog.import_runs(runs)

    def mark(
        self,
        content: Any,
        *,
        device: str,
        time: Time | None = None,
        kind: int = 0,
        group: int = 0,
        y: float | None = None,
        id: UUID | None = None,
    ) -> Marker:
        """Adds a note at a time of a device, whether something is stored of that time or not; without a time, now.

        `content` is text, bytes, or what JSON has a word for, such as a dict; at most 256 KiB. `kind` is 0 text, 1 vertical,
        2 horizontal, or a source's own; markers of a `group` belong together; `y` is a height on the axis.

        Each call adds a marker, but for the same `id` only the first one does, and the marker is answered as it is: give one where
        a call may be repeated, as `uuid.uuid5(uuid.NAMESPACE_OID, "boot of night-2")` in a notebook. An id that another marker has
        is refused. `UnknownName` if there is no such device.
        """
        return self._catalog.mark(content, device, time, kind, group, y, id)

    def unmark(self, markers: Marker | UUID | Iterable[Marker | UUID]) -> int:
        """Takes away notes that were added, as `mark` and `markers` answer them, or by their ids; how many of them were there. At
        most 1,000 at a time.

        ```python
        client.unmark(one for one in client.markers(device="js220-001") if one.id and one.content == "boot")
        ```

        One that came with the samples is part of what was captured: `InvalidQuestion`, and none is taken away.
        """
        return self._catalog.unmark(markers)

    # What is behind them.

    def _markers(self, selection: query_pb2.Selection, span: Span | None = None) -> list[Marker]:
        """Of a selection, or of a time that lies in its range, whatever signals it names."""
        request = query_pb2.ListMarkersRequest(workspace=self.workspace, selection=selection)
        request.selection.ClearField("signals")
        if span is not None:
            request.selection.range.CopyFrom(query_pb2.TimeRange(from_ns=span.from_ns, to_ns=span.to_ns))
        listed = self._connection.stream("ListMarkers", request, query_pb2.ListedMarker)
        return [listed_marker_from_wire(marker) for marker in listed]

    def _require_ends(self, selection: query_pb2.Selection, waveform: Waveform) -> None:
        """Where its range is open towards the end, a stream must come up to its watermark, or up to where a successor continues
        it. Otherwise its last rows are gone, and nothing else would tell."""
        came = [one.stream for one in waveform]
        for one in waveform:
            if one.asked.to_ns is not None:
                continue
            found, watermark = one.manifest.last_seq, one.stream.watermark
            if found != watermark and not self._is_succeeded(selection, one, came):
                fault = f"it is damaged: its last chunk is seq {found}, but it was committed up to seq {watermark}"
                raise errors.Truncated(one.stream.id, fault, seq=found)

    def _is_succeeded(self, selection: query_pb2.Selection, one: StreamWaveform, came: list[Stream]) -> bool:
        if selection.WhichOneof("what") == "stream_id":
            return False
        seq = one.manifest.last_seq
        # A successor of which nothing is stored yet is no part of the answer.
        return is_continued(one.stream.id, seq, came) or is_continued(one.stream.id, seq, self.streams(device=one.stream.device))


def _require_distribution(shares: Sequence[float], bins: int, bins_from: float | None, bins_to: float | None) -> None:
    bad = [share for share in shares if not 0 <= share <= 100]
    if bad or len(shares) > limits.PERCENTILES_MAX:
        what = f"percentiles={bad[0]:g}" if bad else f"{len(shares):,} percentiles"
        raise errors.InvalidQuestion(f"{what}: ask for at most {limits.PERCENTILES_MAX}, each from 0 to 100")
    if not 0 <= bins <= limits.HISTOGRAM_BINS_MAX:
        raise errors.InvalidQuestion(f"bins={bins}: ask for at most {limits.HISTOGRAM_BINS_MAX:,}, or for 0")
    bounds = [bound for bound in (bins_from, bins_to) if bound is not None]
    if bounds and not bins:
        raise errors.InvalidQuestion("bins_from= and bins_to= are of a histogram: say bins= too")
    if not all(map(math.isfinite, bounds)) or (len(bounds) == 2 and bounds[0] >= bounds[1]):
        raise errors.InvalidQuestion(f"bins_from={bins_from}, bins_to={bins_to}: a histogram goes from a number to a larger one")
