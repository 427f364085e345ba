"""Records from the first instrument with the vendor's driver, and keeps all that it gave.

As a program: record.py OUT.npz [--seconds S] [--signals i,v,r,0,T] [--scnt N]. OUT.npz has, for each signal, NAME_ids and NAME_counts
(the sample id and the number of samples of each block) and NAME (the samples of all blocks).
"""

import argparse
import sys
import time

import numpy as np
from pyjoulescope_driver import Driver

SIGNALS = {
    "i": "s/i",
    "v": "s/v",
    "p": "s/p",
    "r": "s/i/range",
    "0": "s/gpi/0",
    "1": "s/gpi/1",
    "2": "s/gpi/2",
    "3": "s/gpi/3",
    "T": "s/gpi/7",
}


def unpack(signal, data, count):
    """One element a sample, however the driver packs them."""
    data = np.array(data)
    if signal == "r" and data.size < count:
        data = np.stack([data & 15, data >> 4], axis=1).reshape(-1)[:count]
    elif signal in "0123T" and data.size < count:
        data = np.unpackbits(data, bitorder="little")[:count]
    return data


class Recorder:
    """What the driver gave: blocks of each signal, and statistics."""

    def __init__(self):
        self.blocks = {}
        self.statistics = []
        self.settings = {}

    def on_data(self, signal):
        def on(_topic, value):
            self.blocks.setdefault(signal, []).append(
                (value["sample_id"], value["decimate_factor"], np.array(value["data"]), dict(value, data=None))
            )

        return on

    def signal(self, signal):
        """Ids of the blocks, samples of each, and all samples."""
        ids, counts, samples = [], [], []
        for first, _, data, value in self.blocks.get(signal, []):
            data = unpack(signal, data, value.get("element_count", data.size))
            ids.append(first)
            counts.append(data.size)
            samples.append(data)
        return np.array(ids, dtype=np.int64), np.array(counts), np.concatenate(samples) if samples else np.array([])


def record(signals, seconds, scnt=None, settings=(), during=None):
    """A Recorder with so many seconds of these signals, and statistics if `scnt` is given."""
    found = Recorder()
    with Driver() as driver:
        devices = driver.device_paths()
        if not devices:
            raise RuntimeError("the driver finds no instrument")
        device = found.device = devices[0]
        driver.open(device, "defaults")
        try:
            for topic, value in settings:
                driver.publish(f"{device}/{topic}", value)
            if scnt is not None:
                driver.publish(f"{device}/s/stats/scnt", scnt)
                driver.subscribe(f"{device}/s/stats/value", "pub", lambda _, value: found.statistics.append(value))
                driver.publish(f"{device}/s/stats/ctrl", 1)
            for signal in signals:
                driver.subscribe(f"{device}/{SIGNALS[signal]}/!data", "pub", found.on_data(signal))
            for signal in signals:
                driver.publish(f"{device}/{SIGNALS[signal]}/ctrl", 1)
            if during is not None:
                during(driver, device, found)
            time.sleep(seconds)
            for signal in signals:
                driver.publish(f"{device}/{SIGNALS[signal]}/ctrl", 0)
        finally:
            driver.close(device)
    return found


def main():
    parser = argparse.ArgumentParser(description="Records from the first instrument with the vendor's driver.")
    parser.add_argument("out")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--signals", default="i,v")
    parser.add_argument("--scnt", type=int)
    arguments = parser.parse_args()
    signals = arguments.signals.split(",")
    found = record(signals, arguments.seconds, arguments.scnt)
    arrays = {}
    for signal in signals:
        arrays[f"{signal}_ids"], arrays[f"{signal}_counts"], arrays[signal] = found.signal(signal)
    np.savez(arguments.out, **arrays)
    print(", ".join(f"{signal}: {arrays[signal].size} samples" for signal in signals))


if __name__ == "__main__":
    sys.exit(main())
