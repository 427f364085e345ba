"""What several checks need."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dockerfile
import host

TREE = Path(__file__).resolve().parents[2]


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
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory)
