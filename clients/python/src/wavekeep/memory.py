"""How much an answer may take: no more than this machine has."""

from __future__ import annotations

import os

from wavekeep.errors import TooMuch


def physical_bytes() -> int:
    """The memory of this machine; 64 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 64 << 30


def require(bytes_needed: int, advice: str) -> None:
    """Refuses what cannot fit, before the system has to end something."""
    there = physical_bytes()
    if bytes_needed > there:
        raise TooMuch(f"that would take {bytes_needed / 1e9:.1f} GB, and this machine has {there / 1e9:.1f} GB: {advice}")
