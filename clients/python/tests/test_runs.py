"""Runs as they are listed; and what is read of a run that has several times of a stream: each by itself, as it was captured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.capture import PLAIN, START_NS, Capture, manifest_part
from tests.support.double import read
from tests.support.lab import DATA, START, Lab
from wavekeep import Client, Columns, Samples, errors
from wavekeep.moments import rfc3339
from wavekeep.v1 import query_pb2, stream_pb2

TRACE = DATA / "mlperf_tiny_js110/arty-a7-100t_ic_RN07/trace1-energy.bin"
DEVICE = "of-runs"
# Seconds after the start, with markers in and around them.
TIMES = ((1.0, 4.0), (6.5, 12.25))
NS = 10**9


@pytest.fixture(scope="module")
def start_ns(lab: Lab, client: Client) -> int:
    """When a recording starts of which a run has two times."""
    lab.replay(TRACE, DEVICE, "--start", START, "--run", "recorded", "--label", "board=arty")
    start = client.streams(device=DEVICE)[0].first_time_ns
    assert start is not None
    spans = [(rfc3339(start + int(first * NS)), rfc3339(start + int(end * NS))) for first, end in TIMES]
    labels = ["--label", "algorithm=ResNet", "--label", "of=runs"]
    lab.command_line("run", "create", "week", "--note", "both nights", "--label", "of=runs")
    create = ["run", "create", "two times", "--device", DEVICE, "--from", spans[0][0], "--to", spans[0][1]]
    lab.command_line(*create, *labels, "--parent", "week")
    lab.command_line("run", "add", "two times", "--device", DEVICE, "--from", spans[1][0], "--to", spans[1][1])
    return start


@pytest.mark.parametrize("filter", ["", "of=runs", "algorithm=ResNet", "of=runs algorithm!=ResNet", f"device={DEVICE}", "run~two*"])
def test_runs_are_those_of_the_command_line(lab: Lab, client: Client, start_ns: int, filter: str) -> None:
    listed = [json.loads(line) for line in lab.command_line("--json", "runs", "--filter", filter).splitlines()]
    assert listed, "something is compared"
    found = [
        {
            "run": run.name,
            "labels": run.labels,
            "own_labels": run.own_labels,
            "parent": run.parent,
            "note": run.note,
            "streams": run.streams,
            "recorded_streams": run.recorded_streams,
            "devices": list(run.devices),
            "duration_s": run.duration_s,
            "from": None if run.first_time_ns is None else rfc3339(run.first_time_ns),
            "to": None if run.last_time_ns is None else rfc3339(run.last_time_ns),
            "members": [
                {
                    "device": member.device,
                    "stream": member.stream,
                    "from": None if member.from_ns is None else rfc3339(member.from_ns),
                    "to": None if member.to_ns is None else rfc3339(member.to_ns),
                }
                for member in run.members
            ],
        }
        for run in client.runs(filter)
    ]
    assert found == listed


def test_a_run_says_what_it_is(client: Client, start_ns: int) -> None:
    run = client.runs("of=runs parent!=x run~two*")[0]
    assert str(run) == "run two times: algorithm=ResNet board=arty of=runs; 1 streams, 8.75 s"
    assert (run.parent, run.own_labels, run.recorded_streams) == ("week", {"algorithm": "ResNet", "of": "runs"}, 0)
    assert str(run.members[0]) == f"{DEVICE}, {rfc3339(start_ns + NS)} to {rfc3339(start_ns + 4 * NS)}"
    assert client.runs("of=nobody") == []


def test_a_filter_that_is_not_understood_points_at_its_character(client: Client) -> None:
    with pytest.raises(errors.InvalidFilter, match="character 21") as caught:
        client.runs("algorithm=A firmware")
    assert (caught.value.filter, caught.value.characters_before) == ("algorithm=A firmware", 20)


def test_each_time_of_a_run_comes_by_itself(client: Client, start_ns: int) -> None:
    whole = client.waveform(device=DEVICE).stream
    energy = whole["energy"]
    assert isinstance(energy, Samples)
    waveform = client.waveform(run="two times")
    assert repr(waveform).startswith("<Waveform of 1 streams in 2 parts: ")
    for part, (first, end) in zip(waveform, TIMES, strict=True):
        span = (start_ns + int(first * NS), start_ns + int(end * NS))
        assert tuple(part.asked) == span
        rows = slice(int(first * 1e3), int(end * 1e3))
        found = part["energy"]
        assert isinstance(found, Samples)
        assert found.stored.tobytes() == energy.stored[rows].tobytes()
        assert np.array_equal(part.time_ns, whole.time_ns[rows])
        assert repr(part.markers) == repr(tuple(one for one in whole.markers if span[0] <= one.time_ns < span[1]))
    assert len(whole.markers) > len(waveform.markers) > 0
    table = waveform.to_pandas()
    assert len(table) == sum(round((end - first) * 1e3) for first, end in TIMES)
    assert not table.index.has_duplicates


def test_one_time_was_meant_and_there_are_two(client: Client, start_ns: int) -> None:
    waveform = client.waveform(run="two times")
    for ask in (lambda: waveform.stream, lambda: waveform["energy"], waveform.to_arrow, lambda: waveform.export("never.csv")):
        with pytest.raises(errors.SeveralStreams, match=r"the run has 2 .* have rows: .*, 3,000; .*, 5,750\)"):
            ask()
    one = client.waveform(run="two times", end=start_ns + 5 * NS).stream
    assert len(one.time_ns) == 3_000


def test_each_time_of_a_run_is_drawn_by_itself(client: Client, start_ns: int) -> None:
    waveform = client.waveform(run="two times", points=100)
    ends = []
    for part, (first, end) in zip(waveform, TIMES, strict=True):
        columns = part["energy"]
        assert isinstance(columns, Columns)
        assert (columns.first_sample, columns.to_sample) == (int(first * 1e3), int(end * 1e3))
        assert int(columns.count.sum()) == columns.to_sample - columns.first_sample
        ends.append(len(columns))
    assert sum(ends) <= 100
    lines = waveform.plot("energy", markers=()).axes[0].lines
    assert len(lines) == 2, "no line crosses what is not of the run"
    assert lines[0].get_color() == lines[1].get_color(), "they are of one stream"


def test_what_is_counted_of_a_run_is_what_is_read_of_it(client: Client, start_ns: int) -> None:
    one = client.statistics(run="two times")[0]
    stored = [part["energy"].stored for part in client.waveform(run="two times")]  # type: ignore[union-attr]
    assert one.sample_count == sum(map(len, stored))
    assert one.mean == pytest.approx(np.concatenate(stored).mean(dtype=np.float64), rel=1e-9)
    assert len(client.streams(run="two times")) == 1


# A server that says what is not so.

Parts = list[query_pb2.WaveformPart]


def two_times(capture: Capture, spans: list[tuple[int, int]]) -> Parts:
    """The honest answer about a run that has these samples of a capture of one chunk at 1 MHz."""
    parts, manifests = [], []
    for first, end in spans:
        stream, chunk = capture.parts()[:2]
        stream.stream.range.from_ns, stream.stream.range.to_ns = START_NS + first * 1_000, START_NS + end * 1_000
        chunk.chunk.from_sample, chunk.chunk.to_sample = first, end
        parts += [stream, chunk]
        manifest = capture.manifest()
        manifest.from_sample, manifest.to_sample, manifest.sample_count = first, end, end - first
        manifests.append(manifest)
    return [*parts, manifest_part(*manifests)]


@pytest.fixture
def capture() -> Capture:
    made = Capture()
    made.samples(PLAIN, np.arange(100, dtype="<f4"), np.arange(100, dtype="<f4"))
    return made


def test_an_honest_answer_about_two_times_is_understood(capture: Capture) -> None:
    waveform = read(two_times(capture, [(10, 20), (50, 90)]), device=None, run="night")
    assert [part["current"].samples.tolist() for part in waveform] == [  # type: ignore[union-attr]
        list(range(10, 20)),
        list(range(50, 90)),
    ]


def test_markers_of_a_chunk_that_two_times_share_belong_to_one_of_them() -> None:
    marked = Capture()
    notes = [stream_pb2.Marker(sample=at, format="MARKER_FORMAT_TEXT", content=b"%d" % at) for at in (5, 15, 20, 60)]
    marked.samples(PLAIN, np.zeros(100, "<f4"), np.zeros(100, "<f4"), markers=notes)
    waveform = read(two_times(marked, [(10, 20), (50, 90)]), device=None, run="night")
    assert [[str(marker) for marker in part.markers] for part in waveform] == [["15"], ["60"]]
    assert [str(marker) for marker in waveform.markers] == ["15", "60"]


def overlapping(parts: Parts) -> None:
    parts[2].stream.range.from_ns = START_NS + 15_000


def backwards(parts: Parts) -> None:
    parts[0:2], parts[2:4] = parts[2:4], parts[0:2]


def the_same(parts: Parts) -> None:
    parts[2:4] = parts[0:2]


LIES: list[tuple[Callable[[Parts], object], type[errors.WavekeepError]]] = [
    (overlapping, errors.Malformed),
    (backwards, errors.Malformed),
    (the_same, errors.Malformed),
    (lambda parts: parts[2].stream.range.ClearField("to_ns"), errors.RangeWrong),
    (lambda parts: parts[-1].manifest.streams.pop(), errors.ManifestWrong),
]


@pytest.mark.parametrize(("lie", "kind"), LIES)
def test_times_that_no_run_has_are_refused(capture: Capture, lie: Callable[[Parts], object], kind: type[Exception]) -> None:
    parts = two_times(capture, [(10, 20), (50, 90)])
    lie(parts)
    with pytest.raises(kind):
        read(parts, device=None, run="night")


@pytest.mark.parametrize("what", [{"device": "js220-001"}, {"device": None, "run": "night", "start": START_NS + 11_000}])
def test_times_that_were_not_asked_for_are_refused(capture: Capture, what: dict[str, Any]) -> None:
    with pytest.raises(errors.Malformed):
        read(two_times(capture, [(10, 20), (50, 90)]), **what)


def test_gaps_that_are_named_early_belong_to_their_time(capture: Capture) -> None:
    capture.gap(100)
    parts = two_times(capture, [(10, 20), (50, 90)])
    # The second time goes on into the gap.
    parts[3].chunk.to_sample = 100
    parts[2].stream.range.to_ns = START_NS + 150_000
    gap = query_pb2.WaveformPart(chunk=capture.chunks[1])
    gap.chunk.to_sample = 150
    last = parts[-1].manifest.streams[1]
    last.to_sample, last.sample_count, last.gap_sample_count, last.last_seq, last.chunks = 150, 50, 50, 2, 2
    named = query_pb2.Gap()
    named.CopyFrom(capture.gaps[0])
    named.count = 50
    first = parts[-1].manifest.streams[0]
    first.digest, first.last_seq, first.gap_sample_count, first.chunks = capture.chunks[0].chunk.digest, 1, 0, 1
    for stated in (first, last):
        stated.ClearField("gaps")
    early = query_pb2.StreamManifest(stream_id=capture.definition.stream_id, from_sample=50, gaps=[named])
    waveform = read([*parts[:-1], gap, manifest_part(early), parts[-1]], device=None, run="night")
    assert [len(part.gaps) for part in waveform] == [0, 1]
