"""Exported Parquet as pandas, pyarrow and DuckDB read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.support.lab import Lab
from wavekeep import Client

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


def runs_of(path: Path) -> list[dict[str, Any]] | None:
    metadata = pq.ParquetFile(path).metadata.metadata
    return json.loads(metadata[b"wavekeep.runs"]) if b"wavekeep.runs" in metadata else None


def test_metadata_has_the_labels_that_a_run_was_given_afterwards(lab: Lab, device: str, client: Client, tmp_path: Path) -> None:
    (stream,) = client.streams(device=device)
    assert stream.first_time_ns is not None
    names = ["parquet, first", "parquet, last"]
    for name, second, operator in zip(names, (0, 2), "AB", strict=True):
        start = stream.first_time_ns + second * 1_000_000_000
        labels = {"operator": operator}
        client.create_run(name, device=device, start=start, end=start + 1_000_000_000, labels=labels, note="by hand")
    first = {"run": names[0], "labels": {"operator": "A"}, "note": "by hand", "parent": None}
    path = tmp_path / "run.parquet"
    lab.command_line("export", "--run", names[0], "--gaps", "skip", "--format", "parquet", "--output", str(path))
    assert runs_of(path) == [first]
    both = tmp_path / "both.parquet"
    lab.command_line("export", "--filter", "run~parquet*", "--gaps", "skip", "--format", "parquet", "--output", str(both))
    assert [run["labels"]["operator"] for run in runs_of(both) or []] == ["A", "B"]
    plain = tmp_path / "plain.parquet"
    lab.export_to(plain, "parquet", device, "--gaps", "skip")
    assert runs_of(plain) is None, "no run was asked for"
    # Of a directory, each file has those that it has something of.
    folder = tmp_path / "directory"
    select = ["--filter", "run~parquet*", "--gaps", "skip", "--file-seconds", "1"]
    lab.command_line("export", *select, "--format", "parquet", "--output", f"{folder}/")
    files = sorted(folder.rglob("*.parquet"))
    named = [[run["run"] for run in runs_of(file) or []] for file in files]
    assert named[0] == names[:1]
    assert named[-1] == names[1:]
    assert sum(pq.ParquetFile(file).metadata.num_rows for file in files) == pq.ParquetFile(both).metadata.num_rows


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
