"""What is said of two groups of runs is what the server says, number by number; and it can be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.support.double import Script, serving
from tests.support.lab import START, Lab
from wavekeep import Client, Comparison, Metric, Verdict, errors
from wavekeep.moments import rfc3339
from wavekeep.v1 import query_pb2

RUNS = 5


@pytest.fixture(scope="module", autouse=True)
def recorded(lab: Lab) -> None:
    """Five runs of each of two algorithms, a device for each; and one whose current is in mA."""
    folder = lab.folder / "compared"
    folder.mkdir()
    noise = np.random.default_rng(5)
    for algorithm, ampere in (("fast", 0.010), ("slow", 0.012)):
        for number in range(RUNS):
            current = (ampere * noise.normal(1, 0.02) + 0.001 * noise.standard_normal(4_000)).astype("<f4")
            file = folder / f"{algorithm}-{number}.f32"
            np.stack([current, np.full(4_000, 3.3, "<f4")], axis=1).tofile(file)
            what = ["--signal", "current:A", "--signal", "voltage:V", "--rate", "1000", "--start", START]
            label = ["--label", f"compared={algorithm}"]
            lab.replay(file, f"{algorithm}-{number}", *what, "--run", f"{algorithm}-{number}", *label)
    file = folder / "milli.f32"
    np.full(4_000, 11, "<f4").tofile(file)
    lab.replay(file, "milli", "--signal", "current:mA", "--rate", "1000", "--start", START, "--run", "milli")


def as_json(one: Any) -> Any:
    """Numbers that are not finite are null in JSON."""
    return [None if not np.isfinite(value) else value for value in one.tolist()]


def line_of(comparison: Comparison) -> dict[str, Any]:
    """What `wavekeep compare --json` would print of it."""

    def difference(one: Any) -> dict[str, Any]:
        interval, welch = one.interval, one.welch
        return {
            "verdict": str(one.verdict),
            "absolute": one.absolute,
            "relative": one.relative,
            "low": interval and interval.low,
            "high": interval and interval.high,
            "level": interval and interval.level,
            "welch_t": welch and welch.t,
            "welch_degrees_of_freedom": welch and welch.degrees_of_freedom,
            "welch_p": welch and welch.p,
        }

    def run(one: Any) -> dict[str, Any]:
        plain = ["run", "device", "duration_s", "gap_s", "sample_count", "gap_sample_count", "finite_count", "mean", "min", "peak"]
        found = {name: getattr(one, name) for name in [*plain, "value"]}
        found |= {"from": rfc3339(one.from_ns), "to": rfc3339(one.to_ns), "align": rfc3339(one.align_ns)}
        optional = {"energy_joule": one.energy_joule, "charge_coulomb": one.charge_coulomb}
        return found | {name: value for name, value in optional.items() if value is not None}

    def group(one: Any) -> dict[str, Any]:
        return {"name": one.name, "mean": one.mean, "std": one.std, "n": len(one.runs), "runs": [run(each) for each in one.runs]}

    def of_group(one: Any) -> dict[str, Any]:
        return {name: as_json(getattr(one, name)) for name in ("min", "max", "mean", "runs")}

    columns = comparison.columns
    assert columns is not None
    return {
        "sentence": comparison.sentence,
        "notes": list(comparison.notes),
        "verdict": str(comparison.difference.verdict),
        "signal": comparison.signal,
        "unit": comparison.unit,
        "metric": str(comparison.metric),
        "metric_unit": comparison.metric_unit,
        "first": group(comparison.first),
        "second": group(comparison.second),
        "difference": difference(comparison.difference),
        "mean_difference": comparison.mean_difference and difference(comparison.mean_difference),
        "columns": {
            "from_ns": columns.from_ns,
            "column_ns": columns.column_ns,
            "first": of_group(columns.first),
            "second": of_group(columns.second),
            "difference": as_json(columns.difference),
        },
    }


def just(values: list[float | None]) -> NDArray[np.float64]:
    """Null is not finite."""
    return np.array([np.nan if value is None else value for value in values])


@pytest.mark.parametrize(
    ("groups", "what"),
    [
        (("compared=fast", "compared=slow"), {}),
        (("compared=slow", "compared=fast"), {"metric": "peak"}),
        (("compared=fast", "compared=slow"), {"signal": "current", "metric": Metric.CHARGE}),
        (("compared=fast", "compared=slow"), {"metric": "duration", "points": 64}),
        (("fast-0", "slow-0"), {"signal": "current", "metric": "mean", "align": "start", "points": 20_000}),
    ],
)
def test_it_is_what_the_command_line_says(lab: Lab, client: Client, groups: tuple[str, str], what: dict[str, Any]) -> None:
    options = [text for name, value in what.items() for text in (f"--{name}", str(value))]
    said = json.loads(lab.command_line("--json", "compare", "--first", groups[0], "--second", groups[1], *options))
    found = line_of(client.compare(*groups, **what))
    # Means of columns are added up in the order in which the server measures runs: their last digit may differ between answers.
    sides = [(found["columns"][group], said["columns"][group], "mean") for group in ("first", "second")]
    for here, there, name in [*sides, (found["columns"], said["columns"], "difference")]:
        assert just(here.pop(name)) == pytest.approx(just(there.pop(name)), rel=1e-12, abs=1e-15, nan_ok=True)
    assert found == said


def test_less_energy_is_said_and_how_sure_that_is(lab: Lab, client: Client) -> None:
    found = client.compare("compared=slow", "compared=fast")
    assert str(found).startswith("compared=fast uses ")
    assert "% less energy than compared=slow; 95 % interval" in str(found)
    assert lab.command_line("compare", "--first", "compared=slow", "--second", "compared=fast").startswith(f"{found}.\n")
    difference = found.difference
    assert (difference.verdict, found.metric, found.unit, found.metric_unit) == (Verdict.LESS, Metric.ENERGY, "W", "J")
    assert difference.relative is not None
    assert difference.relative == pytest.approx(found.second.values.mean() / found.first.values.mean() - 1, rel=1e-9)
    assert difference.interval is not None
    assert difference.interval.low < difference.relative < difference.interval.high < 0
    assert difference.welch is not None
    assert difference.welch.p < 0.01
    assert [len(group.runs) for group in found] == [RUNS, RUNS]
    assert found.first.std == pytest.approx(found.first.values.std(ddof=1))


def test_runs_may_be_given_as_they_were_listed(client: Client) -> None:
    first, second = client.runs("run=fast-0")[0], client.runs("run=slow-0")[0]
    found = client.compare(first, second, points=0)
    assert (found.first.runs[0].run, found.second.runs[0].run) == ("fast-0", "slow-0")
    assert (found.difference.verdict, found.difference.interval, found.first.std) == (Verdict.CANNOT_SAY, None, None)
    assert found.columns is None
    with pytest.raises(errors.InvalidQuestion, match="came without columns"):
        found.plot()


def test_pandas_has_a_row_for_each_run(client: Client) -> None:
    found = client.compare("compared=fast", "compared=slow", points=0)
    table = found.to_pandas()
    assert table.index.names == ["group", "run"]
    assert len(table) == 2 * RUNS
    assert table.attrs["metric_unit"] == "J"
    assert np.array_equal(table.xs("compared=slow")["value"], found.second.values)
    assert np.array_equal(table["energy_joule"], table["value"])
    assert table["charge_coulomb"].isna().all()
    assert table["charge_coulomb"].dtype == np.float64
    assert (table["from"] == pd.Timestamp(START)).all()
    assert table["to"].iloc[0].value == found.first.runs[0].to_ns


def test_both_groups_are_drawn_over_each_other(client: Client, tmp_path: Path) -> None:
    found = client.compare("compared=fast", "compared=slow", signal="current", points=200)
    figure = found.plot()
    axes, below = figure.axes
    assert [line.get_label() for line in axes.lines] == ["compared=fast: 5 runs", "compared=slow: 5 runs"]
    columns = found.columns
    assert columns is not None
    assert len(columns) <= 200
    for line, band, group in zip(axes.lines, axes.collections, (columns.first, columns.second), strict=True):
        assert np.array_equal(np.asarray(line.get_ydata())[::2], group.mean, equal_nan=True)
        heights = np.concatenate([np.asarray(path.vertices)[:, 1] for path in band.get_paths()])
        assert (heights.min(), heights.max()) == (np.nanmin(group.min), np.nanmax(group.max))
    assert np.asarray(axes.lines[0].get_xdata())[[0, -1]] == pytest.approx([columns.start_s[0], 4.0], abs=0.05)
    zero, apart = below.lines
    assert np.asarray(zero.get_ydata()).tolist() == [0, 0]
    assert np.array_equal(np.asarray(apart.get_ydata())[::2], columns.difference, equal_nan=True)
    assert np.array_equal(apart.get_xdata(), axes.lines[0].get_xdata())
    assert (apart.get_label(), below.get_ylabel()) == ("compared=slow − compared=fast, of the means", "difference")
    figure.savefig(tmp_path / "overlay.png")


def test_a_comparison_is_drawn_into_axes_that_are_given(client: Client) -> None:
    found = client.compare("compared=fast", "compared=slow", points=20)
    above, below = found.plot().axes
    for axes, lines in ((above, (4, 2)), ([above, below], (6, 4))):
        assert found.plot(axes=axes) is above.figure
        assert (len(above.lines), len(below.lines)) == lines
    with pytest.raises(errors.InvalidQuestion, match="as many axes"):
        found.plot(axes=[above])


def test_a_run_that_has_no_samples_there_is_not_drawn_there() -> None:
    nan = float("nan")
    wire = honest()
    group = query_pb2.GroupColumns(min=[1, nan, 1], max=[2, nan, 2], mean=[1.5, nan, 1.5], runs=[1, 0, 1])
    columns = query_pb2.ComparedColumns(from_ns=-500_000_000, column_ns=10**9, difference=[0, nan, 0])
    columns.first.CopyFrom(group)
    columns.second.CopyFrom(group)
    wire.columns.CopyFrom(columns)
    above, below = compared(wire).plot().axes
    for line in (above.lines[0], below.lines[1]):
        assert np.asarray(line.get_xdata()).tolist() == [-0.5, 0.5, 0.5, 1.5, 1.5, 2.5]
        assert np.isnan(np.asarray(line.get_ydata())).tolist() == [False, False, True, True, False, False]


def test_what_cannot_be_compared_is_refused_in_words(client: Client) -> None:
    with pytest.raises(errors.UnknownName, match='did you mean "fast-0"') as caught:
        client.compare("fst-0", "slow-0")
    assert (caught.value.kind, caught.value.name, caught.value.nearest) == ("run", "fst-0", "fast-0")
    cases: list[tuple[tuple[str, str], dict[str, Any], type[errors.WavekeepError], str]] = [
        (("fast-0", "milli"), {"signal": "current"}, errors.InvalidRequest, "mA"),
        (("fast-0", "slow-0"), {"signal": "current", "metric": "energy"}, errors.InvalidRequest, "energy"),
        (("compared=fast", "fast-0"), {}, errors.InvalidRequest, "in both groups"),
        (("compared=fast", "compared=none"), {}, errors.NothingStored, "no run is chosen"),
        (("compared=fast", "compared="), {}, errors.InvalidFilter, "not understood"),
        (("fast-0", "slow-0"), {"signal": "curent"}, errors.UnknownName, "curent"),
        (("fast-0", "slow-0"), {"align": "marker:boot"}, errors.InvalidRequest, "no marker"),
        (("fast-0", "slow-0"), {"align": "marker:"}, errors.InvalidQuestion, "marker:boot"),
        (("fast-0", "slow-0"), {"metric": "power"}, errors.InvalidQuestion, "energy, charge, mean, peak, duration"),
        (("fast-0", "slow-0"), {"points": 20_001}, errors.InvalidQuestion, "at most 20,000"),
    ]
    for groups, what, kind, words in cases:
        with pytest.raises(kind, match=words):
            client.compare(*groups, **what)


# A server of another version, or one that is broken.


def honest() -> query_pb2.CompareRunsResponse:
    group = query_pb2.RunGroup(name="a", runs=[query_pb2.MeasuredRun(run="a", value=1)], mean=1)
    made = query_pb2.CompareRunsResponse(sentence="so it is", signal="current", unit="A", metric=query_pb2.METRIC_MEAN)
    made.first.CopyFrom(group)
    made.second.CopyFrom(group)
    made.difference.verdict = query_pb2.VERDICT_CANNOT_SAY
    return made


def compared(wire: query_pb2.CompareRunsResponse) -> Comparison:
    with serving(Script(comparison=wire)) as url, Client(url) as client:
        return client.compare("a", "b")


def test_an_answer_that_makes_no_sense_is_refused() -> None:
    assert compared(honest()).difference.relative is None

    def lacking(*names: str) -> query_pb2.CompareRunsResponse:
        wire = honest()
        for name in names:
            wire.ClearField(name)
        return wire

    uneven = honest()
    uneven.columns.CopyFrom(query_pb2.ComparedColumns(column_ns=1, difference=[0, 1]))
    for wire in (lacking("first"), lacking("second"), lacking("difference"), lacking("metric"), uneven):
        with pytest.raises(errors.Malformed):
            compared(wire)
    unknown = honest()
    unknown.difference.verdict = query_pb2.VERDICT_UNSPECIFIED
    with pytest.raises(errors.Malformed, match="verdict"):
        compared(unknown)
