"""What was read as tables of pandas and Arrow.

# Invariants
- A row stands for a sample of the axis or for a column, also where it is missing: nothing is joined. Arrow tells a NaN that was
  captured from what is missing (null); pandas' floats cannot, its gaps are in `Waveform.gaps`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wavekeep.errors import MissingPackage
from wavekeep.sample_types import SampleType
from wavekeep.signals import Columns, Samples

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from wavekeep.waveform import StreamPart


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingPackage("pandas", "pandas") from error
    return pandas


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingPackage("pyarrow", "arrow") from error
    return pyarrow


def to_pandas(stream: StreamPart) -> pd.DataFrame:
    """See `Waveform.to_pandas`."""
    pandas = _pandas()
    frames = [_frame(pandas, signal) for signal in stream.signals.values()]
    first = frames[0]
    same = all(frame.index.equals(first.index) for frame in frames)
    # Signals of a stream share its axis; columns of another width would stand beside each other by time.
    frame: pd.DataFrame = pandas.concat(frames, axis=1, join="outer" if not same else "inner")
    frame.attrs.update(_facts(stream))
    return frame


def joined(frames: list[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Of several streams, by stream and time."""
    pandas = _pandas()
    if not frames:
        return pandas.DataFrame()  # type: ignore[no-any-return]
    frame: pd.DataFrame = pandas.concat([frame for _, frame in frames], keys=[key for key, _ in frames], names=["stream", "time"])
    return frame


def of_runs(names: Sequence[str], rows: Sequence[tuple[Any, ...]], about: dict[str, str]) -> pd.DataFrame:
    """See `Comparison.to_pandas`."""
    pandas = _pandas()
    frame: pd.DataFrame = pandas.DataFrame(rows, columns=list(names))
    for name in [name for name in names if name.endswith("_ns")]:
        frame[name] = pandas.to_datetime(frame[name], unit="ns", utc=True)
    # A sum of what is None everywhere would be of objects.
    optional = dict.fromkeys(("energy_joule", "charge_coulomb"), "float64")
    frame = frame.astype(optional).rename(columns=lambda name: name.removesuffix("_ns")).set_index(["group", "run"])
    frame.attrs.update(about)
    return frame


def _facts(stream: StreamPart) -> dict[str, Any]:
    about = stream.stream
    return {"stream": about.id, "device": about.device, "run": about.run, "labels": dict(about.labels), "rate_hz": about.rate_hz}


def _frame(pandas: Any, signal: Samples | Columns) -> Any:
    index = pandas.DatetimeIndex(signal.time, tz="UTC", name="time")
    if isinstance(signal, Columns):
        kinds = {"min": signal.min, "max": signal.max, "mean": signal.mean, "count": signal.count}
        return pandas.DataFrame({f"{signal.name}_{kind}": values for kind, values in kinds.items()}, index=index)
    samples = signal.samples
    values: Any
    if signal.sample_type.is_float:
        values = samples.data
    elif signal.sample_type is SampleType.I128:
        values = samples.data["high"].astype(object) * (1 << 64) + samples.data["low"].astype(object)
        values[signal.mask] = pandas.NA
    else:
        values = pandas.arrays.IntegerArray(samples.data, signal.mask)
    return pandas.DataFrame({signal.name: values}, index=index)


def to_arrow(stream: StreamPart) -> pa.Table:
    """See `Waveform.to_arrow`."""
    pyarrow = _arrow()
    names: list[str] = ["time"]
    arrays = [pyarrow.array(stream.time_ns).cast(pyarrow.timestamp("ns", tz="UTC"))]
    units: list[str] = [""]
    for signal in stream.signals.values():
        if isinstance(signal, Columns):
            if not np.array_equal(signal.time_ns, stream.time_ns):
                raise ValueError("the columns of these signals have different widths: make a table of each")
            kinds = {"min": signal.min, "max": signal.max, "mean": signal.mean, "count": signal.count}
            names += [f"{signal.name}_{kind}" for kind in kinds]
            arrays += [pyarrow.array(values) for values in kinds.values()]
            units += [signal.unit] * 3 + [""]
        else:
            names.append(signal.name)
            arrays.append(_array(pyarrow, signal))
            units.append(signal.unit)
    fields = [
        pyarrow.field(name, array.type, metadata={"unit": unit} if unit else None)
        for name, array, unit in zip(names, arrays, units, strict=True)
    ]
    facts = {f"wavekeep.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in _facts(stream).items()}
    gaps = [
        {"first_sample": gap.first_sample, "count": gap.count, "reason": str(gap.reason), "signals": list(gap.signals)}
        for gap in stream.gaps
    ]
    schema = pyarrow.schema(fields, metadata=facts | {"wavekeep.gaps": json.dumps(gaps)})
    table: pa.Table = pyarrow.Table.from_arrays(arrays, schema=schema)
    return table


def _array(pyarrow: Any, signal: Samples) -> Any:
    mask = signal.mask if signal.has_gaps else None
    data = signal.samples.data
    if signal.sample_type is not SampleType.I128:
        return pyarrow.array(data, mask=mask)
    # The 16 bytes as they are: no number of Arrow's has 128 bits and all of their values.
    valid = None if mask is None else pyarrow.py_buffer(np.packbits(~mask, bitorder="little"))
    buffers = [valid, pyarrow.py_buffer(np.ascontiguousarray(data).view(np.uint8))]
    return pyarrow.FixedSizeBinaryArray.from_buffers(pyarrow.binary(16), len(data), buffers)
