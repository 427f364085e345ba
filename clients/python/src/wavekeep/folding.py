"""Samples folded into columns, for a picture of them: the same columns that a server would draw. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavekeep.drawn import bucket_edges
from wavekeep.sample_types import SampleType
from wavekeep.signals import Samples


@dataclass(frozen=True, slots=True)
class Folded:
    """Columns of the finite samples; NaN where there are none."""

    edges: NDArray[np.int64]
    """Where each column starts on the sample axis, and where the last one ends."""
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: NDArray[np.int64]


def fold(samples: Samples, bucket_samples: int) -> Folded:
    """Columns that end at multiples of `bucket_samples`."""
    edges = bucket_edges(samples.first_sample, samples.to_sample, bucket_samples)
    count = len(edges) - 1
    low, high, mean = (np.full(count, np.nan) for _ in range(3))
    finite_count = np.zeros(count, np.int64)
    places = _stored_before(samples, edges)
    there = np.flatnonzero(np.diff(places))
    if len(there):
        values = _numbers(samples)
        finite = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), np.bool_)
        starts = places[there]
        finite_count[there] = np.add.reduceat(finite.astype(np.int64), starts)
        if not finite.all():
            values = np.where(finite, values, np.nan)
        low[there] = np.fmin.reduceat(values, starts)
        high[there] = np.fmax.reduceat(values, starts)
        sums = np.add.reduceat(np.where(finite, values, 0).astype(np.float64), starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean[there] = sums / finite_count[there]
    return Folded(edges, low, high, mean, finite_count)


def _numbers(samples: Samples) -> NDArray[Any]:
    if samples.sample_type is SampleType.I128:
        return samples.stored["high"].astype(np.float64) * 2.0**64 + samples.stored["low"].astype(np.float64)
    return samples.stored


def _stored_before(samples: Samples, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many stored samples lie before each of these places of the axis."""
    segments = [(first, len(values)) for first, values in samples.segments()]
    if not segments:
        return np.zeros(len(edges), np.int64)
    first = np.array([segment[0] for segment in segments], np.int64)
    length = np.array([segment[1] for segment in segments], np.int64)
    before = np.concatenate([[0], np.cumsum(length)])
    at = np.searchsorted(first, edges, side="right") - 1
    inside = np.clip(edges - first[np.maximum(at, 0)], 0, length[np.maximum(at, 0)])
    return np.where(at < 0, 0, before[np.maximum(at, 0)] + inside)
