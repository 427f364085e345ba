"""When samples were taken: the map from sample ids to UTC, exactly as the server and the other clients compute it. Pure.

# Invariants
- Each chunk says the UTC of its first sample; within it, samples follow at the stream's rate, rounded to nanoseconds, half away
  from zero. The scalar and the vector form agree in every bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_I64_MAX = (1 << 63) - 1
_PIECE = 1 << 20
"""Samples of a long piece that are computed at once."""


def duration_ns(samples: int, rate_hz: float) -> int:
    """The time between two samples of the axis that are `samples` apart, in nanoseconds."""
    whole_s = math.floor(samples / rate_hz)
    rest = samples - whole_s * rate_hz
    ns = rest / rate_hz * 1e9
    whole = math.trunc(ns)
    nearest = whole + (math.copysign(1.0, ns) if abs(ns - whole) >= 0.5 else 0.0)
    return min(int(whole_s * 1e9 + nearest), _I64_MAX)


class Piece(NamedTuple):
    """Samples `first_sample` to `to_sample`, of a chunk that begins at `origin_sample`, taken at `utc_ns`."""

    first_sample: int
    to_sample: int
    origin_sample: int
    utc_ns: int


def sample_at(origin_sample: int, end_sample: int, utc_ns: int, rate_hz: float, time_ns: int) -> int:
    """The first sample of a chunk that was taken at or after a time; its end where none was."""
    low, high = origin_sample, end_sample
    while low < high:
        middle = low + (high - low) // 2
        if utc_ns + duration_ns(middle - origin_sample, rate_hz) < time_ns:
            low = middle + 1
        else:
            high = middle
    return low


class TimeAxis:
    """Pieces that tile a range of samples."""

    def __init__(self, rate_hz: float, pieces: Sequence[Piece] = ()) -> None:
        self.rate_hz = rate_hz
        self.pieces = list(pieces)

    def append(self, piece: Piece) -> None:
        """Goes on with the next piece. Empty ones are left out."""
        if piece.to_sample > piece.first_sample:
            self.pieces.append(piece)

    def time_ns(self, piece: Piece, sample: int) -> int:
        """When a sample of a piece was taken, UTC in nanoseconds."""
        return piece.utc_ns + duration_ns(sample - piece.origin_sample, self.rate_hz)

    def times_ns(self) -> NDArray[np.int64]:
        """When every sample of the range was taken."""
        count = sum(piece.to_sample - piece.first_sample for piece in self.pieces)
        out = np.empty(count, np.int64)
        at = 0
        for piece in self.pieces:
            for first in range(piece.first_sample, piece.to_sample, _PIECE):
                to = min(first + _PIECE, piece.to_sample)
                self._fill(out[at : at + to - first], piece, first)
                at += to - first
        return out

    def _fill(self, out: NDArray[np.int64], piece: Piece, first: int) -> None:
        skipped = first - piece.origin_sample
        step = 1e9 / self.rate_hz
        end = skipped + len(out)
        # Whole steps are exact as long as no product leaves the integers that f64 has.
        if step == int(step) and self.rate_hz == int(self.rate_hz) and end * step < 2**53:
            step_ns = int(step)
            start = piece.utc_ns + skipped * step_ns
            out[:] = np.arange(start, start + len(out) * step_ns, step_ns, dtype=np.int64)
            return
        samples = np.arange(skipped, end, dtype=np.float64)
        whole_s = np.floor(samples / self.rate_hz)
        ns = (samples - whole_s * self.rate_hz) / self.rate_hz * 1e9
        whole = np.trunc(ns)
        whole += np.copysign((np.abs(ns - whole) >= 0.5).astype(np.float64), ns)
        after = whole_s * 1e9 + whole
        far = after >= float(_I64_MAX)
        after[far] = 0
        after_ns = after.astype(np.int64)
        after_ns[far] = _I64_MAX
        # What lies beyond the times that there are stays at the last one.
        out[:] = piece.utc_ns + np.minimum(after_ns, _I64_MAX - max(0, piece.utc_ns))
