"""Against the real server: what agents recorded comes back sample by sample, as the file and the command line have it."""

from __future__ import annotations

import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.lab import DATA, START, START_NS, Lab
from wavekeep import Client, Columns, Samples, errors

RATE_HZ = 100_000
SPEC = f"js220,rate={RATE_HZ},seed=7"


@pytest.fixture(scope="module")
def whole(lab: Lab) -> str:
    """Three seconds of a simulated JS220 without a loss."""
    lab.simulate("whole", SPEC, "3s", "--label", "algorithm=A", "--run", "baseline")
    return "whole"


@pytest.fixture(scope="module")
def lossy(lab: Lab) -> str:
    """The same instrument, losing samples."""
    lab.simulate("lossy", f"{SPEC},loss=1e-4", "3s")
    return "lossy"


def samples_of(client: Client, device: str, name: str, **what: Any) -> Samples:
    found = client.waveform(device=device, **what)[name]
    assert isinstance(found, Samples)
    return found


def dense(client: Client, device: str, name: str) -> NDArray[np.float64]:
    """In f64, missing samples as NaN."""
    samples: Any = samples_of(client, device, name).samples.astype(np.float64)
    filled: NDArray[np.float64] = samples.filled(np.nan)
    return filled


def ppk2(name: str) -> tuple[NDArray[np.float32], str]:
    """A capture at 100 kS/s, in ampere, and its author's own analysis."""
    with zipfile.ZipFile(DATA / f"ppk2/{name}.zip") as archive:
        samples = np.frombuffer(archive.read(f"{name}/current.f32.bin"), "<f4")
        return samples, archive.read(f"{name}/emscope.yaml").decode()


def test_listings_say_what_was_recorded(client: Client, whole: str) -> None:
    device = next(device for device in client.devices() if device.name == whole)
    assert (device.streams, device.sample_count, device.live) == (1, 3 * RATE_HZ, False)
    stream = client.streams(device=whole)[0]
    assert (stream.labels, stream.run, stream.rate_hz) == ({"algorithm": "A"}, "baseline", RATE_HZ)
    assert [(signal.name, signal.unit) for signal in stream.signals] == [("current", "A"), ("voltage", "V")]
    assert stream.duration_s == pytest.approx(3)
    # Other modules record an A of their own on this server.
    assert [one.id for one in client.streams(filter=f"algorithm=A device={whole}")] == [stream.id]
    assert client.streams(run="baseline") == [stream]
    assert client.gaps(device=whole) == []


def test_every_sample_is_that_of_the_command_line(lab: Lab, client: Client, whole: str) -> None:
    stream = client.waveform(device=whole).stream
    exported = lab.export(whole).view("<u4").reshape(-1, 2)
    for place, name in enumerate(("current", "voltage")):
        samples = stream[name]
        assert isinstance(samples, Samples)
        assert samples.samples.dtype == np.dtype("<f4")
        assert np.array_equal(samples.stored.view("<u4"), exported[:, place])
    assert len(np.unique(np.diff(stream.time_ns))) == 1


def test_a_range_is_cut_at_its_samples(client: Client, whole: str) -> None:
    everything = samples_of(client, whole, "voltage")
    times = everything.time_ns
    for first, last in ((0, 1), (7, 70_001), (65_535, 65_537), (299_999, 300_000)):
        part = samples_of(client, whole, "voltage", start=int(times[first]), end=int(times[last - 1]) + 1)
        assert (part.first_sample, part.to_sample) == (first, last)
        assert part.stored.tobytes() == everything.stored[first:last].tobytes()
        assert np.array_equal(part.time_ns, times[first:last])
    tail = samples_of(client, whole, "voltage", start="-10ms")
    assert tail.stored.tobytes() == everything.stored[-1_000:].tobytes()


def test_gaps_are_masked_and_shift_nothing(lab: Lab, client: Client, whole: str, lossy: str) -> None:
    stream = client.waveform(device=lossy).stream
    truth = client.waveform(device=whole).stream
    for name in ("current", "voltage"):
        found, expected = stream[name], truth[name]
        assert isinstance(found, Samples)
        assert isinstance(expected, Samples)
        mask = found.mask
        assert 0 < mask.sum() < RATE_HZ
        # The simulator is a function of seed and sample id: what is there is at its place.
        there = found.samples.data[~mask].view("<u4")
        assert np.array_equal(there, expected.stored[: len(mask)][~mask].view("<u4"))
        assert np.isnan(found.samples.data[mask]).all()
        assert np.array_equal(mask, np.ma.getmaskarray(found.samples))
        assert sum(gap.count for gap in found.gaps) == mask.sum()
        for gap in found.gaps:
            assert mask[gap.first_sample : gap.to_sample].all()
    assert {str(gap.reason) for gap in stream.gaps} == {"source_loss"}
    listed = client.gaps(device=lossy)
    assert [(gap.first_sample, gap.count, gap.from_ns, gap.to_ns) for gap in listed] == [
        (gap.first_sample, gap.count, gap.from_ns, gap.to_ns) for gap in stream.gaps
    ]
    filled = lab.export(lossy, "--signal", "current", "--gaps", "fill").view("<f4")
    assert np.array_equal(filled, dense(client, lossy, "current").astype("<f4"), equal_nan=True)


def test_digital_signals_are_unpacked(lab: Lab, client: Client) -> None:
    lab.simulate("logic", "js220,rate=10000,seed=3,logic=true", "2s")
    streams = client.waveform(device="logic").streams
    logic = next(one for one in streams if "gpi0" in one)
    cut = logic.time_ns[13]
    part = client.waveform(stream=logic.stream, start=int(cut)).stream
    for name, bits in (("current_range", 4), ("gpi0", 1), ("gpi3", 1)):
        samples, rest = logic[name], part[name]
        assert isinstance(samples, Samples)
        assert isinstance(rest, Samples)
        packed = lab.export("logic", "--stream", logic.stream.id, "--signal", name)
        expected = np.unpackbits(packed, bitorder="little").reshape(-1, bits)
        weights = 1 << np.arange(bits)
        assert np.array_equal(samples.stored, (expected @ weights)[: len(samples)])
        assert np.array_equal(rest.stored, samples.stored[13:])


@pytest.mark.parametrize("encoding", ["plain", "shuffle-zstd", "pco"])
def test_a_file_comes_back_bit_for_bit_whatever_its_encoding(lab: Lab, client: Client, tmp_path: Path, encoding: str) -> None:
    samples, _ = ppk2("52-p")
    file = tmp_path / "capture.f32"
    samples[:200_000].tofile(file)
    device = f"ppk2-{encoding}"
    lab.replay(file, device, "--rate", "100000", "--start", START, "--encoding", encoding)
    found = samples_of(client, device, "current")
    assert found.stored.tobytes() == samples[:200_000].tobytes()
    assert found.time_ns[[0, -1]].tolist() == [START_NS, START_NS + 199_999 * 10_000]


@pytest.mark.parametrize("dtype", ["f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
def test_every_type_comes_back(lab: Lab, client: Client, tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(f"<{dtype[0]}{int(dtype[1:]) // 8}")
    noise = np.random.default_rng(1).integers(0, 256, 70_000 * kind.itemsize, np.uint8).view(kind)
    samples = np.where(np.arange(70_000) % 50 < 25, noise, np.zeros(1, kind))
    file = tmp_path / "capture.npy"
    np.save(file, samples)
    device = f"type-{dtype}"
    lab.replay(file, device, "--signal", "code:", "--rate", "48000", "--start", START)
    found = samples_of(client, device, "code")
    assert found.samples.dtype == kind
    assert found.stored.tobytes() == samples.tobytes()


def awkward(kind: np.dtype[Any]) -> NDArray[Any]:
    """Numbers whose shortest decimals are easily written in another way: tiny, huge, at a power of two or ten, and in the middle of
    two decimals."""
    if kind.kind != "f":
        return np.array([0, 1, np.iinfo(kind).min, np.iinfo(kind).max, 100, 7], kind)
    info, random = np.finfo(kind), np.random.default_rng(3)
    bits = random.integers(0, 256, 20_000 * kind.itemsize, np.uint8).view(kind)
    powers = 2.0 ** np.arange(int(info.minexp), int(info.maxexp))
    tens = [float(f"{digit}e{power}") for power in range(-40, 39) for digit in (1, 2, 5, 9.5)]
    middles = random.integers(-(1 << info.nmant), 1 << info.nmant, 20_000) * 2.0 ** -random.integers(0, 30, 20_000)
    named = [0, -0.0, np.nan, np.inf, -np.inf, 1e-4, 1e-5, 1e16, 9.999999e15, float(info.smallest_subnormal), float(info.max), 0.1]
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.concatenate([named, powers, tens, middles]).astype(kind)
        return np.concatenate([found, np.nextafter(found, kind.type(0)), -found, bits])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u8", "i8", "i2"])
def test_a_csv_file_has_the_bytes_of_the_command_line_s(lab: Lab, client: Client, tmp_path: Path, dtype: str) -> None:
    file, device = tmp_path / "capture.npy", f"csv-{dtype}"
    np.save(file, awkward(np.dtype(f"<{dtype}")))
    lab.replay(file, device, "--signal", 'a;"b" (1):', "--rate", "48000", "--start", START)
    lab.export_to(tmp_path / "theirs.csv", "csv", device)
    client.waveform(device=device).export(tmp_path / "ours.csv")
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("ours.csv", "theirs.csv"))
    assert ours.splitlines() == theirs.splitlines()
    assert ours == theirs


@pytest.mark.parametrize("gaps", ["fill", "skip"])
def test_a_csv_file_with_gaps_has_the_bytes_of_the_command_line_s(
    lab: Lab, client: Client, lossy: str, tmp_path: Path, gaps: str
) -> None:
    lab.export_to(tmp_path / "theirs.csv", "csv", lossy, "--gaps", gaps)
    client.waveform(device=lossy).export(tmp_path / "ours.csv", gaps=gaps)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_a_csv_file_of_a_capture_has_the_bytes_of_the_command_line_s(lab: Lab, client: Client, tmp_path: Path) -> None:
    lab.replay(TRACES[0] / "trace1-energy.bin", "csv-trace", "--start", START)
    lab.export_to(tmp_path / "theirs.csv", "csv", "csv-trace")
    client.waveform(device="csv-trace").export(tmp_path / "ours.csv")
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def folds(values: NDArray[np.float64], columns: Columns) -> None:
    """Holds columns against what numpy makes of the samples, NaN where they are missing."""
    edges = columns.edges()
    assert len(edges) == len(columns) + 1
    inside, starts = values[edges[0] : edges[-1]], edges[:-1] - edges[0]
    count = np.add.reduceat(np.isfinite(inside).astype(np.int64), starts)
    assert np.array_equal(columns.count, count)
    assert np.array_equal(columns.min, np.fmin.reduceat(inside, starts), equal_nan=True)
    assert np.array_equal(columns.max, np.fmax.reduceat(inside, starts), equal_nan=True)
    with np.errstate(invalid="ignore"):
        mean = np.add.reduceat(np.nan_to_num(inside), starts) / count
    assert np.allclose(columns.mean, mean, rtol=1e-9, atol=1e-15, equal_nan=True)


@pytest.mark.parametrize("points", [1, 50, 777, 5_000])
def test_columns_are_the_folds_of_the_samples(client: Client, lossy: str, points: int) -> None:
    current, voltage = dense(client, lossy, "current"), dense(client, lossy, "voltage")
    times = samples_of(client, lossy, "current").time_ns
    for start, end in ((0, len(times) - 1), (12_345, 234_567)):
        stream = client.waveform(device=lossy, points=points, start=int(times[start]), end=int(times[end])).stream
        for name, values in (("current", current), ("voltage", voltage), ("power", current * voltage)):
            columns = stream[name]
            assert isinstance(columns, Columns)
            assert 0 < len(columns) <= points
            assert (columns.first_sample, columns.to_sample) == (start, end)
            folds(values, columns)
            assert np.array_equal(columns.time_ns, times[columns.edges()[:-1]])


def test_few_samples_come_as_samples(client: Client, whole: str) -> None:
    stream = client.waveform(device=whole, start="-1ms", points=1_000).stream
    assert not stream.is_drawn
    assert len(stream.time_ns) == 100


@pytest.mark.parametrize(("start", "end"), [(None, None), (12_345, 65_536), (65_535, 234_567), (299_000, None)])
def test_statistics_are_folds_in_f64(client: Client, lossy: str, start: int | None, end: int | None) -> None:
    times = samples_of(client, lossy, "current").time_ns
    first, last = (None if at is None else int(times[at]) for at in (start, end))
    found = {one.signal: one for one in client.statistics(device=lossy, start=first, end=last)}
    current, voltage = dense(client, lossy, "current")[start:end], dense(client, lossy, "voltage")[start:end]
    for name, every in (("current", current), ("voltage", voltage), ("power", current * voltage)):
        one, values = found[name], every[np.isfinite(every)]
        assert (one.sample_count, one.gap_sample_count) == (len(values), len(every) - len(values))
        assert one.duration_s == pytest.approx(len(every) / RATE_HZ)
        assert one.gap_s == pytest.approx((len(every) - len(values)) / RATE_HZ)
        assert (one.min, one.max) == (values.min(), values.max())
        assert one.mean == pytest.approx(values.mean(), rel=1e-9)
        assert one.std == pytest.approx(values.std(), rel=1e-6)
        assert one.rms == pytest.approx(np.sqrt(np.mean(values**2)), rel=1e-9)
        assert one.integral == pytest.approx(values.sum() / RATE_HZ, rel=1e-9)
    assert found["power"].energy_joule == pytest.approx(found["power"].integral)
    assert found["current"].charge_coulomb == pytest.approx(found["current"].integral)
    assert found["current"].charge_ampere_hour == pytest.approx(found["current"].integral / 3600)
    assert found["voltage"].energy_joule is None


@pytest.mark.parametrize(("name", "volt", "event_uj", "second_uj"), [("52-p", 3.3, 28.236, 33.934), ("in-p", 1.8, 20.276, 21.476)])
def test_energies_are_those_of_the_captures_author(
    lab: Lab, client: Client, tmp_path: Path, name: str, volt: float, event_uj: float, second_uj: float
) -> None:
    current, analysis = ppk2(name)
    file = tmp_path / "capture.f32"
    np.stack([current, np.full(len(current), volt, "<f4")], axis=1).tofile(file)
    lab.replay(file, name, "--signal", "current:A", "--signal", "voltage:V", "--rate", "100000", "--start", START)

    def energy_uj(first: int, count: int) -> float:
        bounds = [START_NS + at * 10_000 for at in (first, first + count)]
        power = client.statistics(device=name, signals="power", start=bounds[0], end=bounds[1])[0]
        assert power.sample_count == count
        assert power.energy_joule is not None
        return power.energy_joule * 1e6

    window, *events = [
        (int(first), int(count)) for first, count in re.findall(r"sample_offset: (\d+),?\s+sample_count: (\d+)", analysis)
    ]
    assert len(events) == 11
    assert np.mean([energy_uj(*event) for event in events]) == pytest.approx(event_uj, abs=5e-4)
    assert energy_uj(*window) / (window[1] / 1e5) == pytest.approx(second_uj, abs=5e-4)
    # The same from the samples themselves.
    stream = client.waveform(device=name).stream
    first, count = events[0]
    assert stream.power()[first : first + count].sum() / 1e5 * 1e6 == pytest.approx(energy_uj(first, count), rel=1e-9)
    whole = client.statistics(device=name, signals="current")[0]
    stated = {key: float(value) for key, value in re.findall(r"(avg|max|min)_current: (\S+)\n", analysis)[:3]}
    assert whole.mean == pytest.approx(stated["avg"], rel=1e-9)
    assert (whole.max, whole.min) == (stated["max"], stated["min"])


TRACES = sorted(folder.parent for folder in DATA.glob("mlperf_tiny_*/*/trace1-energy.bin"))


@pytest.mark.parametrize("folder", TRACES, ids=lambda folder: folder.name)
def test_windows_are_those_of_the_benchmark(lab: Lab, client: Client, folder: Path) -> None:
    file = folder / "trace1-energy.bin"
    lab.replay(file, folder.name, "--start", START)
    energy = samples_of(client, folder.name, "energy")
    assert energy.stored.tobytes() == file.read_bytes()[5:]
    markers = client.markers(device=folder.name)
    # As text: they have no height, and no NaN equals another.
    assert repr(client.waveform(device=folder.name).markers) == repr(tuple(markers))
    edges = json.loads((folder / "trace1-timestamps.json").read_text())
    assert [(marker.content, marker.sample) for marker in markers] == [
        (f"edge {number}", round(second * 1e3)) for number, second in enumerate(edges, 1)
    ]
    results = (folder / "results.txt").read_text()
    windows = re.findall(r"Energy data for window (\d+) .*\n.*Energy       : +([\d.]+) uJ", results)
    assert len(windows) == 5
    for number, expected in windows:
        start, end = (markers[int(number) - 1 + at].time_ns for at in (0, 1))
        one = client.statistics(device=folder.name, start=start, end=end)[0]
        # Σ of µJ at 1 kHz is 1,000 times their integral. SOURCES.md: within a sample at the edges.
        assert one.integral * 1e3 == pytest.approx(float(expected), rel=1e-4)


def test_what_people_add_is_a_marker_too(lab: Lab, client: Client, whole: str) -> None:
    at = int(client.streams(device=whole)[0].first_time_ns or 0) + 1_000_000_000
    lab.command_line("mark", "--device", whole, "--time", str(np.datetime64(at, "ns")) + "Z", "fan on")
    marker = client.markers(device=whole)[-1]
    assert (marker.device, marker.stream, marker.sample, marker.time_ns, str(marker)) == (whole, None, None, at, "fan on")
    assert client.markers(device=whole, end=at) == []


def test_recordings_of_a_device_are_kept_apart(lab: Lab, client: Client) -> None:
    for seed in (1, 2):
        lab.simulate("twice", f"js110,rate=1000,seed={seed}", "1s", "--label", f"seed={seed}")
    waveform = client.waveform(device="twice")
    assert [stream.stream.labels["seed"] for stream in waveform] == ["1", "2"]
    with pytest.raises(errors.SeveralStreams):
        waveform["current"]
    assert len(client.waveform(device="twice", filter="seed=2")["current"].time_ns) == 1_000
    first = waveform.streams[0].stream
    for stream in (first, first.id, first.id[:8]):
        assert client.waveform(stream=stream).stream.stream == first
    assert waveform.to_pandas().index.nlevels == 2
    figure = waveform.plot("current")
    assert len(figure.axes[0].lines) == 2


def test_the_server_s_refusals_say_what_to_do(lab: Lab, client: Client, whole: str) -> None:
    with pytest.raises(errors.UnknownName, match='did you mean "whole"') as caught:
        client.waveform(device="whol")
    assert (caught.value.kind, caught.value.nearest) == ("device", "whole")
    with pytest.raises(errors.UnknownName):
        client.waveform(device=whole, signals="curent")
    with pytest.raises(errors.NothingStored):
        client.waveform(device=whole, end="2001-01-01T00:00:00Z")
    with pytest.raises(errors.InvalidRequest, match="power is derived"):
        client.waveform(device=whole, signals="power")
    with pytest.raises(errors.InvalidRequest, match="not understood"):
        client.streams(filter="nonsense")
    with Client(lab.url, workspace="nobody") as other, pytest.raises(errors.UnknownName):
        other.devices()


def test_threads_share_a_client(client: Client, whole: str) -> None:
    expected = samples_of(client, whole, "current").stored.tobytes()

    def read(_: int) -> bool:
        return samples_of(client, whole, "current").stored.tobytes() == expected

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(8)))
