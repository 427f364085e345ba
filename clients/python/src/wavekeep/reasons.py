"""Why samples are missing, or why a stream ended. The numbers are hashed and stored; unknown ones are refused, never guessed."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """See the module. `str(reason)` is the word that people and SQL use: `source_loss`."""

    NONE = 0
    """A samples chunk has none."""
    EVICTED = 1
    """The outbox was full: its oldest un-acked samples made room."""
    CORRUPT = 2
    """The outbox's own bytes were bad."""
    LOST_BY_SERVER = 3
    """The server came back behind its acks, and the outbox no longer held them."""
    USB_OVERRUN = 16
    """The host did not take USB data in time."""
    DEVICE_OVERFLOW = 17
    """The instrument's own buffer overflowed."""
    HOST_SUSPEND = 18
    """The PC slept."""
    UNPLUGGED = 19
    """The instrument was unplugged."""
    SOURCE_LOSS = 20
    """The instrument says that samples are missing, not why."""
    SIGNAL_OFF = 21
    """One signal alone was not sampled."""
    FILE_GAP = 22
    """A file says so itself."""
    NOT_FINITE = 23
    """Values that the signal forbids."""
    QUARANTINED = 48
    """Intact but unacceptable; the server keeps it in quarantine."""
    CLOSED = 64
    """The source ended the stream."""
    CRASHED = 65
    """The source's process died."""

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def is_replacing(self) -> bool:
        """Does a gap of this reason stand for captured chunks, and so carry the capture's digest?"""
        return 1 <= self <= 3

    @property
    def is_source_gap(self) -> bool:
        """May a source give this reason for a gap or an absent column?"""
        return 16 <= self < 48

    @property
    def is_end(self) -> bool:
        """Does it say why a stream ended?"""
        return self >= 64
