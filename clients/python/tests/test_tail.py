"""Whoever follows sees every sample once, whatever becomes of him or of the server, and nothing that was not captured."""

from __future__ import annotations

import _thread
import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.capture import PLAIN, START_NS, ZSTD, Capture, definition, seal
from tests.support.double import Script, serving
from tests.support.lab import Lab
from tests.support.relay import Relay
from tests.test_client import details
from wavekeep import Client, Committed, Reason, Tail, errors, limits
from wavekeep.v1 import query_pb2, stream_pb2

SPEC = "js220,rate=100000,seed=3"
PATIENCE_SECONDS = 60.0


class Reader:
    """What somebody made of the chunks, with the cursor that he kept beside it."""

    def __init__(self) -> None:
        self.samples: dict[str, list[NDArray[Any]]] = {}
        self.ends: dict[str, int] = {}
        self.missing = 0
        self.ended: set[str] = set()
        self.cursor: str | None = None

    def take(self, chunk: Committed, tail: Tail) -> None:
        """Keeps both, and holds the chunk against what came before: no sample is missing or comes twice."""
        stream = chunk.stream
        assert chunk.first_sample == self.ends.get(stream.id, stream.first_sample)
        assert chunk.expired is None
        self.ends[stream.id] = chunk.to_sample
        self.missing += sum(gap.count for gap in chunk.gaps)
        both = [chunk[name].stored for name in ("current", "voltage")]
        self.samples.setdefault(stream.id, []).append(np.stack(both, axis=1))
        assert len(chunk.time_ns) == len(chunk)
        if chunk.end is not None:
            self.ended.add(stream.id)
        self.cursor = tail.cursor

    def require_all(self, lab: Lab, client: Client, device: str) -> None:
        """Each stored sample came, once, as it was captured."""
        streams = client.streams(device=device)
        assert sorted(self.samples) == sorted(stream.id for stream in streams)
        for stream in streams:
            path = lab.folder / f"{stream.id}.raw"
            lab.command_line("export", "--stream", stream.id, "--format", "raw", "--gaps", "skip", "--output", str(path))
            stored = np.fromfile(path, "<u4").reshape(-1, 2)
            assert np.array_equal(np.concatenate(self.samples[stream.id]).view("<u4"), stored)
            assert self.ends[stream.id] == stream.next_sample
        assert self.missing == sum(stream.gap_sample_count for stream in streams)


@contextlib.contextmanager
def recording(lab: Lab, device: str, duration: str, *more: str) -> Iterator[Any]:
    """An agent that records in real time. It has ended well at the end."""
    outbox = ["--outbox", str(lab.folder / f"outbox-{device}")]
    capture = ["run", "--device", device, "--simulate", f"{SPEC},loss=1e-5", "--duration", duration, "--chunk-period", "50ms"]
    with lab.running("wavekeep-agent", *capture, *outbox, *more) as agent:
        end = time.monotonic() + PATIENCE_SECONDS
        while device not in lab.command_line("devices"):
            assert agent.poll() is None, (lab.folder / "wavekeep-agent.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield agent
        assert agent.wait(PATIENCE_SECONDS) == 0, (lab.folder / "wavekeep-agent.log").read_text()


@contextlib.contextmanager
def closing_in(tail: Tail, seconds: float) -> Iterator[None]:
    """Ends it from another thread, that the test does not wait for ever."""
    timer = threading.Timer(seconds, tail.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_a_reader_that_comes_back_misses_nothing_and_repeats_nothing(lab: Lab) -> None:
    chance, reader, times = random.Random(5), Reader(), 0
    with recording(lab, "cut", "6s"):
        while not reader.ended:
            # Another process, as far as anybody can tell.
            with Client(lab.url) as client, client.tail(device="cut", from_start=True, cursor=reader.cursor) as tail:
                left = chance.randrange(12)
                with closing_in(tail, PATIENCE_SECONDS):
                    for chunk in tail:
                        if left == 0:
                            # It came, and nobody has kept it: it comes again.
                            break
                        reader.take(chunk, tail)
                        left -= 1
                        if reader.ended:
                            break
            times += 1
    assert times > 10
    with Client(lab.url) as client:
        reader.require_all(lab, client, "cut")
        assert reader.missing > 0, "gaps were compared"


@pytest.fixture
def other_lab() -> Iterator[Lab]:
    """A server that a test may kill."""
    made = Lab()
    try:
        yield made
    finally:
        made.close()


def test_a_server_that_dies_and_comes_back_is_waited_for(other_lab: Lab) -> None:
    reader, begun = Reader(), threading.Event()
    with recording(other_lab, "killed", "8s"), Client(other_lab.url) as client:
        tail = client.tail(device="killed", from_start=True)

        def follow() -> None:
            for chunk in tail:
                reader.take(chunk, tail)
                begun.set()
                if reader.ended:
                    break

        with ThreadPoolExecutor(1) as pool, closing_in(tail, PATIENCE_SECONDS):
            following = pool.submit(follow)
            for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                begun.clear()
                assert begun.wait(PATIENCE_SECONDS), "it goes on"
                time.sleep(0.3)
                other_lab.stop(how)
                time.sleep(0.2)
                other_lab.start()
            following.result(PATIENCE_SECONDS)
        assert reader.ended
        reader.require_all(other_lab, client, "killed")


def test_from_now_on_is_what_is_committed_after_it_was_asked(lab: Lab) -> None:
    lab.simulate("now", SPEC, "1s", "--label", "of=now")
    with Client(lab.url) as client:
        before = client.streams(device="now")[0]
        with client.tail(filter="of=now") as tail, closing_in(tail, PATIENCE_SECONDS):
            stood = json.loads(tail.cursor)
            assert stood == {before.id: {"seq": before.watermark, "digest": before.digest.hex(), "next_sample": None}}
            lab.simulate("now", SPEC, "1s", "--label", "of=now")
            chunks = []
            for chunk in tail:
                chunks.append(chunk)
                if chunk.end is not None:
                    break
        after = client.streams(device="now")[1]
        assert {chunk.stream.id for chunk in chunks} == {after.id}, "a stream that begins later is whole"
        found = np.concatenate([chunk["current"].stored for chunk in chunks])
        assert found.tobytes() == client.waveform(stream=after)["current"].stored.tobytes()  # type: ignore[union-attr]
        assert all(chunk.committed_ns > after.first_time_ns for chunk in chunks if after.first_time_ns)
        assert (chunks[-1].end, len(chunks[-1])) == (Reason.CLOSED, 0)


def test_the_command_line_goes_on_where_python_stood_and_python_where_it_stood(lab: Lab, tmp_path: Path) -> None:
    lab.simulate("both", SPEC, "3s")
    state = tmp_path / "state.json"
    tail_of = ["--json", "tail", "--device", "both", "--from-start", "--state", str(state), "--limit", "2"]
    with Client(lab.url) as client:
        stream = client.streams(device="both")[0]
        with client.tail(device="both", signals="voltage", from_start=True) as tail:
            seqs = [next(tail).seq, next(tail).seq]
            state.write_text(tail.cursor)
        seqs += [json.loads(line)["seq"] for line in lab.command_line(*tail_of).splitlines()]
        with client.tail(device="both", signals="voltage", cursor=state.read_text()) as tail:
            for chunk in tail:
                assert list(chunk.signals) == ["voltage"]
                seqs.append(chunk.seq)
                if chunk.end is not None:
                    break
        assert seqs == list(range(1, stream.watermark + 1))


def test_what_cannot_be_followed_is_refused_at_once(lab: Lab) -> None:
    lab.simulate("refused", SPEC, "1s")
    with Client(lab.url) as client:
        with pytest.raises(errors.UnknownName, match='did you mean "refused"'):
            client.tail(device="refusd")
        with pytest.raises(errors.UnknownName):
            client.tail(device="refused", signals="curent")
        for text in ("", "[]", "{", '{"01":{"seq":1,"digest":null,"next_sample":null}}', f'{{"{"01" * 16}":{{"seq":-1}}}}'):
            with pytest.raises(errors.InvalidQuestion, match="no cursor"):
                client.tail(cursor=text)
    with Client("http://127.0.0.1:9") as client, pytest.raises(errors.Unreachable):
        client.tail()


def test_it_ends_when_somebody_closes_it_or_the_client(lab: Lab) -> None:
    lab.simulate("quiet", SPEC, "1s")
    for end in ("tail", "client"):
        with Client(lab.url) as client:
            tail = client.tail(device="quiet")
            closing: Callable[[], None] = tail.close if end == "tail" else client.close
            timer = threading.Timer(0.3, closing)
            timer.start()
            assert list(tail) == []
            timer.join()
            assert list(tail) == [], "it stays at its end"
            assert ("closed" in repr(tail)) is (end == "tail")


def test_an_interrupt_ends_the_wait_and_loses_nothing(lab: Lab) -> None:
    with Client(lab.url) as client, client.tail(filter="of=interrupt") as tail:
        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(tail)
        lab.simulate("interrupt", SPEC, "1s", "--label", "of=interrupt")
        with closing_in(tail, PATIENCE_SECONDS):
            assert next(tail).seq == 1


# A server that follows a script.


def start(*captures: Capture, seq: int = 0) -> query_pb2.TailPart:
    after = [query_pb2.ChunkCursor(stream_id=one.definition.stream_id, seq=seq) for one in captures]
    return query_pb2.TailPart(start=query_pb2.TailStart(after=after))


def parts_of(capture: Capture, first: int = 0, last: int | None = None) -> list[query_pb2.TailPart]:
    """The stream and some of its chunks."""
    chunks = [query_pb2.TailPart(chunk=chunk) for chunk in capture.chunks[first:last]]
    return [query_pb2.TailPart(stream=capture.info()), *chunks]


def three() -> Capture:
    capture = Capture()
    for at in range(3):
        capture.samples(ZSTD if at == 1 else PLAIN, np.arange(at * 10, at * 10 + 10, dtype="<f4"), np.zeros(10, "<f4"))
    return capture


def seqs_of(tail: Tail, count: int) -> list[int]:
    return [next(tail).seq for _ in range(count)]


def test_the_next_answer_is_asked_for_what_was_not_handed_out() -> None:
    capture = three()
    script = Script(tails=[[start(capture), *parts_of(capture, 0, 2)], [start(capture, seq=2), *parts_of(capture, 2)]])
    with serving(script) as url, Client(url) as client, client.tail(device="js220-001") as tail:
        chunks = [next(tail) for _ in range(3)]
        samples = np.concatenate([chunk["current"].samples for chunk in chunks])
        assert samples.tolist() == list(range(30))
        assert np.concatenate([chunk.time_ns for chunk in chunks]).tolist() == [START_NS + at * 1_000 for at in range(30)]
        assert json.loads(tail.cursor)["01" * 16] == {"seq": 3, "digest": capture.digest.hex(), "next_sample": 30}
    first, second = script.asked
    assert (first.from_start, list(first.after), list(first.encodings)) == (False, [], [1, 2, 3])
    assert (second.from_start, [(one.stream_id, one.seq) for one in second.after]) == (True, [(bytes([1] * 16), 2)])


def test_it_is_logged_once_that_a_server_went_away(caplog: pytest.LogCaptureFixture) -> None:
    capture = three()
    nothing: list[query_pb2.TailPart] = []
    script = Script(tails=[[start(capture)], nothing, nothing, [start(capture), *parts_of(capture)]])
    with serving(script) as url, Client(url) as client, client.tail(device="js220-001") as tail:
        assert seqs_of(tail, 3) == [1, 2, 3]
    said = [record.getMessage() for record in caplog.records if record.name == "wavekeep"]
    assert len(said) == 2
    assert "trying again until it answers" in said[0]
    assert "answers again" in said[1]


def test_a_server_that_stops_is_left_and_one_that_refuses_is_not_asked_again() -> None:
    capture = three()
    stopping = (grpc.StatusCode.UNAVAILABLE, "the server stops: ask another one", details("STOPPING"))
    refused = (grpc.StatusCode.INVALID_ARGUMENT, "no", details("INVALID_QUESTION"))
    for failure, kind in ((stopping, errors.Refused), (refused, errors.InvalidRequest)):
        script = Script(tails=[[start(capture), *parts_of(capture)]], failure=failure)
        with serving(script) as url, Client(url) as client, client.tail(device="js220-001", patience_s=0.5) as tail:
            assert seqs_of(tail, 3) == [1, 2, 3]
            with pytest.raises(kind, match=failure[1]):
                next(tail)
        assert (len(script.asked) > 2) is (failure is stopping)


def test_patience_has_an_end() -> None:
    script = Script(tails=[[start()], []])
    with serving(script) as url, Client(url) as client:
        tail = client.tail(patience_s=0.5)
        script.tails[:] = []
        script.failure = (grpc.StatusCode.UNAVAILABLE, "gone", ())
        began = time.monotonic()
        with pytest.raises(errors.Unreachable, match="gone"):
            next(tail)
        assert 0.4 < time.monotonic() - began < 10


def test_waits_grow_and_are_short_again_after_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_MS_MIN", 1)
    waits: list[float] = []

    def shortest(low: float, high: float) -> float:
        waits.append(high)
        return low

    monkeypatch.setattr("wavekeep.tail.random.uniform", shortest)
    capture = three()
    nothing: list[query_pb2.TailPart] = []
    begins = [[start(capture)] for _ in range(3)]
    tails = [*begins, nothing, [start(capture), *parts_of(capture, 0, 1)], nothing, [start(capture), *parts_of(capture, 1)]]
    script = Script(tails=list(tails))
    with serving(script) as url, Client(url) as client, client.tail(device="js220-001") as tail:
        assert seqs_of(tail, 3) == [1, 2, 3]
    assert waits == [1, 2, 4, 8, 1, 2], "a server that begins and dies is not hammered"


def test_a_connection_on_which_nothing_comes_any_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 1)
    capture = three()
    script = Script(tails=[[start(capture), *parts_of(capture)]])
    with serving(script) as url, Relay(url) as relay, Client(relay.url) as client, client.tail(device="js220-001") as tail:
        assert seqs_of(tail, 3) == [1, 2, 3]
        # More looks than gRPC would take by itself while nothing is said.
        time.sleep(3)
        assert len(script.asked) == 1
        relay.swallow()
        more = Capture(definition(2))
        more.samples(PLAIN, np.zeros(3, "<f4"), np.zeros(3, "<f4"))
        script.tails.append([start(capture), *parts_of(more)])
        with closing_in(tail, 30):
            assert next(tail).stream.id == "02" * 16


# Lies.

Parts = list[query_pb2.TailPart]


def flip_byte(parts: Parts) -> None:
    chunk = parts[3].chunk.chunk
    chunk.columns[0] = bytes([chunk.columns[0][0] ^ 1]) + chunk.columns[0][1:]


def flip_and_seal(parts: Parts) -> None:
    chunk = parts[4].chunk.chunk
    chunk.columns[1] = bytes([chunk.columns[1][0] ^ 1]) + chunk.columns[1][1:]
    seal(chunk)


def other_time(parts: Parts) -> None:
    chunk = parts[3].chunk.chunk
    header = stream_pb2.ChunkHeader.FromString(chunk.header)
    header.utc_ns += 1
    chunk.header = header.SerializeToString()
    seal(chunk)


def other_stream(parts: Parts) -> None:
    parts[3].chunk.stream_id = bytes([9] * 16)


LIES: list[tuple[Callable[[Parts], object], type[errors.WavekeepError], int]] = [
    (flip_byte, errors.FrameDamaged, 1),
    (flip_and_seal, errors.ColumnAltered, 2),
    (other_time, errors.DigestBroken, 1),
    (other_stream, errors.Malformed, 1),
    (lambda parts: parts.pop(3), errors.ChunkMissing, 1),
    (lambda parts: parts.insert(3, parts[2]), errors.ChunkMissing, 1),
    (lambda parts: parts.pop(1), errors.Malformed, 0),
    (lambda parts: parts.insert(2, parts[0]), errors.Malformed, 0),
    (lambda parts: parts.insert(2, query_pb2.TailPart()), errors.Malformed, 0),
]


@pytest.mark.parametrize(("lie", "kind", "good"), LIES)
def test_a_lie_is_not_handed_out_and_the_truth_may_follow(
    lie: Callable[[Parts], object], kind: type[errors.WavekeepError], good: int
) -> None:
    capture = three()
    parts = [start(capture), *parts_of(capture)]
    told = [query_pb2.TailPart.FromString(part.SerializeToString()) for part in parts]
    lie(told)
    script = Script(tails=[told, [start(capture), *parts_of(capture, good)]])
    with serving(script) as url, Client(url) as client, client.tail(device="js220-001") as tail:
        assert seqs_of(tail, good) == list(range(1, good + 1))
        with pytest.raises(kind):
            next(tail)
        assert json.loads(tail.cursor)["01" * 16]["seq"] == good
        assert seqs_of(tail, 3 - good) == list(range(good + 1, 4))
        assert script.asked[-1].after[0].seq == good


def test_an_answer_that_does_not_begin_is_refused() -> None:
    capture = three()
    with serving(Script(tails=[parts_of(capture), []])) as url, Client(url) as client, pytest.raises(errors.Malformed):
        client.tail(device="js220-001")
    script = Script(tails=[[start(capture), *parts_of(capture)]])
    with serving(script) as url, Client(url) as client, client.tail(device="other") as tail, pytest.raises(errors.Malformed):
        next(tail)


def cursor_at(capture: Capture, seq: int, **other: Any) -> str:
    digest = capture.chunks[seq - 1].chunk.digest.hex()
    return json.dumps({"01" * 16: {"seq": seq, "digest": digest, "next_sample": capture.chunks[seq - 1].to_sample} | other})


def continued(capture: Capture, cursor: str, first: int) -> Committed:
    script = Script(tails=[[start(capture), *parts_of(capture, first)]])
    with serving(script) as url, Client(url) as client, client.tail(device="js220-001", cursor=cursor) as tail:
        return next(tail)


def test_the_first_chunk_is_held_against_the_cursor() -> None:
    capture = three()
    assert continued(capture, cursor_at(capture, 2), 2).seq == 3
    assert continued(capture, cursor_at(capture, 2, digest=None, next_sample=None), 2).seq == 3
    with pytest.raises(errors.DigestBroken, match="of the cursor"):
        continued(capture, cursor_at(capture, 2, digest="00" * 16), 2)
    with pytest.raises(errors.TilingBroken, match="where the cursor stands"):
        continued(capture, cursor_at(capture, 2, next_sample=19), 2)
    with pytest.raises(errors.ChunkMissing, match="came twice"):
        continued(capture, cursor_at(capture, 2), 1)


def test_what_retention_dropped_is_named() -> None:
    capture = three()
    chunk = continued(capture, cursor_at(capture, 1), 2)
    assert (chunk.seq, chunk.expired) == (3, (2, 2))


def test_of_a_gap_that_replaces_more_than_was_missed_the_rest_is_handed_out() -> None:
    """The server was set back, and what it lost stands in one gap with what the reader has."""
    capture = three()
    cursor = cursor_at(capture, 2)
    back = Capture()
    back.samples(PLAIN, np.arange(10, dtype="<f4"), np.zeros(10, "<f4"))
    back.gap(25, Reason.LOST_BY_SERVER, seqs=3)
    back.samples(PLAIN, np.arange(5, dtype="<f4"), np.zeros(5, "<f4"))
    chunk = continued(back, cursor, 1)
    assert (chunk.first_seq, chunk.seq, chunk.first_sample, chunk.to_sample) == (2, 4, 20, 35)
    assert chunk["current"].samples.mask.all()
    assert [(gap.first_sample, gap.count, gap.from_ns) for gap in chunk.gaps] == [(20, 15, START_NS + 20_000)]
    assert chunk.time_ns.tolist() == [START_NS + at * 1_000 for at in range(20, 35)]
    # The same while it is followed.
    script = Script(tails=[[start(capture), *parts_of(capture, 0, 2), *parts_of(back, 1)[1:]]])
    with serving(script) as url, Client(url) as client, client.tail(device="js220-001") as tail:
        spans = [(one.first_sample, one.to_sample) for one in (next(tail) for _ in range(4))]
    assert spans == [(0, 10), (10, 20), (20, 35), (35, 40)]


def test_gaps_absent_signals_quarantine_and_the_end_come_as_they_are() -> None:
    capture = Capture()
    note = stream_pb2.Marker(sample=2, kind=1, format="MARKER_FORMAT_TEXT", content=b"boot")
    capture.samples(PLAIN, np.arange(4, dtype="<f4"), None, markers=[note])
    capture.gap(1_000_000_000_000)
    capture.quarantined(5)
    capture.end()
    script = Script(tails=[[start(capture), *parts_of(capture)]])
    with serving(script) as url, Client(url) as client, client.tail(device="js220-001") as tail:
        absent, gap, quarantined, end = (next(tail) for _ in range(4))
    assert not absent["current"].mask.any()
    assert absent["voltage"].mask.all()
    assert absent.power().mask.all()
    assert [str(marker) for marker in absent.markers] == ["boot"]
    assert (absent.gaps[0].signals, absent.gaps[0].reason) == (("voltage",), Reason.SIGNAL_OFF)
    assert absent.to_pandas()["voltage"].isna().all()
    # A gap of any length costs nothing, until somebody asks for its samples.
    assert (len(gap), gap.gaps[0].reason) == (1_000_000_000_000, Reason.SOURCE_LOSS)
    assert "1,000,000,000,000 f32" in repr(gap)
    assert (quarantined.gaps[0].reason, len(quarantined["current"].stored)) == (Reason.QUARANTINED, 0)
    assert (end.end, len(end), len(end.time_ns), end.gaps) == (Reason.CLOSED, 0, 0, ())
    assert repr(end) == f"<Committed seq 4 of stream {'01' * 16} of js220-001: the end: closed>"
    with pytest.raises(errors.UnknownSignal):
        end["power"]
