"""Two groups of runs, measured, and what can be said of their difference. docs/COMPARE.md says what is computed, and when
nothing is claimed.

# Invariants
- Nothing is computed here: every number is the server's, and a number that it does not give is None, never zero.
- A verdict or a metric that this version does not know is an error, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wavekeep import frames, overlay
from wavekeep.errors import InvalidQuestion, Malformed
from wavekeep.v1 import query_pb2

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Metric(StrEnum):
    """By what runs are compared."""

    ENERGY = "energy"
    """In J; of a signal in W."""
    CHARGE = "charge"
    """In C; of a signal in A."""
    MEAN = "mean"
    """Of the samples."""
    PEAK = "peak"
    """The largest sample."""
    DURATION = "duration"
    """From the first sample to the last, in s."""


class Verdict(StrEnum):
    """What can be said of the second group against the first."""

    LESS = "less"
    """All of the interval lies below zero."""
    MORE = "more"
    NO_DIFFERENCE_SHOWN = "no_difference_shown"
    """The interval has zero in it."""
    CANNOT_SAY = "cannot_say"
    """There is no interval: the sentence says why."""


# Their numbers on the wire start at 1.
_METRICS = dict(enumerate(Metric, start=1))
_VERDICTS = dict(enumerate(Verdict, start=1))


@dataclass(frozen=True, slots=True)
class Interval:
    """A relative difference lies in it, in `level` of all experiments. −0.1 is 10 % less."""

    low: float
    high: float
    level: float
    """0.95."""


@dataclass(frozen=True, slots=True)
class Welch:
    """Welch's test of equal means."""

    t: float
    """Of second minus first."""
    degrees_of_freedom: float
    p: float
    """Of both sides."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the second group against the first."""

    absolute: float
    """Second minus first, of the means."""
    relative: float | None
    """The same, to the first's mean; None where that is not above zero."""
    interval: Interval | None
    """Of `relative`; None with too few runs."""
    welch: Welch | None
    """None where a group has one run, or nothing varies."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One run of a group."""

    run: str
    device: str
    """Whose signal it is."""
    from_ns: int
    """UTC of its first sample, in nanoseconds since 1970."""
    to_ns: int
    """UTC after its last."""
    align_ns: int
    """UTC of the moment that is laid over that of the others."""
    duration_s: float
    """From its first sample to its last."""
    gap_s: float
    """Of that, without a stored sample."""
    sample_count: int
    gap_sample_count: int
    finite_count: int
    mean: float
    min: float
    peak: float
    """The largest sample."""
    energy_joule: float | None
    """Of a signal in watt."""
    charge_coulomb: float | None
    """Of a signal in ampere."""
    value: float
    """Of the metric."""


@dataclass(frozen=True, slots=True)
class RunGroup:
    """One of the groups."""

    name: str
    """As it was asked for."""
    runs: tuple[MeasuredRun, ...]
    """By name."""
    mean: float
    """Of the runs' values."""
    std: float | None
    """Of a sample: ÷ (n − 1); None of one run."""

    @property
    def values(self) -> NDArray[np.float64]:
        """The runs' values of the metric."""
        return np.array([run.value for run in self.runs], np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class GroupColumns:
    """What the runs of a group have in each column; NaN where none has a sample."""

    min: NDArray[np.float64]
    """The smallest sample of all runs."""
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    """Of the runs' means: each run counts the same."""
    runs: NDArray[np.uint32]
    """Runs that have samples there."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedColumns:
    """Both groups on one axis."""

    from_ns: int
    """Start of the first column, from the moment that is laid over each other, in nanoseconds."""
    column_ns: int
    first: GroupColumns
    second: GroupColumns
    difference: NDArray[np.float64]
    """Of the means, second minus first; NaN where a group has none."""

    def __len__(self) -> int:
        """How many columns there are."""
        return len(self.difference)

    @property
    def start_s(self) -> NDArray[np.float64]:
        """Where each column starts, in seconds from the moment that is laid over each other."""
        return (self.from_ns + np.arange(len(self), dtype=np.int64) * self.column_ns) / 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What `Client.compare` answers. `str()` is its sentence."""

    sentence: str
    """`B uses 12.4 % less energy than A; 95 % interval 11.9 to 12.9 %; 20 runs each`."""
    notes: tuple[str, ...]
    """What limits it: what is missing, other durations."""
    signal: str
    unit: str
    """Of the signal."""
    metric: Metric
    metric_unit: str
    first: RunGroup
    second: RunGroup
    difference: Difference
    """Of the metric."""
    mean_difference: Difference | None
    """Of the signal's mean, beside energy and charge."""
    columns: ComparedColumns | None = field(repr=False)
    """Where points were asked for."""

    def __iter__(self) -> Iterator[RunGroup]:
        """Both groups."""
        return iter((self.first, self.second))

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        return f"<Comparison by {self.metric} of {self.signal}: {self.sentence}>"

    def to_pandas(self) -> pd.DataFrame:
        """A row for each run, by group and run: whose it is, when it was, what it comes to. `value` is that of the metric.

        Times are UTC; energy and charge are NaN where the signal has none. `attrs` has the sentence, signal, metric and units.
        """
        names = [one.name for one in fields(MeasuredRun)]
        rows = [(group.name, *(getattr(run, name) for name in names)) for group in self for run in group.runs]
        about = {name: str(getattr(self, name)) for name in ("sentence", "signal", "unit", "metric", "metric_unit")}
        return frames.of_runs(("group", *names), rows, about)

    def plot(self, *, axes: Axes | Sequence[Axes] | None = None) -> Figure:
        """Draws both groups over each other: of each the band from its smallest to its largest sample, and the mean of its runs;
        and below it the difference of these means, second minus first.

        `axes` are drawn into instead of new ones: two, or one for the groups alone. Returns the figure.
        """
        return overlay.plot(self, axes)


def metric_to_wire(metric: Metric | str | None) -> query_pb2.Metric:
    """None: what the signal's unit suggests."""
    if metric is None:
        return query_pb2.METRIC_UNSPECIFIED
    known: list[str] = [str(one) for one in Metric]
    if metric not in known:
        raise InvalidQuestion(f"metric={metric!r}: say one of {', '.join(known)}, or leave it out")
    return next(number for number, name in enumerate(known, start=1) if name == metric)  # type: ignore[return-value]


def align_to_wire(align: str | None) -> str:
    """The marker's text; nothing for the runs' starts."""
    if align in (None, "start"):
        return ""
    head, _, text = align.partition(":")
    if head != "marker" or not text:
        raise InvalidQuestion(f"align={align!r}: say 'start', or 'marker:' and the marker's text, as in 'marker:boot'")
    return text


def _difference(wire: query_pb2.Difference) -> Difference:
    if wire.verdict not in _VERDICTS:
        raise Malformed("a verdict that this version does not know")
    interval, welch = wire.interval, wire.welch
    return Difference(
        absolute=wire.absolute,
        relative=wire.relative if wire.HasField("relative") else None,
        interval=Interval(interval.low, interval.high, interval.level) if wire.HasField("interval") else None,
        welch=Welch(welch.t, welch.degrees_of_freedom, welch.p) if wire.HasField("welch") else None,
        verdict=_VERDICTS[wire.verdict],
    )


def _measured(wire: query_pb2.MeasuredRun) -> MeasuredRun:
    return MeasuredRun(
        run=wire.run,
        device=wire.device,
        from_ns=wire.from_ns,
        to_ns=wire.to_ns,
        align_ns=wire.align_ns,
        duration_s=wire.duration_s,
        gap_s=wire.gap_s,
        sample_count=wire.sample_count,
        gap_sample_count=wire.gap_sample_count,
        finite_count=wire.finite_count,
        mean=wire.mean,
        min=wire.min,
        peak=wire.peak,
        energy_joule=wire.energy_joule if wire.HasField("energy_joule") else None,
        charge_coulomb=wire.charge_coulomb if wire.HasField("charge_coulomb") else None,
        value=wire.value,
    )


def _group(wire: query_pb2.RunGroup) -> RunGroup:
    runs = tuple(_measured(run) for run in wire.runs)
    return RunGroup(wire.name, runs, wire.mean, wire.std if wire.HasField("std") else None)


def _columns(wire: query_pb2.ComparedColumns) -> ComparedColumns:
    groups = [(group.min, group.max, group.mean, group.runs) for group in (wire.first, wire.second)]
    if any(len(values) != len(wire.difference) for group in groups for values in group) or wire.column_ns == 0:
        raise Malformed("columns of a comparison that are not as many as the others")
    first, second = (
        GroupColumns(np.array(low), np.array(high), np.array(mean), np.array(runs, np.uint32)) for low, high, mean, runs in groups
    )
    return ComparedColumns(wire.from_ns, wire.column_ns, first, second, np.array(wire.difference))


def comparison_from_wire(wire: query_pb2.CompareRunsResponse) -> Comparison:
    """From an answer."""
    if not (wire.HasField("first") and wire.HasField("second") and wire.HasField("difference")):
        raise Malformed("a comparison lacks a group or the difference")
    if wire.metric not in _METRICS:
        raise Malformed("a metric that this version does not know")
    return Comparison(
        sentence=wire.sentence,
        notes=tuple(wire.notes),
        signal=wire.signal,
        unit=wire.unit,
        metric=_METRICS[wire.metric],
        metric_unit=wire.metric_unit,
        first=_group(wire.first),
        second=_group(wire.second),
        difference=_difference(wire.difference),
        mean_difference=_difference(wire.mean_difference) if wire.HasField("mean_difference") else None,
        columns=_columns(wire.columns) if wire.HasField("columns") else None,
    )
