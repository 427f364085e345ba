"""Where whoever follows stands, stream by stream, as text that can be stored beside the data. The text is that of
`wavekeep tail --state`, so each goes on where the other stood.

# Invariants
- I1: a cursor stands for the chunks that were handed out, no more and no less.
- What is no such text is an error: a reader that stands nowhere would begin anew, and say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from wavekeep import limits
from wavekeep.errors import InvalidQuestion


class Cursor(NamedTuple):
    """A place in a stream: after the chunk with this seq."""

    seq: int
    """0 before the first chunk."""
    digest: bytes | None = None
    """Of the capture, there; None where it is not known."""
    next_sample: int | None = None
    """None where it is not known."""


def dump(cursors: Mapping[str, Cursor]) -> str:
    """As text, of one line."""
    streams = {
        stream: {"seq": at.seq, "digest": None if at.digest is None else at.digest.hex(), "next_sample": at.next_sample}
        for stream, at in sorted(cursors.items())
    }
    return json.dumps(streams, separators=(",", ":"))


def load(text: str) -> dict[str, Cursor]:
    """From text that `dump` made."""
    try:
        streams = json.loads(text)
        return {_stream(stream): _cursor(at) for stream, at in streams.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidQuestion(
            f"that is no cursor ({error}): give what tail.cursor gave, or leave cursor= out and say from_start="
        ) from error


def _stream(text: str) -> str:
    if len(bytes.fromhex(text)) != 16:
        raise ValueError(f"{text!r} is not a stream's id")
    return text.lower()


def _place(number: Any, most: int) -> int:
    if type(number) is not int or not 0 <= number <= most:
        raise ValueError(f"{number!r} is no place in a stream")
    return number


def _cursor(at: Any) -> Cursor:
    digest = None if at["digest"] is None else bytes.fromhex(at["digest"])
    if digest is not None and len(digest) != 16:
        raise ValueError("a digest is not 16 bytes")
    next_sample = None if at["next_sample"] is None else _place(at["next_sample"], limits.SAMPLE_ID_MAX)
    return Cursor(_place(at["seq"], limits.SEQ_MAX), digest, next_sample)
