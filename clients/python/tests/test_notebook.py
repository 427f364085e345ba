"""The notebook runs from its first cell to its last, on real recordings, and says what they say."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.lab import DATA, TREE, Lab

NOTEBOOK = TREE / "clients/python/examples/compare_two_algorithms.ipynb"


# Of the notebook's own machinery.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_two_algorithms_are_compared(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, inferences in (("CNV-W1A1", 7_000), ("RN07", 350)):
        file = DATA / f"mlperf_tiny_js110/arty-a7-100t_ic_{name}/trace1-energy.bin"
        labels = ["--label", f"algorithm={name}", "--label", f"inferences={inferences}"]
        lab.replay(file, f"arty-{name}", "--start", "2022-01-31T12:00:00Z", *labels)
    monkeypatch.setenv("WAVEKEEP_SERVER", lab.url)
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "commit it without outputs"
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs: list[Any] = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    # 3.42 and 73.2 mJ an inference, as the benchmark says too.
    assert printed == ("CNV-W1A1 takes 95.3% less energy an inference than RN07; the runs of either scatter by 0.05% at most\n")
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
