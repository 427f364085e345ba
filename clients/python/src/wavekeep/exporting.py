"""The samples of a stream as a file: npy, CSV, Parquet. What they hold is that of `wavekeep export` (docs/FILES.md).

# Invariants
- A file appears under its name whole, synced, or not at all.
- No sample is invented: what is missing becomes NaN or null where that was asked for, never zero, and never moves what follows in
  silence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from wavekeep import frames, limits
from wavekeep.errors import InvalidQuestion, MissingPackage, SamplesMissing
from wavekeep.signals import Samples

if TYPE_CHECKING:
    from wavekeep.waveform import StreamWaveform

_POLICIES = ("fail", "fill", "skip")


def export(stream: StreamWaveform, path: str | os.PathLike[str], gaps: str) -> None:
    """See `Waveform.export`."""
    target = Path(path)
    writers = {".npy": _write_npy, ".csv": _write_csv, ".parquet": _write_parquet}
    write = writers.get(target.suffix.lower())
    if write is None:
        raise InvalidQuestion(f"{target.name}: the name of the file says its format: {', '.join(writers)}")
    if gaps not in _POLICIES:
        raise InvalidQuestion(f"gaps={gaps!r}: say one of {', '.join(_POLICIES)}")
    signals = [signal for signal in stream.signals.values() if isinstance(signal, Samples)]
    if len(signals) < len(stream.signals):
        raise InvalidQuestion("columns were drawn, and files have samples: leave points= out")
    missing = np.zeros(len(signals[0]), np.bool_)
    for signal in signals:
        if signal.has_gaps:
            missing |= signal.mask
    if gaps == "fail" and missing.any():
        raise SamplesMissing(_named(stream))
    kept = ~missing if gaps == "skip" and missing.any() else None
    if gaps == "fill" and target.suffix.lower() != ".parquet":
        for signal in signals:
            if signal.has_gaps and not signal.sample_type.is_float:
                raise SamplesMissing(
                    f"{signal.name} is {signal.sample_type}, which has no NaN to fill what is missing with: use gaps='skip'"
                )
    _atomically(target, lambda file: write(file, stream, signals, kept))


def _named(stream: StreamWaveform) -> str:
    named = [str(gap) for gap in stream.gaps[: limits.GAPS_NAMED_MAX]]
    more = len(stream.gaps) - len(named)
    what = ", ".join(named) + (f", and {more} more" if more > 0 else "")
    return f"samples are missing: {what}; fill them (gaps='fill'), leave them out (gaps='skip'), or choose a time without"


def _atomically(target: Path, write: Callable[[BinaryIO], None]) -> None:
    # The file that a link leads to is replaced, not the link.
    target = target.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write_npy(file: BinaryIO, _: StreamWaveform, signals: list[Samples], kept: Any) -> None:
    types = {signal.sample_type for signal in signals}
    if len(types) > 1:
        raise InvalidQuestion("an array has elements of one type, and these signals have several: export them one by one")
    kind = next(iter(types))
    if kind.bits not in (8, 16, 32, 64):
        raise InvalidQuestion(f"an npy file has no elements of type {kind}: export csv or parquet")
    columns = [signal.samples.data if kept is None else signal.samples.data[kept] for signal in signals]
    np.save(file, columns[0] if len(columns) == 1 else np.stack(columns, axis=1), allow_pickle=False)


def _write_csv(file: BinaryIO, stream: StreamWaveform, signals: list[Samples], kept: Any) -> None:
    heads = ["time"] + [_head(signal) for signal in signals]
    file.write((",".join(_quoted(head) for head in heads) + "\n").encode())
    frame = [stream.time] + [signal.samples.data for signal in signals]
    rows = np.arange(len(frame[0])) if kept is None else np.flatnonzero(kept)
    for at in range(0, len(rows), limits.EXPORT_SAMPLES):
        block = rows[at : at + limits.EXPORT_SAMPLES]
        text = [np.char.add(np.datetime_as_string(frame[0][block], unit="ns"), "Z").tolist()]
        text += [_shortest(values[block]) for values in frame[1:]]
        lines = map(",".join, zip(*text, strict=True))
        file.write(("\n".join(lines) + "\n").encode())


def _head(signal: Samples) -> str:
    # The name of a number without a unit must not look as if it had one.
    is_ambiguous = not signal.unit and signal.name.endswith(("]", ")"))
    return f"{signal.name} [{signal.unit}]" if signal.unit or is_ambiguous else signal.name


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',;\t"\n\r') else text


def _shortest(values: Any) -> list[str]:
    """The shortest decimals that are read as the same numbers, as `wavekeep export` writes them."""
    if values.dtype.names:
        values = values["high"].astype(object) * (1 << 64) + values["low"].astype(object)
    if values.dtype.kind != "f":
        return [str(value) for value in values.tolist()]
    with np.errstate(all="ignore"):
        exact, is_single = values.astype(np.float64), values.dtype.itemsize < 8
        # The shortest decimal of a float as a double: that has the same digits, and one form whatever the type.
        doubles = values.astype(np.str_).astype(np.float64) if is_single else exact
        # What lies in the middle of two decimals has one digit more than these, at most 10 or 18: 5 to the number of its binary
        # places is less than that.
        is_possible = (np.ldexp(exact, 14 if is_single else 25) % 1 == 0) & (exact % 1 != 0)
    text = [_plain(repr(value)) for value in doubles.tolist()]
    for at in np.flatnonzero(is_possible).tolist():
        text[at] = _half_up(text[at], float(exact[at]))
    return text


def _plain(number: str) -> str:
    """As Rust writes it: 1e-6, 1e20, NaN."""
    if number == "nan":
        return "NaN"
    return number.replace("e-0", "e-").replace("e+", "e") if "e" in number else number


def _half_up(number: str, exact: float) -> str:
    """Of two shortest decimals that are as near, Python takes the even one, and Rust the larger one."""
    digits, e, exponent = number.partition("e")
    is_between = Decimal(exact).as_tuple().digits == (*Decimal(number).as_tuple().digits, 5)
    if not is_between or int(digits[-1]) % 2:
        return number
    return f"{digits[:-1]}{int(digits[-1]) + 1}{e}{exponent}"


def _write_parquet(file: BinaryIO, stream: StreamWaveform, _: list[Samples], kept: Any) -> None:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackage("pyarrow", "arrow") from error
    table = frames.to_arrow(stream)
    parquet.write_table(table if kept is None else table.filter(kept), file, compression="zstd")
