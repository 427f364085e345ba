"""Exported JLS as the official reader reads it: samples, times, annotations, statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyjls import Reader, Writer

from tests.support.lab import START, TREE, Lab

RATE = 200_000
SPEC = f"js220,rate={RATE},seed=11,loss=1e-5"
# 2018-01-01T00:00:00Z in seconds since 1970.
EPOCH_SECONDS = 1_514_764_800


@pytest.fixture(scope="module")
def device(lab: Lab) -> str:
    """Six seconds that lose a few samples."""
    lab.simulate("jls", SPEC, "6s")
    return "jls"


@pytest.fixture(scope="module")
def exported(lab: Lab, device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jls") / "exported.jls"
    lab.export_to(path, "jls", device, "--gaps", "fill")
    return path


def stored(lab: Lab, device: str) -> NDArray[np.float32]:
    """Current and voltage; NaN where samples are missing."""
    return lab.export(device, "--gaps", "fill").view(np.float32).reshape(-1, 2)


def by_name(reader: Reader) -> dict[str, Any]:
    return {signal.name: signal for signal in reader.signals.values()}


def utc_of(reader: Reader, signal_id: int) -> list[list[float]]:
    """Sample and time. The reader goes on until it is told to stop."""
    entries: list[list[float]] = []

    def take(batch: NDArray[np.float64]) -> bool:
        entries.extend(batch.tolist())
        return False

    reader.utc(signal_id, 0, take)
    return entries


def annotations_of(reader: Reader, signal_id: int, first: int) -> list[str]:
    """From a sample on, as the reader prints them."""
    notes: list[str] = []

    def take(*note: object) -> bool:
        notes.append(str(note))
        return False

    reader.annotations(signal_id, first, take)
    return notes


def test_the_official_reader_sees_every_sample_with_its_bits(lab: Lab, device: str, exported: Path) -> None:
    expected = stored(lab, device)
    with Reader(str(exported)) as reader:
        signals = by_name(reader)
        sources = {source.name for source in reader.sources.values()}
        assert device in sources
        for at, (name, unit) in enumerate([("current", "A"), ("voltage", "V")]):
            signal = signals[name]
            assert (signal.units, signal.sample_rate, signal.length) == (unit, RATE, len(expected))
            samples = reader.fsr(signal.signal_id, 0, signal.length)
            assert np.array_equal(samples.view(np.uint32), expected[:, at].copy().view(np.uint32))
            # From the middle, through the index.
            part = reader.fsr(signal.signal_id, 777_777, 1_000)
            assert np.array_equal(part.view(np.uint32), expected[777_777:778_777, at].copy().view(np.uint32))


def test_summaries_are_those_of_the_official_writer(lab: Lab, device: str, exported: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jls"
    expected = stored(lab, device)
    with Writer(str(own)) as writer:
        writer.source_def(source_id=1, name=device, vendor="-", model="-", version="-", serial_number="-")
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


def test_times_are_those_of_the_stream(lab: Lab, device: str, exported: Path) -> None:
    (stream,) = lab.listed("streams", device)
    first = np.datetime64(stream["from"].removesuffix("Z"), "ns").astype(np.int64)
    with Reader(str(exported)) as reader:
        sample, at = utc_of(reader, by_name(reader)["current"].signal_id)[0]
    # The reader gives seconds as floats of 64 bits, to about a quarter of a microsecond.
    assert sample == 0
    seconds = at / 2**30 + EPOCH_SECONDS if at > 1e12 else at
    assert abs(seconds - first / 1e9) < 1e-5


@pytest.mark.parametrize("count", [1, 100, 127, 128, 8_192, 8_193, 8_192 * 10, 8_192 * 10 + 5, 8_192 * 200 + 77])
def test_any_length_can_be_read_to_its_end(lab: Lab, tmp_path: Path, count: int) -> None:
    samples = np.arange(count, dtype=np.float32)
    file = tmp_path / f"{count}.f32"
    samples.tofile(file)
    device = f"length-{count}"
    layout = ["--format", "raw", "--dtype", "f32", "--signal", "ramp:V"]
    lab.replay(file, device, *layout, "--rate", "1000000", "--start", START)
    path = tmp_path / f"{count}.jls"
    lab.export_to(path, "jls", device)
    with Reader(str(path)) as reader:
        signal = by_name(reader)["ramp"]
        assert signal.length == count
        assert np.array_equal(reader.fsr(signal.signal_id, 0, count), samples)
        statistics = reader.fsr_statistics(signal.signal_id, 0, count, 1)[0]
        assert statistics[0] == pytest.approx((count - 1) / 2, rel=1e-5)
        assert (statistics[2], statistics[3]) == (0.0, count - 1)


def test_annotations_and_small_types_come_back(lab: Lab, tmp_path: Path) -> None:
    made = tmp_path / "made.jls"
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
    lab.replay(made, "typed")
    path = tmp_path / "typed.jls"
    lab.export_to(path, "jls", "typed")
    with Reader(str(path)) as reader:
        signals = by_name(reader)
        assert np.array_equal(reader.fsr(signals["code"].signal_id, 0, 300_000), codes)
        bits = reader.fsr(signals["gpi"].signal_id, 0, 300_000)
        unpacked = bits if len(bits) == 300_000 else np.unpackbits(bits, bitorder="little")[:300_000]
        assert np.array_equal(unpacked, levels)
        first = min(signals["code"].signal_id, signals["gpi"].signal_id)
        assert len(annotations_of(reader, first, 0)) == 251
        late = annotations_of(reader, first, 200_000)
        assert len(late) == 51
        assert any("note 249" in note for note in late)
        assert any("1a" in note for note in late)


def test_what_was_exported_is_replayed_bit_for_bit(lab: Lab, device: str, exported: Path, tmp_path: Path) -> None:
    lab.replay(exported, "jls-again")
    assert np.array_equal(stored(lab, device).view(np.uint32), stored(lab, "jls-again").view(np.uint32))
    lab.replay(TREE / "agent/tests/jls/pair.jls", "pair")
    path = tmp_path / "pair.jls"
    lab.export_to(path, "jls", "pair", "--gaps", "fill")
    lab.replay(path, "pair-again")
    assert np.array_equal(stored(lab, "pair").view(np.uint32), stored(lab, "pair-again").view(np.uint32))
    for one in ("pair", "pair-again"):
        assert sum(chunk["markers"] for chunk in lab.listed("chunks", one)) == 5
    (source,), (copy,) = lab.listed("streams", "pair"), lab.listed("streams", "pair-again")
    assert (source["from"], source["to"]) == (copy["from"], copy["to"])
