"""The vendor's unmodified driver against the emulated JS220: every sample, every id, every loss, and statistics.

WAVEKEEP_PRELOAD names the library that stands in for libusb. Each test records in a process of its own (record.py), and compares with
the waveform as its description says (wave.py) and with the emulator's own account of what was lost inside of it.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import wave

HERE = pathlib.Path(__file__).parent
SEED = 3
PORTS = {"r": 20, "i": 21, "v": 22, "p": 23, "0": 24, "1": 25, "2": 26, "3": 27, "T": 28}
STEPS = {"i": 2, "v": 2, "p": 2}

# Slower than real time, with a FIFO that outlasts a busy machine: ids count samples, so nothing else changes.
CALM = f"js220,seed={SEED},scale=0.4,fifo=64000000"


class Recording:
    def __init__(self, emulator, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            out, log = os.path.join(folder, "out.npz"), os.path.join(folder, "log")
            environment = dict(
                os.environ, LD_PRELOAD=os.environ["WAVEKEEP_PRELOAD"], WAVEKEEP_EMULATOR=emulator, WAVEKEEP_EMULATOR_LOG=log
            )
            command = [sys.executable, str(HERE / "record.py"), out, *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
            if done.returncode != 0:
                raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
            self.out = dict(np.load(out))
            log = pathlib.Path(log)
            self.log = [line.split()[1:] for line in log.read_text().splitlines()] if log.exists() else []
        self.settings = json.loads(str(self.out["settings"]))
        self.statistics = json.loads(str(self.out["statistics"]))

    def blocks(self, signal):
        """First id, ids a sample, and samples of each block."""
        ends = np.cumsum(self.out[f"{signal}_counts"])
        samples = np.split(self.out[signal], ends[:-1])
        return list(zip(self.out[f"{signal}_ids"].tolist(), self.out[f"{signal}_steps"].tolist(), samples))

    def gaps(self, signal):
        """The ids that are missing between blocks: first and end."""
        blocks = self.blocks(signal)
        ends = [first + step * samples.size for first, step, samples in blocks]
        return [(end, following[0]) for end, following in zip(ends, blocks[1:]) if end != following[0]]

    def lost(self, signal):
        """What the emulator says that it lost, before the last sample that arrived."""
        last = self.blocks(signal)[-1][0]
        lost = [tuple(map(int, line[2:])) for line in self.log if line[0] == "lost" and int(line[1]) == PORTS[signal]]
        return [span for span in lost if span[0] < last]


class Js220(unittest.TestCase):
    def check(self, recording, signals, device_seconds):
        for signal in signals:
            total = 0
            for first, step, samples in recording.blocks(signal):
                self.assertEqual(step, STEPS.get(signal, 1))
                expected = wave.expected(SEED, signal, first, samples.size)
                np.testing.assert_array_equal(samples.view(expected.dtype), expected, f"{signal} at {first}")
                total += step * samples.size
            self.assertGreaterEqual(total, device_seconds * 2_000_000, signal)
            self.assertEqual(recording.gaps(signal), recording.lost(signal), signal)

    def test_every_sample_is_that_of_the_waveform(self):
        recording = Recording(CALM, "--seconds", "6", "--signals", "i,v,r,0,1,2,3,T")
        self.check(recording, "ivr0123T", 2)
        self.assertEqual([line for line in recording.log if line[0] == "lost"], [])
        self.assertEqual(recording.settings["c/fw/version"], 0x01030000)

    def test_settings_are_known_by_their_names_and_acknowledged(self):
        recording = Recording(
            CALM, "--seconds", "0.3", "--set", "s/i/range/mode=manual", "--set", "s/v/range/select=2 V", "--set", "s/gpi/+/!req=0"
        )
        sets = [line[1:] for line in recording.log if line[0] == "set"]
        self.assertIn(["s/i/range/mode", "5"], sets)
        self.assertIn(["s/v/range/select", "1"], sets)
        self.assertEqual(recording.settings["s/i/range/mode"], 5)

    def test_a_setting_that_is_not_acknowledged_is_a_timeout(self):
        with self.assertRaisesRegex(AssertionError, "(?i)time"):
            Recording(f"{CALM},fault=noack:1@t0", "--seconds", "0.1", "--set", "s/i/range/mode=manual")

    def test_losses_are_jumps_of_the_sample_id(self):
        for losing in ("both", "sample"):
            with self.subTest(losing):
                faults = "fault=lose:100@s400000,fault=lose:1@s800000,fault=lose:3@s800001"
                recording = Recording(f"{CALM},loses={losing},{faults}", "--seconds", "2", "--signals", "i,v,r,0")
                self.check(recording, "ivr0", 0.5)
                self.assertGreaterEqual(len(recording.gaps("i")), 2)

    def test_a_full_fifo_loses_what_the_emulator_says(self):
        silent = f"js220,seed={SEED},scale=0.4,fifo=500000,fault=silence:700@s400000"
        recording = Recording(silent, "--seconds", "2.5", "--signals", "i,v")
        self.check(recording, "iv", 0.4)
        self.assertEqual(len(recording.gaps("i")), 1)

    def test_ids_go_on_past_32_bits(self):
        recording = Recording(f"{CALM},start={2**32 - 800_000}", "--seconds", "2", "--signals", "i,r,T")
        self.check(recording, "irT", 0.5)
        last = recording.blocks("i")[-1][0]
        self.assertTrue(2**32 < last < 2**32 + 4_000_000, last)

    def test_what_comes_twice_and_wrong_frame_ids_change_nothing(self):
        faults = "fault=duplicate@s200000,fault=frameid:77@s300000,fault=duplicate@s400000"
        recording = Recording(f"{CALM},{faults}", "--seconds", "1.5", "--signals", "i,v")
        self.check(recording, "iv", 0.3)
        self.assertEqual(recording.gaps("i"), [])

    def test_power_of_a_gap_is_nan(self):
        recording = Recording(f"{CALM},fault=lose:50@s400000", "--seconds", "2", "--signals", "i,v,p")
        self.check(recording, "iv", 0.5)
        missing = recording.lost("i") + recording.lost("v")
        nans = 0
        for first, step, samples in recording.blocks("p"):
            ids = first + step * np.arange(samples.size)
            # One of the two began later.
            gone = ids < max(recording.blocks(signal)[0][0] for signal in "iv")
            for start, end in missing:
                gone |= (ids >= start) & (ids < end)
            np.testing.assert_array_equal(np.isnan(samples), gone, f"p at {first}")
            expected = wave.expected(SEED, "p", first, samples.size)
            np.testing.assert_array_equal(samples[~gone], expected[~gone], f"p at {first}")
            nans += int(gone.sum())
        self.assertGreater(nans, 126)

    def test_power_alone_comes_from_the_instrument(self):
        recording = Recording(CALM, "--seconds", "1", "--signals", "p")
        self.check(recording, "p", 0.2)

    def test_decimated_samples_are_means(self):
        recording = Recording(CALM, "--seconds", "2", "--signals", "i,v,p", "--set", "h/filter=1", "--set", "h/fs=100000")
        for nth, signal in enumerate("ivp"):
            for first, step, samples in recording.blocks(signal):
                self.assertEqual((step, first % 20), (20, 0))
                units = wave.analog(SEED, first, 10 * samples.size)[nth]
                expected = (units.reshape(-1, 10).sum(axis=1) / (10 * 2.0**31)).astype(np.float32)
                np.testing.assert_array_equal(samples, expected, f"{signal} at {first}")
            self.assertGreater(recording.out[signal].size, 20_000)

    def test_wideband_decimates_on_the_host_with_the_agents_taps(self):
        # A block has the id of the last sample that went into its first output.
        for hz in (500_000, 100_000, 2_000):
            with self.subTest(hz):
                factor = 1_000_000 // hz
                recording = Recording(CALM, "--seconds", "2.5", "--signals", "i,v", "--set", f"h/fs={hz}")
                for signal in "iv":
                    blocks = recording.blocks(signal)
                    samples = np.concatenate([samples for _, _, samples in blocks])
                    start = blocks[0][0] // 2 - (factor - 1)
                    self.assertEqual((blocks[0][1], start % factor), (2 * factor, 0))
                    full = wave.expected(SEED, signal, 2 * start, factor * samples.size).astype(np.float64)
                    expected, early = wave.wideband(full, factor)
                    self.assertGreater(samples.size, early + 500)
                    # The driver's filters have steps of 2^-30.
                    np.testing.assert_allclose(samples[early:], expected[early:], rtol=2e-7, atol=2.0**-27)

    def test_below_1_khz_the_host_takes_means_of_means(self):
        recording = Recording(CALM, "--seconds", "2.5", "--signals", "i", "--set", "h/filter=1", "--set", "h/fs=200")
        blocks = recording.blocks("i")
        self.assertGreater(recording.out["i"].size, 100)
        for first, step, samples in blocks:
            start = first // 2 - 4_000
            self.assertEqual((step, start % 5_000), (10_000, 0))
            units = wave.analog(SEED, 2 * start, 5_000 * samples.size)[0]
            expected = units.reshape(-1, 5_000).mean(axis=1) / 2.0**31
            np.testing.assert_allclose(samples, expected, rtol=2e-7, atol=2.0**-28)

    def test_statistics_count_what_was_lost(self):
        recording = Recording(
            f"{CALM},fault=lose:2000@s400000", "--seconds", "3.5", "--signals", "i,v", "--scnt", "100000"
        )
        self.check(recording, "iv", 0.5)
        self.assertGreater(len(recording.gaps("i")), 0)
        self.assertGreaterEqual(len(recording.statistics), 5)
        for block in recording.statistics:
            first, end = block["time"]["samples"]["value"]
            start = block["time"]["accum_samples"]["value"][0]
            self.assertEqual(end - first, 200_000)
            i, v, p = wave.analog(SEED, start, (end - start) // 2)
            # Python's integers: exact. The driver divides by samples a second, towards zero.
            for name, units in (("charge", i), ("energy", p)):
                total = sum(map(int, np.add.reduceat(units, np.arange(0, units.size, 100_000))))
                truncated = abs(total) // 1_000_000 * (1 if total > 0 else -1)
                self.assertEqual(block["accumulators"][name]["int_value"], truncated, name)
            last = slice(-100_000, None)
            for name, units in (("current", i[last]), ("voltage", v[last]), ("power", p[last])):
                found = {key: block["signals"][name][key]["value"] for key in ("avg", "std", "min", "max")}
                values = units / 2.0**31
                tolerance = 2.0**-27
                self.assertAlmostEqual(found["avg"], values.mean(), delta=tolerance)
                self.assertAlmostEqual(found["std"], values.std(), delta=1e-6)
                self.assertAlmostEqual(found["min"], values.min(), delta=tolerance)
                self.assertAlmostEqual(found["max"], values.max(), delta=tolerance)

    def test_one_that_is_unplugged_goes_and_comes_again(self):
        emulator = "js220,serial=000777,fault=unplug:500@t5000000;js220,serial=000778"
        environment = dict(os.environ, LD_PRELOAD=os.environ["WAVEKEEP_PRELOAD"], WAVEKEEP_EMULATOR=emulator)
        command = [sys.executable, str(HERE / "watch.py"), "5"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        seen = done.stdout.splitlines()
        self.assertEqual(sorted(seen[:2]), ["there u/js220/000777", "there u/js220/000778"], done.stderr)
        self.assertEqual(seen[2:], ["remove u/js220/000777", "add u/js220/000777"], done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
