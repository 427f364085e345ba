"""From the bytes of a chunk's columns to samples, each column held against the hash that was made at capture. Pure: no I/O.

# Invariants
- I14: a column is decoded and proven whole, however little of it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavekeep import codec, errors
from wavekeep.stream import Signal, Stream
from wavekeep.verify import Accepted, Present


def decode_chunk(stream: Stream, chunk: Accepted, columns: Sequence[tuple[Present, NDArray[Any]]]) -> None:
    """Decodes columns of a chunk; what lies in its cut goes into the array beside each."""
    for present, out in columns:
        _decode_column(stream.id, stream.signals[present.place], chunk, present, out)


def _decode_column(stream: str, signal: Signal, chunk: Accepted, present: Present, out: NDArray[Any]) -> None:
    header, seq = chunk.header, chunk.header.seq
    skip, count = chunk.from_sample - header.first_sample, header.count
    is_whole = skip == 0 and len(out) == count
    whole = out if is_whole else np.empty(count, out.dtype)
    try:
        codec.decode(signal.number, signal.sample_type, present.encoding, present.encoded, present.hash, whole)
    except codec.Altered as error:
        fault = f"signal {signal.name} of seq {seq} does not decode to the samples that were captured: {error}"
        raise errors.ColumnAltered(stream, fault, seq=seq, signal=signal.name) from error
    except codec.CodecError as error:
        fault = f"signal {signal.name} of seq {seq} cannot be decoded: {error}"
        raise errors.ColumnUndecodable(stream, fault, seq=seq, signal=signal.name) from error
    if not is_whole:
        out[:] = whole[skip : skip + len(out)]
