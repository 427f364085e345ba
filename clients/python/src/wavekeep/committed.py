"""A chunk as it was committed, proven: what `Client.tail` hands out.

# Invariants
- It has an element for each sample of its range, stored or missing, as every waveform has.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wavekeep.listing import Gap, Marker
from wavekeep.reasons import Reason
from wavekeep.signals import Samples
from wavekeep.stream import Stream
from wavekeep.time_axis import TimeAxis
from wavekeep.waveform import StreamPart


class Committed(StreamPart):
    """One chunk of one stream: samples, a gap (all of it is masked), or the end (it has no samples, and `end` says why)."""

    def __init__(
        self,
        stream: Stream,
        signals: Mapping[str, Samples],
        gaps: tuple[Gap, ...],
        markers: tuple[Marker, ...],
        end: Reason | None,
        axis: TimeAxis,
        span: tuple[int, int],
        seqs: tuple[int, int],
        committed_ns: int,
        expired: tuple[int, int] | None,
    ) -> None:
        super().__init__(stream, signals, gaps, markers, end)
        self.first_sample, self.to_sample = span
        """The samples of the stream's axis that it covers: from, to."""
        self.first_seq, self.seq = seqs
        """Its seq; a gap may stand for several: from the first."""
        self.committed_ns = committed_ns
        """When it was committed, by the database's clock: UTC in nanoseconds since 1970."""
        self.expired = expired
        """Chunks before it that are not stored any more, by their seqs: the first and the last. None where none are missing."""
        self._axis = axis

    def __len__(self) -> int:
        """Samples of the axis, stored and missing."""
        return self.to_sample - self.first_sample

    def __getitem__(self, name: str) -> Samples:
        signal = super().__getitem__(name)
        assert isinstance(signal, Samples), "nothing is drawn of what is followed"
        return signal

    def __repr__(self) -> str:
        what = f"the end: {self.end}" if self.end is not None else ", ".join(map(repr, self.signals.values()))
        return f"<Committed seq {self.seq} of stream {self.stream.id} of {self.stream.device}: {what}>"

    @property
    def time_ns(self) -> NDArray[np.int64]:
        """UTC of each sample, in nanoseconds since 1970."""
        return self._axis.times_ns()
