"""What listings are made of: devices, gaps, markers, statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from wavekeep.errors import Malformed
from wavekeep.reasons import Reason
from wavekeep.stream import Stream, reason_from_wire
from wavekeep.v1 import query_pb2, stream_pb2


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the workspace, with what is stored of it."""

    name: str
    streams: int
    first_time_ns: int | None
    """UTC of its earliest sample, in nanoseconds since 1970; None while it has none."""
    last_time_ns: int | None
    """UTC after its latest."""
    sample_count: int
    """Over the axes of all its streams."""
    gap_sample_count: int
    stored_bytes: int
    """Encoded."""
    live: bool
    """Has it a stream that has not ended?"""


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that are missing, and why."""

    stream: str
    device: str
    first_sample: int
    count: int
    """0 for an outage: the time between a crash and the device's next epoch, which has no sample ids."""
    reason: Reason
    from_ns: int
    """UTC of its start, in nanoseconds since 1970."""
    to_ns: int
    """UTC after its end."""
    signals: tuple[str, ...] = ()
    """Those that are missing; empty for all."""

    @property
    def to_sample(self) -> int:
        """Where it ends on the sample axis."""
        return self.first_sample + self.count

    def concerns(self, signal: str) -> bool:
        """Is this signal missing?"""
        return not self.signals or signal in self.signals

    def __str__(self) -> str:
        signals = f" of {', '.join(self.signals)}" if self.signals else ""
        return f"{self.count:,} samples{signals} from sample {self.first_sample} on ({self.reason})"


@dataclass(frozen=True, slots=True)
class Marker:
    """A note: at a sample, as it came in a chunk, or at a time of a device, as somebody added it."""

    device: str
    stream: str | None
    """None where it was added."""
    sample: int | None
    """On the stream's axis; None where it was added."""
    time_ns: int
    """UTC, in nanoseconds since 1970."""
    kind: int
    """0 text, 1 vertical, 2 horizontal; sources may add."""
    group: int
    """Markers of a group belong together."""
    y: float
    """Height on the axis; NaN when it has none."""
    content: Any
    """Text as `str`, JSON as what it says, anything else as `bytes`."""
    id: UUID | None = None
    """Of one that was added."""

    def __str__(self) -> str:
        return self.content if isinstance(self.content, str) else repr(self.content)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Finite samples in bins of one width, as `numpy.histogram` has them: a bin holds edge ≤ x < next edge, the last one its end
    too."""

    edges: NDArray[np.float64]
    """One more than there are bins."""
    counts: NDArray[np.int64]
    """Samples of each bin."""
    below: int
    """Samples below the first bin."""
    above: int
    """Samples above the last one."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one signal over a range, folded over finite samples in f64. NaN where there is none."""

    device: str
    signal: str
    """`power` may be derived from current and voltage."""
    unit: str
    from_ns: int
    """UTC of the first sample, in nanoseconds since 1970."""
    to_ns: int
    """UTC after the last."""
    sample_count: int
    finite_count: int
    gap_sample_count: int
    min: float
    max: float
    mean: float
    std: float
    """Of the population: √(Σ(x − mean)² ÷ count)."""
    rms: float
    integral: float
    """Σx ÷ rate, in unit × seconds. What is missing adds nothing."""
    energy_joule: float | None
    """Of a signal in watt."""
    charge_coulomb: float | None
    """Of a signal in ampere."""
    duration_s: float
    """Of the samples, stored and missing: count ÷ rate, in seconds."""
    gap_s: float
    """Of those that are missing."""
    percentiles: Mapping[float, float] = field(default_factory=dict, hash=False)
    """By their share in percent, those that were asked for: p is the sample of rank ⌈p ÷ 100 × count⌉ (NumPy's
    `method="inverted_cdf"`), exactly one that was captured. NaN where nothing is finite."""
    histogram: Histogram | None = field(default=None, compare=False)
    """Where bins were asked for, and something is finite."""

    @property
    def energy_watt_hour(self) -> float | None:
        """The energy, in Wh."""
        return None if self.energy_joule is None else self.energy_joule / 3600

    @property
    def charge_ampere_hour(self) -> float | None:
        """The charge, in Ah."""
        return None if self.charge_coulomb is None else self.charge_coulomb / 3600


def device_from_wire(wire: query_pb2.Device) -> Device:
    """From an answer."""
    seen = wire.sample_count > 0 or wire.gap_sample_count > 0
    return Device(
        name=wire.name,
        streams=wire.streams,
        first_time_ns=wire.first_time_ns if seen else None,
        last_time_ns=wire.last_time_ns if seen else None,
        sample_count=wire.sample_count,
        gap_sample_count=wire.gap_sample_count,
        stored_bytes=wire.stored_bytes,
        live=wire.live,
    )


def gap_from_wire(wire: query_pb2.Gap) -> Gap:
    """From an answer."""
    return Gap(
        stream=wire.stream_id.hex(),
        device=wire.device,
        first_sample=wire.first_sample,
        count=wire.count,
        reason=reason_from_wire(wire.reason),
        from_ns=wire.from_ns,
        to_ns=wire.to_ns,
        signals=tuple(wire.signals),
    )


def marker_from_wire(stream: Stream, wire: stream_pb2.Marker, time_ns: int) -> Marker:
    """From a header that was checked."""
    content = _content(wire.format, wire.content)
    return Marker(stream.device, stream.id, wire.sample, time_ns, wire.kind, wire.group, wire.y, content)


def listed_marker_from_wire(wire: query_pb2.ListedMarker) -> Marker:
    """From an answer."""
    content = _content(wire.format, wire.content)
    stream, sample = (None, None) if wire.added_id else (wire.stream_id.hex(), wire.sample)
    added = UUID(bytes=wire.added_id) if wire.added_id else None
    return Marker(wire.device, stream, sample, wire.time_ns, wire.kind, wire.group, wire.y, content, added)


def _content(form: int, content: bytes) -> Any:
    """Text that is not UTF-8, and JSON that is none, stay bytes."""
    try:
        if form == stream_pb2.MARKER_FORMAT_TEXT:
            return content.decode()
        if form == stream_pb2.MARKER_FORMAT_JSON:
            return json.loads(content)
    except ValueError:
        pass
    return content


def _histogram(wire: query_pb2.Histogram) -> Histogram:
    # `from` is a word of Python's.
    start, end, bins = float(getattr(wire, "from")), wire.to, len(wire.counts)
    width = (end - start) / bins
    if not np.isfinite(width):
        width = end / bins - start / bins
    edges: NDArray[np.float64] = start + np.arange(bins + 1, dtype=np.float64) * np.float64(width)
    edges[-1] = end
    return Histogram(edges, np.array(wire.counts, np.int64), wire.below, wire.above)


def statistics_from_wire(wire: query_pb2.SignalStatistics, shares: Sequence[float] = (), bins: int = 0) -> Statistics:
    """From an answer to a question for these percentiles, and so many bins."""
    has_bins = wire.HasField("histogram")
    if len(wire.percentiles) != len(shares):
        raise Malformed("other percentiles than were asked for")
    if has_bins is not (bins > 0 and wire.finite_count > 0) or (has_bins and len(wire.histogram.counts) != bins):
        raise Malformed("another histogram than was asked for")
    return Statistics(
        device=wire.device,
        signal=wire.signal,
        unit=wire.unit,
        from_ns=wire.from_ns,
        to_ns=wire.to_ns,
        sample_count=wire.sample_count,
        finite_count=wire.finite_count,
        gap_sample_count=wire.gap_sample_count,
        min=wire.min,
        max=wire.max,
        mean=wire.mean,
        std=wire.std,
        rms=wire.rms,
        integral=wire.integral,
        energy_joule=wire.energy_joule if wire.HasField("energy_joule") else None,
        charge_coulomb=wire.charge_coulomb if wire.HasField("charge_coulomb") else None,
        duration_s=wire.duration_s,
        gap_s=wire.gap_s,
        percentiles=dict(zip(shares, wire.percentiles, strict=True)),
        histogram=_histogram(wire.histogram) if has_bins else None,
    )
