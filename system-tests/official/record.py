"""Records from the first instrument with the vendor's driver, and keeps all that it gave.

As a program: record.py OUT.npz [--seconds S] [--signals i,v,r,0,T] [--scnt N] [--set TOPIC=VALUE]. OUT.npz has, for each signal, the
samples of all blocks under its name, and of each block the first sample's id, the ids from one sample to the next, and the number of
samples under NAME_ids, NAME_steps and NAME_counts; `statistics` and `settings` are JSON.
"""

import argparse
import json
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


def unpack(signal, data):
    """One element a sample: the driver gives inputs with 8 samples a byte, the first one lowest."""
    return np.unpackbits(data, bitorder="little") if signal in "0123T" else np.array(data)


class Recorder:
    """What the driver gave: blocks of each signal, statistics, and settings."""

    def __init__(self):
        self.blocks = {}
        self.statistics = []
        self.settings = {}

    def on_data(self, signal):
        def on(_topic, value):
            block = (value["sample_id"], value["decimate_factor"], np.array(value["data"]))
            self.blocks.setdefault(signal, []).append(block)

        return on

    def arrays(self, signals):
        """All of it by name."""
        arrays = {"settings": np.array(json.dumps(self.settings)), "statistics": np.array(json.dumps(self.statistics))}
        for signal in signals:
            blocks = [(first, step, unpack(signal, data)) for first, step, data in self.blocks.get(signal, [])]
            arrays[f"{signal}_ids"] = np.array([first for first, _, _ in blocks], dtype=np.int64)
            arrays[f"{signal}_steps"] = np.array([step for _, step, _ in blocks], dtype=np.int64)
            arrays[f"{signal}_counts"] = np.array([data.size for _, _, data in blocks], dtype=np.int64)
            arrays[signal] = np.concatenate([data for _, _, data in blocks]) if blocks else np.array([])
        return arrays


def record(signals, seconds, scnt=None, settings=()):
    """A Recorder with so many seconds of these signals, and statistics if `scnt` is given."""
    found = Recorder()
    with Driver() as driver:
        devices = driver.device_paths()
        if not devices:
            raise RuntimeError("the driver finds no instrument")
        device = devices[0]
        driver.open(device, "defaults")
        try:
            for topic, value in settings:
                driver.publish(f"{device}/{topic}", int(value) if value.isdigit() else value)
            for topic in ("c/fw/version", "s/i/range/mode", "s/v/range/select"):
                found.settings[topic] = driver.query(f"{device}/{topic}")
            if scnt is not None:
                driver.publish(f"{device}/s/stats/scnt", scnt)
                driver.subscribe(f"{device}/s/stats/value", "pub", lambda _, value: found.statistics.append(value))
                driver.publish(f"{device}/s/stats/ctrl", 1)
            for signal in signals:
                driver.subscribe(f"{device}/{SIGNALS[signal]}/!data", "pub", found.on_data(signal))
            for signal in signals:
                driver.publish(f"{device}/{SIGNALS[signal]}/ctrl", 1)
            time.sleep(seconds)
            for signal in signals:
                driver.publish(f"{device}/{SIGNALS[signal]}/ctrl", 0)
        finally:
            # Driver.close() publishes the same, from memory that it has not initialised: one time in 128 the driver takes what lies
            # there for a pointer.
            driver.publish(f"{device}/@/!close", 0)
    return found


def main():
    parser = argparse.ArgumentParser(description="Records from the first instrument with the vendor's driver.")
    parser.add_argument("out")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--signals", default="i,v")
    parser.add_argument("--scnt", type=int, help="samples of 1 MSPS of one block of statistics")
    parser.add_argument("--set", action="append", default=[], help="TOPIC=VALUE, before the streams are turned on")
    arguments = parser.parse_args()
    signals = arguments.signals.split(",")
    settings = [setting.split("=", 1) for setting in arguments.set]
    arrays = record(signals, arguments.seconds, arguments.scnt, settings).arrays(signals)
    np.savez(arguments.out, **arrays)
    print(", ".join(f"{signal}: {arrays[signal].size} samples" for signal in signals))


if __name__ == "__main__":
    sys.exit(main())
