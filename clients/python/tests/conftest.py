"""Fixtures that several files share."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import pytest

from tests.support.lab import Lab
from wavekeep import Client

mpl.use("Agg")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One server for all tests; each records devices of its own."""
    running = Lab()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[Client]:
    """One for each file's tests."""
    with Client(lab.url) as one:
        yield one


@pytest.fixture(autouse=True)
def _no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAVEKEEP_SERVER", "WAVEKEEP_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
