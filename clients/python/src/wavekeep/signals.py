"""What was read of one signal of one stream: its samples, or columns drawn from them.

# Invariants
- Gaps are never joined: `Samples.samples` has one element for each sample of the axis, and those that are missing are masked. What
  is stored is kept without them, so that a gap of a day costs nothing until somebody asks for the array.
- Nothing rounds: the elements are the bits as captured, NaN payloads and −0.0 included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavekeep import memory
from wavekeep.drawn import Drawn, bucket_edges
from wavekeep.listing import Gap
from wavekeep.sample_types import SampleType
from wavekeep.stream import Stream
from wavekeep.time_axis import TimeAxis


class Segment(NamedTuple):
    """Samples without a break."""

    first_sample: int
    """Where they start on the sample axis."""
    samples: NDArray[Any]


def as_datetime(time_ns: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """Nanoseconds since 1970 as NumPy's UTC times; a view."""
    return time_ns.view("datetime64[ns]")


class Samples:
    """The samples of one signal, as they were captured."""

    def __init__(
        self,
        name: str,
        unit: str,
        sample_type: SampleType,
        axis: TimeAxis,
        span: tuple[int, int],
        stored: NDArray[Any],
        runs: Sequence[tuple[int, int]],
        gaps: Sequence[Gap],
    ) -> None:
        self.name = name
        self.unit = unit
        """SI symbol; empty for a bare number."""
        self.sample_type = sample_type
        self.first_sample, self.to_sample = span
        """The samples of the axis that it covers: from, to."""
        self.stored = stored
        """The samples that are stored, one after the other, without the gaps. See `segments`."""
        self.gaps = tuple(gaps)
        """What is missing of this signal."""
        self._axis = axis
        self._runs = tuple(runs)
        """Of the stored samples: where each run starts on the axis, and how long it is."""

    def __len__(self) -> int:
        """Samples of the axis, stored and missing."""
        return self.to_sample - self.first_sample

    def __repr__(self) -> str:
        missing = len(self) - len(self.stored)
        return f"<Samples of {self.name} [{self.unit}]: {len(self):,} {self.sample_type}, {missing:,} of them missing>"

    @property
    def has_gaps(self) -> bool:
        """Is anything missing?"""
        return len(self.stored) < len(self)

    def segments(self) -> Iterator[Segment]:
        """The samples between the gaps, without a copy."""
        at = 0
        for first, count in self._runs:
            yield Segment(first, self.stored[at : at + count])
            at += count

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which samples of the axis are missing."""
        mask = np.ones(len(self), np.bool_)
        for first, count in self._runs:
            mask[first - self.first_sample : first - self.first_sample + count] = False
        return mask

    @property
    def samples(self) -> np.ma.MaskedArray[Any, Any]:
        """One element for each sample of the axis; what is missing is masked. Without gaps it is no copy.

        Under the mask floats are NaN and integers 0, so that nobody takes the one before for a sample.
        """
        if not self.has_gaps:
            return np.ma.array(self.stored)
        advice = "what is stored is only what `segments()` gives; or choose a shorter time"
        memory.require(len(self) * (self.stored.dtype.itemsize + 1), advice)
        fill = np.nan if self.sample_type.is_float else np.zeros((), self.stored.dtype)
        dense = np.full(len(self), fill, self.stored.dtype)
        for first, samples in self.segments():
            dense[first - self.first_sample : first - self.first_sample + len(samples)] = samples
        mask = self.mask
        if dense.dtype.names:
            mask = mask.astype(np.ma.make_mask_descr(dense.dtype))
        return np.ma.array(dense, mask=mask)

    @property
    def time_ns(self) -> NDArray[np.int64]:
        """UTC of each sample of the axis, also of those that are missing, in nanoseconds since 1970."""
        memory.require(len(self) * 8, "choose a shorter time")
        return self._axis.times_ns()

    @property
    def time(self) -> NDArray[np.datetime64]:
        """The same as NumPy's times."""
        return as_datetime(self.time_ns)


class Columns:
    """What is drawn of one signal: column after column, of the finite samples in each."""

    def __init__(self, drawn: Drawn, gaps: Sequence[Gap], span: tuple[int, int]) -> None:
        parts = drawn.parts
        self.name = drawn.name
        self.unit = drawn.unit
        self.first_sample, self.to_sample = span
        self.bucket_samples = parts[0].bucket_samples if parts else 0
        """Each column ends at the next multiple of this."""
        self.level = parts[0].level if parts else 0
        """They were folded from buckets of 16^level samples."""
        self.time_ns = _joined([part.time_ns for part in parts], np.int64)
        """UTC of each column's first sample, in nanoseconds since 1970."""
        self.min = _joined([part.min for part in parts], np.float64)
        """NaN where there is no finite sample; so are `max` and `mean`."""
        self.max = _joined([part.max for part in parts], np.float64)
        self.mean = _joined([part.mean for part in parts], np.float64)
        self.count = _joined([part.count for part in parts], np.uint64)
        """Finite samples."""
        self.gaps = tuple(gaps)

    def __len__(self) -> int:
        """How many columns there are."""
        return len(self.count)

    def __repr__(self) -> str:
        return f"<Columns of {self.name} [{self.unit}]: {len(self):,} of {self.bucket_samples:,} samples each>"

    @property
    def has_gaps(self) -> bool:
        """Is anything missing?"""
        return bool(self.gaps)

    @property
    def time(self) -> NDArray[np.datetime64]:
        """UTC of each column's first sample, as NumPy's times."""
        return as_datetime(self.time_ns)

    def edges(self) -> NDArray[np.int64]:
        """Where each column starts on the sample axis, and where the last one ends."""
        if not len(self):
            return np.array([self.first_sample], np.int64)
        return bucket_edges(self.first_sample, self.to_sample, self.bucket_samples)


def _joined(parts: Sequence[Any], dtype: Any) -> NDArray[Any]:
    arrays = [np.array(part, dtype) for part in parts]
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


def power_of(stream: Stream, signals: dict[str, Samples | Columns]) -> np.ma.MaskedArray[Any, np.dtype[np.float64]] | None:
    """The power of each sample in watt, in f64 as the server derives it; None without samples of current and voltage."""
    current, voltage = signals.get("current"), signals.get("voltage")
    if stream.power_of() is None or not isinstance(current, Samples) or not isinstance(voltage, Samples):
        return None
    product: np.ma.MaskedArray[Any, np.dtype[np.float64]] = current.samples.astype(np.float64) * voltage.samples.astype(np.float64)
    return product
