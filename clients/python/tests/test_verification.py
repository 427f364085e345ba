"""An answer that is not what was captured is refused, by name; an honest one comes through bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import wavekeep
from tests.support.capture import PCO, PLAIN, START_NS, ZSTD, Capture, answer, definition, manifest_part, seal
from tests.support.double import read
from wavekeep import Reason, SampleType, errors
from wavekeep.v1 import query_pb2, stream_pb2

Parts = list[query_pb2.WaveformPart]

# NaNs with payloads, −0.0, an infinity, a subnormal, the largest.
ODD = np.array([0x7F800001, 0xFFC12345, 0x80000000, 0xFF800000, 0x00000001, 0x7F7FFFFF], "<u4").view("<f4")
MANY = np.arange(5_000, dtype="<f4")


def live() -> Capture:
    """Three chunks of samples and a gap."""
    capture = Capture()
    capture.samples(PLAIN, ODD, -ODD)
    capture.samples(ZSTD, MANY, -MANY)
    capture.gap(100)
    capture.samples(PLAIN, MANY[:3], MANY[3:6])
    return capture


def bits(samples: Any) -> list[int]:
    found: list[int] = np.ascontiguousarray(samples).view("<u4").tolist()
    return found


def test_an_honest_answer_comes_through_bit_for_bit() -> None:
    capture = live()
    capture.end()
    stream = read(answer(capture)).stream
    current = stream["current"]
    assert isinstance(current, wavekeep.Samples)
    first, second = current.segments()
    assert bits(first.samples[:6]) == bits(ODD)
    assert bits(first.samples[6:]) == bits(MANY)
    assert (first.first_sample, second.first_sample, len(current)) == (0, 5_106, 5_109)
    assert current.samples[5_006:5_106].mask.all()
    assert current.mask.sum() == 100
    assert np.isnan(current.samples.data[5_006:5_106]).all()
    assert bits(current.samples.data[-3:]) == bits(MANY[:3])
    gap = stream.gaps[0]
    assert (gap.first_sample, gap.count, gap.reason, str(gap.reason)) == (5_006, 100, Reason.SOURCE_LOSS, "source_loss")
    assert (gap.from_ns, gap.to_ns) == (START_NS + 5_006_000, START_NS + 5_106_000)
    assert (stream.end, stream.manifest.chunks, stream.manifest.digest) == (Reason.CLOSED, 5, capture.digest)
    assert stream.time_ns.tolist() == [START_NS + at * 1_000 for at in range(5_109)]
    assert current.time.dtype == np.dtype("datetime64[ns]")


def test_every_encoding_of_every_type_is_read() -> None:
    kinds = [(f"s{kind}", kind, "") for kind in SampleType]
    capture, columns = Capture(definition(1, kinds)), []
    for _, kind, _ in kinds:
        values = np.arange(1_001) % (1 << min(kind.bits, 6))
        samples: NDArray[Any] = np.zeros(1_001, kind.dtype)
        if kind is SampleType.I128:
            samples["low"] = values
            samples["high"] = -1
        else:
            samples[:] = values
        columns.append(samples)
    capture.samples(PLAIN, *columns)
    capture.samples(ZSTD, *columns)
    stream = read(answer(capture)).stream
    for (name, _, _), samples in zip(kinds, columns, strict=True):
        found = stream[name]
        assert isinstance(found, wavekeep.Samples)
        assert found.stored.tobytes() == samples.tobytes() * 2, name


def test_pco_is_read() -> None:
    capture = Capture()
    capture.samples(PCO, MANY, MANY + 1)
    assert (read(answer(capture))["voltage"].samples == MANY + 1).all()  # type: ignore[union-attr]


def test_what_is_cut_to_a_range_is_cut_in_the_middle_of_bytes() -> None:
    capture = Capture(definition(1, [("gpi", SampleType.U1, ""), ("range", SampleType.U4, "")]))
    gpi, ranges = (MANY % 3 == 0).astype(np.uint8), (MANY % 16).astype(np.uint8)
    capture.samples(PLAIN, gpi, ranges)
    capture.samples(ZSTD, gpi, ranges)
    parts, manifest = capture.parts(), capture.manifest()
    parts[1].chunk.from_sample = manifest.from_sample = 13
    parts[2].chunk.to_sample = manifest.to_sample = 9_003
    manifest.sample_count = 8_990
    stream = read([*parts, manifest_part(manifest)], start=START_NS + 13_000, end=START_NS + 9_003_000).stream
    both = np.concatenate([gpi, gpi])
    assert stream["gpi"].samples.tolist() == both[13:9_003].tolist()  # type: ignore[union-attr]
    assert stream["range"].samples.tolist() == np.concatenate([ranges, ranges])[13:9_003].tolist()  # type: ignore[union-attr]
    assert stream.time_ns[0] == START_NS + 13_000


def test_a_stream_that_grew_since_it_was_described_is_read_whole() -> None:
    capture = Capture()
    for _ in range(16):
        capture.samples(ZSTD, MANY[:4_096], -MANY[:4_096])
    parts = answer(capture)
    parts[0].stream.info.sample_count = 7_000
    current = read(parts)["current"]
    assert isinstance(current, wavekeep.Samples)
    assert current.stored.tobytes() == MANY[:4_096].tobytes() * 16


def test_signals_that_are_absent_alone_are_masked_alone() -> None:
    capture = Capture()
    capture.samples(PLAIN, MANY[:10], None)
    capture.samples(PLAIN, None, MANY[:10])
    capture.samples(PLAIN, None, None)
    capture.quarantined(5)
    stream = read(answer(capture)).stream
    current, voltage = stream["current"], stream["voltage"]
    assert isinstance(current, wavekeep.Samples)
    assert isinstance(voltage, wavekeep.Samples)
    assert current.mask.tolist() == [False] * 10 + [True] * 25
    assert voltage.mask.tolist() == [True] * 10 + [False] * 10 + [True] * 15
    assert [gap.reason for gap in current.gaps] == [Reason.SIGNAL_OFF, Reason.SIGNAL_OFF, Reason.QUARANTINED]
    assert stream.power().mask.all()


def test_gaps_named_early_and_several_streams_come_through() -> None:
    first, second = live(), Capture(definition(2))
    second.samples(PLAIN, MANY[:2], MANY[:2])
    early = query_pb2.StreamManifest(stream_id=first.definition.stream_id, gaps=first.gaps)
    last = first.manifest()
    last.ClearField("gaps")
    parts = [*first.parts(), *second.parts(), manifest_part(early), manifest_part(last, second.manifest())]
    waveform = read(parts)
    assert [len(stream.time_ns) for stream in waveform] == [5_109, 2]
    assert len(waveform.gaps) == 1
    with pytest.raises(errors.SeveralStreams, match="there are 2"):
        waveform["current"]


def test_markers_stand_at_their_samples() -> None:
    capture = Capture()
    note = stream_pb2.Marker(sample=2, kind=1, y=float("nan"), format=stream_pb2.MARKER_FORMAT_JSON, content=b'{"step": 1}')
    capture.samples(PLAIN, MANY[:4], MANY[:4], markers=[note])
    marker = read(answer(capture)).markers[0]
    assert (marker.sample, marker.time_ns, marker.content) == (2, START_NS + 2_000, {"step": 1})


def test_a_replacing_gap_carries_the_digest_of_what_it_replaces() -> None:
    capture = Capture()
    capture.gap(1_000, Reason.EVICTED, seqs=4)
    capture.samples(PLAIN, MANY, MANY)
    assert read(answer(capture)).stream.manifest.last_seq == 5


# One lie each: what to do to the parts of an honest answer, and what is raised.


def chunk(parts: Parts, at: int) -> stream_pb2.Chunk:
    return parts[at].chunk.chunk


def rewrite(parts: Parts, at: int, change: Callable[[stream_pb2.ChunkHeader], None]) -> None:
    header = stream_pb2.ChunkHeader.FromString(chunk(parts, at).header)
    change(header)
    chunk(parts, at).header = header.SerializeToString()
    seal(chunk(parts, at))


def flip_byte(parts: Parts) -> None:
    damaged = bytearray(chunk(parts, 1).columns[1])
    damaged[5] ^= 1
    chunk(parts, 1).columns[1] = bytes(damaged)


def flip_and_seal(parts: Parts) -> None:
    flip_byte(parts)
    seal(chunk(parts, 1))


def cut_frame(parts: Parts) -> None:
    chunk(parts, 2).columns[0] = chunk(parts, 2).columns[0][:-1]
    seal(chunk(parts, 2))


def other_time(parts: Parts) -> None:
    def change(header: stream_pb2.ChunkHeader) -> None:
        header.utc_ns += 1

    rewrite(parts, 2, change)


def moved(parts: Parts) -> None:
    def change(header: stream_pb2.ChunkHeader) -> None:
        header.first_sample += 1

    rewrite(parts, 2, change)


def unknown_encoding(parts: Parts) -> None:
    def change(header: stream_pb2.ChunkHeader) -> None:
        header.columns[0].encoding = 77  # type: ignore[assignment]

    rewrite(parts, 2, change)


def no_columns(parts: Parts) -> None:
    del chunk(parts, 2).columns[1:]
    seal(chunk(parts, 2))


def wrong_digest(parts: Parts) -> None:
    chunk(parts, 2).digest = bytes(16)
    seal(chunk(parts, 2))


def last_manifest(parts: Parts) -> query_pb2.StreamManifest:
    return parts[-1].manifest.streams[0]


def other_count(parts: Parts) -> None:
    last_manifest(parts).sample_count += 1


def hidden_gap(parts: Parts) -> None:
    last_manifest(parts).ClearField("gaps")


def other_gap(parts: Parts) -> None:
    last_manifest(parts).gaps[0].count += 1


def cut_short(parts: Parts) -> None:
    parts[1].chunk.to_sample -= 1


def last_chunk_gone(parts: Parts) -> None:
    del parts[4]
    last = last_manifest(parts)
    last.to_sample, last.sample_count, last.chunks, last.last_seq = 5_106, 5_006, 3, 3
    last.digest = chunk(parts, 3).digest


LIES: list[tuple[Callable[[Parts], object], type[errors.Refuted], int | None, str | None]] = [
    (flip_byte, errors.FrameDamaged, 1, None),
    (flip_and_seal, errors.ColumnAltered, 1, "voltage"),
    (cut_frame, errors.ColumnUndecodable, 2, "current"),
    (other_time, errors.DigestBroken, 2, None),
    (moved, errors.TilingBroken, 2, None),
    (unknown_encoding, errors.HeaderWrong, 2, None),
    (no_columns, errors.ColumnsWrong, 2, None),
    (wrong_digest, errors.DigestBroken, 2, None),
    (lambda parts: parts.pop(2), errors.ChunkMissing, 2, None),
    (lambda parts: parts.insert(2, parts[1]), errors.ChunkMissing, 2, None),
    (lambda parts: parts.pop(), errors.ManifestWrong, None, None),
    (other_count, errors.ManifestWrong, None, None),
    (hidden_gap, errors.ManifestWrong, None, None),
    (other_gap, errors.ManifestWrong, None, None),
    (cut_short, errors.CutWrong, 2, None),
    (last_chunk_gone, errors.Truncated, 3, None),
]


@pytest.mark.parametrize(("lie", "kind", "seq", "signal"), LIES)
def test_a_lie_is_refused_by_name(
    lie: Callable[[Parts], object], kind: type[errors.Refuted], seq: int | None, signal: str | None
) -> None:
    capture = live()
    parts = answer(capture)
    lie(parts)
    with pytest.raises(kind) as caught:
        read(parts, streams=[capture.info()])
    assert type(caught.value) is kind
    assert (caught.value.seq, caught.value.signal) == (seq, signal)
    assert caught.value.stream == "01" * 16
    assert "wavekeep chunks --stream 0101" in str(caught.value)
    if signal:
        assert f"signal {signal} of seq {seq}" in str(caught.value)


def test_a_range_that_was_not_asked_for_is_refused() -> None:
    capture = live()
    ranges: list[dict[str, Any]] = [{"start": START_NS + 1_000}, {"end": START_NS + 5_108_000}, {"end": START_NS + 1_000}]
    for what in ranges:
        with pytest.raises(errors.RangeWrong):
            read(answer(capture), **what)


def test_another_stream_than_asked_for_is_refused() -> None:
    for what in ({"device": "other"}, {"device": None, "stream": "02" * 16}, {"signals": "power"}):
        with pytest.raises(errors.Malformed):
            read(answer(live()), **what)


def test_the_definition_is_the_beginning_of_the_chain() -> None:
    capture = live()
    parts = answer(capture)
    parts[0].stream.info.definition.rate_hz = 2e6
    with pytest.raises(errors.DigestBroken):
        read(parts)


def test_a_stream_may_end_where_a_successor_continues_it() -> None:
    capture = live()
    parts = answer(capture)
    last_chunk_gone(parts)
    successor = Capture(definition(2))
    successor.definition.predecessor.stream_id = capture.definition.stream_id
    successor.definition.predecessor.seq = 3
    assert len(read(parts, streams=[capture.info(), successor.info()]).stream.time_ns) == 5_106


def test_a_server_that_claims_too_much_is_not_believed() -> None:
    parts = answer(live())
    info = parts[0].stream.info
    info.sample_count = 1 << 50
    info.last_time_ns = START_NS + (1 << 62)
    with pytest.raises(errors.TooMuch, match=r"ask for points="):
        read(parts)
