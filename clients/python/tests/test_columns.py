"""Columns that the stream's samples cannot make are refused, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.capture import PLAIN, START_NS, Capture, drawn_answer
from tests.support.double import read
from wavekeep import Columns, errors
from wavekeep.v1 import query_pb2

Parts = list[query_pb2.WaveformPart]
MANY = np.arange(5_000, dtype="<f4")


def capture() -> Capture:
    made = Capture()
    made.samples(PLAIN, MANY, MANY)
    made.gap(1_000)
    made.samples(PLAIN, MANY[:500], MANY[:500])
    return made


def test_an_honest_picture_comes_through() -> None:
    stream = read(drawn_answer(capture(), 100), points=100).stream
    assert list(stream.signals) == ["current", "voltage", "power"]
    assert stream.is_drawn
    power = stream["power"]
    assert isinstance(power, Columns)
    assert (len(power), power.unit, power.bucket_samples) == (65, "W", 100)
    assert power.count.sum() == 5_500
    assert np.isnan(power.min[50:60]).all()
    assert (power.max[~np.isnan(power.max)] == 1).all()
    assert power.edges()[[0, 1, -1]].tolist() == [0, 100, 6_500]
    assert power.time_ns[1] == START_NS + 100_000
    assert [gap.count for gap in power.gaps] == [1_000]


def test_columns_may_come_in_several_messages() -> None:
    parts = drawn_answer(capture(), 100)
    whole = parts[1].columns
    halves = [query_pb2.WaveformColumns(), query_pb2.WaveformColumns()]
    for half, places, span in zip(halves, (slice(0, 20), slice(20, None)), ((0, 2_000), (2_000, 6_500)), strict=True):
        half.CopyFrom(whole)
        half.first_sample, half.to_sample = span
        for field in ("min", "max", "mean", "count", "time_ns"):
            half.ClearField(field)
            getattr(half, field).extend(getattr(whole, field)[places])
    parts[1:2] = [query_pb2.WaveformPart(columns=half) for half in halves]
    assert len(read(parts, points=100)["current"]) == 65


def change(field: str, value: Any) -> Callable[[Parts], None]:
    def lie(parts: Parts) -> None:
        setattr(parts[1].columns, field, value)

    return lie


def element(field: str, at: int, value: Any) -> Callable[[Parts], None]:
    def lie(parts: Parts) -> None:
        getattr(parts[1].columns, field)[at] = value

    return lie


LIES: list[tuple[Callable[[Parts], object], type[errors.WavekeepError], str]] = [
    (change("signal", 3), errors.DrawnWrong, "was not asked for"),
    (change("to_sample", 6_501), errors.DrawnWrong, "the stream has 0 to 6500"),
    (change("bucket_samples", 0), errors.DrawnWrong, "make no columns"),
    (change("bucket_samples", 99), errors.DrawnWrong, "columns must have come"),
    (change("bucket_samples", 50), errors.DrawnWrong, "at most 100 were asked for"),
    (element("count", 0, 101), errors.DrawnWrong, "more samples are counted"),
    (element("count", 50, 1), errors.DrawnWrong, "no order"),
    (element("min", 50, 0.0), errors.DrawnWrong, "has a value"),
    (element("mean", 3, 1.5), errors.DrawnWrong, "no order"),
    (element("min", 3, 2.0), errors.DrawnWrong, "no order"),
    (lambda parts: parts.pop(2), errors.ManifestWrong, "columns of voltage"),
    (lambda parts: parts.insert(2, parts[1]), errors.DrawnWrong, "do not continue"),
    (lambda parts: setattr(parts[-1].manifest.streams[0], "last_seq", 9), errors.ManifestWrong, "its seqs"),
    (lambda parts: setattr(parts[-1].manifest.streams[0], "digest", bytes(16)), errors.ManifestWrong, "at the watermark"),
    (lambda parts: setattr(parts[-1].manifest.streams[0], "from_sample", 1), errors.ManifestWrong, "columns of current"),
    (lambda parts: setattr(parts[-1].manifest.streams[0].gaps[0], "count", 2_000), errors.ManifestWrong, "outside of the stream"),
]


@pytest.mark.parametrize(("lie", "kind", "words"), LIES)
def test_columns_that_samples_cannot_make_are_refused(
    lie: Callable[[Parts], object], kind: type[errors.WavekeepError], words: str
) -> None:
    parts = drawn_answer(capture(), 100)
    lie(parts)
    with pytest.raises(kind, match=words):
        read(parts, points=100)


def test_a_gap_that_takes_more_than_there_is_left_is_refused() -> None:
    parts = drawn_answer(capture(), 100)
    parts[-1].manifest.streams[0].gaps.add(
        stream_id=bytes([1] * 16),
        first_sample=0,
        count=100,
        reason=20,
        signals=["current"],
    )
    with pytest.raises(errors.DrawnWrong, match="count 5500 samples where there are 5400"):
        read(parts, points=100)


def test_columns_that_nobody_asked_for_are_refused() -> None:
    with pytest.raises(errors.Malformed, match="points instead of samples"):
        read(drawn_answer(capture(), 100))
    with pytest.raises(errors.DrawnWrong, match="start outside of the time"):
        read(drawn_answer(capture(), 100), points=100, start=START_NS + 1_000)
