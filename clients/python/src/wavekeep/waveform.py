"""What was read: streams in order of time, each with its signals, gaps, markers and what proves it.

# Invariants
- Nothing is joined that was not captured together: not two streams, and not two times of one stream that a run has.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavekeep import errors, exporting, frames, plotting
from wavekeep.listing import Gap, Marker
from wavekeep.manifest import StreamManifest
from wavekeep.moments import rfc3339
from wavekeep.reasons import Reason
from wavekeep.selection import Span
from wavekeep.signals import Columns, Samples, as_datetime, power_of
from wavekeep.stream import Stream
from wavekeep.time_axis import duration_ns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG = logging.getLogger("wavekeep")


class StreamPart:
    """Signals of one stream over one range of its samples."""

    def __init__(
        self,
        stream: Stream,
        signals: Mapping[str, Samples | Columns],
        gaps: tuple[Gap, ...],
        markers: tuple[Marker, ...],
        end: Reason | None,
    ) -> None:
        self.stream = stream
        self.signals = dict(signals)
        """By name, in the order of the definition."""
        self.gaps = gaps
        """What is missing in the range, in order."""
        self.markers = markers
        """Notes on samples of the chunks that came; of a run's own time, those in it. Columns have none, and those that people
        added are of devices: see `Client.markers`."""
        self.end = end
        """Why the stream ended, where its end came."""

    def __getitem__(self, name: str) -> Samples | Columns:
        try:
            return self.signals[name]
        except KeyError:
            there = ", ".join(self.signals)
            raise errors.UnknownSignal(f"there is no signal {name!r} in this answer: it has {there}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.signals

    def __repr__(self) -> str:
        return f"<{self.stream}: {', '.join(map(repr, self.signals.values()))}>"

    @property
    def time_ns(self) -> NDArray[np.int64]:
        """UTC of each sample or column, in nanoseconds since 1970: the same for all signals."""
        return next(iter(self.signals.values())).time_ns

    @property
    def time(self) -> NDArray[np.datetime64]:
        """The same as NumPy's times."""
        return as_datetime(self.time_ns)

    def power(self) -> np.ma.MaskedArray[Any, np.dtype[np.float64]]:
        """Watt of each sample: current × voltage in f64, as the server derives it. Masked where either is missing."""
        power = power_of(self.stream, self.signals)
        if power is None:
            raise errors.UnknownSignal("power is current × voltage: read the samples of both, in A and V")
        return power

    def to_pandas(self) -> pd.DataFrame:
        """See `Waveform.to_pandas`."""
        return frames.to_pandas(self)

    def to_arrow(self) -> pa.Table:
        """See `Waveform.to_arrow`."""
        return frames.to_arrow(self)


class StreamWaveform(StreamPart):
    """What was read of one stream; of a run that has several times of a stream, of one of them."""

    def __init__(
        self,
        stream: Stream,
        signals: Mapping[str, Samples | Columns],
        gaps: tuple[Gap, ...],
        markers: tuple[Marker, ...],
        end: Reason | None,
        manifest: StreamManifest,
        asked: Span,
    ) -> None:
        super().__init__(stream, signals, gaps, markers, end)
        self.manifest = manifest
        self.asked = asked
        """What of the stream was asked for, by the run where it has times of its own: `from_ns` and `to_ns`, UTC in nanoseconds
        since 1970; None is open."""

    @property
    def is_drawn(self) -> bool:
        """Are these columns, or samples?"""
        return any(isinstance(signal, Columns) for signal in self.signals.values())

    @property
    def _span(self) -> Span:
        """From its first sample to after its last; there is one."""
        signal = next(iter(self.signals.values()))
        last = int(signal.edges()[-2]) if isinstance(signal, Columns) else signal.to_sample - 1
        length_ns = duration_ns(signal.to_sample - last, self.stream.rate_hz)
        return Span(int(self.time_ns[0]), int(self.time_ns[-1]) + length_ns)


class Waveform:
    """What was read: streams in order of time. A stream of which a run has several times is there once for each of them."""

    def __init__(self, streams: tuple[StreamWaveform, ...], list_markers: Callable[[Span], Sequence[Marker]] | None = None) -> None:
        self.streams = streams
        self._list_markers = list_markers
        """Asks the server for those of a time."""
        self._listed: Sequence[Marker] | None = None

    def __iter__(self) -> Iterator[StreamWaveform]:
        return iter(self.streams)

    def __len__(self) -> int:
        return len(self.streams)

    def __repr__(self) -> str:
        parts = "" if len(self) == self._stream_count else f" in {len(self)} parts"
        return f"<Waveform of {self._stream_count} streams{parts}: {', '.join(map(repr, self.streams))}>"

    @property
    def _stream_count(self) -> int:
        return len({one.stream.id for one in self.streams})

    @property
    def stream(self) -> StreamWaveform:
        """The one stream that it has. Streams are never joined, nor are times of one: where there are several, say which."""
        if len(self.streams) == 1:
            return self.streams[0]
        if self._stream_count == 1:
            times = "; ".join(f"{rfc3339(int(one.time_ns[0]))}, {len(one.time_ns):,}" for one in self if len(one.time_ns))
            raise errors.SeveralStreams(
                f"one time of a stream was meant, and the run has {len(self)} of {self.streams[0].stream}: go through them, or say "
                f"start= and end= (they start at, and have rows: {times})"
            )
        found = "; ".join(str(one.stream) for one in self.streams) or "none"
        raise errors.SeveralStreams(f"one stream was meant, and there are {len(self)}: go through them, or name one ({found})")

    def __getitem__(self, name: str) -> Samples | Columns:
        """A signal of the one stream that it has."""
        return self.stream[name]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is missing within the streams, in order."""
        return tuple(gap for stream in self.streams for gap in stream.gaps)

    @property
    def markers(self) -> tuple[Marker, ...]:
        """Of all streams, in order: those that came with samples. `Client.markers` has those that people added too."""
        return tuple(marker for stream in self.streams for marker in stream.markers)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each sample or column, by time; of several streams, by stream and time.

        Samples that are missing are rows too: NaN in floats, NA in integers, which have pandas' nullable types. Columns become
        `current_min`, `current_max`, `current_mean` and `current_count`.
        """
        if len(self.streams) == 1:
            return frames.to_pandas(self.streams[0])
        return frames.joined([(stream.stream.id, frames.to_pandas(stream)) for stream in self.streams])

    def to_arrow(self) -> pa.Table:
        """A row for each sample or column of the one stream, with column `time`; what is missing is null, and a NaN that was
        captured is a NaN. The stream's id, device, run, labels and gaps are metadata of the schema."""
        return frames.to_arrow(self.stream)

    def plot(
        self,
        signals: Sequence[str] | str | None = None,
        *,
        markers: Sequence[Marker] | None = None,
        axes: Axes | Sequence[Axes] | None = None,
        label: str | None = None,
    ) -> Figure:
        """Draws each signal: the band from min to max and the mean in it, gaps shaded with their reason, markers as lines.

        Markers are those of its time, also those that people added: the server is asked for them at the first picture, and where
        it cannot be asked any more, those that came with samples are drawn, and that is logged (`wavekeep`). `markers` are drawn
        instead: with `markers=waveform.markers`, or `()` for none, nobody is asked.

        `axes` are drawn into instead of new ones (one for each signal), `label` stands in the legend. Several streams are named
        there by device or run where that tells them apart, else by the first digits of their ids. Returns the figure.
        """
        names = [signals] if isinstance(signals, str) else signals
        # What cannot be drawn is refused before anybody is asked.
        return plotting.plot(self, names, self._drawn_markers if markers is None else lambda: markers, axes, label)

    def _drawn_markers(self) -> Sequence[Marker]:
        """Those of its time, in order: what came with samples was proven, and comes before what is listed of them."""
        spans = [one._span for one in self.streams if len(one.time_ns)]
        whole = Span(min(one.from_ns or 0 for one in spans), max(one.to_ns or 0 for one in spans))
        came = [marker for marker in self.markers if whole.has(marker.time_ns)]
        if self._listed is None and self._list_markers is not None:
            try:
                self._listed = self._list_markers(whole)
            except errors.WavekeepError as error:
                _LOG.warning("markers that people added are not drawn: %s", error)
        drawn = {one.stream.id for one in self.streams if one.is_drawn}
        known = {(marker.stream, marker.sample) for marker in came}

        def is_else(marker: Marker) -> bool:
            return marker.stream is None or (marker.stream in drawn and (marker.stream, marker.sample) not in known)

        return sorted([*came, *filter(is_else, self._listed or ())], key=lambda marker: marker.time_ns)

    def export(self, path: str | os.PathLike[str], *, gaps: str = "fail") -> None:
        """Writes the samples of the one stream into a file: `.npy`, `.csv` or `.parquet`, by its name.

        `gaps` is what to do where samples are missing: `fail`, `fill` (NaN, or null in Parquet) or `skip`. The file appears whole
        or not at all. What does not fit into memory, `wavekeep export` writes.
        """
        exporting.export(self.stream, path, gaps)
