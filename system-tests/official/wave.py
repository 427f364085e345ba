"""The emulator's waveform, computed again from its description (joulescope-emulator/src/wave.rs) with numpy."""

import pathlib
import re

import numpy as np

U64 = np.uint64
STEP = 0x9E3779B97F4A7C15
SHIFT = np.array([9, 7, 5, 3, 1, 0], dtype=np.int64)


def mix(z):
    z = np.asarray(z, dtype=U64)
    with np.errstate(over="ignore"):
        z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return z ^ (z >> U64(31))


def hash64(seed, k, n):
    key = mix(U64((seed + k * STEP) & 0xFFFFFFFFFFFFFFFF))
    with np.errstate(over="ignore"):
        return mix(key + np.asarray(n, dtype=U64))


def analog(seed, first_id, count):
    """Current, voltage and power of so many samples at 1 MSPS, in 2^-31, as int64; the first has this (even) id."""
    n = first_id // 2 + np.arange(count, dtype=np.int64)
    w = hash64(seed, 0, n)
    bursts, which = np.unique(n // 16384, return_inverse=True)
    b = hash64(seed, 1, bursts)
    r = (b % U64(6)).astype(np.int64)
    base = (1 << 22) + ((b >> U64(8)) & U64(0xFFFFF)).astype(np.int64)
    i = (base[which] + (w & U64(0xFFFFF)).astype(np.int64)) << SHIFT[r][which]
    i = np.where((b >> U64(60) == 0)[which], -i, i)
    v = 3460300 + ((w >> U64(20)) & U64(0xFFFF)).astype(np.int64) - np.where(r == 0, 40000, 0)[which]
    return i, v << 11, (i * v) >> 20


def f32(units):
    return (units / 2.0**31).astype(np.float32)


def ranges(seed, first_id, count):
    ids = first_id + np.arange(count, dtype=np.int64)
    bursts, which = np.unique(ids // 2 // 16384, return_inverse=True)
    return (hash64(seed, 1, bursts) % U64(6)).astype(np.uint8)[which]


def gpi(seed, channel, first_id, count):
    """Inputs 0 to 3, and 4 for the trigger."""
    ids = first_id + np.arange(count, dtype=np.int64)
    words, which = np.unique(ids // 64, return_inverse=True)
    bits = hash64(seed, 16 + channel, words)[which] >> (ids % 64).astype(U64)
    return (bits & U64(1)).astype(np.uint8)


def expected(seed, signal, first_id, count):
    """What a host shall have got for a signal of `record.SIGNALS`."""
    if signal == "r":
        return ranges(seed, first_id, count)
    if signal in ("0", "1", "2", "3", "T"):
        return gpi(seed, "0123T".index(signal), first_id, count)
    i, v, _ = analog(seed, first_id, count)
    if signal == "i":
        return f32(i)
    if signal == "v":
        return f32(v)
    return f32(i) * f32(v)


def taps(factor):
    """Of the agent's filter of this factor: half of them stand there."""
    source = pathlib.Path(__file__).parents[2] / "agent/src/source/joulescope/decimate.rs"
    numbers = re.search(rf"HALF_{factor}: .*?= \[(.*?)\];", source.read_text(), re.DOTALL)[1]
    half = [int(number.replace("_", "")) for number in re.findall(r"-?[\d_]+", numbers)]
    return np.array(half[:0:-1] + half) / 2.0**23


def wideband(samples, factor):
    """What the vendor's host makes of samples at 1 MSPS, of which the first is one that it begins with; and of how many of its first
    outputs the samples before are not known."""
    early = 0
    while factor > 1:
        step = 5 if factor % 2 else 2
        samples = np.convolve(samples, taps(step))[: samples.size][step - 1 :: step]
        early = (early + taps(step).size) // step + 1
        factor //= step
    return samples, early
