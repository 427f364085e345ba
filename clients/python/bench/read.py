"""How fast samples come into NumPy from a local server, each one verified; and what a copy of them takes in the same process.

python clients/python/bench/read.py            # its own server and a simulated JS220, from ./bin (make build)
python clients/python/bench/read.py --url http://127.0.0.1:7460 --device js220-001
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.lab import Lab

import wavekeep


def best_of(repeats: int, work: Callable[[], int]) -> tuple[float, float, int]:
    """The median and the best time of so many runs in seconds, and what the work counted."""
    seconds, counted = [], 0
    for _ in range(repeats):
        before = time.perf_counter()
        counted = work()
        seconds.append(time.perf_counter() - before)
    return statistics.median(seconds), min(seconds), counted


def measure(url: str, device: str, repeats: int) -> None:
    """Prints a line for all signals, one signal, and the copy."""
    with wavekeep.Client(url) as client:
        streams = client.streams(device=device)
        stored = sum(stream.stored_bytes for stream in streams)
        f32s = sum(stream.sample_count * len(stream.signals) for stream in streams)
        print(f"{f32s / 1e6:.0f} M samples of {device}, {stored / f32s:.2f} bytes each as stored")

        def read(signals: list[str] | None) -> int:
            waveform = client.waveform(device=device, signals=signals)
            return sum(len(signal.stored) for stream in waveform for signal in stream.signals.values() if hasattr(signal, "stored"))

        names = [signal.name for signal in streams[0].signals]
        for what, signals in (("all signals", None), (names[0], names[:1])):
            median, best, count = best_of(repeats, lambda signals=signals: read(signals))  # type: ignore[misc]
            print(f"{what:12} {count / median / 1e6:6.1f} M/s median of {repeats}, {count / best / 1e6:6.1f} at best")
        source = np.ones(f32s, "<f4")
        median, _, _ = best_of(repeats, lambda: len(source.copy()))
        print(f"{'one copy':12} {f32s / median / 1e6:6.1f} M/s")


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
