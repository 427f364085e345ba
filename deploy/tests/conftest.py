"""What several checks need."""

import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import dockerfile
import host

TREE = Path(__file__).resolve().parents[2]

open_hosts: list[host.Host] = []


def pytest_configure() -> None:
    """Ended by scripts/ci's time limit, the checks still stop what they have started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the programs said."""
    report = yield
    if report.failed:
        report.sections += [("programs", machine.last_words()) for machine in open_hosts]
    return report


@pytest.fixture(scope="session")
def image() -> dockerfile.Image:
    """Of all programs."""
    return dockerfile.read(TREE / "deploy/Dockerfile")


@pytest.fixture(scope="module")
def machine() -> Iterator[host.Host]:
    """For the programs of one file. Its directory is not pytest's, which other accounts may not enter."""
    directory = Path(tempfile.mkdtemp(prefix="wavekeep-deploy-"))
    directory.chmod(0o755)
    made = host.Host(directory)
    open_hosts.append(made)
    try:
        yield made
    finally:
        open_hosts.remove(made)
        made.close()
        shutil.rmtree(directory)
