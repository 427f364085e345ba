"""Exported JLS as the official reader reads it: samples, times, annotations, statistics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyjls import Reader, Writer

from .exporting import Bench, bench

RATE = 200_000
SPEC = f"js220,rate={RATE},seed=11,loss=1e-5"
# 2018-01-01T00:00:00Z in seconds since 1970.
EPOCH_SECONDS = 1_514_764_800


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with bench() as own:
        own.agent("a", "run", "--device", "js220-001", "--simulate", SPEC, "--duration", "6s")
        yield own


@pytest.fixture(scope="module")
def exported(lab: Bench) -> Path:
    path = lab.folder / "out.jls"
    lab.export("js220-001", "jls", path, "--gaps", "fill")
    return path


def stored(lab: Bench, device: str = "js220-001") -> np.ndarray:
    path = lab.folder / f"{device}.raw"
    lab.export(device, "raw", path, "--gaps", "fill")
    return np.fromfile(path, dtype=np.float32).reshape(-1, 2)


def by_name(reader: Reader) -> dict[str, object]:
    return {signal.name: signal for signal in reader.signals.values()}


def test_the_official_reader_sees_every_sample_with_its_bits(lab: Bench, exported: Path) -> None:
    expected = stored(lab)
    with Reader(str(exported)) as reader:
        signals = by_name(reader)
        sources = {source.name for source in reader.sources.values()}
        assert "js220-001" in sources
        for at, (name, unit) in enumerate([("current", "A"), ("voltage", "V")]):
            signal = signals[name]
            assert (signal.units, signal.sample_rate, signal.length) == (unit, RATE, len(expected))
            samples = reader.fsr(signal.signal_id, 0, signal.length)
            assert np.array_equal(samples.view(np.uint32), expected[:, at].copy().view(np.uint32))
            # From the middle, through the index.
            part = reader.fsr(signal.signal_id, 777_777, 1_000)
            assert np.array_equal(part.view(np.uint32), expected[777_777:778_777, at].copy().view(np.uint32))


def test_summaries_are_those_of_the_official_writer(lab: Bench, exported: Path) -> None:
    own = lab.folder / "own.jls"
    expected = stored(lab)
    with Writer(str(own)) as writer:
        writer.source_def(source_id=1, name="js220-001", vendor="-", model="-", version="-", serial_number="-")
        writer.signal_def(signal_id=1, source_id=1, sample_rate=RATE, name="current", units="A")
        writer.fsr_f32(1, 0, expected[:, 0].copy())
    finite = np.isfinite(expected[:, 0])
    with Reader(str(exported)) as one, Reader(str(own)) as two:
        signal = by_name(one)["current"]
        for increment, count in [(128, 500), (1_000, 1_000), (25_600, 40), (51_200, 20)]:
            ours = one.fsr_statistics(signal.signal_id, 0, increment, count)
            theirs = two.fsr_statistics(1, 0, increment, count)
            where = np.array([finite[at * increment : (at + 1) * increment].all() for at in range(count)])
            assert where.any()
            np.testing.assert_allclose(ours[where], theirs[where], rtol=1e-5, atol=1e-9)
            folded = expected[: count * increment, 0].reshape(count, increment).astype(np.float64)
            if increment % 128:
                # Such a reader takes whole entries, and approximates at their edges.
                continue
            np.testing.assert_allclose(ours[where, 0], folded.mean(axis=1)[where], rtol=1e-4)
            assert np.array_equal(ours[where, 2], folded.min(axis=1)[where])
            assert np.array_equal(ours[where, 3], folded.max(axis=1)[where])


def test_times_are_those_of_the_stream(lab: Bench, exported: Path) -> None:
    (listed,) = [json.loads(line) for line in lab.reader("--json", "streams", "--device", "js220-001").splitlines()]
    first = np.datetime64(listed["from"].removesuffix("Z"), "ns").astype(np.int64)
    with Reader(str(exported)) as reader:
        signal = by_name(reader)["current"]
        entries = []
        reader.utc(signal.signal_id, 0, lambda batch: entries.extend(batch.tolist()) and False)
        # The reader gives seconds as floats of 64 bits, to about a quarter of a microsecond.
        assert entries[0][0] == 0
        at = entries[0][1]
        seconds = at / 2**30 + EPOCH_SECONDS if at > 1e12 else at
        assert abs(seconds - first / 1e9) < 1e-5


@pytest.mark.parametrize("count", [1, 100, 127, 128, 8_192, 8_193, 8_192 * 10, 8_192 * 10 + 5, 8_192 * 200 + 77])
def test_any_length_can_be_read_to_its_end(lab: Bench, count: int) -> None:
    samples = np.arange(count, dtype=np.float32)
    file = lab.folder / f"{count}.f32"
    samples.tofile(file)
    device = f"length-{count}"
    lab.agent(
        "files", "replay", str(file), "--device", device, "--format", "raw", "--dtype", "f32", "--signal", "ramp:V",
        "--rate", "1000000", "--start", "2026-01-31T12:00:00Z",
    )
    path = lab.folder / f"{count}.jls"
    lab.export(device, "jls", path)
    with Reader(str(path)) as reader:
        signal = by_name(reader)["ramp"]
        assert signal.length == count
        assert np.array_equal(reader.fsr(signal.signal_id, 0, count), samples)
        statistics = reader.fsr_statistics(signal.signal_id, 0, count, 1)[0]
        assert statistics[0] == pytest.approx((count - 1) / 2, rel=1e-5)
        assert (statistics[2], statistics[3]) == (0.0, count - 1)


def test_annotations_and_small_types_come_back(lab: Bench) -> None:
    made = lab.folder / "made.jls"
    levels = (np.arange(300_000) // 777 % 2).astype(np.uint8)
    codes = (np.arange(300_000) % 1_000).astype(np.uint16)
    with Writer(str(made)) as writer:
        writer.source_def(source_id=1, name="js", vendor="v", model="m", version="1", serial_number="7")
        writer.signal_def(signal_id=1, source_id=1, sample_rate=100_000, name="gpi", data_type="u1")
        writer.signal_def(signal_id=2, source_id=1, sample_rate=100_000, name="code", data_type="u16")
        writer.fsr(1, 0, np.packbits(levels, bitorder="little"))
        writer.fsr(2, 0, codes)
        writer.utc(1, 0, 255_096_000 << 30)
        for at in range(250):
            writer.annotation(2, at * 1_000, float(at), "text", 3, f"note {at}")
        writer.annotation(2, 250_500, 1.0, "vmarker", 0, "1a")
    lab.agent("files", "replay", str(made), "--device", "typed")
    path = lab.folder / "typed.jls"
    lab.export("typed", "jls", path)
    with Reader(str(path)) as reader:
        signals = by_name(reader)
        assert np.array_equal(reader.fsr(signals["code"].signal_id, 0, 300_000), codes)
        bits = reader.fsr(signals["gpi"].signal_id, 0, 300_000)
        unpacked = bits if len(bits) == 300_000 else np.unpackbits(bits, bitorder="little")[:300_000]
        assert np.array_equal(unpacked, levels)
        notes = []
        first = min(signals["code"].signal_id, signals["gpi"].signal_id)
        reader.annotations(first, 0, lambda *note: notes.append(note) and False)
        assert len(notes) == 251
        late = []
        reader.annotations(first, 200_000, lambda *note: late.append(note) and False)
        assert len(late) == 51
        assert any("note 249" in str(note) for note in late) and any("1a" in str(note) for note in late)


def test_what_was_exported_is_replayed_bit_for_bit(lab: Bench, exported: Path) -> None:
    lab.agent("again", "replay", str(exported), "--device", "again")
    assert np.array_equal(stored(lab).view(np.uint32), stored(lab, "again").view(np.uint32))
    pair = Path(__file__).parents[3] / "agent" / "tests" / "jls" / "pair.jls"
    lab.agent("pair", "replay", str(pair), "--device", "pair")
    path = lab.folder / "pair.jls"
    lab.export("pair", "jls", path, "--gaps", "fill")
    lab.agent("pair", "replay", str(path), "--device", "pair-again")
    assert np.array_equal(stored(lab, "pair").view(np.uint32), stored(lab, "pair-again").view(np.uint32))

    def listed(device: str, verb: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in lab.reader("--json", verb, "--device", device).splitlines()]

    for device in ["pair", "pair-again"]:
        assert sum(int(chunk["markers"]) for chunk in listed(device, "chunks")) == 5
    (one,), (two,) = listed("pair", "streams"), listed("pair-again", "streams")
    assert [one["from"], one["to"]] == [two["from"], two["to"]]
