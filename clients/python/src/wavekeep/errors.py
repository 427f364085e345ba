"""What can go wrong, one class for each kind, in sentences that say what to do.

`WavekeepError` is the base of all. `Refused` are the server's refusals, `Refuted` are answers that are not what was captured.
"""

from __future__ import annotations

_PASSING_CODES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED")


class WavekeepError(Exception):
    """The base of every error of this package."""

    @property
    def is_passing(self) -> bool:
        """May the same question be answered a while later? The server restarts, or has too much to do."""
        return isinstance(self, (Unreachable, Interrupted, TimedOut))


class AddressError(WavekeepError, ValueError):
    """Not the address of a server."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"{url!r} is not a server address ({why}): give one like http://127.0.0.1:7460, as Client(url=…) or in WAVEKEEP_SERVER"
        )


class Unreachable(WavekeepError, ConnectionError):
    """Nobody answers there."""

    def __init__(self, server: str, why: str) -> None:
        super().__init__(
            f"cannot reach a server at {server} ({why}): start one with `wavekeep-server dev`, or say where it is with "
            "Client(url=…) or WAVEKEEP_SERVER"
        )


class ClientClosed(WavekeepError, ValueError):
    """The client was closed, before the question or while it was answered."""

    def __init__(self) -> None:
        super().__init__("the client was closed: ask before close(), within its `with`, or make another Client")


class Interrupted(WavekeepError, ConnectionError):
    """The answer ended in the middle."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the answer ended in the middle ({why}): ask again")


class TimedOut(WavekeepError, TimeoutError):
    """The answer took longer than anybody waits."""


class Malformed(WavekeepError):
    """The answer makes no sense to this version."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this version does not understand the server's answer ({why}): update whichever of the two is older")


class BadTime(WavekeepError, ValueError):
    """What cannot be read as a time."""


class InvalidQuestion(WavekeepError, ValueError):
    """A question that no server could answer, found here or there."""


class SeveralStreams(WavekeepError, LookupError):
    """One stream was meant, and the answer has several, or none."""


class UnknownSignal(WavekeepError, KeyError):
    """A signal that the stream does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


class SamplesMissing(WavekeepError):
    """Samples are missing where none may be."""


class TooMuch(WavekeepError, MemoryError):
    """More than this machine's memory holds."""


class MissingPackage(WavekeepError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'wavekeep[{extra}]'")


# The server said no.


class Refused(WavekeepError):
    """The server answered no. Its sentence says why and what to do."""

    def __init__(self, message: str, code: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        """gRPC's name of the kind of refusal: `NOT_FOUND`."""
        self.reason = reason
        """Wavekeep's: `UNKNOWN_NAME`. Empty where the server gave none."""
        self.entry: int | None = None
        """Of several that were sent at a time, such as runs of an import, the one that it is about, counted from 0."""

    @property
    def is_passing(self) -> bool:
        """May the same question be answered a while later? By the server's word: gRPC itself has these codes for other things."""
        return bool(self.reason) and self.code in _PASSING_CODES


class UnknownName(Refused, LookupError):
    """There is no device, stream, run, signal or workspace of that name."""

    kind: str = ""
    """What it was to be: `device`, `run`, …"""
    name: str = ""
    """As asked for."""
    nearest: str | None = None
    """The name there is that is closest to it."""


class InvalidRequest(Refused, InvalidQuestion):
    """The server does not understand the question as it stands."""


class InvalidFilter(InvalidRequest):
    """The server does not understand the filter."""

    filter: str = ""
    """As it was given."""
    characters_before: int = 0
    """So many characters of it are understood: the next one is wrong."""


class NothingStored(Refused, LookupError):
    """Nothing is stored there, or not in that time."""


class AnswerTooLarge(Refused):
    """More than a server answers at once."""


class StreamsOverlap(Refused):
    """Streams that captured the same time twice are not added up."""


class Busy(Refused):
    """The server answers as many questions as it can."""


class Unsupported(Refused):
    """The server's version does not answer this question yet."""


class DamagedStore(Refused):
    """The server found rows of its database damaged or missing."""


class DatabaseUnavailable(Refused, ConnectionError):
    """The server does not reach its database."""


class RunExists(Refused):
    """There is another run of this name, with another content."""


class RunRecorded(Refused):
    """A run that streams were recorded for is part of their capture, and not deleted."""


class ParentCircle(Refused):
    """A run would become a part of itself."""


class CommitUnanswered(Refused, ConnectionError):
    """The server does not know whether it was changed. The same again changes nothing twice."""


class Unauthenticated(Refused, PermissionError):
    """A token is needed, or this one is not valid."""


class Forbidden(Refused, PermissionError):
    """The token does not allow this."""


# The answer is not what was captured.


class Refuted(WavekeepError):
    """The answer is not what was captured, or does not prove it. Nothing of it is given out."""

    def __init__(self, stream: str, fault: str, *, seq: int | None = None, signal: str | None = None) -> None:
        super().__init__(
            f"stream {stream}: {fault}; ask again, and if it happens again tell the server's operator that rows of the database "
            f"are damaged or missing: `wavekeep chunks --stream {stream} --limit 0` lists those that are there"
        )
        self.stream = stream
        """The stream's id."""
        self.fault = fault
        """What does not hold."""
        self.seq = seq
        """Of the chunk that it is about, where it is about one."""
        self.signal = signal
        """The column that it is about, where it is about one."""


class FrameDamaged(Refuted):
    """A chunk's frame hash does not match its bytes."""


class HeaderWrong(Refuted):
    """A chunk's header is not understood, or breaks a rule of its stream."""


class ChunkMissing(Refuted):
    """A chunk is missing, or came twice."""


class TilingBroken(Refuted):
    """A chunk does not start at the sample where the one before it ended (I4)."""


class DigestBroken(Refuted):
    """A digest does not follow from the chunks before it (I14)."""


class ColumnUndecodable(Refuted):
    """A column's bytes cannot be decoded."""


class ColumnAltered(Refuted):
    """A column does not decode to the samples that were captured."""


class ColumnsWrong(Refuted):
    """A chunk came with other columns than were asked for."""


class CutWrong(Refuted):
    """The range that a chunk is cut to leaves samples out."""


class DrawnWrong(Refuted):
    """Columns of min, max and mean that the stream's samples cannot make (I9)."""


class ManifestWrong(Refuted):
    """The manifest says something else than what came, or is not there."""


class RangeWrong(Refuted):
    """The answer starts or ends with other samples than those of the time asked for."""


class Truncated(Refuted):
    """The answer stops short of the stream's watermark."""
