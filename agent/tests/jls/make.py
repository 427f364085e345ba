#!/usr/bin/env python3
"""Writes the JLS files beside it, with the official writer: python3 make.py [FOLDER]. It needs pyjls and numpy.

The samples are formulas, which the tests know too. Every run writes the same bytes.
"""

import os
import sys

import numpy as np
from pyjls import Writer

# 2026-01-31T12:00:00Z, in 2^-30 s since 2018.
START = 255_096_000 << 30


def words(first, count, factor):
    """Samples first, first + 1, …: 32 arbitrary bits each, of which NaNs are some, but never the writer's own filler."""
    bits = (np.arange(first, first + count, dtype=np.uint64) * np.uint64(factor)).astype(np.uint32)
    bits[bits == 0x7FC00000] = 0x7FC00001
    return bits.view(np.float32)


def define(writer, signal, name, units, data_type, rate=1000):
    writer.signal_def(
        signal_id=signal, source_id=1, sample_rate=rate, name=name, units=units, data_type=data_type,
        samples_per_data=1024, sample_decimate_factor=256, entries_per_summary=40, summary_decimate_factor=10)


def source(writer):
    writer.source_def(source_id=1, name='JS220-000415', vendor='Jetperch', model='JS220', version='1.0', serial_number='000415')


def pair(path):
    """Current and voltage: skipped runs, arbitrary NaNs, times that drift, notes; voltage starts later and ends earlier."""
    with Writer(path) as w:
        source(w)
        define(w, 1, 'current', 'A', 'f32')
        define(w, 2, 'voltage', 'V', 'f32')
        w.user_data(0, 'a note')
        w.user_data(7, {'algorithm': 'A'})
        w.user_data(8, b'\x00\x01')
        w.utc(1, 100, START)
        w.utc(1, 4100, START + (4 << 30) + (1 << 20))
        # Both skip 3000 to 3400, current alone 5000 to 5100 and the one sample 5200.
        for first, end in [(100, 3000), (3400, 5000), (5100, 5200), (5201, 6600)]:
            w.fsr(1, first, words(first, end - first, 2654435761))
        for first, end in [(150, 3000), (3400, 6500)]:
            w.fsr(2, first, words(first, end - first, 2246822519))
        w.annotation(1, 200, 1.5, 'text', 3, 'hello')
        w.annotation(1, 3100, float('nan'), 'vmarker', 0, '1a')
        w.annotation(2, 4000, 2.0, 'hmarker', 1, '2')
        w.annotation(2, 4001, float('nan'), 'user', 0, b'\x00\xff')
        w.annotation(1, 9999, float('nan'), 'text', 0, 'at no sample')
        w.annotation(0, START + (2 << 30), float('nan'), 'text', 0, 'of the whole file')


def steps(at):
    """Constant for a long time, then not."""
    return np.where((at >= 12_000) & (at < 13_000), at * 7 // 3, at // 5000)


def packed(path):
    """Narrow types, of which constant chunks are left out, and wide ones; one signal at another rate."""
    at = np.arange(30_000)
    with Writer(path) as w:
        source(w)
        define(w, 3, 'current_range', '', 'u4')
        define(w, 4, 'gpi[0]', '', 'u1')
        define(w, 5, 'state', '', 'u8')
        define(w, 6, 'level', '', 'i8')
        define(w, 7, 'raw', '', 'i16')
        define(w, 8, 'gpi[1]', '', 'u1', rate=2000)
        define(w, 9, 'nibble', '', 'i4')
        define(w, 10, 'energy', 'J', 'f64')
        for signal in (3, 4, 5, 6, 8):
            # pyjls 0.17.0 has it the wrong way round: False leaves them out.
            w.fsr_omit_data(signal, False)
        for signal in (3, 8):
            w.utc(signal, 0, START)
        nibbles = (steps(at) & 0xF).astype(np.uint8)
        bits = (steps(at) & 1).astype(np.uint8)
        w.fsr(3, 0, nibbles[0::2] | nibbles[1::2] << 4)
        w.fsr(4, 0, np.packbits(bits, bitorder='little'))
        w.fsr(5, 0, (steps(at) * 40 & 0xFF).astype(np.uint8))
        w.fsr(6, 0, (steps(at) * -20 & 0xFF).astype(np.uint8).view(np.int8))
        w.fsr(7, 0, (at[:3000] * 11 - 9000).astype(np.int16))
        w.fsr(8, 0, np.packbits(bits, bitorder='little'))
        w.fsr(9, 11_000, nibbles[11000:14000:2] | nibbles[11001:14000:2] << 4)
        w.fsr(10, 0, at[:1000] * 0.1)


def unclean(path):
    """The writer is killed."""
    child = os.fork()
    if child == 0:
        w = Writer(path)
        source(w)
        define(w, 1, 'current', 'A', 'f32')
        define(w, 2, 'voltage', 'V', 'f32')
        w.fsr(1, 0, words(0, 4000, 2654435761))
        w.fsr(2, 0, words(0, 4000, 2246822519))
        w.flush()
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)


folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
for make in (pair, packed, unclean):
    make(os.path.join(folder, make.__name__ + '.jls'))
