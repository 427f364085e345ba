"""A directory that is kept current by processes that are killed all the time holds every stored sample once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.support.lab import Lab

DEVICE = "followed"
SPEC = "js220,rate=200000,seed=11,loss=1e-5"
PATIENCE_SECONDS = 120.0


def arguments(folder: Path) -> list[str]:
    select = ["--device", DEVICE, "--format", "parquet", "--gaps", "skip", "--file-seconds", "1"]
    return ["export", *select, "--output", f"{folder}/"]


def until(what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if done():
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


def export_until_killed(lab: Lab, folder: Path, seconds: float) -> None:
    with lab.running("wavekeep", *arguments(folder), "--follow") as export:
        time.sleep(seconds)
        assert export.poll() is None, (lab.folder / "wavekeep.log").read_text()


def test_every_sample_is_in_one_file_whatever_kills_the_export(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    capture = ["run", "--device", DEVICE, "--simulate", SPEC, "--duration", "15s", "--chunk-period", "50ms"]
    chance = random.Random(7)
    kills = 0
    with lab.running("wavekeep-agent", *capture, "--outbox", str(lab.folder / "outbox-followed")) as agent:
        until("the device is known", lambda: DEVICE in lab.command_line("devices"))
        while agent.poll() is None:
            export_until_killed(lab, folder, chance.uniform(0.05, 1.2))
            kills += 1
        assert agent.returncode == 0, (lab.folder / "wavekeep-agent.log").read_text()
    assert kills > 1

    streams = lab.listed("streams", DEVICE)
    with lab.running("wavekeep", *arguments(folder), "--follow") as export:
        until("all is there", lambda: all(end_sample(folder, stream["stream"]) == stream["next_sample"] for stream in streams))
        # All of it may have been there before this one began.
        until("it follows", lambda: "is kept current" in (lab.folder / "wavekeep.log").read_text())
        export.send_signal(signal.SIGINT)
        assert export.wait(timeout=60) == 0
    assert not list(folder.rglob(".*.partial"))

    for stream in streams:
        path = tmp_path / "stored.raw"
        lab.command_line("export", "--stream", stream["stream"], "--format", "raw", "--gaps", "skip", "--output", str(path))
        stored = np.fromfile(path, dtype=np.uint32).reshape(-1, 2)
        parts = [pq.ParquetFile(file).read() for file in files(folder, stream["stream"])]
        for at, name in enumerate(["current", "voltage"]):
            found = np.concatenate([part[name].to_numpy().view(np.uint32) for part in parts])
            assert np.array_equal(found, stored[:, at])

    once = tmp_path / "once"
    lab.command_line(*arguments(once))
    written = {path.relative_to(once): path.read_bytes() for path in once.rglob("*.parquet")}
    followed = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}
    assert len(written) > 10
    assert written == followed, "nobody can see how often it was interrupted"
