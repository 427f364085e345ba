"""How fast samples come into NumPy from a local server, each one verified; beside it the Rust client and a copy of the samples.

python clients/python/bench/read.py            # its own server and a simulated JS220, from ./bin (make build)
python clients/python/bench/read.py --url http://127.0.0.1:7460 --device js220-001
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.lab import Lab, binary, environment

import wavekeep


class Measured(NamedTuple):
    """Of several runs: the median and the best time, and the least time on processors; in seconds."""

    median_s: float
    best_s: float
    cpu_s: float


def measured(repeats: int, work: Callable[[], object], cpu: Callable[[], float] = time.process_time) -> Measured:
    """Runs it so often."""
    seconds, on_cpu = [], []
    for _ in range(repeats):
        before, cpu_before = time.perf_counter(), cpu()
        work()
        seconds.append(time.perf_counter() - before)
        on_cpu.append(cpu() - cpu_before)
    return Measured(statistics.median(seconds), min(seconds), min(on_cpu))


def children_cpu_s() -> float:
    """Of the programs that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(what: str, samples: int, found: Measured) -> None:
    """One line."""
    median, best = samples / found.median_s / 1e6, samples / found.best_s / 1e6
    print(
        f"{what:32} {median:7.1f} M/s in the median, {best:7.1f} at best, {found.cpu_s / samples * 1e9:5.1f} CPU-s per 10^9",
        flush=True,
    )


def measure(url: str, device: str, repeats: int) -> None:
    """All signals, one of them, the same by the Rust client in the same minutes, and a copy of the samples."""
    with wavekeep.Client(url) as client:
        streams = client.streams(device=device)
        stored = sum(stream.stored_bytes for stream in streams)
        f32s = sum(stream.sample_count * len(stream.signals) for stream in streams)
        print(f"{f32s / 1e6:.0f} M samples of {device}, {stored / f32s:.2f} bytes each as stored")
        first = streams[0].signals[0].name
        show("waveform(), all signals", f32s, measured(repeats, lambda: client.waveform(device=device)))
        one = sum(stream.sample_count for stream in streams)
        show(f"waveform(), {first}", one, measured(repeats, lambda: client.waveform(device=device, signals=first)))
        export = [binary("wavekeep"), "export", "--device", device, "--format", "raw", "--output", "/dev/null"]
        env = environment() | {"WAVEKEEP_SERVER": url}

        def export_all() -> None:
            subprocess.run(export, env=env, check=True, capture_output=True)

        show("wavekeep export, all signals", f32s, measured(repeats, export_all, children_cpu_s))
        source = np.ones(f32s, "<f4")
        show("one copy", f32s, measured(repeats, source.copy))


def main() -> None:
    """Measures a device of a server, or one that it records itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server that has the device already")
    parser.add_argument("--device", default="js220-001")
    parser.add_argument("--simulate", default="js220,rate=1000000,seed=7", help="what to record without --url")
    parser.add_argument("--encoding", default="auto", help="auto, plain, shuffle-zstd or pco")
    parser.add_argument("--seconds", type=int, default=40, help="of the simulated device")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    if given.url:
        measure(given.url, given.device, given.repeats)
        return
    lab = Lab()
    try:
        lab.simulate(given.device, given.simulate, f"{given.seconds}s", "--encoding", given.encoding)
        measure(lab.url, given.device, given.repeats)
    finally:
        lab.close()


if __name__ == "__main__":
    main()
