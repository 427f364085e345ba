"""Every encoding of every type, and what is no column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray

from tests.support.capture import PCO, PLAIN, ZSTD, encode, raw_form
from wavekeep import codec
from wavekeep.hashes import column_hash
from wavekeep.sample_types import SampleType

COUNTS = (1, 2, 7, 8, 9, 1_000, 65_536)


def samples_of(kind: SampleType, count: int) -> NDArray[Any]:
    """Any bits: NaN payloads and the largest numbers too."""
    bits = np.random.default_rng(count).integers(0, 256, 16 * count, np.uint8)
    if kind.is_packed:
        return bits[:count] % (1 << kind.bits)
    if kind is SampleType.I128:
        return bits.view(kind.dtype)
    # What compresses, too.
    return (bits[: count * kind.dtype.itemsize] & (0x0F if count % 2 else 0xFF)).view(kind.dtype)


def decode(kind: SampleType, encoding: int, encoded: bytes, count: int, expected: bytes) -> NDArray[Any]:
    out = np.empty(count, kind.dtype)
    codec.decode(3, kind, encoding, encoded, expected, out)
    return out


@pytest.mark.parametrize("kind", SampleType)
@pytest.mark.parametrize("count", COUNTS)
def test_samples_come_back_bit_for_bit(kind: SampleType, count: int) -> None:
    samples = samples_of(kind, count)
    raw = raw_form(kind, samples)
    expected = column_hash(3, kind, count, raw)
    tried = 0
    for encoding in (PLAIN, ZSTD, PCO) if kind.is_pco else (PLAIN, ZSTD):
        encoded = encode(kind, encoding, samples)
        # What would grow is stored plain.
        if len(encoded) <= len(raw):
            tried += 1
            assert decode(kind, encoding, encoded, count, expected).tobytes() == samples.tobytes(), encoding
    assert tried


@pytest.mark.parametrize("kind", [kind for kind in SampleType if kind.is_pco])
def test_what_compresses_is_decoded_from_every_encoding(kind: SampleType) -> None:
    samples = (np.arange(5_000) % 100).astype(kind.dtype)
    expected = column_hash(3, kind, 5_000, raw_form(kind, samples))
    for encoding in (PLAIN, ZSTD, PCO):
        encoded = encode(kind, encoding, samples)
        assert encoding == PLAIN or len(encoded) < samples.nbytes / 2
        assert decode(kind, encoding, encoded, 5_000, expected).tobytes() == samples.tobytes()


def test_the_examples_of_the_page_are_decoded() -> None:
    samples = np.arange(1, 17, 0.5).astype("<f4")
    expected = column_hash(3, SampleType.F32, 32, samples.tobytes())
    frame = "28b52ffd20807d010054020080c0002040608090a0b0c0d0e0f00008101820283038404850586068707880843f3f4041031000532c7e4a57"
    file = (
        "70636f21030005080401051f00003311320200f0ffffff0906000000044a00e00100000000000040000000f017000008000000c18f10da2103f80000"
    )
    for encoding, encoded in ((ZSTD, frame), (PCO, file)):
        assert (decode(SampleType.F32, encoding, bytes.fromhex(encoded), 32, expected) == samples).all()


def refused(kind: SampleType, encoding: int, encoded: bytes, count: int) -> str:
    with pytest.raises(codec.CodecError) as caught:
        decode(kind, encoding, encoded, count, bytes(16))
    return str(caught.value)


def test_what_is_no_column_is_refused_in_words() -> None:
    samples = (np.arange(1_000) % 10).astype("<f4")
    frame, file = encode(SampleType.F32, ZSTD, samples), encode(SampleType.F32, PCO, samples)
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    cases = {
        "takes more bytes than its samples": (PLAIN, bytes(4_004), "its samples only 4000"),
        "is too short": (PLAIN, bytes(3_996), "holds 3996 bytes"),
        "is no frame": (ZSTD, b"nonsense", "no zstd frame"),
        "is a frame of more": (ZSTD, zstandard.compress(bytes(1 << 20)), "declares 1048576 bytes"),
        "declares nothing": (ZSTD, compressor.compress(bytes(4_000)), "declares"),
        "is cut": (ZSTD, frame[:-1], "damaged"),
        "goes on": (ZSTD, frame + b"\x00", "damaged"),
        "is no file": (PCO, b"pco?" + file[4:], "no pco file"),
        "is of another type": (PCO, encode(SampleType.I32, PCO, samples.astype("<i4")), "another type"),
        "has fewer samples": (PCO, encode(SampleType.F32, PCO, samples[:999]), "more samples, or fewer"),
        "is a cut file": (PCO, file[:-8], "pco file"),
        "is of an encoding of the future": (4, frame, "unknown"),
        "is another column": (ZSTD, frame, "hash does not match"),
    }
    for name, (encoding, encoded, words) in cases.items():
        assert words in refused(SampleType.F32, encoding, encoded, 1_000), name
    assert "no numbers to pco" in refused(SampleType.U4, PCO, b"pco!", 1_000)


def test_any_damage_of_a_file_is_an_error_and_not_a_crash() -> None:
    samples = np.cumsum(np.random.default_rng(1).integers(-3, 4, 2_000)).astype("<i4")
    expected = column_hash(3, SampleType.I32, 2_000, samples.tobytes())
    for encoding in (ZSTD, PCO):
        encoded = encode(SampleType.I32, encoding, samples)
        for at in range(0, len(encoded), 3):
            damaged = bytearray(encoded)
            damaged[at] ^= 1 << (at % 8)
            try:
                out = decode(SampleType.I32, encoding, bytes(damaged), 2_000, expected)
            except codec.CodecError:
                continue
            assert out.tobytes() == samples.tobytes()


def test_bits_after_the_last_packed_sample_are_refused() -> None:
    raw = bytes([0b0000_1111])
    out = np.empty(3, np.uint8)
    with pytest.raises(codec.CodecError, match="not zero"):
        codec.decode(3, SampleType.U1, PLAIN, raw, column_hash(3, SampleType.U1, 3, raw), out)
