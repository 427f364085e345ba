"""What is sent, and what is said when there is no answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from tests.support.capture import PLAIN, START_NS, Capture, answer, definition
from tests.support.double import Script, serving
from tests.support.lab import free_port
from wavekeep import Client, errors
from wavekeep.v1 import query_pb2


def field(number: int, content: bytes) -> bytes:
    """A field of bytes on the wire, by hand."""
    return bytes([number << 3 | 2, len(content)]) + content


def details(reason: str, **about: str) -> tuple[tuple[str, bytes], ...]:
    """`google.rpc.Status` with an `ErrorInfo`, as the server sends it."""
    pairs = b"".join(field(3, field(1, key.encode()) + field(2, value.encode())) for key, value in about.items())
    info = field(1, reason.encode()) + field(2, b"wavekeep") + pairs
    packed = field(1, b"type.googleapis.com/google.rpc.ErrorInfo") + field(2, info)
    return (("grpc-status-details-bin", field(3, packed)),)


@pytest.mark.parametrize(
    "bad", ["localhost", "localhost:7460", "ftp://host:1", "http://", "http://a b", "7460", "http://host:99999", "http://[::1"]
)
def test_addresses_that_are_none_are_refused_in_words(bad: str) -> None:
    with pytest.raises(errors.AddressError, match="is not a server address") as caught:
        Client(bad)
    assert "WAVEKEEP_SERVER" in str(caught.value)


def test_a_token_never_leaves_the_machine_unencrypted() -> None:
    with pytest.raises(errors.AddressError, match="use https"):
        Client("http://lab.example:7460", token="secret")
    Client("https://lab.example", token="secret").close()


def test_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    with serving(script) as url:
        monkeypatch.setenv("WAVEKEEP_SERVER", url)
        monkeypatch.setenv("WAVEKEEP_WORKSPACE", "team")
        with Client(token="secret") as client:
            assert [device.name for device in client.devices()] == ["js220-001"]
        assert (script.asked[0].workspace, script.metadata[0]["authorization"]) == ("team", "Bearer secret")
        with Client(url, workspace="other") as client:
            client.devices()
        assert script.asked[1].workspace == "other"
        assert "authorization" not in script.metadata[1]


def test_a_server_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(errors.Unreachable, match="wavekeep-server dev") as caught:
        client.devices()
    assert url in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


REFUSALS: list[tuple[grpc.StatusCode, str, type[errors.WavekeepError]]] = [
    (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_QUESTION", errors.InvalidRequest),
    (grpc.StatusCode.OUT_OF_RANGE, "NOTHING_STORED", errors.NothingStored),
    (grpc.StatusCode.FAILED_PRECONDITION, "ANSWER_TOO_LARGE", errors.AnswerTooLarge),
    (grpc.StatusCode.FAILED_PRECONDITION, "STREAMS_OVERLAP", errors.StreamsOverlap),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_QUESTIONS", errors.Busy),
    (grpc.StatusCode.UNIMPLEMENTED, "LATER_VERSION", errors.Unsupported),
    (grpc.StatusCode.DATA_LOSS, "DAMAGED", errors.DamagedStore),
    (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", errors.DatabaseUnavailable),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE", errors.TimedOut),
    (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", errors.InvalidRequest),
    (grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS", errors.RunExists),
    (grpc.StatusCode.FAILED_PRECONDITION, "RUN_RECORDED", errors.RunRecorded),
    (grpc.StatusCode.FAILED_PRECONDITION, "PARENT_CIRCLE", errors.ParentCircle),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", errors.Busy),
    (grpc.StatusCode.UNAVAILABLE, "COMMIT_UNANSWERED", errors.CommitUnanswered),
    (grpc.StatusCode.UNAUTHENTICATED, "TOKEN", errors.Unauthenticated),
    (grpc.StatusCode.PERMISSION_DENIED, "TOKEN", errors.Forbidden),
    (grpc.StatusCode.ABORTED, "NEW", errors.Refused),
]


@pytest.mark.parametrize(("code", "reason", "kind"), REFUSALS)
def test_a_refusal_keeps_the_server_s_sentence(code: grpc.StatusCode, reason: str, kind: type[errors.WavekeepError]) -> None:
    script = Script(failure=(code, "say something else", details(reason)))
    with serving(script) as url, Client(url) as client, pytest.raises(errors.WavekeepError, match="say something else") as caught:
        client.devices()
    assert type(caught.value) is kind
    if isinstance(caught.value, errors.Refused):
        assert (caught.value.code, caught.value.reason) == (code.name, reason)


def test_an_unknown_name_brings_the_nearest_one() -> None:
    sentence = 'there is no device "js22"; did you mean "js220"?'
    about = details("UNKNOWN_NAME", kind="device", name="js22", nearest="js220")
    script = Script(failure=(grpc.StatusCode.NOT_FOUND, sentence, about))
    with serving(script) as url, Client(url) as client, pytest.raises(errors.UnknownName) as caught:
        client.waveform(device="js22")
    error = caught.value
    assert (str(error), error.kind, error.name, error.nearest) == (sentence, "device", "js22", "js220")


def test_an_answer_that_breaks_off_is_interrupted() -> None:
    capture = Capture()
    capture.samples(PLAIN, np.zeros(4, "<f4"), np.zeros(4, "<f4"))
    script = Script(parts=answer(capture)[:2], failure=(grpc.StatusCode.UNAVAILABLE, "broken pipe", ()))
    with serving(script) as url, Client(url) as client, pytest.raises(errors.Interrupted, match="ask again"):
        client.waveform(device="js220-001")


def test_a_client_that_was_closed_says_so() -> None:
    with serving(Script()) as url:
        for has_asked in (False, True):
            client = Client(url)
            if has_asked:
                client.devices()
            client.close()
            client.close()
            questions: list[Callable[[], Any]] = [
                client.devices,
                client.runs,
                lambda: client.markers(device="js220-001"),  # noqa: B023
                lambda: client.waveform(device="js220-001"),  # noqa: B023
                lambda: client.statistics(device="js220-001", start="-10s"),  # noqa: B023
                lambda: client.tail(device="js220-001"),  # noqa: B023
                lambda: client.mark("on", device="js220-001"),  # noqa: B023
            ]
            for ask in questions:
                with pytest.raises(errors.ClientClosed, match="the client was closed: ask before close") as caught:
                    ask()
                assert isinstance(caught.value, errors.WavekeepError)
                assert not caught.value.is_passing


def test_a_client_that_is_closed_while_it_is_answered_says_so() -> None:
    capture = Capture()
    capture.samples(PLAIN, np.zeros(4, "<f4"), np.zeros(4, "<f4"))
    script = Script(parts=answer(capture)[:1], stalls=threading.Event())
    with serving(script) as url, Client(url) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.waveform, device="js220-001")
        while not script.asked:
            time.sleep(0.01)
        client.close()
        with pytest.raises(errors.ClientClosed):
            waiting.result(30)
        assert script.stalls is not None
        script.stalls.set()


def test_questions_that_make_no_sense_are_refused_here() -> None:
    with Client() as client:
        cases: list[tuple[dict[str, Any], str]] = [
            ({}, "say what to read"),
            ({"device": "a", "points": 0}, "ask for 1 to 100,000"),
            ({"device": "a", "start": 5, "end": 5}, "exchange them"),
            ({"stream": "xyz"}, "is not a stream id"),
            ({"stream": "abc"}, "at least the first 4"),
        ]
        for what, words in cases:
            with pytest.raises(errors.InvalidQuestion, match=words):
                client.waveform(**what)


def test_what_is_asked_is_what_is_sent() -> None:
    capture = Capture()
    capture.samples(PLAIN, np.zeros(4, "<f4"), np.zeros(4, "<f4"))
    other = Capture(definition(2))
    script = Script(parts=answer(capture), streams=[capture.info(), other.info()])
    with serving(script) as url, Client(url) as client:
        client.waveform(device="js220-001", run='night "2"', signals=["current", "voltage"], start="-4us", filter="algorithm=A")
        selection = script.asked[-1].selection
        assert selection == query_pb2.Selection(
            device="js220-001",
            signals=["current", "voltage"],
            range=query_pb2.TimeRange(from_ns=START_NS),
            filter='algorithm=A,run="night \\"2\\""',
        )
        for stream in ("01" * 16, "0101", client.streams()[0]):
            client.waveform(stream=stream)
            assert script.asked[-1].selection.stream_id == bytes([1] * 16)
            assert list(script.asked[-1].encodings) == [1, 2, 3]
        with pytest.raises(errors.NothingStored, match="no stream begins with 0303"):
            client.waveform(stream="0303")


def test_markers_are_those_of_chunks_and_those_that_were_added() -> None:
    text, form = b'{"fan": "on"}', "MARKER_FORMAT_JSON"
    in_chunk = query_pb2.ListedMarker(
        device="js220-001",
        stream_id=bytes([1] * 16),
        sample=2,
        time_ns=START_NS + 2_000,
        format="MARKER_FORMAT_TEXT",
        content=b"boot",
    )
    added = query_pb2.ListedMarker(device="js220-001", added_id=bytes([2] * 16), time_ns=START_NS, format=form, content=text)
    broken = query_pb2.ListedMarker(device="js220-001", added_id=bytes([3] * 16), format=form, content=b"{")
    with serving(Script(markers=[in_chunk, added, broken])) as url, Client(url) as client:
        markers = client.markers(device="js220-001")
    assert [(marker.stream, marker.sample, marker.time_ns, marker.content) for marker in markers] == [
        ("01" * 16, 2, START_NS + 2_000, "boot"),
        (None, None, START_NS, {"fan": "on"}),
        (None, None, 0, b"{"),
    ]
