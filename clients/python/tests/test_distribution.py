"""Percentiles and histograms against the real server: those that NumPy finds in the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.capture import START_NS
from tests.support.double import Script, serving
from tests.support.lab import Lab
from tests.test_server import ppk2
from wavekeep import Client, Samples, errors
from wavekeep.v1 import query_pb2

SHARES = (99, 0, 1, 50, 99.9, 100)
BINS = 40


@pytest.fixture(scope="module")
def instrument(lab: Lab) -> str:
    """A simulated JS220 that loses samples."""
    lab.simulate("distributed", "js220,rate=100000,seed=7,loss=1e-4", "3s")
    return "distributed"


def finite(client: Client, device: str) -> dict[str, NDArray[np.float64]]:
    """The samples in f64, and what is derived of them."""
    stream = client.waveform(device=device).stream
    found: dict[str, Any] = {
        name: one.samples.astype(np.float64) for name, one in stream.signals.items() if isinstance(one, Samples)
    }
    if len(found) > 1:
        found["power"] = stream.power()
    dense = {name: values.compressed() for name, values in found.items()}
    return {name: values[np.isfinite(values)] for name, values in dense.items()}


def test_percentiles_and_bins_are_those_of_numpy(client: Client, instrument: str) -> None:
    samples = finite(client, instrument)
    found = client.statistics(device=instrument, percentiles=SHARES, bins=BINS)
    assert [one.signal for one in found] == ["current", "voltage", "power"]
    for one in found:
        values = samples[one.signal]
        assert one.finite_count == len(values)
        assert list(one.percentiles) == list(SHARES)
        for share, value in one.percentiles.items():
            assert value == np.percentile(values, share, method="inverted_cdf"), (one.signal, share)
        counts, edges = np.histogram(values, BINS)
        assert one.histogram is not None
        assert one.histogram.edges.dtype == np.float64
        assert np.array_equal(one.histogram.edges, edges)
        assert np.array_equal(one.histogram.counts, counts)
        assert (one.histogram.below, one.histogram.above) == (0, 0)


def test_a_capture_of_a_board_has_the_percentiles_of_its_file(lab: Lab, client: Client) -> None:
    samples, _ = ppk2("52-p")
    file = lab.folder / "distribution.f32"
    samples[:300_000].tofile(file)
    lab.replay(file, "distributed-board", "--rate", "100000", "--start", "2026-01-31T12:00:00Z")
    values = samples[:300_000].astype(np.float64)
    low, high = (float(np.percentile(values, share)) for share in (10, 95))
    one = client.statistics(device="distributed-board", percentiles=50, bins=1_000, bins_from=low, bins_to=high)[0]
    assert one.percentiles == {50: np.percentile(values, 50, method="inverted_cdf")}
    counts, edges = np.histogram(values, 1_000, (low, high))
    assert one.histogram is not None
    assert np.array_equal(one.histogram.edges, edges)
    assert np.array_equal(one.histogram.counts, counts)
    assert (one.histogram.below, one.histogram.above) == ((values < low).sum(), (values > high).sum())
    open_end = client.statistics(device="distributed-board", bins=3, bins_from=low)[0].histogram
    assert open_end is not None
    assert open_end.edges[[0, -1]].tolist() == [low, values.max()]


def test_nothing_is_told_that_was_not_asked_for(client: Client, instrument: str) -> None:
    plain = client.statistics(device=instrument, signals="current")[0]
    assert (plain.percentiles, plain.histogram) == ({}, None)
    bins = client.statistics(device=instrument, signals="current", bins=2)[0]
    assert bins.percentiles == {}
    assert bins == plain, "what else is told makes no other statistics"
    assert hash(bins) == hash(plain)


def test_what_is_not_finite_has_no_bins(lab: Lab, client: Client) -> None:
    file = lab.folder / "nan.f32"
    np.full(100, np.nan, "<f4").tofile(file)
    lab.replay(file, "distributed-nan", "--rate", "1000", "--start", "2026-01-31T12:00:00Z")
    one = client.statistics(device="distributed-nan", percentiles=(50, 99), bins=4)[0]
    assert (one.finite_count, one.histogram) == (0, None)
    assert np.isnan(list(one.percentiles.values())).all()


def test_what_no_server_could_answer_is_refused_by_name(client: Client, instrument: str) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"percentiles": (1, 101)}, "percentiles=101: ask for at most 100, each from 0 to 100"),
        ({"percentiles": -1}, "percentiles=-1"),
        ({"percentiles": np.nan}, "percentiles=nan"),
        ({"percentiles": range(101)}, "101 percentiles"),
        ({"bins": -1}, "bins=-1: ask for at most 10,000, or for 0"),
        ({"bins": 10_001}, "bins=10001"),
        ({"bins_from": 0.0}, "say bins= too"),
        ({"bins": 4, "bins_from": 1, "bins_to": 1}, "from a number to a larger one"),
        ({"bins": 4, "bins_to": np.inf}, "from a number to a larger one"),
    ]
    for what, words in cases:
        with pytest.raises(errors.InvalidQuestion, match=words):
            client.statistics(device=instrument, **what)


def test_the_server_refuses_the_same(client: Client, instrument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Should the limits differ one day, its refusal is of the same kind.
    monkeypatch.setattr("wavekeep.client._require_distribution", lambda *_: None)
    cases: list[dict[str, Any]] = [
        {"percentiles": 101},
        {"percentiles": range(101)},
        {"bins": 10_001},
        {"bins": 4, "bins_from": 1, "bins_to": 1},
    ]
    for what in cases:
        with pytest.raises(errors.InvalidRequest):
            client.statistics(device=instrument, **what)


def test_an_answer_without_what_was_asked_for_is_none() -> None:
    one = query_pb2.SignalStatistics(device="js220-001", signal="current", from_ns=START_NS, finite_count=3)
    with serving(Script(statistics=[one])) as url, Client(url) as client:
        cases: list[dict[str, Any]] = [{"percentiles": 50}, {"bins": 4}]
        for what in cases:
            with pytest.raises(errors.Malformed, match="asked for"):
                client.statistics(device="js220-001", **what)
