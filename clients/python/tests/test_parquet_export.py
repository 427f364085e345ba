"""Exported Parquet as pandas, pyarrow and DuckDB read it."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.support.lab import Lab

RATE = 200_000
SPEC = f"js220,rate={RATE},seed=11,loss=1e-5"


@pytest.fixture(scope="module")
def device(lab: Lab) -> str:
    """Three seconds that lose a few samples."""
    lab.simulate("parquet", SPEC, "3s", "--label", "algorithm=A")
    return "parquet"


def raw(lab: Lab, device: str, gaps: str) -> NDArray[np.uint32]:
    """Current and voltage, as words of 32 bits."""
    return lab.export(device, "--gaps", gaps).view(np.uint32).reshape(-1, 2)


def test_columns_are_the_stored_bits_and_times_are_nanoseconds_in_utc(lab: Lab, device: str, tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    lab.export_to(path, "parquet", device, "--gaps", "skip")
    table = pq.read_table(path)
    assert [str(field.type) for field in table.schema] == ["timestamp[ns, tz=UTC]", "float", "float"]
    stored = raw(lab, device, "skip")
    assert table.num_rows == len(stored)
    for at, name in enumerate(["current", "voltage"]):
        column = table[name]
        assert column.null_count == 0
        assert np.array_equal(column.to_numpy().view(np.uint32), stored[:, at])
    ns = table["time"].cast("int64").to_numpy()
    assert np.all(np.diff(ns) >= 1_000_000_000 // RATE)


def test_metadata_says_whose_samples_they_are_and_what_is_missing(lab: Lab, device: str, tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    lab.export_to(path, "parquet", device, "--gaps", "skip")
    file = pq.ParquetFile(path)
    facts = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
    (stream,) = json.loads(facts["wavekeep.streams"])
    (listed,) = lab.listed("streams", device)
    assert (stream["labels"], stream["device"]) == ({"algorithm": "A"}, device)
    for key in ["stream", "digest", "epoch", "rate_hz"]:
        assert stream[key] == listed[key]
    assert [signal["unit"] for signal in json.loads(facts["wavekeep.signals"])] == ["A", "V"]
    gaps = json.loads(facts["wavekeep.gaps"])
    assert sum(gap["count"] for gap in gaps) == listed["gap_sample_count"] > 0
    assert file.metadata.num_rows == listed["sample_count"]


def test_filled_gaps_are_null(lab: Lab, device: str, tmp_path: Path) -> None:
    path = tmp_path / "filled.parquet"
    lab.export_to(path, "parquet", device, "--gaps", "fill")
    frame = pd.read_parquet(path)
    assert str(frame["time"].dtype) == "datetime64[ns, UTC]"
    filled = raw(lab, device, "fill").view(np.float32)
    assert np.array_equal(np.isnan(filled[:, 0]), frame["current"].isna().to_numpy())
    assert frame["current"].isna().sum() > 0
    steps = frame["time"].astype("int64").diff().dropna()
    assert set(steps) == {1_000_000_000 // RATE}


def export_directory(lab: Lab, device: str, folder: Path) -> None:
    select = ["--device", device, "--gaps", "skip", "--file-seconds", "1"]
    lab.command_line("export", *select, "--format", "parquet", "--output", f"{folder}/")


@pytest.fixture(scope="module")
def directory(lab: Lab, device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet") / "directory"
    export_directory(lab, device, folder)
    return folder


def test_duckdb_reads_the_directory_with_its_partitions(lab: Lab, device: str, directory: Path) -> None:
    stored = raw(lab, device, "skip").view(np.float32).astype(np.float64)
    query = f"""
        SELECT workspace, device, count(*), avg(current::DOUBLE), max(voltage)
          FROM read_parquet('{directory}/**/*.parquet', hive_partitioning = true)
         GROUP BY ALL
    """
    with duckdb.connect() as database:
        ((workspace, name, count, mean, voltage_max),) = database.execute(query).fetchall()
    assert (workspace, name, count) == ("main", device, len(stored))
    assert mean == pytest.approx(stored[:, 0].mean(), rel=1e-9)
    assert voltage_max == pytest.approx(stored[:, 1].max())


def test_pyarrow_reads_the_directory_as_a_dataset_in_order(lab: Lab, device: str, directory: Path) -> None:
    dataset = ds.dataset(directory, format="parquet", partitioning="hive")
    table = dataset.to_table(columns=["time", "current", "device", "date"]).sort_by("time")
    assert np.array_equal(table["current"].to_numpy().view(np.uint32), raw(lab, device, "skip")[:, 0])
    days = set(table["date"].cast("string").to_pylist())
    times = table["time"].to_pandas()
    assert days == {str(day) for day in times.dt.date}
    assert len(list(directory.rglob("*.parquet"))) >= 3


def test_two_exports_of_a_directory_are_the_same_bytes(lab: Lab, device: str, directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    export_directory(lab, device, other)
    one = {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*.parquet")}
    two = {path.relative_to(other): path.read_bytes() for path in other.rglob("*.parquet")}
    assert one == two
