"""A capture made by hand, and the honest answer to whoever asks for all of it. Tests then lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard
from pcodec import ChunkConfig, standalone

from wavekeep import hashes
from wavekeep.reasons import Reason
from wavekeep.sample_types import SampleType
from wavekeep.time_axis import duration_ns
from wavekeep.v1 import query_pb2, stream_pb2

START_NS = 1_795_392_000_000_000_000
PLAIN, ZSTD, PCO = stream_pb2.ENCODING_PLAIN, stream_pb2.ENCODING_SHUFFLE_ZSTD, stream_pb2.ENCODING_PCO


def definition(number: int = 1, signals: Sequence[tuple[str, SampleType, str]] = ()) -> stream_pb2.StreamDefinition:
    """Current and voltage at 1 MHz, or these signals; each number is another stream of the device."""
    named = signals or [("current", SampleType.F32, "A"), ("voltage", SampleType.F32, "V")]
    return stream_pb2.StreamDefinition(
        stream_id=bytes([number] * 16),
        device="js220-001",
        epoch=bytes([number] * 16),
        rate_hz=1e6,
        signals=[
            stream_pb2.Signal(number=at * 7, name=name, sample_type=int(kind), unit=unit)  # type: ignore[arg-type]
            for at, (name, kind, unit) in enumerate(named)
        ],
        attributes={"model": "JS220"},
    )


def raw_form(kind: SampleType, samples: Any) -> bytes:
    """What the column hash covers."""
    values = np.asarray(samples)
    if kind is SampleType.U1:
        return np.packbits(values.astype(np.uint8), bitorder="little").tobytes()
    if kind is SampleType.U4:
        even = np.append(values.astype(np.uint8), np.zeros(len(values) % 2, np.uint8))
        return (even[0::2] | even[1::2] << 4).astype(np.uint8).tobytes()
    return values.astype(kind.dtype, copy=False).tobytes()


def encode(kind: SampleType, encoding: int, samples: Any) -> bytes:
    """As docs/PROTOCOL.md says, by numpy, zstd and pcodec."""
    raw = raw_form(kind, samples)
    if encoding == PLAIN:
        return raw
    if encoding == PCO:
        config = ChunkConfig(enable_8_bit=True)
        return bytes(standalone.simple_compress(np.ascontiguousarray(samples, kind.dtype), config))
    if not kind.is_packed and kind.bits > 8:
        raw = np.frombuffer(raw, np.uint8).reshape(-1, kind.bits // 8).T.tobytes()
    return zstandard.ZstdCompressor(level=1).compress(raw)


def seal(chunk: stream_pb2.Chunk) -> None:
    """The frame hash of what a chunk now says, as a server that lies would send it."""
    chunk.frame_hash = hashes.frame_hash(chunk.header, chunk.digest, list(chunk.columns))


class Capture:
    """Chunks, one after the other."""

    def __init__(self, of: stream_pb2.StreamDefinition | None = None) -> None:
        self.definition = of or definition()
        self.kinds = [SampleType(signal.sample_type) for signal in self.definition.signals]
        self.run = "night"
        self.seq, self.next_sample = 0, self.definition.first_sample
        self.digest = hashes.definition_hash(self.definition)
        self.utc_ns, self.sample_count, self.ended = START_NS, 0, False
        self.chunks: list[query_pb2.WaveformChunk] = []
        self.gaps: list[query_pb2.Gap] = []

    def _header(self, kind: Any, reason: Reason, count: int, seqs: int = 1) -> stream_pb2.ChunkHeader:
        return stream_pb2.ChunkHeader(
            kind=kind,
            reason=int(reason),  # type: ignore[arg-type]
            first_seq=self.seq + 1,
            seq=self.seq + seqs,
            first_sample=self.next_sample,
            count=count,
            utc_ns=self.utc_ns,
        )

    def _push(self, header: stream_pb2.ChunkHeader, columns: Sequence[bytes] = (), *, quarantined: bool = False) -> None:
        if Reason(header.reason).is_replacing:
            # That of the captured chunks, which nobody has any more.
            self.digest = bytes([header.seq % 256] * 16)
        else:
            self.digest = hashes.next_digest(self.digest, hashes.chunk_hash(header))
        first = header.first_sample
        self.seq, self.next_sample = header.seq, first + header.count
        self.utc_ns += duration_ns(header.count, self.definition.rate_hz)
        chunk = stream_pb2.Chunk(header=header.SerializeToString(), columns=columns, digest=self.digest)
        seal(chunk)
        self.chunks.append(
            query_pb2.WaveformChunk(
                stream_id=self.definition.stream_id,
                chunk=chunk,
                from_sample=first,
                to_sample=self.next_sample,
                quarantined=quarantined,
            )
        )

    def _push_gap(self, count: int, reason: Reason, signals: Sequence[str] = ()) -> None:
        self.gaps.append(
            query_pb2.Gap(
                stream_id=self.definition.stream_id,
                device=self.definition.device,
                first_sample=self.next_sample,
                count=count,
                reason=int(reason),  # type: ignore[arg-type]
                from_ns=self.utc_ns,
                to_ns=self.utc_ns + duration_ns(count, self.definition.rate_hz),
                signals=signals,
            )
        )

    def samples(self, encoding: int, *columns: Any, markers: Sequence[stream_pb2.Marker] = ()) -> None:
        """A chunk of these columns, one for each signal; None is absent, of ten samples where all are."""
        count = max((len(column) for column in columns if column is not None), default=10)
        header = self._header(stream_pb2.CHUNK_KIND_SAMPLES, Reason.NONE, count)
        header.markers.extend(markers)
        encoded, absent = [], []
        for signal, kind, column in zip(self.definition.signals, self.kinds, columns, strict=True):
            place = header.columns.add(signal=signal.number)
            if column is None:
                place.absent_reason = int(Reason.SIGNAL_OFF)  # type: ignore[assignment]
                absent.append(signal.name)
                continue
            place.encoding = encoding  # type: ignore[assignment]
            place.hash = hashes.column_hash(signal.number, kind, count, raw_form(kind, column))
            encoded.append(encode(kind, encoding, column))
        if absent:
            self._push_gap(count, Reason.SIGNAL_OFF, absent)
        self.sample_count += count if encoded else 0
        self._push(header, encoded)

    def gap(self, count: int, reason: Reason = Reason.SOURCE_LOSS, seqs: int = 1) -> None:
        """A chunk without samples."""
        self._push_gap(count, reason)
        self._push(self._header(stream_pb2.CHUNK_KIND_GAP, reason, count, seqs))

    def quarantined(self, count: int) -> None:
        """A chunk whose bytes are in quarantine."""
        self._push_gap(count, Reason.QUARANTINED)
        header = self._header(stream_pb2.CHUNK_KIND_SAMPLES, Reason.NONE, count)
        for signal in self.definition.signals:
            header.columns.add(signal=signal.number, encoding=PLAIN, hash=bytes(16))
        self._push(header, quarantined=True)

    def end(self) -> None:
        """The stream is over."""
        self._push(self._header(stream_pb2.CHUNK_KIND_END, Reason.CLOSED, 0))
        self.ended = True

    def info(self) -> query_pb2.StreamInfo:
        """As `ListStreams` has it."""
        return query_pb2.StreamInfo(
            definition=self.definition,
            labels={"algorithm": "A"},
            run=self.run,
            watermark=self.seq,
            next_sample=self.next_sample,
            digest=self.digest,
            ended=self.ended,
            end_reason=int(Reason.CLOSED) if self.ended else 0,  # type: ignore[arg-type]
            first_time_ns=START_NS,
            last_time_ns=self.utc_ns,
            sample_count=self.sample_count,
            gap_sample_count=self.next_sample - self.definition.first_sample - self.sample_count,
        )

    def manifest(self) -> query_pb2.StreamManifest:
        """What proves it."""
        return query_pb2.StreamManifest(
            stream_id=self.definition.stream_id,
            from_sample=self.definition.first_sample,
            to_sample=self.next_sample,
            sample_count=self.sample_count,
            gap_sample_count=self.next_sample - self.definition.first_sample - self.sample_count,
            first_seq=1,
            last_seq=self.seq,
            digest_before=hashes.definition_hash(self.definition),
            digest=self.digest,
            chunks=len(self.chunks),
            gaps=self.gaps,
        )

    def drawn(self, signal: int, bucket_samples: int) -> query_pb2.WaveformColumns:
        """Columns of one signal, of any number: between −1 and 1 where there are samples."""
        first, to = self.definition.first_sample, self.next_sample
        columns = query_pb2.WaveformColumns(
            stream_id=self.definition.stream_id, signal=signal, first_sample=first, to_sample=to, bucket_samples=bucket_samples
        )
        start = first
        while start < to:
            end = min((start // bucket_samples + 1) * bucket_samples, to)
            gaps = [(gap.first_sample, gap.first_sample + gap.count) for gap in self.gaps]
            count = end - start - sum(max(0, min(end, gap[1]) - max(start, gap[0])) for gap in gaps)
            columns.count.append(count)
            for values, value in ((columns.min, -1.0), (columns.max, 1.0), (columns.mean, 0.25)):
                values.append(value if count else float("nan"))
            columns.time_ns.append(START_NS + duration_ns(start - first, self.definition.rate_hz))
            start = end
        return columns

    def parts(self) -> list[query_pb2.WaveformPart]:
        """The stream and its chunks, without the manifest."""
        stream = query_pb2.WaveformPart(stream=query_pb2.WaveformStream(info=self.info()))
        return [stream] + [query_pb2.WaveformPart(chunk=chunk) for chunk in self.chunks]


def manifest_part(*streams: query_pb2.StreamManifest) -> query_pb2.WaveformPart:
    """The last part of an answer."""
    return query_pb2.WaveformPart(manifest=query_pb2.Manifest(streams=streams))


def answer(*captures: Capture) -> list[query_pb2.WaveformPart]:
    """What an honest server answers about these captures."""
    parts = [part for capture in captures for part in capture.parts()]
    return [*parts, manifest_part(*(capture.manifest() for capture in captures))]


def drawn_answer(capture: Capture, bucket_samples: int) -> list[query_pb2.WaveformPart]:
    """What an honest server draws of a capture of current and voltage: the columns of each signal in one message."""
    parts = [capture.parts()[0]]
    parts += [query_pb2.WaveformPart(columns=capture.drawn(number, bucket_samples)) for number in (0, 7, 1 << 16)]
    manifest = capture.manifest()
    manifest.chunks = 0
    return [*parts, manifest_part(manifest)]
