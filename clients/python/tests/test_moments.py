"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wavekeep.errors import BadTime
from wavekeep.moments import Moment, moment, rfc3339

NS = 1_700_000_000_123_456_789


def test_times_are_read_as_written() -> None:
    second = NS // 10**9 * 10**9
    same = {
        "2023-11-14T22:13:20.123456789Z": NS,
        "2023-11-14 22:13:20z": second,
        "2023-11-14T23:13:20+01:00": second,
        "2023-11-14T17:43:20-0430": second,
        "1969-12-31T23:59:59.5Z": -500_000_000,
    }
    for text, ns in same.items():
        assert moment(text) == Moment(ns, False), text
    assert moment(NS) == moment(np.int64(NS)) == moment(np.datetime64(NS, "ns")) == Moment(NS, False)
    assert moment(datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)) == Moment(NS // 1000 * 1000, False)
    zone = timezone(timedelta(hours=1))
    assert moment(datetime(2023, 11, 14, 23, 13, 20, tzinfo=zone)) == Moment(second, False)
    assert moment(pd.Timestamp(NS, tz="UTC")) == Moment(NS, False)
    assert rfc3339(NS) == "2023-11-14T22:13:20.123456789Z"
    assert rfc3339(second) == "2023-11-14T22:13:20Z"


def test_distances_are_from_the_end() -> None:
    assert moment("-10s") == Moment(10 * 10**9, True)
    assert moment("-250ms").resolve(10**9) == 750_000_000
    assert moment("-1h30m") == moment("-90min") == moment("-1.5h") == moment(timedelta(hours=-1.5)) == Moment(5400 * 10**9, True)
    assert moment("-5us") == moment("-5µs") == Moment(5_000, True)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "-",
        "yesterday",
        "10s",
        "--10s",
        "-10s ago",
        "-10",
        "2023-11-14",
        "2023-11-14T23:13:20",
        "2023-13-14T23:13:20Z",
        "-9999999999h",
        "9999-12-31T00:00:00Z",
        True,
        1.5,
        1 << 63,
        None,
        np.datetime64("NaT"),
        timedelta(seconds=1),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(bad: Any) -> None:
    with pytest.raises(BadTime, match="is not a time: give one like"):
        moment(bad)


def test_a_date_without_a_zone_is_refused() -> None:
    with pytest.raises(BadTime, match="says no zone"):
        moment(datetime(2023, 11, 14))
