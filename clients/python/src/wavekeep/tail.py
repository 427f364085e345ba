"""Chunks of a selection as they are committed, each proven before it is handed out.

# Invariants
- I1: each chunk is handed out once, in order of its stream, whatever became of the server in between: what the next answer is asked
  for is what was not handed out.
- The waits for a server that went away grow to `limits.BACKOFF_MS_MAX`, at random, and are short again once a chunk came.
- `close` ends it from any thread, whatever it waits for; so does an interrupt in the thread that waits.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from types import TracebackType
from typing import Self

from wavekeep import cursors, errors, limits
from wavekeep.channel import Connection, Parts
from wavekeep.committed import Committed
from wavekeep.cursors import Cursor
from wavekeep.following import Following
from wavekeep.v1 import query_pb2

_LOG = logging.getLogger("wavekeep")


class Tail:
    """An iterator of `Committed` that waits for the next one. One thread goes through it; any may close it.

    A server that goes away is asked again until it answers, and logged (`wavekeep`). What cannot pass by waiting is raised: a
    refusal, or an answer that is not what was captured. Whoever asks on after that goes on where it stood.
    """

    def __init__(
        self,
        connection: Connection,
        request: query_pb2.TailRequest,
        stood: dict[str, Cursor] | None,
        from_start: bool,
        patience_s: float | None,
    ) -> None:
        self._connection = connection
        self._request = request
        self._cursors: dict[str, Cursor] = dict(stood or {})
        self._from_start = from_start or stood is not None
        self._patience_s = patience_s
        self._parts: Parts[query_pb2.TailPart] | None = None
        self._following: Following | None = None
        self._is_closed = threading.Event()
        self._failures = 0
        self._lost_at: float | None = None
        # Whoever follows from now on gets what is committed after this.
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __repr__(self) -> str:
        state = "closed" if self._is_closed.is_set() else "open"
        return f"<wavekeep.Tail of {len(self._cursors)} streams at {self._connection.url}, {state}>"

    @property
    def cursor(self) -> str:
        """Where it stands, after the chunk that was handed out last: text for `Client.tail(cursor=…)`, of any process, any time.

        Stored together with what was made of the chunk, it makes a reader that misses nothing and repeats nothing.
        """
        return cursors.dump(self._cursors)

    def close(self) -> None:
        """Ends it. Whoever waits for the next chunk sees the end of the iteration."""
        self._is_closed.set()
        parts = self._parts
        if parts is not None:
            parts.cancel()

    def __next__(self) -> Committed:
        while True:
            if self._is_ended():
                raise StopIteration
            try:
                committed, at = self._next()
            except errors.WavekeepError as error:
                self._hang_up()
                if self._is_ended():
                    raise StopIteration from None
                self._wait_or_raise(error)
            except BaseException:
                # An interrupt: the answer is half read, and the next one is asked for anew.
                self._hang_up()
                raise
            else:
                self._failures = 0
                # The last step before it is the caller's: an interrupt comes before both, or after both.
                self._cursors[committed.stream.id] = at
                return committed

    def _is_ended(self) -> bool:
        return self._is_closed.is_set() or self._connection.is_closed

    def _next(self) -> tuple[Committed, Cursor]:
        if self._parts is None:
            self._begin()
        assert self._parts is not None, "it has begun"
        assert self._following is not None, "it has begun"
        while True:
            taken = self._following.take(_next_part(self._parts))
            if taken is not None:
                return taken

    def _begin(self) -> None:
        """Asks, and waits until the server has said where the streams stand."""
        request = query_pb2.TailRequest()
        request.CopyFrom(self._request)
        request.from_start = self._from_start
        for stream, at in self._cursors.items():
            request.after.add(stream_id=bytes.fromhex(stream), seq=at.seq)
        self._following = Following(self._request.selection, self._cursors)
        parts = self._connection.open("Tail", request, query_pb2.TailPart)
        self._parts = parts
        if self._is_closed.is_set():
            # It was closed before there was an answer to cancel.
            parts.cancel()
        try:
            while not self._following.has_begun:
                self._following.take(_next_part(parts))
        except BaseException:
            self._hang_up()
            raise
        # From here on it is known where it stands, and a stream that it does not name has begun later.
        self._from_start = True
        if self._lost_at is not None:
            _LOG.warning("the server at %s answers again", self._connection.url)
        self._lost_at = None

    def _hang_up(self) -> None:
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.cancel()

    def _wait_or_raise(self, error: errors.WavekeepError) -> None:
        if not error.is_passing:
            raise error
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            _LOG.warning("%s; trying again until it answers", error)
        if self._patience_s is not None and now - self._lost_at >= self._patience_s:
            raise error
        ceiling_ms = min(limits.BACKOFF_MS_MIN << min(self._failures, 20), limits.BACKOFF_MS_MAX)
        self._failures += 1
        wait_s = random.uniform(0, ceiling_ms) / 1000  # noqa: S311
        if self._patience_s is not None:
            wait_s = min(wait_s, max(0.0, self._lost_at + self._patience_s - now))
        self._is_closed.wait(wait_s)


def _next_part(parts: Parts[query_pb2.TailPart]) -> query_pb2.TailPart:
    for part in parts:
        return part
    raise errors.Interrupted("the server ended it")
