"""What a stream is, and where it stood when it was asked for.

# Invariants
- A definition that breaks a rule of the protocol never becomes a `Stream`: what is hashed and divided by is of known size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from wavekeep import limits
from wavekeep.errors import Malformed
from wavekeep.hashes import definition_hash
from wavekeep.reasons import Reason
from wavekeep.sample_types import SampleType
from wavekeep.v1 import query_pb2, stream_pb2

POWER_NAME = "power"
POWER_UNIT = "W"
POWER_NUMBER = 1 << 16
"""Power is never stored where it can be derived; as something drawn it has this number, above every signal's."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal of a stream."""

    number: int
    name: str
    sample_type: SampleType
    unit: str
    """SI symbol; empty for a bare number."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A fixed set of signals sampled together, in one epoch of a device."""

    id: str
    """32 hexadecimal digits."""
    device: str
    run: str
    """The run it was recorded for; empty for none."""
    labels: Mapping[str, str]
    attributes: Mapping[str, str]
    """Facts about the capture: model, serial, firmware."""
    rate_hz: float
    signals: tuple[Signal, ...]
    epoch: str
    first_sample: int
    """Where it starts on the sample axis."""
    next_sample: int
    """Where it ended when it was asked for."""
    watermark: int
    """The last seq that was committed then."""
    ended: bool
    end_reason: Reason | None
    first_time_ns: int | None
    """UTC of its earliest sample, in nanoseconds since 1970; None while it has none."""
    last_time_ns: int | None
    """UTC after its latest."""
    sample_count: int
    gap_sample_count: int
    stored_bytes: int
    quarantined: int
    """Chunks in quarantine."""
    predecessor: tuple[str, int] | None = None
    """The diverged stream that this one continues, and the seq after which it does."""
    digest: bytes = field(default=b"", repr=False)
    digest_zero: bytes = field(default=b"", repr=False)

    @property
    def duration_s(self) -> float:
        """Seconds from its first sample to after its last; 0 while it has none."""
        if self.first_time_ns is None or self.last_time_ns is None:
            return 0.0
        return (self.last_time_ns - self.first_time_ns) / 1e9

    def __str__(self) -> str:
        names = ", ".join(signal.name for signal in self.signals)
        return f"stream {self.id} of {self.device}: {names} at {self.rate_hz:g} Hz, {self.sample_count:,} samples"

    def power_of(self) -> tuple[int, int] | None:
        """Where current (A) and voltage (V) stand, in a stream that has both and no power of its own."""
        if any(signal.name == POWER_NAME for signal in self.signals):
            return None
        places = {(signal.name, signal.unit): place for place, signal in reversed(list(enumerate(self.signals)))}
        current, voltage = places.get(("current", "A")), places.get(("voltage", "V"))
        return None if current is None or voltage is None else (current, voltage)


def _usable_name(name: str) -> bool:
    is_short = 0 < len(name.encode()) <= limits.NAME_BYTES_MAX
    return is_short and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)


def check_definition(definition: stream_pb2.StreamDefinition) -> None:
    """The rules of a definition; what breaks one is of a version that is not known here."""
    signals, before = definition.signals, -1
    rules = [
        (len(definition.stream_id) == 16 and len(definition.epoch) == 16, "ids of 16 bytes"),
        (_usable_name(definition.device), "a device with a name"),
        (math.isfinite(definition.rate_hz) and 0 < definition.rate_hz <= limits.RATE_HZ_MAX, "a usable rate"),
        (0 < len(signals) <= limits.SIGNALS_MAX, "a bounded number of signals"),
        (len({signal.name for signal in signals}) == len(signals), "signals of different names"),
        (len(definition.file_identity) <= limits.NAME_BYTES_MAX, "a short file identity"),
        (definition.first_sample <= limits.SAMPLE_ID_MAX, "a first sample on the axis"),
        (len(definition.attributes) <= limits.LABELS_MAX, "a bounded number of attributes"),
        (
            not definition.HasField("predecessor")
            or (len(definition.predecessor.stream_id) == 16 and definition.predecessor.seq <= limits.SEQ_MAX),
            "a usable predecessor",
        ),
    ]
    for signal in signals:
        known = signal.sample_type in SampleType._value2member_map_
        rules.append((known, "known sample types"))
        rules.append((before < signal.number < 1 << 16, "ascending numbers of signals"))
        rules.append((_usable_name(signal.name) and len(signal.unit.encode()) <= limits.NAME_BYTES_MAX, "usable names"))
        before = signal.number
    for holds, rule in rules:
        if not holds:
            raise Malformed(f"a stream's definition breaks a rule: {rule}")
    if sum(SampleType(signal.sample_type).bits for signal in signals) > limits.SAMPLE_BITS_MAX:
        raise Malformed("a stream's definition breaks a rule: a bounded width")


def reason_from_wire(number: int) -> Reason:
    """Unknown numbers are refused, never guessed."""
    if number not in Reason._value2member_map_:
        raise Malformed(f"reason {number} is unknown")
    return Reason(number)


def stream_from_wire(info: query_pb2.StreamInfo) -> Stream:
    """From an answer."""
    if not info.HasField("definition"):
        raise Malformed("a stream has no definition")
    definition = info.definition
    check_definition(definition)
    if len(info.digest) != 16:
        raise Malformed("a digest is not 16 bytes")
    predecessor = definition.predecessor if definition.HasField("predecessor") else None
    seen = info.watermark > 0
    return Stream(
        id=definition.stream_id.hex(),
        device=definition.device,
        run=info.run,
        labels=dict(sorted(info.labels.items())),
        attributes=dict(sorted(definition.attributes.items())),
        rate_hz=definition.rate_hz,
        signals=tuple(
            Signal(signal.number, signal.name, SampleType(signal.sample_type), signal.unit) for signal in definition.signals
        ),
        epoch=definition.epoch.hex(),
        first_sample=definition.first_sample,
        next_sample=info.next_sample,
        watermark=info.watermark,
        ended=info.ended,
        end_reason=reason_from_wire(info.end_reason) if info.ended else None,
        first_time_ns=info.first_time_ns if seen else None,
        last_time_ns=info.last_time_ns if seen else None,
        sample_count=info.sample_count,
        gap_sample_count=info.gap_sample_count,
        stored_bytes=info.stored_bytes,
        quarantined=info.quarantined,
        predecessor=(predecessor.stream_id.hex(), predecessor.seq) if predecessor is not None else None,
        digest=info.digest,
        digest_zero=definition_hash(definition),
    )
