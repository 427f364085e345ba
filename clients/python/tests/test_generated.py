"""The generated code is committed, and this proves it current."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.lab import TREE


def test_generated_code_is_current(tmp_path: Path) -> None:
    package = TREE / "clients/python"
    env = os.environ | {"PYTHON": sys.executable, "OUT": str(tmp_path)}
    subprocess.run([package / "generate"], env=env, check=True)
    fresh = {file.name: file.read_text() for file in (tmp_path / "wavekeep/v1").iterdir()}
    committed = {file.name: file.read_text() for file in (package / "src/wavekeep/v1").glob("*_pb2.py*")}
    assert fresh == committed, "src/wavekeep/v1 is stale: run `make generate` and commit"
