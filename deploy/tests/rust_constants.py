"""Limits that the manifests depend on, read where the server has them, so that a change there is noticed here."""

import math
import re
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


def _definition(file: str, name: str) -> str:
    text = (TREE / file).read_text()
    found = re.search(rf"\bconst {name}: [\w:]+ = ([^;]+);", text)
    if found is None:
        raise LookupError(f"{file} has no constant {name}: what do the manifests follow now?")
    return found[1]


def seconds(file: str, name: str) -> int:
    """A `Duration::from_secs(…)`."""
    found = re.fullmatch(r"Duration::from_secs\((\d+)\)", _definition(file, name))
    assert found is not None, f"{name} of {file} is no number of seconds any more"
    return int(found[1])


def number(file: str, name: str) -> int:
    """A product of numbers."""
    factors = _definition(file, name).replace("_", "").split(" * ")
    return math.prod(int(factor) for factor in factors)
