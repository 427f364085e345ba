"""Exported Parquet as pandas, pyarrow and DuckDB read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from .exporting import Bench, bench

RATE = 200_000
SPEC = f"js220,rate={RATE},seed=11,loss=1e-5"


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with bench() as own:
        own.agent("a", "run", "--device", "js220-001", "--simulate", SPEC, "--duration", "3s", "--label", "algorithm=A")
        yield own


def raw(lab: Bench, gaps: str) -> np.ndarray:
    """Current and voltage, as words of 32 bits."""
    path = lab.folder / f"{gaps}.raw"
    lab.export("js220-001", "raw", path, "--gaps", gaps)
    return np.fromfile(path, dtype=np.uint32).reshape(-1, 2)


def test_columns_are_the_stored_bits_and_times_are_nanoseconds_in_utc(lab: Bench) -> None:
    path = lab.folder / "one.parquet"
    lab.export("js220-001", "parquet", path, "--gaps", "skip")
    table = pq.read_table(path)
    assert [str(field.type) for field in table.schema] == ["timestamp[ns, tz=UTC]", "float", "float"]
    stored = raw(lab, "skip")
    assert table.num_rows == len(stored)
    for at, name in enumerate(["current", "voltage"]):
        column = table[name]
        assert column.null_count == 0
        assert np.array_equal(column.to_numpy().view(np.uint32), stored[:, at])
    ns = table["time"].cast("int64").to_numpy()
    assert np.all(np.diff(ns) >= 1_000_000_000 // RATE)


def test_metadata_says_whose_samples_they_are_and_what_is_missing(lab: Bench) -> None:
    path = lab.folder / "facts.parquet"
    lab.export("js220-001", "parquet", path, "--gaps", "skip")
    file = pq.ParquetFile(path)
    facts = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
    (stream,) = json.loads(facts["wavekeep.streams"])
    (listed,) = [json.loads(line) for line in lab.reader("--json", "streams").splitlines()]
    assert stream["labels"] == {"algorithm": "A"} and stream["device"] == "js220-001"
    for key in ["stream", "digest", "epoch", "rate_hz"]:
        assert stream[key] == listed[key]
    assert [signal["unit"] for signal in json.loads(facts["wavekeep.signals"])] == ["A", "V"]
    gaps = json.loads(facts["wavekeep.gaps"])
    assert sum(gap["count"] for gap in gaps) == listed["gap_sample_count"] > 0
    assert file.metadata.num_rows == listed["sample_count"]


def test_filled_gaps_are_null(lab: Bench) -> None:
    path = lab.folder / "filled.parquet"
    lab.export("js220-001", "parquet", path, "--gaps", "fill")
    frame = pd.read_parquet(path)
    assert str(frame["time"].dtype) == "datetime64[ns, UTC]"
    filled = raw(lab, "fill").view(np.float32)
    assert np.array_equal(np.isnan(filled[:, 0]), frame["current"].isna().to_numpy())
    assert frame["current"].isna().sum() > 0
    steps = frame["time"].astype("int64").diff().dropna()
    assert set(steps) == {1_000_000_000 // RATE}


def export_directory(lab: Bench, folder: Path) -> None:
    lab.reader(
        "export", "--device", "js220-001", "--format", "parquet", "--gaps", "skip", "--file-seconds", "1",
        "--output", f"{folder}/",
    )


@pytest.fixture(scope="module")
def directory(lab: Bench) -> Path:
    folder = lab.folder / "directory"
    export_directory(lab, folder)
    return folder


def test_duckdb_reads_the_directory_with_its_partitions(lab: Bench, directory: Path) -> None:
    stored = raw(lab, "skip").view(np.float32).astype(np.float64)
    query = f"""
        SELECT workspace, device, count(*), avg(current::DOUBLE), max(voltage)
          FROM read_parquet('{directory}/**/*.parquet', hive_partitioning = true)
         GROUP BY ALL
    """
    ((workspace, device, count, mean, voltage_max),) = duckdb.sql(query).fetchall()
    assert (workspace, device, count) == ("main", "js220-001", len(stored))
    assert mean == pytest.approx(stored[:, 0].mean(), rel=1e-9)
    assert voltage_max == pytest.approx(stored[:, 1].max())


def test_pyarrow_reads_the_directory_as_a_dataset_in_order(lab: Bench, directory: Path) -> None:
    dataset = ds.dataset(directory, format="parquet", partitioning="hive")
    table = dataset.to_table(columns=["time", "current", "device", "date"]).sort_by("time")
    assert np.array_equal(table["current"].to_numpy().view(np.uint32), raw(lab, "skip")[:, 0])
    days = set(table["date"].cast("string").to_pylist())
    times = table["time"].to_pandas()
    assert days == {str(day) for day in times.dt.date}
    assert len(list(directory.rglob("*.parquet"))) >= 3


def test_two_exports_of_a_directory_are_the_same_bytes(lab: Bench, directory: Path) -> None:
    other = lab.folder / "other"
    export_directory(lab, other)
    one = {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*.parquet")}
    two = {path.relative_to(other): path.read_bytes() for path in other.rglob("*.parquet")}
    assert one == two
