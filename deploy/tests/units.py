"""Sizes and durations as Compose, Kubernetes and the server's options write them."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES: dict[str, int] = {
    "": 1,
    **dict.fromkeys(["KiB", "Ki", "k", "kb"], 1024),
    **dict.fromkeys(["MiB", "Mi", "m", "mb"], 1024**2),
    **dict.fromkeys(["GiB", "Gi", "g", "gb"], 1024**3),
}


def seconds(text: str) -> float:
    """`250ms`, `20s`, `5m`."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration")
    return int(found[1]) * _SECONDS[found[2]]


def size(text: str) -> int:
    """`512MiB`, `2Gi`, `1536m`."""
    found = re.fullmatch(r"(\d+)([A-Za-z]*)", text)
    if found is None or found[2] not in _BYTES:
        raise ValueError(f"{text!r} is no size")
    return int(found[1]) * _BYTES[found[2]]
