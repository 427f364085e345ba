"""What is drawn of a stream: columns of min, max and mean, checked as far as they can be. Pure: no I/O.

# Invariants
- I9: the columns of a signal tile the range of the manifest: the first starts at its start, each next one at a multiple of the
  width, the last ends at its end. None counts more samples than it spans, and all of them no more than lie outside of gaps.
- I12: an answer has at most as many columns of a signal of a stream as points were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wavekeep import errors, limits
from wavekeep.listing import Gap, gap_from_wire
from wavekeep.stream import POWER_NAME, POWER_NUMBER, POWER_UNIT, Stream
from wavekeep.v1 import query_pb2

_MEAN_ROUNDING = 1e-6
"""A mean may lie outside of min and max by so much of the larger of them: sums of billions of samples are rounded."""
_LEVEL_MAX = 15
"""16^15 is the largest level whose buckets fit into the axis."""


def bucket_edges(first_sample: int, to_sample: int, bucket_samples: int) -> NDArray[np.int64]:
    """Where columns start, and where the last one ends: at multiples of the width, and at both ends of the range."""
    inner = range((first_sample // bucket_samples + 1) * bucket_samples, to_sample, bucket_samples)
    return np.array([first_sample, *inner, to_sample], np.int64)


@dataclass(slots=True)
class Drawn:
    """What came of a signal."""

    name: str
    unit: str
    place: int | None
    """In the definition; None for power, which is derived."""
    parts: list[query_pb2.WaveformColumns] = field(default_factory=list)
    columns: int = 0
    counted: int = 0
    missing: int = 0
    """Samples in gaps of this signal alone."""


class DrawnCheck:
    """What came of a stream."""

    def __init__(self, stream: Stream, asked: Sequence[int], names: Sequence[str], points_max: int) -> None:
        self.stream = stream
        self.points_max = points_max
        self.signals: dict[int, Drawn] = {}
        """By number."""
        for place in asked:
            signal = stream.signals[place]
            self.signals[signal.number] = Drawn(signal.name, signal.unit, place)
        if (not names or POWER_NAME in names) and stream.power_of() is not None:
            self.signals[POWER_NUMBER] = Drawn(POWER_NAME, POWER_UNIT, None)
        self.gaps: list[Gap] = []
        self.missing = 0
        """Samples in gaps of all signals."""

    def has_columns(self) -> bool:
        """Did any come?"""
        return any(drawn.parts for drawn in self.signals.values())

    def take(self, wire: query_pb2.WaveformColumns, from_ns: int | None, to_ns: int | None) -> None:
        """Takes the next columns of a signal."""
        drawn = self.signals.get(wire.signal)
        if drawn is None:
            raise self._wrong(str(wire.signal), wire, "the signal was not asked for")
        wrong = self._place(drawn, wire) or self._time(drawn, wire, from_ns, to_ns) or self._values(drawn, wire)
        if wrong is not None:
            raise self._wrong(drawn.name, wire, wrong)
        drawn.parts.append(wire)

    def _wrong(self, name: str, wire: query_pb2.WaveformColumns, why: str) -> errors.DrawnWrong:
        fault = f"I9: the columns of {name} from sample {wire.first_sample} on are wrong: {why}"
        return errors.DrawnWrong(self.stream.id, fault, signal=name)

    def _place(self, drawn: Drawn, wire: query_pb2.WaveformColumns) -> str | None:
        first, to, width = wire.first_sample, wire.to_sample, wire.bucket_samples
        stored = (self.stream.first_sample, self.stream.next_sample)
        if not stored[0] <= first < to <= stored[1]:
            return f"they reach from sample {first} to {to}, and the stream has {stored[0]} to {stored[1]}"
        if width == 0 or width > limits.SAMPLE_ID_MAX or wire.level > _LEVEL_MAX:
            return f"{width} samples a column at level {wire.level} make no columns"
        if drawn.parts:
            last = drawn.parts[-1]
            # Only the last column of all may be cut short.
            goes_on = last.to_sample % last.bucket_samples == 0
            if not goes_on or (last.to_sample, last.bucket_samples, last.level) != (first, width, wire.level):
                return f"they do not continue those before, which end at sample {last.to_sample}"
        expected = (to - 1) // width - first // width + 1
        drawn.columns += expected
        if drawn.columns > self.points_max:
            return f"they would be {drawn.columns}, and at most {self.points_max} were asked for"
        lengths = {len(wire.time_ns), len(wire.min), len(wire.max), len(wire.mean), len(wire.count)}
        if lengths != {expected}:
            return f"{expected} columns must have come, and others did"
        return None

    @staticmethod
    def _time(drawn: Drawn, wire: query_pb2.WaveformColumns, from_ns: int | None, to_ns: int | None) -> str | None:
        """The first column starts with the first sample at or after the start of the range, so it starts in the range."""
        if drawn.parts:
            return None
        start_ns = wire.time_ns[0]
        outside = (from_ns is not None and start_ns < from_ns) or (to_ns is not None and start_ns >= to_ns)
        return "they start outside of the time asked for" if outside else None

    @staticmethod
    def _values(drawn: Drawn, wire: query_pb2.WaveformColumns) -> str | None:
        """Does each say something that samples can say?"""
        spans = np.diff(bucket_edges(wire.first_sample, wire.to_sample, wire.bucket_samples))
        count = np.array(wire.count, np.uint64)
        if (count > spans.astype(np.uint64)).any():
            return "more samples are counted than there are"
        low, high, mean = np.array(wire.min), np.array(wire.max), np.array(wire.mean)
        empty = count == 0
        if not np.isnan(np.stack([low[empty], high[empty], mean[empty]])).all():
            return "a column that counts no samples has a value"
        low, high, mean = low[~empty], high[~empty], mean[~empty]
        with np.errstate(all="ignore"):
            largest = np.maximum(np.abs(low), np.abs(high))
            slack = largest * _MEAN_ROUNDING
            within = (low - slack <= mean) & (mean <= high + slack)
            # The sum of huge samples overflows, and has no mean.
            overflows = ~np.isfinite(largest * count[~empty])
            ordered = np.isfinite(low) & np.isfinite(high) & (low <= high) & (within | overflows)
        if not ordered.all():
            return "min, mean and max are in no order"
        drawn.counted += int(count.sum())
        return None

    def take_gaps(self, stated: Sequence[query_pb2.Gap]) -> None:
        """Takes the gaps that a manifest names."""
        stream = self.stream
        for wire in stated:
            gap = gap_from_wire(wire)
            inside = stream.first_sample <= gap.first_sample and gap.to_sample <= stream.next_sample
            if gap.stream != stream.id or gap.count == 0 or not inside:
                fault = f"the manifest does not agree with what came: {gap} lie outside of the stream"
                raise errors.ManifestWrong(stream.id, fault)
            self.gaps.append(gap)
            if not gap.signals:
                self.missing += gap.count
            for drawn in self.signals.values():
                if drawn.name in gap.signals:
                    drawn.missing += gap.count

    def check_counts(self, from_sample: int, to_sample: int) -> None:
        """The columns of each signal tile this range, and count no more than lies outside of gaps."""
        for drawn in self.signals.values():
            span = (drawn.parts[0].first_sample, drawn.parts[-1].to_sample) if drawn.parts else (from_sample, from_sample)
            if span != (from_sample, to_sample):
                fault = (
                    f"the manifest does not agree with what came: columns of {drawn.name} from {from_sample} to {to_sample} "
                    f"there, and from {span[0]} to {span[1]} here"
                )
                raise errors.ManifestWrong(self.stream.id, fault, signal=drawn.name)
            there = max(0, to_sample - from_sample - self.missing - drawn.missing)
            if drawn.counted > there:
                fault = f"I9: the columns of {drawn.name} count {drawn.counted} samples where there are {there}"
                raise errors.DrawnWrong(self.stream.id, fault, signal=drawn.name)
