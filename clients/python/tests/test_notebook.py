"""The notebook runs from its first cell to its last, on real recordings, and says what they say: all of it is computed here again,
from the files as the benchmark wrote them."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from numpy.typing import NDArray

import wavekeep
from tests.support.lab import DATA, TREE, Lab

NOTEBOOK = TREE / "clients/python/examples/compare_two_algorithms.ipynb"
LESS, MORE = "CNV-W1A1", "RN07"
WINDOWS = 5
RUN_INFERENCES = 350
WINDOW_INFERENCES = {LESS: 7_000, MORE: 350}
# What the notebook's variables hold at its end.
FACTS = """
print("facts", json.dumps({
    "groups": [group.name for group in found],
    "energy_joule": [measured.xs(group.name)["energy_joule"].to_dict() for group in found],
    "mj_an_inference": [measured.xs(group.name)["mJ an inference"].to_dict() for group in found],
    "metric": [found.metric, found.metric_unit],
    "relative": found.difference.relative,
    "interval": [found.difference.interval.low, found.difference.interval.high],
    "drawn_s": found.columns.start_s[np.isfinite(found.columns.difference)].tolist(),
    "apart_w": found.columns.difference[np.isfinite(found.columns.difference)].mean(),
    "labels": {run.name: dict(run.labels) for run in runs},
}))
"""

# Of the notebook's own machinery.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@dataclass
class Executed:
    printed: list[str]
    """Lines on standard output, but the last."""
    facts: dict[str, Any]
    pictures: int
    prose: str


@pytest.fixture(scope="module")
def executed(lab: Lab) -> Executed:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells), "commit it without outputs"
    facts = nbformat.v4.new_code_cell(FACTS)  # type: ignore[no-untyped-call]
    notebook.cells.append(facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVEKEEP_SERVER", lab.url)
        # It runs in its own folder, as for a user.
        patch.setenv("PYTHONPATH", str(Path(wavekeep.__file__).resolve().parents[1]))
        for name in ("WAVEKEEP_BIN", "WAVEKEEP_SHARED"):
            if os.environ.get(name):
                patch.setenv(name, str(Path(os.environ[name]).resolve()))
        where = {"metadata": {"path": str(NOTEBOOK.parent)}}
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    outputs: list[Any] = [output for cell in (*cells, facts) for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    *printed, last = text.splitlines()
    return Executed(
        printed=printed,
        facts=json.loads(last.removeprefix("facts ")),
        pictures=sum("image/png" in output.get("data", {}) for output in outputs),
        prose="\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"),
    )


def trace(algorithm: str) -> Path:
    return DATA / f"mlperf_tiny_js110/arty-a7-100t_ic_{algorithm}"


def power_w(algorithm: str) -> list[NDArray[np.float64]]:
    """Of each run, in the samples of a millisecond: from a mark on, and less than its part of the time to the next one."""
    power = np.fromfile(trace(algorithm) / "trace1-energy.bin", "<f4", offset=5).astype(np.float64) / 1e3
    marks_ms = [round(mark_s * 1e3) for mark_s in json.loads((trace(algorithm) / "trace1-timestamps.json").read_text())]
    windows = list(zip(marks_ms[1::2], marks_ms[2::2], strict=True))
    assert len(windows) == WINDOWS
    part = WINDOW_INFERENCES[algorithm] // RUN_INFERENCES
    return [power[start : start + math.ceil((end - start) / part)] for start, end in windows]


def energies(algorithm: str) -> NDArray[np.float64]:
    return np.array([run.sum() / 1e3 for run in power_w(algorithm)])


def saved() -> float:
    return float(1 - energies(LESS).mean() / energies(MORE).mean())


def test_it_names_the_one_that_takes_less_and_by_how_much(executed: Executed) -> None:
    assert energies(LESS).max() < energies(MORE).min(), "there is a winner"
    sentence = next(line for line in executed.printed if "95 % interval" in line)
    claim = r"algorithm=(\S+) uses ([\d.]+) % less energy than algorithm=(\S+)"
    found = re.fullmatch(claim + r"; 95 % interval ([\d.]+) to ([\d.]+) %; (\d) runs each", sentence)
    assert found is not None, sentence
    less, percent, more, low, high, runs = found.groups()
    assert (less, more, int(runs)) == (LESS, MORE, WINDOWS)
    assert percent == f"{saved() * 100:.1f}"
    ends = executed.facts["interval"]
    assert [low, high] == [f"{-end * 100:.1f}" for end in reversed(ends)]


def test_its_numbers_are_those_of_the_files(executed: Executed) -> None:
    facts = executed.facts
    assert facts["groups"] == [f"algorithm={MORE}", f"algorithm={LESS}"]
    for group, algorithm in enumerate((MORE, LESS)):
        names = [f"{algorithm}-{number}" for number in range(1, WINDOWS + 1)]
        joules = facts["energy_joule"][group]
        assert list(joules) == names
        assert list(joules.values()) == pytest.approx(energies(algorithm), rel=1e-12)
        assert {facts["labels"][name]["algorithm"] for name in names} == {algorithm}
    assert (facts["metric"], len(facts["labels"])) == (["energy", "J"], 2 * WINDOWS)
    assert facts["relative"] == pytest.approx(-saved(), rel=1e-12)


def test_its_interval_is_as_wide_as_the_runs_scatter(executed: Executed) -> None:
    squares = [energies(algorithm).var(ddof=1) / WINDOWS / energies(algorithm).mean() ** 2 for algorithm in (LESS, MORE)]
    error = (1 - saved()) * np.sqrt(sum(squares))
    low, high = executed.facts["interval"]
    assert low < -saved() < high
    # Student's t for both groups' scatter: 2.31 of 8 degrees of freedom.
    assert (high - low) / 2 / error == pytest.approx(2.31, rel=0.15)


def test_the_benchmark_says_the_same(executed: Executed) -> None:
    for group, algorithm in enumerate((MORE, LESS)):
        results = (trace(algorithm) / "results.txt").read_text()
        theirs_mj = [float(text) / 1e3 for text in re.findall(r"Energy/Inf\.\s+:\s+([\d.]+) uJ/inf", results)]
        # A run may be a sample longer or shorter, of 534.
        assert list(executed.facts["mj_an_inference"][group].values()) == pytest.approx(theirs_mj, rel=1 / 500)
        assert f"{WINDOW_INFERENCES[algorithm]:,} inferences" in executed.prose
        assert re.findall(r"# Inferences :\s+(\d+)", results) == [str(WINDOW_INFERENCES[algorithm])] * WINDOWS
        median = re.search(r"Median energy cost is ([\d.]+) uJ/inf", results)
        assert median is not None
        assert f"{float(median[1]) / 1e3:.3g}" in executed.prose


def test_its_note_says_that_only_time_was_saved(executed: Executed) -> None:
    note = next(line for line in executed.printed if line.startswith("- "))
    seconds = {algorithm: np.mean([len(run) for run in power_w(algorithm)]) / 1e3 for algorithm in (LESS, MORE)}
    watts = {algorithm: np.mean([run.mean() for run in power_w(algorithm)]) for algorithm in (LESS, MORE)}
    assert f"{(1 - seconds[LESS] / seconds[MORE]) * 100:.1f} % shorter" in note
    assert f"{seconds[LESS]:.4f} s against {seconds[MORE]:.4f} s" in note
    assert f"{(watts[LESS] / watts[MORE] - 1) * 100:.2f} % higher mean of power" in note


def test_of_one_run_each_it_says_that_it_cannot_say(executed: Executed) -> None:
    percent = (1 - energies(LESS)[0] / energies(MORE)[0]) * 100
    assert executed.printed[-1] == (
        f"{LESS}-1 uses {percent:.1f} % less energy than {MORE}-1, as measured; one run each: "
        "how sure that is cannot be said of one run; record at least 5 of each"
    )
    for algorithm in (LESS, MORE):
        first, *_, last = (run.mean() for run in power_w(algorithm))
        assert f"crept up by {(last / first - 1) * 100:.1f} %" in executed.prose


def test_it_draws_both_and_their_difference(executed: Executed) -> None:
    assert executed.pictures == 2
    drawn_s = executed.facts["drawn_s"]
    longest_s = max(len(run) for run in power_w(LESS)) / 1e3
    assert drawn_s[0] == pytest.approx(0, abs=0.02)
    assert drawn_s[-1] == pytest.approx(longest_s, abs=0.02), "where one group has ended, there is no difference"
    shortest = min(len(run) for run in power_w(LESS))
    apart_w = np.mean([run[:shortest] for run in power_w(LESS)]) - np.mean([run[:shortest] for run in power_w(MORE)])
    # Columns at the ends are of a few samples.
    assert executed.facts["apart_w"] == pytest.approx(apart_w, rel=0.05)
