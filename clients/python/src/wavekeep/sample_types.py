"""How samples are stored, and what they are in NumPy.

# Invariants
- Bits as captured: every type but the packed ones is viewed in place. Samples of 1 and 4 bits become one u8 each; those of 128 bits
  become a record of two halves, since NumPy has no such number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

I128 = np.dtype([("low", "<u8"), ("high", "<i8")])
"""A sample of 128 bits: `high · 2^64 + low`."""


class SampleType(IntEnum):
    """The numbers are hashed and stored. `str(sample_type)` is the word that people and SQL use: `f32`."""

    F32 = 1
    F64 = 2
    I8 = 3
    I16 = 4
    I32 = 5
    I64 = 6
    U8 = 7
    U16 = 8
    U32 = 9
    U64 = 10
    U4 = 11
    U1 = 12
    I128 = 13

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def bits(self) -> int:
        """Bits of one sample as stored."""
        return int(self.name[1:])

    @property
    def is_packed(self) -> bool:
        """Do several samples share a byte?"""
        return self.bits < 8

    @property
    def is_float(self) -> bool:
        """Has it a NaN?"""
        return self.name[0] == "F"

    @property
    def is_pco(self) -> bool:
        """Is it a number to pco?"""
        return 8 <= self.bits <= 64

    def raw_bytes(self, count: int) -> int:
        """Bytes of `count` samples decoded; packed types end in zero padding."""
        return (count * self.bits + 7) // 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """What its samples are in NumPy."""
        return _DTYPES[self]


_DTYPES: dict[SampleType, np.dtype[Any]] = {
    kind: np.dtype("u1")
    if kind.is_packed
    else I128
    if kind is SampleType.I128
    else np.dtype(f"<{kind.name[0].lower()}{kind.bits // 8}")
    for kind in SampleType
}
