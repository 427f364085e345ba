"""A directory that is kept current by processes that are killed all the time holds every stored sample once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from .exporting import Bench, bench, binary, environment

DEVICE = "js220-007"
SPEC = "js220,rate=200000,seed=11,loss=1e-5"
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with bench() as own:
        yield own


def arguments(lab: Bench, folder: Path) -> list[str]:
    select = ["--device", DEVICE, "--format", "parquet", "--gaps", "skip", "--file-seconds", "1"]
    return ["export", *select, "--output", f"{folder}/", "--server", lab.url]


def follow(lab: Bench, folder: Path) -> subprocess.Popen[bytes]:
    command = [binary("wavekeep"), *arguments(lab, folder), "--follow"]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def until(what: str, done: object) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if done():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError(f"not in {PATIENCE_SECONDS} s: {what}")


def files(folder: Path, stream: str) -> list[Path]:
    return sorted(folder.rglob(f"{stream}_*.parquet"), key=lambda path: path.name)


def end_sample(folder: Path, stream: str) -> int:
    """Where a stream's files end; they begin where the one before ends."""
    at = 0
    for path in files(folder, stream):
        first, end = path.stem.rsplit("_", 1)[1].split("-")
        assert int(first) == at, f"{path.name} begins where the one before it ends"
        at = int(end)
    return at


def streams(lab: Bench) -> list[dict[str, object]]:
    return [json.loads(line) for line in lab.reader("--json", "streams", "--device", DEVICE).splitlines()]


def test_every_sample_is_in_one_file_whatever_kills_the_export(lab: Bench) -> None:
    folder = lab.folder / "lake"
    outbox = str(lab.folder / "outbox")
    command = [
        binary("wavekeep-agent"), "run", "--device", DEVICE, "--simulate", SPEC, "--duration", "15s",
        "--chunk-period", "50ms", "--server", lab.url, "--outbox", outbox,
    ]
    chance = random.Random(7)
    kills = torn = 0
    with (lab.folder / "agent.log").open("wb") as log:
        agent = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
    until("the device is known", lambda: DEVICE in lab.reader("devices"))
    while agent.poll() is None:
        export = follow(lab, folder)
        time.sleep(chance.uniform(0.05, 1.2))
        assert export.poll() is None, export.stderr and export.stderr.read()
        os.kill(export.pid, signal.SIGKILL)
        export.wait()
        kills += 1
        torn += len(list(folder.rglob(".*.partial")))
    assert agent.returncode == 0
    assert kills > 8
    print(f"{kills} kills, {torn} torn files")
    export = follow(lab, folder)
    listed = streams(lab)
    until("all is in the directory", lambda: all(end_sample(folder, str(s["stream"])) == s["next_sample"] for s in listed))
    export.send_signal(signal.SIGINT)
    assert export.wait(timeout=60) == 0
    assert not list(folder.rglob(".*.partial"))

    for stream in listed:
        path = lab.folder / "stored.raw"
        lab.reader(
            "export", "--stream", str(stream["stream"]), "--format", "raw", "--gaps", "skip", "--output", str(path)
        )
        stored = np.fromfile(path, dtype=np.uint32).reshape(-1, 2)
        parts = [pq.ParquetFile(file).read() for file in files(folder, str(stream["stream"]))]
        for at, name in enumerate(["current", "voltage"]):
            found = np.concatenate([part[name].to_numpy().view(np.uint32) for part in parts])
            assert np.array_equal(found, stored[:, at])

    once = lab.folder / "once"
    lab.reader(*[argument for argument in arguments(lab, once) if argument not in ("--server", lab.url)])
    written = {path.relative_to(once): path.read_bytes() for path in once.rglob("*.parquet")}
    followed = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}
    assert len(written) > 10
    assert written == followed, "nobody can see how often it was interrupted"
