"""Times as people write them: a date with its zone, nanoseconds since 1970, or a distance before the end of what is stored.

The same words as the command line's: RFC 3339 text, and `-10s`, `-250ms`, `-1h30m`. Python adds `datetime` (with its zone),
`timedelta` (negative: before the end), `numpy.datetime64` (UTC, as NumPy has it) and `pandas.Timestamp`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import numpy as np

from wavekeep.errors import BadTime

Time = int | np.integer[Any] | str | datetime | timedelta | np.datetime64
"""What is understood as a time."""

_I64 = range(-(1 << 63), 1 << 63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII)
_TERM = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|μs|ms|s|m|min|h)(?![a-zµμ])\s*", re.ASCII)
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9}
_UNITS["h"] = 3600 * 10**9


class Moment(NamedTuple):
    """A moment, or a distance from the end of what is stored."""

    ns: int
    """UTC since 1970; or before the end."""
    before_end: bool

    def resolve(self, end_ns: int) -> int:
        """UTC in nanoseconds, given the end of what is stored."""
        return end_ns - self.ns if self.before_end else self.ns


def _bad(time: object) -> BadTime:
    return BadTime(
        f"{time!r} is not a time: give one like 2026-03-01T12:00:00Z (RFC 3339), a datetime with its zone, nanoseconds since 1970, "
        "or '-10s' for ten seconds before the end"
    )


def _from_text(text: str) -> Moment:
    if text.startswith("-"):
        return Moment(_duration_ns(text), True)
    match = _DATE.fullmatch(text)
    if match is None:
        raise _bad(text)
    fraction, sign, hours, minutes = match[7], match[9], match[10], match[11]
    try:
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        date = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise _bad(text) from error
    offset_s = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    seconds = (date - _EPOCH) // timedelta(seconds=1) - offset_s
    return Moment(seconds * 10**9 + int((fraction or "").ljust(9, "0")), False)


def _duration_ns(text: str) -> int:
    at, total = 1, Decimal(0)
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None:
            raise _bad(text)
        try:
            total += Decimal(term[1]) * _UNITS[term[2]]
        except InvalidOperation as error:
            raise _bad(text) from error
        at = term.end()
    if at == 1:
        raise _bad(text)
    return int(total)


def moment(time: Time) -> Moment:
    """Understands a time, or raises `BadTime`."""
    if isinstance(time, str):
        found = _from_text(time)
    elif isinstance(time, (int, np.integer)) and not isinstance(time, bool):
        found = Moment(int(time), False)
    elif isinstance(time, np.datetime64) and not np.isnat(time):
        found = Moment(int(time.astype("datetime64[ns]").astype(np.int64)), False)
    elif isinstance(time, timedelta) and time <= timedelta(0):
        found = Moment(-time // timedelta(microseconds=1) * 1000, True)
    elif isinstance(time, datetime):
        found = _from_datetime(time)
    else:
        raise _bad(time)
    if found.ns not in _I64:
        raise _bad(time)
    return found


def _from_datetime(time: datetime) -> Moment:
    if time.tzinfo is None:
        raise BadTime(f"{time!r} says no zone: give it one, as in time.replace(tzinfo=datetime.UTC)")
    ns = (time - _EPOCH) // timedelta(microseconds=1) * 1000
    # Of pandas' times, which go on below a microsecond.
    return Moment(ns + int(getattr(time, "nanosecond", 0)), False)


def rfc3339(ns: int) -> str:
    """RFC 3339 in UTC, with as many decimals as the nanoseconds need."""
    seconds, rest = divmod(ns, 10**9)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    decimals = f".{rest:09}".rstrip("0") if rest else ""
    return f"{text}{decimals}Z"
