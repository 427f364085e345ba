"""What was read as tables, files and pictures: gaps stay gaps in all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.capture import PLAIN, START_NS, Capture, answer, definition, drawn_answer
from tests.support.double import read
from wavekeep import Samples, SampleType, StreamWaveform, Waveform, errors
from wavekeep.folding import fold
from wavekeep.v1 import stream_pb2

MIXED = [
    ("current", SampleType.F32, "A"),
    ("gpi", SampleType.U1, ""),
    ("code", SampleType.I16, ""),
    ("big", SampleType.U64, ""),
    ("huge", SampleType.I128, ""),
]


def huge(count: int) -> Any:
    values = np.zeros(count, SampleType.I128.dtype)
    values["low"], values["high"] = np.arange(count), -1
    return values


def mixed(*, gaps: bool = True) -> StreamWaveform:
    """Ten samples, a gap of five, ten without the float."""
    capture = Capture(definition(1, MIXED))
    current = np.linspace(-1, 1, 10, dtype="<f4")
    current[3] = np.nan
    columns = [current, np.arange(10) % 2, np.arange(10) - 5, np.full(10, (1 << 64) - 1, np.uint64), huge(10)]
    capture.samples(PLAIN, *columns)
    if gaps:
        capture.gap(5)
        capture.samples(PLAIN, None, *columns[1:])
    return read(answer(capture)).stream


def test_pandas_has_a_row_for_what_is_missing() -> None:
    stream = mixed()
    frame = stream.to_pandas()
    assert frame.shape == (25, 5)
    assert frame.index[1] == pd.Timestamp(START_NS + 1_000, tz="UTC")
    assert [str(kind) for kind in frame.dtypes] == ["float32", "UInt8", "Int16", "UInt64", "object"]
    assert frame["current"].isna().tolist() == [at == 3 or at >= 10 for at in range(25)]
    assert frame["code"].isna().tolist() == [10 <= at < 15 for at in range(25)]
    assert frame["big"].iloc[0] == (1 << 64) - 1
    assert frame["huge"].iloc[1] == 1 - (1 << 64)
    assert frame.attrs["labels"] == {"algorithm": "A"}


def test_pandas_keeps_streams_apart() -> None:
    first, second = Capture(), Capture(definition(2))
    for capture in (first, second):
        capture.samples(PLAIN, np.ones(4, "<f4"), np.ones(4, "<f4"))
    frame = read(answer(first, second)).to_pandas()
    assert frame.index.names == ["stream", "time"]
    assert len(frame.loc["02" * 16]) == 4
    with pytest.raises(errors.SeveralStreams):
        read(answer(first, second)).to_arrow()


def test_arrow_tells_what_is_missing_from_a_nan() -> None:
    table = mixed().to_arrow()
    assert table.schema.field("time").type == pa.timestamp("ns", "UTC")
    assert table["current"].null_count == 15
    assert np.isnan(table["current"][3].as_py())
    assert table["gpi"].null_count == 5
    assert table["huge"][1].as_py() == (1 - (1 << 64)).to_bytes(16, "little", signed=True)
    assert table["huge"].null_count == 5
    assert table.schema.field("current").metadata == {b"unit": b"A"}
    assert b"source_loss" in table.schema.metadata[b"wavekeep.gaps"]
    assert mixed(gaps=False).to_arrow()["huge"].null_count == 0


def test_columns_are_tables_too() -> None:
    capture = Capture()
    capture.samples(PLAIN, np.ones(500, "<f4"), np.ones(500, "<f4"))
    waveform = read(drawn_answer(capture, 100), points=100)
    assert list(waveform.to_pandas().columns[:4]) == ["current_min", "current_max", "current_mean", "current_count"]
    assert waveform.to_arrow()["power_count"].to_pylist() == [100] * 5
    with pytest.raises(errors.InvalidQuestion, match="leave points= out"):
        waveform.export("never.npy")


def pair(*, gaps: bool) -> Waveform:
    capture = Capture()
    capture.samples(PLAIN, np.array([1.5, -0.0, 3e-9], "<f4"), np.array([0.1, np.nan, 1e20], "<f4"))
    if gaps:
        capture.gap(2)
        capture.samples(PLAIN, np.array([7], "<f4"), np.array([8], "<f4"))
    return read(answer(capture))


def test_files_hold_the_samples(tmp_path: Path) -> None:
    pair(gaps=False).export(tmp_path / "a.npy")
    array = np.load(tmp_path / "a.npy")
    assert array.dtype == np.dtype("<f4")
    assert array.view("<u4").T.tolist()[0] == np.array([1.5, -0.0, 3e-9], "<f4").view("<u4").tolist()
    pair(gaps=False).export(tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "time,current [A],voltage [V]"
    assert lines[2] == "2026-11-23T00:00:00.000001000Z,-0.0,NaN"
    again = np.genfromtxt(tmp_path / "a.csv", delimiter=",", skip_header=1, usecols=(1, 2))
    assert np.array_equal(again.astype("<f4"), array, equal_nan=True)
    pair(gaps=False).export(tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert np.array_equal(table["voltage"].to_numpy(), array[:, 1], equal_nan=True)
    assert table.schema.metadata[b"wavekeep.device"] == b"js220-001"


def test_what_is_missing_is_refused_filled_or_left_out(tmp_path: Path) -> None:
    target = tmp_path / "b.npy"
    target.write_bytes(b"before")
    with pytest.raises(errors.SamplesMissing, match=r"2 samples from sample 3 on \(source_loss\)"):
        pair(gaps=True).export(target)
    assert target.read_bytes() == b"before"
    pair(gaps=True).export(target, gaps="fill")
    assert np.isnan(np.load(target)).all(axis=1).tolist() == [False, False, False, True, True, False]
    pair(gaps=True).export(target, gaps="skip")
    assert np.load(target)[:, 0].tolist() == np.array([1.5, -0.0, 3e-9, 7], "<f4").tolist()
    pair(gaps=True).export(tmp_path / "b.csv", gaps="skip")
    assert (tmp_path / "b.csv").read_text().splitlines()[4].startswith("2026-11-23T00:00:00.000005000Z,7")
    pair(gaps=True).export(tmp_path / "b.parquet", gaps="fill")
    assert parquet.read_table(tmp_path / "b.parquet")["current"].null_count == 2
    with pytest.raises(errors.SamplesMissing, match="has no NaN"):
        Waveform((mixed(),)).export(tmp_path / "c.csv", gaps="fill")
    for bad in ({"path": tmp_path / "c.txt"}, {"path": tmp_path / "c.npy", "gaps": "zero"}):
        with pytest.raises(errors.InvalidQuestion):
            pair(gaps=False).export(**bad)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.csv", "b.npy", "b.parquet"]


def recorded() -> Waveform:
    """A sine with a spike of one sample, a gap, an absent voltage, and a marker: more samples than a picture has points."""
    capture = Capture()
    sine = np.sin(np.arange(65_536) / 3_000).astype("<f4")
    for piece in range(4):
        current = sine.copy()
        if piece == 1:
            current[30_000] = 9.0
        note = stream_pb2.Marker(
            sample=capture.next_sample + 5_000, kind=1, format=stream_pb2.MARKER_FORMAT_TEXT, content=f"step {piece}".encode()
        )
        capture.samples(PLAIN, current, None if piece == 3 else sine + 3, markers=[note] if piece in (0, 2) else [])
        if piece == 1:
            capture.gap(2 * 65_536)
    return read(answer(capture))


@pytest.mark.parametrize("bucket_samples", [1, 7, 100, 4_096, 1 << 20])
def test_a_fold_is_that_of_numpy_over_what_is_there(bucket_samples: int) -> None:
    current = recorded()["current"]
    assert isinstance(current, Samples)
    folded = fold(current, bucket_samples)
    samples: Any = current.samples.astype(np.float64)
    for at in range(0, len(folded.count), max(1, len(folded.count) // 50)):
        inside = samples[folded.edges[at] : folded.edges[at + 1]].compressed()
        assert folded.count[at] == len(inside)
        if len(inside):
            assert (folded.min[at], folded.max[at]) == (inside.min(), inside.max())
            assert folded.mean[at] == pytest.approx(inside.mean(), rel=1e-9, abs=1e-12)
        else:
            assert np.isnan(folded.mean[at])
    assert folded.count.sum() == len(current.stored)


def test_a_fold_leaves_out_what_is_not_finite() -> None:
    capture = Capture()
    samples = np.array([np.nan, np.inf, 1, 2, np.nan, -np.inf], "<f4")
    capture.samples(PLAIN, samples, samples)
    current = read(answer(capture))["current"]
    assert isinstance(current, Samples)
    folded = fold(current, 2)
    assert folded.count.tolist() == [0, 2, 0]
    assert np.array_equal(folded.max, [np.nan, 2, np.nan], equal_nan=True)


def test_a_picture_bridges_no_gap_and_loses_no_spike(tmp_path: Path) -> None:
    figure = recorded().plot()
    current, voltage = figure.axes
    line = current.lines[0]
    times, means = (np.asarray(values, np.float64) for values in line.get_data())
    inside = (times > 0.1315) & (times < 0.2615)
    assert inside.any()
    assert np.isnan(means[inside]).all()
    heights = [np.asarray(path.vertices)[:, 1] for path in current.collections[0].get_paths()]
    assert np.nanmax(np.concatenate(heights)) == 9
    labels = [text.get_text() for text in voltage.get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["source_loss: 1 gap, 131,072 samples", "signal_off: 1 gap, 65,536 samples"]
    texts = [text.get_text() for text in current.texts]
    assert texts == ["step 0", "step 2"]
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_units_take_a_prefix_where_they_have_none() -> None:
    capture = Capture(definition(1, [("energy", SampleType.F32, "uJ"), ("current", SampleType.F32, "A")]))
    capture.samples(PLAIN, np.linspace(2_000, 3_000, 10), np.linspace(0.001, 0.002, 10))
    figure = read(answer(capture)).plot()
    figure.canvas.draw()
    energy, current = figure.axes
    assert (energy.get_ylabel(), current.get_ylabel()) == ("energy [uJ]", "current")
    assert [axes.yaxis.get_ticklabels()[1].get_text().strip() for axes in (energy, current)] == ["2000", "1 mA"]


def test_a_picture_of_a_few_samples_is_a_line() -> None:
    waveform = pair(gaps=True)
    figure = waveform.plot("current", label="A")
    axes = figure.axes[0]
    assert np.isnan(np.asarray(axes.lines[0].get_ydata(), np.float64)).tolist() == [False, False, False, True, True, False]
    waveform.plot("current", axes=axes, label="B")
    assert [text.get_text() for text in axes.get_legend().get_texts()][:2] == ["A", "source_loss: 1 gap, 2 samples"]  # type: ignore[union-attr]
    with pytest.raises(errors.UnknownSignal, match="it has current, voltage"):
        waveform.plot("charge")
    with pytest.raises(errors.InvalidQuestion, match="2 signals"):
        waveform.plot(axes=axes)
