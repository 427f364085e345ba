"""Pictures of what a real server has: markers that people added, and streams that can be told apart."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.support.capture import PLAIN, START_NS, Capture, answer, definition
from tests.support.double import Script, read, serving
from tests.support.lab import DATA, START, Lab
from tests.support.lab import START_NS as LAB_NS
from wavekeep import Client, NewMember
from wavekeep.v1 import query_pb2, stream_pb2

TRACE = min(folder.parent for folder in DATA.glob("mlperf_tiny_*/*/trace1-energy.bin")) / "trace1-energy.bin"


@pytest.fixture(scope="module")
def marked(lab: Lab, client: Client) -> str:
    """A trace at 1 kHz whose edges are markers, and what people said of it: also of times before and after."""
    lab.replay(TRACE, "marked", "--start", START)
    for second, text in ((-60, "before"), (1, "fan on"), (5, "fan off"), (86_400, "next day")):
        client.mark(text, device="marked", time=LAB_NS + second * 1_000_000_000)
    return "marked"


def drawn(figure: Figure) -> list[str]:
    """The markers' texts, in order."""
    return [text.get_text() for text in figure.axes[0].texts]


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


@pytest.mark.parametrize("points", [None, 500])
def test_a_picture_has_the_markers_that_people_added(client: Client, marked: str, points: int | None) -> None:
    there = sorted(client.markers(device=marked), key=lambda marker: marker.time_ns)
    expected = [str(marker) for marker in there if str(marker) not in ("before", "next day")]
    assert {"edge 1", "fan on", "fan off"} < set(expected)
    waveform = client.waveform(device=marked, signals="energy", points=points)
    figure = waveform.plot()
    assert drawn(figure) == expected
    seconds = {round(float(np.asarray(line.get_xdata())[0]), 6) for line in figure.axes[0].lines}
    assert {1.0, 5.0} < seconds, "each where it belongs"
    part = client.waveform(device=marked, points=points, start=LAB_NS, end=LAB_NS + 2_000_000_000)
    assert [text for text in drawn(part.plot()) if text.startswith("fan")] == ["fan on"]
    assert drawn(waveform.plot(markers=())) == []
    assert drawn(waveform.plot(markers=there[:1])) == ["before"]


def test_of_a_run_they_are_those_of_its_times(client: Client, marked: str) -> None:
    times = [(LAB_NS + at * 1_000_000_000, LAB_NS + (at + 2) * 1_000_000_000) for at in (0, 7)]
    members = [NewMember(device=marked, start=start, end=end) for start, end in times]
    client.create_run("marked twice", members=members)
    for points in (None, 100):
        texts = drawn(client.waveform(run="marked twice", points=points).plot())
        assert [text for text in texts if text.startswith("fan")] == ["fan on"], "the other one is between its times"


def markers_asked(script: Script) -> list[Any]:
    return [request for request in script.asked if isinstance(request, query_pb2.ListMarkersRequest)]


def test_who_does_not_draw_asks_for_no_markers() -> None:
    capture = Capture()
    capture.samples(PLAIN, np.zeros(4, "<f4"), np.zeros(4, "<f4"))
    added = query_pb2.ListedMarker(
        device="js220-001", added_id=bytes([2] * 16), time_ns=START_NS + 1_000, format="MARKER_FORMAT_TEXT", content=b"fan"
    )
    script = Script(parts=answer(capture), markers=[added])
    with serving(script) as url, Client(url) as client:
        waveform = client.waveform(device="js220-001", signals=["current", "voltage"], filter="algorithm=A")
        waveform.to_pandas()
        waveform.plot(markers=waveform.markers)
        assert markers_asked(script) == []
        assert drawn(waveform.plot()) == drawn(waveform.plot("voltage")) == ["fan"]
        asked = markers_asked(script)
        assert len(asked) == 1, "once for all pictures of it"
        time = query_pb2.TimeRange(from_ns=START_NS, to_ns=START_NS + 4_000)
        assert asked[0].selection == query_pb2.Selection(device="js220-001", range=time, filter="algorithm=A")


def test_a_picture_made_after_the_client_was_closed_says_what_it_lacks(caplog: pytest.LogCaptureFixture) -> None:
    capture = Capture()
    note = stream_pb2.Marker(sample=2, format=stream_pb2.MARKER_FORMAT_TEXT, content=b"boot")
    capture.samples(PLAIN, np.zeros(4, "<f4"), np.zeros(4, "<f4"), markers=[note])
    waveform = read(answer(capture))
    with caplog.at_level(logging.WARNING, "wavekeep"):
        assert drawn(waveform.plot()) == ["boot"]
    assert "markers that people added are not drawn: the client was closed" in caplog.text


def streams_of(count: int, *, devices: int = 1, runs: int = 0) -> list[Capture]:
    """Streams of so many devices, and recorded for so many runs, in turn."""
    captures = []
    for at in range(count):
        of = definition(at + 1)
        of.device = f"board-{at % devices}"
        capture = Capture(of)
        capture.run = f"night-{at % runs}" if runs else ""
        capture.samples(PLAIN, np.full(8, at, "<f4"), np.full(8, -at, "<f4"))
        captures.append(capture)
    return captures


def pictured(captures: list[Capture]) -> Figure:
    with serving(Script(parts=answer(*captures))) as url, Client(url) as client:
        return client.waveform(run="all").plot()


def test_streams_of_a_run_are_named_by_what_tells_them_apart() -> None:
    assert legend(pictured(streams_of(3, devices=3, runs=1))) == ["board-0", "board-1", "board-2"]
    assert legend(pictured(streams_of(3, runs=3))) == ["night-0", "night-1", "night-2"]
    assert legend(pictured(streams_of(6, devices=2, runs=3)))[:3] == ["board-0, night-0", "board-1, night-1", "board-0, night-2"]
    assert legend(pictured(streams_of(2))) == ["01010101", "02020202"]
    assert legend(pictured(streams_of(3, devices=2))) == ["board-0, 01010101", "board-1", "board-0, 03030303"]
    assert legend(pictured(streams_of(1, devices=1, runs=1))) == []


@pytest.mark.parametrize("count", [3, 10, 11, 40])
def test_no_two_streams_of_a_picture_have_one_color(count: int) -> None:
    current, voltage = pictured(streams_of(count, devices=count)).axes
    colors = [to_hex(line.get_color()) for line in current.lines]
    assert len(set(colors)) == count
    assert [to_hex(line.get_color()) for line in voltage.lines] == colors, "a stream has its color in all signals"


def test_a_legend_of_many_streams_leaves_room_for_the_picture(tmp_path: Path) -> None:
    figure = pictured(streams_of(40, devices=40))
    named = legend(figure)
    assert len(named) == 16
    assert named[-1] == "board-15 … and 24 more"
    assert figure.axes[0].get_title("left") == "40 devices"
    # A layout that does not fit is a warning, and those are errors.
    figure.savefig(tmp_path / "picture.png")
    assert figure.axes[0].get_position().width > 0.8


def test_recordings_of_one_device_are_named_by_their_runs(lab: Lab, client: Client) -> None:
    for run in ("first", "second"):
        lab.simulate("pictured", "js220,rate=1000,seed=1", "1s", "--run", run)
    assert legend(client.waveform(device="pictured", points=100).plot("current")) == ["first", "second"]
